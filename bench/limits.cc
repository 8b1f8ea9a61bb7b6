#include "bench/limits.h"

#include <atomic>
#include <chrono>
#include <new>

#include "base/rng.h"

namespace vexil {
namespace {

constexpr size_t kChunk = size_t(1) << 20;  // bytes per piece of the read loop
constexpr double kPieceFlops = 2e7;         // a fraction of a millisecond
constexpr int64_t kPiecesPerThread = 16;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Written by the loops so that their work counts as used.
std::atomic<uint64_t> sink{0};

// A chunk as eight streams side by side, a cache line of each at a time: one stream alone does not keep the
// prefetchers of a core busy.
uint64_t Xor(const uint64_t* p, size_t count) {
  constexpr size_t kStreams = 8, kLine = 8;
  const size_t stream = count / kStreams;
  uint64_t s[kLine] = {};
  for (size_t i = 0; i + kLine <= stream; i += kLine) {
    for (size_t k = 0; k < kStreams; ++k) {
      for (size_t l = 0; l < kLine; ++l) s[l] ^= p[k * stream + i + l];
    }
  }
  return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

}  // namespace

MachineLimits::MachineLimits(ThreadPool& threads, size_t bytes)
    : threads_(threads), bytes_(bytes / kChunk * kChunk), buffer_(HostMemory::Allocate(bytes_)) {
  if (buffer_.data() == nullptr) throw std::bad_alloc();
  uint64_t* words = reinterpret_cast<uint64_t*>(buffer_.data());
  threads_.For(int64_t(bytes_ / kChunk), 1, [&](int64_t begin, int64_t end) {
    constexpr size_t kWords = kChunk / sizeof(uint64_t);
    for (size_t i = size_t(begin) * kWords; i < size_t(end) * kWords; ++i) words[i] = Mix64(i);
  });
}

double MachineLimits::ReadBandwidth() {
  const double start = Seconds();
  threads_.For(int64_t(bytes_ / kChunk), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      sink ^= Xor(reinterpret_cast<const uint64_t*>(buffer_.data() + size_t(i) * kChunk), kChunk / sizeof(uint64_t));
    }
  });
  return double(bytes_) / (Seconds() - start);
}

double MachineLimits::Peak(const PeakLoop& loop) {
  const int64_t pieces = kPiecesPerThread * threads_.threads();
  const double start = Seconds();
  threads_.For(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sink ^= uint64_t(loop.run(kPieceFlops));
  });
  return double(pieces) * kPieceFlops / (Seconds() - start);
}

MachineLimits::ComputePeak MachineLimits::Peak(ComputeUnit unit) {
  ComputePeak best;
  for (const PeakLoop& loop : PeakLoops()) {
    if (!loop.supported() || !(unit == ComputeUnit::kF32 ? loop.f32 : loop.bf16)) continue;
    const double flops = Peak(loop);
    if (flops > best.flops) best = {loop.name, flops};
  }
  return best;
}

}  // namespace vexil
