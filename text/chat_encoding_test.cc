#include "text/chat_encoding.h"

#include <gtest/gtest.h>

#include "text/chat_test_data.h"

namespace vexil {
namespace {

const EncodeOptions kChat;

// ---- the official vectors and the project's own ----------------------------------------------------------

TEST(OfficialVectors, Encode) {
  for (int i = 1; i <= 4; ++i) {
    const std::string number = std::to_string(i);
    const EncodeOptions options{.thinking_mode = i == 4 ? ThinkingMode::kChat : ThinkingMode::kThinking};
    const auto prompt = EncodeDocument(ChatFileJson("test_input_" + number + ".json"), options);
    EXPECT_EQ(TextOrError(prompt), ChatFileText("test_output_" + number + ".txt")) << i;
  }
}

TEST(ExtraVectors, Encode) {
  const Json cases = ChatFileJson("extra_encode_cases.json");
  ASSERT_EQ(cases.array()->size(), 58u);
  for (const Json& c : *cases.array()) {
    for (EffortTable table : {EffortTable::kApril, EffortTable::k0731}) {
      const Json* want = c.Find(table == EffortTable::kApril ? "april" : "0731");
      if (want->is_string()) want = c.Find("april");  // "same"
      const std::string name = *c.Find("name")->string() + (table == EffortTable::kApril ? " april" : " 0731");
      const auto options = ReadEncodeOptions(*c.Find("args"), table);
      ASSERT_TRUE(options.ok()) << name << ": " << options.status().message();
      const auto prompt = EncodeMessages(*c.Find("messages"), *options);
      if (const Json* text = want->Find("prompt")) {
        EXPECT_EQ(TextOrError(prompt), *text->string()) << name;
      } else {
        EXPECT_FALSE(prompt.ok()) << name << ": " << *prompt;
      }
    }
  }
}

// ---- dropping reasoning, context (sections 5 and 6) ------------------------------------------------------

constexpr std::string_view kTwoTurns = R"([{"role":"user","content":"a"},
    {"role":"assistant","content":"b","reasoning_content":"r"},{"role":"user","content":"c"}])";

TEST(Drop, KeepsReasoningOnRequest) {
  EncodeOptions options = Thinking();
  options.drop_thinking = false;
  EXPECT_EQ(Plain(kTwoTurns, options),
            "<|User|>a<|Assistant|><think>r</think>b<|end_of_sentence|><|User|>c<|Assistant|><think>");
}

TEST(Drop, NeverWhileAnyMessageHasTools) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning_content":"r"},
                      {"role":"user","content":"c"},{"role":"assistant","content":"d","tools":[{"function":{}}]}])",
                  Thinking()),
            "<|User|>a<|Assistant|><think>r</think>b<|end_of_sentence|><|User|>c<|Assistant|><think></think>d"
            "<|end_of_sentence|>");
}

TEST(Drop, EmptyToolsDoNotCount) {
  EXPECT_EQ(Plain(R"([{"role":"system","content":"","tools":[]},{"role":"user","content":"a"},
                      {"role":"assistant","content":"b","reasoning_content":"r"},{"role":"user","content":"c"}])",
                  Thinking()),
            "<|User|>a<|Assistant|></think>b<|end_of_sentence|><|User|>c<|Assistant|><think>");
}

TEST(Drop, KeepsSystemAndReminderOfEarlierTurns) {
  EXPECT_EQ(Plain(R"([{"role":"system","content":"s"},{"role":"latest_reminder","content":"n"},
                      {"role":"user","content":"a"},{"role":"assistant","content":"b"},
                      {"role":"system","content":"t"},{"role":"developer","content":"d"}])",
                  Thinking()),
            "s<|latest_reminder|>n<|User|>a<|Assistant|></think>b<|end_of_sentence|>t<|User|>d<|Assistant|><think>");
}

