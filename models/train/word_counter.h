// How often each word of a text occurs: what byte-level BPE is trained on. Words are what the pre-tokeniser cuts, so merges
// never cross their ends, and a corpus of gigabytes shrinks to its distinct words.
//
// The table is cut into shards by the words' hash. Threads split pieces of text side by side; then each shard takes its words
// in the order of the text. So a shard's content, and with it what is forgotten when it is full, does not depend on the
// threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "core/threads.h"
#include "models/tokenizer/pretokenizer.h"

namespace moe {

// Move-only in spirit, copyable in fact; not thread-safe.
class WordCounter {
 public:
  static constexpr size_t kMostWordBytes = 512;  // longer words (base64, rows of dashes) are counted in pieces of this size

  // `pre`: a name of the pre-tokeniser table, kNotFound otherwise. `max_words` ≥ 1024 bounds memory, about 40 bytes each: a
  // shard with more than its part of them forgets the rarest, as if they had not been seen yet.
  static Result<WordCounter> create(std::string_view pre, size_t max_words = size_t{1} << 23);

  // Each text is a document: no word reaches into the next one. Any bytes. The sums do not depend on the pool.
  void add(std::span<const std::string_view> texts, ThreadPool& pool);
  void add(std::string_view text);  // on the calling thread

  const std::string& pre() const { return pre_; }
  size_t n_words() const;                        // distinct
  uint64_t n_occurrences() const;                // of those
  uint64_t n_bytes() const { return n_bytes_; }  // of all texts
  uint64_t forgotten() const;                    // occurrences of words that the bound cost
  using Visit = std::function<void(std::string_view word, uint64_t count)>;
  void for_each(const Visit& visit) const;  // in an order that only the texts decide

 private:
  static constexpr size_t kShards = 16;

  struct Slot {
    uint64_t count = 0;  // 0: free
    uint64_t begin = 0;  // in `bytes`
    uint32_t hash = 0, size = 0;
  };
  class Shard {
   public:
    void add(std::string_view word, uint64_t hash, uint64_t count, size_t most);
    std::string_view word(const Slot& s) const { return std::string_view(bytes_).substr(s.begin, s.size); }

    std::vector<Slot> slots;  // open addressing, a power of two
    size_t used = 0;
    uint64_t forgotten = 0;

   private:
    void insert(std::string_view word, uint32_t hash, uint64_t count);
    void rebuild(size_t n_slots, uint64_t least);
    void forget(size_t most);
    std::string bytes_;
  };
  struct Word {
    uint64_t hash;
    const char* data;
    uint32_t size;
  };

  void split(std::string_view piece, std::vector<Word>& words) const;
  void count_shard(size_t shard, size_t n_pieces);
  template <class Run>
  void count(std::span<const std::string_view> texts, Run run);

  std::string pre_;
  Pretokenizer pretokenizer_;
  size_t most_in_shard_ = 0;
  uint64_t n_bytes_ = 0;
  std::vector<Shard> shards_;
  std::vector<std::string_view> pieces_;  // of the group at work
  std::vector<std::vector<Word>> words_;  // of each of them
};

}  // namespace moe
