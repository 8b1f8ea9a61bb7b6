#include "io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "io/test_files.h"

namespace vexil {
namespace {

std::string_view Text(const MappedFile& map) {
  return {reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()};
}

TEST(MappedFile, ShowsTheBytes) {
  TempDir dir;
  const std::string text(10000, 'x');
  Put(dir / "f", text);
  Result<MappedFile> map = MappedFile::Open(dir / "f");
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(Text(*map), text);
}

TEST(MappedFile, MovesKeepTheAddress) {
  TempDir dir;
  Put(dir / "f", "abc");
  Put(dir / "g", "other");
  MappedFile a = *MappedFile::Open(dir / "f");
  const uint8_t* address = a.bytes().data();
  MappedFile b = std::move(a);
  EXPECT_EQ(b.bytes().data(), address);
  MappedFile c = *MappedFile::Open(dir / "g");
  c = std::move(b);
  EXPECT_EQ(c.bytes().data(), address);
  EXPECT_EQ(Text(c), "abc");
}

TEST(MappedFile, EmptyFile) {
  TempDir dir;
  Put(dir / "f", "");
  Result<MappedFile> map = MappedFile::Open(dir / "f");
  ASSERT_TRUE(map.ok());
  EXPECT_TRUE(map->bytes().empty());
  map->AdviseWillNeed(0, 1);
}

TEST(MappedFile, HintsTakeAnyRange) {
  TempDir dir;
  Put(dir / "f", std::string(10000, 'x'));
  const MappedFile map = *MappedFile::Open(dir / "f");
  for (const size_t offset : {size_t{0}, size_t{1}, size_t{4097}, size_t{9999}, size_t{10000}, SIZE_MAX}) {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{10000}, SIZE_MAX}) {
      map.AdviseWillNeed(offset, size);
    }
  }
  EXPECT_EQ(Text(map), std::string(10000, 'x'));
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  TempDir dir;
  Result<MappedFile> missing = MappedFile::Open(dir / "none");
  EXPECT_EQ(CodeOf(missing), Code::kNotFound);
  EXPECT_EQ(ErrorOf(missing), dir / "none: cannot open: No such file or directory");
  EXPECT_EQ(ErrorOf(MappedFile::Open(dir.path())), dir.path() + ": not a regular file");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(ErrorOf(MappedFile::Open(dir / "pipe")),
            dir / "pipe: not a regular file");  // and does not wait for a writer
}

TEST(ReadWholeFile, UpToTheLimit) {
  TempDir dir;
  const std::string text(5000, 'y');
  Put(dir / "f", text);
  EXPECT_EQ(*ReadWholeFile(dir / "f", 1 << 30), text);
  EXPECT_EQ(*ReadWholeFile(dir / "f", 5000), text);
  Result<std::string> longer = ReadWholeFile(dir / "f", 4999);
  EXPECT_EQ(CodeOf(longer), Code::kInvalidArgument);
  EXPECT_EQ(ErrorOf(longer), dir / "f: file has more than 4999 bytes");
  Put(dir / "empty", "");
  EXPECT_EQ(*ReadWholeFile(dir / "empty", 0), "");
}

TEST(ReadWholeFile, PipesReportNoSize) {
  TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  const std::string text(100000, 'z');
  for (const int64_t limit : {int64_t{1} << 20, int64_t{100000}, int64_t{99999}}) {
    std::thread writer([&] { Put(dir / "pipe", text); });
    // The writer must not be stopped by the signal that a reader sends when it gives up.
    std::signal(SIGPIPE, SIG_IGN);
    const Result<std::string> read = ReadWholeFile(dir / "pipe", limit);
    writer.join();
    if (limit >= 100000) {
      EXPECT_EQ(*read, text);
    } else {
      EXPECT_EQ(ErrorOf(read), dir / "pipe: file has more than 99999 bytes");
    }
  }
  std::signal(SIGPIPE, SIG_DFL);
}

TEST(ReadWholeFile, Errors) {
  TempDir dir;
  EXPECT_EQ(ErrorOf(ReadWholeFile(dir / "none", 10)), dir / "none: cannot open: No such file or directory");
  EXPECT_EQ(ErrorOf(ReadWholeFile(dir.path(), 10)), dir.path() + ": cannot read: Is a directory");
}

TEST(Paths, Kinds) {
  TempDir dir;
  Put(dir / "f", "");
  EXPECT_TRUE(FileExists(dir / "f"));
  EXPECT_FALSE(IsDirectory(dir / "f"));
  EXPECT_FALSE(FileExists(dir.path()));
  EXPECT_TRUE(IsDirectory(dir.path()));
  EXPECT_FALSE(FileExists(dir / "none"));
  EXPECT_FALSE(IsDirectory(dir / "none"));
}

