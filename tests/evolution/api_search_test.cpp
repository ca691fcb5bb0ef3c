// Searching through the C API, with operators of the caller's own. Only moe/evolve.h, but for making the model file.
#include <fstream>
#include <functional>
#include <set>
#include <utility>

#include "moe/evolve.h"
#include "tests/models/api_fixture.h"
#include "tests/models/small_model.h"

using namespace moe::test::api;
using moe::test::TempFolder;

namespace {

// Small enough for a dozen searches.
std::string write_tiny(const TempFolder& folder) {
  return moe::test::write_small_model(
      folder, "olmoe",
      {"n_layer=2", "n_ctx_train=64", "d_model=32", "n_head=2", "n_kv_head=2", "head_dim=16", "d_ff_expert=32", "d_ff=32"});
}

using Search = std::unique_ptr<moe_search, Free<moe_search, moe_search_free>>;

struct Texts {
  Texts() {
    uint32_t x = 1;
    for (int d = 0; d < 24; ++d) {
      std::vector<moe_token> text;
      for (int i = 0; i < 40; ++i) {
        x = x * 1664525 + 1013904223;
        text.push_back(static_cast<moe_token>(d % 2 ? x >> 26 : x >> 24));
      }
      tokens.push_back(std::move(text));
    }
    for (size_t d = 0; d < tokens.size(); ++d) list.push_back({d % 2 ? "odd" : "even", tokens[d].data(), tokens[d].size()});
  }
  std::vector<std::vector<moe_token>> tokens;
  std::vector<moe_search_document> list;
};

const char* const kNoMutation[] = {"mask_uniform"};  // of the library's operators: one's own mutation is the only one
const char* const kObjectives[] = {"kl", "kept-share"};

moe_search_options small(int generations = 3) {
  moe_search_options o;
  moe_search_options_init(&o, sizeof o);
  o.objectives = kObjectives, o.n_objectives = 2;
  o.population = 6, o.oversample = 2, o.generations = generations, o.baselines = 0;
  o.n_ctx = 32, o.score_tokens = 64, o.sampled = 32, o.calibration_tokens = 320, o.select_tokens = 160, o.test_tokens = 160;
  o.kept_low = 12, o.kept_high = 24;
  return o;
}

Search create(const Model& model, const moe_search_options& o, moe_error* e) {
  const Texts texts;
  return Search(moe_search_create(model.get(), texts.list.data(), texts.list.size(), &o, e));
}

Search must_create(const Model& model, const moe_search_options& o) {
  moe_error e;
  Search s = create(model, o, &e);
  INFO(e.message);
  REQUIRE(s);
  return s;
}

moe_search_info info_of(const Search& s) {
  moe_search_info i;
  i.size = sizeof i;
  REQUIRE(moe_search_get_info(s.get(), &i) == MOE_OK);
  return i;
}

void run(const Search& s) {
  while (info_of(s).ended == MOE_SEARCH_RUNNING) {
    const moe_status status = moe_search_step(s.get());
    INFO(moe_search_error(s.get())->message);
    REQUIRE(status == MOE_OK);
  }
}

// Every point: what it does, and its divergence.
std::string front_of(const Search& s) {
  std::string all;
  for (size_t i = 0; i < info_of(s).n_points; ++i) {
    moe_search_point p;
    p.size = sizeof p;
    REQUIRE(moe_search_get_point(s.get(), i, &p) == MOE_OK);
    char line[100];
    std::snprintf(line, sizeof line, "%016llx %a %a\n", static_cast<unsigned long long>(p.hash), p.kl, p.held_out_kl);
    all += line;
  }
  return all;
}

// A mutation that keeps one expert more or fewer, and counts its calls.
int toggle(void* user, moe_draft* draft, moe_random* random) {
  ++*static_cast<int*>(user);
  const auto layer = static_cast<int32_t>(moe_random_below(random, static_cast<uint64_t>(moe_draft_n_layers(draft))));
  moe_draft_layer l;
  l.size = sizeof l;
  if (moe_draft_get_layer(draft, layer, &l) != MOE_OK || l.n_experts == 0) return 0;
  const auto expert = static_cast<int32_t>(moe_random_below(random, static_cast<uint64_t>(l.n_experts)));
  return moe_draft_set_kept(draft, layer, 0, expert, !moe_draft_is_kept(draft, layer, 0, expert)) == MOE_OK;
}

int takes_after_father(void* user, moe_draft* draft, const moe_draft* father, moe_random* random) {
  ++*static_cast<int*>(user);
  const auto layer = static_cast<int32_t>(moe_random_below(random, static_cast<uint64_t>(moe_draft_n_layers(draft))));
  return moe_draft_take_layer(draft, layer, father) == MOE_OK;
}

int always_the_best(void* user, const moe_search_slot*, const uint32_t* order, size_t, double, moe_random*, uint32_t* chosen,
                    size_t n_chosen) {
  ++*static_cast<int*>(user);
  for (size_t i = 0; i < n_chosen; ++i) chosen[i] = order[0];
  return 1;
}

// A mutation that is whatever a test says.
using Body = std::function<int(moe_draft*, moe_random*)>;
int call(void* user, moe_draft* draft, moe_random* random) { return (*static_cast<Body*>(user))(draft, random); }

}  // namespace

