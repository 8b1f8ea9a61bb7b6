// Runs one kernel on one case: shared by the conformance test and the mutation test. The context says where: with an
// accelerator the case is copied there and back.
#pragma once

#include <optional>
#include <string>

#include "ops/op.h"
#include "testing/conformance.h"

namespace vexil {

// Empty when every element of `got` is within its tolerance, else the first that is not.
std::string Compare(const Expected& want);

// The largest error of an element as a part of its tolerance, where there is one; 0 where none has any.
double LargestError(const Expected& want);

struct ConformanceResult {
  bool skipped = false;  // the kernel does not support the case
  std::string message;   // the reason of the skip, or what is wrong; empty: passed
};

template <class Op>
Status RunOnDevice(const Context& ctx, const Kernel<Op>& kernel, TestArena& arena, const typename Op::Args& args) {
  DeviceCopy copy(*ctx.accelerator);
  VX_TRY(copy.Take(arena));
  const typename Op::Args moved = copy.Moved(args);
  if (const Support s = kernel.supports(ctx, moved); !s)
    return Internal("refuses device memory: " + std::string(s.reason));
  VX_TRY(kernel.run(ctx, moved));
  return copy.GiveBack();
}

template <class Op>
ConformanceResult RunConformance(const Context& ctx, const Kernel<Op>& kernel,
                                 const typename Conformance<Op>::Case& c) {
  TestArena arena(0x5eed);
  const typename Op::Args args = Conformance<Op>::Build(c, arena);
  if (Status s = Op::Check(args); !s.ok()) return {false, "Check: " + std::string(s.message())};
  if (const Support s = kernel.supports(ctx, args); !s) return {true, std::string(s.reason)};
  std::vector<Expected> expected = Conformance<Op>::Reference(args);
  const Status run = ctx.accelerator ? RunOnDevice(ctx, kernel, arena, args) : kernel.run(ctx, args);
  if (!run.ok()) return {false, "Run: " + std::string(run.message())};
  for (Expected& e : expected) {
    if (IsCoarse(kernel.id) && !e.coarse_tolerance.empty()) e.tolerance = std::move(e.coarse_tolerance);
    if (std::string wrong = Compare(e); !wrong.empty()) return {false, wrong};
  }
  if (!arena.GuardsIntact()) return {false, "wrote outside its output"};
  return {};
}

}  // namespace vexil
