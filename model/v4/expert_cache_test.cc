// Experts in host memory change no bit, wherever the budget puts them. On the simulated accelerator.
#include "model/expert_cache.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "testing/model_runner.h"

namespace vexil {
namespace {

Ids SomeIds(int64_t count, int32_t seed, int64_t vocab_size) {
  Ids ids;
  for (int32_t i = 0; i < int32_t(count); ++i) ids.push_back((i * i * 7 + i * 131 + seed * 17) % int32_t(vocab_size));
  return ids;
}

// A prompt at once, in chunks, then token by token beside a second sequence: all logits.
Rows Scenario(Runner& run, int32_t seed, int64_t vocab_size, const v4::Observer* observer = nullptr) {
  SequenceState a = run.NewSequence(), b = run.NewSequence();
  Rows all;
  const auto step = [&](const std::vector<SequenceState*>& sequences, const std::vector<Ids>& chunks) {
    const Rows rows = run.StepAtOnce(sequences, chunks, observer);
    all.insert(all.end(), rows.begin(), rows.end());
  };
  step({&a}, {SomeIds(40, seed, vocab_size)});
  step({&b}, {SomeIds(3, seed + 1, vocab_size)});
  step({&a, &b}, {SomeIds(9, seed + 2, vocab_size), SomeIds(5, seed + 3, vocab_size)});
  for (int32_t i = 0; i < 4; ++i) {
    step({&a}, {SomeIds(1, seed + i, vocab_size)});
    step({&b, &a}, {SomeIds(1, seed + 2 * i, vocab_size), SomeIds(1, seed + 3 * i, vocab_size)});
  }
  run.pool().Free(a);
  run.pool().Free(b);
  return all;
}

class HostExperts : public testing::TestWithParam<const char*> {
 protected:
  static std::unique_ptr<Model> Load() { return *Model::Load(SourcePath(GetParam()), {}); }
  static std::unique_ptr<Model> Moved(const ExpertPlacement& placement, bool guarded = true) {
    std::unique_ptr<Model> model = Load();
    const Status s = model->MoveTo(std::make_unique<SimulatedDevice>(SimulatedDevice::kMemory, guarded), placement);
    EXPECT_TRUE(s.ok()) << s.message();
    return model;
  }
  void SetUp() override {
    const std::unique_ptr<Model> resident = Load();
    ASSERT_TRUE(resident->MoveTo(std::make_unique<SimulatedDevice>(SimulatedDevice::kMemory, false)).ok());
    EXPECT_EQ(resident->expert_cache(), nullptr);
    sizes_ = resident->weights().Sizes();
    vocab_ = resident->config().vocab_size;
    layers_ = resident->config().num_layers;
    Runner run(*resident, 1);
    want_ = Scenario(run, 1, vocab_);
  }
  void ExpectTheSameBits(const ExpertPlacement& placement) {
    SCOPED_TRACE(placement.Summary());
    const std::unique_ptr<Model> model = Moved(placement, false);
    ASSERT_NE(model->expert_cache(), nullptr);
    Runner run(*model, 1);
    EXPECT_EQ(Scenario(run, 1, vocab_), want_);
    const ExpertCache::Statistics s = model->expert_cache()->statistics();
    EXPECT_GT(s.misses, 0);
    EXPECT_EQ(s.copied_bytes, s.misses * sizes_.expert_bytes[0]);
  }
  WeightSizes sizes_;
  int64_t vocab_ = 0, layers_ = 0;
  Rows want_;
};

TEST_P(HostExperts, EveryNumberOfThemGivesTheSameBits) {
  const int64_t e = sizes_.experts_per_layer;
  for (int64_t host = layers_ * e; host >= 1; host -= host > 2 * e ? 7 : 1) {
    std::vector<int64_t> resident(size_t(layers_), e);
    for (int64_t i = 0; i < host; ++i) --resident[size_t(i / e)];
    ExpectTheSameBits(ExpertPlacement::Of(sizes_, resident));
  }
}

TEST_P(HostExperts, SoDoSomeOfEachLayer) {
  const int64_t e = sizes_.experts_per_layer;
  for (int64_t r = 0; r < e; r += 3) {
    ExpectTheSameBits(ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), r)));
  }
  std::vector<int64_t> mixed(size_t(layers_), e);
  mixed[1] = e - 2, mixed[2] = 1;
  ExpectTheSameBits(ExpertPlacement::Of(sizes_, mixed));
}

