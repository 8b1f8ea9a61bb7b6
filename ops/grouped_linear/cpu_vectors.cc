// GroupedLinear in f32 vectors, for every format and processor.
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/product_vectors.h"

namespace vexil::cpu {

VX_PRODUCT_VECTORS_KERNELS(GroupedLinear)

}  // namespace vexil::cpu
