#include "tools/bench_decode.h"

#include <algorithm>
#include <chrono>

#include "core/rng.h"
#include "models/routing_stats.h"
#include "tools/common.h"

namespace moe::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

Result<std::unique_ptr<DecodeClock>> DecodeClock::create(const Model& model, const DecodeOptions& options) {
  std::unique_ptr<DecodeClock> clock(new DecodeClock(model, options));
  SessionOptions o;
  o.n_ctx = options.depth + options.n_tokens;
  MOE_ASSIGN(clock->session_, Session::create(model, o));
  Rng rng(options.seed, 1);
  clock->tokens_.resize(static_cast<size_t>(o.n_ctx));
  for (Token& t : clock->tokens_) t = static_cast<Token>(rng.below(static_cast<uint64_t>(model.config().n_vocab)));
  return clock;
}

Status DecodeClock::prepare(const RoutingTopology& topology) {
  MOE_TRY(session_->set_topology(topology));
  MOE_TRY(session_->truncate(0, 0));
  const auto start = Clock::now();
  MOE_TRY(session_->eval_prompt(std::span(tokens_).first(static_cast<size_t>(options_.depth)), 0, {},
                                [](int) { return !interrupted(); }));
  prompt_rate_ = options_.depth / seconds_since(start);
  return Status::Ok();
}

Status DecodeClock::decode(std::vector<double>* ms) {
  for (size_t i = static_cast<size_t>(options_.depth); i < tokens_.size(); ++i) {
    if (interrupted()) return interrupted_status();
    const BatchToken token{tokens_[i], 0, true};
    const auto start = Clock::now();
    MOE_TRY(session_->eval({&token, 1}));
    if (ms) ms->push_back(1e3 * seconds_since(start));
  }
  return Status::Ok();
}

Status DecodeClock::time(const RoutingTopology& topology, std::vector<double>& ms) {
  MOE_TRY(prepare(topology));
  return decode(&ms);
}

Result<Evaluation> DecodeClock::cost(const ModelCosts& costs, const RoutingTopology& topology) {
  const RoutingShape& shape = model_.routing_shape();
  MOE_TRY(prepare(topology));
  RoutingStats stats(shape);
  session_->set_observer([&](const RouterView& view) { stats.add(view); });
  const Status status = decode(nullptr);
  session_->set_observer({});
  MOE_TRY(status);
  std::vector<LayerUse> uses(shape.layers.size());
  std::vector<std::vector<uint32_t>> loads(shape.layers.size());
  for (size_t i = 0; i < uses.size(); ++i) {
    const RoutingStats::Layer& l = stats.layers()[i];
    if (l.tokens == 0 || topology.layers[i].k_max == 0) continue;
    for (size_t e = 0; e < l.use.size(); ++e) {
      const std::vector<int32_t>& width = topology.layers[i].width;
      const double share = width.empty() ? 1 : static_cast<double>(width[e]) / shape.layers[i].d_ff;
      const double used = static_cast<double>(l.use[e]) / static_cast<double>(l.tokens);
      uses[i].k_mean += used, uses[i].work_mean += used * share;
      loads[i].push_back(static_cast<uint32_t>(l.use[e]));
    }
    uses[i].load = loads[i];
  }
  GenePool pool;
  MOE_ASSIGN(const Genome genome, genome_of(topology, shape, pool));
  Evaluation e;
  costs.fill(genome, uses, e);
  return e;
}

}  // namespace moe::tools
