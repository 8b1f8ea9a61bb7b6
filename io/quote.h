// Names from files, for messages.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace vexil {

// `text` in quotes with control characters escaped, cut when it is long: a message stays one readable line whatever
// the file says.
inline std::string QuoteName(std::string_view text) {
  constexpr size_t kLongest = 160;
  if (text.size() <= kLongest) return QuoteJson(text);
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a UTF-8 sequence
  return QuoteJson(text.substr(0, end)) + "...";
}

}  // namespace vexil
