// A row of Sample as its blocks see it: parameters and weights.
#pragma once

#include "ops/argmax/gpu_row.cuh"
#include "ops/sample/sample.h"

namespace vexil::gpu {

using Weight = unsigned long long;
inline constexpr double kOne = 0x1p44;  // the weight of the likeliest token
inline constexpr float kMinTemperature = 1e-5f;

// Distances from the largest logit, in steps of 1/16 of the temperature; the last one and all beyond are one.
inline constexpr int kDistances = 512;
inline constexpr float kDistancesPerTemperature = 16;

struct Parameters {
  const float* temperature;
  const int32_t* top_k;
  const float *top_p, *min_p, *uniform;
};

struct Row {
  bool decided = false;  // token is the answer
  int token = Sample::kNoToken;
  float max = 0;
  double inverse = 1;  // of the temperature
  float distance_scale = 1;
  bool by_k = false, by_p = false, ranked = false;
  int top_k = 0;
  double top_p = 1;
  Weight least = 0;  // that min_p leaves
  float uniform = 0;

  __device__ Weight WeightOf(float logit) const {
    return Weight(exp((double(logit) - double(max)) * inverse) * kOne + 0.5);
  }
  // Ascends as logits descend.
  __device__ int DistanceOf(float logit) const {
    const float d = (max - logit) * distance_scale;
    return d < float(kDistances - 1) ? int(d) : kDistances - 1;
  }
  // The weights that a nucleus must reach, of a sum.
  __device__ Weight Wanted(Weight sum) const {
    const double wanted = ceil(top_p * double(sum));
    return wanted > 1 ? Weight(wanted) : 1;
  }
  // The token is the first whose cumulative weight exceeds this.
  __device__ Weight Target(Weight total) const {
    const Weight target = Weight(double(uniform) * double(total));
    return target < total ? target : total - 1;
  }
};

// best: the smallest key of the row, 0 if it has a NaN.
__device__ inline Row RowOf(const Parameters& p, int row, const float* logits, int vocab, uint64_t best) {
  Row r;
  r.decided = true;
  if (best == 0) return r;
  const int token = int(uint32_t(best));
  r.max = logits[token];
  if (!(fabsf(r.max) < INFINITY)) return r;
  const float temperature = p.temperature[row];
  r.token = token;
  if (!(temperature > 0)) return r;
  r.decided = false;
  const float divisor = temperature > kMinTemperature ? temperature : kMinTemperature;
  r.inverse = 1 / double(divisor);
  r.distance_scale = kDistancesPerTemperature / divisor;
  r.top_k = p.top_k[row];
  r.top_p = double(p.top_p[row]);
  r.by_k = r.top_k > 0 && r.top_k < vocab;
  r.by_p = p.top_p[row] < 1;
  r.ranked = r.by_k || r.by_p;
  const double floor = p.min_p[row] < 1 ? double(p.min_p[row]) : 1.0;
  r.least = floor > 0 ? Weight(floor * kOne + 0.5) : 0;
  r.uniform = p.uniform[row];
  return r;
}

}  // namespace vexil::gpu
