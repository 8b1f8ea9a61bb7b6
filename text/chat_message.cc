#include "text/chat_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace vexil {
namespace {

using Role = ChatMessage::Role;
using Block = ChatMessage::Block;

constexpr std::pair<std::string_view, Role> kRoles[] = {
    {"system", Role::kSystem},
    {"developer", Role::kDeveloper},
    {"user", Role::kUser},
    {"assistant", Role::kAssistant},
    {"tool", Role::kTool},
    {"latest_reminder", Role::kLatestReminder},
    {"direct_search_results", Role::kDirectSearchResults},
};

// A value and its place in the document, e.g. "messages[1].tool_calls[0]".
struct Place {
  const Json* json;  // null: a member that is missing
  std::string path;

  bool absent() const { return json == nullptr || json->is_null(); }
  Place operator[](size_t i) const { return {&(*json->array())[i], fmt::format("{}[{}]", path, i)}; }
  Place operator[](std::string_view key) const { return {json->Find(key), fmt::format("{}.{}", path, key)}; }
  Status Expected(std::string_view what) const {
    return InvalidArgument(fmt::format("{}: expected {}, found {}", path, what, json ? json->TypeName() : "nothing"));
  }

  Result<std::string> String() const {
    if (json == nullptr || !json->is_string()) return Expected("a string");
    return *json->string();
  }
  // Null and missing are the empty string.
  Result<std::string> StringOrEmpty() const { return absent() ? Result<std::string>("") : String(); }
  // The size of a list; null and missing are an empty one.
  Result<size_t> ListSize() const {
    if (absent()) return size_t(0);
    if (!json->is_array()) return Expected("a list");
    return json->array()->size();
  }
};

// A list of parts as text: what is not text is named instead.
Result<std::string> FlattenParts(const Place& list) {
  std::string out;
  for (size_t i = 0; i < list.json->array()->size(); ++i) {
    const Place part = list[i];
    if (!part.json->is_object()) return part.Expected("an object");
    VX_ASSIGN(const std::string type, part["type"].String());
    if (i > 0) out += "\n\n";
    if (type == "text") {
      VX_ASSIGN(const std::string text, part["text"].StringOrEmpty());
      out += text;
    } else {
      out += fmt::format("[Unsupported {}]", type);
    }
  }
  return out;
}

Result<std::optional<std::string>> ReadContent(const Place& content) {
  if (content.absent()) return std::optional<std::string>();
  if (content.json->is_array()) {
    VX_ASSIGN(std::string text, FlattenParts(content));
    return std::optional(std::move(text));
  }
  if (!content.json->is_string()) return content.Expected("a string or a list of parts");
  return std::optional(*content.json->string());
}

Status ReadTools(const Place& tools, ChatMessage& message) {
  VX_ASSIGN(const size_t size, tools.ListSize());
  for (size_t i = 0; i < size; ++i) {
    if (!tools[i].json->is_object()) return tools[i].Expected("an object");
    const Place function = tools[i]["function"];
    if (function.json == nullptr || !function.json->is_object()) return function.Expected("an object");
    message.tools.push_back(function.json->ToPythonText());
  }
  return {};
}

Status ReadResponseFormat(const Place& format, ChatMessage& message) {
  if (format.absent()) return {};
  if (!format.json->is_object()) return format.Expected("an object");
  if (!format.json->object()->empty()) message.response_format = format.json->ToPythonText();
  return {};
}

Status ReadToolCalls(const Place& calls, ChatMessage& message) {
  VX_ASSIGN(const size_t size, calls.ListSize());
  for (size_t i = 0; i < size; ++i) {
    if (!calls[i].json->is_object()) return calls[i].Expected("an object");
    const Place function = calls[i]["function"];
    if (function.json == nullptr || !function.json->is_object()) return function.Expected("an object");
    ChatMessage::Call call;
    VX_ASSIGN(call.id, calls[i]["id"].StringOrEmpty());
    if (call.id.empty()) {
      VX_ASSIGN(call.id, function["id"].StringOrEmpty());
    }
    VX_ASSIGN(call.name, function["name"].String());
    const Place arguments = function["arguments"];
    if (arguments.json == nullptr) return arguments.Expected("the text of a JSON object");
    call.arguments = *arguments.json;
    message.tool_calls.push_back(std::move(call));
  }
  return {};
}

Result<ChatMessage> ReadMessage(const Place& place) {
  if (!place.json->is_object()) return place.Expected("an object");
  ChatMessage m;
  m.where = place.path;
  VX_ASSIGN(m.role_name, place["role"].String());
  const auto role = std::find_if(std::begin(kRoles), std::end(kRoles), [&](auto& r) { return r.first == m.role_name; });
  if (role != std::end(kRoles)) m.role = role->second;
  VX_ASSIGN(m.content, ReadContent(place["content"]));
  VX_TRY(ReadTools(place["tools"], m));
  VX_TRY(ReadResponseFormat(place["response_format"], m));
  VX_TRY(ReadToolCalls(place["tool_calls"], m));
  VX_ASSIGN(m.tool_call_id, place["tool_call_id"].StringOrEmpty());
  VX_ASSIGN(m.reasoning_content, place["reasoning_content"].StringOrEmpty());
  if (const Place task = place["task"]; !task.absent()) {
    VX_ASSIGN(m.task, task.String());
  }
  if (const Place wo_eos = place["wo_eos"]; !wo_eos.absent()) {
    if (!wo_eos.json->is_bool()) return wo_eos.Expected("true or false");
    m.wo_eos = *wo_eos.json->Bool();
  }
  return m;
}

}  // namespace

