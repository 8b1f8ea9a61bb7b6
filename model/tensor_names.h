// Names of checkpoint tensors. Inside this program a tensor has its published name (spec: checkpoint, 2);
// files may also use the older names that the published converter renames, or those of transformers or GGUF.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vexil {

// The published name of a tensor stored as `name` in a file. Names that follow no known rule come back as they are.
// transformers stores all experts of a layer in one tensor; those become "layers.N.ffn.experts.gate_up_proj" and
// "layers.N.ffn.experts.down_proj", which have no published name.
// GGUF does too, in one tensor for each of w1, w3 and w2: "layers.N.ffn.experts.w1.weight" and so on.
std::string CanonicalTensorName(std::string_view name);

// Between published names (and those of stacked experts, above) and GGUF's; nullopt for tensors that have none there.
std::optional<std::string> GgufTensorName(std::string_view published);
std::optional<std::string> PublishedNameOfGguf(std::string_view gguf);

}  // namespace vexil
