// The two tensors, codes and scales, that stand for a matrix in a quantised format. Both are made from the source's
// values on their own; the codes' stream notes how far off the result is.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/job.h"
#include "convert/source.h"

namespace vexil::convert {

enum class Target : uint8_t { kE4M3, kE2M1, kInt8 };

// "E4M3", "E2M1" or "INT8", for reports.
const char* TargetName(Target target);

// `matrix`'s codes under its name and scales under its name with .scale. E2M1 is stored as I8. Notes of the codes:
// {"format", "max_error", "rms_error", "rms", "cosine"} over all elements, errors absolute.
// kInvalidArgument: E2M1 needs a column count that is a multiple of 32.
Result<std::vector<SafetensorsTensor>> Quantized(const SourceTensor& matrix, Target target);

// FP4 -> FP8 (convert/repack.h) of a packed E2M1 matrix whose sizes are multiples of 128. Notes of the codes:
// {"repacked", "rounded"}: elements, and how many of them were not exact. A tile whose scales are too small or NaN is
// an error when its tensor is made.
Result<std::vector<SafetensorsTensor>> Repacked(const SourceTensor& matrix);

// "a.b.weight" -> "a.b.scale".
std::string ScaleNameOf(std::string_view weight);

}  // namespace vexil::convert
