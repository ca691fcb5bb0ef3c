// Specialised models: the file of a topology gives the bits that the whole model gives under it, and is smaller by what the
// topology saves.
#include "models/specialise.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "models/carving.h"
#include "models/partial_pass.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

const std::vector<std::string> kMoeModels = {"olmoe",   "qwen2moe",  "qwen3moe",         "granitemoe", "gpt-oss",
                                             "mixtral", "deepseek2", "deepseek2-merged", "deepseek3"};

SpecialisePlan plan_of(const Model& model, const RoutingTopology& t) {
  auto plan = plan_specialise(model, t);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  return std::move(plan).value();
}

std::string write_plan(const SpecialisePlan& plan, const std::string& path) {
  ThreadPool pool(1);
  const Status s = write_specialised(plan, pool, path, {});
  REQUIRE_MESSAGE(s.ok(), s.message());
  return path;
}

template <class F>
RoutingTopology edited(const Model& m, F&& edit) {
  RoutingTopology t = m.topology();
  for (size_t i = 0; i < t.layers.size(); ++i)
    if (t.layers[i].n_experts > 0) edit(t.layers[i], m.routing_shape().layers[i], static_cast<int>(i));
  const Status s = validate(t, m.routing_shape());
  REQUIRE_MESSAGE(s.ok(), s.message());
  return t;
}

using Routed = RoutingShape::Layer;

void mask(LayerRouting& r, std::initializer_list<int> experts) {
  for (const int e : experts) r.allow[static_cast<size_t>(e)] = 0;
}

// Every thing a topology can say, by itself and together. Models have 4 experts or more, and use 2 or more.
struct Edit {
  const char* name;
  void (*edit)(LayerRouting& r, const Routed& s, int layer);
};

void redirect(LayerRouting& r, int from, int to) {
  r.redirect.resize(static_cast<size_t>(r.n_experts), -1);
  r.redirect[static_cast<size_t>(from)] = to;
}

int narrower(const Routed& s) { return std::max(s.width_step, s.d_ff / 2 / s.width_step * s.width_step); }

const Edit kEdits[] = {
    {"two experts gone",
     [](LayerRouting& r, const Routed&, int) {
       mask(r, {1, 2});
     }},
    {"other experts in each layer",
     [](LayerRouting& r, const Routed&, int i) {
       i % 2 ? mask(r, {0, 3}) : mask(r, {1});
     }},
    {"k of each layer",
     [](LayerRouting& r, const Routed&, int i) {
       mask(r, {2});
       r.k_max = r.k_min = i % 2 ? 1 : 2;
     }},
    {"a k above the model's",
     [](LayerRouting& r, const Routed& s, int) {
       mask(r, {0});
       r.k_max = r.k_min = std::min(s.k + 1, r.n_experts - 1);
     }},
    {"thresholds",
     [](LayerRouting& r, const Routed&, int i) {
       mask(r, {1});
       r.k_min = 1, r.threshold = i % 2 ? 0.5f : 0.9f;
     }},
    {"temperatures and biases",
     [](LayerRouting& r, const Routed&, int) {
       mask(r, {3});
       r.temperature = 0.7f;
       r.bias.assign(static_cast<size_t>(r.n_experts), 0.0f);
       r.bias[1] = 0.05f, r.bias[2] = -0.125f;
     }},
    {"a redirect from a masked expert",
     [](LayerRouting& r, const Routed&, int) {
       mask(r, {0, 2});
       redirect(r, 2, 1);
     }},
    {"half the width", [](LayerRouting& r, const Routed& s, int) { r.width.assign(r.allow.size(), narrower(s)); }},
    {"half the width in one layer of two",
     [](LayerRouting& r, const Routed& s, int i) {
       if (i % 2) r.width.assign(r.allow.size(), narrower(s));
     }},
    {"widths that differ, the widest expert gone",
     [](LayerRouting& r, const Routed& s, int) {
       mask(r, {0});
       r.width.assign(r.allow.size(), narrower(s));
       r.width[0] = s.d_ff, r.width[1] = s.width_step;
     }},
    {"a layer skipped", [](LayerRouting& r, const Routed&, int i) { i == 0 ? void(r.k_min = r.k_max = 0) : mask(r, {1}); }},
    {"all at once",
     [](LayerRouting& r, const Routed& s, int i) {
       i % 2 ? mask(r, {1, 3}) : mask(r, {2});
       redirect(r, i % 2 ? 3 : 2, 0);
       r.width.assign(r.allow.size(), narrower(s));
       r.width[0] = s.width_step;
       r.bias.assign(r.allow.size(), 0.0f);
       r.bias[0] = 0.01f;
       r.k_min = 1, r.threshold = 0.4f, r.temperature = 1.3f;
     }},
};

