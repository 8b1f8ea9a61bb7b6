#include "text/chat_parser.h"

#include <gtest/gtest.h>

#include "text/chat_encoding.h"
#include "text/chat_test_data.h"

namespace vexil {
namespace {

// `text` is written with "|" for U+FF5C; the end token is appended unless told otherwise.
Result<ParsedMessage> Parse(std::string_view text, ThinkingMode mode = ThinkingMode::kChat, bool eos = true) {
  return ParseCompletion(Dsml(text) + (eos ? std::string(chat::kEos) : ""), mode);
}
std::string ErrorOf(std::string_view text, ThinkingMode mode = ThinkingMode::kChat, bool eos = true) {
  const auto message = Parse(text, mode, eos);
  return message.ok() ? "parsed: " + ToJson(*message).ToText() : std::string(message.status().message());
}

// The calls of a block with this body as "name(arguments)", or the error. The body follows the opening tag.
std::string Calls(std::string_view body, bool eos = true) {
  const auto message = Parse("\n\n<|DSML|tool_calls" + std::string(body), ThinkingMode::kChat, eos);
  if (!message.ok()) return std::string(message.status().message());
  std::string out;
  for (const ToolCall& call : message->tool_calls) out += call.name + "(" + call.arguments + ")";
  return out;
}
// A block with one call "f" and this text between its tags.
std::string OneCall(std::string_view body) {
  return Calls(">\n<|DSML|invoke name=\"f\">\n" + std::string(body) + "</|DSML|invoke>\n</|DSML|tool_calls>");
}

TEST(ParseCompletion, ExtraVectors) {
  const Json cases = ChatFileJson("extra_parse_cases.json");
  ASSERT_EQ(cases.array()->size(), 16u);
  for (const Json& c : *cases.array()) {
    const std::string& name = *c.Find("name")->string();
    const auto message = ParseCompletion(*c.Find("text")->string(), ModeNamed(*c.Find("thinking_mode")->string()));
    if (const Json* want = c.Find("message")) {
      ASSERT_TRUE(message.ok()) << name << ": " << message.status().message();
      EXPECT_EQ(ToJson(*message).ToText(), want->ToText()) << name;
    } else {
      EXPECT_FALSE(message.ok()) << name;
    }
  }
}

// Case 1 parses its own assistant turns back.
TEST(ParseCompletion, OfficialTurns) {
  const std::string prompt = ChatFileText("test_output_1.txt");
  const std::string open = std::string(chat::kAssistant) + std::string(chat::kThinkStart);
  std::vector<ParsedMessage> turns;
  for (size_t at = 0; (at = prompt.find(open, at)) != prompt.npos;) {
    at += open.size();
    const size_t end = prompt.find(chat::kEos, at) + chat::kEos.size();
    const auto message = ParseCompletion(prompt.substr(at, end - at), ThinkingMode::kThinking);
    ASSERT_TRUE(message.ok()) << message.status().message();
    turns.push_back(*message);
  }
  const Json document = ChatFileJson("test_input_1.json");
  size_t next = 0;
  for (const Json& m : *document.Find("messages")->array()) {
    if (*m.Find("role")->string() != "assistant") continue;
    ASSERT_LT(next, turns.size());
    const ParsedMessage& turn = turns[next++];
    EXPECT_EQ(turn.content, m.Find("content") ? *m.Find("content")->string() : "");
    EXPECT_EQ(turn.reasoning_content, *m.Find("reasoning_content")->string());
    const Json* calls = m.Find("tool_calls");
    ASSERT_EQ(turn.tool_calls.size(), calls ? calls->array()->size() : 0);
    for (size_t i = 0; i < turn.tool_calls.size(); ++i) {
      const Json& function = *(*calls->array())[i].Find("function");
      EXPECT_EQ(turn.tool_calls[i].name, *function.Find("name")->string());
      EXPECT_EQ(turn.tool_calls[i].arguments, *function.Find("arguments")->string());
    }
  }
  EXPECT_EQ(next, turns.size());
}

TEST(ParseCompletion, Reasoning) {
  const auto message = Parse("a\n\nb</think>\n\nc", ThinkingMode::kThinking);
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->reasoning_content, "a\n\nb");
  EXPECT_EQ(message->content, "\n\nc");
  const char* missing = "completion: </think> is missing at the end of the reasoning";
  EXPECT_EQ(ErrorOf("abc", ThinkingMode::kThinking), missing);
  EXPECT_EQ(ErrorOf("", ThinkingMode::kThinking), missing);
  EXPECT_EQ(ErrorOf("a\n\n<|DSML|tool_calls>\n</|DSML|tool_calls>b</think>", ThinkingMode::kThinking), missing);
}

TEST(ParseCompletion, EndToken) {
  EXPECT_EQ(ErrorOf("abc", ThinkingMode::kChat, false), "completion: <｜end▁of▁sentence｜> is missing at the end");
  EXPECT_EQ(ErrorOf("r</think>abc", ThinkingMode::kThinking, false),
            "completion: <｜end▁of▁sentence｜> is missing at the end");
  EXPECT_EQ(ErrorOf(std::string(chat::kEos) + "x"), "completion: text after <｜end▁of▁sentence｜>");
}

TEST(ParseCompletion, SpecialTokensInText) {
  for (std::string_view token : {chat::kBos, chat::kThinkStart, chat::kThinkEnd, chat::kDsml}) {
    EXPECT_EQ(ErrorOf("a" + std::string(token)),
              "completion: the special token " + std::string(token) + " is in the content");
  }
  for (std::string_view token : {chat::kBos, chat::kEos, chat::kThinkStart, chat::kDsml}) {
    EXPECT_EQ(ErrorOf("a" + std::string(token) + "</think>b", ThinkingMode::kThinking),
              "completion: the special token " + std::string(token) + " is in the reasoning");
  }
  // A tool call's value may hold them.
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\"></think><|DSML|x</|DSML|parameter>\n"),
            Dsml("f({\"a\": \"</think><|DSML|x\"})"));
}

