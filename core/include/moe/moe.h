/* moe: run Mixture-of-Experts language models inside your program. This header is the whole API and its manual; moe.hpp wraps
 * it for C++. C99. Link libmoe.a with the C++ standard library and threads:
 *
 *   cc app.c -Iinclude -Llib -lmoe -lstdc++ -lm -pthread
 *
 * A model is a file, opened; a session is sequences of tokens being evaluated by it; a sampler draws tokens from logits.
 *
 *   moe_error error;
 *   moe_model* model = moe_model_load("olmoe.gguf", NULL, &error);        // error.message says why not
 *   moe_session* session = moe_session_create(model, NULL, &error);
 *   moe_session_set_experts(session, 4);                                  // routing: any time, no reload
 *   moe_session_generate_text(session, NULL, "Once upon", MOE_UNTIL_ZERO, NULL, on_text, NULL, NULL);
 *   moe_session_free(session);
 *   moe_model_free(model);
 *
 * Rules that hold everywhere
 *
 *  Errors      Whatever can fail returns moe_status, or a pointer that is NULL on failure. Nothing is global: functions that
 *              take `moe_error* error` (NULL: not interested) write code and message there, and always, so that after success
 *              it holds MOE_OK and "". Functions of a session keep theirs in it: moe_session_error(). No C++ exception leaves
 *              the library, and bad data never ends the process. Messages name file, key or tensor, wanted and found.
 *  Threads     A model may be used by any number of threads at once. A session or a sampler belongs to one thread at a time.
 *              Sessions of one model take turns on its threads; load the model twice for two that run side by side.
 *  Ownership   What a _load or _create function returns is yours until its _free; these take NULL. A session and a sampler keep
 *              their model alive: free in any order. A `char*` is yours until moe_string_free(); a `const char*` or other
 *              pointer to const belongs to the library and says how long it lives. Pointers you pass in are read during the
 *              call only, except for callbacks' `user`.
 *  Text        UTF-8, given by pointer and length in bytes; MOE_UNTIL_ZERO as the length means that it ends at a zero byte.
 *              Text that the library returns is zero-terminated as well. Paths and names are zero-terminated.
 *  Options     Structs that begin with `size` grow in later versions. Fill one with its _init function, passing its sizeof,
 *              then change what you like; a NULL pointer to options means the defaults. Results have `size` set by you.
 *  NULL        for an object, or for a pointer that is not said to be optional, is MOE_ERROR_INVALID_ARGUMENT.
 *  Callbacks   must neither longjmp, throw, nor call functions of the session, sampler or log they are called for.
 *  Stability   Before 1.0 a minor version may change anything. Parts marked UNSTABLE are expected to change. */
#ifndef MOE_MOE_H_
#define MOE_MOE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_VERSION_MAJOR 0
#define MOE_VERSION_MINOR 1
#define MOE_VERSION_PATCH 0

/* As the length of a text: it ends at its first zero byte. */
#define MOE_UNTIL_ZERO ((size_t)-1)

/* ---- errors ------------------------------------------------------------------------------------------------------------ */

typedef enum moe_status {
  MOE_OK = 0,
  MOE_ERROR_INVALID_ARGUMENT = 1, /* the caller's values are wrong */
  MOE_ERROR_NOT_FOUND = 2,        /* no such file, key, tensor, name */
  MOE_ERROR_IO = 3,               /* the operating system said no */
  MOE_ERROR_CORRUPT = 4,          /* the bytes are not what the format promises */
  MOE_ERROR_UNSUPPORTED = 5,      /* valid, but not something this build or processor can run */
  MOE_ERROR_OUT_OF_MEMORY = 6,
  MOE_ERROR_OUT_OF_RANGE = 7, /* a limit was reached: context full, batch too long, your array too short */
  MOE_ERROR_CANCELLED = 8,    /* your callback asked to stop */
  MOE_ERROR_INTERNAL = 9      /* a bug in moe, or an exception in a callback */
} moe_status;

