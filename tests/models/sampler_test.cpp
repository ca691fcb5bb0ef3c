#include "models/sampler.h"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tests/allocation_count.h"

namespace {

using moe::Sampler;
using moe::SamplerOptions;
using moe::Token;
using moe::TokenChoice;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Every filter off, temperature 1: each test turns on the one it is about.
SamplerOptions plain() {
  SamplerOptions o;
  o.temperature = 1;
  o.top_k = 0;
  o.top_p = 1;
  o.min_p = 0;
  o.seed = 42;
  return o;
}

Sampler make(const SamplerOptions& o, size_t n_vocab) {
  auto s = Sampler::create(o, static_cast<int>(n_vocab));
  REQUIRE_MESSAGE(s.ok(), s.status().message());
  return std::move(s).value();
}

std::vector<float> logits_of(const std::vector<double>& p) {
  std::vector<float> x;
  x.reserve(p.size());
  for (double v : p) x.push_back(static_cast<float>(std::log(v)));
  return x;
}

using Distribution = std::map<Token, double>;

// Token id -> probability of what sample() would draw from.
Distribution distribution(Sampler& s, const std::vector<float>& logits) {
  Distribution d;
  for (const TokenChoice& c : s.distribution(logits)) d[c.id] = c.p;
  return d;
}

Distribution distribution(const SamplerOptions& o, const std::vector<float>& logits) {
  Sampler s = make(o, logits.size());
  return distribution(s, logits);
}

void check_equal(const Distribution& found, const Distribution& wanted) {
  REQUIRE(found.size() == wanted.size());
  for (const auto& row : wanted) {
    CAPTURE(row.first);
    REQUIRE(found.count(row.first) == 1);
    CHECK(found.at(row.first) == doctest::Approx(row.second).epsilon(1e-6));
  }
}

// A fixed scramble: logits in [-8, 8) on a grid of 1/4096, so that a large vocabulary has ties.
std::vector<float> scrambled(size_t n, uint32_t salt) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + salt;
    h = (h ^ (h >> 15)) * 2246822519u;
    x[i] = static_cast<float>((h >> 16) & 0xffffu) / 4096.0f - 8.0f;
  }
  return x;
}

// The five probabilities behind most cases, in no particular order of ids.
const std::vector<double> kFive = {0.1, 0.4, 0.05, 0.25, 0.2};

}  // namespace

TEST_CASE("without filters the distribution is the softmax of the logits") {
  check_equal(distribution(plain(), logits_of(kFive)), {{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.25}, {4, 0.2}});
}

TEST_CASE("temperature divides the logits") {
  SamplerOptions o = plain();
  o.temperature = 0.5f;  // squares: 0.01, 0.16, 0.0025, 0.0625, 0.04; their sum is 0.275
  check_equal(distribution(o, logits_of(kFive)),
              {{0, 0.01 / 0.275}, {1, 0.16 / 0.275}, {2, 0.0025 / 0.275}, {3, 0.0625 / 0.275}, {4, 0.04 / 0.275}});
}

TEST_CASE("top-k keeps the k highest and renormalises") {
  SamplerOptions o = plain();
  o.top_k = 3;
  check_equal(distribution(o, logits_of(kFive)), {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}});
}

TEST_CASE("top-k settles ties by the lower id") {
  SamplerOptions o = plain();
  o.top_k = 2;
  check_equal(distribution(o, {1, 2, 2, 1, 2}), {{1, 0.5}, {2, 0.5}});
}

