// What Check() functions ask of a view.
#pragma once

#include "base/tensor.h"

namespace vexil {

inline bool Matches(const TensorView& v, DType dtype, const Dims& dims) {
  return v.dtype() == dtype && v.dims() == dims;
}

}  // namespace vexil