typedef struct moe_error {
  moe_status code;
  char message[1020]; /* zero-terminated UTF-8; longer ones are cut at a character */
} moe_error;

/* "ok", "invalid argument", ...; "unknown status" for other numbers. Lives for ever. */
const char* moe_status_name(int status);

/* ---- the library ------------------------------------------------------------------------------------------------------- */

/* "0.1.0": of the library linked, where the macros are of the header compiled with. Lives for ever. */
const char* moe_version_string(void);

/* The i-th name, NULL behind the last one; they live for ever. */
const char* moe_backend_name(size_t i);       /* backends of this build: "cpu" */
const char* moe_isa_name(size_t i);           /* CPU kernel sets this processor can run: "scalar", "avx2", ...; best last */
const char* moe_architecture_name(size_t i);  /* general.architecture values that models may have: "olmoe", ... */
const char* moe_chat_template_name(size_t i); /* chat formats: "chatml", ... */

/* Frees a char* that this library returned. NULL is fine. */
void moe_string_free(char* text);

/* ---- models ------------------------------------------------------------------------------------------------------------ */

typedef struct moe_model moe_model;

typedef enum moe_log_level { MOE_LOG_DEBUG = 0, MOE_LOG_INFO = 1, MOE_LOG_WARNING = 2 } moe_log_level;

/* What the library has to say beside errors: what was loaded and how fast; as a warning, that a file lacks a tokenizer this
 * build knows. message: zero-terminated, without newline, valid during the call. Called by threads that are inside a call about
 * the model. */
typedef void (*moe_log_fn)(void* user, moe_log_level level, const char* message);

typedef struct moe_model_options {
  size_t size;
  const char* backend; /* a moe_backend_name(); NULL: "cpu" */
  const char* isa;     /* a moe_isa_name(); NULL: the environment's MOE_ISA, else the best one */
  int32_t threads;     /* 0 to 1024; 0: physical cores, within affinity mask and cgroup quota. Results do not depend on it */
  int32_t exact;       /* not 0: activations stay float32 instead of int8 or bfloat16; slower, for comparisons */
  moe_log_fn log;      /* NULL: silent */
  void* log_user;      /* must outlive the model, its sessions and samplers */
} moe_model_options;

/* size: sizeof *options. */
void moe_model_options_init(moe_model_options* options, size_t size);

/* Opens a GGUF file, or all parts of a split one given any of them. The file is mapped: it must not change or shrink while the
 * model lives.
 * options, error: may be NULL.
 * Errors: NOT_FOUND or IO (file), CORRUPT, UNSUPPORTED (architecture, format, ISA), NOT_FOUND (key, tensor, backend),
 * OUT_OF_MEMORY. */
moe_model* moe_model_load(const char* path, const moe_model_options* options, moe_error* error);

/* Sessions and samplers made from it go on working. */
void moe_model_free(moe_model* model);

typedef struct moe_model_info {
  size_t size;              /* set by you: sizeof(moe_model_info) */
  const char* architecture; /* strings live as long as the model */
  const char* name;         /* general.name; "" when the file has none */
  const char* device;       /* "AMD EPYC 9555, avx512, 8 threads" */
  const char* isa;
  int32_t threads;
  int32_t n_vocab;        /* columns of the logits */
  int32_t n_ctx_train;    /* context length the model was trained with */
  int32_t n_layers;       /* all of them, ... */
  int32_t n_moe_layers;   /* ... and those with experts */
  int32_t n_experts;      /* per layer, the largest; 0: a dense model */
  int32_t n_experts_used; /* per token and layer, the largest */
  int32_t d_model;
  int64_t n_params;
  uint64_t file_bytes;
  uint64_t hash; /* identifies the weights; topologies and saved sessions carry it */
  int32_t has_tokenizer;
  double load_seconds;
} moe_model_info;

/* Errors: INVALID_ARGUMENT when info->size is not one of a moe_model_info. */
moe_status moe_model_get_info(const moe_model* model, moe_model_info* info, moe_error* error);

