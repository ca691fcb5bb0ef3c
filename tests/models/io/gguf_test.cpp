#include "models/io/gguf.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/models/io/gguf_bytes.h"
#include "tests/temp_folder.h"

using namespace moe;
using moe::test::bytes_of;
using moe::test::GgufBytes;
using moe::test::says;
using moe::test::TempFolder;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

// One tensor of each type a file can hold, of two rows, with a pattern for bytes.
struct AllTypes {
  std::vector<GgufWriter::TensorSpec> specs;
  std::vector<std::string> contents;

  AllTypes() {
    for (const DTypeTraits& t : all_dtypes()) {
      if (t.gguf_id == kNoGgufId) continue;
      specs.push_back({std::string("weight.") + t.name, t.dtype, {2, 3 * t.block_elements}});
      std::string bytes(6 * t.block_bytes, '\0');
      for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + specs.size());
      contents.push_back(std::move(bytes));
    }
  }
};

Status write_all(const std::string& path, const Metadata& m, const AllTypes& a) {
  MOE_ASSIGN(GgufWriter w, GgufWriter::create(path, m, a.specs));
  for (const std::string& c : a.contents) MOE_TRY(w.write_tensor(c.data(), c.size()));
  return w.commit();
}

void check_contents(const GgufFile& f, const AllTypes& a) {
  REQUIRE(f.tensors().size() == a.specs.size());
  for (size_t i = 0; i < a.specs.size(); ++i) {
    const TensorInfo* t = f.find(a.specs[i].name);
    REQUIRE(t == &f.tensors()[i]);
    CHECK(t->name == a.specs[i].name);
    CHECK(t->dtype == a.specs[i].dtype);
    CHECK(t->shape == a.specs[i].shape);
    CHECK(std::string(reinterpret_cast<const char*>(t->data.data()), t->data.size()) == a.contents[i]);
  }
}

std::string shared_folder() {
  const char* set = std::getenv("MOE_SHARED");
  return set ? set : "../shared";
}

}  // namespace

TEST_CASE("a GGUF file of all tensor types reads back as it was written") {
  const TempFolder folder;
  const AllTypes all;
  for (uint32_t alignment : {0u, 8u, 32u, 4096u}) {
    CAPTURE(alignment);
    Metadata m;
    m.set("general.architecture", "test");
    if (alignment) m.set("general.alignment", alignment);
    const Status s = write_all(folder / "all.gguf", m, all);
    REQUIRE_MESSAGE(s.ok(), s.message());
    const auto f = GgufFile::open(folder / "all.gguf");
    REQUIRE_MESSAGE(f.ok(), f.status().message());
    check_contents(*f, all);
    CHECK(*f->metadata().get<std::string>("general.architecture") == "test");
    CHECK(f->version() == 3);
    CHECK(f->file_bytes() == std::filesystem::file_size(folder / "all.gguf"));
    CHECK(f->file_bytes() % (alignment ? alignment : 32) == 0);
    for (const TensorInfo& t : f->tensors())
      CHECK(reinterpret_cast<uintptr_t>(t.data.data()) % (alignment ? alignment : 32) == 0);
  }
}

TEST_CASE("the GGUF writer gives the bytes that the format's description says") {
  const TempFolder folder;
  const GgufBytes wanted = test::sound_file();
  const auto parsed = GgufFile::parse(bytes_of(wanted.bytes()), "wanted");
  REQUIRE(parsed.ok());
  auto w = GgufWriter::create(folder / "f.gguf", parsed->metadata(), {{"a", DType::kF32, {2, 4}}, {"b", DType::kQ8_0, {32}}});
  REQUIRE_MESSAGE(w.ok(), w.status().message());
  REQUIRE(w->write_tensor(wanted.data.data(), 32).ok());
  REQUIRE(w->write_tensor(wanted.data.data() + 32, 34).ok());
  REQUIRE(w->commit().ok());
  std::string bytes = wanted.bytes();
  bytes.resize((bytes.size() + 31) / 32 * 32);
  CHECK(read_file(folder / "f.gguf") == bytes);
}

TEST_CASE("a tensor written in pieces equals one written whole") {
  const TempFolder folder;
  const AllTypes all;
  auto w = GgufWriter::create(folder / "pieces.gguf", Metadata(), all.specs);
  REQUIRE(w.ok());
  for (const std::string& c : all.contents) {
    const size_t half = c.size() / 2 + 1;
    REQUIRE(w->write_tensor(c.data(), half).ok());
    REQUIRE(w->write_tensor(nullptr, 0).ok());
    REQUIRE(w->write_tensor(c.data() + half, c.size() - half).ok());
  }
  REQUIRE(w->commit().ok());
  REQUIRE(write_all(folder / "whole.gguf", Metadata(), all).ok());
  CHECK(read_file(folder / "pieces.gguf") == read_file(folder / "whole.gguf"));
}

