// Topologies at work: what a session does with masks, classes, k, thresholds, widths and redirects, against models whose files
// were cut by hand to the same shape.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// Everything the routers decided, (token, layer) in order.
struct Decision {
  int layer;
  std::vector<int32_t> ids;
  std::vector<float> weights, logits;
};

std::vector<Decision> watch(Session& session, std::span<const Token> tokens, size_t step = 16) {
  std::vector<Decision> seen;
  session.set_observer([&](const RouterView& v) {
    for (int t = 0; t < v.n_tokens; ++t) {
      Decision d{v.layer, {v.ids + t * v.n_slots, v.ids + (t + 1) * v.n_slots}, {}, {}};
      d.weights.assign(v.weights + t * v.n_slots, v.weights + (t + 1) * v.n_slots);
      if (v.logits) d.logits.assign(v.logits + t * v.n_experts, v.logits + (t + 1) * v.n_experts);
      seen.push_back(std::move(d));
    }
  });
  run_tokens(session, tokens, step);
  session.set_observer({});
  return seen;
}

int used(const Decision& d) {
  return static_cast<int>(std::count_if(d.ids.begin(), d.ids.end(), [](int e) { return e >= 0; }));
}

float sum(const std::vector<float>& x) {
  float s = 0;
  for (const float v : x) s += v;
  return s;
}

RoutingTopology full(const Model& m) { return full_topology(m.routing_shape()); }

template <class F>
RoutingTopology edited(const Model& m, F&& edit) {
  RoutingTopology t = full(m);
  for (LayerRouting& r : t.layers)
    if (r.n_experts > 0) edit(r);
  return t;
}

std::vector<float> run_with(const Model& m, const RoutingTopology& t, size_t step = 16) {
  const auto session = new_session(m);
  const Status s = session->set_topology(t);
  REQUIRE_MESSAGE(s.ok(), s.message());
  return run_tokens(*session, reference_tokens(), step);
}

const std::vector<std::string> kMoeModels = {"olmoe",   "qwen2moe",  "qwen3moe",         "granitemoe", "gpt-oss",
                                             "mixtral", "deepseek2", "deepseek2-merged", "deepseek3"};

bool is_stacked(const FileTensor& t) {
  return t.name.find("_exps.") != std::string::npos || t.name.find("ffn_gate_inp.") != std::string::npos ||
         t.name.find("exp_probs_b.") != std::string::npos;
}

// Leaves only these experts, of every layer, in the file.
void keep_experts(ModelFile& file, const std::vector<int>& keep) {
  const std::string arch = *file.metadata.get<std::string>("general.architecture");
  file.metadata.set<uint32_t>(arch + ".expert_count", static_cast<uint32_t>(keep.size()));
  for (FileTensor& t : file.tensors) {
    if (!is_stacked(t)) continue;
    const size_t one = t.values.size() / static_cast<size_t>(t.shape[0]);
    std::vector<float> kept;
    for (const int e : keep)
      kept.insert(kept.end(), t.values.begin() + static_cast<std::ptrdiff_t>(one) * e,
                  t.values.begin() + static_cast<std::ptrdiff_t>(one) * (e + 1));
    t.values = std::move(kept), t.shape[0] = static_cast<int64_t>(keep.size());
  }
}

// The first `width` hidden channels of every expert.
void cut_widths(ModelFile& file, int64_t width) {
  const std::string arch = *file.metadata.get<std::string>("general.architecture");
  for (const char* key : {".expert_feed_forward_length", ".feed_forward_length"})
    if (file.metadata.has(arch + key)) file.metadata.set<uint32_t>(arch + key, static_cast<uint32_t>(width));
  for (FileTensor& t : file.tensors) {
    if (t.name.find("_exps.") == std::string::npos) continue;
    const bool down = t.name.find("ffn_down_exps.weight") != std::string::npos;
    if (t.name.find("ffn_down_exps.bias") != std::string::npos) continue;
    const size_t axis = down ? 2 : 1;
    int64_t outer = 1, inner = 1;
    for (size_t i = 0; i < axis; ++i) outer *= t.shape[i];
    for (size_t i = axis + 1; i < t.shape.size(); ++i) inner *= t.shape[i];
    std::vector<float> kept;
    for (int64_t o = 0; o < outer; ++o) {
      const auto first = t.values.begin() + o * t.shape[axis] * inner;
      kept.insert(kept.end(), first, first + width * inner);
    }
    t.values = std::move(kept), t.shape[axis] = width;
  }
}

}  // namespace

