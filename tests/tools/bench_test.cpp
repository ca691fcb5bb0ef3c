#include <doctest/doctest.h>

#include "tests/models/model_fixture.h"
#include "tools/bench_report.h"

namespace moe::tools {
namespace {

using namespace test;

BenchTest prompt(int n, int depth = 0, int batch = 512) { return {n, 0, depth, batch, 1}; }
BenchTest generation(int n, int depth = 0, int seqs = 1) { return {0, n, depth, 512, seqs}; }

}  // namespace

TEST_CASE("a bench test is named as llama-bench names it") {
  CHECK(prompt(512).name() == "pp512");
  CHECK(prompt(512, 4096).name() == "pp512 @ d4096");
  CHECK(generation(128).name() == "tg128");
  CHECK(generation(128, 16, 4).name() == "tg128 x4 @ d16");
  CHECK(generation(128, 16, 4).tokens() == 512);
}

TEST_CASE("a rate is the mean of the repetitions' rates, its deviation that of a sample") {
  BenchResult r;
  r.test = prompt(10);
  r.seconds = {1, 2};
  CHECK(r.mean_rate() == doctest::Approx(7.5));
  CHECK(r.rate_deviation() == doctest::Approx(3.5355339));
  CHECK(r.mean_seconds() == doctest::Approx(1.5));
  r.seconds = {4};
  CHECK(r.rate_deviation() == 0);
}

TEST_CASE("the work of a prompt does not depend on how it is cut, but for the weights read") {
  const auto model = test::load_model(reference_path("olmoe"));
  const auto session = new_session(*model);
  const BenchWork whole = work_of(session->graph().graph, prompt(32), 2, true);
  const BenchWork halves = work_of(session->graph().graph, prompt(32, 0, 16), 2, true);
  CHECK(whole.int8_macs == 0);  // the model is float32
  CHECK(halves.macs() == doctest::Approx(whole.macs()).epsilon(0.02));
  CHECK(halves.bytes_read > 1.2 * whole.bytes_read);
  CHECK(work_of(session->graph().graph, prompt(32, 100), 2, true).macs() > whole.macs());
}

TEST_CASE("generated tokens cost their number, and sequences share the weights but not the keys") {
  const auto model = test::load_model(reference_path("olmoe"));
  const auto session = new_session(*model, roomy(64, 4));
  const auto work = [&](const BenchTest& test) { return work_of(session->graph().graph, test, 2, true); };
  CHECK(work(generation(20, 40)).bytes_read == doctest::Approx(2 * work(generation(10, 45)).bytes_read));
  const BenchWork one = work(generation(10, 40)), four = work(generation(10, 40, 4));
  CHECK(four.macs() == doctest::Approx(4 * one.macs()));
  CHECK(four.bytes_read > one.bytes_read);
  CHECK(four.bytes_read < 4 * one.bytes_read);
  // The keys of the other three sequences.
  const double keys_of_one = work(generation(10, 1040)).bytes_read - work(generation(10, 40)).bytes_read;
  const double keys_of_four = work(generation(10, 1040, 4)).bytes_read - work(generation(10, 40, 4)).bytes_read;
  CHECK(keys_of_four == doctest::Approx(4 * keys_of_one).epsilon(1e-6));
}

TEST_CASE("half of the experts are half of the experts' work") {
  const auto model = test::load_model(reference_path("olmoe"));
  const auto session = new_session(*model);
  const double all = work_of(session->graph().graph, prompt(32), 2, true).macs();
  const double half = work_of(session->graph().graph, prompt(32), 1, true).macs();
  CHECK(half < all);
  CHECK(half > 0.4 * all);
}

TEST_CASE("multiply-adds count as int8 or bfloat16 by their weights unless everything is exact") {
  TempFolder folder;
  ModelFile file = read_model(reference_path("olmoe"));
  for (FileTensor& t : file.tensors)
    if (t.name.find("ffn_gate_exps") != std::string::npos)
      t.dtype = DType::kQ8_0;
    else if (t.name.find("ffn_down_exps") != std::string::npos)
      t.dtype = DType::kBF16;
  const auto model = test::load_model(file.write(folder));
  const auto session = new_session(*model);
  const BenchWork rounded = work_of(session->graph().graph, prompt(16), 2, false);
  const BenchWork exact = work_of(session->graph().graph, prompt(16), 2, true);
  CHECK(rounded.int8_macs > 0);
  CHECK(rounded.bf16_macs > 0);
  CHECK(rounded.f32_macs > 0);
  CHECK(exact.int8_macs == 0);
  CHECK(exact.bf16_macs == 0);
  CHECK(exact.macs() == doctest::Approx(rounded.macs()));
}

TEST_CASE("a JSON row has the keys that scripts for llama-bench read") {
  const auto model = test::load_model(reference_path("olmoe"));
  BenchArguments arguments;
  arguments.model.path = "m.gguf";
  BenchResult r;
  r.test = prompt(10, 5);
  r.seconds = {0.5, 0.5};
  r.work = {1e9, 2e9, 1e9};
  cpu::Ceilings c;
  c.read = 4e9, c.int8 = 8e9, c.f32 = 4e9;
  const nlohmann::ordered_json row = bench_json(*model, arguments, r, c);
  for (const char* key :
       {"build_commit", "cpu_info",  "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_batch",
        "n_ubatch",     "n_threads", "type_k",   "type_v",         "n_prompt",   "n_gen",      "n_depth",        "test_time",
        "avg_ns",       "stddev_ns", "avg_ts",   "stddev_ts",      "samples_ns", "samples_ts"}) {
    CAPTURE(key);
    CHECK(row.contains(key));
  }
  CHECK(row["n_depth"] == 5);
  CHECK(row["avg_ts"] == 20.0);
  CHECK(row["avg_ns"] == 500000000);
  CHECK(row["gb_per_s"] == 2.0);
  CHECK(row["share_of_read"] == 0.5);
  CHECK(row["gmac_per_s"] == 6.0);
  CHECK(row["share_of_peak"] == 1.0);  // a quarter of a second for either kind
}

TEST_CASE("cells of a Markdown table are as wide as people see them") {
  const MarkdownTable table({{"name", 6, false}, {"t/s", 5, true}});
  CHECK(table.head() == "| name   |   t/s |\n| :----- | ----: |\n");
  CHECK(table.row({"µs", "1 ± 2"}) == "| µs     | 1 ± 2 |\n");
  CHECK(table.row({"too long", "1"}) == "| too long |     1 |\n");
}

}  // namespace moe::tools
