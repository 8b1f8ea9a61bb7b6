#include "convert/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "base/thread_pool.h"
#include "base/vector_widths.h"
#include "convert/row_reader.h"
#include "model/weight_loader.h"

namespace vexil::convert {
namespace {

constexpr int64_t kPieceValues = 128 << 10;

// Rows of one published tensor, wherever they are stored.
struct Values {
  const SourceTensor* tensor = nullptr;
  Dims dims;              // logical
  int64_t first_row = 0;  // in `tensor`, where that stacks several

  int64_t columns() const { return dims.rank == 0 ? 1 : dims[-1]; }
  int64_t rows() const { return columns() == 0 ? 0 : dims.Count() / columns(); }
};

using ValueMap = std::map<std::string, Values>;

// transformers' [E, 2F, D] holds w1 over w3 of each expert, its [E, D, F] holds w2.
bool AddStacked(const SourceTensor& t, ValueMap& map) {
  constexpr std::string_view kGateUp = "gate_up_proj", kDown = "down_proj";
  const bool gate_up = t.name.ends_with(kGateUp), down = t.name.ends_with(kDown);
  if ((!gate_up && !down) || t.info->dims.rank != 3) return false;
  const std::string prefix = t.name.substr(0, t.name.size() - (gate_up ? kGateUp : kDown).size());
  const int64_t rows = t.info->dims[1], columns = t.info->dims[2];
  for (int64_t e = 0; e < t.info->dims[0]; ++e) {
    const auto add = [&](const char* name, int64_t first, int64_t count) {
      map[fmt::format("{}{}.{}.weight", prefix, e, name)] = {&t, {count, columns}, e * rows + first};
    };
    if (gate_up) {
      add("w1", 0, rows / 2);
      add("w3", rows / 2, rows / 2);
    } else {
      add("w2", 0, rows);
    }
  }
  return true;
}

ValueMap ValuesOf(const Source& source) {
  ValueMap map;
  for (const SourceTensor& t : source.tensors()) {
    if (t.is_scale || AddStacked(t, map)) continue;
    map[t.name] = {&t, t.is_matrix() ? Dims{t.rows(), t.cols()} : t.info->dims, 0};
  }
  return map;
}

// Reads rows of any tensor as F32. Integers up to 2^24 are exact.
class ValueReader {
 public:
  explicit ValueReader(const Values& values) : v_(values), matrix_(*values.tensor) {}

  Status Read(int64_t row, int64_t rows, float* out, Scratch& scratch) {
    const SourceTensor& t = *v_.tensor;
    const DType dtype = t.info->dtype;
    if (t.storage != Storage::kPlain) return matrix_.ReadF32(row, rows, out, scratch);
    const int64_t n = rows * v_.columns(), bytes = n * BytesOf(dtype);
    const std::span<uint8_t> raw(scratch.Bytes(0, bytes), size_t(bytes));
    VX_TRY(t.ReadAt((v_.first_row + row) * v_.columns() * BytesOf(dtype), raw));
    switch (dtype) {
      case DType::kF32:
        return Convert<float>(raw, out);
      case DType::kBF16:
        return Convert<BF16>(raw, out);
      case DType::kF16:
        return Convert<F16>(raw, out);
      case DType::kI64:
        return Convert<int64_t>(raw, out);
      case DType::kI32:
        return Convert<int32_t>(raw, out);
      default:
        return InvalidArgument(fmt::format("{}found dtype {}, expected one with values", t.Where(), NameOf(dtype)));
    }
  }

 private:
  template <class T>
  static Status Convert(std::span<const uint8_t> raw, float* out) {
    const T* in = reinterpret_cast<const T*>(raw.data());
    for (size_t i = 0; i < raw.size() / sizeof(T); ++i) {
      if constexpr (std::is_arithmetic_v<T>) {
        out[i] = float(in[i]);
      } else {
        out[i] = in[i].ToFloat();
      }
    }
    return {};
  }

  const Values& v_;
  RowReader matrix_;
};

struct Sums {
  static constexpr int kLanes = 8;
  double difference[kLanes] = {}, a[kLanes] = {}, b[kLanes] = {}, product[kLanes] = {};
  float largest = 0;
};

// Lane l sums the values l (mod 8); so the order of additions does not depend on the vector width.
VX_VECTOR_WIDTHS void AddSums(const float* a, const float* b, int64_t n, Sums& s) {
  float largest[Sums::kLanes] = {};
  int64_t i = 0;
  for (; i + Sums::kLanes <= n; i += Sums::kLanes) {
    for (int l = 0; l < Sums::kLanes; ++l) {
      const double x = a[i + l], y = b[i + l], d = x - y;
      s.difference[l] += d * d;
      s.a[l] += x * x;
      s.b[l] += y * y;
      s.product[l] += x * y;
      largest[l] = std::max(largest[l], std::fabs(float(d)));
    }
  }
  for (int l = 0; i + l < n; ++l) {
    const double x = a[i + l], y = b[i + l], d = x - y;
    s.difference[l] += d * d;
    s.a[l] += x * x;
    s.b[l] += y * y;
    s.product[l] += x * y;
    largest[l] = std::max(largest[l], std::fabs(float(d)));
  }
  s.largest = *std::max_element(largest, largest + Sums::kLanes);
}

double Total(const double (&lanes)[Sums::kLanes]) {
  double total = 0;
  for (double lane : lanes) total += lane;
  return total;
}

class Comparison {
 public:
  Comparison(const CompareOptions& options, ProblemList& problems) : options_(options), problems_(problems) {}

