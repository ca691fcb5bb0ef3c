// What an embedder's C++ program does with a model, each step checked: app MODEL FOLDER. Exits 0 when all is as moe.hpp says.
#include <cstdio>
#include <moe/moe.hpp>
#include <string>

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("app.cpp: %s\n", what);
  ++failures;
}

template <class F>
moe_status code_of(F&& f) {
  try {
    f();
  } catch (const moe::Error& e) {
    expect(*e.what() != '\0', "an error has a message");
    return e.code();
  }
  return MOE_OK;
}

void use_text(const moe::Model& model) {
  const std::string text = "naïve café";
  expect(model.detokenize(model.tokenize(text, MOE_TEXT_BARE)) == text, "text survives the way to tokens and back");
  expect(model.format_chat({{"user", "Hi"}}, true, "chatml").find("Hi") != std::string::npos, "a chat holds its message");
  expect(model.key("general.architecture") == model.info().architecture, "the architecture's key is the architecture");
}

void use_session(const moe::Model& model, const std::string& folder) {
  auto options = moe::session_options();
  options.n_ctx = 128, options.n_seqs = 2, options.routing_stats = 1;
  moe::Session session(model, options);
  moe::GenerateOptions few;
  few.n_predict = 8, few.ignore_end = true;
  const std::string first = session.generate("Hello", few);
  session.save(folder + "/session-cpp.bin");
  session.copy_sequence(0, 1);
  expect(session.tokens(1) == session.tokens(0), "a copy holds the same tokens");
  session.truncate(0);
  expect(session.generate("Hello", few) == first, "the same seed gives the same text");
  session.restore(folder + "/session-cpp.bin");

  moe::Sampler sampler(model);
  few.sampler = &sampler;
  int n = 0;
  const auto result = session.generate("", few, [&](std::string_view, moe::Token) { return ++n < 3; });
  expect(n == 3 && result.reason == MOE_STOP_CALLBACK, "a callback that returns false stops");
  try {
    session.generate("", few, [](std::string_view, moe::Token) -> bool { throw std::string("mine"); });
    expect(false, "an exception of the callback comes through");
  } catch (const std::string& mine) {
    expect(mine == "mine", "the exception is the callback's own");
  }

  const std::string trained = session.topology();
  session.set_experts(1);
  expect(session.topology() != trained, "routing has changed");
  session.set_topology(trained);
  expect(session.topology() == trained && trained == model.topology(), "routing is as trained");
  expect(code_of([&] { session.set_experts(1000); }) == MOE_ERROR_INVALID_ARGUMENT, "1000 experts are refused");
  expect(session.stats().find("use_entropy") != std::string::npos, "stats hold the entropy of use");
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::fprintf(stderr, "usage: app MODEL FOLDER\n"), 2;
  expect(!moe::isas().empty() && !moe::backends().empty(), "there is something to run on");
  expect(code_of([] { moe::Model("/no/such/model.gguf"); }) == MOE_ERROR_NOT_FOUND, "a missing file is not found");
  const moe::Model model(argv[1]);
  use_text(model);
  use_session(model, argv[2]);
  return failures != 0;
} catch (const std::exception& e) {
  std::printf("app.cpp: %s\n", e.what());
  return 1;
}
