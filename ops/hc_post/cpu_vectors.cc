// HcPost in vectors: rounding and order of every sum are those of the plain kernel (products and sums round apart), so
// all give the same bits. 16 columns of all streams are read before any of them is written, since y may be the
// residual. Bytes moved: x, the residual and y once.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/hc_post/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/elements.h"
#include "ops/hc_post/hc_post.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

// Columns [begin, end) of token t; both multiples of 16.
template <class T, int kStreams>
void MixColumns(const HcPost::Args& a, int64_t t, int64_t begin, int64_t end) {
  const float *post = a.post.Row<float>(t), *comb = a.comb.Row<float>(t);
  const T *x = a.x.Row<T>(t), *residual = a.residual.Row<T>(t);
  T* y = a.y.MutRow<T>(t);
  const int64_t from = a.residual.stride(1), to = a.y.stride(1);
  for (int64_t c = begin; c < end; c += kLanes) {
    const Floats v = Load(x + c);
    Floats r[kStreams];
    for (int j = 0; j < kStreams; ++j) r[j] = Load(residual + j * from + c);
    for (int k = 0; k < kStreams; ++k) {
      Floats sum = Set(comb[k]) * r[0];
      for (int j = 1; j < kStreams; ++j) sum = sum + Set(comb[j * kStreams + k]) * r[j];
      Store(Set(post[k]) * v + sum, y + k * to + c);
    }
  }
}

Status HcPostVectors(const Context& ctx, const HcPost::Args& a) {
  constexpr int64_t kColumns = 1024;  // a few microseconds of work
  const int64_t d = a.residual.dim(2), across = (d + kColumns - 1) / kColumns;
  WithFloatType(a.x.dtype(), [&](auto e) {
    ctx.For(a.x.dim(0) * across, 2, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = i % across * kColumns;
        MixColumns<decltype(e), 4>(a, i / across, begin, std::min(begin + kColumns, d));
      }
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support HcPostVectorsSupport(const Context&, const HcPost::Args& a) {
  VX_REQUIRE(IsFloat(a.x.dtype()), "x must be F32 or BF16");
  VX_REQUIRE(a.residual.dim(1) == 4, "4 streams only");
  VX_REQUIRE(a.residual.dim(2) % 16 == 0, "D must be a multiple of 16");
  return {};
}

HWY_EXPORT(HcPostVectors);
VX_VECTOR_KERNELS(HcPost)

}  // namespace vexil::cpu
#endif
