// Runs token lists through a model in the ways that tests compare.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "model/v4/model.h"
#include "testing/simulated_device.h"

namespace vexil {

using Ids = std::vector<int32_t>;
using Rows = std::vector<float>;  // logits of consecutive positions, row by row

inline std::string SourcePath(const std::string& path) { return std::string(VEXIL_SOURCE_DIR) + "/" + path; }

// Where the tests run a model: VEXIL_TEST_DEVICE, which is "simulated" (testing/simulated_device.h) or what --device
// takes, else the CPU.
inline std::string TestedDevice() {
  const char* name = std::getenv("VEXIL_TEST_DEVICE");
  return name ? name : "cpu";
}

inline std::unique_ptr<Model> LoadModelOrDie(const std::string& path, const ModelOptions& options) {
  const bool simulated = TestedDevice() == "simulated";
  const Result<DeviceId> id = ParseDevice(simulated ? "cpu" : TestedDevice());
  EXPECT_TRUE(id.ok()) << TestedDevice();
  if (!id.ok()) return nullptr;
  ModelOptions where = options;
  where.device = *id;
  Result<std::unique_ptr<Model>> model = Model::Load(SourcePath(path), where);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.status().message());
  if (!model.ok()) return nullptr;
  if (simulated) {
    const Status moved = (*model)->MoveTo(std::make_unique<SimulatedDevice>());
    EXPECT_TRUE(moved.ok()) << moved.message();
  }
  return *std::move(model);
}

// A model with a pool for a few sequences. Failures of the calls are test failures.
class Runner {
 public:
  Runner(const Model& model, int threads, KernelChoice choice = KernelChoice::kBest, CpuIsa isa = kBestCpuIsa)
      : model_(model), threads_(threads), arena_(model.device()) {
    if (Device* device = model.device()) {
      ctx_.device = device->caps().id;
      ctx_.accelerator = device;
      ctx_.stream = device->stream();
      ctx_.trace = SimulatedDevice::TraceOf(device);
    }
    ctx_.threads = &threads_;
    ctx_.workspace = &arena_;
    ctx_.choice = choice;
    ctx_.isa_limit = isa;
    pool_ = *StatePool::Create(StateLayout::For(model.config(), model.numerics()), 8, 64, model.device());
  }

  StatePool& pool() { return *pool_; }
  SequenceState NewSequence() { return *pool_->NewSequence(); }

  // Appends chunks to sequences; the logits of every token. In steps of as many tokens as get the same bits in any of
  // them: all at once on the CPU.
  Rows Step(const std::vector<SequenceState*>& sequences, const std::vector<Ids>& chunks) {
    std::vector<Rows> of_chunk(chunks.size());
    std::vector<size_t> done(chunks.size());
    for (;;) {
      std::vector<SequenceState*> some;
      std::vector<Ids> pieces;
      std::vector<size_t> from;
      size_t room = FewRows();
      for (size_t i = 0; i < chunks.size(); ++i) {
        const size_t count = std::min(room, chunks[i].size() - done[i]);
        if (count == 0) continue;
        some.push_back(sequences[i]);
        pieces.emplace_back(chunks[i].begin() + int64_t(done[i]), chunks[i].begin() + int64_t(done[i] + count));
        from.push_back(i);
        done[i] += count;
        room -= count;
      }
      if (some.empty()) break;
      const Rows rows = StepAtOnce(some, pieces);
      auto at = rows.begin();
      for (size_t j = 0; j < pieces.size(); ++j) {
        const auto end = at + int64_t(pieces[j].size()) * model_.config().vocab_size;
        of_chunk[from[j]].insert(of_chunk[from[j]].end(), at, end);
        at = end;
      }
    }
    Rows out;
    for (const Rows& r : of_chunk) out.insert(out.end(), r.begin(), r.end());
    return out;
  }
  Rows Step(SequenceState& sequence, const Ids& chunk) { return Step(std::vector<SequenceState*>{&sequence}, {chunk}); }
  // The same in one step, whatever kernels that takes.
  Rows StepAtOnce(const std::vector<SequenceState*>& sequences, const std::vector<Ids>& chunks,
                  const v4::Observer* observer = nullptr) {
    std::vector<SequenceChunk> batch;
    int64_t rows = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      batch.push_back({sequences[i], chunks[i], LogitRows::kAll});
      rows += int64_t(chunks[i].size());
    }
    Rows out(size_t(rows * model_.config().vocab_size));
    const Status s = model_.Step(ctx_, *pool_, batch,
                                 MutTensorView(out.data(), DType::kF32, {rows, model_.config().vocab_size}), observer);
    EXPECT_TRUE(s.ok()) << s.message();
    return out;
  }
  // A fresh sequence, all of it.
  Rows Whole(const Ids& ids) {
    SequenceState s = NewSequence();
    Rows out = Step(s, ids);
    pool_->Free(s);
    return out;
  }
  Rows WholeAtOnce(const Ids& ids, const v4::Observer* observer = nullptr) {
    SequenceState s = NewSequence();
    Rows out = StepAtOnce({&s}, {ids}, observer);
    pool_->Free(s);
    return out;
  }

 private:
  // Beyond 64 rows GPU kernels for matrices take over, which add in another order.
  size_t FewRows() const {
    const Device* device = model_.device();
    return device && device->caps().id.kind != DeviceKind::kCpu ? 64 : std::numeric_limits<size_t>::max();
  }

  const Model& model_;
  ThreadPool threads_;
  Arena arena_;
  Context ctx_;
  std::unique_ptr<StatePool> pool_;
};

}  // namespace vexil
