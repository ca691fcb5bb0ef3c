#include "tools/evolve_report.h"

#include <doctest/doctest.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tests/temp_folder.h"
#include "tools/evolve_matrix.h"
#include "tools/evolve_page.h"
#include "tools/png_file.h"
#include "tools/usage_map.h"

using namespace moe;
using namespace moe::tools;
using moe::test::TempFolder;

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kRun = "tests/data/evolve";  // 12 generations of 8, 5 points, 4 layers of which the first is dense

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// What the page's script reads.
Json data_of(const std::string& page) {
  const std::string opening = "<script type=\"application/json\" id=\"run\">";
  const size_t begin = page.find(opening) + opening.size(), end = page.find("</script>", begin);
  REQUIRE(end != std::string::npos);
  return Json::parse(page.substr(begin, end - begin));
}

std::string page_of(const fs::path& folder) {
  const Result<ReportFacts> facts = write_report({.folder = folder.string()});
  REQUIRE_MESSAGE(facts.ok(), facts.status().message());
  return *read_text_file(facts->page);
}

void copy_run(const fs::path& to) {
  for (const fs::directory_entry& file : fs::directory_iterator(kRun)) fs::copy_file(file.path(), to / file.path().filename());
}

std::string refusal(const fs::path& folder, const std::string& point = "") {
  const Result<ReportFacts> facts = write_report({.folder = folder.string(), .point = point});
  return facts.ok() ? "" : facts.status().message();
}

}  // namespace

TEST_CASE("report: the page has what journal, front, topologies and analysis say") {
  const TempFolder folder;
  copy_run(folder.path());
  const Json data = data_of(page_of(folder.path()));
  CHECK(data["journal"]["n_generations"] == 12);
  CHECK(data["journal"]["generations"].size() == 12);
  CHECK(data["journal"]["generations"][11]["best"].size() == 2);
  CHECK(data["journal"]["end"]["reason"] == "generations");
  const Json& scored = data["journal"]["scored"];
  CHECK(scored["kl"].size() == data["journal"]["n_scored"]);
  CHECK(scored["generation"].size() == scored["kl"].size());
  CHECK(scored["kl"].size() < 96);  // of 96 candidates some were dropped
  CHECK(data["front"]["points"].size() == 5);
  CHECK(data["front"]["baselines"][0]["name"] == "reap 50 %");
  const Json& layers = data["topologies"]["p02"]["layers"];
  REQUIRE(layers.size() == 4);
  CHECK(layers[0]["n"] == 0);
  CHECK(layers[1]["kept"].get<std::string>().size() == 8);
  CHECK(layers[1]["width"].size() == 8);
  CHECK(data["analysis"]["mutations"].size() == data["journal"]["generations"][0]["mutation_share"].size());
}

TEST_CASE("report: the page needs no other file and no network") {
  const std::string page = report_html("{}");
  for (const char* outside : {"http://", "src=", "@import", "url(", "fetch(", "XMLHttp", "innerHTML", "import("})
    CHECK_MESSAGE(count(page, outside) == 0, outside);
  CHECK(count(page, "<script") == 2);
  CHECK(count(page, "</script>") == 2);
  CHECK(count(page, "https://") == 0);
}

TEST_CASE("report: names cannot leave the page's data") {
  const std::string hostile = "</script><script>alert(1)</script><!--&amp;\xe2\x80\xa8\"'";
  FrontFile front;
  front.model.name = hostile;
  front.objectives = {{hostile, hostile, false}};
  front.full.name = hostile;
  front.points.resize(1);
  front.points[0].name = hostile;
  front.points[0].selection = {{hostile, 1}};
  RunAnalysis analysis;
  analysis.domains = {hostile};
  RoutingTopology topology;
  topology.layers.resize(1);
  const std::string page =
      report_page({.front = &front, .analysis = &analysis, .folder = hostile, .topologies = {{hostile, topology}}});
  CHECK(count(page, "</script") == 2);
  CHECK(count(page, "<!--") == 0);
  const Json data = data_of(page);
  CHECK(data["folder"] == hostile);
  CHECK(data["front"]["model"]["name"] == hostile);
  CHECK(data["front"]["points"][0]["selection"].contains(hostile));
  CHECK(data["topologies"].contains(hostile));
}

