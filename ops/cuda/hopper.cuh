// The instructions of Hopper (sm_90a) that C++ has no name for: barriers in shared memory, bulk copies, matrix
// instructions, and the conversions between the storage formats and what those instructions take.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vexil::cuda {

__device__ inline uint32_t SharedAddress(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// ---- barriers in shared memory ----

__device__ inline void BarrierInit(uint64_t* bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(bar)), "r"(arrivals));
}
// Makes initialised barriers visible to the copy engine.
__device__ inline void FenceBarrierInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// Orders this thread's ordinary writes to shared memory before reads by the tensor cores or the copy engine.
__device__ inline void FenceAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void BarrierArrive(uint64_t* bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(bar)) : "memory");
}
__device__ inline void BarrierArriveExpect(uint64_t* bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(bar)), "r"(bytes)
               : "memory");
}
__device__ inline void BarrierWait(uint64_t* bar, uint32_t parity) {
  asm volatile(
      "{\n\t.reg .pred done;\n"
      "wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
      "@!done bra wait;\n\t}" ::"r"(SharedAddress(bar)),
      "r"(parity)
      : "memory");
}
// A barrier among `threads` threads of the block.
template <int kId, int kThreads>
__device__ inline void NamedBarrier() {
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}
// Counts as one of them without waiting.
template <int kId, int kThreads>
__device__ inline void NamedBarrierArrive() {
  asm volatile("bar.arrive %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}
__device__ inline void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// A position in a ring of stages, with the parity of the barrier phase to wait for.
template <int kStages>
struct RingPosition {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// ---- copies to shared memory ----

// `bytes` (a multiple of 16) from global memory; `bar` counts them.
__device__ inline void BulkCopy(uint32_t to, const void* from, uint32_t bytes, uint64_t* bar, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(SharedAddress(bar)), "l"(policy)
      : "memory");
}
// What is read once, as weights are, need not stay in the second-level cache.
__device__ inline uint64_t EvictFirstPolicy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline void TensorCopy2D(void* to, const void* map, int x, int y, uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(SharedAddress(to)),
      "l"(map), "r"(SharedAddress(bar)), "r"(x), "r"(y)
      : "memory");
}
// 16 bytes, or zeros where !valid.
__device__ inline void CopyAsync16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void CopyAsync16(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void CopyAsync4(uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
// `bar` gets one arrival when the asynchronous copies that this thread has started are complete.
__device__ inline void BarrierArriveAfterCopies(uint64_t* bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(bar)) : "memory");
}
__device__ inline void CopyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- launches that overlap their predecessor's end (programmatic dependent launch) ----

__device__ inline void WaitForPredecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ inline void LetSuccessorStart() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- conversions ----

// Two E4M3 codes (low byte first) to f16; exact.
__device__ inline uint32_t F16x2FromE4M3x2(uint16_t codes) {
  uint32_t h;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"(codes));
  return h;
}
// Two floats to E4M3, nearest, saturating; a in the low byte.
__device__ inline uint16_t E4M3x2FromF32(float a, float b) {
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(b), "f"(a));
  return codes;
}
// 2^(b - 127); b = 0 is 2^-127, b = 255 is NaN.
__device__ inline float F32FromE8M0(uint32_t b) {
  return __uint_as_float(b == 0 ? 0x00400000u : b == 255 ? 0x7fc00000u : b << 23);
}
__device__ inline uint32_t PackBF16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
__device__ inline float BF16Low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float BF16High(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ inline float RoundToBF16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

// Bytes of `low` and `high` (0 .. 3, 4 .. 7) by the nibbles of `select`; a nibble's top bit asks for the byte's sign,
// repeated, instead. (__byte_perm ignores that bit.)
__device__ inline uint32_t PermuteBytes(uint32_t low, uint32_t high, uint32_t select) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(low), "r"(high), "r"(select));
  return r;
}

