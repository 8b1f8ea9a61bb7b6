// The sub-commands of `vexil`. Each Add function declares one with its options; choosing it on the command line sets
// `command.run`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/status.h"

namespace vexil::cli {

struct Command {
  std::function<Status()> run;
};

// function, in the order of `vexil --help`
#define VX_COMMANDS(X) \
  X(AddGenerate)       \
  X(AddChat)           \
  X(AddEval)           \
  X(AddLogits)         \
  X(AddTokenize)       \
  X(AddDetokenize)     \
  X(AddEncode)         \
  X(AddParse)          \
  X(AddInspect)        \
  X(AddPlan)

#define X(name) void name(CLI::App& app, Command& command);
VX_COMMANDS(X)
#undef X

}  // namespace vexil::cli