TEST_P(HostExperts, ABudgetOfBytesIsKept) {
  const std::unique_ptr<Model> host = Load();
  const ExpertPlacement none = ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), 0));
  const int64_t all = none.device_bytes - none.slots * none.slot_bytes + none.host_bytes;
  EXPECT_TRUE(host->PlacementFor(all)->all_resident());
  for (int64_t budget : {none.device_bytes, (none.device_bytes + all) / 2, all - 1}) {
    const ExpertPlacement placement = *host->PlacementFor(budget);
    EXPECT_LE(placement.device_bytes, budget);
    ExpectTheSameBits(placement);
    // What is really allocated: the weights, the frequencies and what pages round up.
    auto device = std::make_unique<SimulatedDevice>();
    SimulatedDevice& d = *device;
    const std::unique_ptr<Model> model = Load();
    ASSERT_TRUE(model->MoveTo(std::move(device), budget).ok());
    EXPECT_LE(SimulatedDevice::kMemory - d.FreeBytes(), budget + 3 * (4 << 10) + 512);
  }
  std::unique_ptr<Model> model = Load();
  const Status s = model->MoveTo(std::make_unique<SimulatedDevice>(), none.device_bytes - 1);
  EXPECT_EQ(s.code(), Code::kResourceExhausted);
  EXPECT_NE(s.message().find("expected at least"), std::string::npos) << s.message();
}

TEST_P(HostExperts, WithoutABudgetTheDeviceIsAsked) {
  // 1 GiB stays free.
  const ExpertPlacement none = ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), 0));
  const int64_t memory = (int64_t(1) << 30) + none.device_bytes + 2 * none.slot_bytes;
  const std::unique_ptr<Model> model = Load();
  ASSERT_TRUE(model->MoveTo(std::make_unique<SimulatedDevice>(memory)).ok());
  ASSERT_NE(model->expert_cache(), nullptr);
  EXPECT_EQ(model->weights().placement().host_experts, layers_ * sizes_.experts_per_layer - 2);
}

TEST_P(HostExperts, HitsAndMissesAreWhatTheRoutingAskedFor) {
  const std::unique_ptr<Model> model = Moved(ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), 0)));
  Runner run(*model, 1);
  int64_t needed = 0;
  const v4::Observer count = [&](int64_t, std::string_view what, const TensorView& v) {
    if (what != "expert_ids") return;
    const int32_t* ids = v.Data<int32_t>();
    Ids distinct(ids, ids + v.dims().Count());
    std::sort(distinct.begin(), distinct.end());
    needed += std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  };
  EXPECT_EQ(Scenario(run, 1, vocab_, &count), want_);
  const ExpertCache::Statistics first = model->expert_cache()->statistics();
  EXPECT_EQ(first.hits + first.misses, needed);
  // More than there are: some were thrown out and came again. The slots of one layer, which serve all, are too few.
  EXPECT_GT(first.misses, layers_ * sizes_.experts_per_layer);
  // The last of two layers with host experts finds some of its own.
  std::vector<int64_t> one(size_t(layers_), sizes_.experts_per_layer);
  one.back() = 0;
  const std::unique_ptr<Model> other = Moved(ExpertPlacement::Of(sizes_, one));
  Runner again(*other, 1);
  EXPECT_EQ(Scenario(again, 1, vocab_), want_);
  const ExpertCache::Statistics s = other->expert_cache()->statistics();
  EXPECT_GT(s.hits, 0);
  EXPECT_LE(s.misses, sizes_.experts_per_layer) << "a slot for each: none is thrown out";
}

