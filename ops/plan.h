// Which kernel each op call of a model got, and why better ones refused (`vexil plan`).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vexil {

class Plan {
 public:
  struct Entry {
    std::string label;    // where in the model: "layers.2 attn"
    std::string kernel;   // "linear/cpu.tiled"
    std::string refused;  // "linear/cpu.vnni: no AVX512-VNNI; ..." or empty
    std::string inside;   // the kernel that makes the calls; empty: the model does
    int calls = 0;
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  // The label of the calls that follow.
  void SetLabel(std::string label) { label_ = std::move(label); }
  // Counts one call; calls alike in everything share an entry.
  void Add(std::string_view kernel, std::string_view refused, std::string_view inside) {
    for (auto e = entries_.rbegin(); e != entries_.rend() && e->label == label_; ++e) {
      if (e->kernel == kernel && e->refused == refused && e->inside == inside) {
        ++e->calls;
        return;
      }
    }
    entries_.push_back({label_, std::string(kernel), std::string(refused), std::string(inside), 1});
  }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::string label_;
  std::vector<Entry> entries_;
};

}  // namespace vexil
