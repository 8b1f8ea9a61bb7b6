// vexil convert quantize.
#include <memory>

#include "cli/convert.h"
#include "convert/quantize.h"

namespace vexil::cli {
namespace {

struct Flags {
  ConvertFlags common;
  std::string experts, weights;
  int64_t shard_bytes = 0;
};

Status Quantize(const Flags& f) {
  VX_TRY(f.common.Check());
  convert::QuantizeOptions options;
  if (f.experts == "int8") options.experts = convert::Target::kInt8;
  if (f.experts == "fp4") options.experts = convert::Target::kE2M1;
  if (f.experts == "fp8") options.experts = convert::Target::kE4M3;
  options.linears = f.weights == "fp8";
  options.shard_bytes = f.shard_bytes;
  if (!options.experts && !options.linears)
    return InvalidArgument("quantize: found neither --experts nor --weights, expected one of them");
  VX_ASSIGN(std::shared_ptr<const convert::Source> source, convert::Source::Open(f.common.ckpt_path, f.common.config));
  VX_ASSIGN(const convert::Job job, convert::QuantizeJob(std::move(source), f.common.output, options));
  return RunConversion(f.common, job);
}

}  // namespace

void AddQuantize(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand(
      "quantize", "a BF16 checkpoint with FP4, FP8 or INT8 experts, or FP8 linears; reports the errors");
  auto f = std::make_shared<Flags>();
  f->common.Declare(*sub);
  sub->add_option("--experts", f->experts, "routed experts: int8 (scale per row), fp4 (1 x 32), fp8 (128 x 128)")
      ->check(CLI::IsMember({"int8", "fp4", "fp8"}));
  sub->add_option("--weights", f->weights, "the other linears: fp8 (128 x 128)")->check(CLI::IsMember({"fp8"}));
  DeclareShardSize(*sub, f->shard_bytes);
  sub->callback([f, &command] { command.run = [f] { return Quantize(*f); }; });
}

}  // namespace vexil::cli
