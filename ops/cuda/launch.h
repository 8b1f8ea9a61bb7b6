// How a kernel is launched: shared by the launchers of the CUDA kernels, which take plain pointers and sizes so that
// they can be measured without the rest of the program.
#pragma once

#include <cuda_runtime.h>

#include <utility>

namespace vexil::cuda {

struct Launch {
  cudaStream_t stream = nullptr;
  int sms = 132;         // multiprocessors of the device
  bool overlap = false;  // the kernel may start before its predecessor in the stream has ended
};

// Starts `kernel`. Each device must allow a kernel more than 48 KB of shared memory once; this asks every time, which
// costs less than remembering would.
template <class... Parameters, class... Arguments>
cudaError_t Start(const Launch& launch, void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
                  Arguments&&... arguments) {
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = shared;
  config.stream = launch.stream;
  config.attrs = &overlap;
  config.numAttrs = launch.overlap ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace vexil::cuda
