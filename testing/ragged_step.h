// Step metadata for the cases of ops that work on ragged sequences.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "testing/conformance.h"

namespace vexil {

// The tokens of one sequence in a step: positions [first, first + length).
struct StepSequence {
  int64_t first, length, slot;
};

struct StepTensors {
  MutTensorView positions, seq, seq_begin, slot;
  int64_t tokens = 0;
};

inline StepTensors MakeStep(TestArena& m, const std::vector<StepSequence>& sequences) {
  std::vector<int32_t> positions, seq, seq_begin = {0}, slot;
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int64_t i = 0; i < sequences[s].length; ++i) {
      positions.push_back(int32_t(sequences[s].first + i));
      seq.push_back(int32_t(s));
    }
    seq_begin.push_back(int32_t(positions.size()));
    slot.push_back(int32_t(sequences[s].slot));
  }
  const int64_t n = int64_t(positions.size()), num_sequences = int64_t(sequences.size());
  return {m.Values<int32_t>({n}, positions), m.Values<int32_t>({n}, seq),
          m.Values<int32_t>({num_sequences + 1}, seq_begin), m.Values<int32_t>({num_sequences}, slot), n};
}

// Offsets of the entries that each sequence completes in the step.
inline MutTensorView MakeEntryBegin(TestArena& m, const std::vector<StepSequence>& sequences, int64_t ratio) {
  std::vector<int32_t> begin = {0};
  for (const StepSequence& s : sequences) {
    begin.push_back(begin.back() + int32_t((s.first + s.length) / ratio - s.first / ratio));
  }
  return m.Values<int32_t>({int64_t(begin.size())}, begin);
}

// A block table [S, longest + 1] that gives sequence s enough blocks for entries[s] entries, dealt from `pages` in
// shuffled order; the rest is -1.
inline MutTensorView MakeBlockTable(TestArena& m, const std::vector<int64_t>& entries, int64_t per_block,
                                    int64_t pages) {
  std::vector<int32_t> deck(static_cast<size_t>(pages));
  std::iota(deck.begin(), deck.end(), 0);
  std::shuffle(deck.begin(), deck.end(), m.rng());
  int64_t width = 1;
  for (int64_t e : entries) width = std::max(width, (e + per_block - 1) / per_block + 1);
  std::vector<int32_t> table(entries.size() * size_t(width), -1);
  for (size_t s = 0; s < entries.size(); ++s) {
    for (int64_t b = 0; b * per_block < entries[s]; ++b) {
      VX_CHECK(!deck.empty(), "the case needs more pages");
      table[s * size_t(width) + size_t(b)] = deck.back();
      deck.pop_back();
    }
  }
  return m.Values<int32_t>({int64_t(entries.size()), width}, table);
}

// "3+9@2,0+1@0": first position, length and slot of each sequence.
inline std::string DescribeStep(const std::vector<StepSequence>& sequences) {
  std::string text;
  for (const StepSequence& s : sequences) {
    text += (text.empty() ? "" : ",") + std::to_string(s.first) + "+" + std::to_string(s.length) + "@" +
            std::to_string(s.slot);
  }
  return text.empty() ? "none" : text;
}

}  // namespace vexil
