// Sparse attention as small matrix products on AMX tiles: all heads of a token share their rows.
//
// A list is taken in parts of 320 columns (amx_part.h). Work is split by token while there are at least as many as
// threads. Otherwise it is split by part (then also by 32 heads), in three loops: scores; weights and values; merging.
// The arithmetic of a head is the same in either.
// Bytes moved: the listed rows, q and y once. A part's rows and scratch, some 0.9 MB, stay in the second cache.
#include "ops/sparse_attention/sparse_attention.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ops/x86/amx_tiles.h"
#include "ops/x86/attributes.h"

HWY_PUSH_ATTRIBUTES(VX_AMX_ATTRIBUTES)
#include "ops/sparse_attention/amx_part.h"

namespace vexil::cpu {
namespace {

// Whole tokens, or 32 heads of a token, one after the other.
class ByToken {
 public:
  ByToken(const SparseAttention::Args& a, const Sizes& z, const BF16* zero_row)
      : a_(a), z_(z), zero_row_(zero_row), splits_((a.q.dim(1) + z.heads() - 1) / z.heads()) {}

  void Run(const Context& ctx) const {
    const int64_t items = a_.q.dim(0) * splits_, threads = ctx.threads ? ctx.threads->threads() : 1;
    // Scratch for each piece of work, a few pieces per thread.
    const int64_t pieces = std::min(items, threads * 4);
    const int64_t bytes = z_.query_bytes() + z_.key_bytes() + Part::Bytes(z_) + z_.weight_bytes() + 2 * Sums::Bytes(z_);
    uint8_t* memory = ctx.workspace->Allocate<uint8_t>(pieces * bytes);
    ctx.For(pieces, 1, [&](int64_t begin, int64_t end) {
      const FullTiles tiles;
      for (int64_t piece = begin; piece < end; ++piece) {
        for (int64_t i = items * piece / pieces; i < items * (piece + 1) / pieces; ++i) {
          Attend(i / splits_, i % splits_ * z_.heads(), memory + piece * bytes);
        }
      }
    });
  }

 private:
  void Attend(int64_t t, int64_t head, uint8_t* memory) const {
    const auto take = [&](int64_t bytes) { return std::exchange(memory, memory + bytes); };
    uint8_t *q = take(z_.query_bytes()), *keys = take(z_.key_bytes()), *part_memory = take(Part::Bytes(z_));
    Weights* weights = reinterpret_cast<Weights*>(take(z_.weight_bytes()));
    const Sums total(take(Sums::Bytes(z_)), z_), next(memory, z_);
    bool empty = true;
    PackQueries(a_, t, head, z_, q);
    for (int64_t j = 0; j < a_.rows.dim(1); j += kPart) {
      Part part(part_memory, z_);
      ListRows(a_, t, j, zero_row_, part);
      if (part.num_blocks == 0) continue;
      ScorePart(part, q, a_.scale, z_, keys);
      if (empty) {
        StartMax(total, z_);
        SumPart(part, a_.scale, z_, weights, total);
      } else {
        std::copy_n(total.max, z_.heads(), next.max);
        SumPart(part, a_.scale, z_, weights, next);
        Merge(next, z_, total);
      }
      empty = false;
    }
    Finish(a_, t, head, head, head + z_.heads(), std::span(&total, empty ? 0 : 1), z_);
  }

  const SparseAttention::Args& a_;
  const Sizes z_;
  const BF16* zero_row_;
  const int64_t splits_;  // items per token
};

// Parts of few tokens side by side.
class ByPart {
 public:
  ByPart(const SparseAttention::Args& a, const Sizes& z, const BF16* zero_row)
      : a_(a),
        z_(z),
        zero_row_(zero_row),
        splits_((a.q.dim(1) + z.heads() - 1) / z.heads()),
        parts_per_token_((a.rows.dim(1) + kPart - 1) / kPart) {}