// Eight E2M1 codes (k = 0 .. 7, ascending nibbles) to E4M3 codes of 2^-6 times their value: `even` holds k = 0, 2, 4,
// 6, `odd` k = 1, 3, 5, 7. The bits are moved only: exponent 0 .. 3 and the mantissa bit land in E4M3's lowest
// exponents, and the half (exponent 0, mantissa 1) becomes the subnormal of the same value.
__device__ inline void E4M3FromE2M1(uint32_t codes, uint32_t& even, uint32_t& odd) {
  even = ((codes << 4) & 0x80808080u) | ((codes << 2) & 0x1c1c1c1cu);
  odd = (codes & 0x80808080u) | ((codes >> 2) & 0x1c1c1c1cu);
}

// ---- matrix instructions of a warp ----

// d[16 x 8] += a[16 x 16] * b[16 x 8], f32 accumulators.
__device__ inline void MmaF16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline void MmaBF16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                               uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// ---- matrix instructions of a warpgroup ----

// Describes a K-major operand tile whose rows are 128 bytes, swizzled in groups of 8 rows (1024 bytes, aligned).
__device__ inline uint64_t SwizzledTile(const void* p) {
  return ((SharedAddress(p) & 0x3ffff) >> 4) | (uint64_t(1) << 16) | (uint64_t(1024 >> 4) << 32) | (uint64_t(1) << 62);
}
// Describes an operand [K, N] whose rows are contiguous, as tiles of 64 columns (128 bytes, swizzled in groups of 8
// rows), one `tile_bytes` after the other.
__device__ inline uint64_t SwizzledColumns(const void* p, int tile_bytes) {
  return ((SharedAddress(p) & 0x3ffff) >> 4) | (uint64_t(tile_bytes >> 4) << 16) | (uint64_t(1024 >> 4) << 32) |
         (uint64_t(1) << 62);
}
__device__ inline void WarpgroupFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void WarpgroupCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void WarpgroupWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <int kRegisters>
__device__ inline void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Operands of wgmma: the registers %0 ... of a thread's accumulators, by name and bound to d[0] ...
#define VX_ACC4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define VX_ACC16(i) VX_ACC4(i), VX_ACC4((i) + 4), VX_ACC4((i) + 8), VX_ACC4((i) + 12)
#define VX_ACC32(i) VX_ACC16(i), VX_ACC16((i) + 16)
#define VX_ACC64(i) VX_ACC32(i), VX_ACC32((i) + 32)
#define VX_ACC128 VX_ACC64(0), VX_ACC64(64)
#define VX_REGISTERS16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define VX_REGISTERS32 \
  VX_REGISTERS16       \
  ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define VX_REGISTERS64                                               \
  VX_REGISTERS32                                                     \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
  ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define VX_REGISTERS128                                                          \
  VX_REGISTERS64                                                                 \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"             \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"             \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// d[64 x 128] = (keep ? d : 0) + a[64 x 32] * b[128 x 32]^T, E4M3 operands in shared memory.
__device__ inline void WgmmaE4M3N128(float (&d)[64], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {" VX_REGISTERS64 "}, %64, %65, p, 1, 1;\n\t}"
      : VX_ACC64(0)
      : "l"(a), "l"(b), "r"(int(keep)));
}
// d[64 x 32] = (keep ? d : 0) + a[64 x 16] * b[32 x 16]^T, BF16 operands in shared memory.
__device__ inline void WgmmaBF16N32(float (&d)[16], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %18, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" VX_REGISTERS16 "}, %16, %17, p, 1, 1, 0, 0;\n\t}"
      : VX_ACC16(0)
      : "l"(a), "l"(b), "r"(int(keep)));
}
// d[64 x 256] = (keep ? d : 0) + a[64 x 16] * b[16 x 256]: the rows of b are contiguous, see SwizzledColumns.
__device__ inline void WgmmaBF16N256(float (&d)[128], uint64_t a, uint64_t b, bool keep) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %130, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" VX_REGISTERS128 "}, %128, %129, p, 1, 1, 0, 1;\n\t}"
      : VX_ACC128
      : "l"(a), "l"(b), "r"(int(keep)));
}

}  // namespace vexil::cuda
