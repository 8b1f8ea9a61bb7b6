// Random weights in which a model's activations stay of the order of one, as a pure function of seed, tensor and place.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/tensor_inventory.h"

namespace vexil::convert {

// The bytes of one tensor in its published format, and what they stand for.
//
// Every value is made from 32 random bits that depend on the seed, the published name and the element's index alone, so
// threads, pieces and shards do not matter. Linear weights have a standard deviation of 1/sqrt(inputs); block-scaled
// ones spread their scale codes over three neighbouring powers of two. Norms are close to 1, embeddings have
// deviation 1. Immutable; safe to share.
class RandomTensor {
 public:
  // `num_experts` bounds the entries of tables.
  RandomTensor(const TensorSpec& spec, uint64_t seed, int64_t num_experts);

  const TensorSpec& spec() const { return spec_; }

  // Bytes [begin, begin + out.size()) of the tensor as PublishedForm(spec)[0] stores it. For elements of more than one
  // byte both ends are whole elements, for tables whole rows.
  void FillWeight(int64_t begin, std::span<uint8_t> out) const;
  // The same of its scale, PublishedForm(spec)[1].
  void FillScale(int64_t begin, std::span<uint8_t> out) const;
  // Whole rows of a block-scaled matrix as BF16 values, code times scale: exact.
  void FillDequantizedRows(int64_t first_row, std::span<uint16_t> out) const;

 private:
  void FillTable(int64_t first_row, std::span<int64_t> out) const;

  TensorSpec spec_;
  uint64_t weight_key_, scale_key_;
  int64_t num_experts_;
  float mean_ = 0, deviation_ = 1;
  uint8_t scale_code_ = 127;  // the middle one
};

}  // namespace vexil::convert
