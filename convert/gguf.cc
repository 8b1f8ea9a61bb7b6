#include "convert/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "convert/gguf_streams.h"
#include "convert/gguf_tokenizer.h"
#include "convert/layout.h"
#include "convert/quantize.h"
#include "convert/streams.h"
#include "io/gguf_writer.h"
#include "io/quote.h"
#include "model/gguf_config.h"
#include "model/tensor_names.h"

namespace vexil::convert {
namespace {

constexpr std::string_view kTokenizer = "tokenizer.json";
// GGML_QNT_VERSION: the meaning of the block types has not changed since.
constexpr uint32_t kQuantizationVersion = 2;

// One tensor of the file.
struct Planned {
  TensorDeclaration declaration;  // under its GGUF name
  int64_t granule = 1;
  std::function<std::unique_ptr<TensorStream>()> open;
};

class Planner {
 public:
  Planner(const Source& source, const GgufOptions& options) : source_(source), options_(options) {}

  Result<std::vector<Planned>> Plan() {
    for (const SourceTensor& t : source_.tensors()) {
      if (t.is_scale || t.name.starts_with("mtp.") || t.name.find(".ffn.experts.") != std::string::npos) continue;
      VX_TRY(Add(t));
    }
    for (int64_t layer = 0; layer < source_.model().num_layers; ++layer) {
      for (const char* w : {"w1", "w3", "w2"}) VX_TRY(AddExperts(layer, w));
    }
    std::ranges::stable_sort(planned_, {}, [](const Planned& p) { return Block(p.declaration.name); });
    return std::move(planned_);
  }

 private:
  // The tensors of a layer stay together; those of no layer come first.
  static int64_t Block(std::string_view name) {
    constexpr std::string_view kPrefix = "blk.";
    int64_t block = -1;
    if (name.starts_with(kPrefix)) std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), block);
    return block;
  }

  Status Add(const SourceTensor& t) {
    const Dims& dims = t.info->dims;
    const DType dtype = t.info->dtype;
    if (dtype == DType::kI64 || dtype == DType::kI32) {
      return Put(t, t.name, DType::kI32, dims, sizeof(int32_t), [&t] { return GgufIndexStream(t); });
    }
    if (dims.rank == 1) return Put(t, t.name, DType::kF32, dims, sizeof(float), [&t] { return GgufVectorStream(t); });
    if (IsFp8Linear(t.name)) return AddMatrices({&t}, t.name, options_.weights, {t.rows(), t.cols()});
    // Everything else that is quantised is exact in BF16; the rest stays as it is.
    if (t.storage != Storage::kPlain) return AddMatrices({&t}, t.name, DType::kBF16, {t.rows(), t.cols()});
    return Put(t, t.name, dtype, dims, 1, CopyRows(t).open);
  }

  Status AddExperts(int64_t layer, const char* which) {
    const std::string folder = fmt::format("layers.{}.ffn.experts.", layer);
    std::vector<const SourceTensor*> parts;
    for (int64_t e = 0; e < source_.model().num_experts; ++e) {
      const std::string name = fmt::format("{}{}.{}.weight", folder, e, which);
      const SourceTensor* t = source_.Find(name);
      if (t == nullptr) {
        return Unsupported(fmt::format("{}: tensor {} is missing, expected experts in separate tensors", source_.path(),
                                       QuoteName(name)));
      }
      parts.push_back(t);
    }
    const Dims dims = {int64_t(parts.size()), parts[0]->rows(), parts[0]->cols()};
    return AddMatrices(std::move(parts), fmt::format("{}{}.weight", folder, which), options_.experts, dims);
  }

  Status AddMatrices(std::vector<const SourceTensor*> parts, const std::string& name, DType type, Dims dims) {
    int64_t& width = dims.d[size_t(dims.rank - 1)];
    if (width % ElementsOf(type) != 0) {
      return InvalidArgument(fmt::format("{}found rows of {} elements, {} takes a multiple of {}", parts[0]->Where(),
                                         width, NameOf(type), ElementsOf(type)));
    }
    width /= ElementsOf(type);
    const int64_t row_bytes = width * BytesOf(type);
    const SourceTensor& first = *parts[0];
    return Put(first, name, type, dims, row_bytes,
               [parts = std::move(parts), type] { return GgufMatrixStream(parts, type); });
  }

