#include "text/completion_stream.h"

#include <gtest/gtest.h>

#include "text/chat_test_data.h"

namespace vexil {
namespace {

constexpr ThinkingMode kChat = ThinkingMode::kChat, kThinking = ThinkingMode::kThinking;

// Events as "r:text", "c:text" and "t:name(arguments)...".
std::vector<std::string> Show(const std::vector<CompletionEvent>& events) {
  std::vector<std::string> out;
  for (const CompletionEvent& e : events) {
    if (e.kind == CompletionEvent::Kind::kToolCalls) {
      std::string s = "t:";
      for (const ToolCall& call : e.tool_calls) s += call.name + "(" + call.arguments + ")";
      out.push_back(s);
    } else {
      EXPECT_FALSE(e.text.empty());
      out.push_back((e.kind == CompletionEvent::Kind::kReasoning ? "r:" : "c:") + e.text);
    }
  }
  return out;
}
using Shown = std::vector<std::string>;

// Feeds pieces of `step` bytes; checks that the events add up to the message.
ParsedMessage Stream(std::string_view text, ThinkingMode mode, size_t step) {
  CompletionStream stream(mode);
  ParsedMessage sum;
  const auto add = [&](const std::vector<CompletionEvent>& events) {
    for (const CompletionEvent& e : events) {
      if (e.kind == CompletionEvent::Kind::kReasoning) sum.reasoning_content += e.text;
      if (e.kind == CompletionEvent::Kind::kContent) sum.content += e.text;
      sum.tool_calls.insert(sum.tool_calls.end(), e.tool_calls.begin(), e.tool_calls.end());
      EXPECT_EQ(ReplaceIllFormed(e.text), e.text);
    }
  };
  for (size_t i = 0; i < text.size(); i += step) add(stream.Feed(text.substr(i, step)));
  add(stream.Finish());
  EXPECT_EQ(sum, stream.message());
  return sum;
}
// The message however the text is cut.
ParsedMessage StreamEveryWay(std::string_view text, ThinkingMode mode) {
  const ParsedMessage whole = Stream(text, mode, std::max<size_t>(text.size(), 1));
  for (size_t step : {1, 2, 3, 5, 7, 16}) EXPECT_EQ(Stream(text, mode, step), whole) << text << " by " << step;
  return whole;
}

const std::string kEos(chat::kEos);
const std::string kBlock = Dsml(
    "\n\n<|DSML|tool_calls>\n<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" string=\"true\">x"
    "</|DSML|parameter>\n</|DSML|invoke>\n</|DSML|tool_calls>");
const std::vector<ToolCall> kBlockCalls = {{"f", "{\"a\": \"x\"}"}};

TEST(CompletionStream, EqualsTheParserOnEveryVectorItAccepts) {
  const Json cases = ChatFileJson("extra_parse_cases.json");
  int accepted = 0;
  for (const Json& c : *cases.array()) {
    const std::string& text = *c.Find("text")->string();
    const ThinkingMode mode = ModeNamed(*c.Find("thinking_mode")->string());
    const ParsedMessage streamed = StreamEveryWay(text, mode);
    const auto parsed = ParseCompletion(text, mode);
    if (!parsed.ok()) continue;
    EXPECT_EQ(streamed, *parsed) << *c.Find("name")->string();
    ++accepted;
  }
  EXPECT_GE(accepted, 9);
}

TEST(CompletionStream, EveryPrefixOfATurnEqualsTheParserWhereThatAccepts) {
  const std::string turn = "reason</think>answer" + kBlock + kEos;
  for (size_t n = 0; n <= turn.size(); ++n) {
    const std::string prefix = turn.substr(0, n);
    const auto parsed = ParseCompletion(prefix, kThinking);
    const ParsedMessage streamed = StreamEveryWay(prefix, kThinking);
    if (parsed.ok()) {
      EXPECT_EQ(streamed, *parsed) << prefix;
    }
  }
}

TEST(CompletionStream, ShowsTextAsSoonAsItCannotBeAMarker) {
  CompletionStream s(kThinking);
  EXPECT_EQ(Show(s.Feed("ab")), Shown{"r:ab"});
  EXPECT_EQ(Show(s.Feed("c</th")), Shown{"r:c"});
  EXPECT_EQ(Show(s.Feed("i")), Shown{});
  EXPECT_EQ(Show(s.Feed("x")), Shown{"r:</thix"});
  EXPECT_EQ(Show(s.Feed("d</think>e\n")), (Shown{"r:d", "c:e"}));
  EXPECT_EQ(Show(s.Feed("\n")), Shown{});
  EXPECT_EQ(Show(s.Feed("\n")), Shown{"c:\n"});
  EXPECT_EQ(Show(s.Feed("<")), Shown{});
  EXPECT_EQ(Show(s.Feed("p>")), Shown{"c:\n\n<p>"});
  EXPECT_EQ(Show(s.Feed("end\n\n")), Shown{"c:end"});
  EXPECT_EQ(Show(s.Finish()), Shown{"c:\n\n"});
}

TEST(CompletionStream, HoldsBackPartsOfCharacters) {
  CompletionStream s(kChat);
  EXPECT_EQ(Show(s.Feed("a\xe2\x82")), Shown{"c:a"});
  EXPECT_EQ(Show(s.Feed("\xac")), Shown{"c:\xe2\x82\xac"});
  EXPECT_EQ(Show(s.Feed("\xf0\x9f")), Shown{});
  EXPECT_EQ(Show(s.Finish()), Shown{"c:\xef\xbf\xbd"});
  EXPECT_EQ(StreamEveryWay("a\x80\xff\xe2z", kChat).content, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz");
}

TEST(CompletionStream, ToolCallsComeAtOnceWhenTheBlockIsComplete) {
  CompletionStream s(kChat);
  EXPECT_EQ(Show(s.Feed("ok" + kBlock.substr(0, kBlock.size() - 1))), Shown{"c:ok"});
  EXPECT_EQ(Show(s.Feed(">")), Shown{"t:f({\"a\": \"x\"})"});
  EXPECT_EQ(Show(s.Feed(kEos)), Shown{});
  EXPECT_EQ(Show(s.Finish()), Shown{});
}

TEST(CompletionStream, EmptyBlockIsAnEvent) {
  CompletionStream s(kChat);
  EXPECT_EQ(Show(s.Feed(Dsml("\n\n<|DSML|tool_calls>\n</|DSML|tool_calls>"))), Shown{"t:"});
}

TEST(CompletionStream, EndTokenIsOptionalAndEndsEverything) {
  for (const std::string& tail : {std::string(), kEos, kEos + "more</think>" + kBlock}) {
    EXPECT_EQ(StreamEveryWay("r</think>c" + tail, kThinking), (ParsedMessage{"c", "r", {}})) << tail;
    EXPECT_EQ(StreamEveryWay("r</think>c" + kBlock + tail, kThinking), (ParsedMessage{"c", "r", kBlockCalls})) << tail;
  }
  EXPECT_EQ(StreamEveryWay("", kChat), ParsedMessage());
  EXPECT_EQ(StreamEveryWay("", kThinking), ParsedMessage());
  EXPECT_EQ(StreamEveryWay("c" + kEos.substr(0, 7), kChat).content, "c" + kEos.substr(0, 7));
}

TEST(CompletionStream, ReasoningWithoutEndStaysReasoning) {
  EXPECT_EQ(StreamEveryWay("thinking </thin", kThinking), (ParsedMessage{"", "thinking </thin", {}}));
  EXPECT_EQ(StreamEveryWay("thinking" + kEos + "x", kThinking), (ParsedMessage{"", "thinking", {}}));
  EXPECT_EQ(StreamEveryWay("a" + kBlock + "b</think>c", kThinking), (ParsedMessage{"c", "a" + kBlock + "b", {}}));
}

TEST(CompletionStream, ChatModeHasNoReasoning) {
  EXPECT_EQ(StreamEveryWay("a</think>b", kChat), (ParsedMessage{"a</think>b", "", {}}));
}

TEST(CompletionStream, MalformedBlockAndAllAfterItIsContent) {
  const std::string bad = Dsml("\n\n<|DSML|tool_calls>\noops<|DSML|invoke name=\"f\">\n</|DSML|invoke>\n");
  EXPECT_EQ(StreamEveryWay("a" + bad + "b" + kBlock + kEos, kChat), (ParsedMessage{"a" + bad + "b" + kBlock, "", {}}));
  // It is shown when the fault is seen, not at the end.
  CompletionStream s(kChat);
  EXPECT_EQ(Show(s.Feed(bad)), Shown{"c:" + bad});
}

TEST(CompletionStream, UnfinishedBlock) {
  const std::string in_value =
      Dsml("\n\n<|DSML|tool_calls>\n<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" st");
  EXPECT_EQ(StreamEveryWay("a" + in_value, kChat), (ParsedMessage{"a" + in_value, "", {}}));
  EXPECT_EQ(StreamEveryWay("a" + in_value + kEos, kChat), (ParsedMessage{"a" + in_value, "", {}}));
  const std::string after_name = Dsml("\n\n<|DSML|tool_calls>\n<|DSML|invoke name=\"f\">\n");
  EXPECT_EQ(StreamEveryWay(after_name, kChat), (ParsedMessage{"", "", {{"f", "{}"}}}));
  EXPECT_EQ(StreamEveryWay(after_name + kEos, kChat), (ParsedMessage{after_name, "", {}}));
}

TEST(CompletionStream, TextAfterTheBlockIsContent) {
  EXPECT_EQ(StreamEveryWay("a" + kBlock + "b" + kBlock + kEos, kChat), (ParsedMessage{"ab" + kBlock, "", kBlockCalls}));
}

TEST(CompletionStream, EndTagInsideAValue) {
  const std::string text =
      Dsml(
          "\n\n<|DSML|tool_calls>\n<|DSML|invoke name=\"f\">\n<|DSML|parameter name=\"a\" string=\"true\">"
          "</|DSML|tool_calls><|DSML|tool_calls>\n\n</think></|DSML|parameter>\n</|DSML|invoke>\n</|DSML|tool_calls>") +
      kEos;
  const auto parsed = ParseCompletion(text, kChat);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(StreamEveryWay(text, kChat), *parsed);
}

// Random sequences of the format's own pieces reach the odd states.
TEST(CompletionStream, EqualsTheParserOnRandomText) {
  const std::string pieces[] = {"a",
                                "\n",
                                "\n\n",
                                ">\n",
                                "<",
                                "</think>",
                                kEos,
                                kBlock,
                                std::string(chat::kToolCallsOpen),
                                std::string(chat::kToolCallsEnd),
                                std::string(chat::kInvokeOpen),
                                " name=\"f\">\n",
                                std::string(chat::kInvokeEnd),
                                std::string(chat::kParameterOpen),
                                " name=\"k\" string=\"true\">v<",
                                std::string(chat::kParameterEnd)};
  std::mt19937 rng(11);
  int accepted = 0;
  for (int i = 0; i < 4000; ++i) {
    const ThinkingMode mode = i % 2 ? kThinking : kChat;
    std::string text = mode == kThinking ? "r</think>" : "";
    for (uint32_t n = rng() % 8; n-- > 0;) text += pieces[rng() % std::size(pieces)];
    if (rng() % 2) text += kEos;
    const ParsedMessage streamed = Stream(text, mode, 1);
    ASSERT_EQ(Stream(text, mode, text.size() + 1), streamed) << text;
    if (const auto parsed = ParseCompletion(text, mode); parsed.ok()) {
      ASSERT_EQ(streamed, *parsed) << text;
      ++accepted;
    }
  }
  EXPECT_GT(accepted, 200);
}

}  // namespace
}  // namespace vexil
