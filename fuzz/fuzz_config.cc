// Any bytes as a configuration: refused with one line, or accepted with values that fit each other.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/config.h"
#include "model/state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const vexil::Result<vexil::ModelConfig> c =
      vexil::ModelConfig::Parse(std::string_view(reinterpret_cast<const char*>(data), size), "config");
  if (!c.ok()) {
    if (c.status().message().find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  if (int64_t(c->compress_ratios.size()) != c->num_layers || c->num_heads % c->o_groups != 0) std::abort();
  const auto layout = vexil::StateLayout::For(*c, vexil::NumericsOf(vexil::NumericsMode::kFp8));
  if (layout.TailBytes() <= 0 || layout.PageBytes() < 0) std::abort();
  return 0;
}
