#include "text/added_token_matcher.h"

#include <algorithm>

namespace vexil {

AddedTokenMatcher::AddedTokenMatcher(std::vector<std::pair<std::string, int32_t>> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end());
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    Range& range = by_first_byte_[uint8_t(tokens_[i].first[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::Find(std::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (by_first_byte_[uint8_t(text[i])].end == 0) continue;
    if (const std::optional<Match> match = LongestAt(text, i)) return match;
  }
  return std::nullopt;
}

// Narrows the sorted contents, one byte of the text after the other, to those that continue as the text does. A
// content that ends here sorts before its extensions, so it is the first of the range.
std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::LongestAt(std::string_view text, size_t at) const {
  std::optional<Match> longest;
  const Range range = by_first_byte_[uint8_t(text[at])];
  auto begin = tokens_.begin() + range.begin, end = tokens_.begin() + range.end;
  for (size_t depth = 1; begin != end; ++depth) {
    if (begin->first.size() == depth) {
      longest = Match{at, at + depth, begin->second};
      ++begin;
    }
    if (at + depth == text.size()) break;
    const uint8_t byte = uint8_t(text[at + depth]);
    const auto byte_of = [depth](const auto& token) { return uint8_t(token.first[depth]); };
    begin = std::partition_point(begin, end, [&](const auto& token) { return byte_of(token) < byte; });
    end = std::partition_point(begin, end, [&](const auto& token) { return byte_of(token) == byte; });
  }
  return longest;
}

std::optional<int32_t> AddedTokenMatcher::IdOf(std::string_view content) const {
  const auto at = std::lower_bound(tokens_.begin(), tokens_.end(), content,
                                   [](const auto& token, std::string_view c) { return token.first < c; });
  if (at == tokens_.end() || at->first != content) return std::nullopt;
  return at->second;
}

}  // namespace vexil
