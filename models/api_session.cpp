// moe/moe.h, second half: sessions, routing while running, sampling and generation.
#include "models/api_support.h"
#include "models/generate.h"

using namespace moe;
using namespace moe::api;

namespace {

static_assert(MOE_STOP_LENGTH == static_cast<int>(StopReason::kLength) &&
              MOE_STOP_END == static_cast<int>(StopReason::kEndOfGeneration) &&
              MOE_STOP_STRING == static_cast<int>(StopReason::kStopString) &&
              MOE_STOP_CONTEXT == static_cast<int>(StopReason::kContextFull) &&
              MOE_STOP_CALLBACK == static_cast<int>(StopReason::kCallback));

// By moe_cache_type; none is MOE_CACHE_AUTO.
constexpr std::optional<DType> kCacheTypes[] = {std::nullopt, DType::kF32, DType::kF16, DType::kQ8_0};

Result<std::optional<DType>> cache_type(const char* name, int32_t type) {
  const auto i = static_cast<size_t>(type);
  if (i < std::size(kCacheTypes)) return kCacheTypes[i];
  return Status::InvalidArgument(std::string(name) + ": wanted a moe_cache_type, found " + std::to_string(type));
}

Result<SessionOptions> session_options(const moe_session_options& o) {
  SessionOptions options;
  options.n_ctx = o.n_ctx, options.n_seqs = o.n_seqs, options.max_batch = o.max_batch, options.max_outputs = o.max_outputs;
  MOE_ASSIGN(options.cache_k, cache_type("cache_k", o.cache_k));
  MOE_ASSIGN(options.cache_v, cache_type("cache_v", o.cache_v));
  options.observe_router = o.routing_stats != 0;
  return options;
}

Status check_seq(const moe_session& s, int32_t seq) {
  if (seq >= 0 && seq < s.session->options().n_seqs) return Status::Ok();
  return Status::InvalidArgument("sequence: wanted 0 to " + std::to_string(s.session->options().n_seqs - 1) + ", found " +
                                 std::to_string(seq));
}

Result<SamplerOptions> sampler_options(const moe_sampler_options* given) {
  MOE_ASSIGN(const moe_sampler_options o, options_or("moe_sampler_options", given, moe_sampler_options_init));
  if (!o.bias && o.n_bias > 0) return null_argument("moe_sampler_options.bias");
  SamplerOptions options;
  options.seed = o.seed, options.temperature = o.temperature, options.top_k = o.top_k, options.top_p = o.top_p;
  options.min_p = o.min_p, options.typical_p = o.typical_p, options.repeat_penalty = o.repeat_penalty;
  options.frequency_penalty = o.frequency_penalty, options.presence_penalty = o.presence_penalty;
  options.penalty_last_n = o.penalty_last_n;
  for (size_t i = 0; i < o.n_bias; ++i) options.logit_bias.emplace_back(o.bias[i].token, o.bias[i].bias);
  return options;
}

Result<GenerateOptions> generate_options(const moe_generate_options& o, size_t n_prompt) {
  if (!o.stop && o.n_stop > 0) return null_argument("moe_generate_options.stop");
  GenerateOptions options;
  options.n_predict = o.n_predict, options.seq = o.seq, options.ignore_eos = o.ignore_end != 0;
  options.render_special = o.show_special != 0;
  for (size_t i = 0; i < o.n_stop; ++i) {
    if (!o.stop[i]) return null_argument("moe_generate_options.stop[]");
    options.stop.emplace_back(o.stop[i]);
  }
  if (o.on_progress)
    options.on_progress = [progress = o.on_progress, user = o.progress_user, n_prompt](int done) {
      return progress(user, static_cast<size_t>(done), n_prompt) == 0;
    };
  return options;
}

// Adds the zero byte that C wants behind the text.
class TextCallback {
 public:
  TextCallback(moe_text_fn function, void* user) : function_(function), user_(user) { text_.reserve(kReserve); }
  bool operator()(Token token, std::string_view text) {
    if (!function_) return true;
    text_.assign(text);
    return function_(user_, text_.c_str(), text_.size(), token) == 0;
  }

