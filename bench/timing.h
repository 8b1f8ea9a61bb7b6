// Repeated timing: median and spread.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

namespace vexil {

struct Timing {
  double median_s = 0;
  double spread = 0;  // (90th - 10th percentile) / median
  int64_t runs = 0;
};

struct TimingOptions {
  double seconds = 0.3;  // of measuring, at least
  int64_t min_runs = 5;  // unless they would take longer than max_seconds
  double max_seconds = 3;
};

inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The median and spread of seconds that are there already.
Timing Summarize(std::vector<double> seconds);

// Times body(i) for i = 0, 1, ... one by one, after one run that does not count. Stops early when `stop` says so.
Timing Measure(const TimingOptions& options, const std::function<void(int64_t)>& body,
               const std::function<bool()>& stop = {});

}  // namespace vexil
