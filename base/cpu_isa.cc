#include "base/cpu_isa.h"

#include <initializer_list>
#include <iterator>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace vexil {
namespace {

constexpr std::string_view kNames[] = {
#define X(e, name, what) name,
    VX_CPU_ISAS(X)
#undef X
};

#if defined(__x86_64__)
struct Cpuid {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  Cpuid(uint32_t leaf, uint32_t sub) { __get_cpuid_count(leaf, sub, &a, &b, &c, &d); }
};
constexpr bool HasBits(uint64_t v, std::initializer_list<int> bits) {
  for (int b : bits) {
    if (!(v >> b & 1)) return false;
  }
  return true;
}

// Register state that the system saves: bits of XCR0.
uint64_t SavedState() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

// Linux hands out the 8 KB of tile state on request only (arch_prctl(2)).
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Bit numbers: Intel SDM, volume 2A, CPUID.
CpuIsa Find() {
  const Cpuid basic(1, 0), extended(7, 0), more(7, 1);
  constexpr int kFma = 12, kOsXsave = 27, kF16c = 29, kAvx2Bit = 5;
  if (!HasBits(basic.c, {kFma, kOsXsave, kF16c}) || !HasBits(extended.b, {kAvx2Bit})) return CpuIsa::kPortable;
  const uint64_t saved = SavedState();
  if (!HasBits(saved, {1, 2})) return CpuIsa::kPortable;
  constexpr int kF = 16, kDq = 17, kCd = 28, kBw = 30, kVl = 31;
  if (!HasBits(saved, {5, 6, 7}) || !HasBits(extended.b, {kF, kDq, kCd, kBw, kVl})) return CpuIsa::kAvx2;
  constexpr int kVbmi = 1, kBf16 = 5;
  if (!HasBits(extended.c, {kVbmi}) || !HasBits(more.a, {kBf16})) return CpuIsa::kAvx512;
  constexpr int kGfni = 8, kAmxBf16 = 22, kAmxTile = 24, kAmxInt8 = 25;
  if (!HasBits(extended.c, {kGfni}) || !HasBits(extended.d, {kAmxBf16, kAmxTile, kAmxInt8})) return CpuIsa::kAvx512Bf16;
  if (!HasBits(saved, {17, 18}) || !MayUseTiles()) return CpuIsa::kAvx512Bf16;
  return CpuIsa::kAmx;
}
#else
CpuIsa Find() { return CpuIsa::kPortable; }
#endif

}  // namespace

std::string_view NameOf(CpuIsa isa) { return kNames[size_t(isa)]; }

std::optional<CpuIsa> CpuIsaFromName(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == name) return CpuIsa(i);
  }
  return std::nullopt;
}

std::vector<std::string> CpuIsaNames() { return {std::begin(kNames), std::end(kNames)}; }

CpuIsa CpuIsaOfMachine() {
  static const CpuIsa kIsa = Find();
  return kIsa;
}

}  // namespace vexil
