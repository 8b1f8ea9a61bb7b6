# Reads ops/ops.inc, the one list of ops: VX_OP(Type, folder).
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ops/ops.inc)
file(STRINGS ${CMAKE_SOURCE_DIR}/ops/ops.inc vexil_op_lines REGEX "^VX_OP")
set(VEXIL_OP_SOURCES)        # all kernels and checks
set(VEXIL_OP_CUDA_SOURCES)   # kernels of the GPU builds
set(VEXIL_OP_PAIRS)          # "Type folder"
foreach(line IN LISTS vexil_op_lines)
  if(NOT line MATCHES "^VX_OP\\(([A-Za-z0-9]+), ([a-z0-9_]+)\\)$")
    message(FATAL_ERROR "ops/ops.inc: cannot read '${line}'")
  endif()
  list(APPEND VEXIL_OP_PAIRS "${CMAKE_MATCH_1} ${CMAKE_MATCH_2}")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ops/${CMAKE_MATCH_2}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cc$")
  list(APPEND VEXIL_OP_SOURCES ${sources})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ops/${CMAKE_MATCH_2}/*.cu)
  list(APPEND VEXIL_OP_CUDA_SOURCES ${sources})
endforeach()

# vexil_generate_per_op(OUT_VAR TEMPLATE): one generated file per op.
function(vexil_generate_per_op out template)
  get_filename_component(stem ${template} NAME_WE)
  set(files)
  foreach(pair IN LISTS VEXIL_OP_PAIRS)
    string(REPLACE " " ";" parts ${pair})
    list(GET parts 0 VX_OP_TYPE)
    list(GET parts 1 VX_OP_FOLDER)
    set(file ${CMAKE_BINARY_DIR}/generated/${stem}_${VX_OP_FOLDER}.cc)
    configure_file(${template} ${file} @ONLY)
    list(APPEND files ${file})
  endforeach()
  set(${out} ${files} PARENT_SCOPE)
endfunction()
