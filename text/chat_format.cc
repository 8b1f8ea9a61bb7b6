#include "text/chat_format.h"

#include "base/check.h"

namespace vexil::chat {

std::string Fill(std::string_view text, std::initializer_list<std::string_view> values) {
  std::string out;
  for (std::string_view value : values) {
    const size_t open = text.find('{'), close = text.find('}', open);
    VX_CHECK(close != text.npos, "more values than places in a template");
    out.append(text.substr(0, open)).append(value);
    text.remove_prefix(close + 1);
  }
  VX_CHECK(text.find('{') == text.npos, "a place in a template has no value");
  return out.append(text);
}

}  // namespace vexil::chat
