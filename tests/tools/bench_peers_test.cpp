#include "tools/bench_peers.h"

#include <doctest/doctest.h>

#include "core/file.h"
#include "tests/models/model_fixture.h"
#include "tests/temp_folder.h"

namespace moe::tools {
namespace {

using test::has_text;
using test::TempFolder;

BenchTest prompt(int n, int depth = 0) { return {n, 0, depth, 512, 1}; }
BenchTest generation(int n, int depth = 0) { return {0, n, depth, 512, 1}; }

// What the peers wrote about a small model.
std::string recorded(const char* name) {
  const auto text = read_text_file(std::string("tests/data/peers/") + name);
  REQUIRE(text.ok());
  return *text;
}

// A program that writes a text to stdout, another to stderr and exits.
std::string script(const TempFolder& folder, const std::string& out, const std::string& err, int status) {
  const std::string text = "cat <<'END'\n" + out + "\nEND\necho '" + err + "' >&2\nexit " + std::to_string(status) + "\n";
  return "sh " + folder.write("peer.sh", text);
}

}  // namespace

TEST_CASE("a peer is a command, with or without a name before it") {
  CHECK(parse_peer("ik=/opt/ik/llama-bench -fa 1")->name == "ik");
  CHECK(parse_peer("ik=/opt/ik/llama-bench -fa 1")->command == "/opt/ik/llama-bench -fa 1");
  CHECK(parse_peer("/opt/x=y/llama-bench -fa 1")->name == "llama-bench");
  CHECK(parse_peer("llama-bench -x a=b")->command == "llama-bench -x a=b");
  CHECK(parse_peer("ik=/opt/llama-sweep-bench")->sweeps());
  for (const char* bad : {"", "ik=", "=llama-bench", "ik=  "}) {
    CAPTURE(bad);
    CHECK(has_text(parse_peer(bad).status(), "wanted COMMAND or NAME=COMMAND"));
  }
}

TEST_CASE("a peer gets the options of the test, with the model's path as one word") {
  const Peer bench = *parse_peer("p/llama-bench -fa 1"), sweep = *parse_peer("p/llama-sweep-bench -fa on");
  CHECK(*peer_command(bench, "a b.gguf", prompt(512), 2) == "p/llama-bench -fa 1 -m 'a b.gguf' -t 2 -p 512 -n 0 -r 1 -o json");
  CHECK(*peer_command(bench, "it's", generation(128, 4096), 3) ==
        "p/llama-bench -fa 1 -m 'it'\\''s' -t 3 -p 0 -n 128 -r 1 -o json -d 4096");
  CHECK(*peer_command(sweep, "m", prompt(512, 4096), 2) ==
        "p/llama-sweep-bench -fa on -m 'm' -t 2 -c 4608 -b 512 -ub 512 -n 1 --output-format jsonl");
  CHECK(*peer_command(sweep, "m", generation(128, 1024), 2) ==
        "p/llama-sweep-bench -fa on -m 'm' -t 2 -c 1536 -b 512 -ub 512 -n 128 --output-format jsonl");
  CHECK(has_text(peer_command(sweep, "m", generation(128, 100), 2).status(), "steps of 512 tokens"));
  BenchTest several = generation(128);
  several.n_seqs = 4;
  CHECK(has_text(peer_command(bench, "m", several, 2).status(), "one sequence"));
}

TEST_CASE("rates are read from what llama.cpp's llama-bench writes") {
  const std::string json = recorded("llama_bench.json");
  CHECK(*parse_llama_bench(json, prompt(16)) == doctest::Approx(13.714957));
  CHECK(*parse_llama_bench(json, generation(4)) == doctest::Approx(0.939966));
  CHECK(has_text(parse_llama_bench(json, prompt(16, 4096)).status(), "wanted test pp16 @ d4096"));
  CHECK(has_text(parse_llama_bench(json, prompt(4)).status(), "wanted test pp4"));
}

TEST_CASE("rates are read from what ik_llama.cpp's llama-bench writes, which has no depths") {
  const std::string json = recorded("ik_llama_bench.json");
  CHECK(*parse_llama_bench(json, prompt(16)) == doctest::Approx(13627.239892));
  CHECK(*parse_llama_bench(json, generation(4)) == doctest::Approx(2777.442858));
  CHECK_FALSE(parse_llama_bench(json, generation(4, 8)).ok());
}

TEST_CASE("rates are read from what llama-sweep-bench writes among its log") {
  const std::string lines = recorded("ik_sweep_bench.txt");
  CHECK(*parse_sweep_bench(lines, prompt(32)) == doctest::Approx(47.254791));
  CHECK(*parse_sweep_bench(lines, prompt(32, 64)) == doctest::Approx(30018.761719));
  CHECK(*parse_sweep_bench(lines, generation(8, 64)) == doctest::Approx(156.301895));
  for (const BenchTest& none : {prompt(32, 256), prompt(16), generation(32)}) {
    CAPTURE(none.name());
    CHECK(has_text(parse_sweep_bench(lines, none).status(), "n_kv"));
  }
}

TEST_CASE("text that is no result of a benchmark is an error, never a rate") {
  for (const char* bad :
       {"", "[", "{}", "usage: llama-bench", "[1, null, \"x\"]", "[{}]", "[{\"n_prompt\": 16, \"n_gen\": 0}]",
        "[{\"n_prompt\": 16, \"n_gen\": 0, \"avg_ts\": \"12\"}]", "[{\"n_prompt\": 16, \"n_gen\": 0, \"avg_ts\": 0}]"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_llama_bench(bad, prompt(16)).ok());
  }
  for (const char* bad : {"", "{", "{}", "[]", "{\"n_kv\": 0, \"pp\": 16}", "{\"n_kv\": 0, \"pp\": 16, \"speed_pp\": \"9\"}"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_sweep_bench(bad, prompt(16)).ok());
  }
}

TEST_CASE("a peer's failure is named with the last line that it wrote") {
  TempFolder folder;
  const auto result = [&](const std::string& out, const std::string& err, int status) {
    return run_peer({"x", script(folder, out, err, status) + " #"}, "m.gguf", prompt(16), 1);
  };
  const std::string rows = recorded("llama_bench.json");
  CHECK(*result(rows, "", 0) == doctest::Approx(13.714957));
  CHECK(result("[", "failed to load model", 1).status().message() == "--vs x: exit status 1; it says: failed to load model");
  CHECK(has_text(result("usage: x", "", 0).status(), "--vs x: wanted llama-bench's JSON"));
  CHECK(
      has_text(result("[]", "warning: odd", 0).status(), "test pp16 in llama-bench's JSON, found none; it says: warning: odd"));
  CHECK(has_text(run_peer({"x", "kill -9 $$;"}, "m.gguf", prompt(16), 1).status(), "ended by signal 9"));
  CHECK(has_text(run_peer({"x", "./no-such-program"}, "m.gguf", prompt(16), 1).status(), "exit status 127"));
}

TEST_CASE("medians and spreads of repetitions") {
  CHECK(median({}) == 0);
  CHECK(median({3}) == 3);
  CHECK(median({5, 1, 3}) == 3);
  CHECK(median({4, 1, 3, 2}) == 2.5);
  CHECK(spread({}) == 0);
  CHECK(spread({3, 3}) == 0);
  CHECK(spread({90, 100, 110}) == doctest::Approx(0.1));
}

}  // namespace moe::tools
