#include <algorithm>
#include <type_traits>

#include "ops/elements.h"
#include "ops/embedding/embedding.h"
#include "ops/fault.h"

namespace vexil::cpu {

Support EmbeddingPlainSupports(const Context&, const Embedding::Args& a) {
  VX_REQUIRE(IsFloat(a.table.dtype()) || a.table.dtype() == DType::kF16, "table must be BF16, F32 or F16");
  return {};
}

template <class W, class T>
static void CopyRow(const W* row, int64_t d, T* y) {
  if constexpr (std::is_same_v<W, T>) {
    std::copy_n(row, d, y);
  } else if constexpr (std::is_same_v<W, F16>) {
    for (int64_t i = 0; i < d; ++i) y[i] = FromFloat<T>(row[i].ToFloat());
  } else {
    for (int64_t i = 0; i < d; ++i) y[i] = FromFloat<T>(ToFloat(row[i]));
  }
}

template <class W, class T>
static void Tokens(const Embedding::Args& a, int64_t begin, int64_t end) {
  const int32_t* ids = a.ids.Data<int32_t>();
  const int64_t streams = VX_FAULT("first_stream_only") ? 1 : a.y.dim(1);
  for (int64_t t = begin; t < end; ++t) {
    VX_DCHECK(ids[t] >= 0 && ids[t] < a.table.dim(0), "token id outside the table");
    const W* row = a.table.Row<W>(VX_FAULT("row_before") && ids[t] > 0 ? ids[t] - 1 : ids[t]);
    for (int64_t s = 0; s < streams; ++s) CopyRow(row, a.table.dim(1), a.y.MutRow<T>(t) + s * a.y.stride(1));
  }
}

Status EmbeddingPlain(const Context& ctx, const Embedding::Args& a) {
  WithFloatType(a.y.dtype(), [&](auto y) {
    const auto run = [&]<class W>(W) {
      ctx.For(a.ids.dim(0), 4, [&](int64_t begin, int64_t end) { Tokens<W, decltype(y)>(a, begin, end); });
    };
    a.table.dtype() == DType::kF16 ? run(F16{}) : WithFloatType(a.table.dtype(), run);
  });
  return {};
}

}  // namespace vexil::cpu