TEST_P(HostExperts, TwoThreads) {
  const std::unique_ptr<Model> model = Moved(ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), 2)));
  Rows got[2], want;
  {
    Runner run(*model, 1);
    want = Scenario(run, 9, vocab_);
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      Runner run(*model, 1);
      for (int j = 0; j < 3; ++j) got[i] = Scenario(run, i == 0 ? 1 : 9, vocab_);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(got[0], want_);
  EXPECT_EQ(got[1], want);
}

// Pins `most` bytes in all.
class LittlePinnedMemory : public SimulatedDevice {
 public:
  Result<void*> AllocatePinned(size_t bytes) override {
    pinned_ += bytes;
    if (pinned_ > most) return ResourceExhausted("simulated: cannot pin memory");
    return SimulatedDevice::AllocatePinned(bytes);
  }
  size_t most = 0;

 private:
  size_t pinned_ = 0;
};

TEST_P(HostExperts, TooLittlePinnedMemoryIsAnErrorThatSaysHowMuch) {
  auto device = std::make_unique<LittlePinnedMemory>();
  const int64_t layer_bytes = sizes_.experts_per_layer * sizes_.expert_bytes[0];
  device->most = size_t(2 * layer_bytes + 1);
  const std::unique_ptr<Model> model = Load();
  const Status s =
      model->MoveTo(std::move(device), ExpertPlacement::Of(sizes_, std::vector<int64_t>(size_t(layers_), 0)));
  EXPECT_EQ(s.code(), Code::kResourceExhausted);
  EXPECT_NE(s.message().find("experts do not fit on the device and need"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("cannot pin"), std::string::npos) << s.message();
}

TEST(HostExpertsOfSyntheticWeights, AreTheOnesThatWouldBeOnTheDevice) {
  const ModelConfig config = *ModelConfig::ReadFile(SourcePath("models/tiny/config.json"));
  const WeightSizes sizes = ModelWeights::Outline(config).Sizes();
  SimulatedDevice device(SimulatedDevice::kMemory, false);
  const ModelWeights want = *ModelWeights::Synthetic(config, 5, &device);
  const ModelWeights got = *ModelWeights::Synthetic(config, 5, &device, sizes.fixed + 40 * sizes.expert_bytes[0]);
  EXPECT_EQ(got.placement().host_experts, 16 * 6 - 40 + 16);
  const auto bytes = [&](const TensorView& v) {
    std::vector<uint8_t> out(size_t(v.Bytes()));
    if (v.device() == DeviceId{}) {
      std::memcpy(out.data(), v.raw(), out.size());
    } else {
      EXPECT_TRUE(device.CopyOut(out.data(), v.raw(), out.size(), device.stream()).ok());
      EXPECT_TRUE(device.Synchronize(device.stream()).ok());
    }
    return out;
  };
  for (size_t l = 0; l < want.layers.size(); ++l) {
    const MoeWeights &a = want.layers[l].moe, &b = got.layers[l].moe;
    for (size_t e = 0; e < a.w1.size(); ++e) {
      EXPECT_EQ(b.w2[e].data.device() == DeviceId{}, int64_t(e) >= got.placement().resident[l]);
      EXPECT_EQ(bytes(a.w1[e].data), bytes(b.w1[e].data));
      EXPECT_EQ(bytes(a.w3[e].scale), bytes(b.w3[e].scale));
      EXPECT_EQ(bytes(a.w2[e].scale), bytes(b.w2[e].scale));
    }
    EXPECT_EQ(bytes(want.layers[l].attn.wo_b.data), bytes(got.layers[l].attn.wo_b.data));
    EXPECT_EQ(bytes(a.shared_w2.data), bytes(b.shared_w2.data));
  }
}

INSTANTIATE_TEST_SUITE_P(, HostExperts,
                         testing::Values("testdata/golden/a/model.bf16.safetensors",
                                         "testdata/golden/b/model.bf16.safetensors", "models/tiny"),
                         [](const auto& p) {
                           return std::string(p.index == 0 ? "a" : p.index == 1 ? "b" : "tiny");
                         });

}  // namespace
}  // namespace vexil
