#include "ops/rope/frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace vexil {
namespace {

// The pair, as a real number, that turns `rotations` times within the original length.
double PairOf(double rotations, const RopeConfig& c) {
  return double(c.dims) * std::log(double(c.original_length) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(c.base));
}

void ApplyYarn(const RopeConfig& c, std::vector<float>& freqs) {
  const double low = std::max(std::floor(PairOf(c.beta_fast, c)), 0.0);
  double high = std::min(std::ceil(PairOf(c.beta_slow, c)), double(c.dims - 1));
  if (low == high) high += 0.001;  // the published guard against a ramp of no length
  for (size_t i = 0; i < freqs.size(); ++i) {
    const float ramp = std::clamp((float(i) - float(low)) / float(high - low), 0.0f, 1.0f);
    const float smooth = 1.0f - ramp;
    freqs[i] = freqs[i] / float(c.factor) * (1.0f - smooth) + freqs[i] * smooth;
  }
}

}  // namespace

std::vector<float> RopeFrequencies(const RopeConfig& config) {
  std::vector<float> freqs(size_t(config.dims / 2));
  for (size_t i = 0; i < freqs.size(); ++i) {
    const float exponent = float(2 * i) / float(config.dims);
    // f32 pow of some libraries is an ulp off; the f64 power rounded to f32 is the correctly rounded one.
    freqs[i] = 1.0f / float(std::pow(config.base, double(exponent)));
  }
  if (config.original_length > 0) ApplyYarn(config, freqs);
  return freqs;
}

}  // namespace vexil
