// Attention through AttentionRows, SparseAttention and ScatterRows together, and what must not show in its bits.
#include "ops/sparse_attention/sparse_attention.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ops/attention_rows/attention_rows.h"
#include "ops/scatter_rows/scatter_rows.h"
#include "testing/ragged_step.h"

namespace vexil {
namespace {

constexpr int64_t kHeads = 18, kD = 24;  // more than one group of heads, the last one short
constexpr float kScale = 0.204f;

using Bits = std::vector<uint16_t>;

Bits BitsOf(const TensorView& t) {
  const uint16_t* bits = static_cast<const uint16_t*>(t.raw());
  return Bits(bits, bits + t.dims().Count());
}

void ExpectOk(const Status& status) { EXPECT_TRUE(status.ok()) << status.message(); }

class SparseAttentionTest : public testing::Test {
 protected:
  // Four tokens over 90 of the 24 rows, some columns without a row.
  SparseAttention::Args Batch() {
    const MutTensorView rows = arena_.Integers(DType::kI32, {4, 90}, -4, 23);
    for (int64_t i = 0; i < rows.dims().Count(); ++i)
      rows.MutData<int32_t>()[i] = std::max(rows.Data<int32_t>()[i], -1);
    return {.q = arena_.Normal(DType::kBF16, {4, kHeads, kD}, 4),
            .rows = rows,
            .step_kv = arena_.Normal(DType::kBF16, {4, kD}),
            .window_kv = arena_.Normal(DType::kBF16, {8, kD}),
            .compressed_kv = arena_.Normal(DType::kBF16, {12, kD}),
            .sink = arena_.Normal(DType::kF32, {kHeads}),
            .scale = kScale,
            .y = arena_.Poison(DType::kBF16, {4, kHeads, kD})};
  }
  Bits Attend(SparseAttention::Args args, int threads = 1) {
    ThreadPool pool(threads);
    Arena workspace;
    Context ctx;
    ctx.threads = &pool;
    ctx.workspace = &workspace;
    args.y = arena_.Poison(DType::kBF16, args.q.dims());
    ExpectOk(vexil::Run<SparseAttention>(ctx, args));
    return BitsOf(args.y);
  }

  TestArena arena_{11};
};

TEST_F(SparseAttentionTest, NeitherNeighboursNorThreadsShow) {
  const SparseAttention::Args batch = Batch();
  const Bits want = Attend(batch);
  EXPECT_EQ(Attend(batch, 3), want);
  Bits one_by_one;
  for (int64_t t = 0; t < 4; ++t) {
    SparseAttention::Args token = batch;
    token.q = batch.q.Rows(t, t + 1);
    token.rows = batch.rows.Rows(t, t + 1);
    const Bits bits = Attend(token);
    one_by_one.insert(one_by_one.end(), bits.begin(), bits.end());
  }
  EXPECT_EQ(one_by_one, want);
}

// Lists that kernels cut into parts, among them parts without a row, and shapes that fill matrix instructions.
TEST_F(SparseAttentionTest, PartsOfLongListsDoNotShow) {
  constexpr int64_t kTokens = 3, kColumns = 700, kWideHeads = 40, kWideD = 64, kHalf = 320;
  const MutTensorView rows = arena_.Integers(DType::kI32, {kTokens, kColumns}, 0, 99);
  std::fill_n(rows.MutRow<int32_t>(1), kHalf, -1);
  std::fill_n(rows.MutRow<int32_t>(2), kColumns, -1);
  const SparseAttention::Args batch = {.q = arena_.Normal(DType::kBF16, {kTokens, kWideHeads, kWideD}, 4),
                                       .rows = rows,
                                       .step_kv = arena_.Normal(DType::kBF16, {kTokens, kWideD}),
                                       .compressed_kv = arena_.Normal(DType::kBF16, {100, kWideD}),
                                       .sink = arena_.Normal(DType::kF32, {kWideHeads}),
                                       .scale = 0.125f,
                                       .y = {}};
  const Bits want = Attend(batch);
  for (int threads : {2, 3, 4, 9}) EXPECT_EQ(Attend(batch, threads), want) << threads << " threads";
  for (int threads : {1, 2, 5}) {
    Bits one_by_one;
    for (int64_t t = 0; t < kTokens; ++t) {
      SparseAttention::Args token = batch;
      token.q = batch.q.Rows(t, t + 1);
      token.rows = batch.rows.Rows(t, t + 1);
      const Bits bits = Attend(token, threads);
      one_by_one.insert(one_by_one.end(), bits.begin(), bits.end());
    }
    EXPECT_EQ(one_by_one, want) << threads << " threads";
  }
}

TEST_F(SparseAttentionTest, WiderListsOfNothingChangeNothing) {
  SparseAttention::Args args = Batch();
  const Bits want = Attend(args);
  const MutTensorView wide = arena_.Poison(DType::kI32, {4, 300});
  for (int64_t t = 0; t < 4; ++t) std::copy_n(args.rows.Row<int32_t>(t), 90, wide.MutRow<int32_t>(t));
  args.rows = wide;
  EXPECT_EQ(Attend(args), want);
}

TEST_F(SparseAttentionTest, RefusesPoolsOfAnotherWidth) {
  SparseAttention::Args args = Batch();
  args.compressed_kv = arena_.Normal(DType::kBF16, {12, kD + 1});
  const Status status = vexil::Run<SparseAttention>(Context{}, args);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message(), "sparse_attention: compressed_kv must be [Rc, d] in q's dtype");
}

// A sequence of tokens that attend to a window of 8 and to an entry per 4 tokens, taken in steps.
class ChunkedAttentionTest : public SparseAttentionTest {
 protected:
  static constexpr int64_t kTokens = 70, kWindow = 8, kCapacity = 11, kRatio = 4, kPerBlock = 3, kSlot = 1;

