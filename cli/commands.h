// The sub-commands of `vexil`. Each Add function declares one with its options; choosing it on the command line sets
// `command.run`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/status.h"

namespace vexil::cli {

struct Command {
  std::function<Status()> run;
  // Of the program when `run` succeeds: a command that judges something may say no with 1.
  int exit_status = 0;
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
  X(AddPlan)           \
  X(AddDevices)        \
  X(AddBench)          \
  X(AddConvert)        \
  X(AddVerify)         \
  X(AddMakeCheckpoint)

#define X(name) void name(CLI::App& app, Command& command);
VX_COMMANDS(X)
#undef X

}  // namespace vexil::cli
