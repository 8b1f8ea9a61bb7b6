#include "convert/runner.h"

#include "convert/job_record.h"
#include "io/test_files.h"

namespace vexil::convert {
namespace {

// Byte i of tensor `seed` is i * 31 + seed; fails or cancels when asked to.
class Pattern : public TensorStream {
 public:
  Pattern(int seed, std::function<Status(int64_t)> before) : seed_(seed), before_(std::move(before)) {}
  Status Fill(int64_t begin, std::span<uint8_t> out, Scratch&) override {
    if (before_) VX_TRY(before_(begin));
    for (size_t i = 0; i < out.size(); ++i) out[i] = uint8_t((begin + int64_t(i)) * 31 + seed_);
    return {};
  }
  Json Notes() const override { return Json(seed_); }

 private:
  int seed_;
  std::function<Status(int64_t)> before_;
};

constexpr int64_t kRows = 1100, kCols = 1001;  // several pieces, none of them even

SafetensorsTensor Tensor(int seed, std::function<Status(int64_t)> before = nullptr) {
  return {{"t" + std::to_string(seed), DType::kI8, {kRows, kCols}}, kCols, [=] {
            return std::make_unique<Pattern>(seed, before);
          }};
}

Job MakeJob(const std::string& directory, std::function<Status(int64_t)> before_last = nullptr) {
  Job job;
  job.directory = directory;
  job.identity.Set("command", "test");
  for (int f = 0; f < 3; ++f) {
    Result<OutputFile> file = SafetensorsOutput("f" + std::to_string(f) + ".safetensors",
                                                {Tensor(2 * f), Tensor(2 * f + 1, f == 2 ? before_last : nullptr)}, {});
    EXPECT_TRUE(file.ok());
    job.files.push_back(*std::move(file));
  }
  job.small_files.push_back({"notes", [](std::span<const FileRecord> records) -> Result<std::string> {
                               std::string text;
                               for (const FileRecord& r : records) text += Json(r.notes).ToText();
                               return text;
                             }});
  return job;
}

std::map<std::string, std::string> Contents(const std::string& directory) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    out[entry.path().filename()] = Get(entry.path());
  return out;
}

TEST(Runner, WritesWhatSafetensorsReads) {
  TempDir dir;
  const Result<RunSummary> summary = RunJob(MakeJob(dir / "out"), {.threads = 3});
  ASSERT_TRUE(summary.ok()) << ErrorOf(summary);
  EXPECT_EQ(Get(dir / "out/notes"), "[0,1][2,3][4,5]");
  const Result<SafetensorsFile> file = SafetensorsFile::Open(dir / "out/f1.safetensors");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  const int8_t* data = file->Find("t3")->view.Data<int8_t>();
  for (int64_t i = 0; i < kRows * kCols; ++i) ASSERT_EQ(uint8_t(data[i]), uint8_t(i * 31 + 3)) << i;
  const Result<Manifest> manifest = ParseManifest(Get(dir / "out/vexil-manifest.json"), "m");
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->files[1].tensors[1].xxh3,
            TensorHash::Of({reinterpret_cast<const uint8_t*>(data), size_t(kRows * kCols)}));
}

TEST(Runner, ContinuesAfterAnErrorWithTheSameResult) {
  TempDir dir;
  ASSERT_TRUE(RunJob(MakeJob(dir / "want"), {.threads = 1}).ok());
  const Result<RunSummary> failed = RunJob(
      MakeJob(dir / "out", [](int64_t begin) { return begin > 0 ? DataLoss("torn") : Status(); }), {.threads = 1});
  EXPECT_EQ(ErrorOf(failed), "torn");
  EXPECT_EQ(Contents(dir / "out").size(), 3u) << "two files and the record, nothing half-written";
  // What a killed run leaves: temporaries and the beginning of a line.
  Put(dir / "out/f2.safetensors.tmp-123-4", "half");
  std::ofstream(dir / "out/.vexil-convert.jsonl", std::ios::app) << "{\"manifest\"";
  const Result<RunSummary> summary = RunJob(MakeJob(dir / "out"), {.threads = 2});
  ASSERT_TRUE(summary.ok()) << ErrorOf(summary);
  EXPECT_EQ(summary->kept_files, 2);
  EXPECT_EQ(Contents(dir / "out"), Contents(dir / "want"));
}

TEST(Runner, RepeatsNothingWhenAllIsThere) {
  TempDir dir;
  ASSERT_TRUE(RunJob(MakeJob(dir / "out"), {}).ok());
  const auto before = Contents(dir / "out");
  const Result<RunSummary> again = RunJob(MakeJob(dir / "out", [](int64_t) { return Internal("made again"); }), {});
  ASSERT_TRUE(again.ok()) << ErrorOf(again);
  EXPECT_EQ(again->kept_files, 3);
  EXPECT_EQ(Contents(dir / "out"), before);
}

TEST(Runner, LeavesNoTraceOfARunThatFinishedNoFile) {
  TempDir dir;
  Job job = MakeJob(dir / "out", [](int64_t) { return DataLoss("torn"); });
  job.files.erase(job.files.begin(), job.files.begin() + 2);
  EXPECT_FALSE(RunJob(job, {.threads = 1}).ok());
  EXPECT_FALSE(IsDirectory(dir / "out"));
}

TEST(Runner, MakesAFileOfAnotherSizeAgain) {
  TempDir dir;
  ASSERT_TRUE(RunJob(MakeJob(dir / "out"), {}).ok());
  const auto before = Contents(dir / "out");
  std::filesystem::resize_file(dir / "out/f1.safetensors", 100);
  const Result<RunSummary> again = RunJob(MakeJob(dir / "out"), {});
  ASSERT_TRUE(again.ok()) << ErrorOf(again);
  EXPECT_EQ(again->kept_files, 2);
  EXPECT_EQ(Contents(dir / "out"), before);
}

TEST(Runner, RefusesDirectoriesOfOthers) {
  TempDir dir;
  Put(dir / "mine", "text");
  EXPECT_EQ(ErrorOf(RunJob(MakeJob(dir.path()), {.overwrite = true})),
            dir.path() + ": holds \"mine\", expected an empty directory or one that this command began");
  Job other = MakeJob(dir / "out");
  other.identity.Set("command", "other");
  ASSERT_TRUE(RunJob(other, {}).ok());
  EXPECT_EQ(ErrorOf(RunJob(MakeJob(dir / "out"), {})), dir / "out" +
                                                           ": was made with command \"other\", this run has \"test\"; "
                                                           "choose another directory, or start over with --overwrite");
  Job fewer = MakeJob(dir / "out");
  fewer.files.pop_back();
  ASSERT_TRUE(RunJob(fewer, {.overwrite = true}).ok());
  EXPECT_FALSE(FileExists(dir / "out/f2.safetensors")) << "a file of the earlier job";
}

TEST(Runner, StopsWhenAsked) {
  TempDir dir;
  std::atomic<bool> cancel{false};
  const Job job = MakeJob(dir / "out", [&](int64_t begin) {
    if (begin > 0) cancel = true;
    return Status();
  });
  const Result<RunSummary> stopped = RunJob(job, {.threads = 1, .cancel = &cancel});
  EXPECT_EQ(CodeOf(stopped), Code::kCancelled);
  EXPECT_EQ(Contents(dir / "out").size(), 3u);
}

}  // namespace
}  // namespace vexil::convert