TEST(Paths, ListDirectoryIsSorted) {
  TempDir dir;
  for (const char* name : {"b", "a", ".c", "B"}) Put(dir / name, "");
  EXPECT_EQ(*ListDirectory(dir.path()), (std::vector<std::string>{".c", "B", "a", "b"}));
  Result<std::vector<std::string>> missing = ListDirectory(dir / "none");
  EXPECT_EQ(CodeOf(missing), Code::kNotFound);
  EXPECT_EQ(ErrorOf(missing), dir / "none: cannot list the directory: No such file or directory");
}

TEST(AtomicFile, AppearsOnCommit) {
  TempDir dir;
  Put(dir / "f", "old");
  AtomicFile file = *AtomicFile::Create(dir / "f");
  ASSERT_TRUE(file.Write("new ").ok());
  ASSERT_TRUE(file.Write(Bytes("bytes")).ok());
  EXPECT_EQ(Get(dir / "f"), "old");
  ASSERT_TRUE(file.Commit().ok());
  EXPECT_EQ(Get(dir / "f"), "new bytes");
  EXPECT_EQ(dir.FileCount(), 1u);
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  TempDir dir;
  Put(dir / "f", "old");
  {
    AtomicFile file = *AtomicFile::Create(dir / "f");
    ASSERT_TRUE(file.Write("new").ok());
    EXPECT_EQ(dir.FileCount(), 2u);
    AtomicFile moved = std::move(file);
    EXPECT_EQ(dir.FileCount(), 2u);
  }
  EXPECT_EQ(Get(dir / "f"), "old");
  EXPECT_EQ(dir.FileCount(), 1u);
}

TEST(AtomicFile, ReplacesNothingButFiles) {
  TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", dir / "link");
  for (const std::string& path : {dir / "pipe", dir / "link"}) {
    EXPECT_EQ(ErrorOf(AtomicFile::Create(path)), path + ": cannot write: it is not a regular file");
  }
  EXPECT_EQ(ErrorOf(AtomicFile::Create(dir.path())), dir.path() + ": cannot write: it is a directory");
  EXPECT_EQ(ErrorOf(AtomicFile::Create("")), "cannot write: the path is empty");
  EXPECT_EQ(dir.FileCount(), 2u);
}

TEST(AtomicFile, HasThePermissionsOfAnyOtherFile) {
  TempDir dir;
  AtomicFile file = *AtomicFile::Create(dir / "f");
  ASSERT_TRUE(file.Commit().ok());
  Put(dir / "g", "");
  EXPECT_EQ(std::filesystem::status(dir / "f").permissions(), std::filesystem::status(dir / "g").permissions());
}

TEST(AtomicFile, TwoWritersOfOneTargetDoNotMix) {
  TempDir dir;
  AtomicFile a = *AtomicFile::Create(dir / "f");
  AtomicFile b = *AtomicFile::Create(dir / "f");
  ASSERT_TRUE(a.Write("aaaa").ok());
  ASSERT_TRUE(b.Write("bb").ok());
  ASSERT_TRUE(a.Commit().ok());
  ASSERT_TRUE(b.Commit().ok());
  EXPECT_EQ(Get(dir / "f"), "bb");
  EXPECT_EQ(dir.FileCount(), 1u);
}

TEST(AtomicFile, CreateErrors) {
  TempDir dir;
  Result<AtomicFile> no_folder = AtomicFile::Create(dir / "none/f");
  EXPECT_EQ(CodeOf(no_folder), Code::kNotFound);
  EXPECT_EQ(ErrorOf(no_folder), dir / "none/f: cannot create a temporary file beside it: No such file or directory");
  EXPECT_EQ(ErrorOf(AtomicFile::Create(dir.path())), dir.path() + ": cannot write: it is a directory");
}

TEST(AtomicFile, RunningOutOfSpace) {
  TempDir dir;
  Put(dir / "f", "old");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  AtomicFile file = *AtomicFile::Create(dir / "f");
  const Status status = file.Write(std::string(5000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_DFL);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(ErrorOf(status), dir / "f: cannot write: File too large");
  EXPECT_EQ(Get(dir / "f"), "old");
  EXPECT_EQ(dir.FileCount(), 1u);
}

TEST(AtomicFile, TargetThatBecameADirectory) {
  TempDir dir;
  AtomicFile file = *AtomicFile::Create(dir / "f");
  std::filesystem::create_directory(dir / "f");
  EXPECT_EQ(ErrorOf(file.Commit()), dir / "f: cannot put in place: Is a directory");
  EXPECT_EQ(dir.FileCount(), 1u);
}

}  // namespace
}  // namespace vexil
