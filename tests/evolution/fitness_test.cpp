// Fitness against sessions: the same divergences, whatever was known before, and costs that are counted once.
#include "evolution/fitness.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "evolution/breed.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::vector<TextDomain> two_domains(int n_vocab, size_t n_documents = 12) {
  std::vector<TextDomain> domains = {{"first", {}}, {"second", {}}};
  for (size_t i = 0; i < n_documents; ++i) {
    domains[0].documents.push_back(random_tokens(20 + i, n_vocab / 2, 1 + i));
    domains[1].documents.push_back(random_tokens(30 + i, n_vocab, 100 + i));
  }
  return domains;
}

constexpr TextDataOptions kSmallText = {.n_ctx = 16, .block_tokens = 24, .context = 2};

// A model of four layers and genomes of it.
struct Small {
  explicit Small(const std::string& arch = "olmoe", const Setup& setup = {}) {
    ModelConfig c = tiny_config(arch);
    c.n_layer = 4;
    const TempFolder folder;
    model = load_model(random_model(c).write(folder), setup);
    Constraints constraints;
    constraints.skip = true;
    auto made = SearchSpace::create(model->routing_shape(), constraints);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    space.emplace(std::move(made).value());
    full = *genome_of(full_topology(space->shape()), space->shape(), pool);
  }

  std::unique_ptr<Fitness> fitness(const FitnessOptions& options, const TextDataOptions& text = kSmallText) const {
    auto data = TextData::create(two_domains(model->config().n_vocab), text);
    REQUIRE_MESSAGE(data.ok(), data.status().message());
    auto f = Fitness::create(*model, std::move(data).value(), options);
    REQUIRE_MESSAGE(f.ok(), f.status().message());
    return std::move(f).value();
  }

  // Each bred from the one before it.
  std::vector<Genome> line(uint32_t n, uint64_t seed = 1) {
    const auto variation = Variation::create(*space);
    REQUIRE(variation.ok());
    std::vector<Genome> all = {full};
    for (uint32_t i = 1; i < n; ++i) all.push_back(breed(all.back(), all.back(), *variation, *space, seed, 1, i, pool));
    return all;
  }

  // The full model, but for one layer that uses an expert less a token.
  Genome changed(size_t layer) {
    RoutingTopology t = full_topology(space->shape());
    t.layers[layer].k_min = t.layers[layer].k_max = t.layers[layer].k_max - 1;
    return *genome_of(t, space->shape(), pool);
  }

  std::unique_ptr<Model> model;
  std::optional<SearchSpace> space;
  GenePool pool;
  Genome full;
};

FitnessOptions small_options() {
  FitnessOptions o;
  o.n_sampled = 40, o.score_tokens = 100, o.probe_tokens = 60, o.widths = true;
  o.memory = {.residual_bytes = 1 << 20, .teacher_bytes = 1 << 20, .n_memo = 1000};
  return o;
}

std::vector<Evaluation> scored(Fitness& f, std::span<const Genome> genomes, uint32_t generation = 0,
                               const KeepBetter& keep = {}) {
  std::vector<Evaluation> r(genomes.size());
  const Status s = f.score(generation, genomes, keep, r);
  REQUIRE_MESSAGE(s.ok(), s.message());
  return r;
}

bool same_number(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

bool same_result(const Evaluation& a, const Evaluation& b) {
  const auto same_all = [](const std::vector<double>& x, const std::vector<double>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), same_number);
  };
  return same_number(a.active_flops, b.active_flops) && same_number(a.load_cv, b.load_cv) &&
         same_number(a.layer_error, b.layer_error) && same_all(a.layer_errors, b.layer_errors) && same_number(a.kl, b.kl) &&
         same_number(a.kl_error, b.kl_error) && same_all(a.domain_kl, b.domain_kl) && same_number(a.nll, b.nll) &&
         same_number(a.accuracy, b.accuracy) && a.tokens == b.tokens && a.dropped == b.dropped;
}

// Mean divergence over a split, in sessions.
double session_kl(const Model& model, const TextSplit& split, const RoutingTopology& topology) {
  const auto V = static_cast<size_t>(model.config().n_vocab);
  double sum = 0, n = 0;
  for (const TextBlock& b : split.blocks) {
    size_t first = 0, row = 0;
    for (size_t s = 0; s < b.lengths.size(); ++s) {
      const auto length = static_cast<size_t>(b.lengths[s]);
      const auto tokens = std::span(b.tokens).subspan(first, length);
      const auto full = new_session(model), other = new_session(model);
      REQUIRE(other->set_topology(topology).ok());
      const auto p = run_tokens(*full, tokens, length), q = run_tokens(*other, tokens, length);
      for (; row < static_cast<size_t>(b.rows_until[s]); ++row, ++n) {
        const size_t t = static_cast<size_t>(b.rows[row]) - first;
        const auto lse = [&](const std::vector<float>& z) {
          double total = 0;
          for (size_t v = 0; v < V; ++v) total += std::exp(static_cast<double>(z[t * V + v]));
          return std::log(total);
        };
        const double a = lse(p), c = lse(q);
        for (size_t v = 0; v < V; ++v) {
          const double ln_p = static_cast<double>(p[t * V + v]) - a;
          sum += std::exp(ln_p) * (ln_p - (static_cast<double>(q[t * V + v]) - c));
        }
      }
      first += length;
    }
  }
  return sum / n;
}

