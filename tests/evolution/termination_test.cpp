#include "evolution/termination.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace moe;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Termination make(const TerminationLimits& limits) { return Termination::make(limits).value(); }

// The generation after which it stops, or −1.
int stops_after(Termination termination, std::initializer_list<double> measures) {
  SearchProgress p;
  for (const double measure : measures) {
    p.measure = measure;
    if (termination.after(p) != SearchEnd::kRunning) return static_cast<int>(p.generation);
    ++p.generation;
  }
  return -1;
}

}  // namespace

TEST_CASE("each limit stops a search when it is reached, and not before") {
  TerminationLimits limits;
  limits.evaluations = 100;
  limits.generations = 7;
  limits.seconds = 1.5;
  limits.target = -3;
  Termination t = make(limits);
  CHECK(t.after({99, 6, 1.4, -2.9}) == SearchEnd::kRunning);
  CHECK(t.after({100, 6, 1.4, -2.9}) == SearchEnd::kEvaluations);
  CHECK(t.after({99, 7, 1.4, -2.9}) == SearchEnd::kGenerations);
  CHECK(t.after({99, 6, 1.5, -2.9}) == SearchEnd::kTime);
  CHECK(t.after({99, 6, 1.4, -3}) == SearchEnd::kTarget);
  CHECK(t.after({99, 6, 1.4, kNan}) == SearchEnd::kRunning);
}

TEST_CASE("stagnation: the best of a window of generations has not fallen by more than the gain") {
  TerminationLimits limits;
  limits.window = 3;
  CHECK(stops_after(make(limits), {5, 4, 4, 4, 4}) == 4);
  CHECK(stops_after(make(limits), {5, 5, 5, 5}) == 3);
  CHECK(stops_after(make(limits), {5, 4, 6, 6, 3.9, 4, 4, 4}) == 7);
  CHECK(stops_after(make(limits), {8, 7, 6, 5, 4, 3, 2, 1}) == -1);
  CHECK(stops_after(make(limits), {kNan, kNan, kNan, kNan}) == 3);
  CHECK(stops_after(make(limits), {kNan, kNan, kNan, 5, 5, 5, 5}) == 6);
  CHECK(stops_after(make(limits), {kNan, kNan, 5, 5, 5, 5}) == 5);
  limits.gain = 0.1;
  CHECK(stops_after(make(limits), {100, 99, 98, 97, 96}) == 3);
  CHECK(stops_after(make(limits), {100, 95, 90, 85, 80}) == -1);
  CHECK(stops_after(make(limits), {-100, -105, -110, -115, -119, -120}) == 5);  // a hypervolume that grows too little
}

TEST_CASE("a restored search stops where the undisturbed one does") {
  TerminationLimits limits;
  limits.window = 4;
  const double measures[] = {9, 8, 8, 7, 7, 7, 7, 7, 7};
  for (size_t cut = 0; cut < 8; ++cut) {
    Termination first = make(limits), second = make(limits);
    size_t i = 0;
    for (; i < cut && first.after({0, 0, 0, measures[i]}) == SearchEnd::kRunning; ++i) {
    }
    ByteWriter saved;
    first.save(saved);
    ByteReader in(saved.bytes());
    REQUIRE(second.restore(in).ok());
    for (; i < 9; ++i) {
      const SearchEnd reason = second.after({0, 0, 0, measures[i]});
      CHECK(reason == (i < 7 ? SearchEnd::kRunning : SearchEnd::kStagnation));
      if (reason != SearchEnd::kRunning) break;
    }
  }
}

TEST_CASE("limits without sense, and saved progress that is cut short, are refused") {
  TerminationLimits limits;
  CHECK_FALSE(Termination::make(limits).ok());
  limits.seconds = -1;
  CHECK_FALSE(Termination::make(limits).ok());
  limits.seconds = kNan;
  CHECK_FALSE(Termination::make(limits).ok());
  limits.seconds = 1;
  limits.gain = 0.5;
  CHECK_FALSE(Termination::make(limits).ok());
  limits.window = 2;
  CHECK(Termination::make(limits).ok());

  Termination t = make(limits);
  for (const double measure : {3.0, 2.0, 1.0}) (void)t.after({0, 0, 0, measure});
  ByteWriter saved;
  t.save(saved);
  for (size_t n = 0; n < saved.size(); ++n) {
    const std::vector<std::byte> prefix(saved.bytes().begin(), saved.bytes().begin() + static_cast<ptrdiff_t>(n));
    ByteReader in(prefix);
    CHECK_FALSE(t.restore(in).ok());
  }
  limits.window = 1;
  Termination shorter = make(limits);
  ByteReader in(saved.bytes());
  CHECK_FALSE(shorter.restore(in).ok());
}
