// Broken invariants. Never for data that comes from outside: that is a Status (base/status.h).
#pragma once

#include <cstdio>
#include <cstdlib>

namespace vexil {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* cond, const char* what) {
  std::fprintf(stderr, "%s:%d: VX_CHECK(%s) failed: %s\n", file, line, cond, what);
  std::abort();
}
}  // namespace vexil

// Aborts with the place and the sentence `what` (a literal) when `cond` is false.
#define VX_CHECK(cond, what) ((cond) ? (void)0 : ::vexil::CheckFailed(__FILE__, __LINE__, #cond, what))
#ifdef NDEBUG
#define VX_DCHECK(cond, what) ((void)sizeof((cond) ? 1 : 0))
#else
#define VX_DCHECK(cond, what) VX_CHECK(cond, what)
#endif
