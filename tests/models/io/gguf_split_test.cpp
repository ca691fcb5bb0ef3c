#include <doctest/doctest.h>

#include <filesystem>

#include "models/io/gguf.h"
#include "tests/models/io/gguf_bytes.h"
#include "tests/temp_folder.h"

using namespace moe;
using moe::test::says;
using moe::test::TempFolder;

namespace {

struct Part {
  std::string name;  // of the file
  uint16_t no, count;
  int32_t tensors_count;
  std::vector<std::string> tensors;  // each 8 floats
};

void write_part(const TempFolder& folder, const Part& p) {
  Metadata m;
  if (p.no == 0) m.set("general.architecture", "test");
  m.set("split.no", p.no);
  m.set("split.count", p.count);
  m.set("split.tensors.count", p.tensors_count);
  std::vector<GgufWriter::TensorSpec> specs;
  for (const std::string& t : p.tensors) specs.push_back({t, DType::kF32, {8}});
  auto w = GgufWriter::create(folder / p.name, m, specs);
  REQUIRE_MESSAGE(w.ok(), w.status().message());
  for (const std::string& t : p.tensors) {
    const std::vector<float> x(8, static_cast<float>(t.back()));
    REQUIRE(w->write_tensor(x.data(), 32).ok());
  }
  REQUIRE(w->commit().ok());
}

// Three parts; the first holds no tensors, as some tools write it.
std::vector<Part> three_parts() {
  return {{"m-00001-of-00003.gguf", 0, 3, 3, {}},
          {"m-00002-of-00003.gguf", 1, 3, 3, {"a", "b"}},
          {"m-00003-of-00003.gguf", 2, 3, 3, {"c"}}};
}

Status open_status(const std::string& path) { return GgufFile::open(path).status(); }

}  // namespace

TEST_CASE("any part of a split GGUF model opens the whole model") {
  const TempFolder folder;
  for (const Part& p : three_parts()) write_part(folder, p);
  write_part(folder, {"whole.gguf", 0, 1, 3, {"a", "b", "c"}});
  const auto whole = GgufFile::open(folder / "whole.gguf");
  REQUIRE(whole.ok());
  for (const Part& p : three_parts()) {
    CAPTURE(p.name);
    const auto f = GgufFile::open(folder / p.name);
    REQUIRE_MESSAGE(f.ok(), f.status().message());
    REQUIRE(f->tensors().size() == 3);
    for (const char* name : {"a", "b", "c"}) {
      REQUIRE(f->find(name));
      float first = 0;
      std::memcpy(&first, f->find(name)->data.data(), sizeof first);
      CHECK(first == static_cast<float>(name[0]));
    }
    CHECK(f->content_hash() == whole->content_hash());
    CHECK(*f->metadata().get<std::string>("general.architecture") == "test");
    CHECK_FALSE(f->metadata().has("split.count"));
    CHECK(f->file_bytes() > whole->file_bytes());
  }
}

TEST_CASE("a split GGUF model with a wrong part is refused and the part is named") {
  const auto check = [](size_t changed, Part with, const char* words) {
    const TempFolder folder;
    std::vector<Part> parts = three_parts();
    parts[changed] = std::move(with);
    for (const Part& p : parts) write_part(folder, p);
    const Status s = open_status(folder / "m-00002-of-00003.gguf");
    CHECK(s.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(says(s, words), s.message());
  };
  check(2, {"m-00003-of-00003.gguf", 1, 3, 3, {"c"}}, "m-00003-of-00003.gguf: wanted part 3 of 3, found part 2 of 3");
  check(2, {"m-00003-of-00003.gguf", 2, 4, 3, {"c"}}, "m-00003-of-00003.gguf: wanted part 3 of 3, found part 3 of 4");
  check(2, {"m-00003-of-00003.gguf", 0, 1, 3, {"c"}}, "m-00003-of-00003.gguf: wanted part 3 of 3, found part 1 of 1");
  check(2, {"m-00003-of-00003.gguf", 2, 3, 3, {"a"}}, "tensor 'a': wanted each tensor once, found it twice");
  check(0, {"m-00001-of-00003.gguf", 0, 3, 4, {}}, "key 'split.tensors.count': wanted 4 tensors, found 3 in 3 parts");
  check(0, {"m-00001-of-00003.gguf", 0, 3, -1, {}}, "key 'split.tensors.count': wanted uint64, found int32 -1");
  check(1, {"m-00002-of-00003.gguf", 0, 3, 3, {"a", "b"}}, "wanted a name that ends in '-00001-of-00003.gguf'");
}

TEST_CASE("a split GGUF model with a part missing or renamed says which") {
  const TempFolder folder;
  for (const Part& p : three_parts()) write_part(folder, p);
  std::filesystem::rename(folder / "m-00003-of-00003.gguf", folder / "n-00003-of-00003.gguf");
  const Status s = open_status(folder / "m-00001-of-00003.gguf");
  CHECK(s.code() == StatusCode::kNotFound);
  CHECK_MESSAGE(says(s, "part 3 of 3 of "), s.message());
  CHECK(says(s, "m-00003-of-00003.gguf: cannot open"));
  std::filesystem::rename(folder / "m-00001-of-00003.gguf", folder / "first.gguf");
  CHECK(says(open_status(folder / "first.gguf"), "first.gguf: wanted a name that ends in '-00001-of-00003.gguf'"));
}

TEST_CASE("a GGUF path that is no file says so") {
  const TempFolder folder;
  CHECK(open_status(folder / "absent.gguf").code() == StatusCode::kNotFound);
  CHECK(says(open_status(folder / "absent.gguf"), "absent.gguf"));
  CHECK(open_status(folder.path()).code() == StatusCode::kIo);
  CHECK(says(open_status(folder.write("empty.gguf", "")), "empty.gguf: wanted a GGUF file, found one that begins with ''"));
}
