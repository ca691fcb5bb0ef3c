// make bench-evolution: what the algorithms of evolution/ reach on problems whose answers are known, and how fast their inner
// parts are, each figure beside its bar. Exit status 1 where a bar is missed.
//
// Bars of quality are medians over 11 seeds, set from 31 runs of another implementation (pymoo) with the same operators, and
// theory for the bit strings; they are the same figures on every machine. Times are of CPU, one thread, the best of five.
// Given a model file, it also compares the Gram cache with forward passes of that model's layers.
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "core/mathx.h"
#include "evolution/gram_evaluator.h"
#include "evolution/indicators.h"
#include "evolution/pareto.h"
#include "tests/evolution/gram_fixture.h"
#include "tests/evolution/problems.h"

namespace {

size_t g_bytes = 0, g_peak_bytes = 0;  // of the heap, through operator new

}  // namespace

void* operator new(size_t n) {
  void* p = std::malloc(n);
  if (p == nullptr) throw std::bad_alloc();
  g_bytes += malloc_usable_size(p);
  g_peak_bytes = std::max(g_peak_bytes, g_bytes);
  return p;
}
void operator delete(void* p) noexcept {
  g_bytes -= malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, size_t) noexcept { operator delete(p); }

namespace {

using namespace moe;
using namespace moe::test;

constexpr int kSeeds = 11;
constexpr int kBitStringRuns = 400;

int g_missed = 0;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void heading(const char* title) { std::printf("\n%-44s %12s %12s  %-24s\n", title, "found", "bar", "least .. most"); }

// bar_sign: ">=" or "<=".
void row(const std::string& what, double found, const char* bar_sign, double bar, const std::string& rest = "") {
  const bool met = std::strcmp(bar_sign, ">=") == 0 ? found >= bar : found <= bar;
  g_missed += !met;
  std::printf("%-44s %12.6g %3s %8.6g  %-24s %s\n", what.c_str(), found, bar_sign, bar, rest.c_str(), met ? "ok" : "MISSED");
}

std::string extent(const std::vector<double>& values) {
  char text[64];
  std::snprintf(text, sizeof text, "%.5g .. %.5g", *std::min_element(values.begin(), values.end()),
                *std::max_element(values.begin(), values.end()));
  return text;
}

std::unique_ptr<Algorithm> make(const char* name, int n_objectives, uint64_t seed, uint32_t population, int divisions = 0) {
  AlgorithmOptions options;
  options.seed = seed;
  options.n_objectives = n_objectives;
  options.population = population;
  options.divisions = divisions;
  return make_algorithm(name, options).value();
}

struct ZdtBars {
  const RealProblem& problem;
  double true_volume, at_200, at_250;
};

void zdt_table() {
  const ZdtBars all[] = {{kZdt1, 0.87666, 0.867, 0.869}, {kZdt2, 0.54333, 0.533, 0.535}, {kZdt3, 1.33176, 1.324, 1.326}};
  const Objectives reference{1.1, 1.1};
  heading("true fronts, hypervolume at (1.1, 1.1)");
  for (const ZdtBars& z : all) {
    const double volume = hypervolume(zdt_front(z.problem, 200'000), reference, 2);
    char found[32];
    std::snprintf(found, sizeof found, "%.6f", volume);
    row(std::string(z.problem.name) + " error against " + std::to_string(z.true_volume).substr(0, 7),
        std::fabs(volume - z.true_volume), "<=", 1e-5, found);
  }
  heading("NSGA-II, population 100, medians of 11 seeds");
  for (const ZdtBars& z : all) {
    const std::vector<Objectives> truth = zdt_front(z.problem, 1000);
    std::vector<double> volumes[2], distances[2];
    int missed_pieces = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      RealSearch search(z.problem, make("nsga2", 2, seed, 100));
      for (const int at : {0, 1}) {
        search.step_to(at == 0 ? 200 : 250);
        volumes[at].push_back(hypervolume(search.objectives(), reference, 2));
        distances[at].push_back(inverted_generational_distance(search.objectives(), truth, 2));
      }
      missed_pieces += volumes[1].back() < z.true_volume - 0.04;
    }
    const std::string name = z.problem.name;
    row(name + " hypervolume, 200 generations", median(volumes[0]), ">=", z.at_200, extent(volumes[0]));
    row(name + " hypervolume, 250 generations", median(volumes[1]), ">=", z.at_250, extent(volumes[1]));
    row(name + " IGD, 200 generations", median(distances[0]), "<=", 0.006, extent(distances[0]));
    row(name + " IGD, 250 generations", median(distances[1]), "<=", 0.0055, extent(distances[1]));
    if (&z.problem == &kZdt3) row(name + " seeds that miss a piece", missed_pieces, "<=", kSeeds / 10.0);
  }
}

void dtlz_table() {
  struct Bar {
    const RealProblem& problem;
    uint32_t generations;
    double distance;
  };
  heading("NSGA-III, 91 directions, medians of 11 seeds");
  for (const Bar& bar : {Bar{kDtlz2, 250, 2e-3}, Bar{kDtlz1, 400, 3e-3}}) {
    const std::vector<Objectives> targets = dtlz_targets(bar.problem);
    std::vector<double> nsga3, nsga2;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const auto distance = [&](std::unique_ptr<Algorithm> algorithm, RealVariation variation) {
        RealSearch search(bar.problem, std::move(algorithm), variation);
        search.step_to(bar.generations);
        return inverted_generational_distance(search.objectives(), targets, 3);
      };
      nsga3.push_back(distance(make("nsga3", 3, seed, 92, 12), {30, 20}));
      nsga2.push_back(distance(make("nsga2", 3, seed, 92), {15, 20}));
    }
    const std::string name = std::string(bar.problem.name) + " IGD, " + std::to_string(bar.generations) + " generations";
    row(name, median(nsga3), "<=", bar.distance, extent(nsga3));
    row(name + ", NSGA-II over it", median(nsga2) / median(nsga3), ">=", 10, "NSGA-II " + extent(nsga2));
  }
}

void bit_string_table() {
  struct Bar {
    const char* name;
    int (*distance)(const BitString&);
    int n_bits;
    double expected;
  };
  heading("(1+1)-EA, evaluations, means of 400 runs");
  for (const Bar& bar : {Bar{"OneMax, 100 bits", zeros, 100, expected_one_max(100)},
                         Bar{"LeadingOnes, 50 bits", bits_after_first_zero, 50, expected_leading_ones(50)},
                         Bar{"LeadingOnes, 100 bits", bits_after_first_zero, 100, expected_leading_ones(100)}}) {
    double sum = 0;
    for (uint64_t seed = 1; seed <= kBitStringRuns; ++seed)
      sum += static_cast<double>(evaluations_to_optimum(bar.distance, bar.n_bits, seed));
    const double mean = sum / kBitStringRuns;
    char rest[64];
    std::snprintf(rest, sizeof rest, "%.0f, theory %.0f", mean, bar.expected);
    row(std::string(bar.name) + ", off theory", std::fabs(mean / bar.expected - 1), "<=", 0.04, rest);
  }
}

// ---- speed ----

using Fill = void (*)(Score& score, int i, int m, Rng& rng);

double best_of_five(auto work) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const double start = cpu_seconds();
    work();
    best = std::min(best, cpu_seconds() - start);
  }
  return 1e3 * best;
}

