#include "text/chat_encoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "text/chat_message.h"
#include "text/dsml.h"

namespace vexil {
namespace {

using Messages = std::vector<ChatMessage>;
using Role = ChatMessage::Role;

struct Effort {
  std::string_view value, prefix;
};
constexpr Effort kAprilEfforts[] = {{"high", ""}, {"max", chat::kEffortAbsoluteMaximum}};
constexpr Effort k0731Efforts[] = {
    {"", ""}, {"low", ""}, {"high", chat::kEffortAbsoluteMaximum}, {"max", chat::kEffortBeyondMaximum}};

// The text in front of everything; no effort has none in either table.
Result<std::string_view> EffortPrefix(const EncodeOptions& options) {
  if (!options.reasoning_effort) return "";
  const bool april = options.effort_table == EffortTable::kApril;
  const auto table = april ? std::span<const Effort>(kAprilEfforts) : std::span<const Effort>(k0731Efforts);
  for (const Effort& e : table) {
    if (e.value == *options.reasoning_effort) return options.thinking_mode == ThinkingMode::kThinking ? e.prefix : "";
  }
  return InvalidArgument(fmt::format("reasoning_effort: expected {}, found {}",
                                     april ? "\"high\", \"max\" or null" : "\"low\", \"high\", \"max\" or null",
                                     QuoteJson(*options.reasoning_effort)));
}

// Renders messages of a whole conversation.
class Renderer {
 public:
  Renderer(const Messages& all, ThinkingMode mode, bool drop)
      : all_(all), thinking_(mode == ThinkingMode::kThinking), drop_(drop), last_user_(LastUserTurn(all)) {}

  // Message i and the transition after it.
  Result<std::string> Render(size_t i) const {
    VX_ASSIGN(std::string text, Body(i));
    VX_ASSIGN(const std::string transition, Transition(i));
    return text + transition;
  }

 private:
  Result<std::string> Body(size_t i) const {
    const ChatMessage& m = all_[i];
    switch (m.role) {
      case Role::kSystem:
        return Instructions(m);
      case Role::kDeveloper:
        if (m.content.value_or("").empty()) {
          return InvalidArgument(fmt::format("{}.content: expected text in a developer message, found none", m.where));
        }
        return std::string(chat::kUser) + Instructions(m);
      case Role::kUser:
        return std::string(chat::kUser) + UserTurn(m);
      case Role::kLatestReminder:
        // The reference writes Python's null into the text.
        return std::string(chat::kLatestReminder) + m.content.value_or("None");
      case Role::kAssistant:
        return AssistantTurn(i);
      default:
        return InvalidArgument(fmt::format("{}.role: {} cannot be encoded", m.where, QuoteJson(m.role_name)));
    }
  }

  // The content, the tools and the response format.
  static std::string Instructions(const ChatMessage& m) {
    std::string text = m.content.value_or("");
    if (!m.tools.empty()) {
      std::string schemas;
      for (const std::string& tool : m.tools) schemas += (schemas.empty() ? "" : "\n") + tool;
      text += "\n\n" + chat::Fill(chat::kToolsBlock, {schemas});
    }
    if (m.response_format) text += "\n\n" + chat::Fill(chat::kResponseFormat, {*m.response_format});
    return text;
  }

  static std::string UserTurn(const ChatMessage& m) {
    std::string text;
    for (size_t k = 0; k < m.blocks.size(); ++k) {
      const ChatMessage::Block& b = m.blocks[k];
      if (k > 0) text += "\n\n";
      text += b.kind == ChatMessage::Block::Kind::kText ? b.text : chat::Fill(chat::kToolResult, {b.text});
    }
    return text;
  }

  Result<std::string> AssistantTurn(size_t i) const {
    const ChatMessage& m = all_[i];
    std::string text;
    const bool answers_task = i > 0 && all_[i - 1].task;
    if (thinking_ && !answers_task && (!drop_ || int64_t(i) > last_user_)) {
      text.append(m.reasoning_content).append(chat::kThinkEnd);
    }
    text += m.content.value_or("");
    VX_ASSIGN(const std::string calls, ToolCalls(m));
    text += calls;
    if (!m.wo_eos) text += chat::kEos;
    return text;
  }

  static Result<std::string> ToolCalls(const ChatMessage& m) {
    if (m.tool_calls.empty()) return "";
    std::string calls;
    for (size_t k = 0; k < m.tool_calls.size(); ++k) {
      auto call = RenderInvoke(m.tool_calls[k].name, m.tool_calls[k].arguments);
      if (!call.ok()) {
        return std::move(call).TakeError().Prefix(fmt::format("{}.tool_calls[{}].function.arguments", m.where, k));
      }
      if (k > 0) calls += '\n';
      calls += *call;
    }
    return "\n\n" + chat::Fill(chat::kToolCalls, {calls});
  }

  // What opens the turn that follows message i.
  Result<std::string> Transition(size_t i) const {
    if (i + 1 < all_.size()) {
      const Role next = all_[i + 1].role;
      if (next != Role::kAssistant && next != Role::kLatestReminder) return "";
    }
    const ChatMessage& m = all_[i];
    if (m.task) return TaskTransition(m);
    if (!m.IsUserTurn()) return "";
    return OpenAssistantTurn(thinking_ && (!drop_ || int64_t(i) >= last_user_));
  }