TEST_CASE("divergences are those of sessions, and the full model's is none") {
  for (const char* arch : {"olmoe", "deepseek2", "gpt-oss"}) {
    CAPTURE(arch);
    Small small(arch);
    FitnessOptions o = small_options();
    o.score_tokens = 1 << 20;
    const auto f = small.fitness(o);
    const std::vector<Genome> genomes = small.line(6);
    const auto r = scored(*f, genomes);
    CHECK(std::fabs(r[0].kl) < 1e-9);
    CHECK(r[0].layer_error == 0);
    const TextSplit& select = f->text().select();
    CHECK(r[0].tokens == select.n_rows);
    for (size_t i = 1; i < genomes.size(); ++i) {
      const double wanted = session_kl(*small.model, select, topology_of(genomes[i], small.space->shape()));
      CHECK(r[i].kl == doctest::Approx(wanted).epsilon(1e-5));
      CHECK(r[i].worst_domain_kl == std::max(r[i].domain_kl[0], r[i].domain_kl[1]));
      CHECK(std::isfinite(r[i].nll));
      CHECK(r[i].kl_error >= 0);
      CHECK(r[i].layer_errors.size() == 4);
    }
    std::vector<Evaluation> confirmed(genomes.size());
    REQUIRE(f->confirm(genomes, confirmed).ok());
    for (size_t i = 0; i < genomes.size(); ++i) CHECK(confirmed[i].kl == doctest::Approx(r[i].kl).epsilon(1e-12));
  }
}

TEST_CASE("results do not depend on what was asked before or on memory") {
  Small small("olmoe", {false, 1, ""});
  const std::vector<Genome> genomes = small.line(8);
  const auto wanted = scored(*small.fitness(small_options()), genomes);
  const auto check = [&](Fitness& f, size_t i, size_t n) {
    const auto r = scored(f, std::span(genomes).subspan(i, n));
    for (size_t j = 0; j < n; ++j) CHECK(same_result(r[j], wanted[i + j]));
  };
  FitnessOptions forgetful = small_options();
  forgetful.memory = {.residual_bytes = 0, .teacher_bytes = 0, .n_memo = 2}, forgetful.memo_bytes = 0;
  const auto f = small.fitness(small_options()), g = small.fitness(forgetful);
  for (Fitness* each : {f.get(), g.get()})
    for (size_t i = genomes.size(); i-- > 0;) check(*each, i, 1);
  check(*f, 0, genomes.size());
}

TEST_CASE("fitness has the same bits for any number of threads") {
  FitnessOptions o = small_options();
  o.n_sampled = 8, o.score_tokens = o.probe_tokens = 1;  // a block of each domain
  TextDataOptions text = kSmallText;
  text.calibration_tokens = text.select_tokens = text.test_tokens = 48;
  std::vector<Evaluation> wanted;
  for (const int threads : {1, 2, 8}) {
    Small small("olmoe", {false, threads, ""});
    const std::vector<Genome> genomes = small.line(3);
    const auto r = scored(*small.fitness(o, text), genomes);
    if (threads == 1) wanted = r;
    for (size_t i = 0; i < r.size(); ++i) CHECK(same_result(r[i], wanted[i]));
    if (kSanitized && threads == 2) break;
  }
}

