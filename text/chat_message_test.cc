#include "text/chat_message.h"

#include <gtest/gtest.h>

#include "text/chat_test_data.h"

namespace vexil {
namespace {

// ---- merging (section 3) ---------------------------------------------------------------------------------

TEST(Merge, ToolResultsAndUserTextShareATurn) {
  EXPECT_EQ(Plain(R"([{"role":"tool","content":"r"},{"role":"user","content":"a"},{"role":"tool","content":"s"},
                      {"role":"user","content":"b"}])"),
            "<|User|><tool_result>r</tool_result>\n\na\n\n<tool_result>s</tool_result>\n\nb<|Assistant|></think>");
}

TEST(Merge, ToolResultsJoinATurnWithATask) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a","task":"title"},{"role":"tool","content":"r"}])"),
            "<|User|>a\n\n<tool_result>r</tool_result><|title|>");
}

TEST(Merge, UserTextDoesNotJoinATurnWithATask) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a","task":"title"},{"role":"user","content":"b"},
                      {"role":"user","content":"c"}])"),
            "<|User|>a<|User|>b\n\nc<|Assistant|></think>");
}

TEST(Merge, TaskOfAJoinedMessageIsLost) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"},{"role":"user","content":"b","task":"no such task"}])"),
            "<|User|>a\n\nb<|Assistant|></think>");
}

TEST(Merge, ToolsAndFormatsOfUserMessagesDisappear) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a","tools":[{"function":{"name":"f"}}],
                       "response_format":{"type":"json_object"},"content_blocks":[{"type":"text","text":"x"}]}])"),
            "<|User|>a<|Assistant|></think>");
  // They do not keep reasoning either.
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a","tools":[{"function":{"name":"f"}}]},
                      {"role":"assistant","content":"b","reasoning_content":"r"},{"role":"user","content":"c"}])",
                  Thinking()),
            "<|User|>a<|Assistant|></think>b<|end_of_sentence|><|User|>c<|Assistant|><think>");
}

// ---- order of tool results (section 4) -------------------------------------------------------------------

std::string Results(std::string_view calls, std::string_view rest) {
  const std::string text = Plain("[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" + std::string(calls) +
                                 "]}," + std::string(rest) + "]");
  return text.substr(text.find("<|User|>") + 8);
}
constexpr std::string_view kCallsAbc = R"({"id":"a","function":{"name":"f","arguments":"{}"}},
    {"id":"","function":{"id":"b","name":"f","arguments":"{}"}},{"id":"c","function":{"name":"f","arguments":"{}"}})";

TEST(SortResults, InTheOrderOfTheCallsAroundText) {
  EXPECT_EQ(Results(kCallsAbc, R"({"role":"tool","tool_call_id":"c","content":"3"},{"role":"user","content":"t"},
      {"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"})"),
            "<tool_result>1</tool_result>\n\nt\n\n<tool_result>2</tool_result>\n\n<tool_result>3</tool_result>"
            "<|Assistant|></think>");
}

TEST(SortResults, UnknownIdsCountAsTheFirstCallAndStayInOrder) {
  EXPECT_EQ(Results(kCallsAbc, R"({"role":"tool","tool_call_id":"b","content":"2"},
      {"role":"tool","tool_call_id":"x","content":"u"},{"role":"tool","content":"v"},
      {"role":"tool","tool_call_id":"a","content":"1"})"),
            "<tool_result>u</tool_result>\n\n<tool_result>v</tool_result>\n\n<tool_result>1</tool_result>\n\n"
            "<tool_result>2</tool_result><|Assistant|></think>");
}

TEST(SortResults, OnlyTheLastTurnWithCallsCounts) {
  EXPECT_EQ(Results(kCallsAbc, R"({"role":"assistant","content":"","tool_calls":[
        {"id":"z","function":{"name":"f","arguments":"{}"}},{"id":"y","function":{"name":"f","arguments":"{}"}}]},
      {"role":"assistant","content":""},
      {"role":"tool","tool_call_id":"y","content":"2"},{"role":"tool","tool_call_id":"z","content":"1"},
      {"role":"tool","tool_call_id":"b","content":"0"})"),
            "<tool_result>1</tool_result>\n\n<tool_result>0</tool_result>\n\n<tool_result>2</tool_result>"
            "<|Assistant|></think>");
}

