// Random weights and routing for linear.cu.
#pragma once

#include "bench/gpu/bench.cuh"
#include "ops/linear/cuda_bf16.h"
#include "ops/linear/cuda_matrix.h"
#include "ops/linear/cuda_skinny.h"

namespace {

using namespace bench;
using namespace vexil::cuda;

struct Weight {
  SkinnyWeight format;
  int n, k;
  void* data;
  void* scale;
  SkinnyMatrix skinny() const { return {data, scale}; }
  MatrixWeight matrix() const { return {data, static_cast<const uint8_t*>(scale)}; }
  double bytes() const {
    const double e = double(n) * k;
    return format == SkinnyWeight::kE2M1 ? e / 2 + e / 32 : format == SkinnyWeight::kBF16 ? 2 * e : e;
  }
};
Weight RandomWeight(SkinnyWeight f, int n, int k, float low = 117, float high = 123) {
  const int64_t e = int64_t(n) * k;
  switch (f) {
    case SkinnyWeight::kE4M3:
      return {f, n, k, Random<uint8_t>(Fill::kE4M3, e),
              Random<uint8_t>(Fill::kExponent, int64_t(n + 127) / 128 * (k / 128), low, high)};
    case SkinnyWeight::kE2M1:
      return {f, n, k, Random<uint8_t>(Fill::kBytes, e / 2), Random<uint8_t>(Fill::kExponent, e / 32, low, high)};
    case SkinnyWeight::kBF16:
      return {f, n, k, Random<__nv_bfloat16>(Fill::kBF16, e), nullptr};
    case SkinnyWeight::kI8:
      return {f, n, k, Random<uint8_t>(Fill::kBytes, e), Random<float>(Fill::kF32, n, 0.01f)};
  }
  std::abort();
}
void Free(const Weight& w) {
  CUDA_OK(cudaFree(w.data));
  if (w.scale) CUDA_OK(cudaFree(w.scale));
}

__device__ double WeightAt(const Weight& w, int64_t j, int64_t k, bool y_f32) {
  const uint8_t* d = static_cast<const uint8_t*>(w.data);
  const uint8_t* s = static_cast<const uint8_t*>(w.scale);
  switch (w.format) {
    case SkinnyWeight::kE4M3:
      return E4M3Value(d[j * w.k + k]) * E8M0Value(s[j / 128 * (w.k / 128) + k / 128]);
    case SkinnyWeight::kE2M1:
      return E2M1Value(d[j * (w.k / 2) + k / 2] >> (k % 2 * 4) & 15) * E8M0Value(s[j * (w.k / 32) + k / 32]);
    case SkinnyWeight::kBF16:
      return double(__bfloat162float(static_cast<const __nv_bfloat16*>(w.data)[j * w.k + k]));
    case SkinnyWeight::kI8: {
      const float v = float(int8_t(d[j * w.k + k])) * static_cast<const float*>(w.scale)[j];
      return y_f32 ? double(v) : double(__bfloat162float(__float2bfloat16_rn(v)));
    }
  }
  return 0;
}
struct Routing {
  std::vector<int> offsets, rows, expert, pair_index;
  int *d_offsets, *d_rows, *d_expert, *d_index;
};
Routing RandomRouting(int tokens, int experts, int top, uint64_t seed) {
  Routing r;
  std::vector<std::vector<int>> of(static_cast<size_t>(experts));
  std::vector<std::vector<int>> slot(of);
  for (int t = 0; t < tokens; ++t) {
    std::vector<int> chosen;
    for (uint64_t i = 0; int(chosen.size()) < top; ++i) {
      const int e = int(Hash(seed * 7919 + uint64_t(t) * 1000003 + i) % uint32_t(experts));
      if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
    }
    for (int i = 0; i < top; ++i)
      of[size_t(chosen[size_t(i)])].push_back(t), slot[size_t(chosen[size_t(i)])].push_back(t * top + i);
  }
  r.offsets.push_back(0);
  for (size_t e = 0; e < of.size(); ++e) {
    for (size_t i = 0; i < of[e].size(); ++i) {
      r.rows.push_back(of[e][i]);
      r.pair_index.push_back(slot[e][i]);
      r.expert.push_back(int(e));
    }
    r.offsets.push_back(int(r.rows.size()));
  }
  r.d_offsets = Upload(r.offsets);
  r.d_rows = Upload(r.rows);
  r.d_expert = Upload(r.expert);
  r.d_index = Upload(r.pair_index);
  return r;
}

}  // namespace
