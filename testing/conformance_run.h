// Runs one kernel on one case: shared by the conformance test and the mutation test.
#pragma once

#include <optional>
#include <string>

#include "ops/op.h"
#include "testing/conformance.h"

namespace vexil {

// Empty when every element of `got` is within its tolerance, else the first that is not.
std::string Compare(const Expected& want);

struct ConformanceResult {
  bool skipped = false;  // the kernel does not support the case
  std::string message;   // the reason of the skip, or what is wrong; empty: passed
};

template <class Op>
ConformanceResult RunConformance(const Context& ctx, const Kernel<Op>& kernel,
                                 const typename Conformance<Op>::Case& c) {
  TestArena arena(0x5eed);
  const typename Op::Args args = Conformance<Op>::Build(c, arena);
  if (Status s = Op::Check(args); !s.ok()) return {false, "Check: " + std::string(s.message())};
  if (const Support s = kernel.supports(ctx, args); !s) return {true, std::string(s.reason)};
  std::vector<Expected> expected = Conformance<Op>::Reference(args);
  if (Status s = kernel.run(ctx, args); !s.ok()) return {false, "Run: " + std::string(s.message())};
  for (const Expected& e : expected) {
    if (std::string wrong = Compare(e); !wrong.empty()) return {false, wrong};
  }
  if (!arena.GuardsIntact()) return {false, "wrote outside its output"};
  return {};
}

}  // namespace vexil
