#include "io/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>

#include "io/gguf_writer.h"
#include "io/test_files.h"

namespace vexil {
namespace {

// --- images by hand ----------------------------------------------------------------------------------------------

std::string U32(uint32_t v) {
  std::string out;
  AppendGguf(out, v);
  return out;
}
std::string U64(uint64_t v) {
  std::string out;
  AppendGguf(out, v);
  return out;
}
std::string Text(std::string_view text) { return U64(text.size()) + std::string(text); }
std::string Entry(std::string_view key, uint32_t type, std::string_view value) {
  return Text(key) + U32(type) + std::string(value);
}
std::string Tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
  std::string out = Text(name) + U32(uint32_t(dims.size()));
  for (uint64_t d : dims) out += U64(d);
  return out + U32(type) + U64(offset);
}

// A file of these parts; the data is padded to 32.
std::string File(std::vector<std::string> entries, std::vector<std::string> tensors, std::string_view data) {
  std::string image = "GGUF" + U32(3) + U64(tensors.size()) + U64(entries.size());
  for (const std::string& e : entries) image += e;
  for (const std::string& t : tensors) image += t;
  image.append((32 - image.size() % 32) % 32, '\0');
  return image.append(data);
}

// Copied to aligned memory that ends where the image ends, so that a sanitizer sees every read behind it.
class Aligned {
 public:
  explicit Aligned(std::string_view image) : words_(new uint64_t[image.size() / 8 + 1]), size_(image.size()) {
    std::memcpy(words_.get(), image.data(), size_);
  }
  std::span<const uint8_t> bytes() const { return {reinterpret_cast<const uint8_t*>(words_.get()), size_}; }

