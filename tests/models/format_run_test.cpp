// Whole models in every storage format: exact logits are those of the decoded weights, rounded ones stay near.
#include <doctest/doctest.h>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// Wide enough for super-blocks of 256; every expert is used, so that rounding moves no route.
ModelConfig wide_config(const std::string& arch) {
  ModelConfig c = tiny_config(arch);
  c.d_model = 256, c.n_layer = 1, c.n_expert = c.n_expert_used = 2;
  c.n_kv_head = c.n_head = 4, c.head_dim = c.v_dim = c.rope_dims = 64;
  c.d_ff = c.d_ff_expert = 256;
  return c;
}

bool is_quantised(const FileTensor& t) { return t.shape.size() > 1 && t.name.find("gate_inp") == std::string::npos; }

ModelFile in_format(ModelFile file, DType type) {
  for (FileTensor& t : file.tensors)
    if (is_quantised(t)) t.dtype = type;
  return file;
}

}  // namespace

TEST_CASE("every storage format gives the logits of its decoded weights") {
  TempFolder folder;
  for (const std::string arch : {"llama", "olmoe"}) {
    const ModelFile file = random_model(wide_config(arch));
    double worst_exact = 0, worst_rounded = 0;
    int n_formats = 0;
    for (const DTypeTraits& f : all_dtypes()) {
      if (!f.is_weight) continue;
      ++n_formats;
      CAPTURE(f.name);
      const std::string path = in_format(file, f.dtype).write(folder, "coded.gguf");
      ModelFile decoded = read_model(path);
      for (FileTensor& t : decoded.tensors) t.dtype = DType::kF32;
      const std::vector<float> wanted = run_reference(*load_model(decoded.write(folder, "decoded.gguf")));
      const double exact = nmse(run_reference(*load_model(path, {true, 2, ""})), wanted),
                   rounded = nmse(run_reference(*load_model(path, {false, 2, ""})), wanted);
      CHECK(exact <= 1e-10);
      CHECK(rounded <= 3e-3);
      worst_exact = std::max(worst_exact, exact), worst_rounded = std::max(worst_rounded, rounded);
    }
    CHECK(n_formats == 15);
    MESSAGE(arch << ": worst NMSE over " << n_formats << " formats: exact " << worst_exact << ", rounded " << worst_rounded);
  }
}

TEST_CASE("widths of every format keep their bits over threads and splits, and stay near the exact path") {
  TempFolder folder;
  ModelConfig c = wide_config("olmoe");
  c.d_ff = c.d_ff_expert = 512;
  const ModelFile file = random_model(c);
  for (const DTypeTraits& f : all_dtypes()) {
    if (!f.is_weight) continue;
    CAPTURE(f.name);
    const std::string path = in_format(file, f.dtype).write(folder);
    std::vector<float> exact;
    for (const bool is_exact : {true, false}) {
      std::vector<float> first;
      for (const int threads : {1, 3}) {
        const auto model = load_model(path, {is_exact, threads, ""});
        CHECK(model->routing_shape().layers[0].width_step == f.block_elements);
        RoutingTopology t = full_topology(model->routing_shape());
        t.layers[0].width = {256, f.block_elements == 1 ? 77 : f.block_elements};
        for (const size_t step : {16, 1}) {
          const auto session = new_session(*model);
          REQUIRE(session->set_topology(t).ok());
          const std::vector<float> logits = run_tokens(*session, reference_tokens(), step);
          if (first.empty()) first = logits;
          CHECK(same_bits(logits, first));
        }
      }
      if (is_exact)
        exact = first;
      else
        CHECK(nmse(first, exact) <= 3e-3);
    }
  }
}

}  // namespace moe
