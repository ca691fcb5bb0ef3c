/* A program in C that searches a model's routing with a mutation of its own, each step checked: evolve MODEL FOLDER. It wants
 * half of the experts gone and prints the front. Exits 0 when all is as evolve.h says. */
#include <moe/evolve.h>
#include <stdio.h>
#include <string.h>

enum { N_DOCUMENTS = 12, N_TOKENS = 120 };

static int failures;

static void expect(int condition, const char* what, const char* message) {
  if (condition) return;
  printf("evolve.c: %s: %s\n", what, message);
  ++failures;
}

/* The expert that is missed least makes room for one that is masked: the guide of simple pruning, as one move among others. */
static int swap_least_missed(void* user, moe_draft* draft, moe_random* random) {
  moe_draft_layer l;
  int32_t e, out = -1, in = -1;
  int32_t layer = (int32_t)moe_random_below(random, (uint64_t)moe_draft_n_layers(draft));
  uint64_t n_masked, n;
  ++*(int*)user;
  l.size = sizeof l;
  if (moe_draft_get_layer(draft, layer, &l) != MOE_OK || l.n_experts == 0 || l.n_kept == l.n_experts) return 0;
  n_masked = (uint64_t)(l.n_experts - l.n_kept);
  n = moe_random_below(random, n_masked);
  for (e = 0; e < l.n_experts; ++e) {
    if (!moe_draft_is_kept(draft, layer, 0, e)) {
      if (n-- == 0) in = e;
    } else if (out < 0 || moe_draft_saliency(draft, layer, e) < moe_draft_saliency(draft, layer, out)) {
      out = e;
    }
  }
  if (in < 0 || out < 0) return 0;
  return moe_draft_set_kept(draft, layer, 0, out, 0) == MOE_OK && moe_draft_set_kept(draft, layer, 0, in, 1) == MOE_OK;
}

/* Something to read: two kinds of text that a byte-wise vocabulary can hold. */
static void write_documents(moe_token (*tokens)[N_TOKENS], moe_search_document* documents) {
  unsigned x = 1;
  int d, i;
  for (d = 0; d < N_DOCUMENTS; ++d) {
    for (i = 0; i < N_TOKENS; ++i) {
      x = x * 1664525u + 1013904223u;
      tokens[d][i] = (moe_token)(d % 2 ? 'a' + (x >> 16) % 26 : '0' + (x >> 16) % 10);
    }
    documents[d].domain = d % 2 ? "letters" : "digits";
    documents[d].tokens = tokens[d];
    documents[d].n_tokens = N_TOKENS;
  }
}

/* Runs to the end; the topology of the first point, to be freed. */
static char* run(moe_model* model, const char* journal, int32_t generations, int* n_calls) {
  static moe_token tokens[N_DOCUMENTS][N_TOKENS];
  static const char* const objectives[] = {"kl", "bytes-per-token"};
  moe_search_document documents[N_DOCUMENTS];
  moe_search_options options;
  moe_search_info info;
  moe_search_point point;
  moe_mutation mutation;
  moe_search* search;
  moe_error error;
  size_t i, ours = 0;
  double share = 0;
  char* topology = NULL;
  write_documents(tokens, documents);
  mutation.name = "swap_least_missed", mutation.apply = swap_least_missed, mutation.user = n_calls;
  moe_search_options_init(&options, sizeof options);
  options.objectives = objectives, options.n_objectives = 2;
  options.kept_low = 8, options.kept_high = 16;
  options.population = 8, options.generations = generations, options.n_ctx = 40, options.score_tokens = 160;
  options.sampled = 64, options.journal = journal, options.baselines = 0;
  options.mutations = &mutation, options.n_mutations = 1;

  search = moe_search_create(model, documents, N_DOCUMENTS, &options, &error);
  expect(search != NULL, "create", error.message);
  if (!search) return NULL;
  info.size = sizeof info;
  while (moe_search_get_info(search, &info) == MOE_OK && info.ended == MOE_SEARCH_RUNNING)
    if (moe_search_step(search) != MOE_OK) break;
  expect(info.ended == MOE_SEARCH_GENERATIONS, "step", moe_search_error(search)->message);
  expect(moe_search_finish(search) == MOE_OK, "finish", moe_search_error(search)->message);
  moe_search_get_info(search, &info);
  expect(info.n_points > 0, "finish", "no points");
  point.size = sizeof point;
  for (i = 0; i < info.n_points && moe_search_get_point(search, i, &point) == MOE_OK; ++i) {
    printf("%4.0f %% of the experts  %8.0f bytes a token  kl %.5f, held out %.5f\n", 100 * point.kept_share,
           point.bytes_per_token, point.kl, point.held_out_kl);
    expect(point.held_out_kl >= 0, "finish", "held-out text was not measured");
  }
  for (i = 0; i < info.n_operators; ++i)
    if (strcmp(moe_search_operator_name(search, i, &share), "swap_least_missed") == 0) ++ours;
  expect(ours == 1, "operator_name", "the own mutation is not in use, once");
  topology = moe_search_get_topology(search, 0);
  expect(topology != NULL, "get_topology", moe_search_error(search)->message);
  moe_search_free(search);
  return topology;
}

int main(int argc, char** argv) {
  moe_error error;
  moe_model* model;
  moe_session* session;
  char path[4096];
  char *found, *again;
  int n_calls = 0;
  if (argc != 3) return fprintf(stderr, "usage: evolve MODEL FOLDER\n"), 2;
  model = moe_model_load(argv[1], NULL, &error);
  if (!model) return printf("evolve.c: load: %s\n", error.message), 1;
  snprintf(path, sizeof path, "%s/journal.jsonl", argv[2]);
  remove(path);

  found = run(model, NULL, 4, &n_calls);
  expect(n_calls > 0, "mutation", "was never called");
  moe_string_free(run(model, path, 2, &n_calls));
  again = run(model, path, 4, &n_calls); /* goes on from generation 2 */
  expect(found && again && strcmp(found, again) == 0, "journal", "another front");
  session = moe_session_create(model, NULL, &error);
  moe_model_free(model);
  if (!session) return printf("evolve.c: create: %s\n", error.message), 1;
  if (found)
    expect(moe_session_set_topology(session, found, MOE_UNTIL_ZERO) == MOE_OK, "set_topology",
           moe_session_error(session)->message);
  moe_session_free(session);
  moe_string_free(found), moe_string_free(again);
  return failures != 0;
}
