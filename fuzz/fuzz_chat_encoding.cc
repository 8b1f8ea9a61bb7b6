// Any JSON as a conversation, or as {"document": ..., "args": ...} with the options' names: an error in one line, or
// a prompt.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/chat_encoding.h"

namespace {

using vexil::EffortTable;
using vexil::EncodeOptions;
using vexil::Json;
using vexil::ThinkingMode;

void CheckMessage(std::string_view message) {
  VX_CHECK(!message.empty() && message.find('\n') == message.npos, "an error is not one line");
}

void Encode(const Json& document, const EncodeOptions& options) {
  const auto prompt = vexil::EncodeDocument(document, options);
  if (!prompt.ok()) return CheckMessage(prompt.status().message());
  const bool with_bos = options.add_default_bos_token && options.context.array()->empty();
  VX_CHECK(!with_bos || prompt->starts_with(vexil::chat::kBos), "a prompt without its first token");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = Json::Parse(text, {.allow_duplicates = true, .allow_nan = true});
  if (!json.ok()) return 0;
  const Json *document = json->Find("document"), *args = json->Find("args");
  if (document && args) {
    for (EffortTable table : {EffortTable::kApril, EffortTable::k0731}) {
      const auto options = vexil::ReadEncodeOptions(*args, table);
      options.ok() ? Encode(*document, *options) : CheckMessage(options.status().message());
    }
    return 0;
  }
  for (ThinkingMode mode : {ThinkingMode::kChat, ThinkingMode::kThinking}) {
    for (bool drop : {false, true}) Encode(*json, {.thinking_mode = mode, .drop_thinking = drop});
  }
  return 0;
}
