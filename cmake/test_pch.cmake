# The precompiled header that every test reuses.
add_library(vexil_test_pch OBJECT ${CMAKE_CURRENT_LIST_DIR}/test_pch.cc)
target_link_libraries(vexil_test_pch PRIVATE vexil_options GTest::gtest)
target_compile_definitions(vexil_test_pch PRIVATE VEXIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_precompile_headers(vexil_test_pch PRIVATE <gtest/gtest.h> <cmath> <random> <string> <vector>)