TEST_CASE("report: bytes that are no UTF-8 and numbers that are none make a page all the same") {
  FrontFile front;
  front.model.name = "m\xff.gguf";
  front.points.resize(1);
  const Json data = data_of(report_page({.front = &front, .folder = "\xc3"}));
  CHECK(data["front"]["points"][0]["held_out"]["kl"].is_null());
}

TEST_CASE("report: a run that is under way has a page without a front") {
  const TempFolder folder;
  std::string journal = *read_text_file(kRun + "/journal.jsonl");
  journal.resize(journal.size() / 2);  // within a line
  REQUIRE(write_text_file(folder / "journal.jsonl", journal).ok());
  const Json data = data_of(page_of(folder.path()));
  CHECK(data["front"].is_null());
  CHECK(data["journal"]["end"].is_null());
  CHECK(data["journal"]["n_generations"] > 3);
}

TEST_CASE("report: a front alone, without topologies, has a page") {
  const TempFolder folder;
  fs::copy_file(kRun + "/front.json", folder / "front.json");
  const Json data = data_of(page_of(folder.path()));
  CHECK(data["journal"].is_null());
  CHECK(data["topologies"].empty());
  CHECK(data["front"]["points"].size() == 5);
}

TEST_CASE("report: what is missing or damaged is said by name") {
  const TempFolder folder;
  CHECK(refusal(folder.path()).find("found neither") != std::string::npos);
  copy_run(folder.path());
  CHECK(refusal(folder.path(), "p77").find("point p77: there are p00, p01, p02, p03, p04") != std::string::npos);
  const std::string analysis = folder / "analysis.json";
  REQUIRE(write_text_file(analysis, R"({"format":"moe-analysis","version":2})").ok());
  CHECK(refusal(folder.path()).find("analysis.json") != std::string::npos);
  CHECK(refusal(folder.path()).find("version") != std::string::npos);
  fs::remove(analysis);
  REQUIRE(write_text_file(folder / "journal.jsonl", "{}\n").ok());
  CHECK(refusal(folder.path()).find("journal.jsonl: line 1") != std::string::npos);
}

TEST_CASE("report: of very many candidates an even sample is on the page") {
  JournalText journal;
  journal.generations.resize(5000);
  for (size_t g = 0; g < journal.generations.size(); ++g) {
    journal.generations[g].generation = static_cast<uint32_t>(g);
    journal.generations[g].evaluations.resize(6);
    for (Evaluation& e : journal.generations[g].evaluations) e.kl = 1.0 / 3;
  }
  const std::string page = report_page({.journal = &journal});
  const Json data = data_of(page);
  CHECK(data["journal"]["n_scored"] == 30000);
  CHECK(data["journal"]["scored"]["kl"].size() == 20000);
  CHECK(data["journal"]["scored"]["kl"][0] == 0.333333);
  CHECK_FALSE(data["journal"]["scored"].contains("latency_ms"));
  CHECK(data["journal"]["n_generations"] == 5000);
  REQUIRE(data["journal"]["generations"].size() == 4000);
  CHECK(data["journal"]["generations"][3999]["generation"] == 4999);
}

TEST_CASE("analysis: what is written reads back; other text is refused by path") {
  RunAnalysis a;
  a.domains = {"code", "</script>"};
  a.tokens = 100;
  a.mutations = {"rewire"};
  a.layers.resize(2);
  a.layers[1] = {.use = {3, 1}, .domain_use = {{1, 1}, {2, 0}}, .reap = {0.5, 1.0 / 3}};
  const Result<RunAnalysis> back = analysis_from_json(to_json(a));
  REQUIRE_MESSAGE(back.ok(), back.status().message());
  CHECK(back->domains == a.domains);
  CHECK(back->mutations == a.mutations);
  CHECK(back->layers[0].use.empty());
  CHECK(back->layers[1].domain_use == a.layers[1].domain_use);
  CHECK(back->layers[1].reap == a.layers[1].reap);
  const std::string text = to_json(a);
  for (const auto& [from, to, path] :
       std::vector<std::array<std::string, 3>>{{"\"use\":[3.0,1.0]", "\"use\":[3.0]", "layers[1].use"},
                                               {"[2.0,0.0]]", "[2.0]]", "layers[1].domain_use[1]"},
                                               {"\"experts\":2", "\"experts\":5000", "layers[1].experts"},
                                               {"moe-analysis", "moe", "format"}}) {
    std::string wrong = text;
    REQUIRE(wrong.find(from) != std::string::npos);
    wrong.replace(wrong.find(from), from.size(), to);
    const Result<RunAnalysis> read = analysis_from_json(wrong);
    REQUIRE_FALSE(read.ok());
    CHECK_MESSAGE(read.status().message().find(path) != std::string::npos, read.status().message());
  }
  for (size_t n = 0; n + 2 < text.size(); ++n) CHECK_FALSE(analysis_from_json(std::string(text, 0, n)).ok());
}