TEST(ParseCompletion, TheTwoLineFeedsBelongToTheBlock) {
  const auto message = Parse("a\n\n\n<|DSML|tool_calls>\n</|DSML|tool_calls>");
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->content, "a\n");
  EXPECT_TRUE(message->tool_calls.empty());
  EXPECT_EQ(ErrorOf("<|DSML|tool_calls>\n</|DSML|tool_calls>"),
            "completion: the special token ｜DSML｜ is in the content");
}

// ---- well-formed blocks ----------------------------------------------------------------------------------

TEST(Block, Parameters) {
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\">x</|DSML|parameter>\n"
                    "<|DSML|parameter name=\"b\" string=\"false\">{\"c\":  1}</|DSML|parameter>\n"),
            "f({\"a\": \"x\", \"b\": {\"c\":  1}})");
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"\" string=\"true\"></|DSML|parameter>\n"), "f({\"\": \"\"})");
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"q\"k\" string=\"false\"></|DSML|parameter>\n"), "f({\"q\\\"k\": })");
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\">\n<b>\n\" string=\"false\"><</|DSML|parameter>\n"),
            "f({\"a\": \"\\n<b>\\n\\\" string=\\\"false\\\"><\"})");
}

TEST(Block, Names) {
  const auto named = [](std::string_view head) {
    return Calls(">\n<|DSML|invoke" + std::string(head) + "</|DSML|invoke>\n</|DSML|tool_calls>");
  };
  EXPECT_EQ(named(" name=\"f\">\n"), "f({})");
  EXPECT_EQ(named("name=\"f\">\n"), "f({})");
  EXPECT_EQ(named(" \t\n name=\"f\">\n"), "f({})");
  EXPECT_EQ(named(" name=\"f\">\n\n"), "f({})");  // as the encoder writes it
  EXPECT_EQ(named(" name=\"\">\n"), "({})");
  EXPECT_EQ(named(" name=\"a\">\nb\">\n"), "a\">\nb({})");
}

TEST(Block, ParametersOfSeveralCallsAreApart) {
  const std::string call =
      "<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" string=\"false\">1</|DSML|parameter>\n"
      "</|DSML|invoke>\n";
  EXPECT_EQ(Calls(">\n" + call + call + "</|DSML|tool_calls>"), "f({\"a\": 1})f({\"a\": 1})");
}

TEST(Block, EndTagInAValueDoesNotEndTheBlock) {
  EXPECT_EQ(
      OneCall("<|DSML|parameter name=\"a\" string=\"true\"></|DSML|invoke>\n</|DSML|tool_calls></|DSML|parameter>\n"),
      Dsml("f({\"a\": \"</|DSML|invoke>\\n</|DSML|tool_calls>\"})"));
}