TEST_CASE("a full topology set explicitly leaves every bit as it was") {
  for (const std::string name : reference_names())
    for (const bool exact : {true, false}) {
      CAPTURE(name);
      const auto model = load_model(reference_path(name), {exact, 2, ""});
      const std::vector<float> wanted = run_reference(*model);
      RoutingTopology t = full(*model);
      CHECK(same_bits(run_with(*model, t), wanted));
      t.n_classes = 3;
      t.token_class.assign(320, 0);
      for (size_t i = 0; i < 320; ++i) t.token_class[i] = static_cast<uint8_t>(i % 3);
      for (LayerRouting& r : t.layers) {
        if (r.n_experts == 0) continue;
        r.allow.assign(static_cast<size_t>(r.n_experts) * 3, 1);
        r.bias.assign(static_cast<size_t>(r.n_experts), 0), r.redirect.assign(static_cast<size_t>(r.n_experts), -1);
      }
      CHECK(same_bits(run_with(*model, t, 1), wanted));
    }
}

TEST_CASE("masked experts are never selected, and the others' weights stand as if they did not exist") {
  for (const std::string& name : kMoeModels) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    const RoutingTopology t = edited(*model, [](LayerRouting& r) { r.allow[1] = r.allow[2] = 0; });
    const auto session = new_session(*model);
    REQUIRE(session->set_topology(t).ok());
    size_t decisions = 0;
    for (const Decision& d : watch(*session, reference_tokens())) {
      CHECK(std::count(d.ids.begin(), d.ids.end(), 1) == 0);
      CHECK(std::count(d.ids.begin(), d.ids.end(), 2) == 0);
      CHECK(used(d) == t.layers[static_cast<size_t>(d.layer)].k_max);
      CHECK(std::set<int32_t>(d.ids.begin(), d.ids.end()).size() == d.ids.size());
      ++decisions;
    }
    CHECK(decisions > 0);
    CHECK_FALSE(same_bits(run_with(*model, t), run_reference(*model)));
  }
}

