// What quantisation did to each tensor, from the notes of the streams: as JSON and as a page with plots.
#pragma once

#include <span>
#include <string>

#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

// {"formats": {FORMAT: {"tensors", "mean_relative_rms_error", "max_relative_rms_error", "min_cosine"}},
//  "tensors": {NAME: {"format", "max_error", "rms_error", "rms", "cosine"}}}
Result<std::string> QuantizeReportJson(std::span<const FileRecord> records);

// The same, self-contained: no scripts, no outside files.
Result<std::string> QuantizeReportHtml(std::span<const FileRecord> records);

}  // namespace vexil::convert
