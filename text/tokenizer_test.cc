#include "text/tokenizer.h"

#include <thread>

#include "base/json.h"
#include "text/stream_decoder.h"
#include "text/test_tokenizers.h"

namespace vexil {
namespace {

using Ids = std::vector<int32_t>;

Ids IdsOf(const Json& list) {
  Ids ids;
  for (const Json& id : *list.array()) ids.push_back(int32_t(*id.Int()));
  return ids;
}

TEST(TokenizerTest, Vectors) {
  const Json vectors = *Json::Parse(TestFileText("vectors.json"));
  size_t count = 0;
  for (const auto& [list, cases] : *vectors.object()) {
    if (!cases.is_array()) continue;
    const AddedTokens mode = list == "generated_added_tokens_disabled" ? AddedTokens::kIgnore : AddedTokens::kRecognize;
    for (const Json& c : *cases.array()) {
      const std::string& text = *c.Find("text")->string();
      const Ids ids = IdsOf(*c.Find("ids"));
      EXPECT_EQ(FullTokenizer().Encode(text, mode), ids) << list << ": " << text;
      EXPECT_EQ(FullTokenizer().Decode(ids), text) << list;
      ++count;
    }
  }
  EXPECT_EQ(count, 4u + 94 + 41 + 5);
}

TEST(TokenizerTest, Ids) {
  const Tokenizer& full = FullTokenizer();
  EXPECT_EQ(full.vocab_size(), 129280);
  EXPECT_EQ(full.IdOf("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(full.IdOf("<｜User｜>"), 128803);
  EXPECT_EQ(full.IdOf("Hello"), 19923);
  EXPECT_EQ(full.IdOf("no such token"), std::nullopt);
  EXPECT_EQ(full.TokenBytes(128821), "<think>");
  EXPECT_EQ(full.TokenBytes(201), "\n");
  EXPECT_EQ(full.TokenBytes(-1), "");
  EXPECT_EQ(full.TokenBytes(129280), "");
  EXPECT_TRUE(full.is_special(1) && full.is_added(1));
  EXPECT_TRUE(!full.is_special(128821) && full.is_added(128821));
  EXPECT_TRUE(!full.is_special(201) && !full.is_added(201));
  EXPECT_FALSE(full.is_special(-1) || full.is_added(129280));
  EXPECT_EQ(TinyTokenizer().vocab_size(), 2048);
  EXPECT_EQ(TinyTokenizer().IdOf("<｜User｜>"), 3);
}

TEST(TokenizerTest, EveryTokenHasItsId) {
  for (const Tokenizer* tokenizer : {&FullTokenizer(), &TinyTokenizer()}) {
    for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) ASSERT_EQ(tokenizer->IdOf(tokenizer->TokenBytes(id)), id);
  }
}

TEST(TokenizerTest, DecodeInvertsEncode) {
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const std::string text = RandomText(random, 1 + RandomBelow(random, 200));
    for (const Tokenizer* tokenizer : {&FullTokenizer(), &TinyTokenizer()}) {
      ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
      ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text, AddedTokens::kIgnore)), text);
    }
  }
}

TEST(TokenizerTest, AddedTokensCutTheText) {
  const Tokenizer& full = FullTokenizer();
  const std::vector<std::string> added = {"<｜User｜>", "<think>", "</think>", "｜DSML｜", "<|EOT|>"};
  std::mt19937 random(12);
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    std::string text;
    Ids expected;
    for (int i = 0; i < 5; ++i) {
      const std::string plain = RandomText(random, RandomBelow(random, 30));
      const std::string& token = added[size_t(RandomBelow(random, added.size()))];
      const Ids ids = full.Encode(plain, AddedTokens::kIgnore);
      expected.insert(expected.end(), ids.begin(), ids.end());
      expected.push_back(*full.IdOf(token));
      text += plain + token;
    }
    ASSERT_EQ(full.Encode(text), expected);
    ASSERT_EQ(full.Decode(full.Encode(text, AddedTokens::kIgnore)), text);
    for (const int32_t id : full.Encode(text, AddedTokens::kIgnore)) ASSERT_FALSE(full.is_added(id));
  }
}

