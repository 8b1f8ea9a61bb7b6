#include "convert/problems.h"

#include <algorithm>
#include <tuple>

namespace vexil::convert {

std::vector<Problem> ProblemList::Take() {
  std::lock_guard lock(mutex_);
  std::ranges::stable_sort(problems_, {}, [](const Problem& p) { return std::tie(p.file, p.tensor, p.text); });
  return std::move(problems_);
}

std::string WithoutPath(std::string_view message, std::string_view path) {
  if (message.starts_with(path) && message.substr(path.size()).starts_with(": "))
    message.remove_prefix(path.size() + 2);
  return std::string(message);
}

}  // namespace vexil::convert