  // The attention output of every token, in chunks of at most `chunk` tokens.
  Bits AttendInChunks(int64_t chunk) {
    const MutTensorView ring = arena_.Poison(DType::kBF16, {2 * kCapacity, kD});
    Bits all;
    for (int64_t first = 0; first < kTokens; first += chunk) {
      const int64_t end = std::min(first + chunk, kTokens);
      const StepTensors step = MakeStep(arena_, {{first, end - first, kSlot}});
      const TensorView kv = kv_.Rows(first, end);
      const Bits bits = Attend({.q = q_.Rows(first, end),
                                .rows = List(step),
                                .step_kv = kv,
                                .window_kv = ring,
                                .compressed_kv = entries_,
                                .sink = sink_,
                                .scale = kScale,
                                .y = {}});
      all.insert(all.end(), bits.begin(), bits.end());
      ExpectOk(vexil::Run<ScatterRows>(Context{}, {.x = kv, .rows = RingRows(first, end), .pool = ring}));
    }
    return all;
  }

 private:
  TensorView List(const StepTensors& step) {
    const MutTensorView rows = arena_.Poison(DType::kI32, {step.tokens, kWindow + kTokens / kRatio});
    ExpectOk(vexil::Run<AttentionRows>(Context{}, {.positions = step.positions,
                                                   .seq = step.seq,
                                                   .seq_begin = step.seq_begin,
                                                   .slot = step.slot,
                                                   .block_table = block_table_,
                                                   .window = kWindow,
                                                   .window_capacity = kCapacity,
                                                   .entries_per_block = kPerBlock,
                                                   .ratio = kRatio,
                                                   .step_rows = step.tokens,
                                                   .window_rows = 2 * kCapacity,
                                                   .rows = rows}));
    return rows;
  }
  // Where the tokens [first, end) go: only the last ones, which the ring can hold.
  TensorView RingRows(int64_t first, int64_t end) {
    std::vector<int32_t> rows;
    for (int64_t p = first; p < end; ++p) {
      rows.push_back(p < end - kCapacity ? -1 : int32_t(kSlot * kCapacity + p % kCapacity));
    }
    return arena_.Values<int32_t>({end - first}, rows);
  }

  const TensorView q_ = arena_.Normal(DType::kBF16, {kTokens, kHeads, kD}, 4);
  const TensorView kv_ = arena_.Normal(DType::kBF16, {kTokens, kD});
  const TensorView entries_ = arena_.Normal(DType::kBF16, {10 * kPerBlock, kD});
  const TensorView sink_ = arena_.Normal(DType::kF32, {kHeads});
  const TensorView block_table_ = MakeBlockTable(arena_, {kTokens / kRatio}, kPerBlock, 10);
};

TEST_F(ChunkedAttentionTest, AnyChunkingGivesTheSameBits) {
  const Bits whole = AttendInChunks(kTokens);
  for (int64_t chunk : {1, 3, 8, 12, 33}) EXPECT_EQ(AttendInChunks(chunk), whole) << "chunks of " << chunk;
}

}  // namespace
}  // namespace vexil