 private:
  static constexpr size_t kReserve = 1024;  // tokens are shorter
  moe_text_fn function_;
  void* user_;
  std::string text_;
};

// Evaluates a token that the sequence is to go on from; afterwards row 0 follows it.
Status eval_last(moe_session& s, int seq, Token token) {
  const BatchToken last{token, seq, true};
  s.next_seq = -1;
  MOE_TRY(s.session->eval({&last, 1}));
  s.next_seq = seq;
  return Status::Ok();
}

// Row 0 of the logits may be another sequence's, or older than a restore: the last token is then evaluated once more.
Status resume(moe_session& s, int seq) {
  const int n = s.session->length(seq);
  if (n == 0) return Status::InvalidArgument("generate: the prompt is empty and so is sequence " + std::to_string(seq));
  if (s.next_seq == seq) return Status::Ok();
  const Token last = s.session->tokens(seq)[static_cast<size_t>(n) - 1];
  MOE_TRY(s.session->truncate(seq, n - 1));
  return eval_last(s, seq, last);
}

Status generate_from(moe_session& s, moe_sampler* given, std::span<const Token> prompt, const moe_generate_options& o,
                     TextCallback on_text, moe_generate_result& result) {
  MOE_TRY(check_seq(s, o.seq));
  MOE_ASSIGN(const GenerateOptions options, generate_options(o, prompt.size()));
  MOE_ASSIGN(Sampler fresh, Sampler::create({}, s.model->config().n_vocab));
  if (given && given->model->config().n_vocab != s.model->config().n_vocab)
    return Status::InvalidArgument("sampler: wanted one for " + std::to_string(s.model->config().n_vocab) + " tokens, found " +
                                   std::to_string(given->model->config().n_vocab));
  if (prompt.empty()) MOE_TRY(resume(s, o.seq));
  s.next_seq = -1;
  Token last = kNoToken;
  const auto on_token = [&](Token token, std::string_view text) {
    if (token != kNoToken) last = token;
    return on_text(token, text);
  };
  MOE_ASSIGN(const GenerateResult r, generate(*s.session, given ? given->sampler : fresh, prompt, options, on_token));
  // generate() leaves the last token it drew to its caller, unless an end token followed it.
  const bool is_held = r.n_decoded == r.n_generated;
  if (is_held)
    s.next_seq = o.seq;
  else if (s.session->length(o.seq) < s.session->options().n_ctx)
    MOE_TRY(eval_last(s, o.seq, last));
  result.reason = static_cast<moe_stop_reason>(r.reason);
  result.n_prompt = r.n_prompt, result.n_generated = r.n_generated;
  result.prompt_seconds = r.prompt_seconds, result.generate_seconds = r.generate_seconds;
  return Status::Ok();
}

// Both generate functions: `tokens` makes the prompt once the options are known.
template <class Tokens>
moe_status generate_with(moe_session* session, moe_sampler* sampler, const moe_generate_options* options, moe_text_fn on_text,
                         void* user, moe_generate_result* result, Tokens&& tokens) {
  return in_session(session, [&]() -> Status {
    MOE_ASSIGN(const moe_generate_options o, options_or("moe_generate_options", options, moe_generate_options_init));
    if (result) MOE_TRY(check_size("moe_generate_result", *result));
    MOE_TRY(check_seq(*session, o.seq));
    MOE_ASSIGN(const std::vector<Token> prompt, tokens(o));
    moe_generate_result r{};
    r.size = sizeof r;
    MOE_TRY(generate_from(*session, sampler, prompt, o, {on_text, user}, r));
    if (result) *result = r;
    return Status::Ok();
  });
}

// bos belongs at the beginning of a sequence only, and eos behind what is to be continued nowhere.
Result<std::vector<Token>> prompt_tokens(const moe_session& s, int32_t seq, std::string_view text) {
  MOE_ASSIGN(const Tokenizer* tokenizer, tokenizer_of(*s.model));
  MOE_ASSIGN(std::vector<Token> tokens, tokenizer->encode(text, {false, false}));
  if (tokenizer->add_bos() && s.session->length(seq) == 0) tokens.insert(tokens.begin(), tokenizer->bos());
  return tokens;
}

// set_topology() with an edit of the topology in use.
template <class Edit>
moe_status edit_topology(moe_session* session, Edit&& edit) {
  return in_session(session, [&]() -> Status {
    return session->session->set_topology(edit(session->session->topology(), session->model->routing_shape()));
  });
}

template <class F>
char* text_from_session(moe_session* session, F&& f) {
  char* text = nullptr;
  in_session(session, [&]() -> Status { return f(text); });
  return text;
}

Status require_stats(const moe_session& s) {
  return s.stats ? Status::Ok() : Status::InvalidArgument("moe_session_options.routing_stats: wanted 1, found 0");
}

}  // namespace

