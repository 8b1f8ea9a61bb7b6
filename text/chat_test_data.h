// What the tests of the chat format share: the test files, JSON literals and prompts.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/chat_encoding.h"
#include "text/chat_format.h"

namespace vexil {

inline std::string ChatFileText(const std::string& name) {
  std::ifstream file(VEXIL_SOURCE_DIR "/testdata/chat/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline Json ParsedJson(std::string_view text) {
  auto json = Json::Parse(text, {.allow_duplicates = true, .allow_nan = true});
  EXPECT_TRUE(json.ok()) << text << ": " << (json.ok() ? "" : json.status().message());
  return json.ok() ? *std::move(json) : Json();
}

inline Json ChatFileJson(const std::string& name) { return ParsedJson(ChatFileText(name)); }

inline ThinkingMode ModeNamed(std::string_view name) {
  return name == "chat" ? ThinkingMode::kChat : ThinkingMode::kThinking;
}

// DSML written with a plain "|", which is easier to read.
inline std::string Dsml(std::string_view text) {
  std::string out;
  for (char c : text) out += c == '|' ? "\xef\xbd\x9c" : std::string(1, c);
  return out;
}

inline EncodeOptions Thinking() { return {.thinking_mode = ThinkingMode::kThinking}; }

inline std::string TextOrError(const Result<std::string>& result) {
  return result.ok() ? *result : "error: " + std::string(result.status().message());
}
inline std::string Encode(std::string_view messages, const EncodeOptions& options) {
  return TextOrError(EncodeMessages(ParsedJson(messages), options));
}
// Without the beginning-of-sentence token, with "|" for U+FF5C and "_" for U+2581.
inline std::string Plain(std::string_view messages, EncodeOptions options = {}) {
  options.add_default_bos_token = false;
  std::string text = Encode(messages, options);
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (size_t i = 0; (i = text.find(from, i)) != text.npos; i += to.size()) text.replace(i, from.size(), to);
  };
  replace("\xef\xbd\x9c", "|");
  replace("\xe2\x96\x81", "_");
  return text;
}

}  // namespace vexil
