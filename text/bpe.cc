#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"
#include "text/byte_level.h"

namespace vexil {
namespace {

constexpr uint32_t kNone = UINT32_MAX;  // no neighbour

uint32_t HashBytes(std::string_view bytes) { return uint32_t(std::hash<std::string_view>()(bytes)); }

size_t HashPair(int32_t left, int32_t right) {
  uint64_t x = (uint64_t(uint32_t(left)) << 32 | uint32_t(right)) * 0x9E3779B97F4A7C15u;
  x ^= x >> 32;
  return size_t(x * 0xD6E8FEB86659FD93u >> 32);
}

size_t TableSize(size_t entries) { return std::bit_ceil(2 * entries + 2); }

constexpr auto kLater = std::greater<uint64_t>();  // makes the standard heap one with the smallest on top

}  // namespace

Result<Bpe> Bpe::Create(const std::vector<std::string>& tokens, const std::vector<Merge>& merges) {
  Bpe bpe;
  VX_TRY(bpe.AddTokens(tokens));
  VX_TRY(bpe.AddMerges(merges));
  bpe.MarkWholePieces();
  return bpe;
}

Status Bpe::AddTokens(const std::vector<std::string>& tokens) {
  tokens_.resize(TableSize(tokens.size()));
  offsets_.reserve(tokens.size() + 1);
  for (size_t id = 0; id < tokens.size(); ++id) {
    bytes_ += tokens[id];
    offsets_.push_back(uint32_t(bytes_.size()));
    if (tokens[id].empty()) continue;
    const uint32_t hash = HashBytes(tokens[id]);
    TokenSlot* slot = FindSlot(tokens[id], hash);
    if (slot->id >= 0) return InvalidArgument(fmt::format("tokens {} and {} are the same bytes", slot->id, id));
    *slot = {hash, int32_t(id)};
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = char(b);
    const int32_t id = FindToken(std::string_view(&byte, 1));
    if (id < 0) {
      return InvalidArgument(fmt::format("no entry for byte {:#04x}, expected '{}'", b, ByteSymbol(uint8_t(b))));
    }
    byte_ids_[size_t(b)] = id;
  }
  return {};
}

Status Bpe::AddMerges(const std::vector<Merge>& merges) {
  merges_.resize(TableSize(merges.size()));
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& m = merges[rank];
    VX_CHECK(std::string(TokenBytes(m.left)) + std::string(TokenBytes(m.right)) == TokenBytes(m.result),
             "a merge concatenates");
    MergeSlot& slot = const_cast<MergeSlot&>(FindMerge(m.left, m.right));
    if (slot.left >= 0) return InvalidArgument(fmt::format("merges {} and {} are the same pair", slot.rank, rank));
    slot = {m.left, m.right, uint32_t(rank), m.result};
  }
  return {};
}

void Bpe::MarkWholePieces() {
  whole_piece_.resize(size_t(size()));
  Scratch scratch;
  for (int32_t id = 0; id < size(); ++id) {
    const std::string_view bytes = TokenBytes(id);
    if (bytes.empty()) continue;
    MergeAll(bytes, &scratch);
    whole_piece_[size_t(id)] = scratch.symbols[0].id == id && scratch.symbols[0].next == kNone;
  }
}

std::string_view Bpe::TokenBytes(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const size_t begin = offsets_[size_t(id)];
  return std::string_view(bytes_).substr(begin, offsets_[size_t(id) + 1] - begin);
}

std::optional<int32_t> Bpe::IdOf(std::string_view bytes) const {
  const int32_t id = FindToken(bytes);
  return id < 0 ? std::nullopt : std::optional(id);
}

// The slot that holds `bytes`, or the free one where they belong.
Bpe::TokenSlot* Bpe::FindSlot(std::string_view bytes, uint32_t hash) {
  const size_t mask = tokens_.size() - 1;
  size_t i = hash & mask;
  while (tokens_[i].id >= 0 && (tokens_[i].hash != hash || TokenBytes(tokens_[i].id) != bytes)) i = (i + 1) & mask;
  return &tokens_[i];
}

int32_t Bpe::FindToken(std::string_view bytes) const {
  return const_cast<Bpe*>(this)->FindSlot(bytes, HashBytes(bytes))->id;
}

// The slot of the pair, or the free one where it belongs.
const Bpe::MergeSlot& Bpe::FindMerge(int32_t left, int32_t right) const {
  const size_t mask = merges_.size() - 1;
  size_t i = HashPair(left, right) & mask;
  while (merges_[i].left >= 0 && (merges_[i].left != left || merges_[i].right != right)) i = (i + 1) & mask;
  return merges_[i];
}

void Bpe::Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const {
  if (piece.empty()) return;
  const int32_t whole = FindToken(piece);
  if (whole >= 0 && whole_piece_[size_t(whole)]) {
    ids->push_back(whole);
    return;
  }
  MergeAll(piece, scratch);
  for (uint32_t i = 0; i != kNone; i = scratch->symbols[i].next) ids->push_back(scratch->symbols[i].id);
}

uint32_t Bpe::PairRank(const Scratch& scratch, uint32_t left) const {
  const Scratch::Symbol& symbol = scratch.symbols[left];
  return symbol.next == kNone ? kNoRank : FindMerge(symbol.id, scratch.symbols[symbol.next].id).rank;
}

// Leaves the result in scratch->symbols, linked from the first one.
void Bpe::MergeAll(std::string_view piece, Scratch* scratch) const {
  VX_CHECK(piece.size() < kNone, "positions are 32-bit numbers");
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  std::vector<uint64_t>& queue = scratch->queue;
  const uint32_t n = uint32_t(piece.size());
  symbols.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    symbols[i] = {byte_ids_[uint8_t(piece[i])], kNoRank, i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1};
  }
  queue.clear();
  for (uint32_t i = 0; i < n; ++i) {
    symbols[i].rank = PairRank(*scratch, i);
    if (symbols[i].rank != kNoRank) queue.push_back(uint64_t(symbols[i].rank) << 32 | i);
  }
  std::make_heap(queue.begin(), queue.end(), kLater);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), kLater);
    const uint64_t top = queue.back();
    queue.pop_back();
    ++scratch->queue_pops;
    // An entry is outdated when its pair has changed: a later pair at this place is longer, so it is another merge.
    if (symbols[uint32_t(top)].rank == top >> 32) Join(uint32_t(top), scratch);
  }
}

// Replaces the symbol at `left` and the next one by their merge.
void Bpe::Join(uint32_t left, Scratch* scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  Scratch::Symbol& l = symbols[left];
  Scratch::Symbol& r = symbols[l.next];
  l.id = FindMerge(l.id, r.id).result;
  l.next = r.next;
  if (r.next != kNone) symbols[r.next].previous = left;
  r.rank = kNoRank;
  for (const uint32_t i : {l.previous, left}) {
    if (i == kNone) continue;
    symbols[i].rank = PairRank(*scratch, i);
    if (symbols[i].rank == kNoRank) continue;
    scratch->queue.push_back(uint64_t(symbols[i].rank) << 32 | i);
    std::push_heap(scratch->queue.begin(), scratch->queue.end(), kLater);
  }
}

}  // namespace vexil
