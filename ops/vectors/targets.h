// Which of Highway's targets a kernel source is compiled for. Include first, before <hwy/foreach_target.h>.
//
// SSE4, AVX2, AVX-512 and what the compiler is told (NEON on aarch64): one version each, to keep the compilation short.
// Vectors have a fixed size: the kernels' packs (ops/vectors/pack-inl.h) are made of a constant number of them.
#pragma once

#include <hwy/detect_targets.h>

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | (HWY_AVX3_DL - 1) | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
