// y = x w^T for few rows of x, where reading the weights is all the work: decoding. Also in groups (one weight per
// group of rows, a mixture of experts) and with the gated activation of an expert in the same launch.
#pragma once

#include <cstdint>

#include "ops/cuda/launch.h"

namespace vexil::cuda {

enum class SkinnyWeight { kE4M3, kE2M1, kBF16, kI8 };

enum class SkinnyInput {
  kE4M3,         // codes and scales, as QuantizeActivation makes them
  kBF16,         // taken as it is: weights in BF16, I8 or E4M3
  kBF16Quantize  // made E4M3 with one scale per 128 channels on the way in, as QuantizeActivation would
};

constexpr int kSkinnyRows = 16;      // rows of x that share one pass over the weights, at most
constexpr int kSkinnyExperts = 256;  // of a group call
constexpr int kSkinnyChunks = 1024;  // pairs / 8 + experts of a group call, at most
constexpr int kSkinnyParts = 16;     // of a call in parts

struct SkinnyCall {
  SkinnyWeight weight;
  SkinnyInput input;
  int n_out = 0;  // N: outputs per row
  int k = 0;      // K: E4M3, I8: a multiple of 128; E2M1: of 512; BF16: of 64
  // x: rows of K elements, `x_stride` bytes apart, 16-byte aligned.
  const void* x = nullptr;
  int64_t x_stride = 0;
  const uint8_t* x_scale = nullptr;  // kE4M3: E8M0 [row, K / 128]
  int64_t x_scale_stride = 0;
  // E4M3 weights: E8M0, one row of K / 128 scales per `scale_rows` rows (128 or 1). E2M1: [N, K / 32]. I8: F32 [N].
  int scale_rows = 128;
  // y: rows of N elements, `y_stride` elements apart, BF16 or F32.
  void* y = nullptr;
  int64_t y_stride = 0;
  bool y_f32 = false;
  // One weight: n rows. Groups: n bounds the rows of one expert (the tokens, where each picks an expert once); rows p
  // in [offsets[e], offsets[e + 1]) of y come from row rows[p] (null: p) of x and weight e; both lists are on the
  // device and `pairs` is offsets[experts].
  int n = 0;
  const int32_t* rows = nullptr;
  const int32_t* offsets = nullptr;
  int experts = 0;
  int pairs = 0;
  // Parts: each with its own weight, columns of x and columns of y.
  int parts = 0;
  int64_t x_part_stride = 0, y_part_stride = 0;  // bytes; elements
  int blocks_per_sm = 0;                         // 0: chosen
};

struct SkinnyMatrix {
  const void* data = nullptr;  // [N, K], 16-byte aligned
  const void* scale = nullptr;
};

// The gated activation between the two products: y = silu(min(gate, limit)) * clamp(up, +-limit) * row_weight, where
// gate and up are rounded to BF16 first (Swiglu).
struct SkinnyGate {
  float limit = 0;                     // 0: no clamp
  const float* row_weight = nullptr;   // or null: 1
  const int32_t* row_index = nullptr;  // of pair p into row_weight
};

// y = x w^T.
cudaError_t SkinnyLinear(const Launch&, const SkinnyCall&, const SkinnyMatrix& w);
// The same by parts: w[parts]; x in BF16.
cudaError_t SkinnyPartsLinear(const Launch&, const SkinnyCall&, const SkinnyMatrix* w);
// The same by groups: w[experts].
cudaError_t SkinnyGroupedLinear(const Launch&, const SkinnyCall&, const SkinnyMatrix* w);
// Gate, up and activation: y is BF16, [n, N].
cudaError_t SkinnyGatedLinear(const Launch&, const SkinnyCall&, const SkinnyMatrix& gate, const SkinnyMatrix& up,
                              const SkinnyGate&);
// The same by groups: y is [pairs, N].
cudaError_t SkinnyGroupedGate(const Launch&, const SkinnyCall&, const SkinnyMatrix* gate, const SkinnyMatrix* up,
                              const SkinnyGate&);

}  // namespace vexil::cuda
