#include "testing/tampering.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace vexil {
namespace {

using Kind = Tampering::Kind;

bool IsInteger(DType t) { return t == DType::kI32 || t == DType::kI64; }

int64_t Rows(const TensorView& v) { return v.dims().Count() / std::max<int64_t>(v.dim(-1), 1); }

// The address of element (row, column), where rows are those of all leading dimensions.
uint8_t* At(const TensorView& v, int64_t row, int64_t column) {
  int64_t offset = column;
  for (int d = v.rank() - 1; d-- > 0; row /= v.dim(d)) offset += row % v.dim(d) * v.stride(d);
  return static_cast<uint8_t*>(const_cast<void*>(v.raw())) + offset * BytesOf(v.dtype());
}

// body(address) for the elements of the last row, or of the last column.
template <class Body>
void ForLastRow(const TensorView& v, Body body) {
  for (int64_t c = 0; c < v.dim(-1); ++c) body(At(v, Rows(v) - 1, c));
}
template <class Body>
void ForLastColumn(const TensorView& v, Body body) {
  for (int64_t r = 0; r < Rows(v); ++r) body(At(v, r, v.dim(-1) - 1));
}
template <class Body>
void ForAll(const TensorView& v, Body body) {
  for (int64_t r = 0; r < Rows(v); ++r) {
    for (int64_t c = 0; c < v.dim(-1); ++c) body(At(v, r, c));
  }
}

// The number turned, or the code next to it where there is no sign; of a block its last numbers.
void Negate(DType dtype, uint8_t* element) {
  uint8_t& last = element[BytesOf(dtype) - 1];
  switch (dtype) {
    case DType::kE8M0:
      last = last == 0 ? 1 : uint8_t(last - 1);
      break;
    case DType::kI8:
    case DType::kQ8_0:
      last = last == 0 ? 64 : uint8_t(-last);
      break;
    case DType::kE2M1x2:
    case DType::kMXFP4:
      last ^= 0x88;
      break;
    default:
      last ^= 0x80;
  }
}

// Numbers without their last digits: F32 with those of BF16, BF16 with one less. Where they have no more than that (an
// op that rounds to another format), without the last one that they have. Others: the next code.
void Coarsen(DType dtype, uint8_t* element) {
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    element[0] ^= 1;
    return;
  }
  constexpr uint32_t kDropped = 0x1ffff, kDigits = 0x7fffff;  // in the bits of a float
  const int64_t bytes = BytesOf(dtype);
  uint32_t bits = 0;
  std::memcpy(reinterpret_cast<uint8_t*>(&bits) + sizeof(bits) - bytes, element, size_t(bytes));
  const uint32_t digits = bits & kDigits, coarse = digits & ~(dtype == DType::kF32 ? kDropped >> 1 : kDropped);
  bits = (bits & ~kDigits) | (coarse != digits ? coarse : digits & (digits - 1));
  std::memcpy(element, reinterpret_cast<const uint8_t*>(&bits) + sizeof(bits) - bytes, size_t(bytes));
}

// The value next to `want` that the tolerance does not admit. Codes and integers: another one.
void Nudge(const Expected& e, size_t i, uint8_t* element) {
  const double want = e.value[i];
  if (e.output.dtype() == DType::kF32) {
    float v = float(want);
    while (std::abs(v - want) <= e.tolerance[i]) {
      const double beyond = want + e.tolerance[i];
      v = std::nextafter(std::max(v, float(beyond)), INFINITY);
    }
    if (!std::isfinite(want)) v = 0;
    std::memcpy(element, &v, sizeof(v));
  } else if (e.output.dtype() == DType::kBF16) {
    BF16 v = BF16::From(float(want + e.tolerance[i]));
    while (std::abs(v.ToFloat() - want) <= e.tolerance[i]) v.bits = uint16_t(v.ToFloat() < 0 ? v.bits - 1 : v.bits + 1);
    if (!std::isfinite(want)) v = BF16{0};
    std::memcpy(element, &v, sizeof(v));
  } else {
    element[0] ^= 1;
  }
}

