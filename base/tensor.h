// Element types and non-owning tensor views.
//
// A view is a pointer, a DType, dims and element strides; making one never allocates. Kernels see only
// views; who owns the bytes is said where they are made (an Arena, a mapped file, a state pool).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "base/block_formats.h"
#include "base/check.h"
#include "base/float_formats.h"

namespace vexil {

// enumerator, name in safetensors headers and messages, bytes per storage element, host type.
// E2M1x2 stores two logical elements per byte: dims count bytes, so a logical [n, k] matrix is [n, k/2].
// Q8_0 and MXFP4, which only GGUF files have, store 32 per block: a logical [n, k] matrix is [n, k/32].
#define VX_DTYPES(X)              \
  X(kF32, "F32", 4, float)        \
  X(kBF16, "BF16", 2, BF16)       \
  X(kF16, "F16", 2, F16)          \
  X(kE4M3, "F8_E4M3", 1, E4M3)    \
  X(kE8M0, "F8_E8M0", 1, E8M0)    \
  X(kE2M1x2, "E2M1x2", 1, E2M1x2) \
  X(kI8, "I8", 1, int8_t)         \
  X(kI32, "I32", 4, int32_t)      \
  X(kI64, "I64", 8, int64_t)      \
  X(kQ8_0, "Q8_0", 34, Q8_0)      \
  X(kMXFP4, "MXFP4", 17, MXFP4)

enum class DType : uint8_t {
#define X(e, name, bytes, type) e,
  VX_DTYPES(X)
#undef X
};

constexpr int64_t BytesOf(DType t) {
  constexpr int64_t kTable[] = {
#define X(e, name, bytes, type) bytes,
      VX_DTYPES(X)
#undef X
  };
  return kTable[static_cast<int>(t)];
}

// Logical elements per storage element, along the last dimension.
constexpr int64_t ElementsOf(DType t) {
  return t == DType::kE2M1x2 ? 2 : t == DType::kQ8_0 || t == DType::kMXFP4 ? kBlockElements : 1;
}

constexpr const char* NameOf(DType t) {
  constexpr const char* kTable[] = {
#define X(e, name, bytes, type) name,
      VX_DTYPES(X)
#undef X
  };
  return kTable[static_cast<int>(t)];
}

template <class T>
inline constexpr bool kHasDType = false
#define X(e, name, bytes, type) || std::is_same_v<T, type>
    VX_DTYPES(X)
#undef X
    ;

template <class T>
requires kHasDType<T>
constexpr DType DTypeOf() {
#define X(e, name, bytes, type) \
  if constexpr (std::is_same_v<T, type>) return DType::e;
  VX_DTYPES(X)
#undef X
}

inline constexpr int kMaxRank = 6;

struct Dims {
  std::array<int64_t, kMaxRank> d{};
  int rank = 0;

  constexpr Dims() = default;
  constexpr Dims(std::initializer_list<int64_t> list) {
    for (int64_t v : list) d[rank++] = v;
  }
  // Negative indices count from the end.
  constexpr int64_t operator[](int i) const { return d[i < 0 ? rank + i : i]; }
  constexpr int64_t Count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= d[i];
    return n;
  }
  friend constexpr bool operator==(const Dims&, const Dims&) = default;
};

enum class DeviceKind : uint8_t { kCpu, kCuda, kHip };
struct DeviceId {
  DeviceKind kind = DeviceKind::kCpu;
  int16_t index = 0;
  friend constexpr bool operator==(DeviceId, DeviceId) = default;
};

// Read-only, type-erased. Strides are in storage elements; the last dimension is always contiguous.
class TensorView {
 public:
  TensorView() = default;
  TensorView(const void* data, DType dtype, Dims dims, DeviceId device = {})
      : data_(data), dtype_(dtype), dims_(dims), device_(device) {
    int64_t s = 1;
    strides_.rank = dims_.rank;
    for (int i = dims_.rank; i-- > 0; s *= dims_.d[i]) strides_.d[i] = s;
  }

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int64_t dim(int i) const { return dims_[i]; }
  int rank() const { return dims_.rank; }
  int64_t stride(int i) const { return strides_[i]; }
  DeviceId device() const { return device_; }
  int64_t Bytes() const { return dims_.Count() * BytesOf(dtype_); }
  const void* raw() const { return data_; }

