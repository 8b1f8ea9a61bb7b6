// Files as a whole: read-only mappings, bounded reads, outputs that appear complete or not at all.
//
// Error messages read "PATH: cannot open: No such file or directory". Codes: kNotFound (no such file),
// kResourceExhausted (disk, memory or descriptors used up), kDataLoss (the medium failed), kInvalidArgument (other).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace vexil {

// True when `path` names a regular file or a directory; links are followed. False when it cannot be told.
bool FileExists(const std::string& path);
bool IsDirectory(const std::string& path);

// The names (not paths) of everything in a directory except "." and "..", in byte order.
Result<std::vector<std::string>> ListDirectory(const std::string& path);

// Makes the directory and those above it. No error when it is there.
Status MakeDirectories(const std::string& path);

// Bytes that this process may still write to the file system of an existing path.
Result<int64_t> FreeDiskBytes(const std::string& path);

// Removes the file; no error when there is none.
Status RemoveFile(const std::string& path);

// Removes what AtomicFile left of the target `name` in `directory` when its process was killed. No writer of that
// target may be at work.
Status RemoveStaleTemporaries(const std::string& directory, std::string_view name);

// `name` inside the folder `directory`.
std::string JoinPath(std::string_view directory, std::string_view name);

// All bytes of a file or pipe. More than `max_bytes` of them is kInvalidArgument; memory stays within that bound.
Result<std::string> ReadWholeFile(const std::string& path, int64_t max_bytes);

// Held by one process at a time, from Acquire() to destruction or death. Move-only.
class DirectoryLock {
 public:
  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&& other) noexcept;
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock();

  // kInvalidArgument when another process holds it.
  static Result<DirectoryLock> Acquire(const std::string& directory);

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

// A whole regular file, mapped read-only. Move-only; a move keeps the address. Safe to read from several threads.
//
// The contract ends where another process changes the file: one that shrinks while mapped raises SIGBUS on access,
// one that is overwritten shows the bytes of either version. Replace model files by renaming, never in place.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // An empty file gives an empty span. Directories, pipes and devices are kInvalidArgument.
  static Result<MappedFile> Open(const std::string& path);

  // Starts at a page boundary.
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

  // A hint to the kernel to start reading a byte range of the file, widened to whole pages. It never fails: a kernel
  // that ignores it only costs time.
  void AdviseWillNeed(size_t offset, size_t size) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// A regular file, open for reading at any place. Move-only. Safe to read from several threads.
//
// Against a mapping: a file that shrinks meanwhile gives an error instead of SIGBUS, and the pages read do not count as
// memory of this process.
class InputFile {
 public:
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  // Directories, pipes and devices are kInvalidArgument.
  static Result<InputFile> Open(const std::string& path);

  // Fills `out` with the bytes that begin `offset` bytes into the file. kDataLoss when the file ends before.
  Status ReadAt(int64_t offset, std::span<uint8_t> out) const;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  // Of the last modification, in nanoseconds since 1970.
  int64_t modified_ns() const { return modified_ns_; }

 private:
  InputFile() = default;

  std::string path_;
  int64_t size_ = 0;
  int64_t modified_ns_ = 0;
  int fd_ = -1;
};

// An output file that replaces its target only when it is complete.
//
//   VX_ASSIGN(AtomicFile file, AtomicFile::Create(path));
//   VX_TRY(file.Write(text));
//   VX_TRY(file.Commit());
//
// Bytes go to a temporary in the target's folder. Commit() flushes it to the disk and renames it onto the target, so a
// reader sees either the old target or all of the output. Without Commit() the temporary is removed and the target
// stays; a process that is killed leaves it (RemoveStaleTemporaries). A target that is a link is replaced, not
// followed. For one thread at a time, but for WriteAt().
class AtomicFile {
 public:
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  static Result<AtomicFile> Create(const std::string& path);

  // Appends. After an error the file can only be destroyed.
  Status Write(std::span<const uint8_t> bytes);
  Status Write(std::string_view text);
  // Writes at a place of the caller's choice; bytes that nobody writes are zero up to the last one written. Safe to
  // call from several threads for ranges that do not overlap. Not to be mixed with Write().
  Status WriteAt(int64_t offset, std::span<const uint8_t> bytes) const;
  // A hint: begin to move this range to the disk now, so that Commit() has less to wait for.
  void StartFlush(int64_t offset, int64_t size) const;
  // Once, after the last Write.
  Status Commit();

  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int fd);
  void Discard();

  std::string path_;
  std::string temporary_;
  int fd_ = -1;  // -1: committed, moved from or failed
};

}  // namespace vexil
