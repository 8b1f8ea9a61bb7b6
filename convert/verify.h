// `vexil verify`: everything that can be wrong with a checkpoint on disk.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/problems.h"
#include "convert/verify_data.h"

namespace vexil::convert {

struct VerifyOptions {
  std::string config_path;      // empty: config.json beside the weights
  bool write_manifest = false;  // for a checkpoint that has none and no problem
  DataOptions data;             // num_experts is set by VerifyCheckpoint
};

struct VerifyReport {
  struct Format {
    int64_t tensors = 0, bytes = 0;
  };
  enum class ManifestState : uint8_t { kAbsent, kChecked, kWritten };

  std::string path;
  int64_t files = 0, tensors = 0, bytes = 0;  // of the files that could be opened; bytes of tensors
  std::map<std::string, Format> formats;      // by dtype
  ManifestState manifest = ManifestState::kAbsent;
  std::vector<Problem> problems;
  double seconds = 0;
};

// Looks at all of it and reports all problems; it stops early only where there is nothing to look at. Errors: kNotFound
// (no checkpoint at `path`, no file at a config_path that was asked for), kInvalidArgument (a manifest is to be written
// and one is there, or `path` is a single file), kCancelled; those of writing the manifest.
Result<VerifyReport> VerifyCheckpoint(const std::string& path, const VerifyOptions& options);

}  // namespace vexil::convert
