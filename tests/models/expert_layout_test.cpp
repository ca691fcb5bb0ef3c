#include "models/expert_layout.h"

#include <doctest/doctest.h>

#include "models/config.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;
using Counts = std::vector<uint32_t>;
using Places = std::vector<int32_t>;

// Three layers, the first dense; the last router has a row without weights.
std::vector<LayerExperts> layers() { return {{}, {4, 4, 64, {}}, {2, 3, 32, {0, -1, 1}}}; }

Status refusal(const std::function<void(Metadata&)>& change) {
  Metadata m("file");
  write_expert_layout(layers(), 1, 4, 64, m);
  change(m);
  return read_expert_layout(m, 3, 4).status();
}

}  // namespace

TEST_CASE("a layout is read as it was written, and one that says nothing leaves no key") {
  Metadata m;
  CHECK(write_expert_layout(layers(), 1, 4, 64, m));
  CHECK(m.entries().size() == 4);
  CHECK(*read_expert_layout(m, 3, 4) == layers());
  CHECK_FALSE(write_expert_layout({{}, {4, 4, 64, {}}}, 1, 4, 64, m));
  CHECK(m.entries().empty());
  CHECK(read_expert_layout(m, 2, 4)->empty());
  CHECK(write_expert_layout({{4, 4, 64, {}}, {4, 4, 32, {}}}, 0, 4, 64, m));
  CHECK(m.entries().size() == 1);
  const auto widths_only = read_expert_layout(m, 2, 4);
  REQUIRE(widths_only.ok());
  CHECK(widths_only->at(1) == LayerExperts{4, 4, 32, {}});
  // Not dense by the architecture's rule, so that the loss of its experts must be said.
  CHECK(write_expert_layout({{4, 4, 64, {}}, {}}, 0, 4, 64, m));
  CHECK(*m.get_array<int>("moe.experts.count") == std::vector<int>{4, 0});
}

TEST_CASE("layouts whose numbers do not fit each other are refused, naming the key") {
  const auto check = [](const char* part, const std::function<void(Metadata&)>& change) {
    const Status s = refusal(change);
    CHECK(s.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(has_text(s, part), s.message());
    CHECK(is_one_line(s));
  };
  check("one number for each of 3 layers", [](Metadata& m) { m.set("moe.experts.count", Counts{4, 2}); });
  check("at most expert_count = 4", [](Metadata& m) { m.set("moe.experts.count", Counts{0, 5, 2}); });
  check("'moe.experts.count': wanted 0 to 65536", [](Metadata& m) { m.set("moe.experts.count", Places{0, -4, 2}); });
  check("'moe.experts.width': wanted 0 to", [](Metadata& m) { m.set("moe.experts.width", Counts{0, 1u << 30, 2}); });
  check("at least the experts, 2", [](Metadata& m) { m.set("moe.experts.rows", Counts{0, 4, 1}); });
  check("both or neither", [](Metadata& m) { m.remove("moe.experts.rows"); });
  check("both or neither", [](Metadata& m) { m.remove("moe.experts.place"); });
  check("one place for each of 7 rows", [](Metadata& m) { m.set("moe.experts.place", Places{0, 1, 2, 3, 0, -1}); });
  check("wanted 1 next", [](Metadata& m) { m.set("moe.experts.place", Places{0, 2, 1, 3, 0, -1, 1}); });
  check("wanted 0 next", [](Metadata& m) { m.set("moe.experts.place", Places{-2, 0, 1, 2, 0, -1, 1}); });
  check("places of 2 experts", [](Metadata& m) { m.set("moe.experts.place", Places{0, 1, 2, 3, 0, -1, -1}); });
  check("wanted array of int32", [](Metadata& m) { m.set("moe.experts.count", uint32_t{4}); });
  Metadata dense;
  dense.set("moe.experts.count", Counts{4});
  CHECK(has_text(read_expert_layout(dense, 1, 0).status(), "found a dense one"));
}

TEST_CASE("files whose layout, topology and tensors do not fit are refused when they are loaded") {
  const TempFolder folder;
  const auto check = [&](const char* part, const std::function<void(ModelFile&)>& change) {
    ModelFile file = random_model(tiny_config("olmoe"));  // 2 layers, 8 experts
    change(file);
    const auto model = Model::load(file.write(folder), {});
    REQUIRE_FALSE(model.ok());
    CHECK_MESSAGE(has_text(model.status(), part), model.status().message());
    CHECK(is_one_line(model.status()));
  };
  const auto counts = [](Counts c) { return [c](ModelFile& f) { f.metadata.set("moe.experts.count", c); }; };
  check("tensor 'blk.0.ffn_gate_inp.weight': wanted (7, 64), found (8, 64)", counts({7, 8}));
  check("blk.1.ffn_gate_exps.weight", [](ModelFile& f) { f.metadata.set("moe.experts.width", Counts{0, 16}); });
  check("tensor 'blk.0.ffn_gate_inp.weight': wanted (9, 64)", [](ModelFile& f) {
    f.metadata.set("moe.experts.rows", Counts{9, 8});
    f.metadata.set("moe.experts.place", Places{0, 1, 2, 3, 4, 5, 6, 7, -1, 0, 1, 2, 3, 4, 5, 6, 7});
  });
  check("key 'moe.topology'", [](ModelFile& f) { f.metadata.set(kTopologyKey, "{"); });
  check("key 'moe.topology'", [](ModelFile& f) { f.metadata.set(kTopologyKey, uint32_t{1}); });
  check("layers: wanted 2, found 1", [](ModelFile& f) {
    RoutingTopology t;
    t.layers.resize(1);
    f.metadata.set(kTopologyKey, to_json(t));
  });
  ModelConfig grouped = tiny_config("deepseek2");
  grouped.n_group = 4, grouped.topk_group = 2;
  ModelFile uneven = random_model(grouped);
  uneven.metadata.set("moe.experts.count", Counts{0, 7});
  CHECK(has_text(Model::load(uneven.write(folder), {}).status(), "expert_group_count"));
}

TEST_CASE("a topology in the file is what sessions begin with") {
  const TempFolder folder;
  ModelFile file = random_model(tiny_config("olmoe"));
  const auto plain = load_model(file.write(folder, "plain.gguf"));
  RoutingTopology t = plain->topology();
  t.layers[1].allow[3] = 0, t.layers[1].temperature = 2;
  t.layers[0].k_min = t.layers[0].k_max = 1;
  t.model_hash = 7;  // does not count here
  file.metadata.set(kTopologyKey, to_json(t));
  const auto model = load_model(file.write(folder, "routed.gguf"));
  CHECK(model->routing_shape().layers[0].k == 1);
  t.model_hash = plain->hash();
  CHECK(model->topology() == t);
  const auto session = new_session(*plain);
  REQUIRE(session->set_topology(t).ok());
  CHECK(same_bits(run_reference(*model), run_tokens(*session, reference_tokens(), 16)));
  CHECK_FALSE(same_bits(run_reference(*model), run_reference(*plain)));
}

}  // namespace moe
