// Tensors from host memory, mapped files above all, to one block of device memory.
#pragma once

#include <span>

#include "base/status.h"
#include "base/tensor.h"
#include "device/device.h"

namespace vexil {

// What a tensor takes there: its bytes, rounded up to the alignment.
int64_t BytesOnDevice(const TensorView& tensor);

// Copies the contiguous tensors to one buffer, each aligned to 256 bytes and in the order given, and makes the views
// name it. Reads with all processors into pinned memory while the part before is on its way. On an error the views are
// unchanged. kResourceExhausted when they do not fit.
Result<DeviceBuffer> Upload(Device& device, std::span<TensorView* const> tensors);

}  // namespace vexil