TEST_CASE("analysis: is made of a calibration") {
  Calibration c;
  c.n_classes = 2, c.n_domains = 2;
  c.tokens = {6, 4};
  c.layers.resize(2);
  LayerCalibration& l = c.layers[1];
  l.n_experts = 2;
  l.use = {1, 2, 3, 4};
  l.gate = l.norm = {1, 1, 1, 1};
  l.gate_norm = {1, 2, 3, 4};
  l.domain_use = {1, 5, 3, 1};
  RoutingShape shape;
  shape.n_vocab = 4;
  shape.layers = {{}, {.n_experts = 2, .k = 1, .d_ff = 32}};
  const Result<SearchSpace> space = SearchSpace::create(shape, {});
  REQUIRE_MESSAGE(space.ok(), space.status().message());
  const std::vector<std::string> names = {"a", "b"};
  const RunAnalysis a = analysis_of(c, names, *Variation::create(*space));
  CHECK(a.tokens == 10);
  CHECK(a.layers[0].use.empty());
  CHECK(a.layers[1].use == std::vector<double>{4, 6});
  CHECK(a.layers[1].domain_use == std::vector<std::vector<double>>{{1, 5}, {3, 1}});
  CHECK(a.layers[1].reap.size() == 2);
  CHECK(a.layers[1].reap[1] == doctest::Approx(1.0));  // Σ g ‖E(x)‖ over the tokens that used it
  CHECK_FALSE(a.mutations.empty());
  CHECK_FALSE(a.crossovers.empty());
}

TEST_CASE("matrix: a cell is coloured by load where it is kept, as high as the expert is wide") {
  RoutingTopology t;
  t.layers.resize(2);
  LayerRouting& layer = t.layers[1];
  layer.n_experts = 4, layer.k_min = 1, layer.k_max = 2;
  layer.allow = {1, 0, 1, 1};
  layer.width = {64, 64, 32, 64};
  RunAnalysis a;
  a.layers.resize(2);
  a.layers[1].use = {4, 2, 1, 1};
  const Result<Canvas> canvas = draw_matrix(t, {.title = "t", .analysis = &a});
  REQUIRE(canvas.ok());
  const auto at = [&](int expert, int from_top) { return canvas->at(92 + 26 * expert + 4, 58 + from_top); };
  CHECK(at(0, 4) == usage_color(2));
  CHECK(at(0, 20) == usage_color(2));
  CHECK(at(2, 20) == usage_color(0.5));
  CHECK(at(2, 4) == at(1, 4));  // masked above a narrow expert as in a masked one
  CHECK_FALSE(at(1, 4) == at(0, 4));
  CHECK(kept_experts(t.layers[1]) == std::vector<uint8_t>{1, 0, 1, 1});
}

TEST_CASE("matrix: thousands of experts and layers fit, a model without experts is refused") {
  RoutingTopology t;
  CHECK_FALSE(draw_matrix(t, {}).ok());
  LayerRouting layer;
  layer.n_experts = 4096, layer.k_min = layer.k_max = 1;
  layer.allow.assign(4096, 1);
  t.layers.assign(200, layer);
  const Result<Canvas> canvas = draw_matrix(t, {.title = "large"});
  REQUIRE(canvas.ok());
  CHECK(canvas->width() < Canvas::kMostSide);
}