  Result<std::string> TaskTransition(const ChatMessage& m) const {
    const auto task = std::find_if(std::begin(chat::kTasks), std::end(chat::kTasks),
                                   [&](const chat::Task& t) { return t.name == *m.task; });
    if (task == std::end(chat::kTasks)) {
      return InvalidArgument(
          fmt::format("{}.task: expected action, query, authority, domain, title or read_url, found {}", m.where,
                      QuoteJson(*m.task)));
    }
    return (task->name == "action" ? OpenAssistantTurn(thinking_) : "") + std::string(task->token);
  }

  static std::string OpenAssistantTurn(bool with_reasoning) {
    return std::string(chat::kAssistant).append(with_reasoning ? chat::kThinkStart : chat::kThinkEnd);
  }

  const Messages& all_;
  bool thinking_, drop_;
  int64_t last_user_;
};

Result<bool> ReadBool(const Json& value, std::string_view name) {
  if (const auto b = value.Bool()) return *b;
  return InvalidArgument(fmt::format("{}: expected true or false, found {}", name, value.TypeName()));
}

Result<ThinkingMode> ReadThinkingMode(const Json* value) {
  const std::string* name = value ? value->string() : nullptr;
  if (name && *name == "chat") return ThinkingMode::kChat;
  if (name && *name == "thinking") return ThinkingMode::kThinking;
  return InvalidArgument(
      fmt::format("thinking_mode: expected \"chat\" or \"thinking\", found {}", name    ? QuoteJson(*name)
                                                                                : value ? value->TypeName()
                                                                                        : "nothing"));
}

Status ReadOption(std::string_view name, const Json& value, EncodeOptions& options) {
  if (name == "thinking_mode") return {};  // read apart: it is required
  if (name == "reasoning_effort") {
    if (value.is_null()) return {};
    if (!value.is_string()) {
      return InvalidArgument(fmt::format("reasoning_effort: expected a string or null, found {}", value.TypeName()));
    }
    options.reasoning_effort = *value.string();
  } else if (name == "drop_thinking") {
    VX_ASSIGN(options.drop_thinking, ReadBool(value, name));
  } else if (name == "add_default_bos_token") {
    VX_ASSIGN(options.add_default_bos_token, ReadBool(value, name));
  } else if (name == "context") {
    if (!value.is_null()) options.context = value;  // EncodeMessages checks it
  } else {
    return InvalidArgument(fmt::format("unknown option {}", QuoteJson(name)));
  }
  return {};
}

}  // namespace

Result<EncodeOptions> ReadEncodeOptions(const Json& args, EffortTable effort_table) {
  if (!args.is_object()) return InvalidArgument(fmt::format("options: expected an object, found {}", args.TypeName()));
  EncodeOptions options;
  options.effort_table = effort_table;
  VX_ASSIGN(options.thinking_mode, ReadThinkingMode(args.Find("thinking_mode")));
  for (const auto& [name, value] : *args.object()) VX_TRY(ReadOption(name, value, options));
  return options;
}

Result<std::string> EncodeMessages(const Json& messages, const EncodeOptions& options) {
  VX_ASSIGN(const std::string_view effort_prefix, EffortPrefix(options));
  VX_ASSIGN(Messages context, ReadMessages(options.context, "context"));
  VX_ASSIGN(Messages own, ReadMessages(messages, "messages"));
  context = MergeUserTurns(std::move(context));
  own = MergeUserTurns(std::move(own));

  std::string prompt;
  if (options.add_default_bos_token && context.empty()) prompt = chat::kBos;

  size_t done = context.size();  // leading messages that are not rendered
  Messages all = context;
  all.insert(all.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
  SortToolResults(all);
  const bool has_tools = std::any_of(all.begin(), all.end(), [](const ChatMessage& m) { return !m.tools.empty(); });
  const bool drop = options.drop_thinking && !has_tools;
  if (options.thinking_mode == ThinkingMode::kThinking && drop) {
    all = DropReasoning(std::move(all));
    done = DropReasoning(std::move(context)).size();
  }
  const Renderer renderer(all, options.thinking_mode, drop);
  for (size_t i = done; i < all.size(); ++i) {
    if (i == 0) prompt += effort_prefix;
    VX_ASSIGN(const std::string text, renderer.Render(i));
    prompt += text;
  }
  return prompt;
}

Result<std::string> EncodeDocument(const Json& document, const EncodeOptions& options) {
  if (!document.is_object()) return EncodeMessages(document, options);
  for (const auto& [name, value] : *document.object()) {
    if (name != "messages" && name != "tools") {
      return InvalidArgument(fmt::format("unknown member {}, expected messages and tools", QuoteJson(name)));
    }
  }
  const Json* list = document.Find("messages");
  if (list == nullptr) return InvalidArgument("messages: expected a list, found nothing");
  const Json* tools = document.Find("tools");
  const bool no_tools = tools == nullptr || tools->is_null() || (tools->is_array() && tools->array()->empty());
  if (no_tools || !list->is_array() || list->array()->empty()) return EncodeMessages(*list, options);

  Json messages = *list;
  Json& first = messages.array()->front();
  const Json* role = first.Find("role");
  const std::string* name = role ? role->string() : nullptr;
  if (!name || (*name != "system" && *name != "developer")) {
    return InvalidArgument("messages[0].role: expected system or developer in a conversation with tools");
  }
  if (first.Find("tools")) return InvalidArgument("messages[0].tools: the document has tools as well");
  first.Set("tools", *tools);
  return EncodeMessages(messages, options);
}

}  // namespace vexil
