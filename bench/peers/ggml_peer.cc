// Times ggml's matrix products at the shapes of `vexil bench ops --op linear`; one JSON object per line.
// Usage: ggml_peer THREADS [ROWS...]
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

constexpr size_t kRotateBytes = size_t(1) << 30;
constexpr double kSeconds = 0.3;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Random values of one row, quantised and repeated over the tensor.
void Fill(ggml_tensor* t, std::mt19937& rng) {
  const int64_t k = t->ne[0], rows = t->ne[1], drawn = std::min<int64_t>(rows, 61);
  std::normal_distribution<float> draw;
  std::vector<float> values(size_t(drawn * k));
  for (float& v : values) v = draw(rng);
  char* data = static_cast<char*>(t->data);
  const size_t bytes = size_t(drawn) * t->nb[1], total = size_t(rows) * t->nb[1];
  if (t->type == GGML_TYPE_F32) {
    std::copy_n(reinterpret_cast<const char*>(values.data()), bytes, data);
  } else {
    ggml_quantize_chunk(t->type, values.data(), data, 0, drawn, k, nullptr);
  }
  for (size_t at = bytes; at < total; at += bytes) std::copy_n(data, std::min(bytes, total - at), data + at);
}

void Time(ggml_type type, int64_t n, int64_t k, int64_t out, int threads, ggml_threadpool* pool) {
  const size_t weight = ggml_row_size(type, k) * size_t(out);
  const size_t copies = std::min<size_t>(64, kRotateBytes / weight + 1);
  const size_t memory = copies * (weight + size_t(out * n) * 4 + size_t(k * n) * 4 + (1 << 16)) + (1 << 24);
  ggml_context* ctx = ggml_init({memory, nullptr, false});
  std::mt19937 rng(1);
  ggml_tensor* x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, k, n);
  Fill(x, rng);
  std::vector<ggml_cgraph*> graphs;
  for (size_t i = 0; i < copies; ++i) {
    ggml_tensor* w = ggml_new_tensor_2d(ctx, type, k, out);
    Fill(w, rng);
    ggml_cgraph* graph = ggml_new_graph_custom(ctx, 8, false);
    ggml_build_forward_expand(graph, ggml_mul_mat(ctx, w, x));
    graphs.push_back(graph);
  }
  ggml_cplan plan = ggml_graph_plan(graphs[0], threads, pool);
  std::vector<uint8_t> scratch(plan.work_size);
  std::vector<double> seconds;
  for (const double start = Now(); seconds.size() < 6 || Now() - start < kSeconds;) {
    ggml_cplan p = ggml_graph_plan(graphs[seconds.size() % copies], threads, pool);
    p.work_data = scratch.data();
    const double before = Now();
    ggml_graph_compute(graphs[seconds.size() % copies], &p);
    seconds.push_back(Now() - before);
  }
  std::sort(seconds.begin() + 1, seconds.end());
  std::printf("{\"peer\":\"ggml\",\"weight\":\"%s\",\"n\":%ld,\"k\":%ld,\"N\":%ld,\"threads\":%d,\"time_us\":%.1f}\n",
              ggml_type_name(type), long(n), long(k), long(out), threads, seconds[(seconds.size() + 1) / 2] * 1e6);
  std::fflush(stdout);
  ggml_free(ctx);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  std::vector<int64_t> rows;
  for (int i = 2; i < argc; ++i) rows.push_back(std::atoi(argv[i]));
  if (rows.empty()) rows = {1, 4, 16, 128, 512};
  ggml_cpu_init();
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  ggml_threadpool* pool = ggml_threadpool_new(&params);
  for (ggml_type type : {GGML_TYPE_MXFP4, GGML_TYPE_Q8_0, GGML_TYPE_BF16}) {
    for (int64_t n : rows) {
      Time(type, n, 2048, 4096, threads, pool);
      Time(type, n, 4096, 8192, threads, pool);
    }
  }
  ggml_threadpool_free(pool);
}
