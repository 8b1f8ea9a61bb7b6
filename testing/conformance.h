// The conformance mechanism: op x kernel x case, against a float64 reference.
//
// Every op specialises Conformance<Op> in ops/<op>/cases.h:
//
//   template <> struct Conformance<RmsNorm> {
//     struct Case { ... };                                     // plain data
//     static std::vector<Case> Cases(Tier tier);               // kSmoke is a subset of kFull; kPerf: V4-Flash's own
//     sizes static std::string Describe(const Case&);                // "rows=17,d=129,dtype=BF16": unique, no spaces
//     static RmsNorm::Args Build(const Case&, TestArena&);     // inputs filled, outputs poisoned
//     static std::vector<Expected> Reference(const RmsNorm::Args&);   // float64, reads like the formula
//     static OpCost Cost(const RmsNorm::Args&);                // what no kernel can do without, for `vexil bench`
//     static std::vector<std::string_view> Faults();           // planted in kernels (ops/fault.h)
//   };
//
// Reference() runs before the kernel (which may work in place) and returns one Expected per output tensor:
// the tensor, the wanted value of each element and the largest error allowed for that element, derived from
// the dtype and the length of the reduction, never from what passed.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/host_memory.h"
#include "base/tensor.h"
#include "device/device.h"

namespace vexil {

enum class Tier { kSmoke, kFull, kPerf };

// Tokens in a step, for kPerf cases.
inline constexpr int64_t kPerfTokens[] = {1, 4, 16, 128, 512};

// The arithmetic that a call's flops can use at best.
enum class ComputeUnit : uint8_t { kF32, kBf16 };
constexpr ComputeUnit UnitOf(DType t) { return t == DType::kBF16 ? ComputeUnit::kBf16 : ComputeUnit::kF32; }

// What a call has to move and to compute, whatever the kernel: each distinct input byte once, each output byte once.
struct OpCost {
  std::string dtype;
  int64_t rows = 0;  // tokens, or rows of the input
  double bytes = 0;
  double flops = 0;
  ComputeUnit unit = ComputeUnit::kF32;
};

inline double Count(const TensorView& v) { return v.empty() ? 0 : double(v.dims().Count()); }
// Bytes of all views that are there.
inline double TotalBytes(std::initializer_list<TensorView> views) {
  double bytes = 0;
  for (const TensorView& v : views) bytes += v.empty() ? 0 : double(v.Bytes());
  return bytes;
}

template <class Op>
struct Conformance;

// One output of an op call.
struct Expected {
  std::string_view name;
  TensorView output;
  std::vector<double> value;                  // row-major over output's dims
  std::vector<double> tolerance;              // same length; 0 demands equality; NaN value demands NaN
  std::vector<double> coarse_tolerance = {};  // for kernels of IsCoarse(); empty: the same
};

// Unit round-off of a dtype: the largest relative error of one rounding.
constexpr double Epsilon(DType t) {
  switch (t) {
    case DType::kF32:
      return 0x1p-24;
    case DType::kBF16:
      return 0x1p-8;  // half an ulp of 8 significant bits, relative to the binade
    case DType::kF16:
      return 0x1p-11;
    default:
      return 0;
  }
}

// Kernels that add or round where FP8 tensor cores or split lists make them; the cases of their op say what that may
// cost.
constexpr bool IsCoarse(std::string_view kernel) {
  // The last two are made of calls that may choose one of the others.
  return kernel.ends_with(".fp8") || kernel.ends_with(".hopper") || kernel.ends_with("/cuda.two_ops") ||
         kernel.ends_with("/cuda.ops");
}

// Element values of a view as float64, row-major; strided views included. Codes of block formats (E4M3, E8M0)
// become their values, integers themselves.
std::vector<double> ToF64(const TensorView& t);
// The dequantised values [n, k] of a block-scaled tensor.
std::vector<double> Dequantize(const QuantView& q);
// Rounding of a float64 to nearest even in a dtype (F32 or BF16), for references of ops with inner roundings.
double RoundTo(DType t, double v);

// Owns the buffers of one case. Every buffer is fenced with guard bytes on both sides. For an accelerator the whole of
// it moves to device memory and back (DeviceCopy), guards and poison included.
class TestArena {
 public:
  // How buffers are made.
  struct Options {
    // Bytes past a multiple of 64 at which buffers begin: kernels may not count on more than mapped files give.
    size_t misalignment = 16;
    // Values drawn per buffer; longer buffers repeat them. A prime keeps rows from being alike.
    int64_t drawn = INT64_MAX;
  };
  // Buffers for timing: aligned, and filled at the speed of memory.
  static constexpr Options ForTiming() { return {0, 65537}; }

