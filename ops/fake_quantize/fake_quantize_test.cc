// Block rounding against independently computed values, bit for bit.
#include "ops/fake_quantize/fake_quantize.h"

#include <gtest/gtest.h>

#include "testing/conformance.h"
#include "testing/golden.h"

namespace vexil {
namespace {

void ExpectRounded(const Json::Array& rows, FakeQuantize::Format format) {
  EXPECT_GE(rows.size(), 5u);
  for (const Json& row : rows) {
    TestArena arena(1);
    const std::vector<BF16> values = GoldenBf16(GoldenList(row, "x"));
    const MutTensorView x = arena.Values<BF16>({1, int64_t(values.size())}, values);
    ASSERT_TRUE(vexil::Run<FakeQuantize>({}, {.x = x, .format = format, .block = x.dim(1)}).ok());
    const std::vector<BF16> want = GoldenBf16(GoldenList(row, "dequant"));
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(x.Data<BF16>()[i].bits, want[i].bits) << "element " << i;
  }
}

TEST(FakeQuantize, MatchesTheTables) {
  const Json golden = ReadFormatsData("quant.json");
  ExpectRounded(GoldenList(golden, "act_fp8"), FakeQuantize::Format::kE4M3);
  ExpectRounded(GoldenList(golden, "act_fp4"), FakeQuantize::Format::kE2M1);
}

TEST(FakeQuantize, RoundingAgainChangesNothing) {
  for (FakeQuantize::Format format : {FakeQuantize::Format::kE4M3, FakeQuantize::Format::kE2M1}) {
    TestArena arena(3);
    const MutTensorView x = arena.Normal(DType::kBF16, {8, 100}, 10);
    const FakeQuantize::Args a{.x = x, .format = format, .block = 32};
    ASSERT_TRUE(vexil::Run<FakeQuantize>({}, a).ok());
    const std::vector<double> once = ToF64(x);
    ASSERT_TRUE(vexil::Run<FakeQuantize>({}, a).ok());
    EXPECT_EQ(ToF64(x), once);
  }
}

}  // namespace
}  // namespace vexil
