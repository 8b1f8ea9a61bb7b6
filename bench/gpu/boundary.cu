// Times HcBoundary at V4-Flash's shape, each of its kernels in captured graphs.   boundary [TOKENS ...]
//
// Build with nvcc from the repository and link the libraries of the preset `cuda`: ops, device, base.
#include "bench/gpu/bench.cuh"
#include "ops/hc_boundary/hc_boundary.h"

using namespace bench;

namespace {

using vexil::DType;
using vexil::HcBoundary;
using vexil::MutTensorView;

constexpr int64_t kStreams = 4, kWidth = 4096, kMixes = (2 + kStreams) * kStreams;
constexpr int kWeights = 48;  // sets of weights, larger together than the second-level cache

MutTensorView Filled(DType t, vexil::Dims dims, float deviation) {
  const int64_t count = dims.Count();
  void* data = t == DType::kBF16  ? static_cast<void*>(Random<__nv_bfloat16>(Fill::kBF16, count, deviation))
               : t == DType::kF32 ? static_cast<void*>(Random<float>(Fill::kF32, count, deviation))
                                  : static_cast<void*>(Allocate<uint8_t>(count));
  return MutTensorView(data, t, dims, {vexil::DeviceKind::kCuda, 0});
}

void Time(const bench::Device& device, vexil::Device& accelerator, const std::vector<MutTensorView>& fn, int64_t n) {
  vexil::Arena arena(&accelerator);
  HcBoundary::Args a{.y = Filled(DType::kBF16, {n, kWidth}, 1),
                     .y_post = {},
                     .y_comb = {},
                     .h = Filled(DType::kBF16, {n, kStreams, kWidth}, 1),
                     .fn = {},
                     .scale = Filled(DType::kF32, {3}, 1),
                     .base = Filled(DType::kF32, {kMixes}, 1),
                     .post = Filled(DType::kF32, {n, kStreams}, 0.1f),
                     .comb = Filled(DType::kF32, {n, kStreams, kStreams}, 0.1f),
                     .norm = Filled(DType::kF32, {kWidth}, 1),
                     .x = Filled(DType::kBF16, {n, kWidth}, 1),
                     .codes = Filled(DType::kE4M3, {n, kWidth}, 0),
                     .codes_scale = Filled(DType::kE8M0, {n, kWidth / 128}, 0)};
  a.y_post = a.post;
  a.y_comb = a.comb;
  const double bytes = double(n) * kWidth * (2 * 2 * kStreams + 2 + 2 + 1) + double(fn[0].Bytes());
  for (const vexil::Kernel<HcBoundary>& k : vexil::Kernels<HcBoundary>()) {
    vexil::Context ctx;
    ctx.device = accelerator.device();
    ctx.accelerator = &accelerator;
    ctx.workspace = &arena;
    if (k.device != vexil::DeviceKind::kCuda) continue;
    HcBoundary::Args call = a;
    call.fn = fn[0];
    if (!k.supports(ctx, call)) continue;
    const double t = TimeGraph(
        n > 1024 ? 4 : kWeights,
        [&](int i, cudaStream_t stream) {
          ctx.stream = stream;
          call.fn = fn[size_t(i) % fn.size()];
          const vexil::Status s = k.run(ctx, call);
          if (!s.ok()) std::printf("failed: %s\n", std::string(s.message()).c_str());
        },
        9);
    std::printf("%-28s %5lld tokens %9.2f us %6.2f TB/s %5.1f %% of a copy\n", std::string(k.id).c_str(),
                static_cast<long long>(n), t * 1e6, bytes / t * 1e-12, 100 * bytes / t / device.ceilings.copy);
  }
  for (const MutTensorView& v : {a.h, a.post, a.comb, a.x, a.codes, a.codes_scale}) CUDA_OK(cudaFree(v.mut_raw()));
  for (const vexil::TensorView& v : {a.y, a.scale, a.base, a.norm}) CUDA_OK(cudaFree(const_cast<void*>(v.raw())));
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Device device = bench::OpenDevice(true);
  auto accelerator = vexil::OpenDevice({vexil::DeviceKind::kCuda, 0});
  if (!accelerator.ok()) return std::printf("no device\n"), 1;
  std::vector<MutTensorView> fn;
  for (int i = 0; i < kWeights; ++i) fn.push_back(Filled(DType::kF32, {kMixes, kStreams * kWidth}, 1.0f / 128));
  std::vector<int64_t> tokens;
  for (int i = 1; i < argc; ++i) tokens.push_back(std::atoll(argv[i]));
  if (tokens.empty()) tokens = {1, 8, 32, 64, 128, 512, 2048, 8192};
  for (int64_t n : tokens) Time(device, **accelerator, fn, n);
  return 0;
}
