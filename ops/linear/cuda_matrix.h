// y = x w^T for many rows of x on the FP8 tensor cores of Hopper: prefill. Dense with E4M3 weights; in groups (experts)
// with E2M1 weights, which become E4M3 on the way into shared memory.
#pragma once

#include <cstdint>

#include "ops/cuda/launch.h"

namespace vexil::cuda {

struct MatrixCall {
  int n_out = 0;  // N: a multiple of 8; groups: of 128
  int k = 0;      // K: a multiple of 128
  // x: E4M3 rows of K codes, `x_stride` bytes apart (a multiple of 16), with E8M0 scales [row, K / 128].
  const uint8_t* x = nullptr;
  int64_t x_stride = 0;
  const uint8_t* x_scale = nullptr;
  int64_t x_scale_stride = 0;
  // Dense: n rows. Groups: pair p in [offsets[e], offsets[e + 1]) takes row rows[p] (null: p) of x and weight e; both
  // lists are on the device, and `pairs` is offsets[experts].
  int n = 0;
  const int32_t* rows = nullptr;
  const int32_t* offsets = nullptr;
  int experts = 0;
  int pairs = 0;
};

struct MatrixWeight {
  const void* data = nullptr;      // [N, K] codes
  const uint8_t* scale = nullptr;  // E4M3: E8M0 [ceil(N / 128), K / 128]; E2M1: [N, K / 32]
};

constexpr int kMatrixExperts = 256;

// y [n, N] BF16, rows `y_stride` elements apart (a multiple of 8), E4M3 weight.
cudaError_t MatrixLinear(const Launch&, const MatrixCall&, const MatrixWeight& w, void* y, int64_t y_stride);

// Bytes of device memory that a group call needs as `workspace`.
int64_t GroupedMatrixWorkspace(const MatrixCall&, int sets);

// y [pairs, N] BF16, contiguous, E2M1 weights w[experts].
cudaError_t GroupedMatrixLinear(const Launch&, const MatrixCall&, const MatrixWeight* w, void* y, void* workspace);

// Gate, up and the gated activation (Swiglu: gate and up rounded to BF16 first): y [pairs, N] BF16, contiguous.
struct MatrixGate {
  float limit = 0;                     // 0: no clamp
  const float* row_weight = nullptr;   // or null: 1
  const int32_t* row_index = nullptr;  // of pair p into row_weight
};
cudaError_t GroupedMatrixGate(const Launch&, const MatrixCall&, const MatrixWeight* gate_weights,
                              const MatrixWeight* up, const MatrixGate& gate, void* y, void* workspace);

}  // namespace vexil::cuda