TEST_CASE("a pass begins behind the layers that are known, and nothing is paid for twice") {
  Small small;
  FitnessOptions o = small_options();
  o.score_tokens = 1 << 20;
  const auto f = small.fitness(o);
  const auto T = static_cast<double>(f->text().select().n_tokens);
  const auto paid = [&](const Genome& g) {
    const double before = f->token_layers();
    scored(*f, {&g, 1});
    return (f->token_layers() - before) / T;
  };
  CHECK(f->token_layers() > 0);      // calibration and the Gram cache
  CHECK(paid(small.full) == 4 + 4);  // the full model as itself, and as a candidate
  CHECK(paid(small.full) == 0);
  CHECK(paid(small.changed(3)) == 1);
  CHECK(paid(small.changed(1)) == 3);
  CHECK(paid(small.changed(0)) == 4);
  RoutingTopology t = topology_of(small.changed(1), small.space->shape());
  t.layers[2].threshold = 0.5f, t.layers[2].k_min = 1;
  CHECK(paid(*genome_of(t, small.space->shape(), small.pool)) == 2);
  CHECK(f->resumed() > 0);

  // Classes that every layer treats alike are no difference; layers in front of the first that tells them apart neither.
  RoutingTopology classes = full_topology(small.space->shape());
  classes.n_classes = 2, classes.token_class.assign(static_cast<size_t>(small.space->shape().n_vocab), 0);
  for (size_t i = 0; i < classes.token_class.size(); i += 2) classes.token_class[i] = 1;
  for (LayerRouting& l : classes.layers) l.allow.assign(static_cast<size_t>(2 * l.n_experts), 1);
  CHECK(paid(*genome_of(classes, small.space->shape(), small.pool)) == 0);
  classes.layers[2].allow[3] = 0;
  CHECK(paid(*genome_of(classes, small.space->shape(), small.pool)) == 2);

  const double before = f->token_layers();
  std::vector<Evaluation> r(1);
  const Genome g = small.changed(2);
  REQUIRE(f->held_out({&g, 1}, r).ok());
  CHECK(r[0].tokens == f->text().test().n_rows);
  CHECK(r[0].kl ==
        doctest::Approx(session_kl(*small.model, f->text().test(), topology_of(g, small.space->shape()))).epsilon(1e-5));
  CHECK(f->token_layers() == before);
}

TEST_CASE("cheap rungs come first, and who is dropped there pays for no more") {
  Small small;
  FitnessOptions o = small_options();
  o.score_tokens = 300;
  const auto f = small.fitness(o);
  const std::vector<Genome> genomes = small.line(6);
  std::vector<std::vector<int64_t>> seen;
  const KeepBetter keep_odd = [&](std::span<const Evaluation> r, std::span<uint8_t> keep) {
    seen.emplace_back();
    for (size_t i = 0; i < r.size(); ++i) seen.back().push_back(r[i].tokens), keep[i] = i % 2;
  };
  const auto r = scored(*f, genomes, 0, keep_odd);
  REQUIRE(seen.size() == 1);
  const auto whole = scored(*f, genomes);
  for (size_t i = 0; i < r.size(); ++i) {
    CHECK(seen[0][i] < whole[i].tokens / 2);
    CHECK(r[i].dropped == (i % 2 == 0));
    CHECK(r[i].tokens == (i % 2 ? whole[i].tokens : seen[0][i]));
    if (i % 2) CHECK(same_result(r[i], whole[i]));
    CHECK(std::isfinite(r[i].domain_kl[0]));
    CHECK(std::isfinite(r[i].domain_kl[1]));
  }
  // Whoever keeps nobody keeps all.
  for (const Evaluation& e :
       scored(*f, genomes, 0, [](auto, std::span<uint8_t> keep) { std::fill(keep.begin(), keep.end(), 0); }))
    CHECK(!e.dropped);
  const auto tiers = f->tiers();
  CHECK(std::string(tiers[1].name) == "first rung");
  CHECK(tiers[1].evaluations >= 18);
  CHECK(tiers[1].remembered >= 6);
}

TEST_CASE("a resumed search recalls what was paid, and pays what it would have paid") {
  Small small;
  FitnessOptions o = small_options();
  o.fresh_every = 2, o.score_tokens = 200;
  o.memory = {.residual_bytes = 60000, .teacher_bytes = 200000, .n_memo = 40};  // some of it is forgotten
  o.choices = {{{1, 2, 3}, {{4, 5}, {6}}, 0, {}}};
  const std::vector<Genome> genomes = small.line(24);
  const KeepBetter keep = [](std::span<const Evaluation> r, std::span<uint8_t> keeps) {
    for (size_t i = 0; i < r.size(); ++i) keeps[i] = r[i].kl < 1e9 && i % 3 != 1;
  };
  struct Generation {
    std::vector<Evaluation> scores, confirmed;
    double paid = 0;
  };
  // Generation g scores six genomes, some of them again, and confirms two.
  const auto of = [&](uint32_t g) { return std::span(genomes).subspan(g * 3, 6); };
  const auto step = [&](Fitness& f, uint32_t g) {
    Generation r;
    r.scores = scored(f, of(g), g, keep), r.confirmed.resize(2);
    REQUIRE(f.confirm(of(g).subspan(2, 2), r.confirmed).ok());
    r.paid = f.token_layers();
    return r;
  };
  std::vector<Generation> run;
  const auto whole = small.fitness(o);
  for (uint32_t g = 0; g < 6; ++g) run.push_back(step(*whole, g));
  for (const uint32_t done : {1u, 3u, 5u}) {
    const auto f = small.fitness(o);
    for (uint32_t g = 0; g < done; ++g) {
      REQUIRE(f->recall_score(g, of(g), run[g].scores).ok());
      REQUIRE(f->recall_confirm(of(g).subspan(2, 2)).ok());
      CHECK(f->token_layers() == run[g].paid);
    }
    for (uint32_t g = done; g < 6; ++g) {
      const Generation again = step(*f, g);
      CHECK(again.paid == run[g].paid);
      for (size_t i = 0; i < 6; ++i) CHECK(same_result(again.scores[i], run[g].scores[i]));
      for (size_t i = 0; i < 2; ++i) CHECK(same_result(again.confirmed[i], run[g].confirmed[i]));
    }
  }
}

