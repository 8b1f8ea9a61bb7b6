// Any bytes as a GGUF file: an error, or metadata and tensors whose bytes are all inside; then its configuration.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "io/gguf.h"
#include "model/gguf_config.h"

namespace {

// Reads every byte of a value in every way that there is.
void ReadAll(const vexil::GgufValue& v) {
  (void)v.Describe();
  (void)v.Int();
  (void)v.Real();
  (void)v.Bool();
  (void)v.NumberText();
  size_t bytes = v.Text().value_or("").size();
  for (int64_t i : v.Ints().value_or(std::vector<int64_t>{})) bytes += i != 0;
  for (double d : v.Reals().value_or(std::vector<double>{})) bytes += d != 0;
  for (std::string_view t : v.Texts().value_or(std::vector<std::string_view>{}))
    bytes += t.size() + (t.empty() ? 0 : t.back() != 0);
  VX_CHECK(bytes < SIZE_MAX, "cannot happen: keeps the reads");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Aligned, and as long as the input, so that reading behind it is noticed.
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size]);
  if (size != 0) std::memcpy(copy.get(), data, size);
  const vexil::Result<vexil::GgufFile> file = vexil::GgufFile::Parse({copy.get(), size}, "input");
  if (!file.ok()) return 0;
  for (const vexil::GgufEntry& entry : file->metadata()) {
    VX_CHECK(file->FindValue(entry.key) == &entry.value, "an entry is not found by its key");
    ReadAll(entry.value);
  }
  int64_t end = 0;
  for (const vexil::TensorInfo& t : file->tensors()) {
    VX_CHECK(file->Find(t.name) == &t, "a tensor is not found by its name");
    VX_CHECK(t.begin >= end && t.end <= int64_t(size), "a tensor overlaps another or leaves the file");
    VX_CHECK(t.view.raw() == copy.get() + t.begin && t.view.Bytes() == t.Bytes(), "the view shows other bytes");
    end = t.end;
  }
  (void)vexil::ReadGgufConfig(*file);
  return 0;
}