void SwapRows(const TensorView& v) {
  for (int64_t c = 0; c < v.dim(-1); ++c) {
    uint8_t *first = At(v, 0, c), *last = At(v, Rows(v) - 1, c);
    std::swap_ranges(first, first + BytesOf(v.dtype()), last);
  }
}

bool AllOnes(const uint8_t* bytes, int64_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t b) { return b == 0xff; });
}

// All poison, to stay as it is.
bool IsUntouched(const Expected& e) {
  return std::all_of(e.value.begin(), e.value.end(), [](double v) { return std::isnan(v); });
}

std::string LastRow(const TensorView& v) { return Rows(v) % Tampering::kTile == 0 ? "last row" : "last row of ragged"; }
std::string LastColumn(const TensorView& v) {
  return v.dim(-1) * ElementsOf(v.dtype()) % Tampering::kTile == 0 ? "last column" : "last column of ragged";
}

void AddInput(const TensorView& v, const std::string& place, std::vector<Tampering>& list) {
  if (v.dims().Count() == 0 || IsInteger(v.dtype())) return;
  // Poison is an output, or lies between the rows of one.
  if (AllOnes(At(v, Rows(v) - 1, v.dim(-1) - 1), BytesOf(v.dtype()))) return;
  const std::string name = fmt::format("argument at byte {}, {}, ", place, NameOf(v.dtype()));
  list.push_back({Kind::kRowNegated, v, 0, name + LastRow(v)});
  list.push_back({Kind::kColumnNegated, v, 0, name + LastColumn(v)});
}

}  // namespace

std::vector<Tampering> InputTamperings(const TestArena& arena, const void* args, size_t bytes) {
  std::vector<Tampering> list;
  arena.ForEachView(args, bytes, [&](const TensorView& v, const std::string& place) { AddInput(v, place, list); });
  return list;
}

std::vector<Tampering> OutputTamperings(const std::vector<Expected>& expected) {
  std::vector<Tampering> list;
  for (size_t i = 0; i < expected.size(); ++i) {
    const TensorView& v = expected[i].output;
    if (v.dims().Count() == 0) continue;
    const std::string name = std::string(expected[i].name) + ", ";
    list.push_back({Kind::kZeroed, v, i, name + "zeroed"});
    list.push_back({Kind::kFirstNudged, v, i, name + "first element nudged"});
    list.push_back({Kind::kLastNudged, v, i, name + "last element nudged"});
    if (IsUntouched(expected[i])) continue;
    list.push_back({Kind::kRowMissing, v, i, name + LastRow(v) + " missing"});
    list.push_back({Kind::kColumnMissing, v, i, name + LastColumn(v) + " missing"});
    if (Rows(v) > 1) list.push_back({Kind::kRowsSwapped, v, i, name + "rows swapped"});
    list.push_back({Kind::kCoarser, v, i, name + "coarser"});
  }
  return list;
}

void Tamper(const Tampering& t, const std::vector<Expected>& expected, TestArena& arena,
            const TestArena::Bytes& before) {
  const TensorView& v = t.view;
  const int64_t bytes = BytesOf(v.dtype());
  const auto forget = [&](uint8_t* element) { arena.Restore(before, element, size_t(bytes)); };
  switch (t.kind) {
    case Kind::kRowMissing:
      return ForLastRow(v, forget);
    case Kind::kColumnMissing:
      return ForLastColumn(v, forget);
    case Kind::kRowsSwapped:
      return SwapRows(v);
    case Kind::kCoarser:
      return ForAll(v, [&](uint8_t* element) { Coarsen(v.dtype(), element); });
    case Kind::kZeroed:
      return ForAll(v, [&](uint8_t* element) { std::memset(element, 0, size_t(bytes)); });
    case Kind::kFirstNudged:
      return Nudge(expected[t.output], 0, At(v, 0, 0));
    case Kind::kLastNudged:
      return Nudge(expected[t.output], expected[t.output].value.size() - 1, At(v, Rows(v) - 1, v.dim(-1) - 1));
    case Kind::kRowNegated:
      return ForLastRow(v, [&](uint8_t* element) { Negate(v.dtype(), element); });
    case Kind::kColumnNegated:
      return ForLastColumn(v, [&](uint8_t* element) { Negate(v.dtype(), element); });
  }
}

}  // namespace vexil
