// AMX by tile number: products of BF16 pairs summed in f32. All tiles are 16 rows of 64 bytes.
//
//   TDPBF16PS: c[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1], k = 0..15 in order
//
// The compiler knows nothing of tiles: memory operands are ordered by the clobber.
#pragma once

#include <cstdint>

#define VX_TILE_LOAD(tile, p) asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(p), "r"(int64_t(64)) : "memory")
// The same for a tile that is not needed again soon: it does not displace others in the first-level cache.
#define VX_TILE_LOAD_ONCE(tile, p) \
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm" #tile : : "r"(p), "r"(int64_t(64)) : "memory")
#define VX_TILE_LOAD_STRIDED(tile, p, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_STORE(tile, p, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(p), "r"(int64_t(stride)) : "memory")
#define VX_TILE_MULTIPLY(c, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : :)
#define VX_TILE_ZERO(c) asm volatile("tilezero %%tmm" #c : : :)

namespace vexil::cpu {

inline constexpr int64_t kTileBytes = 1024;

// The same as functions, for loops over tiles.
template <int kTile>
inline void TileZero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile) :);
}
template <int kTile>
inline void TileLoad(const void* p, int64_t row_bytes = 64) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(row_bytes) : "memory");
}
template <int kTile>
inline void TileStore(void* p) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(p), "r"(int64_t(64)) : "memory");
}
template <int kC, int kA, int kB>
inline void TileMultiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB) :);
}

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
