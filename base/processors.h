// Which processors this process may use.
#pragma once

#include <vector>

namespace vexil {

// Logical processors of the scheduling affinity, those of one NUMA node together, at least one. Read at each call.
std::vector<int> AllowedProcessors();

// How many of them to keep busy: no more than the cgroup's quota of processor time, at least 1.
int AvailableProcessors();

// Binds the calling thread to one processor. Does nothing where the system refuses.
void PinThisThread(int processor);

}  // namespace vexil
