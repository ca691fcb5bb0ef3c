#include "models/tokenizer/bpe.h"

#include <bit>
#include <map>

#include "models/tokenizer/unicode.h"

namespace moe {
namespace {

constexpr int kMaxProbes = 10000;  // see vocabulary.cpp

uint64_t hash_of(Token left, Token right) {
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  const uint64_t mixed = key * 0x9E3779B97F4A7C15u;
  return mixed ^ mixed >> 32;
}

bool is_plain_ascii(uint8_t b) { return (b >= 0x20 && b < 0x7F) || b == '\t' || b == '\n' || b == '\r'; }

}  // namespace

// Turns the lines of tokenizer.ggml.merges into pairs of tokens. A merge may lead to a text that is no token, as a step to a
// longer one: such texts get numbers from n_vocab upwards and are written as single bytes where they remain.
class BpeEncoder::MergeReader {
 public:
  explicit MergeReader(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}

  Status read(const std::string& line, size_t rank, Token& left, Token& right, Token& merged) {
    // The left text may begin with a blank that belongs to it, so the separator is looked for behind the first character.
    const size_t blank = line.find(' ', 1);
    if (blank == std::string::npos) return error(line, rank, "wanted 'left right'");
    const std::string_view left_text = std::string_view(line).substr(0, blank);
    const std::string_view right_text = std::string_view(line).substr(blank + 1);
    left = find(left_text);
    right = find(right_text);
    if (left == kNoToken || right == kNoToken) {
      const std::string_view unknown = left == kNoToken ? left_text : right_text;
      return error(line, rank, "'" + std::string(unknown.substr(0, 64)) + "' is neither a token nor an earlier merge");
    }
    joined_.assign(left_text).append(right_text);
    merged = find(joined_);
    if (merged == kNoToken) {
      merged = vocabulary_.size() + static_cast<Token>(steps_.size());
      steps_.emplace(joined_, merged);
    }
    return Status::Ok();
  }

 private:
  Token find(std::string_view text) const {
    const Token token = vocabulary_.find(text);
    if (token != kNoToken || steps_.empty()) return token;
    const auto step = steps_.find(text);
    return step == steps_.end() ? kNoToken : step->second;
  }

  static Status error(const std::string& line, size_t rank, const std::string& what) {
    return Status::Corrupt("tokenizer.ggml.merges[" + std::to_string(rank) + "] '" + line.substr(0, 64) + "': " + what);
  }

  const Vocabulary& vocabulary_;
  std::map<std::string, Token, std::less<>> steps_;
  std::string joined_;
};

Result<BpeEncoder> BpeEncoder::create(const Vocabulary& vocabulary, std::span<const std::string> merges, std::string_view pre) {
  BpeEncoder encoder(vocabulary);
  MOE_ASSIGN(encoder.pretokenizer_, Pretokenizer::create(pre));
  if (merges.size() > static_cast<size_t>(INT32_MAX / 2)) return Status::Corrupt("tokenizer.ggml.merges: too many");
  encoder.slots_.resize(std::bit_ceil(merges.size() * 2 + 2));
  MergeReader reader(vocabulary);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    Token left, right, merged;
    MOE_TRY(reader.read(merges[rank], rank, left, right, merged));
    MOE_TRY(encoder.add_merge(left, right, static_cast<uint32_t>(rank), merged));
  }
  return encoder;
}

Status BpeEncoder::add_merge(Token left, Token right, uint32_t rank, Token merged) {
  size_t i = hash_of(left, right) & (slots_.size() - 1);
  for (int probes = 0; slots_[i].left != kNoToken; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].left == left && slots_[i].right == right) return Status::Ok();  // the first mention counts
    if (++probes > kMaxProbes) return Status::Corrupt("tokenizer.ggml.merges: pairs made to collide");
  }
  slots_[i] = {left, right, rank, merged};
  return Status::Ok();
}

bool BpeEncoder::find_merge(Token left, Token right, Merge& merge) const {
  for (size_t i = hash_of(left, right) & (slots_.size() - 1); slots_[i].left != kNoToken; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].left != left || slots_[i].right != right) continue;
    merge = {slots_[i].rank, slots_[i].merged};
    return true;
  }
  return false;
}

Status BpeEncoder::encode(std::string_view text, bool /*opens_text*/, std::vector<Token>& out) const {
  MergeScratch scratch;
  size_t begin = 0;
  for (const size_t end : pretokenizer_.split(text)) {
    MOE_TRY(encode_word(text.substr(begin, end - begin), scratch, out));
    begin = end;
  }
  return Status::Ok();
}

Status BpeEncoder::encode_word(std::string_view word, MergeScratch& scratch, std::vector<Token>& out) const {
  if (pretokenizer_.traits().ignore_merges) {
    const Token token = whole_word(word);
    if (token != kNoToken) return out.push_back(token), Status::Ok();
  }
  scratch.symbols.clear();
  for (uint32_t i = 0; i < word.size(); ++i) scratch.add_symbol(vocabulary_->byte_token(static_cast<uint8_t>(word[i])), i, 1);
  merge_symbols(scratch, [this](const Symbol& left, const Symbol& right, Merge& merge) {
    return left.token != kNoToken && right.token != kNoToken && find_merge(left.token, right.token, merge);
  });
  for (int32_t i = 0; i >= 0; i = scratch.symbols[static_cast<size_t>(i)].next) {
    const Symbol& symbol = scratch.symbols[static_cast<size_t>(i)];
    if (vocabulary_->contains(symbol.token)) {
      out.push_back(symbol.token);
    } else {
      MOE_TRY(append_bytes(word.substr(symbol.begin, symbol.size), out));
    }
  }
  return Status::Ok();
}

// Published vocabularies lack bytes that their training text did not have (StarCoder 0xF1, Falcon most control characters).
// Like llama.cpp and Hugging Face's tokenizers we leave those out of the prompt, but not what people type.
Status BpeEncoder::append_bytes(std::string_view bytes, std::vector<Token>& out) const {
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (vocabulary_->byte_token(byte) != kNoToken) {
      out.push_back(vocabulary_->byte_token(byte));
    } else if (is_plain_ascii(byte)) {
      return Status::Unsupported("tokenizer: the vocabulary has no token for byte " + std::to_string(byte) + " of the text");
    }
  }
  return Status::Ok();
}

// The token that stands for exactly this word, special ones left out.
Token BpeEncoder::whole_word(std::string_view word) const {
  if (word.size() > vocabulary_->longest_bytes()) return kNoToken;
  std::string text;
  for (const char c : word) append_utf8(level_char(static_cast<uint8_t>(c)), text);
  const Token token = vocabulary_->find(text);
  const bool usable = token != kNoToken && vocabulary_->kind(token) != TokenKind::kControl;
  return usable ? token : kNoToken;
}

}  // namespace moe
