// W8A8: the products of two int8 codes and their sum are exact, so the order does not matter and the compiler may
// vectorise as it likes.
#include "ops/linear/plain.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define VX_VECTOR_WIDTHS __attribute__((target_clones("avx2", "default")))
#else
#define VX_VECTOR_WIDTHS
#endif

namespace vexil::cpu {

VX_VECTOR_WIDTHS static int32_t Int8Dot(const int8_t* x, const int8_t* w, int64_t k) {
  int32_t sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += int32_t(x[i]) * int32_t(w[i]);
  return sum;
}

void Int8DotRows(const QuantView& x, int64_t first, int64_t n, const int8_t* w, float scale, float* y) {
  const int64_t k = x.data.dim(1);
  for (int64_t i = first; i < first + n; ++i) {
    int32_t sum = Int8Dot(x.data.Row<int8_t>(i), w, k);
    if (VX_FAULT("short_accumulator")) sum = int16_t(sum);
    *y++ = float(sum) * x.scale.Data<float>()[VX_FAULT("scale_of_first_row") ? 0 : i] * scale;
  }
}

}  // namespace vexil::cpu
