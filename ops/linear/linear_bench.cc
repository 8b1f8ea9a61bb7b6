// Times of Linear and GroupedLinear at DeepSeek-V4-Flash's shapes, beside the ceilings of this machine measured in the
// same process: read bandwidth over more memory than the caches hold, and the multiplication instructions in registers.
//   linear_bench [--only TEXT] [--isa NAME] [--threads N]
// Weights rotate over more than 1 GB of random codes and their scales over as many as belong to these, so no result
// comes from a cache. Calls follow each other without a pause, as in a model's step.
#include <fmt/format.h>
#include <hwy/base.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/host_memory.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/linear.h"
#include "ops/linear/operands.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vexil {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Random {
  uint64_t s = 88172645463325252ull;
  uint64_t Next() {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    return s;
  }
};

// More than 1 GB of random bytes. Bits 6, 5, 4 of each are 0, 1, 1: values between 2^-31 and 2 in every format.
class Pool {
 public:
  static constexpr size_t kBytes = size_t(5) << 28;
  Pool() : memory_(HostMemory::Allocate(kBytes)) {
    if (memory_.data() == nullptr) throw std::bad_alloc();
    Random r;
    uint64_t* words = reinterpret_cast<uint64_t*>(memory_.data());
    for (size_t i = 0; i < kBytes / 8; ++i) words[i] = (r.Next() & 0xbfbfbfbfbfbfbfbfull) | 0x3030303030303030ull;
  }
  const uint8_t* data() const { return memory_.data(); }
  // The next part of the pool, on a cache line.
  const uint8_t* Take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (used_ + bytes > kBytes) used_ = 0;
    used_ += bytes;
    return data() + used_ - bytes;
  }

 private:
  HostMemory memory_;
  size_t used_ = 0;
};

class Bench {
 public:
  Bench(int threads, CpuIsa isa) : threads_(threads) {
    ctx_.threads = &threads_;
    ctx_.workspace = &workspace_;
    ctx_.isa_limit = isa;
    scales_.resize(Pool::kBytes / 16);
    Random r;
    for (uint8_t& s : scales_) s = uint8_t(117 + r.Next() % 7);
  }

  // Bytes per second of a loop that reads the pool in several streams per thread.
  double ReadBandwidth() {
    std::vector<uint64_t> sink(size_t(threads_.threads()) * 8);
    return Pool::kBytes / Median(3, [&] {
             const size_t part = Pool::kBytes / size_t(threads_.threads()) / 4096 * 4096;
             threads_.For(threads_.threads(), 1, [&](int64_t begin, int64_t end) {
               for (int64_t t = begin; t < end; ++t) sink[size_t(t) * 8] += Sum(pool_.data() + size_t(t) * part, part);
             });
           });
  }

  // Multiplications and additions per second of VDPBF16PS (0) and TDPBF16PS (1).
  double MultiplyRate(int kind) {
    constexpr int64_t kLoops = 2000000;
    const int64_t flops = kind == 0 ? kLoops * 16 * 64 : kLoops / 16 * 4 * 16384;
    return double(flops * threads_.threads()) / Median(3, [&] {
             threads_.For(threads_.threads(), 1, [&](int64_t begin, int64_t end) {
               for (int64_t t = begin; t < end; ++t) kind == 0 ? DotLoop(kLoops) : TileLoop(kLoops / 16);
             });
           });
  }

  QuantView Weight(DType t, int64_t n, int64_t k) {
    const int64_t stored = t == DType::kE2M1x2 ? k / 2 : k;
    const TensorView codes(pool_.Take(size_t(n * stored * BytesOf(t))), t, {n, stored});
    if (t == DType::kE4M3)
      return {codes, TensorView(scales_.data(), DType::kE8M0, {CeilDiv(n, 128), CeilDiv(k, 128)}), 128, 128};
    if (t == DType::kE2M1x2) {
      const size_t bytes = size_t(n * k / 32);
      used_scales_ = used_scales_ + bytes > scales_.size() ? 0 : used_scales_;
      const TensorView s(scales_.data() + used_scales_, DType::kE8M0, {n, k / 32});
      used_scales_ += bytes;
      return {codes, s, 1, 32};
    }
    if (t == DType::kI8) return {codes, TensorView(i8_scales_.data(), DType::kF32, {n}), 1, k};
    return QuantView(codes);
  }
  QuantView Input(DType t, int64_t n, int64_t k) {
    const TensorView codes(pool_.Take(size_t(n * k * BytesOf(t))), t, {n, k});
    if (t == DType::kI8) return {codes, TensorView(i8_scales_.data(), DType::kF32, {n}), 1, k};
    if (t != DType::kE4M3) return QuantView(codes);
    return {codes, TensorView(scales_.data(), DType::kE8M0, {n, CeilDiv(k, 128)}), 1, 128};
  }