extern "C" {

// ---- sessions ----

void moe_session_options_init(moe_session_options* options, size_t size) {
  moe_session_options defaults{};
  defaults.n_seqs = 1, defaults.max_batch = 512, defaults.cache_k = defaults.cache_v = MOE_CACHE_AUTO;
  init_options(options, size, defaults);
}

moe_session* moe_session_create(moe_model* model, const moe_session_options* options, moe_error* error) {
  moe_session* handle = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    MOE_ASSIGN(const moe_session_options o, options_or("moe_session_options", options, moe_session_options_init));
    MOE_ASSIGN(const SessionOptions wanted, session_options(o));
    auto s = std::make_unique<moe_session>();
    s->model = model->model;
    MOE_ASSIGN(s->session, Session::create(*s->model, wanted));
    s->batch.reserve(static_cast<size_t>(s->session->options().max_batch));
    report(&s->error, StatusCode::kOk, "");
    if (o.routing_stats) {
      s->stats = std::make_unique<RoutingStats>(s->model->routing_shape());
      s->session->set_observer([stats = s->stats.get()](const RouterView& view) { stats->add(view); });
    }
    handle = s.release();
    return Status::Ok();
  });
  return handle;
}

void moe_session_free(moe_session* session) { delete session; }

const moe_error* moe_session_error(const moe_session* session) {
  static constexpr moe_error kNoSession = {MOE_ERROR_INVALID_ARGUMENT, "session: wanted an address, found NULL"};
  return session ? &session->error : &kNoSession;
}

moe_status moe_session_get_options(moe_session* session, moe_session_options* options) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(not_null({{"options", options}}));
    MOE_TRY(check_size("moe_session_options", *options));
    const SessionOptions& o = session->session->options();
    const auto type = [](std::optional<DType> t) {
      return static_cast<int32_t>(std::find(std::begin(kCacheTypes), std::end(kCacheTypes), t) - std::begin(kCacheTypes));
    };
    options->n_ctx = o.n_ctx, options->n_seqs = o.n_seqs, options->max_batch = o.max_batch,
    options->max_outputs = o.max_outputs;
    options->cache_k = type(o.cache_k), options->cache_v = type(o.cache_v), options->routing_stats = session->stats != nullptr;
    return Status::Ok();
  });
}

moe_status moe_session_eval(moe_session* session, const moe_batch_token* tokens, size_t n_tokens) {
  return in_session(session, [&]() -> Status {
    if (!tokens && n_tokens > 0) return null_argument("tokens");
    if (n_tokens > session->batch.capacity())
      return Status::OutOfRange("tokens: wanted at most " + std::to_string(session->batch.capacity()) + ", found " +
                                std::to_string(n_tokens));
    session->batch.clear();
    for (size_t i = 0; i < n_tokens; ++i) session->batch.push_back({tokens[i].token, tokens[i].seq, tokens[i].logits != 0});
    session->next_seq = -1;
    return session->session->eval(session->batch);
  });
}

