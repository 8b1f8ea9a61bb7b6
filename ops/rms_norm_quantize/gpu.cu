// A block per row, whose elements stay in registers: thread t holds 4t .. 4t + 3, so that a warp holds the 128 channels
// of a scale. The norm is RmsNorm's, with its bits.
#include "ops/quantize_activation/gpu_block_scale.cuh"
#include "ops/rms_norm/gpu_rms_norm.cuh"
#include "ops/rms_norm_quantize/two_ops.h"

namespace vexil::gpu {
namespace {

constexpr int kBlock = 4 * kWarp;  // channels to a scale

template <class T, class W>
__global__ void RmsNormQuantizeKernel(Rows<const T> x, const W* weight, Rows<uint8_t> codes, Rows<uint8_t> scales,
                                      int d, float eps) {
  BeginKernel();
  __shared__ float partial[kWarp];
  const int c = 4 * int(threadIdx.x);
  Four v = NormedFour(x.at(blockIdx.x), weight, d, eps, partial);
  uint32_t max = 0;
  for (float& e : v.v) {
    e = Rounded<T>(e);
    const uint32_t bits = __float_as_uint(e) & 0x7fffffffu;
    max = bits > max ? bits : max;
  }
  const uint8_t scale = ScaleCode(__uint_as_float(WarpReduce(max, Larger())), E4M3Rule());
  const float inverse = 1.0f / E8M0ToF32(scale);
  if (c >= d) return;
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= uint32_t(F32ToE4M3(ClampTo(v.v[i] * inverse, E4M3Rule().max))) << (8 * i);
  *reinterpret_cast<uint32_t*>(codes.at(blockIdx.x) + c) = word;
  if (Lane() == 0) scales.at(blockIdx.x)[Warp()] = scale;
}

}  // namespace

Support RmsNormQuantizeBlockSupports(const Context&, const RmsNormQuantize::Args& a) {
  VX_REQUIRE(IsElement(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(IsElement(a.weight.dtype()), "weight must be F32 or BF16");
  VX_REQUIRE(a.block == kBlock, "takes 128 channels to a scale");
  VX_REQUIRE(a.x.dim(1) <= kMaxWide && FitsLoad4(a.x) && FitsLoad4(a.weight) && FitsLoad4(a.codes),
             "rows must be of 4 aligned elements and up to 4096");
  return {};
}

Status RmsNormQuantizeBlock(const Context& ctx, const RmsNormQuantize::Args& a) {
  const int d = int(a.x.dim(1));
  if (a.x.dim(0) == 0 || d == 0) return {};
  WithElement(a.x.dtype(), [&](auto x) {
    WithElement(a.weight.dtype(), [&](auto w) {
      using T = decltype(x);
      using W = decltype(w);
      Launch(ctx, RmsNormQuantizeKernel<T, W>, unsigned(a.x.dim(0)), WideThreads(d), 0, RowsOf<T>(a.x),
             DataOf<W>(a.weight), MutRowsOf<uint8_t>(a.codes), MutRowsOf<uint8_t>(a.scale), d, a.eps);
    });
  });
  return Launched(RmsNormQuantize::kName);
}

Support RmsNormQuantizeTwoOpsSupports(const Context& ctx, const RmsNormQuantize::Args&) { return TwoOpsSupport(ctx); }

Status RmsNormQuantizeTwoOps(const Context& ctx, const RmsNormQuantize::Args& a) { return RunTwoOps(ctx, a); }

}  // namespace vexil::gpu
