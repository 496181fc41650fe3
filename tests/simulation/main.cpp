// Runs histories, each from its own seed, and prints what was done, what was thrown at the client
// in which state, and, where a rule broke, the seed and a short way there.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "history.hpp"

extern "C" {  // the linker's names for what the program calls malloc() and free()
void* __real_malloc(std::size_t bytes);
void __real_free(void* at);
void* __wrap_malloc(std::size_t bytes) {
  using simulation::Block;
  return Block::made(__real_malloc(bytes + sizeof(Block)), bytes);
}
void __wrap_free(void* at) { __real_free(simulation::Block::gone(at)); }
}
void* operator new(std::size_t bytes) {
  void* const made = __wrap_malloc(bytes);
  if (made == nullptr) throw std::bad_alloc();
  return made;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return __wrap_malloc(bytes);
}
void operator delete(void* at) noexcept { __wrap_free(at); }
void operator delete(void* at, std::size_t) noexcept { __wrap_free(at); }
void operator delete(void* at, const std::nothrow_t&) noexcept { __wrap_free(at); }

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

std::string explained(Plan plan, const std::string& broken, bool brief) {
  std::string text = "BROKEN by seed " + std::to_string(plan.seed) + ": " + broken + '\n';
  if (brief) return text;
  plan = shrink(plan, ruleOf(broken));
  plan.traced = true;
  History history(plan);
  history.run();
  const std::size_t lines = history.trace.size();
  for (std::size_t i = lines > 60 ? lines - 60 : 0; i < lines; ++i) text += history.trace[i] + '\n';
  const std::size_t left = plan.steps - std::min(plan.steps, plan.skipped.size());
  return text + "in " + std::to_string(left) + " steps of " + std::to_string(plan.steps) + ": " +
         history.ledger.broken + '\n';
}

struct Totals {
  std::uint64_t histories = 0, steps = 0, restarts = 0, kills = 0, requests = 0, polls = 0,
                calls = 0, audits = 0, events = 0, acknowledged = 0, heartbeats = 0, digest = 0,
                failures = 0, strays = 0;
  std::array<std::uint64_t, faultCount> injected = {};
  Table table = {};
  Draws draws = {};

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
    heartbeats += history.ledger.heartbeats;
    digest += history.digest;
    addAll(injected, history.injected);
    addTables(history.table, history.ledger.draws);
  }
  void add(const Totals& other) {
    histories += other.histories, steps += other.steps, restarts += other.restarts;
    kills += other.kills, requests += other.requests, polls += other.polls, calls += other.calls;
    audits += other.audits, events += other.events, acknowledged += other.acknowledged;
    heartbeats += other.heartbeats, digest += other.digest;
    failures += other.failures, strays += other.strays;
    addAll(injected, other.injected);
    addTables(other.table, other.draws);
  }
  void addTables(const Table& more, const Draws& drawn) {
    for (std::size_t row = 0; row < faultCount; ++row) addAll(table[row], more[row]);
    for (std::size_t row = 0; row < drawCount; ++row) addAll(draws[row], drawn[row]);
  }
  template <std::size_t size>
  static void addAll(std::array<std::uint64_t, size>& to,
                     const std::array<std::uint64_t, size>& more) {
    for (std::size_t i = 0; i < size; ++i) to[i] += more[i];
  }
  /// How many tenths of what chance draws are hit too seldom or too often: by five times what
  /// chance allows, and a twentieth for milliseconds being whole.
  int printDraws() const {
    std::printf("%-17s how often in each tenth of the time that is allowed\n", "pause");
    int uneven = 0;
    for (std::size_t row = 0; row < drawCount; ++row) {
      double mean = 0;
      for (const std::uint64_t tenth : draws[row]) mean += static_cast<double>(tenth) / 10;
      std::printf("%-17s", drawNames[row]);
      for (const std::uint64_t tenth : draws[row]) {
        const double off = std::abs(static_cast<double>(tenth) - mean);
        std::printf(" %7llu", static_cast<unsigned long long>(tenth));
        uneven += mean >= 10 && off > 5 * std::sqrt(mean) + mean / 20;
      }
      std::printf("\n");
      uneven += mean < 10 && histories >= 2'000;
    }
    return uneven;
  }
  /// How many cells are empty.
  int print() const {
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "%llu histories of %llu steps: %llu runs, %llu kills and power cuts, %llu calls, "
        "%llu polls, %llu requests, %llu heartbeats, %llu audits, %llu events, "
        "%llu acknowledged, digest %016llx\n",
        number(histories), number(steps / std::max<std::uint64_t>(histories, 1)), number(restarts),
        number(kills), number(calls), number(polls), number(requests), number(heartbeats),
        number(audits), number(events), number(acknowledged), number(digest));
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