  void Run(const Context& ctx) {
    const int64_t items = a_.q.dim(0) * splits_ * parts_per_token_;
    const int64_t bytes = z_.query_bytes() + z_.key_bytes() + Part::Bytes(z_) + z_.weight_bytes() + Sums::Bytes(z_);
    uint8_t* memory = ctx.workspace->Allocate<uint8_t>(items * bytes);
    for (int64_t i = 0; i < items; ++i) {
      uint8_t* part_memory = memory + i * bytes + z_.query_bytes() + z_.key_bytes();
      uint8_t* weights = part_memory + Part::Bytes(z_);
      parts_.emplace_back(part_memory, z_);
      weights_.push_back(reinterpret_cast<Weights*>(weights));
      sums_.emplace_back(weights + z_.weight_bytes(), z_);
    }
    ctx.For(items, 1, [&](int64_t begin, int64_t end) {
      const FullTiles tiles;
      for (int64_t i = begin; i < end; ++i) Score(i, memory + i * bytes);
    });
    ctx.For(items, 1, [&](int64_t begin, int64_t end) {
      const FullTiles tiles;
      for (int64_t i = begin; i < end; ++i) Sum(i);
    });
    const int64_t tiles = z_.heads() / kLanes;
    ctx.For(items / parts_per_token_ * tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) FinishTile(i / tiles, i % tiles * kLanes);
    });
  }

 private:
  // Items of one token and one set of heads, `split`, are neighbours, in the order of their parts.
  int64_t Token(int64_t split) const { return split / splits_; }
  int64_t FirstHead(int64_t split) const { return split % splits_ * z_.heads(); }

  void Score(int64_t i, uint8_t* memory) {
    const int64_t split = i / parts_per_token_;
    uint8_t *q = memory, *keys = memory + z_.query_bytes();
    Part& part = parts_[size_t(i)];
    ListRows(a_, Token(split), i % parts_per_token_ * kPart, zero_row_, part);
    if (part.num_blocks == 0) return;
    PackQueries(a_, Token(split), FirstHead(split), z_, q);
    ScorePart(part, q, a_.scale, z_, keys);
  }
  void Sum(int64_t i) const {
    const Sums& s = sums_[size_t(i)];
    if (parts_[size_t(i)].num_blocks == 0) return;
    StartMax(s, z_);
    for (int64_t before = i / parts_per_token_ * parts_per_token_; before < i; ++before) {
      if (parts_[size_t(before)].num_blocks == 0) continue;
      for (int64_t h = 0; h < z_.heads(); ++h) s.max[h] = std::max(s.max[h], parts_[size_t(before)].top[h]);
    }
    SumPart(parts_[size_t(i)], a_.scale, z_, weights_[size_t(i)], s);
  }
  // 16 heads of an item from `head` on.
  void FinishTile(int64_t split, int64_t head) const {
    std::vector<Sums> parts;
    for (int64_t i = split * parts_per_token_; i < (split + 1) * parts_per_token_; ++i) {
      if (parts_[size_t(i)].num_blocks > 0) parts.push_back(sums_[size_t(i)]);
    }
    const int64_t first = FirstHead(split);
    Finish(a_, Token(split), first, first + head, first + head + kLanes, parts, z_);
  }

  const SparseAttention::Args& a_;
  const Sizes z_;
  const BF16* zero_row_;
  const int64_t splits_, parts_per_token_;
  std::vector<Part> parts_;
  std::vector<Weights*> weights_;
  std::vector<Sums> sums_;
};

}  // namespace

Support SparseAttentionAmxSupports(const Context& ctx, const SparseAttention::Args& a) {
  VX_REQUIRE(ctx.HasIsa(CpuIsa::kAmx), "needs AMX BF16");
  VX_REQUIRE(ctx.workspace != nullptr, "needs a workspace");
  VX_REQUIRE(a.q.dtype() == DType::kBF16, "q must be BF16");
  VX_REQUIRE(a.q.dim(2) % kTileChannels == 0, "d must be a multiple of 32");
  VX_REQUIRE(a.q.dim(2) <= kMaxChannels, "d must be at most 1024");
  return {};
}

Status SparseAttentionAmx(const Context& ctx, const SparseAttention::Args& a) {
  const int64_t n = a.q.dim(0), d = a.q.dim(2), all_groups = (a.q.dim(1) + kGroup - 1) / kGroup;
  const int64_t threads = ctx.threads ? ctx.threads->threads() : 1, parts = (a.rows.dim(1) + kPart - 1) / kPart;
  if (n == 0 || all_groups == 0) return {};
  const Arena::Scope scope(*ctx.workspace);
  BF16* zero_row = ctx.workspace->Allocate<BF16>(d);
  std::fill_n(zero_row, d, BF16{});
  const auto sizes = [&](int64_t items) {
    return Sizes{items < threads ? 1 : all_groups, d / kTileChannels, 2 * d / kTileChannels};
  };
  if (n >= threads || parts <= 1) {
    ByToken(a, sizes(n), zero_row).Run(ctx);
  } else {
    ByPart(a, sizes(n * parts), zero_row).Run(ctx);
  }
  return {};
}

}  // namespace vexil::cpu
HWY_POP_ATTRIBUTES
#endif