TEST_CASE("a masked run has the bits of the same model with those experts removed from the file") {
  TempFolder folder;
  for (const std::string name : {"olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "mixtral", "deepseek2-merged"})
    for (const bool exact : {true, false}) {
      CAPTURE(name);
      const auto model = load_model(reference_path(name), {exact, 2, ""});
      ModelFile file = read_model(reference_path(name));
      std::vector<int> keep;
      for (int e = 0; e < model->config().n_expert; ++e)
        if (e % 3 != 1) keep.push_back(e);
      if (static_cast<int>(keep.size()) < model->config().n_expert_used) continue;
      keep_experts(file, keep);
      const auto smaller = load_model(file.write(folder), {exact, 2, ""});
      const RoutingTopology t = edited(*model, [](LayerRouting& r) {
        for (int e = 0; e < r.n_experts; ++e) r.allow[static_cast<size_t>(e)] = e % 3 != 1;
      });
      CHECK(same_bits(run_with(*model, t), run_reference(*smaller)));
      CHECK(same_bits(run_with(*model, t, 1), run_reference(*smaller)));
    }
}

TEST_CASE("masking all experts of some groups has the bits of a model without those groups") {
  TempFolder folder;
  ModelConfig c = tiny_config("deepseek2");
  c.n_expert = 16, c.n_group = 4, c.topk_group = 2, c.n_expert_used = 4;
  ModelFile file = random_model(c);
  const auto model = load_model(file.write(folder, "all.gguf"));
  keep_experts(file, {4, 5, 6, 7, 8, 9, 10, 11});
  file.metadata.set<uint32_t>("deepseek2.expert_group_count", 2);
  const auto smaller = load_model(file.write(folder, "half.gguf"));
  const RoutingTopology t = edited(*model, [](LayerRouting& r) {
    for (size_t e = 0; e < 16; ++e) r.allow[e] = e >= 4 && e < 12;
  });
  CHECK(same_bits(run_with(*model, t), run_reference(*smaller)));
}

TEST_CASE("a width for every expert has the bits of a model whose expert matrices are cut") {
  TempFolder folder;
  for (const std::string& name : kMoeModels) {
    if (name == "deepseek2-merged") continue;  // its halves would have to be cut apart
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    int d_ff = 0;
    for (const auto& layer : model->routing_shape().layers) d_ff = std::max(d_ff, layer.d_ff);
    const int width = d_ff / 2;
    const RoutingTopology t = edited(*model, [&](LayerRouting& r) { r.width.assign(static_cast<size_t>(r.n_experts), width); });
    ModelFile file = read_model(reference_path(name));
    if (name.starts_with("deepseek") || name == "qwen2moe") {
      // feed_forward_length belongs to other layers there.
      const std::string arch = *file.metadata.get<std::string>("general.architecture");
      const auto dense = *file.metadata.get_or<uint32_t>(arch + ".feed_forward_length", 0);
      file.metadata.set<uint32_t>(arch + ".expert_shared_feed_forward_length",
                                  static_cast<uint32_t>(model->config().d_ff_shared));
      cut_widths(file, width);
      if (dense) file.metadata.set<uint32_t>(arch + ".feed_forward_length", dense);
    } else {
      cut_widths(file, width);
    }
    const auto narrow = load_model(file.write(folder), {true, 2, ""});
    const std::vector<float> wanted = run_reference(*narrow);
    CHECK(nmse(run_with(*model, t), wanted) <= 1e-12);
    CHECK(same_bits(run_with(*model, t), run_with(*model, t, 1)));
  }
}

TEST_CASE("merged gate and up take widths of their own for every expert as separate ones do") {
  const auto merged = load_model(reference_path("deepseek2-merged")), apart = load_model(reference_path("deepseek2"));
  if (!same_bits(run_reference(*merged), run_reference(*apart))) {
    MESSAGE("the two files hold different weights: compared with themselves only");
  }
  for (const Model* model : {merged.get(), apart.get()}) {
    const RoutingTopology t = edited(*model, [](LayerRouting& r) {
      r.width.resize(static_cast<size_t>(r.n_experts));
      for (size_t e = 0; e < r.width.size(); ++e) r.width[e] = static_cast<int32_t>(1 + 3 * (e % 6));
    });
    const std::vector<float> at_once = run_with(*model, t);
    CHECK(all_finite(at_once));
    CHECK(same_bits(at_once, run_with(*model, t, 1)));
    CHECK_FALSE(same_bits(at_once, run_reference(*model)));
  }
}

TEST_CASE("classes of tokens keep to their masks") {
  for (const std::string& name : kMoeModels) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    RoutingTopology t = full(*model);
    t.n_classes = 2;
    t.token_class.assign(320, 0);
    for (size_t i = 0; i < 320; i += 2) t.token_class[i] = 1;
    for (LayerRouting& r : t.layers) {
      if (r.n_experts == 0) continue;
      r.allow.assign(2 * static_cast<size_t>(r.n_experts), 1);
      r.allow[0] = 0;                                     // class 0 without expert 0
      r.allow[static_cast<size_t>(r.n_experts) + 3] = 0;  // class 1 without expert 3
    }
    const auto session = new_session(*model);
    REQUIRE(session->set_topology(t).ok());
    const std::vector<Decision> seen = watch(*session, reference_tokens());
    for (size_t i = 0; i < seen.size(); ++i) {
      const Token token = reference_tokens()[i % reference_tokens().size()];
      const int forbidden = token % 2 == 0 ? 3 : 0;
      CHECK(std::count(seen[i].ids.begin(), seen[i].ids.end(), forbidden) == 0);
    }
    // A batch of one class alone runs as under that class' mask.
    const RoutingTopology odd = edited(*model, [](LayerRouting& r) { r.allow[0] = 0; });
    const std::vector<Token> odd_tokens = {33, 7, 99, 3, 101, 11};
    const auto alone = new_session(*model);
    REQUIRE(alone->set_topology(odd).ok());
    const auto classed = new_session(*model);
    REQUIRE(classed->set_topology(t).ok());
    CHECK(same_bits(run_tokens(*classed, odd_tokens, 6), run_tokens(*alone, odd_tokens, 6)));
  }
}

TEST_CASE("a threshold keeps slot i while its score exceeds t times the best one, and the weights' sum") {
  for (const std::string& name : kMoeModels) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 1, ""});
    SessionOptions o = roomy();
    o.observe_router = true;
    const auto plain = new_session(*model, o), cut = new_session(*model, o);
    const float threshold = 0.6f;
    REQUIRE(cut->set_topology(with_threshold(full(*model), threshold)).ok());
    const std::vector<Decision> before = watch(*plain, reference_tokens()), after = watch(*cut, reference_tokens());
    REQUIRE(before.size() == after.size());
    const bool selected_only = name == "gpt-oss", sums_to_one = name == "gpt-oss" || name == "granitemoe" || name == "qwen3moe";
    int dropped = 0;
    size_t first_layer_rows = reference_tokens().size();  // only these have the same inputs in both runs
    for (size_t i = 0; i < first_layer_rows; ++i) {
      const Decision &all = before[i], &kept = after[i];
      for (size_t s = 0; s < all.ids.size(); ++s) {
        // Weights are proportional to scores; the first slot is the best one.
        const bool keep = s == 0 || all.weights[s] > threshold * all.weights[0];
        if (std::fabs(all.weights[s] / all.weights[0] - threshold) < 1e-5f) continue;
        if (name != "deepseek3") CHECK(kept.ids[s] == (keep ? all.ids[s] : -1));
        if (kept.ids[s] < 0) CHECK(kept.weights[s] == 0);
        dropped += kept.ids[s] < 0;
      }
      CHECK(sum(kept.weights) == doctest::Approx(sum(all.weights)).epsilon(1e-5));
      if (sums_to_one || selected_only) CHECK(sum(kept.weights) == doctest::Approx(1).epsilon(1e-5));
    }
    CHECK(dropped > 0);
  }
}