/// The histories from `first` on, shared by as many threads as there are jobs.
class Runner {
 public:
  Runner(std::uint64_t first, std::uint64_t histories, std::uint64_t most, bool traced, bool brief)
      : next_(first), end_(first + histories), most_(most), traced_(traced), brief_(brief) {}

  Totals run(unsigned jobs) {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < jobs; ++i) others.emplace_back([this] { work(); });
    work();
    for (std::thread& other : others) other.join();
    return totals_;
  }

 private:
  void work() {
    Totals totals;
    for (std::uint64_t seed = next_++; seed < end_ && failures_ < most_; seed = next_++) {
      Plan plan;
      plan.seed = seed;
      plan.traced = traced_;
      History history(plan);
      const bool fine = history.run();
      totals.add(history);
      std::string text;
      for (const std::string& line : history.trace) text += line + '\n';
      if (!fine) ++failures_, ++totals.failures;
      if (!fine) text += explained(plan, history.ledger.broken, brief_);
      if (fine && seed % 50 == 0 && !replays(plan, history.digest)) {
        text += "seed " + std::to_string(seed) + " does not replay\n", ++totals.strays;
      }
      if (!text.empty()) say(text);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    totals_.add(totals);
  }
  void say(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  std::atomic<std::uint64_t> next_;
  const std::uint64_t end_, most_;
  const bool traced_, brief_;
  std::atomic<std::uint64_t> failures_{0};
  std::mutex mutex_;
  Totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t first = 1, histories = 10'000, jobs = 1, failures = 3;
  bool traced = false, brief = false;  // brief: no way there is looked for
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--trace") traced = true;
    if (word == "--brief") brief = true;
    if (i + 1 == argc) continue;
    if (word == "--seed") first = std::strtoull(argv[++i], nullptr, 10);
    if (word == "--histories") histories = std::strtoull(argv[++i], nullptr, 10);
    if (word == "--failures") failures = std::strtoull(argv[++i], nullptr, 10);
    if (word == "--jobs") jobs = std::strtoull(argv[++i], nullptr, 10);
  }
#if defined(__GLIBC__)
  mallopt(M_TRIM_THRESHOLD, 1 << 28);  // memory is not handed back between histories
  mallopt(M_MMAP_THRESHOLD, 1 << 28);
  mallopt(M_TOP_PAD, 1 << 24);
#endif
  Runner runner(first, histories, failures, traced, brief);
  const Totals totals = runner.run(static_cast<unsigned>(std::clamp<std::uint64_t>(jobs, 1, 64)));
  const int empty = totals.print(), uneven = totals.printDraws();
  const bool whole = totals.failures > 0 ||
                     ((histories < 2'000 || (empty == 0 && totals.heartbeats > 0)) && uneven == 0);
  if (uneven > 0 && totals.failures == 0) std::printf("BROKEN pauses are not left to chance\n");
  std::printf("%llu broken, %llu not replayed, %d cells empty, %d tenths uneven%s\n",
              static_cast<unsigned long long>(totals.failures),
              static_cast<unsigned long long>(totals.strays), empty, uneven,
              whole ? "" : ": FAILED");
  return totals.failures == 0 && totals.strays == 0 && whole ? 0 : 1;
}