TEST(Drop, UnknownRolesBeforeTheLastUserTurnVanish) {
  const char* messages = R"([{"role":"critic","content":"x"},{"role":"user","content":"a"}])";
  EXPECT_EQ(Plain(messages, Thinking()), "<|User|>a<|Assistant|><think>");
  EXPECT_EQ(Plain(messages), "error: messages[0].role: \"critic\" cannot be encoded");
  EXPECT_EQ(Plain(R"([{"role":"direct_search_results","content":"x"},{"role":"user","content":"a"}])", Thinking()),
            "error: messages[0].role: \"direct_search_results\" cannot be encoded");
}

TEST(Drop, WithoutAUserTurnNothingIsDropped) {
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"a","reasoning_content":"r"},
                      {"role":"assistant","content":"b","reasoning_content":"q"}])",
                  Thinking()),
            "r</think>a<|end_of_sentence|>q</think>b<|end_of_sentence|>");
}

TEST(Context, IsNotEncodedAgainAndTakesTheStartToken) {
  EncodeOptions options;
  options.context = ParsedJson(kTwoTurns);
  EXPECT_EQ(Encode(R"([{"role":"assistant","content":"d"}])", options), "d" + std::string(chat::kEos));
  EXPECT_EQ(Encode("[]", options), "");
  EXPECT_EQ(Encode("[]", kChat), chat::kBos);
}

TEST(Context, DecidesWhatIsDropped) {
  EncodeOptions options = Thinking();
  options.context = ParsedJson(R"([{"role":"user","content":"a"}])");
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"b","reasoning_content":"r"},{"role":"user","content":"c"},
                      {"role":"assistant","content":"d","reasoning_content":"q"}])",
                  options),
            "b<|end_of_sentence|><|User|>c<|Assistant|><think>q</think>d<|end_of_sentence|>");
  // User messages on both sides of the border are two turns.
  EXPECT_EQ(Plain(R"([{"role":"user","content":"c"}])", options), "<|User|>c<|Assistant|><think>");
}

// The reference counts what it renders after dropping: a developer message that leaves the context shortens it.
TEST(Context, DroppedDeveloperMessageShortensTheRest) {
  EncodeOptions options = Thinking();
  options.context = ParsedJson(R"([{"role":"developer","content":"d"}])");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"}])", options), "");
  options.context = ParsedJson(R"([{"role":"developer","content":"d"},{"role":"other","content":"o"}])");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"}])", options), "");
}

TEST(Context, DeveloperMessageThatItLosesAnywayIsNotCounted) {
  EncodeOptions options = Thinking();
  options.context = ParsedJson(R"([{"role":"developer","content":"d"},{"role":"user","content":"a"},
                                   {"role":"assistant","content":"b"}])");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"c"}])", options), "<|User|>c<|Assistant|><think>");
}

TEST(Context, HasNoEffortPrefix) {
  EncodeOptions options = Thinking();
  options.reasoning_effort = "max";
  options.context = ParsedJson(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"c"}])", options), "<|User|>c<|Assistant|><think>");
}

// ---- rendering (section 7) -------------------------------------------------------------------------------

TEST(Render, SystemParts) {
  EXPECT_EQ(Plain(R"([{"role":"system","content":null}])"), "");
  EXPECT_EQ(Plain(R"([{"role":"system"}])"), "");
  EXPECT_EQ(Plain(R"([{"role":"system","response_format":{"a":1.50}}])"),
            "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n{\"a\": 1.5}");
  EXPECT_EQ(Plain(R"([{"role":"system","content":"s","response_format":{}}])"), "s");
  EXPECT_EQ(Plain(R"([{"role":"system","content":"s","response_format":null,"tools":null}])"), "s");
}

TEST(Render, ToolsAreOneLineEachBeforeTheFormat) {
  const std::string text = Plain(R"([{"role":"developer","content":"d","response_format":{"x":[]},
      "tools":[{"type":"function","function":{"name":"f","n":1e2}},{"function":{"name":"g","é":"{tool_schemas}"}}]}])");
  EXPECT_TRUE(text.starts_with("<|User|>d\n\n## Tools\n\nYou have access"));
  EXPECT_NE(text.find("\n\n{\"name\": \"f\", \"n\": 100.0}\n{\"name\": \"g\", \"é\": \"{tool_schemas}\"}\n\nYou MUST"),
            text.npos);
  EXPECT_TRUE(
      text.ends_with("invoke tool calls.\n\n\n## Response Format:\n\nYou MUST strictly adhere to the following "
                     "schema to reply:\n{\"x\": []}<|Assistant|></think>"));
}

