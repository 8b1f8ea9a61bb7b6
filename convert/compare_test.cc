#include "convert/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "io/safetensors_writer.h"
#include "io/test_files.h"

namespace vexil::convert {
namespace {

const std::string kTiny = std::string(VEXIL_SOURCE_DIR) + "/models/tiny";

// Tiny with some tensors replaced.
class CompareTest : public testing::Test {
 protected:
  struct Tensor {
    TensorDeclaration declaration;
    std::string bytes;
  };
  CompareTest() {
    const SafetensorsFile file = *SafetensorsFile::Open(kTiny + "/model-00001-of-00001.safetensors");
    for (const TensorInfo& t : file.tensors()) {
      tensors_.push_back(
          {{t.name, t.dtype, t.dims}, std::string(static_cast<const char*>(t.view.raw()), size_t(t.Bytes()))});
    }
    std::filesystem::copy(kTiny + "/config.json", dir_.path());
  }
  Tensor& At(const std::string& name) {
    return *std::find_if(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.declaration.name == name; });
  }
  std::vector<TensorDifference> Compare() {
    std::vector<TensorDeclaration> declarations;
    for (const Tensor& t : tensors_) declarations.push_back(t.declaration);
    SafetensorsWriter writer = *SafetensorsWriter::Create(dir_ / "model.safetensors", declarations, {});
    for (const Tensor& t : tensors_) EXPECT_TRUE(writer.Write(t.declaration.name, Bytes(t.bytes)).ok());
    EXPECT_TRUE(writer.Finish().ok());
    ProblemList problems;
    auto source = Source::Open(dir_.path(), "");
    EXPECT_TRUE(source.ok()) << ErrorOf(source);
    const auto differences = CompareCheckpoints(**source, **Source::Open(kTiny, ""), {.threads = 2}, problems);
    EXPECT_TRUE(differences.ok()) << ErrorOf(differences);
    problems_ = problems.Take();
    return *differences;
  }
  static const TensorDifference& Of(const std::vector<TensorDifference>& list, const std::string& name) {
    return *std::find_if(list.begin(), list.end(), [&](const TensorDifference& d) { return d.name == name; });
  }

  TempDir dir_;
  std::vector<Tensor> tensors_;
  std::vector<Problem> problems_;
};

TEST_F(CompareTest, EqualAndOneValueOff) {
  for (const TensorDifference& d : Compare())
    EXPECT_TRUE(d.max_abs == 0 && d.relative_rms == 0 && d.cosine == 1 && d.worst == -1) << d.name;
  float sink[8];
  std::memcpy(sink, At("layers.1.attn.attn_sink").bytes.data(), sizeof(sink));
  double before = 0;
  for (float s : sink) before += double(s) * s;
  const float old = sink[5];
  sink[5] += 0.25f;
  std::memcpy(At("layers.1.attn.attn_sink").bytes.data(), sink, sizeof(sink));
  const auto differences = Compare();
  EXPECT_EQ(
      std::count_if(differences.begin(), differences.end(), [](const TensorDifference& d) { return d.max_abs > 0; }),
      1);
  const TensorDifference& d = Of(differences, "layers.1.attn.attn_sink");
  const double moved = double(sink[5]) - old;
  EXPECT_FLOAT_EQ(float(d.max_abs), float(moved));
  EXPECT_EQ(d.worst, 5);
  EXPECT_NEAR(d.relative_rms, moved / std::sqrt(before), 1e-12);
  EXPECT_LT(d.cosine, 1);
}

// The codes of both formats through their scales: a doubled scale doubles the values of its block, and no others.
TEST_F(CompareTest, QuantisedValues) {
  ++At("layers.2.ffn.experts.1.w1.scale").bytes[8 * 3 + 2];  // row 3, columns 64 to 95
  const auto differences = Compare();
  const TensorDifference& d = Of(differences, "layers.2.ffn.experts.1.w1.weight");
  EXPECT_EQ(
      std::count_if(differences.begin(), differences.end(), [](const TensorDifference& x) { return x.max_abs > 0; }),
      1);
  EXPECT_EQ(d.columns, 256);
  EXPECT_EQ(d.worst / 256, 3);
  EXPECT_GE(d.worst % 256, 64);
  EXPECT_LT(d.worst % 256, 96);
}

TEST_F(CompareTest, OtherNamesAndAbsentTensors) {
  At("norm.weight").declaration.name = "model.norm.weight";
  EXPECT_EQ(Of(Compare(), "norm.weight").max_abs, 0);
  EXPECT_TRUE(problems_.empty());
  const uint16_t nan = 0x7fc0;
  std::memcpy(At("embed.weight").bytes.data(), &nan, 2);
  Compare();
  ASSERT_EQ(problems_.size(), 1u);
  EXPECT_EQ(problems_[0].tensor, "embed.weight");
}

}  // namespace
}  // namespace vexil::convert
