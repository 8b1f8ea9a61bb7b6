// Ends a text at the first of several strings, holding back whatever could be the beginning of one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vexil {

// Feed pieces, show what comes back. Belongs to one thread.
class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) { std::erase(stops_, std::string()); }

  // The text that can be shown now: never any part of a stop string. Nothing after stopped().
  std::string Feed(std::string_view piece) {
    if (stopped_) return {};
    held_ += piece;
    size_t end = std::string::npos;
    for (const std::string& s : stops_) end = std::min(end, held_.find(s));
    stopped_ = end != std::string::npos;
    return Release(stopped_ ? end : held_.size() - LongestBeginning());
  }
  // What was held back and turned out to be ordinary text.
  std::string Finish() { return stopped_ ? std::string() : Release(held_.size()); }
  bool stopped() const { return stopped_; }

 private:
  // Length of the longest tail of held_ that begins a stop string.
  size_t LongestBeginning() const {
    size_t longest = 0;
    for (const std::string& s : stops_) {
      for (size_t n = std::min(s.size() - 1, held_.size()); n > longest; --n) {
        if (held_.ends_with(std::string_view(s).substr(0, n))) longest = n;
      }
    }
    return longest;
  }
  std::string Release(size_t count) {
    std::string out = held_.substr(0, count);
    held_.erase(0, count);
    return out;
  }

  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace vexil
