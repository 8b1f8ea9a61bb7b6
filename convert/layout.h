// Putting tensors into files of the published layout, and what stands beside them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

// Files model-XXXXX-of-YYYYY.safetensors with at most `shard_bytes` of tensors each (one tensor may exceed it), in the
// order given; inside a file wide elements go first, so that all are aligned.
Result<std::vector<OutputFile>> PublishedFiles(std::vector<SafetensorsTensor> tensors, int64_t shard_bytes);
int64_t LargestFileBytes(const Source& source);

// model.safetensors.index.json of such files.
SmallFile PublishedIndex(const std::vector<OutputFile>& files);

// Removes a member of an object, if it is there.
void RemoveMember(Json& object, std::string_view key);

// How linears and experts are stored after a conversion, for the configurations.
enum class LinearFormat : uint8_t { kBF16, kE4M3 };
enum class ExpertFormat : uint8_t { kBF16, kE4M3, kE2M1, kInt8 };

// How the source stores them. Experts of mixed formats do not load, so the first one tells.
LinearFormat StoredLinears(const Source& source);
ExpertFormat StoredExperts(const Source& source);

// A configuration of either dialect, published or inference, that says these formats. One that says so already comes
// back as it is.
Json ConfigFor(Json config, LinearFormat linears, ExpertFormat experts);

// The source's side files, the inference configurations among them adapted by ConfigFor. Without config.json.
Result<std::vector<SmallFile>> SideFiles(const Source& source, LinearFormat linears, ExpertFormat experts);

// Those of a folder as they are.
Result<std::vector<SmallFile>> SideFilesOf(const std::string& folder);

// The source's config.json adapted by ConfigFor.
SmallFile AdaptedConfig(const Source& source, LinearFormat linears, ExpertFormat experts);

// {"command", "options", "source"}: what makes a job the same as another.
Json IdentityOf(std::string_view command, Json options, const Source& source);

}  // namespace vexil::convert
