// Times the ops that choose, and attention with its lists, on a GPU through Run().   choose [indexer] [sample]
// [attention]
//
// With the libraries of a CUDA build in build/cuda:
//   g++ -std=c++20 -O2 -I. bench/gpu/choose.cc
//   build/cuda/{ops/libvexil_ops,device/libvexil_device,base/libvexil_base}.a
//     -lhwy -lfmt /usr/local/cuda/lib64/libcudart_static.a -ldl -lpthread -lrt -o choose
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/argmax/argmax.h"
#include "ops/indexer_top_k/indexer_top_k.h"
#include "ops/sample/sample.h"
#include "ops/state_attention/state_attention.h"

namespace vexil {
namespace {

void Require(const Status& s) {
  if (s.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(s.message()).c_str());
  std::exit(1);
}
template <class T>
T Require(Result<T> r) {
  if (!r.ok()) Require(r.status());
  return std::move(*r);
}

class Bench {
 public:
  explicit Bench(Device& device) : device_(device), workspace_(&device) {
    ctx_.device = device.device();
    ctx_.accelerator = &device;
    ctx_.stream = device.stream();
    ctx_.workspace = &workspace_;
    const Arena::Scope scope(workspace_);
    (void)workspace_.Allocate(size_t(256) << 20);  // nothing is allocated while a graph is captured
  }

  // Microseconds per call of `call(i)`, i = 0 .. calls - 1 in one graph: the median of 7 replays.
  double Time(int calls, const std::function<Status(const Context&, int)>& call) {
    for (int i = 0; i < std::min(calls, 2); ++i) Require(call(ctx_, i));
    Require(device_.Synchronize(ctx_.stream));
    Require(device_.BeginCapture(ctx_.stream));
    for (int i = 0; i < calls; ++i) Require(call(ctx_, i));
    const Device::GraphHandle graph = Require(device_.EndCapture(ctx_.stream));
    const Device::EventHandle begin = Require(device_.NewEvent()), end = Require(device_.NewEvent());
    std::vector<double> seconds;
    for (int r = 0; r < 9; ++r) {
      Require(device_.Record(begin, ctx_.stream));
      Require(device_.Launch(graph, ctx_.stream));
      Require(device_.Record(end, ctx_.stream));
      Require(device_.Wait(end));
      if (r >= 2) seconds.push_back(Require(device_.Seconds(begin, end)));
    }
    std::sort(seconds.begin(), seconds.end());
    device_.DeleteEvent(begin);
    device_.DeleteEvent(end);
    device_.DeleteGraph(graph);
    return seconds[seconds.size() / 2] / calls * 1e6;
  }

  // Tensors live as long as the bench.
  MutTensorView New(DType t, Dims dims) {
    return {Require(device_.Allocate(size_t(std::max<int64_t>(dims.Count() * BytesOf(t), 4)))), t, dims, ctx_.device};
  }
  template <class T>
  MutTensorView Upload(DType t, Dims dims, const std::vector<T>& values) {
    const MutTensorView v = New(t, dims);
    Require(device_.CopyIn(v.mut_raw(), values.data(), values.size() * sizeof(T), ctx_.stream));
    Require(device_.Synchronize(ctx_.stream));
    return v;
  }
  MutTensorView Integers(Dims dims, const std::function<int64_t(int64_t)>& of) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < dims.Count(); ++i) values.push_back(int32_t(of(i)));
    return Upload(DType::kI32, dims, values);
  }
  MutTensorView Floats(Dims dims, float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(size_t(dims.Count()));
    for (float& v : values) v = normal(random_);
    return Upload(DType::kF32, dims, values);
  }
  // BF16; beyond 4 million numbers they repeat.
  MutTensorView Random(Dims dims, float deviation = 1) {
    constexpr int64_t kDifferent = int64_t(1) << 22;
    std::normal_distribution<float> normal(0, deviation);
    const MutTensorView v = New(DType::kBF16, dims);
    const int64_t count = dims.Count(), first = std::min(count, kDifferent);
    std::vector<uint16_t> values;
    for (int64_t i = 0; i < first; ++i) {
      const float f = normal(random_);
      uint32_t bits;
      static_assert(sizeof(bits) == sizeof(f));
      __builtin_memcpy(&bits, &f, sizeof(f));
      values.push_back(uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16));
    }
    auto* to = static_cast<uint16_t*>(v.mut_raw());
    Require(device_.CopyIn(to, values.data(), values.size() * 2, ctx_.stream));
    for (int64_t i = first; i < count; i += first) {
      Require(device_.CopyWithin(to + i, to, size_t(std::min(first, count - i)) * 2, ctx_.stream));
    }
    Require(device_.Synchronize(ctx_.stream));
    return v;
  }
  int64_t Draw(int64_t below) { return int64_t(random_() % uint64_t(below)); }

 private:
  Device& device_;
  Arena workspace_;
  Context ctx_;
  std::mt19937_64 random_{7};
};

