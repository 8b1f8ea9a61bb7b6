// What the tests of the chat format share: the test files and JSON literals.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/json.h"
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

}  // namespace vexil
