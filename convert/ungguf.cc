#include "convert/ungguf.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/block_formats.h"
#include "convert/layout.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/quote.h"
#include "model/gguf_config.h"
#include "model/tensor_inventory.h"
#include "model/tensor_names.h"
#include "model/weight_loader.h"

namespace vexil::convert {
namespace {

constexpr int64_t kDefaultShardBytes = 4'000'000'000;

struct Input {
  GgufFile gguf;
  InputFile file;  // the same one, for reading without mapped memory
};

// Elements of `tensor` from `first` on, each of which `convert` turns into kBytes bytes.
template <class T, int kBytes>
class Mapped : public TensorStream {
 public:
  using Convert = void (*)(const T& element, uint8_t* out);
  Mapped(const Input& input, int64_t begin, Convert convert) : input_(input), begin_(begin), convert_(convert) {}

  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch& scratch) override {
    const int64_t first = begin / kBytes, count = int64_t(out.size()) / kBytes, bytes = count * int64_t(sizeof(T));
    auto* in = reinterpret_cast<T*>(scratch.Bytes(0, bytes));
    VX_TRY(input_.file.ReadAt(begin_ + first * int64_t(sizeof(T)), {reinterpret_cast<uint8_t*>(in), size_t(bytes)}));
    for (int64_t i = 0; i < count; ++i) convert_(in[i], &out[size_t(i * kBytes)]);
    return {};
  }

 private:
  const Input& input_;
  const int64_t begin_;  // in the file
  const Convert convert_;
};

class Copied : public TensorStream {
 public:
  Copied(const Input& input, int64_t begin) : input_(input), begin_(begin) {}
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override {
    return input_.file.ReadAt(begin_ + begin, out);
  }

 private:
  const Input& input_;
  const int64_t begin_;
};

template <class Block>
void ToBF16(const Block& block, uint8_t* out) {
  for (int i = 0; i < kBlockElements; ++i) {
    const BF16 value = BF16::From(block.At(i));
    std::memcpy(out + size_t(i) * sizeof(value), &value, sizeof(value));
  }
}

// Neighbours share a byte, the even one in its low nibble.
void ToPairs(const MXFP4& block, uint8_t* out) {
  for (int i = 0; i < kBlockElements; i += 2) out[i / 2] = uint8_t(block.Code(i) | block.Code(i + 1) << 4);
}

void ToScale(const MXFP4& block, uint8_t* out) { std::memcpy(out, &block.scale, 1); }

void Widen(const int32_t& value, uint8_t* out) {
  const int64_t wide = value;
  std::memcpy(out, &wide, sizeof(wide));
}

class Planner {
 public:
  explicit Planner(const Input& input, const ModelConfig& config) : input_(input), config_(config) {
    for (TensorSpec& spec : TensorInventory(config, {})) {
      std::string name = spec.name;
      expected_.emplace(std::move(name), std::move(spec));
    }
  }

  Result<std::vector<SafetensorsTensor>> Plan() {
    for (const TensorInfo& info : input_.gguf.tensors()) {
      const std::optional<std::string> name = PublishedNameOfGguf(info.name);
      if (!name) return Unsupported(Where(info) + "is none of this architecture");
      constexpr std::string_view kStacked = ".ffn.experts.";
      const size_t at = name->find(kStacked);
      if (at == std::string::npos) {
        VX_TRY(Add(info, *name, info.dims, 0));
      } else {
        VX_TRY(AddExperts(info, name->substr(0, at + kStacked.size()), name->substr(at + kStacked.size())));
      }
    }
    if (expected_.empty()) return std::move(planned_);
    return InvalidArgument(
        fmt::format("{}: tensor {} is missing", input_.gguf.path(), QuoteName(expected_.begin()->first)));
  }

  bool has_e2m1_experts() const { return has_e2m1_experts_; }

 private:
  std::string Where(const TensorInfo& info) const {
    return fmt::format("{}: tensor {}: ", input_.gguf.path(), QuoteName(info.name));
  }

  Status AddExperts(const TensorInfo& info, const std::string& folder, const std::string& rest) {
    if (info.dims.rank != 3 || info.dims[0] != config_.num_experts) {
      return InvalidArgument(fmt::format("{}found shape {}, expected the matrices of {} experts", Where(info),
                                         DimsText(info.dims), config_.num_experts));
    }
    const int64_t bytes = info.Bytes() / info.dims[0];
    for (int64_t e = 0; e < info.dims[0]; ++e) {
      VX_TRY(Add(info, fmt::format("{}{}.{}", folder, e, rest), {info.dims[1], info.dims[2]}, e * bytes));
    }
    return {};
  }

