// Runs a job: every tensor in bounded memory, every file complete or not there, stoppable at any moment.
//
// Workers take the tensors of all unfinished files in order. Each file is written beside its place, flushed and renamed
// when its last tensor is done, and then noted in the record (convert/job_record.h), so that a later run keeps it.
// Memory: a few MB per worker, whatever the sizes.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

// Called under a lock, from any worker.
class ProgressListener {
 public:
  virtual ~ProgressListener() = default;
  // Bytes of data files that are done, those of kept files included.
  virtual void OnBytes(int64_t done, int64_t total) = 0;
  // A file is in place. `kept`: it was there from an earlier run.
  virtual void OnFile(const FileRecord& file, bool kept) = 0;
};

struct RunOptions {
  int threads = 0;                            // 0: all processors of this process
  bool overwrite = false;                     // forget what an earlier job left in the directory
  const std::atomic<bool>* cancel = nullptr;  // looked at between pieces
  ProgressListener* progress = nullptr;
};

struct RunSummary {
  std::vector<FileRecord> files;  // in plan order
  int64_t kept_files = 0;
  int64_t written_bytes = 0;  // of data files, by this run
  double seconds = 0;
};

// Errors: those of the streams and of writing; kCancelled; kResourceExhausted when the disk lacks space, found before
// the first byte where it can be told. After any error the finished files and the record stay for the next run.
Result<RunSummary> RunJob(const Job& job, const RunOptions& options);

}  // namespace vexil::convert