TEST_CASE("a GGUF file appears only when all of it was written") {
  const TempFolder folder;
  const std::vector<float> x(8);
  {
    auto w = GgufWriter::create(folder / "f.gguf", Metadata(), {{"a", DType::kF32, {8}}, {"b", DType::kF32, {8}}});
    REQUIRE(w.ok());
    CHECK(w->write_tensor(x.data(), 32).ok());
    CHECK(w->write_tensor(x.data(), 12).ok());
    CHECK(says(w->write_tensor(x.data(), 24), "f.gguf: tensor 'b': wanted at most 20 more bytes, found 24"));
    CHECK(says(w->commit(), "f.gguf: tensor 'b': wanted 32 bytes, found 12"));
  }
  CHECK(std::filesystem::is_empty(folder.path()));
  auto w = GgufWriter::create(folder / "f.gguf", Metadata(), {{"a", DType::kF32, {8}}});
  REQUIRE(w.ok());
  CHECK(w->write_tensor(x.data(), 32).ok());
  CHECK(says(w->write_tensor(x.data(), 1), "wanted 1 tensors, found 1 bytes more"));
  CHECK(w->commit().ok());
  CHECK(GgufFile::open(folder / "f.gguf").ok());
}

TEST_CASE("the GGUF writer refuses what its reader would refuse") {
  const TempFolder folder;
  using Specs = std::vector<GgufWriter::TensorSpec>;
  const auto refuses = [&](const Metadata& m, Specs specs, const char* words) {
    CAPTURE(words);
    const auto w = GgufWriter::create(folder / "f.gguf", m, std::move(specs));
    CHECK(w.status().code() == StatusCode::kInvalidArgument);
    CHECK_MESSAGE(says(w.status(), words), w.status().message());
    CHECK(says(w.status(), "f.gguf: "));
  };
  const auto with = [](const std::string& key, auto value) {
    Metadata m;
    m.set(key, value);
    return m;
  };
  const Metadata none;
  refuses(with("", 1), {}, "key '': wanted a name of 1 to 65535 bytes, found 0");
  refuses(with(std::string(65536, 'k'), 1), {}, "wanted a name of 1 to 65535 bytes, found 65536");
  refuses(with(std::string("a\0b", 3), 1), {}, "key 'a\\x00b': wanted a name without NUL");
  refuses(with("a\xff", 1), {}, "wanted a name in UTF-8");
  refuses(with("general.alignment", uint32_t{24}), {},
          "'general.alignment': wanted a power of two from 8 to 1048576, found 24");
  refuses(with("general.alignment", "32"), {}, "'general.alignment': wanted uint32, found string '32'");
  refuses(none, {{std::string(64, 't'), DType::kF32, {1}}}, "wanted a name of 1 to 63 bytes, found 64");
  refuses(none, {{"", DType::kF32, {1}}}, "wanted a name of 1 to 63 bytes, found 0");
  refuses(none, {{"t", DType::kF32, {1}}, {"t", DType::kF32, {1}}}, "tensor 't': wanted each tensor once");
  refuses(none, {{"t", DType::kF32, {}}}, "tensor 't': wanted 1 to 4 dimensions, found 0");
  refuses(none, {{"t", DType::kF32, {1, 1, 1, 1, 1}}}, "tensor 't': wanted 1 to 4 dimensions, found 5");
  refuses(none, {{"t", DType::kF32, {2, 0}}}, "tensor 't': wanted dimensions of at least 1, found (2, 0)");
  refuses(none, {{"t", DType::kF32, {-2, 4}}}, "tensor 't': wanted dimensions of at least 1, found (-2, 4)");
  refuses(none, {{"t", DType::kQ4_K, {2, 128}}}, "tensor 't': wanted rows of a multiple of 256 elements, found (2, 128)");
  refuses(none, {{"t", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}}, "tensor 't': wanted a size below 2^63");
  refuses(none, {{"t", DType::kI8, {int64_t{1} << 62}}, {"u", DType::kI8, {1}}}, "tensor 'u': wanted a file below 2^62 bytes");
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("GGUF versions 2 and 3 read alike") {
  GgufBytes f = test::sound_file();
  const std::string v3 = f.bytes();
  f.version = 2;
  const std::string v2 = f.bytes();
  const auto a = GgufFile::parse(bytes_of(v2), "v2");
  const auto b = GgufFile::parse(bytes_of(v3), "v3");
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  CHECK(a->version() == 2);
  CHECK(b->version() == 3);
  CHECK(a->content_hash() == b->content_hash());
  CHECK(a->find("a")->shape == std::vector<int64_t>{2, 4});
  CHECK(b->find("b")->dtype == DType::kQ8_0);
}

TEST_CASE("a vocabulary-only GGUF file has keys and no tensors") {
  GgufBytes f;
  std::string words;
  for (int i = 0; i < 200000; ++i) words += test::text("token " + std::to_string(i));
  f.pairs = {test::pair("tokenizer.ggml.tokens", test::kArray, test::array(test::kString, 200000, words))};
  for (const std::string& bytes : {f.header(), f.bytes()}) {  // without and with padding
    const auto file = GgufFile::parse(bytes_of(bytes), "vocab");
    REQUIRE_MESSAGE(file.ok(), file.status().message());
    CHECK(file->tensors().empty());
    const auto tokens = file->metadata().get_array<std::string_view>("tokenizer.ggml.tokens");
    REQUIRE(tokens.ok());
    CHECK(tokens->size() == 200000);
    CHECK(tokens->back() == "token 199999");
  }
}

TEST_CASE("a tensor of unknown type is listed, and refused by name when asked for") {
  GgufBytes f = test::sound_file();
  f.tensors = {test::tensor("known", {4, 2}, 0, 0), test::tensor("foreign", {256, 1}, 16, 32),
               test::tensor("strange", {7, 3}, 99, 128)};
  f.data.resize(160);
  const std::string bytes = f.bytes();
  const auto file = GgufFile::parse(bytes_of(bytes), "f.gguf");
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  REQUIRE(file->tensors().size() == 1);
  REQUIRE(file->unsupported().size() == 2);
  CHECK(file->unsupported()[0].type_name == "iq2_xxs");
  CHECK(file->unsupported()[1].shape == std::vector<int64_t>{3, 7});
  CHECK(file->find("foreign") == nullptr);
  CHECK((*file->require("known"))->name == "known");
  const auto foreign = file->require("foreign");
  CHECK(foreign.status().code() == StatusCode::kUnsupported);
  CHECK(foreign.status().message() == "f.gguf: tensor 'foreign': wanted a type this build reads, found iq2_xxs");
  CHECK(says(file->require("strange").status(), "tensor 'strange': wanted a type this build reads, found type 99"));
  CHECK(file->require("absent").status().code() == StatusCode::kNotFound);
  CHECK(file->require("absent").status().message() == "f.gguf: tensor 'absent': wanted it in the file, found no such tensor");
}

TEST_CASE("the content hash sees names, types, shapes and weights, and neither order nor metadata") {
  const TempFolder folder;
  const auto hash_of = [&](std::vector<GgufWriter::TensorSpec> specs, const std::vector<std::string>& contents,
                           const char* name = "x") {
    Metadata m;
    m.set("general.name", name);
    auto w = GgufWriter::create(folder / "h.gguf", m, std::move(specs));
    REQUIRE(w.ok());
    for (const std::string& c : contents) REQUIRE(w->write_tensor(c.data(), c.size()).ok());
    REQUIRE(w->commit().ok());
    const auto f = GgufFile::open(folder / "h.gguf");
    REQUIRE(f.ok());
    return f->content_hash();
  };
  const std::string x(10000, 'x'), y(64, 'y');
  const GgufWriter::TensorSpec a{"a", DType::kI8, {2, 5000}}, b{"b", DType::kF32, {16}};
  const uint64_t base = hash_of({a, b}, {x, y});
  CHECK(base == 0x7edacd68fcb177f1u);  // computed apart from this code, from the definition in README.md
  CHECK(hash_of({b, a}, {y, x}) == base);
  CHECK(hash_of({a, b}, {x, y}, "other") == base);
  CHECK(hash_of({{"c", DType::kI8, {2, 5000}}, b}, {x, y}) != base);
  CHECK(hash_of({{"a", DType::kI8, {5000, 2}}, b}, {x, y}) != base);
  CHECK(hash_of({a, {"b", DType::kI32, {16}}}, {x, y}) != base);
  for (size_t i : {size_t{0}, size_t{4095}, size_t{10000 - 4096}, size_t{9999}}) {
    std::string changed = x;
    changed[i] = 'z';
    CHECK(hash_of({a, b}, {changed, y}) != base);
  }
}

TEST_CASE("a GGUF file survives being moved") {
  const std::string bytes = test::sound_file().bytes();
  auto parsed = GgufFile::parse(bytes_of(bytes), "f");
  REQUIRE(parsed.ok());
  GgufFile a = std::move(parsed).value();
  GgufFile b = std::move(a);
  REQUIRE(b.find("b"));
  CHECK(b.find("b")->name == "b");
  CHECK(*b.metadata().get<std::string>("general.architecture") == "llama");
}

TEST_CASE("GGUF files of other tools read with every tensor inside the file") {
  const std::string shared = shared_folder();
  int files = 0;
  for (const char* sub : {"/reference", "/vocab"}) {
    std::error_code absent;
    for (const auto& entry : std::filesystem::directory_iterator(shared + sub, absent)) {
      if (entry.path().extension() != ".gguf") continue;
      const auto f = GgufFile::open(entry.path().string());
      REQUIRE_MESSAGE(f.ok(), f.status().message());
      CHECK(f->metadata().has("general.architecture"));
      CHECK(f->unsupported().empty());
      CHECK(f->tensors().empty() == (std::string_view(sub) == "/vocab"));
      CHECK(f->metadata().get_array<std::string>("tokenizer.ggml.tokens").ok() == f->metadata().has("tokenizer.ggml.tokens"));
      for (const TensorInfo& t : f->tensors()) {
        size_t elements = 1;
        for (int64_t d : t.shape) elements *= static_cast<size_t>(d);
        CHECK(t.data.size() == dtype_bytes(t.dtype, static_cast<int64_t>(elements)));
      }
      ++files;
    }
  }
  if (files == 0) MESSAGE("skipped: no GGUF files below " << shared << " (set MOE_SHARED)");
}
