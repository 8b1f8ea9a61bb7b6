#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace vexil {
namespace {

Status FileError(const std::string& path, std::string_view action, int error) {
  std::string message = fmt::format("{}: cannot {}: {}", path, action, std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return NotFound(std::move(message));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ResourceExhausted(std::move(message));
    case EIO:
      return DataLoss(std::move(message));
    default:
      return InvalidArgument(std::move(message));
  }
}

// Between a target's name and the numbers that tell its temporaries apart.
constexpr std::string_view kTemporaryMark = ".tmp-";

// Closes on scope exit.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Makes a completed rename survive a crash. Some file systems cannot flush a directory; the rename itself stands, so
// that is no error.
void FlushDirectoryOf(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const Descriptor directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) (void)::fsync(directory.get());
}

}  // namespace

bool FileExists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool IsDirectory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

Result<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(path, error);
  const std::filesystem::directory_iterator end;
  while (!error && entry != end) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error) return FileError(path, "list the directory", error.value());
  std::sort(names.begin(), names.end());
  return names;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  return (std::filesystem::path(directory) / std::filesystem::path(name)).string();
}

Result<std::string> ReadWholeFile(const std::string& path, int64_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return FileError(path, "open", errno);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return FileError(path, "inspect", errno);
  const size_t limit = static_cast<size_t>(max_bytes);
  std::string text;
  size_t used = 0;
  // The size is a first guess only: pipes and kernel files report none, and a growing file reports too little. One byte
  // more than that shows the end of the file without a second buffer.
  size_t room = std::min(static_cast<size_t>(std::max<off_t>(info.st_size, 0)), limit) + 1;
  while (true) {
    text.resize(room);
    const ssize_t n = ::read(file.get(), text.data() + used, room - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(path, "read", errno);
    if (n == 0) break;
    used += static_cast<size_t>(n);
    if (used > limit) return InvalidArgument(fmt::format("{}: file has more than {} bytes", path, max_bytes));
    if (used == room) room = std::min(std::max(2 * room, size_t{4096}), limit + 1);
  }
  text.resize(used);
  return text;
}

// --- Directories -------------------------------------------------------------------------------------------------

Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError(path, "create the directory", error.value());
  if (!IsDirectory(path)) return FileError(path, "create the directory", EEXIST);
  return {};
}

Result<int64_t> FreeDiskBytes(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return FileError(path, "inspect the file system", errno);
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

Status RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return FileError(path, "remove", errno);
  return {};
}

