// One function per op, each defined in a generated file of its own (cmake/ops.cmake) so that an edit to one
// op's cases recompiles one small file.
#pragma once

#include "testing/conformance.h"

namespace vexil {
#define VX_OP(Op, folder) void RegisterConformance##Op(Tier tier);
#include "ops/ops.inc"
#undef VX_OP

// The faults planted in Op's plain kernel that its cases did not notice, and those that no call reached.
struct MutationReport {
  std::string_view op;
  std::vector<std::string> caught, survived, unreached;
};
#define VX_OP(Op, folder) MutationReport MutateOp##Op();
#include "ops/ops.inc"
#undef VX_OP
}  // namespace vexil
