// Genome: a routing topology in the form that a search varies. A population is thousands of near copies, so a genome is a list
// of references to immutable layers: equal layers are one block of memory, a child that changes two layers costs two blocks,
// and two genomes share a layer if and only if the references are equal. A block's hash is the key of everything that is
// remembered about a layer (errors, loads, costs).
//
//   Genome ──► classes ──► {2 classes, class of each token}          GenePool owns every block once;
//          ──► layer 0 ──► {masks, k, threshold, …, hash}  ◄──┐      collect() drops those that no
//          ──► layer 1 ──► …                                  ├───   genome refers to
//   Genome ──► layer 0 ───────────────────────────────────────┘
//
// 1,024 experts x 16 classes are 2 KiB a layer: 4,096 genomes of 64 layers that share nothing are 620 MiB, and what a search
// makes shares nearly everything.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/status.h"
#include "models/routing.h"

namespace moe {

using Bits = std::span<const uint64_t>;  // of experts: bit e is bit e % 64 of word e / 64

inline bool has_bit(Bits bits, int e) { return bits[static_cast<size_t>(e) / 64] >> (e % 64) & 1u; }
inline void set_bit(std::span<uint64_t> bits, int e, bool on) {
  const uint64_t bit = uint64_t{1} << (e % 64);
  uint64_t& word = bits[static_cast<size_t>(e) / 64];
  word = on ? word | bit : word & ~bit;
}
inline int count_bits(Bits bits) {
  int n = 0;
  for (const uint64_t w : bits) n += std::popcount(w);
  return n;
}

inline constexpr int kQuarters = 4;

// What one layer does. A plain value while it is edited, immutable once a GenePool has it.
struct LayerGene {
  struct Bias {
    uint16_t expert;
    float value;
    bool operator==(const Bias&) const = default;
  };
  struct Redirect {
    uint16_t from, to;
    bool operator==(const Redirect&) const = default;
  };

  int32_t n_experts = 0;         // 0: a dense layer, and nothing else counts
  int32_t n_classes = 1;         // rows of `keep`
  int32_t k_min = 0, k_max = 0;  // k_max 0: the layer is skipped; its masks wait for it to come back
  float threshold = 0;           // as in LayerRouting
  float temperature = 1;         //
  std::vector<uint64_t> keep;    // (n_classes, words()) experts that tokens of a class may use; bits from n_experts on are 0
  std::vector<uint64_t> narrow;  // (n_experts / 32 rounded up) two bits an expert: quarters of its width that rest. Empty: none
  std::vector<Bias> bias;        // not 0, ascending by expert
  std::vector<Redirect> redirect;  // ascending by `from`

  size_t words() const { return (static_cast<size_t>(n_experts) + 63) / 64; }
  Bits row(int c) const { return {keep.data() + static_cast<size_t>(c) * words(), words()}; }
  std::span<uint64_t> row(int c) { return {keep.data() + static_cast<size_t>(c) * words(), words()}; }
  bool skipped() const { return k_max == 0; }

  std::vector<uint64_t> kept() const;  // (words()) experts that some class may use, skipped or not
  int n_kept() const;                  // how many; 0 where the layer is skipped: nothing of it need be in a file

  int quarters(int e) const;  // 1 … kQuarters: how much of expert e runs
  void set_quarters(int e, int quarters);
  float bias_of(int e) const;
  void set_bias(int e, float value);
  int redirect_of(int e) const;      // −1: none
  void set_redirect(int e, int to);  // −1: none

  size_t bytes() const;  // with what it points to
  bool operator==(const LayerGene&) const = default;
};

// Which class a token belongs to; the same for all layers.
struct ClassMap {
  int32_t n_classes = 1;
  std::vector<uint8_t> token_class;  // (n_vocab), empty: all class 0
  size_t bytes() const { return sizeof *this + token_class.capacity(); }
  bool operator==(const ClassMap&) const = default;
};

uint64_t hash(const LayerGene& gene);
uint64_t hash(const ClassMap& classes);

template <class T>
struct Interned {
  T value;
  uint64_t hash;
};
// Shared because a block lives as long as any of the genomes that refer to it.
using LayerRef = std::shared_ptr<const Interned<LayerGene>>;
using ClassRef = std::shared_ptr<const Interned<ClassMap>>;

// Every block once. Thread-safe; a reference says nothing about when or by whom a block was made first, and a block's name is
// its hash, so nothing that a search sees depends on the timing of threads. Genomes may outlive their pool.
class GenePool {
 public:
  LayerRef intern(LayerGene gene);
  ClassRef intern(ClassMap classes);

  // Frees blocks that only the pool refers to; how many. Between generations, when no other thread uses the pool.
  size_t collect();

  size_t size() const;   // blocks
  size_t bytes() const;  // of all blocks, with what keeps them findable (estimated)

 private:
  static constexpr size_t kShards = 64;  // threads that intern at once rarely want the same lock
  template <class T>
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_multimap<uint64_t, std::shared_ptr<const Interned<T>>> blocks;
  };
  template <class T>
  using Shards = std::array<Shard<T>, kShards>;
  template <class T>
  static std::shared_ptr<const Interned<T>> intern_in(Shards<T>& shards, T value);
  Shards<LayerGene> layers_;
  Shards<ClassMap> classes_;
};

// Where a genome comes from. Ids are given by the search and are functions of generation and child.
struct Lineage {
  uint64_t id = 0, mother = 0, father = 0;  // 0: none
  uint32_t generation = 0;
  std::vector<uint16_t> operators;  // what made it of its parents, in order: see breed.h
  bool operator==(const Lineage&) const = default;
};

struct Genome {
  ClassRef classes;
  std::vector<LayerRef> layers;  // (n_layers), none null
  Lineage lineage;

  size_t own_bytes() const {  // without the blocks, which others share
    return sizeof *this + layers.capacity() * sizeof(LayerRef) + lineage.operators.capacity() * sizeof(uint16_t);
  }
};

uint64_t hash(const Genome& genome);  // of what it does, not of where it comes from
inline bool same(const Genome& a, const Genome& b) { return a.classes == b.classes && a.layers == b.layers; }  // of one pool

// Connections (class, expert) in which two genomes differ, over all layers; layers with different numbers of classes compare
// the classes that both have. For diversity.
int64_t mask_distance(const Genome& a, const Genome& b);

// --- To topologies and back (genome_codec.cpp) ---

// Hidden channels of an expert that runs so many quarters of its width: rounded up to what the weights' format can cut.
int channels_of(int quarters, const RoutingShape::Layer& layer);
// The widest setting that runs the same number of channels. Genomes hold no other.
int widest_alike(int quarters, const RoutingShape::Layer& layer);

// Exact: topology_of(genome_of(t)) routes as t and equals it, but for vectors of neutral values (a bias of zeros, every width
// d_ff, all tokens of class 0), which come back empty, and for the note. kInvalidArgument when t is not valid for the shape,
// kUnsupported when a width is not a quarter.
Result<Genome> genome_of(const RoutingTopology& topology, const RoutingShape& shape, GenePool& pool);
RoutingTopology topology_of(const Genome& genome, const RoutingShape& shape);
LayerRouting routing_of(const LayerGene& gene, const RoutingShape::Layer& layer);  // one layer of it

}  // namespace moe
