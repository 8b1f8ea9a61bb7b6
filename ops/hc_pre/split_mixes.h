// From a token's mixes to its weights, for the CPU kernels of HcPre.
#pragma once

#include <algorithm>
#include <cmath>

#include "ops/fault.h"
#include "ops/hc_pre/hc_math.h"
#include "ops/hc_pre/hc_pre.h"

namespace vexil::cpu {

inline constexpr int64_t kMaxMixes = (2 + HcPre::kMaxStreams) * HcPre::kMaxStreams;

// A row of m values becomes its softmax plus eps.
inline void SoftmaxRow(float* row, int64_t m, float eps) {
  const float max = *std::max_element(row, row + m);
  float sum = 0;
  for (int64_t k = 0; k < m; ++k) {
    row[k] = std::exp(row[k] - max);
    sum += row[k];
  }
  for (int64_t k = 0; k < m; ++k) row[k] = row[k] / sum + (VX_FAULT("softmax_without_eps") ? 0.0f : eps);
}

// Divides each of m groups by its sum plus eps. Group g is the elements g*group_stride + i*stride, i in [0, m).
inline void Normalize(float* c, int64_t m, int64_t group_stride, int64_t stride, float eps) {
  for (int64_t g = 0; g < m; ++g) {
    float* group = c + g * group_stride;
    float sum = 0;
    for (int64_t i = 0; i < m; ++i) sum += group[i * stride];
    for (int64_t i = 0; i < m; ++i) group[i * stride] /= sum + eps;
  }
}

// c [m, m], whose rows have had their softmax, in place (spec: model, section 5.2). The last step normalises columns.
inline void Sinkhorn(float* c, int64_t m, float eps, int iters) {
  const auto rows = [&] { Normalize(c, m, m, 1, eps); };
  const auto columns = [&] { Normalize(c, m, 1, m, eps); };
  columns();
  for (int i = VX_FAULT("one_iteration_less") ? 2 : 1; i < iters; ++i) {
    VX_FAULT("columns_before_rows") ? columns() : rows();
    VX_FAULT("columns_before_rows") ? rows() : columns();
  }
}

// pre, post [m] and comb [m, m], which is not balanced yet, of one token from its (2+m)m mixes.
inline void SplitMixes(const HcPre::Args& a, const float* mix, int64_t m, float* pre, float* post, float* comb) {
  const float *scale = a.scale.Data<float>(), *base = a.base.Data<float>();
  for (int64_t s = 0; s < m; ++s) {
    pre[s] = Sigmoid(mix[s] * scale[0] + base[s]) + (VX_FAULT("pre_without_eps") ? 0.0f : a.hc_eps);
    post[s] = (VX_FAULT("post_not_doubled") ? 1.0f : 2.0f) * Sigmoid(mix[m + s] * scale[1] + base[m + s]);
    if (VX_FAULT("post_with_eps")) post[s] += a.hc_eps;
  }
  for (int64_t i = 0; i < m * m; ++i) comb[i] = mix[2 * m + i] * scale[2] + base[2 * m + i];
  for (int64_t j = 0; j < m; ++j) SoftmaxRow(comb + j * m, m, a.hc_eps);
}

}  // namespace vexil::cpu
