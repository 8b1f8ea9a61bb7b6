// A warp per block of a row. Reads x twice (the second time from cache), writes a byte per element.
#include "ops/quantize_activation/gpu_block_scale.cuh"
#include "ops/quantize_activation/quantize_activation.h"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 4;

template <class T>
__global__ void QuantizeKernel(Rows<const T> x, Rows<uint8_t> codes, Rows<uint8_t> scales, int width, int block) {
  BeginKernel();
  const int index = int(blockIdx.y) * kWarps + Warp();
  const int64_t begin = int64_t(index) * block;
  if (begin >= width) return;
  const int n = width - begin < block ? int(width - begin) : block;
  const T* in = x.at(blockIdx.x) + begin;
  uint8_t* out = codes.at(blockIdx.x) + begin;
  const uint8_t scale = ScaleCode(AbsMax(in, n), E4M3Rule());
  if (Lane() == 0) scales.at(blockIdx.x)[index] = scale;
  const float inverse = 1.0f / E8M0ToF32(scale);  // a power of two or NaN: the product is the exact quotient
  for (int i = Lane(); i < n; i += kWarp) out[i] = F32ToE4M3(ClampTo(ToF32(in[i]) * inverse, E4M3Rule().max));
}

}  // namespace

Support QuantizeActivationWarpSupports(const Context&, const QuantizeActivation::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status QuantizeActivationWarp(const Context& ctx, const QuantizeActivation::Args& a) {
  const dim3 grid(unsigned(a.x.dim(0)), Blocks(a.scale.dim(1), kWarps));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    Launch(ctx, QuantizeKernel<T>, grid, kWarps * kWarp, 0, RowsOf<T>(a.x), MutRowsOf<uint8_t>(a.codes),
           MutRowsOf<uint8_t>(a.scale), int(a.x.dim(1)), int(a.block));
  });
  return Launched(QuantizeActivation::kName);
}

}  // namespace vexil::gpu