using Long = long long;

void TimeIndexer(Bench& bench) {
  constexpr int64_t kPage = 64, kPages = 49152, kMostTokens = 8192;  // 0.8 GB of keys
  const MutTensorView keys = bench.Random({kPages * kPage, 128}), q = bench.Random({kMostTokens, 64, 128}),
                      w = bench.Random({kMostTokens, 64}, 0.1f);
  const auto time = [&](int64_t n, int64_t sequences, int64_t entries) {
    const bool prompt = sequences < n;
    const int copies = int(std::clamp<int64_t>(kPages * kPage / (sequences * entries), 2, prompt ? 2 : 20));
    const MutTensorView count = bench.Integers({n}, [&](int64_t t) { return prompt ? (t + 1) / 4 : entries; }),
                        seq = bench.Integers({n}, [&](int64_t t) { return t % sequences; }),
                        indices = bench.New(DType::kI32, {n, 512}), scores = bench.New(DType::kF32, {n, entries});
    std::vector<IndexerTopK::Args> calls;
    for (int64_t c = 0; c < copies; ++c) {
      const Dims pages = {sequences, entries / kPage};
      calls.push_back(
          {.q = q.Rows(0, n),
           .w = w.Rows(0, n),
           .keys = keys,
           .seq = seq,
           .block_table = bench.Integers(pages, [&](int64_t i) { return (c * pages.Count() + i) % kPages; }),
           .count = count,
           .entries_per_block = kPage,
           .max_count = entries,
           .indices = indices});
    }
    const double both =
        bench.Time(copies, [&](const Context& ctx, int i) { return Run<IndexerTopK>(ctx, calls[size_t(i % copies)]); });
    const double scored = bench.Time(copies, [&](const Context& ctx, int i) {
      return Run<IndexerScores>(ctx, ScoresOf(calls[size_t(i % copies)], 0, n, scores));
    });
    const double selected = bench.Time(copies, [&](const Context& ctx, int i) {
      return Run<TopK>(ctx, TopKOf(calls[size_t(i % copies)], 0, n, scores));
    });
    std::printf("indexer %4lld tokens %6lld entries: %9.1f us; scores %9.1f, selection %7.1f\n", Long(n), Long(entries),
                both, scored, selected);
    std::fflush(stdout);
  };
  for (int64_t n : {1, 8, 32}) {
    for (int64_t entries : {1024, 8192, 32768}) time(n, n, entries);
  }
  time(8192, 1, 2048);
}

