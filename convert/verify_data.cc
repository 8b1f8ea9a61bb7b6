#include "convert/verify_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "base/thread_pool.h"
#include "convert/data_scan.h"
#include "convert/scale_range.h"
#include "io/file.h"
#include "io/safetensors_writer.h"

namespace vexil::convert {
namespace {

// A piece is hashed and scanned while it is in the cache; what comes behind it is read meanwhile. Pieces are read, not
// looked at through the mapping: a sector that cannot be read is then an error and not a signal, and the pages do not
// count as memory of this process.
constexpr int64_t kPieceBytes = 512 << 10;
constexpr int64_t kReadAheadBytes = 16 << 20;

class DataCheck {
 public:
  DataCheck(const CheckpointSet& set, const DataOptions& options, ProblemList& problems)
      : set_(set), options_(options), problems_(problems) {
    for (const CheckpointPart& part : set.parts()) {
      ManifestFile& file = files_.emplace_back();
      file.name = part.name;
      file.bytes = part.file.file_bytes();
      file.tensors.resize(part.file.tensors().size());
      for (size_t i = 0; i < file.tensors.size(); ++i) work_.push_back({&part, files_.size() - 1, i});
      total_ += part.file.data_bytes();
    }
  }

  Result<std::vector<ManifestFile>> Run() {
    for (const CheckpointPart& part : set_.parts()) {
      VX_ASSIGN(InputFile input, InputFile::Open(part.file.path()));
      inputs_.push_back(std::move(input));
    }
    ThreadPool pool(options_.threads > 0 ? options_.threads : ThreadPool::AvailableProcessors());
    pool.For(pool.threads(), 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) Work();
    });
    if (Stopped()) return Cancelled("interrupted");
    return std::move(files_);
  }

 private:
  struct Item {
    const CheckpointPart* part;
    size_t file;
    size_t tensor;
  };

