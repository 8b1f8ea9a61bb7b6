// The rotation frequencies of RoPE, with YaRN's stretching for long contexts (spec: model, section 7.1).
#pragma once

#include <cstdint>
#include <vector>

namespace vexil {

struct RopeConfig {
  double base = 10000;
  int64_t dims = 64;            // rotary channels: even, at least 2
  double factor = 1;            // of YaRN
  int64_t original_length = 0;  // positions of the original training; 0: no YaRN
  double beta_fast = 32;        // rotations over original_length above which a pair keeps its frequency
  double beta_slow = 1;         // ... and below which it is divided by `factor`
};

// dims / 2 frequencies in radians per position, fastest first: f_i = 1 / base^(2i / dims), in f32 from a
// correctly rounded power. With YaRN, pair i of a linear ramp between the two betas is the mixture
// (f_i / factor) * ramp_i + f_i * (1 - ramp_i).
std::vector<float> RopeFrequencies(const RopeConfig& config);

}  // namespace vexil
