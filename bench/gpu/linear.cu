// Checks and times the Hopper kernels of Linear and GroupedLinear (ops/linear/cuda_skinny.h, cuda_matrix.h) at
// V4-Flash's shapes.   linear [check | decode | experts | prefill]      (no argument: all)
#include <array>

#include "bench/gpu/bench.cuh"
#include "ops/linear/cuda_matrix.h"
#include "ops/linear/cuda_skinny.h"

using namespace bench;
using namespace vexil::cuda;

namespace {

bool all_ok = true;

struct Weight {
  SkinnyWeight format;
  int n, k;
  void* data;
  void* scale;
  SkinnyMatrix skinny() const { return {data, scale}; }
  MatrixWeight matrix() const { return {data, static_cast<const uint8_t*>(scale)}; }
  double bytes() const {
    const double e = double(n) * k;
    return format == SkinnyWeight::kE2M1 ? e / 2 + e / 32 : format == SkinnyWeight::kBF16 ? 2 * e : e;
  }
};
Weight RandomWeight(SkinnyWeight f, int n, int k, float low = 117, float high = 123) {
  const int64_t e = int64_t(n) * k;
  switch (f) {
    case SkinnyWeight::kE4M3:
      return {f, n, k, Random<uint8_t>(Fill::kE4M3, e),
              Random<uint8_t>(Fill::kExponent, int64_t(n + 127) / 128 * (k / 128), low, high)};
    case SkinnyWeight::kE2M1:
      return {f, n, k, Random<uint8_t>(Fill::kBytes, e / 2), Random<uint8_t>(Fill::kExponent, e / 32, low, high)};
    case SkinnyWeight::kBF16:
      return {f, n, k, Random<__nv_bfloat16>(Fill::kBF16, e), nullptr};
    case SkinnyWeight::kI8:
      return {f, n, k, Random<uint8_t>(Fill::kBytes, e), Random<float>(Fill::kF32, n, 0.01f)};
  }
  std::abort();
}
void Free(const Weight& w) {
  CUDA_OK(cudaFree(w.data));
  if (w.scale) CUDA_OK(cudaFree(w.scale));
}

__device__ double WeightAt(const Weight& w, int64_t j, int64_t k, bool y_f32) {
  const uint8_t* d = static_cast<const uint8_t*>(w.data);
  const uint8_t* s = static_cast<const uint8_t*>(w.scale);
  switch (w.format) {
    case SkinnyWeight::kE4M3:
      return E4M3Value(d[j * w.k + k]) * E8M0Value(s[j / 128 * (w.k / 128) + k / 128]);
    case SkinnyWeight::kE2M1:
      return E2M1Value(d[j * (w.k / 2) + k / 2] >> (k % 2 * 4) & 15) * E8M0Value(s[j * (w.k / 32) + k / 32]);
    case SkinnyWeight::kBF16:
      return double(__bfloat162float(static_cast<const __nv_bfloat16*>(w.data)[j * w.k + k]));
    case SkinnyWeight::kI8: {
      const float v = float(int8_t(d[j * w.k + k])) * static_cast<const float*>(w.scale)[j];
      return y_f32 ? double(v) : double(__bfloat162float(__float2bfloat16_rn(v)));
    }
  }
  return 0;
}
struct Input {
  const uint8_t* codes;  // or
  const __nv_bfloat16* bf16;
  const uint8_t* scale;
  int k;
};
__device__ double InputAt(const Input& x, int64_t row, int64_t k) {
  if (x.bf16) return double(__bfloat162float(x.bf16[row * x.k + k]));
  return E4M3Value(x.codes[row * x.k + k]) * E8M0Value(x.scale[row * (x.k / 128) + k / 128]);
}
// One warp per element of y [count, n]: sum and sum of magnitudes. `row` and `expert` of each y row may be null.
__global__ void ReferenceKernel(Input x, const Weight* w, const int* row, const int* expert, int count, bool y_f32,
                                double* sum, double* magnitude) {
  const int64_t element = (blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32, n = w[0].n;
  if (element >= int64_t(count) * n) return;
  const int64_t p = element / n, j = element % n;
  const Weight& mine = w[expert ? expert[p] : 0];
  double s = 0, m = 0;
  for (int k = lane; k < mine.k; k += 32) {
    const double v = InputAt(x, row ? row[p] : p, k) * WeightAt(mine, j, k, y_f32);
    s += v;
    m += fabs(v);
  }
  for (int step = 16; step; step /= 2) {
    s += __shfl_xor_sync(~0u, s, step);
    m += __shfl_xor_sync(~0u, m, step);
  }
  if (lane == 0) sum[element] = s, magnitude[element] = m;
}
struct Reference {
  std::vector<double> sum, magnitude;
};
Reference Expect(const Input& x, const std::vector<Weight>& w, const int* row, const int* expert, int count,
                 bool y_f32 = false) {
  const int64_t elements = int64_t(count) * w[0].n;
  double *s = Allocate<double>(elements), *m = Allocate<double>(elements);
  Weight* weights = Upload(w);
  ReferenceKernel<<<unsigned((elements + 7) / 8), 256>>>(x, weights, row, expert, count, y_f32, s, m);
  CUDA_OK(cudaGetLastError());
  Reference r{Download(s, elements), Download(m, elements)};
  CUDA_OK(cudaFree(s));
  CUDA_OK(cudaFree(m));
  CUDA_OK(cudaFree(weights));
  return r;
}
// The tolerance of the conformance test, and `tensor_core` times the sum of magnitudes for products added at less than
// f32 precision.
Error Judge(const std::vector<double>& got, const Reference& r, int k, double y_epsilon, double tensor_core = 0) {
  std::vector<double> tolerance(r.sum.size());
  for (size_t i = 0; i < tolerance.size(); ++i) {
    tolerance[i] =
        y_epsilon * std::abs(r.sum[i]) + ((std::sqrt(double(k)) + 2) * 0x1p-24 + tensor_core) * r.magnitude[i] + 1e-40;
  }
  return Compare(got, r.sum, tolerance);
}
constexpr double kBF16Epsilon = 0x1p-8;

const char* NameOf(SkinnyWeight f) {
  const char* names[] = {"E4M3", "E2M1", "BF16", "I8"};
  return names[int(f)];
}

// QuantizeActivation as the specification has it, on the host.
void QuantizeRow(const std::vector<double>& x, std::vector<uint8_t>& codes, std::vector<uint8_t>& scale) {
  for (size_t b = 0; b < x.size(); b += 128) {
    float max = 0;
    for (size_t i = b; i < b + 128; ++i) max = std::max(max, std::abs(float(x[i])));
    const float v = std::max(max, 1e-4f) * (1.0f / 448.0f);
    int e;
    const float f = std::frexp(v, &e);  // v = f 2^e, f in [0.5, 1)
    if (f == 0.5f) --e;
    scale.push_back(uint8_t(e + 127));
    for (size_t i = b; i < b + 128; ++i)
      codes.push_back(__nv_cvt_float_to_fp8(std::ldexp(float(x[i]), -e), __NV_SATFINITE, __NV_E4M3));
  }
}

void CheckSkinny(const Device& device) {
  using W = SkinnyWeight;
  struct Case {
    W w;
    SkinnyInput input;
    int n, k, out;
    bool f32;
  };
  std::vector<Case> cases;
  for (int n : {1, 3, 8, 13, 16, 37}) {
    for (int k : {512, 1024, 4096}) {
      cases.push_back({W::kE4M3, SkinnyInput::kE4M3, n, k, 200, false});
      cases.push_back({W::kE4M3, SkinnyInput::kBF16Quantize, n, k, 256, false});
      cases.push_back({W::kE4M3, SkinnyInput::kBF16, n, k, 256, false});
      cases.push_back({W::kE2M1, SkinnyInput::kE4M3, n, k, 72, n == 3});
      cases.push_back({W::kBF16, SkinnyInput::kBF16, n, k, 1000, n != 3});
      cases.push_back({W::kI8, SkinnyInput::kBF16, n, k, 130, false});
    }
  }
  cases.push_back({W::kE4M3, SkinnyInput::kE4M3, 9, 8192, 4096, false});
  cases.push_back({W::kE4M3, SkinnyInput::kE4M3, 2, 128, 5, true});
  cases.push_back({W::kBF16, SkinnyInput::kBF16, 2, 192, 64, true});
  Error total[4][3];
  std::vector<__nv_bfloat16> first_row[4][3];
  for (const Case& c : cases) {
    const Weight w = RandomWeight(c.w, c.out, c.k);
    const bool codes = c.input == SkinnyInput::kE4M3;
    uint8_t* x = codes ? Random<uint8_t>(Fill::kE4M3, int64_t(c.n) * c.k)
                       : reinterpret_cast<uint8_t*>(Random<__nv_bfloat16>(Fill::kBF16, int64_t(c.n) * c.k));
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, int64_t(c.n) * (c.k / 128 + 1), 117, 123);
    Input input{codes ? x : nullptr, codes ? nullptr : reinterpret_cast<__nv_bfloat16*>(x), xs, c.k};
    uint8_t *quantized = nullptr, *quantized_scale = nullptr;
    if (c.input == SkinnyInput::kBF16Quantize) {
      std::vector<double> v = ToDouble(Download(reinterpret_cast<__nv_bfloat16*>(x), int64_t(c.n) * c.k));
      std::vector<uint8_t> q, s;
      QuantizeRow(v, q, s);
      input = {quantized = Upload(q), nullptr, quantized_scale = Upload(s), c.k};
    }
    const int64_t count = int64_t(c.n) * c.out;
    float* y = Allocate<float>(count);
    Poison(y, count);
    SkinnyCall call{.weight = c.w,
                    .input = c.input,
                    .n_out = c.out,
                    .k = c.k,
                    .x = x,
                    .x_stride = int64_t(c.k) * (codes ? 1 : 2),
                    .x_scale = xs,
                    .x_scale_stride = c.k / 128,
                    .y = y,
                    .y_stride = c.out,
                    .y_f32 = c.f32,
                    .n = c.n};
    CUDA_OK(SkinnyLinear({.sms = device.sms}, call, w.skinny()));
    CUDA_OK(cudaDeviceSynchronize());
    std::vector<double> got;
    if (c.f32) {
      for (float v : Download(y, count)) got.push_back(double(v));
    } else {
      got = ToDouble(Download(reinterpret_cast<__nv_bfloat16*>(y), count));
    }
    const Reference r = Expect(input, {w}, nullptr, nullptr, c.n, c.f32);
    const Error e = Judge(got, r, c.k, c.f32 ? 0x1p-24 : kBF16Epsilon);
    Error& t = total[int(c.w)][int(c.input)];
    t.relative_l2 = std::max(t.relative_l2, e.relative_l2);
    t.worst = std::max(t.worst, e.worst);
    t.wrong += e.wrong;
    t.count += e.count;
    if (e.wrong) {
      Report(std::string("linear ") + NameOf(c.w) + " n=" + std::to_string(c.n) + " k=" + std::to_string(c.k) +
                 " N=" + std::to_string(c.out),
             e);
    }
    // A row has the same bits in any company: each row alone.
    if (c.n > 1 && !c.f32) {
      const std::vector<__nv_bfloat16> together = Download(reinterpret_cast<__nv_bfloat16*>(y), count);
      int64_t different = 0;
      for (int row : {0, c.n - 1}) {
        SkinnyCall one = call;
        one.x = x + row * call.x_stride;
        one.x_scale = xs + row * (c.k / 128);
        one.n = 1;
        Poison(y, count);
        CUDA_OK(SkinnyLinear({.sms = device.sms}, one, w.skinny()));
        const auto alone = Download(reinterpret_cast<__nv_bfloat16*>(y), c.out);
        different += std::memcmp(alone.data(), together.data() + int64_t(row) * c.out, size_t(c.out) * 2) != 0;
      }
      if (different) std::printf("FAIL batch invariance: %s n=%d k=%d\n", NameOf(c.w), c.n, c.k), all_ok = false;
    }
    Free(w);
    for (void* p : {static_cast<void*>(x), static_cast<void*>(xs), static_cast<void*>(y), static_cast<void*>(quantized),
                    static_cast<void*>(quantized_scale)}) {
      if (p) CUDA_OK(cudaFree(p));
    }
  }
  const char* inputs[] = {"E4M3", "BF16", "BF16 quantised"};
  for (int w = 0; w < 4; ++w) {
    for (int i = 0; i < 3; ++i) {
      if (total[w][i].count)
        all_ok &= Report(std::string("skinny ") + NameOf(SkinnyWeight(w)) + " x " + inputs[i], total[w][i]);
    }
  }
}

struct Routing {
  std::vector<int> offsets, rows, expert, pair_index;
  int *d_offsets, *d_rows, *d_expert, *d_index;
};
Routing RandomRouting(int tokens, int experts, int top, uint64_t seed) {
  Routing r;
  std::vector<std::vector<int>> of(static_cast<size_t>(experts));
  std::vector<std::vector<int>> slot(of);
  for (int t = 0; t < tokens; ++t) {
    std::vector<int> chosen;
    for (uint64_t i = 0; int(chosen.size()) < top; ++i) {
      const int e = int(Hash(seed * 7919 + uint64_t(t) * 1000003 + i) % uint32_t(experts));
      if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
    }
    for (int i = 0; i < top; ++i)
      of[size_t(chosen[size_t(i)])].push_back(t), slot[size_t(chosen[size_t(i)])].push_back(t * top + i);
  }
  r.offsets.push_back(0);
  for (size_t e = 0; e < of.size(); ++e) {
    for (size_t i = 0; i < of[e].size(); ++i) {
      r.rows.push_back(of[e][i]);
      r.pair_index.push_back(slot[e][i]);
      r.expert.push_back(int(e));
    }
    r.offsets.push_back(int(r.rows.size()));
  }
  r.d_offsets = Upload(r.offsets);
  r.d_rows = Upload(r.rows);
  r.d_expert = Upload(r.expert);
  r.d_index = Upload(r.pair_index);
  return r;
}

// gate and up of float64 -> what the op chain makes of them.
std::vector<double> GatedReference(const Reference& gate, const Reference& up, const Routing& r,
                                   const std::vector<float>& weight, float limit, int n, std::vector<double>& slack,
                                   int k, double tensor_core) {
  std::vector<double> y;
  slack.clear();
  for (size_t i = 0; i < gate.sum.size(); ++i) {
    const double g0 = RoundBF16(gate.sum[i]), u0 = RoundBF16(up.sum[i]);
    const double g = std::min(g0, double(limit)), u = std::clamp(u0, -double(limit), double(limit));
    const double w = double(weight[size_t(r.pair_index[i / size_t(n)])]);
    const double s = g / (1 + std::exp(-g)), v = s * u * w;
    y.push_back(RoundBF16(v));
    // An input may fall to the neighbouring BF16 number; the derivative of silu is at most 1.1.
    const double f = (std::sqrt(double(k)) + 2) * 0x1p-24 + tensor_core;
    const double gate_step = std::abs(g0) * 0x1p-8 + f * gate.magnitude[i],
                 up_step = std::abs(u0) * 0x1p-8 + f * up.magnitude[i];
    slack.push_back(std::abs(v) * 0x1p-7 +
                    std::abs(w) * (1.1 * gate_step * (std::abs(u) + up_step) + std::abs(s) * up_step));
  }
  return y;
}

void CheckGrouped(const Device& device) {
  constexpr int kExperts = 40, kTop = 6;
  for (int k : {4096, 1024}) {
    const int n = 512, tokens = 24;
    std::vector<Weight> gate, up;
    std::vector<SkinnyMatrix> gs, us;
    for (int e = 0; e < kExperts; ++e) {
      gate.push_back(RandomWeight(SkinnyWeight::kE2M1, n, k, 113, 117));
      up.push_back(RandomWeight(SkinnyWeight::kE2M1, n, k, 113, 117));
      gs.push_back(gate.back().skinny());
      us.push_back(up.back().skinny());
    }
    const Routing r = RandomRouting(tokens, kExperts, kTop, 5);
    const int pairs = int(r.rows.size());
    uint8_t* x = Random<uint8_t>(Fill::kE4M3, int64_t(tokens) * k);
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, int64_t(tokens) * (k / 128), 117, 123);
    std::vector<float> weights;
    for (int i = 0; i < tokens * kTop; ++i) weights.push_back(0.1f + float(Hash(uint64_t(i)) % 1000) / 2000.0f);
    float* row_weight = Upload(weights);
    __nv_bfloat16* y = Allocate<__nv_bfloat16>(int64_t(pairs) * n);
    SkinnyCall call{.weight = SkinnyWeight::kE2M1,
                    .input = SkinnyInput::kE4M3,
                    .n_out = n,
                    .k = k,
                    .x = x,
                    .x_stride = k,
                    .x_scale = xs,
                    .x_scale_stride = k / 128,
                    .y = y,
                    .y_stride = n,
                    .n = tokens,
                    .rows = r.d_rows,
                    .offsets = r.d_offsets,
                    .experts = kExperts,
                    .pairs = pairs};
    Poison(y, int64_t(pairs) * n);
    CUDA_OK(SkinnyGroupedLinear({.sms = device.sms}, call, gs.data()));
    const Input input{x, nullptr, xs, k};
    const Reference rg = Expect(input, gate, r.d_rows, r.d_expert, pairs),
                    ru = Expect(input, up, r.d_rows, r.d_expert, pairs);
    all_ok &= Report("skinny grouped E2M1 k=" + std::to_string(k),
                     Judge(ToDouble(Download(y, int64_t(pairs) * n)), rg, k, kBF16Epsilon));
    Poison(y, int64_t(pairs) * n);
    CUDA_OK(SkinnyGroupedGate({.sms = device.sms}, call, gs.data(), us.data(), {10.0f, row_weight, r.d_index}));
    std::vector<double> slack;
    const std::vector<double> want = GatedReference(rg, ru, r, weights, 10.0f, n, slack, k, 0);
    all_ok &= Report("skinny grouped gate E2M1 k=" + std::to_string(k),
                     Compare(ToDouble(Download(y, int64_t(pairs) * n)), want, slack));
    for (const Weight& w : gate) Free(w);
    for (const Weight& w : up) Free(w);
  }
}