TEST(TokenizerTest, IllFormedInputCountsAsReplacementCharacters) {
  const Tokenizer& full = FullTokenizer();
  EXPECT_EQ(full.Encode("a\xFFz\xE4\xBD"), full.Encode("a\uFFFDz\uFFFD"));
  EXPECT_EQ(full.Encode("<think>\x80", AddedTokens::kIgnore), full.Encode("<think>\uFFFD", AddedTokens::kIgnore));
}

TEST(TokenizerTest, DecodeReplacesHalfCharactersAndSkips) {
  const Tokenizer& full = FullTokenizer();
  const Ids emoji = full.Encode("\U0001F30D");
  ASSERT_GT(emoji.size(), 1u);
  EXPECT_EQ(full.Decode(std::span(emoji).first(1)), "\uFFFD");
  EXPECT_EQ(full.Decode(Ids{-1, 201, 129280, 201, INT32_MAX}), "\n\n");
  const Ids ids = full.Encode("<｜begin▁of▁sentence｜>a<think>b<｜end▁of▁sentence｜>");
  EXPECT_EQ(full.Decode(ids, /*skip_special=*/true), "a<think>b");
}

TEST(StreamDecoderTest, GivesWhatDecodeGives) {
  std::mt19937 random(13);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const Tokenizer& tokenizer = round % 2 ? FullTokenizer() : TinyTokenizer();
    const bool skip_special = round % 4 < 2;
    // Single bytes of which few fit together, tokens of text, and any ids.
    Ids ids = tokenizer.Encode(RandomText(random, 20));
    for (int i = 0; i < 40; ++i) {
      const char byte = char(RandomBelow(random, 256));
      const int32_t any = RandomBelow(random, size_t(tokenizer.vocab_size()) + 2) - 1;
      const int32_t id = i % 2 ? any : *tokenizer.IdOf(std::string_view(&byte, 1));
      ids.insert(ids.begin() + RandomBelow(random, ids.size() + 1), id);
    }
    StreamDecoder decoder(tokenizer, skip_special);
    std::string together;
    for (const int32_t id : ids) {
      const std::string text = decoder.Push(id);
      ASSERT_EQ(WellFormedPrefix(text), text.size());
      together += text;
    }
    together += decoder.Finish();
    ASSERT_EQ(together, tokenizer.Decode(ids, skip_special));
    ASSERT_EQ(decoder.Finish(), "");
  }
}

TEST(StreamDecoderTest, TextComesAsSoonAsItIsComplete) {
  const Tokenizer& full = FullTokenizer();
  StreamDecoder decoder(full);
  const auto push = [&](std::string_view byte) { return decoder.Push(*full.IdOf(byte)); };
  EXPECT_EQ(push("\xE4"), "");
  EXPECT_EQ(push("\xBD"), "");
  EXPECT_EQ(push("\xA0"), "\u4F60");
  EXPECT_EQ(push("\xE4"), "");
  EXPECT_EQ(push("a"), "\uFFFDa");
  EXPECT_EQ(push("\xF0"), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_EQ(push("b"), "b");
}

class LongTextTest : public testing::TestWithParam<const char*> {};

TEST_P(LongTextTest, AMegabyteOfIt) {
  const std::string text = Repeat(GetParam(), 1 << 20);
  const Ids ids = FullTokenizer().Encode(text);
  EXPECT_EQ(FullTokenizer().Decode(ids), text);
}
INSTANTIATE_TEST_SUITE_P(TokenizerTest, LongTextTest,
                         testing::Values(" ", "\n", "?!+-", "\u0301", "qjxz", "\u4F60\u597D", "12", "\x01", "<", "<｜",
                                         "<｜place▁holder▁no▁"));

TEST(TokenizerTest, ThreadsShareOne) {
  std::mt19937 random(14);
  const std::string text = RandomText(random, 2000);
  const Ids expected = FullTokenizer().Encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&ids, &text] { ids = FullTokenizer().Encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace vexil
