// An upcycled model computes what the dense one did, until noise or training drives its experts apart.
#include <doctest/doctest.h>

#include "models/train/upcycle.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Dense {
  TempFolder folder;
  std::string path;
  std::vector<float> logits;

  Dense() {
    ModelConfig c = tiny_config("llama");
    c.n_expert = c.n_expert_used = 0;
    path = random_model(c).write(folder, "dense.gguf");
    logits = run_reference(*load_model(path));
  }
  Result<std::string> upcycled(const UpcycleOptions& o, int threads = 1) const {
    MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
    MOE_ASSIGN(const UpcyclePlan plan, plan_upcycle(file, o));
    ThreadPool pool(threads);
    const std::string out = folder / ("moe" + std::to_string(threads) + ".gguf");
    MOE_TRY(write_upcycled(plan, pool, out, {}));
    return out;
  }
};

}  // namespace

TEST_CASE("copies and slices of a dense layer compute what it computes") {
  const Dense d;
  for (const UpcycleOptions& o : {UpcycleOptions{4, 2, 1, 0}, UpcycleOptions{2, 1, 4, 0}, UpcycleOptions{3, 2, 2, 0}}) {
    CAPTURE(o.slices);
    const auto path = d.upcycled(o);
    REQUIRE_MESSAGE(path.ok(), path.status().message());
    const std::unique_ptr<Model> model = load_model(*path);
    CHECK(model->config().n_expert == o.copies * o.slices);
    CHECK(model->config().n_expert_used == o.used * o.slices);
    CHECK(nmse(run_reference(*model), d.logits) < 1e-10);
  }
}

TEST_CASE("noise makes the copies differ, all but the first, the same for any number of threads") {
  const Dense d;
  const UpcycleOptions o{4, 2, 1, 0.05f, 7};
  const std::string one = d.upcycled(o, 1).value(), three = d.upcycled(o, 3).value();
  const ModelFile a = read_model(one), b = read_model(three), dense = read_model(d.path);
  const auto values = [](const ModelFile& m, const char* name) {
    for (const FileTensor& t : m.tensors)
      if (t.name == name) return t.values;
    return std::vector<float>();
  };
  const std::vector<float> experts = values(a, "blk.0.ffn_down_exps.weight"), down = values(dense, "blk.0.ffn_down.weight");
  REQUIRE(experts.size() == 4 * down.size());
  CHECK(same_bits(experts, values(b, "blk.0.ffn_down_exps.weight")));
  CHECK(same_bits({experts.data(), down.size()}, down));
  const double apart = nmse({experts.data() + down.size(), down.size()}, down);
  CHECK(apart > 0.001);
  CHECK(apart < 0.01);
}

TEST_CASE("what cannot be upcycled is refused by name") {
  const Dense d;
  const auto message = [&](const UpcycleOptions& o) { return d.upcycled(o).status().message(); };
  CHECK(message({0, 1, 1, 0}).find("copies: wanted 1 to 1024, found 0") == 0);
  CHECK(message({4, 5, 1, 0}).find("used: wanted 1 to 4, found 5") == 0);
  CHECK(message({4, 2, 7, 0}).find("slices: wanted a divisor") == 0);
  CHECK(message({4, 2, 1, -1}).find("noise") == 0);
  TempFolder folder;
  const GgufFile moe = GgufFile::open(random_model(tiny_config("llama")).write(folder)).value();
  CHECK(has_text(plan_upcycle(moe, {}).status(), "wanted a dense model, found"));
  const GgufFile other = GgufFile::open(random_model(tiny_config("olmoe")).write(folder, "o.gguf")).value();
  CHECK(has_text(plan_upcycle(other, {}).status(), "architecture llama, found olmoe"));
}

}  // namespace moe
