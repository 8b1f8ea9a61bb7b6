// SparseAttention of V4-Flash's shape on Hopper: 64 heads of 512 channels in BF16.
#pragma once

#include <cstdint>

#include "ops/attention_rows/gpu_lists.cuh"
#include "ops/cuda/launch.h"

namespace vexil::cuda {

constexpr int kAttentionHeads = 64, kAttentionWidth = 512;

struct AttentionCall {
  // q, y: [n, 64, 512] BF16; strides in elements, multiples of 8.
  const void* q = nullptr;
  int64_t q_token_stride = 0, q_head_stride = 0;
  void* y = nullptr;
  int64_t y_token_stride = 0, y_head_stride = 0;
  int n = 0;
  // A token's list of rows, -1 is no row: [n, columns], or null: as `lists` defines them. Rows count through the three
  // pools. A pool's rows are `pool_stride` elements apart.
  const int32_t* rows = nullptr;
  int64_t rows_stride = 0;
  gpu::Lists lists = {};
  int columns = 0;
  const void* pool[3] = {};
  int64_t pool_rows[3] = {};
  int64_t pool_stride[3] = {};
  const float* sink = nullptr;  // [64]
  float scale = 0;
};

// Tokens up to which a call splits each list over several blocks. The split depends on the list's length alone, so that
// up to this number a token's result does not depend on its company.
constexpr int kAttentionSplitTokens = 64;

// Bytes of device memory that the call needs as `workspace`.
int64_t AttentionWorkspace(const AttentionCall&, int blocks_per_split = 0);

// blocks_per_split: blocks of 64 columns per split; 0: the default.
cudaError_t Attention(const Launch&, const AttentionCall&, void* workspace, int blocks_per_split = 0);

}  // namespace vexil::cuda
