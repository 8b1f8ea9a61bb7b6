// What verification found wrong.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vexil::convert {

struct Problem {
  std::string file;    // path; empty: the checkpoint as a whole
  std::string tensor;  // as stored; empty: the file as a whole
  std::string text;    // "found ..., expected ..."

  // "FILE: tensor 'NAME': found ..., expected ..."
  std::string Line() const {
    std::string line = file.empty() ? "" : file + ": ";
    if (!tensor.empty()) line += "tensor '" + tensor + "': ";
    return line + text;
  }
  friend bool operator==(const Problem&, const Problem&) = default;
};

// Safe to add to from several threads.
class ProblemList {
 public:
  void Add(std::string file, std::string tensor, std::string text) {
    std::lock_guard lock(mutex_);
    problems_.push_back({std::move(file), std::move(tensor), std::move(text)});
  }
  // In the order of their lines: which thread found what first does not show.
  std::vector<Problem> Take();

 private:
  std::mutex mutex_;
  std::vector<Problem> problems_;
};

// A lower layer's message without the path in front, which a problem names anyway.
std::string WithoutPath(std::string_view message, std::string_view path);

}  // namespace vexil::convert
