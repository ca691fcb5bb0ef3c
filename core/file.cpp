// POSIX files. Every message is "path: what failed: the system's reason".
#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "core/rng.h"

namespace moe {
namespace {

Status system_error(const std::string& path, const std::string& what, int error) {
  const std::string message = path + ": " + what + ": " + std::generic_category().message(error);
  return error == ENOENT || error == ENOTDIR ? Status::NotFound(message) : Status::Io(message);
}

// Calls f again when a signal interrupted it.
template <class F>
auto retry(F f) {
  for (;;) {
    const auto r = f();
    if (r >= 0 || errno != EINTR) return r;
  }
}

// Closes at the end of the scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Names that open(2) would take for other ones.
Status check_name(const std::string& path) {
  if (path.empty()) return Status::InvalidArgument("empty file name");
  if (path.find('\0') == std::string::npos) return {};
  return Status::InvalidArgument(std::string(path.c_str()) + ": the file name goes on after a zero byte");
}

Result<int> open_path(const std::string& path, int flags) {
  MOE_TRY(check_name(path));
  const int fd = retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC); });
  if (fd < 0) return system_error(path, "cannot open", errno);
  return fd;
}

// Writes all of it, however many calls that takes; `write_some(data, bytes, done)` is one of them. 0 or the error.
template <class F>
int write_all(const void* data, size_t bytes, F write_some) {
  const auto* p = static_cast<const std::byte*>(data);
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = retry([&] { return write_some(p + done, bytes - done, done); });
    if (n < 0) return errno;
    if (n == 0) return EIO;
    done += static_cast<size_t>(n);
  }
  return 0;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// "folder/name.<16 hex digits>.tmp", the name cut so that it stays below the 255 bytes that file systems allow.
std::string temporary_name(const std::string& path) {
  constexpr size_t kMaxName = 200;
  const size_t name = path.rfind('/') + 1;  // npos + 1 == 0: no folder
  std::string digits;
  for (uint64_t r = random_seed(), i = 0; i < 16; ++i, r >>= 4) digits += "0123456789abcdef"[r & 15];
  return path.substr(0, name) + path.substr(name, kMaxName) + "." + digits + ".tmp";
}

// The file that a chain of symbolic links ends at, so that the rename replaces it and not the link.
std::string follow_links(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string target = real;
  std::free(real);
  return target;
}

// "/dev/stdout" and the like name a descriptor that is open already. Opening the file behind it again would start at its first
// byte, and a rename would cut it off from whoever holds it; a duplicate shares the position.
std::optional<int> descriptor_named(std::string_view path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  constexpr std::string_view kFolder = "/dev/fd/";
  if (!path.starts_with(kFolder)) return std::nullopt;
  path.remove_prefix(kFolder.size());
  int n = 0;
  const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), n);
  if (error != std::errc() || end != path.data() + path.size()) return std::nullopt;
  return n;
}