  explicit TestArena(uint64_t seed) : TestArena(seed, Options()) {}
  TestArena(uint64_t seed, Options options) : options_(options), rng_(seed) {}

  // Filled with 0xff: NaN in every float format, -1 in every integer.
  MutTensorView Poison(DType dtype, Dims dims);
  // Normal values, mean 0 unless given, rounded to the dtype (F32, BF16, F16).
  MutTensorView Normal(DType dtype, Dims dims, double stddev = 1, double mean = 0);
  MutTensorView Uniform(DType dtype, Dims dims, double low, double high);
  // Random codes without NaN. E4M3 and E2M1x2: every finite code; I8: -127..127.
  MutTensorView Codes(DType dtype, Dims dims);
  // E8M0 powers of two with exponents in [low, high].
  MutTensorView Scales(Dims dims, int low, int high);
  // Integers in [low, high].
  MutTensorView Integers(DType dtype, Dims dims, int64_t low, int64_t high);
  template <class T>
  MutTensorView Values(Dims dims, const std::vector<T>& values) {
    MutTensorView v = Make(DTypeOf<T>(), dims, 0);
    if (!values.empty()) std::memcpy(v.mut_raw(), values.data(), values.size() * sizeof(T));
    return v;
  }
  // A view whose rows are `padding` elements apart from each other in a wider poisoned buffer.
  MutTensorView Padded(DType dtype, Dims dims, int64_t padding);

  // A list of views that an op takes by reference (the weights of experts).
  template <class T>
  std::span<T> Views(size_t count) {
    static_assert(std::is_same_v<T, QuantView>);
    return views_.emplace_back(count);
  }

  bool GuardsIntact() const;

  // What all buffers hold, and the way back, for everything or for `count` bytes of one buffer.
  using Bytes = std::vector<uint8_t>;
  Bytes Save() const;
  void Restore(const Bytes& saved);
  void Restore(const Bytes& saved, uint8_t* at, size_t count);

  // body(view, place) for the views of this arena's buffers in an object of plain data, such as an op's arguments, and
  // in the lists of Views() that it refers to. Place: where the view stands, "64" or, in a list, "64[].0".
  void ForEachView(const void* object, size_t bytes,
                   const std::function<void(const TensorView&, const std::string&)>& body) const;
  // Bytes of all buffers so far.
  size_t bytes() const { return bytes_; }
  std::mt19937_64& rng() { return rng_; }

 private:
  friend class DeviceCopy;
  bool Owns(const void* address) const;
  // The view of one of the buffers that begins at `at`, where at least sizeof(TensorView) bytes can be read. Padding in
  // an object may hold anything, another address even, so a view is recognised as a whole, to be passed over as a
  // whole.
  std::optional<TensorView> ViewAt(const std::byte* at) const;
  static constexpr size_t kGuard = 64;
  struct Buffer {
    HostMemory memory;
    uint8_t* data;  // between the guards
    size_t bytes;
  };
  MutTensorView Make(DType dtype, Dims dims, uint8_t fill);
  // Draws v[i] = draw() for the first elements and repeats them to the end.
  template <class Draw>
  MutTensorView Fill(DType dtype, Dims dims, Draw draw);

  Options options_;
  std::deque<Buffer> buffers_;
  std::deque<std::vector<QuantView>> views_;
  size_t bytes_ = 0;
  std::mt19937_64 rng_;
};

// The buffers of a TestArena in device memory.
//
//   DeviceCopy copy(device);
//   VX_TRY(copy.Take(arena));
//   const Op::Args on_device = copy.Moved(args);     // the same views, with device addresses
//   ... run the kernel ...
//   VX_TRY(copy.GiveBack());                         // every byte returns to the arena
class DeviceCopy {
 public:
  explicit DeviceCopy(Device& device) : device_(device) {}
  Status Take(TestArena& arena);
  Status GiveBack();

  // Arguments are plain data, in which the views of the arena's buffers are found by their form and address.
  template <class Args>
  Args Moved(Args args) {
    static_assert(std::is_trivially_copyable_v<Args>);
    Move(reinterpret_cast<std::byte*>(&args), sizeof(args));
    return args;
  }

 private:
  struct Part {
    uint8_t* host;
    size_t bytes, offset;
  };
  const Part* PartAt(const void* address) const;
  void Move(std::byte* object, size_t bytes);

  Device& device_;
  DeviceBuffer memory_;
  std::vector<Part> parts_;
  std::vector<uint8_t> staging_;
  TestArena* arena_ = nullptr;
  std::deque<std::vector<QuantView>> views_;
};

}  // namespace vexil