TEST(SortResults, CallsWithoutIdsSortNothing) {
  EXPECT_EQ(Results(std::string(kCallsAbc) + "]},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":["
                                             "{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}",
                    R"({"role":"tool","tool_call_id":"b","content":"2"},
      {"role":"tool","tool_call_id":"a","content":"1"})"),
            "<tool_result>2</tool_result>\n\n<tool_result>1</tool_result><|Assistant|></think>");
}

TEST(SortResults, AnEmptyIdMatchesNoCall) {
  EXPECT_EQ(Results(R"({"id":"a","function":{"name":"f","arguments":"{}"}},{"function":{"name":"f","arguments":"{}"}})",
                    R"({"role":"tool","content":"x"},{"role":"tool","tool_call_id":"a","content":"1"})"),
            "<tool_result>x</tool_result>\n\n<tool_result>1</tool_result><|Assistant|></think>");
}

TEST(SortResults, CallsOfTheContextCount) {
  EncodeOptions options = Thinking();
  options.context = ParsedJson(R"([{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[
      {"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"f","arguments":"{}"}}]}])");
  EXPECT_EQ(Plain(R"([{"role":"tool","tool_call_id":"b","content":"2"},
                      {"role":"tool","tool_call_id":"a","content":"1"}])",
                  options),
            "<|User|><tool_result>1</tool_result>\n\n<tool_result>2</tool_result><|Assistant|><think>");
}

// ---- errors ----------------------------------------------------------------------------------------------

TEST(Errors, NameThePlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "messages: expected a list, found object"},
      {"null", "messages: expected a list, found null"},
      {"[1]", "messages[0]: expected an object, found number"},
      {R"([{"content":"x"}])", "messages[0].role: expected a string, found nothing"},
      {R"([{"role":5}])", "messages[0].role: expected a string, found number"},
      {R"([{"role":"user\n"}])", "messages[0].role: \"user\\n\" cannot be encoded"},
      {R"([{"role":"user","content":3}])", "messages[0].content: expected a string or a list of parts, found number"},
      {R"([{"role":"user","content":{}}])", "messages[0].content: expected a string or a list of parts, found object"},
      {R"([{"role":"user","content":["x"]}])", "messages[0].content[0]: expected an object, found string"},
      {R"([{"role":"user","content":[{"text":"x"}]}])",
       "messages[0].content[0].type: expected a string, found nothing"},
      {R"([{"role":"user","content":[{"type":"text","text":1}]}])",
       "messages[0].content[0].text: expected a string, found number"},
      {R"([{"role":"system","tools":{}}])", "messages[0].tools: expected a list, found object"},
      {R"([{"role":"system","tools":["f"]}])", "messages[0].tools[0]: expected an object, found string"},
      {R"([{"role":"system","tools":[{"function":{}},{"type":"function"}]}])",
       "messages[0].tools[1].function: expected an object, found nothing"},
      {R"([{"role":"system","response_format":"json"}])",
       "messages[0].response_format: expected an object, found string"},
      {R"([{"role":"user"},{"role":"assistant","tool_calls":"x"}])",
       "messages[1].tool_calls: expected a list, found string"},
      {R"([{"role":"assistant","tool_calls":[1]}])", "messages[0].tool_calls[0]: expected an object, found number"},
      {R"([{"role":"assistant","tool_calls":[{"name":"f"}]}])",
       "messages[0].tool_calls[0].function: expected an object, found nothing"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"arguments":"{}"}}]}])",
       "messages[0].tool_calls[0].function.name: expected a string, found nothing"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}])",
       "messages[0].tool_calls[0].function.arguments: expected the text of a JSON object, found nothing"},
      {R"([{"role":"assistant","tool_calls":[{"id":1,"function":{"name":"f","arguments":""}}]}])",
       "messages[0].tool_calls[0].id: expected a string, found number"},
      {R"([{"role":"assistant","reasoning_content":[]}])",
       "messages[0].reasoning_content: expected a string, found array"},
      {R"([{"role":"tool","tool_call_id":7}])", "messages[0].tool_call_id: expected a string, found number"},
      {R"([{"role":"user","task":true}])", "messages[0].task: expected a string, found boolean"},
      {R"([{"role":"assistant","wo_eos":1}])", "messages[0].wo_eos: expected true or false, found number"},
  };
  for (const auto& [messages, error] : cases) EXPECT_EQ(Plain(messages), "error: " + std::string(error)) << messages;
}

TEST(Errors, IndexIsThatOfTheCaller) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"tool","content":"c"},
                      {"role":"critic"}])"),
            "error: messages[3].role: \"critic\" cannot be encoded");
  EncodeOptions options;
  options.context = ParsedJson(R"([{"role":"user"},{}])");
  EXPECT_EQ(Plain("[]", options), "error: context[1].role: expected a string, found nothing");
  options.context = Json("x");
  EXPECT_EQ(Plain("[]", options), "error: context: expected a list, found string");
}

TEST(Errors, UnknownMembersAreIgnored) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a","name":"n","mask":1,"x":{}}])"), "<|User|>a<|Assistant|></think>");
}

}  // namespace
}  // namespace vexil
