# One function per kind of target, so that every target looks the same.
#
#   vexil_library(NAME io LAYER 1 SRCS a.cc b.cc DEPS base LIBS fmt::fmt)
#   vexil_test(NAME io_test SRCS a_test.cc DEPS io LABELS fast)      label: fast (default) or full
#   vexil_fuzzer(NAME fuzz_safetensors SRCS fuzz_safetensors.cc DEPS io)

set_property(GLOBAL PROPERTY JOB_POOLS link=1)
set(CMAKE_JOB_POOL_LINK link)

# How every target of ours is compiled. Floating point: no contraction, so that a*b+c rounds twice
# everywhere unless a kernel asks for an FMA by name; results then do not depend on the compiler's mood.
add_library(vexil_options INTERFACE)
target_include_directories(vexil_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(vexil_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Werror;-ffp-contract=off;-fno-math-errno>)
# g++ 12 reports std::string's own memcpy here (GCC bug 105651).
target_compile_options(vexil_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
if(VEXIL_SANITIZE)
  target_compile_options(vexil_options INTERFACE -fsanitize=${VEXIL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(vexil_options INTERFACE -fsanitize=${VEXIL_SANITIZE})
endif()
if(VEXIL_FUZZ)
  target_compile_options(vexil_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# A library may depend only on libraries of a lower layer.
function(vexil_library)
  cmake_parse_arguments(A "" "NAME;LAYER" "SRCS;DEPS;LIBS;OPTIONS;DEFINITIONS" ${ARGN})
  add_library(vexil_${A_NAME} STATIC ${A_SRCS})
  set_property(TARGET vexil_${A_NAME} PROPERTY VEXIL_LAYER ${A_LAYER})
  foreach(dep IN LISTS A_DEPS)
    get_property(dep_layer TARGET vexil_${dep} PROPERTY VEXIL_LAYER)
    if(dep_layer GREATER_EQUAL A_LAYER)
      message(FATAL_ERROR "${A_NAME} (layer ${A_LAYER}) may not depend on ${dep} (layer ${dep_layer})")
    endif()
    target_link_libraries(vexil_${A_NAME} PUBLIC vexil_${dep})
  endforeach()
  target_link_libraries(vexil_${A_NAME} PUBLIC vexil_options ${A_LIBS})
  target_compile_options(vexil_${A_NAME} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${A_OPTIONS}>)
  target_compile_definitions(vexil_${A_NAME} PRIVATE ${A_DEFINITIONS})
endfunction()

# vexil_test_limits(LABEL SECONDS test...): labels tests and says when they are stopped. Sanitizers get ten times as long.
function(vexil_test_limits label seconds)
  if(VEXIL_SANITIZE)
    math(EXPR seconds "${seconds} * 10")
  endif()
  set_tests_properties(${ARGN} PROPERTIES LABELS "${label}" TIMEOUT ${seconds})
endfunction()

function(vexil_test)
  if(NOT VEXIL_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "NO_MAIN" "NAME;TIMEOUT" "SRCS;DEPS;LIBS;LABELS;ARGS" ${ARGN})
  if(NOT A_LABELS)
    set(A_LABELS fast)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  list(TRANSFORM A_DEPS PREPEND vexil_)
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} ${A_LIBS} vexil_options GTest::gtest)
  if(NOT A_NO_MAIN)
    target_link_libraries(${A_NAME} PRIVATE GTest::gtest_main)
  endif()
  target_compile_definitions(${A_NAME} PRIVATE VEXIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  # In optimised tests g++ 12 takes inlined strings and smart pointers for mistakes (GCC bug 105651 and its kin).
  target_compile_options(${A_NAME} PRIVATE
    "$<$<AND:$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-free-nonheap-object>")
  target_precompile_headers(${A_NAME} REUSE_FROM vexil_test_pch)
  add_test(NAME ${A_NAME} COMMAND ${A_NAME} --gtest_brief=1 ${A_ARGS})
  vexil_test_limits("${A_LABELS}" ${A_TIMEOUT} ${A_NAME})
endfunction()

# Runs tests of a target once more on the simulated accelerator (testing/simulated_device.h).
function(vexil_simulated target filter)
  if(NOT VEXIL_TESTS)
    return()
  endif()
  add_test(NAME ${target}_simulated COMMAND ${target} --gtest_brief=1 --gtest_filter=${filter})
  get_test_property(${target} TIMEOUT timeout)
  set_tests_properties(${target}_simulated PROPERTIES LABELS fast TIMEOUT ${timeout} ENVIRONMENT VEXIL_TEST_DEVICE=simulated)
endfunction()

function(vexil_fuzzer)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  list(TRANSFORM A_DEPS PREPEND vexil_)
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} vexil_options)
  target_compile_options(${A_NAME} PRIVATE -fsanitize=fuzzer)
  target_link_options(${A_NAME} PRIVATE -fsanitize=fuzzer)
endfunction()
