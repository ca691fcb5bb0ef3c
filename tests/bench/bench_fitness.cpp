// make bench-fitness MODEL=file.gguf TEXTS="name=file.tok …": what the tiers of a search's fitness cost on a model, what
// resuming behind known layers saves, and how well the prediction without forward passes ranks what forward passes find
// (Kendall's τ; the bar is ½). Token files are those of `moe-train tokens`. Times are of CPU, one thread. Exit status 1 where a
// τ misses the bar.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/mathx.h"
#include "evolution/breed.h"
#include "evolution/fitness.h"
#include "evolution/saliency.h"
#include "models/train/token_file.h"

namespace {

using namespace moe;

constexpr uint64_t kDomainTokens = 150000;  // of each text
constexpr size_t kGenomes = 35;             // of each share and noise
constexpr double kWantedTau = 0.5;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void must(const Status& s) {
  if (s.ok()) return;
  std::fprintf(stderr, "%s\n", s.message().c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> r) {
  must(r.status());
  return std::move(r).value();
}

TextDomain read_domain(const std::string& argument) {
  const size_t at = argument.find('=');
  if (at == std::string::npos) must(Status::InvalidArgument("texts: wanted name=file, found " + argument));
  const TokenFile file = must(TokenFile::open(argument.substr(at + 1)));
  TextDomain d{argument.substr(0, at), {}};
  uint64_t n = 0;
  for (uint64_t i = file.n_documents(); i-- > 0 && n < kDomainTokens;) {
    std::vector<Token> t(file.document_end(i) - file.document_begin(i));
    must(file.read(file.document_begin(i), t));
    n += t.size();
    d.documents.push_back(std::move(t));
  }
  return d;
}

// τ-b, which allows for ties.
double kendall(const std::vector<double>& a, const std::vector<double>& b) {
  double agree = 0, apart_a = 0, apart_b = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const int x = (a[i] > a[j]) - (a[i] < a[j]), y = (b[i] > b[j]) - (b[i] < b[j]);
      agree += x * y, apart_a += x != 0, apart_b += y != 0;
    }
  return agree / std::sqrt(apart_a * apart_b);
}

// That share of all experts, ranked over the whole model by a noisy saliency; every layer keeps k.
Genome pruned(const SearchSpace& space, double share, float noise, uint64_t seed, GenePool& pool) {
  struct Place {
    double score;
    size_t layer, expert;
    bool operator<(const Place& o) const { return score > o.score; }
  };
  RoutingTopology t = full_topology(space.shape());
  Rng rng(seed, 99);
  std::vector<Place> all;
  for (size_t l = 0; l < t.layers.size(); ++l) {
    const auto& saliency = space.guides().saliency[l];
    double sum = 1e-9;
    for (const float s : saliency) sum += static_cast<double>(s);
    const float level = noise * rng.normal() / 3;
    std::vector<Place> layer;
    for (size_t e = 0; e < saliency.size(); ++e)
      layer.push_back(
          {mathx::log(static_cast<double>(saliency[e]) / sum + 1e-9) + static_cast<double>(level + noise * rng.normal()), l,
           e});
    std::sort(layer.begin(), layer.end());
    for (int i = 0; i < t.layers[l].k_max; ++i) layer[static_cast<size_t>(i)].score = 1e9;
    all.insert(all.end(), layer.begin(), layer.end());
  }
  std::sort(all.begin(), all.end());
  for (size_t i = static_cast<size_t>(share * static_cast<double>(all.size()) + 0.5); i < all.size(); ++i)
    t.layers[all[i].layer].allow[all[i].expert] = 0;
  return must(genome_of(t, space.shape(), pool));
}

class Bench {
 public:
  Bench(Fitness& fitness, const SearchSpace& space)
      : fitness_(fitness), space_(space), variation_(must(Variation::create(space))) {}
  bool row(double share, float noise);

 private:
  Fitness& fitness_;
  const SearchSpace& space_;
  const Variation variation_;
  GenePool pool_;
};

bool Bench::row(double share, float noise) {
  std::vector<Genome> parents, children;
  for (uint32_t i = 0; i < kGenomes; ++i) {
    parents.push_back(pruned(space_, share, noise, i, pool_));
    children.push_back(breed(parents.back(), parents.back(), variation_, space_, 7, 1, i, pool_));
  }
  std::vector<Evaluation> of_parents(kGenomes), of_children(kGenomes);
  const auto timed = [](const auto& work) {
    const double start = cpu_seconds();
    must(work());
    return kGenomes / (cpu_seconds() - start);
  };
  const double screen_new = timed([&] { return fitness_.screen(parents, of_parents); });
  const double screen_bred = timed([&] { return fitness_.screen(children, of_children); });
  const double score_new = timed([&] { return fitness_.score(0, parents, {}, of_parents); });
  const double paid = fitness_.token_layers(), resumed = fitness_.resumed();
  const double score_bred = timed([&] { return fitness_.score(0, children, {}, of_children); });
  const double saved = fitness_.resumed() - resumed, done = fitness_.token_layers() - paid;

  std::vector<double> predicted, measured;
  for (const Evaluation& e : of_parents) predicted.push_back(e.layer_error), measured.push_back(e.kl);
  const double tau = kendall(predicted, measured);
  std::sort(measured.begin(), measured.end());
  std::printf("%3.0f %%   %.1f | %.3f  %.3f  %.3f ± %.3f | %5.3f %s | %6.0f %6.0f | %6.2f %6.2f | %4.1f %%\n", 100 * share,
              static_cast<double>(noise), measured.front(), measured[kGenomes / 2], measured.back(), of_parents[0].kl_error,
              tau, tau >= kWantedTau ? "ok  " : "LOW ", screen_new, screen_bred, score_new, score_bred,
              100 * saved / (saved + done));
  std::fflush(stdout);
  return tau >= kWantedTau;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench-fitness MODEL.gguf name=TEXT.tok …\n");
    return 2;
  }
  ModelOptions one_thread;
  one_thread.backend_options.n_threads = 1;
  const auto model = must(Model::load(argv[1], one_thread));
  std::vector<TextDomain> domains;
  for (int i = 2; i < argc; ++i) domains.push_back(read_domain(argv[i]));
  TextData text = must(TextData::create(domains, {}));
  FitnessOptions options;
  options.score_tokens = 4096;
  const double start = cpu_seconds();
  const auto fitness = must(Fitness::create(*model, std::move(text), options));
  std::printf("prepared in %.1f s: %.0f token layers, Gram cache of %.1f MB; a_l", cpu_seconds() - start,
              fitness->token_layers(), static_cast<double>(fitness->gram().bytes()) / 1e6);
  for (const double a : fitness->layer_weights()) std::printf(" %.3f", a);
  std::printf(
      "\n\n kept noise |    KL: least, median, most   |    tau     | screened a s  | scored a s    | resumed\n"
      "            |                              |            |    new   bred |    new   bred |\n");
  Guides guides;
  guides.saliency = saliency_table(*must(find_saliency("reap")), fitness->calibration());
  Constraints constraints;
  constraints.narrowest = kQuarters;
  const SearchSpace space = must(SearchSpace::create(model->routing_shape(), constraints, guides));
  Bench bench(*fitness, space);
  bool ok = true;
  for (const double share : {0.75, 0.5})
    for (const float noise : {0.3f, 1.0f, 3.0f}) ok = bench.row(share, noise) && ok;
  return ok ? 0 : 1;
}
