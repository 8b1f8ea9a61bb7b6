// The kernels that linear.cu times, against a float64 reference on the device.
#pragma once

#include "bench/gpu/linear_data.cuh"

namespace {

bool all_ok = true;

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

}  // namespace