  void Dense(DType w, DType x, int64_t rows, int64_t n, int64_t k) {
    const std::string name = fmt::format("linear w={} x={} rows={} {}x{}", NameOf(w), NameOf(x), rows, n, k);
    if (!Wanted(name)) return;
    const QuantView in = Input(x, rows, k);
    const double bytes = double(WeightBytes(w, n, k));
    const int reps =
        std::max(5, int(std::min(40.0, (rows > 64 ? 2e9 : 3e9) / (bytes + double(rows) * 1e5 * (rows > 64)))));
    Report(name, bytes, 2.0 * double(rows * n * k), Times(reps, [&] {
             const QuantView weight = Weight(w, n, k);
             return [=, this] { Do<Linear>({.x = in, .w = weight, .y = Output(rows, n)}); };
           }));
  }

  void Experts(DType w, DType x, int64_t tokens, int64_t n, int64_t k) {
    const std::string name =
        fmt::format("experts w={} x={} tokens={} top6 of 256 {}x{}", NameOf(w), NameOf(x), tokens, n, k);
    if (!Wanted(name)) return;
    const QuantView in = Input(x, tokens, k);
    Random r;
    r.s += 12345;
    double bytes = 0;
    // A few different routings; every expert has weights of its own as far as the pool goes.
    const auto prepare = [&] {
      std::vector<std::vector<int32_t>> of(256);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int got = 0; got < 6;) {
          auto& list = of[r.Next() % 256];
          if (list.empty() || list.back() != t) list.push_back(int32_t(t)), ++got;
        }
      }
      struct Call {
        std::vector<int32_t> rows, offsets{0};
        std::vector<QuantView> w;
      };
      auto call = std::make_shared<Call>();
      bytes = 0;
      for (const auto& list : of) {
        call->rows.insert(call->rows.end(), list.begin(), list.end());
        call->offsets.push_back(int32_t(call->rows.size()));
        call->w.push_back(list.empty() && !call->w.empty() ? call->w[0] : Weight(w, n, k));
        bytes += list.empty() ? 0 : double(WeightBytes(w, n, k));
      }
      return [=, this] {
        Do<GroupedLinear>({.x = in,
                           .rows = TensorView(call->rows.data(), DType::kI32, {int64_t(call->rows.size())}),
                           .offsets = TensorView(call->offsets.data(), DType::kI32, {257}),
                           .w = call->w,
                           .y = Output(int64_t(call->rows.size()), n)});
      };
    };
    const std::vector<double> times = Times(tokens > 16 ? 5 : 20, prepare);
    Report(name, bytes, 2.0 * double(6 * tokens * n * k), times);
  }

  void PrintCeilings() {
    read_ = ReadBandwidth();
    dot_ = MultiplyRate(0);
    tile_ = CpuIsaOfMachine() >= CpuIsa::kAmx && ctx_.isa_limit >= CpuIsa::kAmx ? MultiplyRate(1) : 0;
    fmt::print("ceilings: read {:.1f} GB/s, vdpbf16ps {:.0f} GFLOP/s, tdpbf16ps {:.0f} GFLOP/s\n", read_ / 1e9,
               dot_ / 1e9, tile_ / 1e9);
    std::fflush(stdout);
  }
  std::string_view only;

 private:
  static int64_t WeightBytes(DType t, int64_t n, int64_t k) {
    if (t == DType::kE2M1x2) return n * k / 2 + n * k / 32;
    return n * k * BytesOf(t);
  }
  bool Wanted(std::string_view name) const { return name.find(only) != std::string_view::npos; }

  template <class F>
  static double Median(int reps, F f) {
    std::vector<double> t;
    for (int i = 0; i < reps; ++i) {
      const double start = Now();
      f();
      t.push_back(Now() - start);
    }
    std::sort(t.begin(), t.end());
    return t[t.size() / 2];
  }
  // prepare() returns the call to time.
  template <class F>
  static std::vector<double> Times(int reps, F prepare) {
    std::vector<decltype(prepare())> calls;
    for (int i = 0; i < reps + 2; ++i) calls.push_back(prepare());
    std::vector<double> t;
    for (size_t i = 0; i < calls.size(); ++i) {
      const double start = Now();
      calls[i]();
      if (i >= 2) t.push_back(Now() - start);
    }
    std::sort(t.begin(), t.end());
    return t;
  }
  MutTensorView Output(int64_t rows, int64_t n) {
    if (output_.size() < size_t(rows * n)) output_.resize(size_t(rows * n));
    return MutTensorView(output_.data(), DType::kBF16, {rows, n});
  }
  template <class Op>
  void Do(const typename Op::Args& args) {
    Plan plan;
    ctx_.plan = &plan;
    const Status s = Run<Op>(ctx_, args);
    if (!s.ok()) fmt::print("{}\n", s.message()), std::exit(1);
    kernel_ = plan.entries()[0].kernel;
    ctx_.plan = nullptr;
  }
  void Report(const std::string& name, double bytes, double flops, const std::vector<double>& t) {
    const double median = t[t.size() / 2];
    fmt::print("{:58} {:24} {:9.1f} us (min {:.1f}) {:6.2f} GB/s {:5.1f}% of read; {:7.0f} GFLOP/s {:6.1f}% of dot\n",
               name, kernel_, median * 1e6, t[0] * 1e6, bytes / median / 1e9, 100 * bytes / median / read_,
               flops / median / 1e9, 100 * flops / median / dot_);
    std::fflush(stdout);
  }

  static uint64_t Sum(const uint8_t* p, size_t bytes);
  static void DotLoop(int64_t loops);
  static void TileLoop(int64_t loops);

  Pool pool_;
  ThreadPool threads_;
  Arena workspace_;
  Context ctx_;
  std::vector<uint8_t> scales_;
  std::vector<float> i8_scales_ = std::vector<float>(1 << 18, 0.01f);
  std::vector<BF16> output_;
  size_t used_scales_ = 0;
  double read_ = 1, dot_ = 1, tile_ = 0;
  std::string kernel_;
};

