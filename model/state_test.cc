// StatePool without a model: who owns which page, what errors leave behind, which files are refused.
#include "model/state.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/safetensors_writer.h"
#include "io/test_files.h"

namespace vexil {
namespace {

constexpr int64_t kSequences = 3, kPages = 6;

// A layer of each kind.
StateLayout SmallLayout() {
  StateLayout l;
  l.layers = {{0, 0}, {4, kPageTokens / 4}, {128, kPageTokens / 128}};
  l.head_dim = 8;
  l.index_head_dim = 4;
  l.window_capacity = 16;
  l.overlap_capacity = 2 * kOverlapRatio + kMaxRollback;
  l.running_capacity = 1 + kMaxRollback;
  return l;
}

std::unique_ptr<StatePool> NewPool(const StateLayout& layout = SmallLayout(), int64_t sequences = kSequences,
                                   int64_t pages = kPages) {
  return *StatePool::Create(layout, sequences, pages);
}

// A sequence of `length` tokens whose every byte is `value`.
SequenceState Filled(StatePool& pool, int64_t length, int value) {
  SequenceState s = *pool.NewSequence();
  EXPECT_TRUE(pool.Reserve(s, length).ok());
  pool.Advance(s, length);
  for (size_t i = 0; i < pool.layout().layers.size(); ++i) {
    const StatePool::LayerViews& v = pool.layer(int64_t(i));
    const int64_t rows = pool.layout().layers[i].entries_per_page;
    const auto fill = [&](const MutTensorView& t) { std::memset(t.mut_raw(), value, size_t(t.Bytes())); };
    for (const MutTensorView& t : {v.window, v.overlap, v.index_overlap, v.running}) {
      if (!t.empty()) fill(t.Rows(s.slot, s.slot + 1));
    }
    for (const int32_t page : s.pages) {
      for (const MutTensorView& t : {v.entries, v.index_keys}) {
        if (!t.empty()) fill(t.Rows(page * rows, (page + 1) * rows));
      }
    }
  }
  return s;
}

uint8_t FirstByte(const StatePool& pool, const SequenceState& s, size_t page) {
  const int64_t rows = pool.layout().layers[1].entries_per_page;
  return *static_cast<const uint8_t*>(
      pool.layer(1).entries.Rows(s.pages[page] * rows, (s.pages[page] + 1) * rows).raw());
}

void ExpectNothingTaken(StatePool& pool) {
  EXPECT_EQ(pool.free_pages(), kPages);
  std::vector<SequenceState> all;
  for (int64_t i = 0; i < kSequences; ++i) {
    Result<SequenceState> s = pool.NewSequence();
    ASSERT_TRUE(s.ok()) << "slot " << i;
    all.push_back(*std::move(s));
  }
  for (SequenceState& s : all) pool.Free(s);
}

TEST(StatePool, SlotsRunOut) {
  const auto pool = NewPool();
  for (int64_t i = 0; i < kSequences; ++i) ASSERT_TRUE(pool->NewSequence().ok());
  const Result<SequenceState> more = pool->NewSequence();
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.status().code(), Code::kResourceExhausted);
}

TEST(StatePool, PagesRunOutAndComeBack) {
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, 4 * kPageTokens, 1), other = *pool->NewSequence();
  const Status full = pool->Reserve(other, 3 * kPageTokens);
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  EXPECT_EQ(other.length, 0);
  pool->Free(other);
  pool->Free(s);
  ExpectNothingTaken(*pool);
}

TEST(StatePool, ForksShareAPageUntilOneWrites) {
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, kPageTokens + 1, 7);
  SequenceState fork = *pool->Fork(s);
  EXPECT_EQ(fork.pages, s.pages);
  EXPECT_EQ(pool->free_pages(), kPages - 2);
  ASSERT_TRUE(pool->Reserve(fork, 1).ok());  // into the second page
  EXPECT_EQ(fork.pages[0], s.pages[0]);
  EXPECT_NE(fork.pages[1], s.pages[1]);
  EXPECT_EQ(FirstByte(*pool, fork, 1), 7);
  pool->Free(s);
  EXPECT_EQ(FirstByte(*pool, fork, 0), 7);
  pool->Free(fork);
  ExpectNothingTaken(*pool);
}

TEST(StatePool, ADuplicateThatDoesNotFitLeavesNothing) {
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, 4 * kPageTokens, 1);
  const Result<SequenceState> copy = pool->Duplicate(s);
  ASSERT_FALSE(copy.ok());
  EXPECT_EQ(copy.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(pool->free_pages(), kPages - 4);
  pool->Free(s);
  ExpectNothingTaken(*pool);
}

