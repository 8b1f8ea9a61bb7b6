// What an op is: an Args struct, Check() for its shapes, a float64 reference and cases (ops/<op>/cases.h).
// What a kernel is: an id, what it supports (or the reason it does not), a function.
//
//   VX_TRY(Run<RmsNorm>(ctx, {.x = x, .weight = w, .y = y, .eps = 1e-6f}));
//
// Adding a kernel to an op: one file and one line in ops/<op>/kernels.inc. Adding an op: one folder and one
// line in ops/ops.inc (docs/adding.md).
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/arena.h"
#include "base/cpu_isa.h"
#include "base/status.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "ops/plan.h"

namespace vexil {

enum class KernelChoice : uint8_t {
  kBest,   // the first kernel of the list that supports the call
  kPlain,  // the readable one only
};

// Sees every op call that Run() makes, after it: for `vexil bench`. `args` points to the op's Args.
class OpTrace {
 public:
  virtual ~OpTrace() = default;
  virtual void OnStart() = 0;
  virtual void OnEnd(std::string_view op, std::string_view kernel, const void* args) = 0;
};

// Everything an op needs besides its arguments. Plain data that borrows; nothing here is global.
struct Context {
  DeviceId device;
  Device* accelerator = nullptr;  // null: tensors and kernels are the CPU's
  StreamHandle stream = nullptr;  // of the accelerator; kernels are launched on it and not waited for
  ThreadPool* threads = nullptr;  // null: the caller's thread only
  Arena* workspace = nullptr;     // scratch for kernels and for the model's activations
  KernelChoice choice = KernelChoice::kBest;
  const std::vector<std::string>* without = nullptr;  // ids of kernels to pass over, to measure what one is worth
  CpuIsa isa_limit = kBestCpuIsa;                     // CPU kernels that need more refuse
  Plan* plan = nullptr;                               // set: record which kernel each call gets
  bool dry_run = false;                               // resolve and record, run nothing
  OpTrace* trace = nullptr;                           // set: told of every call but those inside a kernel
  std::string_view inside;                            // the id of the kernel that makes the call; empty: no kernel does

  // Whether a CPU kernel may use the instructions of a level.
  bool HasIsa(CpuIsa isa) const { return isa <= isa_limit && isa <= CpuIsaOfMachine(); }

  // body(begin, end) over [0, n), on the pool if there is one.
  void For(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) const {
    if (threads) {
      threads->For(n, grain, body);
    } else if (n > 0) {
      body(0, n);
    }
  }
};

// Empty reason: supported. Reasons are string literals, so refusing costs nothing.
struct Support {
  std::string_view reason;
  explicit operator bool() const { return reason.empty(); }
};
#define VX_REQUIRE(cond, why)                  \
  do {                                         \
    if (!(cond)) return ::vexil::Support{why}; \
  } while (0)

// For Check(): returns InvalidArgument("<op>: <why>") from the enclosing function.
#define VX_CHECK_ARG(Op, cond, why)                                                      \
  do {                                                                                   \
    if (!(cond)) return ::vexil::InvalidArgument(std::string(Op::kName) + ": " + (why)); \
  } while (0)

template <class Op>
struct Kernel {
  std::string_view id;  // "rms_norm/cpu.plain"
  DeviceKind device;
  Support (*supports)(const Context&, const typename Op::Args&);
  Status (*run)(const Context&, const typename Op::Args&);
  bool of_ops = false;  // made of calls of Run(): a dry run goes through them too
  bool plain() const { return id.ends_with(".plain"); }
};

// Best first. Defined once per op from that folder's kernels.inc.
template <class Op>
std::span<const Kernel<Op>> Kernels();

// The context of the calls that a kernel makes.
template <class Op>
Context Inside(Context ctx, const Kernel<Op>& k) {
  ctx.trace = nullptr;
  ctx.inside = k.id;
  return ctx;
}

template <class Op>
Status RunKernel(const Context& ctx, const Kernel<Op>& k, const typename Op::Args& args) {
  if (ctx.trace) ctx.trace->OnStart();
  Status s = k.of_ops ? k.run(Inside(ctx, k), args) : k.run(ctx, args);
  if (ctx.trace) ctx.trace->OnEnd(Op::kName, k.id, &args);
  return s;
}

// Whether Run() looks at a kernel at all.
template <class Op>
bool IsCandidate(const Context& ctx, const Kernel<Op>& k) {
  if (ctx.without && std::find(ctx.without->begin(), ctx.without->end(), k.id) != ctx.without->end()) return false;
  return k.device == ctx.device.kind && (ctx.choice != KernelChoice::kPlain || k.plain());
}

// Why the candidates before `chosen` (null: all) refuse: "id: reason; id: reason".
template <class Op>
std::string Refusals(const Context& ctx, const typename Op::Args& args, const Kernel<Op>* chosen) {
  std::string refused;
  for (const Kernel<Op>& k : Kernels<Op>()) {
    if (&k == chosen) break;
    if (!IsCandidate(ctx, k)) continue;
    if (!refused.empty()) refused += "; ";
    refused.append(k.id).append(": ").append(k.supports(ctx, args).reason);
  }
  return refused;
}

// Checks the arguments, picks the first kernel of the context's device that supports them, runs it.
// Errors: kInvalidArgument from Check, kUnsupported with every kernel's reason.
template <class Op>
Status Run(const Context& ctx, const typename Op::Args& args) {
  VX_TRY(Op::Check(args));
  for (const Kernel<Op>& k : Kernels<Op>()) {
    if (!IsCandidate(ctx, k) || !k.supports(ctx, args)) continue;
    if (ctx.plan) ctx.plan->Add(k.id, Refusals(ctx, args, &k), ctx.inside);
    return ctx.dry_run && !k.of_ops ? Status() : RunKernel(ctx, k, args);
  }
  return Unsupported(std::string(Op::kName) + " has no kernel here (" + Refusals<Op>(ctx, args, nullptr) + ")");
}

}  // namespace vexil
