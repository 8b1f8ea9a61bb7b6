// Plain loops compiled for several vector widths.
#pragma once

// In front of a function definition: the same C++ compiled for several vector widths, chosen when the program starts.
// Only for code whose result does not depend on the width. Sanitizers start too late for that mechanism.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define VX_VECTOR_WIDTHS __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define VX_VECTOR_WIDTHS
#endif
