// The messages of a conversation: read from JSON, tool results merged into user turns (spec: chat encoding,
// sections 2 to 5).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace vexil {

struct ChatMessage {
  enum class Role : uint8_t {
    kSystem,
    kDeveloper,
    kUser,
    kAssistant,
    kTool,
    kLatestReminder,
    kDirectSearchResults,
    kOther,
  };
  // A part of a user turn. `tool_call_id` is that of a tool result, empty when the caller gave none.
  struct Block {
    enum class Kind : uint8_t { kText, kToolResult } kind;
    std::string text;
    std::string tool_call_id;
  };
  struct Call {
    std::string id;
    std::string name;
    Json arguments;
  };

  std::string where;  // "messages[3]", for messages about it
  Role role = Role::kOther;
  std::string role_name;
  std::optional<std::string> content;          // a list is flattened; nullopt: null or missing
  std::vector<Block> blocks;                   // of a user turn, after merging
  std::vector<std::string> tools;              // JSON text of each function
  std::optional<std::string> response_format;  // JSON text
  std::vector<Call> tool_calls;
  std::string tool_call_id;
  std::string reasoning_content;
  std::optional<std::string> task;
  bool wo_eos = false;

  bool IsUserTurn() const { return role == Role::kUser || role == Role::kDeveloper; }
};

// Checks and converts a list of messages; members it does not know are ignored. `name` ("messages") is for errors:
// kInvalidArgument, saying which message and member.
Result<std::vector<ChatMessage>> ReadMessages(const Json& list, std::string_view name);

// Tool messages become blocks of user turns, and consecutive user messages one turn. A message that carries a task
// is not joined by a later user message, but is by a tool result.
std::vector<ChatMessage> MergeUserTurns(std::vector<ChatMessage> messages);

// Puts the tool results of each user turn into the order of the calls of the last assistant turn that has any.
void SortToolResults(std::vector<ChatMessage>& messages);

// Index of the last user or developer message, or -1.
int64_t LastUserTurn(const std::vector<ChatMessage>& messages);

// Without what the model is not shown again once a later user turn exists: the reasoning of earlier assistant turns,
// and earlier developer messages.
std::vector<ChatMessage> DropReasoning(std::vector<ChatMessage> messages);

}  // namespace vexil
