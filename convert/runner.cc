#include "convert/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"
#include "convert/job_record.h"
#include "io/file.h"

namespace vexil::convert {
namespace {

// Large enough that a system call costs nothing, small enough that source and output of a piece stay in the cache.
constexpr int64_t kPieceBytes = 512 << 10;
constexpr int64_t kFlushBytes = 32 << 20;

int64_t PieceBytes(int64_t granule) { return std::max(granule, kPieceBytes / granule * granule); }

// A file on its way.
struct OpenOutput {
  OpenOutput(AtomicFile f, const OutputFile& output) : file(std::move(f)), left(output.tensors.size()) {
    record.manifest = {output.name, output.bytes, {}};
    record.manifest.tensors.resize(output.tensors.size());
    record.notes.resize(output.tensors.size());
  }
  AtomicFile file;
  std::atomic<size_t> left;  // tensors
  FileRecord record;         // each worker fills the places of its tensors
};

class Runner {
 public:
  Runner(const Job& job, const RunOptions& options, JobRecord& record)
      : job_(job), options_(options), record_(record), total_(DataBytes(job)) {}

  Status Plan() {
    for (const OutputFile& file : job_.files) {
      VX_CHECK(!file.tensors.empty(), "a file without tensors");
      if (const FileRecord* kept = record_.Find(file.name)) {
        done_ += file.bytes;
        kept_ += 1;
        if (options_.progress != nullptr) options_.progress->OnFile(*kept, true);
        continue;
      }
      needed_ += file.bytes;
      for (const OutputTensor& tensor : file.tensors) work_.push_back({&file, &tensor});
    }
    VX_ASSIGN(const int64_t available, FreeDiskBytes(job_.directory));
    if (needed_ <= available) return {};
    return ResourceExhausted(
        fmt::format("{}: needs {} bytes, the disk has {} bytes available", job_.directory, needed_, available));
  }

  Status Run() {
    const int threads = options_.threads > 0 ? options_.threads : ThreadPool::AvailableProcessors();
    ThreadPool pool(threads);
    pool.For(pool.threads(), 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) Work();
    });
    open_.clear();  // removes what is half-written
    return std::move(status_);
  }

  int64_t kept() const { return kept_; }
  int64_t written() const { return needed_; }

 private:
  struct WorkItem {
    const OutputFile* file;
    const OutputTensor* tensor;
  };

  void Work() {
    Scratch scratch;
    std::unique_ptr<uint8_t[]> piece;
    int64_t room = 0;
    for (;;) {
      const size_t i = next_.fetch_add(1);
      if (i >= work_.size() || stop_) return;
      const WorkItem& item = work_[i];
      const int64_t size = std::min(PieceBytes(item.tensor->granule), item.tensor->bytes);
      if (room < size) piece.reset(new uint8_t[size_t(room = size)]);
      if (Status status = Convert(item, {piece.get(), size_t(size)}, scratch); !status.ok()) Fail(std::move(status));
    }
  }

  Status Convert(const WorkItem& item, std::span<uint8_t> piece, Scratch& scratch) {
    VX_ASSIGN(OpenOutput* const output, Acquire(*item.file));
    const size_t index = size_t(item.tensor - item.file->tensors.data());
    VX_TRY(WriteTensor(*item.tensor, *output, index, piece, scratch));
    if (output->left.fetch_sub(1) == 1) return Complete(*item.file, *output);
    return {};
  }

  // The first tensor of a file opens it.
  Result<OpenOutput*> Acquire(const OutputFile& file) {
    std::lock_guard lock(mutex_);
    if (const auto it = open_.find(&file); it != open_.end()) return it->second.get();
    VX_ASSIGN(AtomicFile out, AtomicFile::Create(JoinPath(job_.directory, file.name)));
    VX_TRY(out.WriteAt(0, std::span(reinterpret_cast<const uint8_t*>(file.head.data()), file.head.size())));
    auto& place = open_[&file];
    place = std::make_unique<OpenOutput>(std::move(out), file);
    return place.get();
  }

