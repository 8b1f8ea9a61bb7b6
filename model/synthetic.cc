#include "model/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/arena.h"

namespace vexil {
namespace {

constexpr int64_t kTile = 128, kE2M1Group = 32;
constexpr size_t kBlock = size_t(8) << 20;  // bytes of random values of a kind
constexpr size_t kStride = 7919 * 256;      // tensors start at different places in them
constexpr int64_t kFirst = 256;             // the first offset: address 0 would be an argument that is left out

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool EndsWith(const std::string& s, const char* end) { return std::string_view(s).ends_with(end); }

// The E8M0 code of the power of two near 1 / (sqrt(k) * deviation): products of inputs of size 1 are of size 1.
uint8_t ScaleFor(int64_t k, double deviation) {
  return E8M0::FromExponent(-int(std::lround(std::log2(std::sqrt(double(k)) * deviation)))).bits;
}

}  // namespace

TensorView SyntheticTensors::New(DType dtype, Dims dims, Part part) {
  part.offset = bytes_;
  part.bytes = dims.Count() * BytesOf(dtype);
  bytes_ +=
      (part.bytes + int64_t(Arena::kDeviceAlign) - 1) / int64_t(Arena::kDeviceAlign) * int64_t(Arena::kDeviceAlign);
  parts_.push_back(part);
  return TensorView(reinterpret_cast<const void*>(part.offset + kFirst), dtype, dims);
}

TensorView SyntheticTensors::Plain(const std::string&, Dims dims) {
  return New(DType::kBF16, dims, {.offset = 0, .bytes = 0, .values = Values::kBf16});
}

TensorView SyntheticTensors::AsF32(const std::string& name, Dims dims) {
  const Values values = EndsWith(name, "norm.weight") || EndsWith(name, "scale") ? Values::kOnes
                        : EndsWith(name, "_fn")                                  ? Values::kSmallNormal
                        : EndsWith(name, "ape")                                  ? Values::kNormal
                                                                                 : Values::kZeros;
  return New(DType::kF32, dims, {.offset = 0, .bytes = 0, .values = values});
}

TensorView SyntheticTensors::IndexTable(const std::string&, int64_t rows, int64_t cols, int64_t limit) {
  return New(DType::kI32, {rows, cols},
             {.offset = 0, .bytes = 0, .values = Values::kTable, .columns = cols, .limit = limit});
}

// Experts E2M1, gates and compressors BF16, the other linears E4M3 (spec: checkpoint, 2).
QuantView SyntheticTensors::Matrix(const std::string& stem, int64_t n, int64_t k) {
  if (stem.find(".experts.") != std::string::npos) {
    const TensorView codes = New(DType::kE2M1x2, {n, k / 2}, {.offset = 0, .bytes = 0, .values = Values::kE2M1});
    const TensorView scale = New(DType::kE8M0, {n, CeilDiv(k, kE2M1Group)},
                                 {.offset = 0, .bytes = 0, .values = Values::kScale, .scale = ScaleFor(k, 1.5)});
    return QuantView(codes, scale, 1, kE2M1Group);
  }
  if (EndsWith(stem, "gate") || EndsWith(stem, "weights_proj") || stem.find("compressor.") != std::string::npos) {
    return QuantView(Plain(stem, {n, k}));
  }
  const TensorView codes = New(DType::kE4M3, {n, k}, {.offset = 0, .bytes = 0, .values = Values::kE4M3});
  const TensorView scale = New(DType::kE8M0, {CeilDiv(n, kTile), CeilDiv(k, kTile)},
                               {.offset = 0, .bytes = 0, .values = Values::kScale, .scale = ScaleFor(k, 1)});
  return QuantView(codes, scale, kTile, kTile);
}

QuantView SyntheticTensors::RowSlice(const QuantView& matrix, int64_t begin, int64_t end) {
  QuantView slice = matrix;
  slice.data = matrix.data.Rows(begin, end);
  if (begin % kTile != 0) {  // all scales of a matrix are the same
    slice.scale = New(DType::kE8M0, {end - begin, matrix.scale.dim(1)},
                      {.offset = 0, .bytes = 0, .values = Values::kScale, .scale = ScaleFor(matrix.data.dim(1), 1)});
    slice.block_rows = 1;
  } else {
    slice.scale = matrix.scale.Rows(begin / kTile, CeilDiv(end, kTile));
  }
  return slice;
}

// kBlock bytes of values of a kind.
std::vector<uint8_t> SyntheticTensors::Block(Values values) const {
  std::vector<uint8_t> block(kBlock);
  std::mt19937_64 rng(seed_ * 31 + uint64_t(values));
  std::normal_distribution<float> normal;
  const auto floats = [&](float deviation) {
    for (size_t i = 0; i < kBlock; i += sizeof(float)) {
      const float v = normal(rng) * deviation;
      std::memcpy(&block[i], &v, sizeof(v));
    }
  };
  switch (values) {
    case Values::kOnes:
      for (size_t i = 0; i < kBlock; i += sizeof(float)) {
        const float one = 1;
        std::memcpy(&block[i], &one, sizeof(one));
      }
      break;
    case Values::kNormal:
      floats(1);
      break;
    case Values::kSmallNormal:
      floats(0.01f);
      break;
    case Values::kBf16:
      for (size_t i = 0; i < kBlock; i += sizeof(BF16)) {
        const BF16 v = BF16::From(normal(rng) * 0x1p-6f);
        std::memcpy(&block[i], &v, sizeof(v));
      }
      break;
    case Values::kE4M3:
      for (uint8_t& b : block) b = E4M3::From(normal(rng)).bits;
      break;
    case Values::kE2M1:
      for (uint8_t& b : block) b = uint8_t(E2M1x2::Code(normal(rng) * 1.5f) | E2M1x2::Code(normal(rng) * 1.5f) << 4);
      break;
    default:
      break;
  }
  return block;
}

Status SyntheticTensors::FillPart(Device* device, char* to, const Part& part,
                                  const std::vector<std::vector<uint8_t>>& host, const std::vector<char*>& blocks,
                                  size_t& turn) const {
  const size_t bytes = size_t(part.bytes);
  if (part.values == Values::kScale || part.values == Values::kZeros) {
    if (device) return device->Fill(to, part.scale, bytes, device->stream());
    std::memset(to, part.scale, bytes);
    return {};
  }
  if (part.values == Values::kTable) {  // distinct in a row while columns <= limit
    std::vector<int32_t> table(bytes / sizeof(int32_t));
    for (size_t i = 0; i < table.size(); ++i) {
      const int64_t row = int64_t(i) / part.columns, column = int64_t(i) % part.columns;
      table[i] = int32_t((row * 7 + column * (part.limit / part.columns)) % part.limit);
    }
    if (!device) return std::memcpy(to, table.data(), bytes), Status();
    return device->CopyIn(to, table.data(), bytes, device->stream());
  }
  const size_t kind = size_t(part.values);
  for (size_t done = 0; done < bytes;) {
    const size_t from = turn++ * kStride % kBlock, count = std::min(bytes - done, kBlock - from);
    if (device) {
      VX_TRY(device->CopyWithin(to + done, blocks[kind] + from, count, device->stream()));
    } else {
      std::memcpy(to + done, host[kind].data() + from, count);
    }
    done += count;
  }
  return {};
}

namespace {

// Where offsets in the memory of all tensors are.
class Places {
 public:
  Places(void* memory, std::span<const SyntheticTensors::Elsewhere> elsewhere)
      : memory_(static_cast<char*>(memory)), elsewhere_(elsewhere) {}
  struct Place {
    char* address;
    bool elsewhere;
  };
  Place Of(int64_t offset) const {
    int64_t before = 0;  // bytes elsewhere
    for (const SyntheticTensors::Elsewhere& e : elsewhere_) {
      const int64_t begin = reinterpret_cast<int64_t>(e.first) - kFirst, bytes = int64_t(e.memory.bytes());
      if (offset < begin) break;
      if (offset < begin + bytes) return {static_cast<char*>(e.memory.data()) + (offset - begin), true};
      before += bytes;
    }
    return {memory_ + (offset - before), false};
  }

