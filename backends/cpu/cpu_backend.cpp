#include "backends/cpu/cpu_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <mutex>
#include <new>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/executable.h"
#include "backends/cpu/lower.h"
#include "core/isa.h"

namespace moe {
namespace {

size_t physical_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : 0;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const cpu::KernelTable& kernels, const CpuFeatures& features, const BackendOptions& options)
      : kernels_(kernels), exact_(options.exact), pool_(options.n_threads > 0 ? options.n_threads : default_thread_count()) {
    info_.name = "cpu";
    info_.isa = kernels.isa;
    info_.n_threads = pool_.size();
    info_.exact = exact_;
    info_.memory_bytes = physical_memory();
    info_.description = (features.brand.empty() ? std::string("CPU") : features.brand) + ", " + kernels.isa + ", " +
                        std::to_string(pool_.size()) + (pool_.size() == 1 ? " thread" : " threads");
  }

  const BackendInfo& info() const override { return info_; }

  // Every op of ops.def has a driver; what can be missing is a kernel for the format of a weight or a cache.
  bool supports(const Graph& g, const Node& n) const override {
    for (const ValueId id : n.in) {
      if (id == kNone) continue;
      const Value& v = g.value(id);
      if (v.kind == ValueKind::kWeight && !kernels_.dot_f32[static_cast<size_t>(v.dtype)]) return false;
      if (v.kind == ValueKind::kState && v.dtype != DType::kF32 && v.dtype != DType::kF16 && v.dtype != DType::kQ8_0 &&
          !(v.dtype == DType::kBF16 && n.op == Op::kAdamW))
        return false;
    }
    return true;
  }

  // Anonymous pages: zero-filled, and not resident before a token reaches them.
  Result<Buffer> allocate(size_t bytes) override {
    const size_t n = bytes ? bytes : 1;
    void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
      return Status::OutOfMemory("cannot reserve " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
    return Buffer(p, bytes, true, [n](void* q) { munmap(q, n); });
  }

  Status write(Buffer& to, size_t offset, const void* from, size_t bytes) override {
    if (offset > to.bytes() || bytes > to.bytes() - offset) return Status::OutOfRange("write beyond the end of a buffer");
    if (bytes > 0) std::memcpy(static_cast<std::byte*>(to.data()) + offset, from, bytes);
    return Status::Ok();
  }

  Status read(const Buffer& from, size_t offset, void* to, size_t bytes) override {
    if (offset > from.bytes() || bytes > from.bytes() - offset) return Status::OutOfRange("read beyond the end of a buffer");
    if (bytes > 0) std::memcpy(to, static_cast<const std::byte*>(from.data()) + offset, bytes);
    return Status::Ok();
  }

  // The file's own layout is what the kernels read: nothing is copied, pages are shared with the page cache.
  Result<Tensor> prepare_weight(const std::string&, const Tensor& host) override { return host; }

  Result<std::unique_ptr<Executable>> compile(const Graph& graph, const CompileOptions& options) override {
    MOE_TRY(graph.validate());
    for (const Node& n : graph.nodes)
      if (!supports(graph, n))
        return Status::Unsupported("cpu: op " + std::string(op_name(n.op)) + " of '" +
                                   (n.out.empty() ? "" : graph.value(n.out[0]).name) + "' with these formats");
    try {
      return std::unique_ptr<Executable>(std::make_unique<cpu::CpuExecutable>(
          exact_ ? graph : cpu::round_activations(graph, kernels_), options, kernels_, pool_, running_));
    } catch (const std::bad_alloc&) {
      return Status::OutOfMemory("cpu: no memory for the temporaries of " + std::to_string(options.max_tokens) + " tokens");
    }
  }

 private:
  const cpu::KernelTable& kernels_;
  bool exact_;
  ThreadPool pool_;
  std::mutex running_;
  BackendInfo info_;
};

}  // namespace

Result<std::unique_ptr<Backend>> create_cpu_backend(const BackendOptions& options) {
  const CpuFeatures features = detect_cpu();
  MOE_ASSIGN(const Isa isa, choose_isa(features, options.isa));
  MOE_ASSIGN(const cpu::KernelTable* kernels, cpu::kernels_for(isa, features));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*kernels, features, options));
}

}  // namespace moe
