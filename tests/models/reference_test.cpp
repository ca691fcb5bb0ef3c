// Logits of whole models against those that llama.cpp computed: tests/data/reference, and ../shared/reference where it is.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr double kExact = 1e-6;    // NMSE wanted with float32 activations
constexpr double kRounded = 3e-3;  // and with int8 activations

struct Worst {
  double value = 0;
  std::string where = "none";
  void add(double v, const std::string& w) {
    if (!(v <= value)) value = v, where = w;
  }
};

// Three ways to feed the tokens: at once, one by one, in uneven pieces.
constexpr size_t kSteps[] = {16, 1, 7};

void check_model(const std::string& gguf, const std::vector<float>& wanted, const Setup& setup, double limit, Worst& worst) {
  const auto model = load_model(gguf, setup);
  for (const size_t step : kSteps) {
    const std::string where = gguf + " " + setup.isa + (setup.exact ? " exact" : " rounded") + " step " + std::to_string(step);
    CAPTURE(where);
    const double error = nmse(run_tokens(*model, reference_tokens(), step), wanted);
    CHECK(error <= limit);
    worst.add(error, where);
  }
}

std::string shared_folder() {
  const char* set = std::getenv("MOE_SHARED");
  return std::string(set ? set : "../shared") + "/reference";
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("every architecture's logits equal llama.cpp's on every instruction set, exactly and rounded") {
  for (const std::string& isa : runnable_isas())
    for (const bool exact : {true, false}) {
      Worst worst;
      for (const std::string name : reference_names()) {
        const std::vector<float> wanted = read_logits("tests/data/reference/" + name + ".logits");
        check_model(reference_path(name), wanted, {exact, 2, isa}, kExact, worst);
      }
      MESSAGE(isa << std::string(exact ? " exact" : " rounded") << ": worst NMSE " << worst.value << " (" << worst.where
                  << ")");
    }
}

TEST_SUITE_END();

TEST_CASE("every architecture and format of the shared references is met, exactly and rounded") {
  const std::string folder = shared_folder();
  if (!std::filesystem::is_directory(folder)) {
    MESSAGE("skipped: no " << folder << "; MOE_SHARED names the folder above it");
    return;
  }
  int n = 0;
  Worst worst[2];
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    std::filesystem::path logits = entry.path();
    const std::vector<float> wanted = read_logits(logits.replace_extension(".logits").string());
    for (const bool exact : {true, false})
      check_model(entry.path().string(), wanted, {exact, 2, ""}, exact ? kExact : kRounded, worst[exact]);
    ++n;
  }
  CHECK(n >= 15);
  MESSAGE(n << " models: worst NMSE exact " << worst[1].value << " (" << worst[1].where << "), rounded " << worst[0].value
            << " (" << worst[0].where << ")");
}

}  // namespace moe
