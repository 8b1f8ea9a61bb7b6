#include "text/dsml.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/chat_format.h"
#include "text/markers.h"

namespace vexil {
namespace {

// The start of a text, quoted, for a message.
std::string Excerpt(std::string_view text) {
  constexpr size_t kMaxBytes = 40;
  if (text.size() <= kMaxBytes) return QuoteJson(text);
  size_t n = kMaxBytes;
  while (n > 0 && (uint8_t(text[n]) & 0xc0) == 0x80) --n;  // not inside a character
  return QuoteJson(text.substr(0, n)) + "...";
}

Status Unexpected(std::string_view expected, std::string_view found) {
  return InvalidArgument(fmt::format("tool calls: expected {}, found {}", expected, Excerpt(found)));
}

// Removes `prefix` from the front of `text`, or leaves it and returns false.
bool Consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::string RenderParameter(std::string_view key, const Json& value) {
  if (const std::string* s = value.string()) return chat::Fill(chat::kToolParameter, {key, "true", *s});
  return chat::Fill(chat::kToolParameter, {key, "false", value.ToPythonText()});
}

}  // namespace

Result<std::string> RenderInvoke(std::string_view name, const Json& arguments) {
  std::string parameters;
  const auto json = arguments.is_string()
                        ? Json::Parse(*arguments.string(), {.allow_duplicates = true, .allow_nan = true})
                        : Result<Json>(InvalidArgument("not text"));
  if (!json.ok()) {
    parameters = RenderParameter("arguments", arguments);
  } else if (!json->is_object()) {
    return InvalidArgument(fmt::format("expected the text of a JSON object, found {}", json->TypeName()));
  } else {
    for (const auto& [key, value] : *json->object()) {
      if (!parameters.empty()) parameters += '\n';
      parameters += RenderParameter(key, value);
    }
  }
  return chat::Fill(chat::kToolCall, {name, parameters});
}

Status DsmlReader::Feed(std::string_view text) {
  text_ += text;
  while (!complete()) {
    Marker stop;
    switch (state_) {
      case State::kBetweenCalls:
        stop = FindFirst(text_, scanned_, {chat::kInvokeOpen, chat::kToolCallsEnd});
        break;
      case State::kParameter:
        stop = FindFirst(text_, scanned_, {chat::kParameterEnd});
        break;
      default:
        stop = FindFirst(text_, scanned_, {chat::kParameterOpen, chat::kInvokeEnd});
    }
    if (!stop.found()) {
      const size_t longest = std::max(chat::kToolCallsEnd.size(), chat::kParameterOpen.size());
      scanned_ = std::max(scanned_, text_.size() - std::min(longest, text_.size()));
      return {};
    }
    VX_TRY(Step(std::string_view(text_).substr(at_, stop.at - at_), stop.which));
    at_ = scanned_ = stop.end;
  }
  return {};
}

Status DsmlReader::Step(std::string_view before, size_t which) {
  switch (state_) {
    case State::kBetweenCalls:
      VX_TRY(Between(before));
      state_ = which == 0 ? State::kName : State::kComplete;
      return {};
    case State::kParameter:
      VX_TRY(AddParameter(before));
      state_ = State::kAfterParameter;
      return {};
    case State::kName:
      VX_TRY(BeginCall(before));
      break;
    default:
      VX_TRY(Between(before));
  }
  if (which == 0) {
    state_ = State::kParameter;
  } else {
    EndCall();
    state_ = State::kBetweenCalls;
  }
  return {};
}

Status DsmlReader::Finish() {
  switch (state_) {
    case State::kComplete:
      return {};
    case State::kBetweenCalls:
      return rest().empty() ? Status() : Unexpected("a call or the end of the block", rest());
    case State::kParameter:
      return Unexpected("the end of a parameter", rest());
    case State::kName:
      VX_TRY(BeginCall(rest()));
      break;
    case State::kAfterParameter:
      VX_TRY(Between(rest()));
  }
  EndCall();
  at_ = text_.size();
  return {};
}

// The text between two tags: the end of the first, and a line feed.
Status DsmlReader::Between(std::string_view before) const {
  return before == ">\n" ? Status() : Unexpected("\">\\n\" after a tag", before);
}

// ` name="NAME">` and a line feed. The encoder leaves an empty line where there are no parameters.
Status DsmlReader::BeginCall(std::string_view head) {
  std::string_view name = head;
  name.remove_prefix(std::min(name.find_first_not_of(" \t\n\v\f\r"), name.size()));
  const bool opened = Consume(name, "name=\"");
  if (name.ends_with("\n\n")) name.remove_suffix(1);
  constexpr std::string_view kClose = "\">\n";
  if (!opened || !name.ends_with(kClose)) return Unexpected("name=\"...\"> and a line feed after an invoke tag", head);
  name.remove_suffix(kClose.size());
  calls_.push_back({std::string(name), "{"});
  keys_.clear();
  return {};
}

// ` name="KEY" string="true|false">VALUE<`, the key as short as possible.
Status DsmlReader::AddParameter(std::string_view body) {
  constexpr std::string_view kForm = "name=\"...\" string=\"true|false\">...< after a parameter tag";
  std::string_view key = body;
  if (!Consume(key, " name=\"")) return Unexpected(kForm, body);
  const Marker middle = FindFirst(key, 0, {"\" string=\"true\">", "\" string=\"false\">"});
  if (!middle.found() || !key.substr(middle.end).ends_with('<')) return Unexpected(kForm, body);
  std::string_view value = key.substr(middle.end);
  value.remove_suffix(1);
  key = key.substr(0, middle.at);
  if (!keys_.emplace(key).second) {
    return InvalidArgument(fmt::format("tool calls: the parameter {} of the call {} is repeated", Excerpt(key),
                                       Excerpt(calls_.back().name)));
  }
  std::string& arguments = calls_.back().arguments;
  if (keys_.size() > 1) arguments += ", ";
  arguments += QuoteJson(key);
  arguments += ": ";
  arguments += middle.which == 0 ? QuoteJson(value) : std::string(value);
  return {};
}

void DsmlReader::EndCall() { calls_.back().arguments += '}'; }

}  // namespace vexil
