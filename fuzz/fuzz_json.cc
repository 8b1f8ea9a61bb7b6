// Any bytes as JSON: an error with a place, or a value that both writers and the parser carry unchanged.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/json.h"

using vexil::Json;

namespace {

void CheckValue(const Json& value, const Json::ParseOptions& options) {
  for (const std::string& text : {value.ToText(), value.ToText(2)}) {
    const auto again = Json::Parse(text, options);
    VX_CHECK(again.ok() && *again == value, "a value is not what was written");
  }
  // Python's text changes how numbers are written, once.
  const std::string python = value.ToPythonText();
  const auto again = Json::Parse(python, {.allow_nan = true, .max_depth = options.max_depth});
  VX_CHECK(again.ok() && again->ToPythonText() == python, "Python's text does not stay the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const Json::ParseOptions& options :
       {Json::ParseOptions{}, Json::ParseOptions{.allow_duplicates = true, .allow_nan = true}}) {
    const auto value = Json::Parse(text, options);
    if (value.ok()) {
      CheckValue(*value, options);
    } else {
      const std::string_view message = value.status().message();
      VX_CHECK(message.starts_with("line ") && message.find('\n') == message.npos, "a message without its place");
    }
  }
  return 0;
}
