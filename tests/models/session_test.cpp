// Sessions: contexts, sequences, errors that leave everything as it was, and what a step costs.
#include "models/session.h"

#include <doctest/doctest.h>

#include <thread>

#include "tests/allocation_count.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::vector<BatchToken> batch_of(std::span<const Token> tokens, int seq = 0) {
  std::vector<BatchToken> batch;
  for (const Token t : tokens) batch.push_back({t, seq, true});
  return batch;
}

// The rows of one sequence out of a batch whose rows are all wanted.
std::vector<float> rows_of(const Session& s, std::span<const BatchToken> batch, int seq) {
  std::vector<float> rows;
  for (size_t i = 0; i < batch.size(); ++i)
    if (batch[i].seq == seq)
      rows.insert(rows.end(), s.logits(static_cast<int>(i)).begin(), s.logits(static_cast<int>(i)).end());
  return rows;
}

}  // namespace

TEST_CASE("logits have the same bits for 1, 2, 3 and 8 threads, every batch split and every architecture") {
  for (const std::string name : reference_names())
    for (const bool exact : {true, false}) {
      CAPTURE(name);
      const auto alone = load_model(reference_path(name), {exact, 1, ""});
      const std::vector<float> wanted = run_reference(*alone);
      CHECK(all_finite(wanted));
      for (const size_t step : {1, 3, 5, 11}) CHECK(same_bits(run_tokens(*alone, reference_tokens(), step), wanted));
      for (const int threads : kSanitized ? std::vector<int>{3} : std::vector<int>{2, 3, 8}) {
        CAPTURE(threads);
        const auto model = load_model(reference_path(name), {exact, threads, ""});
        for (const size_t step : {16, 1, 6}) CHECK(same_bits(run_tokens(*model, reference_tokens(), step), wanted));
      }
    }
}

TEST_CASE("rounded products of quantised models have the same bits for every thread count and split") {
  TempFolder folder;
  for (const std::string arch : {"olmoe", "deepseek2"})
    for (const DType format : {DType::kQ8_0, DType::kBF16}) {
      CAPTURE(traits(format).name);
      ModelConfig c = tiny_config(arch);
      c.d_ff_expert = 64;
      ModelFile file = random_model(c);
      for (FileTensor& t : file.tensors)
        if (t.shape.size() > 1 && t.shape.back() % 32 == 0 && t.name.find("gate_inp") == std::string::npos) t.dtype = format;
      const std::string path = file.write(folder, arch + "-" + traits(format).name + ".gguf");
      const auto alone = load_model(path, {false, 1, ""});
      const std::vector<float> wanted = run_reference(*alone);
      for (const int threads : {1, 2, 3, 8}) {
        const auto model = load_model(path, {false, threads, ""});
        for (const size_t step : {16, 1, 5}) CHECK(same_bits(run_tokens(*model, reference_tokens(), step), wanted));
      }
    }
}

TEST_CASE("bf16 models round their activations where the processor multiplies bfloat16, and stay within 1e-4 of exact") {
  TempFolder folder;
  ModelFile file = random_model(tiny_config("olmoe"));
  for (FileTensor& t : file.tensors)
    if (t.shape.size() > 1 && t.name.find("gate_inp") == std::string::npos) t.dtype = DType::kBF16;
  const std::string path = file.write(folder);
  for (const std::string& isa : runnable_isas()) {
    CAPTURE(isa);
    const std::vector<float> exact = run_reference(*load_model(path, {true, 1, isa}));
    const std::vector<float> rounded = run_reference(*load_model(path, {false, 1, isa}));
    CHECK(same_bits(rounded, exact) == (isa != "avx512_bf16"));
    CHECK(nmse(rounded, exact) <= 1e-4);
  }
}

