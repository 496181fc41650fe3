// Times what the client does, on the system's clock: latency WHAT [STREAM]. Prints lines `name
// value`, nanoseconds where the name says nothing else.
#include "full_queue.hpp"
#include "measure.hpp"
#include "subject.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using measure::Calls;
using measure::demand;
using measure::print;
using streams::Tracked;

constexpr std::size_t rounds = 200, perRound = 1'000;  // a round fits into the queue

void arrive(nucleus::Client& client) { demand(client.flush(60'000), "the events did not arrive"); }

/// Calls `each` with the events of a stream, one by one; between rounds all is delivered.
template <class Each>
void play(nucleus::Client& client, const std::vector<Tracked>& events, const Each& each) {
  std::size_t next = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < perRound; ++i) each(events[next++ % events.size()]);
    arrive(client);
  }
  demand(client.stats().droppedQueueFull == 0, "the queue was full");
}

void warm(const std::string& stream, const std::vector<Tracked>& events) {
  nucleus::Client client(subject::options("warm.cache"));
  subject::signIn(client);
  Calls calls(rounds * perRound);
  play(client, events,
       [&](const Tracked& event) { calls.time([&] { subject::track(client, event); }); });
  calls.print("warm-" + stream);
}

void cold(const std::string& stream, const std::vector<Tracked>& events) {
  constexpr std::size_t times = 300;
  nucleus::Client client(subject::options("cold.cache"));
  subject::signIn(client);
  Calls calls(times);
  for (std::size_t i = 0; i < times; ++i) {
    measure::evictCaches();
    calls.time([&] { subject::track(client, events[i % events.size()]); });
  }
  calls.print("cold-" + stream);
}

void processor(const std::string& stream, const std::vector<Tracked>& events) {
  nucleus::Client client(subject::options("processor.cache"));
  subject::signIn(client);
  arrive(client);
  const double begin = measure::processorNs();
  play(client, events, [&](const Tracked& event) { subject::track(client, event); });
  print("processor-" + stream, (measure::processorNs() - begin) / (rounds * perRound));
}

/// One write in each call.
void direct() {
  nucleus::Options options = subject::options("direct.cache");
  options.cacheDelayMs = 0;
  nucleus::Client client(options);
  subject::signIn(client);
  Calls calls(20 * perRound);
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < perRound; ++i) {
      calls.time([&] { subject::trackReference(client); });
    }
    arrive(client);
  }
  calls.print("direct");
}

void contention() {
  nucleus::Client client(subject::options("contention.cache"));
  subject::signIn(client);
  Calls all(0);
  for (std::size_t round = 0; round < rounds; ++round) {
    Calls mine(perRound / 2), theirs(perRound / 2);
    std::atomic<int> ready{0};
    const auto run = [&](Calls& calls) {
      for (++ready; ready < 2;) {
      }
      for (std::size_t i = 0; i < perRound / 2; ++i) {
        calls.time([&] { subject::trackReference(client); });
      }
    };
    std::thread other([&] { run(theirs); });
    run(mine);
    other.join();
    all.add(mine), all.add(theirs);
    arrive(client);
  }
  all.print("contention");
}

// ---- the file ----

nucleus::Options large(const std::string& file) {
  nucleus::Options options = subject::options(file);
  options.transport = nullptr;
  options.background = false;
  options.maxQueueBytes = 64 << 20;
  return options;
}

void load() {
  constexpr std::size_t events = 100'000;
  {
    nucleus::Client client(large("load.cache"));
    subject::signIn(client);
    for (std::size_t i = 0; i < events; ++i) subject::trackReference(client);
    demand(client.shutdown(60'000), "the events are not in the file");
  }
  measure::Samples took;
  for (int run = 0; run < 7; ++run) {
    const double begin = measure::nowNs();
    nucleus::Client client(large("load.cache"));
    took.add(measure::nowNs() - begin);
    demand(client.stats().acceptedEvents >= events, "events are missing");
    print("load-bytes", static_cast<double>(client.stats().cacheBytes));
  }
  print("load", took.median());
}

// ---- the end ----

/// A server that hangs until it is let go.
class Hanging {
 public:
  nucleus::Response operator()() {
    std::unique_lock<std::mutex> lock(mutex_);
    free_.wait_for(lock, std::chrono::seconds(30), [this] { return isFree_; });
    return {};
  }
  void letGo() {
    const std::lock_guard<std::mutex> lock(mutex_);
    isFree_ = true;
    free_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable free_;
  bool isFree_ = false;
};

double survivors(const std::string& file) {
  nucleus::Options options = large(file);
  options.disableTracking = false;
  const nucleus::Client client(options);
  return static_cast<double>(client.stats().acceptedEvents) - 1;  // the init of this start
}

/// 100 events beside init and user id, and a server that takes none of them.
void shutdown(const std::string& name, int times, bool hangs) {
  measure::Samples took;
  const std::string file = name + ".cache";
  double least = 1e9;
  for (int run = 0; run < times; ++run) {
    std::remove(file.c_str());
    const auto server = std::make_shared<Hanging>();
    nucleus::Options options = subject::options(file);
    options.transport = [server, hangs](const nucleus::Request&) {
      return hangs ? (*server)() : nucleus::Response();
    };
    nucleus::Client client(options);
    subject::signIn(client);
    for (int i = 0; i < 100; ++i) subject::trackReference(client);
    const double begin = measure::nowNs();
    client.shutdown(250);
    took.add(measure::nowNs() - begin);
    server->letGo();
    least = std::min(least, survivors(file) - 2);  // init and user id
  }
  print(name, took.median());
  print(name + "-survivors", least);
}

void acknowledge(bool inOrder) {
  measure::Samples took;
  for (int run = 0; run < 15; ++run) {
    const FullQueue queue(4'000);
    demand(queue.isReady(), "the queue is not in one request");
    const nucleus::Response answer = queue.answer(inOrder);
    const double begin = measure::nowNs();
    queue.acknowledge(answer);
    took.add(measure::nowNs() - begin);
    demand(queue.isEmpty(), "an event was not acknowledged");
  }
  print(inOrder ? "ack-in-order" : "ack-random", took.median());
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view what = count > 1 ? arguments[1] : "";
  const std::string stream = count > 2 ? arguments[2] : "reference";
  const std::vector<Tracked> events =
      stream == "mixed" ? streams::mixed() : std::vector<Tracked>{streams::reference()};
  if (what == "warm") warm(stream, events);
  else if (what == "cold") cold(stream, events);
  else if (what == "processor") processor(stream, events);
  else if (what == "direct") direct();
  else if (what == "contention") contention();
  else if (what == "load") load();
  else if (what == "shutdown") shutdown("refused", 15, false), shutdown("hanging", 3, true);
  else if (what == "ack") acknowledge(true), acknowledge(false);
  else return std::fputs("latency: what?\n", stderr), 2;
}
