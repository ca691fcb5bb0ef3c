#include "tools/bench_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "core/rng.h"

namespace moe::tools {
namespace {

using Clock = std::chrono::steady_clock;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// The experts that a token uses, counted while a session runs.
class MeanK {
 public:
  explicit MeanK(Session& session) : session_(session) {
    session.set_observer([this](const RouterView& v) {
      const size_t n = static_cast<size_t>(v.n_tokens) * static_cast<size_t>(v.n_slots);
      used_ += std::count_if(v.ids, v.ids + n, [](int32_t id) { return id >= 0; });
      tokens_ += v.n_tokens;
    });
  }
  ~MeanK() { session_.set_observer({}); }
  MeanK(const MeanK&) = delete;
  MeanK& operator=(const MeanK&) = delete;
  double value() const { return tokens_ > 0 ? static_cast<double>(used_) / static_cast<double>(tokens_) : 0; }

 private:
  Session& session_;
  int64_t used_ = 0, tokens_ = 0;
};

// Runs tests in one session.
class Bench {
 public:
  Bench(Program& program, Session& session, const BenchArguments& arguments, const std::vector<Peer>& peers, Isa isa)
      : program_(program),
        session_(session),
        arguments_(arguments),
        peers_(peers),
        isa_(isa),
        exact_(arguments.model.exact),
        width_(summarize(session.topology(), session.model().routing_shape()).total.width),
        rng_(program.seed()) {}

  // Makes every sequence that a test needs hold n_depth tokens; what they hold already stays.
  Status fill(const BenchTest& test) {
    const int kept = std::min(session_.length(0), test.n_depth);
    MOE_TRY(session_.truncate(0, kept));
    MOE_TRY(session_.eval_prompt(random_tokens(test.n_depth - kept), 0, {}, [](int) { return !interrupted(); }));
    for (int s = 1; s < (test.n_gen > 0 ? test.n_seqs : 1); ++s) MOE_TRY(session_.copy_sequence(0, s));
    return Status::Ok();
  }

  Result<BenchResult> measure(const BenchTest& test, int repetitions, const std::function<void(int)>& on_repetition) {
    BenchResult result;
    result.test = test, result.time = utc_now();
    for (const Peer& p : peers_) result.peers.push_back({p, {}, false});
    MOE_TRY(fill(test));
    double k_mean = 0;
    {
      const MeanK k(session_);
      BenchTest warm_up = test;
      warm_up.n_gen = std::min(warm_up.n_gen, 1);
      MOE_TRY(repeat(warm_up).status());
      // The price of an op knows a mean k but no widths: a token that uses k experts at a share w of their channels does the
      // work of k · w whole ones.
      k_mean = k.value() * width_;
      result.work = work_of(session_.executable().graph(), test, k_mean, exact_);
    }
    const ExecutableProfile before = session_.executable().profile();
    for (int i = 0; i < repetitions; ++i) {
      on_repetition(i);
      MOE_ASSIGN(const double seconds, repeat(test));
      result.seconds.push_back(seconds);
      if (test.n_gen > 0) {
        MOE_ASSIGN(const double read, cpu::measure_read(isa_, session_.model().backend().info().n_threads));
        result.reads.push_back(read);
      }
      MOE_TRY(run_peers(test, result.peers));
    }
    if (session_.options().profile)
      result.profile = make_profile(session_.executable().graph(), before, session_.executable().profile(),
                                    session_.model().backend().info().n_threads, result.mean_seconds() * repetitions, test,
                                    repetitions, k_mean, exact_);
    return result;
  }

 private:
  std::vector<Token> random_tokens(int n) {
    std::vector<Token> tokens(static_cast<size_t>(n));
    for (Token& t : tokens) t = random_token();
    return tokens;
  }
  Token random_token() { return static_cast<Token>(rng_.below(static_cast<uint64_t>(session_.model().config().n_vocab))); }

  // Each once. With peers_may_fail, one that fails is left without rates from then on.
  Status run_peers(const BenchTest& test, std::vector<PeerResult>& peers) {
    for (PeerResult& p : peers) {
      if (p.failed) continue;
      const auto rate = run_peer(p.peer, arguments_.model.path, test, session_.model().backend().info().n_threads);
      if (rate.ok()) {
        p.rates.push_back(*rate);
        continue;
      }
      if (!arguments_.peers_may_fail || interrupted()) return rate.status();
      program_.warn(test.name() + ": " + rate.status().message());
      p.failed = true, p.rates.clear();
    }
    return Status::Ok();
  }