TEST(Render, DeveloperNeedsContent) {
  for (const char* content : {"", "\"content\":\"\",", "\"content\":null,", "\"content\":[],"}) {
    EXPECT_EQ(Plain(std::string("[{\"role\":\"user\",\"content\":\"u\"},{") + content + "\"role\":\"developer\"}]"),
              "error: messages[1].content: expected text in a developer message, found none");
  }
}

TEST(Render, ContentListsAreFlattened) {
  const char* parts = R"([{"type":"text","text":"x"},{"type":"image_url","image_url":{}},{"type":"text"}])";
  const std::string flat = "x\n\n[Unsupported image_url]\n\n";
  const auto with = [&](std::string role) { return Plain("[{\"role\":\"" + role + "\",\"content\":" + parts + "}]"); };
  EXPECT_EQ(with("user"), "<|User|>" + flat + "<|Assistant|></think>");
  EXPECT_EQ(with("tool"), "<|User|><tool_result>" + flat + "</tool_result><|Assistant|></think>");
  EXPECT_EQ(with("system"), flat);
  EXPECT_EQ(with("assistant"), flat + "<|end_of_sentence|>");
  EXPECT_EQ(with("developer"), "<|User|>" + flat + "<|Assistant|></think>");
}

TEST(Render, NullContentIsEmpty) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":null}])"), "<|User|><|Assistant|></think>");
  EXPECT_EQ(Plain(R"([{"role":"user"}])"), "<|User|><|Assistant|></think>");
  EXPECT_EQ(Plain(R"([{"role":"tool","content":null}])"), "<|User|><tool_result></tool_result><|Assistant|></think>");
  EXPECT_EQ(Plain(R"([{"role":"assistant"}])"), "<|end_of_sentence|>");
  EXPECT_EQ(Plain(R"([{"role":"latest_reminder","content":null}])"), "<|latest_reminder|>None");
}

TEST(Render, AssistantReasoning) {
  const char* messages = R"([{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning_content":null},
                             {"role":"assistant","content":"b","reasoning_content":"r"}])";
  EXPECT_EQ(Plain(messages, Thinking()),
            "<|User|>q<|Assistant|><think></think>a<|end_of_sentence|>r</think>b<|end_of_sentence|>");
  EXPECT_EQ(Plain(messages), "<|User|>q<|Assistant|></think>a<|end_of_sentence|>b<|end_of_sentence|>");
}

TEST(Render, AnswersToTasksHaveNoReasoning) {
  EncodeOptions options = Thinking();
  options.drop_thinking = false;
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q","task":"query"},
                      {"role":"assistant","content":"a","reasoning_content":"r"},
                      {"role":"assistant","content":"b","reasoning_content":"s"}])",
                  options),
            "<|User|>q<|query|>a<|end_of_sentence|>s</think>b<|end_of_sentence|>");
}

TEST(Render, EndTokenIsLeftOutOnRequest) {
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"a","wo_eos":true}])"), "a");
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"a","wo_eos":false}])"), "a<|end_of_sentence|>");
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"a","wo_eos":null}])"), "a<|end_of_sentence|>");
}

// ---- transitions (section 8) -----------------------------------------------------------------------------

TEST(Transition, EveryTask) {
  for (const chat::Task& task : chat::kTasks) {
    const std::string messages = "[{\"role\":\"user\",\"content\":\"q\",\"task\":\"" + std::string(task.name) + "\"}]";
    const std::string token = "<|" + std::string(task.name) + "|>";
    const bool action = task.name == "action";
    EXPECT_EQ(Plain(messages), "<|User|>q" + (action ? "<|Assistant|></think>" + token : token));
    EXPECT_EQ(Plain(messages, Thinking()), "<|User|>q" + (action ? "<|Assistant|><think>" + token : token));
  }
}

