// Plants one fault (ops/fault.h) for the life of the object. One at a time, one thread.
#pragma once

#include <string_view>

namespace vexil {
class PlantedFault {
 public:
  explicit PlantedFault(std::string_view name);
  ~PlantedFault();
  PlantedFault(const PlantedFault&) = delete;
  PlantedFault& operator=(const PlantedFault&) = delete;
  bool reached() const;  // a kernel asked for this fault
};
}  // namespace vexil
