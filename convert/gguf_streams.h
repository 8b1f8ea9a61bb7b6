// The bytes of tensors in the types of GGUF files.
#pragma once

#include <memory>
#include <vector>

#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

// Matrices of one shape, any storage, one behind the other, as F32, F16, BF16, Q8_0 or MXFP4. Exact where the type
// holds the values: E2M1 -> MXFP4 keeps codes and scales, E4M3 -> BF16 and F32 keep the values, as does BF16 -> F32.
// Rounded otherwise: to the nearest BF16 or F16, to the nearest block (base/block_formats.h).
// Filling ends with kInvalidArgument where a finite value has no finite counterpart in the type.
std::unique_ptr<TensorStream> GgufMatrixStream(std::vector<const SourceTensor*> parts, DType type);

// A plain tensor of rank 1, F32, BF16 or F16, as F32.
std::unique_ptr<TensorStream> GgufVectorStream(const SourceTensor& vector);

// A tensor of I64 or I32 as I32; kInvalidArgument for a value beyond it.
std::unique_ptr<TensorStream> GgufIndexStream(const SourceTensor& table);

}  // namespace vexil::convert