TEST_CASE("top-k of a large vocabulary equals a full sort") {
  const std::vector<float> x = scrambled(20000, 7);
  std::vector<Token> ids(x.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>(i);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](Token a, Token b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
  for (int k : {1, 40, 1000, 19999, 20000, 30000}) {
    CAPTURE(k);
    SamplerOptions o = plain();
    o.top_k = k;
    Sampler s = make(o, x.size());
    std::vector<Token> kept;
    for (const TokenChoice& c : s.distribution(x)) kept.push_back(c.id);
    std::vector<Token> wanted(ids.begin(), ids.begin() + std::min(k, 20000));
    if (k >= 20000) std::sort(kept.begin(), kept.end()), std::sort(wanted.begin(), wanted.end());
    CHECK(kept == wanted);
  }
}

TEST_CASE("top-k survives ascending logits, the worst case of its buffer") {
  std::vector<float> x(5000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) * 0.001f;
  SamplerOptions o = plain();
  o.top_k = 3;
  Sampler s = make(o, x.size());
  const auto c = s.distribution(x);
  REQUIRE(c.size() == 3);
  CHECK(c[0].id == 4999);
  CHECK(c[1].id == 4998);
  CHECK(c[2].id == 4997);
}

TEST_CASE("top-p keeps the fewest tokens whose probabilities reach p") {
  SamplerOptions o = plain();
  o.top_p = 0.6f;  // 0.4 < 0.6 <= 0.65
  check_equal(distribution(o, logits_of(kFive)), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  o.top_p = 0.66f;  // 0.65 < 0.66 <= 0.85
  check_equal(distribution(o, logits_of(kFive)), {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}});
  o.top_p = 0;
  check_equal(distribution(o, logits_of(kFive)), {{1, 1}});
}

TEST_CASE("top-p counts a sum that equals p as reached") {
  SamplerOptions o = plain();
  o.top_p = 0.5f;
  check_equal(distribution(o, {3, 3, 3, 3}), {{0, 0.5}, {1, 0.5}});
}

TEST_CASE("top-p of a large vocabulary equals a full sort") {
  const std::vector<float> x = scrambled(20000, 3);
  for (float p : {0.01f, 0.3f, 0.9f, 0.999f}) {
    CAPTURE(p);
    SamplerOptions o = plain();
    o.top_p = p;
    Sampler s = make(o, x.size());
    const auto kept = s.distribution(x);
    double sum = 0;
    for (float v : x) sum += std::exp(double(v) - 8);
    double reached = 0;
    for (size_t i = 0; i < kept.size(); ++i) {
      if (i > 0)
        CHECK((kept[i - 1].logit > kept[i].logit || (kept[i - 1].logit == kept[i].logit && kept[i - 1].id < kept[i].id)));
      if (i + 1 == kept.size()) CHECK(reached < p);
      reached += std::exp(double(kept[i].logit) - 8) / sum;
    }
    CHECK(reached > p - 1e-9);
    const auto above = std::count_if(x.begin(), x.end(), [&](float v) { return v > kept.back().logit; });
    CHECK(above < static_cast<long>(kept.size()));
  }
}

TEST_CASE("min-p keeps what reaches a share of the highest probability") {
  SamplerOptions o = plain();
  o.min_p = 0.3f;  // the bar is 0.12
  check_equal(distribution(o, logits_of(kFive)), {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}});
  o.min_p = 1;
  check_equal(distribution(o, {5, 7, 7, 1}), {{1, 0.5}, {2, 0.5}});
}

TEST_CASE("min_keep outweighs min-p, top-p and typical") {
  SamplerOptions o = plain();
  o.min_keep = 3;
  const Distribution three = {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}};
  o.min_p = 0.9f;
  check_equal(distribution(o, logits_of(kFive)), three);
  o.min_p = 0;
  o.top_p = 0.1f;
  check_equal(distribution(o, logits_of(kFive)), three);
  o.top_p = 1;
  o.typical_p = 0.01f;
  CHECK(distribution(o, logits_of(kFive)).size() == 3);
  o.min_keep = 100;
  CHECK(distribution(o, logits_of(kFive)).size() == 5);
}

TEST_CASE("typical keeps what is nearest to the entropy first") {
  // Entropy of {0.1, 0.4, 0.05, 0.25, 0.2} is 1.4150 nats. Information of each: 2.3026, 0.9163, 2.9957, 1.3863, 1.6094;
  // distance: 0.8876, 0.4987, 1.5807, 0.0287, 0.1944. So the order is 3 (0.25), 4 (0.2), 1 (0.4), 0 (0.1), 2 (0.05).
  SamplerOptions o = plain();
  o.typical_p = 0.2f;
  check_equal(distribution(o, logits_of(kFive)), {{3, 1}});
  o.typical_p = 0.4f;
  check_equal(distribution(o, logits_of(kFive)), {{3, 0.25 / 0.45}, {4, 0.2 / 0.45}});
  o.typical_p = 0.5f;
  check_equal(distribution(o, logits_of(kFive)), {{3, 0.25 / 0.85}, {4, 0.2 / 0.85}, {1, 0.4 / 0.85}});
  Sampler s = make(o, 5);
  const auto c = s.distribution(logits_of(kFive));
  CHECK(c[0].surprise == doctest::Approx(0.0287).epsilon(0.01));
  CHECK(c[2].surprise == doctest::Approx(0.4987).epsilon(0.001));
}

TEST_CASE("typical needs more than p where top-p needs p") {
  SamplerOptions o = plain();
  o.typical_p = 0.5f;
  CHECK(distribution(o, {3, 3, 3, 3}).size() == 3);
}

