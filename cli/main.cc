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

// Where the library's own words mislead: it reports a misspelt command as a missing one, and unknown arguments from the
// last to the first.
std::string Explain(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv) {
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty())
    return fmt::format("unknown command '{}'", argv[1]);
  for (const CLI::App* a = &app; a != nullptr; a = a->get_subcommands().empty() ? nullptr : a->get_subcommands()[0]) {
    if (a->remaining_size() > 0) return fmt::format("unknown argument '{}'", a->remaining()[0]);
  }
  return error.what();
}

// "--tokens INT in [1 - 65536]  tokens of the step (default: 1)"
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = CLI::Formatter::make_option_opts(option);
    const auto drop = [&](const std::string& part) {
      if (const size_t at = text.find(part); !part.empty() && at != text.npos) text.erase(at, part.size());
    };
    for (const char* type : {"INT:", "UINT:", "FLOAT:", "TEXT:"}) drop(type);  // the check behind it says it again
    drop(DefaultOf(option));
    return text.substr(0, text.find(" Excludes:"));
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string text = option->get_description(), value = option->get_default_str();
    return value.empty() ? text : fmt::format("{} (default: {})", text, value);
  }

 private:
  static std::string DefaultOf(const CLI::Option* option) {
    return option->get_default_str().empty() ? "" : "=" + option->get_default_str();
  }
};

// `status`, unless what was written to std::cout did not arrive.
int Finish(int status) {
  std::cout.flush();
  if (std::cout) return status;
  PrintError("vexil: standard output: cannot write\n");
  return 1;
}

int Main(int argc, char** argv) {
  CLI::App app("vexil runs, converts and checks DeepSeek-V4 models");
  app.formatter(std::make_shared<HelpFormatter>());
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
