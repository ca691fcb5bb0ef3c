// The words are kept as sequences of tokens, every pair of neighbours knows its count and the words it occurs in, and a heap
// knows the most frequent pair. A merge visits the words of its pair only. Its neighbours' counts change at once, the heap does
// not: an entry whose count has fallen since is put back when it comes up (lazy updates), a pair whose count rose gets a new
// one.
#include "models/train/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "models/io/metadata.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/vocabulary.h"

namespace moe {
namespace {

std::string level_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(level_char(static_cast<uint8_t>(c)), text);
  return text;
}

// (left, right) -> number of the pair, by open addressing. std::unordered_map takes three times as long here.
class PairIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  PairIndex() : slots_(1 << 16) {}

  // The pair's number; a new pair gets `next`.
  uint32_t find_or_add(Token left, Token right, uint32_t next) {
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    if (used_ * 2 > slots_.size()) grow();
    Slot& slot = locate(key);
    if (slot.number == kNone) slot = {key, next}, ++used_;
    return slot.number;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t number = kNone;
  };

  Slot& locate(uint64_t key) {
    uint64_t h = key * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    size_t i = h & (slots_.size() - 1);
    while (slots_[i].number != kNone && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return slots_[i];
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    std::swap(old, slots_);
    for (const Slot& s : old)
      if (s.number != kNone) locate(s.key) = s;
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

class Merger {
 public:
  Merger(const WordCounter& words, const BpeTrainerOptions& options);
  // The next token by as many merges as it takes; false when no pair is frequent enough.
  bool add_token();

  const std::vector<std::string>& tokens() const { return tokens_; }  // bytes; of special tokens their text
  std::vector<std::string>& merges() { return merges_; }

 private:
  struct Word {
    size_t begin;  // in symbols_
    uint32_t size;
    int64_t count;
  };
  struct Pair {
    Token left, right;
    int64_t count = 0;
    int64_t queued = 0;           // count in its newest heap entry, 0: none
    bool merged = false;          // is in merges_
    std::vector<uint32_t> words;  // those it occurs in, and some it occurred in
  };
  struct Entry {
    int64_t count;
    uint32_t pair;
  };
  struct Worse {
    const Merger* m;
    bool operator()(const Entry& a, const Entry& b) const { return m->is_worse(a, b); }
  };

  bool is_worse(const Entry& a, const Entry& b) const;
  Pair& touch(Token left, Token right, int64_t change, uint32_t word);
  void queue(uint32_t number);
  void merge(uint32_t number, Token merged);
  void merge_word(uint32_t number, Token left, Token right, Token merged);
  Token token_of(std::string bytes);
  bool is_refused(std::string_view bytes) const;

  const BpeTrainerOptions& options_;
  std::vector<Token> symbols_;  // of all words
  std::vector<Word> words_;
  std::vector<Pair> pairs_;
  PairIndex index_;
  std::vector<uint32_t> risen_;  // pairs whose count rose in the merge at work
  std::vector<std::string> tokens_, merges_;
  std::unordered_map<std::string, Token> by_bytes_;
  std::unordered_set<std::string> special_texts_;
  std::priority_queue<Entry, std::vector<Entry>, Worse> heap_;
};

Merger::Merger(const WordCounter& words, const BpeTrainerOptions& options)
    : options_(options), special_texts_(options.specials.begin(), options.specials.end()), heap_(Worse{this}) {
  for (int b = 0; b < 256; ++b) tokens_.push_back(std::string(1, static_cast<char>(b))), by_bytes_[tokens_.back()] = b;
  tokens_.insert(tokens_.end(), options.specials.begin(), options.specials.end());
  words.for_each([&](std::string_view word, uint64_t count) {
    if (word.size() < 2) return;
    words_.push_back({symbols_.size(), static_cast<uint32_t>(word.size()), static_cast<int64_t>(count)});
    for (const char c : word) symbols_.push_back(static_cast<uint8_t>(c));
  });
  for (uint32_t w = 0; w < words_.size(); ++w) {
    const Token* s = symbols_.data() + words_[w].begin;
    for (uint32_t i = 1; i < words_[w].size; ++i) touch(s[i - 1], s[i], words_[w].count, w);
  }
  for (const uint32_t number : risen_) queue(number);
}

bool Merger::is_worse(const Entry& a, const Entry& b) const {
  if (a.count != b.count) return a.count < b.count;
  const auto bytes = [&](Token t) -> const std::string& { return tokens_[static_cast<size_t>(t)]; };
  const Pair &p = pairs_[a.pair], &q = pairs_[b.pair];
  const int order = bytes(p.left).compare(bytes(q.left));
  return order != 0 ? order > 0 : bytes(p.right) > bytes(q.right);
}

// A pair now occurs `change` times more (or, negative, less).
Merger::Pair& Merger::touch(Token left, Token right, int64_t change, uint32_t word) {
  const auto next = static_cast<uint32_t>(pairs_.size());
  const uint32_t number = index_.find_or_add(left, right, next);
  if (number == next) pairs_.push_back({left, right, 0, 0, false, {}});
  Pair& pair = pairs_[number];
  pair.count += change;
  if (change < 0) return pair;
  if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
  if (risen_.empty() || risen_.back() != number) risen_.push_back(number);
  return pair;
}

void Merger::queue(uint32_t number) {
  Pair& pair = pairs_[number];
  if (pair.count <= pair.queued || pair.count < static_cast<int64_t>(options_.min_count)) return;
  pair.queued = pair.count;
  heap_.push({pair.count, number});
}

// Replaces the pair from left to right. "a b a b": the second merge finds what the first one left beside it.
void Merger::merge_word(uint32_t number, Token left, Token right, Token merged) {
  Word& word = words_[number];
  Token* s = symbols_.data() + word.begin;
  uint32_t out = 0;
  for (uint32_t in = 0; in < word.size; ++in) {
    if (s[in] != left || in + 1 == word.size || s[in + 1] != right) {
      s[out++] = s[in];
      continue;
    }
    ++in;
    if (out > 0) {
      touch(s[out - 1], left, -word.count, number);
      touch(s[out - 1], merged, word.count, number);
    }
    if (in + 1 < word.size) {
      touch(right, s[in + 1], -word.count, number);
      touch(merged, s[in + 1], word.count, number);
    }
    s[out++] = merged;
  }
  word.size = out;
}

void Merger::merge(uint32_t number, Token merged) {
  const Token left = pairs_[number].left, right = pairs_[number].right;
  const std::vector<uint32_t> words = std::move(pairs_[number].words);
  risen_.clear();
  for (const uint32_t w : words) merge_word(w, left, right, merged);
  pairs_[number].count = 0;  // also where left = right, whose neighbours counted it down and up
  pairs_[number].words.clear();
  for (const uint32_t p : risen_) queue(p);
}

// Two ways to one text are one token ("a bc" and "ab c"): a vocabulary has a text once.
Token Merger::token_of(std::string bytes) {
  const auto [at, is_new] = by_bytes_.emplace(std::move(bytes), static_cast<Token>(tokens_.size()));
  if (is_new) tokens_.push_back(at->first);
  return at->second;
}

bool Merger::is_refused(std::string_view bytes) const {
  return bytes.size() > options_.max_token_bytes || special_texts_.contains(level_text(bytes));
}

bool Merger::add_token() {
  for (const size_t before = tokens_.size(); tokens_.size() == before;) {
    if (heap_.empty()) return false;
    const Entry top = heap_.top();
    heap_.pop();
    Pair& pair = pairs_[top.pair];
    if (top.count != pair.queued) continue;  // a newer entry is in the heap
    pair.queued = 0;
    if (top.count != pair.count) {
      queue(top.pair);
      continue;
    }
    const std::string &left = tokens_[static_cast<size_t>(pair.left)], &right = tokens_[static_cast<size_t>(pair.right)];
    if (is_refused(left + right)) continue;
    // Merged before and there again: another way to one of its halves was found since.
    if (!pair.merged) merges_.push_back(level_text(left) + " " + level_text(right));
    pair.merged = true;
    const Token merged = token_of(left + right);
    merge(top.pair, merged);
  }
  return true;
}

Status check(const BpeTrainerOptions& o) {
  const auto refuse = [](const std::string& what) { return Status::InvalidArgument("tokenizer training: " + what); };
  if (o.min_count < 1) return refuse("min_count: wanted 1 or more, found 0");
  if (o.specials.empty()) return refuse("wanted a special token that ends documents, found none");
  const size_t least = 256 + o.specials.size();
  if (o.n_vocab < 0 || static_cast<size_t>(o.n_vocab) < least || o.n_vocab > (1 << 24))
    return refuse("n_vocab: wanted " + std::to_string(least) + " (256 bytes and " + std::to_string(o.specials.size()) +
                  " special tokens) to " + std::to_string(1 << 24) + ", found " + std::to_string(o.n_vocab));
  std::unordered_set<std::string> taken;
  for (int b = 0; b < 256; ++b) taken.insert(level_text(std::string(1, static_cast<char>(b))));
  for (const std::string& s : o.specials) {
    if (s.empty()) return refuse("a special token is empty");
    if (!taken.insert(s).second) return refuse("special token '" + s + "' is there twice, or is the token of a byte");
  }
  return Status::Ok();
}

TokenizerData data_of(Merger& merger, const std::string& pre, size_t n_specials) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  for (size_t t = 0; t < merger.tokens().size(); ++t) {
    const bool special = t >= 256 && t < 256 + n_specials;
    data.tokens.push_back(special ? merger.tokens()[t] : level_text(merger.tokens()[t]));
    data.types.push_back(static_cast<int32_t>(special ? TokenKind::kControl : TokenKind::kNormal));
  }
  data.merges = std::move(merger.merges());
  data.eos = 256;
  return data;
}

}  // namespace

Result<TrainedBpe> train_bpe(const WordCounter& words, const BpeTrainerOptions& options, const OnMerge& on_merge) {
  MOE_TRY(check(options));
  Merger merger(words, options);
  const auto wanted = static_cast<size_t>(options.n_vocab);
  bool more = true;
  while (more && merger.tokens().size() < wanted) {
    more = merger.add_token();
    if (on_merge && !on_merge(static_cast<int>(merger.tokens().size()), options.n_vocab))
      return Status::Cancelled("tokenizer training: cancelled");
  }
  TrainedBpe trained;
  trained.data = data_of(merger, words.pre(), options.specials.size());
  if (!more)
    trained.repair = "wanted " + std::to_string(wanted) + " tokens; the text supports " +
                     std::to_string(trained.data.tokens.size()) + ": no other pair occurs " +
                     std::to_string(options.min_count) + " times";
  return trained;
}

void set_tokenizer(const TokenizerData& data, Metadata& metadata) {
  const auto set_text = [&](const char* key, const std::string& text) {
    if (!text.empty()) metadata.set(key, std::string_view(text));
  };
  set_text("tokenizer.ggml.model", data.model);
  set_text("tokenizer.ggml.pre", data.pre);
  metadata.set("tokenizer.ggml.tokens", data.tokens);
  if (!data.scores.empty()) metadata.set("tokenizer.ggml.scores", data.scores);
  if (!data.types.empty()) metadata.set("tokenizer.ggml.token_type", data.types);
  if (data.model == "gpt2" || !data.merges.empty()) metadata.set("tokenizer.ggml.merges", data.merges);
  const std::pair<const char*, Token> ids[] = {
      {"bos", data.bos},     {"eos", data.eos},     {"eot", data.eot},       {"eom", data.eom},
      {"unknown", data.unk}, {"padding", data.pad}, {"seperator", data.sep},  // spelt so in the format
  };
  for (const auto& [name, id] : ids)
    if (id != kNoToken) metadata.set("tokenizer.ggml." + std::string(name) + "_token_id", static_cast<uint32_t>(id));
  metadata.set("tokenizer.ggml.add_bos_token", data.add_bos);
  metadata.set("tokenizer.ggml.add_eos_token", data.add_eos);
  metadata.set("tokenizer.ggml.add_space_prefix", data.add_space_prefix);
  set_text("tokenizer.chat_template", data.chat_template);
}

}  // namespace moe
