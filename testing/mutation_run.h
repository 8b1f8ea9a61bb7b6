// Plants faults and asks whether the cases of an op notice them: those that kernels ask for (ops/fault.h), and those at
// the boundary of every kernel (testing/tampering.h).
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "testing/conformance_run.h"
#include "testing/mutation.h"
#include "testing/register_conformance.h"
#include "testing/tampering.h"

namespace vexil {

// What became of each fault over all cases.
class FaultTally {
 public:
  void Add(const std::string& fault, bool noticed) { (noticed ? caught_ : survived_).insert(fault); }
  bool Caught(const std::string& fault) const { return caught_.contains(fault); }
  bool Met(const std::string& fault) const { return Caught(fault) || survived_.contains(fault); }
  // The error of an output as a part of its tolerance.
  void AddError(const std::string& output, double error) {
    double& largest = largest_error_[output];
    largest = std::max(largest, error);
  }
  MutationReport Report(std::string_view op) const {
    MutationReport report{op, {caught_.begin(), caught_.end()}, {}, {}, largest_error_};
    std::set_difference(survived_.begin(), survived_.end(), caught_.begin(), caught_.end(),
                        std::back_inserter(report.survived));
    return report;
  }

 private:
  std::set<std::string> caught_, survived_;
  std::map<std::string, double> largest_error_;
};

// One case, to be run on any kernel with one fault after the other; faults that were caught before are passed over.
template <class Op>
class FaultyCase {
 public:
  FaultyCase(const typename Conformance<Op>::Case& c, FaultTally& tally)
      : tally_(tally),
        args_(Conformance<Op>::Build(c, arena_)),
        before_(arena_.Save()),
        expected_(Conformance<Op>::Reference(args_)),
        inputs_(InputTamperings(arena_, &args_, sizeof(args_))),
        outputs_(OutputTamperings(expected_)) {
    ctx_.workspace = &workspace_;
  }

  void Try(const Kernel<Op>& kernel) {
    if (!kernel.supports(ctx_, args_)) return;
    arena_.Restore(before_);
    if (RunIsNoticed(kernel)) return tally_.Add(std::string(kernel.id) + ": fails without a fault", false);
    for (const Expected& e : expected_) tally_.AddError(FaultOf(kernel, e.name), LargestError(e));
    TamperWithOutputs(kernel);
    TamperWithInputs(kernel);
    PlantFaults(kernel);
  }

 private:
  bool RunIsNoticed(const Kernel<Op>& kernel) { return !kernel.run(ctx_, args_).ok() || IsNoticed(); }
  bool IsNoticed() const {
    return std::any_of(expected_.begin(), expected_.end(), [](const Expected& e) { return !Compare(e).empty(); });
  }

  // Begins with what a run without a fault left.
  void TamperWithOutputs(const Kernel<Op>& kernel) {
    const TestArena::Bytes after = arena_.Save();
    for (const Tampering& t : outputs_) {
      const std::string fault = FaultOf(kernel, t.name);
      if (tally_.Caught(fault)) continue;
      Tamper(t, expected_, arena_, before_);
      tally_.Add(fault, IsNoticed());
      arena_.Restore(after);
    }
  }
  void TamperWithInputs(const Kernel<Op>& kernel) {
    for (const Tampering& t : inputs_) {
      const std::string fault = FaultOf(kernel, t.name);
      if (tally_.Caught(fault)) continue;
      arena_.Restore(before_);
      Tamper(t, expected_, arena_, before_);
      tally_.Add(fault, RunIsNoticed(kernel));
    }
  }
  void PlantFaults(const Kernel<Op>& kernel) {
    for (std::string_view name : Conformance<Op>::Faults()) {
      const std::string fault = FaultOf(kernel, name);
      if (tally_.Caught(fault)) continue;
      const PlantedFault planted(name);
      arena_.Restore(before_);
      const bool noticed = RunIsNoticed(kernel);
      if (planted.reached()) tally_.Add(fault, noticed);
    }
  }
  static std::string FaultOf(const Kernel<Op>& kernel, std::string_view name) {
    return std::string(kernel.id) + ": " + std::string(name);
  }

  FaultTally& tally_;
  Arena workspace_;
  Context ctx_;
  TestArena arena_{0x5eed};
  typename Op::Args args_;
  TestArena::Bytes before_;
  std::vector<Expected> expected_;
  std::vector<Tampering> inputs_, outputs_;
};

// Every fault that a CPU kernel meets must be noticed, and the plain kernel must meet each of Faults().
template <class Op>
MutationReport MutateOp() {
  FaultTally tally;
  for (const typename Conformance<Op>::Case& c : Conformance<Op>::Cases(Tier::kFull)) {
    FaultyCase<Op> faulty(c, tally);
    for (const Kernel<Op>& kernel : Kernels<Op>()) {
      if (kernel.device == DeviceKind::kCpu) faulty.Try(kernel);
    }
  }
  MutationReport report = tally.Report(Op::kName);
  for (std::string_view name : Conformance<Op>::Faults()) {
    for (const Kernel<Op>& kernel : Kernels<Op>()) {
      const std::string fault = std::string(kernel.id) + ": " + std::string(name);
      if (kernel.device == DeviceKind::kCpu && kernel.plain() && !tally.Met(fault)) report.unreached.push_back(fault);
    }
  }
  return report;
}

}  // namespace vexil
