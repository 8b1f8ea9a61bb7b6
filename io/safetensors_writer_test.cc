#include "io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace vexil {
namespace {

Result<SafetensorsWriter> Make(const std::string& path, std::vector<TensorDeclaration> tensors) {
  return SafetensorsWriter::Create(path, std::move(tensors), {});
}

TEST(SafetensorsWriter, WritesTheFormat) {
  TempDir dir;
  SafetensorsWriter writer = *SafetensorsWriter::Create(
      dir / "f", {{"b\"", DType::kF32, {1, 2}}, {"a", DType::kE2M1x2, {3}}}, {{"format", "pt"}});
  ASSERT_TRUE(writer.Write("b\"", Bytes("01234567")).ok());
  ASSERT_TRUE(writer.Write("a", Bytes("xyz")).ok());
  EXPECT_EQ(dir.FileCount(), 1u) << "only the temporary";
  ASSERT_TRUE(writer.Finish().ok());
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b\"":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F4","shape":[6],"data_offsets":[8,11]}})";
  const std::string padding((64 - (8 + header.size()) % 64) % 64, ' ');
  EXPECT_EQ(Get(dir / "f"), Image(header + padding, "01234567xyz"));
}

TEST(SafetensorsWriter, DataBeginsOnACacheLine) {
  TempDir dir;
  for (size_t length = 1; length <= 64; ++length) {
    const std::string name(length, 'n');
    SafetensorsWriter writer = *Make(dir / "f", {{name, DType::kI64, {1}}});
    ASSERT_TRUE(writer.Write(name, Bytes("01234567")).ok());
    ASSERT_TRUE(writer.Finish().ok());
    const Result<SafetensorsFile> file = SafetensorsFile::Open(dir / "f");
    ASSERT_TRUE(file.ok()) << ErrorOf(file);
    EXPECT_EQ(file->Find(name)->begin % 64, 0);
  }
}

// --- round trip --------------------------------------------------------------------------------------------------

// Those of the format: not the blocks of GGUF.
std::vector<DType> ElementTypes() {
  std::vector<DType> types;
#define X(e, name, bytes, type) \
  if (ElementsOf(DType::e) != kBlockElements) types.push_back(DType::e);
  VX_DTYPES(X)
#undef X
  return types;
}

struct Sample {
  TensorDeclaration declaration;
  std::string bytes;
};

Sample RandomSample(std::mt19937_64& random, int i) {
  constexpr const char* kNames[] = {"layers.%.w", "quote\"%", "back\\slash%", "\n\t%", "\u00e4\u6f22%", "%"};
  static const std::vector<DType> kTypes = ElementTypes();
  std::string name = kNames[random() % std::size(kNames)];
  name.replace(name.find('%'), 1, std::to_string(i));
  Sample sample{{name, kTypes[random() % kTypes.size()], {}}, ""};
  Dims& dims = sample.declaration.dims;
  const int least = sample.declaration.dtype == DType::kE2M1x2 ? 1 : 0;
  dims.rank = least + static_cast<int>(random() % static_cast<uint64_t>(kMaxRank + 1 - least));
  for (int d = 0; d < dims.rank; ++d) dims.d[d] = static_cast<int64_t>(random() % 20 == 0 ? 0 : 1 + random() % 5);
  sample.bytes.resize(static_cast<size_t>(dims.Count() * BytesOf(sample.declaration.dtype)));
  for (char& c : sample.bytes) c = static_cast<char>(random());
  return sample;
}

// In pieces of random size, some of them empty.
Status WriteInPieces(SafetensorsWriter& writer, const Sample& sample, std::mt19937_64& random) {
  std::span<const uint8_t> left = Bytes(sample.bytes);
  while (!left.empty()) {
    const size_t piece = std::min<size_t>(left.size(), random() % 2000);
    VX_TRY(writer.Write(sample.declaration.name, left.first(piece)));
    left = left.subspan(piece);
  }
  return {};
}

TEST(SafetensorsWriter, RandomTensorsComeBack) {
  TempDir dir;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::vector<Sample> samples;
    std::vector<TensorDeclaration> declarations;
    for (int i = 0, n = static_cast<int>(random() % 30); i < n; ++i) {
      samples.push_back(RandomSample(random, i));
      declarations.push_back(samples.back().declaration);
    }
    const SafetensorsMetadata metadata{{"format", "pt"}, {"\u00e4\n", "\"\\"}};
    Result<SafetensorsWriter> writer = SafetensorsWriter::Create(dir / "f", declarations, metadata);
    ASSERT_TRUE(writer.ok()) << ErrorOf(writer);
    for (const Sample& sample : samples) ASSERT_EQ(ErrorOf(WriteInPieces(*writer, sample, random)), "no error");
    ASSERT_EQ(ErrorOf(writer->Finish()), "no error");

    const Result<SafetensorsFile> file = SafetensorsFile::Open(dir / "f");
    ASSERT_TRUE(file.ok()) << ErrorOf(file);
    EXPECT_EQ(file->metadata(), metadata);
    ASSERT_EQ(file->tensors().size(), samples.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      const Sample& sample = samples[i];
      const TensorInfo& tensor = file->tensors()[i];
      EXPECT_EQ(tensor.name, sample.declaration.name);
      EXPECT_EQ(file->Find(sample.declaration.name), &tensor);
      EXPECT_EQ(tensor.dtype, sample.declaration.dtype);
      EXPECT_EQ(tensor.dims, sample.declaration.dims);
      ASSERT_EQ(tensor.view.Bytes(), static_cast<int64_t>(sample.bytes.size()));
      EXPECT_EQ(std::memcmp(tensor.view.raw(), sample.bytes.data(), sample.bytes.size()), 0);
    }
  }
}

