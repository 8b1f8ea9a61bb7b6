// The fixed strings of DeepSeek-V4's prompt format (spec: chat encoding; testdata/chat/templates.json). They are part
// of the model: every byte counts. {name} marks a place to fill in, see Fill.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace vexil {

// Whether the assistant reasons before it answers: its turn then begins with <think> instead of </think>.
enum class ThinkingMode { kChat, kThinking };

namespace chat {

// Special tokens.
inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";
inline constexpr std::string_view kThinkStart = "<think>";
inline constexpr std::string_view kThinkEnd = "</think>";
inline constexpr std::string_view kDsml = "｜DSML｜";

// The quick-instruction tasks and the tokens that ask for them.
struct Task {
  std::string_view name, token;
};
inline constexpr Task kTasks[] = {
    {"action", "<｜action｜>"}, {"query", "<｜query｜>"}, {"authority", "<｜authority｜>"},
    {"domain", "<｜domain｜>"}, {"title", "<｜title｜>"}, {"read_url", "<｜read_url｜>"},
};

// Tool calls in DSML, the model's markup.
inline constexpr std::string_view kToolCall =
    R"(<｜DSML｜invoke name="{name}">
{arguments}
</｜DSML｜invoke>)";
inline constexpr std::string_view kToolCalls =
    R"(<｜DSML｜tool_calls>
{tool_calls}
</｜DSML｜tool_calls>)";
inline constexpr std::string_view kToolParameter =
    R"(<｜DSML｜parameter name="{key}" string="{is_str}">{value}</｜DSML｜parameter>)";

// What opens a block of tool calls: two line feeds, which belong to the block, and the tag without its ">".
inline constexpr std::string_view kToolCallsOpen = "\n\n<｜DSML｜tool_calls";
inline constexpr std::string_view kToolCallsEnd = "</｜DSML｜tool_calls>";
inline constexpr std::string_view kInvokeOpen = "<｜DSML｜invoke";
inline constexpr std::string_view kInvokeEnd = "</｜DSML｜invoke";
inline constexpr std::string_view kParameterOpen = "<｜DSML｜parameter";
inline constexpr std::string_view kParameterEnd = "/｜DSML｜parameter";

inline constexpr std::string_view kToolResult = R"(<tool_result>{content}</tool_result>)";
inline constexpr std::string_view kResponseFormat =
    R"(## Response Format:

You MUST strictly adhere to the following schema to reply:
{schema})";
inline constexpr std::string_view kToolsBlock =
    R"(## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

{tool_schemas}

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
)";

// Reasoning effort, put in front of everything.
inline constexpr std::string_view kEffortAbsoluteMaximum =
    R"(Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.

)";
inline constexpr std::string_view kEffortBeyondMaximum =
    R"(Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause rather than any surface symptom.
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no assumption remains unchecked and no error remains undiscovered.

)";

// The template with its places filled, in their order; as many values as places. Braces in values mean nothing.
std::string Fill(std::string_view text, std::initializer_list<std::string_view> values);

}  // namespace chat
}  // namespace vexil
