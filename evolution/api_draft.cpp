#include "evolution/api_draft.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "evolution/variation/variation_support.h"
#include "models/api_support.h"

using namespace moe;
using namespace moe::api;

namespace {

constexpr float kNoFloat = std::numeric_limits<float>::quiet_NaN();

int n_layers(const moe_draft* d) {
  if (!d) return 0;
  return d->draft ? d->draft->n_layers() : static_cast<int>(d->genome->layers.size());
}

// Null where there is no such layer.
const LayerGene* layer_at(const moe_draft* d, int32_t i) {
  if (i < 0 || i >= n_layers(d)) return nullptr;
  return d->draft ? &std::as_const(*d->draft).layer(i) : &d->genome->layers[static_cast<size_t>(i)]->value;
}

bool is_below(int32_t i, int32_t n) { return i >= 0 && i < n; }

// Null where there is no such layer, or no such expert in it.
const LayerGene* layer_with(const moe_draft* d, int32_t layer, int32_t expert) {
  const LayerGene* g = layer_at(d, layer);
  return g && is_below(expert, g->n_experts) ? g : nullptr;
}

// f(layer to edit), where `fits`: what of the arguments can be wrong beside the layer itself.
template <class F>
moe_status edit(moe_draft* d, int32_t layer, bool fits, F&& f) {
  return guarded(nullptr, [&]() -> Status {
    const LayerGene* g = layer_at(d, layer);
    if (!fits || !g || g->n_experts == 0 || !d->draft) return Status::InvalidArgument("draft");
    d->before.try_emplace(layer, *g);
    f(*d);
    return Status::Ok();
  });
}

void undo(moe_draft& d) {
  for (auto& [layer, gene] : d.before) d.draft->edit(layer) = std::move(gene);
}

std::string unexpected(int answer) { return "answered " + std::to_string(answer) + ", wanted 0 or 1"; }

// call(draft) → what a mutation or a crossover answers. True: the draft is another now.
template <class F>
bool vary(Callbacks& callbacks, const std::string& name, GenomeDraft& draft, const SearchSpace& space, F&& call) {
  bool applied = false;
  callbacks.run(name, [&]() -> std::string {
    moe_draft d{&draft, nullptr, space};
    const int answer = call(d);
    applied = answer == 1 && !d.before.empty();
    if (!applied) undo(d);
    return answer == 0 || answer == 1 ? std::string() : unexpected(answer);
  });
  return applied;
}

std::string choose(const moe_selection& own, std::span<const Score> population, std::span<const uint32_t> order,
                   double pressure, Rng& rng, std::span<uint32_t> chosen) {
  std::vector<moe_search_slot> slots;
  for (const Score& s : population)
    slots.push_back({s.dropped() ? std::numeric_limits<double>::quiet_NaN() : s.values[0], s.violation, s.dropped()});
  moe_random random{rng};
  const int answer =
      own.select(own.user, slots.data(), order.data(), slots.size(), pressure, &random, chosen.data(), chosen.size());
  if (answer != 1) return "answered " + std::to_string(answer) + ", wanted 1";
  for (const uint32_t slot : chosen)
    if (slot >= slots.size())
      return "chose slot " + std::to_string(slot) + ", wanted one below " + std::to_string(slots.size());
  return {};
}

}  // namespace

namespace moe::api {

Status Callbacks::status() const {
  const std::lock_guard lock(mutex_);
  return failed_ ? Status::Cancelled(failure_) : Status::Ok();
}

MutationOp mutation_of(const moe_mutation& own, const std::shared_ptr<Callbacks>& callbacks) {
  const auto apply = [name = std::string(own.name), own, callbacks](GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
    return vary(*callbacks, name, draft, space, [&](moe_draft& d) {
      moe_random random{rng};
      return own.apply(own.user, &d, &random);
    });
  };
  return {.name = own.name,
          .help = "the caller's own",
          .changes = kFieldAll & ~kFieldClasses,
          .layers = kEveryLayer,
          .usable = always,
          .apply = apply,
          .needs_repair = true};
}

CrossoverOp crossover_of(const moe_crossover& own, const std::shared_ptr<Callbacks>& callbacks) {
  const auto apply = [name = std::string(own.name), own, callbacks](GenomeDraft& draft, const Genome& father,
                                                                    const SearchSpace& space, Rng& rng) {
    return vary(*callbacks, name, draft, space, [&](moe_draft& d) {
      const moe_draft looked_at{nullptr, &father, space};
      moe_random random{rng};
      return own.apply(own.user, &d, &looked_at, &random);
    });
  };
  return {.name = own.name, .help = "the caller's own", .changes = kFieldAll & ~kFieldClasses, .apply = apply};
}

SelectionRow selection_of(const moe_selection& own, const std::shared_ptr<Callbacks>& callbacks) {
  const auto select = [name = std::string(own.name), own, callbacks](std::span<const Score> population,
                                                                     std::span<const uint32_t> order, double pressure, Rng& rng,
                                                                     std::span<uint32_t> chosen) {
    std::fill(chosen.begin(), chosen.end(), order[0]);
    callbacks->run(name, [&] { return choose(own, population, order, pressure, rng, chosen); });
    if (callbacks->failed()) std::fill(chosen.begin(), chosen.end(), order[0]);  // what it chose may be no slot
  };
  return {own.name, "the caller's own", 0, 0, std::numeric_limits<double>::max(), select};
}

}  // namespace moe::api

