// What the tests of this folder share: the test data and random text.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace vexil {

inline std::string TestFile(const std::string& name) { return VEXIL_SOURCE_DIR "/testdata/tokenizer/" + name; }

inline std::string TestFileText(const std::string& name) {
  std::ifstream file(TestFile(name), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& name) {
  Result<std::unique_ptr<Tokenizer>> result = Tokenizer::FromFile(TestFile(name));
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *std::move(result) : nullptr;
}

// The published vocabulary, loaded once per process.
inline const Tokenizer& FullTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = LoadTestTokenizer("tokenizer.reconstructed.json");
  return *tokenizer;
}
// A vocabulary of 2048 tokens in the same format.
inline const Tokenizer& TinyTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = LoadTestTokenizer("tiny.json");
  return *tokenizer;
}

inline int32_t RandomBelow(std::mt19937& random, size_t bound) {
  return int32_t(std::uniform_int_distribution<size_t>(0, bound - 1)(random));
}

// Well-formed UTF-8 of `length` characters of all planes; half of them are ASCII and half of the rest are Han.
inline std::string RandomText(std::mt19937& random, int length) {
  std::string text;
  for (int i = 0; i < length; ++i) {
    const int kind = RandomBelow(random, 8);
    char32_t c = kind < 4   ? char32_t(RandomBelow(random, 0x80))
                 : kind < 6 ? 0x4E00 + char32_t(RandomBelow(random, 0x5200))
                            : char32_t(RandomBelow(random, kind == 6 ? 0x3100 : 0x110000));
    if (c >= 0xD800 && c < 0xE000) c = 0xE000;  // no surrogates
    AppendUtf8(c, &text);
  }
  return text;
}

inline std::string Repeat(std::string_view part, size_t bytes) {
  std::string text;
  while (text.size() + part.size() <= bytes) text += part;
  return text;
}

}  // namespace vexil
