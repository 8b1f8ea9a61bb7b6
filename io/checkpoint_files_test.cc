#include "io/checkpoint_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/test_files.h"

namespace vexil {
namespace {

// A file whose tensors hold one byte each, the character `mark`.
void PutTensors(const std::string& path, const std::vector<std::string>& names, char mark = 'x') {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string begin = std::to_string(i), end = std::to_string(i + 1);
    header += (i == 0 ? "\"" : ",\"") + names[i] + "\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[" + begin +
              "," + end + "]}";
  }
  Put(path, Image(header + "}", std::string(names.size(), mark)));
}

std::vector<std::string> FilesOf(const Result<CheckpointFiles>& checkpoint) {
  if (!checkpoint.ok()) return {ErrorOf(checkpoint)};
  std::vector<std::string> names;
  for (const SafetensorsFile& file : checkpoint->files()) {
    names.push_back(std::filesystem::path(file.path()).filename().string());
  }
  return names;
}
using Names = std::vector<std::string>;

// --- which files --------------------------------------------------------------------------------------------------

TEST(CheckpointFiles, OneFileByItsPath) {
  TempDir dir;
  PutTensors(dir / "f", {"a", "b"});
  const Result<CheckpointFiles> checkpoint = CheckpointFiles::Open(dir / "f");
  EXPECT_EQ(FilesOf(checkpoint), (Names{"f"}));
  EXPECT_EQ(checkpoint->path(), dir / "f");
  EXPECT_EQ(checkpoint->tensor_count(), 2u);
  EXPECT_EQ(checkpoint->rank(), 0);
  EXPECT_EQ(checkpoint->world(), 1);
}

TEST(CheckpointFiles, PrefersModelSafetensors) {
  TempDir dir;
  PutTensors(dir / "model.safetensors", {"a"});
  PutTensors(dir / "model.bf16.safetensors", {"a"});
  PutTensors(dir / "golden.safetensors", {"a"});
  EXPECT_EQ(FilesOf(CheckpointFiles::Open(dir.path())), (Names{"model.safetensors"}));
}

TEST(CheckpointFiles, TheOnlyFileOfADirectory) {
  TempDir dir;
  Put(dir / "config.json", "{}");
  PutTensors(dir / "whatever.safetensors", {"a"});
  EXPECT_EQ(FilesOf(CheckpointFiles::Open(dir.path())), (Names{"whatever.safetensors"}));
}

TEST(CheckpointFiles, ShardsWithoutAnIndex) {
  TempDir dir;
  PutTensors(dir / "model-00002-of-00002.safetensors", {"b"}, '2');
  PutTensors(dir / "model-00001-of-00002.safetensors", {"c", "a"}, '1');
  PutTensors(dir / "golden.safetensors", {"a"});
  Result<CheckpointFiles> opened = CheckpointFiles::Open(dir.path());
  EXPECT_EQ(FilesOf(opened), (Names{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}));
  const TensorInfo* b = opened->Find("b");
  const CheckpointFiles checkpoint = *std::move(opened);
  EXPECT_EQ(checkpoint.Find("b"), b) << "a move keeps the tensors";
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string_view>{"c", "a", "b"}));
  EXPECT_EQ(checkpoint.total_bytes(), 3);
  EXPECT_EQ(*b->view.Data<int8_t>(), '2');
  EXPECT_EQ(*checkpoint.Find("a")->view.Data<int8_t>(), '1');
  EXPECT_EQ(checkpoint.FileOf("b"), &checkpoint.files()[1]);
  EXPECT_EQ(checkpoint.Find("d"), nullptr);
  EXPECT_EQ(checkpoint.FileOf("d"), nullptr);
}

TEST(CheckpointFiles, RankFiles) {
  TempDir dir;
  PutTensors(dir / "model0-mp1.safetensors", {"a"});
  const Result<CheckpointFiles> single = CheckpointFiles::Open(dir.path());
  EXPECT_EQ(FilesOf(single), (Names{"model0-mp1.safetensors"}));
  EXPECT_EQ(single->world(), 1);

  TempDir split;
  PutTensors(split / "model0-mp2.safetensors", {"a"});
  PutTensors(split / "model1-mp2.safetensors", {"a"});
  const Result<CheckpointFiles> first = CheckpointFiles::Open(split.path());
  EXPECT_EQ(FilesOf(first), (Names{"model0-mp2.safetensors"}));
  EXPECT_EQ(first->rank(), 0);
  EXPECT_EQ(first->world(), 2);
  const Result<CheckpointFiles> second = CheckpointFiles::Open(split / "model1-mp2.safetensors");
  EXPECT_EQ(FilesOf(second), (Names{"model1-mp2.safetensors"}));
  EXPECT_EQ(second->rank(), 1);
  EXPECT_EQ(second->world(), 2);
}

