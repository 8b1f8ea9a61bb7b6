// Codes and scales against independently computed ones, bit for bit.
#include "ops/quantize_activation/quantize_activation.h"

#include <gtest/gtest.h>

#include "testing/conformance.h"
#include "testing/golden.h"

namespace vexil {
namespace {

TEST(QuantizeActivation, MatchesTheTables) {
  const Json golden = ReadFormatsData("quant.json");
  for (const Json& row : GoldenList(golden, "act_fp8")) {
    TestArena arena(1);
    const std::vector<BF16> values = GoldenBf16(GoldenList(row, "x"));
    const MutTensorView x = arena.Values<BF16>({1, int64_t(values.size())}, values);
    const QuantizeActivation::Args a{.x = x,
                                     .codes = arena.Poison(DType::kE4M3, x.dims()),
                                     .scale = arena.Poison(DType::kE8M0, {1, 1}),
                                     .block = 128};
    ASSERT_TRUE(vexil::Run<QuantizeActivation>({}, a).ok());
    EXPECT_EQ(a.scale.Data<E8M0>()[0].bits, *row.Find("scale_exp")->Int() + 127);
    const Json::Array& codes = GoldenList(row, "codes");
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(a.codes.Data<E4M3>()[i].bits, *codes[i].Int()) << "element " << i;
    }
  }
}

}  // namespace
}  // namespace vexil
