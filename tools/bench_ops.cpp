#include "tools/bench_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "backends/backend_registry.h"
#include "backends/cpu/ceilings.h"
#include "backends/cpu/dispatch.h"
#include "backends/cpu/gemm.h"
#include "core/arena.h"
#include "core/half.h"
#include "core/rng.h"
#include "tensor/graph.h"
#include "tools/bench_report.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kRowElements = 2048;               // of weights, activations and row operations
constexpr size_t kStreamBytes = size_t{128} << 20;   // of weights that one token meets: more than caches hold
constexpr size_t kChunkBytes = size_t{4} << 20;      // of them in one call
constexpr int64_t kTileRows = 64, kTileTokens = 64;  // of a product that stays in the second-level cache
constexpr double kSecondsEach = 0.04;
constexpr int kLeastBursts = 3;

// What a call of a kernel does; the ceilings it is held against follow from it.
struct Work {
  double bytes = 0;
  double int8_macs = 0, f32_macs = 0, bf16_macs = 0;
  bool cached = false;  // its bytes come from a cache: they are not held against memory

  double macs() const { return int8_macs + f32_macs + bf16_macs; }
};

// Time that this thread has run: kernels here have one thread, and what else the machine does shall not count.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds a call: the best of bursts of at least a tenth of a millisecond, so that the clock costs nothing.
double best_seconds(const std::function<void()>& call) {
  call();
  double best = 1e9;
  int calls = 1, bursts = 0;
  for (const double begin = thread_seconds(); thread_seconds() - begin < kSecondsEach || bursts < kLeastBursts;) {
    const double start = thread_seconds();
    for (int i = 0; i < calls; ++i) call();
    const double seconds = thread_seconds() - start;
    if (seconds < 1e-4)
      calls *= 2;
    else
      best = std::min(best, seconds / calls), ++bursts;
  }
  return best;
}

class OpsBench {
 public:
  OpsBench(const Program& program, const cpu::KernelTable& kernels, const cpu::Ceilings& ceilings, std::string filter)
      : program_(program), kernels_(kernels), ceilings_(ceilings), filter_(std::move(filter)) {
    Rng rng(1);
    for (float& v : x_) v = rng.normal();
    for (float& v : y_) v = rng.normal();
    for (int64_t t = 0; t < kTileTokens; ++t) {
      float* row = activations_.data() + t * kRowElements;
      for (int64_t i = 0; i < kRowElements; ++i) row[i] = rng.normal();
      kernels.quantize_a8(row, a8_.data() + t * kRowElements / 32, kRowElements);
      kernels.encode_bf16(row, bf16_.data() + t * kRowElements, kRowElements);
    }
  }

  void dots() {
    for (const DTypeTraits& t : all_dtypes()) {
      const auto i = static_cast<size_t>(t.dtype);
      if (!t.is_weight) continue;
      const std::pair<DType, cpu::DotFn> dots[] = {
          {DType::kF32, kernels_.dot_f32[i]}, {DType::kA8, kernels_.dot_a8[i]}, {DType::kBF16, kernels_.dot_bf16[i]}};
      for (const auto& [activations, dot] : dots) {
        if (!dot) continue;
        const std::string name = std::string("dot_") + t.name + "_" + traits(activations).name;
        dot_of_one_token(name + "_t1", t, dot, activations);
        for (const int64_t tokens : {4, 16, 64}) dot_of_tile(name + "_t" + std::to_string(tokens), t, dot, activations, tokens);
      }
    }
  }

