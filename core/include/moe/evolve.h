/* moe, evolution: search the routing topologies of a model inside your program, with operators of your own. moe.h first: its
 * rules of errors, threads, ownership, options and NULL hold here. UNSTABLE: all of this header.
 *
 *   moe_search_document texts[] = {{"wiki", tokens, n_tokens}};
 *   moe_search_options options;
 *   moe_search_options_init(&options, sizeof options);
 *   options.kept_low = options.kept_high = 64;                            // experts that stay, over all layers
 *   options.mutations = &mine, options.n_mutations = 1;                   // a moe_mutation of yours
 *   moe_search* search = moe_search_create(model, texts, 1, &options, &error);
 *   do status = moe_search_step(search), info.size = sizeof info;         // a generation
 *   while (status == MOE_OK && moe_search_get_info(search, &info) == MOE_OK && info.ended == MOE_SEARCH_RUNNING);
 *   moe_search_finish(search);                                            // held-out text, read once
 *   char* json = moe_search_get_topology(search, 0);                      // for moe_session_set_topology()
 *   moe_search_free(search);
 *
 * Same model, documents, options and operators: same bits, whatever the number of threads. */
#ifndef MOE_EVOLVE_H_
#define MOE_EVOLVE_H_

#include "moe/moe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what there is ----------------------------------------------------------------------------------------------------- */

/* The i-th name, NULL behind the last one; they live for ever. */
const char* moe_objective_name(size_t i); /* "kl", "bytes-per-token", ... */
const char* moe_algorithm_name(size_t i); /* "nsga2", ... */
const char* moe_mutation_name(size_t i);  /* operators of the library: "bias_step", ... */
const char* moe_crossover_name(size_t i);
const char* moe_selection_name(size_t i); /* "tournament", ... */

/* ---- operators of your own --------------------------------------------------------------------------------------------- */

/* Operators are callbacks, called from any thread of the search, one at a time. Each must be a pure function of its arguments:
 * random numbers from `random` alone, no clock, nothing remembered from call to call. Otherwise results depend on threads, and
 * no journal can be gone on with. Objects that a callback gets are valid until it returns.
 *
 * What an operator leaves behind is repaired as the library's own are: numbers brought into their ranges, masks and budgets
 * back to what the options ask for. Operators that make better children are used more often; their credit is kept by name.
 *
 * A callback that fails, or answers what it may not, ends the search: from then on the functions that make generations return
 * MOE_ERROR_CANCELLED with the operator's name. Points found before stay. */

/* A stream of random numbers that belongs to the child (or generation) being made. */
typedef struct moe_random moe_random;
double moe_random_uniform(moe_random* random);             /* [0, 1), 53 bits */
double moe_random_normal(moe_random* random);              /* mean 0, deviation 1 */
uint64_t moe_random_below(moe_random* random, uint64_t n); /* 0 to n - 1, unbiased; 0 for n = 0 */

/* A candidate that is being made, or, const, one that is looked at. Layers, experts and classes of tokens count from 0. */
typedef struct moe_draft moe_draft;

typedef struct moe_draft_layer {
  size_t size;           /* set by you: sizeof(moe_draft_layer) */
  int32_t n_experts;     /* 0: a dense layer, and nothing else counts */
  int32_t n_classes;     /* of tokens; each has a mask of its own */
  int32_t n_kept;        /* experts that some class may use; 0 where the layer is skipped */
  int32_t k_min, k_max;  /* experts a token; k_max 0: the layer's experts are skipped */
  int32_t k_low, k_high; /* what the search allows for k_max */
  float threshold;       /* 0 to 1, see moe_session_set_expert_threshold() */
  float temperature;     /* of the router */
} moe_draft_layer;

int32_t moe_draft_n_layers(const moe_draft* draft); /* dense ones too; 0 for NULL */
/* Errors of all below: INVALID_ARGUMENT for a layer, class or expert that is not there, dense layers, numbers that are none,
 * and for drafts that are only looked at. The draft is then as it was. */
