#include "models/tokenizer/tokenizer_data.h"

#include <limits>

#include "models/io/metadata.h"
#include "models/tokenizer/pretokenizer.h"

namespace moe {
namespace {

constexpr int64_t kUnsignedMinusOne = std::numeric_limits<uint32_t>::max();  // "none", as some converters write it

Status read_id(const Metadata& metadata, std::string_view key, Token& id) {
  if (!metadata.has(key)) return Status::Ok();
  MOE_ASSIGN(const int64_t value, metadata.get<int64_t>(key));
  if (value == -1 || value == kUnsignedMinusOne) {
    id = kNoToken;
    return Status::Ok();
  }
  if (value < 0 || value > std::numeric_limits<Token>::max()) {
    return Status::Corrupt(metadata.source() + ": key '" + std::string(key) + "': " + std::to_string(value) + " is no token");
  }
  id = static_cast<Token>(value);
  return Status::Ok();
}

template <class T>
Status read_array(const Metadata& metadata, std::string_view key, std::vector<T>& out) {
  if (!metadata.has(key)) return Status::Ok();
  MOE_ASSIGN(out, metadata.get_array<T>(key));
  return Status::Ok();
}

Status read_ids(const Metadata& metadata, TokenizerData& data) {
  struct Row {
    std::string_view key;
    Token* id;
  };
  const Row rows[] = {
      {"tokenizer.ggml.bos_token_id", &data.bos},       {"tokenizer.ggml.eos_token_id", &data.eos},
      {"tokenizer.ggml.eot_token_id", &data.eot},       {"tokenizer.ggml.eom_token_id", &data.eom},
      {"tokenizer.ggml.unknown_token_id", &data.unk},   {"tokenizer.ggml.padding_token_id", &data.pad},
      {"tokenizer.ggml.seperator_token_id", &data.sep},  // spelt so in the format
  };
  for (const Row& row : rows) MOE_TRY(read_id(metadata, row.key, *row.id));
  return Status::Ok();
}

}  // namespace

Result<TokenizerData> TokenizerData::from_metadata(const Metadata& metadata) {
  TokenizerData data;
  MOE_ASSIGN(data.model, metadata.get<std::string>("tokenizer.ggml.model"));
  MOE_ASSIGN(data.pre, metadata.get_or<std::string>("tokenizer.ggml.pre", ""));
  MOE_ASSIGN(data.tokens, metadata.get_array<std::string>("tokenizer.ggml.tokens"));
  MOE_TRY(read_array(metadata, "tokenizer.ggml.scores", data.scores));
  MOE_TRY(read_array(metadata, "tokenizer.ggml.token_type", data.types));
  MOE_TRY(read_array(metadata, "tokenizer.ggml.merges", data.merges));

  const bool sentencepiece = data.model == "llama";
  if (sentencepiece && data.tokens.size() > 2) data.unk = 0, data.bos = 1, data.eos = 2;
  MOE_TRY(read_ids(metadata, data));

  const bool add_bos = data.bos != kNoToken && (sentencepiece || pretokenizer_traits(data.pre).add_bos);
  MOE_ASSIGN(data.add_bos, metadata.get_or<bool>("tokenizer.ggml.add_bos_token", add_bos));
  MOE_ASSIGN(data.add_eos, metadata.get_or<bool>("tokenizer.ggml.add_eos_token", false));
  MOE_ASSIGN(data.add_space_prefix, metadata.get_or<bool>("tokenizer.ggml.add_space_prefix", sentencepiece));
  MOE_ASSIGN(data.chat_template, metadata.get_or<std::string>("tokenizer.chat_template", ""));
  return data;
}

}  // namespace moe