TEST_CASE("greedy takes the most typical tokens' best when typical is on") {
  SamplerOptions o = plain();
  o.temperature = 0;
  o.typical_p = 0.4f;  // leaves 3 and 4
  CHECK(make(o, 5).sample(logits_of(kFive)) == 3);
}

TEST_CASE("the filters follow each other: top-k, then typical, top-p and min-p each on a renormalised rest") {
  SamplerOptions o = plain();
  o.top_k = 4;      // 0.4 0.25 0.2 0.1 of 0.95: 0.4211 0.2632 0.2105 0.1053
  o.top_p = 0.85f;  // 0.4211 + 0.2632 + 0.2105 = 0.8947
  o.min_p = 0.55f;  // 0.25 / 0.4 = 0.625 stays, 0.2 / 0.4 = 0.5 goes
  o.temperature = 0.5f;
  check_equal(distribution(o, logits_of(kFive)), {{1, 0.16 / 0.2225}, {3, 0.0625 / 0.2225}});
}

TEST_CASE("greedy takes the highest logit, the lowest id among equals") {
  for (float t : {0.0f, -1.0f}) {
    SamplerOptions o;
    o.temperature = t;
    CHECK(make(o, 5).sample(std::vector<float>{1, 5, 3, 5, -2}) == 1);
    CHECK(make(o, 3).sample(std::vector<float>{-7, -9, -7}) == 0);
  }
}

TEST_CASE("logit bias adds up, and -inf bans") {
  SamplerOptions o = plain();
  o.logit_bias = {{0, std::log(2.0f)}, {0, std::log(2.0f)}, {1, -kInf}};
  // 0.1 · 4, banned, 0.05, 0.25, 0.2: sum 0.9
  check_equal(distribution(o, logits_of(kFive)), {{0, 0.4 / 0.9}, {2, 0.05 / 0.9}, {3, 0.25 / 0.9}, {4, 0.2 / 0.9}});
  o.temperature = 0;
  CHECK(make(o, 5).sample(logits_of(kFive)) == 0);
}

TEST_CASE("the repeat penalty divides positive logits and multiplies the others, once a token") {
  SamplerOptions o = plain();
  o.repeat_penalty = 2;
  Sampler s = make(o, 4);
  for (Token t : {0, 1, 1, 1, 2}) s.accept(t);
  const auto c = s.distribution(std::vector<float>{3, -3, 0, 1});
  REQUIRE(c.size() == 4);
  CHECK(c[0].logit == 1.5f);
  CHECK(c[1].logit == -6);
  CHECK(c[2].logit == 0);
  CHECK(c[3].logit == 1);
}

TEST_CASE("frequency and presence penalties subtract per occurrence and once") {
  SamplerOptions o = plain();
  o.frequency_penalty = 0.25f;
  o.presence_penalty = 0.5f;
  Sampler s = make(o, 4);
  for (Token t : {1, 1, 2, 1}) s.accept(t);
  for (int round = 0; round < 2; ++round) {  // sampling leaves the counts as they were
    const auto c = s.distribution(std::vector<float>{2, 2, 2, 2});
    REQUIRE(c.size() == 4);
    CHECK(c[0].logit == 2);
    CHECK(c[1].logit == 0.75f);
    CHECK(c[2].logit == 1.25f);
    CHECK(c[3].logit == 2);
  }
}

TEST_CASE("logit bias comes before the penalties") {
  SamplerOptions o = plain();
  o.repeat_penalty = 2;
  o.logit_bias = {{0, 4.0f}};
  Sampler s = make(o, 2);
  s.accept(0);
  CHECK(s.distribution(std::vector<float>{-2, 0})[0].logit == 1);  // (-2 + 4) / 2
}

TEST_CASE("tokens leave the penalty window after penalty_last_n others") {
  SamplerOptions o = plain();
  o.presence_penalty = 1;
  o.penalty_last_n = 3;
  Sampler s = make(o, 8);
  const std::vector<float> zero(8, 0.0f);
  const auto penalised = [&] {
    std::vector<Token> ids;
    for (const TokenChoice& c : s.distribution(zero)) {
      if (c.logit < 0) ids.push_back(c.id);
    }
    return ids;
  };
  CHECK(penalised().empty());
  for (Token t : {5, 6, 5}) s.accept(t);
  CHECK(penalised() == std::vector<Token>{5, 6});
  s.accept(7);  // the first 5 leaves, the second stays
  CHECK(penalised() == std::vector<Token>{5, 6, 7});
  s.accept(7);
  CHECK(penalised() == std::vector<Token>{5, 7});
  s.accept(7);
  CHECK(penalised() == std::vector<Token>{7});
  s.reset();
  CHECK(penalised().empty());
  o.penalty_last_n = 0;
  s = make(o, 8);
  s.accept(1);
  CHECK(penalised().empty());
}