  Result<double> repeat(const BenchTest& test) {
    for (int s = 0; s < (test.n_gen > 0 ? test.n_seqs : 1); ++s) MOE_TRY(session_.truncate(s, test.n_depth));
    const std::vector<Token> tokens = random_tokens(test.tokens());
    std::vector<BatchToken> batch(static_cast<size_t>(test.n_seqs));
    const auto start = Clock::now();
    if (test.n_prompt > 0) MOE_TRY(session_.eval_prompt(tokens, 0, {}, [](int) { return !interrupted(); }));
    for (int i = 0; i < test.n_gen && !interrupted(); ++i) {
      for (int s = 0; s < test.n_seqs; ++s)
        batch[static_cast<size_t>(s)] = {tokens[static_cast<size_t>(i * test.n_seqs + s)], s, true};
      MOE_TRY(session_.eval(batch));
    }
    if (interrupted()) return interrupted_status();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  Program& program_;
  Session& session_;
  const BenchArguments& arguments_;
  const std::vector<Peer>& peers_;
  Isa isa_;
  bool exact_;
  double width_;
  Rng rng_;
};

std::vector<BenchTest> list_tests(const BenchArguments& a, int n_batch) {
  std::vector<BenchTest> tests;
  for (const int depth : a.n_depth) {
    for (const int n : a.n_prompt)
      if (n > 0) tests.push_back({n, 0, depth, n_batch, 1});
    for (const int n : a.n_gen)
      if (n > 0) tests.push_back({0, n, depth, n_batch, a.n_seqs});
  }
  return tests;
}

Result<std::unique_ptr<Session>> open_session(const Model& model, const BenchArguments& a, const std::vector<BenchTest>& tests,
                                              int n_batch) {
  SessionOptions o;
  o.n_ctx = 1;
  for (const BenchTest& t : tests) o.n_ctx = std::max(o.n_ctx, t.n_depth + t.n_prompt + t.n_gen);
  o.n_seqs = a.n_seqs;
  o.max_batch = std::max(n_batch, a.n_seqs);
  o.max_outputs = a.n_seqs;
  o.profile = a.profile;
  MOE_ASSIGN(o.cache_k, parse_cache_type(a.model.cache_type));
  o.cache_v = o.cache_k;
  MOE_ASSIGN(std::unique_ptr<Session> session, Session::create(model, o));
  MOE_ASSIGN(const RoutingTopology topology, make_topology(model, a.model));
  MOE_TRY(session->set_topology(topology));
  return session;
}

}  // namespace

double sample_mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v;
  return x.empty() ? 0 : sum / static_cast<double>(x.size());
}

double sample_deviation(const std::vector<double>& x) {
  if (x.size() < 2) return 0;
  const double mean = sample_mean(x);
  double squares = 0;
  for (const double v : x) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(x.size() - 1));
}

std::vector<double> BenchResult::rates() const {
  std::vector<double> x;
  for (const double s : seconds) x.push_back(test.tokens() / s);
  return x;
}

double BenchResult::mean_seconds() const { return sample_mean(seconds); }
double BenchResult::mean_rate() const { return sample_mean(rates()); }
double BenchResult::rate_deviation() const { return sample_deviation(rates()); }

namespace {

std::vector<Peer> parse_peers(const BenchArguments& a) {
  std::vector<Peer> peers;
  for (const std::string& text : a.peers) peers.push_back(or_usage("--vs", parse_peer(text)));
  if (!peers.empty() && a.n_seqs > 1) usage_error("--vs: peers generate one sequence, leave out --seqs");
  return peers;
}

void warn_beyond_context(const Program& program, const Model& model, const BenchTest& t) {
  const int wanted = t.n_depth + t.n_prompt + t.n_gen, trained = model.config().n_ctx_train;
  if (trained > 0 && wanted > trained)
    program.warn(t.name() + ": " + std::to_string(wanted) + " tokens of context, the model was trained with " +
                 std::to_string(trained) + ": speed is measured, text would be worthless");
}

}  // namespace

Status run_bench(Program& program, const BenchArguments& a, const BenchSink& on_result) {
  const std::vector<Peer> peers = parse_peers(a);
  const std::vector<int> threads = a.n_threads.empty() ? std::vector<int>{program.n_threads()} : a.n_threads;
  const size_t n_tests = list_tests(a, 1).size() * threads.size() * a.n_batch.size();
  if (n_tests == 0) usage_error("nothing to measure: -p and -n are both 0");
  MOE_ASSIGN(const Isa isa, choose_isa(detect_cpu(), a.model.isa));
  catch_interrupts();
  Progress progress("bench", static_cast<double>(n_tests) * a.repetitions, Progress::Unit::kCount, "runs");
  int done = 0;
  for (const int n_threads : threads) {
    MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, a.model, n_threads));
    for (const int n_batch : a.n_batch) {
      const std::vector<BenchTest> tests = list_tests(a, n_batch);
      MOE_ASSIGN(const std::unique_ptr<Session> session, open_session(*model, a, tests, n_batch));
      Bench bench(program, *session, a, peers, isa);
      for (const BenchTest& test : tests) {
        warn_beyond_context(program, *model, test);
        progress.update(done, test.name() + ": warm-up");
        auto result = bench.measure(test, a.repetitions, [&](int i) {
          progress.update(done++, test.name() + ": " + std::to_string(i + 1) + "/" + std::to_string(a.repetitions));
        });
        if (!result.ok()) return interrupted() ? interrupted_status() : result.status().Annotate(test.name());
        progress.finish();
        on_result(*model, *result);
      }
    }
  }
  return Status::Ok();
}

}  // namespace moe::tools