  Status WriteTensor(const OutputTensor& tensor, OpenOutput& output, size_t index, std::span<uint8_t> piece,
                     Scratch& scratch) {
    const std::unique_ptr<TensorStream> stream = tensor.open();
    TensorHash hash;
    int64_t flushed = 0;
    for (int64_t begin = 0; begin < tensor.bytes; begin += int64_t(piece.size())) {
      if (stop_) return {};
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed))
        return Cancelled("interrupted");
      const std::span<uint8_t> part =
          piece.first(size_t(std::min<int64_t>(int64_t(piece.size()), tensor.bytes - begin)));
      VX_TRY(stream->Fill(begin, part, scratch));
      hash.Update(part);
      VX_TRY(output.file.WriteAt(tensor.begin + begin, part));
      const int64_t end = begin + int64_t(part.size());
      if (end - flushed >= kFlushBytes || end == tensor.bytes) {
        output.file.StartFlush(tensor.begin + flushed, end - flushed);
        flushed = end;
      }
      Report(int64_t(part.size()));
    }
    output.record.manifest.tensors[index] = {tensor.name, hash.Value(), tensor.dtype, tensor.shape};
    output.record.notes[index] = stream->Notes();
    return {};
  }

  // The last tensor of a file closes it.
  Status Complete(const OutputFile& file, OpenOutput& output) {
    if (stop_) return {};
    VX_TRY(output.file.Commit());
    std::lock_guard lock(mutex_);
    VX_TRY(record_.Add(std::move(output.record)));
    open_.erase(&file);
    if (options_.progress != nullptr) options_.progress->OnFile(*record_.Find(file.name), false);
    return {};
  }

  void Report(int64_t bytes) {
    const int64_t done = done_.fetch_add(bytes) + bytes;
    if (options_.progress == nullptr) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);  // a busy lock only costs one picture
    if (lock.owns_lock()) options_.progress->OnBytes(done, total_);
  }

  void Fail(Status status) {
    std::lock_guard lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
    stop_ = true;
  }

  const Job& job_;
  const RunOptions& options_;
  JobRecord& record_;
  const int64_t total_;
  std::vector<WorkItem> work_;
  int64_t kept_ = 0, needed_ = 0;

  std::atomic<size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;  // record_, open_, status_ and the listener
  std::map<const OutputFile*, std::unique_ptr<OpenOutput>> open_;
  Status status_;
};

Status WriteSmallFile(const std::string& directory, const std::string& name, std::string_view text) {
  const std::string path = JoinPath(directory, name);
  VX_TRY(MakeDirectories(std::filesystem::path(path).parent_path().string()));
  VX_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  VX_TRY(file.Write(text));
  return file.Commit();
}

Status WriteSmallFiles(const Job& job, const std::vector<FileRecord>& records) {
  Manifest manifest;
  for (const FileRecord& r : records) manifest.files.push_back(r.manifest);
  for (size_t i = 0; i < job.small_files.size(); ++i) {
    if (i + 1 == job.small_files.size())
      VX_TRY(WriteSmallFile(job.directory, std::string(kManifestName), FormatManifest(manifest)));
    VX_ASSIGN(const std::string text, job.small_files[i].text(records));
    VX_TRY(WriteSmallFile(job.directory, job.small_files[i].name, text));
  }
  return {};
}

Status RemoveLeftovers(const Job& job) {
  for (const OutputFile& f : job.files) VX_TRY(RemoveStaleTemporaries(job.directory, f.name));
  VX_TRY(RemoveStaleTemporaries(job.directory, kManifestName));
  for (const SmallFile& f : job.small_files) {
    const std::filesystem::path path = std::filesystem::path(job.directory) / f.name;
    if (!IsDirectory(path.parent_path().string())) continue;
    VX_TRY(RemoveStaleTemporaries(path.parent_path().string(), path.filename().string()));
  }
  return {};
}

Status RunDataFiles(Runner& runner) {
  VX_TRY(runner.Plan());
  return runner.Run();
}

}  // namespace

Result<RunSummary> RunJob(const Job& job, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  VX_CHECK(!job.small_files.empty(), "a job ends with a small file");
  const bool fresh = !IsDirectory(job.directory);
  VX_TRY(MakeDirectories(job.directory));
  VX_ASSIGN(const DirectoryLock lock, DirectoryLock::Acquire(job.directory));
  VX_ASSIGN(JobRecord record, JobRecord::Open(job, options.overwrite));
  VX_TRY(RemoveLeftovers(job));
  Runner runner(job, options, record);
  if (Status status = RunDataFiles(runner); !status.ok()) {
    if (record.empty()) {  // nothing to go on from
      (void)RemoveFile(JoinPath(job.directory, kJobRecordName));
      std::error_code ignored;
      if (fresh) std::filesystem::remove(job.directory, ignored);
    }
    return status;
  }
  RunSummary summary;
  for (const OutputFile& f : job.files) summary.files.push_back(*record.Find(f.name));
  VX_TRY(WriteSmallFiles(job, summary.files));
  VX_TRY(record.Finish(job));
  summary.kept_files = runner.kept();
  summary.written_bytes = runner.written();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace vexil::convert
