// vexil: the command line program. One line on standard error and status 2 for a user's mistake, 1 for anything else.
#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"

namespace vexil::cli {
namespace {

int ExitStatus(Code code) {
  switch (code) {
    case Code::kOk:
      return 0;
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kUnsupported:
    case Code::kDataLoss:
      return 2;
    case Code::kCancelled:
      return 130;  // as a shell reports SIGINT
    default:
      return 1;
  }
}

// The library reports a misspelt command as a missing one.
std::string Explain(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv) {
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty())
    return fmt::format("unknown command '{}'", argv[1]);
  return error.what();
}

// `status`, unless what was written to std::cout did not arrive.
int Finish(int status) {
  std::cout.flush();
  if (std::cout) return status;
  PrintError("vexil: standard output: cannot write\n");
  return 1;
}

int Main(int argc, char** argv) {
  CLI::App app("vexil runs, serves and checks DeepSeek-V4 models");
  app.require_subcommand(1);
  app.set_version_flag("--version", "vexil " VEXIL_VERSION);
  Command command;
#define X(name) name(app, command);
  VX_COMMANDS(X)
#undef X
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return Finish(app.exit(e));  // --help, --version
    PrintError(fmt::format("vexil: {} (try --help)\n", Explain(e, app, argc, argv)));
    return 2;
  }
  const Status status = command.run();
  if (status.ok()) return command.exit_status;
  ClearProgress();
  if (status.code() != Code::kCancelled) PrintError(fmt::format("vexil: {}\n", status.message()));
  return ExitStatus(status.code());
}

}  // namespace
}  // namespace vexil::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a failed write; Print knows what to do
  std::signal(SIGXFSZ, SIG_IGN);  // likewise a file beyond the limit of its size
  try {
    return vexil::cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    vexil::cli::PrintError("vexil: out of memory\n");
  } catch (const std::exception& e) {
    vexil::cli::PrintError(fmt::format("vexil: internal error: {}\n", e.what()));
  }
  return 1;
}
