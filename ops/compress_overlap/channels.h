// How the CPU kernels of the two compressors (CompressOverlap, CompressRunning) divide their work.
#pragma once

#include <algorithm>

#include "ops/op.h"

namespace vexil::cpu {

inline constexpr int64_t kCompressorChannels = 64;  // per piece

// body(s, begin, end) for the channels [begin, end) of every sequence, in pieces; `grain` of them are worth a thread. A
// sequence's tokens depend on each other, its channels do not.
template <class F>
void ForChannels(const Context& ctx, int64_t sequences, int64_t channels, int64_t grain, const F& body) {
  const int64_t pieces = (channels + kCompressorChannels - 1) / kCompressorChannels;
  ctx.For(sequences * pieces, grain, [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % pieces * kCompressorChannels;
      body(item / pieces, begin, std::min(begin + kCompressorChannels, channels));
    }
  });
}

// The grain for vectors: one token of a sequence is not worth a second thread.
inline int64_t VectorGrain(int64_t tokens, int64_t sequences) { return tokens > 4 * sequences ? 1 : 16; }

}  // namespace vexil::cpu
