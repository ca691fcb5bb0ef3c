// A trainer learns, in the same bits whatever the threads and however often it was stopped, and refuses what cannot be trained.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "models/synth.h"
#include "models/train/trainer.h"
#include "tests/models/model_fixture.h"
#include "tests/models/train/token_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int kVocab = 320;

// Runs of tokens with a stride: what follows can be learned from the two tokens before.
Documents ramps(int n) {
  Documents documents;
  for (int i = 0; i < n; ++i) {
    std::vector<Token>& d = documents.emplace_back();
    for (int j = 0; j < 20 + i % 30; ++j) d.push_back((i * 7 + j * (1 + i % 3)) % 250);
  }
  return documents;
}

struct Training {
  TempFolder folder;
  std::string arch = "qwen3moe", tokens;
  std::vector<std::string> settings = {"n_layer=2",  "d_model=32",      "n_head=4",       "n_kv_head=2", "head_dim=8",
                                       "n_expert=6", "n_expert_used=2", "d_ff_expert=32", "d_ff=32",     "n_ctx_train=64"};
  TrainerOptions options;
  int threads = 1;

  Training() {
    tokens = write_token_file(folder, "ramps.tok", ramps(60), kVocab);
    options.rows = 4, options.seed = 3;
    options.schedule.peak = 0.01f, options.schedule.total_steps = 100, options.schedule.decline = Decline::kConstant;
  }
  uint64_t epochs = 0;

  Dataset data(DatasetSplit split = DatasetSplit::kTrain) const {
    DatasetOptions o;
    o.context = 32, o.seed = options.seed, o.held_out = 0.2, o.split = split;
    o.max_epochs = split == DatasetSplit::kHeldOut ? 1 : epochs;
    std::vector<DatasetCorpus> corpora;
    corpora.push_back({"ramps", TokenFile::open(tokens).value(), 1});
    return Dataset::create(std::move(corpora), o).value();
  }
  Metadata metadata() const {
    SynthOptions o;
    o.arch = arch, o.settings = settings;
    auto plan = plan_synth(o);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    return std::move(plan->metadata);
  }
  BackendOptions backend() const {
    BackendOptions b;
    b.n_threads = threads;
    return b;
  }
  Result<std::unique_ptr<Trainer>> create() const { return Trainer::create(metadata(), data(), options, backend()); }
  std::unique_ptr<Trainer> trainer() const {
    auto t = create();
    REQUIRE_MESSAGE(t.ok(), t.status().message());
    return std::move(t).value();
  }
  void everything() {  // every random choice and every state
    options.k_min = 1, options.k_max = 4, options.widths = {0.25, 0.5};
    options.bias_speed = 0.01f, options.expert_dropout = 0.2f, options.router_dropout = 0.1f;
    options.capacity_factor = 1.2f, options.overflow = Overflow::kRandom;
    options.accumulate = 2, options.schedule.warmup_steps = 3, options.schedule.decline = Decline::kCosine;
    settings.back() = "n_ctx_train=64", settings[7] = "d_ff_expert=128";
  }
};

std::vector<StepReport> run_steps(Trainer& t, int n) {
  std::vector<StepReport> reports(static_cast<size_t>(n));
  for (StepReport& r : reports) {
    const Status s = t.step(r);
    REQUIRE_MESSAGE(s.ok(), s.message());
  }
  return reports;
}

void check_same(const std::vector<StepReport>& a, const std::vector<StepReport>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].step == b[i].step);
    CHECK(a[i].tokens == b[i].tokens);
    CHECK(a[i].loss == b[i].loss);
    CHECK(a[i].narrow_loss == b[i].narrow_loss);
    CHECK(a[i].kl == b[i].kl);
    CHECK(a[i].switch_loss == b[i].switch_loss);
    CHECK(a[i].grad_norm == b[i].grad_norm);
    CHECK(a[i].rate == b[i].rate);
  }
}

std::vector<float> values_of(const Trainer& t, const std::string& name) {
  const TrainWeights::Weight* w = t.weights().find(name);
  REQUIRE(w != nullptr);
  const auto* p = static_cast<const float*>(w->values.data());
  return {p, p + w->shape.elements()};
}

}  // namespace

TEST_CASE("a trainer learns, at every width that it trains") {
  Training s;
  s.settings[7] = "d_ff_expert=64";
  s.options.widths = {0.5}, s.options.k_min = 1, s.options.k_max = 3;
  const std::unique_ptr<Trainer> t = s.trainer();
  const std::vector<StepReport> r = run_steps(*t, 60);
  CHECK(r.front().loss == doctest::Approx(std::log(kVocab)).epsilon(0.1));
  CHECK(r.back().loss < 2.5);
  CHECK(r.back().narrow_loss < 2.8);
  CHECK(r.back().tokens > 60 * 100);
  for (const double width : {1.0, 0.5})
    for (const int k : {1, 2, 3}) {
      Dataset held_out = s.data(DatasetSplit::kHeldOut);
      const auto e = t->evaluate(held_out, {k, width});
      REQUIRE(e.ok());
      CHECK(e->n_targets > 100);
      CHECK(e->loss / static_cast<double>(e->n_targets) < 3.2);
    }
}

