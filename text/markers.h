// Finding the first of several fixed strings, also in text that is still growing.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>

namespace vexil {

struct Marker {
  size_t at = std::string_view::npos;  // npos: none of them occurs
  size_t which = 0;                    // index in the list
  size_t end = std::string_view::npos;

  bool found() const { return at != std::string_view::npos; }
};

// The leftmost occurrence that begins at or after `from`; of several at one place, the first in the list. One pass.
// Markers are not empty.
Marker FindFirst(std::string_view text, size_t from, std::initializer_list<std::string_view> markers);

// The length of the longest tail of `text` that more text could make the beginning of a marker; 0 when there is none.
size_t UnfinishedTail(std::string_view text, std::initializer_list<std::string_view> markers);

}  // namespace vexil
