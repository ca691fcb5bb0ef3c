/* What an embedder's C program does with a model, each step checked: app MODEL FOLDER. Exits 0 when all is as moe.h says. */
#include <moe/moe.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void expect(int condition, const char* what, const char* message) {
  if (condition) return;
  printf("app.c: %s: %s\n", what, message);
  ++failures;
}

typedef struct heard {
  char text[4096];
  size_t n_bytes;
  int n_tokens, stop_after;
} heard;

static int on_text(void* user, const char* text, size_t n_bytes, moe_token token) {
  heard* h = (heard*)user;
  if (h->n_bytes + n_bytes < sizeof h->text) memcpy(h->text + h->n_bytes, text, n_bytes + 1), h->n_bytes += n_bytes;
  if (token != MOE_TOKEN_NONE) ++h->n_tokens;
  return h->n_tokens == h->stop_after;
}

static void generate(moe_session* session, const char* prompt, int stop_after, heard* h) {
  moe_generate_options options;
  moe_generate_result result;
  moe_status status;
  memset(h, 0, sizeof *h);
  h->stop_after = stop_after;
  moe_generate_options_init(&options, sizeof options);
  options.n_predict = 16, options.ignore_end = 1;
  result.size = sizeof result;
  status = moe_session_generate_text(session, NULL, prompt, MOE_UNTIL_ZERO, &options, on_text, h, &result);
  expect(status == MOE_OK, "generate", moe_session_error(session)->message);
  expect(result.reason == (stop_after > 0 ? MOE_STOP_CALLBACK : MOE_STOP_LENGTH), "generate", "stopped for another reason");
  expect(result.n_generated == h->n_tokens, "generate", "counted other tokens than it gave");
}

static void use_session(moe_session* session, const char* folder) {
  heard first, again, fewer;
  char path[4096];
  char* text;
  size_t n_tokens = 0;
  generate(session, "Once upon a time", 0, &first);
  expect(first.n_tokens == 16, "generate", "wanted 16 tokens");
  expect(moe_session_truncate(session, 0, 0) == MOE_OK, "truncate", moe_session_error(session)->message);
  generate(session, "Once upon a time", 0, &again);
  expect(strcmp(first.text, again.text) == 0, "generate", "the same seed gave another text");
  snprintf(path, sizeof path, "%s/session.bin", folder);
  expect(moe_session_save(session, 0, path) == MOE_OK, "save", moe_session_error(session)->message);
  moe_session_truncate(session, 0, 0);
  expect(moe_session_restore(session, 0, path) == MOE_OK, "restore", moe_session_error(session)->message);
  moe_session_tokens(session, 0, &n_tokens);
  expect(n_tokens > 16, "restore", "tokens are missing");
  moe_session_truncate(session, 0, 0);

  expect(moe_session_set_experts(session, 1) == MOE_OK, "set_experts", moe_session_error(session)->message);
  generate(session, "Once upon a time", 3, &fewer);
  expect(fewer.n_tokens == 3, "callback", "did not stop the generation");
  text = moe_session_get_topology(session);
  expect(text && strstr(text, "\"k_max\": 1"), "get_topology", "does not show k = 1");
  moe_string_free(text);
  expect(moe_session_set_topology(session, "{}", MOE_UNTIL_ZERO) == MOE_ERROR_CORRUPT, "set_topology", "took {}");
  expect(moe_session_error(session)->message[0] != '\0', "set_topology", "gave no reason");
  text = moe_session_get_stats(session);
  expect(text && strstr(text, "load_balance"), "get_stats", "no load_balance in it");
  moe_string_free(text);
}

int main(int argc, char** argv) {
  moe_error error;
  moe_model* model;
  moe_session* session;
  moe_session_options options;
  moe_model_info info;
  if (argc != 3) return fprintf(stderr, "usage: app MODEL FOLDER\n"), 2;

  expect(moe_model_load("/no/such/model.gguf", NULL, &error) == NULL && error.code == MOE_ERROR_NOT_FOUND, "load",
         error.message);
  model = moe_model_load(argv[1], NULL, &error);
  if (!model) return printf("app.c: load: %s\n", error.message), 1;
  info.size = sizeof info;
  expect(moe_model_get_info(model, &info, &error) == MOE_OK && info.n_experts > 0, "get_info", error.message);

  moe_session_options_init(&options, sizeof options);
  options.n_ctx = 128, options.routing_stats = 1;
  session = moe_session_create(model, &options, &error);
  moe_model_free(model); /* the session keeps what it needs */
  if (!session) return printf("app.c: create: %s\n", error.message), 1;
  use_session(session, argv[2]);
  moe_session_free(session);
  return failures != 0;
}
