#include "evolution/genome.h"

#include <algorithm>

#include "core/half.h"

namespace moe {
namespace {

// Words are folded one after another by the step of FNV-1a with a shift, and finished as MurmurHash3 does.
class Folder {
 public:
  void add(uint64_t v) { h_ = (h_ ^ v) * 0x100000001b3u, h_ ^= h_ >> 29; }
  void add(float v) { add(uint64_t{float_bits(v)}); }
  void add_all(Bits words) {
    add(words.size());
    for (const uint64_t w : words) add(w);
  }
  uint64_t finish() const {
    uint64_t h = h_;
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
  }

 private:
  uint64_t h_ = 0xcbf29ce484222325u;
};

uint64_t unsigned_of(int32_t v) { return static_cast<uint32_t>(v); }

template <class T>
size_t heap_bytes(const std::vector<T>& v) {
  return v.capacity() * sizeof(T);
}

// The entry of expert e in an ascending list, or where it would stand.
template <class T>
auto entry(T& list, int e) {
  return std::lower_bound(list.begin(), list.end(), e, [](const auto& item, int wanted) {
    if constexpr (requires { item.expert; })
      return int{item.expert} < wanted;
    else
      return int{item.from} < wanted;
  });
}

int64_t distance(Bits a, Bits b) {
  int64_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += std::popcount(a[i] ^ b[i]);
  return n;
}

}  // namespace

std::vector<uint64_t> LayerGene::kept() const {
  std::vector<uint64_t> all(words(), 0);
  for (size_t i = 0; i < keep.size(); ++i) all[i % all.size()] |= keep[i];
  return all;
}

int LayerGene::n_kept() const {
  if (skipped()) return 0;
  int n = 0;
  const size_t step = words();
  for (size_t w = 0; w < step; ++w) {
    uint64_t any = 0;
    for (size_t i = w; i < keep.size(); i += step) any |= keep[i];
    n += std::popcount(any);
  }
  return n;
}

int LayerGene::quarters(int e) const {
  if (narrow.empty()) return kQuarters;
  return kQuarters - static_cast<int>(narrow[static_cast<size_t>(e) / 32] >> (e % 32 * 2) & 3u);
}

void LayerGene::set_quarters(int e, int quarters) {
  if (narrow.empty()) {
    if (quarters == kQuarters) return;
    narrow.assign((static_cast<size_t>(n_experts) + 31) / 32, 0);
  }
  uint64_t& word = narrow[static_cast<size_t>(e) / 32];
  word &= ~(uint64_t{3} << (e % 32 * 2));
  word |= static_cast<uint64_t>(kQuarters - quarters) << (e % 32 * 2);
  if (std::all_of(narrow.begin(), narrow.end(), [](uint64_t w) { return w == 0; })) narrow.clear();
}

float LayerGene::bias_of(int e) const {
  const auto it = entry(bias, e);
  return it != bias.end() && it->expert == e ? it->value : 0;
}

void LayerGene::set_bias(int e, float value) {
  const auto it = entry(bias, e);
  const bool there = it != bias.end() && it->expert == e;
  if (value == 0) {
    if (there) bias.erase(it);
  } else if (there) {
    it->value = value;
  } else {
    bias.insert(it, {static_cast<uint16_t>(e), value});
  }
}

int LayerGene::redirect_of(int e) const {
  const auto it = entry(redirect, e);
  return it != redirect.end() && it->from == e ? it->to : -1;
}

void LayerGene::set_redirect(int e, int to) {
  const auto it = entry(redirect, e);
  const bool there = it != redirect.end() && it->from == e;
  if (to < 0) {
    if (there) redirect.erase(it);
  } else if (there) {
    it->to = static_cast<uint16_t>(to);
  } else {
    redirect.insert(it, {static_cast<uint16_t>(e), static_cast<uint16_t>(to)});
  }
}

size_t LayerGene::bytes() const {
  return sizeof *this + heap_bytes(keep) + heap_bytes(narrow) + heap_bytes(bias) + heap_bytes(redirect);
}

uint64_t hash(const LayerGene& g) {
  Folder h;
  for (const int32_t v : {g.n_experts, g.n_classes, g.k_min, g.k_max}) h.add(unsigned_of(v));
  h.add(g.threshold), h.add(g.temperature);
  h.add_all(g.keep), h.add_all(g.narrow);
  h.add(g.bias.size());
  for (const LayerGene::Bias& b : g.bias) h.add(uint64_t{b.expert} << 32 | float_bits(b.value));
  h.add(g.redirect.size());
  for (const LayerGene::Redirect& r : g.redirect) h.add(uint64_t{r.from} << 32 | r.to);
  return h.finish();
}

uint64_t hash(const ClassMap& classes) {
  Folder h;
  h.add(unsigned_of(classes.n_classes));
  h.add(classes.token_class.size());
  for (const uint8_t c : classes.token_class) h.add(uint64_t{c});
  return h.finish();
}

uint64_t hash(const Genome& genome) {
  Folder h;
  h.add(genome.classes->hash);
  for (const LayerRef& layer : genome.layers) h.add(layer->hash);
  return h.finish();
}

template <class T>
std::shared_ptr<const Interned<T>> GenePool::intern_in(Shards<T>& shards, T value) {
  const uint64_t h = moe::hash(value);
  Shard<T>& shard = shards[h % kShards];
  const std::lock_guard lock(shard.mutex);
  const auto [begin, end] = shard.blocks.equal_range(h);
  for (auto it = begin; it != end; ++it)
    if (it->second->value == value) return it->second;
  // A copy, not a move: what was edited has room to grow, a block has none.
  auto block = std::make_shared<const Interned<T>>(Interned<T>{T(std::as_const(value)), h});
  shard.blocks.emplace(h, block);
  return block;
}

LayerRef GenePool::intern(LayerGene gene) { return intern_in(layers_, std::move(gene)); }
ClassRef GenePool::intern(ClassMap classes) { return intern_in(classes_, std::move(classes)); }

size_t GenePool::collect() {
  const auto sweep = [](auto& shards) {
    size_t n = 0;
    for (auto& shard : shards) {
      const std::lock_guard lock(shard.mutex);
      n += std::erase_if(shard.blocks, [](const auto& item) { return item.second.use_count() == 1; });
    }
    return n;
  };
  return sweep(layers_) + sweep(classes_);
}

size_t GenePool::size() const {
  const auto count = [](const auto& shards) {
    size_t n = 0;
    for (const auto& shard : shards) {
      const std::lock_guard lock(shard.mutex);
      n += shard.blocks.size();
    }
    return n;
  };
  return count(layers_) + count(classes_);
}

size_t GenePool::bytes() const {
  constexpr size_t kOverhead = 96;  // control block, node and bucket of the table, headers of the allocator
  const auto sum = [](const auto& shards) {
    size_t n = 0;
    for (const auto& shard : shards) {
      const std::lock_guard lock(shard.mutex);
      for (const auto& item : shard.blocks) n += item.second->value.bytes() + kOverhead;
    }
    return n;
  };
  return sizeof *this + sum(layers_) + sum(classes_);
}

int64_t mask_distance(const Genome& a, const Genome& b) {
  int64_t n = 0;
  for (size_t i = 0; i < std::min(a.layers.size(), b.layers.size()); ++i) {
    if (a.layers[i] == b.layers[i]) continue;
    const LayerGene &x = a.layers[i]->value, &y = b.layers[i]->value;
    for (int c = 0; c < std::min(x.n_classes, y.n_classes); ++c) n += distance(x.row(c), y.row(c));
  }
  return n;
}

}  // namespace moe
