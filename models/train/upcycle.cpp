#include "models/train/upcycle.h"

#include <cmath>

#include "core/rng.h"
#include "models/arch.h"

namespace moe {
namespace {

constexpr float kRouterDeviation = 0.02f;
constexpr uint64_t kNoiseStream = 1, kRouterStream = 2;

Status wanted(const std::string& what, const std::string& found) { return Status::InvalidArgument(what + ", found " + found); }

int64_t elements_of(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// "blk.3.ffn_gate.weight": the part of a dense layer, "gate", "up" or "down", or "".
std::string ffn_part(const std::string& name) {
  for (const char* part : {"gate", "up", "down"})
    if (name.ends_with(std::string(".ffn_") + part + ".weight")) return part;
  return "";
}

float deviation_of(const TensorInfo& t) {
  std::vector<float> values(4096);
  double squares = 0;
  const int64_t n = elements_of(t.shape);
  for (int64_t first = 0; first < n; first += static_cast<int64_t>(values.size())) {
    const int64_t m = std::min<int64_t>(n - first, static_cast<int64_t>(values.size()));
    traits(t.dtype).decode(t.data.data() + dtype_bytes(t.dtype, first), values.data(), m);
    for (int64_t i = 0; i < m; ++i) squares += double{values[static_cast<size_t>(i)]} * double{values[static_cast<size_t>(i)]};
  }
  return static_cast<float>(std::sqrt(squares / static_cast<double>(n)));
}

// One expert tensor of a layer, element by element of the dense one.
class Experts {
 public:
  Experts(const UpcyclePlan& plan, const UpcyclePlan::Step& step, uint64_t stream)
      : options_(plan.options), down_(ffn_part(step.tensor->name) == "down"), rows_(step.shape[1]), columns_(step.shape[2]) {
    const TensorInfo& t = *step.tensor;
    dense_.resize(static_cast<size_t>(elements_of(t.shape)));
    traits(t.dtype).decode(t.data.data(), dense_.data(), static_cast<int64_t>(dense_.size()));
    dense_columns_ = t.shape[1];
    noise_ = options_.noise * deviation_of(t);
    stream_ = stream;
  }

  void make(int64_t first, int64_t n, float* out) const {
    Rng rng(options_.seed, stream_);
    rng.seek(static_cast<uint64_t>(first) * 2);  // normal() draws twice
    for (int64_t i = first; i < first + n; ++i) {
      const float noise = noise_ == 0 ? 0 : noise_ * rng.normal();
      const int64_t expert = i / (rows_ * columns_), row = i / columns_ % rows_, column = i % columns_;
      const int64_t copy = expert / options_.slices, slice = expert % options_.slices;
      // The weights of a token's experts add up to 1, and each copy lies in as many of them as it has slices.
      const int64_t dense_row = down_ ? row : slice * rows_ + row, dense_column = down_ ? slice * columns_ + column : column;
      const float scale = down_ ? static_cast<float>(options_.slices) : 1;
      out[i - first] =
          scale * (dense_[static_cast<size_t>(dense_row * dense_columns_ + dense_column)] + (copy == 0 ? 0 : noise));
    }
  }

 private:
  UpcycleOptions options_;
  bool down_;
  int64_t rows_, columns_, dense_columns_ = 0;
  std::vector<float> dense_;
  float noise_ = 0;
  uint64_t stream_ = 0;
};

}  // namespace

Result<UpcyclePlan> plan_upcycle(const GgufFile& dense, const UpcycleOptions& o) {
  const Metadata& m = dense.metadata();
  MOE_ASSIGN(const std::string arch, m.get<std::string>("general.architecture"));
  if (arch != "llama") return wanted(dense.name() + ": wanted a dense model of architecture llama", arch);
  MOE_ASSIGN(const ModelConfig config, read_config(m));
  if (config.n_expert > 0) return wanted(dense.name() + ": wanted a dense model", std::to_string(config.n_expert) + " experts");
  const auto in = [](const char* name, int value, int least, int most) {
    return value >= least && value <= most
               ? Status::Ok()
               : wanted(std::string(name) + ": wanted " + std::to_string(least) + " to " + std::to_string(most),
                        std::to_string(value));
  };
  MOE_TRY(in("copies", o.copies, 1, 1024));
  MOE_TRY(in("used", o.used, 1, o.copies));
  MOE_TRY(in("slices", o.slices, 1, config.d_ff));
  if (config.d_ff % o.slices != 0)
    return wanted("slices: wanted a divisor of the " + std::to_string(config.d_ff) + " hidden channels",
                  std::to_string(o.slices));
  if (!(o.noise >= 0) || !std::isfinite(o.noise)) return wanted("noise: wanted 0 or more", std::to_string(o.noise));

  UpcyclePlan plan;
  plan.options = o, plan.metadata = m;
  const int64_t experts = int64_t{o.copies} * o.slices, width = config.d_ff / o.slices;
  plan.metadata.set("llama.expert_count", static_cast<uint32_t>(experts));
  plan.metadata.set("llama.expert_used_count", static_cast<uint32_t>(o.used * o.slices));
  plan.metadata.set("llama.feed_forward_length", static_cast<uint32_t>(width));
  plan.metadata.set("general.file_type", uint32_t{0});
  if (!dense.unsupported().empty()) return dense.require(dense.unsupported().front().name).status();
  for (const TensorInfo& t : dense.tensors()) {
    const std::string part = ffn_part(t.name);
    UpcyclePlan::Step s{&t, t.name, t.shape, t.dtype, false};
    if (t.name.ends_with(".ffn_gate.bias") || t.name.ends_with(".ffn_up.bias") || t.name.ends_with(".ffn_down.bias"))
      return wanted(dense.name() + ": wanted a feed-forward layer without biases", t.name);
    if (!part.empty()) {
      const bool down = part == "down";
      if (t.shape.size() != 2 || t.shape[down ? 1 : 0] != config.d_ff)
        return Status::Corrupt(dense.name() + ": tensor '" + t.name + "' has not " + std::to_string(config.d_ff) +
                               " hidden channels");
      const std::string layer = t.name.substr(0, t.name.find(".ffn_"));
      if (part == "gate")
        plan.steps.push_back({nullptr, layer + ".ffn_gate_inp.weight", {experts, t.shape[1]}, DType::kF32, false});
      s.name = layer;
      s.name.append(".ffn_").append(part).append("_exps.weight");
      s.type = DType::kF32, s.experts = true;
      s.shape = down ? std::vector<int64_t>{experts, t.shape[0], width} : std::vector<int64_t>{experts, width, t.shape[1]};
    }
    plan.steps.push_back(std::move(s));
  }
  for (const UpcyclePlan::Step& s : plan.steps) plan.bytes += dtype_bytes(s.type, elements_of(s.shape));
  return plan;
}

Status write_upcycled(const UpcyclePlan& plan, ThreadPool& pool, const std::string& path,
                      const WeightStream::OnWritten& on_written) {
  std::vector<GgufWriter::TensorSpec> specs;
  for (const UpcyclePlan::Step& s : plan.steps) specs.push_back({s.name, s.type, s.shape});
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, plan.metadata, std::move(specs)));
  WeightStream stream(pool, writer, on_written);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const UpcyclePlan::Step& s = plan.steps[i];
    const int64_t n = elements_of(s.shape);
    if (s.experts) {
      const Experts experts(plan, s, i << 2 | kNoiseStream);
      MOE_TRY(stream.encode(s.name, s.type, n, [&](int64_t first, int64_t count, float* out) {
        experts.make(first, count, out);
        return Status::Ok();
      }));
    } else if (!s.tensor) {
      const int64_t columns = s.shape[1], slices = plan.options.slices;
      MOE_TRY(stream.encode(s.name, s.type, n, [&](int64_t first, int64_t count, float* out) {
        for (int64_t j = first; j < first + count; ++j) {
          const int64_t copy = j / columns / slices;  // the same row for all slices of a copy
          Rng rng(plan.options.seed, i << 2 | kRouterStream);
          rng.seek(static_cast<uint64_t>(copy * columns + j % columns) * 2);
          out[j - first] = kRouterDeviation * rng.normal();
        }
        return Status::Ok();
      }));
    } else {
      MOE_TRY(stream.copy(s.name, s.tensor->data));
    }
  }
  return writer.commit();
}

}  // namespace moe
