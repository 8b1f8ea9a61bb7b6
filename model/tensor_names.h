// Names of checkpoint tensors. Inside this program a tensor has its published name (spec: checkpoint, 2);
// files may also use the older names that the published converter renames, or those of transformers.
#pragma once

#include <string>
#include <string_view>

namespace vexil {

// The published name of a tensor stored as `name` in a file. Names that follow no known rule come back as they are.
// transformers stores all experts of a layer in one tensor; those become "layers.N.ffn.experts.gate_up_proj" and
// "layers.N.ffn.experts.down_proj", which have no published name.
std::string CanonicalTensorName(std::string_view name);

}  // namespace vexil