  template <class T>
  const T* Data() const {
    VX_DCHECK(DTypeOf<T>() == dtype_, "the view has another dtype");
    return static_cast<const T*>(data_);
  }
  // Start of row i along the first dimension.
  template <class T>
  const T* Row(int64_t i) const {
    return Data<T>() + i * strides_.d[0];
  }

  // Entries [begin, end) of the first dimension.
  TensorView Rows(int64_t begin, int64_t end) const {
    TensorView v = *this;
    v.data_ = static_cast<const char*>(data_) + begin * strides_.d[0] * BytesOf(dtype_);
    v.dims_.d[0] = end - begin;
    return v;
  }
  // Entries [begin, end) of the last dimension; the row stride stays.
  TensorView Columns(int64_t begin, int64_t end) const {
    TensorView v = *this;
    v.data_ = static_cast<const char*>(data_) + begin * BytesOf(dtype_);
    v.dims_.d[dims_.rank - 1] = end - begin;
    return v;
  }
  // [..., c] as [..., c / d, d]; what comes before may be strided.
  TensorView SplitColumns(int64_t d) const {
    const int last = dims_.rank - 1;
    VX_CHECK(last + 1 < kMaxRank && dims_.d[last] % d == 0, "columns that do not split");
    TensorView v = *this;
    v.dims_.rank = v.strides_.rank = last + 2;
    v.dims_.d[last] = dims_.d[last] / d, v.dims_.d[last + 1] = d;
    v.strides_.d[last] = d, v.strides_.d[last + 1] = 1;
    return v;
  }
  bool IsContiguous() const {
    int64_t s = 1;
    for (int i = dims_.rank; i-- > 0; s *= dims_.d[i]) {
      if (dims_.d[i] != 1 && strides_.d[i] != s) return false;
    }
    return true;
  }
  // Same elements under other dims of the same count; needs a contiguous view.
  TensorView Reshape(Dims dims) const {
    VX_CHECK(IsContiguous() && dims.Count() == dims_.Count(), "reshape of a strided view or to another count");
    return TensorView(data_, dtype_, dims, device_);
  }

 protected:
  const void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Dims dims_, strides_;
  DeviceId device_;
};

// The callee may write. Converts to TensorView, never back.
class MutTensorView : public TensorView {
 public:
  MutTensorView() = default;
  MutTensorView(void* data, DType dtype, Dims dims, DeviceId device = {}) : TensorView(data, dtype, dims, device) {}

  template <class T>
  T* MutData() const {
    return const_cast<T*>(Data<T>());
  }
  template <class T>
  T* MutRow(int64_t i) const {
    return const_cast<T*>(Row<T>(i));
  }
  void* mut_raw() const { return const_cast<void*>(data_); }
  MutTensorView Rows(int64_t begin, int64_t end) const { return Cast(TensorView::Rows(begin, end)); }
  MutTensorView Columns(int64_t begin, int64_t end) const { return Cast(TensorView::Columns(begin, end)); }
  MutTensorView Reshape(Dims dims) const { return Cast(TensorView::Reshape(dims)); }
  MutTensorView SplitColumns(int64_t d) const { return Cast(TensorView::SplitColumns(d)); }

 private:
  static MutTensorView Cast(const TensorView& v) {
    MutTensorView m;
    static_cast<TensorView&>(m) = v;
    return m;
  }
};

// A tensor in a block-scaled format: value = code * scale of the block that holds the element.
// `scale` empty: plain values. Block lengths are in logical elements; the last block of an axis may be short.
//   E4M3 weight [n, k]:   scale E8M0 [ceil(n/128), ceil(k/128)], block {128, 128}
//   E2M1x2 weight [n, k/2]: scale E8M0 [n, k/32], block {1, 32}
//   I8 weight [n, k]:     scale BF16 or F32 [n], block {1, k}
//   E4M3 activation [rows, k]: scale E8M0 [rows, ceil(k/128)], block {1, 128}
//   I8 activation [rows, k]: scale F32 [rows], block {1, k}
// Q8_0 and MXFP4 hold their scales themselves: `scale` is empty.
struct QuantView {
  TensorView data;
  TensorView scale;
  int64_t block_rows = 1;
  int64_t block_cols = 1;

  QuantView() = default;
  QuantView(TensorView plain) : data(plain) {}
  QuantView(TensorView codes, TensorView scales, int64_t rows, int64_t cols)
      : data(codes), scale(scales), block_rows(rows), block_cols(cols) {}

  // Logical elements of the last dimension.
  int64_t Columns() const { return ElementsOf(data.dtype()) * data.dim(-1); }
};

}  // namespace vexil
