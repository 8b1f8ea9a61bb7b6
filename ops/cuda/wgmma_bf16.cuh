// The BF16 matrix instruction of a warpgroup with both operands in shared memory, rows of K contiguous (SwizzledTile of
// hopper.cuh), by the number of columns.
#pragma once

#include "ops/cuda/hopper.cuh"

namespace vexil::cuda {

// d[64 x 64] = (keep ? d : 0) + a[64 x 16] * b[64 x 16]^T.
__device__ inline void WgmmaBF16(float (&d)[32], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %34, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" VX_REGISTERS32 "}, %32, %33, p, 1, 1, 0, 0;\n\t}"
      : VX_ACC32(0)
      : "l"(a), "l"(b), "r"(int(keep)));
}

// d[64 x 128] = (keep ? d : 0) + a[64 x 16] * b[128 x 16]^T.
__device__ inline void WgmmaBF16(float (&d)[64], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" VX_REGISTERS64 "}, %64, %65, p, 1, 1, 0, 0;\n\t}"
      : VX_ACC64(0)
      : "l"(a), "l"(b), "r"(int(keep)));
}

// d[64 x 256] = (keep ? d : 0) + a[64 x 16] * b[256 x 16]^T.
__device__ inline void WgmmaBF16(float (&d)[128], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %130, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" VX_REGISTERS128 "}, %128, %129, p, 1, 1, 0, 0;\n\t}"
      : VX_ACC128
      : "l"(a), "l"(b), "r"(int(keep)));
}

}  // namespace vexil::cuda
