#include "bench/timing.h"

#include <algorithm>
#include <cmath>

namespace vexil {

Timing Summarize(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) { return seconds[size_t(std::lround(share * double(seconds.size() - 1)))]; };
  Timing t;
  t.median_s = at(0.5);
  t.spread = t.median_s > 0 ? (at(0.9) - at(0.1)) / t.median_s : 0;
  t.runs = int64_t(seconds.size());
  return t;
}

Timing Measure(const TimingOptions& options, const std::function<void(int64_t)>& body,
               const std::function<bool()>& stop) {
  body(0);
  std::vector<double> seconds;
  const double start = NowSeconds();
  for (int64_t i = 1;; ++i) {
    const double before = NowSeconds();
    body(i);
    const double after = NowSeconds();
    seconds.push_back(after - before);
    const double spent = after - start;
    if (spent >= options.max_seconds || (stop && stop())) break;
    if (spent >= options.seconds && i >= options.min_runs) break;
  }
  return Summarize(std::move(seconds));
}

}  // namespace vexil
