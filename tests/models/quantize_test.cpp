#include "models/quantize.h"

#include <doctest/doctest.h>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/file.h"
#include "models/synth.h"
#include "tests/temp_folder.h"

using namespace moe;
using moe::test::TempFolder;

namespace {

std::string bytes_of(const std::string& path) {
  const auto text = read_text_file(path);
  REQUIRE(text.ok());
  return *text;
}

void write_model(const std::string& path, const std::string& type, int n_threads, uint64_t seed = 7) {
  SynthOptions o;
  o.arch = "olmoe";
  o.settings = {"n_layer=2"};
  o.type = type;
  o.seed = seed;
  const auto plan = plan_synth(o);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  ThreadPool pool(n_threads);
  const Status s = write_synth(*plan, pool, path, {});
  REQUIRE_MESSAGE(s.ok(), s.message());
}

GgufFile open(const std::string& path) {
  auto file = GgufFile::open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  return std::move(file).value();
}

TypeChoiceOptions mix(const char* name) {
  TypeChoiceOptions o;
  o.mix = name;
  return o;
}

void quantize(const std::string& from, const std::string& to, const char* type, int n_threads) {
  const GgufFile file = open(from);
  const auto plan = plan_quantize(file, mix(type));
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  ThreadPool pool(n_threads);
  const Status s = write_quantized(file, *plan, pool, to, {});
  REQUIRE_MESSAGE(s.ok(), s.message());
}

std::vector<float> values_of(const TensorInfo& t) {
  int64_t n = 1;
  for (const int64_t d : t.shape) n *= d;
  std::vector<float> x(static_cast<size_t>(n));
  traits(t.dtype).decode(t.data.data(), x.data(), n);
  return x;
}

}  // namespace

TEST_CASE("a quantised model keeps its keys, its tensors and nearly their values") {
  const TempFolder folder;
  write_model(folder / "a.gguf", "f32", 2);
  quantize(folder / "a.gguf", folder / "b.gguf", "q4_k_m", 2);
  const GgufFile a = open(folder / "a.gguf"), b = open(folder / "b.gguf");
  REQUIRE(a.tensors().size() == b.tensors().size());
  CHECK(a.metadata().entries().size() == b.metadata().entries().size());
  CHECK(*b.metadata().get<uint32_t>("general.file_type") == 15);
  CHECK(*b.metadata().get<uint32_t>("general.quantization_version") == 2);
  CHECK(*b.metadata().get<std::string>("general.architecture") == "olmoe");
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorInfo &x = a.tensors()[i], &y = b.tensors()[i];
    CAPTURE(x.name);
    CHECK(x.name == y.name);
    CHECK(x.shape == y.shape);
    const std::vector<float> u = values_of(x), v = values_of(y);
    double error = 0, size = 0;
    for (size_t j = 0; j < u.size(); ++j) error += std::pow(u[j] - v[j], 2), size += std::pow(u[j], 2);
    CHECK(error <= 0.01 * size);
    if (y.dtype == DType::kF32) CHECK(error == 0);
  }
  CHECK(b.file_bytes() * 5 < a.file_bytes());
}

TEST_CASE("each tensor holds what the format's own encoder makes of it, whatever the number of threads") {
  const TempFolder folder;
  write_model(folder / "a.gguf", "f32", 1);
  for (int n : {1, 3}) quantize(folder / "a.gguf", folder / (std::to_string(n) + ".gguf"), "q3_k_m", n);
  CHECK(bytes_of(folder / "1.gguf") == bytes_of(folder / "3.gguf"));
  const GgufFile a = open(folder / "a.gguf"), b = open(folder / "3.gguf");
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const std::vector<float> x = values_of(a.tensors()[i]);
    std::vector<std::byte> wanted(b.tensors()[i].data.size());
    traits(b.tensors()[i].dtype).encode(x.data(), nullptr, wanted.data(), static_cast<int64_t>(x.size()));
    CHECK_MESSAGE(std::memcmp(wanted.data(), b.tensors()[i].data.data(), wanted.size()) == 0, a.tensors()[i].name);
  }
}

TEST_CASE("a second quantisation is marked, decoding is not") {
  const TempFolder folder;
  write_model(folder / "a.gguf", "q8_0", 1);
  const GgufFile file = open(folder / "a.gguf");
  const auto count = [&](const char* type) {
    const auto plan = plan_quantize(file, mix(type));
    REQUIRE(plan.ok());
    int n = 0;
    for (const QuantizePlan::Step& s : plan->steps) n += s.requantized;
    return n;
  };
  CHECK(count("q4_0") > 0);
  CHECK(count("f16") > 0);
  CHECK(count("f32") == 0);
  CHECK(count("q8_0") == 0);
}

TEST_CASE("weights that are no numbers are refused, naming tensor and element, and nothing is written") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const TempFolder folder;
    Metadata m;
    m.set("general.architecture", "test");
    std::vector<float> x(40000, 1.0f);
    x[39999] = x[20000] = bad;
    auto writer = GgufWriter::create(folder / "a.gguf", m, {{"blk.0.attn_q.weight", DType::kF32, {1250, 32}}});
    REQUIRE(writer.ok());
    REQUIRE(writer->write_tensor(x.data(), x.size() * sizeof(float)).ok());
    REQUIRE(writer->commit().ok());
    const GgufFile file = open(folder / "a.gguf");
    const auto plan = plan_quantize(file, mix("q8_0"));
    REQUIRE(plan.ok());
    ThreadPool pool(2);
    const Status s = write_quantized(file, *plan, pool, folder / "b.gguf", {});
    CHECK(s.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(s.message().find("'blk.0.attn_q.weight'") != std::string::npos, s.message());
    CHECK_MESSAGE(s.message().find("element 20000") != std::string::npos, s.message());
    CHECK_FALSE(std::filesystem::exists(folder / "b.gguf"));
  }
}

TEST_CASE("a quantisation that is cancelled leaves no file") {
  const TempFolder folder;
  write_model(folder / "a.gguf", "f32", 1);
  const GgufFile file = open(folder / "a.gguf");
  const auto plan = plan_quantize(file, mix("q8_0"));
  REQUIRE(plan.ok());
  ThreadPool pool(1);
  int calls = 0;
  const Status s =
      write_quantized(file, *plan, pool, folder / "b.gguf", [&](uint64_t, std::string_view) { return ++calls < 3; });
  CHECK(s.code() == StatusCode::kCancelled);
  CHECK(calls == 3);
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder / ".")) ++files;
  CHECK(files == 1);
}

TEST_CASE("a file without tensors is no model to quantise") {
  const TempFolder folder;
  Metadata m;
  m.set("general.architecture", "test");
  auto writer = GgufWriter::create(folder / "v.gguf", m, {});
  REQUIRE(writer.ok());
  REQUIRE(writer->commit().ok());
  CHECK(plan_quantize(open(folder / "v.gguf"), mix("q8_0")).status().code() == StatusCode::kInvalidArgument);
}
