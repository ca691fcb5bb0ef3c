// Checkpoints are GGUF files of the model, as it would run, with what training needs beside it:
//
//   tensors   the model's own, f32 | adam.m.<weight>, adam.v.<weight> f32, of every weight that learns
//   keys      the model's own and its vocabulary | moe.train.*: ../io/README.md lists them
//
// So moe-run runs a checkpoint and moe-inspect lists it. The file is written whole or not at all. Its checksum is over the
// bytes of all tensors in file order: FNV-1a of 64 bits that takes 8 bytes at a time.
#include <sstream>

#include "models/train/trainer.h"

namespace moe {
namespace {

constexpr uint32_t kVersion = 1;

struct Checksum {
  uint64_t h = 0xcbf29ce484222325u;
  void add(std::span<const float> values) {  // an even number of them, or the last ones
    for (size_t i = 0; i < values.size(); i += 2) {
      uint64_t word = 0;
      std::memcpy(&word, &values[i], std::min<size_t>(2, values.size() - i) * sizeof(float));
      h = (h ^ word) * 0x100000001b3u;
      h ^= h >> 29;
    }
  }
};

std::string number(double x) {
  std::ostringstream text;
  text.precision(9);
  text << x;
  return text.str();
}

// The first line in which two texts differ, of each.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream in_a(a), in_b(b);
  std::string x, y;
  for (;;) {
    const bool more_a = static_cast<bool>(std::getline(in_a, x)), more_b = static_cast<bool>(std::getline(in_b, y));
    if (!more_a) x = "nothing";
    if (!more_b) y = "nothing";
    if (x != y || (!more_a && !more_b)) return {x, y};
  }
}

std::string moment_name(const char* which, const Parameter& p) { return std::string(kTrainingTensors) + which + p.name; }

template <class T>
Result<T> key(const Metadata& m, const char* name) {
  return m.get<T>(std::string(kTrainingKeys) + name);
}

}  // namespace

// One line for each thing that decides what a step computes. The schedule's length is left out: a run may be made longer.
std::string Trainer::fingerprint() const {
  const TrainerOptions& o = options_;
  std::ostringstream text;
  const auto line = [&](const char* name, const auto& value) { text << name << '=' << value << '\n'; };
  const auto real = [&](const char* name, double value) { line(name, number(value)); };
  line("rows", o.rows), line("accumulate", o.accumulate), line("context", data_.options().context), line("seed", o.seed);
  line("bf16", o.bf16);
  real("beta1", o.adamw.beta1), real("beta2", o.adamw.beta2), real("eps", o.adamw.eps);
  real("weight_decay", o.adamw.weight_decay), real("clip", o.clip);
  real("expert_rate", o.rates.expert_rate), real("router_rate", o.rates.router_rate);
  line("decay_embeddings", o.rates.decay_embeddings);
  for (const std::string& pattern : o.frozen) line("frozen", pattern);
  real("switch_loss", o.switch_loss), real("z_loss", o.z_loss), real("diversity_loss", o.diversity_loss);
  real("bias_speed", o.bias_speed), real("capacity_factor", o.capacity_factor);
  line("overflow", static_cast<int>(o.overflow));
  real("expert_dropout", o.expert_dropout), real("router_dropout", o.router_dropout);
  line("usage_window", o.usage.window), line("k_min", o.k_min), line("k_max", o.k_max);
  for (const double w : o.widths) real("width", w);
  real("narrow_share", o.narrow_share), real("narrow_weight", o.narrow_weight), real("narrow_mix", o.narrow_mix);
  line("teacher", hash_to_hex(teacher_hash_));
  real("teacher_mix", teacher_pass_ ? o.teacher_mix : 0),
      real("teacher_temperature", teacher_pass_ ? o.teacher_temperature : 0);
  return text.str();
}

Status Trainer::save(const std::string& path) const {
  struct Part {
    std::string name;
    const Shape* shape;
    const Buffer* values;
  };
  std::vector<Part> parts;
  for (const TrainWeights::Weight& w : weights_.all()) parts.push_back({w.name, &w.shape, &w.values});
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parts.push_back({moment_name("m.", parameters_[i]), &parameters_[i].shape, &moments_[i].m});
    parts.push_back({moment_name("v.", parameters_[i]), &parameters_[i].shape, &moments_[i].v});
  }
  std::vector<GgufWriter::TensorSpec> specs;
  Checksum sum;
  std::vector<float> values;
  const auto read = [&](const Part& p) {
    values.resize(static_cast<size_t>(p.shape->elements()));
    return backend_->read(*p.values, 0, values.data(), values.size() * sizeof(float));
  };
  for (const Part& p : parts) {
    specs.push_back({p.name, DType::kF32, {p.shape->dim.begin(), p.shape->dim.begin() + p.shape->rank}});
    MOE_TRY(read(p));
    sum.add(values);
  }
  ByteWriter position;
  data_.position().encode(position);
  std::vector<uint8_t> position_bytes(position.size());
  std::memcpy(position_bytes.data(), position.bytes().data(), position.size());
  std::vector<float> biases;
  for (const auto& layer : bias_) biases.insert(biases.end(), layer.begin(), layer.end());

  Metadata m = metadata_;
  m.set("general.file_type", uint32_t{0});
  m.set("moe.train.version", kVersion);
  m.set("moe.train.step", static_cast<uint64_t>(step_));
  m.set("moe.train.tokens", tokens_);
  m.set("moe.train.options", fingerprint());
  m.set("moe.train.data", position_bytes);
  m.set("moe.train.usage", usage_.save());
  m.set("moe.train.selection_bias", biases);
  m.set("moe.train.checksum", sum.h);
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, m, std::move(specs)));
  for (const Part& p : parts) {
    MOE_TRY(read(p));
    MOE_TRY(writer.write_tensor(values.data(), values.size() * sizeof(float)));
  }
  return writer.commit();
}