TEST_SUITE("c api, search") {
  TEST_CASE("names of all tables can be walked, and no further") {
    for (const auto name :
         {moe_objective_name, moe_algorithm_name, moe_mutation_name, moe_crossover_name, moe_selection_name}) {
      std::set<std::string> names;
      size_t n = 0;
      for (; name(n); ++n) names.insert(name(n));
      CHECK(n >= 4);
      CHECK(names.size() == n);
      CHECK(name(SIZE_MAX) == nullptr);
    }
  }

  TEST_CASE("a search with operators of one's own has a front whose topologies run, the same for any number of threads") {
    const TempFolder folder;
    const std::string path = write_tiny(folder);
    std::string fronts[2];
    for (const int threads : {1, 2}) {
      const Model model = load(path, threads);
      int mutated = 0, crossed = 0;
      const moe_mutation mutation = {"toggle", toggle, &mutated};
      const moe_crossover crossover = {"takes_after_father", takes_after_father, &crossed};
      moe_search_options o = small();
      o.mutations = &mutation, o.n_mutations = 1, o.crossovers = &crossover, o.n_crossovers = 1, o.threads = threads;
      const Search s = must_create(model, o);
      run(s);
      REQUIRE(moe_search_finish(s.get()) == MOE_OK);
      const moe_search_info info = info_of(s);
      CHECK(info.ended == MOE_SEARCH_GENERATIONS);
      CHECK(info.generations == 3);
      CHECK(info.token_layers > 0);
      REQUIRE(info.n_points > 0);
      CHECK(mutated > 0);
      CHECK(crossed > 0);
      fronts[threads - 1] = front_of(s);
      CHECK(fronts[threads - 1].find("nan") == std::string::npos);

      std::vector<std::string> names;
      double share = 0, sum = 0;
      for (size_t i = 0; moe_search_operator_name(s.get(), i, &share); ++i)
        names.push_back(moe_search_operator_name(s.get(), i, nullptr)), sum += share;
      CHECK(names.size() == info.n_operators);
      CHECK(sum == doctest::Approx(2));  // mutations and crossovers, each 1
      CHECK(names.back() == "takes_after_father");
      CHECK(std::count(names.begin(), names.end(), "toggle") == 1);

      const Session session = session_of(model);
      const std::string topology = take(moe_search_get_topology(s.get(), info.n_points - 1));
      CHECK(moe_session_set_topology(session.get(), topology.data(), topology.size()) == MOE_OK);
    }
    CHECK(fronts[0] == fronts[1]);
  }

  TEST_CASE("a selection of one's own chooses the parents") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    int asked = 0;
    const moe_selection selection = {"always_the_best", always_the_best, &asked};
    moe_search_options o = small();
    o.n_objectives = 1, o.selections = &selection, o.n_selections = 1, o.selection = "always_the_best";
    const Search s = must_create(model, o);
    run(s);
    CHECK(asked == 2);  // generation 0 has no parents
    CHECK(info_of(s).n_points == 1);
  }

  TEST_CASE("drafts refuse what is not there, and are then as they were") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    int calls = 0;
    Body body = [&](moe_draft* d, moe_random* r) {
      ++calls;
      moe_draft_layer before, after;
      before.size = after.size = sizeof before;
      REQUIRE(moe_draft_get_layer(d, 0, &before) == MOE_OK);
      for (const int32_t layer : {-1, 2, INT32_MIN, INT32_MAX}) {
        CHECK(moe_draft_get_layer(d, layer, &after) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_k(d, layer, 1, 2) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_threshold(d, layer, 0.5f) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_take_layer(d, layer, d) == MOE_ERROR_INVALID_ARGUMENT);
      }
      for (const int32_t e : {-1, 16, INT32_MIN, INT32_MAX}) {
        CHECK(moe_draft_is_kept(d, 0, 0, e) == -1);
        CHECK(moe_draft_is_kept(d, 0, e, 0) == -1);
        CHECK(moe_draft_set_kept(d, 0, 0, e, 0) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_kept(d, 0, e, 0, 0) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_bias(d, 0, e, 1) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_width(d, 0, e, 2) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_redirect(d, 0, e, 1) == MOE_ERROR_INVALID_ARGUMENT);
        if (e != -1) CHECK(moe_draft_set_redirect(d, 0, 1, e) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_width(d, 0, e) == -1);
        CHECK(moe_draft_redirect(d, 0, e) == -1);
        CHECK(std::isnan(moe_draft_bias(d, 0, e)));
        CHECK(std::isnan(moe_draft_saliency(d, 0, e)));
      }
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        CHECK(moe_draft_set_threshold(d, 0, bad) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_temperature(d, 0, bad) == MOE_ERROR_INVALID_ARGUMENT);
        CHECK(moe_draft_set_bias(d, 0, 0, bad) == MOE_ERROR_INVALID_ARGUMENT);
      }
      CHECK(moe_draft_set_k(d, 0, 3, 2) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_set_k(d, 0, -1, 2) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_set_width(d, 0, 0, 5) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_set_redirect(d, 0, 3, 3) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_take_layer(d, 0, nullptr) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_get_layer(d, 0, nullptr) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_set_kept(nullptr, 0, 0, 0, 1) == MOE_ERROR_INVALID_ARGUMENT);
      CHECK(moe_draft_n_layers(nullptr) == 0);
      CHECK(moe_random_below(r, 0) == 0);
      CHECK(moe_random_below(nullptr, 5) == 0);
      REQUIRE(moe_draft_get_layer(d, 0, &after) == MOE_OK);
      CHECK(after.n_kept == before.n_kept);
      CHECK(std::pair(after.k_min, after.k_max) == std::pair(before.k_min, before.k_max));
      CHECK(std::pair(after.threshold, after.temperature) == std::pair(before.threshold, before.temperature));
      return 0;
    };
    const moe_mutation mutation = {"prober", call, &body};
    moe_search_options o = small(1);
    o.mutations = &mutation, o.n_mutations = 1, o.operators = kNoMutation, o.n_operators = 1;
    const Search s = must_create(model, o);
    CHECK(calls > 0);
  }

  TEST_CASE("what operators leave behind is repaired, whatever it is") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    Body body = [&](moe_draft* d, moe_random* r) {
      for (int32_t l = 0; l < 2; ++l) {
        for (int32_t e = 0; e < 16; ++e) {
          moe_draft_set_kept(d, l, 0, e, moe_random_below(r, 8) == 0);
          moe_draft_set_bias(d, l, e, static_cast<float>(moe_random_normal(r) * 1e30));
          moe_draft_set_width(d, l, e, 1 + static_cast<int32_t>(moe_random_below(r, 4)));
          moe_draft_set_redirect(d, l, e, static_cast<int32_t>(moe_random_below(r, 16)));
        }
        moe_draft_set_k(d, l, 0, static_cast<int32_t>(moe_random_below(r, 1000)));
        moe_draft_set_temperature(d, l, static_cast<float>(1e-30 + moe_random_uniform(r)));
        moe_draft_set_threshold(d, l, static_cast<float>(moe_random_uniform(r)));
      }
      return 1;
    };
    const moe_mutation mutation = {"havoc", call, &body};
    moe_search_options o = small(2);
    o.mutations = &mutation, o.n_mutations = 1, o.operators = kNoMutation, o.n_operators = 1;
    const Search s = must_create(model, o);
    run(s);
    const Session session = session_of(model);
    for (size_t i = 0; i < info_of(s).n_points; ++i) {
      moe_search_point p;
      p.size = sizeof p;
      REQUIRE(moe_search_get_point(s.get(), i, &p) == MOE_OK);
      CHECK(p.kept_share >= 12.0 / 32);
      CHECK(p.kept_share <= 24.0 / 32);
      const std::string topology = take(moe_search_get_topology(s.get(), i));
      CHECK(moe_session_set_topology(session.get(), topology.data(), topology.size()) == MOE_OK);
    }
  }

  TEST_CASE("an operator that answers what it may not ends the search, and is named") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    bool odd = false;
    Body body = [&](moe_draft* d, moe_random*) {
      if (!odd) return 0;
      moe_draft_set_k(d, 0, 1, 1);
      return 77;
    };
    const moe_mutation mutation = {"odd_one", call, &body};
    moe_search_options o = small(50);
    o.mutations = &mutation, o.n_mutations = 1, o.operators = kNoMutation, o.n_operators = 1;
    const Search s = must_create(model, o);
    odd = true;
    moe_status status = MOE_OK;
    for (int i = 0; i < 50 && status == MOE_OK; ++i) status = moe_search_step(s.get());
    CHECK(status == MOE_ERROR_CANCELLED);
    CHECK(says(*moe_search_error(s.get()), "operator 'odd_one' answered 77"));
    CHECK(moe_search_step(s.get()) == MOE_ERROR_CANCELLED);

    const auto nowhere = [](void*, const moe_search_slot*, const uint32_t*, size_t n_slots, double, moe_random*,
                            uint32_t* chosen, size_t n_chosen) {
      for (size_t i = 0; i < n_chosen; ++i) chosen[i] = static_cast<uint32_t>(n_slots);
      return 1;
    };
    const moe_selection selection = {"nowhere", nowhere, nullptr};
    o = small();
    o.n_objectives = 1, o.selections = &selection, o.n_selections = 1, o.selection = "nowhere";
    const Search t = must_create(model, o);
    REQUIRE(moe_search_step(t.get()) == MOE_OK);  // of seeds
    CHECK(moe_search_step(t.get()) == MOE_ERROR_CANCELLED);
    CHECK(says(*moe_search_error(t.get()), "operator 'nowhere' chose slot 6"));
    CHECK(info_of(t).n_points == 1);
  }

  TEST_CASE("a cancelled step leaves no trace") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    const Search whole = must_create(model, small()), stopped = must_create(model, small());
    run(whole);
    moe_search_cancel(stopped.get());
    CHECK(moe_search_step(stopped.get()) == MOE_ERROR_CANCELLED);
    CHECK(info_of(stopped).generations == 0);
    run(stopped);
    CHECK(front_of(stopped) == front_of(whole));
    moe_search_cancel(nullptr);
  }

  TEST_CASE("a search goes on from its journal, under the same operators only") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    int calls = 0;
    moe_mutation mutation = {"toggle", toggle, &calls};
    moe_search_options o = small();
    o.mutations = &mutation, o.n_mutations = 1;
    const Search whole = must_create(model, o);
    run(whole);

    const std::string journal = folder / "journal.jsonl";
    o.journal = journal.c_str();
    {
      const Search first = must_create(model, o);
      REQUIRE(moe_search_step(first.get()) == MOE_OK);
      REQUIRE(moe_search_step(first.get()) == MOE_OK);
    }
    const Search rest = must_create(model, o);
    CHECK(info_of(rest).generations == 2);
    run(rest);
    CHECK(front_of(rest) == front_of(whole));
    CHECK(info_of(rest).token_layers == info_of(whole).token_layers);

    mutation.name = "toggle_2";
    moe_error e;
    CHECK(create(model, o, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(says(e, "wanted its operators to be"));
    CHECK(says(e, "toggle_2"));
    const std::string text = folder.write("notes.txt", "my notes");
    o.journal = text.c_str();
    CHECK(create(model, o, &e) == nullptr);
    std::ifstream kept(text);
    CHECK(std::string(std::istreambuf_iterator<char>(kept), {}) == "my notes");
  }

  TEST_CASE("what cannot be searched is refused, and the option named") {
    const TempFolder folder;
    const Model model = load(write_tiny(folder));
    int calls = 0;
    const moe_mutation good = {"toggle", toggle, &calls}, taken = {"bias_step", toggle, &calls}, empty = {"", toggle, &calls},
                       lazy = {"lazy", nullptr, nullptr}, nameless = {nullptr, toggle, &calls};
    const char *unknown[] = {"beauty"}, *null[] = {nullptr}, *questions[] = {"accuracy"}, *broken[] = {"{}"};
    const moe_search_limit no_limit = {nullptr, 1}, nan_limit = {"kl", NAN};
    struct Case {
      const char* says;
      std::function<void(moe_search_options&)> edit;
    };
    const Case cases[] = {
        {"moe_search_options.size", [](auto& o) { o.size = 3; }},
        {"population", [](auto& o) { o.population = -1; }},
        {"population", [](auto& o) { o.population = INT32_MAX; }},
        {"oversample", [](auto& o) { o.oversample = 0; }},
        {"archive", [](auto& o) { o.archive = 0; }},
        {"generations", [](auto& o) { o.generations = -1; }},
        {"budget", [](auto& o) { o.budget = NAN; }},
        {"score_tokens", [](auto& o) { o.score_tokens = 0; }},
        {"sampled", [](auto& o) { o.sampled = -5; }},
        {"threads", [](auto& o) { o.threads = 5000; }},
        {"beauty", [&](auto& o) { o.objectives = unknown, o.n_objectives = 1; }},
        {"objectives[0]", [&](auto& o) { o.objectives = null, o.n_objectives = 1; }},
        {"n_objectives", [&](auto& o) { o.objectives = unknown, o.n_objectives = SIZE_MAX; }},
        {"accuracy", [&](auto& o) { o.objectives = questions, o.n_objectives = 1; }},
        {"limits[].objective", [&](auto& o) { o.limits = &no_limit, o.n_limits = 1; }},
        {"limits[].limit", [&](auto& o) { o.limits = &nan_limit, o.n_limits = 1; }},
        {"algorithm", [](auto& o) { o.algorithm = "astrology"; }},
        {"lottery", [](auto& o) { o.n_objectives = 1, o.selection = "lottery"; }},
        {"beauty", [&](auto& o) { o.operators = unknown, o.n_operators = 1; }},
        {"seeds[0]", [&](auto& o) { o.seeds = broken, o.n_seeds = 1; }},
        {"2 x 16 = 32", [](auto& o) { o.kept_low = 33, o.kept_high = 40; }},
        {"kept", [](auto& o) { o.kept_low = 20, o.kept_high = 10; }},
        {"classes", [](auto& o) { o.classes = 0; }},
        {"mutations", [](auto& o) { o.n_mutations = 1; }},
        {"bias_step", [&](auto& o) { o.mutations = &taken, o.n_mutations = 1; }},
        {"at least a character", [&](auto& o) { o.mutations = &empty, o.n_mutations = 1; }},
        {"function", [&](auto& o) { o.mutations = &lazy, o.n_mutations = 1; }},
        {"mutations[0].name", [&](auto& o) { o.mutations = &nameless, o.n_mutations = 1; }},
        {"documents", [](auto&) {}},
    };
    const Texts texts;
    for (const Case& c : cases) {
      moe_search_options o = small();
      o.mutations = &good;
      c.edit(o);
      if (o.n_mutations == 1 && o.mutations == &good) o.mutations = nullptr;
      CAPTURE(c.says);
      moe_error e;
      const bool no_text = std::strcmp(c.says, "documents") == 0;
      CHECK(moe_search_create(model.get(), no_text ? nullptr : texts.list.data(), texts.list.size(), &o, &e) == nullptr);
      CHECK(e.code != MOE_OK);
      INFO(e.message);
      CHECK(says(e, c.says));
    }
    CHECK(moe_search_create(nullptr, texts.list.data(), texts.list.size(), nullptr, nullptr) == nullptr);
    const moe_token strange[100] = {-5, 1 << 30};
    const moe_search_document document = {"strange", strange, 100};
    CHECK(moe_search_create(model.get(), &document, 1, nullptr, nullptr) == nullptr);
    moe_search_options o = small();
    o.on_progress = [](void*, const char*, int64_t, int64_t) { return 1; };
    moe_error e;
    CHECK(create(model, o, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_CANCELLED);

    CHECK(moe_search_step(nullptr) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_search_get_topology(nullptr, 0) == nullptr);
    CHECK(moe_search_error(nullptr)->code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_search_operator_name(nullptr, 0, nullptr) == nullptr);
    const Search s = must_create(model, small());
    CHECK(moe_search_get_topology(s.get(), 0) == nullptr);
    CHECK(moe_search_error(s.get())->code == MOE_ERROR_OUT_OF_RANGE);
    moe_search_point p;
    p.size = 1;
    CHECK(moe_search_get_point(s.get(), 0, &p) == MOE_ERROR_INVALID_ARGUMENT);
  }
}
