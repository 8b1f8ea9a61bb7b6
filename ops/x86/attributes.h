// Instruction sets for HWY_PUSH_ATTRIBUTES, as the levels of base/cpu_isa.h name them.
#pragma once

#define VX_AVX512_ATTRIBUTES "avx512f,avx512bw,avx512cd,avx512dq,avx512vl"
#define VX_AMX_ATTRIBUTES VX_AVX512_ATTRIBUTES ",avx512vbmi,avx512bf16,gfni,amx-tile,amx-bf16"