extern "C" {

double moe_random_uniform(moe_random* random) { return random ? random->rng.uniform_double() : 0; }
double moe_random_normal(moe_random* random) { return random ? static_cast<double>(random->rng.normal()) : 0; }
uint64_t moe_random_below(moe_random* random, uint64_t n) { return random && n > 0 ? random->rng.below(n) : 0; }

int32_t moe_draft_n_layers(const moe_draft* draft) { return n_layers(draft); }

moe_status moe_draft_get_layer(const moe_draft* draft, int32_t layer, moe_draft_layer* out) {
  const LayerGene* g = layer_at(draft, layer);
  if (!g || !out || out->size != sizeof *out) return MOE_ERROR_INVALID_ARGUMENT;
  const bool routed = g->n_experts > 0;
  *out = {.size = sizeof *out,
          .n_experts = g->n_experts,
          .n_classes = g->n_classes,
          .n_kept = routed ? g->n_kept() : 0,
          .k_min = g->k_min,
          .k_max = g->k_max,
          .k_low = routed ? draft->space.k_low(layer) : 0,
          .k_high = routed ? draft->space.k_high(layer) : 0,
          .threshold = g->threshold,
          .temperature = g->temperature};
  return MOE_OK;
}

int32_t moe_draft_is_kept(const moe_draft* draft, int32_t layer, int32_t token_class, int32_t expert) {
  const LayerGene* g = layer_with(draft, layer, expert);
  return g && is_below(token_class, g->n_classes) ? has_bit(g->row(token_class), expert) : -1;
}

int32_t moe_draft_width(const moe_draft* draft, int32_t layer, int32_t expert) {
  const LayerGene* g = layer_with(draft, layer, expert);
  return g ? g->quarters(expert) : -1;
}

int32_t moe_draft_redirect(const moe_draft* draft, int32_t layer, int32_t expert) {
  const LayerGene* g = layer_with(draft, layer, expert);
  return g ? g->redirect_of(expert) : -1;
}

float moe_draft_bias(const moe_draft* draft, int32_t layer, int32_t expert) {
  const LayerGene* g = layer_with(draft, layer, expert);
  return g ? g->bias_of(expert) : kNoFloat;
}

float moe_draft_saliency(const moe_draft* draft, int32_t layer, int32_t expert) {
  if (!layer_with(draft, layer, expert)) return kNoFloat;
  const std::span<const float> saliency = draft->space.saliency(layer);
  return saliency.empty() ? kNoFloat : saliency[static_cast<size_t>(expert)];
}

moe_status moe_draft_set_kept(moe_draft* draft, int32_t layer, int32_t token_class, int32_t expert, int32_t kept) {
  const bool fits = moe_draft_is_kept(draft, layer, token_class, expert) >= 0;
  return edit(draft, layer, fits, [&](moe_draft& d) { set_bit(d.draft->edit(layer).row(token_class), expert, kept != 0); });
}

moe_status moe_draft_set_k(moe_draft* draft, int32_t layer, int32_t k_min, int32_t k_max) {
  return edit(draft, layer, 0 <= k_min && k_min <= k_max, [&](moe_draft& d) {
    LayerGene& g = d.draft->edit(layer);
    g.k_min = k_min, g.k_max = k_max;
  });
}

moe_status moe_draft_set_threshold(moe_draft* draft, int32_t layer, float threshold) {
  return edit(draft, layer, threshold >= 0 && threshold <= 1, [&](moe_draft& d) {
    d.draft->edit(layer).threshold = threshold + 0.0f;  // −0 is 0
  });
}

moe_status moe_draft_set_temperature(moe_draft* draft, int32_t layer, float temperature) {
  return edit(draft, layer, temperature > 0 && std::isfinite(temperature),
              [&](moe_draft& d) { d.draft->edit(layer).temperature = temperature; });
}

moe_status moe_draft_set_bias(moe_draft* draft, int32_t layer, int32_t expert, float bias) {
  return edit(draft, layer, layer_with(draft, layer, expert) && std::isfinite(bias),
              [&](moe_draft& d) { d.draft->edit(layer).set_bias(expert, bias); });
}

moe_status moe_draft_set_width(moe_draft* draft, int32_t layer, int32_t expert, int32_t quarters) {
  return edit(draft, layer, layer_with(draft, layer, expert) && quarters >= 1 && quarters <= kQuarters,
              [&](moe_draft& d) { d.draft->edit(layer).set_quarters(expert, quarters); });
}

moe_status moe_draft_set_redirect(moe_draft* draft, int32_t layer, int32_t expert, int32_t to) {
  const bool fits = layer_with(draft, layer, expert) && (to == -1 || layer_with(draft, layer, to)) && to != expert;
  return edit(draft, layer, fits, [&](moe_draft& d) { d.draft->edit(layer).set_redirect(expert, to); });
}

moe_status moe_draft_take_layer(moe_draft* draft, int32_t layer, const moe_draft* from) {
  return edit(draft, layer, from && from->genome && n_layers(from) == n_layers(draft), [&](moe_draft& d) {
    take_layer(*d.draft, layer, *from->genome, classes_alike(d.draft->classes(), from->genome->classes->value));
  });
}

}  // extern "C"
