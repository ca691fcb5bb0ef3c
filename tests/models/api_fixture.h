// What the tests of the C API share: handles that free themselves, a small model, calls that have to succeed.
#pragma once

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

namespace moe::test::api {

template <class T, void (*free)(T*)>
struct Free {
  void operator()(T* p) const { free(p); }
};
using Model = std::unique_ptr<moe_model, Free<moe_model, moe_model_free>>;
using Session = std::unique_ptr<moe_session, Free<moe_session, moe_session_free>>;
using Sampler = std::unique_ptr<moe_sampler, Free<moe_sampler, moe_sampler_free>>;

inline std::string take(char* text) {
  REQUIRE(text != nullptr);
  std::string s = text;
  moe_string_free(text);
  return s;
}

inline bool says(const moe_error& e, const char* part) { return std::strstr(e.message, part) != nullptr; }
inline bool says(const Session& s, const char* part) { return says(*moe_session_error(s.get()), part); }

// A small OLMoE of random weights with 256 bytes for a vocabulary.
inline std::string write_model(const TempFolder& folder, uint64_t seed = 1, bool with_tokenizer = true) {
  moe::SynthOptions o;
  o.arch = "olmoe", o.settings = {"n_layer=2", "n_ctx_train=256"}, o.seed = seed;
  auto plan = moe::plan_synth(o);
  REQUIRE(plan.ok());
  if (!with_tokenizer) plan->metadata.remove("tokenizer.ggml.model");
  moe::ThreadPool pool(1);
  std::string path = folder / ("olmoe" + std::to_string(seed) + ".gguf");
  REQUIRE(moe::write_synth(*plan, pool, path, [](uint64_t, std::string_view) { return true; }).ok());
  return path;
}

inline Model load(const std::string& path, int threads = 1) {
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

inline moe_session_options session_options(int n_ctx = 64, int n_seqs = 1) {
  moe_session_options o;
  moe_session_options_init(&o, sizeof o);
  o.n_ctx = n_ctx, o.n_seqs = n_seqs;
  return o;
}

inline Session session_of(const Model& model, const moe_session_options& o = session_options()) {
  moe_error e;
  Session s(moe_session_create(model.get(), &o, &e));
  INFO(e.message);
  REQUIRE(s);
  return s;
}

inline Sampler sampler_of(const Model& model, uint64_t seed) {
  moe_sampler_options o;
  moe_sampler_options_init(&o, sizeof o);
  o.seed = seed;
  return Sampler(moe_sampler_create(model.get(), &o, nullptr));
}

inline const std::vector<moe_token> kPrompt = {10, 200, 33, 7, 99};

inline std::vector<float> logits_of(const Model& model, const Session& s) {
  moe_model_info info;
  info.size = sizeof info;
  REQUIRE(moe_model_get_info(model.get(), &info, nullptr) == MOE_OK);
  const float* row = moe_session_logits(s.get(), 0);
  REQUIRE(row != nullptr);
  return {row, row + info.n_vocab};
}

inline std::vector<float> eval_prompt(const Model& model, const Session& s) {
  REQUIRE(moe_session_truncate(s.get(), 0, 0) == MOE_OK);
  REQUIRE(moe_session_eval_sequence(s.get(), 0, kPrompt.data(), kPrompt.size()) == MOE_OK);
  return logits_of(model, s);
}

inline std::vector<moe_token> held(const Session& s, int seq = 0) {
  size_t n = 0;
  const moe_token* t = moe_session_tokens(s.get(), seq, &n);
  return {t, t + n};
}

struct Heard {
  std::vector<moe_token> tokens;
  std::string text;
  size_t stop_after = SIZE_MAX;
};

inline int hear(void* user, const char* text, size_t n_bytes, moe_token token) {
  auto* h = static_cast<Heard*>(user);
  CHECK(std::strlen(text) <= n_bytes);
  CHECK(text[n_bytes] == '\0');
  h->text.append(text, n_bytes);
  if (token != MOE_TOKEN_NONE) h->tokens.push_back(token);
  return h->tokens.size() >= h->stop_after;
}

inline moe_generate_options predict(int n) {
  moe_generate_options o;
  moe_generate_options_init(&o, sizeof o);
  o.n_predict = n, o.ignore_end = 1;
  return o;
}

inline Heard generate(const Session& s, moe_sampler* sampler, const std::vector<moe_token>& prompt,
                      const moe_generate_options& o, moe_stop_reason reason = MOE_STOP_LENGTH, size_t stop_after = SIZE_MAX) {
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

}  // namespace moe::test::api
