// Names, shapes and formats of a checkpoint's tensors against what its configuration calls for.
#pragma once

#include "convert/checkpoint_set.h"
#include "convert/problems.h"
#include "model/config.h"

namespace vexil::convert {

// Every tensor of the model must be in `group` with its shape and a format that its place allows, and no other
// (ModelWeights::Load has the same rules, and stops at the first fault). A rank's file is compared with its share.
void CheckStructure(const TensorGroup& group, const ModelConfig& config, ProblemList& problems);

}  // namespace vexil::convert
