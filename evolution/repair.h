// Brings a draft back to what the constraints ask for, changing as little as it can: operators keep most of it themselves, and
// crossovers mix halves that only fit together after this.
#pragma once

#include "core/rng.h"
#include "evolution/constraints.h"
#include "evolution/genome_draft.h"

namespace moe {

struct GenomeTotals {
  int64_t kept = 0;    // experts that some class can reach, over all layers
  int64_t active = 0;  // Σ k_max
};
GenomeTotals totals_of(const GenomeDraft& draft, const SearchSpace& space);

// In this order: numbers into their ranges, layers that may not be skipped brought back, Σ k_max, protected experts, k_max
// experts for every class, kept experts of each layer, Σ kept, widths, redirects. Σ kept loses the experts that are missed
// least and gains those that are missed most, from layers in proportion to their room. A draft that satisfies all is left as
// it is, and draws no number. False where the budgets cannot be met with the layers as they are (a search then keeps the
// mother): single layers are right even so.
bool repair(GenomeDraft& draft, const SearchSpace& space, Rng& rng);

// Ok, or what is violated: for tests, and for genomes that come from elsewhere.
Status satisfies(const Genome& genome, const SearchSpace& space);

}  // namespace moe
