// moe/evolve.h for C++17 and later, as moe.hpp is moe.h: objects that free themselves, lambdas as operators, moe::Error.
//
//   moe::SearchOptions options;
//   options.values.kept_low = options.values.kept_high = 64;
//   options.mutations.push_back({"mine", [](moe::Draft& draft, moe::Random& random) { … return true; }});
//   moe::Search search(model, {{"wiki", tokens}}, options);
//   while (search.info().ended == MOE_SEARCH_RUNNING) search.step();
//   search.finish();
//   session.set_topology(search.topology(0));
//
// What an operator throws passes through step() to you, and ends the search.
#ifndef MOE_EVOLVE_HPP_
#define MOE_EVOLVE_HPP_

#include "moe/evolve.h"
#include "moe/moe.hpp"

namespace moe {
inline namespace v0 {

inline std::vector<std::string> objectives() { return detail::names(moe_objective_name); }
inline std::vector<std::string> search_algorithms() { return detail::names(moe_algorithm_name); }
inline std::vector<std::string> mutations() { return detail::names(moe_mutation_name); }
inline std::vector<std::string> crossovers() { return detail::names(moe_crossover_name); }
inline std::vector<std::string> parent_selections() { return detail::names(moe_selection_name); }

class Random {
 public:
  explicit Random(moe_random* random) : random_(random) {}
  double uniform() { return moe_random_uniform(random_); }
  double normal() { return moe_random_normal(random_); }
  uint64_t below(uint64_t n) { return moe_random_below(random_, n); }

 private:
  moe_random* random_;
};

// Valid inside of the operator that gets it.
class ConstDraft {
 public:
  explicit ConstDraft(const moe_draft* draft) : draft_(draft) {}
  const moe_draft* get() const { return draft_; }

  int n_layers() const { return moe_draft_n_layers(get()); }
  moe_draft_layer layer(int layer) const {
    moe_draft_layer out;
    out.size = sizeof out;
    check(moe_draft_get_layer(get(), layer, &out));
    return out;
  }
  bool is_kept(int layer, int expert, int token_class = 0) const {
    return moe_draft_is_kept(get(), layer, token_class, expert) == 1;
  }
  int width(int layer, int expert) const { return moe_draft_width(get(), layer, expert); }
  int redirect(int layer, int expert) const { return moe_draft_redirect(get(), layer, expert); }
  float bias(int layer, int expert) const { return moe_draft_bias(get(), layer, expert); }
  float saliency(int layer, int expert) const { return moe_draft_saliency(get(), layer, expert); }

 protected:
  static void check(moe_status status) {
    moe_error e = {status, "draft: no such layer, class or expert, or a number out of range"};
    detail::check(status, e);
  }

 private:
  const moe_draft* draft_;
};

class Draft : public ConstDraft {
 public:
  explicit Draft(moe_draft* draft) : ConstDraft(draft), draft_(draft) {}
  moe_draft* get() const { return draft_; }

  void set_kept(int layer, int expert, bool kept, int token_class = 0) {
    check(moe_draft_set_kept(get(), layer, token_class, expert, kept));
  }
  void set_k(int layer, int k_min, int k_max) { check(moe_draft_set_k(get(), layer, k_min, k_max)); }
  void set_threshold(int layer, float threshold) { check(moe_draft_set_threshold(get(), layer, threshold)); }
  void set_temperature(int layer, float temperature) { check(moe_draft_set_temperature(get(), layer, temperature)); }
  void set_bias(int layer, int expert, float bias) { check(moe_draft_set_bias(get(), layer, expert, bias)); }
  void set_width(int layer, int expert, int quarters) { check(moe_draft_set_width(get(), layer, expert, quarters)); }
  void set_redirect(int layer, int expert, int to) { check(moe_draft_set_redirect(get(), layer, expert, to)); }
  void take_layer(int layer, const ConstDraft& from) { check(moe_draft_take_layer(get(), layer, from.get())); }

 private:
  moe_draft* draft_;
};

struct Mutation {
  std::string name;
  std::function<bool(Draft&, Random&)> apply;  // false: there was nothing to do
};
struct Crossover {
  std::string name;
  std::function<bool(Draft&, const ConstDraft& father, Random&)> apply;
};
struct ParentSelection {
  std::string name;
  // Slots, and their order from best to worst; fills in who is chosen.
  std::function<void(const std::vector<moe_search_slot>& slots, const std::vector<uint32_t>& order, double pressure, Random&,
                     std::vector<uint32_t>& chosen)>
      select;
};

struct SearchDocument {
  std::string domain;
  std::vector<Token> tokens;
};

// `values` has what is a plain number; lists, names and callbacks are here, and those in `values` are not looked at.
struct SearchOptions {
  moe_search_options values = detail::defaults<moe_search_options, moe_search_options_init>();
  std::string algorithm, selection, journal;  // "": as NULL
  std::vector<std::string> objectives, operators, seeds;
  std::vector<std::pair<std::string, double>> limits;
  std::vector<Mutation> mutations;
  std::vector<Crossover> crossovers;
  std::vector<ParentSelection> selections;
  std::function<bool(const std::string& stage, int64_t done, int64_t of)> on_progress;  // false cancels
};

class Search {
 public:
  Search(const Model& model, const std::vector<SearchDocument>& documents, SearchOptions options = {})
      : calls_(new Calls{std::move(options), nullptr}) {
    const SearchOptions& given = calls_->options;
    moe_search_options o = given.values;
    const auto pointer = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    o.algorithm = pointer(given.algorithm), o.selection = pointer(given.selection), o.journal = pointer(given.journal);
    const auto objectives = pointers(given.objectives), operators = pointers(given.operators), seeds = pointers(given.seeds);
    o.objectives = objectives.data(), o.n_objectives = objectives.size();
    o.operators = operators.data(), o.n_operators = operators.size();
    o.seeds = seeds.data(), o.n_seeds = seeds.size();
    std::vector<moe_search_limit> limits;
    for (const auto& l : given.limits) limits.push_back({l.first.c_str(), l.second});
    o.limits = limits.data(), o.n_limits = limits.size();
    // Each row's user is where the function is, and where what it throws goes to.
    std::vector<moe_mutation> mutations;
    for (const Mutation& m : given.mutations) mutations.push_back({m.name.c_str(), Calls::mutate, calls_->row(&m)});
    std::vector<moe_crossover> crossovers;
    for (const Crossover& c : given.crossovers) crossovers.push_back({c.name.c_str(), Calls::cross, calls_->row(&c)});
    std::vector<moe_selection> selections;
    for (const ParentSelection& s : given.selections) selections.push_back({s.name.c_str(), Calls::select, calls_->row(&s)});
    o.mutations = mutations.data(), o.n_mutations = mutations.size();
    o.crossovers = crossovers.data(), o.n_crossovers = crossovers.size();
    o.selections = selections.data(), o.n_selections = selections.size();
    o.on_progress = given.on_progress ? Calls::progress : nullptr, o.progress_user = calls_.get();
    std::vector<moe_search_document> texts;
    for (const SearchDocument& d : documents) texts.push_back({d.domain.c_str(), d.tokens.data(), d.tokens.size()});
    moe_error e;
    moe_search* made = moe_search_create(model.get(), texts.data(), texts.size(), &o, &e);
    rethrow();
    search_.reset(detail::check(made, e));
  }

  moe_search* get() const { return search_.get(); }

  void step() { check(moe_search_step(get())); }
  void finish() { check(moe_search_finish(get())); }
  void cancel() { moe_search_cancel(get()); }

  moe_search_info info() const {
    moe_search_info info;
    info.size = sizeof info;
    detail::check(moe_search_get_info(get(), &info), *moe_search_error(get()));
    return info;
  }
  moe_search_point point(size_t i) const {
    moe_search_point point;
    point.size = sizeof point;
    detail::check(moe_search_get_point(get(), i, &point), *moe_search_error(get()));
    return point;
  }
  std::string topology(size_t i) const { return detail::take(moe_search_get_topology(get(), i), *moe_search_error(get())); }
  // Names and shares of the operators in use.
  std::vector<std::pair<std::string, double>> operators() const {
    std::vector<std::pair<std::string, double>> all;
    double share = 0;
    for (size_t i = 0; const char* name = moe_search_operator_name(get(), i, &share); ++i) all.emplace_back(name, share);
    return all;
  }

 private:
  // What C's callbacks see: one of the user's rows, and all of them. Does not move while the search lives.
  struct Calls {
    struct Row {
      Calls* calls;
      const void* own;
    };
    SearchOptions options;
    std::exception_ptr thrown;
    std::vector<std::unique_ptr<Row>> rows = {};

    void* row(const void* own) {
      rows.emplace_back(new Row{this, own});
      return rows.back().get();
    }
    // 1 and 0 for what f() returns, −1, which ends the search, where it throws.
    template <class F>
    int guarded(F&& f) {
      try {
        return f() ? 1 : 0;
      } catch (...) {
        if (!thrown) thrown = std::current_exception();
        return -1;
      }
    }
    static int mutate(void* user, moe_draft* draft, moe_random* random) {
      auto* r = static_cast<Row*>(user);
      return r->calls->guarded([&] {
        Draft d(draft);
        Random numbers(random);
        return static_cast<const Mutation*>(r->own)->apply(d, numbers);
      });
    }
    static int cross(void* user, moe_draft* draft, const moe_draft* father, moe_random* random) {
      auto* r = static_cast<Row*>(user);
      return r->calls->guarded([&] {
        Draft d(draft);
        Random numbers(random);
        return static_cast<const Crossover*>(r->own)->apply(d, ConstDraft(father), numbers);
      });
    }
    static int select(void* user, const moe_search_slot* slots, const uint32_t* order, size_t n_slots, double pressure,
                      moe_random* random, uint32_t* chosen, size_t n_chosen) {
      auto* r = static_cast<Row*>(user);
      return r->calls->guarded([&] {
        Random numbers(random);
        std::vector<uint32_t> all(n_chosen, order[0]);
        static_cast<const ParentSelection*>(r->own)->select({slots, slots + n_slots}, {order, order + n_slots}, pressure,
                                                            numbers, all);
        for (size_t i = 0; i < n_chosen; ++i) chosen[i] = i < all.size() ? all[i] : order[0];
        return true;
      });
    }
    static int progress(void* user, const char* stage, int64_t done, int64_t of) {
      auto* c = static_cast<Calls*>(user);
      return c->guarded([&] { return c->options.on_progress(stage, done, of); }) == 1 ? 0 : 1;
    }
  };

  static std::vector<const char*> pointers(const std::vector<std::string>& texts) {
    std::vector<const char*> all;
    for (const std::string& s : texts) all.push_back(s.c_str());
    return all;
  }
  void rethrow() {
    if (calls_->thrown) std::rethrow_exception(std::exchange(calls_->thrown, nullptr));
  }
  void check(moe_status status) {
    rethrow();
    detail::check(status, *moe_search_error(get()));
  }

  std::unique_ptr<Calls> calls_;  // outlives the search
  std::unique_ptr<moe_search, detail::Deleter<moe_search, moe_search_free>> search_;
};

}  // namespace v0
}  // namespace moe

#endif  // MOE_EVOLVE_HPP_
