// vexil inspect: what a checkpoint holds and needs. vexil plan: which kernels would run it.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "model/weight_loader.h"

namespace vexil::cli {
namespace {

struct Flags {
  ModelFlags model;
  bool json = false, tensors = false;
  int64_t tokens = 1, context = 4095;
};

struct Format {
  int64_t tensors = 0, bytes = 0;
};

// Elements of the last dimension, not the blocks of GGUF.
Dims ShownDims(const TensorInfo& t) {
  Dims dims = t.dims;
  if (ElementsOf(t.dtype) == kBlockElements) dims.d[size_t(dims.rank - 1)] *= kBlockElements;
  return dims;
}

std::map<std::string, Format> FormatsOf(const CheckpointFiles& files) {
  std::map<std::string, Format> formats;
  for (std::string_view name : files.names()) {
    const TensorInfo* t = files.Find(name);
    Format& f = formats[NameOf(t->dtype)];
    f.tensors += 1;
    f.bytes += t->Bytes();
  }
  return formats;
}

// name on the command line, member of ModelConfig
// clang-format nests lists of macro calls deeper at each run.
// clang-format off
#define VX_SHOWN_SIZES(X) \
  X(vocab_size) X(dim) X(num_layers) X(num_hash_layers) X(num_draft_layers) X(num_heads) X(head_dim) X(rope_dim) \
  X(q_lora_rank) X(o_groups) X(o_lora_rank) X(window) X(index_heads) X(index_head_dim) X(index_topk) X(num_experts) \
  X(experts_per_token) X(expert_dim) X(route_scale) X(swiglu_limit) X(hc_mult) X(sinkhorn_iters) X(rope_theta) \
  X(compress_rope_theta) X(max_positions)
// clang-format on

Json ConfigJson(const ModelConfig& c) {
  Json out;
#define X(name) out.Set(#name, c.name);
  VX_SHOWN_SIZES(X)
#undef X
  Json::Array ratios;
  for (int64_t r : c.compress_ratios) ratios.push_back(r);
  out.Set("compress_ratios", Json(std::move(ratios)));
  return out;
}

// Bytes that one PCIe 5.0 slot with 16 lanes copies in a second from pinned memory, as measured on one machine.
constexpr double kCopyBandwidth = 55e9;

Json PlacementJson(const ExpertPlacement& p, const ModelConfig& c) {
  Json out;
  out.Set("device_bytes", p.device_bytes);
  out.Set("experts_on_device", p.experts() - p.host_experts);
  out.Set("experts_in_host_memory", p.host_experts);
  out.Set("layers_with_host_experts", p.host_layers());
  out.Set("host_bytes", p.host_bytes);
  out.Set("slots", p.slots);
  out.Set("slot_bytes", p.slot_bytes);
  out.Set("copies_per_token", p.CopiesPerToken(c.experts_per_token));
  out.Set("decode_graphs", p.all_resident());
  return out;
}

std::string PlacementText(const ExpertPlacement& p, const ModelConfig& c) {
  std::string out = fmt::format("{} of device memory: {}\n", FormatBytes(p.device_bytes), p.Summary());
  if (p.all_resident()) return out;
  const double copies = p.CopiesPerToken(c.experts_per_token), bytes = copies * double(p.slot_bytes);
  out += fmt::format(
      "if all experts are equally likely, a token alone copies {:.1f} of them: {}, {:.2f} ms at {:.0f} "
      "GB/s\n",
      copies, FormatBytes(int64_t(bytes)), bytes / kCopyBandwidth * 1e3, kCopyBandwidth * 1e-9);
  return out;
}

Json Describe(const Flags& f, const Model& m, const std::optional<ExpertPlacement>& placement) {
  const StateLayout layout = StateLayout::For(m.config(), m.numerics());
  Json out, formats, memory;
  out.Set("path", m.files().path());
  out.Set("config_path", m.config_path());
  out.Set("data_format", m.numerics().name);
  out.Set("config", ConfigJson(m.config()));
  for (const auto& [name, format] : FormatsOf(m.files())) {
    Json v;
    v.Set("tensors", format.tensors);
    v.Set("bytes", format.bytes);
    formats.Set(name, v);
  }
  out.Set("formats", formats);
  memory.Set("weights_bytes", m.weights().stored_bytes);
  memory.Set("sequence_bytes", layout.TailBytes());
  memory.Set("bytes_per_256_tokens", layout.PageBytes());
  if (placement) memory.Set("placement", PlacementJson(*placement, m.config()));
  out.Set("memory", memory);
  if (f.tensors) {
    Json::Array tensors;
    for (std::string_view name : m.files().names()) {
      const TensorInfo* t = m.files().Find(name);
      Json v;
      v.Set("name", t->name);
      v.Set("dtype", NameOf(t->dtype));
      v.Set("shape", DimsText(ShownDims(*t)));
      v.Set("bytes", t->Bytes());
      tensors.push_back(v);
    }
    out.Set("tensors", Json(std::move(tensors)));
  }
  return out;
}

std::string AsText(const Flags& f, const Model& m, const std::optional<ExpertPlacement>& placement) {
  const StateLayout layout = StateLayout::For(m.config(), m.numerics());
  const std::string what =
      m.files().gguf() ? fmt::format("GGUF version {}", m.files().gguf()->version())
                       : fmt::format("{} file{}", m.files().files().size(), m.files().files().size() == 1 ? "" : "s");
  std::string out = fmt::format("{} ({}, config {})\n", m.files().path(), what, m.config_path());
  const Json config = ConfigJson(m.config());
  for (const auto& [key, value] : *config.object()) out += fmt::format("  {:<20} {}\n", key, value.ToText());
  out += "formats\n";
  for (const auto& [name, format] : FormatsOf(m.files())) {
    out += fmt::format("  {:<20} {:>6} tensors  {:>12}\n", name, format.tensors, FormatBytes(format.bytes));
  }
  out += fmt::format("memory ({} mode)\n  {:<20} {}\n  {:<20} {}\n  {:<20} {}\n", m.numerics().name, "weights (mapped)",
                     FormatBytes(m.weights().stored_bytes), "a sequence", FormatBytes(layout.TailBytes()),
                     "  and per 256 tokens", FormatBytes(layout.PageBytes()));
  if (placement) out += "placement\n" + PlacementText(*placement, m.config());
  if (f.tensors) {
    out += "tensors\n";
    for (std::string_view name : m.files().names()) {
      const TensorInfo* t = m.files().Find(name);
      out += fmt::format("  {:<60} {:<8} {}\n", t->name, NameOf(t->dtype), DimsText(ShownDims(*t)));
    }
  }
  return out;
}

Status Inspect(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Model> model, f.model.LoadModelToLook());
  VX_ASSIGN(const std::optional<ExpertPlacement> placement, f.model.Placement(*model));
  return Print(f.json ? Describe(f, *model, placement).ToText(1) + "\n" : AsText(f, *model, placement));
}

// Nothing runs, so the device need not be there.
Status ShowPlan(const Flags& f) {
  Context ctx;
  VX_ASSIGN(ctx.device, ParseDevice(f.model.device));
  VX_ASSIGN(const std::unique_ptr<Model> model, f.model.LoadModelToPlan());
  VX_ASSIGN(const std::optional<ExpertPlacement> placement, f.model.Placement(*model));
  ctx.choice = f.model.ToEngineOptions().kernels;
  ctx.isa_limit = f.model.ToEngineOptions().cpu_isa;
  Result<Plan> made = model->MakePlan(ctx, f.tokens, f.context);
  if (!made.ok() && made.status().code() == Code::kUnsupported && ctx.device.kind != DeviceKind::kCpu) {
    Result<std::unique_ptr<Device>> device = OpenDevice(ctx.device);  // says why, in a build without such kernels
    if (!device.ok() && device.status().code() == Code::kUnsupported) return std::move(device).TakeError();
  }
  VX_ASSIGN(const Plan plan, std::move(made));
  Json::Array calls;
  std::string text = fmt::format("{:<22} {:<32} {:>5}  {}\n", "where", "kernel", "calls", "better ones refused");
  for (const Plan::Entry& e : plan.entries()) {
    const std::string kernel = (e.inside.empty() ? "" : "  ") + e.kernel;
    text += fmt::format("{:<22} {:<32} {:>5}  {}\n", e.label, kernel, e.calls, e.refused);
    Json v;
    v.Set("where", e.label);
    v.Set("kernel", e.kernel);
    v.Set("calls", e.calls);
    v.Set("refused", e.refused);
    if (!e.inside.empty()) v.Set("inside", e.inside);
    calls.push_back(v);
  }
  Json out;
  out.Set("calls", std::move(calls));
  if (placement) {
    out.Set("placement", PlacementJson(*placement, model->config()));
    text += PlacementText(*placement, model->config());
  }
  return Print(f.json ? out.ToText(1) + "\n" : text);
}

}  // namespace

void AddInspect(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("inspect", "a checkpoint's configuration, formats, sizes and memory need");
  auto f = std::make_shared<Flags>();
  f->model.DeclareModel(*sub);
  sub->add_flag("--tensors", f->tensors, "list every tensor");
  sub->add_flag("--json", f->json, "as JSON");
  sub->callback([f, &command] { command.run = [f] { return Inspect(*f); }; });
}

void AddPlan(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("plan", "the kernel of every op call, and why better ones refused");
  sub->footer(
      "An indented kernel is called by the one above. --config without --ckpt-path: a model in the published formats,\n"
      "of which nothing else need be there.");
  auto f = std::make_shared<Flags>();
  f->model.DeclareModel(*sub);
  f->model.DeclareKernels(*sub);
  sub->add_option("--tokens", f->tokens, "tokens of the step: 1 is decoding")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  sub->add_option("--context", f->context, "tokens before the step; behind 4095 every compressor completes an entry")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  sub->add_flag("--json", f->json, "as JSON");
  sub->callback([f, &command] { command.run = [f] { return ShowPlan(*f); }; });
}

}  // namespace vexil::cli
