// Checks and times the Hopper kernels of SparseAttention at V4-Flash's shape.   attention [check | time [NAME]]
#include "bench/gpu/bench.cuh"
#include "ops/sparse_attention/cuda_hopper.h"

using namespace bench;
using namespace vexil::cuda;

namespace {

constexpr int kHeads = kAttentionHeads, kWidth = kAttentionWidth, kMaxColumns = 2048;

__device__ const __nv_bfloat16* RowAt(const AttentionCall& c, int64_t row) {
  int pool = 0;
  while (pool < 2 && row >= c.pool_rows[pool]) row -= c.pool_rows[pool++];
  return static_cast<const __nv_bfloat16*>(c.pool[pool]) + row * c.pool_stride[pool];
}

// One block per token and head, in float64 with P rounded to BF16 against the running maximum of blocks of 64.
// `spread`: the root of the sum of the squares of the terms P v / Z, in which the roundings of P enter independently.
__global__ void ReferenceKernel(AttentionCall c, double* y, double* spread) {
  __shared__ double logit[kMaxColumns], weight[kMaxColumns], z_shared;
  const int token = blockIdx.x, head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const __nv_bfloat16* q = static_cast<const __nv_bfloat16*>(c.q) + token * c.q_token_stride + head * c.q_head_stride;
  for (int j = warp; j < c.columns; j += 4) {
    const int row = c.rows[token * c.rows_stride + j];
    double s = 0;
    if (row >= 0) {
      const __nv_bfloat16* v = RowAt(c, row);
      for (int i = lane; i < kWidth; i += 32) s += double(__bfloat162float(q[i])) * double(__bfloat162float(v[i]));
    }
    for (int step = 16; step; step /= 2) s += __shfl_xor_sync(~0u, s, step);
    if (lane == 0) logit[j] = row >= 0 ? s * double(c.scale) : -INFINITY;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double max = -INFINITY, z = 0;
    for (int j = 0; j < c.columns; ++j) max = fmax(max, logit[j]);
    double running = -INFINITY;
    for (int b = 0; b < c.columns; b += 64) {
      for (int j = b; j < min(b + 64, c.columns); ++j) running = fmax(running, logit[j]);
      for (int j = b; j < min(b + 64, c.columns); ++j) {
        const double p = logit[j] == -INFINITY ? 0 : exp(logit[j] - running),
                     back = running == -INFINITY ? 0 : exp(running - max);
        weight[j] = double(__bfloat162float(__float2bfloat16_rn(float(p)))) * back;
        z += p * back;
      }
    }
    z_shared = max == -INFINITY ? 0 : z + exp(double(c.sink[head]) - max);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kWidth; i += 128) {
    double acc = 0, squares = 0;
    for (int j = 0; j < c.columns; ++j) {
      const int row = c.rows[token * c.rows_stride + j];
      if (row < 0) continue;
      const double term = weight[j] * double(__bfloat162float(RowAt(c, row)[i]));
      acc += term;
      squares += term * term;
    }
    const int64_t at = (int64_t(token) * kHeads + head) * kWidth + i;
    y[at] = z_shared == 0 ? 0 : acc / z_shared;
    spread[at] = z_shared == 0 ? 0 : sqrt(squares) / z_shared;
  }
}

struct Problem {
  AttentionCall call;
  std::vector<void*> memory;
  __nv_bfloat16* y;
  ~Problem() {
    for (void* p : memory) CUDA_OK(cudaFree(p));
  }
};
// `masked`: of 16 columns, how many name no row. Token 1 of a check lists none at all.
void Make(Problem& p, int n, int columns, int64_t window_rows, int64_t compressed_rows, int masked, double deviation) {
  const int64_t total = n + window_rows + compressed_rows;
  std::vector<int> rows;
  for (int t = 0; t < n; ++t) {
    for (int j = 0; j < columns; ++j) {
      const uint32_t h = Hash(uint64_t(t) * 100003 + uint64_t(j) + NextSeed());
      const bool none = int(h % 16) < masked || (masked && (t == 1 || (t == 2 && j < 64)));
      rows.push_back(none ? -1 : int((h >> 4) % uint64_t(total)));
    }
  }
  auto* q = Random<__nv_bfloat16>(Fill::kBF16, int64_t(n) * kHeads * kWidth, float(deviation));
  auto* step = Random<__nv_bfloat16>(Fill::kBF16, int64_t(n) * kWidth);
  auto* window = Random<__nv_bfloat16>(Fill::kBF16, window_rows * kWidth);
  auto* compressed = Random<__nv_bfloat16>(Fill::kBF16, compressed_rows * kWidth);
  auto* sink = Random<float>(Fill::kF32, kHeads);
  p.y = Allocate<__nv_bfloat16>(int64_t(n) * kHeads * kWidth);
  int* list = Upload(rows);
  p.memory = {q, step, window, compressed, sink, p.y, list};
  p.call = {.q = q,
            .q_token_stride = kHeads * kWidth,
            .q_head_stride = kWidth,
            .y = p.y,
            .y_token_stride = kHeads * kWidth,
            .y_head_stride = kWidth,
            .n = n,
            .rows = list,
            .rows_stride = columns,
            .columns = columns,
            .pool = {step, window, compressed},
            .pool_rows = {n, window_rows, compressed_rows},
            .pool_stride = {kWidth, kWidth, kWidth},
            .sink = sink,
            .scale = float(1 / std::sqrt(double(kWidth)))};
}

bool Check(const Device& device) {
  bool ok = true;
  struct Case {
    int n, columns, masked;
  };
  for (const Case& k :
       {Case{3, 640, 0}, {5, 640, 5}, {3, 130, 4}, {70, 200, 3}, {2, 1, 0}, {66, 64, 0}, {4, 1152, 2}}) {
    Problem p;
    Make(p, k.n, k.columns, 150, 700, k.masked, 4);
    const int64_t count = int64_t(k.n) * kHeads * kWidth;
    float* workspace = Allocate<float>(AttentionWorkspace(p.call) / 4 + 1);
    Poison(p.y, count);
    CUDA_OK(Attention({.sms = device.sms}, p.call, workspace));
    double *y = Allocate<double>(count), *spread = Allocate<double>(count);
    ReferenceKernel<<<dim3(unsigned(k.n), kHeads), 128>>>(p.call, y, spread);
    CUDA_OK(cudaGetLastError());
    const std::vector<double> want = Download(y, count), s = Download(spread, count),
                              got = ToDouble(Download(p.y, count));
    std::vector<double> tolerance;
    // One rounding of y; roundings of P that may fall otherwise (half a step of BF16 each), six deviations of their
    // sum.
    for (size_t i = 0; i < want.size(); ++i)
      tolerance.push_back(std::abs(want[i]) * 0x1p-8 + 6 * 0.6 * 0x1p-9 * s[i] + 2e-6);
    ok &= Report("attention n=" + std::to_string(k.n) + " columns=" + std::to_string(k.columns) +
                     " masked=" + std::to_string(k.masked) + "/16",
                 Compare(got, want, tolerance));
    // A token's result does not depend on its company.
    if (k.n <= kAttentionSplitTokens) {
      AttentionCall one = p.call;
      one.n = 1;
      one.q = static_cast<const __nv_bfloat16*>(p.call.q) + (k.n - 1) * p.call.q_token_stride;
      one.rows += (k.n - 1) * p.call.rows_stride;
      const auto together = Download(p.y, count);
      Poison(p.y, count);
      CUDA_OK(Attention({.sms = device.sms}, one, workspace));
      const auto alone = Download(p.y, kHeads * kWidth);
      if (std::memcmp(alone.data(), together.data() + (count - kHeads * kWidth), alone.size() * 2) != 0) {
        std::printf("FAIL a token's result depends on its company\n");
        ok = false;
      }
    }
    for (void* m : {static_cast<void*>(workspace), static_cast<void*>(y), static_cast<void*>(spread)})
      CUDA_OK(cudaFree(m));
  }
  return ok;
}

void Time(const Device& device, const char* only) {
  struct Case {
    const char* name;
    int n, columns;
    int64_t compressed;
  };
  for (const Case& k : {Case{"decode batch 1, 640 rows", 1, 640, 32768},
                        {"decode batch 1, 160 rows", 1, 160, 32},
                        {"decode batch 8, 640 rows", 8, 640, 262144},
                        {"decode batch 32, 640 rows", 32, 640, 1048576},
                        {"decode batch 32, 1152 rows", 32, 1152, 32768},
                        {"prefill 2048 tokens, 640 rows", 2048, 640, 8192},
                        {"prefill 8192 tokens, 640 rows", 8192, 640, 8192},
                        {"prefill 8192 tokens, 192 rows", 8192, 192, 64}}) {
    if (only && !std::strstr(k.name, only)) continue;
    const int copies = k.n <= 32 ? 4 : 1;
    std::vector<Problem> p(static_cast<size_t>(copies));
    for (Problem& x : p) Make(x, k.n, k.columns, 128 * std::max(1, k.n / 64), k.compressed, 0, 1);
    const double flops = 4.0 * k.n * kHeads * kWidth * k.columns;
    float* workspace = Allocate<float>(AttentionWorkspace(p[0].call, 1) / 4 + 1);
    for (int blocks : {1, 2, 3, 5}) {
      if (k.n > kAttentionSplitTokens && blocks > 1) continue;
      const double t = TimeGraph(
          copies * 2,
          [&](int i, cudaStream_t s) {
            CUDA_OK(Attention({s, device.sms, true}, p[size_t(i % copies)].call, workspace, blocks));
          },
          9);
      std::printf("  %-36s %d blocks a split %9.2f us  %7.1f TFLOP/s  %5.2f TB/s of rows\n", k.name, blocks, t * 1e6,
                  flops / t * 1e-12, double(k.n) * k.columns * 1024 / t * 1e-12);
      std::fflush(stdout);
    }
    CUDA_OK(cudaFree(workspace));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto asked = [&](const char* what) { return argc == 1 || !std::strcmp(argv[1], what); };
  const Device device = OpenDevice(false);
  bool ok = true;
  if (asked("check")) {
    ok = Check(device);
    std::printf("%s\n", ok ? "all checks passed" : "CHECKS FAILED");
  }
  if (asked("time")) Time(device, argc > 2 ? argv[2] : nullptr);
  CUDA_OK(cudaDeviceSynchronize());
  return ok ? 0 : 1;
}