std::vector<float> run_with(const Model& m, const RoutingTopology& t, size_t step) {
  const auto session = new_session(m);
  const Status s = session->set_topology(t);
  REQUIRE_MESSAGE(s.ok(), s.message());
  return run_tokens(*session, reference_tokens(), step);
}

// Prompt and decode, on the whole model under the topology and on its own file.
void check_same_bits(const std::string& path, const RoutingTopology& t, const Setup& setup, const TempFolder& folder) {
  const auto model = load_model(path, setup);
  const SpecialisePlan plan = plan_of(*model, t);
  const auto smaller = load_model(write_plan(plan, folder / "small.gguf"), setup);
  CHECK(smaller->hash() == plan.hash);
  CHECK(diff(smaller->topology(), plan.topology).empty());
  CHECK(smaller->file().file_bytes() <= model->file().file_bytes() + 4096);  // its keys
  for (const size_t step : {16, 1}) CHECK(same_bits(run_tokens(*smaller, reference_tokens(), step), run_with(*model, t, step)));
}

}  // namespace

TEST_CASE("a specialised model has the bits of the whole one under its topology, for every architecture and every edit") {
  const TempFolder folder;
  for (const std::string& name : kMoeModels)
    for (const bool exact : {true, false}) {
      const auto model = load_model(reference_path(name), {exact, 1, ""});
      for (const Edit& e : kEdits) {
        if (exact && &e != std::end(kEdits) - 1) continue;
        CAPTURE(name);
        CAPTURE(exact);
        CAPTURE(std::string(e.name));
        RoutingTopology t = model->topology();
        for (size_t i = 0; i < t.layers.size(); ++i)
          if (t.layers[i].n_experts > 0) e.edit(t.layers[i], model->routing_shape().layers[i], static_cast<int>(i));
        if (const Status s = validate(t, model->routing_shape()); !s.ok()) {
          MESSAGE(name << ", " << e.name << ": " << s.message());
          continue;
        }
        check_same_bits(reference_path(name), t, {exact, 1, ""}, folder);
      }
    }
}

// Stacks whose tails kernels meet, and rows with two blocks of the format.
ModelFile model_of(const std::string& arch, DType dtype) {
  const bool long_blocks = traits(dtype).block_elements > 64;
  ModelConfig c = tiny_config(arch);
  c.n_expert = long_blocks ? 12 : 40, c.n_expert_used = 3, c.d_model = long_blocks ? 256 : 64;
  c.d_ff = c.d_ff_expert = 2 * c.d_model;
  if (c.n_group > 1) c.n_group = 4, c.topk_group = 2;
  ModelFile file = random_model(c);
  for (FileTensor& t : file.tensors)
    if (t.name.find("_exps.weight") != std::string::npos) t.dtype = dtype;
  return file;
}

