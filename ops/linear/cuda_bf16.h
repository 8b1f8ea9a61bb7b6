// y = x w^T for many rows of x in BF16 on the BF16 tensor cores of Hopper: prefill, where the inputs of a linear are
// not rounded to E4M3. Also by parts (BlockLinear).
#pragma once

#include <cstdint>

#include "ops/cuda/launch.h"

namespace vexil::cuda {

enum class Bf16Weight { kBF16, kE4M3 };

constexpr int kBf16Parts = 16;  // of a call, at most

struct Bf16Call {
  Bf16Weight weight;
  int n_out = 0;  // N: a multiple of 8
  int k = 0;      // K: a multiple of 64
  int n = 0;      // rows of x and y
  // x: rows of K values, `x_stride` bytes apart (a multiple of 16).
  const void* x = nullptr;
  int64_t x_stride = 0;
  bool row_scales = false;  // an E4M3 weight has ceil(K / 128) scales for every row, not every 128
  // y: rows of N elements, `y_stride` elements apart, BF16 or F32; rows begin at multiples of 16 bytes.
  void* y = nullptr;
  int64_t y_stride = 0;
  bool y_f32 = false;
  // Part p takes columns [p K, (p + 1) K) of x and gives columns [p N, (p + 1) N) of y.
  int parts = 1;
};

struct Bf16Matrix {
  const void* data = nullptr;      // [N, K], 16-byte aligned
  const uint8_t* scale = nullptr;  // E8M0
};

// Bytes of device memory, 16-byte aligned, with which a call is faster; 0: none.
int64_t Bf16Workspace(const Bf16Call&);

// One weight for each part. `workspace` may be null.
cudaError_t Bf16Linear(const Launch&, const Bf16Call&, const Bf16Matrix* w, void* workspace);

}  // namespace vexil::cuda
