#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "text/byte_level.h"

namespace vexil {
namespace {

constexpr auto kSmallestOnTop = std::greater<uint64_t>();

}  // namespace

Result<Bpe> Bpe::Create(const std::vector<std::string>& tokens, const std::vector<Merge>& merges) {
  Bpe bpe;
  VX_TRY(bpe.AddTokens(tokens));
  VX_TRY(bpe.AddMerges(merges));
  bpe.FindWholePieces();
  return bpe;
}

Status Bpe::AddTokens(const std::vector<std::string>& tokens) {
  tokens_ = TokenTable(tokens);
  for (int32_t id = 0; id < tokens_.size(); ++id) {
    if (tokens[size_t(id)].empty()) continue;
    const int32_t first = tokens_.Find(tokens[size_t(id)]);
    if (first != id) return InvalidArgument(fmt::format("tokens {} and {}: found the same bytes twice", first, id));
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = char(b);
    byte_ids_[size_t(b)] = tokens_.Find(std::string_view(&byte, 1));
    if (byte_ids_[size_t(b)] < 0) {
      return InvalidArgument(fmt::format("byte {:#04x}: found no token, expected '{}'", b, ByteSymbol(uint8_t(b))));
    }
  }
  return {};
}

Status Bpe::AddMerges(const std::vector<Merge>& merges) {
  merges_ = MergeTable(merges.size());
  for (const Merge& m : merges) {
    const uint32_t rank = uint32_t(results_.size());
    if (!merges_.Insert(m.left, m.right, rank)) {
      return InvalidArgument(
          fmt::format("merge {}: found the pair of merge {} again", rank, merges_.Rank(m.left, m.right)));
    }
    results_.push_back(m.result);
  }
  byte_pair_ranks_.reserve(256 * 256);
  for (const int32_t left : byte_ids_) {
    for (const int32_t right : byte_ids_) byte_pair_ranks_.push_back(merges_.Rank(left, right));
  }
  return {};
}

void Bpe::FindWholePieces() {
  Scratch scratch;
  std::vector<int32_t> ids;
  whole_piece_.resize(size_t(tokens_.size()));
  for (int32_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_.Bytes(id).empty()) continue;
    ids.clear();
    Encode(tokens_.Bytes(id), &scratch, &ids);
    whole_piece_[size_t(id)] = ids == std::vector{id};
  }
}

void Bpe::Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const {
  if (piece.empty()) return;
  const int32_t whole = tokens_.Find(piece);
  if (whole >= 0 && whole_piece_[size_t(whole)]) {
    ids->push_back(whole);
  } else if (piece.size() <= kMaxScanned) {
    MergeByScan(piece, ids);
  } else {
    MergeByQueue(piece, scratch, ids);
  }
}

void Bpe::MergeByScan(std::string_view piece, std::vector<int32_t>* ids) const {
  Pair pairs[kMaxScanned];
  size_t n = piece.size();
  for (size_t i = 0; i + 1 < n; ++i) {
    const uint8_t byte = uint8_t(piece[i]), next = uint8_t(piece[i + 1]);
    pairs[i] = {byte_ids_[byte], byte_pair_ranks_[size_t(byte) * 256 + next]};
  }
  pairs[n - 1] = {byte_ids_[uint8_t(piece[n - 1])], kNoRank};
  const auto set_rank = [&](size_t i) {
    pairs[i].rank = i + 1 < n ? merges_.Rank(pairs[i].id, pairs[i + 1].id) : kNoRank;
  };
  for (;;) {
    size_t best = 0;
    for (size_t i = 1; i < n; ++i) best = pairs[i].rank < pairs[best].rank ? i : best;
    if (pairs[best].rank == kNoRank) break;
    pairs[best].id = results_[pairs[best].rank];
    std::copy(pairs + best + 2, pairs + n, pairs + best + 1);
    --n;
    set_rank(best);
    if (best > 0) set_rank(best - 1);
  }
  for (size_t i = 0; i < n; ++i) ids->push_back(pairs[i].id);
}

void Bpe::MergeByQueue(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const {
  FillQueue(piece, scratch);
  std::vector<uint64_t>& queue = scratch->queue;
  while (!queue.empty()) {
    const uint64_t top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), kSmallestOnTop);
    queue.pop_back();
    ++scratch->queue_pops;
    // An entry is outdated when its pair has changed: the later pair at this place is longer, so it is another merge.
    if (scratch->symbols[uint32_t(top)].rank == top >> 32) Join(uint32_t(top), scratch);
  }
  for (uint32_t i = 0; i != kNone; i = scratch->symbols[i].next) ids->push_back(scratch->symbols[i].id);
}

void Bpe::FillQueue(std::string_view piece, Scratch* scratch) const {
  VX_CHECK(piece.size() < kNone, "positions are 32-bit numbers");
  const uint32_t n = uint32_t(piece.size());
  scratch->symbols.resize(n);
  scratch->queue.clear();
  for (uint32_t i = 0; i < n; ++i) {
    const uint8_t byte = uint8_t(piece[i]);
    const bool last = i + 1 == n;
    const uint32_t rank = last ? kNoRank : byte_pair_ranks_[size_t(byte) * 256 + uint8_t(piece[i + 1])];
    scratch->symbols[i] = {byte_ids_[byte], rank, i == 0 ? kNone : i - 1, last ? kNone : i + 1};
    if (rank != kNoRank) scratch->queue.push_back(uint64_t(rank) << 32 | i);
  }
  std::make_heap(scratch->queue.begin(), scratch->queue.end(), kSmallestOnTop);
}

// Replaces the symbol at `left` and the next one by their merge.
void Bpe::Join(uint32_t left, Scratch* scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  Scratch::Symbol& l = symbols[left];
  Scratch::Symbol& r = symbols[l.next];
  l.id = results_[l.rank];
  l.next = r.next;
  if (r.next != kNone) symbols[r.next].previous = left;
  r.rank = kNoRank;
  if (l.previous != kNone) SetRank(l.previous, scratch);
  SetRank(left, scratch);
}

void Bpe::SetRank(uint32_t left, Scratch* scratch) const {
  Scratch::Symbol& symbol = scratch->symbols[left];
  symbol.rank = symbol.next == kNone ? kNoRank : merges_.Rank(symbol.id, scratch->symbols[symbol.next].id);
  if (symbol.rank == kNoRank) return;
  scratch->queue.push_back(uint64_t(symbol.rank) << 32 | left);
  std::push_heap(scratch->queue.begin(), scratch->queue.end(), kSmallestOnTop);
}

}  // namespace vexil
