// What reaches the storage. On a clock of our own, so that it is the same in every run:
//   stored reference    10,000 events, 100 a second, with a real file; strace counts
//   stored mixed        the same of the mixed stream
//   stored day          86,400 events, one a second, online; prints what was done to the file
// And on the system's:
//   stored worker       25 s with the worker, an event each 10 ms; strace counts
#include "../fakes.hpp"
#include "subject.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "stored: %s\n", what);
  std::exit(1);
}

/// A system call that strace shows, and that does nothing.
void mark(const char* name) { static_cast<void>(::access(name, F_OK)); }

void takesAll(nucleus::Client& client, const streams::Tracked& event) {
  demand(subject::track(client, event) == nucleus::Outcome::ok, "an event was refused");
}

void file(const std::vector<streams::Tracked>& events) {
  constexpr std::size_t all = 10'000, warm = 2'000;
  const auto clock = std::make_shared<subject::Clock>();
  nucleus::Options options = subject::polled("stored.cache", clock);
  options.maxQueueBytes = 4 << 20;  // twenty seconds of the mixed stream
  nucleus::Client client(options);
  subject::signIn(client);
  std::size_t jsonBytes = 0;
  for (std::size_t i = 0; i < warm + all; ++i) {
    if (i == warm) mark("measuring begins"), jsonBytes = 0;
    const std::size_t before = client.stats().queuedBytes;
    takesAll(client, events[i % events.size()]);
    jsonBytes += client.stats().queuedBytes - before;
    clock->advance(10);
    client.poll();
  }
  mark("measuring ends");
  std::printf("events %zu\njson %zu\n", all, jsonBytes);
}

void worker() {
  constexpr std::size_t all = 2'500;
  nucleus::Client client(subject::options("worker.cache"));
  subject::signIn(client);
  demand(client.flush(60'000), "the events did not arrive");
  mark("measuring begins");
  for (std::size_t i = 0; i < all; ++i) {
    subject::trackReference(client);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  mark("measuring ends");
  std::printf("events %zu\njson %zu\n", all, all * 253);
}

void day() {
  const auto clock = std::make_shared<subject::Clock>();
  const auto disk = std::make_shared<fakes::Disk>();
  nucleus::Options options = subject::polled("", clock);
  options.storage = std::make_shared<fakes::Storage>(disk);
  nucleus::Client client(options);
  subject::signIn(client);
  for (int second = 0; second < 86'400; ++second) {
    takesAll(client, streams::reference());
    for (int quarter = 0; quarter < 4; ++quarter) clock->advance(250), client.poll();
  }
  const nucleus::Stats stats = client.stats();
  demand(stats.acknowledgedEvents + 60 > 86'400, "the events did not arrive");
  std::printf("rewrites %d\nappends %d\nsyncs %d\n", disk->replaces, disk->appends, disk->syncs);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view what = count > 1 ? arguments[1] : "";
  if (what == "reference") file({streams::reference()});
  else if (what == "mixed") file(streams::mixed());
  else if (what == "day") day();
  else if (what == "worker") worker();
  else return std::fputs("stored: what?\n", stderr), 2;
}