moe_status moe_session_eval_sequence(moe_session* session, int32_t seq, const moe_token* tokens, size_t n_tokens) {
  return in_session(session, [&]() -> Status {
    if (!tokens && n_tokens > 0) return null_argument("tokens");
    if (n_tokens == 0) return Status::InvalidArgument("n_tokens: wanted at least 1, found 0");
    MOE_TRY(check_seq(*session, seq));
    session->next_seq = -1;
    MOE_TRY(session->session->eval_prompt({tokens, n_tokens}, seq));
    session->next_seq = seq;
    return Status::Ok();
  });
}

const float* moe_session_logits(const moe_session* session, size_t i) {
  if (!session || i >= static_cast<size_t>(session->session->n_logits())) return nullptr;
  return session->session->logits(static_cast<int>(i)).data();
}

const moe_token* moe_session_tokens(const moe_session* session, int32_t seq, size_t* n_tokens) {
  const bool is_there = session && seq >= 0 && seq < session->session->options().n_seqs;
  const std::span<const Token> tokens = is_there ? session->session->tokens(seq) : std::span<const Token>();
  if (n_tokens) *n_tokens = tokens.size();
  return tokens.data();
}

moe_status moe_session_truncate(moe_session* session, int32_t seq, size_t n_tokens) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(check_seq(*session, seq));
    const auto length = static_cast<size_t>(session->session->length(seq));
    if (n_tokens > length)
      return Status::OutOfRange("n_tokens: wanted at most " + std::to_string(length) + ", found " + std::to_string(n_tokens));
    if (n_tokens < length && session->next_seq == seq) session->next_seq = -1;
    return session->session->truncate(seq, static_cast<int>(n_tokens));
  });
}

moe_status moe_session_copy_sequence(moe_session* session, int32_t from, int32_t to) {
  return in_session(session, [&]() -> Status {
    if (session->next_seq == to && from != to) session->next_seq = -1;
    return session->session->copy_sequence(from, to);
  });
}

moe_status moe_session_save(moe_session* session, int32_t seq, const char* path) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(not_null({{"path", path}}));
    return session->session->save(seq, path);
  });
}

moe_status moe_session_restore(moe_session* session, int32_t seq, const char* path) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(not_null({{"path", path}}));
    if (session->next_seq == seq) session->next_seq = -1;
    return session->session->restore(seq, path);
  });
}

// ---- routing, while running ----

moe_status moe_session_set_topology(moe_session* session, const char* json, size_t n_bytes) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(not_null({{"json", json}}));
    MOE_ASSIGN(const std::string_view text, text_of("json", json, n_bytes));
    MOE_ASSIGN(const RoutingTopology topology, topology_from_json(text));
    return session->session->set_topology(topology);
  });
}

moe_status moe_session_load_topology(moe_session* session, const char* path) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(not_null({{"path", path}}));
    MOE_ASSIGN(const RoutingTopology topology, load_topology(path));
    return session->session->set_topology(topology).Annotate(path);
  });
}

moe_status moe_session_reset_topology(moe_session* session) {
  return edit_topology(session, [&](const RoutingTopology&, const RoutingShape&) { return session->model->topology(); });
}

char* moe_session_get_topology(moe_session* session) {
  return text_from_session(session, [&](char*& text) { return give(to_json(session->session->topology()), text); });
}

moe_status moe_session_set_experts(moe_session* session, int32_t k) {
  return edit_topology(session, [&](const RoutingTopology& t, const RoutingShape& shape) { return with_k(t, shape, k); });
}

moe_status moe_session_set_expert_threshold(moe_session* session, float threshold) {
  return edit_topology(session, [&](const RoutingTopology& t, const RoutingShape&) { return with_threshold(t, threshold); });
}