TEST_CASE("weights of every format are copied as they are, and run with the same bits") {
  const TempFolder folder;
  const std::pair<std::string, DType> cases[] = {
      {"qwen3moe", DType::kF32},  {"gpt-oss", DType::kF16},    {"deepseek2", DType::kF16}, {"qwen3moe", DType::kBF16},
      {"qwen3moe", DType::kQ8_0}, {"gpt-oss", DType::kQ8_0},   {"gpt-oss", DType::kQ4_0},  {"deepseek2", DType::kQ8_0},
      {"qwen3moe", DType::kQ4_K}, {"deepseek2", DType::kQ4_K}, {"olmoe", DType::kQ6_K},    {"gpt-oss", DType::kQ4_K}};
  for (const auto& c : cases) {
    const std::string arch = c.first;
    const DType dtype = c.second;
    CAPTURE(arch);
    CAPTURE(std::string(traits(dtype).name));
    const std::string path = model_of(arch, dtype).write(folder);
    const auto model = load_model(path);
    const RoutingTopology t = edited(*model, [](LayerRouting& r, const Routed& s, int layer) {
      for (size_t e = 0; e < r.allow.size(); ++e) r.allow[e] = e % 3 != 1 && (layer == 0 || e != 9);
      r.width.assign(r.allow.size(), s.d_ff / 2);
    });
    check_same_bits(path, t, {false, 2, ""}, folder);
    check_same_bits(path, t, {false, 1, "scalar"}, folder);
  }
}

TEST_CASE("groups that lose experts stay equally long by rows without weights") {
  const TempFolder folder;
  ModelConfig c = tiny_config("deepseek2");
  c.n_expert = 16, c.n_group = 4, c.topk_group = 2, c.n_expert_used = 3;
  const std::string path = random_model(c).write(folder);
  const auto model = load_model(path);
  const RoutingTopology t = edited(*model, [](LayerRouting& r, const Routed&, int layer) {
    layer == 1 ? mask(r, {0, 1, 6, 13}) : mask(r, {4});
  });
  const SpecialisePlan plan = plan_of(*model, t);
  const SpecialisePlan::Layer& last = plan.layers.back();
  CHECK(last.experts == 12);
  CHECK(last.rows == 16);  // groups of 2, 3, 4 and 3: the third keeps all, so do the others' rows
  CHECK(plan.elsewhere == Elsewhere::kRefused);
  check_same_bits(path, t, {false, 1, ""}, folder);

  // Two groups gone in every layer, the others of one length: nothing but fewer and shorter groups is left.
  const RoutingTopology half = edited(*model, [](LayerRouting& r, const Routed&, int layer) {
    layer % 2 ? mask(r, {0, 1, 2, 3, 4, 8, 9, 10, 11, 12}) : mask(r, {0, 4, 5, 6, 7, 8, 9, 10, 11, 15});
  });
  const SpecialisePlan plain = plan_of(*model, half);
  CHECK(plain.elsewhere == Elsewhere::kAlike);
  CHECK_FALSE(plain.has_topology);
  CHECK(*plain.metadata.get<int>("deepseek2.expert_count") == 6);
  CHECK(*plain.metadata.get<int>("deepseek2.expert_group_count") == 2);
  check_same_bits(path, half, {false, 1, ""}, folder);
}

TEST_CASE("experts that are the same in number everywhere leave the architecture's own keys and no topology") {
  const TempFolder folder;
  const std::pair<std::string, const char*> width_keys[] = {{"olmoe", "olmoe.feed_forward_length"},
                                                            {"qwen3moe", "qwen3moe.expert_feed_forward_length"},
                                                            {"mixtral", "llama.feed_forward_length"},
                                                            {"qwen2moe", "qwen2moe.expert_feed_forward_length"}};
  for (const auto& keys : width_keys) {
    const std::string name = keys.first;
    CAPTURE(name);
    const auto model = load_model(reference_path(name));
    const int width = model->config().d_ff_expert / 2, experts = model->config().n_expert - 1;
    const RoutingTopology t = edited(*model, [&](LayerRouting& r, const Routed&, int layer) {
      mask(r, {layer % 2});
      r.width.assign(r.allow.size(), width);
      r.k_min = r.k_max = 1;
    });
    const SpecialisePlan plan = plan_of(*model, t);
    CHECK(plan.elsewhere == Elsewhere::kAlike);
    CHECK(plan.notes.empty());
    CHECK_FALSE(plan.has_topology);
    for (const MetadataEntry& e : plan.metadata.entries())
      CHECK_MESSAGE((!e.key.starts_with("moe.") || e.key.starts_with("moe.specialised.")), e.key);
    const std::string arch = model->config().arch;
    CHECK(*plan.metadata.get<int>(arch + ".expert_count") == experts);
    CHECK(*plan.metadata.get<int>(arch + ".expert_used_count") == 1);
    CHECK(*plan.metadata.get<int>(keys.second) == width);
    CHECK(plan.layers[0].kept == doctest::Approx(plan.layers[0].wanted));
    const auto smaller = load_model(write_plan(plan, folder / "small.gguf"));
    CHECK(smaller->config().n_expert == experts);
    CHECK(smaller->config().d_ff_shared == model->config().d_ff_shared);
    CHECK(smaller->routing_shape().layers[0].place.empty());
  }
}

