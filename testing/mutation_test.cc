// Every fault planted in a plain kernel must make that op's conformance fail, and every op must plant some.
#include "testing/mutation.h"

#include <gtest/gtest.h>

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
  for (const std::string& n : names) s += n + " ";
  return s;
}
void ExpectAllCaught(const MutationReport& r) {
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