void CheckMatrix(const Device& device) {
  // A tensor core adds the 32 products of an instruction at about 13 bits below the largest of them.
  const double tensor_core = 0x1p-11;
  using Sizes = std::array<int, 3>;
  for (auto [m, n, k] : {Sizes{300, 512, 4096}, Sizes{4096, 1024, 1024}, Sizes{1000, 4096, 512}, Sizes{129, 264, 256},
                         Sizes{700, 2048, 8192}, Sizes{64, 128, 128}}) {
    const Weight w = RandomWeight(SkinnyWeight::kE4M3, n, k);
    uint8_t* x = Random<uint8_t>(Fill::kE4M3, int64_t(m) * k);
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, int64_t(m) * (k / 128), 117, 123);
    __nv_bfloat16* y = Allocate<__nv_bfloat16>(int64_t(m) * n);
    Poison(y, int64_t(m) * n);
    MatrixCall call{.n_out = n, .k = k, .x = x, .x_stride = k, .x_scale = xs, .x_scale_stride = k / 128, .n = m};
    CUDA_OK(MatrixLinear({.sms = device.sms}, call, w.matrix(), y, n));
    const Reference r = Expect({x, nullptr, xs, k}, {w}, nullptr, nullptr, m);
    const std::vector<double> got = ToDouble(Download(y, int64_t(m) * n));
    const std::string name = "matrix E4M3 " + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    all_ok &= Report(name, Judge(got, r, k, kBF16Epsilon, tensor_core));
    const Error strict = Judge(got, r, k, kBF16Epsilon);
    std::printf("        against the tolerance of f32 sums: worst %.3g, outside %lld\n", strict.worst,
                static_cast<long long>(strict.wrong));
    Free(w);
    CUDA_OK(cudaFree(x));
    CUDA_OK(cudaFree(xs));
    CUDA_OK(cudaFree(y));
  }
  constexpr int kExperts = 12, kTop = 3;
  for (float low : {110.0f, 60.0f}) {  // 60: scales too far apart for one pass
    const int tokens = 500, n = 512, k = 1024;
    std::vector<Weight> gate, up;
    std::vector<MatrixWeight> gs, us;
    for (int e = 0; e < kExperts; ++e) {
      gate.push_back(RandomWeight(SkinnyWeight::kE2M1, n, k, low, 117));
      up.push_back(RandomWeight(SkinnyWeight::kE2M1, n, k, low, 117));
      gs.push_back(gate.back().matrix());
      us.push_back(up.back().matrix());
    }
    const Routing r = RandomRouting(tokens, kExperts, kTop, 9);
    const int pairs = int(r.rows.size());
    uint8_t* x = Random<uint8_t>(Fill::kE4M3, int64_t(tokens) * k);
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, int64_t(tokens) * (k / 128), 117, 123);
    std::vector<float> weights;
    for (int i = 0; i < tokens * kTop; ++i) weights.push_back(0.1f + float(Hash(uint64_t(i)) % 1000) / 2000.0f);
    float* row_weight = Upload(weights);
    __nv_bfloat16* y = Allocate<__nv_bfloat16>(int64_t(pairs) * n);
    MatrixCall call{.n_out = n,
                    .k = k,
                    .x = x,
                    .x_stride = k,
                    .x_scale = xs,
                    .x_scale_stride = k / 128,
                    .rows = r.d_rows,
                    .offsets = r.d_offsets,
                    .experts = kExperts,
                    .pairs = pairs};
    uint8_t* workspace = Allocate<uint8_t>(GroupedMatrixWorkspace(call, 2));
    Poison(y, int64_t(pairs) * n);
    CUDA_OK(GroupedMatrixLinear({.sms = device.sms}, call, gs.data(), y, workspace));
    const Input input{x, nullptr, xs, k};
    const Reference rg = Expect(input, gate, r.d_rows, r.d_expert, pairs),
                    ru = Expect(input, up, r.d_rows, r.d_expert, pairs);
    const std::string wide = low < 100 ? ", scales 2^57 apart" : "";
    all_ok &= Report("matrix grouped E2M1" + wide,
                     Judge(ToDouble(Download(y, int64_t(pairs) * n)), rg, k, kBF16Epsilon, tensor_core));
    Poison(y, int64_t(pairs) * n);
    CUDA_OK(GroupedMatrixGate({.sms = device.sms}, call, gs.data(), us.data(), {10.0f, row_weight, r.d_index}, y,
                              workspace));
    std::vector<double> slack;
    const std::vector<double> want = GatedReference(rg, ru, r, weights, 10.0f, n, slack, k, tensor_core);
    all_ok &=
        Report("matrix grouped gate E2M1" + wide, Compare(ToDouble(Download(y, int64_t(pairs) * n)), want, slack));
    for (const Weight& w : gate) Free(w);
    for (const Weight& w : up) Free(w);
  }
}

