// vexil logits: the logits of every position of given token lists, for checking against other implementations.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"
#include "io/safetensors_writer.h"
#include "ops/elements.h"

namespace vexil::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::string tokens, output;
  bool hidden = false, choices = false;
  int64_t chunk = 512;
};

Result<std::vector<std::vector<int32_t>>> ReadTokenLists(const std::string& path, int64_t vocab_size) {
  VX_ASSIGN(const std::string text, ReadInput(path));
  VX_ASSIGN(const Json json, ReadChatJson(text, path));
  const auto wrong = [&](const std::string& where, const Json& v, const std::string& expected) {
    return InvalidArgument(
        fmt::format("{}: {}: found {}, expected {}", path, where, v.is_number() ? v.ToText() : v.TypeName(), expected));
  };
  if (!json.is_array()) return wrong("top level", json, "a list of token-id lists");
  std::vector<std::vector<int32_t>> lists;
  for (const Json& list : *json.array()) {
    const std::string where = fmt::format("list {}", lists.size());
    if (!list.is_array() || list.array()->empty()) return wrong(where, list, "a list of at least one token id");
    std::vector<int32_t>& ids = lists.emplace_back();
    for (const Json& id : *list.array()) {
      const std::optional<int64_t> v = id.Int();
      if (!v || *v < 0 || *v >= vocab_size) return wrong(where, id, fmt::format("ids from 0 to {}", vocab_size - 1));
      ids.push_back(int32_t(*v));
    }
  }
  return lists;
}

template <class T>
std::span<const uint8_t> BytesOf(const std::vector<T>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(T)};
}

// The tensors of one list in the file, and the values of those that are not written at once.
class ListOutput {
 public:
  ListOutput(const Flags& f, const ModelConfig& c, size_t index, int64_t length)
      : f_(f), c_(c), index_(index), length_(length) {}

  std::string LogitsName() const { return fmt::format("logits.{}", index_); }

  void Declare(std::vector<TensorDeclaration>& tensors) const {
    tensors.push_back({LogitsName(), DType::kF32, {length_, c_.vocab_size}});
    ForExtras([&](const std::string& name, DType dtype, Dims dims) { tensors.push_back({name, dtype, dims}); });
  }

  // An Observer's part: keeps what was asked for.
  void Observe(int64_t layer, std::string_view what, const TensorView& v) {
    if (f_.hidden && what == "out") KeepStreams(Name("hidden", layer), v);
    if (f_.choices && what == "expert_ids") KeepRows(Name("experts", layer), v, c_.experts_per_token, true);
    if (f_.choices && what == "index_picks") KeepRows(Name("picks", layer), v, Picks(), false);
  }

  // Behind every chunk: tokens before the first complete block have no picks.
  void FinishChunk(int64_t tokens_so_far) {
    ForExtras([&](const std::string& name, DType dtype, Dims dims) {
      if (dtype == DType::kI32) choices_[name].resize(size_t(tokens_so_far * dims[1]), -1);
    });
  }

  Status Write(SafetensorsWriter& writer) const {
    Status status;
    ForExtras([&](const std::string& name, DType dtype, Dims) {
      if (!status.ok()) return;
      status = writer.Write(name, dtype == DType::kF32 ? BytesOf(streams_.at(name)) : BytesOf(choices_.at(name)));
    });
    return status;
  }

 private:
  std::string Name(std::string_view what, int64_t layer) const { return fmt::format("{}.{}.{}", what, index_, layer); }
  int64_t Picks() const { return std::min(c_.index_topk, length_ / kOverlapRatio); }

  template <class F>
  void ForExtras(F&& f) const {
    for (int64_t l = 0; l < c_.num_layers; ++l) {
      if (f_.hidden) f(Name("hidden", l), DType::kF32, Dims{length_, c_.hc_mult, c_.dim});
      if (f_.choices) f(Name("experts", l), DType::kI32, Dims{length_, c_.experts_per_token});
      const bool indexed = c_.compress_ratios[size_t(l)] == kOverlapRatio;
      if (f_.choices && indexed) f(Name("picks", l), DType::kI32, Dims{length_, Picks()});
    }
  }

  void KeepStreams(const std::string& name, const TensorView& v) {
    WithFloatType(v.dtype(), [&](auto e) {
      const auto* p = v.Data<decltype(e)>();
      std::vector<float>& to = streams_[name];
      for (int64_t i = 0; i < v.dims().Count(); ++i) to.push_back(ToFloat(p[i]));
    });
  }