TEST(Transition, UnknownTaskIsAnErrorWhereItWouldBeWritten) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q","task":"sing"}])"),
            "error: messages[0].task: expected action, query, authority, domain, title or read_url, found \"sing\"");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q","task":""}])"),
            "error: messages[0].task: expected action, query, authority, domain, title or read_url, found \"\"");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q","task":"sing"},{"role":"system","content":"s"}])"), "<|User|>qs");
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q","task":null}])"), "<|User|>q<|Assistant|></think>");
}

TEST(Transition, OnlyBeforeAnAssistantOrAReminder) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"q"},{"role":"developer","content":"d"},
                      {"role":"latest_reminder","content":"n"},{"role":"assistant","content":"a"},
                      {"role":"latest_reminder","content":"m"}])"),
            "<|User|>q<|User|>d<|Assistant|></think><|latest_reminder|>na<|end_of_sentence|><|latest_reminder|>m");
}

TEST(Transition, ReasoningOpensOnlyInTheLastTurn) {
  EXPECT_EQ(Plain(R"([{"role":"user","content":"a"},{"role":"latest_reminder","content":"n"},
                      {"role":"user","content":"b"},{"role":"latest_reminder","content":"m"}])",
                  Thinking()),
            "<|User|>a<|Assistant|></think><|latest_reminder|>n<|User|>b<|Assistant|><think><|latest_reminder|>m");
}

// ---- tool calls (section 9) ------------------------------------------------------------------------------

std::string Call(std::string_view function) {
  const std::string text = Plain(R"([{"role":"assistant","content":"x","wo_eos":true,"tool_calls":[{"function":)" +
                                 std::string(function) + "}]}]");
  constexpr std::string_view kStart = "x\n\n<|DSML|tool_calls>\n", kEnd = "\n</|DSML|tool_calls>";
  if (!text.starts_with(kStart) || !text.ends_with(kEnd)) return text;
  return text.substr(kStart.size(), text.size() - kStart.size() - kEnd.size());
}

TEST(ToolCalls, ArgumentsBecomeParameters) {
  EXPECT_EQ(Call(R"({"name":"f","arguments":"{\"s\": \"a\\n\\\"b\\\"\", \"n\": 1E2, \"o\": {\"k\":[1,null]}}"})"),
            "<|DSML|invoke name=\"f\">\n"
            "<|DSML|parameter name=\"s\" string=\"true\">a\n\"b\"</|DSML|parameter>\n"
            "<|DSML|parameter name=\"n\" string=\"false\">100.0</|DSML|parameter>\n"
            "<|DSML|parameter name=\"o\" string=\"false\">{\"k\": [1, null]}</|DSML|parameter>\n"
            "</|DSML|invoke>");
}

TEST(ToolCalls, EmptyArgumentsLeaveAnEmptyLine) {
  EXPECT_EQ(Call(R"({"name":"f","arguments":" { } "})"), "<|DSML|invoke name=\"f\">\n\n</|DSML|invoke>");
}

TEST(ToolCalls, RepeatedMembersAndNanAreAcceptedAsInPython) {
  EXPECT_EQ(Call(R"({"name":"f","arguments":"{\"a\":1,\"b\":NaN,\"a\":\"2\"}"})"),
            "<|DSML|invoke name=\"f\">\n"
            "<|DSML|parameter name=\"a\" string=\"true\">2</|DSML|parameter>\n"
            "<|DSML|parameter name=\"b\" string=\"false\">NaN</|DSML|parameter>\n"
            "</|DSML|invoke>");
}

TEST(ToolCalls, ArgumentsThatAreNoJsonTextAreOneParameter) {
  const auto one = [](std::string_view is_string, std::string_view value) {
    return "<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"arguments\" string=\"" + std::string(is_string) + "\">" +
           std::string(value) + "</|DSML|parameter>\n</|DSML|invoke>";
  };
  EXPECT_EQ(Call(R"({"name":"f","arguments":"{\"a\":"})"), one("true", "{\"a\":"));
  EXPECT_EQ(Call(R"({"name":"f","arguments":""})"), one("true", ""));
  EXPECT_EQ(Call(R"({"name":"f","arguments":{"a":1}})"), one("false", "{\"a\": 1}"));
  EXPECT_EQ(Call(R"({"name":"f","arguments":null})"), one("false", "null"));
}

