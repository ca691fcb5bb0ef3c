// moe for C++17 and later: moe.h behind objects that free themselves, std::string and std::vector, and lambdas as callbacks.
// Header only; link as for moe.h, which is the manual: every call here is the one of that name there.
//
//   moe::Model model("olmoe.gguf");
//   moe::Session session(model);
//   session.set_experts(4);
//   std::string text = session.generate("Once upon a time");
//
// Failures throw moe::Error (a std::runtime_error with a code); nothing else is thrown but std::bad_alloc, and what your own
// callbacks throw: it passes through generate() to you. Threads: as the C objects. Objects move and do not copy; a moved-from
// one may only be destroyed or assigned to.
#ifndef MOE_MOE_HPP_
#define MOE_MOE_HPP_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/moe.h"

namespace moe {
// Inline, so that users write moe::Model; the library has names like these of its own, and the linker must not mix them up.
inline namespace v0 {

using Token = moe_token;

class Error : public std::runtime_error {
 public:
  explicit Error(const moe_error& e) : std::runtime_error(e.message), code_(e.code) {}
  moe_status code() const noexcept { return code_; }

 private:
  moe_status code_;
};

namespace detail {

inline void check(moe_status status, const moe_error& e) {
  if (status == MOE_ERROR_OUT_OF_MEMORY) throw std::bad_alloc();
  if (status != MOE_OK) throw Error(e);
}

template <class T>
T* check(T* made, const moe_error& e) {
  if (!made) check(e.code, e);
  return made;
}

inline std::string take(char* text, const moe_error& e) {
  const std::unique_ptr<char, void (*)(char*)> owner(check(text, e), moe_string_free);
  return owner.get();
}

template <class T, void (*free)(T*)>
struct Deleter {
  void operator()(T* p) const { free(p); }
};

template <class T, void (*init)(T*, size_t)>
T defaults() {
  T options;
  init(&options, sizeof options);
  return options;
}

inline std::vector<std::string> names(const char* (*name)(size_t)) {
  std::vector<std::string> all;
  for (size_t i = 0; name(i); ++i) all.emplace_back(name(i));
  return all;
}

}  // namespace detail

inline std::string version() { return moe_version_string(); }
inline std::vector<std::string> backends() { return detail::names(moe_backend_name); }
inline std::vector<std::string> isas() { return detail::names(moe_isa_name); }
inline std::vector<std::string> architectures() { return detail::names(moe_architecture_name); }
inline std::vector<std::string> chat_templates() { return detail::names(moe_chat_template_name); }

// Options structs with their defaults: auto o = moe::model_options(); o.threads = 4;
inline moe_model_options model_options() { return detail::defaults<moe_model_options, moe_model_options_init>(); }
inline moe_session_options session_options() { return detail::defaults<moe_session_options, moe_session_options_init>(); }
inline moe_sampler_options sampler_options() { return detail::defaults<moe_sampler_options, moe_sampler_options_init>(); }

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

class Model {
 public:
  explicit Model(const std::string& path, const moe_model_options& options = model_options()) {
    moe_error e;
    model_.reset(detail::check(moe_model_load(path.c_str(), &options, &e), e));
  }

  moe_model* get() const { return model_.get(); }

  moe_model_info info() const {
    moe_model_info info;
    info.size = sizeof info;
    moe_error e;
    detail::check(moe_model_get_info(get(), &info, &e), e);
    return info;
  }
  std::string key(const std::string& name) const {
    moe_error e;
    return detail::take(moe_model_get_key(get(), name.c_str(), &e), e);
  }
  std::string topology() const {
    moe_error e;
    return detail::take(moe_model_get_topology(get(), &e), e);
  }

  // flags: MOE_TEXT_BARE, MOE_TEXT_SPECIAL.
  std::vector<Token> tokenize(std::string_view text, unsigned flags = 0) const {
    moe_error e;
    size_t n = 0;
    std::vector<Token> tokens(text.size() + 2);  // a token is a byte at least; bos, eos
    moe_status s = moe_model_tokenize(get(), text.data(), text.size(), flags, tokens.data(), tokens.size(), &n, &e);
    if (s == MOE_ERROR_OUT_OF_RANGE && n > tokens.size()) {
      tokens.resize(n);
      s = moe_model_tokenize(get(), text.data(), text.size(), flags, tokens.data(), tokens.size(), &n, &e);
    }
    detail::check(s, e);
    tokens.resize(n);
    return tokens;
  }
  std::string detokenize(const std::vector<Token>& tokens, unsigned flags = 0) const {
    moe_error e;
    size_t n = 0;
    const std::unique_ptr<char, void (*)(char*)> text(
        detail::check(moe_model_detokenize(get(), tokens.data(), tokens.size(), flags, &n, &e), e), moe_string_free);
    return std::string(text.get(), n);
  }
  std::string_view piece(Token token, unsigned flags = 0) const {  // lives as long as the model
    size_t n = 0;
    const char* text = moe_model_token_piece(get(), token, flags, &n);
    return {text, n};
  }
  Token find_token(const std::string& text) const { return moe_model_find_token(get(), text.c_str()); }
  Token special_token(moe_special which) const { return moe_model_special_token(get(), which); }
  bool is_end_token(Token token) const { return moe_model_is_end_token(get(), token) != 0; }

  // chat_template "": the file's own. UNSTABLE, as in moe.h.
  std::string format_chat(const std::vector<ChatMessage>& messages, bool open_turn = true,
                          const std::string& chat_template = {}) const {
    std::vector<moe_chat_message> list;
    for (const ChatMessage& m : messages) list.push_back({m.role.c_str(), m.content.c_str()});
    const char* name = chat_template.empty() ? nullptr : chat_template.c_str();
    moe_error e;
    return detail::take(moe_model_format_chat(get(), name, list.data(), list.size(), open_turn, &e), e);
  }
  std::vector<std::string> chat_stops(const std::string& chat_template = {}) const {
    const char* name = chat_template.empty() ? nullptr : chat_template.c_str();
    std::vector<std::string> stops;
    for (size_t i = 0; const char* stop = moe_model_chat_stop(get(), name, i); ++i) stops.emplace_back(stop);
    return stops;
  }

 private:
  std::unique_ptr<moe_model, detail::Deleter<moe_model, moe_model_free>> model_;
};

class Sampler {
 public:
  explicit Sampler(const Model& model, const moe_sampler_options& options = sampler_options()) {
    moe_error e;
    sampler_.reset(detail::check(moe_sampler_create(model.get(), &options, &e), e));
  }
  moe_sampler* get() const { return sampler_.get(); }
  Token sample(const float* logits) { return moe_sampler_sample(get(), logits); }
  void accept(Token token) { moe_sampler_accept(get(), token); }
  void reset() { moe_sampler_reset(get()); }

 private:
  std::unique_ptr<moe_sampler, detail::Deleter<moe_sampler, moe_sampler_free>> sampler_;
};

struct GenerateOptions {
  int n_predict = -1;  // -1: until something else stops
  int seq = 0;
  std::vector<std::string> stop;
  bool ignore_end = false;
  bool show_special = false;
  Sampler* sampler = nullptr;                               // null: a new one with the default options
  std::function<bool(size_t done, size_t of)> on_progress;  // of the prompt; false cancels
};

// Whole characters, valid during the call. Returns false to stop. See moe_text_fn.
using TextFunction = std::function<bool(std::string_view text, Token token)>;

class Session {
 public:
  explicit Session(const Model& model, const moe_session_options& options = session_options()) {
    moe_error e;
    session_.reset(detail::check(moe_session_create(model.get(), &options, &e), e));
  }
  moe_session* get() const { return session_.get(); }
  moe_session_options options() const {
    moe_session_options o = session_options();
    check(moe_session_get_options(get(), &o));
    return o;
  }

  void eval(const std::vector<moe_batch_token>& batch) { check(moe_session_eval(get(), batch.data(), batch.size())); }
  void eval(const std::vector<Token>& tokens, int seq = 0) {
    check(moe_session_eval_sequence(get(), seq, tokens.data(), tokens.size()));
  }
  const float* logits(size_t row = 0) const { return moe_session_logits(get(), row); }
  std::vector<Token> tokens(int seq = 0) const {
    size_t n = 0;
    const Token* begin = moe_session_tokens(get(), seq, &n);
    return {begin, begin + n};
  }
  void truncate(size_t n_tokens, int seq = 0) { check(moe_session_truncate(get(), seq, n_tokens)); }
  void copy_sequence(int from, int to) { check(moe_session_copy_sequence(get(), from, to)); }
  void save(const std::string& path, int seq = 0) { check(moe_session_save(get(), seq, path.c_str())); }
  void restore(const std::string& path, int seq = 0) { check(moe_session_restore(get(), seq, path.c_str())); }

  void set_topology(std::string_view json) { check(moe_session_set_topology(get(), json.data(), json.size())); }
  void load_topology(const std::string& path) { check(moe_session_load_topology(get(), path.c_str())); }
  void reset_topology() { check(moe_session_reset_topology(get())); }
  std::string topology() { return take(moe_session_get_topology(get())); }
  void set_experts(int k) { check(moe_session_set_experts(get(), k)); }
  void set_expert_threshold(float threshold) { check(moe_session_set_expert_threshold(get(), threshold)); }
  void set_expert_width(double fraction) { check(moe_session_set_expert_width(get(), fraction)); }
  std::string stats() { return take(moe_session_get_stats(get())); }
  void reset_stats() { check(moe_session_reset_stats(get())); }

  // Streams into on_text.
  moe_generate_result generate(std::string_view prompt, const GenerateOptions& options, TextFunction on_text) {
    return run(options, std::move(on_text), [&](auto* sampler, auto* o, auto* on, void* user, auto* result) {
      return moe_session_generate_text(get(), sampler, prompt.data(), prompt.size(), o, on, user, result);
    });
  }
  moe_generate_result generate(const std::vector<Token>& prompt, const GenerateOptions& options, TextFunction on_text) {
    return run(options, std::move(on_text), [&](auto* sampler, auto* o, auto* on, void* user, auto* result) {
      return moe_session_generate(get(), sampler, prompt.data(), prompt.size(), o, on, user, result);
    });
  }
  // Returns all of the text.
  template <class Prompt>
  std::string generate(const Prompt& prompt, const GenerateOptions& options = {}) {
    std::string all;
    generate(prompt, options, [&](std::string_view text, Token) { return all += text, true; });
    return all;
  }

 private:
  // What C's callbacks see as `user`. An exception waits here until the C code has returned.
  struct Calls {
    TextFunction on_text;
    const GenerateOptions* options;
    std::exception_ptr thrown;

    template <class F>
    int guarded(F&& f) {
      try {
        return f() ? 0 : 1;
      } catch (...) {
        if (!thrown) thrown = std::current_exception();
        return 1;
      }
    }
    static int text(void* user, const char* text, size_t n, Token token) {
      auto* c = static_cast<Calls*>(user);
      return c->guarded([&] { return !c->on_text || c->on_text({text, n}, token); });
    }
    static int progress(void* user, size_t done, size_t of) {
      auto* c = static_cast<Calls*>(user);
      return c->guarded([&] { return c->options->on_progress(done, of); });
    }
  };

  template <class Call>
  moe_generate_result run(const GenerateOptions& options, TextFunction on_text, Call&& call) {
    Calls calls{std::move(on_text), &options, nullptr};
    std::vector<const char*> stop;
    for (const std::string& s : options.stop) stop.push_back(s.c_str());
    auto o = detail::defaults<moe_generate_options, moe_generate_options_init>();
    o.n_predict = options.n_predict, o.seq = options.seq, o.stop = stop.data(), o.n_stop = stop.size();
    o.ignore_end = options.ignore_end, o.show_special = options.show_special;
    if (options.on_progress) o.on_progress = Calls::progress, o.progress_user = &calls;
    moe_generate_result result;
    result.size = sizeof result;
    moe_sampler* sampler = options.sampler ? options.sampler->get() : nullptr;
    const moe_status status = call(sampler, &o, Calls::text, static_cast<void*>(&calls), &result);
    if (calls.thrown) std::rethrow_exception(calls.thrown);
    check(status);
    return result;
  }

  void check(moe_status status) const { detail::check(status, *moe_session_error(get())); }
  std::string take(char* text) const { return detail::take(text, *moe_session_error(get())); }

  std::unique_ptr<moe_session, detail::Deleter<moe_session, moe_session_free>> session_;
};

}  // namespace v0
}  // namespace moe

#endif  // MOE_MOE_HPP_
