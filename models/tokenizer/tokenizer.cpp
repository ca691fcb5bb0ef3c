#include "models/tokenizer/tokenizer.h"

#include "models/tokenizer/bpe.h"
#include "models/tokenizer/special_splitter.h"
#include "models/tokenizer/special_tokens.h"
#include "models/tokenizer/spm.h"
#include "models/tokenizer/vocabulary.h"

namespace moe {

struct Tokenizer::State {
  explicit State(Vocabulary v)
      : vocabulary(std::move(v)),
        user_defined(vocabulary, SpecialSplitter::Kinds::kUserDefined),
        all_special(vocabulary, SpecialSplitter::Kinds::kAll) {}

  Vocabulary vocabulary;
  SpecialSplitter user_defined, all_special;  // view the vocabulary
  std::unique_ptr<const FragmentEncoder> encoder;
  std::vector<bool> ends_generation;  // (n_vocab)
  std::vector<Token> visible;         // control tokens that are shown
  TokenizerData data;                 // without what vocabulary and encoder have taken over
};

namespace {

Result<TextForm> text_form(const std::string& model) {
  if (model == "gpt2") return TextForm::kByteLevel;
  if (model == "llama") return TextForm::kSentencePiece;
  return Status::Unsupported("tokenizer.ggml.model: unknown tokenizer '" + model + "'; known: gpt2, llama");
}

template <class Encoder>
Result<std::unique_ptr<const FragmentEncoder>> boxed(Result<Encoder> encoder) {
  if (!encoder.ok()) return encoder.status();
  return std::unique_ptr<const FragmentEncoder>(std::make_unique<const Encoder>(std::move(encoder).value()));
}

Result<std::unique_ptr<const FragmentEncoder>> make_encoder(const TokenizerData& data, TextForm form,
                                                            const Vocabulary& vocabulary) {
  if (form == TextForm::kByteLevel) return boxed(BpeEncoder::create(vocabulary, data.merges, data.pre));
  return boxed(SpmEncoder::create(vocabulary, data.scores, data.unk, data.add_space_prefix));
}

Status check_special_ids(const TokenizerData& data, const Vocabulary& vocabulary) {
  const struct {
    std::string_view name;
    Token id;
  } rows[] = {{"bos", data.bos},     {"eos", data.eos},     {"eot", data.eot},      {"eom", data.eom},
              {"unknown", data.unk}, {"padding", data.pad}, {"seperator", data.sep}};
  for (const auto& row : rows) {
    if (row.id == kNoToken || vocabulary.contains(row.id)) continue;
    return Status::Corrupt("tokenizer.ggml." + std::string(row.name) + "_token_id: " + std::to_string(row.id) +
                           " is outside the vocabulary of " + std::to_string(vocabulary.size()) + " tokens");
  }
  if (data.add_bos && data.bos == kNoToken) return Status::Corrupt("tokenizer.ggml.add_bos_token is true without bos_token_id");
  if (data.add_eos && data.eos == kNoToken) return Status::Corrupt("tokenizer.ggml.add_eos_token is true without eos_token_id");
  return Status::Ok();
}

std::vector<Token> visible_tokens(const Vocabulary& vocabulary) {
  std::vector<Token> tokens;
  for (const WellKnownToken& known : well_known_tokens()) {
    const Token token = known.visible ? vocabulary.find(known.text) : kNoToken;
    if (token != kNoToken) tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

Result<Tokenizer> Tokenizer::create(TokenizerData data) {
  MOE_ASSIGN(const TextForm form, text_form(data.model));
  MOE_ASSIGN(Vocabulary vocabulary, Vocabulary::create(std::move(data.tokens), data.types, form));
  auto state = std::make_unique<State>(std::move(vocabulary));
  MOE_TRY(check_special_ids(data, state->vocabulary));
  MOE_ASSIGN(state->encoder, make_encoder(data, form, state->vocabulary));
  if (data.eot == kNoToken) data.eot = find_end_of_turn(state->vocabulary);
  if (data.eom == kNoToken) data.eom = find_end_of_message(state->vocabulary);
  const Token ends[] = {data.eos, data.eot, data.eom};
  state->ends_generation = end_of_generation_tokens(state->vocabulary, ends);
  state->visible = visible_tokens(state->vocabulary);
  data.tokens = {}, data.scores = {}, data.types = {}, data.merges = {};
  state->data = std::move(data);
  return Tokenizer(std::move(state));
}

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<std::vector<Token>> Tokenizer::encode(std::string_view text) const { return encode(text, EncodeOptions()); }

Result<std::vector<Token>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > kMaxTextBytes) {
    return Status::OutOfRange("tokenizer: a text of " + std::to_string(text.size()) + " bytes; at most " +
                              std::to_string(kMaxTextBytes) + " can be encoded at once");
  }
  std::vector<Token> tokens;
  if (options.add_special && state_->data.add_bos) tokens.push_back(state_->data.bos);
  bool opens_text = true;
  const SpecialSplitter& splitter = options.parse_special ? state_->all_special : state_->user_defined;
  for (const Fragment& fragment : splitter.split(text)) {
    if (fragment.token == kNoToken) {
      MOE_TRY(state_->encoder->encode(text.substr(fragment.begin, fragment.size), opens_text, tokens));
    } else {
      tokens.push_back(fragment.token);
    }
    opens_text = fragment.token != kNoToken;
  }
  if (options.add_special && state_->data.add_eos) tokens.push_back(state_->data.eos);
  return tokens;
}

bool Tokenizer::is_shown(Token token, bool render_special) const {
  if (render_special || !is_control(token)) return true;
  for (const Token visible : state_->visible) {
    if (visible == token) return true;
  }
  return false;
}

std::string_view Tokenizer::piece(Token token, bool render_special) const {
  if (!state_->vocabulary.contains(token) || !is_shown(token, render_special)) return {};
  return state_->vocabulary.bytes(token);
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool render_special) const {
  std::string text;
  bool opens_text = true;
  for (const Token token : tokens) {
    if (!state_->vocabulary.contains(token)) continue;
    std::string_view bytes = piece(token, render_special);
    const TokenKind kind = state_->vocabulary.kind(token);
    const bool special = is_control(token) || kind == TokenKind::kUserDefined;
    if (opens_text && !special && state_->data.add_space_prefix && !bytes.empty() && bytes[0] == ' ') bytes.remove_prefix(1);
    text.append(bytes);
    opens_text = special;
  }
  return text;
}

size_t Tokenizer::longest_piece() const { return state_->vocabulary.longest_bytes(); }
int Tokenizer::n_vocab() const { return state_->vocabulary.size(); }
Token Tokenizer::bos() const { return state_->data.bos; }
Token Tokenizer::eos() const { return state_->data.eos; }
Token Tokenizer::eot() const { return state_->data.eot; }
Token Tokenizer::eom() const { return state_->data.eom; }
Token Tokenizer::unk() const { return state_->data.unk; }
Token Tokenizer::pad() const { return state_->data.pad; }
Token Tokenizer::sep() const { return state_->data.sep; }
bool Tokenizer::add_bos() const { return state_->data.add_bos; }
bool Tokenizer::add_eos() const { return state_->data.add_eos; }
const std::string& Tokenizer::chat_template() const { return state_->data.chat_template; }

bool Tokenizer::is_control(Token token) const {
  if (!state_->vocabulary.contains(token)) return false;
  const TokenKind kind = state_->vocabulary.kind(token);
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

bool Tokenizer::is_end_of_generation(Token token) const {
  return state_->vocabulary.contains(token) && state_->ends_generation[static_cast<size_t>(token)];
}

Token Tokenizer::find(std::string_view text) const { return state_->vocabulary.find(text); }

}  // namespace moe
