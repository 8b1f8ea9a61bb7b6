// Any bytes as text: decoding its ids gives it back with what is ill-formed replaced, at once and id by id.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

static std::unique_ptr<vexil::Tokenizer> Load() {
  auto tokenizer = vexil::Tokenizer::FromFile(VEXIL_SOURCE_DIR "/testdata/tokenizer/tiny.json");
  VX_CHECK(tokenizer.ok(), "the tokenizer loads");
  return *std::move(tokenizer);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<vexil::Tokenizer> tokenizer = Load();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string expected = vexil::ReplaceIllFormed(text);
  VX_CHECK(vexil::WellFormedPrefix(expected) == expected.size(), "replacing leaves something ill-formed");
  for (const auto mode : {vexil::AddedTokens::kRecognize, vexil::AddedTokens::kIgnore}) {
    const std::vector<int32_t> ids = tokenizer->Encode(text, mode);
    VX_CHECK(tokenizer->Decode(ids) == expected, "decoding gives another text");
    std::string together;
    vexil::StreamDecoder stream(*tokenizer);
    for (const int32_t id : ids) together += stream.Push(id);
    VX_CHECK(together + stream.Finish() == expected, "decoding id by id gives another text");
  }
  return 0;
}
