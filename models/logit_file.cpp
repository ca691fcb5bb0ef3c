// Little-endian, nothing between the fields:
//
//   header   "MOELOGP1" | u64 model hash | u32 n_vocab | u32 n_ctx | u32 n_chunks | i32 bos, −1 where it is not put first
//   tokens   i32 [n_chunks · n_ctx]
//   rows     n_chunks · (n_ctx − 1 − n_ctx / 2) of
//            f32 log-probability of the top token | f32 step | u32 top token | f32 log-probability of the target
//            u16 distance from the top in steps [n_vocab] | u16 0 where n_vocab is odd
//
// The target is the token that follows in the text: its own number makes the base's perplexity exact. llama.cpp's files
// (--kl-divergence-base) hold 16 bits a token as well, over a range of 16 nats: a vocabulary of 150,000 has up to 1.7 % of its
// probability below that.
#include "models/logit_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/bytes.h"

namespace moe {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'E', 'L', 'O', 'G', 'P', '1'};
constexpr double kMaxRange = 32;  // nats
constexpr int kSteps = 65535;
constexpr size_t kRowHead = 16;
constexpr uint32_t kMaxCount = 1u << 30;  // of n_vocab, n_ctx and n_chunks: a product of two stays below 2^60

// Bytes of the header with the tokens and of the whole file; false when that exceeds 2^62.
bool file_bytes(uint64_t n_vocab, uint64_t n_ctx, uint64_t n_chunks, uint64_t& header, uint64_t& whole) {
  const uint64_t rows = n_chunks * (n_ctx - 1 - n_ctx / 2);  // < 2^60
  const uint64_t row = logit_row_bytes(static_cast<int>(n_vocab));
  header = 32 + 4 * n_chunks * n_ctx;
  if (rows > (uint64_t{1} << 61) / row) return false;
  whole = header + rows * row;
  return true;
}

}  // namespace

bool LogitRow::holds(size_t token) const { return distance[token] < kSteps || double{step} * kSteps < kMaxRange * (1 - 1e-6); }

size_t logit_row_bytes(int n_vocab) { return kRowHead + 2 * ((static_cast<size_t>(n_vocab) + 1) / 2 * 2); }

void encode_logit_row(std::span<const float> logits, double log_sum_exp, Token target, std::byte* out) {
  const auto top = std::max_element(logits.begin(), logits.end());  // the first of equals
  const double high = *top, low = *std::min_element(logits.begin(), logits.end());
  const float step = static_cast<float>(std::min(high - low, kMaxRange) / kSteps);
  const float top_log_prob = static_cast<float>(high - log_sum_exp);
  const float target_log_prob = static_cast<float>(logits[static_cast<size_t>(target)] - log_sum_exp);
  const auto top_token = static_cast<uint32_t>(top - logits.begin());
  std::memcpy(out, &top_log_prob, 4), std::memcpy(out + 4, &step, 4);
  std::memcpy(out + 8, &top_token, 4), std::memcpy(out + 12, &target_log_prob, 4);
  const double per_nat = step > 0 ? 1 / double{step} : 0;
  std::byte* to = out + kRowHead;
  for (const float logit : logits) {
    const double distance = step > 0 ? std::min((high - double{logit}) * per_nat + 0.5, double{kSteps}) : 0;
    const auto q = static_cast<uint16_t>(distance);
    std::memcpy(to, &q, 2);
    to += 2;
  }
  if (logits.size() % 2) std::memset(to, 0, 2);
}

Result<LogitWriter> LogitWriter::create(const std::string& path, uint64_t model_hash, int n_vocab, const TokenChunks& chunks) {
  uint64_t header = 0, whole = 0;
  if (!file_bytes(static_cast<uint64_t>(n_vocab), static_cast<uint64_t>(chunks.n_ctx), static_cast<uint64_t>(chunks.n_chunks),
                  header, whole))
    return Status::OutOfRange(path + ": the distributions would not fit any file");
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  ByteWriter head;
  head.write_bytes(kMagic, sizeof kMagic);
  head.write<uint64_t>(model_hash);
  for (const int n : {n_vocab, chunks.n_ctx, chunks.n_chunks}) head.write<uint32_t>(static_cast<uint32_t>(n));
  head.write<int32_t>(chunks.bos);
  head.write_bytes(chunks.tokens.data(), chunks.tokens.size() * sizeof(Token));
  MOE_TRY(file.write(head.bytes()));
  return LogitWriter(std::move(file), n_vocab, whole);
}