std::vector<Score> filled(int n, int m, Fill fill) {
  std::vector<Score> scores(static_cast<size_t>(n));
  Rng rng(1);
  for (int i = 0; i < n; ++i) fill(scores[i], i, m, rng);
  return scores;
}

void fill_random(Score& s, int, int m, Rng& rng) {
  for (int k = 0; k < m; ++k) s.values[k] = rng.uniform_double();
}
void fill_front(Score& s, int, int m, Rng& rng) {  // a simplex
  double sum = 0;
  for (int k = 0; k < m; ++k) sum += s.values[k] = -mathx::log(1 - rng.uniform_double());
  for (int k = 0; k < m; ++k) s.values[k] /= sum;
}
void fill_line(Score& s, int i, int m, Rng& rng) {  // one front whose first objective says nothing
  s.values[0] = i;
  s.values[1] = rng.uniform_double();
  s.values[m - 1] = 1 - s.values[1];
}
void fill_chain(Score& s, int i, int m, Rng&) {
  for (int k = 0; k < m; ++k) s.values[k] = static_cast<double>(static_cast<uint32_t>(i) * 2654435761u);
}
void fill_copies(Score& s, int, int m, Rng& rng) {
  for (int k = 0; k < m; ++k) s.values[k] = static_cast<double>(rng.below(8));
}
void fill_infeasible(Score& s, int i, int m, Rng& rng) {
  fill_random(s, i, m, rng);
  s.violation = rng.uniform_double();
}

