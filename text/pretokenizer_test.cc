#include "text/pretokenizer.h"

#include "base/json.h"
#include "text/split_pattern.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer_json.h"

namespace vexil {
namespace {

const std::vector<std::string>& FamilyPatterns() {
  static const std::vector<std::string> patterns = ParseTokenizerJson(TestFileText("tiny.json"))->split_patterns;
  return patterns;
}

const Pretokenizer& Family() {
  static const Pretokenizer pretokenizer = *Pretokenizer::Create(FamilyPatterns());
  return pretokenizer;
}

std::vector<std::string> Pieces(const Pretokenizer& pretokenizer, std::string_view text) {
  std::vector<std::string_view> pieces;
  pretokenizer.Split(text, &pieces);
  return {pieces.begin(), pieces.end()};
}

std::vector<std::string> Strings(const Json& list) {
  std::vector<std::string> strings;
  for (const Json& s : *list.array()) strings.push_back(*s.string());
  return strings;
}

TEST(PretokenizerTest, FamilySamples) {
  const Json samples = *Json::Parse(TestFileText("presplit.json"));
  ASSERT_GT(samples.object()->size(), 50u);
  for (const auto& [text, pieces] : *samples.object()) {
    EXPECT_EQ(Pieces(Family(), text), Strings(pieces)) << text;
  }
}

// The consequences that the specification lists (spec: tokenizer, section 4).
TEST(PretokenizerTest, FamilyConsequences) {
  using List = std::vector<std::string>;
  EXPECT_EQ(Pieces(Family(), "a  1"), (List{"a", "  ", "1"}));
  EXPECT_EQ(Pieces(Family(), "  x"), (List{" ", " x"}));
  EXPECT_EQ(Pieces(Family(), "\u4E2D\u6587English"), (List{"\u4E2D\u6587", "English"}));
  EXPECT_EQ(Pieces(Family(), "don't"), (List{"don", "'t"}));
  EXPECT_EQ(Pieces(Family(), " (x"), (List{" (", "x"}));
  EXPECT_EQ(Pieces(Family(), "(x"), (List{"(x"}));
  EXPECT_EQ(Pieces(Family(), "x \n y"), (List{"x", " \n", " y"}));
  EXPECT_EQ(Pieces(Family(), "a\u200Bb"), (List{"a", "\u200Bb"}));
  EXPECT_EQ(Pieces(Family(), "\u00A0x"), (List{"\u00A0x"}));
  EXPECT_EQ(Pieces(Family(), "\u0661\u0662\u0663\u0664"), (List{"\u0661\u0662\u0663", "\u0664"}));
  EXPECT_EQ(Pieces(Family(), "\x01\x02 1"), (List{"\x01\x02", " ", "1"}));
}

// U+180E is a format character, no white space, whatever Perl-like engines think.
TEST(PretokenizerTest, WhiteSpaceIsUnicodes) {
  const Pretokenizer spaces = *Pretokenizer::Create({"\\s"});
  const Pretokenizer others = *Pretokenizer::Create({"[^\\s]"});
  const std::vector<char32_t> white = {0x9,    0xA,    0xB,    0xC,    0xD,    0x20,   0x85,   0xA0,   0x1680,
                                       0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                       0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  for (char32_t c = 0; c < 0x4000; ++c) {
    const bool is_white = std::find(white.begin(), white.end(), c) != white.end();
    std::string twice;
    AppendUtf8(c, &twice);
    AppendUtf8(c, &twice);
    ASSERT_EQ(Pieces(spaces, twice).size(), is_white ? 2u : 1u) << uint32_t(c);
    ASSERT_EQ(Pieces(others, twice).size(), is_white ? 1u : 2u) << uint32_t(c);
  }
}

TEST(PretokenizerTest, StepsSeeOnePieceEach) {
  // The look-ahead of the second step cannot see the digit that the first step has cut off.
  const Pretokenizer pretokenizer = *Pretokenizer::Create({"1", "a(?!1)"});
  EXPECT_EQ(Pieces(pretokenizer, "aa1"), (std::vector<std::string>{"a", "a", "1"}));
  EXPECT_EQ(Pieces(*Pretokenizer::Create({"a(?!1)"}), "aa1"), (std::vector<std::string>{"a", "a1"}));
  EXPECT_EQ(Pieces(Pretokenizer(), "aa1"), (std::vector<std::string>{"aa1"}));
  EXPECT_EQ(Pieces(pretokenizer, ""), (std::vector<std::string>{}));
}

struct Run {
  const char* unit;
  size_t units_per_piece;  // 0: all of them in one piece
};
class LongRunTest : public testing::TestWithParam<Run> {};

// A megabyte of one kind: neither the generated code nor the interpreter runs out of stack or gives up.
TEST_P(LongRunTest, IsSplit) {
  const std::string text = Repeat(GetParam().unit, 1 << 20);
  const size_t unit = std::string_view(GetParam().unit).size();
  const size_t piece = GetParam().units_per_piece == 0 ? text.size() : GetParam().units_per_piece * unit;
  for (const bool use_jit : {true, false}) {
    std::vector<std::string_view> pieces;
    Pretokenizer::Create(FamilyPatterns(), use_jit)->Split(text, &pieces);
    ASSERT_EQ(pieces.size(), (text.size() + piece - 1) / piece);
    for (size_t i = 0; i + 1 < pieces.size(); ++i) ASSERT_EQ(pieces[i].size(), piece);
  }
}
INSTANTIATE_TEST_SUITE_P(PretokenizerTest, LongRunTest,
                         testing::Values(Run{" ", 0}, Run{"\n", 0}, Run{"\r\n", 0}, Run{"\t ", 0}, Run{"x", 0},
                                         Run{"?!", 0}, Run{"\u0301", 0}, Run{"\u4E2D", 0}, Run{"\U0001F600", 0},
                                         Run{"\x01", 0}, Run{"7", 3}, Run{" x", 1}, Run{" \n", 0}));

TEST(PretokenizerTest, DropsNothing) {
  std::mt19937 random(3);
  const Pretokenizer interpreted = *Pretokenizer::Create(FamilyPatterns(), /*use_jit=*/false);
  for (int round = 0; round < 200; ++round) {
    const std::string text = RandomText(random, 100);
    std::string together;
    for (const std::string& piece : Pieces(Family(), text)) {
      ASSERT_FALSE(piece.empty());
      together += piece;
    }
    ASSERT_EQ(together, text);
    ASSERT_EQ(Pieces(Family(), text), Pieces(interpreted, text));
  }
}

TEST(SplitPatternTest, Translates) {
  EXPECT_EQ(*TranslateSplitPattern("\\p{N}{1,3}"), "\\p{N}{1,3}");
  EXPECT_EQ(*TranslateSplitPattern("[\\-a-c^-]+|\u4E00"), "[\\x{2D}\\x{61}-\\x{63}\\x{5E}\\x{2D}]+|\\x{4E00}");
  EXPECT_EQ(*TranslateSplitPattern(" ?[^\\r\\P{Lu}](?=#)(?!\\#)"), "\\x{20}?[^\\x{D}\\P{Lu}](?=\\x{23})(?!\\x{23})");
}

TEST(SplitPatternTest, RefusesOtherThings) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"a\\w", R"(byte 1: found "\\w", expected \s \S \p{..} \P{..} \r \n \t or escaped punctuation)"},
      {"\\h", R"(byte 0: found "\\h", expected \s \S \p{..} \P{..} \r \n \t or escaped punctuation)"},
      {"a\\", "byte 2: found the end, expected a character after the backslash"},
      {"\\p{Latin}", R"(byte 0: found "\\p{Latin}", expected a general category in braces)"},
      {"\\pL", R"(byte 0: found "\\p", expected a general category in braces)"},
      {"(a)",
       R"(byte 0: found "(", expected an alternative of plain characters, classes, greedy repeats and look-aheads)"},
      {"a|.",
       R"(byte 2: found ".", expected an alternative of plain characters, classes, greedy repeats and look-aheads)"},
      {"(?=|)",
       R"(byte 3: found "|", expected an alternative of plain characters, classes, greedy repeats and look-aheads)"},
      {"(?=ab)", "byte 4: found \"b\", expected ')' after one character or class of a look-ahead"},
      {"(?=", "byte 3: found the end, expected a character"},
      {"a+?", R"(byte 2: found "?", expected one greedy repeat)"},
      {"a{2}+", R"(byte 4: found "+", expected one greedy repeat)"},
      {"a{,2}", R"(byte 1: found "{,2", expected {n}, {n,} or {n,m} with n <= m <= 65535)"},
      {"a{3,2}", R"(byte 1: found "{3,2", expected {n}, {n,} or {n,m} with n <= m <= 65535)"},
      {"a{70000}", R"(byte 1: found "{70000", expected {n}, {n,} or {n,m} with n <= m <= 65535)"},
      {"[]", R"(byte 0: found "[]", expected a class with members)"},
      {"[a", R"(byte 0: found "[", expected ']' at the end of the class)"},
      {"[a[b]]", R"(byte 2: found "[", expected no set operation within a class)"},
      {"[a&&b]", R"(byte 2: found "&", expected no set operation within a class)"},
      {"[b-a]", R"(byte 2: found "-a", expected a character after '-' that is not smaller)"},
      {"[\\s-a]", R"(byte 3: found "-", expected a single character before '-')"},
      {"[a-c-e]", R"(byte 4: found "-", expected '-' first, last or in a range)"},
      {"[\\S]", R"(byte 1: found "\\S", expected no negated \S within a class)"},
  };
  for (const auto& [pattern, message] : cases) {
    const Result<std::string> result = TranslateSplitPattern(pattern);
    ASSERT_FALSE(result.ok()) << pattern;
    EXPECT_EQ(result.status().message(), message);
    EXPECT_EQ(result.status().code(), Code::kUnsupported);
  }
  EXPECT_EQ(TranslateSplitPattern(Repeat("a", 5000)).status().message(), "found 5000 bytes, expected at most 4096");
}

TEST(PretokenizerTest, RefusesPatternsThatMatchNothing) {
  const Result<Pretokenizer> result = Pretokenizer::Create({"a", "b*"});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().message(),
            "pre_tokenizer.pretokenizers[1].pattern.Regex: found a pattern that matches the empty text, expected at "
            "least one character");
}

}  // namespace
}  // namespace vexil
