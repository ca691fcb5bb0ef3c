// moe/moe.h, first half: the library, models, text and tokens. api_session.cpp has sessions, routing and generation.
#include <cstdio>

#include "backends/backend_registry.h"
#include "core/isa.h"
#include "models/api_support.h"
#include "models/tokenizer/chat_template.h"

using namespace moe;
using namespace moe::api;

namespace moe::api {

Result<const Tokenizer*> tokenizer_of(const Model& model) {
  if (model.tokenizer()) return model.tokenizer();
  return model.tokenizer_status();
}

}  // namespace moe::api

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kArrayTextWidth = 500;  // characters

#define MOE_SAME(c, cpp) static_assert(static_cast<int>(c) == static_cast<int>(StatusCode::cpp))
MOE_SAME(MOE_OK, kOk);
MOE_SAME(MOE_ERROR_INVALID_ARGUMENT, kInvalidArgument);
MOE_SAME(MOE_ERROR_NOT_FOUND, kNotFound);
MOE_SAME(MOE_ERROR_IO, kIo);
MOE_SAME(MOE_ERROR_CORRUPT, kCorrupt);
MOE_SAME(MOE_ERROR_UNSUPPORTED, kUnsupported);
MOE_SAME(MOE_ERROR_OUT_OF_MEMORY, kOutOfMemory);
MOE_SAME(MOE_ERROR_OUT_OF_RANGE, kOutOfRange);
MOE_SAME(MOE_ERROR_CANCELLED, kCancelled);
MOE_SAME(MOE_ERROR_INTERNAL, kInternal);
#undef MOE_SAME
static_assert(MOE_TOKEN_NONE == kNoToken && sizeof(moe_token) == sizeof(Token));

LogSink log_sink(moe_log_fn log, void* user) {
  if (!log) return {};
  return [log, user](LogLevel level, std::string_view message) {
    log(user, static_cast<moe_log_level>(level), std::string(message).c_str());
  };
}

Result<ModelOptions> model_options(const moe_model_options* given) {
  MOE_ASSIGN(const moe_model_options o, options_or("moe_model_options", given, moe_model_options_init));
  if (o.threads < 0 || o.threads > kMaxThreads)
    return Status::InvalidArgument("threads: wanted 0 to " + std::to_string(kMaxThreads) + ", found " +
                                   std::to_string(o.threads));
  ModelOptions options;
  if (o.backend) options.backend = o.backend;
  if (o.isa) options.backend_options.isa = o.isa;
  options.backend_options.n_threads = o.threads;
  options.backend_options.exact = o.exact != 0;
  options.backend_options.log = log_sink(o.log, o.log_user);
  return options;
}

moe_model_info describe(const Model& m) {
  const BackendInfo& backend = m.backend().info();
  moe_model_info info{};
  info.size = sizeof info;
  info.architecture = m.config().arch.c_str(), info.name = m.config().name.c_str();
  info.device = backend.description.c_str(), info.isa = backend.isa.c_str(), info.threads = backend.n_threads;
  info.n_vocab = m.config().n_vocab, info.n_ctx_train = m.config().n_ctx_train;
  info.n_layers = m.config().n_layer, info.d_model = m.config().d_model;
  for (const RoutingShape::Layer& layer : m.routing_shape().layers) {
    info.n_moe_layers += layer.n_experts > 0;
    info.n_experts = std::max(info.n_experts, layer.n_experts);
    info.n_experts_used = std::max(info.n_experts_used, layer.k);
  }
  for (const TensorInfo& t : m.file().tensors()) {
    int64_t n = 1;
    for (const int64_t d : t.shape) n *= d;
    info.n_params += n;
  }
  info.file_bytes = m.file().file_bytes(), info.hash = m.hash();
  info.has_tokenizer = m.tokenizer() != nullptr, info.load_seconds = m.load_seconds();
  return info;
}

void log_loaded(const LogSink& log, const Model& m) {
  if (!log) return;
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.3f", m.load_seconds());
  log(LogLevel::kInfo, m.file().name() + ": " + m.config().arch + " of " + std::to_string(m.file().file_bytes()) +
                           " bytes loaded in " + seconds + " s; " + m.backend().info().description);
  if (!m.tokenizer()) log(LogLevel::kWarning, m.tokenizer_status().message() + "; the model runs on token ids");
}

