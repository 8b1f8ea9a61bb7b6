#include "text/chat_parser.h"

#include <fmt/format.h>

#include "text/markers.h"

namespace vexil {
namespace {

Status CheckNoSpecialTokens(std::string_view text, std::string_view part) {
  const auto tokens = {chat::kBos, chat::kEos, chat::kThinkStart, chat::kThinkEnd, chat::kDsml};
  const Marker token = FindFirst(text, 0, tokens);
  if (!token.found()) return {};
  return InvalidArgument(
      fmt::format("completion: the special token {} is in the {}", tokens.begin()[token.which], part));
}

}  // namespace

Result<ParsedMessage> ParseCompletion(std::string_view text, ThinkingMode mode) {
  ParsedMessage message;
  if (mode == ThinkingMode::kThinking) {
    const Marker end = FindFirst(text, 0, {chat::kThinkEnd, chat::kToolCallsOpen});
    if (!end.found() || end.which != 0) {
      return InvalidArgument(fmt::format("completion: {} is missing at the end of the reasoning", chat::kThinkEnd));
    }
    message.reasoning_content = text.substr(0, end.at);
    text.remove_prefix(end.end);
  }
  const Marker end = FindFirst(text, 0, {chat::kEos, chat::kToolCallsOpen});
  if (!end.found()) return InvalidArgument(fmt::format("completion: {} is missing at the end", chat::kEos));
  message.content = text.substr(0, end.at);
  text.remove_prefix(end.end);

  if (end.which == 1) {
    DsmlReader reader;
    VX_TRY(reader.Feed(text));
    VX_TRY(reader.Finish());
    if (!reader.rest().empty() && reader.rest() != chat::kEos) {
      return InvalidArgument("completion: text after the tool calls");
    }
    message.tool_calls = reader.TakeCalls();
  } else if (!text.empty()) {
    return InvalidArgument(fmt::format("completion: text after {}", chat::kEos));
  }
  VX_TRY(CheckNoSpecialTokens(message.content, "content"));
  VX_TRY(CheckNoSpecialTokens(message.reasoning_content, "reasoning"));
  return message;
}

Json ToJson(const ParsedMessage& message) {
  Json::Array calls;
  for (const ToolCall& call : message.tool_calls) {
    calls.push_back(Json::Object{{"type", "function"},
                                 {"function", Json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return Json::Object{{"role", "assistant"},
                      {"content", message.content},
                      {"reasoning_content", message.reasoning_content},
                      {"tool_calls", std::move(calls)}};
}

}  // namespace vexil
