#include "testing/conformance.h"

#include <algorithm>

#include "ops/elements.h"

namespace vexil {
namespace {

double ElementAt(const TensorView& t, int64_t offset) {
  switch (t.dtype()) {
    case DType::kF32:
      return t.Data<float>()[offset];
    case DType::kBF16:
      return t.Data<BF16>()[offset].ToFloat();
    case DType::kF16:
      return t.Data<F16>()[offset].ToFloat();
    case DType::kE4M3:
      return t.Data<E4M3>()[offset].ToFloat();
    case DType::kE8M0:
      return t.Data<E8M0>()[offset].ToFloat();
    case DType::kE2M1x2:
      return t.Data<E2M1x2>()[offset].bits;
    case DType::kI8:
      return t.Data<int8_t>()[offset];
    case DType::kI32:
      return t.Data<int32_t>()[offset];
    case DType::kI64:
      return double(t.Data<int64_t>()[offset]);
    case DType::kQ8_0:
    case DType::kMXFP4:
      break;  // a block is no number: Dequantize() reads them
  }
  return std::nan("");
}

void SetElement(MutTensorView t, int64_t offset, double v) {
  switch (t.dtype()) {
    case DType::kF32:
      t.MutData<float>()[offset] = float(v);
      break;
    case DType::kBF16:
      t.MutData<BF16>()[offset] = BF16::From(float(v));
      break;
    case DType::kF16:
      t.MutData<F16>()[offset] = F16::From(float(v));
      break;
    case DType::kI32:
      t.MutData<int32_t>()[offset] = int32_t(v);
      break;
    case DType::kI64:
      t.MutData<int64_t>()[offset] = int64_t(v);
      break;
    case DType::kI8:
      t.MutData<int8_t>()[offset] = int8_t(v);
      break;
    default:
      VX_CHECK(false, "this dtype is filled by codes");
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

// Rows of blocks that hold their scales.
static std::vector<double> DequantizeBlocks(const TensorView& t) {
  std::vector<double> out;
  for (int64_t r = 0; r < t.dim(0); ++r) {
    for (int64_t i = 0; i < t.dim(1) * kBlockElements; ++i) {
      const int64_t block = i / kBlockElements, at = i % kBlockElements;
      if (t.dtype() == DType::kQ8_0) {
        const Q8_0& b = t.Row<Q8_0>(r)[block];
        out.push_back(double(b.scale.ToFloat()) * b.codes[at]);
      } else {
        const MXFP4& b = t.Row<MXFP4>(r)[block];
        const int code = at < 16 ? b.pairs[at] % 16 : b.pairs[at - 16] / 16;
        out.push_back(double(b.scale.ToFloat()) * E2M1x2::kValues[code]);
      }
    }
  }
  return out;
}

std::vector<double> Dequantize(const QuantView& q) {
  if (ElementsOf(q.data.dtype()) == kBlockElements) return DequantizeBlocks(q.data);
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
  constexpr size_t kAlign = HostMemory::kAlign;
  const size_t bytes = size_t(dims.Count() * BytesOf(dtype)), offset = kAlign + options_.misalignment;
  static_assert(kAlign >= kGuard);
  const size_t total = offset + bytes + kGuard;
  HostMemory memory = HostMemory::Allocate(total);
  VX_CHECK(memory.data() != nullptr, "no memory for a test buffer");
  uint8_t* data = memory.data() + offset;
  std::memset(data - kGuard, 0xa5, kGuard);
  std::memset(data, fill, bytes);
  std::memset(data + bytes, 0xa5, kGuard);
  buffers_.push_back({std::move(memory), data, bytes});
  bytes_ += bytes;
  return MutTensorView(data, dtype, dims);
}

template <class Draw>
MutTensorView TestArena::Fill(DType dtype, Dims dims, Draw draw) {
  MutTensorView v = Make(dtype, dims, 0);
  const int64_t count = dims.Count(), drawn = std::min(count, options_.drawn);
  for (int64_t i = 0; i < drawn; ++i) draw(v, i);
  char* bytes = static_cast<char*>(v.mut_raw());
  for (int64_t i = drawn; i < count; i += drawn) {
    std::memcpy(bytes + i * BytesOf(dtype), bytes, size_t(std::min(drawn, count - i) * BytesOf(dtype)));
  }
  return v;
}

MutTensorView TestArena::Poison(DType dtype, Dims dims) { return Make(dtype, dims, 0xff); }

MutTensorView TestArena::Normal(DType dtype, Dims dims, double stddev, double mean) {
  std::normal_distribution<double> draw(mean, stddev);
  return Fill(dtype, dims, [&](MutTensorView v, int64_t i) { SetElement(v, i, draw(rng_)); });
}

MutTensorView TestArena::Uniform(DType dtype, Dims dims, double low, double high) {
  std::uniform_real_distribution<double> draw(low, high);
  return Fill(dtype, dims, [&](MutTensorView v, int64_t i) { SetElement(v, i, draw(rng_)); });
}

MutTensorView TestArena::Codes(DType dtype, Dims dims) {
  return Fill(dtype, dims, [&](MutTensorView v, int64_t i) {
    uint8_t& code = static_cast<uint8_t*>(v.mut_raw())[i];
    do {
      code = uint8_t(rng_());
    } while ((dtype == DType::kE4M3 && (code & 0x7f) == 0x7f) || (dtype == DType::kI8 && code == 0x80));
  });
}

MutTensorView TestArena::Scales(Dims dims, int low, int high) {
  std::uniform_int_distribution<int> draw(low, high);
  return Fill(DType::kE8M0, dims,
              [&](MutTensorView v, int64_t i) { v.MutData<E8M0>()[i] = E8M0::FromExponent(draw(rng_)); });
}

MutTensorView TestArena::Integers(DType dtype, Dims dims, int64_t low, int64_t high) {
  std::uniform_int_distribution<int64_t> draw(low, high);
  return Fill(dtype, dims, [&](MutTensorView v, int64_t i) { SetElement(v, i, double(draw(rng_))); });
}

MutTensorView TestArena::Padded(DType dtype, Dims dims, int64_t padding) {
  Dims wide = dims;
  const int64_t columns = dims[-1];
  wide.d[size_t(dims.rank - 1)] = columns + padding;
  return Poison(dtype, wide).Columns(0, columns);
}

bool TestArena::GuardsIntact() const {
  for (const Buffer& b : buffers_) {
    for (size_t i = 0; i < kGuard; ++i) {
      if (b.data[-1 - ptrdiff_t(i)] != 0xa5 || b.data[b.bytes + i] != 0xa5) return false;
    }
  }
  return true;
}

TestArena::Bytes TestArena::Save() const {
  Bytes saved;
  for (const Buffer& b : buffers_) saved.insert(saved.end(), b.data, b.data + b.bytes);
  return saved;
}

void TestArena::Restore(const Bytes& saved) {
  for (const uint8_t* from = saved.data(); const Buffer& b : buffers_) {
    if (b.bytes != 0) std::memcpy(b.data, from, b.bytes);  // a case without tokens saves nothing at all
    from += b.bytes;
  }
}

void TestArena::Restore(const Bytes& saved, uint8_t* at, size_t count) {
  for (const uint8_t* from = saved.data(); const Buffer& b : buffers_) {
    if (at >= b.data && at < b.data + b.bytes) std::memcpy(at, from + (at - b.data), count);
    from += b.bytes;
  }
}

bool TestArena::Owns(const void* address) const {
  return std::any_of(buffers_.begin(), buffers_.end(),
                     [address](const Buffer& b) { return address >= b.data && address <= b.data + b.bytes; });
}

std::optional<TensorView> TestArena::ViewAt(const std::byte* at) const {
  alignas(TensorView) std::byte copy[sizeof(TensorView)];
  std::memcpy(copy, at, sizeof(copy));
  const TensorView& v = *reinterpret_cast<const TensorView*>(copy);
  const bool plausible = v.rank() >= 1 && v.rank() <= kMaxRank && uint8_t(v.dtype()) <= uint8_t(DType::kMXFP4) &&
                         v.stride(v.rank() - 1) == 1;
  return plausible && Owns(v.raw()) ? std::optional(v) : std::nullopt;
}

void TestArena::ForEachView(const void* object, size_t bytes,
                            const std::function<void(const TensorView&, const std::string&)>& body) const {
  const auto* begin = static_cast<const std::byte*>(object);
  for (size_t at = 0; at + sizeof(uintptr_t) <= bytes;) {
    if (const std::optional<TensorView> v = at + sizeof(TensorView) <= bytes ? ViewAt(begin + at) : std::nullopt) {
      body(*v, std::to_string(at));
      at += sizeof(TensorView);
      continue;
    }
    uintptr_t word;
    std::memcpy(&word, begin + at, sizeof(word));
    for (const std::vector<QuantView>& list : views_) {
      if (list.empty() || word != reinterpret_cast<uintptr_t>(list.data())) continue;
      for (const QuantView& q : list) {
        ForEachView(&q, sizeof(q), [&](const TensorView& v, const std::string& place) {
          body(v, std::to_string(at) + "[]." + place);
        });
      }
    }
    at += sizeof(uintptr_t);
  }
}

Status DeviceCopy::Take(TestArena& arena) {
  arena_ = &arena;
  size_t total = 0;
  // The part between the guards begins at the alignment that device kernels may count on.
  for (const TestArena::Buffer& b : arena.buffers_) {
    const size_t lead = Arena::kDeviceAlign - TestArena::kGuard;
    parts_.push_back({b.data - TestArena::kGuard, b.bytes + 2 * TestArena::kGuard, total + lead});
    total += lead + b.bytes + 2 * TestArena::kGuard;
    total = (total + Arena::kDeviceAlign - 1) / Arena::kDeviceAlign * Arena::kDeviceAlign;
  }
  VX_ASSIGN(memory_, DeviceBuffer::Create(device_, total));
  staging_.assign(total, 0);
  for (const Part& p : parts_) std::memcpy(staging_.data() + p.offset, p.host, p.bytes);
  VX_TRY(device_.CopyIn(memory_.data(), staging_.data(), total, device_.stream()));
  return device_.Synchronize(device_.stream());
}

Status DeviceCopy::GiveBack() {
  VX_TRY(device_.CopyOut(staging_.data(), memory_.data(), staging_.size(), device_.stream()));
  VX_TRY(device_.Synchronize(device_.stream()));
  for (const Part& p : parts_) std::memcpy(p.host, staging_.data() + p.offset, p.bytes);
  return {};
}

const DeviceCopy::Part* DeviceCopy::PartAt(const void* address) const {
  for (const Part& p : parts_) {
    if (address >= p.host && address < p.host + p.bytes) return &p;
  }
  return nullptr;
}

void DeviceCopy::Move(std::byte* object, size_t bytes) {
  constexpr size_t kWord = sizeof(uintptr_t);
  for (size_t at = 0; at + kWord <= bytes;) {
    uintptr_t word;
    std::memcpy(&word, object + at, kWord);
    size_t passed = kWord;
    const std::optional<TensorView> view =
        at + sizeof(TensorView) <= bytes ? arena_->ViewAt(object + at) : std::nullopt;
    if (view) {
      const Part* p = PartAt(view->raw());
      word = reinterpret_cast<uintptr_t>(memory_.data()) + p->offset + (word - reinterpret_cast<uintptr_t>(p->host));
      passed = sizeof(TensorView);
    }
    for (const std::vector<QuantView>& list : arena_->views_) {
      if (word != reinterpret_cast<uintptr_t>(list.data())) continue;
      std::vector<QuantView>& copy = views_.emplace_back(list);
      Move(reinterpret_cast<std::byte*>(copy.data()), copy.size() * sizeof(QuantView));
      word = reinterpret_cast<uintptr_t>(copy.data());
      break;
    }
    std::memcpy(object + at, &word, kWord);
    at += passed;
  }
}

}  // namespace vexil