Result<std::vector<ChatMessage>> ReadMessages(const Json& list, std::string_view name) {
  const Place place{&list, std::string(name)};
  if (!list.is_array()) return place.Expected("a list");
  std::vector<ChatMessage> messages;
  messages.reserve(list.array()->size());
  for (size_t i = 0; i < list.array()->size(); ++i) {
    VX_ASSIGN(ChatMessage message, ReadMessage(place[i]));
    messages.push_back(std::move(message));
  }
  return messages;
}

std::vector<ChatMessage> MergeUserTurns(std::vector<ChatMessage> messages) {
  std::vector<ChatMessage> merged;
  for (ChatMessage& m : messages) {
    if (m.role != Role::kTool && m.role != Role::kUser) {
      merged.push_back(std::move(m));
      continue;
    }
    const bool is_tool = m.role == Role::kTool;
    Block block{is_tool ? Block::Kind::kToolResult : Block::Kind::kText, std::move(m.content).value_or(""),
                std::move(m.tool_call_id)};
    if (!merged.empty() && merged.back().role == Role::kUser && (is_tool || !merged.back().task)) {
      merged.back().blocks.push_back(std::move(block));
      continue;
    }
    ChatMessage turn;
    turn.where = std::move(m.where);
    turn.role = Role::kUser;
    turn.role_name = "user";
    if (!is_tool) turn.task = std::move(m.task);
    turn.blocks.push_back(std::move(block));
    merged.push_back(std::move(turn));
  }
  return merged;
}

void SortToolResults(std::vector<ChatMessage>& messages) {
  std::unordered_map<std::string, size_t> order;  // call id -> index of the call
  const auto rank = [&](const Block& b) {
    const auto it = order.find(b.tool_call_id);
    return it == order.end() ? size_t(0) : it->second;
  };
  for (ChatMessage& m : messages) {
    if (m.role == Role::kAssistant && !m.tool_calls.empty()) {
      order.clear();
      for (size_t i = 0; i < m.tool_calls.size(); ++i) {
        if (!m.tool_calls[i].id.empty()) order[m.tool_calls[i].id] = i;
      }
    }
    if (m.role != Role::kUser) continue;
    std::vector<Block> results;
    for (const Block& b : m.blocks) {
      if (b.kind == Block::Kind::kToolResult) results.push_back(b);
    }
    std::stable_sort(results.begin(), results.end(), [&](auto& a, auto& b) { return rank(a) < rank(b); });
    size_t next = 0;
    for (Block& b : m.blocks) {
      if (b.kind == Block::Kind::kToolResult) b = std::move(results[next++]);
    }
  }
}

int64_t LastUserTurn(const std::vector<ChatMessage>& messages) {
  int64_t i = int64_t(messages.size()) - 1;
  while (i >= 0 && !messages[size_t(i)].IsUserTurn()) --i;
  return i;
}

std::vector<ChatMessage> DropReasoning(std::vector<ChatMessage> messages) {
  const int64_t last_user = LastUserTurn(messages);
  std::vector<ChatMessage> kept;
  for (size_t i = 0; i < messages.size(); ++i) {
    ChatMessage& m = messages[i];
    if (int64_t(i) < last_user) {
      if (m.role == Role::kDeveloper || m.role == Role::kOther) continue;
      if (m.role == Role::kAssistant) m.reasoning_content.clear();
    }
    kept.push_back(std::move(m));
  }
  return kept;
}

}  // namespace vexil
