#include "models/train/token_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/models/train/token_fixture.h"

using namespace moe;
using namespace moe::test;

namespace {

const Documents kDocuments = {{1, 2, 3}, {999}, {5, 4, 3, 2, 1}};

Documents read_all(const TokenFile& file) {
  Documents documents;
  for (uint64_t i = 0; i < file.n_documents(); ++i) {
    std::vector<Token> tokens(file.document_end(i) - file.document_begin(i));
    REQUIRE(file.read(file.document_begin(i), tokens).ok());
    documents.push_back(tokens);
  }
  return documents;
}

std::string message_of(const std::vector<std::byte>& bytes) {
  const std::unique_ptr<std::byte[]> block(new std::byte[bytes.size()]);  // of exactly this size
  std::copy(bytes.begin(), bytes.end(), block.get());
  const auto file = TokenFile::parse({block.get(), bytes.size()}, "x");
  if (file.ok()) return "ok";
  CHECK(file.status().message().starts_with("x: "));
  return file.status().message();
}

}  // namespace

TEST_CASE("documents come back as they were written, in two and in four bytes a token") {
  const TempFolder folder;
  for (const int n_vocab : {1000, 65536, 65537}) {
    const TokenFile file = TokenFile::open(write_token_file(folder, "t", kDocuments, n_vocab, 42)).value();
    CHECK(file.n_vocab() == n_vocab);
    CHECK(file.vocabulary_hash() == 42);
    CHECK(file.n_tokens() == 9);
    CHECK(read_all(file) == kDocuments);
    CHECK(std::filesystem::file_size(folder / "t") == 64 + (n_vocab > 65536 ? 40 : 24) + 48);
  }
}

TEST_CASE("the document of a token is found") {
  const TempFolder folder;
  const TokenFile file = TokenFile::open(write_token_file(folder, "t", kDocuments)).value();
  const uint64_t wanted[] = {0, 0, 0, 1, 2, 2, 2, 2, 2};
  for (uint64_t t = 0; t < 9; ++t) CHECK(file.document_of(t) == wanted[t]);
}

TEST_CASE("equal documents have equal hashes, others have not") {
  const TempFolder folder;
  const TokenFile a = TokenFile::open(write_token_file(folder, "a", {{1, 2}, {2, 1}, {1, 2}, {1}})).value();
  const TokenFile b = TokenFile::open(write_token_file(folder, "b", {{1, 2}}, 70000)).value();
  CHECK(a.document_hash(0) == a.document_hash(2));
  CHECK(a.document_hash(0) == b.document_hash(0));
  CHECK(a.document_hash(0) != a.document_hash(1));
  CHECK(a.document_hash(0) != a.document_hash(3));
}

TEST_CASE("a file without documents, and one larger than the writer's buffer") {
  const TempFolder folder;
  CHECK(TokenFile::open(write_token_file(folder, "none", {{}})).value().n_documents() == 0);
  Documents many(3);
  for (int i = 0; i < 900000; ++i) many[static_cast<size_t>(i % 3)].push_back(i % 977);
  CHECK(read_all(TokenFile::open(write_token_file(folder, "many", many)).value()) == many);
}

TEST_CASE("without commit no file appears, and tokens outside the vocabulary are refused") {
  const TempFolder folder;
  {
    TokenFileWriter writer = TokenFileWriter::create(folder / "t", 1, 10).value();
    CHECK(writer.add_document(std::vector<Token>{1, 2}).ok());
    CHECK(writer.add_document(std::vector<Token>{1, 10}).message().find("document 1: token 10") != std::string::npos);
    CHECK(writer.add_document(std::vector<Token>{-1}).code() == StatusCode::kInvalidArgument);
    CHECK(writer.n_documents() == 1);
  }
  CHECK(std::filesystem::is_empty(folder.path()));
  CHECK_FALSE(TokenFileWriter::create(folder / "t", 1, 0).ok());
}

