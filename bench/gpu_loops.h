// The loops that measure an accelerator's ceilings (bench/cuda_loops.cu). Each is issued to the device's stream.
#pragma once

#include <cstddef>

#include "device/device.h"

namespace vexil::gpu {

// One pass over memory.
Status StartReadLoop(Device& device, void* memory, size_t bytes);

// Matrix instructions of all multiprocessors, for the chips that have a loop. `sink`: 4 bytes of device memory.
bool HasMatrixLoops(const DeviceCaps& caps);
double FlopsOfMatrixLoop(const DeviceCaps& caps, bool fp8);
Status StartMatrixLoop(Device& device, bool fp8, void* sink);

}  // namespace vexil::gpu