TEST_CASE("sequences interleaved in one batch have the bits they have alone") {
  const std::vector<Token> all[] = {random_tokens(9, 320, 1), random_tokens(14, 320, 2), random_tokens(5, 320, 3)};
  for (const std::string name : {"olmoe", "gpt-oss", "deepseek3", "qwen2moe-qkv", "granitemoe"})
    for (const int threads : {1, 3}) {
      CAPTURE(name);
      const auto model = load_model(reference_path(name), {true, threads, ""});
      std::vector<BatchToken> mixed;
      for (size_t i = 0; i < 14; ++i)
        for (int s = 0; s < 3; ++s)
          if (i < all[s].size()) mixed.push_back({all[s][i], s, true});
      const auto together = new_session(*model, roomy(32, 3));
      REQUIRE(together->eval(mixed).ok());
      for (int s = 0; s < 3; ++s) CHECK(same_bits(rows_of(*together, mixed, s), run_tokens(*model, all[s], 16)));
      // And one token of each at a time, as a server decodes.
      const auto steps = new_session(*model, roomy(32, 3));
      std::vector<float> found;
      for (size_t i = 0; i < 5; ++i) {
        const std::vector<BatchToken> batch = {{all[2][i], 2, true}, {all[0][i], 0, true}, {all[1][i], 1, true}};
        REQUIRE(steps->eval(batch).ok());
        const std::vector<float> row = rows_of(*steps, batch, 2);
        found.insert(found.end(), row.begin(), row.end());
      }
      CHECK(same_bits(found, run_tokens(*model, all[2], 16)));
    }
}

TEST_CASE("only the rows asked for are made, in batch order") {
  const auto model = load_model(reference_path("olmoe"));
  const std::vector<float> all = run_reference(*model);
  const auto session = new_session(*model);
  std::vector<BatchToken> batch = batch_of(reference_tokens());
  for (size_t i = 0; i < batch.size(); ++i) batch[i].logits = i == 3 || i == 10;
  REQUIRE(session->eval(batch).ok());
  REQUIRE(session->n_logits() == 2);
  CHECK(same_bits(session->logits(0), std::span<const float>(all).subspan(3 * 320, 320)));
  CHECK(same_bits(session->logits(1), std::span<const float>(all).subspan(10 * 320, 320)));
  const auto silent = new_session(*model);
  for (BatchToken& t : batch) t.logits = false;
  REQUIRE(silent->eval(batch).ok());
  CHECK(silent->n_logits() == 0);
  CHECK(silent->length() == 16);
  CHECK_THROWS_AS(silent->logits(0), BugError);
}

TEST_CASE("a refused batch says why and leaves the session as it was") {
  const auto model = load_model(reference_path("mixtral"));
  SessionOptions options = roomy(20, 2);
  options.max_batch = 12, options.max_outputs = 4;
  const auto session = new_session(*model, options);
  REQUIRE(session->eval(std::vector<BatchToken>{{5, 0, false}, {6, 1, false}, {7, 0, true}}).ok());

  const auto refused = [&](const std::vector<BatchToken>& batch, StatusCode code, std::string_view text) {
    const Status s = session->eval(batch);
    CHECK(s.code() == code);
    CHECK(is_one_line(s));
    CHECK_MESSAGE(has_text(s, text), s.message());
    CHECK(session->length(0) == 2);
    CHECK(session->length(1) == 1);
  };
  refused({}, StatusCode::kInvalidArgument, "empty");
  refused({{320, 0, true}}, StatusCode::kInvalidArgument, "below 320, found 320");
  refused({{1, 0, false}, {-1, 0, true}}, StatusCode::kInvalidArgument, "found -1");
  refused({{1, 2, true}}, StatusCode::kInvalidArgument, "sequences below 2, found 2");
  refused({{1, -1, true}}, StatusCode::kInvalidArgument, "found -1");
  refused(std::vector<BatchToken>(13, {1, 0, false}), StatusCode::kOutOfRange, "at most 12 tokens, found 13");
  refused(std::vector<BatchToken>(5, {1, 0, true}), StatusCode::kOutOfRange, "at most 4 rows of logits, found 5");
  REQUIRE(session->eval(std::vector<BatchToken>(12, {1, 0, false})).ok());
  REQUIRE(session->truncate(0, 2).ok());
  const Token next = 9;
  const std::vector<float> after = run_tokens(*session, {&next, 1}, 1);
  const std::vector<Token> fresh = {5, 7, 9};
  CHECK(same_bits(after, std::span<const float>(run_tokens(*model, fresh, 3)).subspan(2 * 320)));
}

