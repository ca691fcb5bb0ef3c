// The C API as a C program sees it: generation, routing while running, statistics, sessions in files, samplers.
#include "tests/models/api_fixture.h"

using namespace moe::test::api;
using moe::test::TempFolder;

TEST_SUITE("c api") {
  TEST_CASE("generation cut in two goes on as if it had not been, also in another session") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session whole = session_of(model), parts = session_of(model), restored = session_of(model);
    const Sampler a = sampler_of(model, 42), b = sampler_of(model, 42);
    const Heard all = generate(whole, a.get(), kPrompt, predict(9));
    CHECK(held(whole) == joined(kPrompt, all.tokens));

    const Heard first = generate(parts, b.get(), kPrompt, predict(3));
    const Heard second = generate(parts, b.get(), {}, predict(-1), MOE_STOP_CALLBACK, 3);
    CHECK(held(parts) == joined(joined(kPrompt, first.tokens), second.tokens));
    REQUIRE(moe_session_save(parts.get(), 0, (folder / "s").c_str()) == MOE_OK);
    REQUIRE(moe_session_restore(restored.get(), 0, (folder / "s").c_str()) == MOE_OK);
    const Heard third = generate(restored, b.get(), {}, predict(3));
    CHECK(joined(joined(first.tokens, second.tokens), third.tokens) == all.tokens);
  }

  TEST_CASE("an empty prompt goes on from its own sequence, whichever was evaluated last") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session alone = session_of(model), mixed = session_of(model, session_options(64, 2));
    moe_sampler_options greedy;
    moe_sampler_options_init(&greedy, sizeof greedy);
    greedy.temperature = 0;
    const Sampler sampler(moe_sampler_create(model.get(), &greedy, nullptr));
    const Heard wanted = generate(alone, sampler.get(), kPrompt, predict(4));
    eval_prompt(model, mixed);
    const moe_token other[] = {1, 2, 3};
    REQUIRE(moe_session_eval_sequence(mixed.get(), 1, other, 3) == MOE_OK);
    CHECK(generate(mixed, sampler.get(), {}, predict(4)).tokens == wanted.tokens);
    CHECK(held(mixed) == held(alone));

    REQUIRE(moe_session_truncate(mixed.get(), 0, 0) == MOE_OK);
    CHECK(moe_session_generate(mixed.get(), nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr) ==
          MOE_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("a stop string ends the generation and is not given out") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model);
    const Sampler sampler = sampler_of(model, 5);
    const std::string text = generate(s, sampler.get(), kPrompt, predict(40)).text;
    REQUIRE(text.size() > 8);
    size_t begin = text.size() / 2;
    while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
    size_t end = begin + 2;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    const std::string stop = text.substr(begin, end - begin);
    const char* stops[] = {stop.c_str()};
    moe_generate_options o = predict(40);
    o.stop = stops, o.n_stop = 1;
    moe_sampler_reset(sampler.get());
    REQUIRE(moe_session_truncate(s.get(), 0, 0) == MOE_OK);
    CHECK(generate(s, sampler.get(), kPrompt, o, MOE_STOP_STRING).text == text.substr(0, text.find(stop)));
    stops[0] = "";
    CHECK(moe_session_generate(s.get(), nullptr, kPrompt.data(), 1, &o, nullptr, nullptr, nullptr) ==
          MOE_ERROR_INVALID_ARGUMENT);
    stops[0] = nullptr;
    CHECK(moe_session_generate(s.get(), nullptr, kPrompt.data(), 1, &o, nullptr, nullptr, nullptr) ==
          MOE_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("generation ends where the context does") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model, session_options(8));
    const Heard h = generate(s, nullptr, kPrompt, predict(-1), MOE_STOP_CONTEXT);
    CHECK(h.tokens.size() == 4);  // three that the context holds, and the last one, which it has no room for
    CHECK(held(s).size() == 8);
  }

  TEST_CASE("a prompt can be cancelled, and an exception in a callback goes no further") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    moe_session_options small = session_options();
    small.max_batch = 2;
    const Session s = session_of(model, small);
    moe_generate_options o = predict(4);
    size_t calls = 0;
    o.progress_user = &calls;
    o.on_progress = [](void* user, size_t done, size_t of) {
      CHECK(of == kPrompt.size());
      CHECK(done == 2);
      return static_cast<int>(++*static_cast<size_t*>(user));
    };
    CHECK(moe_session_generate(s.get(), nullptr, kPrompt.data(), kPrompt.size(), &o, hear, nullptr, nullptr) ==
          MOE_ERROR_CANCELLED);
    CHECK(calls == 1);
    CHECK(held(s).size() == 2);

    o.on_progress = nullptr;
    const auto throwing = [](void*, const char*, size_t, moe_token) -> int { throw 7; };
    CHECK(moe_session_generate(s.get(), nullptr, kPrompt.data(), kPrompt.size(), &o, throwing, nullptr, nullptr) ==
          MOE_ERROR_INTERNAL);
    CHECK(generate(s, nullptr, {}, predict(2)).tokens.size() == 2);
  }

  TEST_CASE("text generates like its tokens, with bos only where a sequence begins") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model);
    const moe_generate_options o = predict(1);
    REQUIRE(moe_session_generate_text(s.get(), nullptr, "ab", MOE_UNTIL_ZERO, &o, nullptr, nullptr, nullptr) == MOE_OK);
    size_t n = 0;
    moe_token tokens[8];
    REQUIRE(moe_model_tokenize(model.get(), "ab", 2, MOE_TEXT_BARE, tokens, 8, &n, nullptr) == MOE_OK);
    const moe_token bos = moe_model_special_token(model.get(), MOE_SPECIAL_BOS);
    std::vector<moe_token> bare(tokens, tokens + n), begun = held(s);
    begun.pop_back();
    if (begun.front() == bos) begun.erase(begun.begin());
    CHECK(begun == bare);
    const size_t before = held(s).size();
    REQUIRE(moe_session_generate_text(s.get(), nullptr, "ab", 2, &o, nullptr, nullptr, nullptr) == MOE_OK);
    CHECK(held(s).size() == before + n + 1);
  }

  TEST_CASE("routing changes at the next token and back, without a reload") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model);
    const std::vector<float> full = eval_prompt(model, s);
    const std::string trained = take(moe_model_get_topology(model.get(), nullptr));
    CHECK(take(moe_session_get_topology(s.get())) == trained);

    REQUIRE(moe_session_set_experts(s.get(), 1) == MOE_OK);
    CHECK(take(moe_session_get_topology(s.get())).find("\"k_max\": 1") != std::string::npos);
    CHECK(eval_prompt(model, s) != full);
    REQUIRE(moe_session_set_experts(s.get(), 16) == MOE_OK);  // more than the graph was compiled for
    CHECK(eval_prompt(model, s) != full);
    REQUIRE(moe_session_reset_topology(s.get()) == MOE_OK);
    CHECK(eval_prompt(model, s) == full);

    REQUIRE(moe_session_set_expert_width(s.get(), 0.5) == MOE_OK);
    CHECK(eval_prompt(model, s) != full);
    REQUIRE(moe_session_set_expert_threshold(s.get(), 0.9f) == MOE_OK);
    CHECK(take(moe_session_get_topology(s.get())).find("\"width\"") != std::string::npos);  // edits add up
    REQUIRE(moe_session_set_topology(s.get(), trained.c_str(), MOE_UNTIL_ZERO) == MOE_OK);
    CHECK(eval_prompt(model, s) == full);
    REQUIRE(moe_session_set_expert_width(s.get(), 0.5) == MOE_OK);
    REQUIRE(moe_session_load_topology(s.get(), folder.write("t.json", trained).c_str()) == MOE_OK);
    CHECK(eval_prompt(model, s) == full);
  }

  TEST_CASE("a topology that does not fit is refused and leaves the one in use") {
    const TempFolder folder;
    const Model model = load(write_model(folder)), other = load(write_model(folder, 2));
    const Session s = session_of(model);
    REQUIRE(moe_session_set_experts(s.get(), 2) == MOE_OK);
    const std::string before = take(moe_session_get_topology(s.get()));
    CHECK(moe_session_set_topology(s.get(), "{", 1) == MOE_ERROR_CORRUPT);
    const std::string others = take(moe_model_get_topology(other.get(), nullptr));
    CHECK(moe_session_set_topology(s.get(), others.data(), others.size()) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(says(s, "model_hash"));
    CHECK(moe_session_load_topology(s.get(), (folder / "none.json").c_str()) == MOE_ERROR_NOT_FOUND);
    CHECK(says(s, "none.json"));
    CHECK(moe_session_set_experts(s.get(), 17) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_set_experts(s.get(), 0) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_set_expert_threshold(s.get(), 1.5f) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_set_expert_threshold(s.get(), NAN) == MOE_ERROR_INVALID_ARGUMENT);
    for (const double f : {0.0, -1.0, 1.01, double(NAN)})
      CHECK(moe_session_set_expert_width(s.get(), f) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(take(moe_session_get_topology(s.get())) == before);
  }

  TEST_CASE("stats count the tokens since the last reset, where they were asked for") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    moe_session_options o = session_options();
    o.routing_stats = 1;
    const Session s = session_of(model, o), plain = session_of(model);
    eval_prompt(model, s);
    CHECK(take(moe_session_get_stats(s.get())).find("\"tokens\": 5") != std::string::npos);
    REQUIRE(moe_session_reset_stats(s.get()) == MOE_OK);
    CHECK(take(moe_session_get_stats(s.get())).find("\"tokens\": 0") != std::string::npos);
    CHECK(moe_session_get_stats(plain.get()) == nullptr);
    CHECK(moe_session_error(plain.get())->code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_reset_stats(plain.get()) == MOE_ERROR_INVALID_ARGUMENT);
    moe_session_options filled = session_options();
    REQUIRE(moe_session_get_options(s.get(), &filled) == MOE_OK);
    CHECK(filled.routing_stats == 1);
    CHECK(filled.n_ctx == 64);
    CHECK(filled.cache_k == MOE_CACHE_F32);  // a float32 model
  }

  TEST_CASE("a session file of another model is refused") {
    const TempFolder folder;
    const Model model = load(write_model(folder)), other = load(write_model(folder, 2));
    const Session s = session_of(model), o = session_of(other);
    eval_prompt(model, s);
    REQUIRE(moe_session_save(s.get(), 0, (folder / "s").c_str()) == MOE_OK);
    CHECK(moe_session_restore(o.get(), 0, (folder / "s").c_str()) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_restore(s.get(), 0, (folder / "none").c_str()) == MOE_ERROR_NOT_FOUND);
    CHECK(moe_session_restore(s.get(), 1, (folder / "s").c_str()) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(held(s) == kPrompt);
  }

  TEST_CASE("a sampler bans what its bias bans, and an option out of range is named") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model);
    const std::vector<float> logits = eval_prompt(model, s);
    moe_sampler_options o;
    moe_sampler_options_init(&o, sizeof o);
    o.temperature = 0;
    const Sampler plain(moe_sampler_create(model.get(), &o, nullptr));
    const moe_token best = moe_sampler_sample(plain.get(), logits.data());
    const moe_logit_bias ban = {best, -INFINITY};
    o.bias = &ban, o.n_bias = 1;
    const Sampler banned(moe_sampler_create(model.get(), &o, nullptr));
    CHECK(moe_sampler_sample(banned.get(), logits.data()) != best);
    CHECK(moe_sampler_sample(banned.get(), nullptr) == MOE_TOKEN_NONE);
    moe_error e;
    o.top_p = -1;
    CHECK(moe_sampler_create(model.get(), &o, &e) == nullptr);
    CHECK(says(e, "top_p"));
  }

  TEST_CASE("null objects are an error, never a crash") {
    moe_model_free(nullptr), moe_session_free(nullptr), moe_sampler_free(nullptr), moe_string_free(nullptr);
    moe_error e;
    CHECK(moe_session_create(nullptr, nullptr, &e) == nullptr);
    CHECK(says(e, "model"));
    CHECK(moe_sampler_create(nullptr, nullptr, nullptr) == nullptr);
    CHECK(moe_model_get_info(nullptr, nullptr, nullptr) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_model_get_topology(nullptr, nullptr) == nullptr);
    CHECK(moe_model_find_token(nullptr, "a") == MOE_TOKEN_NONE);
    CHECK(moe_model_is_end_token(nullptr, 0) == 0);
    CHECK(moe_session_error(nullptr)->code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_logits(nullptr, 0) == nullptr);
    CHECK(moe_session_tokens(nullptr, 0, nullptr) == nullptr);
    CHECK(moe_session_eval(nullptr, nullptr, 0) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_set_experts(nullptr, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_get_topology(nullptr) == nullptr);
    CHECK(moe_session_generate(nullptr, nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_sampler_sample(nullptr, nullptr) == MOE_TOKEN_NONE);
    moe_sampler_accept(nullptr, 0), moe_sampler_reset(nullptr);
  }
}
