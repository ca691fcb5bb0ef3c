// A session: sequences of tokens being evaluated by a model, with their caches and the routing topology they run under.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/model.h"
#include "models/routing.h"

namespace moe {

struct RoutingTables;

struct SessionOptions {
  int n_ctx = 0;        // positions a sequence can hold; 0: the model's context length, at most 4096
  int n_seqs = 1;       // sequences held at once; memory for n_seqs · n_ctx positions is reserved, and used as they fill
  int max_batch = 512;  // most tokens in one eval()
  int max_outputs = 0;  // most rows of logits in one eval(); 0: n_seqs
  std::optional<DType> cache_k = {}, cache_v = {};  // f32, f16 or q8_0; none: natural_cache_type()
  bool observe_router = false;                      // keep router logits for an observer
  bool profile = false;                             // measure for executable().profile()
};

// What a session without cache types uses: f32 where everything else is (exact backends, float32 attention weights), else f16.
DType natural_cache_type(const Model& model);

struct BatchToken {
  Token id = 0;
  int seq = 0;          // which sequence it extends
  bool logits = false;  // whether its row of logits is wanted
};

// What the router of one layer decided for the tokens of one eval(). Views, valid inside the call.
struct RouterView {
  int layer = 0;
  int n_tokens = 0, n_experts = 0;
  int n_slots = 0;       // columns of ids and weights
  const int32_t* ids;    // (n_tokens, n_slots) expert or −1
  const float* weights;  // (n_tokens, n_slots)
  const float* logits;   // (n_tokens, n_experts), or null unless SessionOptions::observe_router
};
using RouterObserver = std::function<void(const RouterView&)>;

// Not thread-safe: one session a thread. eval() does not allocate. The model must outlive it.
class Session {
 public:
  static Result<std::unique_ptr<Session>> create(const Model& model, const SessionOptions& options);
  ~Session();

  const Model& model() const { return model_; }
  const SessionOptions& options() const { return options_; }  // with the defaults filled in

  // Appends the tokens to their sequences, in order, and runs the model over them. Nothing is appended on error:
  // kOutOfRange when a sequence would exceed n_ctx (names both) or the batch exceeds max_batch or max_outputs,
  // kInvalidArgument for ids outside the vocabulary or sequences outside n_seqs, kCorrupt when logits are not finite.
  Status eval(std::span<const BatchToken> batch);

  // A whole prompt for one sequence, in batches. `on_logits(first position, rows)` gets every batch's logits when given (rows
  // is (n, n_vocab)); otherwise only the last token's row is made. `on_progress(tokens done)` may return false: kCancelled.
  using LogitsFunction = std::function<void(int first, std::span<const float> rows)>;
  using ProgressFunction = std::function<bool(int done)>;
  Status eval_prompt(std::span<const Token> tokens, int seq = 0, const LogitsFunction& on_logits = {},
                     const ProgressFunction& on_progress = {});

  // Row i (n_vocab) of the logits wanted in the last eval(), in batch order. Valid until the next one.
  std::span<const float> logits(int i = 0) const;
  int n_logits() const { return n_logits_; }

  int length(int seq = 0) const;                     // tokens held
  std::span<const Token> tokens(int seq = 0) const;  // (length)
  Status truncate(int seq, int length);              // forgets everything from position `length` on
  Status copy_sequence(int from, int to);            // `to` becomes a copy

  // Takes effect at the next eval(); validated against the model first. Cheap unless some layer's k_max exceeds every k seen
  // before.
  Status set_topology(const RoutingTopology& topology);
  const RoutingTopology& topology() const { return topology_; }

  void set_observer(RouterObserver observer) { observer_ = std::move(observer); }

  // One sequence with its tokens and cache, for another session of the same model and cache types (session_file.cpp: byte
  // layout).
  Status save(int seq, const std::string& path) const;
  Status restore(int seq, const std::string& path);

  const ModelGraph& graph() const { return graph_; }
  ExecutableStats stats() const;
  // What eval() runs. Another one after a set_topology() that needed room for more experts a token.
  const Executable& executable() const { return *executable_; }
  size_t cache_bytes() const;  // reserved for keys and values

 private:
  Session(const Model& model, const SessionOptions& options);
  void allocate_tables();
  Status compile(std::vector<int> k_capacity);
  Status allocate_caches();
  Status bind_caches();
  Status check_batch(std::span<const BatchToken> batch) const;
  void notify(int n_tokens);
  void reserve_observed();
  const int32_t* rows_of_places(const RouterValues& r, const RouterView& view);

  const Model& model_;
  SessionOptions options_;
  ModelGraph graph_;
  std::unique_ptr<Executable> executable_;
  std::unique_ptr<Executable> retired_;                                  // what made logits_, until the next eval()
  std::vector<Buffer> cache_k_, cache_v_;                                // (n layers)
  std::vector<std::vector<Token>> sequences_;                            // (n_seqs), capacity n_ctx
  std::vector<int32_t> token_ids_, positions_, slots_, rows_, classes_;  // (max_batch), (max_outputs)
  mutable std::vector<int32_t> growth_;                                  // (n_seqs) scratch of check_batch
  std::vector<RoutingTables> tables_;                                    // (n layers)
  RoutingTopology topology_;
  RouterObserver observer_;
  std::vector<int32_t> observed_rows_, observed_ids_;  // scratch of notify() where the file lacks weights of some experts
  Tensor logits_;
  int n_logits_ = 0;
};

}  // namespace moe