void Row(const char* what, double seconds, double floor, const char* rate, double value) {
  std::printf("  %-52s %9.2f us  floor %8.2f us  %5.1f %%  %.2f %s\n", what, seconds * 1e6, floor * 1e6,
              100 * floor / seconds, value, rate);
  std::fflush(stdout);
}

void Decode(const Device& device) {
  const double read = device.ceilings.read;
  struct Shape {
    const char* name;
    SkinnyWeight f;
    SkinnyInput in;
    int n, k;
  };
  using W = SkinnyWeight;
  const Shape shapes[] = {{"wq_a E4M3 1024x4096", W::kE4M3, SkinnyInput::kE4M3, 1024, 4096},
                          {"wq_a E4M3 1024x4096, BF16 x quantised", W::kE4M3, SkinnyInput::kBF16Quantize, 1024, 4096},
                          {"wq_a+wkv E4M3 1536x4096", W::kE4M3, SkinnyInput::kE4M3, 1536, 4096},
                          {"wq_b E4M3 32768x1024", W::kE4M3, SkinnyInput::kE4M3, 32768, 1024},
                          {"wo_a E4M3 8192x4096, BF16 x", W::kE4M3, SkinnyInput::kBF16, 8192, 4096},
                          {"wo_b E4M3 4096x8192", W::kE4M3, SkinnyInput::kE4M3, 4096, 8192},
                          {"head BF16 129280x4096", W::kBF16, SkinnyInput::kBF16, 129280, 4096},
                          {"gate BF16 256x4096", W::kBF16, SkinnyInput::kBF16, 256, 4096},
                          {"I8 8192x4096", W::kI8, SkinnyInput::kBF16, 8192, 4096}};
  for (const Shape& s : shapes) {
    const double bytes = Weight{s.f, s.n, s.k, nullptr, nullptr}.bytes();
    const int copies = std::max(2, int(400e6 / bytes) + 1);
    std::vector<Weight> w;
    for (int i = 0; i < std::min(copies, 100); ++i) w.push_back(RandomWeight(s.f, s.n, s.k));
    const int64_t x_bytes = int64_t(s.k) * (s.in == SkinnyInput::kE4M3 ? 1 : 2);
    uint8_t* x = s.in == SkinnyInput::kE4M3 ? Random<uint8_t>(Fill::kE4M3, 16 * x_bytes)
                                            : reinterpret_cast<uint8_t*>(Random<__nv_bfloat16>(Fill::kBF16, 16 * s.k));
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, 16 * s.k / 128, 117, 123);
    float* y = Allocate<float>(16 * int64_t(s.n));
    for (int n : {1, 4, 8, 16}) {
      for (int way = 0; way < 3;
           ++way) {  // alone; overlapped with the next launch, two blocks or one per multiprocessor
        if (way && n != 1) continue;
        const bool overlap = way > 0;
        const double t = TimeGraph(int(w.size()), [&](int i, cudaStream_t stream) {
          CUDA_OK(SkinnyLinear({stream, device.sms, overlap},
                               {.weight = s.f,
                                .input = s.in,
                                .n_out = s.n,
                                .k = s.k,
                                .x = x,
                                .x_stride = x_bytes,
                                .x_scale = xs,
                                .x_scale_stride = s.k / 128,
                                .y = y,
                                .y_stride = s.n,
                                .y_f32 = s.f == W::kBF16,
                                .n = n,
                                .blocks_per_sm = way == 1 ? 2 : 0},
                               w[size_t(i)].skinny()));
        });
        const std::string name = std::string(s.name) + ", " + std::to_string(n) + " rows" +
                                 (way == 2 ? ", overlapped, 1 block"
                                  : way    ? ", overlapped"
                                           : "");
        Row(name.c_str(), t, bytes / read, "TB/s", bytes / t * 1e-12);
      }
    }
    for (const Weight& v : w) Free(v);
    CUDA_OK(cudaFree(x));
    CUDA_OK(cudaFree(xs));
    CUDA_OK(cudaFree(y));
  }
}

