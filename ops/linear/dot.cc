#include <algorithm>

#include "ops/linear/plain.h"

// The same C++ compiled for several vector widths, chosen when the program starts. Products and sums are not fused
// and their order is fixed, so every version gives the same bits. Sanitizers start too late for that mechanism.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define VX_VECTOR_WIDTHS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VX_VECTOR_WIDTHS
#endif

namespace vexil::cpu {

// 16 lanes and blocks of 256: the longest chain of additions that an element goes through is 16 + K/256 + 16, so the
// error hardly grows with K.
VX_VECTOR_WIDTHS void DotRows(const float* x, int64_t n, int64_t k, const float* w, float* y) {
  constexpr int64_t kLanes = 16, kBlock = 256;
  const bool keep_tail = !VX_FAULT("dropped_tail");
  for (int64_t row = 0; row < n; ++row, x += k) {
    float total[kLanes] = {};
    for (int64_t begin = 0; begin < k; begin += kBlock) {
      const int64_t end = std::min(k, begin + kBlock);
      float sum[kLanes] = {};
      int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) sum[l] += x[i + l] * w[i + l];
      }
      for (int64_t l = 0; i + l < end && keep_tail; ++l) sum[l] += x[i + l] * w[i + l];
      for (int64_t l = 0; l < kLanes; ++l) total[l] += sum[l];
    }
    float dot = 0;
    for (float t : total) dot += t;
    y[row] = dot;
  }
}

}  // namespace vexil::cpu
