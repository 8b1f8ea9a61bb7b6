// Both compressors: how a stream of tokens is cut into steps does not show in the entries or in the state.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "ops/compress_overlap/compress_overlap.h"
#include "ops/compress_running/compress_running.h"
#include "testing/ragged_step.h"

namespace vexil {
namespace {

constexpr int64_t kD = 70;  // more than one range of channels, the last one short
constexpr int64_t kTokens = 150;
constexpr int64_t kSlots = 3;
constexpr int64_t kSlack = 5;  // positions that may be forgotten

struct Overlap {
  using Op = CompressOverlap;
  static constexpr int64_t kRatio = 4, kCapacity = 2 * kRatio + kSlack, kInputs = 2 * kD;
  static Dims StateDims() { return {kSlots, kCapacity, 2, kInputs}; }
  static void SetState(Op::Args& a, MutTensorView state) { a.ring = state; }
};
struct Running {
  using Op = CompressRunning;
  static constexpr int64_t kRatio = 16, kCapacity = 1 + kSlack, kInputs = kD;
  static Dims StateDims() { return {kSlots, kCapacity, 3, kD}; }
  static void SetState(Op::Args& a, MutTensorView state) { a.state = state; }
};

using Bits = std::vector<uint32_t>;

Bits BitsOf(const TensorView& t) {
  const float* values = t.Data<float>();
  Bits bits;
  for (int64_t i = 0; i < t.dims().Count(); ++i) bits.push_back(std::bit_cast<uint32_t>(values[i]));
  return bits;
}

// The inputs of one sequence by position.
struct Stream {
  TensorView kv, score;
};
struct Chunk {
  const Stream* stream;
  StepSequence tokens;
};

template <class Kind>
class CompressTest : public testing::Test {
 public:
  // One step; the entries of all its sequences.
  Bits Step(const std::vector<Chunk>& chunks, MutTensorView state, ThreadPool* threads = nullptr) {
    std::vector<StepSequence> sequences;
    for (const Chunk& c : chunks) sequences.push_back(c.tokens);
    const StepTensors step = MakeStep(arena_, sequences);
    const MutTensorView kv = arena_.Poison(DType::kF32, {step.tokens, Kind::kInputs});
    const MutTensorView score = arena_.Poison(DType::kF32, {step.tokens, Kind::kInputs});
    int64_t row = 0;
    for (const Chunk& c : chunks) {
      const size_t bytes = size_t(c.tokens.length * Kind::kInputs) * sizeof(float);
      std::memcpy(kv.MutRow<float>(row), c.stream->kv.Row<float>(c.tokens.first), bytes);
      std::memcpy(score.MutRow<float>(row), c.stream->score.Row<float>(c.tokens.first), bytes);
      row += c.tokens.length;
    }
    const MutTensorView entry_begin = MakeEntryBegin(arena_, sequences, Kind::kRatio);
    const MutTensorView entries = arena_.Poison(DType::kF32, {entry_begin.Data<int32_t>()[sequences.size()], kD});
    typename Kind::Op::Args args{};
    args.kv = kv, args.score = score, args.ape = ape_, args.ratio = Kind::kRatio;
    args.positions = step.positions, args.seq_begin = step.seq_begin, args.slot = step.slot;
    args.entry_begin = entry_begin, args.entries = entries;
    Kind::SetState(args, state);
    Context ctx;
    ctx.threads = threads;
    const Status status = vexil::Run<typename Kind::Op>(ctx, args);
    EXPECT_TRUE(status.ok()) << status.message();
    return BitsOf(entries);
  }
  // Feeds a stream from position 0 in chunks of the given lengths, the last one repeated.
  Bits Feed(const Stream& stream, const std::vector<int64_t>& lengths, MutTensorView state) {
    Bits all;
    int64_t first = 0;
    for (size_t i = 0; first < kTokens; ++i) {
      const int64_t length = std::min(i < lengths.size() ? lengths[i] : lengths.back(), kTokens - first);
      Append(all, Step({{&stream, {first, length, 1}}}, state));
      first += length;
    }
    return all;
  }
  static void Append(Bits& to, const Bits& more) { to.insert(to.end(), more.begin(), more.end()); }
  MutTensorView NewState() { return arena_.Integers(DType::kF32, Kind::StateDims(), 0, 0); }
  Stream NewStream() {
    const Dims dims = {kTokens, Kind::kInputs};
    return {arena_.Normal(DType::kF32, dims), arena_.Normal(DType::kF32, dims, 3)};
  }

 private:
  TestArena arena_{7};
  TensorView ape_ = arena_.Normal(DType::kF32, {Kind::kRatio, Kind::kInputs});
};

using Kinds = testing::Types<Overlap, Running>;
TYPED_TEST_SUITE(CompressTest, Kinds);

TYPED_TEST(CompressTest, AnyChunkingGivesTheSameEntriesAndState) {
  const Stream stream = this->NewStream();
  const MutTensorView whole = this->NewState();
  const Bits entries = this->Feed(stream, {kTokens}, whole);
  ASSERT_EQ(entries.size(), size_t(kTokens / TypeParam::kRatio * kD));
  for (const std::vector<int64_t>& lengths :
       std::vector<std::vector<int64_t>>{{1}, {3}, {16}, {1, 40, 2, 7}, {149, 1}}) {
    const MutTensorView state = this->NewState();
    EXPECT_EQ(this->Feed(stream, lengths, state), entries) << "first chunk " << lengths[0];
    EXPECT_EQ(BitsOf(state), BitsOf(whole)) << "first chunk " << lengths[0];
  }
}

TYPED_TEST(CompressTest, LeftoversOfAnEarlierSequenceDoNotShow) {
  const Stream earlier = this->NewStream(), stream = this->NewStream();
  const Bits entries = this->Feed(stream, {9}, this->NewState());
  const MutTensorView used = this->NewState();
  this->Feed(earlier, {50}, used);
  EXPECT_EQ(this->Feed(stream, {9}, used), entries);
}

TYPED_TEST(CompressTest, ForgettingTokensNeedsNoUndo) {
  const Stream stream = this->NewStream(), rejected = this->NewStream();
  const Bits entries = this->Feed(stream, {1}, this->NewState());
  const MutTensorView state = this->NewState();
  Bits replayed;
  for (int64_t first = 0; first < kTokens; ++first) {
    const int64_t draft = std::min(kSlack, kTokens - first);
    this->Step({{&rejected, {first, draft, 1}}}, state);
    TestFixture::Append(replayed, this->Step({{&stream, {first, 1, 1}}}, state));
  }
  EXPECT_EQ(replayed, entries);
}

TYPED_TEST(CompressTest, NeitherNeighboursNorThreadsShow) {
  const Stream a = this->NewStream(), b = this->NewStream(), c = this->NewStream();
  const MutTensorView together = this->NewState(), alone = this->NewState();
  ThreadPool threads(3);
  const Bits batch = this->Step({{&a, {0, 37, 2}}, {&b, {0, 5, 0}}, {&c, {0, 50, 1}}}, together, &threads);
  Bits one_by_one = this->Step({{&a, {0, 37, 2}}}, alone);
  TestFixture::Append(one_by_one, this->Step({{&b, {0, 5, 0}}}, alone));
  TestFixture::Append(one_by_one, this->Step({{&c, {0, 50, 1}}}, alone));
  EXPECT_EQ(batch, one_by_one);
  EXPECT_EQ(BitsOf(together), BitsOf(alone));
}

}  // namespace
}  // namespace vexil
