// From what a user typed to the ids of a prompt.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/chat_encoding.h"
#include "text/tokenizer.h"

namespace vexil::cli {

struct PromptStyle {
  std::string thinking = "chat";  // chat, thinking or max
  std::string system;             // empty: none
  Json tools;                     // null or a list

  ThinkingMode mode() const { return thinking == "chat" ? ThinkingMode::kChat : ThinkingMode::kThinking; }
  EncodeOptions ToEncodeOptions() const;
  // The messages in front of the conversation: the system message with the tools, if there is either.
  Json::Array Opening() const;
};

// A list of tools from a file.
Result<Json> ReadTools(const std::string& path);

// {"role": role, "content": content}
Json MakeMessage(const char* role, std::string content);

// Prompts separated by empty lines; white space around each is dropped, as is a byte order mark in front.
std::vector<std::string> SplitPrompts(std::string_view text);

}  // namespace vexil::cli
