#include <gtest/gtest.h>

#include "bench/host_indices.h"
#include "bench/op_bench.h"
#include "ops/scale/scale.h"
#include "ops/top_k/top_k.h"
#include "testing/simulated_device.h"

namespace vexil {
namespace {

TEST(Timing, MedianAndSpread) {
  const Timing t = Summarize({5, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11});
  EXPECT_EQ(t.median_s, 6);
  EXPECT_EQ(t.runs, 11);
  EXPECT_DOUBLE_EQ(t.spread, (10.0 - 2.0) / 6);
  EXPECT_EQ(Summarize({}).runs, 0);
}

TEST(Timing, StopsWhenTold) {
  int64_t calls = 0;
  const Timing t = Measure(
      {.seconds = 1000, .min_runs = 1000, .max_seconds = 1000}, [&](int64_t) { ++calls; }, [&] { return calls >= 4; });
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(t.runs, 3) << "the first run does not count";
}

TEST(OpBench, TheLargerFloorIsTheLimit) {
  OpBenchRow row;
  row.timing.median_s = 4;
  row.cost.bytes = 200;
  row.cost.flops = 3000;
  SetLimit(row, 100, 3000, "loop");  // 2 s to read, 1 s to compute
  EXPECT_EQ(row.limit, "read");
  EXPECT_EQ(row.limit_value, 100);
  EXPECT_EQ(row.ratio, 0.5);
  SetLimit(row, 1000, 1000, "loop");  // 0.2 s and 3 s
  EXPECT_EQ(row.limit, "loop");
  EXPECT_EQ(row.ratio, 0.75);
  const Json j = row.ToJson();
  for (const char* key :
       {"op", "kernel", "dtype", "shape", "rows", "threads", "time_us", "bytes", "flops", "limit", "ratio"}) {
    EXPECT_NE(j.Find(key), nullptr) << key;
  }
}

TEST(OpBench, CostOfACallThatATraceSaw) {
  float x[6] = {};
  const Scale::Args args = {
      .x = TensorView(x, DType::kF32, {2, 3}), .factor = 2, .y = MutTensorView(x, DType::kF32, {2, 3})};
  EXPECT_EQ(CostOfCall("scale", &args).bytes, 48);
  EXPECT_EQ(CostOfCall("scale", &args).rows, 2);
  EXPECT_EQ(CostOfCall("nothing", &args).bytes, 0);
}

// The simulated device's memory stops whoever reads it in place.
TEST(HostIndices, AreCopiesOfIndexTensorsAlone) {
  SimulatedDevice device;
  const std::vector<int32_t> counts = {3, 1, 4};
  const DeviceBuffer memory = *DeviceBuffer::Create(device, 4096);
  ASSERT_TRUE(device.CopyIn(memory.data(), counts.data(), counts.size() * sizeof(int32_t), device.stream()).ok());
  const DeviceId id = device.caps().id;
  TopK::Args args = {.scores = TensorView(memory.data(), DType::kF32, {3, 8}, id),
                     .count = TensorView(memory.data(), DType::kI32, {3}, id),
                     .indices = {}};
  ASSERT_EQ(BytesOfArgs("top_k"), sizeof(args));
  HostIndices indices(device);
  ASSERT_TRUE(indices.Take(reinterpret_cast<std::byte*>(&args), sizeof(args)).ok());
  EXPECT_EQ(args.scores.raw(), memory.data()) << "values stay where they are";
  ASSERT_NE(args.count.raw(), memory.data());
  EXPECT_EQ(std::vector<int32_t>(args.count.Data<int32_t>(), args.count.Data<int32_t>() + 3), counts);
}

class OpBenchRuns : public testing::Test {
 protected:
  Status Run(const OpBenchOptions& options) {
    OpBench bench(
        threads_, limits_, options, [&](const OpBenchRow& r) { rows_.push_back(r); }, [](const std::string&) {},
        cancelled_);
    return bench.RunAll();
  }
  static OpBenchOptions Quick(std::string op) {
    OpBenchOptions o;
    o.op = std::move(op);
    o.timing = {.seconds = 0, .min_runs = 2};
    o.rotate_bytes = 1000;
    return o;
  }
  ThreadPool threads_{2};
  MachineLimits limits_{threads_, size_t(4) << 20};
  std::vector<OpBenchRow> rows_;
  std::atomic<bool> cancelled_{false};
};

TEST_F(OpBenchRuns, OneRowPerCase) {
  ASSERT_TRUE(Run(Quick("scale")).ok());
  ASSERT_EQ(rows_.size(), std::size(kPerfTokens));
  for (const OpBenchRow& r : rows_) {
    EXPECT_EQ(r.op, "scale");
    EXPECT_GT(r.timing.median_s, 0);
    EXPECT_GT(r.ratio, 0);
  }
}

TEST_F(OpBenchRuns, NothingMatches) {
  EXPECT_EQ(Run(Quick("no_such_op")).code(), Code::kNotFound);
  OpBenchOptions o = Quick("scale");
  o.shape = "no such shape";
  EXPECT_EQ(Run(o).code(), Code::kNotFound);
  EXPECT_TRUE(rows_.empty());
}

TEST_F(OpBenchRuns, CtrlC) {
  cancelled_ = true;
  EXPECT_EQ(Run(Quick("scale")).code(), Code::kCancelled);
  EXPECT_TRUE(rows_.empty());
}

}  // namespace
}  // namespace vexil