TEST_CASE("every cut of a token file is refused") {
  const TempFolder folder;
  std::vector<std::byte> bytes = bytes_of(write_token_file(folder, "t", kDocuments));
  CHECK(message_of(bytes) == "ok");
  while (!bytes.empty()) {
    bytes.pop_back();
    CHECK(message_of(bytes) != "ok");
  }
}

TEST_CASE("every changed bit of a token file's header is noticed") {
  const TempFolder folder;
  const std::vector<std::byte> bytes = bytes_of(write_token_file(folder, "t", kDocuments));
  for (size_t bit = 0; bit < 64 * 8; ++bit) {
    std::vector<std::byte> broken = bytes;
    broken[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    CHECK(message_of(broken) != "ok");
  }
}

TEST_CASE("a token file's claims are checked even where its checksum is right") {
  const TempFolder folder;
  const std::vector<std::byte> good = bytes_of(write_token_file(folder, "t", kDocuments));
  const auto with = [&](size_t offset, auto value) {
    std::vector<std::byte> file = good;
    set_field(file, offset, value);
    return message_of(file);
  };
  const auto has = [](const std::string& text, const char* words) { return text.find(words) != std::string::npos; };
  CHECK(has(with(8, uint32_t{2}), "version: wanted 1, found 2"));
  CHECK(has(with(12, uint32_t{3}), "width"));
  CHECK(has(with(12, uint32_t{4}), "bytes"));
  CHECK(has(with(24, uint32_t{0}), "n_vocab"));
  CHECK(has(with(24, uint32_t{65537}), "n_vocab: wanted 1 to 65536"));
  CHECK(has(with(28, uint32_t{1}), "must be 0"));
  CHECK(has(with(32, uint64_t{1} << 60), "bytes"));
  CHECK(has(with(32, ~uint64_t{0}), "promises"));
  CHECK(has(with(40, uint64_t{8}), "bytes"));
  CHECK(has(with(40, ~uint64_t{0}), "promises"));
  const auto with_ends = [&](uint64_t a, uint64_t b, uint64_t c) {
    std::vector<std::byte> file = good;
    std::memcpy(file.data() + 88, &a, 8), std::memcpy(file.data() + 104, &b, 8), std::memcpy(file.data() + 120, &c, 8);
    return message_of(file);
  };
  CHECK(with_ends(3, 4, 9) == "ok");
  CHECK(has(with_ends(0, 4, 9), "document 0"));
  CHECK(has(with_ends(3, 3, 9), "document 1: wanted an end from 4 to 9, found 3"));
  CHECK(has(with_ends(3, 10, 9), "document 1"));
  CHECK(has(with_ends(3, 4, 8), "end at token 8 of 9"));
}

TEST_CASE("a token outside the vocabulary is found when it is read") {
  const TempFolder folder;
  std::vector<std::byte> bytes = bytes_of(write_token_file(folder, "t", kDocuments));
  bytes[64 + 2 * 4 + 1] = std::byte{0xFF};  // token 4
  const TokenFile file = TokenFile::parse(bytes, "x").value();
  std::vector<Token> tokens(4);
  CHECK(file.read(0, tokens).ok());
  CHECK(file.read(1, tokens).code() == StatusCode::kCorrupt);
}

TEST_CASE("the hash of a vocabulary changes with whatever changes its tokens") {
  TokenizerData data;
  data.model = "gpt2", data.pre = "gpt-2", data.tokens = {"a", "b", "ab"}, data.merges = {"a b"}, data.types = {1, 1, 1};
  const uint64_t hash = vocabulary_hash(data);
  TokenizerData other = data;
  other.chat_template = "x";
  CHECK(vocabulary_hash(other) == hash);
  other.pre = "qwen2";
  CHECK(vocabulary_hash(other) != hash);
  other = data, other.tokens = {"a", "ba", "b"};
  CHECK(vocabulary_hash(other) != hash);
  other = data, other.merges.clear();
  CHECK(vocabulary_hash(other) != hash);
  other = data, other.types[2] = 3;
  CHECK(vocabulary_hash(other) != hash);
}
