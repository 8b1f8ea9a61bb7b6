// Planted faults: proof that the conformance test fails when a kernel is wrong.
//
//   const float sink = VX_FAULT("dropped_sink") ? 0.0f : std::exp(a.sink[h] - max);
//
// In products VX_FAULT is the constant false. The mutation test builds the files that ask with VX_WITH_FAULTS,
// plants the faults that the op's Conformance<Op>::Faults() lists one at a time, and demands that the plain kernel asks
// for each and that conformance notices it in every kernel that does: a fast kernel may ask for the same names.
#pragma once

#include <string_view>

namespace vexil {
#if VX_WITH_FAULTS
bool FaultPlanted(std::string_view name);  // testing/mutation_test.cc
#define VX_FAULT(name) ::vexil::FaultPlanted(name)
#else
#define VX_FAULT(name) false
#endif
}  // namespace vexil
