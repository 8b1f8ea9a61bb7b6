// The mixing weights against independently computed ones, and the bits of a token in any batch.
#include "ops/hc_pre/hc_pre.h"

#include <gtest/gtest.h>

#include <cstring>

#include "testing/conformance.h"
#include "testing/golden.h"

namespace vexil {
namespace {

constexpr int64_t kStreams = 4, kMixes = (2 + kStreams) * kStreams;

// One token of width 1 whose stream `hot` is 2 and whose others are 0: without norm_eps, r is 1 exactly, so that
// twice column `hot` of fn are the mixes, and x is 2 * pre of that stream.
HcPre::Args OneHot(TestArena& arena, const Json& golden, int64_t hot) {
  std::vector<float> h(kStreams), fn(kMixes * kStreams);
  const std::vector<float> mixes = GoldenFloats(GoldenList(golden, "mixes"));
  h[size_t(hot)] = 2;
  for (size_t j = 0; j < mixes.size(); ++j) fn[j * kStreams + size_t(hot)] = mixes[j] / 2;
  return {.h = arena.Values<float>({1, kStreams, 1}, h),
          .fn = arena.Values<float>({kMixes, kStreams}, fn),
          .scale = arena.Values<float>({3}, GoldenFloats(GoldenList(golden, "scale"))),
          .base = arena.Values<float>({kMixes}, GoldenFloats(GoldenList(golden, "base"))),
          .x = arena.Poison(DType::kF32, {1, 1}),
          .post = arena.Poison(DType::kF32, {1, kStreams}),
          .comb = arena.Poison(DType::kF32, {1, kStreams, kStreams}),
          .norm_eps = 0,
          .hc_eps = 1e-6f,
          .sinkhorn_iters = 20};
}

void ExpectClose(float got, float want) { EXPECT_NEAR(got, want, 1e-5 * std::abs(want)); }

TEST(HcPre, WeightsMatchTheTables) {
  int cases = 0;
  const Json file = ReadFormatsData("sinkhorn.json");
  for (const Json& golden : GoldenList(file, "cases")) {
    ++cases;
    const std::vector<float> pre = GoldenFloats(GoldenList(golden, "pre"));
    const std::vector<float> post = GoldenFloats(GoldenList(golden, "post"));
    for (int64_t hot = 0; hot < kStreams; ++hot) {
      TestArena arena(1);
      const HcPre::Args a = OneHot(arena, golden, hot);
      ASSERT_TRUE(vexil::Run<HcPre>({}, a).ok());
      ExpectClose(a.x.Data<float>()[0], 2 * pre[size_t(hot)]);
      for (int64_t j = 0; j < kStreams; ++j) {
        ExpectClose(a.post.Data<float>()[j], post[size_t(j)]);
        const std::vector<float> row = GoldenFloats(*GoldenList(golden, "comb")[size_t(j)].array());
        for (int64_t k = 0; k < kStreams; ++k) ExpectClose(a.comb.Data<float>()[j * kStreams + k], row[size_t(k)]);
      }
    }
  }
  EXPECT_EQ(cases, 3);
}

template <class T>
void ExpectSameBits(const TensorView& batch, int64_t token, const TensorView& alone) {
  EXPECT_EQ(std::memcmp(batch.Row<T>(token), alone.Row<T>(0), size_t(alone.Bytes())), 0) << "token " << token;
}

TEST(HcPre, ATokenHasTheSameBitsInAnyBatchOnAnyThreads) {
  constexpr int64_t kTokens = 11, kWidth = 70;
  TestArena arena(7);
  const auto args = [&](const TensorView& h, const HcPre::Args& weights) {
    HcPre::Args a = weights;
    a.h = h;
    a.x = arena.Poison(DType::kBF16, {h.dim(0), kWidth});
    a.post = arena.Poison(DType::kF32, {h.dim(0), kStreams});
    a.comb = arena.Poison(DType::kF32, {h.dim(0), kStreams, kStreams});
    return a;
  };
  const MutTensorView h = arena.Normal(DType::kBF16, {kTokens, kStreams, kWidth});
  const HcPre::Args weights{.h = h,
                            .fn = arena.Normal(DType::kF32, {kMixes, kStreams * kWidth}, 0.1),
                            .scale = arena.Uniform(DType::kF32, {3}, 0.5, 1.5),
                            .base = arena.Normal(DType::kF32, {kMixes}),
                            .x = {},
                            .post = {},
                            .comb = {}};
  const HcPre::Args batch = args(h, weights);
  ThreadPool threads(3);
  Context parallel;
  parallel.threads = &threads;
  ASSERT_TRUE(vexil::Run<HcPre>(parallel, batch).ok());
  for (int64_t t = 0; t < kTokens; ++t) {
    const HcPre::Args alone = args(h.Rows(t, t + 1), weights);
    ASSERT_TRUE(vexil::Run<HcPre>({}, alone).ok());
    ExpectSameBits<BF16>(batch.x, t, alone.x);
    ExpectSameBits<float>(batch.post, t, alone.post);
    ExpectSameBits<float>(batch.comb, t, alone.comb);
  }
}

}  // namespace
}  // namespace vexil
