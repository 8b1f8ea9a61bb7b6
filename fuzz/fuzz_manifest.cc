// Any text as vexil-manifest.json: an error in one line, or a manifest that survives a round trip.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "io/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const vexil::Result<vexil::Manifest> manifest = vexil::ParseManifest(text, "input");
  if (!manifest.ok()) {
    VX_CHECK(manifest.status().message().find('\n') == std::string_view::npos, "a message of several lines");
    return 0;
  }
  const std::string written = vexil::FormatManifest(*manifest);
  const vexil::Result<vexil::Manifest> again = vexil::ParseManifest(written, "written");
  VX_CHECK(again.ok() && vexil::FormatManifest(*again) == written, "a manifest does not survive writing");
  return 0;
}
