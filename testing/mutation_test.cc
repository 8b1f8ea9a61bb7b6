// Faults planted in kernels and at their boundaries must make the op's conformance fail, and every op must plant some.
#include "testing/mutation.h"

#include <gtest/gtest.h>

#include <iostream>

#include "ops/fault.h"
#include "testing/register_conformance.h"

namespace vexil {
namespace {
std::string_view planted_name;
bool planted_reached = false;
}  // namespace

bool FaultPlanted(std::string_view name) {
  if (name != planted_name) return false;
  planted_reached = true;
  return true;
}
PlantedFault::PlantedFault(std::string_view name) {
  planted_name = name;
  planted_reached = false;
}
PlantedFault::~PlantedFault() { planted_name = {}; }
bool PlantedFault::reached() const { return planted_reached; }

namespace {
std::string Join(const std::vector<std::string>& names) {
  std::string s;
  for (const std::string& n : names) s += n + "\n";
  return s;
}
// Largest error of a plain kernel over all cases, as a part of its tolerance. Bounds are derived for the worst case,
// and what is seen reaches a third of most; one that is never reached by far could hide a fault of a fast kernel.
constexpr double kLeastError = 0.02;

void ExpectAllCaught(const MutationReport& r) {
  std::cout << r.op << ": " << r.caught.size() << " faults caught; largest errors as parts of their tolerances:\n";
  for (const auto& [output, error] : r.largest_error) {
    std::cout << "  " << output << ' ' << error << '\n';
    if (output.find("/cpu.plain:") == output.npos) continue;
    EXPECT_TRUE(error == 0 || error > kLeastError) << output << ": no case comes near its tolerance";
  }
  EXPECT_FALSE(r.caught.empty()) << r.op << " plants no fault that is caught";
  EXPECT_EQ(Join(r.survived), "") << r.op << ": conformance passes with these faults planted";
  EXPECT_EQ(Join(r.unreached), "") << r.op << ": no kernel asks for these faults";
}
}  // namespace

#define VX_OP(Op, folder) \
  TEST(Mutation, Op) { ExpectAllCaught(MutateOp##Op()); }
#include "ops/ops.inc"
#undef VX_OP
}  // namespace vexil