TEST_CASE("accept ignores ids outside the vocabulary") {
  SamplerOptions o = plain();
  o.presence_penalty = 1;
  Sampler s = make(o, 2);
  for (Token t : {-1, 2, std::numeric_limits<Token>::max(), std::numeric_limits<Token>::min()}) s.accept(t);
  check_equal(distribution(s, {0, 0}), {{0, 0.5}, {1, 0.5}});
}

TEST_CASE("NaN and -inf logits are never drawn, and +inf counts as the largest float") {
  for (int top_k : {0, 2}) {
    for (float temperature : {0.0f, 1.0f}) {
      CAPTURE(top_k);
      CAPTURE(temperature);
      SamplerOptions o;
      o.temperature = temperature;
      o.top_k = top_k;
      CHECK(distribution(o, {kNan, -kInf, 1, kNan}) == Distribution{{2, 1}});
      CHECK(distribution(o, {kNan, 3, kInf, 2}) == Distribution{{2, 1}});
      CHECK(distribution(o, {-kInf, -kInf, kNan, -kInf}) == Distribution{{0, 1}});
      CHECK(make(o, 4).sample(std::vector<float>(4, kNan)) == 0);
      CHECK(make(o, 4).sample(std::vector<float>(4, -kInf)) == 0);
    }
  }
  check_equal(distribution(plain(), {kInf, 0, kInf, kNan}), {{0, 0.5}, {1, 0}, {2, 0.5}});
}

TEST_CASE("extreme logits and temperatures leave a distribution") {
  const std::vector<float> x = {3e38f, -3e38f, 1e-38f, 2.9e38f, 0};
  for (float temperature : {1e-38f, 1e-3f, 1.0f, 3e38f}) {
    for (float typical : {1.0f, 0.5f}) {
      SamplerOptions o;
      o.temperature = temperature;
      o.typical_p = typical;
      o.top_k = 0;
      double sum = 0;
      for (const auto& [id, p] : distribution(o, x)) sum += p;
      CHECK(sum == doctest::Approx(1));
    }
  }
}

TEST_CASE("draws follow the distribution (chi-square)") {
  SamplerOptions o = plain();
  o.seed = 1;
  Sampler s = make(o, kFive.size());
  const std::vector<float> x = logits_of(kFive);
  const int n = 20000;
  std::vector<int> seen(kFive.size());
  for (int i = 0; i < n; ++i) ++seen[static_cast<size_t>(s.sample(x))];
  double chi = 0;
  for (size_t i = 0; i < kFive.size(); ++i) chi += std::pow(seen[i] - n * kFive[i], 2) / (n * kFive[i]);
  CHECK(chi < 18.47);  // 4 degrees of freedom, 0.1 %
}

TEST_CASE("the same seed gives the same tokens, another seed others, and reset starts over") {
  const auto run = [](Sampler& s) {
    std::vector<Token> out;
    for (uint32_t i = 0; i < 50; ++i) {
      out.push_back(s.sample(scrambled(3000, i)));
      s.accept(out.back());
    }
    return out;
  };
  SamplerOptions o;
  o.top_k = 0;
  o.temperature = 1.5f;
  o.repeat_penalty = 1.3f;
  o.typical_p = 0.95f;
  o.seed = 11;
  Sampler a = make(o, 3000), b = make(o, 3000);
  const std::vector<Token> first = run(a);
  CHECK(run(b) == first);
  CHECK(run(a) != first);
  a.reset();
  CHECK(run(a) == first);
  o.seed = 12;
  Sampler c = make(o, 3000);
  CHECK(run(c) != first);
}

TEST_CASE("the tokens of a seed are these on every platform") {
  SamplerOptions o;
  o.top_k = 0;
  o.top_p = 0.99f;
  o.temperature = 1.25f;
  o.presence_penalty = 0.5f;
  o.seed = 2024;
  Sampler s = make(o, 1000);
  std::vector<Token> out;
  for (uint32_t i = 0; i < 8; ++i) {
    out.push_back(s.sample(scrambled(1000, i)));
    s.accept(out.back());
  }
  CHECK(out == std::vector<Token>{661, 440, 648, 91, 737, 92, 969, 631});
}

