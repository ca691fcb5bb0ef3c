#include "models/generate.h"

#include <doctest/doctest.h>

#include "models/routing_stats.h"
#include "models/tokenizer/stream_decoder.h"
#include "tests/allocation_count.h"
#include "tests/models/model_fixture.h"
#include "tests/models/small_model.h"

using namespace moe;
using moe::test::new_session;
using moe::test::small_model;

namespace {

// Feeds the pieces and returns what came out, "|" between the calls, "!" after a match.
std::string stream(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher m(stops, 64);
  std::string out;
  for (const std::string& piece : pieces) {
    out += m.feed(piece);
    out += m.matched() ? "!" : "|";
    if (m.matched()) return out;
  }
  return out + std::string(m.flush());
}

struct Run {
  GenerateResult result;
  std::vector<Token> tokens;
  std::string text;
};

Sampler sampler_of(const Model& model, SamplerOptions o = {}) {
  o.seed = 5;
  auto s = Sampler::create(o, model.config().n_vocab);
  REQUIRE(s.ok());
  return std::move(s).value();
}

Run run(Session& session, Sampler sampler, const std::vector<Token>& prompt, const GenerateOptions& o) {
  Run r;
  const auto result = generate(session, sampler, prompt, o, [&](Token t, std::string_view text) {
    if (t != kNoToken) r.tokens.push_back(t);
    r.text += text;
    return true;
  });
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  r.result = *result;
  CHECK(r.result.n_generated == static_cast<int>(r.tokens.size()));
  return r;
}

Run run(const Model& model, const GenerateOptions& o, SamplerOptions sampling = {}, int n_ctx = 128) {
  const auto session = new_session(model, {.n_ctx = n_ctx});
  return run(*session, sampler_of(model, std::move(sampling)), {72, 101, 108, 108, 111}, o);
}

GenerateOptions tokens(int n) {
  GenerateOptions o;
  o.n_predict = n;
  o.ignore_eos = true;
  return o;
}

}  // namespace

TEST_CASE("text comes out as soon as it cannot begin a stop string") {
  CHECK(stream({}, {"any", " text"}) == "any| text|");
  CHECK(stream({"END"}, {"the E", "N", "emy"}) == "the ||ENemy|");
  CHECK(stream({"END"}, {"the EN"}) == "the |EN");
  CHECK(stream({"\n\nUser:"}, {"a\n", "\n", "b"}) == "a||\n\nb|");
  CHECK(stream({"aab"}, {"a", "a", "a", "c"}) == "||a|aac|");
}

TEST_CASE("a stop string ends the text where it begins, however tokens cut it") {
  CHECK(stream({"END"}, {"the END of"}) == "the !");
  CHECK(stream({"END"}, {"the ", "E", "N", "D"}) == "the |||!");
  CHECK(stream({"aab"}, {"a", "a", "a", "b"}) == "||a|!");
  CHECK(stream({"XY", "cde"}, {"abc", "de XY"}) == "ab|!");
  CHECK(stream({"longer", "long"}, {"a long"}) == "a !");
  CHECK(stream({"\xE2\x82\xAC"}, {"5 \xE2\x82\xAC and more"}) == "5 !");
}

TEST_CASE("after a match nothing comes out") {
  const std::vector<std::string> stops = {"."};
  StopMatcher m(stops, 16);
  CHECK(m.feed("a.b") == "a");
  CHECK(m.matched());
  CHECK(m.feed("c") == "");
  CHECK(m.flush() == "");
}

TEST_CASE("generation gives as many tokens as asked for, and the session holds all but the last") {
  const auto model = small_model();
  const auto session = new_session(*model, {.n_ctx = 64});
  const std::vector<Token> prompt = {72, 101, 108};
  const Run r = run(*session, sampler_of(*model), prompt, tokens(9));
  CHECK(r.result.reason == StopReason::kLength);
  CHECK(r.result.n_prompt == 3);
  CHECK(r.result.n_generated == 9);
  CHECK(r.result.n_decoded == 8);
  std::vector<Token> all = prompt;
  all.insert(all.end(), r.tokens.begin(), r.tokens.end() - 1);
  CHECK(std::vector<Token>(session->tokens().begin(), session->tokens().end()) == all);
}

TEST_CASE("nothing is drawn when no token is asked for") {
  const auto model = small_model();
  const Run r = run(*model, tokens(0));
  CHECK(r.result.n_generated == 0);
  CHECK(r.result.reason == StopReason::kLength);
}

TEST_CASE("the pieces of a run are the text of its tokens in whole characters") {
  const auto model = small_model();
  const Run r = run(*model, tokens(60));
  CHECK(r.text == replace_invalid_utf8(model->tokenizer()->decode(r.tokens)));
}