TEST(Block, TextMayEndInsideWithoutTheEndToken) {
  EXPECT_EQ(Calls("", false), "");
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n", false), "f({})");
  const std::string open = ">\n<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" string=\"false\">1";
  EXPECT_EQ(Calls(open + "</|DSML|parameter>\n", false), "f({\"a\": 1})");
  EXPECT_EQ(Calls(open + "</|DSML|parameter>\n</|DSML|invoke", false), "f({\"a\": 1})");
  EXPECT_EQ(Calls(open + "</|DSML|parameter>\n</|DSML|invoke>\n</|DSML|tool_calls>", false), "f({\"a\": 1})");
}

// ---- malformed blocks ------------------------------------------------------------------------------------

TEST(MalformedBlock, Tags) {
  const std::string after = "tool calls: expected \">\\n\" after a tag, found ";
  EXPECT_EQ(Calls("</|DSML|tool_calls>"), after + "\"\"");
  EXPECT_EQ(Calls("></|DSML|tool_calls>"), after + "\">\"");
  EXPECT_EQ(Calls(" >\n</|DSML|tool_calls>"), after + "\" >\\n\"");
  EXPECT_EQ(Calls(">\r\n</|DSML|tool_calls>"), after + "\">\\r\\n\"");
  EXPECT_EQ(Calls(">\ntext\n<|DSML|invoke name=\"f\">\n</|DSML|invoke>\n</|DSML|tool_calls>"),
            after + "\">\\ntext\\n\"");
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n</|DSML|invoke></|DSML|tool_calls>"), after + "\">\"");
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\">x</|DSML|parameter>"), after + "\">\"");
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\">x</|DSML|parameter>\n\n"), after + "\">\\n\\n\"");
}

TEST(MalformedBlock, Ends) {
  const std::string end = "tool calls: expected a call or the end of the block, found ";
  EXPECT_EQ(Calls(">\n", false), end + "\">\\n\"");
  EXPECT_EQ(Calls(""), end + QuoteJson(chat::kEos));
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n</|DSML|invoke>\n", false), end + "\">\\n\"");
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n</|DSML|invoke>\n</|DSML|tool_calls", false),
            end + Dsml("\">\\n</|DSML|tool_calls\""));
  EXPECT_EQ(Calls(">\n</|DSML|tool_calls>\n"), "completion: text after the tool calls");
  EXPECT_EQ(Calls(">\n</|DSML|tool_calls>" + std::string(chat::kEos)), "completion: text after the tool calls");
}

TEST(MalformedBlock, Names) {
  const std::string name = "tool calls: expected name=\"...\"> and a line feed after an invoke tag, found ";
  const auto named = [](std::string_view head) {
    return Calls(">\n<|DSML|invoke" + std::string(head) + "</|DSML|invoke>\n</|DSML|tool_calls>");
  };
  for (const char* head : {"", ">\n", " \n", " name=f>\n", " name='f'>\n", " name=\"f>\n", " name=\"f\">",
                           " name=\"f\"\n", " name=\"f\">\n\n\n", " name=\"f\">\nx", " id=\"f\">\n", " name=\">\n"}) {
    EXPECT_EQ(named(head), name + QuoteJson(head)) << head;
  }
  EXPECT_EQ(Calls(">\n<|DSML|invoke", false), name + "\"\"");
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n"), name + QuoteJson(" name=\"f\">\n" + std::string(chat::kEos)));
}

TEST(MalformedBlock, Parameters) {
  const std::string form = "tool calls: expected name=\"...\" string=\"true|false\">...< after a parameter tag, found ";
  const auto parameter = [](std::string_view body) {
    return OneCall("<|DSML|parameter" + std::string(body) + "/|DSML|parameter>\n");
  };
  for (const char* body :
       {"", "<", ">x<", " name=\"a\">x<", " name=\"a\" string=\"yes\">x<", " name=\"a\" string=\"True\">x<",
        "name=\"a\" string=\"true\">x<", "  name=\"a\" string=\"true\">x<", " name=\"a\"  string=\"true\">x<",
        " name=a string=\"true\">x<", " string=\"true\" name=\"a\">x<", " name=\"a\" string=\"true\">x",
        " name=\"a\" string=\"true\">x<\n", " name=\"a\" string=\"true\">"}) {
    EXPECT_EQ(parameter(body), form + QuoteJson(body)) << body;
  }
  EXPECT_EQ(OneCall("<|DSML|parameter name=\"a\" string=\"true\">x</|DSML|parameter>\n"
                    "<|DSML|parameter name=\"a\" string=\"false\">2</|DSML|parameter>\n"),
            "tool calls: the parameter \"a\" of the call \"f\" is repeated");
  EXPECT_EQ(Calls(">\n<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" string=\"true\">x", false),
            "tool calls: expected the end of a parameter, found \" name=\\\"a\\\" string=\\\"true\\\">x\"");
}

