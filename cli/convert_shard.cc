// vexil convert shard and unshard: one checkpoint as files for N ranks, and back.
#include <cstdlib>
#include <memory>

#include "cli/convert.h"
#include "convert/shard.h"
#include "convert/unshard.h"

namespace vexil::cli {
namespace {

struct Flags {
  ConvertFlags common;
  convert::ShardOptions options;
  std::string experts;
  int64_t shard_bytes = 0;
};

convert::ShardExperts ExpertsOf(const std::string& name) {
  if (name == "fp4") return convert::ShardExperts::kE2M1;
  if (name == "fp8") return convert::ShardExperts::kE4M3;
  if (name == "int8") return convert::ShardExperts::kInt8;
  return convert::ShardExperts::kAsStored;
}

Status Shard(const Flags& f) {
  VX_TRY(f.common.Check());
  VX_ASSIGN(std::shared_ptr<const convert::Source> source, convert::Source::Open(f.common.ckpt_path, f.common.config));
  convert::ShardOptions options = f.options;
  options.experts = ExpertsOf(f.experts);
  const char* variable = std::getenv("USE_OGROUPS_COMM");  // the switch of the community's converter
  if (options.o_groups == 0 && variable != nullptr && std::string_view(variable) == "1")
    options.o_groups = source->model().o_groups;
  VX_ASSIGN(const convert::Job job, convert::ShardJob(std::move(source), f.common.output, options));
  return RunConversion(f.common, job);
}

Status Unshard(const Flags& f) {
  VX_TRY(f.common.Check());
  VX_ASSIGN(const convert::Job job,
            convert::UnshardJob(f.common.ckpt_path, f.common.config, f.common.output, f.shard_bytes));
  return RunConversion(f.common, job);
}

}  // namespace

void AddShard(CLI::App& app, Command& command) {
  CLI::App* sub =
      app.add_subcommand("shard", "model{R}-mp{N}.safetensors for N ranks of the published inference program");
  auto f = std::make_shared<Flags>();
  f->common.Declare(*sub);
  sub->add_option("--model-parallel", f->options.ranks, "ranks")->required()->check(CLI::Range(1, 1 << 16));
  sub->add_option("--expert-dtype", f->experts,
                  "routed experts: fp4 as published, fp8 (without rounding where possible), int8")
      ->check(CLI::IsMember({"fp4", "fp8", "int8"}));
  sub->add_option("--o-groups", f->options.o_groups,
                  "the model's output groups: allows more ranks than groups (or USE_OGROUPS_COMM=1)")
      ->check(CLI::Range(1, 1 << 16));
  sub->callback([f, &command] { command.run = [f] { return Shard(*f); }; });
}

void AddUnshard(CLI::App& app, Command& command) {
  CLI::App* sub =
      app.add_subcommand("unshard", "rank files as one checkpoint again, byte for byte where nothing was cast");
  auto f = std::make_shared<Flags>();
  f->common.Declare(*sub);
  DeclareShardSize(*sub, f->shard_bytes);
  sub->callback([f, &command] { command.run = [f] { return Unshard(*f); }; });
}

}  // namespace vexil::cli
