// The record of a sharded checkpoint's source: no input may crash the parser, and what it accepts survives a round
// trip.
#include <cstdlib>

#include "convert/source_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vexil::convert;
  const auto layout = ParseSourceLayout({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!layout.ok()) return 0;
  const std::string text = FormatSourceLayout(*layout);
  const auto again = ParseSourceLayout(text, "again");
  if (!again.ok() || FormatSourceLayout(*again) != text) std::abort();
  return 0;
}