/* The value of a metadata key of the file as text, arrays cut after some hundred characters.
 * Errors: NOT_FOUND. */
char* moe_model_get_key(const moe_model* model, const char* key, moe_error* error);

/* The model's own routing as topology JSON: as it was trained or, of a file that moe-quantize --topology made, as that topology
 * says. What to edit and give to moe_session_set_topology(). */
char* moe_model_get_topology(const moe_model* model, moe_error* error);

/* ---- text and tokens --------------------------------------------------------------------------------------------------- */

typedef int32_t moe_token; /* 0 to n_vocab - 1 */
#define MOE_TOKEN_NONE (-1)

/* Flags, to be added up. */
enum {
  MOE_TEXT_BARE = 1,   /* tokenise: no bos or eos, even where the model wants them */
  MOE_TEXT_SPECIAL = 2 /* tokenise: texts of control tokens become those tokens (templates, not users' text);
                          detokenise and piece: control tokens are shown */
};

/* Text to tokens.
 * text: any bytes; what is not UTF-8 survives byte by byte.
 * tokens: room for `capacity` of them, or NULL with capacity 0 to ask how many there would be.
 * n_tokens: gets how many the text has, also when they did not fit.
 * Errors: OUT_OF_RANGE when capacity is too small (tokens untouched), NOT_FOUND or UNSUPPORTED when the model has no tokenizer,
 * UNSUPPORTED for bytes that the vocabulary lacks, INVALID_ARGUMENT above 512 MiB. */
moe_status moe_model_tokenize(const moe_model* model, const char* text, size_t n_bytes, unsigned flags, moe_token* tokens,
                              size_t capacity, size_t* n_tokens, moe_error* error);

/* Tokens to text. Tokens may cut characters, so it need not be valid UTF-8, and it may hold zero bytes.
 * tokens: n_tokens of them; ids outside the vocabulary are "".
 * n_bytes: gets the length; may be NULL. */
char* moe_model_detokenize(const moe_model* model, const moe_token* tokens, size_t n_tokens, unsigned flags, size_t* n_bytes,
                           moe_error* error);

/* The bytes of one token, NOT zero-terminated; "" for control tokens (unless MOE_TEXT_SPECIAL), unused and unknown ids, and
 * without a tokenizer. Lives as long as the model.
 * n_bytes: gets the length. Never NULL unless an argument is. */
const char* moe_model_token_piece(const moe_model* model, moe_token token, unsigned flags, size_t* n_bytes);

/* The token whose text in the vocabulary is exactly this ("<|im_end|>", "Ġthe"), or MOE_TOKEN_NONE. */
moe_token moe_model_find_token(const moe_model* model, const char* text);

typedef enum moe_special {
  MOE_SPECIAL_BOS = 0, /* begins a text */
  MOE_SPECIAL_EOS = 1, /* ends a text */
  MOE_SPECIAL_EOT = 2, /* ends a turn */
  MOE_SPECIAL_EOM = 3, /* ends a message */
  MOE_SPECIAL_UNK = 4,
  MOE_SPECIAL_PAD = 5,
  MOE_SPECIAL_SEP = 6
} moe_special;

/* which: a moe_special. MOE_TOKEN_NONE where the model has none. */
moe_token moe_model_special_token(const moe_model* model, int which);

/* 1 when generation stops at this token (eos, eot, ...), else 0. */
int moe_model_is_end_token(const moe_model* model, moe_token token);

typedef struct moe_chat_message {
  const char* role; /* "system", "user", "assistant" */
  const char* content;
} moe_chat_message;

/* A conversation as one prompt in the format the model was trained on; tokenise it with MOE_TEXT_SPECIAL (that adds bos).
 * UNSTABLE: recognises well-known formats of the file's template; tools and dates are not reproduced.
 * chat_template: a moe_chat_template_name(), or NULL: the file's own.
 * messages: n_messages of them. open_turn: not 0 to open the assistant's turn.
 * Errors: NOT_FOUND when the template is missing, not recognised, or of no such name. */
