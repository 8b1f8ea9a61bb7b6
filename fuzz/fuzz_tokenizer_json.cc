// Any text as a tokenizer.json: an error of one line, or a tokenizer whose decoding inverts its encoding.
// Seed: fuzz/seeds/tokenizer_json.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = vexil::Tokenizer::FromJson(json);
  if (!tokenizer.ok()) {
    VX_CHECK(tokenizer.status().message().find('\n') == std::string_view::npos, "a message of several lines");
    return 0;
  }
  std::string text = "ab <s>ba\n\n 12345 \u4F60\u597D \u00E9  \U0001F30D\t";
  for (const char c : json.substr(0, 64)) text += c >= 0 ? c : '?';
  for (const auto mode : {vexil::AddedTokens::kRecognize, vexil::AddedTokens::kIgnore}) {
    VX_CHECK((*tokenizer)->Decode((*tokenizer)->Encode(text, mode)) == text, "decoding gives another text");
  }
  return 0;
}