  void rows() {
    const int64_t n = kRowElements;
    const double in = 4.0 * kRowElements, out = in;
    const cpu::KernelTable& k = kernels_;
    float* x = x_.data();
    float* y = y_.data();
    float* z = z_.data();
    measure("quantize_a8", {in + n * 48.0 / 32}, [&] { k.quantize_a8(x, z, n); });
    measure("encode_bf16", {in + out / 2}, [&] { k.encode_bf16(x, z, n); });
    measure("encode_f16", {in + out / 2}, [&] { k.encode_f16(x, z, n); });
    measure("encode_q8_0", {in + n * 34.0 / 32}, [&] { k.encode_q8_0(x, z, n); });
    measure("rms_norm", {2 * in + out}, [&] { k.rms_norm(x, y, 1e-5f, z, n); });
    measure("layer_norm", {3 * in + out}, [&] { k.layer_norm(x, y, y, 1e-5f, z, n); });
    measure("softmax", {in + out}, [&] { k.softmax(x, z, n); });
    measure("exp_minus_max", {in + out}, [&] {
      std::memcpy(z, x, static_cast<size_t>(in));
      k.exp_minus_max(z, 4, n);
    });
    measure("max", {in}, [&] { sink_ = k.max(x, n); });
    measure("softcap", {in + out}, [&] { k.softcap(z, 30, n); });
    measure("silu", {in + out}, [&] { k.silu(x, z, n); });
    measure("gelu", {in + out}, [&] { k.gelu(x, z, n); });
    measure("sigmoid", {in + out}, [&] { k.sigmoid(x, z, n); });
    measure("glu", {2 * in + out}, [&] { k.glu(x, y, z, n, {false, 1, 0}); });
    measure("add", {2 * in + out}, [&] { k.add(x, y, z, n); });
    measure("mul", {2 * in + out}, [&] { k.mul(x, y, z, n); });
    measure("scale", {in + out}, [&] { k.scale(x, 0.5f, z, n); });
    measure("axpy", {2 * in + out, 0, double(n)}, [&] { k.axpy(1e-9f, x, z, n); });
    measure("rope_interleaved", {2 * in + out}, [&] { k.rope_interleaved(x, y, y + n / 2, z, n / 2); });
    measure("rope_half_split", {2 * in + out}, [&] { k.rope_half_split(x, y, y + n / 2, z, n / 2); });
  }

  // Matrix products of training: a cube, and those of a model of width 384 forward (nt), backward (nn) and for its weights
  // (tn).
  void gemms() {
    struct Product {
      int64_t m, n, k;
      const char* transposes;  // of A and B, a pair each
    };
    static constexpr Product kProducts[] = {{512, 512, 512, "nnnttntt"}, {512, 384, 384, "nnnt"},  {512, 1152, 384, "nnnt"},
                                            {512, 1024, 384, "nnnt"},    {512, 384, 1024, "nnnt"}, {512, 8192, 384, "nnnt"},
                                            {384, 384, 512, "tn"},       {384, 1024, 512, "tn"},   {8, 1024, 384, "nnnt"},
                                            {384, 1024, 8, "tn"}};
    for (const DType type : {DType::kF32, DType::kBF16})
      for (const Product& p : kProducts)
        for (const char* t = p.transposes; *t; t += 2) gemm(type, p.m, p.n, p.k, {t, 2});
  }

  // The parts of attention over a cache of one head of 128: a chunk's panels, and one or many queries that meet them.
  void attention_pieces() {
    attention_pieces("f32", kernels_.attention, &Work::f32_macs, 1);
    attention_pieces("bf16", kernels_.attention_bf16, &Work::bf16_macs, 2);
  }

  // Whole ops, through the backend: what the drivers add to the kernels.
  Status whole_ops(Backend& backend) {
    for (const int64_t tokens : {1, 64}) MOE_TRY(route(backend, tokens));
    MOE_TRY(attention(backend, 1, 1024));
    MOE_TRY(attention(backend, 1, 16384));
    MOE_TRY(attention(backend, 64, 4096));
    for (const DType type : {DType::kQ8_0, DType::kQ4_K}) {
      for (const int64_t tokens : {1, 8, 512}) {
        MOE_TRY(experts(backend, Op::kMoeGateUp, type, tokens));
        MOE_TRY(experts(backend, Op::kMoeDown, type, tokens));
      }
    }
    for (const DType type : {DType::kF32, DType::kBF16}) MOE_TRY(training(backend, type));
    return Status::Ok();
  }

  void print() {
    if (program_.json()) {
      print_json(json_);
      return;
    }
    if (json_.empty()) std::fprintf(stderr, "%s: no kernel's name holds '%s'\n", program_.name().c_str(), filter_.c_str());
  }

 private:
  static const MarkdownTable& table() {
    static const MarkdownTable t({{"kernel", 22, false},
                                  {"µs", 10, true},
                                  {"GB/s", 7, true},
                                  {"GMAC/s", 7, true},
                                  {"of ceiling", 10, true},
                                  {"ceiling", 7, false}});
    return t;
  }

