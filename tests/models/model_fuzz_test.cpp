// Model::load and one token against damaged files: every cut, thousands of changed header bytes. Nothing may crash, hang or
// throw; what is refused is refused in one line.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/rng.h"
#include "models/specialise.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int kChanges = kSanitized ? 150 : 1000;
constexpr size_t kStep = kSanitized ? 9973 : 997;

std::string file_text(const std::string& path) {
  auto f = MappedFile::open(path);
  REQUIRE(f.ok());
  return {reinterpret_cast<const char*>(f->bytes().data()), f->bytes().size()};
}

// Half of gpt-oss's experts, fewer in each layer, with a redirect: all keys of our own that a model can have.
std::string specialised_path(const TempFolder& folder) {
  const auto model = load_model(reference_path("gpt-oss"));
  RoutingTopology t = model->topology();
  for (size_t i = 0; i < t.layers.size(); ++i) {
    LayerRouting& r = t.layers[i];
    r.allow[i % 2] = r.allow[2] = 0;
    r.redirect.assign(r.allow.size(), -1), r.redirect[2] = 3;
    r.width.assign(r.allow.size(), 16 + 16 * static_cast<int>(i % 2));
  }
  const auto plan = plan_specialise(*model, t);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  ThreadPool pool(1);
  REQUIRE(write_specialised(*plan, pool, folder / "whole.gguf", {}).ok());
  return folder / "whole.gguf";
}

struct Tally {
  int loaded = 0, refused = 0;
};

// Loads the bytes and, if that works, runs a token.
void try_file(const TempFolder& folder, const std::string& bytes, Tally& tally) {
  const std::string path = folder.write("damaged.gguf", bytes);
  ModelOptions o;
  o.backend_options.n_threads = 1;
  Status status;
  const auto model = Model::load(path, o);
  if (model.ok()) {
    const auto session = Session::create(**model, roomy());
    const BatchToken one{0, 0, true};
    status = session.ok() ? (*session)->eval({&one, 1}) : session.status();
    ++tally.loaded;
  } else {
    status = model.status();
    ++tally.refused;
    const bool named = has_text(status, path);
    CHECK_MESSAGE(named, status.message());
  }
  const bool clear = status.ok() || is_one_line(status);
  CHECK_MESSAGE(clear, status.message());
}

}  // namespace

TEST_CASE("every cut of a model file is refused in one line that names it") {
  TempFolder folder;
  for (const std::string name : {"olmoe", "deepseek3"}) {
    const std::string whole = file_text(reference_path(name));
    Tally tally;
    for (size_t n = 0; n < whole.size(); n += n < 4096 ? kStep / 8 : kStep) try_file(folder, whole.substr(0, n), tally);
    try_file(folder, whole.substr(0, whole.size() - 1), tally);
    CHECK(tally.loaded == 0);
    CHECK(tally.refused > 20);
  }
}

TEST_CASE("a changed byte anywhere in the header is refused in one line or gives a model that runs") {
  TempFolder folder;
  for (const std::string name : {"olmoe", "gpt-oss", "deepseek3", "llama-factors", "specialised"}) {
    CAPTURE(name);
    const std::string path = name == "specialised" ? specialised_path(folder) : reference_path(name);
    const std::string whole = file_text(path);
    auto parsed = GgufFile::open(path);
    REQUIRE(parsed.ok());
    size_t data = 0;
    for (const TensorInfo& t : parsed->tensors()) data += t.data.size();
    const size_t header = whole.size() - data;
    Rng rng(7);
    Tally tally;
    for (int i = 0; i < kChanges; ++i) {
      std::string bytes = whole;
      const size_t at = rng.below(header);
      // Small numbers and single bits reach further into the checks than random bytes do.
      const uint8_t kinds[] = {
          0, 1, 2, 0xff, static_cast<uint8_t>(rng.next_u32()), static_cast<uint8_t>(bytes[at] ^ (1 << rng.below(8)))};
      bytes[at] = static_cast<char>(kinds[rng.below(std::size(kinds))]);
      try_file(folder, bytes, tally);
    }
    CHECK(tally.refused > kChanges / 10);
  }
}

TEST_CASE("random numbers in the keys of every architecture are refused in one line or give a model that runs") {
  TempFolder folder;
  for (const std::string name :
       {"mixtral", "olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "deepseek2", "deepseek3"}) {
    CAPTURE(name);
    const ModelFile whole = read_model(reference_path(name));
    Rng rng(11);
    Tally tally;
    for (int i = 0; i < kChanges / 8; ++i) {
      ModelFile file = whole;
      std::vector<std::string> keys;
      for (const MetadataEntry& e : whole.metadata.entries())
        if (e.type == GgufType::kUint32 || e.type == GgufType::kFloat32) keys.push_back(e.key);
      const std::string& key = keys[rng.below(keys.size())];
      const uint32_t numbers[] = {0, 1, 2, 3, 7, 8, 31, 32, 1000, 65537, 1u << 24, 0x7fffffff, 0xffffffff};
      if (whole.metadata.find(key)->type == GgufType::kUint32)
        file.metadata.set<uint32_t>(key, numbers[rng.below(std::size(numbers))]);
      else
        file.metadata.set<float>(key, static_cast<float>(numbers[rng.below(std::size(numbers))]) * rng.normal());
      file.write(folder, "keys.gguf");
      try_file(folder, file_text(folder / "keys.gguf"), tally);
    }
    CHECK(tally.loaded + tally.refused == kChanges / 8);
  }
}

}  // namespace moe
