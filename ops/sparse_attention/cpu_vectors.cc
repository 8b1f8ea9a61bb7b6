// SparseAttention in vectors, for F32 and for processors without AMX.
//
// A piece of work is a token with some of its heads. It takes the list in blocks of 64 columns: the rows of a block
// become f32 once, then stay in the second cache for the logits, the softmax and the weighted sum of all its heads.
// Bytes moved: the listed rows, q and y once per piece.
// Sums are f32. A dot product adds 16 interleaved partial sums, each in ascending order of channels, in an order that
// depends on the width of the vectors; the weighted sum of a block runs through its columns in ascending order.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sparse_attention/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "base/host_memory.h"
#include "ops/elements.h"
#include "ops/sparse_attention/rows.h"
#include "ops/sparse_attention/sparse_attention.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = SparseAttention::kBlock;
constexpr float kNone = -std::numeric_limits<float>::infinity();
// Sums that are kept in registers: of heads by rows for the logits, of heads by packs for the weighted sums. The larger
// ones need 32 registers.
constexpr int64_t kSumHeads = 4;
constexpr int64_t kSumRows = kParts == 1 ? 4 : 1;
constexpr int64_t kSumPacks = kParts == 1 ? 4 : 1;

// What a piece of work keeps of its heads and of the block that it is at. Rows begin on cache lines.
struct Piece {
  Piece(int64_t max_heads, int64_t d)
      : heads(max_heads),
        stride(d + kLanes),
        memory(HostMemory::Allocate(size_t(2 * heads * d + kBlock * (stride + heads) + 3 * heads) * sizeof(float))),
        q(reinterpret_cast<float*>(memory.data())),
        acc(q + heads * d),
        kv(acc + heads * d),
        p(kv + kBlock * stride),
        keep(p + heads * kBlock),
        max(keep + heads),
        sum(max + heads) {
    if (memory.data() == nullptr) throw std::bad_alloc();
  }

  int64_t heads;
  int64_t stride;  // from one row of kv to the next: those of a power of two would share the sets of the first cache
  HostMemory memory;
  float* q;                 // [head][d]; heads are filled up with zeros to a multiple of kSumHeads
  float* acc;               // [head][d]
  float* kv;                // [row][stride]
  float* p;                 // [head][kBlock]: logits, then weights
  float *keep, *max, *sum;  // [head]
};

template <class T>
HWY_INLINE void Convert(const T* from, int64_t d, float* to) {
  for (int64_t c = 0; c < d; c += kLanes) Store(Load(from + c), to + c);
}

// The rows that `count` columns name, without the -1, and zeros up to a multiple of kSumRows. Returns their number.
template <class T>
int64_t Gather(const SparseAttention::Args& a, const int32_t* columns, int64_t count, Piece& piece) {
  const int64_t d = a.q.dim(2);
  int64_t rows = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (columns[j] >= 0) Convert(RowAt<T>(a, columns[j]), d, piece.kv + rows++ * piece.stride);
  }
  for (int64_t j = rows; j % kSumRows != 0; ++j) std::fill_n(piece.kv + j * piece.stride, d, 0.0f);
  return rows;
}

// p[h][r] = q[h] . kv[r] for kSumHeads heads and kSumRows rows.
HWY_INLINE void Dots(const float* q, const float* kv, int64_t stride, int64_t d, float* p) {
  Floats sum[kSumHeads][kSumRows];
  for (auto& of_head : sum) {
    for (Floats& s : of_head) s = Zero();
  }
  for (int64_t c = 0; c < d; c += kLanes) {
    Floats row[kSumRows];
    for (int64_t r = 0; r < kSumRows; ++r) row[r] = Load(kv + r * stride + c);
    for (int64_t h = 0; h < kSumHeads; ++h) {
      const Floats query = Load(q + h * d + c);
      for (int64_t r = 0; r < kSumRows; ++r) sum[h][r] = MulAdd(query, row[r], sum[h][r]);
    }
  }
  for (int64_t h = 0; h < kSumHeads; ++h) {
    for (int64_t r = 0; r < kSumRows; ++r) p[h * kBlock + r] = SumLanes(sum[h][r]);
  }
}

// acc[h] = acc[h] * keep[h] + sum of p[h][j] kv[j] over the rows, for kSumHeads heads and `packs` packs of channels.
template <int64_t packs>
HWY_INLINE void AddWeighted(const float* p, const float* keep, const float* kv, int64_t stride, int64_t rows, int64_t d,
                            float* acc) {
  Floats sum[kSumHeads][packs];
  for (int64_t h = 0; h < kSumHeads; ++h) {
    for (int64_t i = 0; i < packs; ++i) sum[h][i] = Load(acc + h * d + i * kLanes) * Set(keep[h]);
  }
  for (int64_t j = 0; j < rows; ++j) {
    Floats row[packs];
    for (int64_t i = 0; i < packs; ++i) row[i] = Load(kv + j * stride + i * kLanes);
    for (int64_t h = 0; h < kSumHeads; ++h) {
      const Floats weight = Set(p[h * kBlock + j]);
      for (int64_t i = 0; i < packs; ++i) sum[h][i] = MulAdd(weight, row[i], sum[h][i]);
    }
  }
  for (int64_t h = 0; h < kSumHeads; ++h) {
    for (int64_t i = 0; i < packs; ++i) Store(sum[h][i], acc + h * d + i * kLanes);
  }
}

