// How the threads meet. Three counters, each on its own cache line, are everything that anybody waits for:
//
//   generation   run() adds 1            workers wait for the next run
//   phase        last at a barrier       the others wait there; a thread that throws adds 1 too, which lets them all out
//   done         last worker to finish   run() waits for it
//
// Everybody waits in the same way (wait_for_change): a bounded spin, then a futex. The stores that end a wait are sequentially
// consistent: libstdc++ skips the wake-up call when it sees no sleeper, and a weaker store could be overtaken by that look.
#include "core/threads.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/check.h"
#include "core/cpu_count.h"

namespace moe {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

// Inside a run everybody is expected soon. Between two runs of a token loop a worker stays awake a little, so that the next one
// need not wake it (about 5 µs a thread, and more in a virtual machine).
constexpr microseconds kBarrierSpin{100};
constexpr microseconds kIdleSpin{50};
constexpr int kSpinsPerLook = 32;  // pauses between two looks at the clock

constexpr size_t kCacheLine = 64;

inline void pause_thread() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // `yield` is a no-op on most cores; this waits for tens of cycles
#endif
}

// True when `word` stopped being `old` within kSpinsPerLook pauses.
inline bool spin_briefly(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpinsPerLook; ++i) {
    if (word.load(std::memory_order_acquire) != old) return true;
    pause_thread();
  }
  return false;
}

void wait_for_change(const std::atomic<uint32_t>& word, uint32_t old, microseconds spin) {
  if (spin_briefly(word, old)) return;
  const auto give_up = steady_clock::now() + spin;
  while (steady_clock::now() < give_up) {
    if (spin_briefly(word, old)) return;
  }
  word.wait(old, std::memory_order_acquire);
}

// Thrown by barrier() to leave a run that another thread has broken. Not a std::exception, so that no handler mistakes it for
// one.
struct Cancelled {};

// Marks the pool as busy for its lifetime.
class BusyMark {
 public:
  explicit BusyMark(std::atomic<bool>& busy) : busy_(busy) {
    MOE_CHECK(!busy.exchange(true, std::memory_order_acquire));  // run() inside run(), or from two threads at a time
  }
  ~BusyMark() { busy_.store(false, std::memory_order_release); }
  BusyMark(const BusyMark&) = delete;
  BusyMark& operator=(const BusyMark&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace

struct ThreadPool::State {
  // Set before the workers start or before `generation` moves, read by all.
  microseconds barrier_spin{0}, idle_spin{0};
  std::atomic<bool> busy{false};
  std::atomic<bool> failed{false};
  Function fn = nullptr;  // nullptr: the workers leave
  void* context = nullptr;
  std::exception_ptr error;  // written by the thread that set `failed`, read after `done`

  alignas(kCacheLine) std::atomic<uint32_t> generation{0};
  alignas(kCacheLine) std::atomic<uint32_t> phase{0};
  alignas(kCacheLine) std::atomic<uint32_t> arrived{0};     // threads at the present barrier
  alignas(kCacheLine) std::atomic<uint32_t> unfinished{0};  // workers still in the present run
  alignas(kCacheLine) std::atomic<uint32_t> done{0};        // the last generation that all workers finished

  // Wakes the workers for one call of f; nullptr sends them home.
  void start(Function f, void* c, uint32_t n_workers) {
    fn = f;
    context = c;
    failed.store(false, std::memory_order_relaxed);
    arrived.store(0, std::memory_order_relaxed);
    unfinished.store(n_workers, std::memory_order_relaxed);
    generation.fetch_add(1);
    generation.notify_all();
  }

  void end_phase() {
    phase.fetch_add(1);
    phase.notify_all();
  }

  void call(int thread) noexcept {
    try {
      fn(context, thread);
    } catch (const Cancelled&) {
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
      end_phase();
    }
  }

  void finish(uint32_t current) {
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    done.store(current);
    done.notify_one();
  }
};

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads), state_(std::make_unique<State>()) {
  MOE_CHECK(n_threads >= 1);
  const int cpus = limit_to_quota("", static_cast<int>(allowed_cpus().size()));
  if (n_threads <= cpus) {  // otherwise the one waited for may need this very processor
    state_->barrier_spin = kBarrierSpin;
    state_->idle_spin = kIdleSpin;
  }
  workers_.reserve(static_cast<size_t>(n_threads - 1));
  try {
    for (int i = 1; i < n_threads; ++i) workers_.emplace_back(&ThreadPool::worker, this, i);
  } catch (...) {  // the system refuses more threads
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  state_->start(nullptr, nullptr, 0);
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::worker(int thread) {
  State& s = *state_;
  for (uint32_t seen = 0;; ++seen) {
    wait_for_change(s.generation, seen, s.idle_spin);
    if (!s.fn) return;
    s.call(thread);
    s.finish(seen + 1);
  }
}

void ThreadPool::run(Function fn, void* context) {
  State& s = *state_;
  MOE_CHECK(fn);
  const BusyMark busy(s.busy);
  if (workers_.empty()) return fn(context, 0);
  const uint32_t previous = s.generation.load(std::memory_order_relaxed);
  s.start(fn, context, static_cast<uint32_t>(workers_.size()));
  s.call(0);
  wait_for_change(s.done, previous, s.barrier_spin);
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

// The phase is read before `failed`: whoever sees no failure has read the phase that the failing thread will end.
void ThreadPool::barrier() {
  State& s = *state_;
  MOE_CHECK(s.busy.load(std::memory_order_relaxed));
  if (n_threads_ == 1) {
    barrier_count_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const uint32_t phase = s.phase.load();
  if (s.failed.load()) throw Cancelled{};
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(n_threads_)) {
    s.arrived.store(0, std::memory_order_relaxed);
    barrier_count_.fetch_add(1, std::memory_order_relaxed);
    s.end_phase();
    return;
  }
  wait_for_change(s.phase, phase, s.barrier_spin);
  if (s.failed.load()) throw Cancelled{};
}

int default_thread_count() { return limit_to_quota("", count_cores("", allowed_cpus())); }

}  // namespace moe
