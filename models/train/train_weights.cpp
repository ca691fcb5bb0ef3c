#include "models/train/train_weights.h"

#include <cmath>

#include "core/half.h"
#include "core/rng.h"

namespace moe {
namespace {

constexpr float kSmallDeviation = 0.02f;
constexpr size_t kPiece = 1 << 16;  // elements written at a time

// FNV-1a: the stream of a tensor depends on its name alone.
uint64_t stream_of(const std::string& name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

bool writes_residual(const std::string& name) {
  return name.find("attn_output.") != std::string::npos || name.find("ffn_down") != std::string::npos;
}

float deviation_of(const DeclaredTensor& t, int n_layer) {
  const float gain = 1 / std::sqrt(static_cast<float>(std::max<int64_t>(1, t.shape.last())));
  switch (t.role) {
    case Role::kMatrix:
      return writes_residual(t.name) ? gain / std::sqrt(2 * static_cast<float>(n_layer)) : gain;
    case Role::kEmbedding:
    case Role::kRouter:
      return kSmallDeviation;
    case Role::kNorm:
    case Role::kBias:
      return 0;
  }
  return gain;
}

// Routers decide on differences that bfloat16 would round away, and vectors cost nothing. Fused matrices are read in parts,
// whose copies would need addresses of their own.
bool wants_copy(const std::string& name, const Shape& shape) {
  return shape.rank > 1 && name.ends_with(".weight") && name.find("ffn_gate_inp") == std::string::npos &&
         name.find("attn_qkv") == std::string::npos;
}

}  // namespace

Status TrainWeights::add(const std::string& name, const Shape& shape, bool copy) {
  Weight w;
  w.name = name, w.shape = shape;
  const auto n = static_cast<size_t>(shape.elements());
  auto values = backend_->allocate(n * sizeof(float));
  if (!values.ok()) return values.status().Annotate("tensor '" + name + "'");
  w.values = std::move(values).value();
  if (copy && wants_copy(name, shape)) {
    MOE_ASSIGN(w.copy, backend_->allocate(n * sizeof(uint16_t)));
  }
  index_.emplace(name, weights_.size());
  weights_.push_back(std::move(w));
  return Status::Ok();
}

Result<TrainWeights> TrainWeights::random(Backend& backend, const std::vector<DeclaredTensor>& tensors, int n_layer,
                                          uint64_t seed, bool bf16) {
  TrainWeights made(backend);
  std::vector<float> piece;
  for (const DeclaredTensor& t : tensors) {
    MOE_TRY(made.add(t.name, t.shape, bf16));
    const float mean = t.role == Role::kNorm ? 1 : 0, deviation = deviation_of(t, n_layer);
    Rng rng(seed, stream_of(t.name));
    const auto n = static_cast<size_t>(t.shape.elements());
    for (size_t begin = 0; begin < n; begin += piece.size()) {
      piece.resize(std::min(kPiece, n - begin));
      for (float& x : piece) x = deviation == 0 ? mean : mean + deviation * rng.normal();
      MOE_TRY(backend.write(made.weights_.back().values, begin * sizeof(float), piece.data(), piece.size() * sizeof(float)));
    }
  }
  MOE_TRY(made.refresh_copies());
  return made;
}

Result<TrainWeights> TrainWeights::load(Backend& backend, const GgufFile& file, bool bf16) {
  TrainWeights made(backend);
  if (!file.unsupported().empty()) return file.require(file.unsupported().front().name).status();
  std::vector<float> piece;
  for (const TensorInfo& t : file.tensors()) {
    if (t.name.starts_with(kTrainingTensors) || !traits(t.dtype).is_weight) continue;
    Shape shape;
    shape.rank = static_cast<int>(t.shape.size());
    std::copy(t.shape.begin(), t.shape.end(), shape.dim.begin());
    MOE_TRY(made.add(t.name, shape, bf16));
    const auto n = static_cast<size_t>(shape.elements());  // pieces are multiples of every block
    for (size_t begin = 0; begin < n; begin += piece.size()) {
      piece.resize(std::min(kPiece, n - begin));
      traits(t.dtype).decode(t.data.data() + dtype_bytes(t.dtype, static_cast<int64_t>(begin)), piece.data(),
                             static_cast<int64_t>(piece.size()));
      for (const float x : piece)
        if (!std::isfinite(x))
          return Status::Corrupt(file.name() + ": tensor '" + t.name + "': wanted finite weights, found " + std::to_string(x));
      MOE_TRY(backend.write(made.weights_.back().values, begin * sizeof(float), piece.data(), piece.size() * sizeof(float)));
    }
  }
  MOE_TRY(made.refresh_copies());
  return made;
}

Status TrainWeights::refresh_copies() {
  std::vector<float> values;
  std::vector<uint16_t> rounded;
  for (Weight& w : weights_) {
    if (w.copy.bytes() == 0) continue;
    const auto n = static_cast<size_t>(w.shape.elements());
    for (size_t begin = 0; begin < n; begin += values.size()) {
      values.resize(std::min(kPiece, n - begin)), rounded.resize(values.size());
      MOE_TRY(backend_->read(w.values, begin * sizeof(float), values.data(), values.size() * sizeof(float)));
      for (size_t i = 0; i < values.size(); ++i) rounded[i] = f32_to_bf16(values[i]);
      MOE_TRY(backend_->write(w.copy, begin * sizeof(uint16_t), rounded.data(), rounded.size() * sizeof(uint16_t)));
    }
  }
  return Status::Ok();
}

const TrainWeights::Weight* TrainWeights::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &weights_[it->second];
}

Result<Tensor> TrainWeights::weight(const std::string& name, bool plain) {
  const Weight* w = find(name);
  if (!w) return Status::NotFound("tensor '" + name + "' is missing");
  if (!plain && w->copy.bytes() > 0) return Tensor{w->copy.data(), DType::kBF16, w->shape};
  return Tensor{w->values.data(), DType::kF32, w->shape};
}

}  // namespace moe
