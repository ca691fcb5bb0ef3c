// Files of distributions: what survives the way through one, and what is refused.
#include "models/logit_file.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"
#include "tests/temp_folder.h"

namespace moe {
namespace {

using test::TempFolder;

constexpr int kVocab = 301;  // odd: rows are padded

double log_sum_exp(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += std::exp(double{v});
  return std::log(sum);
}

std::vector<float> random_logits(uint64_t seed, float scale) {
  Rng rng(seed);
  std::vector<float> x(kVocab);
  for (float& v : x) v = scale * rng.normal();
  return x;
}

TokenChunks two_chunks() {
  TokenChunks c;
  c.n_ctx = 6, c.n_chunks = 2, c.bos = 7;
  for (Token t = 0; t < 12; ++t) c.tokens.push_back(t * 5);
  return c;
}

// A whole file of random rows.
std::string write_file(const TempFolder& folder, const TokenChunks& chunks, float scale = 3) {
  std::string path = folder / "rows.bin";
  auto writer = LogitWriter::create(path, 0x1234, kVocab, chunks);
  REQUIRE(writer.ok());
  std::vector<std::byte> row(logit_row_bytes(kVocab));
  for (int i = 0; i < chunks.n_chunks * chunks.rows_scored(); ++i) {
    const std::vector<float> logits = random_logits(static_cast<uint64_t>(i), scale);
    encode_logit_row(logits, log_sum_exp(logits), i, row.data());
    REQUIRE(writer->write_rows(row).ok());
  }
  REQUIRE(writer->commit().ok());
  return path;
}

std::string bytes_of(const std::string& path) { return read_text_file(path).value(); }

Status open_status(const TempFolder& folder, const std::string& bytes) {
  const std::string path = folder.write("changed.bin", bytes);
  const auto reader = LogitReader::open(path);
  if (!reader.ok()) return reader.status();
  for (int64_t i = 0; i < reader->n_rows(); ++i) MOE_TRY(reader->row(i).status());
  return Status::Ok();
}

template <class T>
std::string with(std::string bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

}  // namespace

TEST_CASE("a file gives back text and distributions to within half a step") {
  TempFolder folder;
  const TokenChunks chunks = two_chunks();
  const auto reader = LogitReader::open(write_file(folder, chunks));
  REQUIRE_MESSAGE(reader.ok(), reader.status().message());
  CHECK(reader->chunks() == chunks);
  CHECK(reader->model_hash() == 0x1234);
  CHECK(reader->n_vocab() == kVocab);
  REQUIRE(reader->n_rows() == 4);  // 6 − 1 − 3 a chunk
  for (int64_t i = 0; i < reader->n_rows(); ++i) {
    const std::vector<float> logits = random_logits(static_cast<uint64_t>(i), 3);
    const double total = log_sum_exp(logits);
    const auto row = reader->row(i);
    REQUIRE(row.ok());
    CHECK(logits[static_cast<size_t>(row->top)] == *std::max_element(logits.begin(), logits.end()));
    CHECK(row->target_log_prob == doctest::Approx(logits[static_cast<size_t>(i)] - total).epsilon(1e-6));
    double worst = 0;
    for (size_t t = 0; t < logits.size(); ++t) {
      CHECK(row->holds(t));
      worst = std::max(worst, std::fabs(row->log_prob(t) - (logits[t] - total)));
    }
    CHECK(worst <= 0.5 * row->step * (1 + 1e-3) + 1e-5);
    CHECK(worst <= 2.5e-4);
  }
}

TEST_CASE("a row keeps 32 nats, and knows what lies deeper") {
  std::vector<float> logits(kVocab, -10);
  logits[3] = 20, logits[4] = -100, logits[5] = -std::numeric_limits<float>::infinity();
  TempFolder folder;
  TokenChunks chunks{4, 1, kNoToken, {0, 1, 2, 3}};
  auto writer = LogitWriter::create(folder / "row.bin", 0, kVocab, chunks);
  REQUIRE(writer.ok());
  std::vector<std::byte> row(logit_row_bytes(kVocab));
  encode_logit_row(logits, log_sum_exp(logits), 3, row.data());
  REQUIRE(writer->write_rows(row).ok());
  REQUIRE(writer->commit().ok());
  const auto reader = LogitReader::open(folder / "row.bin");
  REQUIRE(reader.ok());
  const auto read = reader->row(0);
  REQUIRE(read.ok());
  CHECK(read->top == 3);
  CHECK(read->holds(0));
  CHECK(read->log_prob(0) == doctest::Approx(-30).epsilon(1e-5));
  CHECK(!read->holds(4));
  CHECK(!read->holds(5));
  CHECK(read->holds(3));
}

TEST_CASE("equal logits make a row without steps") {
  std::vector<std::byte> row(logit_row_bytes(kVocab));
  encode_logit_row(std::vector<float>(kVocab, 5), std::log(kVocab) + 5, 0, row.data());
  float step = 1;
  std::memcpy(&step, row.data() + 4, 4);
  CHECK(step == 0);
  for (size_t i = 16; i < row.size(); ++i) CHECK(row[i] == std::byte{0});
}

TEST_CASE("a file that lacks rows is not committed") {
  TempFolder folder;
  auto writer = LogitWriter::create(folder / "short.bin", 0, kVocab, two_chunks());
  REQUIRE(writer.ok());
  CHECK(writer->commit().code() == StatusCode::kInternal);
  CHECK(LogitReader::open(folder / "short.bin").status().code() == StatusCode::kNotFound);
}

TEST_CASE("every prefix of a file of distributions is refused, and so is a longer one") {
  TempFolder folder;
  const std::string whole = bytes_of(write_file(folder, two_chunks()));
  CHECK(open_status(folder, whole).ok());
  for (size_t n = 0; n < whole.size(); n += n < 100 ? 1 : 97) {
    CAPTURE(n);
    CHECK(open_status(folder, whole.substr(0, n)).code() == StatusCode::kCorrupt);
  }
  CHECK(open_status(folder, whole.substr(0, whole.size() - 1)).code() == StatusCode::kCorrupt);
  CHECK(open_status(folder, whole + "x").code() == StatusCode::kCorrupt);
}

TEST_CASE("headers and rows that make no sense are refused") {
  TempFolder folder;
  const std::string whole = bytes_of(write_file(folder, two_chunks()));
  const size_t rows = 32 + 4 * 12;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<const char*, std::string> broken[] = {
      {"magic", with(whole, 0, 'X')},
      {"n_vocab 0", with(whole, 16, uint32_t{0})},
      {"n_vocab huge", with(whole, 16, ~uint32_t{0})},
      {"n_ctx 3", with(whole, 20, uint32_t{3})},
      {"n_ctx huge", with(whole, 20, uint32_t{1} << 30)},
      {"n_chunks 0", with(whole, 24, uint32_t{0})},
      {"n_chunks huge", with(whole, 24, uint32_t{1} << 30)},
      {"all huge", with(with(with(whole, 16, uint32_t{1} << 30), 20, uint32_t{1} << 30), 24, uint32_t{1} << 30)},
      {"bos", with(whole, 28, int32_t{kVocab})},
      {"bos negative", with(whole, 28, int32_t{-2})},
      {"token", with(whole, 32, int32_t{kVocab})},
      {"token negative", with(whole, 36, int32_t{-1})},
      {"top log-probability NaN", with(whole, rows, nan)},
      {"top log-probability positive", with(whole, rows, 1.0f)},
      {"top log-probability too small", with(whole, rows, -100.0f)},
      {"step NaN", with(whole, rows + 4, nan)},
      {"step negative", with(whole, rows + 4, -1e-4f)},
      {"step wide", with(whole, rows + 4, 1.0f)},
      {"top token", with(whole, rows + 8, uint32_t{kVocab})},
      {"target NaN", with(whole, rows + 12, nan)},
      {"target infinite", with(whole, rows + 12, -std::numeric_limits<float>::infinity())},
  };
  for (const auto& row : broken) {
    CAPTURE(row.first);
    const Status status = open_status(folder, row.second);
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message().find("changed.bin") != std::string::npos);
  }
}

}  // namespace moe