TEST_CASE("a copy goes on from the same state on its own") {
  SamplerOptions o = plain();
  o.presence_penalty = 1;
  Sampler a = make(o, 100);
  a.sample(scrambled(100, 0));
  a.accept(3);
  Sampler b = a;
  const std::vector<float> x = scrambled(100, 1);
  const Token next = a.sample(x);
  a.accept(next);
  CHECK(b.sample(x) == next);
}

TEST_CASE("one sample is one draw, however many candidates there were") {
  SamplerOptions o = plain();
  Sampler a = make(o, 4), b = make(o, 4);
  a.sample(std::vector<float>{0, 1, 2, 3});
  b.sample(std::vector<float>{-kInf, -kInf, 2, -kInf});
  const std::vector<float> x = scrambled(4, 5);
  for (int i = 0; i < 20; ++i) CHECK(a.sample(x) == b.sample(x));
}

TEST_CASE("sampling and accepting allocate nothing") {
  const std::vector<float> x = scrambled(5000, 2);
  for (const auto& [top_k, temperature] : {std::pair(0, 1.0f), std::pair(40, 1.0f), std::pair(40, 0.0f)}) {
    SamplerOptions o;
    o.top_k = top_k;
    o.temperature = temperature;
    o.typical_p = 0.9f;
    o.repeat_penalty = 1.1f;
    o.logit_bias = {{4, 1.0f}};
    Sampler s = make(o, x.size());
    const uint64_t before = moe::test::allocation_count();
    for (int i = 0; i < 100; ++i) s.accept(s.sample(x));
    s.reset();
    CHECK(moe::test::allocation_count() == before);
  }
}

TEST_CASE("logits of another vocabulary are our own bug") {
  Sampler s = make(plain(), 4);
  CHECK_THROWS_AS(s.sample(std::vector<float>(3, 0.0f)), moe::BugError);
}

TEST_CASE("a vocabulary of one token works with every option") {
  SamplerOptions o;
  o.typical_p = 0.5f;
  o.repeat_penalty = 1.1f;
  o.min_keep = 5;
  CHECK(make(o, 1).sample(std::vector<float>{-3}) == 0);
}

TEST_CASE("refused options name option, wanted and found") {
  struct Case {
    const char* message;
    void (*edit)(SamplerOptions&);
  };
  const Case cases[] = {
      {"temperature: wanted a finite number, found nan", [](SamplerOptions& o) { o.temperature = kNan; }},
      {"temperature: wanted a finite number, found inf", [](SamplerOptions& o) { o.temperature = kInf; }},
      {"top_p: wanted 0 to 1, found 1.5", [](SamplerOptions& o) { o.top_p = 1.5f; }},
      {"top_p: wanted 0 to 1, found nan", [](SamplerOptions& o) { o.top_p = kNan; }},
      {"min_p: wanted 0 to 1, found -0.5", [](SamplerOptions& o) { o.min_p = -0.5f; }},
      {"typical_p: wanted 0 to 1, found 2", [](SamplerOptions& o) { o.typical_p = 2; }},
      {"repeat_penalty: wanted finite and above 0, found 0", [](SamplerOptions& o) { o.repeat_penalty = 0; }},
      {"frequency_penalty: wanted a finite number, found -inf", [](SamplerOptions& o) { o.frequency_penalty = -kInf; }},
      {"presence_penalty: wanted a finite number, found nan", [](SamplerOptions& o) { o.presence_penalty = kNan; }},
      {"penalty_last_n: wanted 0 to 16777216, found -1", [](SamplerOptions& o) { o.penalty_last_n = -1; }},
      {"min_keep: wanted 0 or more, found -1", [](SamplerOptions& o) { o.min_keep = -1; }},
      {"logit_bias: wanted token ids from 0 to 9, found 10",
       [](SamplerOptions& o) {
         o.logit_bias = {{10, 1.0f}};
       }},
      {"logit_bias: wanted token ids from 0 to 9, found -1",
       [](SamplerOptions& o) {
         o.logit_bias = {{-1, 1.0f}};
       }},
      {"logit_bias: wanted a finite bias or -inf for token 3, found inf",
       [](SamplerOptions& o) {
         o.logit_bias = {{3, kInf}};
       }},
  };
  for (const Case& c : cases) {
    SamplerOptions o;
    c.edit(o);
    const auto s = Sampler::create(o, 10);
    CAPTURE(c.message);
    REQUIRE_FALSE(s.ok());
    CHECK(s.status().code() == moe::StatusCode::kInvalidArgument);
    CHECK(s.status().message().find(c.message) != std::string::npos);
  }
  CHECK_FALSE(Sampler::create(SamplerOptions(), 0).ok());
}
