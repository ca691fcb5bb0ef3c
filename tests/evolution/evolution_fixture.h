// Small models and genomes that tests of the search vary.
#pragma once

#include <string>
#include <vector>

#include "evolution/breed.h"

namespace moe::test {

// Layer 0 dense, 1 and 3 plain, 2 group-limited: 4 groups of 2, of which 2 win. Widths by 32, in layer 3 by 64. 12 tokens.
RoutingShape four_layers();

// Spaces over it. "free": no budgets, layers may be skipped, two classes at most; "exact": kept and active experts are fixed,
// experts 0 of all layers are protected; "guided": saliency, groups of experts and of tokens, ranges of budgets.
std::vector<std::string> space_names();
SearchSpace space_named(const std::string& name);

// The model as it is, and one drawn at random from all that the space allows.
Genome full_genome(const SearchSpace& space, GenePool& pool);
Genome random_genome(const SearchSpace& space, GenePool& pool, uint64_t seed);

// A valid topology of any kind, with widths that are quarters.
RoutingTopology random_topology(const RoutingShape& shape, uint64_t seed);

// GeneField bits in which two layers differ.
uint32_t changed_fields(const LayerGene& a, const LayerGene& b);

}  // namespace moe::test