TEST_CASE("k runs from k_min to k_max, above the model's own too, and growing keeps what was computed") {
  for (const std::string name : {"olmoe", "mixtral", "gpt-oss"}) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    const int own = model->config().n_expert_used, most = model->config().n_expert;
    for (const int k : {1, own, own + 1, most}) {
      CAPTURE(k);
      const auto session = new_session(*model);
      REQUIRE(session->set_topology(with_k(full(*model), model->routing_shape(), k)).ok());
      for (const Decision& d : watch(*session, reference_tokens())) CHECK(used(d) == k);
      // The same as a file that says so.
      TempFolder folder;
      ModelFile file = read_model(reference_path(name));
      file.metadata.set<uint32_t>(model->config().arch + ".expert_used_count", static_cast<uint32_t>(k));
      const auto said = load_model(file.write(folder), {true, 2, ""});
      CHECK(same_bits(run_with(*model, with_k(full(*model), model->routing_shape(), k)), run_reference(*said)));
    }
    // Growing in the middle of a sequence plans anew: the caches and the last logits stay.
    const auto session = new_session(*model);
    run_tokens(*session, reference_tokens().first(8), 8);
    const std::vector<float> last(session->logits(7).begin(), session->logits(7).end());
    REQUIRE(session->set_topology(with_k(full(*model), model->routing_shape(), own + 1)).ok());
    CHECK(same_bits(session->logits(7), last));
    REQUIRE(session->set_topology(full(*model)).ok());
    CHECK(same_bits(session->logits(7), last));
    const std::vector<float> wanted = run_reference(*model);
    CHECK(same_bits(run_tokens(*session, reference_tokens().subspan(8), 8), std::span<const float>(wanted).subspan(8 * 320)));
    // k_min and k_max with a threshold between them.
    RoutingTopology between = edited(*model, [&](LayerRouting& r) { r.k_min = 2, r.k_max = most, r.threshold = 0.5f; });
    const auto ranged = new_session(*model);
    REQUIRE(ranged->set_topology(between).ok());
    std::set<int> counts;
    for (const Decision& d : watch(*ranged, reference_tokens())) counts.insert(used(d));
    CHECK(*counts.begin() >= 2);
    CHECK(counts.size() > 1);
  }
}

TEST_CASE("a layer with k of 0 has the bits of one whose experts all answer 0") {
  TempFolder folder;
  for (const std::string name : {"olmoe", "qwen2moe", "gpt-oss", "deepseek3"}) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    ModelFile file = read_model(reference_path(name));
    for (FileTensor& t : file.tensors)
      if (t.name.find("ffn_down_exps.") != std::string::npos) std::fill(t.values.begin(), t.values.end(), 0.0f);
    const auto silent = load_model(file.write(folder), {true, 2, ""});
    const RoutingTopology t = edited(*model, [](LayerRouting& r) { r.k_min = r.k_max = 0; });
    CHECK(same_bits(run_with(*model, t), run_reference(*silent)));
    CHECK(same_bits(run_with(*model, t, 1), run_reference(*silent)));
    const auto session = new_session(*model);
    REQUIRE(session->set_topology(t).ok());
    for (const Decision& d : watch(*session, reference_tokens())) CHECK(used(d) == 0);
    REQUIRE(session->set_topology(full(*model)).ok());
    CHECK(same_bits(run_with(*model, session->topology()), run_reference(*model)));
  }
}

