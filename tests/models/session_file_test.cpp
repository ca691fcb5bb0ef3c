// Saved sessions: they go on where they stopped, and a damaged or foreign file is refused before anything changes.
#include <doctest/doctest.h>

#include <cstring>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::string file_text(const std::string& path) {
  auto f = MappedFile::open(path);
  REQUIRE(f.ok());
  return {reinterpret_cast<const char*>(f->bytes().data()), f->bytes().size()};
}

SessionOptions with_caches(DType k, DType v, int n_ctx = 32) {
  SessionOptions o = roomy(n_ctx, 2);
  o.cache_k = k, o.cache_v = v;
  return o;
}

}  // namespace

TEST_CASE("a restored session goes on with the bits of the saved one, in another context and sequence") {
  TempFolder folder;
  const std::string path = folder / "session";
  for (const std::string name : {"olmoe", "gpt-oss", "deepseek3-split"}) {
    const auto model = load_model(reference_path(name));
    for (const DType type : {DType::kF32, DType::kF16}) {
      const auto from = new_session(*model, with_caches(type, type));
      run_tokens(*from, reference_tokens(), 16, 1);
      REQUIRE(from->save(1, path).ok());
      const auto to = new_session(*model, with_caches(type, type, 50));
      run_tokens(*to, reference_tokens().first(5), 5, 0);
      const Status s = to->restore(0, path);
      REQUIRE_MESSAGE(s.ok(), s.message());
      CHECK(to->length(0) == 16);
      CHECK(std::equal(to->tokens(0).begin(), to->tokens(0).end(), reference_tokens().begin()));
      const std::vector<Token> tail = random_tokens(6, 320, 4);
      CHECK(same_bits(run_tokens(*to, tail, 6, 0), run_tokens(*from, tail, 1, 1)));
    }
  }
}

TEST_CASE("an empty sequence survives saving") {
  TempFolder folder;
  const auto model = load_model(reference_path("olmoe"));
  const auto session = new_session(*model);
  REQUIRE(session->save(0, folder / "empty").ok());
  run_tokens(*session, reference_tokens(), 16);
  REQUIRE(session->restore(0, folder / "empty").ok());
  CHECK(session->length() == 0);
}

TEST_CASE("every prefix of a session file, and one byte more, is refused and changes nothing") {
  TempFolder folder;
  const auto model = load_model(reference_path("llama-tied"));
  const auto session = new_session(*model, with_caches(DType::kF16, DType::kF32));
  run_tokens(*session, reference_tokens().first(3), 3);
  REQUIRE(session->save(0, folder / "whole").ok());
  const std::string whole = file_text(folder / "whole");
  const auto victim = new_session(*model, with_caches(DType::kF16, DType::kF32));
  run_tokens(*victim, reference_tokens().first(2), 2);
  size_t refused = 0, tried = 0;
  const auto refuse = [&](const std::string& bytes) {
    const std::string path = folder.write("part", bytes);
    const Status s = victim->restore(0, path);
    ++tried, refused += !s.ok() && has_text(s, path) && is_one_line(s) && victim->length() == 2;
  };
  for (size_t n = 0; n < whole.size(); n += n < 128 ? 1 : 61) refuse(whole.substr(0, n));
  refuse(whole.substr(0, whole.size() - 1));
  refuse(whole + '\0');
  CHECK(refused == tried);
  std::string foreign = whole;
  foreign[8] ^= 1;  // model hash
  const Status other = victim->restore(0, folder.write("foreign", foreign));
  CHECK(has_text(other, "made for model"));
  std::string wild = whole;
  const int32_t id = 320;
  std::memcpy(wild.data() + 32, &id, sizeof id);  // the first token
  CHECK(has_text(victim->restore(0, folder.write("wild", wild)), "token id 320"));
  CHECK(victim->length() == 2);
  CHECK(victim->restore(0, folder / "whole").ok());
  CHECK(victim->length() == 3);
}

TEST_CASE("a flipped bit anywhere in a session file is noticed") {
  TempFolder folder;
  const auto model = load_model(reference_path("llama-tied"));
  const auto session = new_session(*model, with_caches(DType::kF16, DType::kF16));
  run_tokens(*session, reference_tokens().first(2), 2);
  REQUIRE(session->save(0, folder / "whole").ok());
  const std::string whole = file_text(folder / "whole");
  size_t refused = 0, tried = 0;
  for (size_t n = 0; n < whole.size(); n += n < 64 ? 1 : 37) {
    std::string damaged = whole;
    damaged[n] = static_cast<char>(damaged[n] ^ 4);
    ++tried, refused += !session->restore(0, folder.write("damaged", damaged)).ok();
  }
  CHECK(refused == tried);
  CHECK(session->length() == 2);
}

TEST_CASE("sessions of another model, other cache types or a longer context are refused with words") {
  TempFolder folder;
  const auto model = load_model(reference_path("olmoe"));
  const auto session = new_session(*model, with_caches(DType::kF16, DType::kF16));
  run_tokens(*session, reference_tokens(), 16);
  const std::string path = folder / "s";
  REQUIRE(session->save(0, path).ok());
  const auto refused = [&](Session& to, int seq, std::string_view text) {
    const Status s = to.restore(seq, path);
    CHECK_FALSE(s.ok());
    CHECK(is_one_line(s));
    CHECK_MESSAGE(has_text(s, text), s.message());
  };
  const auto other = load_model(reference_path("mixtral"));
  refused(*new_session(*other, with_caches(DType::kF16, DType::kF16)), 0, "made for model");
  refused(*new_session(*model, with_caches(DType::kF32, DType::kF16)), 0, "cache types differ");
  refused(*new_session(*model, with_caches(DType::kF16, DType::kF32)), 0, "cache types differ");
  refused(*new_session(*model, with_caches(DType::kF16, DType::kF16, 15)), 0, "holds 16 tokens, the context is 15");
  refused(*session, 2, "no sequence 2");
  CHECK_FALSE(session->restore(0, folder / "missing").ok());
  CHECK_FALSE(session->save(-1, path).ok());
  CHECK_FALSE(session->save(0, folder / "no/such/folder").ok());
}

}  // namespace moe
