// vexil logits: the logits of every position of given token lists, for checking against other implementations.
#include <fmt/format.h>

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
  bool hidden = false;
  int64_t chunk = 512;
};

Result<std::vector<std::vector<int32_t>>> ReadTokenLists(const std::string& path, int64_t vocab_size) {
  VX_ASSIGN(const std::string text, ReadInput(path));
  VX_ASSIGN(const Json json, ReadChatJson(text, path));
  const auto wrong = [&](const std::string& where, const Json& v, const std::string& expected) {
    return InvalidArgument(fmt::format("{}: {}: found {}, expected {}", path, where, v.is_number() ? v.ToText() : v.TypeName(), expected));
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

std::span<const uint8_t> AsBytes(const TensorView& v) { return {static_cast<const uint8_t*>(v.raw()), size_t(v.Bytes())}; }

std::string HiddenName(size_t list, int64_t layer) { return fmt::format("hidden.{}.{}", list, layer); }

std::vector<TensorDeclaration> Declare(const ModelConfig& c, const std::vector<std::vector<int32_t>>& lists, bool hidden) {
  std::vector<TensorDeclaration> tensors;
  for (size_t i = 0; i < lists.size(); ++i) {
    const int64_t n = int64_t(lists[i].size());
    tensors.push_back({fmt::format("logits.{}", i), DType::kF32, {n, c.vocab_size}});
    for (int64_t l = 0; hidden && l < c.num_layers; ++l) tensors.push_back({HiddenName(i, l), DType::kF32, {n, c.hc_mult, c.dim}});
  }
  return tensors;
}

// Runs one list through the model in chunks; logits go out as they are made, the streams after it.
Status RunList(const Flags& f, const Model& model, Engine& engine, size_t index, const std::vector<int32_t>& ids, SafetensorsWriter& writer) {
  VX_ASSIGN(SequenceState state, engine.pool().NewSequence());
  std::map<int64_t, std::vector<float>> hidden;
  const v4::Observer observer = [&](int64_t layer, std::string_view what, const TensorView& v) {
    if (what != "out") return;
    WithFloatType(v.dtype(), [&](auto e) {
      const auto* p = v.Data<decltype(e)>();
      for (int64_t i = 0; i < v.dims().Count(); ++i) hidden[layer].push_back(ToFloat(p[i]));
    });
  };
  const std::string name = fmt::format("logits.{}", index);
  Arena buffer;
  for (int64_t begin = 0; begin < int64_t(ids.size()); begin += f.chunk) {
    Arena::Scope scope(buffer);
    const int64_t count = std::min<int64_t>(f.chunk, int64_t(ids.size()) - begin);
    const MutTensorView logits = buffer.NewTensor(DType::kF32, {count, model.config().vocab_size});
    const SequenceChunk chunk{&state, std::span(ids).subspan(size_t(begin), size_t(count)), LogitRows::kAll};
    VX_TRY(model.Step(engine.context(), engine.pool(), {&chunk, 1}, logits, f.hidden ? &observer : nullptr));
    VX_TRY(writer.Write(name, AsBytes(logits)));
  }
  for (const auto& [layer, values] : hidden) {
    VX_TRY(writer.Write(HiddenName(index, layer), {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)}));
  }
  engine.pool().Free(state);
  return {};
}

Status Logits(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Model> model, f.model.LoadModel());
  VX_ASSIGN(const auto lists, ReadTokenLists(f.tokens, model->config().vocab_size));
  EngineOptions options = f.model.ToEngineOptions();
  options.max_sequences = 1;
  options.kept_prompts = 0;
  for (const auto& ids : lists) options.max_context = std::max<int64_t>(options.max_context, int64_t(ids.size()));
  VX_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create(*model, options));
  const SafetensorsMetadata metadata = {{"data_format", std::string(model->numerics().name)}};
  VX_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::Create(f.output, Declare(model->config(), lists, f.hidden), metadata));
  for (size_t i = 0; i < lists.size(); ++i) {
    ShowProgress(fmt::format("list {} of {}: {} tokens", i + 1, lists.size(), lists[i].size()));
    VX_TRY(RunList(f, *model, *engine, i, lists[i], writer));
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
  sub->add_option("--chunk", f->chunk, "tokens per step")->check(CLI::Range(int64_t(1), int64_t(1) << 20))->capture_default_str();
  sub->callback([f, &command] { command.run = [f] { return Logits(*f); }; });
}

}  // namespace vexil::cli