  bool wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  void measure(const std::string& name, const Work& work, const std::function<void()>& call) {
    if (!wanted(name) || interrupted()) return;
    report(name, work, best_seconds(call));
  }

  // A kernel is held against the ceiling that it comes closest to.
  void report(const std::string& name, const Work& w, double seconds) {
    struct Share {
      const char* ceiling;
      double value;
    };
    const Share shares[] = {{"read", w.cached ? 0 : w.bytes / ceilings_.read},
                            {"int8", ceilings_.int8 > 0 ? w.int8_macs / ceilings_.int8 : 0},
                            {"bf16", ceilings_.bf16 > 0 ? w.bf16_macs / ceilings_.bf16 : 0},
                            {"f32", w.f32_macs / ceilings_.f32}};
    const Share& nearest = *std::max_element(std::begin(shares), std::end(shares),
                                             [](const Share& a, const Share& b) { return a.value < b.value; });
    const double bandwidth = w.bytes / seconds / 1e9, macs = w.macs() / seconds / 1e9;
    if (json_.empty() && !program_.json()) std::fputs(table().head().c_str(), stdout);
    json_.push_back({{"kernel", name},
                     {"isa", kernels_.isa},
                     {"us", seconds * 1e6},
                     {"gb_per_s", w.cached ? Json() : Json(bandwidth)},
                     {"gmac_per_s", macs},
                     {"ceiling", nearest.ceiling},
                     {"share_of_ceiling", nearest.value / seconds}});
    if (program_.json()) return;
    std::fputs(table()
                   .row({name, format_fixed(seconds * 1e6, 3), w.cached ? "-" : format_fixed(bandwidth, 1),
                         macs > 0 ? format_fixed(macs, 1) : "-", format_fixed(100 * nearest.value / seconds, 1) + " %",
                         nearest.ceiling})
                   .c_str(),
               stdout);
    std::fflush(stdout);
  }

  // `rows` equal rows of random weights.
  void fill_weights(const DTypeTraits& t, int64_t n, int64_t rows) {
    const size_t row = dtype_bytes(t.dtype, n);
    if (!weights_) weights_ = allocate_aligned(kStreamBytes);
    std::vector<float> plain(static_cast<size_t>(n));
    Rng rng(2);
    for (float& v : plain) v = rng.normal();
    t.encode(plain.data(), nullptr, weights_.get(), n);
    for (int64_t r = 1; r < rows; ++r) std::memcpy(weights_.get() + static_cast<size_t>(r) * row, weights_.get(), row);
  }

