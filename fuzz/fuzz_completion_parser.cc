// Any text as a completion. The stream gives the same however the text is cut, loses none of it, and equals the
// parser wherever that accepts. The first byte chooses the mode and how the text is cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/chat_parser.h"
#include "text/completion_stream.h"
#include "text/utf8.h"

namespace {

using vexil::CompletionEvent;
using vexil::CompletionStream;
using vexil::ParsedMessage;
using vexil::ThinkingMode;

ParsedMessage Stream(std::string_view text, ThinkingMode mode, size_t step) {
  CompletionStream stream(mode);
  ParsedMessage sum;
  const auto add = [&](const std::vector<CompletionEvent>& events) {
    for (const CompletionEvent& e : events) {
      (e.kind == CompletionEvent::Kind::kReasoning ? sum.reasoning_content : sum.content) += e.text;
      sum.tool_calls.insert(sum.tool_calls.end(), e.tool_calls.begin(), e.tool_calls.end());
      VX_CHECK(vexil::WellFormedPrefix(e.text) == e.text.size(), "an event with a part of a character");
    }
  };
  for (size_t i = 0; i < text.size(); i += step) add(stream.Feed(text.substr(i, step)));
  add(stream.Finish());
  VX_CHECK(sum == stream.message(), "the events are not the message");
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ThinkingMode mode = data[0] % 2 ? ThinkingMode::kThinking : ThinkingMode::kChat;
  const size_t step = 1 + data[0] / 2 % 16;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);

  const ParsedMessage whole = Stream(text, mode, std::max<size_t>(text.size(), 1));
  VX_CHECK(Stream(text, mode, step) == whole, "the message depends on how the text is cut");
  const auto parsed = vexil::ParseCompletion(vexil::ReplaceIllFormed(text), mode);
  if (parsed.ok()) {
    VX_CHECK(*parsed == whole, "the stream and the parser differ");
  } else {
    VX_CHECK(parsed.status().message().find('\n') == std::string_view::npos, "an error is not one line");
  }
  return 0;
}
