// Checks and times the Hopper kernels of Linear and GroupedLinear (ops/linear/cuda_skinny.h, cuda_matrix.h,
// cuda_bf16.h) at V4-Flash's shapes.   linear [check | decode | experts | prefill | bf16]      (no argument: all)
#include <array>

#include "bench/gpu/linear_check.cuh"

namespace {

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

// Rows in BF16: the output projection's eight blocks, and weights in BF16.
void PrefillBf16(const Device& device) {
  struct Shape {
    const char* name;
    Bf16Weight weight;
    int n, parts;
  };
  constexpr int kWidth = 4096, kSets = 3;
  for (const int rows : {4096, 8192}) {
    for (const Shape& s : {Shape{"wo_a, 8 blocks, E4M3", Bf16Weight::kE4M3, 1024, 8},
                           {"8 blocks, BF16", Bf16Weight::kBF16, 1024, 8},
                           {"compressor, BF16", Bf16Weight::kBF16, 1024, 1},
                           {"compressor, BF16", Bf16Weight::kBF16, 512, 1},
                           {"router, BF16", Bf16Weight::kBF16, 256, 1},
                           {"weights_proj, BF16", Bf16Weight::kBF16, 64, 1}}) {
      const bool e4m3 = s.weight == Bf16Weight::kE4M3;
      std::vector<Weight> w;
      std::vector<Bf16Matrix> m;
      std::vector<__nv_bfloat16*> x;
      for (int i = 0; i < kSets * s.parts; ++i) {
        w.push_back(RandomWeight(e4m3 ? SkinnyWeight::kE4M3 : SkinnyWeight::kBF16, s.n, kWidth));
        m.push_back({w.back().data, static_cast<const uint8_t*>(w.back().scale)});
      }
      const int64_t columns = int64_t(s.parts) * kWidth;
      for (int i = 0; i < kSets; ++i) x.push_back(Random<__nv_bfloat16>(Fill::kBF16, rows * columns));
      const bool f32 = s.parts == 1;
      uint8_t* workspace = e4m3 ? Allocate<uint8_t>(int64_t(s.parts) * s.n * kWidth * 2) : nullptr;
      float* y = Allocate<float>(int64_t(rows) * s.parts * s.n);
      const double flops = 2.0 * rows * s.n * double(columns);
      const double t = TimeGraph(kSets, [&](int i, cudaStream_t stream) {
        CUDA_OK(Bf16Linear({stream, device.sms},
                           {.weight = s.weight,
                            .n_out = s.n,
                            .k = kWidth,
                            .n = rows,
                            .x = x[size_t(i)],
                            .x_stride = columns * 2,
                            .y = y,
                            .y_stride = int64_t(s.parts) * s.n,
                            .y_f32 = f32,
                            .parts = s.parts},
                           &m[size_t(i * s.parts)], workspace));
      });
      const double bytes = double(rows) * (2 * double(columns) + (f32 ? 4 : 2) * double(s.parts) * s.n);
      Row((std::string(s.name) + ", " + std::to_string(rows) + "x" + std::to_string(s.n) + "x4096").c_str(), t,
          std::max(flops / 745e12, bytes / device.ceilings.read), "TFLOP/s", flops / t * 1e-12);
      for (const Weight& v : w) Free(v);
      for (__nv_bfloat16* p : x) CUDA_OK(cudaFree(p));
      CUDA_OK(cudaFree(y));
      CUDA_OK(cudaFree(workspace));
    }
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
    uint8_t* workspace = Allocate<uint8_t>((int64_t(8) << 20) + int64_t(pairs) * 4096);
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
  if (asked("bf16")) PrefillBf16(device);
  if (asked("decode") || asked("prefill") || asked("experts")) {
    const Experts experts;
    if (asked("decode") || asked("experts")) DecodeExperts(device, experts);
    if (asked("prefill")) PrefillExperts(device, experts);
  }
  CUDA_OK(cudaDeviceSynchronize());
  return all_ok ? 0 : 1;
}