TEST(ToolCalls, JsonTextOfAnythingButAnObjectIsAnError) {
  const std::pair<const char*, const char*> cases[] = {
      {"[1]", "array"}, {"3", "number"}, {"null", "null"}, {"true", "boolean"}, {"\\\"s\\\"", "string"}};
  for (const auto& [text, type] : cases) {
    EXPECT_EQ(Call("{\"name\":\"f\",\"arguments\":\"" + std::string(text) + "\"}"),
              "error: messages[0].tool_calls[0].function.arguments: expected the text of a JSON object, found " +
                  std::string(type));
  }
}

TEST(ToolCalls, SeveralCallsFollowWithoutEmptyLine) {
  EXPECT_EQ(Plain(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}},
                      {"function":{"name":"g","arguments":"{}"}}]}])"),
            "\n\n<|DSML|tool_calls>\n<|DSML|invoke name=\"f\">\n\n</|DSML|invoke>\n"
            "<|DSML|invoke name=\"g\">\n\n</|DSML|invoke>\n</|DSML|tool_calls><|end_of_sentence|>");
  EXPECT_EQ(Plain(R"([{"role":"assistant","content":"a","tool_calls":[]},
                      {"role":"assistant","content":"b","tool_calls":null}])"),
            "a<|end_of_sentence|>b<|end_of_sentence|>");
}

// ---- reasoning effort (section 11) -----------------------------------------------------------------------

TEST(Effort, Tables) {
  const std::string a(chat::kEffortAbsoluteMaximum), b(chat::kEffortBeyondMaximum);
  struct Case {
    std::optional<std::string> value;
    std::optional<std::string> april, v0731;  // nullopt: an error
  };
  const Case cases[] = {
      {std::nullopt, "", ""},
      {"", std::nullopt, ""},
      {"low", std::nullopt, ""},
      {"high", "", a},
      {"max", a, b},
      {"medium", std::nullopt, std::nullopt},
      {"MAX", std::nullopt, std::nullopt},
  };
  for (const Case& c : cases) {
    for (EffortTable table : {EffortTable::kApril, EffortTable::k0731}) {
      const auto& prefix = table == EffortTable::kApril ? c.april : c.v0731;
      EncodeOptions options = Thinking();
      options.effort_table = table;
      options.reasoning_effort = c.value;
      const std::string messages = R"([{"role":"system","content":"s"}])";
      const std::string thinking = Encode(messages, options);
      options.thinking_mode = ThinkingMode::kChat;
      const std::string chat = Encode(messages, options);
      if (prefix) {
        EXPECT_EQ(thinking, std::string(chat::kBos) + *prefix + "s") << c.value.value_or("null");
        EXPECT_EQ(chat, std::string(chat::kBos) + "s") << c.value.value_or("null");
      } else {
        EXPECT_TRUE(thinking.starts_with("error: reasoning_effort: expected ")) << thinking;
        EXPECT_EQ(chat, thinking);
      }
    }
  }
}

TEST(Effort, ErrorNamesTheChoices) {
  EncodeOptions options;
  options.reasoning_effort = "low";
  EXPECT_EQ(Encode("[]", options), "error: reasoning_effort: expected \"high\", \"max\" or null, found \"low\"");
}

// ---- options and documents -------------------------------------------------------------------------------

TEST(ReadEncodeOptions, EveryMember) {
  const auto options = ReadEncodeOptions(ParsedJson(R"({"thinking_mode":"thinking","reasoning_effort":"max",
      "drop_thinking":false,"add_default_bos_token":false,"context":[{"role":"user"}]})"),
                                         EffortTable::k0731);
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->thinking_mode, ThinkingMode::kThinking);
  EXPECT_EQ(options->reasoning_effort, "max");
  EXPECT_FALSE(options->drop_thinking);
  EXPECT_FALSE(options->add_default_bos_token);
  EXPECT_EQ(options->effort_table, EffortTable::k0731);
  EXPECT_EQ(options->context.array()->size(), 1u);
}

