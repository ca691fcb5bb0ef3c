// Models that tests make, edit, write to a temporary folder and run.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/session.h"
#include "tests/sanitized.h"
#include "tests/temp_folder.h"

namespace moe::test {

// One tensor in memory, weights decoded to float32.
struct FileTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  std::vector<float> values;
  DType dtype = DType::kF32;  // to write it in
};

// A model file as a value: change keys and tensors, write it, load it.
struct ModelFile {
  Metadata metadata;
  std::vector<FileTensor> tensors;

  FileTensor& tensor(std::string_view name);
  bool has(std::string_view name) const;
  void remove(std::string_view name);
  std::string write(const TempFolder& folder, const std::string& name = "model.gguf") const;  // the path
};
ModelFile read_model(const std::string& path);

// All that this configuration declares, with seeded weights of a size that keeps activations near 1. Routers are spread so that
// rounding activations moves no route of the few tokens that tests run.
ModelFile random_model(const ModelConfig& config, uint64_t seed = 1);

// A small configuration of an architecture: 2 layers, width 64, 8 experts, 320 tokens.
ModelConfig tiny_config(const std::string& arch);

// The models of tests/data/reference, and the tokens that their logits are of.
std::span<const char* const> reference_names();
std::string reference_path(const std::string& name);  // of the .gguf
std::span<const Token> reference_tokens();
std::vector<float> read_logits(const std::string& path);

struct Setup {
  bool exact = true;
  int n_threads = 1;
  std::string isa;
};
std::unique_ptr<Model> load_model(const std::string& path, const Setup& setup = {});

// Room for 32 outputs, float32 caches.
SessionOptions roomy(int n_ctx = 64, int n_seqs = 1);
std::unique_ptr<Session> new_session(const Model& model, const SessionOptions& options = roomy());

// Logits of every token, evaluated `step` tokens at a time.
std::vector<float> run_tokens(Session& session, std::span<const Token> tokens, size_t step, int seq = 0);
// The same in a session of its own.
std::vector<float> run_tokens(const Model& model, std::span<const Token> tokens, size_t step);
// And for the reference tokens at once.
std::vector<float> run_reference(const Model& model);

std::vector<Token> random_tokens(size_t n, int n_vocab, uint64_t seed);

double nmse(std::span<const float> found, std::span<const float> wanted);
bool same_bits(std::span<const float> a, std::span<const float> b);
bool all_finite(std::span<const float> x);

// Names of all instruction sets that this processor runs, scalar first.
std::vector<std::string> runnable_isas();

bool has_text(const Status& status, std::string_view part);
bool is_one_line(const Status& status);

}  // namespace moe::test
