#include "convert/dequantize.h"

#include <utility>
#include <vector>

#include "convert/layout.h"
#include "convert/streams.h"

namespace vexil::convert {

Result<Job> DequantizeJob(std::shared_ptr<const Source> source, const std::string& output,
                          const DequantizeOptions& options) {
  std::vector<SafetensorsTensor> tensors;
  for (const SourceTensor& t : source->tensors()) {
    if (t.is_scale) continue;
    tensors.push_back(t.storage == Storage::kPlain ? CopyRows(t) : DequantizeRows(t));
  }
  Job job;
  job.directory = output;
  job.identity = IdentityOf("dequantize", Json(Json::Object{{"max_shard_size", options.shard_bytes}}), *source);
  VX_ASSIGN(job.files, PublishedFiles(std::move(tensors),
                                      options.shard_bytes > 0 ? options.shard_bytes : LargestFileBytes(*source)));
  VX_ASSIGN(job.small_files, SideFiles(*source, LinearFormat::kBF16, ExpertFormat::kBF16));
  job.small_files.push_back(AdaptedConfig(*source, LinearFormat::kBF16, ExpertFormat::kBF16));
  job.small_files.push_back(PublishedIndex(job.files));
  job.source = std::move(source);
  return job;
}

}  // namespace vexil::convert
