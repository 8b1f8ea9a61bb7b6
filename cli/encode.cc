// vexil encode: chat messages to prompt text. vexil parse: completion text to a message.
#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/common.h"
#include "text/chat_encoding.h"
#include "text/chat_parser.h"

namespace vexil::cli {
namespace {

struct Flags {
  std::string thinking = "chat", args, effort_table = "april", input = "-";

  void DeclareInput(CLI::App& app, const char* what) { app.add_option("input", input, what)->capture_default_str(); }
};

// --thinking stands for thinking_mode (and effort max) where --args does not say otherwise.
Result<EncodeOptions> ToOptions(const Flags& f) {
  Json args = Json::Object();
  if (!f.args.empty()) {
    VX_ASSIGN(args, ReadChatJson(f.args, "--args"));
    if (!args.is_object()) return InvalidArgument(fmt::format("--args: found {}, expected an object", args.TypeName()));
  }
  if (!args.Find("thinking_mode")) args.Set("thinking_mode", f.thinking == "chat" ? "chat" : "thinking");
  if (f.thinking == "max" && !args.Find("reasoning_effort")) args.Set("reasoning_effort", "max");
  Result<EncodeOptions> options =
      ReadEncodeOptions(args, f.effort_table == "0731" ? EffortTable::k0731 : EffortTable::kApril);
  if (!options.ok()) return std::move(options).TakeError().Prefix("--args");
  return options;
}

Status Encode(const Flags& f) {
  VX_ASSIGN(const EncodeOptions options, ToOptions(f));
  const std::string name = f.input == "-" ? "standard input" : f.input;
  VX_ASSIGN(const std::string text, ReadInput(f.input));
  VX_ASSIGN(const Json document, ReadChatJson(text, name));
  Result<std::string> prompt = EncodeDocument(document, options);
  if (!prompt.ok()) return std::move(prompt).TakeError().Prefix(name);
  return Print(*prompt);
}

Status Parse(const Flags& f) {
  VX_ASSIGN(const std::string text, ReadInput(f.input));
  VX_ASSIGN(const ParsedMessage message,
            ParseCompletion(text, f.thinking == "chat" ? ThinkingMode::kChat : ThinkingMode::kThinking));
  return Print(ToJson(message).ToPythonText() + "\n");
}

}  // namespace

void AddEncode(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("encode", "chat messages (JSON) to prompt text");
  auto f = std::make_shared<Flags>();
  DeclareThinking(*sub, f->thinking);
  sub->add_option("--args", f->args,
                  "JSON object: thinking_mode, reasoning_effort, drop_thinking, add_default_bos_token, context");
  sub->add_option("--effort-table", f->effort_table, "meaning of reasoning_effort: april or 0731, as the checkpoint")
      ->check(CLI::IsMember({"april", "0731"}))
      ->capture_default_str();
  f->DeclareInput(*sub, "file with the message list, or {\"messages\", \"tools\"}; -: standard input");
  sub->callback([f, &command] { command.run = [f] { return Encode(*f); }; });
}

void AddParse(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("parse", "completion text to a message (JSON)");
  auto f = std::make_shared<Flags>();
  DeclareThinking(*sub, f->thinking);
  f->DeclareInput(*sub, "file with the text; -: standard input");
  sub->callback([f, &command] { command.run = [f] { return Parse(*f); }; });
}

}  // namespace vexil::cli