char* moe_model_format_chat(const moe_model* model, const char* chat_template, const moe_chat_message* messages,
                            size_t n_messages, int open_turn, moe_error* error);

/* The i-th text at which a chat turn ends, for moe_generate_options.stop; NULL behind the last one, and for unknown templates.
 * Lives for ever. UNSTABLE, as above. */
const char* moe_model_chat_stop(const moe_model* model, const char* chat_template, size_t i);

/* ---- sessions ---------------------------------------------------------------------------------------------------------- */

typedef struct moe_session moe_session;

typedef enum moe_cache_type {
  MOE_CACHE_AUTO = 0, /* f32 for exact runs and float32 models, else f16 */
  MOE_CACHE_F32 = 1,
  MOE_CACHE_F16 = 2,
  MOE_CACHE_Q8_0 = 3
} moe_cache_type;

typedef struct moe_session_options {
  size_t size;
  int32_t n_ctx;       /* tokens a sequence can hold; 0: what the model was trained with, at most 4096 */
  int32_t n_seqs;      /* >= 1; sequences held at once. n_ctx * n_seqs is at most 2^31 */
  int32_t max_batch;   /* >= 1; most tokens in one moe_session_eval(); default 512 */
  int32_t max_outputs; /* most rows of logits in one moe_session_eval(); 0: n_seqs */
  int32_t cache_k;     /* a moe_cache_type; default MOE_CACHE_AUTO */
  int32_t cache_v;
  int32_t routing_stats; /* not 0: count what the routers do, for moe_session_get_stats() */
} moe_session_options;

void moe_session_options_init(moe_session_options* options, size_t size);

/* Memory for the caches is reserved now and used as sequences grow.
 * options, error: may be NULL.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED (cache type that this model's heads do not fit), OUT_OF_MEMORY. */
moe_session* moe_session_create(moe_model* model, const moe_session_options* options, moe_error* error);
void moe_session_free(moe_session* session);

/* How the last fallible function of this session ended. Valid until its next call; never NULL. */
const moe_error* moe_session_error(const moe_session* session);

/* The options in use, defaults filled in. options->size: set by you. */
moe_status moe_session_get_options(moe_session* session, moe_session_options* options);

typedef struct moe_batch_token {
  moe_token token;
  int32_t seq;    /* 0 to n_seqs - 1: the sequence it extends */
  int32_t logits; /* not 0: make the row of logits behind it */
} moe_batch_token;

/* Appends tokens to their sequences, in order, and runs the model over them; sequences may be mixed. On an error nothing is
 * appended.
 * tokens: 1 to max_batch of them, at most max_outputs with logits.
 * Errors: OUT_OF_RANGE (context full, batch too long), INVALID_ARGUMENT (token or sequence that does not exist), CORRUPT
 * (weights that are not numbers). */
moe_status moe_session_eval(moe_session* session, const moe_batch_token* tokens, size_t n_tokens);

/* The same for tokens of one sequence, in as many batches as it takes; makes the logits behind the last one.
 * n_tokens: at least 1. */
moe_status moe_session_eval_sequence(moe_session* session, int32_t seq, const moe_token* tokens, size_t n_tokens);

/* Row i (n_vocab floats) of the logits asked for in the last evaluation, in batch order. Valid until the next evaluation.
 * NULL when there is no such row. */
const float* moe_session_logits(const moe_session* session, size_t i);

/* The tokens that a sequence holds; n_tokens gets how many, 0 with NULL for no such sequence. Valid until the sequence
 * changes. */
const moe_token* moe_session_tokens(const moe_session* session, int32_t seq, size_t* n_tokens);

/* Forgets all tokens of a sequence from position n_tokens on; 0 empties it.
 * Errors: OUT_OF_RANGE when it holds fewer. */
moe_status moe_session_truncate(moe_session* session, int32_t seq, size_t n_tokens);

/* Makes sequence `to` a copy of sequence `from`: a shared prompt is evaluated once. */
moe_status moe_session_copy_sequence(moe_session* session, int32_t from, int32_t to);