TEST(StatePool, RollBackIsLimitedByTheRings) {
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, kPageTokens + 4, 1);
  EXPECT_EQ(pool->RollBack(s, -1).code(), Code::kInvalidArgument);
  EXPECT_EQ(pool->RollBack(s, kPageTokens + 5).code(), Code::kInvalidArgument);
  EXPECT_EQ(pool->RollBack(s, kMaxRollback + 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(s.length, kPageTokens + 4);
  ASSERT_TRUE(pool->RollBack(s, 5).ok());
  EXPECT_EQ(s.pages.size(), 1u);
  // What is overwritten counts from the longest length, not from the present one.
  EXPECT_FALSE(pool->RollBack(s, kMaxRollback - 5 + 1).ok());
  EXPECT_TRUE(pool->RollBack(s, kMaxRollback - 5).ok());
  EXPECT_TRUE(pool->RollBack(s, s.length).ok());  // all of it: nothing older is needed
  EXPECT_EQ(s.high_water, 0);
  pool->Free(s);
  ExpectNothingTaken(*pool);
}

TEST(StatePool, SavesWhatIsThereNotWhatIsReserved) {
  const TempDir dir;
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, kPageTokens, 9);
  ASSERT_TRUE(pool->Reserve(s, 1).ok());  // for a step that never came
  ASSERT_EQ(s.pages.size(), 2u);
  ASSERT_TRUE(pool->Save(s, dir / "s").ok());
  const auto elsewhere = NewPool();
  Result<SequenceState> read = elsewhere->Restore(dir / "s");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->length, kPageTokens);
  EXPECT_EQ(read->pages.size(), 1u);
  EXPECT_EQ(FirstByte(*elsewhere, *read, 0), 9);
}

TEST(StatePool, RefusesFilesThatAreNoStateOfIt) {
  const TempDir dir;
  const auto pool = NewPool();
  SequenceState s = Filled(*pool, kPageTokens + 1, 1);
  ASSERT_TRUE(pool->Save(s, dir / "s").ok());
  pool->Free(s);

  const auto refusal = [&](StatePool& p, const std::string& name) {
    const Result<SequenceState> read = p.Restore(dir / name);
    return read.ok() ? Status() : Status(read.status().code(), std::string(read.status().message()));
  };
  EXPECT_EQ(refusal(*pool, "none").code(), Code::kNotFound);
  Put(dir / "text", "this is no safetensors file");
  EXPECT_FALSE(refusal(*pool, "text").ok());

  const auto write = [&](const char* name, const SafetensorsMetadata& metadata) {
    SafetensorsWriter writer = *SafetensorsWriter::Create(dir / name, {{"a", DType::kF32, {1}}}, metadata);
    ASSERT_TRUE(writer.Write("a", Bytes("1234")).ok());
    ASSERT_TRUE(writer.Finish().ok());
  };
  for (const SafetensorsMetadata& m : {SafetensorsMetadata{}, SafetensorsMetadata{{"length", "5"}},
                                       SafetensorsMetadata{{"length", "-5"}, {"high_water", "5"}},
                                       SafetensorsMetadata{{"length", "6"}, {"high_water", "5"}},
                                       SafetensorsMetadata{{"length", "1234567890123"}, {"high_water", "5"}}}) {
    write("numbers", m);
    EXPECT_EQ(refusal(*pool, "numbers").code(), Code::kDataLoss);
  }
  write("parts", {{"length", "5"}, {"high_water", "5"}});
  EXPECT_EQ(refusal(*pool, "parts").code(), Code::kInvalidArgument);
  write("long", {{"length", "2000"}, {"high_water", "2000"}});
  EXPECT_EQ(refusal(*pool, "long").code(), Code::kResourceExhausted);

  // Of models that differ in one thing.
  StateLayout wider = SmallLayout(), narrower = SmallLayout(), shallower = SmallLayout();
  wider.head_dim = 16;
  narrower.dtype = DType::kF32;
  shallower.layers.pop_back();
  for (const StateLayout& layout : {wider, narrower, shallower}) {
    const auto other = NewPool(layout);
    const Status status = refusal(*other, "s");
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("model"), std::string_view::npos) << status.message();
    ExpectNothingTaken(*other);
  }
  EXPECT_TRUE(refusal(*pool, "s").ok());
}

}  // namespace
}  // namespace vexil