TEST_CASE("what no key of the architecture says goes into a topology, and the plan says what other engines will miss") {
  const auto model = load_model(reference_path("olmoe"));
  const auto notes_of = [&](auto&& edit) {
    const SpecialisePlan plan = plan_of(*model, edited(*model, edit));
    CHECK(plan.has_topology);
    CHECK(plan.metadata.has(kTopologyKey));
    CHECK(plan.elsewhere == Elsewhere::kDifferently);
    REQUIRE(plan.notes.size() == 1);
    return plan.notes[0];
  };
  const auto says = [](const std::string& note, const char* part) { return note.find(part) != std::string::npos; };
  CHECK(says(notes_of([](LayerRouting& r, const Routed&, int i) { r.k_min = r.k_max = 1 + i % 2; }), "numbers of experts"));
  CHECK(says(notes_of([](LayerRouting& r, const Routed&, int) { r.k_min = 1, r.threshold = 0.5f; }), "thresholds"));
  CHECK(says(notes_of([](LayerRouting& r, const Routed&, int) { r.temperature = 2; }), "temperatures"));
  CHECK(says(notes_of([](LayerRouting& r, const Routed&, int) { r.bias.assign(r.allow.size(), 1.0f); }), "biases"));
  // A threshold that k_min = k_max makes idle is nothing to store.
  const SpecialisePlan idle = plan_of(*model, edited(*model, [](LayerRouting& r, const Routed&, int) { r.threshold = 0.5f; }));
  CHECK_FALSE(idle.has_topology);
  CHECK(idle.elsewhere == Elsewhere::kAlike);
}

TEST_CASE("classes of tokens keep their masks, and those that are alike are merged") {
  const TempFolder folder;
  const std::string path = reference_path("qwen3moe");
  const auto model = load_model(path);
  RoutingTopology t = model->topology();
  t.n_classes = 2;
  for (int i = 0; i < model->config().n_vocab; ++i) t.token_class.push_back(static_cast<uint8_t>(i % 2));
  for (LayerRouting& r : t.layers) {
    r.allow.assign(2 * static_cast<size_t>(r.n_experts), 1);
    r.allow[1] = r.allow[static_cast<size_t>(r.n_experts) + 1] = 0;
  }
  CHECK_FALSE(plan_of(*model, t).has_topology);
  t.layers[0].allow[2] = 0;
  const SpecialisePlan plan = plan_of(*model, t);
  CHECK(plan.topology.n_classes == 2);
  CHECK(plan.layers[0].experts == model->config().n_expert - 1);
  check_same_bits(path, t, {false, 1, ""}, folder);
}

