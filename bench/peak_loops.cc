// Dot products on registers, one loop per instruction class. Twelve or more independent sums hide the latency.
#include "bench/limits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace vexil {
namespace {

constexpr int kSums = 16;

bool Always() { return true; }

// The compiler's own vectors, for machines without a loop of their own.
float PortableF32(double flops) {
  constexpr int kLanes = 64;
  float sum[kLanes];
  for (int l = 0; l < kLanes; ++l) sum[l] = float(l);
  for (int64_t i = int64_t(flops / (2 * kLanes)); i > 0; --i) {
    for (float& s : sum) s = s * 0.999f + 0.5f;
  }
  float total = 0;
  for (float s : sum) total += s;
  return total;
}

#if defined(__x86_64__)

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool HasAvx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
bool HasBf16() { return HasAvx512() && __builtin_cpu_supports("avx512bf16"); }
bool HasVnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }

// Linux hands out the AMX tile registers on request.
bool HasAmx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool kGranted = [] {
    unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    const bool bf16 = edx >> 22 & 1, tile = edx >> 24 & 1;
    return bf16 && tile && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return kGranted;
}

__attribute__((target("avx2,fma"))) float Avx2(double flops) {
  __m256 sum[kSums / 2 + 4];
  constexpr int kUsed = kSums / 2 + 4;
  for (int i = 0; i < kUsed; ++i) sum[i] = _mm256_set1_ps(float(i));
  __m256 a = _mm256_set1_ps(1e-3f), b = _mm256_set1_ps(1e-2f);
  for (int64_t n = int64_t(flops / (kUsed * 8 * 2)); n > 0; --n) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (__m256& s : sum) s = _mm256_fmadd_ps(a, b, s);
  }
  for (int i = 1; i < kUsed; ++i) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  return _mm256_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bw"))) float Avx512(double flops) {
  __m512 sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_set1_ps(float(i));
  __m512 a = _mm512_set1_ps(1e-3f), b = _mm512_set1_ps(1e-2f);
  for (int64_t n = int64_t(flops / (kSums * 16 * 2)); n > 0; --n) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (__m512& s : sum) s = _mm512_fmadd_ps(a, b, s);
  }
  for (int i = 1; i < kSums; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bw,avx512bf16"))) float Bf16(double flops) {
  __m512 sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_set1_ps(float(i));
  __m512i a = _mm512_set1_epi16(0x3a83), b = _mm512_set1_epi16(0x3c24);
  for (int64_t n = int64_t(flops / (kSums * 32 * 2)); n > 0; --n) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (__m512& s : sum) s = _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
  }
  for (int i = 1; i < kSums; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) float Vnni(double flops) {
  __m512i sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_set1_epi32(i);
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (int64_t n = int64_t(flops / (kSums * 64 * 2)); n > 0; --n) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (__m512i& s : sum) s = _mm512_dpbusd_epi32(s, a, b);
  }
  for (int i = 1; i < kSums; ++i) sum[0] = _mm512_add_epi32(sum[0], sum[i]);
  return float(_mm512_cvtsi512_si32(sum[0]));
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Four accumulator tiles of 16 x 16, 32 products deep.
__attribute__((target("amx-tile,amx-bf16"))) float AmxBf16(double flops) {
  constexpr int kTiles = 4;
  const TileConfig config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  alignas(64) uint16_t values[16 * 32];
  for (uint16_t& v : values) v = 0x3c24;
  _tile_loadd(4, values, 64);
  _tile_loadd(5, values, 64);
  for (int64_t n = int64_t(flops / (kTiles * 16 * 16 * 32 * 2)); n > 0; --n) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  alignas(64) float out[16 * 16];
  _tile_stored(0, out, 64);
  _tile_release();
  return out[0];
}

constexpr PeakLoop kLoops[] = {
    {"f32 portable", true, true, &Always, &PortableF32}, {"f32 avx2 fma", true, true, &HasAvx2, &Avx2},
    {"f32 avx512 fma", true, true, &HasAvx512, &Avx512}, {"vdpbf16ps", false, true, &HasBf16, &Bf16},
    {"vpdpbusd", false, false, &HasVnni, &Vnni},         {"tdpbf16ps", false, true, &HasAmx, &AmxBf16},
};
#else
constexpr PeakLoop kLoops[] = {{"f32 portable", true, true, &Always, &PortableF32}};
#endif

}  // namespace

std::span<const PeakLoop> PeakLoops() { return kLoops; }

}  // namespace vexil
