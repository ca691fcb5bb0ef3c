// .xz files as a ByteSource. Only the program that includes this links liblzma: the other programs and the tests do without it.
// A build without it (MOE_XZ not defined, e.g. a cross build) says so when it meets such a file.
#pragma once

#include <memory>
#include <string>

#include "tools/train_text.h"

#ifdef MOE_XZ
#include <lzma.h>

#include <vector>
#endif

namespace moe::tools {

inline constexpr std::string_view kXzMagic(
    "\xFD"
    "7zXZ\0",
    6);

#ifdef MOE_XZ

class XzSource final : public ByteSource {
 public:
  static constexpr uint64_t kMostMemory = uint64_t{1} << 30;  // xz -9 asks for 65 MiB

  XzSource(std::unique_ptr<ByteSource> packed, std::string name)
      : packed_(std::move(packed)), name_(std::move(name)), input_(64 << 10) {}
  XzSource(const XzSource&) = delete;
  XzSource& operator=(const XzSource&) = delete;
  ~XzSource() override { lzma_end(&stream_); }

  Status start() {
    const lzma_ret r = lzma_stream_decoder(&stream_, kMostMemory, LZMA_CONCATENATED);
    return r == LZMA_OK ? Status::Ok() : error(r);
  }

  Result<size_t> read(char* out, size_t n) override {
    stream_.next_out = reinterpret_cast<uint8_t*>(out);
    stream_.avail_out = n;
    while (!ended_ && stream_.avail_out == n) {
      if (stream_.avail_in == 0 && action_ == LZMA_RUN) {
        MOE_ASSIGN(const size_t got, packed_->read(input_.data(), input_.size()));
        stream_.next_in = reinterpret_cast<const uint8_t*>(input_.data());
        stream_.avail_in = got;
        if (got == 0) action_ = LZMA_FINISH;
      }
      const lzma_ret r = lzma_code(&stream_, action_);
      if (r == LZMA_STREAM_END)
        ended_ = true;
      else if (r != LZMA_OK)
        return error(r);
    }
    return n - stream_.avail_out;
  }
  uint64_t consumed() const override { return packed_->consumed(); }
  Result<std::string_view> peek(size_t) override { return std::string_view(); }

 private:
  Status error(lzma_ret r) const {
    if (r == LZMA_MEM_ERROR) return Status::OutOfMemory(name_ + ": no memory to decompress");
    if (r == LZMA_MEMLIMIT_ERROR)
      return Status::Unsupported(name_ + ": decompressing wants more than " + std::to_string(kMostMemory >> 20) + " MiB");
    return Status::Corrupt(name_ + (r == LZMA_BUF_ERROR ? ": the xz file is cut off" : ": the xz file is damaged"));
  }

  std::unique_ptr<ByteSource> packed_;
  std::string name_;
  std::vector<char> input_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_action action_ = LZMA_RUN;
  bool ended_ = false;
};

inline Result<std::unique_ptr<ByteSource>> make_xz_source(std::unique_ptr<ByteSource> packed, const std::string& name) {
  auto source = std::make_unique<XzSource>(std::move(packed), name);
  MOE_TRY(source->start());
  return std::unique_ptr<ByteSource>(std::move(source));
}

#else

inline Result<std::unique_ptr<ByteSource>> make_xz_source(std::unique_ptr<ByteSource>, const std::string& name) {
  return Status::Unsupported(name + ": this build reads no .xz files (liblzma was not there)\n  decompress it first: xz -dc " +
                             name + " | moe-train … -");
}

#endif

// The file, decompressed where its first bytes are xz's.
inline Result<std::unique_ptr<ByteSource>> open_text_source(const std::string& path) {
  MOE_ASSIGN(std::unique_ptr<ByteSource> file, open_source(path));
  MOE_ASSIGN(const std::string_view magic, file->peek(kXzMagic.size()));
  if (magic == kXzMagic) return make_xz_source(std::move(file), path);
  return file;
}

}  // namespace moe::tools