// --- misuse ------------------------------------------------------------------------------------------------------

TEST(SafetensorsWriter, RefusedDeclarations) {
  TempDir dir;
  const std::string f = dir / "f";
  constexpr int64_t kBig = int64_t{1} << 40;
  EXPECT_EQ(ErrorOf(Make(f, {{"t", DType::kF32, {2, -1}}})), f + ": tensor \"t\": shape[1] is -1, expected 0 or more");
  EXPECT_EQ(ErrorOf(Make(f, {{"t", DType::kF32, {kBig, kBig}}})),
            f + ": tensor \"t\": F32 [1099511627776, 1099511627776] takes more than 2^63 - 1 bytes");
  EXPECT_EQ(ErrorOf(Make(f, {{"t", DType::kI8, {INT64_MAX}}, {"u", DType::kI8, {1}}})),
            f + ": tensor \"u\": the tensors together take more than 2^63 - 1 bytes");
  EXPECT_EQ(ErrorOf(Make(f, {{"t", DType::kE2M1x2, {INT64_MAX}}})),
            f + ": tensor \"t\": E2M1x2 [9223372036854775807] has more than 2^63 - 1 codes");
  EXPECT_EQ(ErrorOf(Make(f, {{"t", DType::kE2M1x2, {}}})),
            f + ": tensor \"t\": dtype F4 needs a last dimension to pack, the shape is []");
  EXPECT_EQ(ErrorOf(Make(f, {{"__metadata__", DType::kI8, {}}})), f + ": __metadata__ cannot be the name of a tensor");
  EXPECT_EQ(CodeOf(Make(f, {{"t", DType::kI8, {}}, {"t", DType::kI8, {}}})), Code::kInvalidArgument);
  EXPECT_EQ(CodeOf(Make(f, {{"\xff", DType::kI8, {}}})), Code::kInvalidArgument);
  EXPECT_EQ(dir.FileCount(), 0u);
}

TEST(SafetensorsWriter, BytesMustFollowTheDeclarations) {
  TempDir dir;
  const std::string f = dir / "f";
  SafetensorsWriter writer = *Make(f, {{"a", DType::kI8, {2}}, {"none", DType::kI8, {0}}, {"b", DType::kI8, {1}}});
  EXPECT_EQ(ErrorOf(writer.Write("b", Bytes("x"))), f + ": bytes for tensor \"b\", expected \"a\"");
  EXPECT_EQ(ErrorOf(writer.Write("a", Bytes("xxx"))), f + ": 3 bytes for tensor \"a\", expected 2");
  ASSERT_TRUE(writer.Write("a", Bytes("x")).ok());
  EXPECT_EQ(ErrorOf(writer.Write("b", Bytes("x"))), f + ": bytes for tensor \"b\", expected \"a\"");
  EXPECT_EQ(ErrorOf(writer.Finish()), f + ": tensor \"a\" lacks 1 bytes");
  ASSERT_TRUE(writer.Write("a", Bytes("x")).ok());
  EXPECT_EQ(ErrorOf(writer.Write("a", Bytes("x"))), f + ": 1 bytes for tensor \"a\", expected 0");
  ASSERT_TRUE(writer.Write("b", Bytes("y")).ok());
  EXPECT_EQ(ErrorOf(writer.Write("c", Bytes("x"))), f + ": bytes for tensor \"c\", expected no more tensors");
  ASSERT_TRUE(writer.Finish().ok());
  EXPECT_TRUE(Get(f).ends_with("xxy"));
}

TEST(SafetensorsWriter, UnfinishedFilesDoNotAppear) {
  TempDir dir;
  {
    SafetensorsWriter writer = *Make(dir / "f", {{"a", DType::kI8, {2}}});
    ASSERT_TRUE(writer.Write("a", Bytes("x")).ok());
    EXPECT_FALSE(writer.Finish().ok());
  }
  EXPECT_EQ(dir.FileCount(), 0u);
}

}  // namespace
}  // namespace vexil