TEST(MalformedBlock, LongTextsAreCutBetweenCharacters) {
  std::string text = "x";
  for (int i = 0; i < 30; ++i) text += "\xe2\x82\xac";
  EXPECT_EQ(Calls(text + "</|DSML|tool_calls>"),
            "tool calls: expected \">\\n\" after a tag, found " + QuoteJson(text.substr(0, 40)) + "...");
}

// Time linear in the text: either of these takes minutes otherwise.
TEST(MalformedBlock, LargeBlocks) {
  std::string body = ">\n";
  for (int i = 0; i < 20'000; ++i) body += "<|DSML|invoke name=\"f\">\n</|DSML|invoke>\n";
  EXPECT_EQ(Calls(body + "</|DSML|tool_calls>").size(), 20'000 * 5u);
  body = "";
  for (int i = 0; i < 20'000; ++i) {
    body += "<|DSML|parameter name=\"" + std::to_string(i) + "\" string=\"false\">0</|DSML|parameter>\n";
  }
  EXPECT_GT(OneCall(body).size(), 100'000u);
}

// ---- what the encoder writes, the parser reads -----------------------------------------------------------

class RoundTrip : public testing::Test {
 protected:
  uint32_t Below(uint32_t n) { return rng_() % n; }

  std::string Text() {
    const std::string_view parts[] = {"a",
                                      "b c",
                                      "\n",
                                      "\n\n",
                                      "<",
                                      ">",
                                      "</",
                                      "\"",
                                      "\\",
                                      "{x}",
                                      "\t",
                                      "\xc3\xa9",
                                      "\xe6\x97\xa5",
                                      "\xf0\x9f\x98\x80",
                                      "name=\"",
                                      "hink>",
                                      "\" string=\"",
                                      "|"};
    std::string s;
    for (uint32_t n = Below(8); n-- > 0;) s += parts[Below(std::size(parts))];
    return s;
  }
  Json Value(int depth) {
    switch (Below(depth > 0 ? 7 : 5)) {
      case 0:
        return Json();
      case 1:
        return Json(Below(2) == 0);
      case 2:
        return Json(int64_t(rng_()));
      case 3:
        return Json(double(rng_()) / 1024);
      case 4:
        return Json(Text());
      case 5: {
        Json::Array a;
        for (uint32_t n = Below(4); n-- > 0;) a.push_back(Value(depth - 1));
        return Json(std::move(a));
      }
      default:
        return Arguments(depth - 1);
    }
  }
  Json Arguments(int depth) {
    Json object{Json::Object()};
    for (uint32_t n = Below(4); n-- > 0;) object.Set("k" + std::to_string(Below(9)), Value(depth));
    return object;
  }
  ParsedMessage Message(bool thinking) {
    ParsedMessage m;
    m.content = Text();
    if (thinking) m.reasoning_content = Text();
    for (uint32_t n = Below(3); n-- > 0;) m.tool_calls.push_back({"f" + Text(), Arguments(2).ToPythonText()});
    return m;
  }

  std::mt19937 rng_{7};
};

TEST_F(RoundTrip, AssistantTurns) {
  for (int i = 0; i < 2000; ++i) {
    const ThinkingMode mode = i % 2 ? ThinkingMode::kThinking : ThinkingMode::kChat;
    const ParsedMessage message = Message(mode == ThinkingMode::kThinking);
    const Json user = Json::Object{{"role", "user"}, {"content", "q"}};
    const auto prompt = EncodeMessages(Json::Array{user}, {.thinking_mode = mode});
    const auto full = EncodeMessages(Json::Array{user, ToJson(message)}, {.thinking_mode = mode});
    ASSERT_TRUE(prompt.ok() && full.ok());
    ASSERT_TRUE(full->starts_with(*prompt));
    const auto parsed = ParseCompletion(full->substr(prompt->size()), mode);
    ASSERT_TRUE(parsed.ok()) << *full << "\n" << parsed.status().message();
    ASSERT_EQ(ToJson(*parsed).ToText(), ToJson(message).ToText()) << *full;
  }
}

}  // namespace
}  // namespace vexil