moe_status moe_draft_get_layer(const moe_draft* draft, int32_t layer, moe_draft_layer* out);

/* By these -1: there is no such thing. */
int32_t moe_draft_is_kept(const moe_draft* draft, int32_t layer, int32_t token_class, int32_t expert);
int32_t moe_draft_width(const moe_draft* draft, int32_t layer, int32_t expert);    /* quarters that run: 1 to 4 */
int32_t moe_draft_redirect(const moe_draft* draft, int32_t layer, int32_t expert); /* who stands in for it; -1: nobody */
/* By these NaN. */
float moe_draft_bias(const moe_draft* draft, int32_t layer, int32_t expert);
float moe_draft_saliency(const moe_draft* draft, int32_t layer, int32_t expert); /* how much it is missed on calibration text */

moe_status moe_draft_set_kept(moe_draft* draft, int32_t layer, int32_t token_class, int32_t expert, int32_t kept);
moe_status moe_draft_set_k(moe_draft* draft, int32_t layer, int32_t k_min, int32_t k_max); /* 0 <= k_min <= k_max */
moe_status moe_draft_set_threshold(moe_draft* draft, int32_t layer, float threshold);
moe_status moe_draft_set_temperature(moe_draft* draft, int32_t layer, float temperature);
moe_status moe_draft_set_bias(moe_draft* draft, int32_t layer, int32_t expert, float bias);
moe_status moe_draft_set_width(moe_draft* draft, int32_t layer, int32_t expert, int32_t quarters);
moe_status moe_draft_set_redirect(moe_draft* draft, int32_t layer, int32_t expert, int32_t to); /* to: -1 for nobody */
/* The layer as it is in `from`. */
moe_status moe_draft_take_layer(moe_draft* draft, int32_t layer, const moe_draft* from);

/* Edits the draft, which begins as its mother (or as a crossover left it). Returns 1 when it did; 0 when there was nothing to
 * do: edits made before are undone, and another operator is drawn. */
typedef int (*moe_mutation_fn)(void* user, moe_draft* draft, moe_random* random);
/* The same with a father, for what the child should have of him. */
typedef int (*moe_crossover_fn)(void* user, moe_draft* draft, const moe_draft* father, moe_random* random);

/* One of the population, as the algorithm "genetic" sees it. */
typedef struct moe_search_slot {
  double value;     /* of the objective, smaller is better (also where the objective is maximised: its sign is changed) */
  double violation; /* 0: all limits are kept; else how far from it */
  int32_t dropped;  /* not 0: given up before it was measured; value means nothing */
} moe_search_slot;

/* Chooses parents, with replacement: fills chosen[0 .. n_chosen - 1] with slots, each below n_slots. order: (n_slots) the slots
 * from best to worst. Returns 1. */
typedef int (*moe_selection_fn)(void* user, const moe_search_slot* slots, const uint32_t* order, size_t n_slots,
                                double pressure, moe_random* random, uint32_t* chosen, size_t n_chosen);

/* Names: at least a character, each once, none of the library's. Copied. user: passed on; must outlive the search. */
typedef struct moe_mutation {
  const char* name;
  moe_mutation_fn apply;
  void* user;
} moe_mutation;

typedef struct moe_crossover {
  const char* name;
  moe_crossover_fn apply;
  void* user;
} moe_crossover;

typedef struct moe_selection {
  const char* name;
  moe_selection_fn select;
  void* user;
} moe_selection;

/* ---- searching --------------------------------------------------------------------------------------------------------- */

typedef struct moe_search moe_search;

/* Documents of one domain make one kind of text. By their hash they are parted: 60 % of the text measures, 20 % decides, 20 %
 * is what no decision sees (moe_search_finish()). */
typedef struct moe_search_document {
  const char* domain;
  const moe_token* tokens; /* n_tokens of them */
  size_t n_tokens;
} moe_search_document;