TEST_CASE("generating in two goes gives the tokens of one go") {
  const auto model = small_model();
  const Run whole = run(*model, tokens(12));
  const auto session = new_session(*model, {.n_ctx = 128});
  Sampler sampler = sampler_of(*model);
  std::vector<Token> found;
  const auto collect = [&](Token t, std::string_view) {
    if (t != kNoToken) found.push_back(t);
    return true;
  };
  REQUIRE(generate(*session, sampler, std::vector<Token>{72, 101, 108, 108, 111}, tokens(5), collect).ok());
  const BatchToken pending{found.back(), 0, true};
  REQUIRE(session->eval({&pending, 1}).ok());
  REQUIRE(generate(*session, sampler, {}, tokens(7), collect).ok());
  CHECK(found == whole.tokens);
}

TEST_CASE("a stop string ends generation and stays out of the text") {
  const auto model = small_model();
  SamplerOptions only;  // a model that says "a" for ever
  only.logit_bias = {{97, 1000.f}};
  GenerateOptions o = tokens(50);
  o.stop = {"aaa"};
  const Run r = run(*model, o, only);
  CHECK(r.result.reason == StopReason::kStopString);
  CHECK(r.text == "");
  CHECK(r.result.n_generated == 3);
}

TEST_CASE("text held back for a stop string that never came is given at the end") {
  const auto model = small_model();
  SamplerOptions only;
  only.logit_bias = {{97, 1000.f}};
  GenerateOptions o = tokens(4);
  o.stop = {"aaaaaaab"};
  CHECK(run(*model, o, only).text == "aaaa");
}

TEST_CASE("an end-of-generation token stops the run without being given, unless it is ignored") {
  const auto model = small_model();
  const Token eos = model->tokenizer()->eos();
  REQUIRE(eos != kNoToken);
  SamplerOptions only;
  only.logit_bias = {{eos, 1000.f}};
  GenerateOptions o = tokens(6);
  CHECK(run(*model, o, only).tokens == std::vector<Token>(6, eos));
  o.ignore_eos = false;
  const Run r = run(*model, o, only);
  CHECK(r.result.reason == StopReason::kEndOfGeneration);
  CHECK(r.tokens.empty());
}

TEST_CASE("a full context ends generation after the last token it has logits for") {
  const auto model = small_model();
  const Run r = run(*model, tokens(-1), {}, 16);
  CHECK(r.result.reason == StopReason::kContextFull);
  CHECK(r.result.n_generated == 16 - 5 + 1);
}

TEST_CASE("the callback can stop the run") {
  const auto model = small_model();
  const auto session = new_session(*model, {.n_ctx = 64});
  Sampler sampler = sampler_of(*model);
  int calls = 0;
  const auto result = generate(*session, sampler, std::vector<Token>{1, 2}, tokens(50), [&](Token t, std::string_view) {
    calls += t != kNoToken;
    return calls < 3;
  });
  REQUIRE(result.ok());
  CHECK(result->reason == StopReason::kCallback);
  CHECK(calls == 3);
}

TEST_CASE("a useless stop string, a prompt too long, and nothing to go on from are errors") {
  const auto model = small_model();
  const auto session = new_session(*model, {.n_ctx = 8});
  Sampler sampler = sampler_of(*model);
  const auto code = [&](const std::vector<Token>& prompt, const GenerateOptions& o) {
    return generate(*session, sampler, prompt, o, [](Token, std::string_view) { return true; }).status().code();
  };
  CHECK(code({}, tokens(1)) == StatusCode::kInvalidArgument);
  GenerateOptions o = tokens(1);
  o.stop = {""};
  CHECK(code({1}, o) == StatusCode::kInvalidArgument);
  CHECK(code(std::vector<Token>(9, 1), tokens(1)) == StatusCode::kOutOfRange);
  o = tokens(1), o.seq = 1;
  CHECK(code({1}, o) == StatusCode::kInvalidArgument);
  CHECK(session->length() == 0);
}

TEST_CASE("64 tokens are generated without an allocation") {
  const auto model = small_model(2);
  const auto session = new_session(*model, {.n_ctx = 128, .observe_router = true});
  RoutingStats stats(model->routing_shape());
  session->set_observer([&](const RouterView& view) { stats.add(view); });
  SamplerOptions sampling;
  sampling.repeat_penalty = 1.1f;
  Sampler sampler = sampler_of(*model, sampling);
  GenerateOptions o = tokens(70);
  o.stop = {"a text that never comes", "xyzzy"};
  std::vector<uint64_t> counts;
  counts.reserve(128);
  const auto result = generate(*session, sampler, std::vector<Token>{72, 101}, o, [&](Token, std::string_view) {
    counts.push_back(test::allocation_count());
    return true;
  });
  REQUIRE(result.ok());
  REQUIRE(counts.size() >= 70);
  CHECK(counts[66] - counts[2] == 0);
}
