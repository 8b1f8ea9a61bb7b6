#include "text/markers.h"

#include <algorithm>

namespace vexil {

Marker FindFirst(std::string_view text, size_t from, std::initializer_list<std::string_view> markers) {
  for (size_t at = from; at < text.size(); ++at) {
    size_t which = 0;
    for (std::string_view marker : markers) {
      if (text[at] == marker[0] && text.substr(at).starts_with(marker)) return {at, which, at + marker.size()};
      ++which;
    }
  }
  return {};
}

size_t UnfinishedTail(std::string_view text, std::initializer_list<std::string_view> markers) {
  size_t longest = 0;
  for (std::string_view marker : markers) {
    for (size_t n = std::min(marker.size() - 1, text.size()); n > longest; --n) {
      if (marker.starts_with(text.substr(text.size() - n))) longest = n;
    }
  }
  return longest;
}

}  // namespace vexil
