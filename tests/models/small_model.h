// Models with random weights, small enough to make and run inside of a test.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/threads.h"
#include "models/model.h"
#include "models/synth.h"
#include "tests/temp_folder.h"

namespace moe::test {

// Writes the architecture's example with these settings, float32 weights, one token a byte; returns its path.
inline std::string write_small_model(const TempFolder& folder, const std::string& arch, std::vector<std::string> settings) {
  SynthOptions o;
  o.arch = arch, o.settings = std::move(settings), o.seed = 1;
  const auto plan = plan_synth(o);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  ThreadPool pool(1);
  const std::string path = folder / (arch + ".gguf");
  const Status written = write_synth(*plan, pool, path, [](uint64_t, std::string_view) { return true; });
  REQUIRE_MESSAGE(written.ok(), written.message());
  return path;
}

// A two-layer OLMoE.
inline std::unique_ptr<Model> small_model(int n_threads = 1) {
  const TempFolder folder;
  ModelOptions o;
  o.backend_options.n_threads = n_threads;
  auto model = Model::load(write_small_model(folder, "olmoe", {"n_layer=2", "n_ctx_train=256"}), o);  // stays mapped
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(model).value();
}

}  // namespace moe::test
