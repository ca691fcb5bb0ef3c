#include "models/train/word_counter.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

namespace moe {
namespace {

constexpr size_t kPieceBytes = 64 << 10;  // of text that one thread splits at a time
constexpr size_t kGroup = 64;             // pieces whose words are in memory at once

uint64_t hash_word(std::string_view word) {
  uint64_t h = word.size() * 0x9E3779B97F4A7C15u;
  for (size_t i = 0; i < word.size(); i += 8) {
    uint64_t v = 0;
    std::memcpy(&v, word.data() + i, std::min<size_t>(8, word.size() - i));
    h = (h ^ v) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
  }
  h *= 0xD6E8FEB86659FD93u;
  return h ^ h >> 32;
}

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Where to cut the text so that the piece has at most kPieceBytes. Between a line end and printable ASCII every pre-tokeniser
// ends a word, so nearly always the pieces' words are those of the whole; a text without such a place is cut before a
// character.
size_t piece_size(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  for (size_t end = kPieceBytes; end > 1; --end) {
    const auto next = static_cast<uint8_t>(text[end]);
    if (text[end - 1] == '\n' && next < 0x80 && !is_blank(text[end])) return end;
  }
  size_t end = kPieceBytes;
  while (end > kPieceBytes - 3 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

}  // namespace

// --- Shard ---

void WordCounter::Shard::insert(std::string_view word, uint32_t hash, uint64_t count) {
  size_t i = hash & (slots.size() - 1);
  while (slots[i].count != 0) i = (i + 1) & (slots.size() - 1);
  slots[i] = {count, bytes_.size(), hash, static_cast<uint32_t>(word.size())};
  bytes_ += word;
  ++used;
}

// A table of n_slots with the words that occurred `least` times.
void WordCounter::Shard::rebuild(size_t n_slots, uint64_t least) {
  std::vector<Slot> old(n_slots);
  std::swap(old, slots);
  const std::string text = std::move(bytes_);
  bytes_.clear();
  used = 0;
  for (const Slot& s : old) {
    if (s.count >= std::max<uint64_t>(least, 1))
      insert(std::string_view(text).substr(s.begin, s.size), s.hash, s.count);
    else
      forgotten += s.count;
  }
}

// Half of `most` or fewer words stay.
void WordCounter::Shard::forget(size_t most) {
  std::vector<uint64_t> counts;
  for (const Slot& s : slots)
    if (s.count != 0) counts.push_back(s.count);
  const auto middle = counts.end() - static_cast<std::ptrdiff_t>(most / 2);
  std::nth_element(counts.begin(), middle, counts.end());
  rebuild(slots.size(), *middle + 1);
}

void WordCounter::Shard::add(std::string_view word, uint64_t hash, uint64_t count, size_t most) {
  if (slots.empty()) slots.resize(1024);
  const auto low = static_cast<uint32_t>(hash);
  for (size_t i = low & (slots.size() - 1); slots[i].count != 0; i = (i + 1) & (slots.size() - 1)) {
    if (slots[i].hash != low || this->word(slots[i]) != word) continue;
    slots[i].count += count;
    return;
  }
  insert(word, low, count);
  if (used > most) forget(most);
  if (used > slots.size() / 2) rebuild(slots.size() * 2, 1);
}

// --- WordCounter ---

Result<WordCounter> WordCounter::create(std::string_view pre, size_t max_words) {
  if (max_words < 1024)
    return Status::InvalidArgument("word counter: wanted room for 1024 words or more, found " + std::to_string(max_words));
  WordCounter counter;
  MOE_ASSIGN(counter.pretokenizer_, Pretokenizer::create(pre));
  counter.pre_ = pre;
  counter.most_in_shard_ = max_words / kShards;
  counter.shards_.resize(kShards);
  return counter;
}

void WordCounter::split(std::string_view piece, std::vector<Word>& words) const {
  words.clear();
  size_t begin = 0;
  for (const size_t end : pretokenizer_.split(piece)) {
    for (; begin < end; begin += words.back().size) {
      const std::string_view word = piece.substr(begin, std::min(end - begin, kMostWordBytes));
      words.push_back({hash_word(word), word.data(), static_cast<uint32_t>(word.size())});
    }
  }
}

// The high half of the hash chooses the shard, the low one the slot.
void WordCounter::count_shard(size_t shard, size_t n_pieces) {
  for (size_t p = 0; p < n_pieces; ++p) {
    for (const Word& w : words_[p])
      if ((w.hash >> 32) % kShards == shard) shards_[shard].add({w.data, w.size}, w.hash, 1, most_in_shard_);
  }
}

// `run(n, f)` calls f(i) for i below n, on as many threads as it likes.
template <class Run>
void WordCounter::count(std::span<const std::string_view> texts, Run run) {
  words_.resize(kGroup);
  const auto count_group = [&] {
    const size_t n = pieces_.size();
    run(n, [this](size_t p) { split(pieces_[p], words_[p]); });
    run(kShards, [&](size_t shard) { count_shard(shard, n); });
    pieces_.clear();
  };
  for (std::string_view rest : texts) {
    n_bytes_ += rest.size();
    while (!rest.empty()) {
      const size_t size = piece_size(rest);
      pieces_.push_back(rest.substr(0, size));
      rest.remove_prefix(size);
      if (pieces_.size() == kGroup) count_group();
    }
  }
  if (!pieces_.empty()) count_group();
}

void WordCounter::add(std::span<const std::string_view> texts, ThreadPool& pool) {
  count(texts, [&](size_t n, auto f) {
    std::atomic<size_t> next = 0;
    auto work = [&](int) {
      for (size_t i = next++; i < n; i = next++) f(i);
    };
    pool.run(work);
  });
}

void WordCounter::add(std::string_view text) {
  count({&text, 1}, [](size_t n, auto f) {
    for (size_t i = 0; i < n; ++i) f(i);
  });
}

size_t WordCounter::n_words() const {
  size_t n = 0;
  for (const Shard& s : shards_) n += s.used;
  return n;
}

uint64_t WordCounter::n_occurrences() const {
  uint64_t n = 0;
  for_each([&](std::string_view, uint64_t count) { n += count; });
  return n;
}

uint64_t WordCounter::forgotten() const {
  uint64_t n = 0;
  for (const Shard& s : shards_) n += s.forgotten;
  return n;
}

void WordCounter::for_each(const Visit& visit) const {
  for (const Shard& shard : shards_)
    for (const Slot& s : shard.slots)
      if (s.count != 0) visit(shard.word(s), s.count);
}

}  // namespace moe
