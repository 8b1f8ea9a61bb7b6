#include "text/utf8.h"

#include "text/byte_level.h"
#include "text/test_tokenizers.h"

namespace vexil {
namespace {

#define U "\xEF\xBF\xBD"

TEST(Utf8Test, EncodesAndDecodesEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Sequence first = FirstUtf8Sequence(text);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(first.kind == Utf8Sequence::Kind::kWellFormed, !surrogate) << uint32_t(c);
    if (surrogate) continue;
    ASSERT_EQ(first.length, text.size());
    ASSERT_EQ(DecodeUtf8(text, text.size()), c);
  }
}

// Every sequence of two bytes, and of three and four with bytes at the edges of their ranges, is well-formed exactly
// when it is what some code point is encoded as.
TEST(Utf8Test, AcceptsNothingElse) {
  const uint8_t edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
  for (int lead = 0x80; lead < 0x100; ++lead) {
    for (uint8_t b : edges) {
      for (uint8_t c : edges) {
        for (uint8_t d : edges) {
          const std::string text = {char(lead), char(b), char(c), char(d)};
          const Utf8Sequence first = FirstUtf8Sequence(text);
          if (first.kind != Utf8Sequence::Kind::kWellFormed) continue;
          std::string again;
          const char32_t code_point = DecodeUtf8(text, first.length);
          AppendUtf8(code_point, &again);
          ASSERT_EQ(again, text.substr(0, first.length));
          ASSERT_LT(code_point, 0x110000u);
        }
      }
    }
  }
}

TEST(Utf8Test, ReplacesMaximalSubparts) {
  EXPECT_EQ(ReplaceIllFormed(""), "");
  EXPECT_EQ(ReplaceIllFormed("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(ReplaceIllFormed("a\xFF"
                             "b"),
            "a" U "b");
  // The examples of Unicode 15, tables 3-8 to 3-11.
  EXPECT_EQ(ReplaceIllFormed("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), U U U U U U U U "A");
  EXPECT_EQ(ReplaceIllFormed("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), U U U U U U U U "A");
  EXPECT_EQ(ReplaceIllFormed("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), U U U U U "A" U U "B");
  EXPECT_EQ(ReplaceIllFormed("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), U U U U "A");
  // Cut off at the end.
  EXPECT_EQ(ReplaceIllFormed("x\xF0\x9F\x98"), "x" U);
  EXPECT_EQ(ReplaceIllFormed("x\xE4\xBD\xE4"), "x" U U);
}

TEST(Utf8Test, WellFormedPrefix) {
  EXPECT_EQ(WellFormedPrefix(""), 0u);
  EXPECT_EQ(WellFormedPrefix("0123456789abcdef\xC3\xA9z"), 19u);
  EXPECT_EQ(WellFormedPrefix("0123456789abcdef\xC3"), 16u);
  EXPECT_EQ(WellFormedPrefix("\x80"), 0u);
}

TEST(Utf8Test, StreamCutAnywhereGivesTheSame) {
  std::mt19937 random(1);
  const std::string bytes = {'a',    '\x80', '\xC3', '\xA9', '\xE4', '\xBD',
                             '\xA0', '\xF0', '\x9F', '\x98', '\xED', '\xFF'};
  for (int round = 0; round < 20000; ++round) {
    std::string whole, together;
    Utf8Stream stream;
    while (whole.size() < 12) {
      std::string part;
      for (int i = RandomBelow(random, 4); i > 0; --i) part += bytes[size_t(RandomBelow(random, bytes.size()))];
      std::string out;
      stream.Append(part, &out);
      ASSERT_EQ(WellFormedPrefix(out), out.size());
      whole += part;
      together += out;
    }
    stream.Finish(&together);
    ASSERT_EQ(together, ReplaceIllFormed(whole));
  }
}

TEST(ByteLevelTest, MapsEveryByteToAnotherCharacter) {
  std::string all, symbols;
  for (int b = 0; b < 256; ++b) {
    all += char(b);
    symbols += ByteSymbol(uint8_t(b));
    EXPECT_EQ(BytesOfSymbols(ByteSymbol(uint8_t(b))), std::string(1, char(b)));
  }
  EXPECT_EQ(BytesOfSymbols(symbols), all);
  EXPECT_EQ(ByteSymbol('A'), "A");
  EXPECT_EQ(ByteSymbol(' '), "\u0120");
  EXPECT_EQ(ByteSymbol('\n'), "\u010A");
  EXPECT_EQ(ByteSymbol(0xAD), "\u0143");
  EXPECT_EQ(ByteSymbol(0xFF), "\u00FF");
}

TEST(ByteLevelTest, RefusesOtherCharacters) {
  EXPECT_EQ(BytesOfSymbols(" "), std::nullopt);
  EXPECT_EQ(BytesOfSymbols("a\u0144"), std::nullopt);
  EXPECT_EQ(BytesOfSymbols("\u00AD"), std::nullopt);
  EXPECT_EQ(BytesOfSymbols("\U0001F600"), std::nullopt);
  EXPECT_EQ(BytesOfSymbols(""), "");
}

}  // namespace
}  // namespace vexil