typedef struct moe_search_limit {
  const char* objective; /* a moe_objective_name() */
  double limit;          /* most that it may be, or least where more is better */
} moe_search_limit;

/* What happens before the first generation. Returns 0 to go on; anything else cancels. stage: "calibrating", "gram cache",
 * "probing"; valid during the call. */
typedef int (*moe_search_progress_fn)(void* user, const char* stage, int64_t n_done, int64_t n_all);

#define MOE_MOST_OBJECTIVES 12

typedef struct moe_search_options {
  size_t size;
  uint64_t seed;                 /* default 1 */
  const char* algorithm;         /* NULL: genetic for one objective, nsga2 for two and three, nsga3 for more */
  const char* const* objectives; /* n_objectives of them, 1 to MOE_MOST_OBJECTIVES; NULL with 0: kl and bytes-per-token */
  size_t n_objectives;
  const moe_search_limit* limits; /* n_limits of them; NULL when 0 */
  size_t n_limits;

  int32_t population;    /* 0: the algorithm's own, as for the next three */
  int32_t children;      /* of a generation */
  const char* selection; /* a moe_selection_name(), or one of `selections`; NULL: tournament. Of the algorithm genetic */
  double pressure;       /* of the selection */
  int32_t oversample;    /* >= 1; children bred and predicted for each one measured; default 4 */
  int32_t archive;       /* >= 1; most points of the front; default 64 */
  int32_t generations;   /* when it is over; default 100, 0: no limit */
  double budget;         /* the same in token * layer forwards, calibration among them; 0 (default): no limit */

  int64_t kept_low, kept_high;     /* experts kept over all layers; 0, 0 (default): any number */
  int64_t active_low, active_high; /* experts a token uses, summed over layers; 0, 0 (default): any number */
  int32_t k_low, k_high;           /* of a layer; default 1 and 0, the model's own k */
  int32_t classes;                 /* most classes of tokens with masks of their own; default 1 */
  int32_t skip_layers;             /* not 0: a layer's experts may be left out altogether */
  int32_t widths;                  /* not 0: experts may run narrower; for models trained for it */

  int32_t n_ctx;              /* tokens of a piece of text; 0 (default): 256, or the model's context where that is shorter */
  int64_t calibration_tokens; /* most of what measures, default 32768; 0: all there is, as for the next two */
  int64_t select_tokens;      /* of what decides */
  int64_t test_tokens;        /* of what no decision sees */
  int32_t score_tokens;       /* >= 1; that a generation is measured on; default 8192 */
  int32_t sampled;            /* >= 1; tokens that errors of layers are predicted from; default 512 */
  uint64_t memory;            /* bytes for what is known of prefixes; default 512 MiB */

  int32_t threads;          /* that breed; the model's own measure. 0 (default): as many as those */
  int32_t baselines;        /* not 0 (default): generation 0 has what simpler ways choose at kept_high */
  const char* const* seeds; /* n_seeds topologies as JSON that generation 0 has as well; NULL when 0 */
  size_t n_seeds;

  const char* const* operators; /* those of the library to use, n_operators moe_mutation_name()s and moe_crossover_name()s; NULL
                                   with 0: all */
  size_t n_operators;
  const moe_mutation* mutations; /* n_mutations of your own; NULL when 0; so the next two */
  size_t n_mutations;
  const moe_crossover* crossovers;
  size_t n_crossovers;
  const moe_selection* selections;
  size_t n_selections;

  const char* journal; /* a file that every generation is written to before moe_search_step() returns; a search whose file is
                          there goes on from it. NULL: none */
  moe_search_progress_fn on_progress; /* may be NULL */
  void* progress_user;
} moe_search_options;

void moe_search_options_init(moe_search_options* options, size_t size);

