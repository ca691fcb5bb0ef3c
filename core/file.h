// Files: mapped for reading, written whole or not at all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace moe {

// A read-only file mapped into memory. Move-only; the mapping ends with the object. Reading is thread-safe. A file that
// somebody cuts short while it is mapped kills the reader (SIGBUS), as with every mmap; AtomicFile never does that to a reader.
class MappedFile {
 public:
  // kNotFound when there is no such file, kIo otherwise (directories and unreadable files are named as such).
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// Writes `path` so that a reader, a crash or Ctrl-C sees the old file or the whole new one: bytes go to a temporary name in the
// same folder, commit() syncs and renames. Without commit() the destructor removes the temporary. After the first failed write
// everything fails with the same error. A symbolic link keeps pointing at the file; devices, pipes and /dev/stdout are
// written directly. Not thread-safe.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) noexcept;
  ~AtomicFile();

  Status write(const void* data, size_t bytes);
  Status write(std::span<const std::byte> b) { return write(b.data(), b.size()); }
  // Overwrites bytes already written, e.g. a header whose numbers are known at the end.
  Status write_at(size_t offset, const void* data, size_t bytes);
  Status commit();
  size_t position() const { return position_; }

 private:
  AtomicFile() = default;
  void discard();
  Status fail(const char* what, int error);
  int fd_ = -1;
  size_t position_ = 0;
  // target_ is path_ behind its links; temporary_ is empty when writing straight to a device or pipe, and after commit().
  std::string path_, target_, temporary_;
  Status failure_;
};

// The whole file as a string; kOutOfRange for more than max_bytes. "-" reads standard input.
Result<std::string> read_text_file(const std::string& path, size_t max_bytes = size_t{1} << 30);
Status write_text_file(const std::string& path, std::string_view text);

}  // namespace moe
