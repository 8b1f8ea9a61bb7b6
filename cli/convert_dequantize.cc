#include <memory>

#include "cli/convert.h"
#include "convert/dequantize.h"

namespace vexil::cli {
namespace {

struct Flags {
  ConvertFlags common;
  convert::DequantizeOptions options;
};

Status Dequantize(const Flags& f) {
  VX_TRY(f.common.Check());
  VX_ASSIGN(std::shared_ptr<const convert::Source> source, convert::Source::Open(f.common.ckpt_path, f.common.config));
  VX_ASSIGN(const convert::Job job, convert::DequantizeJob(std::move(source), f.common.output, f.options));
  return RunConversion(f.common, job);
}

}  // namespace

void AddDequantize(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("dequantize", "FP4, FP8 and INT8 matrices as BF16, in the published layout");
  auto f = std::make_shared<Flags>();
  f->common.Declare(*sub);
  DeclareShardSize(*sub, f->options.shard_bytes);
  sub->callback([f, &command] { command.run = [f] { return Dequantize(*f); }; });
}

}  // namespace vexil::cli