moe_status moe_session_set_expert_width(moe_session* session, double fraction) {
  return in_session(session, [&]() -> Status {
    if (!(fraction > 0 && fraction <= 1))
      return Status::InvalidArgument("fraction: wanted above 0, to 1, found " + std::to_string(fraction));
    return session->session->set_topology(with_width(session->session->topology(), session->model->routing_shape(), fraction));
  });
}

char* moe_session_get_stats(moe_session* session) {
  return text_from_session(session, [&](char*& text) -> Status {
    MOE_TRY(require_stats(*session));
    return give(session->stats->to_json(session->session->topology()), text);
  });
}

moe_status moe_session_reset_stats(moe_session* session) {
  return in_session(session, [&]() -> Status {
    MOE_TRY(require_stats(*session));
    session->stats->reset();
    return Status::Ok();
  });
}

// ---- sampling ----

void moe_sampler_options_init(moe_sampler_options* options, size_t size) {
  const SamplerOptions ours;
  moe_sampler_options o{};
  o.seed = ours.seed, o.temperature = ours.temperature, o.top_k = ours.top_k, o.top_p = ours.top_p, o.min_p = ours.min_p;
  o.typical_p = ours.typical_p, o.repeat_penalty = ours.repeat_penalty, o.frequency_penalty = ours.frequency_penalty;
  o.presence_penalty = ours.presence_penalty, o.penalty_last_n = ours.penalty_last_n;
  init_options(options, size, o);
}

moe_sampler* moe_sampler_create(moe_model* model, const moe_sampler_options* options, moe_error* error) {
  moe_sampler* handle = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    MOE_ASSIGN(const SamplerOptions o, sampler_options(options));
    MOE_ASSIGN(Sampler sampler, Sampler::create(o, model->model->config().n_vocab));
    handle = new moe_sampler{model->model, std::move(sampler)};
    return Status::Ok();
  });
  return handle;
}

void moe_sampler_free(moe_sampler* sampler) { delete sampler; }

moe_token moe_sampler_sample(moe_sampler* sampler, const float* logits) {
  moe_token token = MOE_TOKEN_NONE;
  if (!sampler || !logits) return token;
  const auto n = static_cast<size_t>(sampler->model->config().n_vocab);
  guarded(nullptr, [&] { return token = sampler->sampler.sample({logits, n}), Status::Ok(); });
  return token;
}

void moe_sampler_accept(moe_sampler* sampler, moe_token token) {
  if (sampler) guarded(nullptr, [&] { return sampler->sampler.accept(token), Status::Ok(); });
}

void moe_sampler_reset(moe_sampler* sampler) {
  if (sampler) guarded(nullptr, [&] { return sampler->sampler.reset(), Status::Ok(); });
}

// ---- generating ----

void moe_generate_options_init(moe_generate_options* options, size_t size) {
  moe_generate_options o{};
  o.n_predict = -1;
  init_options(options, size, o);
}

moe_status moe_session_generate(moe_session* session, moe_sampler* sampler, const moe_token* prompt, size_t n_prompt,
                                const moe_generate_options* options, moe_text_fn on_text, void* user,
                                moe_generate_result* result) {
  return generate_with(session, sampler, options, on_text, user, result,
                       [&](const moe_generate_options&) -> Result<std::vector<Token>> {
                         if (!prompt && n_prompt > 0) return null_argument("prompt");
                         return std::vector<Token>(prompt, prompt + n_prompt);
                       });
}

moe_status moe_session_generate_text(moe_session* session, moe_sampler* sampler, const char* prompt, size_t n_bytes,
                                     const moe_generate_options* options, moe_text_fn on_text, void* user,
                                     moe_generate_result* result) {
  return generate_with(session, sampler, options, on_text, user, result,
                       [&](const moe_generate_options& o) -> Result<std::vector<Token>> {
                         MOE_ASSIGN(const std::string_view text, text_of("prompt", prompt, n_bytes));
                         return prompt_tokens(*session, o.seq, text);
                       });
}

}  // extern "C"