// The output projection's eight blocks, in one launch and in eight.
void DecodeParts(const Device& device) {
  constexpr int kParts = 8, kSets = 12, kWidth = 4096, kRank = 1024;
  std::vector<Weight> w;
  std::vector<SkinnyMatrix> m;
  for (int i = 0; i < kParts * kSets; ++i)
    w.push_back(RandomWeight(SkinnyWeight::kE4M3, kRank, kWidth)), m.push_back(w.back().skinny());
  auto* x = Random<__nv_bfloat16>(Fill::kBF16, 8 * kParts * kWidth);
  __nv_bfloat16* y = Allocate<__nv_bfloat16>(8 * kParts * kRank);
  const double bytes = kParts * w[0].bytes();
  for (int n : {1, 8}) {
    SkinnyCall c{.weight = SkinnyWeight::kE4M3,
                 .input = SkinnyInput::kBF16,
                 .n_out = kRank,
                 .k = kWidth,
                 .x = x,
                 .x_stride = 2 * kParts * kWidth,
                 .y = y,
                 .y_stride = kParts * kRank,
                 .n = n,
                 .parts = kParts,
                 .x_part_stride = 2 * kWidth,
                 .y_part_stride = kRank};
    const double one = TimeGraph(kSets, [&](int i, cudaStream_t s) {
      CUDA_OK(SkinnyPartsLinear({s, device.sms, true}, c, &m[size_t(i * kParts)]));
    });
    Row(("wo_a E4M3 8 x 1024x4096, one launch, " + std::to_string(n) + " rows").c_str(), one,
        bytes / device.ceilings.read, "TB/s", bytes / one * 1e-12);
    const double eight = TimeGraph(kSets, [&](int i, cudaStream_t s) {
      for (int g = 0; g < kParts; ++g) {
        SkinnyCall part = c;
        part.parts = 0;
        part.x = x + g * kWidth;
        part.y = y + g * kRank;
        CUDA_OK(SkinnyLinear({s, device.sms, true}, part, m[size_t(i * kParts + g)]));
      }
    });
    Row(("wo_a E4M3 8 x 1024x4096, eight launches, " + std::to_string(n) + " rows").c_str(), eight,
        bytes / device.ceilings.read, "TB/s", bytes / eight * 1e-12);
  }
  for (const Weight& v : w) Free(v);
}

