// Writes tensors into a GGUF file piece by piece: float values are made, encoded by all threads and written, so that memory
// stays at a few megabytes however large a tensor is. The bytes do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "core/threads.h"
#include "models/io/gguf.h"

namespace moe {

class WeightStream {
 public:
  // Elements [first, first + n) of the current tensor, flat, into out (n). Called by several threads at once. An error ends the
  // stream; of several the one of the lowest elements is returned.
  using Produce = std::function<Status(int64_t first, int64_t n, float* out)>;
  // Called by the thread that writes after every few megabytes; false cancels.
  using OnWritten = std::function<bool(uint64_t bytes, std::string_view tensor)>;

  // Elements of one call of Produce; a multiple of every block.
  static constexpr int64_t kPiece = 16384;

  // Both must outlive the stream.
  WeightStream(ThreadPool& pool, GgufWriter& writer, OnWritten on_written);

  // The next tensor of the file: n elements in rows of whole blocks of `type`.
  Status encode(std::string_view name, DType type, int64_t n, const Produce& produce);
  // The next tensor as it is.
  Status copy(std::string_view name, std::span<const std::byte> bytes);

 private:
  Status written(uint64_t bytes, std::string_view name);

  ThreadPool& pool_;
  GgufWriter& writer_;
  OnWritten on_written_;
  std::vector<float> values_;     // (threads, kPiece)
  std::vector<std::byte> block_;  // encoded pieces of one round
};

}  // namespace moe
