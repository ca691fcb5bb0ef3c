// The C API as a C program sees it: only moe/moe.h, but for making the model file.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/threads.h"
#include "models/synth.h"
#include "moe/moe.h"
#include "tests/temp_folder.h"

namespace {

using moe::test::TempFolder;

template <class T, void (*free)(T*)>
struct Free {
  void operator()(T* p) const { free(p); }
};
using Model = std::unique_ptr<moe_model, Free<moe_model, moe_model_free>>;
using Session = std::unique_ptr<moe_session, Free<moe_session, moe_session_free>>;
using Sampler = std::unique_ptr<moe_sampler, Free<moe_sampler, moe_sampler_free>>;

std::string take(char* text) {
  REQUIRE(text != nullptr);
  std::string s = text;
  moe_string_free(text);
  return s;
}

bool says(const moe_error& e, const char* part) { return std::strstr(e.message, part) != nullptr; }
bool says(const Session& s, const char* part) { return says(*moe_session_error(s.get()), part); }

// A small OLMoE of random weights with 256 bytes for a vocabulary.
std::string write_model(const TempFolder& folder, uint64_t seed = 1, bool with_tokenizer = true) {
  moe::SynthOptions o;
  o.arch = "olmoe", o.settings = {"n_layer=2", "n_ctx_train=256"}, o.seed = seed;
  auto plan = moe::plan_synth(o);
  REQUIRE(plan.ok());
  if (!with_tokenizer) plan->metadata.remove("tokenizer.ggml.model");
  moe::ThreadPool pool(1);
  const std::string path = folder / ("olmoe" + std::to_string(seed) + ".gguf");
  REQUIRE(moe::write_synth(*plan, pool, path, [](uint64_t, std::string_view) { return true; }).ok());
  return path;
}

Model load(const std::string& path, int threads = 1) {
  moe_model_options o;
  moe_model_options_init(&o, sizeof o);
  o.threads = threads;
  moe_error e;
  Model model(moe_model_load(path.c_str(), &o, &e));
  INFO(e.message);
  REQUIRE(model);
  CHECK(e.code == MOE_OK);
  return model;
}

moe_session_options session_options(int n_ctx = 64, int n_seqs = 1) {
  moe_session_options o;
  moe_session_options_init(&o, sizeof o);
  o.n_ctx = n_ctx, o.n_seqs = n_seqs;
  return o;
}

Session session_of(const Model& model, const moe_session_options& o = session_options()) {
  moe_error e;
  Session s(moe_session_create(model.get(), &o, &e));
  INFO(e.message);
  REQUIRE(s);
  return s;
}

Sampler sampler_of(const Model& model, uint64_t seed) {
  moe_sampler_options o;
  moe_sampler_options_init(&o, sizeof o);
  o.seed = seed;
  return Sampler(moe_sampler_create(model.get(), &o, nullptr));
}

const std::vector<moe_token> kPrompt = {10, 200, 33, 7, 99};

std::vector<float> logits_of(const Model& model, const Session& s) {
  moe_model_info info;
  info.size = sizeof info;
  REQUIRE(moe_model_get_info(model.get(), &info, nullptr) == MOE_OK);
  const float* row = moe_session_logits(s.get(), 0);
  REQUIRE(row != nullptr);
  return {row, row + info.n_vocab};
}

std::vector<float> eval_prompt(const Model& model, const Session& s) {
  REQUIRE(moe_session_truncate(s.get(), 0, 0) == MOE_OK);
  REQUIRE(moe_session_eval_sequence(s.get(), 0, kPrompt.data(), kPrompt.size()) == MOE_OK);
  return logits_of(model, s);
}

std::vector<moe_token> held(const Session& s, int seq = 0) {
  size_t n = 0;
  const moe_token* t = moe_session_tokens(s.get(), seq, &n);
  return {t, t + n};
}

struct Heard {
  std::vector<moe_token> tokens;
  std::string text;
  size_t stop_after = SIZE_MAX;
};

int hear(void* user, const char* text, size_t n_bytes, moe_token token) {
  auto* h = static_cast<Heard*>(user);
  CHECK(std::strlen(text) <= n_bytes);
  CHECK(text[n_bytes] == '\0');
  h->text.append(text, n_bytes);
  if (token != MOE_TOKEN_NONE) h->tokens.push_back(token);
  return h->tokens.size() >= h->stop_after;
}

moe_generate_options predict(int n) {
  moe_generate_options o;
  moe_generate_options_init(&o, sizeof o);
  o.n_predict = n, o.ignore_end = 1;
  return o;
}

Heard generate(const Session& s, moe_sampler* sampler, const std::vector<moe_token>& prompt, const moe_generate_options& o,
               moe_stop_reason reason = MOE_STOP_LENGTH, size_t stop_after = SIZE_MAX) {
  Heard h;
  h.stop_after = stop_after;
  moe_generate_result r;
  r.size = sizeof r;
  const moe_status status = moe_session_generate(s.get(), sampler, prompt.data(), prompt.size(), &o, hear, &h, &r);
  INFO(moe_session_error(s.get())->message);
  REQUIRE(status == MOE_OK);
  CHECK(r.reason == reason);
  CHECK(r.n_prompt == static_cast<int>(prompt.size()));
  CHECK(r.n_generated == static_cast<int>(h.tokens.size()));
  return h;
}

template <class T>
std::vector<T> joined(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_SUITE("c api") {
  TEST_CASE("a loaded model says what it is") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const Model model = load(path, 2);
    moe_model_info info;
    info.size = sizeof info;
    REQUIRE(moe_model_get_info(model.get(), &info, nullptr) == MOE_OK);
    CHECK(std::string(info.architecture) == "olmoe");
    CHECK(info.n_layers == 2);
    CHECK(info.n_moe_layers == 2);
    CHECK(info.n_experts == 16);
    CHECK(info.n_experts_used == 4);
    CHECK(info.n_ctx_train == 256);
    CHECK(info.threads == 2);
    CHECK(info.has_tokenizer == 1);
    CHECK(info.n_params > 1000000);
    CHECK(take(moe_model_get_key(model.get(), "general.architecture", nullptr)) == "olmoe");
    CHECK(take(moe_model_get_key(model.get(), "olmoe.block_count", nullptr)) == "2");
    moe_error e;
    CHECK(moe_model_get_key(model.get(), "no.such.key", &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
    CHECK(says(e, "no.such.key"));
  }

  TEST_CASE("the log says what was loaded, and warns where there is no tokenizer") {
    struct Line {
      moe_log_level level;
      std::string text;
    };
    std::vector<Line> lines;
    moe_model_options o;
    moe_model_options_init(&o, sizeof o);
    o.threads = 1;
    o.log_user = &lines;
    o.log = [](void* user, moe_log_level level, const char* message) {
      static_cast<std::vector<Line>*>(user)->push_back({level, message});
    };
    const TempFolder folder;
    const Model with(moe_model_load(write_model(folder).c_str(), &o, nullptr));
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].level == MOE_LOG_INFO);
    CHECK(lines[0].text.find("olmoe1.gguf") != std::string::npos);

    const Model without(moe_model_load(write_model(folder, 2, false).c_str(), &o, nullptr));
    REQUIRE(without);
    REQUIRE(lines.size() == 3);
    CHECK(lines[2].level == MOE_LOG_WARNING);
    CHECK(lines[2].text.find("tokenizer") != std::string::npos);
    moe_error e;
    size_t n = 0;
    CHECK(moe_model_tokenize(without.get(), "x", 1, 0, nullptr, 0, &n, &e) == MOE_ERROR_NOT_FOUND);
    CHECK(moe_model_find_token(without.get(), "x") == MOE_TOKEN_NONE);
    const Session s = session_of(without);
    CHECK(generate(s, nullptr, kPrompt, predict(2)).text.empty());
  }

  TEST_CASE("what cannot be loaded gives a null pointer and one error that names it") {
    const TempFolder folder;
    moe_error e;
    CHECK(moe_model_load((folder / "none.gguf").c_str(), nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
    CHECK(says(e, "none.gguf"));
    CHECK(moe_model_load(folder.write("text.gguf", "not a model").c_str(), nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_CORRUPT);
    CHECK(says(e, "text.gguf"));
    CHECK(moe_model_load(nullptr, nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(says(e, "path"));
    CHECK(moe_model_load("x", nullptr, nullptr) == nullptr);
  }

  TEST_CASE("options are checked before anything is done with them") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const auto refused = [&](auto&& change) {
      moe_model_options o;
      moe_model_options_init(&o, sizeof o);
      change(o);
      moe_error e;
      CHECK(moe_model_load(path.c_str(), &o, &e) == nullptr);
      return e;
    };
    CHECK(refused([](auto& o) { o.threads = -1; }).code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(refused([](auto& o) { o.threads = 1 << 30; }).code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(refused([](auto& o) { o.backend = "abacus"; }).code == MOE_ERROR_NOT_FOUND);
    CHECK(says(refused([](auto& o) { o.isa = "mmx"; }), "mmx"));
    CHECK(says(refused([](auto& o) { o.size = 3; }), "size"));

    const Model model = load(path);
    moe_session_options o = session_options();
    o.cache_k = 77;
    moe_error e;
    CHECK(moe_session_create(model.get(), &o, &e) == nullptr);
    CHECK(says(e, "cache_k"));
    o = session_options(-5);
    CHECK(moe_session_create(model.get(), &o, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("an _init function writes no further than the caller's struct") {
    unsigned char bytes[sizeof(moe_sampler_options) + 8];
    std::memset(bytes, 0xAB, sizeof bytes);
    moe_sampler_options_init(reinterpret_cast<moe_sampler_options*>(bytes), 16);
    for (size_t i = 16; i < sizeof bytes; ++i) CHECK(bytes[i] == 0xAB);
  }

  TEST_CASE("a message too long for moe_error is cut at a character") {
    std::string path;
    for (int i = 0; i < 2000; ++i) path += "ä";
    for (const char* more : {"", "x"}) {
      moe_error e;
      CHECK(moe_model_load((more + path).c_str(), nullptr, &e) == nullptr);
      const std::string message = e.message;
      CHECK(message.size() >= sizeof e.message - 2);
      CHECK(static_cast<unsigned char>(message.back()) == 0xA4);  // the second byte of ä
    }
  }

  TEST_CASE("text survives the way to tokens and back, and an array too short stays untouched") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const std::string text = "Grüße, 世界! \r\n";
    size_t n = 0;
    REQUIRE(moe_model_tokenize(model.get(), text.c_str(), MOE_UNTIL_ZERO, MOE_TEXT_BARE, nullptr, 0, &n, nullptr) == MOE_OK);
    CHECK(n > 0);
    std::vector<moe_token> tokens(n, -7);
    moe_error e;
    CHECK(moe_model_tokenize(model.get(), text.data(), text.size(), MOE_TEXT_BARE, tokens.data(), n - 1, &n, &e) ==
          MOE_ERROR_OUT_OF_RANGE);
    CHECK(tokens == std::vector<moe_token>(tokens.size(), -7));
    REQUIRE(moe_model_tokenize(model.get(), text.data(), text.size(), MOE_TEXT_BARE, tokens.data(), n, &n, &e) == MOE_OK);
    size_t n_bytes = 0;
    CHECK(take(moe_model_detokenize(model.get(), tokens.data(), n, 0, &n_bytes, nullptr)) == text);
    CHECK(n_bytes == text.size());
    std::string pieces;
    for (const moe_token t : tokens) {
      const char* piece = moe_model_token_piece(model.get(), t, 0, &n_bytes);
      pieces.append(piece, n_bytes);
    }
    CHECK(pieces == text);
    CHECK(moe_model_token_piece(model.get(), 1 << 30, 0, &n_bytes) != nullptr);
    CHECK(n_bytes == 0);
    const moe_token eos = moe_model_special_token(model.get(), MOE_SPECIAL_EOS);
    CHECK((eos == MOE_TOKEN_NONE || moe_model_is_end_token(model.get(), eos) == 1));
    CHECK(moe_model_is_end_token(model.get(), tokens[0]) == 0);
  }

  TEST_CASE("a conversation is written in the format asked for") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const moe_chat_message turns[] = {{"user", "Hi"}};
    CHECK(take(moe_model_format_chat(model.get(), "chatml", turns, 1, 1, nullptr)) ==
          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(std::string(moe_model_chat_stop(model.get(), "chatml", 0)) == "<|im_end|>");
    CHECK(moe_model_chat_stop(model.get(), "chatml", 99) == nullptr);
    moe_error e;
    CHECK(moe_model_format_chat(model.get(), "smoke-signals", turns, 1, 1, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
  }

  TEST_CASE("the lists of names end in null and hold what always is there") {
    const auto holds = [](const char* (*name)(size_t), const char* wanted) {
      bool found = false;
      for (size_t i = 0; name(i); ++i) found = found || std::string(name(i)) == wanted;
      return found;
    };
    CHECK(holds(moe_backend_name, "cpu"));
    CHECK(holds(moe_isa_name, "scalar"));
    CHECK(holds(moe_architecture_name, "deepseek2"));
    CHECK(holds(moe_chat_template_name, "chatml"));
    CHECK(std::string(moe_status_name(MOE_OK)) == "ok");
    CHECK(std::string(moe_status_name(99)) == "unknown status");
  }

  TEST_CASE("logits do not depend on the number of threads, bit for bit") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const Model one = load(path, 1), three = load(path, 3);
    const Session a = session_of(one), b = session_of(three);
    CHECK(eval_prompt(one, a) == eval_prompt(three, b));
  }

  TEST_CASE("sequences of one batch get their rows in batch order, and a copy goes on like its original") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    moe_session_options o = session_options(64, 2);
    o.max_outputs = 2;
    const Session s = session_of(model, o);
    eval_prompt(model, s);
    REQUIRE(moe_session_copy_sequence(s.get(), 0, 1) == MOE_OK);
    CHECK(held(s, 1) == kPrompt);
    const moe_batch_token same[] = {{5, 0, 1}, {5, 1, 1}};
    REQUIRE(moe_session_eval(s.get(), same, 2) == MOE_OK);
    const std::vector<float> first = logits_of(model, s);
    CHECK(std::memcmp(first.data(), moe_session_logits(s.get(), 1), first.size() * sizeof(float)) == 0);
    CHECK(moe_session_logits(s.get(), 2) == nullptr);
    const moe_batch_token other[] = {{6, 1, 1}, {7, 0, 0}};
    REQUIRE(moe_session_eval(s.get(), other, 2) == MOE_OK);
    CHECK(held(s, 1).back() == 6);
    CHECK(held(s, 0).back() == 7);
    CHECK(moe_session_logits(s.get(), 1) == nullptr);
  }

  TEST_CASE("a batch that cannot be evaluated changes nothing and says why") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model, session_options(8));
    eval_prompt(model, s);
    const moe_batch_token no_token[] = {{1 << 20, 0, 1}}, no_seq[] = {{1, 3, 1}};
    CHECK(moe_session_eval(s.get(), no_token, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), no_seq, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), nullptr, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), no_token, 0) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval_sequence(s.get(), 0, kPrompt.data(), kPrompt.size()) == MOE_ERROR_OUT_OF_RANGE);
    CHECK(says(s, "context"));
    CHECK(held(s) == kPrompt);
    CHECK(moe_session_truncate(s.get(), 0, 6) == MOE_ERROR_OUT_OF_RANGE);
    CHECK(moe_session_truncate(s.get(), 0, 2) == MOE_OK);
    CHECK(moe_session_error(s.get())->code == MOE_OK);
    CHECK(held(s).size() == 2);
  }

  TEST_CASE("handles may be freed in any order") {
    const TempFolder folder;
    Model model = load(write_model(folder));
    const Session s = session_of(model);
    const Sampler sampler = sampler_of(model, 3);
    model.reset();
    CHECK(generate(s, sampler.get(), kPrompt, predict(3)).tokens.size() == 3);
  }

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

}  // namespace
