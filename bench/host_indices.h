// What a cost function reads of a call's arguments, in host memory.
//
// Op costs depend on index tensors (counts, offsets), which are in device memory when the call was made there.
#pragma once

#include <cstddef>
#include <cstring>
#include <deque>
#include <vector>

#include "device/device.h"

namespace vexil {

class HostIndices {
 public:
  explicit HostIndices(Device& device) : device_(device) {}

  // Copies the I32 tensors of the device that the object's views name, and makes the views name the copies. `object` is
  // an op's arguments: plain data in which views begin at words. Waits for the device's stream.
  Status Take(std::byte* object, size_t bytes);

 private:
  Device& device_;
  std::deque<std::vector<int32_t>> copies_;
};

}  // namespace vexil
