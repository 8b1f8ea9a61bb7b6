// How the copy engine finds tiles of a matrix in global memory. For .cu files.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace vexil::cuda {

// A map of `rows` rows of `row_bytes` bytes, `stride` bytes apart (16-byte aligned), in tiles of `tile` rows by 128
// bytes that land swizzled in groups of 8 rows. What a tile has beyond the matrix is zeros.
inline cudaError_t MakeTileMap(CUtensorMap* map, const void* data, int64_t rows, int64_t row_bytes, int64_t stride,
                               int tile) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found) !=
        cudaSuccess) {
      f = nullptr;
    }
    return reinterpret_cast<Encode>(f);
  }();
  if (!encode) return cudaErrorNotSupported;
  const cuuint64_t sizes[2] = {cuuint64_t(row_bytes), cuuint64_t(rows)}, strides[1] = {cuuint64_t(stride)};
  const cuuint32_t box[2] = {128, cuuint32_t(tile)}, steps[2] = {1, 1};
  const CUresult r = encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(data), sizes, strides, box, steps,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace vexil::cuda
