#include "io/checkpoint_index.h"

#include <gtest/gtest.h>

#include <string>

#include "io/test_files.h"

namespace vexil {
namespace {

TEST(CheckpointIndex, KeepsTheOrder) {
  const Result<CheckpointIndex> index = ParseCheckpointIndex(
      R"({"metadata": {"total_size": 12, "other": 1}, "weight_map": {"b": "x", "a": "y.safetensors"}, "more": 1})",
      "i");
  ASSERT_TRUE(index.ok()) << ErrorOf(index);
  EXPECT_EQ(index->total_size, 12);
  EXPECT_EQ(index->weight_map, (std::vector<std::pair<std::string, std::string>>{{"b", "x"}, {"a", "y.safetensors"}}));
}

TEST(CheckpointIndex, TotalSizeIsOptional) {
  for (const char* text : {R"({"weight_map": {"a": "x"}})", R"({"metadata": {}, "weight_map": {"a": "x"}})"}) {
    const Result<CheckpointIndex> index = ParseCheckpointIndex(text, "i");
    ASSERT_TRUE(index.ok()) << ErrorOf(index);
    EXPECT_FALSE(index->total_size.has_value());
  }
}

TEST(CheckpointIndex, Errors) {
  const struct {
    std::string text, message;
  } kCases[] = {
      {"[]", "index is a JSON array, expected an object"},
      {"{}", "weight_map is missing"},
      {R"({"weight_map": []})", "weight_map is a JSON array, expected an object"},
      {R"({"weight_map": {}})", "weight_map is empty"},
      {R"({"weight_map": {"a": 1}})", R"(weight_map "a": the file is a JSON number, expected a string)"},
      {R"({"weight_map": {"a": ""}})", R"(weight_map "a": the file is "", expected a plain file name)"},
      {R"({"weight_map": {"a": "."}})", R"(weight_map "a": the file is ".", expected a plain file name)"},
      {R"({"weight_map": {"a": ".."}})", R"(weight_map "a": the file is "..", expected a plain file name)"},
      {R"({"weight_map": {"a": "../x"}})", R"(weight_map "a": the file is "../x", expected a plain file name)"},
      {R"({"weight_map": {"a": "/x"}})", R"(weight_map "a": the file is "/x", expected a plain file name)"},
      {R"({"weight_map": {"a": "d\\x"}})", R"(weight_map "a": the file is "d\\x", expected a plain file name)"},
      {R"({"weight_map": {"a": "x\u0000y"}})", R"(weight_map "a": the file is "x\u0000y", expected a plain file name)"},
      {R"({"weight_map": {"a": "x"}, "metadata": {"total_size": "1"}})",
       "metadata.total_size is a JSON string, expected an integer from 0 to 2^63 - 1"},
      {R"({"weight_map": {"a": "x"}, "metadata": {"total_size": -1}})",
       "metadata.total_size is -1, expected an integer from 0 to 2^63 - 1"},
      {R"({"weight_map": {"a": "x"}, "metadata": {"total_size": 1.5}})",
       "metadata.total_size is 1.5, expected an integer from 0 to 2^63 - 1"},
  };
  for (const auto& c : kCases) {
    const Result<CheckpointIndex> index = ParseCheckpointIndex(c.text, "i");
    EXPECT_EQ(ErrorOf(index), "i: " + c.message) << c.text;
    EXPECT_EQ(CodeOf(index), Code::kDataLoss) << c.text;
  }
}

TEST(CheckpointIndex, ATensorListedTwice) {
  const Result<CheckpointIndex> index = ParseCheckpointIndex(R"({"weight_map": {"a": "x", "a": "y"}})", "i");
  EXPECT_EQ(CodeOf(index), Code::kDataLoss);
  EXPECT_TRUE(ErrorOf(index).ends_with(R"(the member "a" is repeated)")) << ErrorOf(index);
}

}  // namespace
}  // namespace vexil