 private:
  std::unique_ptr<uint64_t[]> words_;
  size_t size_;
};

std::string ErrorOfImage(const std::string& image) {
  const Aligned aligned(image);
  return ErrorOf(GgufFile::Parse(aligned.bytes(), "f"));
}
Code CodeOfImage(const std::string& image) {
  const Aligned aligned(image);
  return CodeOf(GgufFile::Parse(aligned.bytes(), "f"));
}

// --- reading -----------------------------------------------------------------------------------------------------

TEST(Gguf, MetadataOfEveryType) {
  const float pi = 3.25f;
  const double tau = 6.5;
  const Aligned image(File(
      {Entry("u8", 0, "\xff"), Entry("i8", 1, "\xff"), Entry("u16", 2, "\xff\xff"), Entry("i16", 3, "\xff\xff"),
       Entry("u32", 4, U32(~0u)), Entry("i32", 5, U32(~0u)), Entry("f32", 6, {reinterpret_cast<const char*>(&pi), 4}),
       Entry("bool", 7, "\x01"), Entry("text", 8, Text("hello")), Entry("u64", 10, U64(~0ull)),
       Entry("i64", 11, U64(~0ull)), Entry("f64", 12, {reinterpret_cast<const char*>(&tau), 8}),
       Entry("ints", 9, U32(5) + U64(3) + U32(1) + U32(~0u) + U32(7)),
       Entry("texts", 9, U32(8) + U64(2) + Text("") + Text("two")), Entry("none", 9, U32(4) + U64(0))},
      {}, ""));
  const Result<GgufFile> file = GgufFile::Parse(image.bytes(), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(file->metadata().size(), 15u);
  const auto value = [&](std::string_view key) { return *file->FindValue(key); };
  EXPECT_EQ(value("u8").Int(), 255);
  EXPECT_EQ(value("i8").Int(), -1);
  EXPECT_EQ(value("u16").Int(), 65535);
  EXPECT_EQ(value("i16").Int(), -1);
  EXPECT_EQ(value("u32").Int(), 4294967295);
  EXPECT_EQ(value("i32").Int(), -1);
  EXPECT_EQ(value("u64").Int(), std::nullopt);  // does not fit
  EXPECT_EQ(value("i64").Int(), -1);
  EXPECT_EQ(value("f32").Real(), 3.25);
  EXPECT_EQ(value("f32").Int(), std::nullopt);
  EXPECT_EQ(value("f64").Real(), 6.5);
  EXPECT_EQ(value("bool").Bool(), true);
  EXPECT_EQ(value("bool").Int(), std::nullopt);
  EXPECT_EQ(value("text").Text(), "hello");
  EXPECT_EQ(value("ints").Ints(), (std::vector<int64_t>{1, -1, 7}));
  EXPECT_EQ(value("ints").Int(), std::nullopt);
  EXPECT_EQ(value("texts").Texts(), (std::vector<std::string_view>{"", "two"}));
  EXPECT_EQ(value("none").Ints(), std::vector<int64_t>{});
  EXPECT_EQ(value("f32").NumberText(), "3.25");
  EXPECT_EQ(value("texts").Describe(), "2 x String");
  EXPECT_EQ(file->FindValue("other"), nullptr);
}

TEST(Gguf, DimsAreReversedAndBlocksCounted) {
  const std::string image = File({}, {Tensor("a", {3, 2}, 0, 0), Tensor("b", {64, 5, 2}, 39, 32)},
                                 std::string(32, 'a') + std::string(2 * 5 * 2 * 17 + 12, 'b'));
  const Aligned aligned(image);
  const Result<GgufFile> file = GgufFile::Parse(aligned.bytes(), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(file->Find("a")->dims, (Dims{2, 3}));
  EXPECT_EQ(file->Find("b")->dims, (Dims{2, 5, 2}));
  EXPECT_EQ(file->Find("b")->dtype, DType::kMXFP4);
  EXPECT_EQ(static_cast<const char*>(file->Find("b")->view.raw())[0], 'b');
  EXPECT_EQ(file->data_bytes(), 24 + 340);
}

TEST(Gguf, TheAlignmentKeyMovesTheData) {
  std::string image =
      "GGUF" + U32(2) + U64(1) + U64(1) + Entry("general.alignment", 4, U32(8)) + Tensor("a", {2}, 0, 0);
  image.append((8 - image.size() % 8) % 8, '\0');
  image += "abcdefgh";
  const Aligned aligned(image);
  const Result<GgufFile> file = GgufFile::Parse(aligned.bytes(), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(static_cast<const char*>(file->Find("a")->view.raw())[7], 'h');
  for (const char* bad : {"\0\0\0\0", "\1\0\0\0", "\4\0\0\0", "\x18\0\0\0"}) {
    EXPECT_EQ(CodeOfImage("GGUF" + U32(3) + U64(0) + U64(1) + Entry("general.alignment", 4, {bad, 4})),
              Code::kDataLoss);
  }
  EXPECT_EQ(ErrorOfImage("GGUF" + U32(3) + U64(0) + U64(1) + Entry("general.alignment", 10, U64(32))),
            "f: metadata general.alignment is 32, expected a u32 power of two from 8 to 1073741824");
}

TEST(Gguf, Refusals) {
  const std::string data(64, 'x');
  const std::pair<std::string, std::string> rows[] = {
      {"GGML" + U32(3), "f: does not begin with \"GGUF\""},
      {"GGUF" + U32(3), "f: the number of tensors at byte 8 takes 8 bytes, 0 are left"},
      {"GGUF" + U32(1) + U64(0) + U64(0), "f: found GGUF version 1, expected 2 or 3"},
      {"GGUF" + U32(4) + U64(0) + U64(0), "f: found GGUF version 4, expected 2 or 3"},
      {"GGUF" + U32(3u << 24) + U64(0) + U64(0), "f: found a big-endian file, expected little-endian"},
      {"GGUF" + U32(3) + U64(0) + U64(1ull << 60),
       "f: found 1152921504606846976 metadata entries, 0 bytes cannot hold them"},
      {"GGUF" + U32(3) + U64(1ull << 60) + U64(0),
       "f: found 1152921504606846976 tensors, 0 bytes cannot hold their table"},
      {File({Entry("a", 13, "x")}, {}, ""), "f: metadata \"a\": unknown value type 13"},
      {File({Entry("a", 7, "\2")}, {}, ""), "f: metadata \"a\": a boolean is 2, expected 0 or 1"},
      {File({Entry("a", 9, U32(9) + U64(1))}, {}, ""), "f: metadata \"a\": an array of arrays is not supported"},
      {File({Entry("a", 9, U32(77) + U64(1))}, {}, ""), "f: metadata \"a\": an array has the unknown element type 77"},
      {File({Entry("a", 9, U32(10) + U64(1ull << 61))}, {}, ""),
       "f: metadata \"a\": an array has 2305843009213693952 elements, more than any file holds"},
      {File({Entry("a", 4, U32(1)), Entry("a", 4, U32(1))}, {}, ""), "f: metadata \"a\" appears twice"},
      {File({Entry("a\n", 4, U32(1))}, {}, ""), "f: a metadata key before byte 34 is not printable ASCII"},
      {File({}, {Tensor("a", {8}, 0, 0), Tensor("a", {8}, 0, 32)}, data), "f: tensor \"a\" appears twice"},
      {File({}, {Tensor("a", {8}, 12, 0)}, data),
       "f: tensor \"a\": found tensor type Q4_K, expected one of F32, F16, Q8_0, I32, BF16, MXFP4"},
      {File({}, {Tensor("a", {8}, 4, 0)}, data), "f: tensor \"a\": unknown tensor type 4"},
      {File({}, {Tensor("a", {33}, 8, 0)}, data),
       "f: tensor \"a\": found 33 elements in a row of Q8_0, expected a multiple of 32"},
      {File({}, {Tensor("a", {}, 0, 0)}, data), "f: tensor \"a\": found 0 dimensions, expected 1 to 4"},
      {File({}, {Tensor("a", {0}, 0, 0)}, data), "f: tensor \"a\": found dimension 0, expected 1 to 2^63 - 1"},
      {File({}, {Tensor("a", {8}, 0, 32)}, data),
       "f: tensor \"a\": found offset 32, expected 0, where the tensor before it ends"},
      {File({}, {Tensor("a", {8}, 0, 0), Tensor("b", {8}, 0, 0)}, data),
       "f: tensor \"b\": found offset 0, expected 32, where the tensor before it ends"},
      {File({}, {Tensor("a", {17}, 0, 0)}, data), "f: tensor \"a\": ends at byte 68 of the data, the file has 64"},
      {File({}, {Tensor("a", {8}, 0, 0)}, data), "f: 32 bytes follow the last tensor"},
  };
  for (const auto& [image, message] : rows) EXPECT_EQ(ErrorOfImage(image), message);
  EXPECT_EQ(CodeOfImage(File({}, {Tensor("a", {8}, 12, 0)}, data)), Code::kUnsupported);
  // Products of dimensions and offsets that overflow.
  EXPECT_EQ(CodeOfImage(File({}, {Tensor("a", {1ull << 62, 1ull << 62}, 0, 0)}, data)), Code::kDataLoss);
  EXPECT_EQ(CodeOfImage(File({}, {Tensor("a", {1ull << 61}, 0, (1ull << 63) - 32)}, data)), Code::kDataLoss);
  EXPECT_EQ(CodeOfImage(File({}, {Tensor("a", {~0ull}, 0, 0)}, data)), Code::kDataLoss);
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string image = File({Entry("a", 9, U32(8) + U64(2) + Text("x") + Text("yz")), Entry("b", 8, Text("text"))},
                                 {Tensor("t", {32}, 8, 0)}, std::string(34, 'x'));
  ASSERT_EQ(ErrorOfImage(image), "no error");
  for (size_t size = 0; size < image.size(); ++size) EXPECT_NE(ErrorOfImage(image.substr(0, size)), "no error") << size;
}

// --- writing -----------------------------------------------------------------------------------------------------

TEST(GgufWriter, WhatIsWrittenIsReadBack) {
  const TempDir dir;
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const DType types[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI32, DType::kQ8_0, DType::kMXFP4};
  std::vector<TensorDeclaration> declared;
  std::vector<std::string> bytes;
  for (int i = 0; i < 40; ++i) {
    Dims dims;
    dims.rank = 1 + int(random() % kMaxGgufRank);
    for (int d = 0; d < dims.rank; ++d) dims.d[size_t(d)] = int64_t(1 + random() % 4);
    declared.push_back({"t." + std::to_string(i), types[random() % std::size(types)], dims});
    std::string& b = bytes.emplace_back(size_t(dims.Count() * BytesOf(declared.back().dtype)), '\0');
    for (char& c : b) c = char(random());
  }
  const GgufMetadata metadata = {{"u", 7u},
                                 {"f", 1e-6f},
                                 {"b", true},
                                 {"t", std::string("text")},
                                 {"i", std::vector<int32_t>{-1, 2}},
                                 {"r", std::vector<float>{0.5f}},
                                 {"s", std::vector<std::string>{"a", ""}}};
  GgufWriter writer = *GgufWriter::Create(dir / "f", declared, metadata);
  for (size_t i = 0; i < declared.size(); ++i) {
    const size_t cut = random() % (bytes[i].size() + 1);
    ASSERT_TRUE(writer.Write(declared[i].name, Bytes(bytes[i].substr(0, cut))).ok());
    if (cut == bytes[i].size()) continue;
    ASSERT_TRUE(writer.Write(declared[i].name, Bytes(bytes[i].substr(cut))).ok());
  }
  EXPECT_EQ(dir.FileCount(), 1u);  // the temporary
  ASSERT_TRUE(writer.Finish().ok());
  const Result<GgufFile> file = GgufFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  ASSERT_EQ(file->tensors().size(), declared.size());
  for (size_t i = 0; i < declared.size(); ++i) {
    const TensorInfo& t = file->tensors()[i];
    EXPECT_EQ(t.name, declared[i].name);
    EXPECT_EQ(t.dtype, declared[i].dtype);
    EXPECT_EQ(t.dims, declared[i].dims);
    EXPECT_EQ(std::string(static_cast<const char*>(t.view.raw()), size_t(t.Bytes())), bytes[i]);
  }
  EXPECT_EQ(file->FindValue("u")->Int(), 7);
  EXPECT_EQ(file->FindValue("f")->NumberText(), "1e-06");
  EXPECT_EQ(file->FindValue("b")->Bool(), true);
  EXPECT_EQ(file->FindValue("t")->Text(), "text");
  EXPECT_EQ(file->FindValue("i")->Ints(), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(file->FindValue("r")->Reals(), std::vector<double>{0.5});
  EXPECT_EQ(file->FindValue("s")->Texts(), (std::vector<std::string_view>{"a", ""}));
}

TEST(GgufWriter, Refusals) {
  const TempDir dir;
  const auto error = [&](std::vector<TensorDeclaration> tensors, GgufMetadata metadata = {}) {
    return ErrorOf(GgufWriter::Create(dir / "f", tensors, metadata)).substr(dir.path().size() + 2);
  };
  EXPECT_EQ(error({{"a", DType::kE4M3, {2}}}),
            ": tensor \"a\": found dtype F8_E4M3, expected one of F32, F16, Q8_0, I32, BF16, MXFP4");
  EXPECT_EQ(error({{"a", DType::kF32, {1, 1, 1, 1, 1}}}), ": tensor \"a\": found 5 dimensions, expected 1 to 4");
  EXPECT_EQ(error({{"a", DType::kF32, {0}}}), ": tensor \"a\": found no elements, expected at least one");
  EXPECT_EQ(error({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}), ": \"a\" appears twice");
  EXPECT_EQ(error({}, {{"a", 1u}, {"a", 2u}}), ": \"a\" appears twice");
  EXPECT_EQ(error({}, {{"general.alignment", 64u}}), ": general.alignment is the writer's to choose");
  GgufWriter writer = *GgufWriter::Create(dir / "f", std::vector<TensorDeclaration>{{"a", DType::kF32, {2}}}, {});
  EXPECT_FALSE(writer.Write("b", Bytes("xxxx")).ok());
  EXPECT_FALSE(writer.Write("a", Bytes("xxxxxxxxx")).ok());
  EXPECT_TRUE(writer.Write("a", Bytes("xxxx")).ok());
  EXPECT_FALSE(writer.Finish().ok());
  EXPECT_FALSE(FileExists(dir / "f"));
}

}  // namespace
}  // namespace vexil
