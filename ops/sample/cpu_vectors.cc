// Sample in vectors. Threads take chunks of a row, whose sums of weights are f64 and added in order, so that the result
// does not depend on the number of threads. A row without top_k or top_p is never sorted: the chunk in which the
// cumulative sum crosses is computed again. A ranked row gathers the tokens whose logit is within some distance of the
// largest, and more only if those do not suffice; a heap hands them out in descending order. Bytes moved: the logits
// three to four times, of which the first time from memory.
#include "ops/vectors/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sample/cpu_vectors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "ops/argmax/row-inl.h"
#include "ops/sample/damaged_row.h"
#include "ops/sample/sample.h"
#include "ops/top_k/rank_key.h"
#include "ops/vectors/levels.h"
#include "ops/vectors/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vexil::cpu::HWY_NAMESPACE {
namespace {

inline constexpr float kMinTemperature = 1e-5f;
inline constexpr double kLeastExponent = -700;  // of weights that count: exp of less is below 1e-304

using DD = hn::CappedTag<double, 8>;
inline constexpr int64_t kDoubles = int64_t(hn::MaxLanes(DD()));

// exp(x) for x <= 0 to within an ulp or two; 0 below kLeastExponent and for NaN. x = n ln 2 + r, Taylor's polynomial of
// degree 13 in r, times 2^n.
HWY_INLINE hn::Vec<DD> ExpOfNegative(hn::Vec<DD> x) {
  const DD d;
  const hn::RebindToSigned<DD> di;
  constexpr double kCoefficients[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
      1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1,           1};
  const auto counts = hn::Ge(x, hn::Set(d, kLeastExponent));  // false for NaN
  const auto v = hn::IfThenElse(counts, x, hn::Zero(d));
  // n in the lowest bits of the sum's mantissa, with the exponent's bias.
  const auto shifted = hn::Add(hn::Mul(v, hn::Set(d, 1.44269504088896340736)), hn::Set(d, 0x1.8p52 + 1023));
  const auto n = hn::Sub(shifted, hn::Set(d, 0x1.8p52 + 1023));
  auto r = hn::MulAdd(n, hn::Set(d, -0x1.62e42fee00000p-1), v);
  r = hn::MulAdd(n, hn::Set(d, -0x1.a39ef35793c76p-33), r);
  auto p = hn::Set(d, kCoefficients[0]);
  for (size_t i = 1; i < std::size(kCoefficients); ++i) p = hn::MulAdd(p, r, hn::Set(d, kCoefficients[i]));
  const auto power = hn::BitCast(d, hn::ShiftLeft<52>(hn::BitCast(di, shifted)));
  return hn::IfThenElseZero(counts, hn::Mul(p, power));
}

// One row: weights are probabilities with 1 for the largest logit.
struct Row {
  const float* logits;
  int64_t vocab;
  double max, temperature;
  double least;  // weights below it are dropped by min_p
};

// Tokens of a row that one thread looks at at a time.
inline constexpr int64_t kWeightChunk = 2048;

// The weights of n <= kWeightChunk logits, 0 for those that min_p drops; returns their sum. `logits` may be read as far
// as the next multiple of 8.
double Weights(const Row& row, const float* logits, int64_t n, double* weights) {
  const DD d;
  const hn::Rebind<float, DD> narrow;
  const auto max = hn::Set(d, row.max), temperature = hn::Set(d, row.temperature), least = hn::Set(d, row.least);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kDoubles) {
    const auto x = hn::Div(hn::Sub(hn::PromoteTo(d, hn::LoadU(narrow, logits + i)), max), temperature);
    const auto w = ExpOfNegative(x);
    const auto kept = hn::IfThenElseZero(hn::Ge(w, least), w);
    hn::StoreU(kept, d, weights + i);
    sum = hn::Add(sum, kept);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Weights() of a chunk of the row. A short one is padded with logits of weight 0.
double ChunkWeights(const Row& row, int64_t chunk, double* weights) {
  const int64_t begin = chunk * kWeightChunk, n = std::min(kWeightChunk, row.vocab - begin);
  if (n % 8 == 0) return Weights(row, row.logits + begin, n, weights);
  float padded[kWeightChunk];
  std::fill(std::copy_n(row.logits + begin, n, padded), padded + kWeightChunk, -std::numeric_limits<float>::infinity());
  return Weights(row, padded, n, weights);
}

inline int64_t ChunksOf(const Row& row) { return (row.vocab + kWeightChunk - 1) / kWeightChunk; }

// The sum of the weights of each chunk.
std::vector<double> ChunkSums(const Context& ctx, const Row& row) {
  std::vector<double> sums(size_t(ChunksOf(row)));
  ctx.For(ChunksOf(row), 4, [&](int64_t begin, int64_t end) {
    double weights[kWeightChunk];
    for (int64_t i = begin; i < end; ++i) sums[size_t(i)] = ChunkWeights(row, i, weights);
  });
  return sums;
}

// The first token, in index order, whose cumulative probability exceeds `uniform`.
int32_t DrawInIndexOrder(const Context& ctx, const Row& row, double uniform) {
  const std::vector<double> sums = ChunkSums(ctx, row);
  double total = 0, before = 0;
  for (double s : sums) total += s;
  const double target = uniform * total;
  size_t chunk = 0;
  while (chunk + 1 < sums.size() && before + sums[chunk] <= target) before += sums[chunk++];
  // Roundings may put the crossing behind the chunk; then it is the last token that counts.
  int64_t last = 0;
  for (; chunk < sums.size(); ++chunk) {
    double weights[kWeightChunk], cumulative = before;
    ChunkWeights(row, int64_t(chunk), weights);
    const int64_t begin = int64_t(chunk) * kWeightChunk, n = std::min(kWeightChunk, row.vocab - begin);
    for (int64_t i = 0; i < n; ++i) {
      if (!(weights[i] > 0)) continue;
      last = begin + i;
      cumulative += weights[i];
      if (cumulative > target) return int32_t(last);
    }
    before += sums[chunk];
  }
  return int32_t(last);
}

// Rank keys of the tokens with a logit of at least `least`.
void Gather(const Row& row, float least, std::vector<uint64_t>& keys) {
  keys.clear();
  const D d;
  const auto limit = hn::Set(d, least);
  const auto add = [&](int64_t i) {
    if (row.logits[i] >= least) keys.push_back(RankKey(row.logits[i], uint32_t(i)));
  };
  int64_t i = 0;
  for (; i + int64_t(kPartLanes) <= row.vocab; i += int64_t(kPartLanes)) {
    if (hn::AllFalse(d, hn::Ge(hn::LoadU(d, row.logits + i), limit))) continue;
    for (int64_t l = 0; l < int64_t(kPartLanes); ++l) add(i + l);
  }
  for (; i < row.vocab; ++i) add(i);
}

double WeightOf(const Row& row, int32_t token) {
  alignas(64) float logit[8] = {};
  alignas(64) double weight[8];
  logit[0] = row.logits[token];
  Weights(row, logit, 1, weight);
  return weight[0];
}

// Tokens that survived the filters in descending order, and their weights.
struct Kept {
  std::vector<int32_t> tokens;
  std::vector<double> weights;
  bool complete;  // no token outside `keys` would follow
};

// From the heap of the candidates, until their weights reach `mass`.
Kept KeepByRank(const Row& row, std::vector<uint64_t>& keys, double mass) {
  std::make_heap(keys.begin(), keys.end(), std::greater<>());
  Kept kept{{}, {}, false};
  double cumulative = 0;
  for (; !keys.empty() && !kept.complete; keys.pop_back()) {
    const int32_t token = RankedIndex(keys.front());
    const double w = WeightOf(row, token);
    kept.complete = !(w > 0);
    if (kept.complete) break;
    cumulative += w;
    kept.tokens.push_back(token);
    kept.weights.push_back(w);
    kept.complete = cumulative >= mass;
    std::pop_heap(keys.begin(), keys.end(), std::greater<>());
  }
  return kept;
}

// What top_k, top_p and min_p leave. top_k is the vocabulary's size and top_p above 1 where they are off.
Kept KeepRanked(const Context& ctx, const Row& row, int64_t top_k, double top_p) {
  const bool by_k = top_k < row.vocab;
  Row all = row;  // the mass that top_p refers to counts before min_p
  all.least = 0;
  double mass = 0;
  if (!by_k) {
    for (double s : ChunkSums(ctx, all)) mass += s;
  }
  std::vector<uint64_t> keys;
  for (const double distance : {6.0, 12.0, 24.0, -kLeastExponent}) {
    const bool last = distance == -kLeastExponent;
    // A little less, for the rounding to f32: a few tokens more do no harm.
    Gather(row, std::nextafter(float(row.max - distance * row.temperature), -std::numeric_limits<float>::infinity()),
           keys);
    if (by_k) {
      if (int64_t(keys.size()) < top_k && !last) continue;
      if (int64_t(keys.size()) > top_k) {
        std::nth_element(keys.begin(), keys.begin() + top_k, keys.end());
        keys.resize(size_t(top_k));
      }
      for (uint64_t key : keys) mass += WeightOf(all, RankedIndex(key));
    }
    Kept kept = KeepByRank(row, keys, top_p * mass);
    if (kept.complete || by_k || last) return kept;
  }
  return {};
}

// The first token whose cumulative probability exceeds `uniform`.
int32_t DrawByRank(const Kept& kept, double uniform) {
  double total = 0, cumulative = 0;
  for (double w : kept.weights) total += w;
  for (size_t i = 0; i < kept.tokens.size(); ++i) {
    cumulative += kept.weights[i];
    if (cumulative > uniform * total) return kept.tokens[i];
  }
  return kept.tokens.back();
}

int32_t SampleRow(const Context& ctx, const Sample::Args& a, int64_t i) {
  const float* logits = a.logits.Row<float>(i);
  const int64_t vocab = a.logits.dim(1);
  const int32_t best = ArgmaxOfWideRow(ctx, logits, vocab);
  const float temperature = a.temperature.Data<float>()[i];
  if (IsDamaged(logits, vocab, best)) return Sample::kNoToken;
  if (!(temperature > 0)) return best;
  const int64_t k = a.top_k.Data<int32_t>()[i];
  const float p = a.top_p.Data<float>()[i];
  const bool by_k = k > 0 && k < vocab, by_p = p < 1;
  const float min_p = a.min_p.Data<float>()[i];
  // min_p above 1 would drop the best token too.
  const double least = min_p > 0 ? std::min(double(min_p), 1.0) : 0.0;
  const Row row{logits, vocab, logits[best], std::max(temperature, kMinTemperature), least};
  const double uniform = a.uniform.Data<float>()[i];
  if (!by_k && !by_p) return DrawInIndexOrder(ctx, row, uniform);
  return DrawByRank(KeepRanked(ctx, row, by_k ? k : vocab, by_p ? double(p) : 2.0), uniform);
}

Status SampleVectors(const Context& ctx, const Sample::Args& a) {
  ctx.For(a.logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) a.token.MutData<int32_t>()[i] = SampleRow(ctx, a, i);
  });
  return {};
}

}  // namespace
}  // namespace vexil::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vexil::cpu {

static Support SampleVectorsSupport(const Context&, const Sample::Args&) { return {}; }

HWY_EXPORT(SampleVectors);
VX_VECTOR_KERNELS(Sample)

}  // namespace vexil::cpu
#endif
