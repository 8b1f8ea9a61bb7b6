#include "testing/conformance.h"

#include "ops/elements.h"

namespace vexil {
namespace {

double ElementAt(const TensorView& t, int64_t offset) {
  switch (t.dtype()) {
    case DType::kF32: return t.Data<float>()[offset];
    case DType::kBF16: return t.Data<BF16>()[offset].ToFloat();
    case DType::kF16: return t.Data<F16>()[offset].ToFloat();
    case DType::kE4M3: return t.Data<E4M3>()[offset].ToFloat();
    case DType::kE8M0: return t.Data<E8M0>()[offset].ToFloat();
    case DType::kE2M1x2: return t.Data<E2M1x2>()[offset].bits;
    case DType::kI8: return t.Data<int8_t>()[offset];
    case DType::kI32: return t.Data<int32_t>()[offset];
    case DType::kI64: return double(t.Data<int64_t>()[offset]);
  }
  return std::nan("");
}

void SetElement(MutTensorView t, int64_t offset, double v) {
  switch (t.dtype()) {
    case DType::kF32: t.MutData<float>()[offset] = float(v); break;
    case DType::kBF16: t.MutData<BF16>()[offset] = BF16::From(float(v)); break;
    case DType::kF16: t.MutData<F16>()[offset] = F16::From(float(v)); break;
    case DType::kI32: t.MutData<int32_t>()[offset] = int32_t(v); break;
    case DType::kI64: t.MutData<int64_t>()[offset] = int64_t(v); break;
    case DType::kI8: t.MutData<int8_t>()[offset] = int8_t(v); break;
    default: VX_CHECK(false, "this dtype is filled by codes");
  }
}

}  // namespace

std::vector<double> ToF64(const TensorView& t) {
  std::vector<double> out;
  if (t.empty()) return out;  // an argument that is left out; its rank 0 would count one element
  out.reserve(size_t(t.dims().Count()));
  int64_t index[kMaxRank] = {};
  for (int64_t n = t.dims().Count(); n-- > 0;) {
    int64_t offset = 0;
    for (int i = 0; i < t.rank(); ++i) offset += index[i] * t.stride(i);
    out.push_back(ElementAt(t, offset));
    for (int i = t.rank(); i-- > 0;) {
      if (++index[i] < t.dim(i)) break;
      index[i] = 0;
    }
  }
  return out;
}

std::vector<double> Dequantize(const QuantView& q) {
  if (q.scale.empty()) return ToF64(q.data);
  const int64_t n = q.data.dim(0), k = q.Columns();
  const std::vector<double> scale = ToF64(q.scale);
  const int64_t scales_per_row = q.scale.rank() == 2 ? q.scale.dim(1) : 1;
  std::vector<double> out(size_t(n * k));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      double v;
      if (q.data.dtype() == DType::kE2M1x2) {
        const E2M1x2 pair = q.data.Row<E2M1x2>(i)[j / 2];
        v = j % 2 ? pair.High() : pair.Low();
      } else {
        v = ElementAt(q.data, i * q.data.stride(0) + j);
      }
      out[size_t(i * k + j)] = v * scale[size_t(i / q.block_rows * scales_per_row + j / q.block_cols)];
    }
  }
  return out;
}

double RoundTo(DType t, double v) {
  if (t == DType::kF32) return float(v);
  VX_CHECK(t == DType::kBF16, "RoundTo serves F32 and BF16");
  if (v == 0 || !std::isfinite(v)) return v;
  // Rounding through float first would round twice: round the float64 significand to 8 bits directly.
  const int exponent = std::max(std::ilogb(v), -126) - 7;
  return std::ldexp(std::nearbyint(std::ldexp(v, -exponent)), exponent);
}

MutTensorView TestArena::Make(DType dtype, Dims dims, uint8_t fill) {
  const size_t bytes = size_t(dims.Count() * BytesOf(dtype));
  std::vector<uint8_t>& b = buffers_.emplace_back(bytes + 2 * kGuard, 0xa5);
  std::memset(b.data() + kGuard, fill, bytes);
  return MutTensorView(b.data() + kGuard, dtype, dims);
}

MutTensorView TestArena::Poison(DType dtype, Dims dims) { return Make(dtype, dims, 0xff); }

MutTensorView TestArena::Normal(DType dtype, Dims dims, double stddev, double mean) {
  MutTensorView v = Make(dtype, dims, 0);
  std::normal_distribution<double> draw(mean, stddev);
  for (int64_t i = 0; i < dims.Count(); ++i) SetElement(v, i, draw(rng_));
  return v;
}

MutTensorView TestArena::Uniform(DType dtype, Dims dims, double low, double high) {
  MutTensorView v = Make(dtype, dims, 0);
  std::uniform_real_distribution<double> draw(low, high);
  for (int64_t i = 0; i < dims.Count(); ++i) SetElement(v, i, draw(rng_));
  return v;
}

MutTensorView TestArena::Codes(DType dtype, Dims dims) {
  MutTensorView v = Make(dtype, dims, 0);
  uint8_t* bytes = static_cast<uint8_t*>(v.mut_raw());
  for (int64_t i = 0; i < dims.Count(); ++i) {
    do {
      bytes[i] = uint8_t(rng_());
    } while ((dtype == DType::kE4M3 && (bytes[i] & 0x7f) == 0x7f) || (dtype == DType::kI8 && bytes[i] == 0x80));
  }
  return v;
}

MutTensorView TestArena::Scales(Dims dims, int low, int high) {
  MutTensorView v = Make(DType::kE8M0, dims, 0);
  std::uniform_int_distribution<int> draw(low, high);
  for (int64_t i = 0; i < dims.Count(); ++i) v.MutData<E8M0>()[i] = E8M0::FromExponent(draw(rng_));
  return v;
}

MutTensorView TestArena::Integers(DType dtype, Dims dims, int64_t low, int64_t high) {
  MutTensorView v = Make(dtype, dims, 0);
  std::uniform_int_distribution<int64_t> draw(low, high);
  for (int64_t i = 0; i < dims.Count(); ++i) SetElement(v, i, double(draw(rng_)));
  return v;
}

MutTensorView TestArena::Padded(DType dtype, Dims dims, int64_t padding) {
  Dims wide = dims;
  const int64_t columns = dims[-1];
  wide.d[size_t(dims.rank - 1)] = columns + padding;
  return Poison(dtype, wide).Columns(0, columns);
}

bool TestArena::GuardsIntact() const {
  for (const std::vector<uint8_t>& b : buffers_) {
    for (size_t i = 0; i < kGuard; ++i) {
      if (b[i] != 0xa5 || b[b.size() - 1 - i] != 0xa5) return false;
    }
  }
  return true;
}

}  // namespace vexil