struct Experts {
  std::vector<Weight> gate, up, down;
  std::vector<SkinnyMatrix> gs, us, ds;
  std::vector<MatrixWeight> gm, um, dm;
  Experts() {
    for (int e = 0; e < 256; ++e) {
      gate.push_back(RandomWeight(SkinnyWeight::kE2M1, 2048, 4096, 113, 117));
      up.push_back(RandomWeight(SkinnyWeight::kE2M1, 2048, 4096, 113, 117));
      down.push_back(RandomWeight(SkinnyWeight::kE2M1, 4096, 2048, 113, 117));
      gs.push_back(gate.back().skinny()), us.push_back(up.back().skinny()), ds.push_back(down.back().skinny());
      gm.push_back(gate.back().matrix()), um.push_back(up.back().matrix()), dm.push_back(down.back().matrix());
    }
  }
};

void DecodeExperts(const Device& device, const Experts& x) {
  constexpr int kSets = 16;
  const double read = device.ceilings.read;
  for (int tokens : {1, 8, 32}) {
    std::vector<Routing> routing;
    double experts = 0;
    for (int i = 0; i < kSets; ++i) {
      routing.push_back(RandomRouting(tokens, 256, 6, uint64_t(100 + i)));
      for (size_t e = 0; e < 256; ++e) experts += routing.back().offsets[e + 1] > routing.back().offsets[e];
    }
    experts /= kSets;
    const int pairs = tokens * 6;
    uint8_t* in = Random<uint8_t>(Fill::kE4M3, tokens * 4096);
    uint8_t* in_scale = Random<uint8_t>(Fill::kExponent, tokens * 32, 117, 123);
    float* weight = Random<float>(Fill::kF32, pairs);
    __nv_bfloat16* h = Random<__nv_bfloat16>(Fill::kBF16, int64_t(pairs) * 2048);
    __nv_bfloat16* y = Allocate<__nv_bfloat16>(int64_t(pairs) * 4096);
    const auto gate_call = [&](int i, cudaStream_t s, bool overlap) {
      const Routing& r = routing[size_t(i)];
      CUDA_OK(SkinnyGroupedGate({s, device.sms, overlap},
                                {.weight = SkinnyWeight::kE2M1,
                                 .input = SkinnyInput::kE4M3,
                                 .n_out = 2048,
                                 .k = 4096,
                                 .x = in,
                                 .x_stride = 4096,
                                 .x_scale = in_scale,
                                 .x_scale_stride = 32,
                                 .y = h,
                                 .y_stride = 2048,
                                 .n = tokens,
                                 .rows = r.d_rows,
                                 .offsets = r.d_offsets,
                                 .experts = 256,
                                 .pairs = pairs},
                                x.gs.data(), x.us.data(), {10.0f, weight, r.d_index}));
    };
    const auto down_call = [&](int i, cudaStream_t s, bool overlap) {
      const Routing& r = routing[size_t(i)];
      CUDA_OK(SkinnyGroupedLinear({s, device.sms, overlap},
                                  {.weight = SkinnyWeight::kE2M1,
                                   .input = SkinnyInput::kBF16Quantize,
                                   .n_out = 4096,
                                   .k = 2048,
                                   .x = h,
                                   .x_stride = 4096,
                                   .y = y,
                                   .y_stride = 4096,
                                   .n = tokens,
                                   .offsets = r.d_offsets,
                                   .experts = 256,
                                   .pairs = pairs},
                                  x.ds.data()));
    };
    const double gate_bytes = experts * 2 * x.gate[0].bytes(), down_bytes = experts * x.down[0].bytes();
    const std::string t = std::to_string(tokens) + " tokens";
    double s = TimeGraph(kSets, [&](int i, cudaStream_t st) { gate_call(i, st, false); });
    Row(("experts gate+up+activation E2M1, " + t).c_str(), s, gate_bytes / read, "TB/s", gate_bytes / s * 1e-12);
    s = TimeGraph(kSets, [&](int i, cudaStream_t st) { down_call(i, st, false); });
    Row(("experts quantise+down E2M1, " + t).c_str(), s, down_bytes / read, "TB/s", down_bytes / s * 1e-12);
    for (bool overlap : {false, true}) {
      s = TimeGraph(kSets, [&](int i, cudaStream_t st) { gate_call(i, st, overlap), down_call(i, st, overlap); });
      Row(("experts, both launches, " + t + (overlap ? ", overlapped" : "")).c_str(), s,
          (gate_bytes + down_bytes) / read, "TB/s", (gate_bytes + down_bytes) / s * 1e-12);
    }
  }
}

