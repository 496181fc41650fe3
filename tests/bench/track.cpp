// Measures one track() with three properties: default options, a real cache file, the worker
// running, a server that takes everything. Prints nanoseconds and allocations.
#include "../../nucleus.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

namespace {
std::atomic<long> allocations{0};
thread_local bool counted = false;
}  // namespace

void* operator new(std::size_t bytes) {
  if (counted) ++allocations;
  if (void* const memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main() {
  constexpr int rounds = 100, perRound = 2'000;  // a round fits into the queue
  nucleus::Options options;
  options.appId = "bench";
  options.cacheFile = "bench.cache";
  options.respectDoNotTrack = false;
  options.transport = [](const nucleus::Request&) {
    return nucleus::Response{200, R"({"confirmation":true})", {}};
  };
  nucleus::Client nucleus(options);

  using Clock = std::chrono::steady_clock;
  std::vector<long> calls, empty;
  calls.reserve(rounds * perRound);
  empty.reserve(rounds * perRound);
  const auto since = [](Clock::time_point begin) {
    return static_cast<long>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count());
  };
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < perRound; ++i) {
      counted = true;
      auto begin = Clock::now();
      nucleus.track("PLAYED_TRACK",
                    {{"trackName", "My Awesome Song"}, {"duration", 120}, {"premium", true}});
      calls.push_back(since(begin));
      counted = false;
      begin = Clock::now();
      empty.push_back(since(begin));
    }
    if (!nucleus.flush(10'000)) return std::puts("the events did not arrive"), 1;
  }
  std::sort(calls.begin(), calls.end());
  std::sort(empty.begin(), empty.end());
  const auto at = [&](double part) {
    return calls[static_cast<std::size_t>(part * static_cast<double>(calls.size()))];
  };
  std::printf("track(), 3 properties: median %ld ns, p99 %ld ns, p99.9 %ld ns\n", at(0.5), at(0.99),
              at(0.999));
  std::printf("  of which reading the clock takes %ld ns\n", empty[empty.size() / 2]);
  std::printf("  allocations per call: %.4f\n",
              static_cast<double>(allocations) / static_cast<double>(calls.size()));
}