  Result<std::vector<TensorDifference>> Run(const Source& checkpoint, const Source& reference) {
    const ValueMap a = ValuesOf(checkpoint), b = ValuesOf(reference);
    for (const auto& [name, values] : b) {
      if (!a.contains(name))
        problems_.Add(checkpoint.path(), name,
                      fmt::format("found no such tensor, expected it as in {}", reference.path()));
    }
    for (const auto& [name, values] : a) {
      const auto other = b.find(name);
      if (other == b.end()) {
        problems_.Add(reference.path(), name,
                      fmt::format("found no such tensor, expected it as in {}", checkpoint.path()));
      } else if (other->second.dims != values.dims) {
        problems_.Add(checkpoint.path(), name,
                      fmt::format("found shape {}, expected {} as in {}", DimsText(values.dims),
                                  DimsText(other->second.dims), reference.path()));
      } else {
        work_.push_back({&name, &values, &other->second});
        total_ += values.dims.Count();
      }
    }
    results_.resize(work_.size());
    ThreadPool pool(options_.threads > 0 ? options_.threads : ThreadPool::AvailableProcessors());
    pool.For(pool.threads(), 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) Work();
    });
    VX_TRY(std::move(status_));
    if (Stopped()) return Cancelled("interrupted");
    return std::move(results_);
  }

 private:
  struct Item {
    const std::string* name;
    const Values *a, *b;
  };

  bool Stopped() const { return options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed); }

  void Work() {
    Scratch scratch;
    for (size_t i; (i = next_.fetch_add(1)) < work_.size() && !Stopped() && !failed_;) {
      if (Status status = Compare(work_[i], results_[i], scratch); !status.ok()) {
        std::lock_guard lock(mutex_);
        if (status_.ok()) status_ = std::move(status);
        failed_ = true;
      }
    }
  }

  Status Compare(const Item& item, TensorDifference& out, Scratch& scratch) {
    const int64_t columns = item.a->columns(), rows = item.a->rows();
    const int64_t step = std::max<int64_t>(1, kPieceValues / std::max<int64_t>(columns, 1));
    ValueReader a(*item.a), b(*item.b);
    Sums sums;
    float largest = 0;
    out = {.name = *item.name, .count = rows * columns, .columns = columns};
    for (int64_t row = 0; row < rows && !Stopped(); row += step) {
      const int64_t count = std::min(step, rows - row), n = count * columns;
      float* const x = scratch.Floats(2, n);
      float* const y = scratch.Floats(3, n);
      VX_TRY(a.Read(row, count, x, scratch));
      VX_TRY(b.Read(row, count, y, scratch));
      AddSums(x, y, n, sums);
      if (sums.largest > largest) {
        largest = sums.largest;
        for (int64_t i = 0; i < n; ++i) {
          if (std::fabs(float(double(x[i]) - y[i])) == largest) {
            out.worst = row * columns + i;
            break;
          }
        }
      }
      Report(n);
    }
    const double d = Total(sums.difference), aa = Total(sums.a), bb = Total(sums.b);
    out.max_abs = largest;
    out.relative_rms = d == 0 ? 0 : bb > 0 ? std::sqrt(d / bb) : INFINITY;
    out.cosine = d == 0 ? 1 : aa > 0 && bb > 0 ? Total(sums.product) / std::sqrt(aa * bb) : 0;
    if (!std::isfinite(aa))
      problems_.Add(item.a->tensor->file->path(), item.a->tensor->info->name, "found values that are not finite");
    if (!std::isfinite(bb))
      problems_.Add(item.b->tensor->file->path(), item.b->tensor->info->name, "found values that are not finite");
    return {};
  }

  void Report(int64_t values) {
    const int64_t done = done_.fetch_add(values) + values;
    if (!options_.progress) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) options_.progress(done, total_);
  }

  const CompareOptions& options_;
  ProblemList& problems_;
  std::vector<Item> work_;
  std::vector<TensorDifference> results_;
  int64_t total_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  Status status_;
};

}  // namespace

Result<std::vector<TensorDifference>> CompareCheckpoints(const Source& checkpoint, const Source& reference,
                                                         const CompareOptions& options, ProblemList& problems) {
  return Comparison(options, problems).Run(checkpoint, reference);
}

}  // namespace vexil::convert
