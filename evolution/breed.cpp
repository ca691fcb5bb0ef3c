#include "evolution/breed.h"

namespace moe {
namespace {

// Operators that find nothing to do are drawn again, and so are whole children that come out as their mother.
constexpr int kDraws = 8, kAttempts = 4;

bool is_share(double p) { return p >= 0 && p <= 1; }

bool cross(GenomeDraft& draft, const Genome& father, const Variation& v, const SearchSpace& space, Rng& which, Rng& rng,
           std::vector<uint16_t>& applied) {
  for (int i = 0; i < kDraws; ++i) {
    const size_t op = v.crossover_credit().draw(which);
    if (!v.crossovers()[op].apply(draft, father, space, rng)) continue;
    applied.push_back(static_cast<uint16_t>(kCrossoverBit | op));
    return true;
  }
  return false;
}

void mutate(GenomeDraft& draft, const Variation& v, const SearchSpace& space, Rng& which, Rng& rng, int n,
            std::vector<uint16_t>& applied) {
  for (int i = 0; i < kDraws && n > 0; ++i) {
    const size_t op = v.mutation_credit().draw(which);
    if (!v.mutations()[op].apply(draft, space, rng)) continue;
    applied.push_back(static_cast<uint16_t>(op));
    --n;
  }
}

int draw_mutations(const BreedOptions& o, bool crossed, Rng& rng) {
  if (crossed && rng.uniform_double() >= o.mutate_crossed) return 0;
  int n = 1;
  while (n < o.most_mutations && rng.uniform_double() < o.mutate_more) ++n;
  return n;
}

void write_name(ByteWriter& out, const std::string& name) {
  out.write(static_cast<uint32_t>(name.size()));
  out.write_bytes(name.data(), name.size());
}

}  // namespace

Variation::Variation(BreedOptions options, std::vector<MutationOp> mutations, std::vector<CrossoverOp> crossovers)
    : options_(options),
      mutations_(std::move(mutations)),
      crossovers_(std::move(crossovers)),
      mutation_credit_(mutations_.size(), options.credit),
      crossover_credit_(crossovers_.size(), options.credit) {}

Result<Variation> Variation::create(const SearchSpace& space, BreedOptions o, std::vector<MutationOp> mutations,
                                    std::vector<CrossoverOp> crossovers) {
  const auto refuse = [](const char* what, const char* wanted) {
    return Status::InvalidArgument(std::string("variation: ") + what + ": wanted " + wanted);
  };
  if (!is_share(o.crossover_rate)) return refuse("crossover_rate", "0 to 1");
  if (!is_share(o.mutate_crossed)) return refuse("mutate_crossed", "0 to 1");
  if (!is_share(o.mutate_more)) return refuse("mutate_more", "0 to 1");
  if (o.most_mutations < 1) return refuse("most_mutations", "at least 1");
  if (!(o.credit.rate > 0 && o.credit.rate <= 1)) return refuse("credit.rate", "above 0, at most 1");
  if (!is_share(o.credit.floor)) return refuse("credit.floor", "0 to 1");
  std::erase_if(mutations, [&](const MutationOp& op) { return op.usable && !op.usable(space); });
  if (mutations.empty()) return refuse("mutations", "one at least that this model and its constraints have a use for");
  if (mutations.size() >= kCrossoverBit || crossovers.size() >= kCrossoverBit) return refuse("operators", "fewer than 32,768");
  return Variation(o, std::move(mutations), std::move(crossovers));
}

std::string Variation::name_of(uint16_t op) const {
  const auto row = static_cast<size_t>(op & ~kCrossoverBit);
  if (op & kCrossoverBit) return row < crossovers_.size() ? crossovers_[row].name : "?";
  return row < mutations_.size() ? mutations_[row].name : "?";
}

void Variation::reward(const Lineage& lineage, double gain) {
  for (const uint16_t op : lineage.operators)
    (op & kCrossoverBit ? crossover_credit_ : mutation_credit_).reward(op & ~kCrossoverBit, gain);
}

void Variation::end_generation() {
  mutation_credit_.end_generation();
  crossover_credit_.end_generation();
}

std::vector<std::string> Variation::names() const {
  std::vector<std::string> all;
  for (const MutationOp& op : mutations_) all.push_back(op.name);
  for (const CrossoverOp& op : crossovers_) all.push_back(op.name);
  return all;
}

void Variation::save(ByteWriter& out) const {
  for (const std::string& name : names()) write_name(out, name);
  mutation_credit_.save(out);
  crossover_credit_.save(out);
}

Status Variation::load(ByteReader& in) {
  for (const std::string& wanted : names()) {
    uint32_t n = 0;
    std::string_view found;
    if (!in.read(n) || !in.read_view(n, found) || found != wanted)
      return Status::Corrupt("variation: wanted the credit of operator '" + wanted + "', found " +
                             (found.empty() ? "none" : "that of another"));
  }
  OperatorCredit mutation = mutation_credit_, crossover = crossover_credit_;
  MOE_TRY(mutation.load(in));
  MOE_TRY(crossover.load(in));
  mutation_credit_ = std::move(mutation), crossover_credit_ = std::move(crossover);
  return Status::Ok();
}

Genome breed(const Genome& mother, const Genome& father, const Variation& v, const SearchSpace& space, uint64_t seed,
             uint32_t generation, uint32_t child, GenePool& pool) {
  Rng which = stream_of(seed, Purpose::kOperator, generation, child);
  Rng crossing = stream_of(seed, Purpose::kCrossover, generation, child);
  Rng mutating = stream_of(seed, Purpose::kMutation, generation, child);
  Lineage lineage{genome_id(generation, child), mother.lineage.id, 0, generation, {}};
  const BreedOptions& o = v.options();
  const bool two = !v.crossovers().empty() && !same(mother, father);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    GenomeDraft draft(mother);
    lineage.operators.clear();
    const bool crossed =
        two && which.uniform_double() < o.crossover_rate && cross(draft, father, v, space, which, crossing, lineage.operators);
    mutate(draft, v, space, which, mutating, draw_mutations(o, crossed, which), lineage.operators);
    if (!repair(draft, space, mutating)) continue;
    lineage.father = crossed ? father.lineage.id : 0;
    Genome g = draft.finish(pool, lineage);
    if (!same(g, mother)) return g;
  }
  lineage.father = 0, lineage.operators.clear();
  return GenomeDraft(mother).finish(pool, std::move(lineage));
}

}  // namespace moe
