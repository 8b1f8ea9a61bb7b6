#include "convert/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "convert/layout.h"
#include "convert/quantize_report.h"
#include "convert/shard_rules.h"
#include "convert/streams.h"

namespace vexil::convert {
namespace {

std::optional<Target> TargetOf(const SourceTensor& t, const QuantizeOptions& options) {
  if (!t.name.ends_with(".weight") || !t.is_matrix()) return std::nullopt;
  if (ExpertOf(t.name) >= 0) {
    const bool left_alone = options.experts == Target::kInt8 && !t.name.starts_with("layers.");
    return left_alone ? std::nullopt : options.experts;
  }
  return options.linears && IsFp8Linear(t.name) ? std::optional(Target::kE4M3) : std::nullopt;
}

ExpertFormat FormatOf(const Source& source, std::optional<Target> experts) {
  if (!experts) return StoredExperts(source);
  switch (*experts) {
    case Target::kE4M3:
      return ExpertFormat::kE4M3;
    case Target::kE2M1:
      return ExpertFormat::kE2M1;
    case Target::kInt8:
      return ExpertFormat::kInt8;
  }
  return ExpertFormat::kBF16;
}

Status AddTensor(const SourceTensor& t, const QuantizeOptions& options, std::vector<SafetensorsTensor>& out) {
  const std::optional<Target> target = TargetOf(t, options);
  if (!target) {
    out.push_back(CopyRows(t));
    if (t.scale != nullptr) out.push_back(CopyRows(*t.scale));
    return {};
  }
  if (t.storage != Storage::kPlain) {
    return InvalidArgument(
        fmt::format("{}already quantised, expected BF16; run vexil convert dequantize first", t.Where()));
  }
  VX_ASSIGN(std::vector<SafetensorsTensor> made, Quantized(t, *target));
  std::ranges::move(made, std::back_inserter(out));
  return {};
}

}  // namespace

bool IsFp8Linear(std::string_view name) {
  if (!name.ends_with(".weight") || name.find(".compressor.") != name.npos) return false;
  if (name.find(".shared_experts.") != name.npos) return true;
  name.remove_suffix(7);
  const std::string_view module = name.substr(name.rfind('.') + 1);
  constexpr std::string_view kModules[] = {"wq_a", "wq_b", "wkv", "wo_a", "wo_b", "e_proj", "h_proj", "main_proj"};
  return std::ranges::find(kModules, module) != std::end(kModules);
}

Result<Job> QuantizeJob(std::shared_ptr<const Source> source, const std::string& output,
                        const QuantizeOptions& options) {
  std::vector<SafetensorsTensor> tensors;
  for (const SourceTensor& t : source->tensors()) {
    if (!t.is_scale) VX_TRY(AddTensor(t, options, tensors));
  }
  const LinearFormat linears = options.linears ? LinearFormat::kE4M3 : StoredLinears(*source);
  const ExpertFormat experts = FormatOf(*source, options.experts);
  Job job;
  job.directory = output;
  job.identity =
      IdentityOf("quantize",
                 Json(Json::Object{{"experts", options.experts ? Json(TargetName(*options.experts)) : Json()},
                                   {"weights", options.linears ? Json("E4M3") : Json()},
                                   {"max_shard_size", options.shard_bytes}}),
                 *source);
  VX_ASSIGN(job.files, PublishedFiles(std::move(tensors),
                                      options.shard_bytes > 0 ? options.shard_bytes : LargestFileBytes(*source)));
  VX_ASSIGN(job.small_files, SideFiles(*source, linears, experts));
  job.small_files.push_back(
      {"vexil-quantize.json", [](std::span<const FileRecord> r) { return QuantizeReportJson(r); }});
  job.small_files.push_back(
      {"vexil-quantize.html", [](std::span<const FileRecord> r) { return QuantizeReportHtml(r); }});
  job.small_files.push_back(AdaptedConfig(*source, linears, experts));
  job.small_files.push_back(PublishedIndex(job.files));
  job.source = std::move(source);
  return job;
}

}  // namespace vexil::convert
