// One function per op, each defined in a generated file of its own (cmake/ops.cmake) so that an edit to one
// op's cases recompiles one small file.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "testing/conformance.h"

namespace vexil {
#define VX_OP(Op, folder) void RegisterConformance##Op(Tier tier);
#include "ops/ops.inc"
#undef VX_OP

// What became of the faults planted in an op: "kernel: fault".
struct MutationReport {
  std::string_view op;
  std::vector<std::string> caught, survived, unreached;
  std::map<std::string, double> largest_error;  // of "kernel: output", as a part of its tolerance
};
#define VX_OP(Op, folder) MutationReport MutateOp##Op();
#include "ops/ops.inc"
#undef VX_OP
}  // namespace vexil
