// Runs histories, each from its own seed, and prints what was done, what was thrown at the client
// in which state, and, where a rule broke, the seed and a short way there.
#include <cstdio>
#include <cstdlib>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "history.hpp"

namespace {

using namespace simulation;

std::string ruleOf(const std::string& broken) { return broken.substr(0, broken.find(':')); }

std::string brokenBy(const Plan& plan) {
  History history(plan);
  history.run();
  return history.ledger.broken;
}

/// Leaves out steps, in ever smaller pieces, as long as the same rule breaks.
Plan shrink(Plan plan, const std::string& rule) {
  for (std::size_t piece = plan.steps / 2; piece >= 1; piece /= 2) {
    for (std::size_t at = 0; at < plan.steps; at += piece) {
      Plan shorter = plan;
      for (std::size_t i = at; i < at + piece; ++i) shorter.skipped.insert(i);
      if (ruleOf(brokenBy(shorter)) == rule) plan = shorter;
    }
  }
  return plan;
}

void explain(Plan plan, const std::string& broken, bool brief) {
  std::printf("BROKEN by seed %llu: %s\n", static_cast<unsigned long long>(plan.seed),
              broken.c_str());
  if (brief) return;
  plan = shrink(plan, ruleOf(broken));
  plan.traced = true;
  History history(plan);
  history.run();
  const std::size_t lines = history.trace.size();
  for (std::size_t i = lines > 60 ? lines - 60 : 0; i < lines; ++i) {
    std::puts(history.trace[i].c_str());
  }
  std::printf("in %zu steps of %zu: %s\n", plan.steps - plan.skipped.size(), plan.steps,
              history.ledger.broken.c_str());
}

struct Totals {
  std::uint64_t histories = 0, steps = 0, restarts = 0, kills = 0, requests = 0, polls = 0,
                calls = 0, audits = 0, events = 0, acknowledged = 0;
  std::array<std::uint64_t, faultCount> injected = {};
  Table table = {};

  void add(const History& history) {
    ++histories;
    steps += history.step;
    restarts += history.restarts;
    kills += history.kills;
    requests += history.requests;
    polls += history.polls;
    calls += history.calls;
    audits += history.audits;
    events += history.ledger.eventCount();
    acknowledged += history.ledger.count(Where::acknowledged);
    for (std::size_t row = 0; row < faultCount; ++row) {
      injected[row] += history.injected[row];
      for (std::size_t state = 0; state < stateCount; ++state) {
        table[row][state] += history.table[row][state];
      }
    }
  }
  /// How many cells are empty.
  int print() const {
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "%llu histories of %llu steps: %llu runs, %llu kills and power cuts, %llu calls, "
        "%llu polls, %llu requests, %llu audits, %llu events, %llu acknowledged\n",
        number(histories), number(steps / std::max<std::uint64_t>(histories, 1)), number(restarts),
        number(kills), number(calls), number(polls), number(requests), number(audits),
        number(events), number(acknowledged));
    std::printf("%-17s %9s", "fault", "injected");
    for (const char* state : stateNames) std::printf(" %9s", state);
    int empty = 0;
    for (std::size_t row = 0; row < faultCount; ++row) {
      std::printf("\n%-17s %9llu", faultNames[row], number(injected[row]));
      for (const std::uint64_t cell : table[row])
        std::printf(" %9llu", number(cell)), empty += cell == 0;
    }
    std::printf("\n");
    return empty;
  }
};

/// A seed replays exactly.
bool replays(const Plan& plan, std::uint64_t digest) {
  History again(plan);
  again.run();
  return again.digest == digest;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t first = 1, histories = 10'000, failures = 0, strays = 0;
  bool traced = false, brief = false;  // brief: the first broken rule will do
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--trace") traced = true;
    if (word == "--brief") brief = true;
    if (word == "--seed" && i + 1 < argc) first = std::strtoull(argv[++i], nullptr, 10);
    if (word == "--histories" && i + 1 < argc) histories = std::strtoull(argv[++i], nullptr, 10);
  }
#if defined(__GLIBC__)
  mallopt(M_TRIM_THRESHOLD, 1 << 28);  // memory is not handed back between histories
  mallopt(M_MMAP_THRESHOLD, 1 << 28);
  mallopt(M_TOP_PAD, 1 << 24);
#endif
  Totals totals;
  for (std::uint64_t seed = first; seed < first + histories && failures < (brief ? 1 : 3); ++seed) {
    Plan plan;
    plan.seed = seed;
    plan.traced = traced;
    History history(plan);
    const bool fine = history.run();
    totals.add(history);
    for (const std::string& line : history.trace) std::puts(line.c_str());
    if (!fine) explain(plan, history.ledger.broken, brief), ++failures;
    if (fine && seed % 50 == 0 && !replays(plan, history.digest)) {
      std::printf("seed %llu does not replay\n", static_cast<unsigned long long>(seed)), ++strays;
    }
    std::fflush(stdout);
  }
  const int empty = totals.print();
  const bool whole = histories < 2'000 || failures > 0 || empty == 0;
  std::printf("%llu broken, %llu not replayed, %d cells empty%s\n",
              static_cast<unsigned long long>(failures), static_cast<unsigned long long>(strays),
              empty, whole ? "" : ": FAILED");
  return failures == 0 && strays == 0 && whole ? 0 : 1;
}