  // The part of a tensor that begins `offset` bytes into it, with `dims` in storage elements.
  Status Add(const TensorInfo& info, const std::string& name, const Dims& dims, int64_t offset) {
    const auto spec = expected_.find(name);
    if (spec == expected_.end()) return InvalidArgument(Where(info) + "the configuration has no such tensor");
    Dims logical = dims;
    logical.d[size_t(logical.rank - 1)] *= ElementsOf(info.dtype);
    if (logical != spec->second.dims) {
      return InvalidArgument(
          fmt::format("{}found shape {}, expected {}", Where(info), DimsText(logical), DimsText(spec->second.dims)));
    }
    const int64_t begin = info.begin + offset;
    switch (info.dtype) {
      case DType::kI32:
        Put<int32_t, sizeof(int64_t)>(name, DType::kI64, logical, begin, Widen);
        break;
      case DType::kQ8_0:
        Put<Q8_0, 2 * kBlockElements>(name, DType::kBF16, logical, begin, ToBF16<Q8_0>);
        break;
      case DType::kMXFP4:
        if (spec->second.role == TensorRole::kExpert) {
          has_e2m1_experts_ = true;
          Put<MXFP4, kBlockElements / 2>(name, DType::kI8, {logical[0], logical[1] / 2}, begin, ToPairs);
          Put<MXFP4, 1>(spec->second.ScaleName(), DType::kE8M0, dims, begin, ToScale);
        } else {
          Put<MXFP4, 2 * kBlockElements>(name, DType::kBF16, logical, begin, ToBF16<MXFP4>);
        }
        break;
      default:
        planned_.push_back({{name, info.dtype, logical}, 1, [&input = input_, begin] {
                              return std::make_unique<Copied>(input, begin);
                            }});
    }
    expected_.erase(spec);
    return {};
  }

  template <class T, int kBytes>
  void Put(const std::string& name, DType dtype, const Dims& dims, int64_t begin,
           typename Mapped<T, kBytes>::Convert convert) {
    planned_.push_back({{name, dtype, dims}, kBytes, [&input = input_, begin, convert] {
                          return std::make_unique<Mapped<T, kBytes>>(input, begin, convert);
                        }});
  }

  const Input& input_;
  const ModelConfig& config_;
  std::map<std::string, TensorSpec> expected_;  // not met yet
  std::vector<SafetensorsTensor> planned_;
  bool has_e2m1_experts_ = false;
};

Result<Json> Identity(const Input& input, const UnggufOptions& options) {
  // All that stands before the data.
  const std::span<const TensorInfo> tensors = input.gguf.tensors();
  std::vector<uint8_t> head(size_t(tensors.empty() ? input.file.size() : tensors[0].begin));
  VX_TRY(input.file.ReadAt(0, head));
  const Json source(Json::Object{{"name", std::filesystem::path(input.file.path()).filename().string()},
                                 {"bytes", input.file.size()},
                                 {"modified_ns", input.file.modified_ns()},
                                 {"header_xxh3", HashText(TensorHash::Of(head))}});
  return Json(Json::Object{{"command", "ungguf"},
                           {"options", Json(Json::Object{{"max_shard_size", options.shard_bytes}})},
                           {"source", source}});
}

}  // namespace

Result<Job> UnggufJob(const std::string& path, const std::string& output, const UnggufOptions& options) {
  VX_ASSIGN(GgufFile gguf, GgufFile::Open(path));
  VX_ASSIGN(InputFile file, InputFile::Open(path));
  const auto input = std::make_shared<const Input>(Input{std::move(gguf), std::move(file)});
  VX_ASSIGN(const ModelConfig config, ReadGgufConfig(input->gguf));
  VX_ASSIGN(const std::string config_text, GgufConfigJson(input->gguf));
  Planner planner(*input, config);
  VX_ASSIGN(std::vector<SafetensorsTensor> tensors, planner.Plan());
  Job job;
  job.directory = output;
  VX_ASSIGN(job.identity, Identity(*input, options));
  VX_ASSIGN(job.files,
            PublishedFiles(std::move(tensors), options.shard_bytes > 0 ? options.shard_bytes : kDefaultShardBytes));
  const ExpertFormat experts = planner.has_e2m1_experts() ? ExpertFormat::kE2M1 : ExpertFormat::kBF16;
  VX_ASSIGN(const Json json, Json::Parse(config_text));
  job.small_files.push_back(FixedFile("config.json", ConfigFor(json, LinearFormat::kBF16, experts).ToText(2) + "\n"));
  const GgufValue* tokenizer = input->gguf.FindValue(kGgufTokenizerJson);
  if (tokenizer != nullptr && tokenizer->Text()) {
    job.small_files.push_back(FixedFile("tokenizer.json", std::string(*tokenizer->Text())));
  }
  job.small_files.push_back(PublishedIndex(job.files));
  job.source = input;
  return job;
}

}  // namespace vexil::convert