TEST_CASE("a full context is refused with both numbers, and what fits still runs") {
  const auto model = load_model(reference_path("olmoe"));
  const auto session = new_session(*model, roomy(10));
  REQUIRE(session->eval(batch_of(reference_tokens().first(8))).ok());
  const Status s = session->eval(batch_of(reference_tokens().subspan(8, 3)));
  CHECK(s.code() == StatusCode::kOutOfRange);
  CHECK_MESSAGE(s.message() == "context full: sequence 0 would hold 11 tokens, the context is 10", s.message());
  CHECK(session->length() == 8);
  CHECK(session->eval(batch_of(reference_tokens().subspan(8, 2))).ok());
  const Status prompt = session->eval_prompt(reference_tokens());
  CHECK(prompt.code() == StatusCode::kOutOfRange);
  CHECK(has_text(prompt, "16 tokens after 10, the context is 10"));
  CHECK(session->length() == 10);
}

TEST_CASE("truncating and going on equals a fresh session") {
  for (const std::string name : {"gpt-oss", "deepseek2", "llama-factors"}) {
    const auto model = load_model(reference_path(name));
    const auto session = new_session(*model);
    run_tokens(*session, reference_tokens(), 16);
    REQUIRE(session->truncate(0, 6).ok());
    CHECK(session->length() == 6);
    std::vector<Token> other(reference_tokens().begin(), reference_tokens().begin() + 6);
    const std::vector<Token> tail = random_tokens(7, 320, 5);
    other.insert(other.end(), tail.begin(), tail.end());
    CHECK(same_bits(run_tokens(*session, tail, 3), std::span<const float>(run_tokens(*model, other, 16)).subspan(6 * 320)));
    CHECK(std::vector<Token>(session->tokens().begin(), session->tokens().end()) == other);
    CHECK(session->truncate(0, 14).code() == StatusCode::kOutOfRange);
    CHECK(session->truncate(0, -1).code() == StatusCode::kOutOfRange);
    CHECK(session->truncate(1, 0).code() == StatusCode::kInvalidArgument);
    CHECK(session->truncate(0, 0).ok());
    CHECK(session->length() == 0);
  }
}