Status LogitWriter::commit() {
  if (file_.position() != wanted_)
    return Status::Internal("logit file: wanted " + std::to_string(wanted_) + " bytes, found " +
                            std::to_string(file_.position()));
  return file_.commit();
}

Result<LogitReader> LogitReader::open(const std::string& path) {
  MOE_ASSIGN(MappedFile mapped, MappedFile::open(path));
  LogitReader f(std::move(mapped));
  const auto corrupt = [&](const std::string& what) { return Status::Corrupt(path + ": " + what); };
  ByteReader r(f.file_.bytes());
  std::string_view magic;
  if (!r.read_view(sizeof kMagic, magic) || magic != std::string_view(kMagic, sizeof kMagic))
    return corrupt("not a file of distributions made by moe-eval --save-logits");
  uint32_t n_vocab = 0, n_ctx = 0, n_chunks = 0;
  int32_t bos = 0;
  if (!r.read(f.model_hash_) || !r.read(n_vocab) || !r.read(n_ctx) || !r.read(n_chunks) || !r.read(bos))
    return corrupt("the header is cut off");
  const auto check = [&](const char* name, uint32_t value, uint32_t least) {
    return value >= least && value <= kMaxCount ? Status::Ok()
                                                : corrupt(std::string(name) + ": wanted " + std::to_string(least) + " to " +
                                                          std::to_string(kMaxCount) + ", found " + std::to_string(value));
  };
  MOE_TRY(check("n_vocab", n_vocab, 1));
  MOE_TRY(check("n_ctx", n_ctx, 4));
  MOE_TRY(check("n_chunks", n_chunks, 1));
  uint64_t header = 0, whole = 0;
  if (!file_bytes(n_vocab, n_ctx, n_chunks, header, whole) || whole != f.file_.bytes().size())
    return corrupt("wanted " + std::to_string(whole) + " bytes for " + std::to_string(n_chunks) + " chunks, found " +
                   std::to_string(f.file_.bytes().size()));
  const auto is_token = [&](int32_t t) { return t >= 0 && static_cast<uint32_t>(t) < n_vocab; };
  if (bos != kNoToken && !is_token(bos)) return corrupt("bos token " + std::to_string(bos) + " is outside the vocabulary");
  f.n_vocab_ = static_cast<int>(n_vocab), f.rows_offset_ = header;
  f.chunks_ = {static_cast<int>(n_ctx), static_cast<int>(n_chunks), bos, {}};
  f.chunks_.tokens.resize(size_t{n_chunks} * n_ctx);
  std::span<const std::byte> ids;
  MOE_CHECK(r.read_bytes(f.chunks_.tokens.size() * sizeof(Token), ids));
  std::memcpy(f.chunks_.tokens.data(), ids.data(), ids.size());
  for (const Token t : f.chunks_.tokens)
    if (!is_token(t)) return corrupt("token " + std::to_string(t) + " is outside the vocabulary");
  return f;
}

Result<LogitRow> LogitReader::row(int64_t index) const {
  MOE_CHECK(index >= 0 && index < n_rows());
  const std::byte* p = file_.bytes().data() + rows_offset_ + static_cast<size_t>(index) * logit_row_bytes(n_vocab_);
  LogitRow row;
  uint32_t top = 0;
  std::memcpy(&row.top_log_prob, p, 4), std::memcpy(&row.step, p + 4, 4);
  std::memcpy(&top, p + 8, 4), std::memcpy(&row.target_log_prob, p + 12, 4);
  // Comparisons that a NaN fails. The most probable of 2^30 tokens has at least e^-21.
  const bool valid = row.top_log_prob <= 1e-3f && row.top_log_prob >= -64 && row.step >= 0 && row.step <= 1e-3f &&
                     row.target_log_prob <= 1e-3f && std::isfinite(row.target_log_prob) &&
                     top < static_cast<uint32_t>(n_vocab_);
  if (!valid) return Status::Corrupt(path() + ": row " + std::to_string(index) + " is no distribution");
  row.top = static_cast<Token>(top);
  row.distance = reinterpret_cast<const uint16_t*>(p + kRowHead);  // at an even address: every part before has whole words
  return row;
}

}  // namespace moe