void Prefill(const Device& device) {
  struct Shape {
    const char* name;
    int n, k;
  };
  const int m = 4096;
  for (const Shape& s : {Shape{"wq_a", 1024, 4096},
                         {"wkv", 512, 4096},
                         {"wq_a+wkv", 1536, 4096},
                         {"wq_b", 32768, 1024},
                         {"wo_a", 8192, 4096},
                         {"wo_b", 4096, 8192},
                         {"shared gate", 2048, 4096},
                         {"shared down", 4096, 2048},
                         {"indexer wq_b", 8192, 1024}}) {
    const int copies = 4;
    std::vector<Weight> w;
    std::vector<uint8_t*> x;
    for (int i = 0; i < copies; ++i)
      w.push_back(RandomWeight(SkinnyWeight::kE4M3, s.n, s.k)),
          x.push_back(Random<uint8_t>(Fill::kE4M3, int64_t(m) * s.k));
    uint8_t* xs = Random<uint8_t>(Fill::kExponent, int64_t(m) * s.k / 128, 117, 123);
    __nv_bfloat16* y = Allocate<__nv_bfloat16>(int64_t(m) * s.n);
    const double flops = 2.0 * m * s.n * s.k;
    const double t = TimeGraph(copies * 2, [&](int i, cudaStream_t stream) {
      CUDA_OK(MatrixLinear({stream, device.sms},
                           {.n_out = s.n,
                            .k = s.k,
                            .x = x[size_t(i % copies)],
                            .x_stride = s.k,
                            .x_scale = xs,
                            .x_scale_stride = s.k / 128,
                            .n = m},
                           w[size_t(i % copies)].matrix(), y, s.n));
    });
    const std::string name = std::string(s.name) + " E4M3 4096x" + std::to_string(s.n) + "x" + std::to_string(s.k);
    Row(name.c_str(), t, flops / 1153e12, "TFLOP/s", flops / t * 1e-12);
    for (const Weight& v : w) Free(v);
    for (uint8_t* p : x) CUDA_OK(cudaFree(p));
    CUDA_OK(cudaFree(xs));
    CUDA_OK(cudaFree(y));
  }
}

