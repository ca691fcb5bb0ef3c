// What moe_search_options ask for, as what the layer is made of: text, fitness, space, operators, first candidates, journal.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "evolution/api_draft.h"
#include "evolution/fitness.h"
#include "evolution/search.h"

namespace moe::api {

// Ranges of numbers, nulls behind counts, names of the caller's own operators. What others check with better messages is
// theirs.
Status check_options(const moe_search_options& o);

Result<TextData> text_of_documents(const Model& model, std::span<const moe_search_document> documents,
                                   const moe_search_options& o);
FitnessOptions fitness_options(const moe_search_options& o);  // all but on_progress
Result<ObjectiveSet> objectives_of(const moe_search_options& o);
Result<SearchSpace> space_of(const moe_search_options& o, const Fitness& fitness, const RoutingShape& shape);
Result<Variation> variation_of(const moe_search_options& o, const SearchSpace& space,
                               const std::shared_ptr<Callbacks>& callbacks);
SearchOptions search_options(const moe_search_options& o, size_t n_objectives, const std::shared_ptr<Callbacks>& callbacks);
// The full model, fewer experts a token, the caller's own, baselines at the budget: those of them that repair can bring there.
Result<std::vector<Genome>> first_genomes(const moe_search_options& o, const SearchSpace& space, const Fitness& fitness,
                                          ThreadPool& threads, GenePool& pool);

// What makes a search the one it is, as a JSON object: only under the same a journal is gone on with.
std::string identity_of(const moe_search_options& o, const Model& model, const Search& search, const TextData& text,
                        std::span<const Genome> first);
// Ok, or which setting of the journal's search is another one.
Status same_identity(const std::string& path, const std::string& theirs, const std::string& ours);

}  // namespace moe::api
