#include <cstring>

#include "ops/fault.h"
#include "ops/scatter_rows/scatter_rows.h"

namespace vexil::cpu {

Support ScatterRowsPlainSupports(const Context&, const ScatterRows::Args&) { return {}; }

Status ScatterRowsPlain(const Context& ctx, const ScatterRows::Args& a) {
  const int64_t element = BytesOf(a.x.dtype());
  const int64_t row_bytes = (a.x.dim(1) - (VX_FAULT("short_row") ? 1 : 0)) * element;
  const char* x = static_cast<const char*>(a.x.raw());
  char* pool = static_cast<char*>(a.pool.mut_raw());
  const int32_t* rows = a.rows.Data<int32_t>();
  ctx.For(a.x.dim(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t row = rows[i];
      if (VX_FAULT("ignored_minus_one") && row < 0) row = 0;
      if (row < 0) continue;
      VX_DCHECK(row < a.pool.dim(0), "row index beyond the pool");
      std::memcpy(pool + row * a.pool.stride(0) * element, x + i * a.x.stride(0) * element, size_t(row_bytes));
    }
  });
  return {};
}

}  // namespace vexil::cpu
