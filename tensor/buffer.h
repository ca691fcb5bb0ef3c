// Memory on one backend, freed with the object.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

namespace moe {

// Move-only. `data` is an address the backend's kernels understand; host code may touch it only where host_visible is true.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, size_t bytes, bool host_visible, std::function<void(void*)> release)
      : data_(data), bytes_(bytes), host_visible_(host_visible), release_(std::move(release)) {}
  Buffer(Buffer&& o) noexcept { *this = std::move(o); }
  Buffer& operator=(Buffer&& o) noexcept {
    if (this != &o) {
      reset();
      data_ = std::exchange(o.data_, nullptr), bytes_ = std::exchange(o.bytes_, 0), host_visible_ = o.host_visible_;
      release_ = std::exchange(o.release_, nullptr);
    }
    return *this;
  }
  ~Buffer() { reset(); }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool host_visible() const { return host_visible_; }

 private:
  void reset() {
    if (release_) release_(data_);
    data_ = nullptr, bytes_ = 0, release_ = nullptr;
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool host_visible_ = true;
  std::function<void(void*)> release_;
};

}  // namespace moe
