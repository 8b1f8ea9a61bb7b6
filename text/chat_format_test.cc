#include "text/chat_format.h"

#include <gtest/gtest.h>

#include "text/chat_test_data.h"
#include "text/markers.h"

namespace vexil {
namespace {

TEST(ChatFormat, StringsAreThoseOfTheModel) {
  const Json file = ChatFileJson("templates.json");
  const auto text = [](const Json& of, std::string_view key) { return *of.Find(key)->string(); };
  EXPECT_EQ(chat::kToolsBlock, text(file, "tools_block"));
  EXPECT_EQ(chat::kResponseFormat, text(file, "response_format"));
  EXPECT_EQ(chat::kToolCall, text(file, "tool_call"));
  EXPECT_EQ(chat::kToolCalls, text(file, "tool_calls"));
  EXPECT_EQ(chat::kToolParameter, text(file, "tool_parameter"));
  EXPECT_EQ(chat::kToolResult, text(file, "tool_result"));

  const Json& tokens = *file.Find("tokens");
  EXPECT_EQ(chat::kBos, text(tokens, "bos"));
  EXPECT_EQ(chat::kEos, text(tokens, "eos"));
  EXPECT_EQ(chat::kUser, text(tokens, "user"));
  EXPECT_EQ(chat::kAssistant, text(tokens, "assistant"));
  EXPECT_EQ(chat::kLatestReminder, text(tokens, "latest_reminder"));
  EXPECT_EQ(chat::kThinkStart, text(tokens, "think_start"));
  EXPECT_EQ(chat::kThinkEnd, text(tokens, "think_end"));
  EXPECT_EQ(chat::kDsml, text(tokens, "dsml"));

  const Json::Object& tasks = *tokens.Find("tasks")->object();
  ASSERT_EQ(tasks.size(), std::size(chat::kTasks));
  for (size_t i = 0; i < tasks.size(); ++i) {
    EXPECT_EQ(chat::kTasks[i].name, tasks[i].first);
    EXPECT_EQ(chat::kTasks[i].token, *tasks[i].second.string());
  }

  const Json& efforts = *file.Find("effort_prefix");
  EXPECT_EQ(chat::kEffortAbsoluteMaximum, text(*efforts.Find("april"), "max"));
  EXPECT_EQ(chat::kEffortAbsoluteMaximum, text(*efforts.Find("0731"), "high"));
  EXPECT_EQ(chat::kEffortBeyondMaximum, text(*efforts.Find("0731"), "max"));
}

TEST(ChatFormat, TagsOccurInTheTemplates) {
  const auto contains = [](std::string_view text, std::string_view part) { return text.find(part) != text.npos; };
  EXPECT_TRUE(contains("\n\n" + std::string(chat::kToolCalls), chat::kToolCallsOpen));
  EXPECT_TRUE(chat::kToolCalls.ends_with(chat::kToolCallsEnd));
  EXPECT_TRUE(chat::kToolCall.starts_with(chat::kInvokeOpen));
  EXPECT_TRUE(contains(chat::kToolCall, chat::kInvokeEnd));
  EXPECT_TRUE(chat::kToolParameter.starts_with(chat::kParameterOpen));
  EXPECT_TRUE(contains(chat::kToolParameter, chat::kParameterEnd));
}

TEST(ChatFormat, FillTakesValuesAsTheyAre) {
  EXPECT_EQ(chat::Fill("<{a}|{b}>", {"{b}", "}{a}"}), "<{b}|}{a}>");
  EXPECT_EQ(chat::Fill("plain", {}), "plain");
  EXPECT_EQ(chat::Fill("{x}", {""}), "");
}

TEST(Markers, FindFirst) {
  const auto find = [](std::string_view text, size_t from) { return FindFirst(text, from, {"abc", "b", "bcd"}); };
  EXPECT_EQ(find("xxabcd", 0).at, 2u);
  EXPECT_EQ(find("xxabcd", 0).which, 0u);
  EXPECT_EQ(find("xxabcd", 0).end, 5u);
  EXPECT_EQ(find("xxabcd", 3).which, 1u);  // the first in the list, not the longest
  EXPECT_FALSE(find("xxabcd", 4).found());
  EXPECT_FALSE(find("", 0).found());
  EXPECT_FALSE(find("ab", 7).found());
}

TEST(Markers, UnfinishedTail) {
  EXPECT_EQ(UnfinishedTail("xa", {"abc"}), 1u);
  EXPECT_EQ(UnfinishedTail("xab", {"abc", "b_"}), 2u);
  EXPECT_EQ(UnfinishedTail("xab", {"b_", "abc"}), 2u);
  EXPECT_EQ(UnfinishedTail("abc", {"abc"}), 0u);
  EXPECT_EQ(UnfinishedTail("x\n", {"\n\n<"}), 1u);
  EXPECT_EQ(UnfinishedTail("x\n\n\n", {"\n\n<"}), 2u);
  EXPECT_EQ(UnfinishedTail("", {"abc"}), 0u);
}

}  // namespace
}  // namespace vexil
