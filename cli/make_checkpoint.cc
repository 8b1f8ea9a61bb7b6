// vexil make-checkpoint: a checkpoint of random weights for any configuration.
#include "convert/make_checkpoint.h"

#include <memory>

#include "cli/convert.h"

namespace vexil::cli {
namespace {

struct Flags {
  ConvertFlags common;
  convert::MakeOptions options;
  std::string plan = "official";
};

Status MakeCheckpoint(Flags& f) {
  f.options.config_path = f.common.config;
  f.options.plan = f.plan == "bf16" ? convert::DTypePlan::kBf16 : convert::DTypePlan::kOfficial;
  VX_ASSIGN(const convert::Job job, convert::MakeCheckpointJob(f.options, f.common.output));
  return RunConversion(f.common, job);
}

}  // namespace

void AddMakeCheckpoint(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("make-checkpoint",
                                     "random, well-scaled weights for any configuration; stoppable and resumable");
  auto f = std::make_shared<Flags>();
  constexpr int64_t kMost = 65536;
  sub->add_option("--config", f->common.config, "configuration file, published or of the inference program")
      ->required();
  sub->add_option("--output", f->common.output, "the directory to write; the same command continues a stopped run")
      ->required();
  sub->add_option("--seed", f->options.seed, "the same seed gives the same bytes")->capture_default_str();
  sub->add_option("--layers", f->options.layers, "only the first layers of the configuration")
      ->check(CLI::Range(int64_t(1), kMost));
  sub->add_option("--ratios", f->options.ratios,
                  "compression ratio of each layer, e.g. 0,4,128 (default: the configuration's)")
      ->delimiter(',');
  sub->add_option("--experts", f->options.experts, "routed experts per layer (default: the configuration's)")
      ->check(CLI::Range(int64_t(1), kMost));
  sub->add_option("--draft-layers", f->options.draft_layers, "speculative blocks (mtp.*)")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  sub->add_option("--dtype-plan", f->plan, "official: E4M3 and E2M1; bf16: the same values, dequantised")
      ->check(CLI::IsMember({"official", "bf16"}))
      ->capture_default_str();
  sub->add_option("--tokenizer", f->options.tokenizer, "a tokenizer.json to put beside the weights");
  DeclareShardSize(*sub, f->options.shard_bytes, "5GB");
  sub->add_option("--threads", f->common.threads, "threads (default: all processors of this process)")
      ->check(CLI::Range(0, 1024));
  sub->add_flag("--overwrite", f->common.overwrite, "start over, whatever an earlier run left in the output directory");
  sub->add_flag("--json", f->common.json, "the summary as JSON");
  sub->callback([f, &command] { command.run = [f] { return MakeCheckpoint(*f); }; });
}

}  // namespace vexil::cli
