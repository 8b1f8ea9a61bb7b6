#include "convert/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>

#include "convert/verify_structure.h"
#include "io/file.h"
#include "io/quote.h"
#include "model/weight_loader.h"

namespace vexil::convert {
namespace {

constexpr std::string_view kConfigName = "config.json";

// Nothing without a readable configuration, which is a problem of the checkpoint.
Result<std::optional<ModelConfig>> FindConfig(const CheckpointSet& set, const std::string& asked,
                                              ProblemList& problems) {
  const std::string path = asked.empty() ? JoinPath(set.directory(), kConfigName) : asked;
  if (!asked.empty() && !FileExists(asked))
    return NotFound(fmt::format("{}: found no such file, expected a configuration", asked));
  if (!FileExists(path)) {
    problems.Add(path, "",
                 "found no such file, expected a configuration (or --config); names and shapes are not checked");
    return std::optional<ModelConfig>();
  }
  Result<ModelConfig> config = ModelConfig::ReadFile(path);
  if (config.ok()) return std::optional<ModelConfig>(*std::move(config));
  problems.Add(path, "", WithoutPath(config.status().message(), path));
  return std::optional<ModelConfig>();
}

class ManifestCheck {
 public:
  ManifestCheck(const CheckpointSet& set, const Manifest& manifest, ProblemList& problems)
      : set_(set), manifest_(manifest), problems_(problems), path_(JoinPath(set.directory(), kManifestName)) {}

  void Run(const std::vector<ManifestFile>& found) {
    for (const ManifestFile& file : found) {
      const ManifestFile* expected = manifest_.Find(file.name);
      if (expected == nullptr) {
        problems_.Add(path_, "", fmt::format("found no entry for {}", QuoteName(file.name)));
      } else {
        CompareFile(file, *expected);
      }
    }
    for (const ManifestFile& file : manifest_.files) {
      const bool known = std::ranges::find(set_.file_names(), file.name) != set_.file_names().end();
      if (!known && set_.is_directory())
        problems_.Add(JoinPath(set_.directory(), file.name), "", "found no such file, expected it from the manifest");
    }
  }

 private:
  void CompareFile(const ManifestFile& found, const ManifestFile& expected) {
    const std::string file = set_.is_directory() ? JoinPath(set_.directory(), found.name) : set_.path();
    if (found.bytes != expected.bytes)
      problems_.Add(file, "",
                    fmt::format("found {} bytes, expected {} from the manifest", found.bytes, expected.bytes));
    std::unordered_map<std::string_view, const ManifestTensor*> tensors;
    for (const ManifestTensor& t : expected.tensors) tensors.emplace(t.name, &t);
    for (const ManifestTensor& t : found.tensors) {
      const auto it = tensors.find(t.name);
      if (it == tensors.end()) {
        problems_.Add(file, t.name, "found a tensor that the manifest does not have");
        continue;
      }
      CompareTensor(file, t, *it->second);
      tensors.erase(it);
    }
    for (const auto& [name, t] : tensors)
      problems_.Add(file, std::string(name), "found no such tensor, expected it from the manifest");
  }

  void CompareTensor(const std::string& file, const ManifestTensor& found, const ManifestTensor& expected) {
    if (found.dtype != expected.dtype || found.shape != expected.shape) {
      problems_.Add(file, found.name,
                    fmt::format("found {} {}, expected {} {} from the manifest", found.dtype, DimsText(found.shape),
                                expected.dtype, DimsText(expected.shape)));
    } else if (found.xxh3 != expected.xxh3) {
      problems_.Add(file, found.name,
                    fmt::format("found checksum {}, expected {} from the manifest", HashText(found.xxh3),
                                HashText(expected.xxh3)));
    }
  }

  const CheckpointSet& set_;
  const Manifest& manifest_;
  ProblemList& problems_;
  const std::string path_;
};

void CountFormats(const CheckpointSet& set, VerifyReport& report) {
  report.files = int64_t(set.parts().size());
  for (const CheckpointPart& part : set.parts()) {
    for (const TensorInfo& t : part.file.tensors()) {
      VerifyReport::Format& format = report.formats[NameOf(t.dtype)];
      format.tensors += 1;
      format.bytes += t.Bytes();
      report.tensors += 1;
      report.bytes += t.Bytes();
    }
  }
}

// The manifest beside the files. A broken one is a problem; none is no problem.
std::optional<Manifest> FindManifest(const CheckpointSet& set, ProblemList& problems) {
  const std::string path = JoinPath(set.directory(), kManifestName);
  if (!FileExists(path)) return std::nullopt;
  Result<Manifest> manifest = ReadManifest(set.directory());
  if (manifest.ok()) return *std::move(manifest);
  problems.Add(path, "", WithoutPath(manifest.status().message(), path));
  return std::nullopt;
}

Status CheckMayWriteManifest(const CheckpointSet& set) {
  const std::string path = JoinPath(set.directory(), kManifestName);
  if (!set.is_directory())
    return InvalidArgument(fmt::format("{}: found one file, expected a directory to write a manifest for", set.path()));
  if (FileExists(path))
    return InvalidArgument(fmt::format("{}: found a manifest, expected none; remove it to write another", path));
  return {};
}

}  // namespace

Result<VerifyReport> VerifyCheckpoint(const std::string& path, const VerifyOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  ProblemList problems;
  VX_ASSIGN(const CheckpointSet set, CheckpointSet::Open(path, problems));
  if (options.write_manifest) VX_TRY(CheckMayWriteManifest(set));
  VerifyReport report;
  report.path = path;
  CountFormats(set, report);
  set.CheckIndex(problems);
  VX_ASSIGN(const std::optional<ModelConfig> config, FindConfig(set, options.config_path, problems));
  for (const TensorGroup& group : set.Groups(problems)) {
    if (config) CheckStructure(group, *config, problems);
  }
  const std::optional<Manifest> manifest = FindManifest(set, problems);
  DataOptions data = options.data;
  data.num_experts = config ? config->num_experts : 0;
  VX_ASSIGN(std::vector<ManifestFile> found, CheckData(set, data, problems));
  if (manifest) {
    ManifestCheck(set, *manifest, problems).Run(found);
    report.manifest = VerifyReport::ManifestState::kChecked;
  }
  report.problems = problems.Take();
  if (options.write_manifest && report.problems.empty()) {
    VX_TRY(WriteManifest(set.directory(), {std::move(found)}));
    report.manifest = VerifyReport::ManifestState::kWritten;
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace vexil::convert
