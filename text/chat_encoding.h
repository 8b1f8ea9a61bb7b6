// DeepSeek-V4's prompt text from a list of chat messages (spec: chat encoding). The published model has no template
// file: this procedure is the definition.
//
//   VX_ASSIGN(std::string prompt, EncodeMessages(messages, {.thinking_mode = ThinkingMode::kThinking}));
//
// Text of the user is not escaped: a control token in it becomes one unless the tokenizer is told otherwise.
// All functions are pure and safe to call from any thread.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/status.h"
#include "text/chat_format.h"

namespace vexil {

// The values of reasoning_effort that a release of the model knows: April none, high, max; 0731 none, low, high, max.
enum class EffortTable { kApril, k0731 };

struct EncodeOptions {
  ThinkingMode thinking_mode = ThinkingMode::kChat;
  // Without effect in chat mode, but checked.
  std::optional<std::string> reasoning_effort = std::nullopt;
  // Leaves out the reasoning of turns before the last user turn. Never applied when a message has tools.
  bool drop_thinking = true;
  // The beginning-of-sentence token; only where there is no context.
  bool add_default_bos_token = true;
  EffortTable effort_table = EffortTable::kApril;
  // Earlier messages whose text exists already: a list. They decide what is dropped, and are not encoded again.
  Json context = Json::Array();
};

// Options from an object with the members thinking_mode ("chat" or "thinking", required), reasoning_effort,
// drop_thinking, add_default_bos_token and context. Any other member is an error.
Result<EncodeOptions> ReadEncodeOptions(const Json& args, EffortTable effort_table = EffortTable::kApril);

// The prompt for `messages`, a list. Errors: kInvalidArgument, naming the message and member.
Result<std::string> EncodeMessages(const Json& messages, const EncodeOptions& options);

// The same for a document that is a list of messages or {"messages": [...], "tools": [...]}. Such tools belong to
// the first message, which must be a system or developer message without tools of its own.
Result<std::string> EncodeDocument(const Json& document, const EncodeOptions& options);

}  // namespace vexil
