#include "text/bpe_tables.h"

#include <bit>
#include <functional>

namespace vexil {
namespace {

uint32_t Hash(std::string_view bytes) { return uint32_t(std::hash<std::string_view>()(bytes)); }

// Always leaves free slots, which end a search.
size_t SlotCount(size_t entries) { return std::bit_ceil(2 * entries + 1); }

}  // namespace

TokenTable::TokenTable(const std::vector<std::string>& tokens) : slots_(SlotCount(tokens.size())) {
  offsets_.reserve(tokens.size() + 1);
  for (const std::string& token : tokens) {
    const int32_t id = size();
    bytes_ += token;
    offsets_.push_back(uint32_t(bytes_.size()));
    if (token.empty()) continue;
    const uint32_t hash = Hash(token);
    Slot& slot = slots_[Probe(token, hash)];
    if (slot.id < 0) slot = {hash, id};
  }
}

int32_t TokenTable::Find(std::string_view bytes) const { return slots_[Probe(bytes, Hash(bytes))].id; }

// The slot that holds `bytes`, or the free one where they belong.
size_t TokenTable::Probe(std::string_view bytes, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].id >= 0 && (slots_[i].hash != hash || Bytes(slots_[i].id) != bytes)) i = (i + 1) & mask;
  return i;
}

MergeTable::MergeTable(size_t max_merges) : slots_(SlotCount(max_merges)) {}

bool MergeTable::Insert(int32_t left, int32_t right, uint32_t rank) {
  Slot& slot = slots_[Probe(left, right)];
  if (slot.left >= 0) return false;
  slot = {left, right, rank};
  return true;
}

}  // namespace vexil
