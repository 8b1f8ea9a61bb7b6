#include "testing/conformance_run.h"

#include <fmt/format.h>

namespace vexil {

std::string Compare(const Expected& e) {
  const std::vector<double> got = ToF64(e.output);
  VX_CHECK(got.size() == e.value.size() && got.size() == e.tolerance.size(), "the reference has another size");
  for (size_t i = 0; i < got.size(); ++i) {
    const double want = e.value[i];
    if (std::isnan(want) ? std::isnan(got[i]) : (got[i] == want || std::abs(got[i] - want) <= e.tolerance[i])) continue;
    return fmt::format("{}[{}]: want {:.9g}, got {:.9g}, off by {:.3g}, allowed {:.3g}", e.name, i, want, got[i],
                       std::abs(got[i] - want), e.tolerance[i]);
  }
  return {};
}

double LargestError(const Expected& e) {
  const std::vector<double> got = ToF64(e.output);
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - e.value[i]);
    if (e.tolerance[i] > 0 && error <= e.tolerance[i]) largest = std::max(largest, error / e.tolerance[i]);
  }
  return largest;
}

}  // namespace vexil
