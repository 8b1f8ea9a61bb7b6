// The record of a conversion in its output directory, which makes it resumable.
//
// .vexil-convert.jsonl: the first line says which job the directory belongs to and what it writes; then one line per
// file that is complete, added after the file was flushed and renamed into place. A file is taken over by a later run
// when its line is there, the job is the same, and the file has the size the line says. The record stays after the last
// file: it says where the checkpoint came from.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/json.h"
#include "base/status.h"
#include "convert/job.h"

namespace vexil::convert {

inline constexpr std::string_view kJobRecordName = ".vexil-convert.jsonl";

class JobRecord {
 public:
  JobRecord(JobRecord&&) = default;
  JobRecord& operator=(JobRecord&&) = default;

  // Opens the record of `job` in its directory, which must exist and be locked by the caller, and makes one in an empty
  // directory. kInvalidArgument: the directory holds files and no record, or the record of another job and not
  // `overwrite`. With `overwrite` the files of the earlier job are removed first.
  static Result<JobRecord> Open(const Job& job, bool overwrite);

  bool empty() const { return complete_.empty(); }

  // Null when the file is not complete.
  const FileRecord* Find(const std::string& name) const;

  // Durable when it returns. For one thread at a time.
  Status Add(FileRecord record);

  // Puts the lines in the order of the job's files, so that equal jobs leave equal records.
  Status Finish(const Job& job);

 private:
  explicit JobRecord(std::string path) : path_(std::move(path)) {}
  Status Rewrite(const std::string& first_line, const Job& job);
  Status OpenForAppending();

  struct Close {
    void operator()(std::FILE* f) const { (void)std::fclose(f); }
  };
  std::string path_;
  std::string first_line_;
  std::unordered_map<std::string, FileRecord> complete_;
  std::unique_ptr<std::FILE, Close> out_;
};

}  // namespace vexil::convert
