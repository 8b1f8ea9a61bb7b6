#include "text/bpe.h"

#include <map>

#include "text/test_tokenizers.h"
#include "text/tokenizer_json.h"

namespace vexil {
namespace {

std::vector<int32_t> Encode(const Bpe& bpe, std::string_view piece) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  bpe.Encode(piece, &scratch, &ids);
  return ids;
}

// A vocabulary of the 256 bytes, whose ids are the bytes, and of what merges add.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<Bpe::Merge> merges;

  Vocabulary() {
    for (int b = 0; b < 256; ++b) tokens.emplace_back(1, char(b));
  }
  int32_t Id(const std::string& bytes) {
    const auto at = std::find(tokens.begin(), tokens.end(), bytes);
    if (at == tokens.end()) tokens.push_back(bytes);
    return int32_t(std::find(tokens.begin(), tokens.end(), bytes) - tokens.begin());
  }
  void Merge(const std::string& left, const std::string& right) {
    merges.push_back({Id(left), Id(right), Id(left + right)});
  }
  Bpe Build() const { return *Bpe::Create(tokens, merges); }

  // The definition, word for word.
  std::vector<int32_t> EncodeSlowly(std::string_view piece) const {
    std::map<std::pair<int32_t, int32_t>, size_t> ranks;
    for (size_t i = 0; i < merges.size(); ++i) ranks[{merges[i].left, merges[i].right}] = i;
    std::vector<int32_t> ids;
    for (const char c : piece) ids.push_back(int32_t(uint8_t(c)));
    for (;;) {
      size_t best = merges.size(), where = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = ranks.find({ids[i], ids[i + 1]});
        if (found != ranks.end() && found->second < best) best = found->second, where = i;
      }
      if (best == merges.size()) return ids;
      ids[where] = merges[best].result;
      ids.erase(ids.begin() + ptrdiff_t(where) + 1);
    }
  }
};

TEST(BpeTest, LowestRankThenLeftmost) {
  Vocabulary v;
  v.Merge("a", "a");   // 256
  v.Merge("b", "c");   // 257
  v.Merge("a", "b");   // 258
  v.Merge("aa", "a");  // 259
  const Bpe bpe = v.Build();
  EXPECT_EQ(Encode(bpe, ""), (std::vector<int32_t>{}));
  EXPECT_EQ(Encode(bpe, "x"), (std::vector<int32_t>{'x'}));
  EXPECT_EQ(Encode(bpe, "aaa"), (std::vector<int32_t>{259}));
  EXPECT_EQ(Encode(bpe, "aaaaa"), (std::vector<int32_t>{256, 259}));
  EXPECT_EQ(Encode(bpe, "abc"), (std::vector<int32_t>{'a', 257}));
}

// "abc" is a token, but the merges do not make it: b and c join first.
TEST(BpeTest, TokenThatDoesNotMergeToItselfIsNoShortcut) {
  Vocabulary v;
  v.Merge("b", "c");
  v.Merge("a", "b");
  v.Merge("ab", "c");
  EXPECT_EQ(Encode(v.Build(), "abc"), (std::vector<int32_t>{'a', v.Id("bc")}));
}

// Merge lists in random order, with several pairs for one token: nothing that training would guarantee.
TEST(BpeTest, AgreesWithTheDefinitionOnRandomVocabularies) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    Vocabulary v;
    std::vector<std::string> parts = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> pairs;
    while (pairs.size() < 40) {
      const std::string left = parts[size_t(RandomBelow(random, parts.size()))];
      const std::string right = parts[size_t(RandomBelow(random, parts.size()))];
      if (std::find(pairs.begin(), pairs.end(), std::pair(left, right)) != pairs.end()) continue;
      pairs.emplace_back(left, right);
      parts.push_back(left + right);
    }
    if (round % 2) std::shuffle(pairs.begin(), pairs.end(), random);
    for (const auto& [left, right] : pairs) v.Merge(left, right);
    const Bpe bpe = v.Build();
    for (const int length : {1, 2, 5, 20, 63, 64, 65, 66, 200}) {
      for (int i = 0; i < 8; ++i) {
        std::string piece;
        for (int k = 0; k < length; ++k) piece += char('a' + RandomBelow(random, 3));
        ASSERT_EQ(Encode(bpe, piece), v.EncodeSlowly(piece)) << piece;
      }
    }
  }
}

TEST(BpeTest, AgreesWithTheDefinitionOnATrainedVocabulary) {
  Vocabulary v;
  const TokenizerJson json = *ParseTokenizerJson(TestFileText("tiny.json"));
  const Bpe trained = *Bpe::Create(json.tokens, json.merges);
  for (const Bpe::Merge& m : json.merges) v.Merge(json.tokens[size_t(m.left)], json.tokens[size_t(m.right)]);
  std::mt19937 random(8);
  for (int round = 0; round < 60; ++round) {
    std::string piece;
    while (piece.size() < size_t(4 + 4 * round)) piece += json.tokens[size_t(RandomBelow(random, json.tokens.size()))];
    std::vector<std::string> fast, slow;
    for (const int32_t id : Encode(trained, piece)) fast.push_back(json.tokens[size_t(id)]);
    for (const int32_t id : v.EncodeSlowly(piece)) slow.push_back(v.tokens[size_t(id)]);
    ASSERT_EQ(fast, slow) << piece;
  }
}

// Every byte but the first starts with one queue entry, and each of the fewer than n joins adds at most two.
TEST(BpeTest, QueueWorkIsLinear) {
  Vocabulary v;
  for (std::string part = "a"; part.size() < 64; part += part) v.Merge(part, part);
  v.Merge("b", "a");
  const Bpe bpe = v.Build();
  for (const std::string_view unit : {"a", "ab", "aaab", "b"}) {
    for (const size_t n : {1000, 100000}) {
      Bpe::Scratch scratch;
      std::vector<int32_t> ids;
      bpe.Encode(Repeat(unit, n), &scratch, &ids);
      EXPECT_LE(scratch.queue_pops, 3 * n) << unit;
      EXPECT_GE(scratch.queue_pops, unit == "b" ? 0 : n / 4) << unit;
    }
  }
}

TEST(BpeTest, RefusesWhatIsNoVocabulary) {
  Vocabulary v;
  v.Merge("a", "b");
  v.merges.push_back(v.merges[0]);
  EXPECT_EQ(Bpe::Create(v.tokens, v.merges).status().message(), "merge 1: found the pair of merge 0 again");
  v.tokens.push_back("ab");
  EXPECT_EQ(Bpe::Create(v.tokens, {}).status().message(), "tokens 256 and 257: found the same bytes twice");
  v.tokens[10] = "";
  v.tokens.pop_back();
  EXPECT_EQ(Bpe::Create(v.tokens, {}).status().message(), "byte 0x0a: found no token, expected '\u010A'");
}

}  // namespace
}  // namespace vexil