TEST(ReadEncodeOptions, Defaults) {
  const auto options =
      ReadEncodeOptions(ParsedJson(R"({"thinking_mode":"chat","context":null,"reasoning_effort":null})"));
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->thinking_mode, ThinkingMode::kChat);
  EXPECT_EQ(options->reasoning_effort, std::nullopt);
  EXPECT_TRUE(options->drop_thinking);
  EXPECT_TRUE(options->add_default_bos_token);
  EXPECT_EQ(options->effort_table, EffortTable::kApril);
  EXPECT_TRUE(options->context.array()->empty());
}

TEST(ReadEncodeOptions, Errors) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "options: expected an object, found array"},
      {"{}", "thinking_mode: expected \"chat\" or \"thinking\", found nothing"},
      {R"({"thinking_mode":"Chat"})", "thinking_mode: expected \"chat\" or \"thinking\", found \"Chat\""},
      {R"({"thinking_mode":1})", "thinking_mode: expected \"chat\" or \"thinking\", found number"},
      {R"({"thinking_mode":"chat","reasoning_effort":1})", "reasoning_effort: expected a string or null, found number"},
      {R"({"thinking_mode":"chat","drop_thinking":"no"})", "drop_thinking: expected true or false, found string"},
      {R"({"thinking_mode":"chat","add_default_bos_token":0})",
       "add_default_bos_token: expected true or false, found number"},
      {R"({"thinking_mode":"chat","effort":"max"})", "unknown option \"effort\""},
  };
  for (const auto& [args, error] : cases) {
    const auto options = ReadEncodeOptions(ParsedJson(args));
    ASSERT_FALSE(options.ok()) << args;
    EXPECT_EQ(options.status().message(), error);
    EXPECT_EQ(options.status().code(), Code::kInvalidArgument);
  }
}

TEST(EncodeDocument, ToolsBelongToTheFirstMessage) {
  const char* tools = R"([{"function":{"name":"f"}}])";
  const std::string document =
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}],"tools":)" + std::string(tools) +
      "}";
  EXPECT_EQ(
      TextOrError(EncodeDocument(ParsedJson(document), kChat)),
      Encode(R"([{"role":"system","content":"s","tools":)" + std::string(tools) + R"(},{"role":"user","content":"q"}])",
             kChat));
  const std::string without = Encode(R"([{"role":"user","content":"q"}])", kChat);
  for (const char* text : {R"([{"role":"user","content":"q"}])", R"({"messages":[{"role":"user","content":"q"}]})",
                           R"({"messages":[{"role":"user","content":"q"}],"tools":null})",
                           R"({"messages":[{"role":"user","content":"q"}],"tools":[]})"}) {
    EXPECT_EQ(TextOrError(EncodeDocument(ParsedJson(text), kChat)), without) << text;
  }
}

TEST(EncodeDocument, Errors) {
  const std::pair<const char*, const char*> cases[] = {
      {"3", "messages: expected a list, found number"},
      {"{}", "messages: expected a list, found nothing"},
      {R"({"messages":5,"tools":[1]})", "messages: expected a list, found number"},
      {R"({"messages":[],"model":"x"})", "unknown member \"model\", expected messages and tools"},
      {R"({"messages":[{"role":"user"}],"tools":[{"function":{}}]})",
       "messages[0].role: expected system or developer in a conversation with tools"},
      {R"({"messages":["x"],"tools":[{"function":{}}]})",
       "messages[0].role: expected system or developer in a conversation with tools"},
      {R"({"messages":[{"role":"system","tools":[]}],"tools":[{"function":{}}]})",
       "messages[0].tools: the document has tools as well"},
      {R"({"messages":[{"role":"system"}],"tools":{"function":{}}})",
       "messages[0].tools: expected a list, found object"},
  };
  for (const auto& [document, error] : cases) {
    EXPECT_EQ(TextOrError(EncodeDocument(ParsedJson(document), kChat)), "error: " + std::string(error)) << document;
  }
}

}  // namespace
}  // namespace vexil
