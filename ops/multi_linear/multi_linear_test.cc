// Which bits a result has: those of the ops that it is made of, whatever else is in the call.
#include "ops/multi_linear/multi_linear.h"

#include <gtest/gtest.h>

#include <cstring>

#include "ops/linear/linear.h"
#include "ops/multi_linear/cases.h"
#include "ops/quantize_activation/quantize_activation.h"
#include "ops/scale/scale.h"
#include "testing/test_device.h"

namespace vexil {
namespace {

using Part = MultiLinear::Part;

// Runs calls on the CPU or a device, on the memory of an arena that the CPU reads afterwards.
class Runner {
 public:
  explicit Runner(DeviceKind kind) : kind_(kind) { ctx_.workspace = &workspace_; }

  // Empty: it ran, and failures are test failures. Otherwise why there is no such device.
  std::string Run(TestArena& arena, const std::vector<MultiLinear::Args>& calls,
                  const std::vector<QuantizeActivation::Args>& rounded, const std::vector<Part>& single) {
    std::optional<DeviceCopy> copy;
    if (kind_ != DeviceKind::kCpu) {
      const Result<TestDevice*> device = TestDevice::Get(kind_);
      if (!device) return std::string(device.error().message());
      (*device)->Use(ctx_);
      copy.emplace((*device)->device());
      EXPECT_TRUE(copy->Take(arena).ok());
    }
    const auto there = [&](auto args) { return copy ? copy->Moved(args) : args; };
    for (const MultiLinear::Args& args : calls) EXPECT_TRUE(vexil::Run<MultiLinear>(ctx_, there(args)).ok());
    for (const QuantizeActivation::Args& args : rounded) {
      EXPECT_TRUE(vexil::Run<QuantizeActivation>(ctx_, there(args)).ok());
    }
    for (const Part& p : single) {
      const Linear::Args linear{.x = p.x, .w = p.w, .y = p.y};
      const Scale::Args scale{.x = p.y, .factor = p.factor, .y = p.y};
      EXPECT_TRUE(vexil::Run<Linear>(ctx_, there(linear)).ok());
      if (p.factor != 1) {
        EXPECT_TRUE(vexil::Run<Scale>(ctx_, there(scale)).ok());
      }
    }
    if (copy) {
      EXPECT_TRUE(copy->GiveBack().ok());
    }
    return "";
  }

 private:
  DeviceKind kind_;
  Arena workspace_;
  Context ctx_;
};

bool SameBits(const TensorView& a, const TensorView& b) {
  for (int64_t i = 0; i < a.dim(0); ++i) {
    const auto row = [i](const TensorView& v) {
      return static_cast<const char*>(v.raw()) + i * v.stride(0) * BytesOf(v.dtype());
    };
    if (std::memcmp(row(a), row(b), size_t(a.dim(1) * BytesOf(a.dtype()))) != 0) return false;
  }
  return true;
}

QuantView RowsOf(const QuantView& x, int64_t begin, int64_t end) {
  QuantView rows = x;
  rows.data = x.data.Rows(begin, end);
  if (!x.scale.empty()) rows.scale = x.scale.Rows(begin, end);
  return rows;
}

class MultiLinearBits : public testing::TestWithParam<DeviceKind> {};

TEST_P(MultiLinearBits, AreThoseOfTheOpsAndOfARowAlone) {
  using Cases = Conformance<MultiLinear>;
  for (const Cases::Case& c : Cases::Cases(Tier::kFull)) {
    if (c.n == 0 || c.n > 64) continue;  // another kernel serves one row than many
    TestArena arena(7);
    const MultiLinear::Args all = Cases::Build(c, arena);
    // The last row alone, in a call of the parts in another order; and each part by itself.
    MultiLinear::Args last;
    std::vector<Part> single;
    std::vector<QuantizeActivation::Args> rounded;
    for (const Part& p : all.list()) {
      single.push_back(p);
      single.back().y = arena.Poison(p.y.dtype(), p.y.dims());
      if (p.round_x) {
        const MutTensorView codes = arena.Poison(DType::kE4M3, p.x.data.dims());
        const MutTensorView scale = arena.Poison(DType::kE8M0, {c.n, CeilDiv(c.k, kE4M3Block)});
        rounded.push_back({.x = p.x.data, .codes = codes, .scale = scale, .block = kE4M3Block});
        single.back().x = QuantView(codes, scale, 1, kE4M3Block);
      }
      Part& row = last.parts[size_t(all.count - ++last.count)];
      row = p;
      row.x = RowsOf(p.x, c.n - 1, c.n);
      row.y = arena.Poison(p.y.dtype(), {1, p.y.dim(1)});
    }
    const std::string refused = Runner(GetParam()).Run(arena, {all, last}, rounded, single);
    if (!refused.empty()) GTEST_SKIP() << refused;
    for (size_t i = 0; i < single.size(); ++i) {
      EXPECT_TRUE(SameBits(all.parts[i].y, single[i].y)) << Cases::Describe(c) << ", part " << i;
      EXPECT_TRUE(SameBits(all.parts[i].y.Rows(c.n - 1, c.n), last.parts[single.size() - 1 - i].y))
          << Cases::Describe(c) << ", last row of part " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, MultiLinearBits, testing::Values(DeviceKind::kCpu, DeviceKind::kCuda),
                         [](const auto& kind) { return kind.param == DeviceKind::kCpu ? "Cpu" : "Cuda"; });

}  // namespace
}  // namespace vexil
