#include "convert/random_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/rng.h"
#include "base/vector_widths.h"

namespace vexil::convert {
namespace {

uint64_t KeyOf(uint64_t seed, std::string_view name) {
  uint64_t key = Mix64(seed + 0x9e3779b97f4a7c15u);
  for (const char c : name) key = Mix64(key ^ static_cast<uint8_t>(c));
  return key;
}

// 32 random bits for `counter`: two rounds of multiply and shift, which vector units have for 32-bit lanes. The upper
// half of the counter and of the key go into the second round, so that no two tensors walk through the same values.
inline uint32_t RandomWord(uint32_t counter, uint32_t key_low, uint32_t key_high) {
  uint32_t x = counter ^ key_low;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= (x >> 15) ^ key_high;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

uint32_t HighKey(uint64_t key, uint64_t counter) { return uint32_t(key >> 32) ^ uint32_t(Mix64(counter >> 32)); }

VX_VECTOR_WIDTHS void FillWords(uint32_t counter, uint32_t key_low, uint32_t key_high, int64_t n, uint32_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = RandomWord(counter + uint32_t(i), key_low, key_high);
}

// The sum of two 16-bit uniforms: a triangle around 0 with deviation 1.
inline float Triangle(uint32_t word) {
  constexpr float kScale = 3.7376366e-05f;  // 1 / sqrt(2 (2^32 - 1) / 12)
  return float(int32_t((word >> 16) + (word & 0xffffu)) - 0xffff) * kScale;
}

VX_VECTOR_WIDTHS void FillF32(uint32_t counter, uint32_t key_low, uint32_t key_high, float mean, float deviation,
                              int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = mean + deviation * Triangle(RandomWord(counter + uint32_t(i), key_low, key_high));
}

VX_VECTOR_WIDTHS void FillBF16(uint32_t counter, uint32_t key_low, uint32_t key_high, float mean, float deviation,
                               int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float f = mean + deviation * Triangle(RandomWord(counter + uint32_t(i), key_low, key_high));
    const uint32_t u = std::bit_cast<uint32_t>(f);  // finite, so rounding needs no special case
    out[i] = uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
}

// Around the middle code: one below, the same, the same, one above.
VX_VECTOR_WIDTHS void SpreadCodes(uint8_t middle, int64_t n, uint8_t* bytes) {
  for (int64_t i = 0; i < n; ++i) bytes[i] = uint8_t(middle - 1 + (bytes[i] & 1) + (bytes[i] >> 1 & 1));
}
constexpr double kSpreadRms = 1.25;  // sqrt((1/4 + 1 + 1 + 4) / 4)

// Runs `fill` over elements [begin, begin + n) in stretches that share the upper half of their counter.
template <class Fill>
void ForCounters(uint64_t key, uint64_t begin, int64_t n, Fill fill) {
  for (int64_t done = 0; done < n;) {
    const uint64_t at = begin + uint64_t(done);
    const int64_t count = std::min<int64_t>(n - done, int64_t((uint64_t(1) << 32) - (at & 0xffffffffu)));
    fill(uint32_t(at), uint32_t(key), HighKey(key, at), count, done);
    done += count;
  }
}

// Bytes of the words, from any place on.
void FillBytes(uint64_t key, int64_t begin, std::span<uint8_t> out) {
  constexpr int64_t kWords = 4096;
  std::array<uint32_t, kWords> words;
  for (int64_t done = 0; done < int64_t(out.size());) {
    const int64_t skip = (begin + done) % 4;
    const int64_t count = std::min<int64_t>(int64_t(out.size()) - done, kWords * 4 - skip);
    ForCounters(key, uint64_t(begin + done) / 4, (skip + count + 3) / 4,
                [&](uint32_t counter, uint32_t low, uint32_t high, int64_t n, int64_t at) {
                  FillWords(counter, low, high, n, words.data() + at);
                });
    std::memcpy(out.data() + done, reinterpret_cast<const uint8_t*>(words.data()) + skip, size_t(count));
    done += count;
  }
}

// A random byte as an E4M3 code: 448 x|x| for a uniform x in (-1, 1), dense near 0 as weights are. Exact arithmetic.
constexpr int kE4M3Codes = 256;
struct E4M3Table {
  std::array<uint8_t, kE4M3Codes> code;
  double rms = 0;
};
const E4M3Table& RandomE4M3() {
  static const E4M3Table kTable = [] {
    E4M3Table t;
    for (int i = 0; i < kE4M3Codes; ++i) {
      const float x = (float(i) - 127.5f) / 128;
      const E4M3 code = E4M3::From(E4M3::kMax * x * std::fabs(x));
      t.code[size_t(i)] = code.bits;
      t.rms += double(code.ToFloat()) * code.ToFloat() / kE4M3Codes;
    }
    t.rms = std::sqrt(t.rms);
    return t;
  }();
  return kTable;
}
constexpr double kUniformE2M1Rms = 2.92617;  // of the 16 codes: sqrt(68.5 / 8)

uint8_t MiddleCode(double deviation, double rms_of_codes) {
  return uint8_t(127 + int(std::lround(std::log2(deviation / (rms_of_codes * kSpreadRms)))));
}

}  // namespace

RandomTensor::RandomTensor(const TensorSpec& spec, uint64_t seed, int64_t num_experts)
    : spec_(spec),
      weight_key_(KeyOf(seed, spec.name)),
      scale_key_(KeyOf(seed, spec.ScaleName())),
      num_experts_(num_experts) {
  const double fan_in = 1 / std::sqrt(double(spec.dims[-1]));
  constexpr float kLogitDeviation = 2;
  switch (spec.role) {
    case TensorRole::kLinear:
      scale_code_ = MiddleCode(fan_in, RandomE4M3().rms);
      break;
    case TensorRole::kExpert:
      scale_code_ = MiddleCode(fan_in, kUniformE2M1Rms);
      break;
    case TensorRole::kMatrix:
    case TensorRole::kHyperFn:
      deviation_ = float(fan_in);
      break;
    case TensorRole::kEmbedding:
      deviation_ = spec.name == "embed.weight" ? 1 : kLogitDeviation * float(fan_in);
      break;
    case TensorRole::kNorm:
    case TensorRole::kHyperScale:
      mean_ = 1, deviation_ = 0.1f;
      break;
    case TensorRole::kHyperBase:
    case TensorRole::kPosition:
      deviation_ = 0.5f;
      break;
    case TensorRole::kBias:
      deviation_ = 0.1f;
      break;
    case TensorRole::kSink:
    case TensorRole::kTable:
      break;
  }
}

void RandomTensor::FillWeight(int64_t begin, std::span<uint8_t> out) const {
  const DType dtype = PublishedForm(spec_)[0].dtype;
  const int64_t first = begin / BytesOf(dtype), n = int64_t(out.size()) / BytesOf(dtype);
  switch (dtype) {
    case DType::kI8:  // two random codes
      return FillBytes(weight_key_, begin, out);
    case DType::kE4M3: {
      FillBytes(weight_key_, begin, out);
      const E4M3Table& table = RandomE4M3();
      for (uint8_t& byte : out) byte = table.code[byte];
      return;
    }
    case DType::kBF16:
      return ForCounters(weight_key_, uint64_t(first), n,
                         [&](uint32_t counter, uint32_t low, uint32_t high, int64_t count, int64_t at) {
                           FillBF16(counter, low, high, mean_, deviation_, count,
                                    reinterpret_cast<uint16_t*>(out.data()) + at);
                         });
    case DType::kF32:
      return ForCounters(weight_key_, uint64_t(first), n,
                         [&](uint32_t counter, uint32_t low, uint32_t high, int64_t count, int64_t at) {
                           FillF32(counter, low, high, mean_, deviation_, count,
                                   reinterpret_cast<float*>(out.data()) + at);
                         });
    default:
      return FillTable(first / spec_.dims[1], {reinterpret_cast<int64_t*>(out.data()), size_t(n)});
  }
}

// Distinct entries per row (Floyd's sampling): for j = E-k .. E-1 take a random one up to j, or j if it is taken.
void RandomTensor::FillTable(int64_t first_row, std::span<int64_t> out) const {
  const int64_t k = spec_.dims[1];
  for (int64_t begin = 0; begin < int64_t(out.size()); begin += k) {
    int64_t* const row = out.data() + begin;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t j = num_experts_ - k + i;
      const uint64_t draw = RandomBits(weight_key_, uint64_t(first_row * k + begin + i)) >> 32;
      const int64_t pick = int64_t((draw * uint64_t(j + 1)) >> 32);
      row[i] = std::find(row, row + i, pick) == row + i ? pick : j;
    }
  }
}

void RandomTensor::FillScale(int64_t begin, std::span<uint8_t> out) const {
  FillBytes(scale_key_, begin, out);
  SpreadCodes(scale_code_, int64_t(out.size()), out.data());
}

void RandomTensor::FillDequantizedRows(int64_t first_row, std::span<uint16_t> out) const {
  const bool packed = spec_.role == TensorRole::kExpert;
  VX_CHECK(packed || spec_.role == TensorRole::kLinear, "a tensor without scales");
  const ScaleBlock block = packed ? kE2M1Block : kE4M3Block;
  const int64_t k = spec_.dims[1], row_bytes = packed ? k / 2 : k, scales = ScaleDims(spec_.dims, block)[1];
  std::vector<uint8_t> codes(static_cast<size_t>(row_bytes)), scale(static_cast<size_t>(scales));
  for (int64_t done = 0; done < int64_t(out.size()); done += k) {
    const int64_t row = first_row + done / k;
    FillWeight(row * row_bytes, codes);
    FillScale(row / block.rows * scales, scale);
    for (int64_t c = 0; c < k; ++c) {
      const uint8_t byte = codes[size_t(packed ? c / 2 : c)];
      const float code = !packed ? E4M3{byte}.ToFloat() : c % 2 == 0 ? E2M1x2{byte}.Low() : E2M1x2{byte}.High();
      out[size_t(done + c)] = BF16::From(code * E8M0{scale[size_t(c / block.columns)]}.ToFloat()).bits;
    }
  }
}

}  // namespace vexil::convert