Result<ChatTemplate> chat_template_of(const Model& model, const char* name) {
  if (name) return parse_chat_template_name(name);
  MOE_ASSIGN(const Tokenizer* tokenizer, tokenizer_of(model));
  return detect_chat_template(tokenizer->chat_template());
}

}  // namespace

extern "C" {

// ---- the library ----

const char* moe_status_name(int status) {
  static constexpr const char* kNames[] = {"ok",           "invalid argument", "not found",     "input/output error",
                                           "corrupt data", "unsupported",      "out of memory", "out of range",
                                           "cancelled",    "internal error"};
  const auto i = static_cast<size_t>(status);
  return i < std::size(kNames) ? kNames[i] : "unknown status";
}

#define MOE_QUOTE_(x) #x
#define MOE_QUOTE(x) MOE_QUOTE_(x)
const char* moe_version_string(void) {
  return MOE_QUOTE(MOE_VERSION_MAJOR) "." MOE_QUOTE(MOE_VERSION_MINOR) "." MOE_QUOTE(MOE_VERSION_PATCH);
}

const char* moe_backend_name(size_t i) { return i < all_backends().size() ? all_backends()[i].name : nullptr; }

const char* moe_isa_name(size_t i) {
  const char* name = nullptr;
  guarded(nullptr, [&] {
    const std::vector<Isa> isas = supported_isas(detect_cpu());
    if (i < isas.size()) name = isa_name(isas[i]);
    return Status::Ok();
  });
  return name;
}

const char* moe_architecture_name(size_t i) {
  const char* name = nullptr;
  guarded(nullptr, [&] {
    if (i < all_archs().size()) name = all_archs()[i].name;
    return Status::Ok();
  });
  return name;
}

// Views of literals, zero-terminated; so are the stop strings.
const char* moe_chat_template_name(size_t i) {
  const auto names = chat_template_names();
  return i < names.size() ? names[i].data() : nullptr;
}

void moe_string_free(char* text) { std::free(text); }

// ---- models ----

void moe_model_options_init(moe_model_options* options, size_t size) { init_options(options, size, moe_model_options{}); }

moe_model* moe_model_load(const char* path, const moe_model_options* options, moe_error* error) {
  moe_model* handle = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"path", path}}));
    MOE_ASSIGN(const ModelOptions o, model_options(options));
    MOE_ASSIGN(std::unique_ptr<Model> model, Model::load(path, o));
    log_loaded(o.backend_options.log, *model);
    handle = new moe_model{std::move(model)};
    return Status::Ok();
  });
  return handle;
}

void moe_model_free(moe_model* model) { delete model; }

moe_status moe_model_get_info(const moe_model* model, moe_model_info* info, moe_error* error) {
  return guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}, {"info", info}}));
    MOE_TRY(check_size("moe_model_info", *info));
    *info = describe(*model->model);
    return Status::Ok();
  });
}

char* moe_model_get_key(const moe_model* model, const char* key, moe_error* error) {
  char* text = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}, {"key", key}}));
    const MetadataEntry* entry = model->model->metadata().find(key);
    if (!entry) return Status::NotFound(model->model->file().name() + ": key '" + key + "' is missing");
    return give(entry->type == GgufType::kString ? entry->body : value_text(*entry, kArrayTextWidth), text);
  });
  return text;
}

char* moe_model_get_topology(const moe_model* model, moe_error* error) {
  char* text = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    return give(to_json(model->model->topology()), text);
  });
  return text;
}

// ---- text and tokens ----

moe_status moe_model_tokenize(const moe_model* model, const char* text, size_t n_bytes, unsigned flags, moe_token* tokens,
                              size_t capacity, size_t* n_tokens, moe_error* error) {
  return guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}, {"n_tokens", n_tokens}}));
    if (!tokens && capacity > 0) return null_argument("tokens");
    MOE_ASSIGN(const std::string_view input, text_of("text", text, n_bytes));
    MOE_ASSIGN(const Tokenizer* tokenizer, tokenizer_of(*model->model));
    MOE_ASSIGN(const std::vector<Token> found,
               tokenizer->encode(input, {(flags & MOE_TEXT_BARE) == 0, (flags & MOE_TEXT_SPECIAL) != 0}));
    *n_tokens = found.size();
    if (!tokens) return Status::Ok();
    if (found.size() > capacity)
      return Status::OutOfRange("tokens: wanted room for " + std::to_string(found.size()) + ", found " +
                                std::to_string(capacity));
    std::copy(found.begin(), found.end(), tokens);
    return Status::Ok();
  });
}

