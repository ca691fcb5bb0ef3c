#include "tools/evolve_texts.h"

#include "models/train/token_file.h"
#include "tools/byte_size.h"

namespace moe::tools {
namespace {

constexpr std::string_view kTokenMagic = "MOETOKEN";

Result<TextDomain> read_tokens(const EvolveText& text, const Model& model, size_t most_bytes) {
  MOE_ASSIGN(const TokenFile file, TokenFile::open(text.file));
  if (!model.tokenizer()) return model.tokenizer_status().Annotate("the model's vocabulary is not known");
  MOE_ASSIGN(const TokenizerData data, TokenizerData::from_metadata(model.metadata()));
  if (file.vocabulary_hash() != vocabulary_hash(data))
    return Status::InvalidArgument(text.file + ": wanted tokens of the model's vocabulary, found another's");
  const uint64_t most = most_bytes / sizeof(Token);
  TextDomain domain{text.name, {}};
  for (uint64_t i = 0; i < file.n_documents() && file.document_begin(i) < most; ++i) {
    std::vector<Token> document(std::min(file.document_end(i), most) - file.document_begin(i));
    MOE_TRY(file.read(file.document_begin(i), document));
    domain.documents.push_back(std::move(document));
  }
  return domain;
}

Result<TextDomain> read_text(const EvolveConfig& c, const EvolveText& text, const Tokenizer& tokenizer, ByteSource& source,
                             size_t most_bytes) {
  TextFormat format;
  const bool lines = text.file.ends_with(".jsonl") || text.file.ends_with(".jsonl.xz");
  if (lines) format.kind = TextKind::kJsonl;
  format.separator = unescape(c.separator);
  format.layout = unescape(c.layout);
  format.most_bytes = most_bytes;
  TextDomain domain{text.name, {}};
  TextCounts counts;
  size_t bytes = 0;
  bool full = false;
  const auto add = [&](std::string_view document) -> Status {
    if (interrupted()) return interrupted_status();
    document = document.substr(0, most_bytes - bytes);
    MOE_ASSIGN(std::vector<Token> tokens, tokenizer.encode(document, {.add_special = false, .parse_special = false}));
    if (!tokens.empty()) domain.documents.push_back(std::move(tokens));
    bytes += document.size();
    full = bytes >= most_bytes;
    return full ? Status::Cancelled("enough") : Status::Ok();
  };
  if (const Status s = read_documents(source, text.file, format, add, counts); !s.ok() && !full) return s;
  return domain;
}

}  // namespace

Result<std::vector<TextDomain>> read_domains(const EvolveConfig& config, const Model& model, const OpenText& open) {
  MOE_ASSIGN(const double most, parse_bytes(config.most_text));
  const auto most_bytes = static_cast<size_t>(std::min(most, 1e9));
  std::vector<TextDomain> domains;
  for (const EvolveText& text : config.texts) {
    MOE_ASSIGN(const std::unique_ptr<ByteSource> source, open(text.file));
    MOE_ASSIGN(const std::string_view magic, source->peek(kTokenMagic.size()));
    TextDomain domain;
    if (magic == kTokenMagic) {
      MOE_ASSIGN(domain, read_tokens(text, model, most_bytes));
    } else {
      if (!model.tokenizer()) return model.tokenizer_status().Annotate("the model has no tokenizer for " + text.file);
      MOE_ASSIGN(domain, read_text(config, text, *model.tokenizer(), *source, most_bytes));
    }
    domains.push_back(std::move(domain));
  }
  return domains;
}

}  // namespace moe::tools
