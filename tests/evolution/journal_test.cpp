#include "evolution/journal.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/file.h"
#include "tests/evolution/search_fixture.h"
#include "tests/temp_folder.h"

namespace moe {
namespace {

using namespace test;

PlantedSearch::Setup small() {
  PlantedSearch::Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.population = 8, setup.generations = 4, setup.fresh_every = 2;
  return setup;
}

std::string text_of_run(const TempFolder& folder, const std::vector<GenerationRecord>& records) {
  const std::string path = folder / "journal.jsonl";
  Result<Journal> journal = Journal::create(path, R"({"seed": 1, "name": "a \"b\" ü"})");
  REQUIRE_MESSAGE(journal.ok(), journal.status().message());
  for (const GenerationRecord& r : records) REQUIRE(journal->append(r).ok());
  REQUIRE(journal->append_end(R"({"reason": "generations"})").ok());
  return *read_text_file(path);
}

TEST_CASE("a journal gives back settings, records and end as they were written") {
  TempFolder folder;
  PlantedSearch s(small());
  std::vector<GenerationRecord> records = s.run();
  records[1].evaluations[0].accuracy = 1.0 / 3;
  records[1].evaluations[0].layer_errors = {0.1, kNotMeasured, 1e-300};
  records[1].evaluations[0].domain_kl = {0.25, 5e-324};
  const Result<JournalText> read = parse_journal(text_of_run(folder, records), "j");
  REQUIRE_MESSAGE(read.ok(), read.status().message());
  CHECK(read->settings == R"({"name":"a \"b\" ü","seed":1})");
  CHECK(read->end == R"({"reason":"generations"})");
  REQUIRE(read->generations.size() == records.size());
  for (size_t g = 0; g < records.size(); ++g) CHECK(journal_line(read->generations[g]) == journal_line(records[g]));
  const Evaluation& e = read->generations[1].evaluations[0];
  CHECK(e.accuracy == 1.0 / 3);
  CHECK(e.layer_errors[0] == 0.1);
  CHECK(std::isnan(e.layer_errors[1]));
  CHECK(e.layer_errors[2] == 1e-300);
  CHECK(e.domain_kl[1] == 5e-324);
  CHECK(std::isnan(e.nll));
}

TEST_CASE("a run is resumed from any number of bytes of its journal, and ends as it would have") {
  TempFolder folder;
  PlantedSearch whole(small());
  const std::string text = text_of_run(folder, whole.run());
  const size_t step = text.size() / 23;
  for (size_t cut = 0; cut < text.size(); cut += step) {
    CAPTURE(cut);
    const std::string path = folder.write("cut.jsonl", text.substr(0, cut));
    Result<JournalText> read = read_journal(path);
    REQUIRE_MESSAGE(read.ok(), read.status().message());
    Result<Journal> journal =
        read->settings.empty() ? Journal::create(path, R"({"name":"a \"b\" ü","seed":1})") : Journal::resume(path, *read);
    REQUIRE_MESSAGE(journal.ok(), journal.status().message());
    PlantedSearch again(small());
    for (const GenerationRecord& r : read->generations) REQUIRE(again.search->replay(r).ok());
    for (const GenerationRecord& r : again.run()) REQUIRE(journal->append(r).ok());
    const Result<JournalText> now = read_journal(path);
    REQUIRE_MESSAGE(now.ok(), now.status().message());
    REQUIRE(now->generations.size() == 4);
    CHECK(hash(again.search->archive()[0].genome) == hash(whole.search->archive()[0].genome));
    CHECK(again.search->archive().size() == whole.search->archive().size());
  }
}

TEST_CASE("a changed byte in a whole line is an error with file and line") {
  TempFolder folder;
  PlantedSearch s(small());
  const std::string text = text_of_run(folder, s.run());
  size_t line = 1;
  for (size_t at = 0; at < text.size(); at += 97) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    if (damaged[at] == '\n' || text[at] == '\n') continue;
    line = 1 + static_cast<size_t>(std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n'));
    const Status status = parse_journal(damaged, "run/journal.jsonl").status();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(status.message().starts_with("run/journal.jsonl: line " + std::to_string(line) + ": "), status.message());
  }
  CHECK(line > 3);
}

TEST_CASE("lines whose sums are right but that are senseless are refused") {
  const auto sum = [](const std::string& rest) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const char c : rest) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(h));
    return "{\"sum\":\"" + std::string(digits) + "\"," + rest + "\n";
  };
  const auto refused = [&](const std::string& rest, const std::string& says) {
    const Status status = parse_journal(sum(rest), "j").status();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(status.message().find(says) != std::string::npos, status.message());
  };
  refused(R"("generation":{}})", "journal");
  refused(R"("journal":{"format":"other","version":1,"settings":{}}})", "moe-journal");
  refused(R"("journal":{"format":"moe-journal","version":2,"settings":{}}})", "version");
  refused(R"("journal":[]})", "journal");
  refused(R"("journal":)", "record");
  const std::string head = sum(R"("journal":{"format":"moe-journal","version":1,"settings":{}}})");
  const Status again = parse_journal(head + sum(R"("generation":{"generation":-1}})"), "j").status();
  CHECK_MESSAGE(again.message().starts_with("j: line 2: record: generation.generation"), again.message());
}

TEST_CASE("a journal that is there is not overwritten, one without a whole line is begun anew") {
  TempFolder folder;
  const std::string path = folder.write("j.jsonl", "{\"sum\":\"0123");
  { REQUIRE(Journal::create(path, "{}").ok()); }
  CHECK(Journal::create(path, "{}").status().code() == StatusCode::kInvalidArgument);
  CHECK(read_journal(path)->settings == "{}");
  CHECK(read_journal(folder / "none").status().code() == StatusCode::kNotFound);
  CHECK(Journal::create(folder / "k", "[]").status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moe
