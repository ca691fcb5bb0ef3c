// Which storage format each tensor of a quantised file gets.
//
// A type name is a recipe: `q4_k_m` stores most matrices as q4_k, those that hurt most as q6_k, and leaves norms, biases and
// routers alone. The recipes and their exceptions are those of llama.cpp (src/llama-quant.cpp, without importance matrix), so
// that a file has the size and quality that people know under its name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/io/metadata.h"
#include "tensor/dtype.h"

namespace moe {

struct QuantMixName {
  const char* name;    // "q4_k_m", "q8_0", "mxfp4"
  DType base;          // what most matrices become
  uint32_t file_type;  // general.file_type, as llama.h numbers it
  const char* alias;   // another name of it, or ""
};
std::span<const QuantMixName> quant_mixes();

// `pattern` matches whole tensor names; * stands for any characters, ? for one: "blk.0.*", "*.ffn_down_exps.weight".
struct TensorTypeRule {
  std::string pattern;
  DType type;
};
bool matches_pattern(std::string_view pattern, std::string_view name);
// "PATTERN=TYPE".
Result<TensorTypeRule> parse_tensor_rule(std::string_view text);

struct TypeChoiceOptions {
  std::string mix;                      // a name or an alias of quant_mixes()
  bool pure = false;                    // every matrix gets the base type
  std::optional<DType> output_type;     // of output.weight, and of the token embedding that stands in for it
  std::optional<DType> embedding_type;  // of token_embd.weight
  std::vector<TensorTypeRule> rules;    // before the mix's own choice; the first that matches wins
};

struct TypeRequest {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  DType type;                  // now
};

struct TypeChoice {
  DType type;
  std::string fallback;  // why it is not the type wanted, e.g. "rows of 96: q4_k needs 256", or ""
};

// Whether a mix may change this tensor at all: matrices called *.weight other than norms and routers.
bool is_quantizable(std::string_view name, std::span<const int64_t> shape);

// One choice a request, whatever their order. `metadata` tells architecture, layers, heads and experts; what it lacks counts as
// 0. kInvalidArgument for an unknown mix (lists the names) and for a rule that matches no tensor it could change.
Result<std::vector<TypeChoice>> choose_types(std::span<const TypeRequest> requests, const Metadata& metadata,
                                             const TypeChoiceOptions& options);

// general.file_type and general.quantization_version for a file made with this mix.
Status set_file_type(const std::string& mix, Metadata& metadata);

}  // namespace moe