  Status Put(const SourceTensor& t, const std::string& name, DType type, Dims dims, int64_t granule,
             std::function<std::unique_ptr<TensorStream>()> open) {
    std::optional<std::string> gguf = GgufTensorName(name);
    if (!gguf) return Unsupported(fmt::format("{}has no name in GGUF", t.Where()));
    planned_.push_back({{*std::move(gguf), type, dims}, granule, std::move(open)});
    return {};
  }

  const Source& source_;
  const GgufOptions& options_;
  std::vector<Planned> planned_;
};

Result<GgufMetadata> Metadata(const Source& source) {
  GgufMetadata metadata = GgufConfigMetadata(source.model());
  const std::string name = std::filesystem::weakly_canonical(source.path()).filename().string();
  metadata.emplace_back("general.name", name);
  metadata.emplace_back("general.quantization_version", kQuantizationVersion);
  VX_ASSIGN(const std::vector<SideFile> files, ReadSideFiles(source.folder()));
  const auto file = std::ranges::find(files, kTokenizer, &SideFile::name);
  if (file == files.end()) return NotFound(fmt::format("{}: no {} beside the weights", source.path(), kTokenizer));
  Result<GgufMetadata> tokenizer = GgufTokenizerMetadata(file->text, source.model().vocab_size);
  if (!tokenizer.ok()) return std::move(tokenizer).TakeError().Prefix(fmt::format("{}: {}", source.path(), kTokenizer));
  std::ranges::move(*tokenizer, std::back_inserter(metadata));
  return metadata;
}

Result<OutputFile> LayOut(std::vector<Planned> planned, const GgufMetadata& metadata) {
  std::vector<TensorDeclaration> declarations;
  for (const Planned& p : planned) declarations.push_back(p.declaration);
  Result<GgufLayout> layout = LayOutGguf(declarations, metadata);
  if (!layout.ok()) return std::move(layout).TakeError().Prefix(kGgufFileName);
  OutputFile file;
  file.name = kGgufFileName;
  file.head = std::move(layout->header);
  file.bytes = layout->file_bytes;
  for (size_t i = 0; i < planned.size(); ++i) {
    TensorDeclaration& d = planned[i].declaration;
    Dims shape = d.dims;
    shape.d[size_t(shape.rank - 1)] *= ElementsOf(d.dtype);
    file.tensors.push_back({.name = d.name,
                            .dtype = NameOf(d.dtype),
                            .shape = shape,
                            .begin = layout->tensor_begin[i],
                            .bytes = d.dims.Count() * BytesOf(d.dtype),
                            .granule = planned[i].granule,
                            .open = std::move(planned[i].open)});
  }
  return file;
}

}  // namespace

Result<Job> GgufJob(std::shared_ptr<const Source> source, const std::string& output, const GgufOptions& options) {
  VX_ASSIGN(const GgufMetadata metadata, Metadata(*source));
  VX_ASSIGN(std::vector<Planned> planned, Planner(*source, options).Plan());
  VX_ASSIGN(OutputFile file, LayOut(std::move(planned), metadata));
  Job job;
  job.directory = output;
  job.identity = IdentityOf(
      "gguf", Json(Json::Object{{"experts", NameOf(options.experts)}, {"weights", NameOf(options.weights)}}), *source);
  job.files.push_back(std::move(file));
  // For people: the file itself says the same. How the source stored its matrices is no longer true.
  Json config = source->config();
  RemoveMember(config, "quantization_config");
  RemoveMember(config, "expert_dtype");
  job.small_files.push_back(FixedFile("config.json", config.ToText(2) + "\n"));
  job.source = std::move(source);
  return job;
}

}  // namespace vexil::convert