/* Calibrates, and lives through the generations that the journal has. Makes none. The search keeps the model alive and calls
 * it; two searches of one model take turns.
 * documents: n_documents of them, copied. options, error: may be NULL.
 * Errors: INVALID_ARGUMENT names the option, or shows the sums of a budget that nothing can meet, or what differs from the
 * journal's search (operators by name among it); NOT_FOUND (objective, algorithm, operator, selection); UNSUPPORTED (a file
 * that brings its own topology); CORRUPT or IO (journal); CANCELLED (on_progress, an operator). */
moe_search* moe_search_create(moe_model* model, const moe_search_document* documents, size_t n_documents,
                              const moe_search_options* options, moe_error* error);
/* Not while another thread is inside one of its functions. */
void moe_search_free(moe_search* search);

/* How the last fallible function of this search ended. Valid until its next call; never NULL. */
const moe_error* moe_search_error(const moe_search* search);

/* One generation. Goes on even where info.ended says that a limit is reached.
 * Errors: CANCELLED (moe_search_cancel(): the search is as before, and the next step makes the same generation; or an operator
 * failed), IO (journal). */
moe_status moe_search_step(moe_search* search);

/* Ends the step under way, or the next one, soon. From any thread, and from callbacks. */
void moe_search_cancel(moe_search* search);

typedef enum moe_search_end {
  MOE_SEARCH_RUNNING = 0,
  MOE_SEARCH_GENERATIONS = 1, /* options.generations were made */
  MOE_SEARCH_BUDGET = 2       /* options.budget is spent */
} moe_search_end;

typedef struct moe_search_info {
  size_t size;          /* set by you: sizeof(moe_search_info) */
  uint32_t generations; /* made so far, by earlier processes too */
  moe_search_end ended;
  int32_t n_objectives;
  size_t n_points;
  size_t n_operators;               /* in use: see moe_search_operator_name() */
  double token_layers;              /* spent, in token * layer forwards of the full model */
  double hypervolume;               /* of the front; 1: as much as a point that has the best of generation 0 everywhere */
  double diversity;                 /* connections in which two of the population differ, mean, as a share of all */
  double best[MOE_MOST_OBJECTIVES]; /* of the front, in the objective's unit; NaN while it is empty */
} moe_search_info;

moe_status moe_search_get_info(moe_search* search, moe_search_info* info);

/* The i-th operator in use, mutations first, yours behind the library's; NULL behind the last one. Lives as long as the search.
 * share: of the mutations (or crossovers) drawn in the next generation; may be NULL. */
const char* moe_search_operator_name(const moe_search* search, size_t i, double* share);

/* Measures what of the front was not yet measured on the whole deciding text, and all of it on held-out text. The points then
 * are those, until the next step.
 * Errors: CANCELLED, as moe_search_step(). */
moe_status moe_search_finish(moe_search* search);

/* A point of the front; NaN is what was not measured. */
typedef struct moe_search_point {
  size_t size;   /* set by you: sizeof(moe_search_point) */
  uint64_t hash; /* of what it does */
  int32_t n_objectives;
  double objectives[MOE_MOST_OBJECTIVES];           /* in the objective's unit */
  double kl, kl_error, worst_domain_kl, perplexity; /* on the text that decides */
  double active_flops, bytes_per_token, resident_bytes, latency_ms, kept_share, k_mean, load_cv, diversity;
  double held_out_kl, held_out_kl_error, held_out_worst_domain_kl, held_out_perplexity; /* after moe_search_finish() */
} moe_search_point;

/* i: below info.n_points; ascending by the first objective. Errors: OUT_OF_RANGE. */
moe_status moe_search_get_point(moe_search* search, size_t i, moe_search_point* point);
/* Its topology as JSON, for moe_session_set_topology() and moe-quantize --topology. NULL on failure. */
char* moe_search_get_topology(moe_search* search, size_t i);

#ifdef __cplusplus
}
#endif

#endif /* MOE_EVOLVE_H_ */