void PrefillExperts(const Device& device, const Experts& x) {
  for (int tokens : {512, 2048, 8192}) {
    const Routing r = RandomRouting(tokens, 256, 6, 77);
    const int pairs = tokens * 6;
    uint8_t* in = Random<uint8_t>(Fill::kE4M3, int64_t(tokens) * 4096);
    uint8_t* in_scale = Random<uint8_t>(Fill::kExponent, int64_t(tokens) * 32, 117, 123);
    float* weight = Random<float>(Fill::kF32, pairs);
    uint8_t *h = Random<uint8_t>(Fill::kE4M3, int64_t(pairs) * 2048),
            *hs = Random<uint8_t>(Fill::kExponent, int64_t(pairs) * 16, 117, 123);
    __nv_bfloat16 *y = Allocate<__nv_bfloat16>(int64_t(pairs) * 4096),
                  *activated = Allocate<__nv_bfloat16>(int64_t(pairs) * 2048);
    uint8_t* workspace = Allocate<uint8_t>(int64_t(8) << 20);
    const auto gate = [&](int, cudaStream_t s) {
      CUDA_OK(GroupedMatrixGate({s, device.sms},
                                {.n_out = 2048,
                                 .k = 4096,
                                 .x = in,
                                 .x_stride = 4096,
                                 .x_scale = in_scale,
                                 .x_scale_stride = 32,
                                 .rows = r.d_rows,
                                 .offsets = r.d_offsets,
                                 .experts = 256,
                                 .pairs = pairs},
                                x.gm.data(), x.um.data(), {10.0f, weight, r.d_index}, activated, workspace));
    };
    const auto down = [&](int, cudaStream_t s) {
      CUDA_OK(GroupedMatrixLinear({s, device.sms},
                                  {.n_out = 4096,
                                   .k = 2048,
                                   .x = h,
                                   .x_stride = 2048,
                                   .x_scale = hs,
                                   .x_scale_stride = 16,
                                   .offsets = r.d_offsets,
                                   .experts = 256,
                                   .pairs = pairs},
                                  x.dm.data(), y, workspace));
    };
    const double flops = 2.0 * pairs * 2048 * 4096;
    const std::string t = ", " + std::to_string(tokens) + " tokens";
    double s = TimeGraph(2, gate, 7);
    Row(("grouped gate+up+activation" + t).c_str(), s, 2 * flops / 1153e12, "TFLOP/s", 2 * flops / s * 1e-12);
    s = TimeGraph(2, down, 7);
    Row(("grouped down" + t).c_str(), s, flops / 1153e12, "TFLOP/s", flops / s * 1e-12);
    s = TimeGraph(
        1, [&](int i, cudaStream_t st) { gate(i, st), down(i, st); }, 7);
    Row(("grouped experts" + t).c_str(), s, 3 * flops / 1153e12, "TFLOP/s", 3 * flops / s * 1e-12);
    for (void* p : {static_cast<void*>(in), static_cast<void*>(in_scale), static_cast<void*>(weight),
                    static_cast<void*>(h), static_cast<void*>(hs), static_cast<void*>(y), static_cast<void*>(activated),
                    static_cast<void*>(workspace)}) {
      CUDA_OK(cudaFree(p));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto asked = [&](const char* what) {
    for (int i = 1; i < argc; ++i) {
      if (!std::strcmp(argv[i], what)) return true;
    }
    return argc == 1;
  };
  const Device device = OpenDevice(!asked("check") || argc == 1);
  if (asked("check")) {
    CheckSkinny(device);
    CheckGrouped(device);
    CheckMatrix(device);
    std::printf("%s\n", all_ok ? "all checks passed" : "CHECKS FAILED");
  }
  if (asked("decode")) {
    Decode(device);
    DecodeParts(device);
  }
  if (asked("prefill")) Prefill(device);
  if (asked("decode") || asked("prefill") || asked("experts")) {
    const Experts experts;
    if (asked("decode") || asked("experts")) DecodeExperts(device, experts);
    if (asked("prefill")) PrefillExperts(device, experts);
  }
  CUDA_OK(cudaDeviceSynchronize());
  return all_ok ? 0 : 1;
}
