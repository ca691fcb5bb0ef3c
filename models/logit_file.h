// Files of next-token distributions: what a model said of every scored token of a text, for another model, format or routing
// topology to be compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "models/tokenizer/tokenizer.h"

namespace moe {

// A text in pieces of n_ctx tokens, see perplexity.h.
struct TokenChunks {
  int n_ctx = 0, n_chunks = 0;
  Token bos = kNoToken;       // takes the first token's place when a chunk is evaluated; kNoToken: it stays
  std::vector<Token> tokens;  // (n_chunks, n_ctx)

  int first_row() const { return n_ctx / 2; }                // of the logits that are used
  int rows_scored() const { return n_ctx - 1 - n_ctx / 2; }  // of each chunk
  bool operator==(const TokenChunks&) const = default;
};

// Row codec. The log-probability of each token is kept as its distance from the largest one in 65,535 steps: an error of half a
// step. A row's range is at most 32 nats, which makes the error at most 2.5e-4; what lies deeper is known to do so.
struct LogitRow {
  float top_log_prob = 0;
  float step = 0;  // nats
  Token top = 0;   // the most probable token; of equals the first
  float target_log_prob = 0;
  const uint16_t* distance = nullptr;  // (n_vocab) in steps

  bool holds(size_t token) const;  // false: deeper than the row's range, all that is known is that it is improbable
  double log_prob(size_t token) const { return double{top_log_prob} - double{step} * distance[token]; }
};
size_t logit_row_bytes(int n_vocab);
// log_sum_exp, of these logits, must be finite. `out` has logit_row_bytes.
void encode_logit_row(std::span<const float> logits, double log_sum_exp, Token target, std::byte* out);

class LogitWriter {
 public:
  static Result<LogitWriter> create(const std::string& path, uint64_t model_hash, int n_vocab, const TokenChunks& chunks);
  int n_vocab() const { return n_vocab_; }
  Status write_rows(std::span<const std::byte> rows) { return file_.write(rows); }
  Status commit();  // kInternal when rows are missing; without it no file appears

 private:
  LogitWriter(AtomicFile file, int n_vocab, size_t wanted) : file_(std::move(file)), n_vocab_(n_vocab), wanted_(wanted) {}
  AtomicFile file_;
  int n_vocab_;
  size_t wanted_;  // bytes of the whole file
};

// Reading from several threads is safe.
class LogitReader {
 public:
  static Result<LogitReader> open(const std::string& path);
  const std::string& path() const { return file_.path(); }
  uint64_t model_hash() const { return model_hash_; }
  int n_vocab() const { return n_vocab_; }
  const TokenChunks& chunks() const { return chunks_; }
  int64_t n_rows() const { return int64_t{chunks_.n_chunks} * chunks_.rows_scored(); }
  Result<LogitRow> row(int64_t index) const;  // kCorrupt when its numbers make no distribution

 private:
  explicit LogitReader(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  uint64_t model_hash_ = 0;
  int n_vocab_ = 0;
  TokenChunks chunks_;
  size_t rows_offset_ = 0;
};

}  // namespace moe