TEST_CASE("specialising twice gives the tensors of specialising once, and the file remembers both") {
  const TempFolder folder;
  const auto model = load_model(reference_path("gpt-oss"));
  const auto first = [](LayerRouting& r, const Routed&, int) {
    mask(r, {0, 2});
    redirect(r, 2, 1);
  };
  const RoutingTopology once = edited(*model, [](LayerRouting& r, const Routed&, int) { mask(r, {0, 2, 3}); });
  const auto middle = load_model(write_plan(plan_of(*model, edited(*model, first)), folder / "middle.gguf"));
  REQUIRE_FALSE(middle->routing_shape().layers[0].place.empty());
  // Its rows are 1, 2 and 3 to the last of before; 2 has no weights.
  const RoutingTopology then = edited(*middle, [](LayerRouting& r, const Routed&, int) {
    r.redirect.clear();
    mask(r, {1, 2});
  });
  const SpecialisePlan twice = plan_of(*middle, then);
  write_plan(twice, folder / "twice.gguf");
  const SpecialisePlan direct = plan_of(*model, once);
  CHECK(twice.hash == direct.hash);
  CHECK(twice.elsewhere == Elsewhere::kAlike);
  CHECK(twice.metadata.get_array<std::string>(kSpecialisedModels)->size() == 2);
  CHECK(twice.metadata.get_array<std::string>(kSpecialisedModels)->front() == hash_to_hex(model->hash()));
  CHECK(twice.metadata.get_array<std::string>(kSpecialisedTopologies)->back() == hash_to_hex(hash(then)));
  CHECK(*twice.metadata.get<std::string>(kSpecialisedHash) == hash_to_hex(twice.hash));
}

TEST_CASE("an observer knows experts by their rows of the router, whatever lacks weights") {
  const TempFolder folder;
  const auto model = load_model(reference_path("olmoe"));
  const RoutingTopology t = edited(*model, [](LayerRouting& r, const Routed&, int) {
    mask(r, {0, 2});
    redirect(r, 2, 3);
  });
  const auto smaller = load_model(write_plan(plan_of(*model, t), folder / "small.gguf"));
  const auto watch = [](const Model& m, const RoutingTopology& topology) {
    const auto session = new_session(m);
    REQUIRE(session->set_topology(topology).ok());
    std::vector<int32_t> ids;
    session->set_observer([&](const RouterView& v) { ids.insert(ids.end(), v.ids, v.ids + v.n_tokens * v.n_slots); });
    run_tokens(*session, reference_tokens(), 7);
    return ids;
  };
  std::vector<int32_t> whole = watch(*model, t);
  for (int32_t& e : whole) e -= e > 0;  // expert 0 is gone
  CHECK(watch(*smaller, smaller->topology()) == whole);
  CHECK(std::count(whole.begin(), whole.end(), 1) == 0);  // redirected

  CHECK(has_text(PartialPass::create(*smaller, PassPoint::tokens(), PassPoint::logits(), {}).status(), "it was made from"));

  RoutingTopology wrong = smaller->topology();
  wrong.layers[0].redirect.clear();
  wrong.layers[0].allow[1] = 1;
  const Status s = validate(wrong, smaller->routing_shape());
  CHECK(s.code() == StatusCode::kInvalidArgument);
  CHECK(has_text(s, "no weights of expert 1"));
}

TEST_CASE("what stays of a stack is gathered alike in pieces of any size") {
  std::vector<std::byte> data(5 * 96);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 96);
  const ExpertCut cut{data, 96, {0, 2, 3}, {{0, 10, 24, 2}, {48, 5, 12, 4}}};
  std::vector<std::byte> wanted;
  for (const size_t e : {0, 2, 3}) {
    for (const size_t at : {0, 24}) wanted.insert(wanted.end(), data.begin() + e * 96 + at, data.begin() + e * 96 + at + 10);
    for (const size_t at : {48, 60, 72, 84})
      wanted.insert(wanted.end(), data.begin() + e * 96 + at, data.begin() + e * 96 + at + 5);
  }
  REQUIRE(cut.bytes() == wanted.size());
  for (size_t piece = 1; piece <= wanted.size(); ++piece) {
    std::vector<std::byte> found(wanted.size());
    for (size_t at = 0; at < found.size(); at += piece)
      cut.gather(at, std::span(found).subspan(at, std::min(piece, found.size() - at)));
    CHECK(found == wanted);
  }
}

