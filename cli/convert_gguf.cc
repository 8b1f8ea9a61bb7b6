#include <fmt/format.h>

#include <map>
#include <memory>

#include "cli/common.h"
#include "cli/convert.h"
#include "convert/gguf.h"
#include "convert/ungguf.h"
#include "io/gguf.h"

namespace vexil::cli {
namespace {

const std::map<std::string, DType> kTypes = {{"mxfp4", DType::kMXFP4},
                                             {"q8_0", DType::kQ8_0},
                                             {"bf16", DType::kBF16},
                                             {"f16", DType::kF16},
                                             {"f32", DType::kF32}};

struct Flags {
  ConvertFlags common;
  std::string experts = "mxfp4", weights = "bf16";
};

Status ToGguf(const Flags& f) {
  VX_TRY(f.common.Check());
  VX_ASSIGN(std::shared_ptr<const convert::Source> source, convert::Source::Open(f.common.ckpt_path, f.common.config));
  VX_ASSIGN(const convert::Job job,
            convert::GgufJob(std::move(source), f.common.output,
                             {.experts = kTypes.at(f.experts), .weights = kTypes.at(f.weights)}));
  return RunConversion(f.common, job);
}

struct UnggufFlags {
  ConvertFlags common;
  convert::UnggufOptions options;
};

Status FromGguf(const UnggufFlags& f) {
  VX_TRY(f.common.Check());
  if (!f.common.config.empty()) return InvalidArgument("--config: a GGUF file has its own configuration");
  ModelFlags model;
  model.ckpt_path = f.common.ckpt_path;
  VX_ASSIGN(const std::string path, model.CheckpointPath());  // the one GGUF file of a directory
  if (!IsGgufPath(path)) return InvalidArgument(fmt::format("{}: found no GGUF file, expected one", path));
  VX_ASSIGN(const convert::Job job, convert::UnggufJob(path, f.common.output, f.options));
  return RunConversion(f.common, job);
}

void DeclareType(CLI::App& app, const std::string& name, std::string& type, const std::string& what) {
  app.add_option(name, type, what)
      ->check(CLI::IsMember({"mxfp4", "q8_0", "bf16", "f16", "f32"}))
      ->capture_default_str();
}

}  // namespace

void AddGguf(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("gguf", "one GGUF file with configuration and tokenizer: OUTPUT/model.gguf");
  auto f = std::make_shared<Flags>();
  f->common.Declare(*sub);
  DeclareType(*sub, "--experts", f->experts, "type of the routed experts");
  DeclareType(*sub, "--weights", f->weights, "type of attention's projections and shared experts");
  sub->callback([f, &command] { command.run = [f] { return ToGguf(*f); }; });
}

void AddUngguf(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("ungguf", "a GGUF file as safetensors under published names");
  auto f = std::make_shared<UnggufFlags>();
  f->common.Declare(*sub, "GGUF file, or directory with one");
  DeclareShardSize(*sub, f->options.shard_bytes);
  sub->callback([f, &command] { command.run = [f] { return FromGguf(*f); }; });
}

}  // namespace vexil::cli