TEST_CASE("temperature divides logits and bias moves selection only, as the same changes in the file do") {
  TempFolder folder;
  const auto model = load_model(reference_path("qwen3moe"), {true, 2, ""});
  // Halving a router's weights is exact in binary.
  ModelFile warm = read_model(reference_path("qwen3moe"));
  for (FileTensor& t : warm.tensors)
    if (t.name.find("ffn_gate_inp") != std::string::npos)
      for (float& x : t.values) x /= 2;
  const auto halved = load_model(warm.write(folder), {true, 2, ""});
  const RoutingTopology t2 = edited(*model, [](LayerRouting& r) { r.temperature = 2; });
  CHECK(same_bits(run_with(*model, t2), run_reference(*halved)));
  CHECK_FALSE(same_bits(run_with(*model, t2), run_reference(*model)));

  // DeepSeek-V3's selection bias is the same thing in a file.
  const auto v3 = load_model(reference_path("deepseek3"), {true, 2, ""});
  ModelFile biased = read_model(reference_path("deepseek3"));
  RoutingTopology t = full(*v3);
  for (size_t i = 0; i < t.layers.size(); ++i) {
    LayerRouting& r = t.layers[i];
    if (r.n_experts == 0) continue;
    FileTensor& b = biased.tensor("blk." + std::to_string(i) + ".exp_probs_b.bias");
    r.bias.resize(static_cast<size_t>(r.n_experts));
    for (size_t e = 0; e < r.bias.size(); ++e) {
      b.values[e] = 0.25f * static_cast<float>(e % 5);  // sums of p and two such numbers round alike
      r.bias[e] = e % 2 ? 0.5f : -0.5f;
    }
  }
  const auto base = load_model(biased.write(folder, "base.gguf"), {true, 2, ""});
  for (FileTensor& b : biased.tensors)
    if (b.name.find("exp_probs_b") != std::string::npos)
      for (size_t e = 0; e < b.values.size(); ++e) b.values[e] += e % 2 ? 0.5f : -0.5f;
  const auto moved = load_model(biased.write(folder, "moved.gguf"), {true, 2, ""});
  t.model_hash = base->hash();
  CHECK(nmse(run_with(*base, t), run_reference(*moved)) <= 1e-12);
  CHECK_FALSE(same_bits(run_with(*base, t), run_reference(*base)));
}

TEST_CASE("a redirect sends a masked expert's tokens to its target") {
  for (const std::string name : {"olmoe", "gpt-oss", "deepseek2"}) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    const auto plain = new_session(*model);
    const std::vector<Decision> before = watch(*plain, reference_tokens());
    const RoutingTopology t = edited(*model, [](LayerRouting& r) {
      r.redirect.assign(static_cast<size_t>(r.n_experts), -1);
      r.allow[0] = r.allow[1] = 0, r.redirect[0] = r.redirect[1] = 3;
    });
    const auto session = new_session(*model);
    const Status set = session->set_topology(t);
    REQUIRE_MESSAGE(set.ok(), set.message());
    const std::vector<Decision> after = watch(*session, reference_tokens());
    int moved = 0;
    for (size_t i = 0; i < reference_tokens().size(); ++i) {  // the first routed layer sees the same inputs
      std::vector<float> wanted(static_cast<size_t>(model->config().n_expert), 0), found = wanted;
      for (size_t s = 0; s < before[i].ids.size(); ++s) {
        const int e = before[i].ids[s];
        moved += e < 2;
        wanted[static_cast<size_t>(e < 2 ? 3 : e)] += before[i].weights[s];
      }
      for (size_t s = 0; s < after[i].ids.size(); ++s)
        if (after[i].ids[s] >= 0) found[static_cast<size_t>(after[i].ids[s])] += after[i].weights[s];
      for (size_t e = 0; e < wanted.size(); ++e) CHECK(found[e] == doctest::Approx(wanted[e]).epsilon(1e-5));
    }
    CHECK(moved > 0);
    for (const Decision& d : after)
      for (const int e : d.ids) CHECK((e < 0 || e > 1));
    // Equal to a file in which the masked experts are copies of their target.
    TempFolder folder;
    ModelFile file = read_model(reference_path(name));
    for (FileTensor& w : file.tensors) {
      if (w.name.find("_exps.") == std::string::npos) continue;
      const auto one = static_cast<std::ptrdiff_t>(w.values.size()) / w.shape[0];
      for (const std::ptrdiff_t e : {0, 1}) std::copy_n(w.values.begin() + 3 * one, one, w.values.begin() + e * one);
    }
    const auto copies = load_model(file.write(folder), {true, 2, ""});
    CHECK(nmse(run_with(*model, t), run_reference(*copies)) <= 1e-10);
  }
}

