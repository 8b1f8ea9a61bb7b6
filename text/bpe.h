// Byte-pair encoding of one piece (spec: tokenizer, section 6): start from the tokens of the single bytes; repeatedly
// replace the adjacent pair of lowest merge rank, the leftmost one of equals, by its merged token; stop when no
// adjacent pair is in the merge list.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/bpe_tables.h"

namespace vexil {

class Bpe {
 public:
  struct Merge {
    int32_t left, right, result;  // token ids; the rank is the place in the list
  };

  // Buffers of Encode, to be reused from piece to piece by one thread.
  struct Scratch {
    struct Symbol {
      int32_t id;
      uint32_t rank;            // of the pair with the next symbol; kNoRank: no merge, or this symbol is gone
      uint32_t previous, next;  // positions, or kNone
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // rank << 32 | position of the left symbol; a heap with the smallest on top
    uint64_t queue_pops = 0;      // a measure of work, for tests
  };

  Bpe() = default;

  // tokens[id] holds the bytes of a token, or is empty for an id that is no token of the base vocabulary. A merge's
  // result is the concatenation of its parts.
  // Errors: kInvalidArgument when tokens are equal, a byte has no token or a pair is listed twice.
  static Result<Bpe> Create(const std::vector<std::string>& tokens, const std::vector<Merge>& merges);

  // Appends the tokens of one piece of fewer than 2^32 - 1 bytes. Takes O(n log n) for n bytes.
  void Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;

  const TokenTable& tokens() const { return tokens_; }

 private:
  static constexpr uint32_t kNoRank = MergeTable::kNoRank;
  static constexpr uint32_t kNone = UINT32_MAX;
  // Up to this length, looking through all pairs for the lowest rank is faster than a queue.
  static constexpr size_t kMaxScanned = 64;
  struct Pair {
    int32_t id;
    uint32_t rank;  // of this symbol and the next one
  };

  Status AddTokens(const std::vector<std::string>& tokens);
  Status AddMerges(const std::vector<Merge>& merges);
  void FindWholePieces();

  void MergeByScan(std::string_view piece, std::vector<int32_t>* ids) const;
  void MergeByQueue(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;
  void FillQueue(std::string_view piece, Scratch* scratch) const;
  void Join(uint32_t left, Scratch* scratch) const;
  void SetRank(uint32_t left, Scratch* scratch) const;

  TokenTable tokens_;
  MergeTable merges_;
  std::vector<int32_t> results_;  // by rank
  std::array<int32_t, 256> byte_ids_{};
  std::vector<uint32_t> byte_pair_ranks_;  // of the tokens of two bytes: [first * 256 + second]
  // By id: the merges make the token from its own bytes, proven by doing it once at load. A piece that is such a token
  // needs no merging.
  std::vector<bool> whole_piece_;
};

}  // namespace vexil
