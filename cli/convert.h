// What the modes of `vexil convert` share. A mode makes a convert::Job; RunConversion runs it with progress and
// reports.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/status.h"
#include "cli/commands.h"
#include "convert/job.h"

namespace vexil::cli {

// function, in the order of `vexil convert --help`; each declares one mode
#define VX_CONVERT_MODES(X) \
  X(AddDequantize)          \
  X(AddShard)               \
  X(AddUnshard)             \
  X(AddQuantize)            \
  X(AddGguf)                \
  X(AddUngguf)

#define X(name) void name(CLI::App& convert, Command& command);
VX_CONVERT_MODES(X)
#undef X

// --ckpt-path, --config, --output, --threads, --overwrite, --json.
struct ConvertFlags {
  std::string ckpt_path;
  std::string config;  // empty: beside the weights
  std::string output;
  int threads = 0;
  bool overwrite = false;
  bool json = false;

  void Declare(CLI::App& app, const char* source = "directory or safetensors file");
  // kInvalidArgument when the output lies in the source's own directory.
  Status Check() const;
};

// --max-shard-size: bytes, or with KB, MB, GB, TB (powers of 1000) or KiB .. TiB. `standard`: what is taken without it.
void DeclareShardSize(CLI::App& app, int64_t& bytes, const char* standard = "as the source's largest file");

// Runs the job. Meanwhile: a bar on a terminal, one line per finished file otherwise (standard error); Ctrl-C and
// SIGTERM stop between two pieces. Afterwards a summary on standard output, as JSON with --json. A full disk is the
// user's matter here and becomes kInvalidArgument.
Status RunConversion(const ConvertFlags& flags, const convert::Job& job);

}  // namespace vexil::cli
