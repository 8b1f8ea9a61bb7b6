// Byte-pair encoding of one piece (spec: tokenizer, section 6): start from the tokens of the single bytes; repeatedly
// replace the adjacent pair of lowest merge rank, the leftmost one of equals, by its merged token; stop when no
// adjacent pair is in the merge list.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

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
      uint32_t rank;  // of the pair with the next symbol; kNoRank: no such merge, or this symbol is gone
      uint32_t previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // rank << 32 | position of the left symbol
    uint64_t queue_pops = 0;      // a measure of work, for tests
  };

  Bpe() = default;

  // tokens[id] holds the bytes of a token, or is empty for an id that is no token of the base vocabulary. Tokens
  // differ, every byte has one, and merges name existing ids whose bytes concatenate to the result's. The lists come
  // from a file: what does not hold is an error (kInvalidArgument) that names the entry.
  static Result<Bpe> Create(const std::vector<std::string>& tokens, const std::vector<Merge>& merges);

  // Appends the tokens of one piece of fewer than 2^32 - 1 bytes. Takes O(n log n) for n bytes.
  void Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;

  // The bytes of a token; empty for an id that is none. Valid as long as this object.
  std::string_view TokenBytes(int32_t id) const;
  std::optional<int32_t> IdOf(std::string_view bytes) const;
  int32_t size() const { return int32_t(offsets_.size()) - 1; }

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  // Open addressing with linear probing over a power of two of slots, at most half of them used: two hot lookups
  // per byte of text, for which the node-based standard maps cost several times as much.
  struct MergeSlot {
    int32_t left = -1, right = -1;
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };
  struct TokenSlot {
    uint32_t hash = 0;
    int32_t id = -1;
  };

  Status AddTokens(const std::vector<std::string>& tokens);
  Status AddMerges(const std::vector<Merge>& merges);
  void MarkWholePieces();

  const MergeSlot& FindMerge(int32_t left, int32_t right) const;
  TokenSlot* FindSlot(std::string_view bytes, uint32_t hash);
  int32_t FindToken(std::string_view bytes) const;

  uint32_t PairRank(const Scratch& scratch, uint32_t left) const;
  void MergeAll(std::string_view piece, Scratch* scratch) const;
  void Join(uint32_t left, Scratch* scratch) const;

  std::string bytes_;                // of all tokens
  std::vector<uint32_t> offsets_{0};  // token id: bytes_[offsets_[id], offsets_[id + 1])
  std::array<int32_t, 256> byte_ids_{};
  std::vector<MergeSlot> merges_;
  std::vector<TokenSlot> tokens_;
  // Tokens that the merges make from their own bytes, proven by doing it once at load. A piece that is such a token
  // needs no merging.
  std::vector<bool> whole_piece_;
};

}  // namespace vexil