  // Rows of a step may be narrower than the file's.
  void KeepRows(const std::string& name, const TensorView& v, int64_t width, bool sorted) {
    std::vector<int32_t>& to = choices_[name];
    for (int64_t r = 0; r < v.dim(0); ++r) {
      std::vector<int32_t> row(v.Row<int32_t>(r), v.Row<int32_t>(r) + v.dim(1));
      if (sorted) std::sort(row.begin(), row.end());
      row.resize(size_t(width), -1);
      to.insert(to.end(), row.begin(), row.end());
    }
  }

  const Flags& f_;
  const ModelConfig& c_;
  size_t index_;
  int64_t length_;
  std::map<std::string, std::vector<float>> streams_;
  std::map<std::string, std::vector<int32_t>> choices_;
};

// Runs one list through the model in chunks; logits go out as they are made, the rest after them.
Status RunList(const Flags& f, const Model& model, Engine& engine, const std::vector<int32_t>& ids, ListOutput& output,
               SafetensorsWriter& writer) {
  VX_ASSIGN(SequenceState state, engine.pool().NewSequence());
  const v4::Observer observer = [&](int64_t layer, std::string_view what, const TensorView& v) {
    output.Observe(layer, what, v);
  };
  const bool observed = f.hidden || f.choices;
  Arena buffer;
  for (int64_t begin = 0; begin < int64_t(ids.size()); begin += f.chunk) {
    if (InterruptCancels::interrupted()) return Cancelled("interrupted");
    Arena::Scope scope(buffer);
    const int64_t count = std::min<int64_t>(f.chunk, int64_t(ids.size()) - begin);
    const MutTensorView logits = buffer.NewTensor(DType::kF32, {count, model.config().vocab_size});
    const SequenceChunk chunk{&state, std::span(ids).subspan(size_t(begin), size_t(count)), LogitRows::kAll};
    VX_TRY(model.Step(engine.context(), engine.pool(), {&chunk, 1}, logits, observed ? &observer : nullptr));
    VX_TRY(writer.Write(output.LogitsName(), {static_cast<const uint8_t*>(logits.raw()), size_t(logits.Bytes())}));
    output.FinishChunk(begin + count);
  }
  engine.pool().Free(state);
  return output.Write(writer);
}

Status Logits(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Model> model, f.model.LoadModel());
  VX_ASSIGN(const auto lists, ReadTokenLists(f.tokens, model->config().vocab_size));
  EngineOptions options = f.model.ToEngineOptions();
  options.max_sequences = 1;
  options.kept_prompts = 0;
  size_t longest = 0;
  for (const auto& ids : lists) longest = std::max(longest, ids.size());
  if (options.max_context == 0) options.max_context = int64_t(longest);
  VX_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create(*model, options));
  if (int64_t(longest) > engine->max_context()) {
    return InvalidArgument(fmt::format("{}: found a list of {} tokens, expected at most {}, which {} allows", f.tokens,
                                       longest, engine->max_context(),
                                       engine->max_context() == f.model.max_context ? "--max-context" : "the model"));
  }
  std::vector<TensorDeclaration> tensors;
  for (size_t i = 0; i < lists.size(); ++i)
    ListOutput(f, model->config(), i, int64_t(lists[i].size())).Declare(tensors);
  const SafetensorsMetadata metadata = {{"data_format", std::string(model->numerics().name)}};
  VX_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::Create(f.output, tensors, metadata));
  InterruptCancels interrupts(*engine);
  for (size_t i = 0; i < lists.size(); ++i) {
    ShowProgress(fmt::format("list {} of {}: {} tokens", i + 1, lists.size(), lists[i].size()));
    ListOutput output(f, model->config(), i, int64_t(lists[i].size()));
    VX_TRY(RunList(f, *model, *engine, lists[i], output, writer));
  }
  ClearProgress();
  return writer.Finish();
}

}  // namespace

void AddLogits(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("logits", "write the logits of token lists to a safetensors file");
  auto f = std::make_shared<Flags>();
  f->model.Declare(*sub);
  sub->add_option("--tokens", f->tokens, "JSON file with a list of token-id lists; - for standard input")->required();
  sub->add_option("--output", f->output, "safetensors file: logits.I [len, vocab] F32 for every list I")->required();
  sub->add_flag("--hidden", f->hidden, "also the streams after each layer L: hidden.I.L [len, streams, dim] F32");
  sub->add_flag("--choices", f->choices,
                "also what was chosen: experts.I.L [len, k] I32 ascending, and where the layer has an\n"
                "indexer picks.I.L [len, entries] I32, the best first, -1 for none");
  sub->add_option("--chunk", f->chunk, "tokens per step")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  sub->callback([f, &command] { command.run = [f] { return Logits(*f); }; });
}

}  // namespace vexil::cli
