// Checks and times several linears over the same rows in one launch (ops/multi_linear/cuda_few_rows.h) against one
// launch each (ops/linear/cuda_skinny.h), at V4-Flash's shapes.
#include <memory>

#include "bench/gpu/linear_data.cuh"
#include "ops/multi_linear/cuda_few_rows.h"

namespace {

struct Part {
  SkinnyWeight format;
  int n_out;
  bool f32;
  bool rounding = false;  // of x, which is BF16, to E4M3
};
struct Group {
  const char* name;
  int k;
  std::vector<Part> parts;
};
constexpr int kMostRows = 20;

// A group's weights and rows, and calls of them.
class Calls {
 public:
  Calls(const Group& group, int sms) : group_(group), sms_(sms) {
    for (const Part& p : group.parts) {
      w_.push_back(RandomWeight(p.format, p.n_out, group.k));
      y_.push_back(Allocate<uint8_t>(int64_t(kMostRows) * p.n_out * 4));
    }
    codes_ = Random<uint8_t>(Fill::kE4M3, int64_t(kMostRows) * group.k);
    scales_ = Random<uint8_t>(Fill::kExponent, int64_t(kMostRows) * group.k / 128, 117, 123);
    values_ = Random<__nv_bfloat16>(Fill::kBF16, int64_t(kMostRows) * group.k);
  }
  ~Calls() {
    for (const Weight& w : w_) Free(w);
    for (uint8_t* y : y_) CUDA_OK(cudaFree(y));
    CUDA_OK(cudaFree(codes_));
    CUDA_OK(cudaFree(scales_));
    CUDA_OK(cudaFree(values_));
  }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  double bytes() const {
    double bytes = 0;
    for (const Weight& w : w_) bytes += w.bytes();
    return bytes;
  }
  void OneLaunch(int n, cudaStream_t stream, bool overlap) const {
    FewRowsCall c = {};
    c.n = n;
    c.k = group_.k;
    c.codes = {codes_, group_.k, scales_, group_.k / 128};
    c.values = {values_, 2 * group_.k, nullptr, 0};
    for (size_t p = 0; p < w_.size(); ++p) {
      c.part[c.parts++] = {.format = FormatOf(p),
                           .y_f32 = group_.parts[p].f32,
                           .n_out = w_[p].n,
                           .scale_rows = 128,
                           .w = w_[p].skinny(),
                           .y = y_[p],
                           .y_stride = w_[p].n,
                           .factor = 1};
    }
    CUDA_OK(FewRowsLinear({stream, sms_, overlap}, c));
  }
  void LaunchEach(int n, cudaStream_t stream, bool overlap) const {
    for (size_t p = 0; p < w_.size(); ++p) {
      const FewRowsFormat format = FormatOf(p);
      const bool e4m3 = format == FewRowsFormat::kE4M3;
      SkinnyCall c = {.weight = w_[p].format,
                      .input = e4m3                                     ? SkinnyInput::kE4M3
                               : format == FewRowsFormat::kE4M3Rounding ? SkinnyInput::kBF16Quantize
                                                                        : SkinnyInput::kBF16};
      c.n_out = w_[p].n;
      c.k = group_.k;
      c.x = e4m3 ? static_cast<const void*>(codes_) : values_;
      c.x_stride = group_.k * (e4m3 ? 1 : 2);
      c.x_scale = scales_;
      c.x_scale_stride = group_.k / 128;
      c.y = y_[p];
      c.y_stride = w_[p].n;
      c.y_f32 = group_.parts[p].f32;
      c.n = n;
      CUDA_OK(SkinnyLinear({stream, sms_, overlap}, c, w_[p].skinny()));
    }
  }
  FewRowsFormat FormatOf(size_t p) const {
    if (group_.parts[p].rounding) return FewRowsFormat::kE4M3Rounding;
    return w_[p].format == SkinnyWeight::kE4M3 ? FewRowsFormat::kE4M3 : FewRowsFormat::kBF16;
  }
  // All results for n rows, after the outputs were poisoned.
  template <class Call>
  std::vector<uint8_t> Results(int n, const Call& call) const {
    for (size_t p = 0; p < y_.size(); ++p) Poison(y_[p], int64_t(kMostRows) * w_[p].n * 4);
    call();
    std::vector<uint8_t> all;
    for (size_t p = 0; p < y_.size(); ++p) {
      const std::vector<uint8_t> y = Download(y_[p], int64_t(n + 1) * w_[p].n * (group_.parts[p].f32 ? 4 : 2));
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  }

 private:
  const Group& group_;
  int sms_;
  std::vector<Weight> w_;
  std::vector<uint8_t*> y_;
  uint8_t *codes_, *scales_;
  __nv_bfloat16* values_;
};

const std::vector<Group>& Groups() {
  using W = SkinnyWeight;
  static const std::vector<Group> groups = {
      {"attention input",
       4096,
       {{W::kE4M3, 1024, false},
        {W::kE4M3, 512, false},
        {W::kBF16, 1024, true},
        {W::kBF16, 1024, true},
        {W::kBF16, 256, true},
        {W::kBF16, 256, true},
        {W::kBF16, 64, false}}},
      {"attention input, ratio 128",
       4096,
       {{W::kE4M3, 1024, false}, {W::kE4M3, 512, false}, {W::kBF16, 512, true}, {W::kBF16, 512, true}}},
      {"wq_a + wkv", 4096, {{W::kE4M3, 1024, false}, {W::kE4M3, 512, false}}},
      {"queries", 1024, {{W::kE4M3, 32768, false}, {W::kE4M3, 8192, false}}},
      {"wo_b, x rounded", 8192, {{W::kE4M3, 4096, false, true}}},
      {"wq_b alone", 1024, {{W::kE4M3, 32768, false}}},
      {"gate + shared w1, w3", 4096, {{W::kBF16, 256, true}, {W::kE4M3, 2048, false}, {W::kE4M3, 2048, false}}}};
  return groups;
}

// The same bits from one launch and from one each.
bool Check(int sms) {
  bool ok = true;
  for (const Group& g : Groups()) {
    const Calls calls(g, sms);
    for (int n : {1, 3, 8, 9, 16, 19}) {
      const auto one = calls.Results(n, [&] { calls.OneLaunch(n, nullptr, false); });
      const auto each = calls.Results(n, [&] { calls.LaunchEach(n, nullptr, false); });
      if (one == each) continue;
      ok = false;
      size_t i = 0;
      while (one[i] == each[i]) ++i;
      std::printf("FAIL  %s, %d rows: bits differ from byte %zu of %zu\n", g.name, n, i, one.size());
    }
  }
  std::printf("%s\n", ok ? "one launch and one each: the same bits" : "CHECKS FAILED");
  return ok;
}

void Time(const bench::Device& device) {
  constexpr int kSets = 14;  // together beyond the second-level cache
  for (const Group& g : Groups()) {
    std::vector<std::unique_ptr<Calls>> sets;
    for (int i = 0; i < kSets; ++i) sets.push_back(std::make_unique<Calls>(g, device.sms));
    const double floor = sets[0]->bytes() / device.ceilings.read;
    for (int n : {1, 4, 8, 16}) {
      const double one = TimeGraph(kSets, [&](int i, cudaStream_t s) { sets[size_t(i)]->OneLaunch(n, s, true); });
      const double each = TimeGraph(kSets, [&](int i, cudaStream_t s) { sets[size_t(i)]->LaunchEach(n, s, true); });
      std::printf("  %-28s %2d rows  floor %6.2f us  one launch %6.2f us (%4.1f %%)  each %6.2f us (%4.1f %%)\n",
                  g.name, n, floor * 1e6, one * 1e6, 100 * floor / one, each * 1e6, 100 * floor / each);
    }
  }
}

}  // namespace

int main() {
  const bench::Device device = OpenDevice(true);
  const bool ok = Check(device.sms);
  Time(device);
  CUDA_OK(cudaDeviceSynchronize());
  return ok ? 0 : 1;
}