void TimeSample(Bench& bench) {
  constexpr int64_t kVocab = 129280;
  struct Setting {
    const char* name;
    float temperature;
    int32_t top_k;
    float top_p, min_p;
  };
  for (int64_t n : {1, 8, 32}) {
    const int copies = int(std::max<int64_t>(4, 64 / n));
    const MutTensorView logits = bench.Floats({copies * n, kVocab}, 4), token = bench.New(DType::kI32, {n});
    const auto part = [&](int i) { return logits.Rows(i % copies * n, (i % copies + 1) * n); };
    std::printf("%2lld rows: argmax %.1f us", Long(n), bench.Time(copies, [&](const Context& ctx, int i) {
      return Run<Argmax>(ctx, {.logits = part(i), .index = token});
    }));
    for (const Setting& s : {Setting{"greedy", 0, 0, 1, 0},
                             {"t=1", 1, 0, 1, 0},
                             {"t=0.6 p=0.95", 0.6f, 0, 0.95f, 0},
                             {"t=1 p=0.95", 1, 0, 0.95f, 0},
                             {"t=0.6 k=50 p=0.95", 0.6f, 50, 0.95f, 0}}) {
      const auto all = [&](float v) { return bench.Upload(DType::kF32, {n}, std::vector<float>(size_t(n), v)); };
      Sample::Args a{.logits = {},
                     .temperature = all(s.temperature),
                     .top_k = bench.Integers({n}, [&](int64_t) { return s.top_k; }),
                     .top_p = all(s.top_p),
                     .min_p = all(s.min_p),
                     .uniform = all(0.37f),
                     .token = token};
      std::printf(", %s %.1f", s.name, bench.Time(copies, [&](const Context& ctx, int i) {
        a.logits = part(i);
        return Run<Sample>(ctx, a);
      }));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

void TimeAttention(Bench& bench) {
  constexpr int64_t kSlots = 64, kCapacity = 136, kPages = 4096, kWindow = 128, kContext = 4096;
  constexpr int kCopies = 8;
  const MutTensorView entries = bench.Random({kPages * 64, 512}), window = bench.Random({kSlots * kCapacity, 512});
  for (int64_t n : {1, 8, 32}) {
    for (int64_t picks : {0, 512}) {
      const int64_t ratio = picks ? 4 : 128, count = kContext / ratio, page = 256 / ratio;
      const Dims one_each = {n};
      const auto self = [](int64_t i) { return i; };
      std::vector<StateAttention::Args> calls;
      for (int c = 0; c < kCopies; ++c) {
        StateAttention::Args a;
        a.lists = {.positions = bench.Integers(one_each, [](int64_t) { return kContext - 1; }),
                   .seq = bench.Integers(one_each, self),
                   .seq_begin = bench.Integers({n + 1}, self),
                   .slot = bench.Integers(one_each, self),
                   .block_table = bench.Integers({n, count / page}, [&](int64_t) { return bench.Draw(kPages); }),
                   .window = kWindow,
                   .window_capacity = kCapacity,
                   .entries_per_block = page,
                   .ratio = ratio,
                   .picks = {},
                   .step_rows = n,
                   .window_rows = kSlots * kCapacity,
                   .rows = {}};
        if (picks) a.lists.picks = bench.Integers({n, picks}, [&](int64_t) { return bench.Draw(count); });
        a.attention = {.q = bench.Random({n, 64, 512}),
                       .rows = {},
                       .step_kv = bench.Random({n, 512}),
                       .window_kv = window,
                       .compressed_kv = entries,
                       .sink = bench.Floats({64}, 1),
                       .scale = 0.04f,
                       .y = bench.New(DType::kBF16, {n, 64, 512})};
        a.columns = kWindow + (picks ? picks : count);
        calls.push_back(a);
      }
      const auto call = [&](int i) -> const StateAttention::Args& { return calls[size_t(i % kCopies)]; };
      const double one =
          bench.Time(2 * kCopies, [&](const Context& ctx, int i) { return Run<StateAttention>(ctx, call(i)); });
      const double two = bench.Time(2 * kCopies, [&](const Context& ctx, int i) { return RunTwoOps(ctx, call(i)); });
      std::printf("attention %2lld tokens %3lld columns: %.1f us, as two ops %.1f\n", Long(n), Long(calls[0].columns),
                  one, two);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace vexil

int main(int argc, char** argv) {
  using namespace vexil;
  const auto asked = [&](const char* what) {
    return argc == 1 || std::any_of(argv + 1, argv + argc, [&](const char* a) { return std::string_view(a) == what; });
  };
  const std::unique_ptr<Device> device = Require(OpenDevice({DeviceKind::kCuda, 0}));
  Bench bench(*device);
  if (asked("indexer")) TimeIndexer(bench);
  if (asked("sample")) TimeSample(bench);
  if (asked("attention")) TimeAttention(bench);
  return 0;
}
