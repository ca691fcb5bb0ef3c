// What was computed and may be asked for again, within a budget of bytes: what was used least recently goes first.
//
// An entry is a key, the bytes it accounts for, and a value that may be missing: which keys are held depends on the calls
// alone, not on whose process made them, so that costs counted by it are those of a search that was never interrupted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

namespace moe {

template <class T>
class ByteLru {
 public:
  using Value = std::shared_ptr<const T>;  // shared: whoever reads a value keeps it while the budget drops it

  explicit ByteLru(size_t budget = 0) : budget_(budget) {}

  bool has(uint64_t key) const { return at_.count(key) > 0; }
  Value find(uint64_t key) const {
    const auto i = at_.find(key);
    return i == at_.end() ? nullptr : i->second->value;
  }
  void touch(uint64_t key) {
    if (const auto i = at_.find(key); i != at_.end()) entries_.splice(entries_.end(), entries_, i->second);
  }
  // As the one used last. Nothing is held that exceeds the budget alone.
  void add(uint64_t key, size_t bytes, Value value = nullptr) {
    if (bytes > budget_ || has(key)) return;
    bytes_ += bytes;
    entries_.push_back({key, bytes, std::move(value)});
    at_[key] = std::prev(entries_.end());
    shrink();
  }
  // Of a key that is held; else nothing happens.
  void fill(uint64_t key, Value value) {
    if (const auto i = at_.find(key); i != at_.end()) i->second->value = std::move(value);
  }

  void set_budget(size_t budget) { budget_ = budget, shrink(); }
  void clear() { entries_.clear(), at_.clear(), bytes_ = 0; }
  size_t bytes() const { return bytes_; }
  size_t budget() const { return budget_; }

 private:
  struct Entry {
    uint64_t key;
    size_t bytes;
    Value value;
  };
  void shrink() {
    while (bytes_ > budget_) {
      bytes_ -= entries_.front().bytes;
      at_.erase(entries_.front().key);
      entries_.pop_front();
    }
  }
  size_t budget_, bytes_ = 0;
  std::list<Entry> entries_;  // the one used least recently first
  std::unordered_map<uint64_t, typename std::list<Entry>::iterator> at_;
};

}  // namespace moe
