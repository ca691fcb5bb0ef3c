// What a search reads, and what no part of it may share with another.
#include "evolution/text_data.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/rng.h"

namespace moe {
namespace {

TextDomain random_domain(const std::string& name, size_t n_documents, size_t length, uint64_t seed) {
  TextDomain d{name, {}};
  Rng rng(seed);
  for (size_t i = 0; i < n_documents; ++i) {
    std::vector<Token> t(length / 2 + rng.below(length));
    for (Token& token : t) token = static_cast<Token>(rng.below(30000));
    d.documents.push_back(std::move(t));
  }
  return d;
}

TextData made(std::span<const TextDomain> domains, const TextDataOptions& o = {}) {
  auto data = TextData::create(domains, o);
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  return std::move(data).value();
}

std::vector<const TextSplit*> splits(const TextData& d) { return {&d.calibration(), &d.select(), &d.test()}; }

// Sequences of a split, as they came.
std::multiset<std::vector<Token>> sequences(const TextSplit& s) {
  std::multiset<std::vector<Token>> all;
  for (const TextBlock& b : s.blocks) {
    auto at = b.tokens.begin();
    for (const int n : b.lengths) all.insert(std::vector<Token>(at, at + n)), at += n;
    CHECK(at == b.tokens.end());
  }
  return all;
}

TEST_CASE("documents go to three splits by their hashes, three fifths, a fifth and a fifth, equal ones together") {
  TextDomain d = random_domain("prose", 400, 20, 1);
  const size_t n = d.documents.size();
  for (size_t i = 0; i < n; ++i) d.documents.push_back(d.documents[i]);
  const TextData data = made({&d, 1}, {.n_ctx = 64, .block_tokens = 64});
  std::set<std::vector<Token>> seen;
  double total = 0;
  for (const TextSplit* s : splits(data)) {
    const auto all = sequences(*s);
    for (auto i = all.begin(); i != all.end(); i = all.upper_bound(*i)) {
      CHECK(all.count(*i) == 2);
      CHECK(seen.insert(*i).second);
    }
    total += static_cast<double>(s->n_tokens);
  }
  CHECK(seen.size() == n);
  CHECK(static_cast<double>(data.calibration().n_tokens) / total == doctest::Approx(0.6).epsilon(0.1));
  CHECK(static_cast<double>(data.select().n_tokens) / total == doctest::Approx(0.2).epsilon(0.2));

  // More text leaves every document where it was.
  TextDomain more = d;
  for (auto& document : random_domain("", 100, 20, 2).documents) more.documents.push_back(std::move(document));
  const TextData larger = made({&more, 1}, {.n_ctx = 64, .block_tokens = 64});
  for (size_t i = 0; i < 3; ++i) {
    const auto now = sequences(*splits(larger)[i]);
    for (const auto& sequence : sequences(*splits(data)[i])) CHECK(now.count(sequence) == 2);
  }
}

TEST_CASE("a text of one document gives each split something, and no token twice") {
  for (const size_t length : {64, 100, 3000}) {
    CAPTURE(length);
    TextDomain d{"one", {std::vector<Token>(length)}};
    std::iota(d.documents[0].begin(), d.documents[0].end(), 0);
    const TextData data = made({&d, 1}, {.n_ctx = 32, .block_tokens = 32});
    std::set<Token> seen;
    int64_t n = 0;
    for (const TextSplit* s : splits(data)) {
      CHECK(s->n_tokens > 0);
      CHECK(s->n_rows > 0);
      n += s->n_tokens;
      for (const TextBlock& b : s->blocks) seen.insert(b.tokens.begin(), b.tokens.end());
    }
    CHECK(seen.size() == static_cast<size_t>(n));
    CHECK(n >= static_cast<int64_t>(length) * 9 / 10);
  }
}

TEST_CASE("blocks are of one domain, any prefix has all, and rows predict what comes next") {
  const std::vector<TextDomain> domains = {random_domain("a", 60, 40, 1), random_domain("b", 60, 300, 2),
                                           random_domain("c", 60, 90, 3)};
  const TextData data = made(domains, {.n_ctx = 64, .block_tokens = 128, .context = 6, .bos = 30001});
  for (const TextSplit* s : splits(data)) {
    for (size_t i = 0; i < 6; ++i) CHECK(s->blocks[i].domain == static_cast<int>(i % 3));
    int64_t n_tokens = 0, n_rows = 0;
    for (const TextBlock& b : s->blocks) {
      CHECK(b.tokens.size() <= 128);
      n_tokens += static_cast<int64_t>(b.tokens.size()), n_rows += static_cast<int64_t>(b.rows.size());
      int first = 0, row = 0;
      for (size_t q = 0; q < b.lengths.size(); ++q) {
        CHECK(b.lengths[q] <= 64);
        CHECK(b.tokens[static_cast<size_t>(first)] == 30001);
        const int context = std::min(6, b.lengths[q] / 2);
        for (int t = context; t + 1 < b.lengths[q]; ++t, ++row) {
          REQUIRE(b.rows[static_cast<size_t>(row)] == first + t);
          REQUIRE(b.targets[static_cast<size_t>(row)] == b.tokens[static_cast<size_t>(first + t + 1)]);
        }
        CHECK(b.rows_until[q] == row);
        first += b.lengths[q];
      }
      CHECK(row == static_cast<int>(b.rows.size()));
    }
    CHECK(n_tokens == s->n_tokens);
    CHECK(n_rows == s->n_rows);
  }
}

TEST_CASE("a limit takes an equal part of each domain") {
  const std::vector<TextDomain> domains = {random_domain("a", 100, 100, 1), random_domain("b", 100, 100, 2)};
  const TextData data = made(domains, {.n_ctx = 32, .block_tokens = 32, .select_tokens = 640});
  int64_t n[2] = {};
  for (const TextBlock& b : data.select().blocks) n[b.domain] += static_cast<int64_t>(b.tokens.size());
  for (const int64_t tokens : n) CHECK((tokens >= 320 && tokens < 352));
}

TEST_CASE("minibatches are drawn by seed and text, every block once, all domains in turn") {
  const std::vector<TextDomain> domains = {random_domain("a", 100, 100, 1), random_domain("b", 100, 200, 2)};
  const TextData data = made(domains, {.n_ctx = 32, .block_tokens = 32});
  const auto batch = data.minibatch(3, 5, 20);
  REQUIRE(batch.size() == 20);
  CHECK(std::set<int>(batch.begin(), batch.end()).size() == 20);
  for (size_t i = 0; i < batch.size(); ++i)
    CHECK(data.select().blocks[static_cast<size_t>(batch[i])].domain == static_cast<int>(i % 2));
  CHECK(batch == data.minibatch(3, 5, 20));
  CHECK(batch != data.minibatch(3, 6, 20));
  CHECK(batch != data.minibatch(4, 5, 20));
  const auto prefix = data.minibatch(3, 5, 7);
  CHECK(std::equal(prefix.begin(), prefix.end(), batch.begin()));
  auto all = data.minibatch(3, 5, 1 << 20);
  CHECK(all.size() == data.select().blocks.size());
  std::sort(all.begin(), all.end());
  CHECK(std::unique(all.begin(), all.end()) == all.end());
}

TEST_CASE("texts that cannot be split are refused by name") {
  const auto refused = [](const TextDomain& d, const std::string& part, const TextDataOptions& o = {}) {
    const auto data = TextData::create({&d, 1}, o);
    REQUIRE(!data.ok());
    CHECK(data.status().message().find(part) != std::string::npos);
  };
  refused({"short", {std::vector<Token>(63, 1)}}, "short");
  refused({"same", {std::vector<Token>(5000, 1)}}, "same");
  refused({"none", {}}, "none");
  refused({"negative", {std::vector<Token>(100, -2)}}, "negative");
  refused(random_domain("blocks", 10, 100, 1), "blocks of no less", {.n_ctx = 64, .block_tokens = 32});
  CHECK(!TextData::create({}, {}).ok());
}

TEST_CASE("a task is a sequence for each choice, and the likeliest by length wins") {
  std::vector<ChoiceTask> tasks = {{{1, 2, 3}, {{4}, {5, 6}}, 1, {}}, {{7, 8, 9, 10}, {{11, 12, 13}, {14}, {15}}, 0, {}}};
  auto blocks = choice_blocks(tasks, 6, 12, 99);
  REQUIRE(blocks.ok());
  std::vector<std::vector<Token>> all;
  std::vector<Token> targets;
  for (const TextBlock& b : *blocks) {
    CHECK(b.tokens.size() <= 12);
    auto at = b.tokens.begin();
    for (const int n : b.lengths) all.emplace_back(at, at + n), at += n;
    for (size_t i = 0; i < b.rows.size(); ++i) {
      CHECK(b.targets[i] == b.tokens[static_cast<size_t>(b.rows[i]) + 1]);
      targets.push_back(b.targets[i]);
    }
  }
  CHECK(all ==
        std::vector<std::vector<Token>>{
            {99, 1, 2, 3, 4}, {99, 1, 2, 3, 5, 6}, {8, 9, 10, 11, 12, 13}, {99, 7, 8, 9, 10, 14}, {99, 7, 8, 9, 10, 15}});
  CHECK(targets == std::vector<Token>{4, 5, 6, 11, 12, 13, 14, 15});
  const std::vector<double> nll = {2.0, 3.0, 9.0, 3.0, 4.0};
  CHECK(chosen(tasks, nll) == std::vector<int>{1, 0});  // 1.5 beats 2; 3 ties with 3
  tasks[0].lengths = {2, 1};
  CHECK(chosen(tasks, nll) == std::vector<int>{0, 0});
  tasks[1].answer = 3;
  CHECK(!choice_blocks(tasks, 6, 12, 99).ok());
  CHECK(!choice_blocks(std::vector<ChoiceTask>{{{1}, {{2, 3, 4, 5, 6, 7}, {1}}, 0, {}}}, 6, 12, 99).ok());
}

}  // namespace
}  // namespace moe
