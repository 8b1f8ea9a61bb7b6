#include "convert/rank_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <unordered_set>
#include <utility>

#include "convert/join_streams.h"
#include "convert/layout.h"
#include "io/checkpoint_files.h"
#include "io/quote.h"
#include "io/safetensors_header.h"
#include "model/tensor_names.h"

namespace vexil::convert {

Result<std::unique_ptr<const RankFiles>> RankFiles::Open(const std::string& path) {
  int world = 0;
  {
    VX_ASSIGN(const CheckpointFiles first, CheckpointFiles::Open(path));
    const std::string name = std::filesystem::path(first.files()[0].path()).filename().string();
    if (!IsDirectory(path) || name.find("-mp") == name.npos) {
      return InvalidArgument(
          fmt::format("{}: found {}, expected a directory with model0-mpN.safetensors", path, QuoteName(name)));
    }
    world = first.world();
  }
  std::unique_ptr<RankFiles> out(new RankFiles);
  out->path_ = path;
  for (int r = 0; r < world; ++r) {
    const std::string file = JoinPath(path, fmt::format("model{}-mp{}.safetensors", r, world));
    VX_ASSIGN(SafetensorsFile tensors, SafetensorsFile::Open(file));
    VX_ASSIGN(InputFile input, InputFile::Open(file));
    out->files_.push_back(std::move(tensors));
    out->inputs_.push_back(std::move(input));
  }
  Json::Array described;
  std::unordered_set<std::string> seen;
  out->tensors_.resize(size_t(world));
  for (size_t r = 0; r < out->files_.size(); ++r) {
    VX_ASSIGN(Json file, DescribeInput(out->inputs_[r], out->files_[r]));
    described.push_back(std::move(file));
    Rank& rank = out->tensors_[r];
    for (const TensorInfo& info : out->files_[r].tensors()) {
      rank.tensors.push_back({.name = CanonicalTensorName(info.name), .info = &info, .file = &out->inputs_[r]});
      if (seen.insert(rank.tensors.back().name).second) out->names_.push_back(rank.tensors.back().name);
    }
    for (size_t i = 0; i < rank.tensors.size(); ++i) rank.index.emplace(rank.tensors[i].name, i);
  }
  out->identity_ = Json(Json::Object{{"files", std::move(described)}});
  return std::unique_ptr<const RankFiles>(std::move(out));
}

int64_t RankFiles::largest_file_bytes() const {
  int64_t bytes = 1;
  for (const SafetensorsFile& f : files_) bytes = std::max(bytes, f.data_bytes());
  return bytes;
}

const SourceTensor* RankFiles::Find(std::string_view name, int64_t rank) const {
  const Rank& r = tensors_[size_t(rank)];
  const auto it = r.index.find(name);
  return it == r.index.end() ? nullptr : &r.tensors[it->second];
}

// One per rank that must hold some of it. All but the joined axis must agree.
Result<std::vector<const SourceTensor*>> RankFiles::Slices(const ShardRules& rules, const std::string& name) const {
  std::vector<const SourceTensor*> out;
  for (int64_t r = 0; r < ranks(); ++r) {
    const SourceTensor* t = Find(name, r);
    if (t == nullptr && !rules.Holds(name, r)) continue;
    if (t == nullptr)
      return DataLoss(fmt::format("{}: tensor {} is missing", inputs_[size_t(r)].path(), QuoteName(name)));
    if (!rules.Holds(name, r))
      return DataLoss(fmt::format("{}found on rank {}, which has other experts", t->Where(), r));
    if (!out.empty() && (t->info->dtype != out[0]->info->dtype || t->info->dims != out[0]->info->dims)) {
      return DataLoss(fmt::format("{}found {}, on another rank {}", t->Where(),
                                  DescribeTensor(t->info->dtype, t->info->dims),
                                  DescribeTensor(out[0]->info->dtype, out[0]->info->dims)));
    }
    out.push_back(t);
  }
  return out;
}

// How many slices of a matrix share a scale entry: more than one when a slice lies inside a tile.
int64_t RankFiles::SlicesPerEntry(const std::string& name, Axis axis) const {
  constexpr std::string_view kScale = ".scale";
  if (!name.ends_with(kScale)) return 1;
  const SourceTensor* w = Find(name.substr(0, name.size() - kScale.size()) + ".weight", 0);
  if (w == nullptr || !w->is_matrix() || w->info->dtype != DType::kE4M3) return 1;
  return std::max<int64_t>(1, kTile / std::max<int64_t>(w->info->dims[axis == Axis::kRows ? 0 : 1], 1));
}

Result<SafetensorsTensor> RankFiles::Joined(const ShardRules& rules, const std::string& name) const {
  VX_ASSIGN(const std::vector<const SourceTensor*> held, Slices(rules, name));
  const TensorInfo& first = *held[0]->info;
  const DType dtype = first.dtype == DType::kE2M1x2 ? DType::kI8 : first.dtype;
  const Part part = rules.PartOf(name, 0);
  const bool whole = part.axis == Axis::kNone || part.ways == 1;
  const int axis = part.axis == Axis::kColumns ? 1 : 0;
  if (!whole && first.dims.rank <= axis) {
    return DataLoss(fmt::format("{}found rank {}, expected a matrix", held[0]->Where(), first.dims.rank));
  }
  // Neighbours hold the same bytes where they share a slice, and where their slices share a scale entry.
  const size_t copies = whole ? held.size() : size_t(ranks() / part.ways * SlicesPerEntry(name, part.axis));
  std::vector<Copies> slices;
  for (size_t r = 0; r < held.size(); r += copies) {
    slices.emplace_back(held.begin() + int64_t(r), held.begin() + int64_t(std::min(r + copies, held.size())));
  }
  Dims dims = first.dims;
  if (!whole) dims.d[axis] *= int64_t(slices.size());
  if (axis == 0) return SafetensorsTensor{{name, dtype, dims}, 1, [slices] { return JoinRows(slices); }};
  return SafetensorsTensor{{name, dtype, dims}, dims[1] * BytesOf(dtype), [slices] { return JoinColumns(slices); }};
}

}  // namespace vexil::convert