Status RemoveStaleTemporaries(const std::string& directory, std::string_view name) {
  VX_ASSIGN(const std::vector<std::string> names, ListDirectory(directory));
  const std::string prefix = fmt::format("{}{}", name, kTemporaryMark);
  for (const std::string& entry : names) {
    if (!entry.starts_with(prefix)) continue;
    const std::string_view rest = std::string_view(entry).substr(prefix.size());
    if (rest.find_first_not_of("0123456789-") != rest.npos) continue;
    VX_TRY(RemoveFile(JoinPath(directory, entry)));
  }
  return {};
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<DirectoryLock> DirectoryLock::Acquire(const std::string& directory) {
  DirectoryLock lock(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.fd_ < 0) return FileError(directory, "open", errno);
  if (::flock(lock.fd_, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return InvalidArgument(fmt::format("{}: in use by another process", directory));
  return FileError(directory, "lock", errno);
}

// --- InputFile ---------------------------------------------------------------------------------------------------

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      size_(other.size_),
      modified_ns_(other.modified_ns_),
      fd_(std::exchange(other.fd_, -1)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  std::swap(fd_, other.fd_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<InputFile> InputFile::Open(const std::string& path) {
  InputFile file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // as in MappedFile::Open
  if (file.fd_ < 0) return FileError(path, "open", errno);
  struct stat info;
  if (::fstat(file.fd_, &info) != 0) return FileError(path, "inspect", errno);
  if (!S_ISREG(info.st_mode)) return InvalidArgument(fmt::format("{}: not a regular file", path));
  file.size_ = info.st_size;
  file.modified_ns_ = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  return file;
}

Status InputFile::ReadAt(int64_t offset, std::span<uint8_t> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(path_, "read", errno);
    if (n == 0)
      return DataLoss(fmt::format("{}: file ends at byte {}, more was there when it was opened", path_, offset));
    out = out.subspan(static_cast<size_t>(n));
    offset += n;
  }
  return {};
}

// --- MappedFile --------------------------------------------------------------------------------------------------

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

Result<MappedFile> MappedFile::Open(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe would wait for its writer before its kind can be seen.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return FileError(path, "open", errno);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return FileError(path, "inspect", errno);
  if (!S_ISREG(info.st_mode)) return InvalidArgument(fmt::format("{}: not a regular file", path));
  MappedFile map;
  if (info.st_size == 0) return map;  // mmap refuses an empty range
  const size_t size = static_cast<size_t>(info.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) return FileError(path, "map", errno);
  map.data_ = static_cast<const uint8_t*>(data);
  map.size_ = size;
  return map;
}

void MappedFile::AdviseWillNeed(size_t offset, size_t size) const {
  if (offset >= size_ || size == 0) return;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  const size_t end = offset + std::min(size, size_ - offset);
  (void)::madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_WILLNEED);
}

// --- AtomicFile --------------------------------------------------------------------------------------------------

AtomicFile::AtomicFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(std::exchange(other.fd_, -1)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(fd_, other.fd_);
  return *this;
}

AtomicFile::~AtomicFile() { Discard(); }

void AtomicFile::Discard() {
  if (fd_ < 0) return;
  ::close(std::exchange(fd_, -1));
  ::unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  if (path.empty()) return InvalidArgument("cannot write: the path is empty");
  if (IsDirectory(path)) return InvalidArgument(fmt::format("{}: cannot write: it is a directory", path));
  // Renaming onto a device or a pipe would replace it.
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !FileExists(path)) {
    return InvalidArgument(fmt::format("{}: cannot write: it is not a regular file", path));
  }
  // The process id keeps processes apart, the counter keeps this one's files apart; a name left by a dead process is
  // skipped. mkstemp would do, but makes files that only the owner can read.
  static std::atomic<uint32_t> counter{0};
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string temporary = fmt::format("{}{}{}-{}", path, kTemporaryMark, ::getpid(), counter.fetch_add(1));
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return AtomicFile(path, std::move(temporary), fd);
    if (errno != EEXIST) break;
  }
  return FileError(path, "create a temporary file beside it", errno);
}

Status AtomicFile::Write(std::span<const uint8_t> bytes) {
  VX_CHECK(fd_ >= 0, "write to a file that was committed or has failed");
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      Status status = FileError(path_, "write", errno);
      Discard();
      return status;
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFile::Write(std::string_view text) {
  return Write(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Status AtomicFile::WriteAt(int64_t offset, std::span<const uint8_t> bytes) const {
  VX_CHECK(fd_ >= 0, "write to a file that was committed or has failed");
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(path_, "write", errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
  return {};
}

void AtomicFile::StartFlush(int64_t offset, int64_t size) const {
#ifdef SYNC_FILE_RANGE_WRITE
  (void)::sync_file_range(fd_, offset, size, SYNC_FILE_RANGE_WRITE);
#else
  (void)offset, (void)size;
#endif
}

Status AtomicFile::Commit() {
  VX_CHECK(fd_ >= 0, "commit of a file that was committed or has failed");
  // Without the flush a crash could leave the new name with missing bytes.
  if (::fsync(fd_) != 0) {
    Status status = FileError(path_, "flush", errno);
    Discard();
    return status;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    Status status = FileError(path_, "put in place", errno);
    Discard();
    return status;
  }
  ::close(std::exchange(fd_, -1));
  FlushDirectoryOf(path_);
  return {};
}

}  // namespace vexil