// Makes the rename itself survive a crash. Some file systems cannot sync a folder; the file is whole there all the same.
void sync_folder(const std::string& folder) {
  const Descriptor fd(retry([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (fd.get() >= 0) ::fsync(fd.get());
}

Result<std::string> read_to_end(int fd, const std::string& path, size_t max_bytes) {
  constexpr size_t kFirst = size_t{1} << 16;
  std::string text;
  max_bytes = std::min(max_bytes, text.max_size() - 1);
  for (size_t size = 0;;) {  // by doubling: what fstat says is 0 for /proc and nothing for pipes
    if (size == text.size()) text.resize(std::min(std::max(kFirst, 2 * size), max_bytes + 1));
    const ssize_t n = retry([&] { return ::read(fd, text.data() + size, text.size() - size); });
    if (n < 0) return system_error(path, "cannot read", errno);
    size += static_cast<size_t>(n);
    if (size > max_bytes)
      return Status::OutOfRange(path + ": wanted at most " + std::to_string(max_bytes) + " bytes, found more");
    if (n == 0) {
      text.resize(size);
      text.shrink_to_fit();
      return text;
    }
  }
}

}  // namespace

// O_NONBLOCK: opening a named pipe must not wait for its other end.
Result<MappedFile> MappedFile::open(const std::string& path) {
  MOE_ASSIGN(const int opened, open_path(path, O_RDONLY | O_NONBLOCK));
  const Descriptor fd(opened);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error(path, "cannot stat", errno);
  if (S_ISDIR(info.st_mode)) return Status::Io(path + ": wanted a file, found a directory");
  if (!S_ISREG(info.st_mode)) return Status::Io(path + ": wanted a regular file, found a pipe, socket or device");
  if (static_cast<uint64_t>(info.st_size) > SIZE_MAX) return Status::Io(path + ": larger than the address space");

  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(info.st_size);
  if (file.size_ == 0) return file;  // mmap refuses empty mappings
  void* p = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (p == MAP_FAILED) {
    file.size_ = 0;
    return system_error(path, "cannot map", errno);
  }
  file.data_ = static_cast<const std::byte*>(p);
  // Pages of 2 MB, where the file system has them (Linux 6.x: XFS, ext4, Btrfs) and what is read now is not in memory already:
  // read in order they are 6 to 8 % faster than those of 4 KB (Zen 5). Advice only.
  ::madvise(p, file.size_, MADV_HUGEPAGE);
  return file;
}

MappedFile::MappedFile(MappedFile&& o) noexcept
    : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)), path_(std::move(o.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& o) noexcept {
  std::swap(data_, o.data_);
  std::swap(size_, o.size_);
  std::swap(path_, o.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  MOE_TRY(check_name(path));
  AtomicFile file;
  file.path_ = path;
  if (const auto descriptor = descriptor_named(path)) {
    file.fd_ = ::fcntl(*descriptor, F_DUPFD_CLOEXEC, 0);
    if (file.fd_ < 0) return system_error(path, "cannot open", errno);
    return file;
  }
  file.target_ = follow_links(path);
  struct stat info {};
  const bool exists = ::stat(file.target_.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return Status::Io(path + ": wanted a file, found a directory");
  if (exists && !S_ISREG(info.st_mode)) {  // /dev/null, a pipe: nothing to replace, and it must not be replaced
    MOE_ASSIGN(file.fd_, open_path(path, O_WRONLY));
    return file;
  }
  const std::string temporary = temporary_name(file.target_);
  file.fd_ = retry([&] { return ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  if (file.fd_ < 0) return system_error(path, "cannot create", errno);
  file.temporary_ = temporary;
  if (exists) (void)::fchmod(file.fd_, info.st_mode & 0777);  // keeps the old file's permissions where the system lets us
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& o) noexcept
    : fd_(std::exchange(o.fd_, -1)),
      position_(std::exchange(o.position_, 0)),
      path_(std::move(o.path_)),
      target_(std::move(o.target_)),
      temporary_(std::exchange(o.temporary_, {})),
      failure_(std::exchange(o.failure_, {})) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& o) noexcept {
  if (this == &o) return *this;
  discard();
  fd_ = std::exchange(o.fd_, -1);
  position_ = std::exchange(o.position_, 0);
  path_ = std::move(o.path_);
  target_ = std::move(o.target_);
  temporary_ = std::exchange(o.temporary_, {});
  failure_ = std::exchange(o.failure_, {});
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(std::exchange(temporary_, {}).c_str());
}

// The first error stays: nothing is written after it, and commit() repeats it.
Status AtomicFile::fail(const char* what, int error) {
  failure_ = system_error(path_, what, error);
  return failure_;
}

Status AtomicFile::write(const void* data, size_t bytes) {
  MOE_CHECK(fd_ >= 0);
  MOE_TRY(failure_);
  const int error = write_all(data, bytes, [&](const std::byte* p, size_t n, size_t) { return ::write(fd_, p, n); });
  if (error) return fail("cannot write", error);
  position_ += bytes;
  return {};
}

Status AtomicFile::write_at(size_t offset, const void* data, size_t bytes) {
  MOE_CHECK(fd_ >= 0 && offset <= position_ && bytes <= position_ - offset);
  MOE_TRY(failure_);
  if (temporary_.empty()) return fail("cannot write at a position", ESPIPE);
  const int error = write_all(data, bytes, [&](const std::byte* p, size_t n, size_t done) {
    return ::pwrite(fd_, p, n, static_cast<off_t>(offset + done));
  });
  return error ? fail("cannot write", error) : Status();
}

Status AtomicFile::commit() {
  MOE_CHECK(fd_ >= 0);
  MOE_TRY(failure_);
  const bool replaces = !temporary_.empty();
  if (replaces && retry([&] { return ::fsync(fd_); }) != 0) return fail("cannot sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) return fail("cannot close", errno);
  if (!replaces) return {};
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) return fail("cannot rename to it", errno);
  temporary_.clear();
  sync_folder(folder_of(target_));
  return {};
}

Result<std::string> read_text_file(const std::string& path, size_t max_bytes) {
  if (path == "-") return read_to_end(STDIN_FILENO, "standard input", max_bytes);
  MOE_ASSIGN(const int opened, open_path(path, O_RDONLY));
  const Descriptor fd(opened);
  struct stat info {};
  if (::fstat(fd.get(), &info) == 0 && S_ISDIR(info.st_mode)) return Status::Io(path + ": wanted a file, found a directory");
  return read_to_end(fd.get(), path, max_bytes);
}

Status write_text_file(const std::string& path, std::string_view text) {
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  MOE_TRY(file.write(text.data(), text.size()));
  return file.commit();
}

}  // namespace moe
