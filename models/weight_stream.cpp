#include "models/weight_stream.h"

#include <algorithm>
#include <atomic>

namespace moe {
namespace {

constexpr int64_t kPiecesARound = 128;  // 2 Mi elements, at most 8 MiB of output
constexpr size_t kCopyBytes = size_t{8} << 20;

}  // namespace

WeightStream::WeightStream(ThreadPool& pool, GgufWriter& writer, OnWritten on_written)
    : pool_(pool),
      writer_(writer),
      on_written_(std::move(on_written)),
      values_(static_cast<size_t>(pool.size()) * static_cast<size_t>(kPiece)) {}

Status WeightStream::written(uint64_t bytes, std::string_view name) {
  if (on_written_ && !on_written_(bytes, name)) return Status::Cancelled("interrupted at tensor '" + std::string(name) + "'");
  return Status::Ok();
}

// A tensor is a run of blocks whatever its shape, so pieces need not respect rows. Threads take them as they come; each piece
// has its own place in the output.
Status WeightStream::encode(std::string_view name, DType type, int64_t n, const Produce& produce) {
  const DTypeTraits& t = traits(type);
  const int64_t n_pieces = (n + kPiece - 1) / kPiece;
  std::vector<Status> status(static_cast<size_t>(std::min(n_pieces, kPiecesARound)));
  for (int64_t begin = 0; begin < n_pieces; begin += kPiecesARound) {
    const int64_t count = std::min(kPiecesARound, n_pieces - begin);
    const int64_t first = begin * kPiece, end = std::min(n, (begin + count) * kPiece);
    block_.resize(dtype_bytes(type, end - first));
    std::atomic<int64_t> next{0};
    auto work = [&](int thread) {
      float* values = values_.data() + static_cast<size_t>(thread) * static_cast<size_t>(kPiece);
      for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
        const int64_t at = first + i * kPiece, m = std::min(kPiece, end - at);
        Status& result = status[static_cast<size_t>(i)];
        result = produce(at, m, values);
        if (result.ok()) t.encode(values, nullptr, block_.data() + dtype_bytes(type, at - first), m);
      }
    };
    pool_.run(work);
    for (int64_t i = 0; i < count; ++i) MOE_TRY(status[static_cast<size_t>(i)]);
    MOE_TRY(writer_.write_tensor(block_.data(), block_.size()));
    MOE_TRY(written(block_.size(), name));
  }
  return Status::Ok();
}

Status WeightStream::copy(std::string_view name, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kCopyBytes));
    MOE_TRY(writer_.write_tensor(piece.data(), piece.size()));
    MOE_TRY(written(piece.size(), name));
    bytes = bytes.subspan(piece.size());
  }
  return Status::Ok();
}

}  // namespace moe
