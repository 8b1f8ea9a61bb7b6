#include "base/processors.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <utility>

namespace vexil {
namespace {

constexpr int kMaxNodes = 64;

// The node of each processor that a cpulist file ("0-3,8") names.
void ReadNode(int node, std::map<int, int>& node_of) {
  const std::string path = "/sys/devices/system/node/node" + std::to_string(node) + "/cpulist";
  std::FILE* f = std::fopen(path.c_str(), "r");
  if (f == nullptr) return;
  int first = 0, last = 0;
  while (std::fscanf(f, "%d", &first) == 1) {
    last = first;
    int separator = std::fgetc(f);
    if (separator == '-' && std::fscanf(f, "%d", &last) == 1) separator = std::fgetc(f);
    for (int cpu = first; cpu <= last; ++cpu) node_of[cpu] = node;
    if (separator != ',') break;
  }
  std::fclose(f);
}

// Processors that a quota allows, or `otherwise`. cgroup v2: "max 100000" or "150000 100000" (microseconds per period);
// v1 has the two in files of their own.
int QuotaOr(int otherwise) {
  long long quota = 0, period = 0;
  if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(f, "%lld %lld", &quota, &period) != 2) quota = 0;
    std::fclose(f);
  }
  const std::pair<const char*, long long*> v1[] = {{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota},
                                                   {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period}};
  for (const auto& [path, value] : v1) {
    std::FILE* f = std::fopen(path, "r");
    if (f == nullptr) continue;
    if (std::fscanf(f, "%lld", value) != 1) *value = 0;
    std::fclose(f);
  }
  return quota > 0 && period > 0 ? int((quota + period - 1) / period) : otherwise;
}

}  // namespace

std::vector<int> AllowedProcessors() {
  std::vector<int> allowed;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) allowed.push_back(cpu);
    }
  }
  if (allowed.empty()) {
    for (int cpu = 0; cpu < int(std::max(1u, std::thread::hardware_concurrency())); ++cpu) allowed.push_back(cpu);
  }
  std::map<int, int> node_of;
  for (int node = 0; node < kMaxNodes; ++node) ReadNode(node, node_of);
  std::stable_sort(allowed.begin(), allowed.end(), [&](int a, int b) { return node_of[a] < node_of[b]; });
  return allowed;
}

int AvailableProcessors() {
  const int count = int(AllowedProcessors().size());
  return std::max(1, std::min(count, QuotaOr(count)));
}

void PinThisThread(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  (void)sched_setaffinity(0, sizeof(set), &set);
}

}  // namespace vexil