TEST_CASE("training computes the same bits for any number of threads, in float32 and in bfloat16") {
  for (const bool bf16 : {false, true}) {
    Training s;
    s.everything();
    s.options.bf16 = bf16;
    const std::vector<StepReport> wanted = run_steps(*s.trainer(), 4);
    s.threads = 3;
    check_same(run_steps(*s.trainer(), 4), wanted);
  }
}

TEST_CASE("bfloat16 changes the losses of a step little") {
  Training s;
  const std::vector<StepReport> plain = run_steps(*s.trainer(), 3);
  s.options.bf16 = true;
  const std::vector<StepReport> rounded = run_steps(*s.trainer(), 3);
  CHECK(plain[2].loss != rounded[2].loss);
  CHECK(rounded[2].loss == doctest::Approx(plain[2].loss).epsilon(0.02));
}

TEST_CASE("a run that goes on from a checkpoint computes the bits of one that was never stopped") {
  for (const bool bf16 : {false, true}) {
    Training s;
    s.everything();
    s.options.bf16 = bf16;
    const std::unique_ptr<Trainer> whole = s.trainer();
    run_steps(*whole, 5);
    const std::string path = s.folder / "checkpoint.gguf";
    REQUIRE(whole->save(path).ok());
    const std::vector<StepReport> wanted = run_steps(*whole, 20);
    const std::unique_ptr<Trainer> resumed = s.trainer();
    run_steps(*resumed, 2);  // what it had done is forgotten
    const Status restored = resumed->restore(path);
    REQUIRE_MESSAGE(restored.ok(), restored.message());
    CHECK(resumed->steps() == 5);
    check_same(run_steps(*resumed, 20), wanted);
    CHECK(resumed->usage(1).uses == whole->usage(1).uses);
  }
}

TEST_CASE("a checkpoint is a model that computes what training computes") {
  Training s;
  const std::unique_ptr<Trainer> t = s.trainer();
  run_steps(*t, 10);
  const std::string path = s.folder / "checkpoint.gguf";
  REQUIRE(t->save(path).ok());
  Dataset held_out = s.data(DatasetSplit::kHeldOut);
  DatasetBatch batch;
  REQUIRE(held_out.next(1, batch).ok());
  const DatasetPosition start = s.data(DatasetSplit::kHeldOut).position();
  REQUIRE(held_out.seek(start).ok());
  const auto e = t->evaluate(held_out, {.max_targets = 1});  // a batch of 4 rows
  REQUIRE(e.ok());

  const std::unique_ptr<Model> model = load_model(path);
  Dataset again = s.data(DatasetSplit::kHeldOut);
  REQUIRE(again.next(s.options.rows, batch).ok());
  double loss = 0;
  for (size_t begin = 0; begin < batch.tokens.size();) {
    size_t end = begin + 1;
    while (end < batch.tokens.size() && batch.slots[end] == batch.slots[begin]) ++end;
    const std::vector<Token> tokens(batch.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                    batch.tokens.begin() + static_cast<std::ptrdiff_t>(end));
    const std::vector<float> logits = run_tokens(*model, tokens, tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (batch.targets[begin + i] < 0) continue;
      const float* row = logits.data() + i * kVocab;
      double sum = 0;
      for (int v = 0; v < kVocab; ++v) sum += std::exp(static_cast<double>(row[v]));
      loss += std::log(sum) - static_cast<double>(row[batch.targets[begin + i]]);
    }
    begin = end;
  }
  CHECK(e->n_targets == batch.n_targets);
  CHECK(e->loss == doctest::Approx(loss).epsilon(1e-5));
  CHECK(e->bytes > 0);
}