  // `numbers` of four bytes together make a step.
  void attention_pieces(const std::string& products, const cpu::AttentionKernels& k, double Work::*macs, int64_t numbers) {
    constexpr int64_t kHead = 128, kQueries = 128, kChunks = 64;
    if (!k.attend) return;
    const auto floats = [](int64_t n) { return std::vector<float>(static_cast<size_t>(n)); };
    std::vector<float> keys = floats(kHead * cpu::kAttendKeys), values = keys, weights = floats(kQueries * cpu::kAttendKeys);
    std::vector<float> acc = floats(kQueries * kHead), top = floats(kQueries), sum = top;
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      const auto i = static_cast<size_t>(type);
      if (!k.pack_keys[i]) continue;
      const size_t row = dtype_bytes(type, kHead), chunk = row * cpu::kAttendKeys;
      const Work work{static_cast<double>(chunk)};
      size_t at = 0;
      const auto pack = [&](void (*fn)(const cpu::PackArgs&), std::vector<float>& panel) {
        fn({weights_.get() + at % kChunks * chunk, row, kHead, 0, cpu::kAttendKeys, panel.data()}), ++at;
      };
      fill_weights(traits(type), kHead, kChunks * cpu::kAttendKeys);
      const std::string name = std::string(traits(type).name) + "_" + products;
      measure("pack_keys_" + name, work, [&] { pack(k.pack_keys[i], keys); });
      measure("pack_values_" + name, work, [&] { pack(k.pack_values[i], values); });
    }
    const std::vector<int32_t> from(kQueries), to(kQueries, cpu::kAttendKeys);
    for (const int64_t n : {1, 8, 128}) {
      Work work;
      work.*macs = static_cast<double>(n * cpu::kAttendKeys * 2 * kHead);
      measure("attend_" + products + "_q" + std::to_string(n), work, [&] {
        k.attend({kHead, kHead, 1e-6f, 0, keys.data(), values.data(), n, activations_.data(), kHead / numbers, from.data(),
                  to.data(), weights.data(), top.data(), sum.data(), acc.data()});
      });
    }
  }

  Work dot_work(const DTypeTraits& t, int64_t rows, int64_t tokens, DType activations) const {
    const double macs = static_cast<double>(rows * tokens * kRowElements);
    const double bytes = static_cast<double>(dtype_bytes(t.dtype, kRowElements)) * static_cast<double>(rows);
    Work work{bytes};
    (activations == DType::kA8 ? work.int8_macs : activations == DType::kBF16 ? work.bf16_macs : work.f32_macs) = macs;
    return work;
  }

  const void* activation(int64_t token, DType type) const {
    if (type == DType::kA8) return a8_.data() + token * kRowElements / 32;
    if (type == DType::kBF16) return bf16_.data() + token * kRowElements;
    return activations_.data() + token * kRowElements;
  }

  // Generation: weights come from memory, each is used once.
  void dot_of_one_token(const std::string& name, const DTypeTraits& t, cpu::DotFn dot, DType activations) {
    if (!wanted(name) || interrupted()) return;
    const size_t row = dtype_bytes(t.dtype, kRowElements);
    const auto rows = static_cast<int64_t>(kChunkBytes / row);
    const size_t chunk = static_cast<size_t>(rows) * row, chunks = kStreamBytes / chunk;
    fill_weights(t, kRowElements, rows * static_cast<int64_t>(chunks));
    std::vector<float> out(static_cast<size_t>(rows));
    const void* x[] = {activation(0, activations)};
    float* y[] = {out.data()};
    size_t at = 0;
    measure(name, dot_work(t, rows, 1, activations), [&] {
      dot({weights_.get() + at * chunk, row, kRowElements, rows, x, 1, y});
      at = (at + 1) % chunks;
    });
  }

  // A prompt: weights are in the cache, each is used by many tokens.
  void dot_of_tile(const std::string& name, const DTypeTraits& t, cpu::DotFn dot, DType activations, int64_t tokens) {
    if (!wanted(name) || interrupted()) return;
    const size_t row = dtype_bytes(t.dtype, kRowElements);
    fill_weights(t, kRowElements, kTileRows);
    std::vector<float> out(static_cast<size_t>(tokens * kTileRows));
    const void* x[kTileTokens];
    float* y[kTileTokens];
    for (int64_t i = 0; i < tokens; ++i) x[i] = activation(i, activations), y[i] = out.data() + i * kTileRows;
    Work work = dot_work(t, kTileRows, tokens, activations);
    work.cached = true;
    measure(name, work, [&] { dot({weights_.get(), row, kRowElements, kTileRows, x, tokens, y}); });
  }

  void gemm(DType type, int64_t m, int64_t n, int64_t k, const std::string& transposes) {
    const std::string size =
        m == n && n == k ? std::to_string(m) : std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    const std::string name = std::string("gemm_") + traits(type).name + "_" + transposes + "_" + size;
    if (!wanted(name) || interrupted()) return;
    const bool transpose_a = transposes[0] == 't', transpose_b = transposes[1] == 't';
    const auto matrix = [&](int64_t elements) {
      AlignedBytes bytes = allocate_aligned(dtype_bytes(type, elements));
      for (int64_t i = 0; i < elements; ++i)
        traits(type).encode(&x_[static_cast<size_t>(i % kRowElements)], nullptr, bytes.get() + dtype_bytes(type, i), 1);
      return bytes;
    };
    const AlignedBytes a = matrix(m * k), b = matrix(k * n), c = allocate_aligned(sizeof(float) * static_cast<size_t>(m * n));
    const AlignedBytes scratch = allocate_aligned(cpu::gemm_scratch_bytes(kernels_, 1));
    const cpu::GemmArgs args{m,
                             n,
                             k,
                             a.get(),
                             b.get(),
                             reinterpret_cast<float*>(c.get()),
                             transpose_a ? m : k,
                             transpose_b ? k : n,
                             n,
                             transpose_a,
                             transpose_b,
                             false,
                             scratch.get()};
    const double macs = static_cast<double>(m * n * k);
    Work work{static_cast<double>(dtype_bytes(type, m * k) + dtype_bytes(type, k * n)) + 4.0 * static_cast<double>(m * n)};
    (type == DType::kBF16 && ceilings_.bf16 > 0 ? work.bf16_macs : work.f32_macs) = macs;
    measure(name, work, [&] { (type == DType::kF32 ? kernels_.gemm_f32 : kernels_.gemm_bf16)(args); });
  }

  // --- whole ops ---

  // A graph of one op and the memory of its inputs.
  struct OneOp {
    Graph graph;
    std::vector<std::pair<ValueId, Tensor>> bound;
    std::vector<std::vector<std::byte>> memory;
    std::vector<AlignedBytes> weights;

    template <class T, class F>
    ValueId input(DType type, Shape shape, int64_t tokens, ValueKind kind, F&& value) {
      const ValueId id = graph.add_value({"in" + std::to_string(bound.size()), kind, type, shape, nullptr, false});
      Shape given = shape;
      if (given.per_token()) given.dim[0] = tokens;
      memory.emplace_back(dtype_bytes(type, given.elements()));
      T* values = reinterpret_cast<T*>(memory.back().data());
      for (size_t i = 0; i < memory.back().size() / sizeof(T); ++i) values[i] = value(i);
      bound.emplace_back(id, Tensor{memory.back().data(), type, given});
      return id;
    }
  };

  // `macs`: what the op's multiplications count as; `before` prepares inputs for the next run.
  Status run_op(
      Backend& backend, const std::string& name, OneOp& op, const RunShape& run, double Work::*macs = &Work::f32_macs,
      const std::function<void()>& before = [] {}, bool throughput = false) {
    if (!wanted(name) || interrupted()) return Status::Ok();
    for (const ValueId id : op.graph.nodes.back().out) op.graph.value(id).output = true;
    MOE_ASSIGN(const std::unique_ptr<Executable> executable,
               backend.compile(op.graph, {run.n_tokens, run.n_outputs, false, throughput}));
    for (const auto& [id, tensor] : op.bound) MOE_TRY(executable->bind(id, tensor));
    Status status;
    const Cost c = cost(op.graph, run);
    Work work{c.bytes_read};
    work.*macs = c.flops / 2;
    measure(name, work, [&] {
      before();
      if (status.ok()) status = executable->run(run);
    });
    return status;
  }

  Status route(Backend& backend, int64_t tokens) {
    constexpr int64_t kExperts = 128, kUsed = 8;
    OneOp op;
    Rng rng(3);
    const auto f32 = [&](Shape s, auto&& v) { return op.input<float>(DType::kF32, s, tokens, ValueKind::kInput, v); };
    const ValueId logits = f32({kTokens, kExperts}, [&](size_t) { return rng.normal(); });
    const float numbers[8] = {kUsed, kUsed, 0, 1, 0, 0, 0, 0};
    const ValueId params = f32({8}, [&](size_t i) { return numbers[i]; });
    const ValueId allow =
        op.input<int8_t>(DType::kI8, {1, kExperts}, tokens, ValueKind::kInput, [](size_t) { return int8_t{1}; });
    const ValueId classes = op.input<int32_t>(DType::kI32, {kTokens}, tokens, ValueKind::kInput, [](size_t) { return 0; });
    const ValueId bias = f32({kExperts}, [](size_t) { return 0.0f; });
    const ValueId redirect = op.input<int32_t>(DType::kI32, {kExperts}, tokens, ValueKind::kInput, [](size_t) { return -1; });
    RouteAttrs a;
    a.n_experts = kExperts, a.k_capacity = kUsed;
    op.graph.add_node(Op::kRoute, {logits, kNone, params, allow, classes, bias, redirect}, a);
    RunShape run;
    run.n_tokens = tokens;
    return run_op(backend, "route_e128_k8_t" + std::to_string(tokens), op, run);
  }

  // 32 query heads, 4 key heads of 128 in an f16 cache: a layer of Qwen3-30B-A3B.
  Status attention(Backend& backend, int64_t tokens, int64_t n_keys) {
    constexpr int64_t kHeads = 32, kKeyHeads = 4, kHead = 128;
    OneOp op;
    Rng rng(4);
    const auto normal = [&](size_t) { return rng.normal(); };
    const auto f32 = [&](Shape s) { return op.input<float>(DType::kF32, s, tokens, ValueKind::kInput, normal); };
    const auto i32 = [&](auto&& v) { return op.input<int32_t>(DType::kI32, {kTokens}, tokens, ValueKind::kInput, v); };
    const ValueId q = f32({kTokens, kHeads * kHead}), k = f32({kTokens, kKeyHeads * kHead}),
                  v = f32({kTokens, kKeyHeads * kHead});
    const auto cache = [&] {
      return op.input<uint16_t>(DType::kF16, {1, kKeyHeads, n_keys, kHead}, tokens, ValueKind::kState,
                                [&](size_t) { return f32_to_f16(rng.normal()); });
    };
    const ValueId keys = cache(), values = cache();
    const ValueId positions = i32([&](size_t i) { return static_cast<int32_t>(n_keys - tokens + static_cast<int64_t>(i)); });
    const ValueId slots = i32([](size_t) { return 0; });
    AttentionAttrs a;
    a.n_head = kHeads, a.n_kv_head = kKeyHeads, a.head_dim = a.v_dim = kHead, a.scale = 0.088f;
    op.graph.add_node(Op::kAttention, {q, k, v, keys, values, positions, slots}, a);
    RunShape run;
    run.n_tokens = tokens, run.kv_length = n_keys - tokens / 2;
    return run_op(backend, "attention_kv" + std::to_string(n_keys) + "_t" + std::to_string(tokens), op, run);
  }

  // A layer of Qwen3-30B-A3B: 128 experts of 2048 → 768 → 2048. Other 8 experts a token in each run, so that few tokens find no
  // weights in a cache.
  Status experts(Backend& backend, Op which, DType type, int64_t tokens) {
    constexpr int64_t kExperts = 128, kUsed = 8, kModel = 2048, kHidden = 768;
    const bool up = which == Op::kMoeGateUp;
    const std::string name = std::string(op_name(which)) + "_" + traits(type).name + "_t" + std::to_string(tokens);
    if (!wanted(name) || interrupted()) return Status::Ok();
    OneOp op;
    Rng rng(5);
    const auto f32 = [&](Shape s) {
      return op.input<float>(DType::kF32, s, tokens, ValueKind::kInput, [&](size_t) { return rng.normal(); });
    };
    const auto weight = [&]() -> Result<ValueId> {
      const Shape shape = up ? Shape{kExperts, kHidden, kModel} : Shape{kExperts, kModel, kHidden};
      const Tensor host{expert_weights(type, shape, op.weights), type, shape};
      MOE_ASSIGN(const Tensor ready, backend.prepare_weight("w", host));
      return op.graph.add_value({"w", ValueKind::kWeight, type, shape, ready.data, false});
    };
    const ValueId x = f32(up ? Shape{kTokens, kModel} : Shape{kTokens, kUsed, kHidden});
    const ValueId ids = op.input<int32_t>(DType::kI32, {kTokens, kUsed}, tokens, ValueKind::kInput, [](size_t) { return 0; });
    auto* const id = reinterpret_cast<int32_t*>(op.memory.back().data());
    MOE_ASSIGN(const ValueId w, weight());
    if (up) {
      MOE_ASSIGN(const ValueId w_up, weight());
      op.graph.add_node(which, {x, ids, w, w_up}, GluAttrs{});
    } else {
      op.graph.add_node(which, {x, ids, f32({kTokens, kUsed}), w}, ScaleAttrs{});
    }
    RunShape run;
    run.n_tokens = tokens;
    return run_op(backend, name, op, run, &Work::int8_macs, [&] {
      for (int64_t t = 0; t < tokens; ++t) choose_experts(rng, id + t * kUsed, kUsed, kExperts);
    });
  }

  // Ops of a training step: 2048 tokens, 8 sequences of them for attention, of a model of width 256 with 8 of 2 heads of 32 and
  // 16 experts of width 128, of which 4 are used; a vocabulary of 8192.
  Status training(Backend& backend, DType type) {
    constexpr int64_t kRows = 2048, kLength = 256, kModel = 256, kHidden = 128, kExperts = 16, kUsed = 4, kVocabulary = 8192;
    constexpr int64_t kHeads = 8, kKeyHeads = 2, kHead = 32;
    RunShape run;
    run.n_tokens = run.n_outputs = kRows, run.kv_length = kLength / 2;
    Rng rng(7);
    const auto of = [&](OneOp& op, ValueKind kind, Shape s) {
      return op.input<float>(DType::kF32, s, kRows, kind, [&](size_t) { return 0.1f * rng.normal(); });
    };
    const auto x = [&](OneOp& op, Shape s) { return of(op, ValueKind::kInput, s); };
    const auto state = [&](OneOp& op, Shape s) { return of(op, ValueKind::kState, s); };
    const auto i32 = [&](OneOp& op, Shape s, auto&& v) {
      return op.input<int32_t>(DType::kI32, s, kRows, ValueKind::kInput, v);
    };
    const auto weight = [&](OneOp& op, Shape s) {
      return op.graph.add_value({"w", ValueKind::kWeight, type, s, expert_weights(type, s, op.weights), false});
    };
    const auto bench = [&](Op which, std::vector<ValueId> in, Attrs attrs, OneOp& op) {
      op.graph.add_node(which, std::move(in), attrs);
      return run_op(
          backend, std::string(op_name(which)) + "_" + traits(type).name, op, run,
          type == DType::kBF16 && ceilings_.bf16 > 0 ? &Work::bf16_macs : &Work::f32_macs, [] {}, true);
    };
    const auto ids = [&](OneOp& op) {
      const ValueId id = i32(op, {kTokens, kUsed}, [](size_t) { return 0; });
      auto* const first = reinterpret_cast<int32_t*>(op.memory.back().data());
      for (int64_t t = 0; t < kRows; ++t) choose_experts(rng, first + t * kUsed, kUsed, kExperts);
      return id;
    };
    const Shape stacked{kExperts, kHidden, kModel}, slots{kTokens, kUsed, kHidden}, tokens{kTokens, kModel};
    const ProductGradAttrs round{1, type};
    OneOp op[8];
    MOE_TRY(bench(Op::kLinear, {x(op[0], tokens), weight(op[0], {kModel, kModel})}, ScaleAttrs{}, op[0]));
    MOE_TRY(bench(Op::kLinearDx, {x(op[1], tokens), weight(op[1], {kModel, kModel})}, ScaleAttrs{}, op[1]));
    MOE_TRY(bench(Op::kLinearDw, {x(op[2], tokens), x(op[2], tokens), state(op[2], {kModel, kModel})}, round, op[2]));
    MOE_TRY(bench(Op::kMoeLinear, {x(op[3], tokens), ids(op[3]), weight(op[3], stacked)}, NoAttrs{}, op[3]));
    MOE_TRY(bench(Op::kMoeLinearDx, {x(op[4], slots), ids(op[4]), weight(op[4], stacked)}, MoeGradAttrs{}, op[4]));
    MOE_TRY(bench(Op::kMoeLinearDw, {x(op[5], slots), x(op[5], tokens), ids(op[5]), kNone, kNone, state(op[5], stacked)}, round,
                  op[5]));
    MOE_TRY(bench(Op::kCrossEntropyGrad,
                  {x(op[6], tokens), weight(op[6], {kVocabulary, kModel}),
                   i32(op[6], {kTokens}, [](size_t i) { return static_cast<int32_t>(i); }), x(op[6], {kTokens}), kNone, kNone,
                   kNone, state(op[6], {kVocabulary, kModel})},
                  CrossEntropyAttrs{}, op[6]));
    if (type != DType::kF32) return Status::Ok();
    AttentionAttrs a;
    a.n_head = kHeads, a.n_kv_head = kKeyHeads, a.head_dim = a.v_dim = kHead, a.scale = 0.18f;
    const Shape q{kTokens, kHeads * kHead}, k{kTokens, kKeyHeads * kHead};
    MOE_TRY(bench(Op::kAttentionGrad,
                  {x(op[7], q), x(op[7], k), x(op[7], k), x(op[7], q), x(op[7], q),
                   i32(op[7], {kTokens}, [](size_t i) { return static_cast<int32_t>(i % kLength); }),
                   i32(op[7], {kTokens}, [](size_t i) { return static_cast<int32_t>(i / kLength); })},
                  a, op[7]));
    OneOp update;
    const Shape all{4096, 1024};
    const ValueId w = state(update, all), grad = state(update, all), m = state(update, all);
    const ValueId v = update.input<float>(DType::kF32, all, 1, ValueKind::kState, [](size_t) { return 1.0f; });
    const float numbers[8] = {1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, 0.1f, 0.05f};
    const ValueId hyper = update.input<float>(DType::kF32, {8}, 1, ValueKind::kInput, [&](size_t i) { return numbers[i]; });
    return bench(Op::kAdamW, {w, grad, m, v, kNone, hyper}, NoAttrs{}, update);
  }

  // k different ones.
  static void choose_experts(Rng& rng, int32_t* ids, int64_t k, int64_t n_experts) {
    for (int64_t i = 0; i < k;) {
      ids[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(n_experts)));
      i += std::find(ids, ids + i, ids[i]) == ids + i;
    }
  }

  // Equal rows of random weights, in memory of their own.
  static void* expert_weights(DType type, const Shape& shape, std::vector<AlignedBytes>& memory) {
    const int64_t n = shape.last(), rows = shape.elements() / n;
    const size_t row = dtype_bytes(type, n);
    memory.push_back(allocate_aligned(row * static_cast<size_t>(rows)));
    std::byte* const first = memory.back().get();
    std::vector<float> plain(static_cast<size_t>(n));
    Rng rng(6);
    for (float& v : plain) v = rng.normal();
    traits(type).encode(plain.data(), nullptr, first, n);
    for (int64_t r = 1; r < rows; ++r) std::memcpy(first + static_cast<size_t>(r) * row, first, row);
    return first;
  }

  const Program& program_;
  const cpu::KernelTable& kernels_;
  const cpu::Ceilings& ceilings_;
  std::string filter_;
  Json json_ = Json::array();
  AlignedBytes weights_;
  std::vector<float> x_ = std::vector<float>(kRowElements), y_ = x_, z_ = x_;
  std::vector<float> activations_ = std::vector<float>(kTileTokens * kRowElements);
  std::vector<cpu::BlockA8> a8_ = std::vector<cpu::BlockA8>(kTileTokens * kRowElements / 32);
  std::vector<uint16_t> bf16_ = std::vector<uint16_t>(kTileTokens * kRowElements);
  volatile float sink_ = 0;
};

}  // namespace

