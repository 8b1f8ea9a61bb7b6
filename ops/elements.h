// Reading and writing activation elements as float, for kernels that serve F32 and BF16 alike.
#pragma once

#include <type_traits>

#include "base/tensor.h"

namespace vexil {

inline float ToFloat(float v) { return v; }
inline float ToFloat(BF16 v) { return v.ToFloat(); }

template <class T>
T FromFloat(float v) {
  if constexpr (std::is_same_v<T, BF16>) {
    return BF16::From(v);
  } else {
    return v;
  }
}

inline bool IsFloat(DType t) { return t == DType::kF32 || t == DType::kBF16; }

// Calls f with a value of the element type: WithFloatType(x.dtype(), [&](auto e) { using T = decltype(e); ... });
// The dtype must be F32 or BF16 (a kernel's Supports says so).
template <class F>
void WithFloatType(DType t, F&& f) {
  VX_CHECK(IsFloat(t), "Supports() let another dtype through");
  t == DType::kF32 ? f(float{}) : f(BF16{});
}

}  // namespace vexil
