// vexil_conformance: a test per op x kernel x case, made from the lists that ship (ops/ops.inc, kernels.inc).
// A failure prints the test's name; --gtest_filter='<name>' runs exactly it again.
//   --tier=smoke|full   (default full)
#include <gtest/gtest.h>

#include <string_view>

#include "testing/register_conformance.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  vexil::Tier tier = vexil::Tier::kFull;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--tier=smoke") tier = vexil::Tier::kSmoke;
  }
#define VX_OP(Op, folder) vexil::RegisterConformance##Op(tier);
#include "ops/ops.inc"
#undef VX_OP
  return RUN_ALL_TESTS();
}
