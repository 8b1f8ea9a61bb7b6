// What the processor and the operating system let a kernel use, as levels that include the ones before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vexil {

// enumerator, name on the command line, what it takes.
#define VX_CPU_ISAS(X)                                              \
  X(kPortable, "portable", "up to SSE4 on x86-64, NEON on aarch64") \
  X(kAvx2, "avx2", "AVX2, FMA, F16C")                               \
  X(kAvx512, "avx512", "AVX-512 F, BW, CD, DQ, VL")                 \
  X(kAvx512Bf16, "avx512bf16", "AVX-512 BF16 and VBMI")             \
  X(kAmx, "amx", "AMX tiles of BF16 and INT8, GFNI, with the system's permission")

enum class CpuIsa : uint8_t {
#define X(e, name, what) e,
  VX_CPU_ISAS(X)
#undef X
};
inline constexpr CpuIsa kBestCpuIsa = CpuIsa::kAmx;

std::string_view NameOf(CpuIsa isa);
std::optional<CpuIsa> CpuIsaFromName(std::string_view name);
std::vector<std::string> CpuIsaNames();  // lowest first

// The highest level of this machine, found once. On Linux the first call asks for permission to use AMX tiles, for all
// threads of the process. Safe to call from any thread.
CpuIsa CpuIsaOfMachine();

}  // namespace vexil