// The block's logits become weights as they multiply rows of T; max, sum and keep of head h move on.
template <class T>
HWY_INLINE void Softmax(float scale, int64_t rows, int64_t h, Piece& piece) {
  float* const p = piece.p + h * kBlock;
  std::fill_n(p + rows, kBlock - rows, kNone);
  Floats largest = Set(piece.max[h]);
  for (int64_t j = 0; j < rows; j += kLanes) {
    const Floats logits = Load(p + j) * Set(scale);
    Store(logits, p + j);
    largest = AtLeastNumber(largest, logits);
  }
  const float before = piece.max[h], max = LargestFloat(largest);
  Floats sum = Zero();
  for (int64_t j = 0; j < rows; j += kLanes) {
    const Floats exact = Exp(Load(p + j) - Set(max));
    sum = sum + exact;
    Store(std::is_same_v<T, BF16> ? RoundToBf16(exact) : exact, p + j);
  }
  const float keep = std::exp(before - max);  // 0 for the first block
  piece.keep[h] = keep;
  piece.sum[h] = piece.sum[h] * keep + AddLanes(sum);
  piece.max[h] = max;
}

// Takes a block of `rows` rows, for `heads` heads.
template <class T>
void AddBlock(float scale, int64_t rows, int64_t heads, int64_t d, Piece& piece) {
  const float* const kv = piece.kv;
  for (int64_t r = 0; r < rows; r += kSumRows) {
    for (int64_t h = 0; h < heads; h += kSumHeads) {
      Dots(piece.q + h * d, kv + r * piece.stride, piece.stride, d, piece.p + h * kBlock + r);
    }
  }
  for (int64_t h = 0; h < heads; ++h) Softmax<T>(scale, rows, h, piece);
  const auto add = [&](auto packs, int64_t c) {
    for (int64_t h = 0; h < heads; h += kSumHeads) {
      AddWeighted<packs>(piece.p + h * kBlock, piece.keep + h, kv + c, piece.stride, rows, d, piece.acc + h * d + c);
    }
  };
  int64_t c = 0;
  for (; c + kSumPacks * kLanes <= d; c += kSumPacks * kLanes) add(std::integral_constant<int64_t, kSumPacks>(), c);
  for (; c < d; c += kLanes) add(std::integral_constant<int64_t, 1>(), c);
}

// Heads [begin, end) of token t.
template <class T>
void Attend(const SparseAttention::Args& a, int64_t t, int64_t begin, int64_t end, Piece& piece) {
  const int64_t d = a.q.dim(2), columns = a.rows.dim(1);
  const int64_t heads = (end - begin + kSumHeads - 1) / kSumHeads * kSumHeads;
  for (int64_t h = begin; h < end; ++h) {
    Convert(a.q.Row<T>(t) + h * a.q.stride(1), d, piece.q + (h - begin) * d);
  }
  std::fill(piece.q + (end - begin) * d, piece.q + heads * d, 0.0f);
  std::fill_n(piece.acc, piece.heads * d, 0.0f);
  std::fill_n(piece.max, piece.heads, kNone);
  std::fill_n(piece.sum, piece.heads, 0.0f);
  for (int64_t j = 0; j < columns; j += kBlock) {
    const int64_t rows = Gather<T>(a, a.rows.Row<int32_t>(t) + j, std::min(kBlock, columns - j), piece);
    if (rows > 0) AddBlock<T>(a.scale, rows, heads, d, piece);
  }
  for (int64_t h = begin; h < end; ++h) {
    const int64_t i = h - begin;
    const bool no_row = piece.sum[i] == 0;
    const Floats z = Set(no_row ? 1.0f : piece.sum[i] + std::exp(a.sink.Data<float>()[h] - piece.max[i]));
    T* y = a.y.MutRow<T>(t) + h * a.y.stride(1);
    for (int64_t c = 0; c < d; c += kLanes) Store(Load(piece.acc + i * d + c) / z, y + c);
  }
}

Status SparseAttentionVectors(const Context& ctx, const SparseAttention::Args& a) {
  // Heads of a piece share the conversion of the rows; few tokens are split further, so that no thread is idle.
  constexpr int64_t kManyHeads = 16;
  const int64_t n = a.q.dim(0), num_heads = a.q.dim(1), threads = ctx.threads ? ctx.threads->threads() : 1;
  const bool few = n * ((num_heads + kManyHeads - 1) / kManyHeads) < 2 * threads;
  const int64_t heads = few ? kSumHeads : kManyHeads, groups = (num_heads + heads - 1) / heads;
  WithFloatType(a.q.dtype(), [&](auto element) {
    ctx.For(n * groups, 1, [&](int64_t begin, int64_t end) {
      Piece piece(heads, a.q.dim(2));
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item % groups * heads;
        Attend<decltype(element)>(a, item / groups, first, std::min(first + heads, num_heads), piece);
      }
    });
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support SparseAttentionVectorsSupport(const Context&, const SparseAttention::Args& a) {
  VX_REQUIRE(IsFloat(a.q.dtype()), "q must be F32 or BF16");
  VX_REQUIRE(a.q.dim(2) % 16 == 0, "d must be a multiple of 16");
  return {};
}

HWY_EXPORT(SparseAttentionVectors);
VX_VECTOR_KERNELS(SparseAttention)

}  // namespace vexil::cpu
#endif
