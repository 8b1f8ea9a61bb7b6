// The argmax of a row in vectors, for Argmax and Sample: threads take chunks of the row, whose largest values say in
// which chunk to look for the index.
//
// For sources that are compiled once per target. Include after ops/vectors/pack-inl.h.
#if defined(VX_OPS_ARGMAX_ROW_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef VX_OPS_ARGMAX_ROW_INL
#undef VX_OPS_ARGMAX_ROW_INL
#else
#define VX_OPS_ARGMAX_ROW_INL
#endif

#include <algorithm>
#include <limits>

#include "ops/op.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {

inline constexpr int64_t kRowChunk = 4096, kMaxRowChunks = 256;

// The largest of n values, -infinity if none is a number. NaN never wins.
inline float LargestOf(const float* v, int64_t n) {
  Floats best = Set(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = AtLeastNumber(best, Load(v + i));
  alignas(64) float lanes[kLanes];
  Store(best, lanes);
  float largest = lanes[0];
  for (float l : lanes) largest = std::max(largest, l);
  for (; i < n; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

// The first index of `value`, n if there is none.
inline int64_t FirstEqual(const float* v, int64_t n, float value) {
  const D d;
  const auto wanted = hn::Set(d, value);
  int64_t i = 0;
  for (; i + int64_t(kPartLanes) <= n; i += int64_t(kPartLanes)) {
    const intptr_t lane = hn::FindFirstTrue(d, hn::Eq(hn::LoadU(d, v + i), wanted));
    if (lane >= 0) return i + lane;
  }
  while (i < n && v[i] != value) ++i;
  return i;
}

// The lowest index of the largest value; NaN never wins; 0 when every value is NaN.
inline int32_t ArgmaxOfWideRow(const Context& ctx, const float* v, int64_t count) {
  const int64_t chunk = std::max(kRowChunk, (count + kMaxRowChunks - 1) / kMaxRowChunks);
  const int64_t chunks = (count + chunk - 1) / chunk;
  float largest[kMaxRowChunks];
  ctx.For(chunks, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) largest[i] = LargestOf(v + i * chunk, std::min(chunk, count - i * chunk));
  });
  const int64_t first = std::max_element(largest, largest + chunks) - largest;
  // A row without numbers has none of its largest value either.
  const int64_t index = first * chunk + FirstEqual(v + first * chunk, count - first * chunk, largest[first]);
  return index < count ? int32_t(index) : 0;
}

}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
