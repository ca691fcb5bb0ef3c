#include "tools/bench_profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "tests/models/model_fixture.h"

namespace moe::tools {
namespace {

using namespace test;

SessionOptions profiled(bool profile) {
  SessionOptions o = roomy(64);
  o.profile = profile;
  return o;
}

double sum(const std::vector<double>& x) { return std::accumulate(x.begin(), x.end(), 0.0); }

// "linear q4_k" → "linear"
std::string op_of(const std::string& row) { return row.substr(0, row.find(' ')); }

}  // namespace

TEST_CASE("a profile has every node of the graph that ran, and no more time than its threads had") {
  for (const int n_threads : {1, 3}) {
    CAPTURE(n_threads);
    const auto model = test::load_model(reference_path("olmoe"), {false, n_threads, ""});
    const auto session = new_session(*model, profiled(true));
    REQUIRE(session->eval_prompt(reference_tokens()).ok());
    const ExecutableProfile p = session->executable().profile();
    const size_t n_nodes = session->executable().graph().nodes.size();
    REQUIRE(p.busy.size() == n_nodes);
    REQUIRE(p.waiting.size() == n_nodes);
    CHECK(std::all_of(p.busy.begin(), p.busy.end(), [](double s) { return s > 0; }));
    CHECK(std::all_of(p.waiting.begin(), p.waiting.end(), [](double s) { return s >= 0; }));
    CHECK((sum(p.waiting) > 0) == (n_threads > 1));
    CHECK(sum(p.busy) + sum(p.waiting) + p.preempted <= p.seconds * n_threads);
  }
}

TEST_CASE("profiles add up over runs, and measuring changes no bit") {
  const auto model = test::load_model(reference_path("olmoe"), {false, 2, ""});
  const auto measured = new_session(*model, profiled(true)), plain = new_session(*model, profiled(false));
  REQUIRE(measured->eval_prompt(reference_tokens()).ok());
  const ExecutableProfile once = measured->executable().profile();
  REQUIRE(plain->eval_prompt(reference_tokens()).ok());
  CHECK(std::equal(measured->logits().begin(), measured->logits().end(), plain->logits().begin(), plain->logits().end()));
  REQUIRE(measured->eval_prompt(reference_tokens()).ok());
  const ExecutableProfile twice = measured->executable().profile();
  CHECK(twice.seconds > once.seconds);
  CHECK(std::equal(twice.busy.begin(), twice.busy.end(), once.busy.begin(), [](double b, double a) { return b > a; }));
}

TEST_CASE("what is not profiled has no profile") {
  const auto model = test::load_model(reference_path("olmoe"));
  const auto session = new_session(*model, profiled(false));
  REQUIRE(session->eval_prompt(reference_tokens()).ok());
  const ExecutableProfile p = session->executable().profile();
  CHECK(p.busy.empty());
  CHECK(p.waiting.empty());
  CHECK(p.seconds == 0);
}

TEST_CASE("rows of a profile are the ops of the graph, and their shares add up to the whole test") {
  const auto model = test::load_model(reference_path("olmoe"), {false, 2, ""});
  const auto session = new_session(*model, profiled(true));
  const Graph& graph = session->executable().graph();
  const ExecutableProfile before = session->executable().profile();
  REQUIRE(session->eval_prompt(reference_tokens()).ok());
  const ExecutableProfile after = session->executable().profile();
  const BenchTest test{static_cast<int>(reference_tokens().size()), 0, 0, 512, 1};
  const BenchProfile profile = make_profile(graph, before, after, 2, 2 * after.seconds, test, 1, 2, false);

  std::set<std::string> of_graph, of_rows;
  for (const Node& n : graph.nodes) of_graph.insert(op_name(n.op));
  size_t nodes = 0;
  BenchWork work;
  for (const ProfileRow& r : profile.rows) of_rows.insert(op_of(r.op)), nodes += static_cast<size_t>(r.nodes), work.add(r.work);
  CHECK(of_rows == of_graph);
  CHECK(nodes == graph.nodes.size());
  CHECK(work.macs() == doctest::Approx(work_of(graph, test, 2, false).macs()));
  CHECK(work.bytes_read == doctest::Approx(work_of(graph, test, 2, false).bytes_read));
  CHECK(std::is_sorted(profile.rows.begin(), profile.rows.end(), [](auto& a, auto& b) { return a.busy > b.busy; }));

  cpu::Ceilings c;
  c.read = c.int8 = c.f32 = 1e9;
  double shares = 0, waiting = 0;
  for (const auto& row : profile_json(profile, 1, c)) {
    shares += row["share"].get<double>();
    waiting += row.value("share_waiting_after", 0.0);
    if (row["op"] == "waiting at barriers") CHECK(waiting == doctest::Approx(row["share"].get<double>()));
    if (row["op"] == "outside runs") CHECK(row["share"].get<double>() == doctest::Approx(0.5));
  }
  CHECK(shares == doctest::Approx(1));
}

TEST_CASE("a row's seconds are those of the clock in one repetition") {
  BenchProfile p;
  p.n_threads = 2, p.seconds = 10, p.run_seconds = 9, p.preempted = 2;
  p.rows = {{"linear q8_0", 3, 8, 4, {4e9, 8e9, 0, 0}}, {"route", 1, 2, 0, {}}};
  CHECK(p.waiting() == 4);
  CHECK(p.starting() == 2);
  CHECK(p.outside() == 2);
  cpu::Ceilings c;
  c.read = 4e9, c.int8 = 4e9, c.f32 = 1e9;
  const nlohmann::ordered_json rows = profile_json(p, 5, c);
  CHECK(rows[0]["op"] == "linear q8_0");
  CHECK(rows[0]["seconds"] == doctest::Approx(0.8));
  CHECK(rows[0]["share"] == doctest::Approx(0.4));
  CHECK(rows[0]["share_of_work"] == doctest::Approx(0.8));
  CHECK(rows[0]["gb_per_s"] == doctest::Approx(1));
  CHECK(rows[0]["share_of_read"] == doctest::Approx(0.25));
  CHECK(rows[0]["gmac_per_s"] == doctest::Approx(2));
  CHECK(rows[0]["share_of_peak"] == doctest::Approx(0.5));
  const std::string text = profile_text(p, 5, c);
  CHECK(text.find("| linear q8_0              |     3 |    800.00 |  40.0 % |  80.0 % |     20.0 % |") != std::string::npos);
  CHECK(text.find("| preempted by others      |       |    200.00 |  10.0 % |") != std::string::npos);
}

}  // namespace moe::tools