char* moe_model_detokenize(const moe_model* model, const moe_token* tokens, size_t n_tokens, unsigned flags, size_t* n_bytes,
                           moe_error* error) {
  char* text = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    if (!tokens && n_tokens > 0) return null_argument("tokens");
    MOE_ASSIGN(const Tokenizer* tokenizer, tokenizer_of(*model->model));
    const std::string bytes = tokenizer->decode({tokens, n_tokens}, (flags & MOE_TEXT_SPECIAL) != 0);
    if (n_bytes) *n_bytes = bytes.size();
    return give(bytes, text);
  });
  return text;
}

const char* moe_model_token_piece(const moe_model* model, moe_token token, unsigned flags, size_t* n_bytes) {
  if (!model || !n_bytes) return nullptr;
  const char* begin = "";
  *n_bytes = 0;
  guarded(nullptr, [&]() -> Status {
    MOE_ASSIGN(const Tokenizer* tokenizer, tokenizer_of(*model->model));
    const std::string_view piece = tokenizer->piece(token, (flags & MOE_TEXT_SPECIAL) != 0);
    if (!piece.empty()) begin = piece.data(), *n_bytes = piece.size();
    return Status::Ok();
  });
  return begin;
}

moe_token moe_model_find_token(const moe_model* model, const char* text) {
  moe_token token = MOE_TOKEN_NONE;
  if (!model || !text || !model->model->tokenizer()) return token;
  guarded(nullptr, [&] { return token = model->model->tokenizer()->find(text), Status::Ok(); });
  return token;
}

moe_token moe_model_special_token(const moe_model* model, int which) {
  if (!model || !model->model->tokenizer()) return MOE_TOKEN_NONE;
  const Tokenizer& t = *model->model->tokenizer();
  switch (which) {
    case MOE_SPECIAL_BOS:
      return t.bos();
    case MOE_SPECIAL_EOS:
      return t.eos();
    case MOE_SPECIAL_EOT:
      return t.eot();
    case MOE_SPECIAL_EOM:
      return t.eom();
    case MOE_SPECIAL_UNK:
      return t.unk();
    case MOE_SPECIAL_PAD:
      return t.pad();
    case MOE_SPECIAL_SEP:
      return t.sep();
  }
  return MOE_TOKEN_NONE;
}

int moe_model_is_end_token(const moe_model* model, moe_token token) {
  return model && model->model->tokenizer() && model->model->tokenizer()->is_end_of_generation(token);
}

char* moe_model_format_chat(const moe_model* model, const char* chat_template, const moe_chat_message* messages,
                            size_t n_messages, int open_turn, moe_error* error) {
  char* text = nullptr;
  guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    if (!messages && n_messages > 0) return null_argument("messages");
    MOE_ASSIGN(const ChatTemplate t, chat_template_of(*model->model, chat_template));
    std::vector<ChatMessage> turns;
    for (size_t i = 0; i < n_messages; ++i) {
      MOE_TRY(not_null({{"messages[].role", messages[i].role}, {"messages[].content", messages[i].content}}));
      turns.push_back({messages[i].role, messages[i].content});
    }
    const Tokenizer* tokenizer = model->model->tokenizer();
    return give(format_chat(t, turns, open_turn != 0, tokenizer ? tokenizer->piece(tokenizer->eos(), true) : ""), text);
  });
  return text;
}

const char* moe_model_chat_stop(const moe_model* model, const char* chat_template, size_t i) {
  const char* stop = nullptr;
  guarded(nullptr, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}}));
    MOE_ASSIGN(const ChatTemplate t, chat_template_of(*model->model, chat_template));
    if (i < chat_stop_strings(t).size()) stop = chat_stop_strings(t)[i].data();
    return Status::Ok();
  });
  return stop;
}

}  // extern "C"