TEST_CASE("a copied sequence goes on like its original") {
  for (const std::string name : {"qwen3moe", "deepseek3"}) {
    const auto model = load_model(reference_path(name));
    SessionOptions options = roomy(32, 3);
    options.cache_k = options.cache_v = DType::kF16;
    const auto session = new_session(*model, options);
    run_tokens(*session, reference_tokens(), 16, 1);
    run_tokens(*session, reference_tokens().first(3), 3, 2);
    REQUIRE(session->copy_sequence(1, 2).ok());
    REQUIRE(session->copy_sequence(1, 0).ok());
    REQUIRE(session->copy_sequence(1, 1).ok());
    CHECK(session->length(0) == 16);
    CHECK(session->length(2) == 16);
    const std::vector<Token> tail = random_tokens(5, 320, 6);
    const std::vector<float> original = run_tokens(*session, tail, 5, 1);
    CHECK(same_bits(run_tokens(*session, tail, 2, 0), original));
    CHECK(same_bits(run_tokens(*session, tail, 5, 2), original));
    CHECK(session->copy_sequence(0, 3).code() == StatusCode::kInvalidArgument);
    CHECK(session->copy_sequence(-1, 0).code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("eval_prompt gives every row, reports progress, stops when asked and forgets a prompt that failed") {
  const auto model = load_model(reference_path("granitemoe"));
  SessionOptions options = roomy(40);
  options.max_batch = 5, options.max_outputs = 3;
  const auto session = new_session(*model, options);
  std::vector<float> rows;
  std::vector<int> firsts, done;
  const auto keep = [&](int first, std::span<const float> r) {
    firsts.push_back(first), rows.insert(rows.end(), r.begin(), r.end());
  };
  const auto count = [&](int n) { return done.push_back(n), true; };
  REQUIRE(session->eval_prompt(reference_tokens(), 0, keep, count).ok());
  const std::vector<float> wanted = run_reference(*model);
  CHECK(same_bits(rows, wanted));
  CHECK(firsts == std::vector<int>{0, 3, 6, 9, 12, 15});
  CHECK(done.back() == 16);

  const auto last_only = new_session(*model, options);
  REQUIRE(last_only->eval_prompt(reference_tokens()).ok());
  CHECK(last_only->n_logits() == 1);
  CHECK(same_bits(last_only->logits(), std::span<const float>(wanted).subspan(15 * 320)));
  std::vector<Token> bad(reference_tokens().begin(), reference_tokens().end());
  bad[12] = 999;
  CHECK(last_only->eval_prompt(bad).code() == StatusCode::kInvalidArgument);
  CHECK(last_only->length() == 16);
  const auto stop = [](int n) { return n < 10; };
  CHECK(last_only->eval_prompt(reference_tokens(), 0, {}, stop).code() == StatusCode::kCancelled);
  CHECK(last_only->eval_prompt(reference_tokens(), 1).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("session options out of range are refused with words") {
  const auto model = load_model(reference_path("olmoe"));
  const auto refused = [&](const SessionOptions& o, std::string_view text) {
    const auto s = Session::create(*model, o);
    REQUIRE_FALSE(s.ok());
    CHECK(is_one_line(s.status()));
    CHECK_MESSAGE(has_text(s.status(), text), s.status().message());
  };
  SessionOptions o;
  o.n_ctx = -1, refused(o, "n_ctx");
  o = {}, o.n_seqs = 0, refused(o, "n_seqs");
  o = {}, o.max_batch = -3, refused(o, "max_batch");
  o = {}, o.max_outputs = -3, refused(o, "max_outputs");
  o = {}, o.cache_k = DType::kQ4_0, refused(o, "cache type of keys: wanted f32, f16 or q8_0, found q4_0");
  o = {}, o.cache_v = DType::kBF16, refused(o, "cache type of values");
  o = {}, o.n_ctx = 1 << 30, o.n_seqs = 3, refused(o, "n_ctx");
  // A batch that no machine has memory for is refused before it is touched.
  o = {}, o.n_ctx = 2000000000, o.max_batch = 2000000000, refused(o, "max_batch");
  o = {}, o.n_ctx = 1, o.n_seqs = 2000000000, refused(o, "n_seqs");
}

TEST_CASE("a huge context is refused, or reserved and only used as it fills") {
  const auto model = load_model(reference_path("olmoe"));
  for (const int n_ctx : {1 << 20, 2147483647}) {
    SessionOptions o = roomy(n_ctx);
    const auto session = Session::create(*model, o);
    if (!session.ok()) {
      CHECK(session.status().code() == StatusCode::kOutOfMemory);
      CHECK(is_one_line(session.status()));
    } else {
      CHECK((*session)->cache_bytes() >= static_cast<size_t>(n_ctx));
      CHECK(same_bits(run_tokens(**session, reference_tokens(), 16), run_reference(*model)));
    }
  }
}

TEST_CASE("a q8_0 cache with heads of no whole blocks is refused, naming the head size") {
  for (const std::string name : {"olmoe", "deepseek2", "gpt-oss"}) {
    ModelConfig c = tiny_config(name.c_str());
    TempFolder folder;
    const auto model = load_model(random_model(c).write(folder));  // heads of 16
    for (const bool keys : {true, false}) {
      SessionOptions o = roomy();
      (keys ? o.cache_k : o.cache_v) = DType::kQ8_0;
      if (!keys && name == "deepseek2") continue;  // its values are in the keys
      const auto session = Session::create(*model, o);
      REQUIRE_FALSE(session.ok());
      CHECK(session.status().code() == StatusCode::kUnsupported);
      CHECK(is_one_line(session.status()));
      CHECK_MESSAGE(has_text(session.status(), "q8_0: wanted heads of a multiple of 32"), session.status().message());
    }
  }
}

TEST_CASE("caches of f16 and q8_0 stay close to float32") {
  TempFolder folder;
  for (const std::string arch : {"olmoe", "gpt-oss", "deepseek2"}) {
    ModelConfig c = tiny_config(arch);
    c.head_dim = c.v_dim = 32, c.n_expert_used = c.n_expert;  // no routes that could flip
    c.topk_group = c.n_group;
    if (c.kv_rank) c.kv_rank = 56, c.rope_dims = 8;  // a latent row of 64
    const auto model = load_model(random_model(c).write(folder, arch + ".gguf"));
    const std::vector<float> wanted = run_reference(*model);
    for (const DType type : {DType::kF16, DType::kQ8_0}) {
      if (type == DType::kQ8_0 && c.kv_rank) continue;  // the latent part alone is no multiple of 32
      SessionOptions o = roomy();
      o.cache_k = o.cache_v = type;
      const auto session = new_session(*model, o);
      const double error = nmse(run_tokens(*session, reference_tokens(), 16), wanted);
      CHECK(error > 0);
      CHECK(error < (type == DType::kF16 ? 1e-6 : 1e-3));
      const auto single = new_session(*model, o);
      CHECK(same_bits(run_tokens(*single, reference_tokens(), 1), run_tokens(*new_session(*model, o), reference_tokens(), 16)));
    }
  }
}

TEST_CASE("eval allocates nothing, with one token or many") {
  for (const std::string name : {"olmoe", "deepseek3", "gpt-oss"}) {
    const auto model = load_model(reference_path(name), {false, 2, ""});
    SessionOptions o = roomy(64, 2);
    o.observe_router = true;
    const auto session = new_session(*model, o);
    int seen = 0;
    session->set_observer([&](const RouterView& v) { seen += v.n_tokens; });
    const std::vector<BatchToken> many = batch_of(reference_tokens()), one = {{5, 1, true}};
    REQUIRE(session->eval(one).ok());
    const uint64_t before = allocation_count();
    bool ok = session->eval(many).ok();
    for (int i = 0; i < 20; ++i) ok = ok && session->eval(one).ok();
    const uint64_t after = allocation_count();
    CHECK(ok);
    CHECK(after == before);
    CHECK(seen > 0);
  }
}

// Latent attention has a longer chain: q_a, q_b, the latent query, the stored key, attention, the values' half and the output
// come before the three of the experts.
TEST_CASE("a decode step of two threads meets at most six barriers a layer, ten with latent attention") {
  for (const std::string name : reference_names())
    for (const bool exact : {true, false}) {
      CAPTURE(name);
      const auto model = load_model(reference_path(name), {exact, 2, ""});
      const auto session = new_session(*model);
      run_tokens(*session, reference_tokens().first(4), 4);
      const uint64_t before = session->stats().barriers;
      run_tokens(*session, reference_tokens().first(1), 1);
      const uint64_t barriers = session->stats().barriers - before;
      const int most = model->config().kv_rank > 0 ? 10 : 6;
      CHECK(barriers <= static_cast<uint64_t>(most * model->config().n_layer + 2));
    }
}

TEST_CASE("sessions of one model run in threads of their own") {
  const auto model = load_model(reference_path("mixtral"), {false, 2, ""});
  const std::vector<float> wanted = run_reference(*model);
  std::vector<std::vector<float>> found(3);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < found.size(); ++i)
    threads.emplace_back([&, i] {
      auto session = Session::create(*model, roomy());
      for (const Token t : reference_tokens()) {
        const BatchToken one{t, 0, true};
        if (!session.ok() || !(*session)->eval({&one, 1}).ok()) return;
        found[i].insert(found[i].end(), (*session)->logits().begin(), (*session)->logits().end());
      }
    });
  for (std::thread& t : threads) t.join();
  for (const auto& f : found) CHECK(same_bits(f, wanted));
}

TEST_CASE("logits that overflow are an error, and nothing is appended") {
  TempFolder folder;
  ModelFile file = read_model(reference_path("llama-bias"));
  for (float& x : file.tensor("output.weight").values) x *= 1e38f;
  const auto model = load_model(file.write(folder));
  const auto session = new_session(*model);
  const Status s = session->eval(batch_of(reference_tokens()));
  CHECK(s.code() == StatusCode::kCorrupt);
  CHECK(is_one_line(s));
  CHECK(session->length() == 0);
  CHECK(session->n_logits() == 0);
}

}  // namespace moe
