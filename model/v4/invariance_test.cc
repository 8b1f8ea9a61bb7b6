// However a text reaches the model - at once, in chunks, token by token, beside other sequences, on one thread or two,
// from a saved state, after a roll-back - its logits are the same bits.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "testing/model_runner.h"

namespace vexil {
namespace {

Ids RandomIds(std::mt19937& rng, int64_t count, int64_t vocab_size) {
  std::uniform_int_distribution<int32_t> draw(0, int32_t(vocab_size) - 1);
  Ids ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = draw(rng);
  return ids;
}

Ids Slice(const Ids& ids, size_t begin, size_t count) {
  return Ids(ids.begin() + int64_t(begin), ids.begin() + int64_t(begin + count));
}

class Invariance : public testing::TestWithParam<NumericsMode> {
 protected:
  void SetUp() override {
    ModelOptions options;
    options.numerics = GetParam();
    model_ = LoadModelOrDie("testdata/golden/a/model.bf16.safetensors", options);
    ASSERT_NE(model_, nullptr);
    vocab_ = size_t(model_->config().vocab_size);
    ids_ = RandomIds(rng_, 300, int64_t(vocab_));  // beyond two blocks of 128, a page of 256 and the window of 16
    Runner run(*model_, 1);
    want_ = run.Whole(ids_);
  }
  Rows WantRows(size_t begin, size_t count) const {
    return Rows(want_.begin() + int64_t(begin * vocab_), want_.begin() + int64_t((begin + count) * vocab_));
  }
  std::mt19937 rng_{20260731};
  std::unique_ptr<Model> model_;
  size_t vocab_ = 0;
  Ids ids_;
  Rows want_;
};

// Kernels for many rows may add in another order. Of the rows of a prompt, most differ by roundings of the activations'
// type; some by another choice of an expert or an entry, which tiny models make at every near tie.
TEST_P(Invariance, APromptAtOnceIsClose) {
  const Rows got = Runner(*model_, 2).WholeAtOnce(ids_);
  std::vector<double> errors;
  for (size_t i = 0; i < ids_.size(); ++i) {
    double difference = 0, norm = 0;
    for (size_t j = i * vocab_; j < (i + 1) * vocab_; ++j) {
      difference += std::pow(double(got[j]) - double(want_[j]), 2);
      norm += std::pow(double(want_[j]), 2);
    }
    errors.push_back(std::sqrt(difference / norm));
  }
  std::nth_element(errors.begin(), errors.begin() + int64_t(errors.size() / 2), errors.end());
  EXPECT_LE(errors[errors.size() / 2], GetParam() == NumericsMode::kF32 ? 1e-5 : 0.02);
  if (model_->device() == nullptr) {
    EXPECT_EQ(got, want_);
  }
}

TEST_P(Invariance, Threads) { EXPECT_EQ(Runner(*model_, 2).Whole(ids_), want_); }

TEST_P(Invariance, PlainAndBestKernelsAreBothInvariant) {
  const Rows plain = Runner(*model_, 1, KernelChoice::kPlain).Whole(ids_);
  EXPECT_EQ(Runner(*model_, 2, KernelChoice::kPlain).Whole(ids_), plain);
}

TEST_P(Invariance, EveryLevelOfCpuKernelsIsInvariant) {
  const Ids ids = Slice(ids_, 0, 80);
  for (int level = 0; level <= int(CpuIsaOfMachine()); ++level) {
    SCOPED_TRACE(NameOf(CpuIsa(level)));
    const Rows whole = Runner(*model_, 2, KernelChoice::kBest, CpuIsa(level)).Whole(ids);
    Runner run(*model_, 1, KernelChoice::kBest, CpuIsa(level));
    SequenceState s = run.NewSequence();
    Rows pieces;
    for (size_t i = 0; i < ids.size();) {
      const size_t count = std::min<size_t>(ids.size() - i, 1 + rng_() % 3 * (rng_() % 14));
      const Rows rows = run.Step(s, Slice(ids, i, count));
      pieces.insert(pieces.end(), rows.begin(), rows.end());
      i += count;
    }
    EXPECT_EQ(pieces, whole);
  }
}

TEST_P(Invariance, TokenByToken) {
  Runner run(*model_, 2);
  SequenceState s = run.NewSequence();
  for (size_t i = 0; i < ids_.size(); ++i) ASSERT_EQ(run.Step(s, {ids_[i]}), WantRows(i, 1)) << "position " << i;
}

TEST_P(Invariance, RandomChunks) {
  for (int trial = 0; trial < 6; ++trial) {
    Runner run(*model_, 2);
    SequenceState s = run.NewSequence();
    for (size_t i = 0; i < ids_.size();) {
      const size_t longest = trial % 2 ? 9 : 140;
      const size_t count = std::min(ids_.size() - i, 1 + rng_() % longest);
      ASSERT_EQ(run.Step(s, Slice(ids_, i, count)), WantRows(i, count)) << "trial " << trial << " position " << i;
      i += count;
    }
  }
}

TEST_P(Invariance, BesideOtherSequences) {
  Runner run(*model_, 2);
  SequenceState other = run.NewSequence(), mine = run.NewSequence(), late = run.NewSequence();
  const Ids noise = RandomIds(rng_, 700, int64_t(vocab_));
  size_t used = 0;
  for (size_t i = 0; i < ids_.size();) {
    const size_t count = std::min(ids_.size() - i, 1 + rng_() % 60), before = 1 + rng_() % 40;
    const Rows rows =
        run.Step({&other, &mine, &late}, {Slice(noise, used, before), Slice(ids_, i, count), {noise[used]}});
    const auto first = rows.begin() + int64_t(before * vocab_);
    ASSERT_EQ(Rows(first, first + int64_t(count * vocab_)), WantRows(i, count)) << "position " << i;
    i += count;
    used += before;
  }
}

TEST_P(Invariance, ForkSaveAndRestore) {
  Runner run(*model_, 2);
  SequenceState s = run.NewSequence();
  run.Step(s, Slice(ids_, 0, 270));
  SequenceState fork = *run.pool().Fork(s);
  const std::string path = testing::TempDir() + "/state_" + std::to_string(::getpid()) + ".safetensors";
  ASSERT_TRUE(run.pool().Save(s, path).ok());
  // Another continuation of the original must not show in the copies, although they share a page.
  run.Step(s, RandomIds(rng_, 30, int64_t(vocab_)));
  EXPECT_EQ(run.Step(fork, Slice(ids_, 270, 30)), WantRows(270, 30));
  Runner elsewhere(*model_, 1);
  Result<SequenceState> read = elsewhere.pool().Restore(path);
  ASSERT_TRUE(read.ok()) << read.status().message();
  SequenceState restored = *read;
  EXPECT_EQ(elsewhere.Step(restored, Slice(ids_, 270, 30)), WantRows(270, 30));
  std::filesystem::remove(path);
}

TEST_P(Invariance, ADuplicateSharesNoPage) {
  Runner run(*model_, 2);
  SequenceState s = run.NewSequence();
  run.Step(s, Slice(ids_, 0, 270));
  SequenceState copy = *run.pool().Duplicate(s);
  ASSERT_EQ(copy.pages.size(), s.pages.size());
  for (int32_t page : copy.pages) EXPECT_EQ(std::count(s.pages.begin(), s.pages.end(), page), 0);
  run.pool().Free(s);
  EXPECT_EQ(run.Step(copy, Slice(ids_, 270, 30)), WantRows(270, 30));
}

TEST_P(Invariance, RollBackAndReplay) {
  Runner run(*model_, 2);
  SequenceState s = run.NewSequence();
  size_t i = 0;
  while (i < ids_.size()) {
    const size_t count = std::min(ids_.size() - i, 1 + rng_() % 12);
    ASSERT_EQ(run.Step(s, Slice(ids_, i, count)), WantRows(i, count)) << "position " << i;
    i += count;
    // A rejected draft: wrong tokens, taken back.
    const int64_t draft = 1 + int64_t(rng_() % uint64_t(kMaxRollback));
    run.Step(s, RandomIds(rng_, draft, int64_t(vocab_)));
    ASSERT_TRUE(run.pool().RollBack(s, draft).ok());
  }
}

TEST_P(Invariance, RollBackBeyondWhatIsKeptIsRefused) {
  Runner run(*model_, 1);
  SequenceState s = run.NewSequence();
  run.Step(s, Slice(ids_, 0, 100));
  EXPECT_TRUE(run.pool().RollBack(s, kMaxRollback).ok());
  const Status refused = run.pool().RollBack(s, 1);
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_TRUE(run.pool().RollBack(s, s.length).ok()) << "starting again is always possible";
  EXPECT_EQ(run.Step(s, Slice(ids_, 0, 50)), WantRows(0, 50));
}

TEST_P(Invariance, PagesComeBack) {
  Runner run(*model_, 1);
  const int64_t before = run.pool().free_pages();
  SequenceState s = run.NewSequence();
  run.Step(s, ids_);
  SequenceState fork = *run.pool().Fork(s);
  EXPECT_EQ(run.pool().free_pages(), before - 2);
  run.pool().Free(s);
  run.pool().Free(fork);
  EXPECT_EQ(run.pool().free_pages(), before);
}

INSTANTIATE_TEST_SUITE_P(, Invariance, testing::Values(NumericsMode::kFp8, NumericsMode::kBf16, NumericsMode::kF32),
                         [](const auto& p) { return std::string(NumericsOf(p.param).name); });

}  // namespace
}  // namespace vexil
