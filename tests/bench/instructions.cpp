// Runs under callgrind, which counts the instructions between COUNT and the end of its block, of
// the calling thread alone. Prints what each count is to be divided by.
#include "adversaries.hpp"
#include "full_queue.hpp"
#include "inside.hpp"
#include "subject.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <valgrind/callgrind.h>

namespace {

/// Of its scope; callgrind writes the count under this name.
class Count {
 public:
  Count(std::string name, std::size_t times) : name_(std::move(name)) {
    std::printf("%s %zu\n", name_.c_str(), times);
    CALLGRIND_TOGGLE_COLLECT;
  }
  ~Count() {
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name_.c_str());
  }
  Count(const Count&) = delete;
  Count& operator=(const Count&) = delete;

 private:
  const std::string name_;
};

void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "instructions: %s\n", what);
  std::exit(1);
}

/// Warm, with the worker asleep or at work.
template <class Track>
void track(const std::string& name, std::size_t times, const Track& trackOne) {
  nucleus::Client client(subject::options(name + ".cache"));
  subject::signIn(client);
  for (std::size_t i = 0; i < 512; ++i) trackOne(client, i);
  demand(client.flush(60'000), "the events did not arrive");
  {
    const Count count("track-" + name, times);
    for (std::size_t i = 0; i < times; ++i) trackOne(client, i);
  }
  demand(client.stats().droppedQueueFull == 0, "the queue was full");
}

/// From track() to the answer, on one thread: what caller and worker do together, with the file.
template <class Track>
void deliver(const std::string& name, std::size_t rounds, const Track& trackOne) {
  constexpr std::size_t perRound = 512;
  const auto clock = std::make_shared<subject::Clock>();
  nucleus::Client client(subject::polled(name + ".delivered.cache", clock));
  subject::signIn(client);
  const auto run = [&](std::size_t times) {
    for (std::size_t i = 0; i < times * perRound; ++i) {
      trackOne(client, i);
      clock->advance(20'000 / perRound);
      client.poll();
    }
  };
  run(2);
  {
    const Count count("deliver-" + name, rounds * perRound);
    run(rounds);
  }
  demand(client.stats().acknowledgedEvents > rounds * perRound, "the events did not arrive");
}

void acknowledge(std::size_t events, bool inOrder) {
  const FullQueue queue(events);
  demand(queue.isReady(), "the queue is not in one request");
  const nucleus::Response answer = queue.answer(inOrder);
  {
    const Count count((inOrder ? "ack-in-order-" : "ack-random-") + std::to_string(events), events);
    queue.acknowledge(answer);
  }
  demand(queue.isEmpty(), "an event was not acknowledged");
}

void redact(std::size_t index, std::size_t bytes) {
  const std::string text = adversaries::text(index, bytes);
  std::size_t left = 0;
  {
    const Count count("redact-" + std::to_string(index) + "-" + std::to_string(bytes), text.size());
    left = inside::redactedBytes(text);
  }
  demand(left > 0, "nothing is left of a text");
}

}  // namespace

int main() {
  const std::vector<streams::Tracked> mixed = streams::mixed();
  const auto reference = [](nucleus::Client& client, std::size_t) {
    demand(subject::trackReference(client) == nucleus::Outcome::ok, "an event was refused");
  };
  const auto next = [&](nucleus::Client& client, std::size_t i) {
    demand(subject::track(client, mixed[i % mixed.size()]) == nucleus::Outcome::ok,
           "an event was refused");
  };
  track("reference", 2'048, reference);
  track("mixed", 1'024, next);
  deliver("reference", 8, reference);
  deliver("mixed", 8, next);
  for (const bool inOrder : {true, false}) acknowledge(2'000, inOrder), acknowledge(4'000, inOrder);
  for (std::size_t i = 0; i < adversaries::count; ++i) redact(i, 8 << 10), redact(i, 32 << 10);
}
