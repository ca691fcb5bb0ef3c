// The same in C++, with a lambda for a mutation: evolve MODEL FOLDER.
#include <cstdio>
#include <moe/evolve.hpp>
#include <stdexcept>

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("evolve.cpp: %s\n", what);
  ++failures;
}

std::vector<moe::SearchDocument> documents() {
  std::vector<moe::SearchDocument> all;
  unsigned x = 1;
  for (int d = 0; d < 12; ++d) {
    all.push_back({d % 2 ? "letters" : "digits", {}});
    for (int i = 0; i < 120; ++i)
      all.back().tokens.push_back(static_cast<int>((x = x * 1664525u + 1013904223u) >> 16) % 64 + 32);
  }
  return all;
}

moe::SearchOptions options() {
  moe::SearchOptions o;
  o.values.population = 6, o.values.generations = 2, o.values.n_ctx = 40, o.values.score_tokens = 160, o.values.sampled = 64;
  o.objectives = {"kl"};
  o.limits = {{"active-experts", 3}};
  return o;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::fprintf(stderr, "usage: evolve MODEL FOLDER\n"), 2;
  expect(moe::mutations().size() > 10 && moe::objectives().size() > 10, "there is something to search with");
  const moe::Model model(argv[1]);
  moe::SearchOptions mine = options();
  int n_calls = 0;
  mine.mutations.push_back({"cooler", [&](moe::Draft& draft, moe::Random& random) {
                              ++n_calls;
                              const int layer = static_cast<int>(random.below(static_cast<uint64_t>(draft.n_layers())));
                              draft.set_temperature(layer, draft.layer(layer).temperature * 0.9f);
                              return true;
                            }});
  mine.selections.push_back({"first_two", [](const std::vector<moe_search_slot>&, const std::vector<uint32_t>& order, double,
                                             moe::Random& random, std::vector<uint32_t>& chosen) {
                               for (uint32_t& slot : chosen) slot = order[random.below(2)];
                             }});
  mine.selection = "first_two";
  moe::Search search(model, documents(), mine);
  while (search.info().ended == MOE_SEARCH_RUNNING) search.step();
  search.finish();
  expect(n_calls > 0, "the mutation was called");
  expect(search.info().n_points == 1, "one objective has one best point");
  expect(search.point(0).k_mean <= 3, "the limit is kept");
  moe::Session session(model);
  session.set_topology(search.topology(0));

  moe::SearchOptions bad = options();
  bad.operators = {"mask_uniform"};
  bad.mutations.push_back({"thrower", [](moe::Draft&, moe::Random&) -> bool { throw std::runtime_error("mine"); }});
  try {
    moe::Search thrown(model, documents(), bad);
    for (int i = 0; i < 3; ++i) thrown.step();
    expect(false, "the exception of an operator comes through");
  } catch (const std::runtime_error& e) {
    expect(std::string(e.what()) == "mine", "the exception is the operator's own");
  }
  return failures != 0;
} catch (const std::exception& e) {
  std::printf("evolve.cpp: %s\n", e.what());
  return 1;
}