/* One sequence, tokens and cache, to a file and back. The file fits the same model, cache types, and a context that is long
 * enough; logits are not part of it. UNSTABLE: the format may change with the minor version.
 * Errors of restore: INVALID_ARGUMENT (made for another model or other cache types), CORRUPT, OUT_OF_RANGE, NOT_FOUND, IO.
 * A file that is refused leaves the sequence as it was. */
moe_status moe_session_save(moe_session* session, int32_t seq, const char* path);
moe_status moe_session_restore(moe_session* session, int32_t seq, const char* path);

/* ---- routing, while running -------------------------------------------------------------------------------------------- */

/* A topology says what every MoE layer does with its router's output: masked experts, k, threshold, widths, redirects
 * (models/TOPOLOGY.md describes its JSON). It takes effect at the next token; what is in the caches stays. On an error the
 * session keeps the one it has.
 * Errors: CORRUPT (not such JSON), INVALID_ARGUMENT (another model's; or it leaves a layer fewer experts than k; ...). */
moe_status moe_session_set_topology(moe_session* session, const char* json, size_t n_bytes);
moe_status moe_session_load_topology(moe_session* session, const char* path);
/* Back to what moe_model_get_topology() gives. */
moe_status moe_session_reset_topology(moe_session* session);
/* Now in use, as JSON. NULL on failure. */
char* moe_session_get_topology(moe_session* session);

/* Edits of the topology in use, every layer alike. */
moe_status moe_session_set_experts(moe_session* session, int32_t k);                /* experts a token: >= 1 */
moe_status moe_session_set_expert_threshold(moe_session* session, float threshold); /* 0 to 1: keep an expert while its score
                                                                                       exceeds threshold * the best one's */
moe_status moe_session_set_expert_width(moe_session* session, double fraction);     /* above 0, to 1: share of each expert's
                                                                                       hidden channels that runs */

/* Expert use, load balance, entropy and work saved since creation or the last reset, as JSON (models/README.md). Widths count
 * as they are now. UNSTABLE: keys may be added.
 * Errors: INVALID_ARGUMENT unless moe_session_options.routing_stats was set. */
char* moe_session_get_stats(moe_session* session);
moe_status moe_session_reset_stats(moe_session* session);

/* ---- sampling ---------------------------------------------------------------------------------------------------------- */

typedef struct moe_sampler moe_sampler;

typedef struct moe_logit_bias {
  moe_token token;
  float bias; /* finite, or -INFINITY to ban the token */
} moe_logit_bias;

/* logits -> bias -> penalties -> top-k -> typical -> top-p -> min-p -> temperature -> draw. */
typedef struct moe_sampler_options {
  size_t size;
  uint64_t seed;              /* the same seed, options and logits give the same tokens on every platform; default 0 */
  float temperature;          /* <= 0: greedy; default 0.8 */
  int32_t top_k;              /* the k highest logits; <= 0: all; default 40 */
  float top_p;                /* the fewest tokens that together have this probability; 1: all; default 0.95 */
  float min_p;                /* tokens with at least this share of the best one's probability; 0: all; default 0.05 */
  float typical_p;            /* as top_p, nearest to the expected information first; 1: all; default 1 */
  float repeat_penalty;       /* > 0; 1: none; default 1 */
  float frequency_penalty;    /* default 0 */
  float presence_penalty;     /* default 0 */
  int32_t penalty_last_n;     /* tokens that the penalties look back; default 64 */
  const moe_logit_bias* bias; /* n_bias of them; NULL when 0 */
  size_t n_bias;
} moe_sampler_options;

void moe_sampler_options_init(moe_sampler_options* options, size_t size);

/* One sampler a sequence: it remembers recent tokens and where the random numbers are.
 * options, error: may be NULL.
 * Errors: INVALID_ARGUMENT names the option. */
moe_sampler* moe_sampler_create(moe_model* model, const moe_sampler_options* options, moe_error* error);
void moe_sampler_free(moe_sampler* sampler);