void speed_table() {
  struct Case {
    const char* name;
    Fill fill;
  };
  const Case cases[] = {{"random", fill_random}, {"one front", fill_front}, {"a line", fill_line},
                        {"a chain", fill_chain}, {"copies", fill_copies},   {"infeasible", fill_infeasible}};
  heading("milliseconds, one core");
  for (const Case& c : cases) {
    const std::vector<Score> scores = filled(4096, 3, c.fill);
    row(std::string("fronts of 4,096 x 3, ") + c.name, best_of_five([&] { (void)sort_fronts(scores, 3); }), "<=", 25);
  }
  for (const Case& c : cases) {
    const std::vector<Score> scores = filled(10'000, 2, c.fill);
    row(std::string("fronts of 10,000 x 2, ") + c.name, best_of_five([&] { (void)sort_fronts(scores, 2); }), "<=", 3);
  }
  for (const int m : {2, 3}) {
    std::vector<Objectives> points;
    for (const Score& s : filled(m == 2 ? 10'000 : 1000, m, fill_front)) points.push_back(s.values);
    Objectives reference;
    reference.fill(1.1);
    row(m == 2 ? "hypervolume of 10,000 x 2" : "hypervolume of 1,000 x 3",
        best_of_five([&] { (void)hypervolume(points, reference, m); }), "<=", m == 2 ? 2 : 10);
  }
}

void memory_row() {
  heading("memory, MiB");
  AlgorithmOptions options;
  options.n_objectives = 3;
  options.population = 50'000;
  const std::unique_ptr<Algorithm> algorithm = make_algorithm("nsga2", options).value();
  const std::vector<Score> first = filled(50'000, 3, fill_front), children = filled(50'000, 3, fill_random);
  const size_t before = g_peak_bytes = g_bytes;
  const double start = cpu_seconds();
  MOE_CHECK(algorithm->tell(first).ok() && algorithm->tell(children).ok() && algorithm->ask().size() == 50'000);
  char rest[64];
  std::snprintf(rest, sizeof rest, "in %.2f s", cpu_seconds() - start);
  row("NSGA-II, population 50,000 x 3, two tells", static_cast<double>(g_peak_bytes - before) / (1 << 20), "<=", 64, rest);
}

// ---- the Gram cache ----

constexpr int kGramTokens = 256, kChangedLayers = 2;  // of a child; the other layers' errors are its parents'

// CPU seconds for one layer of the cache under random masks.
double seconds_a_layer(const GramCache& cache, const RoutingShape& shape, int n_evaluations) {
  const std::unique_ptr<GramEvaluator> evaluator = GramEvaluator::create(cache).value();
  const SampleClasses classes = cache.classes(1, {});
  std::vector<LayerRouting> routings(64, full_topology(shape).layers[0]);
  Rng rng(1);
  for (LayerRouting& r : routings)
    for (uint8_t& allowed : r.allow) allowed = rng.below(4) > 0;
  LayerError error;
  const double start = cpu_seconds();
  for (int i = 0; i < n_evaluations; ++i)
    MOE_CHECK(evaluator->evaluate(i % cache.n_layers(), routings[static_cast<size_t>(i) % 64], classes, error).ok());
  return (cpu_seconds() - start) / n_evaluations;
}

void gram_table() {
  struct Case {
    const char* name;
    int n_experts, k, n_layers, n_candidates;
  };
  heading("Gram cache, 256 tokens, one core");
  char rest[64];
  for (const Case& c : {Case{"16 experts of 8 layers", 16, 4, 8, 16}, Case{"1,024 experts of 64 layers", 1024, 8, 64, 48}}) {
    RoutingShape::Layer layer;
    layer.n_experts = c.n_experts, layer.k = c.k, layer.d_ff = 128;
    const size_t before = g_peak_bytes = g_bytes;
    const SyntheticLayers synthetic(layer, c.n_layers, kGramTokens, 16);
    const GramCache cache = build_cache(synthetic.source, {.n_candidates = c.n_candidates});
    const bool large = c.n_experts == 1024;
    const double seconds = seconds_a_layer(cache, synthetic.shape, large ? 512 : 8192);
    std::snprintf(rest, sizeof rest, "%.1f us a layer", 1e6 * seconds);
    if (large) {
      row("generation of 4,096, " + std::string(c.name) + ", s", 4096 * kChangedLayers * seconds, "<=", 30, rest);
      row("memory of that, MiB", static_cast<double>(g_peak_bytes - before) / (1 << 20), "<=", 1024);
    } else {
      row("evaluations a second, " + std::string(c.name), 1 / (kChangedLayers * seconds), ">=", 5000, rest);
    }
  }
}

// Of a model's own layers: 1,000 random routings against forward passes, all layers in turn.
void model_table(const char* path) {
  ModelOptions options;
  options.backend_options.n_threads = 1;
  const std::unique_ptr<Model> model = Model::load(path, options).value();
  std::vector<Token> tokens(4096);
  Rng rng(1);
  for (Token& t : tokens) t = static_cast<Token>(rng.below(static_cast<uint64_t>(model->config().n_vocab)));
  const std::vector<int> lengths(16, 256);
  double start = cpu_seconds();
  const Calibration calibration = calibrate(*model, {.tokens = tokens, .lengths = lengths}, {.n_sampled = kGramTokens}).value();
  const double calibrated = cpu_seconds() - start;
  start = cpu_seconds();
  const GramCache cache = collect_gram(*model, calibration, {.widths = true}).value();
  const double collected = cpu_seconds() - start;

  heading(path);
  const RoutingShape& shape = model->routing_shape();
  const std::unique_ptr<GramEvaluator> evaluator = GramEvaluator::create(cache).value();
  const SampleClasses classes = cache.classes(1, {});
  double worst = 0, seconds = 0;
  int n = 0;
  const int n_layers = cache.n_layers(), each = (1000 + n_layers - 1) / n_layers;
  for (int l = 0; l < n_layers; ++l) {
    if (cache.layer(l).is_dense()) continue;
    ForwardError forward(*model, calibration, l);
    for (int i = 0; i < each; ++i, ++n) {
      const LayerRouting routing = random_routing(shape, static_cast<size_t>(l), 1, true, rng);
      LayerError found;
      start = cpu_seconds();
      MOE_CHECK(evaluator->evaluate(l, routing, classes, found).ok());
      seconds += cpu_seconds() - start;
      const double wanted = forward(routing, 1, {});
      worst = std::max(worst, std::fabs(found.error - wanted) / std::max(wanted, 1e-12));
    }
  }
  char rest[96];
  std::snprintf(rest, sizeof rest, "of %d routings", n);
  row("worst error against a forward pass", worst, "<=", 1e-4, rest);
  std::snprintf(rest, sizeof rest, "%.1f us a layer", 1e6 * seconds / n);
  row("evaluations a second", n / (kChangedLayers * seconds), ">=", 5000, rest);
  std::printf("# calibration %.1f s (4,096 tokens), cache with widths %.1f s, %.1f MiB, %.0f + %.0f token-layers\n", calibrated,
              collected, static_cast<double>(cache.bytes()) / (1 << 20), calibration.token_layers, cache.token_layers());
}

}  // namespace

int main(int n_arguments, char** arguments) {
  zdt_table();
  dtlz_table();
  bit_string_table();
  speed_table();
  memory_row();
  gram_table();
  if (n_arguments > 1) model_table(arguments[1]);
  std::printf("\n# %d bars missed, %.1f s\n", g_missed, cpu_seconds());
  return g_missed == 0 ? 0 : 1;
}
