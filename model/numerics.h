// What a forward pass computes with (docs/numerics.md).
#pragma once

#include <optional>
#include <string_view>

#include "base/tensor.h"

namespace vexil {

// name on the command line; activations; linear inputs rounded to E4M3 before block-scaled weights; cache rows and
// indexer vectors rounded as in training (with the Hadamard rotation that belongs to it)
#define VX_NUMERICS(X)                         \
  X(kFp8, "fp8", DType::kBF16, true, true)     \
  X(kBf16, "bf16", DType::kBF16, false, false) \
  X(kF32, "f32", DType::kF32, false, false)

enum class NumericsMode : uint8_t {
#define X(e, name, act, linear, cache) e,
  VX_NUMERICS(X)
#undef X
};

struct Numerics {
  NumericsMode mode;
  std::string_view name;
  DType activation;
  bool quantize_linear_inputs;
  bool quantize_cache;
};

constexpr Numerics NumericsOf(NumericsMode mode) {
  constexpr Numerics kTable[] = {
#define X(e, name, act, linear, cache) {NumericsMode::e, name, act, linear, cache},
      VX_NUMERICS(X)
#undef X
  };
  return kTable[static_cast<int>(mode)];
}

constexpr std::optional<NumericsMode> NumericsFromName(std::string_view name) {
#define X(e, n, act, linear, cache) \
  if (name == n) return NumericsMode::e;
  VX_NUMERICS(X)
#undef X
  return std::nullopt;
}

}  // namespace vexil
