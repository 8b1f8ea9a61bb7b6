// AMX by tile number: products of BF16 pairs summed in f32. All tiles are 16 rows of 64 bytes.
//
//   TDPBF16PS: c[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1], k = 0..15 in order
//
// The compiler knows nothing of tiles: memory operands are ordered by the clobber.
#pragma once

#include <cstdint>

#define VX_TILE_LOAD(tile, p) asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(p), "r"(int64_t(64)) : "memory")
#define VX_TILE_LOAD_STRIDED(tile, p, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_STORE(tile, p, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_MULTIPLY(c, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : :)
#define VX_TILE_ZERO(c) asm volatile("tilezero %%tmm" #c : : :)

namespace vexil::cpu {

inline constexpr int64_t kTileBytes = 1024;

// Full tiles in all eight registers for the life of the object, on this thread.
class FullTiles {
 public:
  FullTiles() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~FullTiles() { asm volatile("tilerelease" : : :); }
  FullTiles(const FullTiles&) = delete;
  FullTiles& operator=(const FullTiles&) = delete;
};

}  // namespace vexil::cpu
