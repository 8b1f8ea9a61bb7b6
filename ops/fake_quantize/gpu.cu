// A warp per block of a row, in place.
#include "ops/fake_quantize/fake_quantize.h"
#include "ops/quantize_activation/gpu_block_scale.cuh"

namespace vexil::gpu {
namespace {

constexpr int kWarps = 4;

template <class T, bool kE4M3>
__global__ void FakeQuantizeKernel(Rows<T> x, int width, int block) {
  BeginKernel();
  const int64_t begin = (int64_t(blockIdx.y) * kWarps + Warp()) * block;
  if (begin >= width) return;
  const int n = width - begin < block ? int(width - begin) : block;
  const ScaleRule rule = kE4M3 ? E4M3Rule() : E2M1Rule();
  T* v = x.at(blockIdx.x) + begin;
  const float scale = E8M0ToF32(ScaleCode(AbsMax(v, n), rule)), inverse = 1.0f / scale;
  for (int i = Lane(); i < n; i += kWarp) {
    const float clamped = ClampTo(ToF32(v[i]) * inverse, rule.max);
    v[i] = FromF32<T>((kE4M3 ? E4M3ToF32(F32ToE4M3(clamped)) : RoundToE2M1(clamped)) * scale);
  }
}

}  // namespace

Support FakeQuantizeWarpSupports(const Context&, const FakeQuantize::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  return {};
}

Status FakeQuantizeWarp(const Context& ctx, const FakeQuantize::Args& a) {
  const int64_t blocks = (a.x.dim(1) + a.block - 1) / a.block;
  const dim3 grid(unsigned(a.x.dim(0)), Blocks(blocks, kWarps));
  if (grid.x == 0 || grid.y == 0) return {};
  WithElement(a.x.dtype(), [&](auto e) {
    using T = decltype(e);
    const auto kernel =
        a.format == FakeQuantize::Format::kE4M3 ? FakeQuantizeKernel<T, true> : FakeQuantizeKernel<T, false>;
    Launch(ctx, kernel, grid, kWarps * kWarp, 0, MutRowsOf<T>(a.x), int(a.x.dim(1)), int(a.block));
  });
  return Launched(FakeQuantize::kName);
}

}  // namespace vexil::gpu
