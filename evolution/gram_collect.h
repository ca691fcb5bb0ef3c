// A GramCache of a model: every candidate expert of every sampled token runs once, alone.
#pragma once

#include "evolution/calibration.h"
#include "evolution/gram_cache.h"
#include "models/model.h"

namespace moe {

// What a model's graph says of its routers, one a layer; n_experts 0 for dense layers.
Result<std::vector<RouterModel>> router_models(const Model& model);

// From the sample of a calibration of the same model. Progress: layers done; false: kCancelled.
Result<GramCache> collect_gram(const Model& model, const Calibration& calibration, const GramOptions& options,
                               const std::function<bool(int layers_done)>& on_progress = {});

}  // namespace moe