 private:
  char* memory_;
  std::span<const SyntheticTensors::Elsewhere> elsewhere_;
};

}  // namespace

Status SyntheticTensors::Fill(Device* device, void* memory, std::span<TensorView* const> views,
                              std::span<const Elsewhere> elsewhere) {
  const Places places(memory, elsewhere);
  std::vector<std::vector<uint8_t>> host;
  std::vector<DeviceBuffer> buffers;
  std::vector<char*> blocks;
  for (int kind = 0; kind <= int(Values::kE2M1); ++kind) {
    host.push_back(Block(Values(kind)));
    if (!device) continue;
    VX_ASSIGN(DeviceBuffer buffer, DeviceBuffer::Create(*device, kBlock));
    VX_TRY(device->CopyIn(buffer.data(), host.back().data(), kBlock, device->stream()));
    blocks.push_back(static_cast<char*>(buffer.data()));
    buffers.push_back(std::move(buffer));
  }
  size_t turn = 0;
  for (const Part& part : parts_) {
    const Places::Place place = places.Of(part.offset);
    VX_TRY(FillPart(place.elsewhere ? nullptr : device, place.address, part, host, blocks, turn));
  }
  if (device) VX_TRY(device->Synchronize(device->stream()));
  for (TensorView* v : views) {
    const Places::Place place = places.Of(reinterpret_cast<int64_t>(v->raw()) - kFirst);
    *v = TensorView(place.address, v->dtype(), v->dims(), device && !place.elsewhere ? device->caps().id : DeviceId{});
  }
  return {};
}

}  // namespace vexil
