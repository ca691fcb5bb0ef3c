// The metadata of a specialised model: what the architecture's own keys can say goes there, so that other engines read it; the
// rest goes into keys of ours.
#pragma once

#include "models/carving.h"
#include "models/specialise.h"

namespace moe {

// Sets metadata, has_topology, elsewhere and notes of a plan that has its hash and topology. `from` made the carving.
Status set_specialised_keys(const Model& model, const RoutingTopology& from, const Carving& carving, SpecialisePlan& plan);

}  // namespace moe