TEST_CASE("a file is smaller by what the topology's summary says, but where widths differ in a layer") {
  const auto model = load_model(reference_path("mixtral"));
  const auto wanted_and_kept = [&](auto&& edit) {
    const RoutingTopology t = edited(*model, edit);
    const SpecialisePlan plan = plan_of(*model, t);
    const double summary = summarize(t, model->routing_shape()).layers[0].bytes;
    CHECK(plan.layers[0].wanted == summary);
    CHECK(plan.bytes_before - plan.bytes_after == [&] {
      uint64_t n = 0;
      for (const auto& l : plan.layers) n += l.bytes_before - l.bytes;
      return n;
    }());
    return std::pair(plan.layers[0], plan.notes);
  };
  const auto [even, no_notes] = wanted_and_kept([](LayerRouting& r, const Routed& s, int) {
    mask(r, {1});
    r.width.assign(r.allow.size(), s.d_ff / 4);
  });
  CHECK(even.kept == doctest::Approx(even.wanted));
  CHECK(no_notes.empty());
  const auto [uneven, notes] = wanted_and_kept([](LayerRouting& r, const Routed& s, int) {
    r.width.assign(r.allow.size(), s.d_ff / 4);
    r.width[0] = s.d_ff / 2;
  });
  CHECK(uneven.width == uneven.width_before / 2);
  CHECK(uneven.kept > uneven.wanted);
  REQUIRE(notes.size() == 2);
  CHECK(notes[1].find("widths differ between experts") != std::string::npos);
}

TEST_CASE("topologies that leave no model are refused, naming layer and numbers, and a write that fails leaves no file") {
  const TempFolder folder;
  const auto model = load_model(reference_path("olmoe"));
  const auto refusal = [&](auto&& edit) {
    RoutingTopology t = model->topology();
    edit(t);
    return plan_specialise(*model, t).status();
  };
  const Status other = refusal([](RoutingTopology& t) { t.model_hash ^= 1; });
  CHECK(has_text(other, "another model"));
  const Status dead =
      refusal([](RoutingTopology& t) { std::fill(t.layers[0].allow.begin(), t.layers[0].allow.end(), uint8_t{0}); });
  CHECK(has_text(dead, "layer 0: class 0: wanted at least k_max"));
  const Status many = refusal([](RoutingTopology& t) { t.layers[0].k_max = t.layers[0].n_experts + 1; });
  CHECK(has_text(many, "usable experts"));
  const Status none = refusal([](RoutingTopology& t) {
    for (LayerRouting& r : t.layers) r.k_min = r.k_max = 0;
  });
  CHECK(has_text(none, "found all 2 skipped"));
  const Status wide = refusal([](RoutingTopology& t) { t.layers[0].width.assign(t.layers[0].allow.size(), 1 << 20); });
  CHECK(has_text(wide, "width[0]"));
  const auto dense = load_model(reference_path("llama-bias"));
  CHECK(has_text(plan_specialise(*dense, dense->topology()).status(), "a dense one"));

  ModelFile unknown = read_model(reference_path("olmoe"));
  unknown.tensors.push_back({"blk.0.ffn_other_exps.scale", {4}, {1, 1, 1, 1}});
  const auto odd = load_model(unknown.write(folder, "odd.gguf"));
  const Status kind = plan_specialise(*odd, odd->topology()).status();
  CHECK(kind.code() == StatusCode::kUnsupported);
  CHECK(has_text(kind, "ffn_other_exps.scale"));

  ThreadPool pool(1);
  const SpecialisePlan plan = plan_of(*model, model->topology());
  int calls = 0;
  const Status s = write_specialised(plan, pool, folder / "x.gguf", [&](uint64_t, std::string_view) { return ++calls < 3; });
  CHECK(s.code() == StatusCode::kCancelled);
  CHECK_FALSE(std::filesystem::exists(folder / "x.gguf"));
}

}  // namespace moe
