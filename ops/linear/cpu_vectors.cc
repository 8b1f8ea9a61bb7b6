// Linear in f32 vectors, for every format and processor.
#include "ops/linear/linear.h"
#include "ops/linear/product_vectors.h"

namespace vexil::cpu {

VX_PRODUCT_VECTORS_KERNELS(Linear)

}  // namespace vexil::cpu