TEST_CASE("every so many generations the text is another") {
  Small small;
  FitnessOptions o = small_options();
  o.fresh_every = 3;
  const auto f = small.fitness(o);
  CHECK((f->text_of(0) == f->text_of(2) && f->text_of(2) != f->text_of(3)));
  const Genome g = small.changed(1);
  const double first = scored(*f, {&g, 1}, 0)[0].kl, later = scored(*f, {&g, 1}, 3)[0].kl;
  CHECK(scored(*f, {&g, 1}, 2)[0].kl == first);
  CHECK(later != first);
  CHECK(scored(*small.fitness(o), {&g, 1}, 4)[0].kl == later);
  o.score_tokens = 1 << 20;
  CHECK(small.fitness(o)->text_of(100) == 0);
}

TEST_CASE("layers weigh what their errors do at the end of the model") {
  Small small;
  const auto f = small.fitness(small_options());
  REQUIRE(f->layer_weights().size() == 4);
  for (const double a : f->layer_weights()) CHECK(a > 0);
  const std::vector<Genome> genomes = small.line(5);
  std::vector<Evaluation> screened(genomes.size());
  REQUIRE(f->screen(genomes, screened).ok());
  for (const Evaluation& e : screened) {
    double sum = 0;
    for (size_t l = 0; l < 4; ++l) sum += f->layer_weights()[l] * e.layer_errors[l];
    CHECK(e.layer_error == doctest::Approx(sum));
    CHECK((std::isnan(e.kl) && e.tokens == 0));
    CHECK(e.latency_ms > 0);
  }
}

TEST_CASE("accuracy is the share of tasks whose likeliest choice is the answer") {
  Small small;
  FitnessOptions o = small_options();
  Rng rng(9);
  for (uint64_t i = 0; i < 6; ++i) {
    ChoiceTask t{random_tokens(5, 320, i), {}, static_cast<int>(i % 2), {}};
    for (uint64_t c = 0; c < 2; ++c) t.choices.push_back(random_tokens(1 + rng.below(3), 320, 50 + 2 * i + c));
    o.choices.push_back(t);
  }
  const auto f = small.fitness(o);
  const Genome genome = small.changed(1);
  int right = 0;
  for (const ChoiceTask& t : o.choices) {
    std::vector<double> score;
    for (const auto& choice : t.choices) {
      std::vector<Token> tokens = t.prompt;
      tokens.insert(tokens.end(), choice.begin(), choice.end());
      const auto session = new_session(*small.model);
      REQUIRE(session->set_topology(topology_of(genome, small.space->shape())).ok());
      const auto z = run_tokens(*session, tokens, tokens.size());
      double sum = 0;
      for (size_t i = t.prompt.size(); i < tokens.size(); ++i) {
        double total = 0;
        for (size_t v = 0; v < 320; ++v) total += std::exp(static_cast<double>(z[(i - 1) * 320 + v]));
        sum += static_cast<double>(z[(i - 1) * 320 + static_cast<size_t>(tokens[i])]) - std::log(total);
      }
      score.push_back(sum / static_cast<double>(choice.size()));
    }
    right += (score[1] > score[0]) == (t.answer == 1);
  }
  CHECK(scored(*f, {&genome, 1})[0].accuracy == right / 6.0);
  std::vector<Evaluation> r(1);
  REQUIRE(f->held_out({&genome, 1}, r).ok());
  CHECK(std::isnan(r[0].accuracy));  // there are no tasks for that
}

TEST_CASE("a search stops between blocks, and a text of another vocabulary is refused") {
  Small small;
  const auto f = small.fitness(small_options());
  int asked = 0;
  f->cancelled = [&] { return ++asked > 2; };
  std::vector<Evaluation> r(1);
  const Status s = f->score(0, {&small.full, 1}, {}, r);
  CHECK(s.code() == StatusCode::kCancelled);
  CHECK(asked == 3);
  auto data = TextData::create(two_domains(400), kSmallText);
  REQUIRE(data.ok());
  const auto refused = Fitness::create(*small.model, std::move(data).value(), small_options());
  REQUIRE(!refused.ok());
  CHECK(has_text(refused.status(), "token ids below 320"));
}

}  // namespace
}  // namespace moe
