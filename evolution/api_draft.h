// The part of moe/evolve.h that callbacks see, and the rows of tables that call them.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "evolution/selections.h"
#include "evolution/variation/operators.h"
#include "moe/evolve.h"

// Random numbers of the child (or generation) at hand.
struct moe_random {
  moe::Rng& rng;
};

// Either a draft, whose layers are remembered as they were before the first edit, or a genome that is looked at.
struct moe_draft {
  moe::GenomeDraft* draft;    // null: `genome` alone
  const moe::Genome* genome;  // null: `draft` alone
  const moe::SearchSpace& space;
  std::map<int, moe::LayerGene> before = {};
};

namespace moe::api {

// What the callbacks of one search share. One of them runs at a time, on whichever thread; the first that fails ends the
// search.
class Callbacks {
 public:
  // call() → whether the answer of `name` is one that it may give. What goes wrong is remembered.
  template <class F>
  void run(const std::string& name, F&& call) {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
    const std::string wrong = call();
    if (wrong.empty()) return;
    failure_ = "operator '" + name + "' " + wrong;
    failed_ = true;
  }

  bool failed() const { return failed_; }
  Status status() const;

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> failed_{false};  // read while evaluating, without the lock
  std::string failure_;
};

// Rows that call the user's functions. Shared: rows are copied into searches.
MutationOp mutation_of(const moe_mutation& own, const std::shared_ptr<Callbacks>& callbacks);
CrossoverOp crossover_of(const moe_crossover& own, const std::shared_ptr<Callbacks>& callbacks);
SelectionRow selection_of(const moe_selection& own, const std::shared_ptr<Callbacks>& callbacks);

}  // namespace moe::api
