// What the model wrote in one assistant turn, taken apart (spec: chat encoding, section 12).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/chat_format.h"
#include "text/dsml.h"

namespace vexil {

struct ParsedMessage {
  std::string content;
  std::string reasoning_content;
  std::vector<ToolCall> tool_calls;
  friend bool operator==(const ParsedMessage&, const ParsedMessage&) = default;
};

// `text` is what was generated after the prompt's <think> or </think>, with the end-of-sentence token; well-formed
// UTF-8. As strict as the reference; CompletionStream is the lenient reader. Errors: kInvalidArgument.
Result<ParsedMessage> ParseCompletion(std::string_view text, ThinkingMode mode);

// {"role": "assistant", "content", "reasoning_content", "tool_calls": [{"type": "function", "function": {"name",
// "arguments"}}]}. Calls have no ids: whoever serves them assigns those.
Json ToJson(const ParsedMessage& message);

}  // namespace vexil