  bool Stopped() const { return options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed); }

  // Tensors are taken in the order of their bytes, so that the disk is read forwards.
  void Work() {
    std::vector<uint8_t> piece(kPieceBytes);
    for (size_t i; (i = next_.fetch_add(1)) < work_.size() && !Stopped();) Check(work_[i], piece);
  }

  void Check(const Item& item, std::span<uint8_t> buffer) {
    const TensorInfo& info = item.part->file.tensors()[item.tensor];
    files_[item.file].tensors[item.tensor] = DescribeStored(info, 0);  // also of one that cannot be read
    TensorHash hash;
    ValueCounts counts;
    int64_t ahead = 0;
    for (int64_t at = 0; at < info.Bytes() && !Stopped(); at += kPieceBytes) {
      if (at + kReadAheadBytes / 2 >= ahead) {
        item.part->file.WillNeed(info, ahead, at + kReadAheadBytes - ahead);
        ahead = at + kReadAheadBytes;
      }
      const std::span piece = buffer.first(size_t(std::min(kPieceBytes, info.Bytes() - at)));
      if (Status status = inputs_[item.file].ReadAt(info.begin + at, piece); !status.ok()) {
        problems_.Add(item.part->file.path(), info.name, WithoutPath(status.message(), item.part->file.path()));
        return;
      }
      hash.Update(piece);
      CountValues(info.dtype, piece, at / BytesOf(info.dtype), counts);
      Report(int64_t(piece.size()));
    }
    files_[item.file].tensors[item.tensor].xxh3 = hash.Value();
    ReportCounts(*item.part, info, counts);
    if (info.dtype == DType::kE8M0) CheckScale(*item.part, info, counts);
    if (info.name.ends_with(".tid2eid")) CheckTable(*item.part, info);
  }

  static ManifestTensor DescribeStored(const TensorInfo& info, uint64_t hash) {
    const WrittenType written = WrittenTypeOf(info.dtype, info.dims);
    return {info.name, hash, written.dtype, written.shape};
  }

  static std::string Place(const TensorInfo& info, int64_t index) {
    std::string place;
    for (int i = info.dims.rank; i-- > 0; index /= info.dims[i]) {
      place.insert(0, std::to_string(index % info.dims[i]) + (place.empty() ? "" : ", "));
    }
    return "[" + place + "]";
  }

  void ReportCounts(const CheckpointPart& part, const TensorInfo& info, const ValueCounts& counts) {
    if (counts.Healthy()) return;
    std::string found = counts.nan > 0 ? fmt::format("{} NaN", counts.nan) : "";
    if (counts.infinite > 0) found += fmt::format("{}{} infinite", found.empty() ? "" : " and ", counts.infinite);
    problems_.Add(part.file.path(), info.name,
                  fmt::format("found {} of {} values, the first at {}, expected finite numbers", found,
                              info.dims.Count(), Place(info, counts.first)));
  }

  void CheckScale(const CheckpointPart& part, const TensorInfo& scale, const ValueCounts& counts) {
    constexpr std::string_view kScale = ".scale";
    if (!scale.name.ends_with(kScale)) return;
    const std::string name = scale.name.substr(0, scale.name.size() - kScale.size()) + ".weight";
    const TensorInfo* weight = nullptr;
    // The weight may be in another file of the checkpoint, but not in that of another rank.
    for (const CheckpointPart& p : set_.parts()) {
      if (p.rank == part.rank && weight == nullptr) weight = p.file.Find(name);
    }
    if (weight == nullptr) return;
    const std::optional<SafeCodes> safe = SafeScaleCodes(weight->dtype);
    if (!safe || (counts.lowest >= safe->lowest && (counts.highest <= safe->highest || counts.highest == 255))) return;
    const ScaleRangeFault fault = FindScaleRangeFault(weight->view, scale.view);
    if (fault.count == 0) return;
    problems_.Add(
        part.file.path(), scale.name,
        fmt::format("found {} scales that take values out of BF16's normal range, the first at [{}, {}] with code {}, "
                    "expected products from 2^-126 to 2^128",
                    fault.count, fault.row, fault.column, fault.code));
  }

  // The first fault of a table tells enough.
  void CheckTable(const CheckpointPart& part, const TensorInfo& info) {
    if (info.dims.rank != 2 || options_.num_experts == 0) return;
    if (info.dtype == DType::kI64) CheckRows(part, info, info.view.Data<int64_t>());
    if (info.dtype == DType::kI32) CheckRows(part, info, info.view.Data<int32_t>());
  }

  template <class T>
  void CheckRows(const CheckpointPart& part, const TensorInfo& info, const T* row) {
    for (int64_t r = 0; r < info.dims[0]; ++r, row += info.dims[1]) {
      for (const T* e = row; e < row + info.dims[1]; ++e) {
        const bool twice = std::find(row, e, *e) != e;
        if (*e >= 0 && *e < options_.num_experts && !twice) continue;
        problems_.Add(part.file.path(), info.name,
                      twice
                          ? fmt::format("row {}: found expert {} twice, expected distinct experts", r, *e)
                          : fmt::format("row {}: found expert {}, expected 0 to {}", r, *e, options_.num_experts - 1));
        return;
      }
    }
  }

  void Report(int64_t bytes) {
    const int64_t done = done_.fetch_add(bytes) + bytes;
    if (!options_.progress) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);  // a busy lock only costs one picture
    if (lock.owns_lock()) options_.progress(done, total_);
  }

  const CheckpointSet& set_;
  const DataOptions& options_;
  ProblemList& problems_;
  std::vector<InputFile> inputs_;  // of the parts
  std::vector<ManifestFile> files_;
  std::vector<Item> work_;
  int64_t total_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
};

}  // namespace

Result<std::vector<ManifestFile>> CheckData(const CheckpointSet& set, const DataOptions& options,
                                            ProblemList& problems) {
  return DataCheck(set, options, problems).Run();
}

}  // namespace vexil::convert