TEST(CheckpointFiles, NamesThatOnlyLookLikeParts) {
  for (const char* name :
       {"model-1-of-1.safetensors", "model-00000-of-00001.safetensors", "model-00002-of-00001.safetensors",
        "model--0001-of-00001.safetensors", "model00-mp1.safetensors", "model1-mp1.safetensors",
        "model0-mp0.safetensors", "model0-mp99999999999.safetensors", "model0-mp4294967295.safetensors",
        "model0-mp1x.safetensors", "model-00001-of-00001-x.safetensors"}) {
    TempDir dir;
    PutTensors(dir / name, {"a"});
    const Result<CheckpointFiles> checkpoint = CheckpointFiles::Open(dir.path());
    EXPECT_EQ(FilesOf(checkpoint), (Names{name}));  // as the only file
    EXPECT_EQ(checkpoint->world(), 1);
  }
}

// The error for a directory that holds files of these names, after "DIRECTORY: ".
std::string ErrorFor(const std::vector<std::string>& names, Code code) {
  TempDir dir;
  for (const std::string& name : names) PutTensors(dir / name, {"tensor of " + name});
  const Result<CheckpointFiles> checkpoint = CheckpointFiles::Open(dir.path());
  EXPECT_EQ(CodeOf(checkpoint), code);
  const std::string message = ErrorOf(checkpoint);
  EXPECT_TRUE(message.starts_with(dir.path() + ": ")) << message;
  return message.substr(std::min(message.size(), dir.path().size() + 2));
}

TEST(CheckpointFiles, MissingParts) {
  EXPECT_EQ(ErrorFor({}, Code::kNotFound), "directory holds no .safetensors file");
  EXPECT_EQ(ErrorFor({"model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"}, Code::kNotFound),
            "model-00002-of-00003.safetensors is missing, 2 of 3 files are there");
  EXPECT_EQ(ErrorFor({"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"}, Code::kNotFound),
            "model-00003-of-00003.safetensors is missing, 2 of 3 files are there");
  EXPECT_EQ(ErrorFor({"model1-mp2.safetensors"}, Code::kNotFound),
            "model0-mp2.safetensors is missing, 1 of 2 files are there");
}

TEST(CheckpointFiles, SeveralCandidates) {
  const auto error = [](const std::string& first, const std::string& second) {
    return "found " + first + " and " + second +
           ", expected the files of one checkpoint; pass one file instead of the directory";
  };
  EXPECT_EQ(ErrorFor({"b.safetensors", "a.safetensors", "c.safetensors"}, Code::kInvalidArgument),
            error("\"a.safetensors\"", "\"b.safetensors\""));
  EXPECT_EQ(ErrorFor({"model.safetensors", "model-00001-of-00001.safetensors"}, Code::kInvalidArgument),
            error("model.safetensors", "model-00001-of-00001.safetensors"));
  EXPECT_EQ(ErrorFor({"model.safetensors", "model0-mp1.safetensors"}, Code::kInvalidArgument),
            error("model.safetensors", "model0-mp1.safetensors"));
  EXPECT_EQ(ErrorFor({"model-00001-of-00001.safetensors", "model0-mp1.safetensors"}, Code::kInvalidArgument),
            error("model-00001-of-00001.safetensors", "model0-mp1.safetensors"));
  EXPECT_EQ(ErrorFor({"model0-mp1.safetensors", "model0-mp2.safetensors"}, Code::kInvalidArgument),
            error("model0-mp1.safetensors", "model0-mp2.safetensors"));
}

TEST(CheckpointFiles, NothingThere) {
  TempDir dir;
  const Result<CheckpointFiles> missing = CheckpointFiles::Open(dir / "none");
  EXPECT_EQ(CodeOf(missing), Code::kNotFound);
  EXPECT_EQ(ErrorOf(missing), dir / "none: cannot open: No such file or directory");
}