Status bench_ops(const Program& program, const OpsArguments& arguments) {
  const CpuFeatures features = detect_cpu();
  MOE_ASSIGN(const Isa isa, choose_isa(features, arguments.isa));
  MOE_ASSIGN(const cpu::KernelTable* kernels, cpu::kernels_for(isa, features));
  MOE_ASSIGN(const cpu::Ceilings ceilings, cpu::measure_ceilings(isa, 1));
  BackendOptions options;
  options.n_threads = 1, options.isa = isa_name(isa);
  MOE_ASSIGN(const std::unique_ptr<Backend> backend, create_backend("cpu", options));
  catch_interrupts();
  if (!program.json())
    std::printf(
        "moe-bench %s: %s\nceilings: %s\n"
        "_t<n>: for n tokens, time by the thread's processor clock. dot_*_t1, moe_* read their weights from memory; dot_* of "
        "more\n"
        "tokens have them in a cache (64 rows of 2048), as has all else, which may then read faster than the ceiling.\n"
        "of ceiling: the share of the ceiling that is nearest, which is named behind it\n\n",
        kVersion, backend->info().description.c_str(), ceilings_text(ceilings).c_str());
  OpsBench bench(program, *kernels, ceilings, arguments.filter);
  bench.dots();
  bench.rows();
  bench.gemms();
  bench.attention_pieces();
  MOE_TRY(bench.whole_ops(*backend));
  if (interrupted()) return interrupted_status();
  bench.print();
  return Status::Ok();
}

}  // namespace moe::tools
