// Aligned, stack-ordered scratch: one allocation at construction, bumps afterwards, a Frame gives back what it took.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/check.h"

namespace moe {

inline constexpr size_t kAlignment = 64;  // a cache line, and the widest vector register

inline constexpr size_t align_up(size_t n, size_t alignment = kAlignment) {
  return (n + alignment - 1) / alignment * alignment;
}

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{kAlignment}); }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

// Uninitialised bytes aligned to kAlignment; throws std::bad_alloc.
inline AlignedBytes allocate_aligned(size_t bytes) {
  return AlignedBytes(static_cast<std::byte*>(::operator new[](align_up(bytes ? bytes : 1), std::align_val_t{kAlignment})));
}

// Not thread-safe: one arena a thread.
class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t capacity) : bytes_(allocate_aligned(capacity)), capacity_(align_up(capacity)) {}

  size_t capacity() const { return capacity_; }
  size_t used() const { return used_; }

  // n uninitialised elements, aligned to kAlignment. Running out is our own bug: the plan sized the arena.
  template <class T>
  T* take(size_t n) {
    MOE_CHECK(n <= (capacity_ - used_) / sizeof(T));  // both are multiples of kAlignment: rounding up below stays inside
    const size_t bytes = align_up(n * sizeof(T));
    std::byte* p = bytes_.get() + used_;
    used_ += bytes;
    return reinterpret_cast<T*>(p);
  }

  // Everything taken after its construction is given back at its end.
  class Frame {
   public:
    explicit Frame(Arena& a) : arena_(a), mark_(a.used_) {}
    ~Frame() { arena_.used_ = mark_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Arena& arena_;
    size_t mark_;
  };

 private:
  AlignedBytes bytes_;
  size_t capacity_ = 0;
  size_t used_ = 0;
};

}  // namespace moe