Status Trainer::restore(const std::string& path) {
  MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
  const Metadata& m = file.metadata();
  if (!m.has("moe.train.version")) return Status::InvalidArgument(path + ": wanted a checkpoint, found a model without one");
  MOE_ASSIGN(const uint32_t version, key<uint32_t>(m, "version"));
  if (version != kVersion)
    return Status::Unsupported(path + ": wanted a checkpoint of version " + std::to_string(kVersion) + ", found " +
                               std::to_string(version));
  MOE_ASSIGN(const std::string options, key<std::string>(m, "options"));
  if (const std::string mine = fingerprint(); options != mine) {
    const auto [found, wanted] = first_difference(options, mine);
    return Status::InvalidArgument(path + ": a checkpoint of another configuration: wanted " + wanted + ", found " + found);
  }
  MOE_ASSIGN(const uint64_t step, key<uint64_t>(m, "step"));
  MOE_ASSIGN(const uint64_t tokens, key<uint64_t>(m, "tokens"));
  MOE_ASSIGN(const uint64_t checksum, key<uint64_t>(m, "checksum"));
  MOE_ASSIGN(const std::vector<uint8_t> position_bytes, m.get_array<uint8_t>("moe.train.data"));
  MOE_ASSIGN(const std::vector<uint32_t> usage, m.get_array<uint32_t>("moe.train.usage"));
  MOE_ASSIGN(const std::vector<float> biases, m.get_array<float>("moe.train.selection_bias"));
  size_t n_biases = 0;
  for (const auto& layer : bias_) n_biases += layer.size();
  if (biases.size() != n_biases)
    return Status::Corrupt(path + ": key 'moe.train.selection_bias': wanted " + std::to_string(n_biases) + " numbers, found " +
                           std::to_string(biases.size()));
  ByteReader reader(std::as_bytes(std::span(position_bytes)));
  MOE_ASSIGN(const DatasetPosition position, DatasetPosition::decode(reader));

  struct Target {
    const TensorInfo* tensor;
    Buffer* values;
  };
  std::vector<Target> targets;
  const auto want = [&](const std::string& name, const Shape& shape, const Buffer& values) -> Status {
    MOE_ASSIGN(const TensorInfo* t, file.require(name));
    if (t->dtype != DType::kF32 ||
        !std::equal(t->shape.begin(), t->shape.end(), shape.dim.begin(), shape.dim.begin() + shape.rank))
      return Status::InvalidArgument(path + ": tensor '" + name + "': wanted f32" + to_string(shape));
    targets.push_back({t, const_cast<Buffer*>(&values)});
    return Status::Ok();
  };
  for (const TrainWeights::Weight& w : weights_.all()) MOE_TRY(want(w.name, w.shape, w.values));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    MOE_TRY(want(moment_name("m.", parameters_[i]), parameters_[i].shape, moments_[i].m));
    MOE_TRY(want(moment_name("v.", parameters_[i]), parameters_[i].shape, moments_[i].v));
  }
  Checksum sum;
  for (const Target& t : targets)
    sum.add({reinterpret_cast<const float*>(t.tensor->data.data()), t.tensor->data.size() / sizeof(float)});
  if (sum.h != checksum) return Status::Corrupt(path + ": the checksum does not fit: the file is damaged");
  // From here on only the system can fail.
  MOE_TRY(data_.seek(position));
  MOE_TRY(usage_.restore(usage));
  for (const Target& t : targets) MOE_TRY(backend_->write(*t.values, 0, t.tensor->data.data(), t.tensor->data.size()));
  MOE_TRY(weights_.refresh_copies());
  auto from = biases.begin();
  for (auto& layer : bias_)
    for (float& b : layer) b = *from++;
  step_ = static_cast<int64_t>(step), tokens_ = tokens;
  return Status::Ok();
}

}  // namespace moe
