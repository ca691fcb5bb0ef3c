// Whole models: the reverse pass of two layers, from the loss to every weight, against differences in double precision.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "core/rng.h"
#include "models/arch.h"
#include "tests/models/model_fixture.h"
#include "tests/tensor/f64/gradient_check.h"

namespace moe {
namespace {

using namespace test;

constexpr int64_t kRows = 7, kWanted = 5, kSequences = 2, kContext = 8;

ModelConfig tiny(const std::string& arch, int kv_heads) {
  ModelConfig c;
  c.arch = arch;
  c.n_vocab = 11, c.n_ctx_train = kContext, c.n_layer = 2, c.d_model = 8;
  c.n_head = 2, c.n_kv_head = kv_heads, c.head_dim = c.v_dim = c.rope_dims = 4;
  c.n_expert = 4, c.n_expert_used = 2, c.d_ff = c.d_ff_expert = 6;
  REQUIRE((*find_arch(arch))->configure(c, "tiny").ok());
  return c;
}

// Every tensor that a configuration declares, as float32 without data; the head only where it is not the embedding.
class Declared : public WeightSource {
 public:
  Declared(const ModelConfig& config, bool tied) {
    const auto tensors = declare_tensors(config);
    REQUIRE(tensors.ok());
    for (const DeclaredTensor& t : *tensors)
      if (!tied || t.name != "output.weight") shapes_[t.name] = t.shape;
  }
  Result<Tensor> weight(const std::string& name, bool) override { return Tensor{nullptr, DType::kF32, shapes_.at(name)}; }
  bool has(const std::string& name) const override { return shapes_.count(name) == 1; }

 private:
  std::map<std::string, Shape> shapes_;
};

struct Way {
  const char* name;
  bool train;
  Doubles balance, drop, capacity;
};
const Way kWays[] = {
    {"an inference graph", false, {}, {}, {}},
    {"balance losses", true, {0.7, 0.3, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}},
    {"dropped experts and full ones", true, {0, 0, 0, 0}, {0.3, 1, 0, 0}, {1, 2, 1, 0}},
    {"all of it", true, {0.7, 0.3, 0, 0}, {0.3, 2, 0, 0}, {1, 0, 2, 0}},
};

class ModelCase {
 public:
  ModelCase(const ModelConfig& config, bool tied, const Way& way) {
    Declared source(config, tied);
    GraphOptions o;
    o.n_slots = kSequences, o.n_ctx = kContext, o.cache_k = o.cache_v = DType::kF32, o.train = way.train;
    auto m = build_graph(config, o, &source);
    REQUIRE_MESSAGE(m.ok(), m.status().message());
    c_.g = m->graph;
    c_.run = {.n_tokens = kRows, .n_outputs = kWanted};
    set_inputs(*m);
    if (way.train) c_.values[m->balance] = way.balance, c_.values[m->drop] = way.drop, c_.values[m->capacity] = way.capacity;
    set_weights();
    end_in_loss(*m);
    if (way.train) add_balance_losses(way.balance);
  }
  const GradientCase& gradients() const { return c_; }

 private:
  void set_inputs(const ModelGraph& m) {
    Values64& v = c_.values;
    v[m.tokens] = {3, 1, 4, 1, 5, 9, 2}, v[m.positions] = {0, 1, 2, 3, 0, 1, 2}, v[m.slots] = {0, 0, 0, 0, 1, 1, 1};
    v[m.rows] = {0, 2, 3, 4, 6}, v[m.token_class] = Doubles(kRows);
    for (const RouterValues& r : m.routers) {
      const auto E = static_cast<size_t>(r.n_experts);
      v[r.params] = {1, 2, 0.1, 0.9, 0, 0, 0, 0}, v[r.allow] = Doubles(E, 1), v[r.redirect] = Doubles(E, -1);
      for (size_t e = 0; e < E; ++e) {
        v[r.bias].push_back(0.02 * double{rng_.normal()});
        v[r.width].push_back(static_cast<double>(2 + rng_.below(static_cast<uint64_t>(r.d_ff) - 1)));
      }
    }
    for (const CacheValues& cache : m.caches)
      for (const ValueId id : {cache.k, cache.v}) v[id] = Doubles(static_cast<size_t>(c_.g.value(id).shape.elements()));
  }

  // Products keep the size of what they read; norms are near 1.
  void set_weights() {
    for (size_t i = 0; i < c_.g.values.size(); ++i) {
      const Value& w = c_.g.values[i];
      if (w.kind != ValueKind::kWeight) continue;
      const bool norm = w.shape.rank == 1;
      const double spread = norm ? 0.2 : 1 / std::sqrt(static_cast<double>(w.shape.last()));
      Doubles& values = c_.values[static_cast<ValueId>(i)];
      for (int64_t n = w.shape.elements(); n > 0; --n) values.push_back(norm + spread * double{rng_.normal()});
    }
  }

  // The head's product becomes that of the loss.
  void end_in_loss(const ModelGraph& m) {
    REQUIRE(c_.g.nodes.back().out == std::vector<ValueId>{m.logits});
    c_.g.nodes.pop_back();
    c_.g.value(m.logits).output = false;
    Value targets;
    targets.name = "targets", targets.kind = ValueKind::kInput, targets.dtype = DType::kI32, targets.shape = {kOutputs};
    const ValueId id = c_.g.add_value(targets);
    c_.values[id] = {1, 10, -1, 0, 7};
    c_.y = c_.g.add_node(Op::kCrossEntropy, {m.hidden, m.head, id}, CrossEntropyAttrs{});
  }

  void add_balance_losses(const Doubles& balance) {
    const std::vector<Node> nodes = c_.g.nodes;
    for (const Node& n : nodes) {
      if (n.op != Op::kRoute) continue;
      std::vector<ValueId> in(n.in.begin(), n.in.begin() + 7);
      in.insert(in.end(), {n.out[0], n.out[1], kNone, n.in[7]});
      c_.g.add_node(Op::kRouteGrad, in, n.attrs);
      c_.also.push_back({c_.g.nodes.back().out[1], {balance[0], balance[1], 0, 0}});
    }
  }

  GradientCase c_;
  Rng rng_{17};
};

void check_model(const ModelConfig& config) {
  for (const bool tied : {false, true})
    for (const Way& way : kWays) {
      if (kSanitized && (tied || &way != std::end(kWays) - 1)) continue;
      CAPTURE(way.name);
      CAPTURE(tied);
      check_gradients(ModelCase(config, tied, way).gradients());
    }
}

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE("a model of two layers: every weight of an OLMoE") { check_model(tiny("olmoe", 2)); }

TEST_CASE("a model of two layers: every weight of a Qwen3-MoE, with grouped queries") { check_model(tiny("qwen3moe", 1)); }

TEST_CASE("experts are dropped and slots overflow in the models above") {
  const ModelConfig config = tiny("olmoe", 2);
  const GradientCase c = ModelCase(config, false, kWays[3]).gradients();
  Values64 values = c.values;
  run_f64(c.g, c.run, values);
  int64_t dropped = 0, lost = 0;
  for (const Node& n : c.g.nodes) {
    if (n.op == Op::kDropExperts)
      for (const double x : values.at(n.out[0])) dropped += x == double{kDroppedLogit};
    if (n.op == Op::kLimitExperts)
      for (size_t i = 0; i < values.at(n.out[0]).size(); ++i) lost += values.at(n.out[0])[i] != values.at(n.in[0])[i];
  }
  CHECK(dropped > 4);
  CHECK(lost > 1);
}

TEST_SUITE_END();

}  // namespace moe
