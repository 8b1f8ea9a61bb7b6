# nvcc and its static runtime, which opens the driver only when a device is asked for. CMake 3.25 knows neither sm_90a
# nor how newer toolkits are told of C++20.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_package(CUDAToolkit REQUIRED)
# Warnings of the device code are errors too; -fmad stays on: tolerances are for f32 arithmetic of any fusion.
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CUDA>:-gencode=${VEXIL_CUDA_CODE};--expt-relaxed-constexpr;-Werror=all-warnings;-Xcompiler=-Wall>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-diag-suppress=177>")
