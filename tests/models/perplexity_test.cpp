#include "models/perplexity.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"
#include "tests/models/model_fixture.h"
#include "tests/models/tokenizer/small_vocabulary.h"

namespace moe {
namespace {

using namespace test;

constexpr int kVocab = 50;

std::vector<float> random_rows(size_t n, uint64_t seed, float scale = 2) {
  Rng rng(seed);
  std::vector<float> x(n * kVocab);
  for (float& v : x) v = scale * rng.normal();
  return x;
}

std::vector<Token> targets_of(size_t n) {
  std::vector<Token> t(n);
  for (size_t i = 0; i < n; ++i) t[i] = static_cast<Token>(i * 7 % kVocab);
  return t;
}

// ln softmax, as the definition has it.
std::vector<double> log_probs(std::span<const float> logits) {
  double sum = 0;
  for (const float v : logits) sum += std::exp(double{v});
  std::vector<double> p;
  for (const float v : logits) p.push_back(double{v} - std::log(sum));
  return p;
}

TokenChunks chunks_for_rows(int n) {  // one chunk of n scored tokens
  TokenChunks c;
  c.n_ctx = 2 * n + 2, c.n_chunks = 1;
  c.tokens.assign(static_cast<size_t>(c.n_ctx), 0);
  REQUIRE(c.rows_scored() == n);
  return c;
}

LogitReader saved(const TempFolder& folder, std::span<const float> rows, std::span<const Token> targets) {
  const TokenChunks chunks = chunks_for_rows(static_cast<int>(targets.size()));
  auto writer = LogitWriter::create(folder / "base.bin", 1, kVocab, chunks);
  REQUIRE(writer.ok());
  PerplexityScorer scorer(1, &*writer);
  REQUIRE(scorer.add(rows, targets).ok());
  REQUIRE(writer->commit().ok());
  auto reader = LogitReader::open(folder / "base.bin");
  REQUIRE(reader.ok());
  return std::move(reader).value();
}

struct Call {
  std::vector<float> logits;
  std::vector<Token> targets;
};

// All that eval_chunks() hands out, in order.
Call all_rows(const Model& model, const TokenChunks& chunks, int max_batch) {
  SessionOptions options = session_for_chunks(chunks, max_batch);
  options.cache_k = options.cache_v = DType::kF32;
  const auto session = new_session(model, options);
  Call all;
  const Status status = eval_chunks(*session, chunks, [&](std::span<const float> logits, std::span<const Token> targets) {
    all.logits.insert(all.logits.end(), logits.begin(), logits.end());
    all.targets.insert(all.targets.end(), targets.begin(), targets.end());
    return Status::Ok();
  });
  REQUIRE_MESSAGE(status.ok(), status.message());
  return all;
}

TokenChunks random_chunks(int n_ctx, int n_chunks, Token bos) {
  return {n_ctx, n_chunks, bos, random_tokens(static_cast<size_t>(n_ctx) * static_cast<size_t>(n_chunks), 320, 5)};
}

}  // namespace

TEST_CASE("a text is cut into whole chunks, the rest is left out") {
  TokenizerData data = small_bpe("gpt-2");
  data.add_bos = true;
  const Tokenizer tokenizer = make(std::move(data));
  const std::string text = "the quick brown fox jumps over the lazy dog";
  const std::vector<Token> tokens = tokenizer.encode(text).value();
  REQUIRE(tokens.front() == tokenizer.bos());
  const auto chunks = cut_into_chunks(tokenizer, text, 4);
  REQUIRE(chunks.ok());
  CHECK(chunks->n_chunks == static_cast<int>(tokens.size() / 4));
  CHECK(chunks->bos == tokenizer.bos());
  CHECK(std::equal(chunks->tokens.begin(), chunks->tokens.end(), tokens.begin()));
  CHECK(chunks->tokens.size() == tokens.size() / 4 * 4);
  CHECK(cut_into_chunks(tokenizer, text, 4, 2)->n_chunks == 2);
  CHECK(*cut_into_chunks(tokenizer, text + "\n", 4) == *chunks);  // as llama.cpp reads files
  const Status too_short = cut_into_chunks(tokenizer, "a", 4).status();
  CHECK(too_short.code() == StatusCode::kInvalidArgument);
  CHECK(has_text(too_short, "wanted at least 4 tokens"));
  CHECK(cut_into_chunks(tokenizer, "", 4).status().code() == StatusCode::kInvalidArgument);
  CHECK(cut_into_chunks(tokenizer, text, 3).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a tokenizer that adds no bos leaves the chunks' first tokens in place") {
  const auto chunks = cut_into_chunks(make(small_bpe("gpt-2")), "some text of several words", 4);
  REQUIRE(chunks.ok());
  CHECK(chunks->bos == kNoToken);
}

TEST_CASE("chunks give the same rows whatever is evaluated at once") {
  const auto model = load_model(reference_path("olmoe"));
  const TokenChunks chunks = random_chunks(11, 5, 3);
  const Call wanted = all_rows(*model, chunks, 11);
  CHECK(wanted.targets.size() == 5 * 5);  // 11 − 1 − 5 a chunk
  for (const int batch : {1, 4, 10, 22, 40, 100}) {
    CAPTURE(batch);
    const Call found = all_rows(*model, chunks, batch);
    CHECK(found.targets == wanted.targets);
    CHECK(same_bits(found.logits, wanted.logits));
  }
}

TEST_CASE("rows are those of a sequence that begins with bos, targets the tokens that follow") {
  const auto model = load_model(reference_path("olmoe"));
  const TokenChunks chunks = random_chunks(9, 2, 3);
  const Call found = all_rows(*model, chunks, 64);
  for (int chunk = 0; chunk < 2; ++chunk) {
    std::vector<Token> tokens(chunks.tokens.begin() + chunk * 9, chunks.tokens.begin() + chunk * 9 + 9);
    const std::vector<Token> following(tokens.begin() + 5, tokens.end());
    tokens[0] = 3;
    const std::vector<float> logits = run_tokens(*model, tokens, 9);
    const size_t n = 4 * 320, at = static_cast<size_t>(chunk) * n;  // rows 4 to 7 predict tokens 5 to 8
    CHECK(same_bits(std::span(found.logits).subspan(at, n), std::span(logits).subspan(4 * 320, n)));
    CHECK(std::equal(following.begin(), following.end(), found.targets.begin() + chunk * 4));
  }
}

TEST_CASE("an evaluation ends with the error of its consumer, or when progress says so") {
  const auto model = load_model(reference_path("olmoe"));
  const TokenChunks chunks = random_chunks(8, 3, kNoToken);
  const auto session = new_session(*model, session_for_chunks(chunks, 8));
  int calls = 0;
  const auto fails = [&](std::span<const float>, std::span<const Token>) {
    ++calls;
    return Status::Io("disk full");
  };
  CHECK(eval_chunks(*session, chunks, fails).code() == StatusCode::kIo);
  CHECK(calls == 1);
  const auto works = [](std::span<const float>, std::span<const Token>) { return Status::Ok(); };
  CHECK(eval_chunks(*session, chunks, works, [](int) { return false; }).code() == StatusCode::kCancelled);
  CHECK(eval_chunks(*session, chunks, works).ok());
}

TEST_CASE("perplexity is the exponential of the mean negative log-probability, with its standard error") {
  const size_t n = 12;
  const std::vector<float> rows = random_rows(n, 1);
  const std::vector<Token> targets = targets_of(n);
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) {
    const double nll = -log_probs(std::span(rows).subspan(i * kVocab, kVocab))[static_cast<size_t>(targets[i])];
    sum += nll, squares += nll * nll;
  }
  const double mean = sum / n, error = std::sqrt((squares / n - mean * mean) / (n - 1));
  PerplexityScorer scorer(2);
  REQUIRE(scorer.add(std::span(rows).first(5 * kVocab), std::span(targets).first(5)).ok());
  REQUIRE(scorer.add(std::span(rows).subspan(5 * kVocab), std::span(targets).subspan(5)).ok());
  const PerplexityScore p = scorer.perplexity();
  CHECK(p.n_tokens == 12);
  CHECK(p.nll == doctest::Approx(mean).epsilon(1e-12));
  CHECK(p.perplexity == doctest::Approx(std::exp(mean)).epsilon(1e-12));
  CHECK(p.error == doctest::Approx(std::exp(mean) * error).epsilon(1e-9));
}

TEST_CASE("equal logits have the size of the vocabulary as perplexity") {
  PerplexityScorer scorer(1);
  const std::vector<float> rows(3 * kVocab, 1e4f);  // their exponentials overflow
  REQUIRE(scorer.add(rows, targets_of(3)).ok());
  CHECK(scorer.perplexity().perplexity == doctest::Approx(kVocab).epsilon(1e-12));
  CHECK(scorer.perplexity().error == doctest::Approx(0));
}

TEST_CASE("scores have the same bits for every number of threads") {
  TempFolder folder;
  const size_t n = 23;
  const std::vector<Token> targets = targets_of(n);
  const LogitReader base = saved(folder, random_rows(n, 1), targets);
  const auto score = [&](int threads) {
    PerplexityScorer scorer(threads, nullptr, &base);
    REQUIRE(scorer.add(random_rows(n, 2), targets).ok());
    return std::pair(scorer.perplexity().nll, scorer.divergence().kl);
  };
  const auto wanted = score(1);
  for (const int threads : {2, 3, 8}) CHECK(score(threads) == wanted);
}

TEST_CASE("a model does not diverge from itself") {
  TempFolder folder;
  const size_t n = 40;
  const std::vector<float> rows = random_rows(n, 1, 4);
  const std::vector<Token> targets = targets_of(n);
  const LogitReader base = saved(folder, rows, targets);
  PerplexityScorer scorer(1, nullptr, &base);
  REQUIRE(scorer.add(rows, targets).ok());
  const DivergenceScore d = scorer.divergence();
  CHECK(d.max < 1e-7);
  CHECK(d.same_top == 1);
  CHECK(d.same_top_error == 0);
  CHECK(d.ratio == doctest::Approx(1).epsilon(1e-6));
  CHECK(d.base.perplexity == doctest::Approx(scorer.perplexity().perplexity).epsilon(1e-6));
}

TEST_CASE("divergence, ratio and agreement are those of the definitions") {
  TempFolder folder;
  const size_t n = 30;
  const std::vector<float> base_rows = random_rows(n, 1);
  std::vector<float> rows = base_rows;
  Rng rng(9);
  for (float& v : rows) v += 0.5f * rng.normal();
  const std::vector<Token> targets = targets_of(n);
  const LogitReader base = saved(folder, base_rows, targets);
  PerplexityScorer scorer(1, nullptr, &base);
  REQUIRE(scorer.add(rows, targets).ok());

  double kl_sum = 0, kl_max = 0, ratio = 0;
  int same = 0;
  for (size_t i = 0; i < n; ++i) {
    const std::vector<double> p = log_probs(std::span(base_rows).subspan(i * kVocab, kVocab));
    const std::vector<double> q = log_probs(std::span(rows).subspan(i * kVocab, kVocab));
    double kl = 0;
    for (size_t t = 0; t < p.size(); ++t) kl += std::exp(p[t]) * (p[t] - q[t]);
    kl_sum += kl, kl_max = std::max(kl_max, kl);
    ratio += p[static_cast<size_t>(targets[i])] - q[static_cast<size_t>(targets[i])];
    same += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  }
  const DivergenceScore d = scorer.divergence();
  CHECK(d.kl == doctest::Approx(kl_sum / n).epsilon(1e-3));
  CHECK(d.max == doctest::Approx(kl_max).epsilon(1e-3));
  CHECK(d.median <= d.p90);
  CHECK(d.p90 <= d.p99);
  CHECK(d.p99 <= d.max);
  CHECK(d.kl_error > 0);
  CHECK(d.ratio == doctest::Approx(std::exp(ratio / n)).epsilon(1e-6));
  CHECK(same < static_cast<int>(n));
  CHECK(d.same_top == doctest::Approx(double(same) / n));
}

TEST_CASE("logits that make no distribution, and more rows than the base has, are refused") {
  PerplexityScorer scorer(1);
  std::vector<float> rows(kVocab, 0);
  rows[1] = std::numeric_limits<float>::infinity();
  CHECK(scorer.add(rows, targets_of(1)).code() == StatusCode::kCorrupt);
  rows.assign(kVocab, -std::numeric_limits<float>::infinity());
  CHECK(scorer.add(rows, targets_of(1)).code() == StatusCode::kCorrupt);
  TempFolder folder;
  const LogitReader base = saved(folder, random_rows(2, 1), targets_of(2));
  PerplexityScorer longer(1, nullptr, &base);
  CHECK(longer.add(random_rows(3, 1), targets_of(3)).code() == StatusCode::kOutOfRange);
}

TEST_CASE("quantiles lie between their neighbours") {
  const std::vector<double> x = {1, 2, 4, 8};
  CHECK(quantile(x, 0) == 1);
  CHECK(quantile(x, 1) == 8);
  CHECK(quantile(x, 0.5) == doctest::Approx(3));
  CHECK(quantile(x, 0.9) == doctest::Approx(4 + 0.7 * 4));
  CHECK(quantile(std::vector<double>{5}, 0.3) == 5);
}

}  // namespace moe