TEST(CheckpointFiles, ADamagedFileIsNamed) {
  TempDir dir;
  PutTensors(dir / "model-00001-of-00002.safetensors", {"a"});
  Put(dir / "model-00002-of-00002.safetensors", "short");
  EXPECT_EQ(ErrorOf(CheckpointFiles::Open(dir.path())),
            dir / "model-00002-of-00002.safetensors: file has 5 bytes, a safetensors file has at least 8");
}

TEST(CheckpointFiles, ATensorInTwoFiles) {
  TempDir dir;
  PutTensors(dir / "model-00001-of-00002.safetensors", {"a", "b"});
  PutTensors(dir / "model-00002-of-00002.safetensors", {"c", "b"});
  const Result<CheckpointFiles> checkpoint = CheckpointFiles::Open(dir.path());
  EXPECT_EQ(CodeOf(checkpoint), Code::kDataLoss);
  EXPECT_EQ(ErrorOf(checkpoint), dir / "model-00002-of-00002.safetensors: tensor \"b\" is also in " +
                                     (dir / "model-00001-of-00002.safetensors"));
}

// --- with an index ------------------------------------------------------------------------------------------------

class IndexedCheckpoint : public ::testing::Test {
 protected:
  // Two files with three tensors of one byte, and a third file that no index names.
  IndexedCheckpoint() {
    PutTensors(dir_ / "one.safetensors", {"a", "b"});
    PutTensors(dir_ / "two.safetensors", {"c"});
    PutTensors(dir_ / "model.safetensors", {"a"});
  }
  Result<CheckpointFiles> OpenWith(std::string_view index) {
    Put(dir_ / "model.safetensors.index.json", index);
    return CheckpointFiles::Open(dir_.path());
  }
  // The error after the path of the index.
  std::string ErrorWith(std::string_view index, Code code) {
    const Result<CheckpointFiles> checkpoint = OpenWith(index);
    EXPECT_EQ(CodeOf(checkpoint), code);
    const std::string prefix = dir_ / "model.safetensors.index.json: ";
    const std::string message = ErrorOf(checkpoint);
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  }

  TempDir dir_;
};

TEST_F(IndexedCheckpoint, Decides) {
  for (const char* metadata : {R"("metadata": {"total_size": 3}, )", ""}) {
    const Result<CheckpointFiles> checkpoint =
        OpenWith(std::string("{") + metadata +
                 R"("weight_map": {"c": "two.safetensors", "a": "one.safetensors", "b": "one.safetensors"}})");
    EXPECT_EQ(FilesOf(checkpoint), (Names{"one.safetensors", "two.safetensors"}));
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string_view>{"a", "b", "c"}));
  }
}

TEST_F(IndexedCheckpoint, MustAgreeWithTheFiles) {
  EXPECT_EQ(ErrorWith(R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "three.safetensors"}})",
                      Code::kNotFound),
            "file \"three.safetensors\" of weight_map is missing from the directory");
  EXPECT_EQ(ErrorWith(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}})",
                      Code::kDataLoss),
            R"(weight_map places tensor "b" in "two.safetensors", it is in "one.safetensors")");
  EXPECT_EQ(ErrorWith(R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "d": "one.safetensors"}})",
                      Code::kDataLoss),
            R"(weight_map places tensor "d" in "one.safetensors", which lacks it)");
  EXPECT_EQ(ErrorWith(R"({"weight_map": {"a": "one.safetensors", "c": "two.safetensors"}})", Code::kDataLoss),
            R"(weight_map lacks tensor "b" of "one.safetensors")");
  EXPECT_EQ(ErrorWith(R"({"metadata": {"total_size": 4},
      "weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}})",
                      Code::kDataLoss),
            "metadata.total_size is 4, the tensors take 3 bytes");
}

TEST_F(IndexedCheckpoint, DamageIsNoReasonToLookElsewhere) {
  EXPECT_TRUE(ErrorWith("{", Code::kDataLoss).starts_with("line 1, column "));
  EXPECT_EQ(ErrorWith(R"({"weight_map": {"a": "../one.safetensors"}})", Code::kDataLoss),
            R"(weight_map "a": the file is "../one.safetensors", expected a plain file name)");
}

}  // namespace
}  // namespace vexil
