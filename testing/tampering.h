// Faults at the boundary of a kernel: what any kernel of any op could get wrong, made by changing what goes into a call
// or comes out of it. So every kernel is covered, the fast ones too, without an edit in it.
//
//   an output  a row or a column not written, rows exchanged, results of a coarser format, zeros, one element off by
//              the least that its tolerance forbids
//   an input   the sign of a row or a column turned: as if the kernel read it wrongly, or not at all
//
// The last row and the last column are taken, where loops over tiles go wrong. Those of a size that is no multiple of
// kTile count apart, because another path of the kernel makes them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "testing/conformance.h"

namespace vexil {

struct Tampering {
  enum class Kind : uint8_t {
    kRowMissing,
    kColumnMissing,
    kRowsSwapped,
    kCoarser,
    kZeroed,
    kFirstNudged,
    kLastNudged,
    kRowNegated,
    kColumnNegated
  };
  static constexpr int64_t kTile = 16;  // rows and columns of the smallest vectors and tiles of the fast kernels

  Kind kind;
  TensorView view;
  size_t output = 0;  // kinds of outputs: the index in the reference's list
  std::string name;   // "y, last row of ragged": the same in all cases
};

// Those that have a meaning for the views of `args` that are inputs: integers are left alone, because they say where a
// kernel reads.
std::vector<Tampering> InputTamperings(const TestArena& arena, const void* args, size_t bytes);
std::vector<Tampering> OutputTamperings(const std::vector<Expected>& expected);

// Does it, to the memory behind the view. `before`: the arena's bytes before the kernel ran; of use to kinds of
// outputs.
void Tamper(const Tampering& t, const std::vector<Expected>& expected, TestArena& arena,
            const TestArena::Bytes& before);

}  // namespace vexil