TEST_CASE("a topology edited while running takes effect at the next token without loading anew") {
  for (const std::string& name : kMoeModels) {
    CAPTURE(name);
    const auto model = load_model(reference_path(name), {true, 2, ""});
    const RoutingTopology masked = edited(*model, [](LayerRouting& r) { r.allow[0] = r.allow[2] = 0; });
    const auto session = new_session(*model);
    run_tokens(*session, reference_tokens().first(10), 10);
    REQUIRE(session->set_topology(masked).ok());
    const std::vector<float> swapped = run_tokens(*session, reference_tokens().subspan(10), 1);
    // A fresh session that is switched at the same place, and one that never was.
    const auto fresh = new_session(*model);
    run_tokens(*fresh, reference_tokens().first(10), 1);
    REQUIRE(fresh->set_topology(masked).ok());
    CHECK(same_bits(run_tokens(*fresh, reference_tokens().subspan(10), 6), swapped));
    const std::vector<float> never = run_reference(*model);
    CHECK_FALSE(same_bits(std::span<const float>(never).subspan(10 * 320), swapped));
    // Back again, from an earlier position: as if it had never been.
    REQUIRE(session->truncate(0, 10).ok());
    REQUIRE(session->set_topology(full(*model)).ok());
    CHECK(same_bits(run_tokens(*session, reference_tokens().subspan(10), 1), std::span<const float>(never).subspan(10 * 320)));
  }
}

TEST_CASE("a topology of another model or with too few experts is refused and the old one stays") {
  const auto model = load_model(reference_path("olmoe")), other = load_model(reference_path("mixtral"));
  const auto session = new_session(*model);
  const RoutingTopology masked = edited(*model, [](LayerRouting& r) { r.allow[0] = 0; });
  REQUIRE(session->set_topology(masked).ok());
  const auto refused = [&](const RoutingTopology& t, std::string_view text) {
    const Status s = session->set_topology(t);
    CHECK_FALSE(s.ok());
    CHECK(is_one_line(s));
    CHECK_MESSAGE(has_text(s, text), s.message());
    CHECK(session->topology() == masked);
  };
  refused(full(*other), "another model");
  refused(edited(*model, [](LayerRouting& r) { std::fill(r.allow.begin() + 1, r.allow.end(), uint8_t{0}); }), "usable experts");
  refused(edited(*model, [](LayerRouting& r) { r.k_max = r.k_min = r.n_experts + 1; }), "k_max");
  refused(edited(*model, [](LayerRouting& r) { r.threshold = NAN; }), "threshold");
  refused(edited(*model, [](LayerRouting& r) { r.width.assign(3, 1); }), "width");
  RoutingTopology short_one = full(*model);
  short_one.layers.pop_back();
  refused(short_one, "layers");
  CHECK(same_bits(run_tokens(*session, reference_tokens(), 16), run_with(*model, masked)));
}

TEST_CASE("an observer sees the router's logits when asked to, and none otherwise") {
  const auto model = load_model(reference_path("mixtral"));
  SessionOptions o = roomy();
  for (const bool observe : {false, true}) {
    o.observe_router = observe;
    const auto session = new_session(*model, o);
    const std::vector<Decision> seen = watch(*session, reference_tokens());
    CHECK(seen.size() == reference_tokens().size() * static_cast<size_t>(model->config().n_layer));
    for (const Decision& d : seen) {
      REQUIRE(d.logits.empty() == !observe);
      if (!observe) continue;
      const auto best = std::max_element(d.logits.begin(), d.logits.end()) - d.logits.begin();
      CHECK(d.ids[0] == static_cast<int32_t>(best));
      CHECK(sum(d.weights) == doctest::Approx(1));
    }
    CHECK(same_bits(run_tokens(*new_session(*model, o), reference_tokens(), 16), run_reference(*model)));
  }
}

}  // namespace moe
