#include "tools/train_config.h"

#include <functional>

namespace moe::tools {
namespace {

// --- Values ---

using tools::parse_value;
using tools::show_value;

bool parse_value(const std::string& text, Decline& out) {
  const auto d = decline_from_name(text);
  if (d.ok()) out = *d;
  return d.ok();
}
bool parse_value(const std::string& text, Overflow& out) {
  constexpr std::pair<const char*, Overflow> kNames[] = {
      {"drop", Overflow::kDrop}, {"random", Overflow::kRandom}, {"next", Overflow::kNext}};
  for (const auto& [name, value] : kNames)
    if (text == name) {
      out = value;
      return true;
    }
  return false;
}

std::string show_value(Decline v) { return decline_name(v); }
std::string show_value(Overflow v) { return v == Overflow::kDrop ? "drop" : v == Overflow::kRandom ? "random" : "next"; }

// --- The table ---

// Calls v(name, member, meaning) for every setting that has one value.
template <class C, class V>
void visit(C& c, V&& v) {
  auto& t = c.trainer;
  v("out", c.out, "folder for checkpoint, log and samples");
  v("model.arch", c.arch, "architecture of a new model: qwen3moe, olmoe, llama …");
  v("model.vocabulary", c.vocabulary, "GGUF file with the vocabulary of a new model");
  v("model.name", c.name, "general.name of a new model");
  v("init", c.init, "GGUF file to go on from, instead of a new model");
  v("teacher", c.teacher, "bigger model of the same vocabulary that the full pass learns from");
  v("seed", t.seed, "of weights, data order and every random choice");
  v("data.context", c.data.context, "tokens of a row");
  v("data.held_out", c.data.held_out, "share of documents kept for validation");
  v("data.span", c.data.span, "0: whole documents are shuffled; else pieces of so many tokens");
  v("data.shuffle", c.data.shuffle, "");
  v("data.epochs", c.data.max_epochs, "most times a corpus is read; 0: no end");
  v("train.steps", t.schedule.total_steps, "updates of the weights");
  v("train.rows", t.rows, "rows of a batch");
  v("train.accumulate", t.accumulate, "batches of a step");
  v("train.bf16", t.bf16, "big matrices are multiplied in bfloat16");
  v("train.rate", t.schedule.peak, "learning rate at its peak");
  v("train.warmup", t.schedule.warmup_steps, "steps up to the peak");
  v("train.schedule", t.schedule.decline, "constant, linear, cosine, cosine-restarts");
  v("train.final_rate", t.schedule.final_share, "share of the peak at the end");
  v("train.first_period", t.schedule.first_period, "steps of the first period of cosine-restarts");
  v("train.period_factor", t.schedule.period_factor, "each period is longer by this factor");
  v("train.expert_rate", t.rates.expert_rate, "factor of the experts' learning rate");
  v("train.router_rate", t.rates.router_rate, "factor of the routers' learning rate");
  v("train.weight_decay", t.adamw.weight_decay, "");
  v("train.decay_embeddings", t.rates.decay_embeddings, "");
  v("train.beta1", t.adamw.beta1, "");
  v("train.beta2", t.adamw.beta2, "");
  v("train.eps", t.adamw.eps, "");
  v("train.clip", t.clip, "of the gradients' global norm; 0: none");
  v("balance.switch_loss", t.switch_loss, "factor of the Switch auxiliary loss");
  v("balance.z_loss", t.z_loss, "factor of the routers' z loss");
  v("balance.diversity_loss", t.diversity_loss, "factor of the expert-diversity loss");
  v("balance.bias_speed", t.bias_speed, "of selection biases, balancing without a loss; 0: none");
  v("balance.capacity_factor", t.capacity_factor, "most tokens of an expert, relative to its fair share; 0: no limit");
  v("balance.overflow", t.overflow, "drop, random, next");
  v("balance.expert_dropout", t.expert_dropout, "chance that a layer lacks an expert for a step");
  v("balance.router_dropout", t.router_dropout, "chance that a token may not use an expert");
  v("balance.window", t.usage.window, "steps over which the use of experts is watched");
  v("balance.target", t.usage.target, "utilisation of an expert that gets its fair share");
  v("balance.threshold", t.usage.threshold, "distance from the target that is told");
  v("elastic.k_min", t.k_min, "fewest experts a token uses in batches that draw k; 0: always the model's own");
  v("elastic.k_max", t.k_max, "most of them");
  v("elastic.narrow_share", t.narrow_share, "share of a batch's rows that also run narrow");
  v("elastic.narrow_weight", t.narrow_weight, "factor of the narrow pass's loss");
  v("elastic.narrow_mix", t.narrow_mix, "the full pass's share in teaching the narrow one");
  v("elastic.teacher_mix", t.teacher_mix, "the teacher's share in teaching the full pass");
  v("elastic.teacher_temperature", t.teacher_temperature, "");
  v("checkpoint_every", c.checkpoint_every, "steps; 0: at the end only");
  v("validate_every", c.validate_every, "steps; 0: at the end only");
  v("usage_every", c.usage_every, "steps between rows of expert use in the log");
  v("valid.targets", c.valid_targets, "most held-out tokens of each corpus");
  v("sample.every", c.sample_every, "steps; 0: never");
  v("sample.prompt", c.prompt, "");
  v("sample.tokens", c.sample_tokens, "");
}

struct List {
  const char* name;
  const char* meaning;
  std::function<bool(RunConfig&, const std::string&)> add;
  std::function<void(RunConfig&)> clear;
};
const std::vector<List>& lists() {
  static const std::vector<List> table = {
      {"elastic.widths", "[0.25, 0.5, 0.75]: shares of the experts' hidden channels",
       [](RunConfig& c, const std::string& v) { return parse_value(v, c.trainer.widths.emplace_back()); },
       [](RunConfig& c) { c.trainer.widths.clear(); }},
      {"train.frozen", "[\"token_embd.weight\", \"blk.0.*\"]: weights that do not learn",
       [](RunConfig& c, const std::string& v) { return parse_value(v, c.trainer.frozen.emplace_back()); },
       [](RunConfig& c) { c.trainer.frozen.clear(); }},
      {"valid.variants", "[\"k=2\", \"width=0.5\"]: also validated this way",
       [](RunConfig& c, const std::string& v) { return parse_value(v, c.valid_variants.emplace_back()); },
       [](RunConfig& c) { c.valid_variants.clear(); }},
  };
  return table;
}

constexpr const char* kCorpora = "data.corpora.";
constexpr const char* kSettings = "model.settings.";

// "data.corpora.2.weight": which corpus, and what of it.
Status set_corpus(RunConfig& c, const ConfigEntry& e) {
  const std::string rest = e.name.substr(std::string(kCorpora).size());
  size_t index = 0;
  const size_t dot = rest.find('.');
  const std::string field = dot == std::string::npos ? "" : rest.substr(dot + 1);
  if (dot == std::string::npos || !parse_value(rest.substr(0, dot), index) || index > c.corpora.size())
    return Status::InvalidArgument("wanted data.corpora to be a list of {name, tokens, weight}");
  if (index == c.corpora.size()) c.corpora.emplace_back();
  CorpusConfig& corpus = c.corpora[index];
  if (field == "name") return corpus.name = e.value, Status::Ok();
  if (field == "tokens") return corpus.tokens = e.value, Status::Ok();
  if (field == "weight" && parse_value(e.value, corpus.weight)) return Status::Ok();
  return Status::InvalidArgument("a corpus: wanted name, tokens and weight, a number; found " + field + ": " + e.value);
}

Status apply(RunConfig& c, const ConfigEntry& e) {
  if (e.name.starts_with(kCorpora)) return set_corpus(c, e);
  if (e.name.starts_with(kSettings)) {
    c.settings.push_back(e.name.substr(std::string(kSettings).size()) + "=" + e.value);
    return Status::Ok();
  }
  for (const List& l : lists())
    if (e.name == l.name || e.name.starts_with(std::string(l.name) + ".")) {
      if (e.name == l.name && e.value.empty()) return l.clear(c), Status::Ok();
      if (l.add(c, e.value)) return Status::Ok();
      return Status::InvalidArgument(e.name + ": '" + e.value + "' is no value for it; wanted " + l.meaning);
    }
  bool known = false, good = false;
  std::string all;
  visit(c, [&](const char* name, auto& member, const char*) {
    all += (all.empty() ? "" : ", ") + std::string(name);
    if (e.name == name) known = true, good = parse_value(e.value, member);
  });
  for (const List& l : lists()) all += ", " + std::string(l.name);
  if (!known)
    return Status::InvalidArgument("unknown setting '" + e.name + "'; known: " + all + ", data.corpora, model.settings");
  if (!good) return Status::InvalidArgument(e.name + ": '" + e.value + "' is no value for it");
  return Status::Ok();
}

}  // namespace

Result<RunConfig> read_run_config(std::span<const ConfigEntry> entries) {
  RunConfig c;
  c.data.held_out = 0.02;
  c.trainer.schedule.total_steps = 1000;
  for (const ConfigEntry& e : entries)
    if (const Status s = apply(c, e); !s.ok()) return s.Annotate(e.where);
  if (c.init.empty() == c.arch.empty())
    return Status::InvalidArgument("wanted model.arch, for a new model, or init, a file to go on from, and not both");
  if (c.init.empty() && c.vocabulary.empty())
    return Status::InvalidArgument("model.vocabulary: wanted the file that moe-train tokenizer made");
  if (c.corpora.empty()) return Status::InvalidArgument("data.corpora: wanted at least one file of tokens");
  for (CorpusConfig& corpus : c.corpora) {
    if (corpus.tokens.empty()) return Status::InvalidArgument("data.corpora: wanted tokens, a file, for each corpus");
    if (corpus.name.empty()) corpus.name = corpus.tokens;
  }
  for (const std::string& v : c.valid_variants) {
    if (const auto parsed = parse_variant(v); !parsed.ok()) return parsed.status();
  }
  if (c.out.empty()) return Status::InvalidArgument("out: wanted the folder that the run writes to");
  c.data.seed = c.trainer.seed;
  return c;
}

std::string describe_run_config() {
  RunConfig c;
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value, const std::string& meaning) {
    text += setting_line(name, value, meaning);
  };
  visit(c, [&](const char* name, auto& member, const char* meaning) { line(name, show_value(member), meaning); });
  for (const List& l : lists()) line(l.name, "[]", l.meaning);
  line("model.settings", "{n_layer: 8, …}", "as moe-inspect synth --set");
  line("data.corpora", "[{name: …, tokens: a.tok, weight: 1}, …]", "files of moe-train tokens");
  return text;
}

Result<EvaluationOptions> parse_variant(const std::string& text) {
  EvaluationOptions o;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool good = part.starts_with("k=")       ? parse_value(part.substr(2), o.k) && o.k > 0
                      : part.starts_with("width=") ? parse_value(part.substr(6), o.width) && o.width > 0 && o.width <= 1
                                                   : false;
    if (!good)
      return Status::InvalidArgument("valid.variants: wanted k=N, width=SHARE or both with a comma, found '" + text + "'");
    begin = end + 1;
  }
  return o;
}

}  // namespace moe::tools