#if defined(__x86_64__)
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")
uint64_t Bench::Sum(const uint8_t* p, size_t bytes) {
  constexpr size_t kStreams = 16, kAhead = 1024;
  const size_t part = bytes / kStreams / 256 * 256;
  __m512i sum[4] = {};
  for (size_t i = 0; i < part; i += 256) {
    for (size_t s = 0; s < kStreams; ++s) {
      const uint8_t* q = p + s * part + i;
      for (int j = 0; j < 4; ++j) _mm_prefetch(q + kAhead + 64 * j, _MM_HINT_T0);
      for (int j = 0; j < 4; ++j) sum[j] = _mm512_xor_si512(sum[j], _mm512_loadu_si512(q + 64 * j));
    }
  }
  return uint64_t(
      _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]))));
}
void Bench::DotLoop(int64_t loops) {
  __m512 c[16];
  for (__m512& v : c) v = _mm512_setzero_ps();
  const __m512i x = _mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < loops; ++i) {
#pragma GCC unroll 16
    for (__m512& v : c) asm volatile("vdpbf16ps %1, %1, %0" : "+v"(v) : "v"(x));
  }
}
void Bench::TileLoop(int64_t loops) {
  struct alignas(64) {
    uint8_t palette = 1, rest[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" : : "m"(config));
  for (int64_t i = 0; i < loops; ++i) {
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n tdpbf16ps %tmm7, %tmm4, %tmm1\n"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n tdpbf16ps %tmm7, %tmm5, %tmm3\n");
  }
  asm volatile("tilerelease");
}
HWY_POP_ATTRIBUTES
#endif

int Main(int argc, char** argv) {
  int threads = ThreadPool::AvailableProcessors();
  CpuIsa isa = kBestCpuIsa;
  std::string_view only, set = "gemv,gemm,experts";
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--only") only = argv[i + 1];
    if (flag == "--set") set = argv[i + 1];
    if (flag == "--threads") threads = std::atoi(argv[i + 1]);
    if (flag == "--isa") isa = CpuIsaFromName(argv[i + 1]).value_or(kBestCpuIsa);
  }
  Bench b(threads, isa);
  b.only = only;
  b.PrintCeilings();
  const DType bf16 = DType::kBF16, e4m3 = DType::kE4M3, e2m1 = DType::kE2M1x2;
  struct Shape {
    int64_t n, k;
  };
  const auto in = [&](const char* s) { return set.find(s) != std::string_view::npos; };
  if (in("gemv")) {
    for (Shape s : {Shape{4096, 2048}, {8192, 4096}, {129280, 4096}}) {
      b.Dense(bf16, bf16, 1, s.n, s.k);
      b.Dense(e4m3, e4m3, 1, s.n, s.k);
    }
    b.Dense(e4m3, bf16, 1, 8192, 4096);
    for (int rows : {4, 8, 16}) b.Dense(bf16, bf16, rows, 8192, 4096);
    b.Dense(e4m3, e4m3, 4, 8192, 4096);
    for (DType w : {DType::kF32, DType::kF16, DType::kI8}) b.Dense(w, bf16, 1, 8192, 4096);
    for (DType x : {e4m3, bf16}) {
      b.Experts(e2m1, x, 1, 2048, 4096);
      b.Experts(e2m1, x, 1, 4096, 2048);
    }
  }
  if (in("gemm")) {
    for (int rows : {16, 32, 33, 64, 128, 512, 2048}) b.Dense(bf16, bf16, rows, 4096, 4096);
    b.Dense(e4m3, e4m3, 512, 4096, 4096);
    b.Dense(e2m1, e4m3, 512, 4096, 4096);
    b.Dense(e2m1, bf16, 512, 2048, 4096);
    for (int rows : {1, 512}) b.Dense(DType::kI8, DType::kI8, rows, 4096, 4096);
    b.Dense(DType::kF32, bf16, 128, 256, 4096);
  }
  if (in("experts")) {
    b.Experts(e2m1, e4m3, 128, 2048, 4096);
    b.Experts(e2m1, e4m3, 128, 4096, 2048);
    b.Experts(e2m1, bf16, 128, 2048, 4096);
    b.Experts(e2m1, e4m3, 2048, 2048, 4096);
  }
  b.PrintCeilings();
  return 0;
}

}  // namespace
}  // namespace vexil

int main(int argc, char** argv) { return vexil::Main(argc, argv); }
