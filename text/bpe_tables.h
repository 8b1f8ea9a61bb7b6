// The two lookups of byte-pair encoding, several per byte of text. Open addressing with linear probing over a power of
// two of slots, at most half of them in use: the node-based standard maps cost several times as much.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vexil {

// Token bytes by id, and ids by bytes.
class TokenTable {
 public:
  TokenTable() = default;
  // tokens[id] is empty for an id without a token; all tokens together take less than 4 GiB. Of equal tokens the first
  // keeps the bytes.
  explicit TokenTable(const std::vector<std::string>& tokens);

  int32_t size() const { return int32_t(offsets_.size()) - 1; }
  // `id` is 0 ... size() - 1.
  std::string_view Bytes(int32_t id) const {
    const uint32_t begin = offsets_[size_t(id)];
    return std::string_view(bytes_.data() + begin, offsets_[size_t(id) + 1] - begin);
  }
  // The id of a token, or -1.
  int32_t Find(std::string_view bytes) const;

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  size_t Probe(std::string_view bytes, uint32_t hash) const;

  std::string bytes_;                 // of all tokens
  std::vector<uint32_t> offsets_{0};  // token id: bytes_[offsets_[id], offsets_[id + 1])
  std::vector<Slot> slots_{1};
};

// The ranks of merges by the pair of ids that they join.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  explicit MergeTable(size_t max_merges = 0);

  // False, and no change, when the pair is there already. At most max_merges insertions.
  bool Insert(int32_t left, int32_t right, uint32_t rank);
  // kNoRank when the pair is no merge.
  uint32_t Rank(int32_t left, int32_t right) const { return slots_[Probe(left, right)].rank; }

 private:
  struct Slot {
    int32_t left = -1, right = -1;
    uint32_t rank = kNoRank;
  };
  size_t Probe(int32_t left, int32_t right) const {
    const size_t mask = slots_.size() - 1;
    uint64_t hash = (uint64_t(uint32_t(left)) << 32 | uint32_t(right)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
    size_t i = size_t(hash * 0xD6E8FEB86659FD93u >> 32) & mask;
    while (slots_[i].left >= 0 && (slots_[i].left != left || slots_[i].right != right)) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace vexil
