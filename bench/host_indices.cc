#include "bench/host_indices.h"

namespace vexil {
namespace {

// Whether the words could be a view of indices on the device. A false one would need its bytes in exactly this form.
bool IsIndices(const TensorView& v, DeviceId device) {
  if (v.rank() < 1 || v.rank() > kMaxRank || v.device() != device || v.dtype() != DType::kI32) return false;
  return v.raw() != nullptr && v.stride(v.rank() - 1) == 1 && v.dims().Count() > 0;
}

}  // namespace

Status HostIndices::Take(std::byte* object, size_t bytes) {
  constexpr size_t kWord = sizeof(uintptr_t);
  for (size_t at = 0; at + sizeof(TensorView) <= bytes; at += kWord) {
    alignas(TensorView) std::byte words[sizeof(TensorView)];
    std::memcpy(words, object + at, sizeof(words));
    const TensorView& view = *reinterpret_cast<const TensorView*>(words);
    if (!IsIndices(view, device_.caps().id)) continue;
    // Rows may be padded: everything up to the end of the last one.
    int64_t last = 0;
    for (int i = 0; i < view.rank(); ++i) last += (view.dim(i) - 1) * view.stride(i);
    std::vector<int32_t>& copy = copies_.emplace_back(size_t(last + 1));
    VX_TRY(device_.CopyOut(copy.data(), view.raw(), copy.size() * sizeof(int32_t), device_.stream()));
    VX_TRY(device_.Synchronize(device_.stream()));
    // A view begins with its address.
    const void* const host = copy.data();
    std::memcpy(object + at, &host, sizeof(host));
    at += sizeof(TensorView) - kWord;
  }
  return {};
}

}  // namespace vexil
