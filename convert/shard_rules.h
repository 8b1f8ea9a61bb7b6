// Which part of which tensor a rank of a model-parallel run holds (spec: checkpoint, 4.2 and 5). Shared by shard and
// unshard, so that one is the inverse of the other.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "convert/source.h"
#include "model/config.h"

namespace vexil::convert {

enum class Axis : uint8_t { kNone, kRows, kColumns };

// Slice `index` of `ways` equal ones along `axis`.
struct Part {
  Axis axis = Axis::kNone;
  int64_t ways = 1;
  int64_t index = 0;
};

class ShardRules {
 public:
  // kInvalidArgument, with the reason, when `model` cannot be split into `ranks`. `o_groups`: more ranks than output
  // groups are allowed, each group's slice is held by ranks / groups consecutive ranks.
  static Result<ShardRules> For(const ModelConfig& model, int64_t ranks, bool o_groups);

  int64_t ranks() const { return ranks_; }
  // Of a tensor by its published name; of a scale as of its weight.
  Part PartOf(std::string_view name, int64_t rank) const;
  // Whether the rank holds any of it: only routed experts are not everywhere.
  bool Holds(std::string_view name, int64_t rank) const;

 private:
  int64_t ranks_ = 1;
  int64_t group_ways_ = 1;  // into how many slices wo_a and wo_b are cut
  int64_t experts_ = 1;
};

// The number of a routed expert, -1 for other tensors: "layers.3.ffn.experts.17.w1.weight" -> 17.
int64_t ExpertOf(std::string_view name);

// The grouped output projection, wo_a, which rank files hold in BF16 (spec: checkpoint, 4.3).
bool IsOutputProjection(std::string_view name);

// Entries [begin, end) of an axis.
struct Range {
  int64_t begin = 0, end = 0;
};

// The entries of the slice in an axis of `size` values with one stored entry per `block` of them (weights: 1). A slice
// must consist of whole blocks or lie inside one, which then belongs to several slices. `what` stands in front of
// messages.
Result<Range> SliceOf(int64_t size, int64_t block, const Part& part, std::string_view what);

// Values per scale entry along an axis of a quantised matrix; 0: the scale has no such axis.
int64_t ScaleBlock(Storage storage, Axis axis);

}  // namespace vexil::convert