TEST_CASE("a damaged checkpoint, one of another run and a model that is none are refused, and nothing changes") {
  Training s;
  const std::unique_ptr<Trainer> t = s.trainer();
  run_steps(*t, 2);
  const std::string path = s.folder / "checkpoint.gguf";
  REQUIRE(t->save(path).ok());
  const std::vector<float> before = values_of(*t, "token_embd.weight");
  const std::vector<std::byte> whole = bytes_of(path);
  const auto refused = [&](std::vector<std::byte> bytes) {
    const std::string bad = s.folder / "bad.gguf";
    std::ofstream(bad, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return t->restore(bad);
  };
  for (const double share : {0.0, 0.001, 0.1, 0.5, 0.999}) {
    CAPTURE(share);
    std::vector<std::byte> cut = whole;
    cut.resize(static_cast<size_t>(share * static_cast<double>(whole.size())));
    CHECK_FALSE(refused(std::move(cut)).ok());
  }
  std::vector<std::byte> flipped = whole;
  flipped[flipped.size() - 1000] ^= std::byte{1};
  CHECK(has_text(refused(std::move(flipped)), "the checksum does not fit"));

  Training other;
  other.options.seed = 4;
  const Status seed = other.trainer()->restore(path);
  CHECK(has_text(seed, "a checkpoint of another configuration: wanted seed=4, found seed=3"));
  other.options.seed = 3, other.options.widths = {0.5}, other.settings[7] = "d_ff_expert=64";
  CHECK(has_text(other.trainer()->restore(path), "another configuration"));
  other.options.widths = {}, other.tokens = write_token_file(other.folder, "more.tok", ramps(61), kVocab);
  CHECK_FALSE(other.trainer()->restore(path).ok());
  CHECK(has_text(t->restore(s.folder / "none.gguf"), "none.gguf"));
  const std::string model = random_model(tiny_config("olmoe")).write(s.folder);
  CHECK(has_text(t->restore(model), "wanted a checkpoint, found a model"));

  CHECK(values_of(*t, "token_embd.weight") == before);
  CHECK(t->steps() == 2);
}

TEST_CASE("a loss that is no number stops the step, names step and tensor, and leaves the data where they were") {
  Training s;
  s.options.schedule.peak = 1e37f;
  s.options.adamw.weight_decay = 0, s.options.clip = 0;
  const std::unique_ptr<Trainer> t = s.trainer();
  StepReport r;
  Status status;
  for (int i = 0; i < 8 && status.ok(); ++i) status = t->step(r);
  REQUIRE_FALSE(status.ok());
  CAPTURE(status.message());
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(has_text(status, "step " + std::to_string(t->steps() + 1) + ": "));
  const DatasetPosition position = t->data().position();
  CHECK(t->step(r).message() == status.message());
  CHECK(t->data().position() == position);
}

TEST_CASE("frozen weights stay as they are, and a model of nothing else is refused") {
  Training s;
  s.options.frozen = {"token_embd.weight", "blk.0.*"};
  const std::unique_ptr<Trainer> t = s.trainer();
  const std::vector<float> table = values_of(*t, "token_embd.weight"), frozen = values_of(*t, "blk.0.ffn_up_exps.weight"),
                           free = values_of(*t, "blk.1.ffn_up_exps.weight");
  run_steps(*t, 2);
  CHECK(values_of(*t, "token_embd.weight") == table);
  CHECK(values_of(*t, "blk.0.ffn_up_exps.weight") == frozen);
  CHECK(values_of(*t, "blk.1.ffn_up_exps.weight") != free);
  s.options.frozen = {"*"};
  CHECK(has_text(s.create().status(), "no weight is left that learns"));
}

TEST_CASE("fine-tuning begins where a file of any format ends, for every architecture that has gradients") {
  for (const char* arch : {"olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "llama"}) {
    CAPTURE(arch);
    Training s;
    ModelFile model = random_model(tiny_config(arch));
    for (FileTensor& tensor : model.tensors)
      if (tensor.shape.size() > 1 && tensor.shape.back() % 32 == 0) tensor.dtype = DType::kQ8_0;
    const std::string path = model.write(s.folder);
    const GgufFile file = GgufFile::open(path).value();
    auto t = Trainer::create_from(file, s.data(), s.options, s.backend());
    REQUIRE_MESSAGE(t.ok(), t.status().message());
    const std::vector<StepReport> r = run_steps(**t, 12);
    CHECK(r.back().loss < r.front().loss);
  }
  Training s;
  const std::string path = random_model(tiny_config("deepseek2")).write(s.folder);
  const GgufFile file = GgufFile::open(path).value();
  CHECK(has_text(Trainer::create_from(file, s.data(), s.options, s.backend()).status(), "gradient of op"));
}

TEST_CASE("a student comes nearer to its teacher than to the text when the teacher is all it hears") {
  Training s;
  const std::unique_ptr<Trainer> big = s.trainer();
  run_steps(*big, 40);
  const std::string path = s.folder / "teacher.gguf";
  REQUIRE(big->save(path).ok());
  const std::unique_ptr<Model> teacher = load_model(path);
  s.settings[1] = "d_model=16", s.settings[7] = "d_ff_expert=16", s.options.teacher_mix = 1;
  const std::unique_ptr<Trainer> student = s.trainer();
  const Status set = student->set_teacher(*teacher);
  REQUIRE_MESSAGE(set.ok(), set.message());
  const std::vector<StepReport> r = run_steps(*student, 40);
  CHECK(r.front().kl > 1);
  CHECK(r.back().kl < 0.7 * r.front().kl);
  Training other;
  const std::string small = random_model(tiny_config("olmoe")).write(other.folder);
  const std::unique_ptr<Model> wrong = load_model(small);
  if (wrong->config().n_vocab != kVocab) CHECK(has_text(student->set_teacher(*wrong), "same vocabulary"));
}

TEST_CASE("selection biases and the Switch loss both even out the use of experts") {
  const auto variation = [](float switch_loss, float speed) {
    Training s;
    s.options.switch_loss = switch_loss, s.options.z_loss = 0, s.options.bias_speed = speed, s.options.usage.window = 20;
    const std::unique_ptr<Trainer> t = s.trainer();
    run_steps(*t, 60);
    return std::max(t->usage(0).variation, t->usage(1).variation);
  };
  const double without = variation(0, 0);
  CHECK(variation(0.2f, 0) < 0.6 * without);
  CHECK(variation(0, 0.01f) < 0.6 * without);
}

TEST_CASE("a step of data that are used up does nothing, and the last rows are as few as there are") {
  Training s;
  s.settings[7] = "d_ff_expert=64", s.options.widths = {0.5}, s.options.rows = 7, s.epochs = 1;
  const std::unique_ptr<Trainer> t = s.trainer();
  StepReport r;
  do {
    const Status status = t->step(r);
    REQUIRE_MESSAGE(status.ok(), status.message());
  } while (r.step_tokens > 0 && t->steps() < 100);
  CHECK(r.step_tokens == 0);
  CHECK(t->tokens() == s.data().n_targets(0));
  const int64_t steps = t->steps();
  const std::vector<float> table = values_of(*t, "token_embd.weight");
  REQUIRE(t->step(r).ok());
  CHECK(t->steps() == steps);
  CHECK(values_of(*t, "token_embd.weight") == table);
}

TEST_CASE("the diversity loss drives experts apart") {
  const auto cosine = [](float strength) {
    Training s;
    s.options.diversity_loss = strength;
    const std::unique_ptr<Trainer> t = s.trainer();
    return run_steps(*t, 30).back().diversity;
  };
  const double weak = cosine(1e-9f), strong = cosine(10);
  CHECK(weak > 0);
  CHECK(strong < 0.5 * weak);
}

TEST_CASE("no expert takes more tokens than its capacity, whatever becomes of the rest") {
  for (const Overflow overflow : {Overflow::kDrop, Overflow::kRandom, Overflow::kNext}) {
    Training s;
    s.options.capacity_factor = 1, s.options.overflow = overflow, s.options.switch_loss = 0;
    const std::unique_ptr<Trainer> t = s.trainer();
    const std::vector<StepReport> r = run_steps(*t, 10);
    CHECK(r.back().loss < r.front().loss);
    const double slots = 10.0 * 4 * 32 * 2;
    for (const size_t layer : {size_t{0}, size_t{1}}) {
      const LayerUsage u = t->usage(layer);
      uint64_t used = 0;
      for (const uint64_t n : u.uses) {
        used += n;
        CHECK(static_cast<double>(n) <= slots / 6 + 10);
      }
      CHECK(static_cast<double>(used) <= slots);
      if (overflow == Overflow::kDrop) CHECK(static_cast<double>(used) < 0.98 * slots);
      if (overflow != Overflow::kDrop) CHECK(static_cast<double>(used) > 0.98 * slots);
    }
  }
}

TEST_CASE("options that make no sense for the model are refused by name") {
  const auto message = [](auto&& change) {
    Training s;
    change(s);
    return s.create().status().message();
  };
  CHECK(message([](Training& s) { s.options.k_min = 1, s.options.k_max = 7; }).find("k_max: wanted k_min to 6") == 0);
  CHECK(message([](Training& s) { s.options.k_min = 0, s.options.k_max = 2; }).find("k_min: wanted 1 to 6") == 0);
  CHECK(message([](Training& s) { s.options.widths = {1.5}; }).find("widths: wanted shares between 0 and 1, found 1.5") == 0);
  CHECK(message([](Training& s) { s.options.rows = 0; }).find("rows: wanted") == 0);
  CHECK(message([](Training& s) { s.options.expert_dropout = 1; }).find("expert_dropout: wanted 0 <= p < 1") == 0);
  CHECK(message([](Training& s) {
          s.options.schedule.total_steps = 0, s.options.schedule.decline = Decline::kCosine;
        }).find("total_steps") != std::string::npos);
  CHECK(message([](Training& s) { s.settings.back() = "n_ctx_train=16"; }).find("context: wanted at most the model's 16") == 0);
  CHECK(message([](Training& s) { s.settings.emplace_back("n_vocab=500"); }).find("the token files have a vocabulary of 320") ==
        0);
}

}  // namespace moe