/* Draws a token. logits: n_vocab floats; NaN counts as -infinity. MOE_TOKEN_NONE only when an argument is NULL. */
moe_token moe_sampler_sample(moe_sampler* sampler, const float* logits);
/* Tells the penalties of a token that was evaluated or chosen. Ids outside the vocabulary are ignored. */
void moe_sampler_accept(moe_sampler* sampler, moe_token token);
/* Back to the state after creation. */
void moe_sampler_reset(moe_sampler* sampler);

/* ---- generating -------------------------------------------------------------------------------------------------------- */

/* Called for every token, in order, with the text that it made certain: whole UTF-8 characters, zero-terminated, "" while a
 * character or a possible stop string is open. What is left at the end comes with MOE_TOKEN_NONE. Valid during the call.
 * Returns 0 to go on; anything else stops. */
typedef int (*moe_text_fn)(void* user, const char* text, size_t n_bytes, moe_token token);

/* Called after every batch of the prompt. Returns 0 to go on; anything else cancels. */
typedef int (*moe_progress_fn)(void* user, size_t n_done, size_t n_tokens);

typedef struct moe_generate_options {
  size_t size;
  int32_t n_predict;       /* most tokens to draw; -1 (default): until something else stops */
  int32_t seq;             /* default 0 */
  const char* const* stop; /* n_stop texts that end the generation and are not given to the callback; NULL when 0 */
  size_t n_stop;
  int32_t ignore_end;          /* not 0: end tokens are tokens like others */
  int32_t show_special;        /* not 0: control tokens appear in the text */
  moe_progress_fn on_progress; /* may be NULL */
  void* progress_user;
} moe_generate_options;

void moe_generate_options_init(moe_generate_options* options, size_t size);

typedef enum moe_stop_reason {
  MOE_STOP_LENGTH = 0,  /* n_predict tokens were drawn */
  MOE_STOP_END = 1,     /* the model drew a token that ends its turn; it is not given to the callback */
  MOE_STOP_STRING = 2,  /* one of the stop strings came */
  MOE_STOP_CONTEXT = 3, /* the sequence holds n_ctx tokens */
  MOE_STOP_CALLBACK = 4 /* the callback asked for it */
} moe_stop_reason;

typedef struct moe_generate_result {
  size_t size; /* set by you: sizeof(moe_generate_result) */
  moe_stop_reason reason;
  int32_t n_prompt;    /* tokens of the prompt evaluated */
  int32_t n_generated; /* tokens given to the callback */
  double prompt_seconds;
  double generate_seconds;
} moe_generate_result;

/* Evaluates a prompt behind what the sequence holds, then draws tokens. Afterwards the sequence holds the prompt and every
 * token that the callback got (not the last one where n_ctx tokens are held already), and row 0 of the logits is what follows.
 * An empty prompt goes on from what the sequence holds, whatever was done to it in between.
 * sampler: NULL for a new one with the default options.
 * prompt: n_prompt tokens; NULL with 0 to go on.
 * options, result: may be NULL. on_text: may be NULL; user is passed to it.
 * Errors: those of moe_session_eval(); CANCELLED by on_progress (the sequence keeps what was done); INVALID_ARGUMENT for an
 * empty stop string, a sampler of another vocabulary, or nothing to go on from. Stopping for one of the reasons above is no
 * error. */
moe_status moe_session_generate(moe_session* session, moe_sampler* sampler, const moe_token* prompt, size_t n_prompt,
                                const moe_generate_options* options, moe_text_fn on_text, void* user,
                                moe_generate_result* result);

/* The same for a text, tokenised plainly: with bos where the model wants it and the sequence is empty. */
moe_status moe_session_generate_text(moe_session* session, moe_sampler* sampler, const char* prompt, size_t n_bytes,
                                     const moe_generate_options* options, moe_text_fn on_text, void* user,
                                     moe_generate_result* result);

#ifdef __cplusplus
}
#endif

#endif /* MOE_MOE_H_ */
