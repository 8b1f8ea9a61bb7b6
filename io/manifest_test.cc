#include "io/manifest.h"

#include <gtest/gtest.h>

#include "io/test_files.h"

namespace vexil {
namespace {

constexpr std::string_view kText =
    R"({"version":1,"files":{"a.safetensors":{"bytes":96,"tensors":{"w":{"xxh3":"00000000000000ff","dtype":"F8_E4M3","shape":[2,3]}}}}})";

TEST(ManifestTest, RoundTrip) {
  const Manifest m = *ParseManifest(kText, "m");
  ASSERT_EQ(m.files.size(), 1u);
  EXPECT_EQ(m.files[0].bytes, 96);
  EXPECT_EQ(m.files[0].tensors[0], (ManifestTensor{"w", 255, "F8_E4M3", {2, 3}}));
  EXPECT_EQ(*ParseManifest(FormatManifest(m), "m"), m);
  const TempDir dir;
  EXPECT_EQ(CodeOf(ReadManifest(dir.path())), Code::kNotFound);
  ASSERT_TRUE(WriteManifest(dir.path(), m).ok());
  EXPECT_EQ(*ReadManifest(dir.path()), m);
}

// kText with one part replaced, and what reading it says.
TEST(ManifestTest, RefusesWithOneLine) {
  const struct {
    std::string_view from, to, message;
  } rows[] = {
      {"\"version\":1", "\"version\":2", "m: version: found 2, expected 1"},
      {"\"version\":1,", "", "m: version is missing"},
      {"\"version\":1", "\"version\":1,\"note\":1", "m: unknown member \"note\""},
      {"\"files\":{", "\"files\":{\"../x\":{},", "m: file \"../x\": expected a plain file name"},
      {"96", "-1", "m: file \"a.safetensors\": bytes: found -1, expected an integer from 0 to 2^63 - 1"},
      {"\"00000000000000ff\"", "\"ff\"",
       "m: file \"a.safetensors\": tensor \"w\": xxh3: found \"ff\", expected 16 lower-case hexadecimal digits"},
      {"\"00000000000000ff\"", "7",
       "m: file \"a.safetensors\": tensor \"w\": xxh3: found 7, expected 16 hexadecimal digits"},
      {"\"F8_E4M3\"", "9",
       "m: file \"a.safetensors\": tensor \"w\": dtype: found 9, expected the name of an element type"},
      {"[2,3]", "[2,-3]",
       "m: file \"a.safetensors\": tensor \"w\": shape: found -3, expected an integer from 0 to 2^63 - 1"},
      {"[2,3]", "[1,1,1,1,1,1,1]",
       "m: file \"a.safetensors\": tensor \"w\": shape: found a JSON array, expected a list of at most 6 sizes"},
      {"}}}}}", "}}}}", "m: line 1, column 128: missing a comma or '}' after an object member"},
  };
  for (const auto& row : rows) {
    std::string text(kText);
    text.replace(text.find(row.from), row.from.size(), row.to);
    EXPECT_EQ(ErrorOf(ParseManifest(text, "m")), row.message);
    EXPECT_EQ(CodeOf(ParseManifest(text, "m")), Code::kDataLoss);
  }
}

TEST(TensorHashTest, KnownValuesAndPieces) {
  EXPECT_EQ(TensorHash().Value(), 0x2d06800538d394c2u) << "XXH3-64 of nothing, as published";
  const std::string text(100'000, 'x');
  TensorHash hash;
  for (size_t begin = 0, size = 1; begin < text.size(); begin += size, size = 3 * size + 1) {
    hash.Update(Bytes(std::string_view(text).substr(begin, size)));
  }
  EXPECT_EQ(hash.Value(), TensorHash::Of(Bytes(text)));
}

}  // namespace
}  // namespace vexil
