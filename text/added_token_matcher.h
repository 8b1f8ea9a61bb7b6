// Finds added tokens in raw text: the leftmost match, the longest of those (spec: tokenizer, section 7).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vexil {

class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin, end;  // bytes of the text
    int32_t id;
  };

  AddedTokenMatcher() = default;
  // Contents with their ids; contents are not empty and differ.
  explicit AddedTokenMatcher(std::vector<std::pair<std::string, int32_t>> tokens);

  // The first match that begins at `from` or later. Takes time proportional to the bytes passed over times, at worst,
  // the length of the longest content; bytes that begin no content cost one table lookup.
  std::optional<Match> Find(std::string_view text, size_t from) const;

  // The token whose whole content is `content`.
  std::optional<int32_t> IdOf(std::string_view content) const;

 private:
  struct Range {
    uint32_t begin = 0, end = 0;
  };
  std::optional<Match> LongestAt(std::string_view text, size_t at) const;

  std::vector<std::pair<std::string, int32_t>> tokens_;  // sorted by content, as bytes
  std::array<Range, 256> by_first_byte_{};
};

}  // namespace vexil
