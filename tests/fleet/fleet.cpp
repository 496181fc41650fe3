// A fleet of real clients, in virtual time, loses its server for an hour and gets it back: what the
// server meets then, beside what it would meet from clients that try every 20 s as the official
// ones do. One client after the other lives through it, since they meet in the count alone.
// Prints a Markdown table; fails where the fleet comes as a herd.
//
//   fleet [CLIENTS [SECONDS]]     SECONDS: of another outage; then nothing but losses fails
#include "../../nucleus.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using nucleus::Client;
using nucleus::Options;
using nucleus::Request;
using nucleus::Response;
using Random = std::mt19937_64;

// The outage begins at 0.
constexpr std::int64_t secondMs = 1'000, minuteMs = 60 * secondMs;
constexpr std::int64_t firstMs = -20 * minuteMs;    // the first client starts
constexpr std::int64_t steadyMs = -5 * minuteMs;    // and the last; from here on all is as usual
constexpr std::int64_t eventGapMs = minuteMs;       // between a client's events, on average
constexpr std::int64_t officialMs = 20 * secondMs;  // reportInterval of the official clients
constexpr std::int64_t baseMs = 1'790'000'000'000;  // wall time of 0

std::int64_t backMs = 60 * minuteMs;  // the server returns
std::int64_t endMs = 0;

/// Random moments with so much between them on average.
std::vector<std::int64_t> moments(Random& random, std::int64_t atMs) {
  std::exponential_distribution<double> gap(1.0 / eventGapMs);
  std::vector<std::int64_t> all;
  for (;;) {
    atMs += 1 + static_cast<std::int64_t>(gap(random));
    if (atMs >= endMs) return all;
    all.push_back(atMs);
  }
}

/// What a client's user does, whatever the client.
struct Life {
  explicit Life(std::uint64_t seed) : random(seed) {
    startMs = std::uniform_int_distribution<std::int64_t>(firstMs, steadyMs)(random);
    onlineMs = backMs + std::uniform_int_distribution<std::int64_t>(0, secondMs - 1)(random);
    events = moments(random, startMs);
  }
  Random random;
  std::int64_t startMs, onlineMs;
  std::vector<std::int64_t> events;
};

/// What the server sees, second by second.
class Count {
 public:
  void request(std::int64_t ms) { ++at(requests_, ms); }
  /// A client has delivered what waited.
  void returned(std::int64_t ms) {
    ++at(returns_, ms);
    lastMs_ = std::max(lastMs_, ms);
    ++back_;
  }
  double mean(std::int64_t fromMs, std::int64_t toMs) const {
    std::uint64_t sum = 0;
    for (std::int64_t ms = fromMs; ms < toMs; ms += secondMs) sum += at(requests_, ms);
    return static_cast<double>(sum) / static_cast<double>((toMs - fromMs) / secondMs);
  }
  double usual() const { return mean(steadyMs, 0); }
  double away() const { return mean(backMs * 2 / 3 / secondMs * secondMs, backMs); }
  unsigned most() const { return mostSince(requests_); }
  unsigned mostReturns() const { return mostSince(returns_); }
  unsigned inSecond(std::int64_t ms) const { return at(requests_, ms); }
  std::int64_t lastMs() const { return lastMs_ - backMs; }
  std::uint64_t back() const { return back_; }

 private:
  using Seconds = std::vector<unsigned>;
  static std::size_t index(std::int64_t ms) {
    return static_cast<std::size_t>((ms - firstMs) / secondMs);
  }
  static unsigned& at(Seconds& seconds, std::int64_t ms) { return seconds.at(index(ms)); }
  static unsigned at(const Seconds& seconds, std::int64_t ms) { return seconds.at(index(ms)); }
  static unsigned mostSince(const Seconds& seconds) {
    return *std::max_element(seconds.begin() + static_cast<std::ptrdiff_t>(index(backMs)),
                             seconds.end());
  }

  Seconds requests_ = Seconds(index(endMs) + 1), returns_ = Seconds(index(endMs) + 1);
  std::int64_t lastMs_ = backMs;
  std::uint64_t back_ = 0;
};

/// How the server is away, and who tells.
enum class Outage { unreachable, closedUntil, offline };

std::string httpDate(std::int64_t wallMs) {
  const std::time_t seconds = static_cast<std::time_t>(wallMs / secondMs);
  char text[64];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", std::gmtime(&seconds));
  return text;
}

class Clock : public nucleus::Clock {
 public:
  std::int64_t nowMs = 0;
  std::int64_t wallMs() override { return baseMs + nowMs; }
  std::int64_t steadyMs() override { return nowMs - firstMs; }
};

/// One real client, from its start to the end.
class Ours {
 public:
  Ours(Outage outage, Life& life, Count& count) : outage_(outage), life_(life), count_(count) {
    clock_->nowMs = life.startMs;
    Client client(options());
    if (outage == Outage::offline) told_ = {{0, false}, {life.onlineMs, true}};
    while (step(client)) {
    }
    const nucleus::Stats stats = client.stats();
    whole_ = stats.acceptedEvents == stats.acknowledgedEvents + stats.queuedEvents &&
             stats.acceptedEvents == life.events.size() + 1 + extraInits_;
  }
  /// Nothing was dropped or forgotten.
  bool whole() const { return whole_; }

 private:
  struct Told {
    std::int64_t ms;
    bool connected;
  };

  Options options() {
    Options options;
    options.appId = "fleet";
    options.background = options.offlineCache = options.respectDoNotTrack = false;
    options.maxEventBytes = 1 << 10;
    options.maxQueueBytes = 128 << 10;
    options.shutdownTimeoutMs = 0;
    options.clock = clock_;
    options.entropy = [this](void* to, std::size_t bytes) {
      for (std::size_t i = 0; i < bytes; ++i)
        static_cast<char*>(to)[i] = static_cast<char>(life_.random());
      return true;
    };
    options.transport = [this](const Request&) { return answer(clock_->nowMs); };
    return options;
  }
  Response answer(std::int64_t ms) {
    count_.request(ms);
    if (ms < 0 || ms >= backMs) return {200, R"({"confirmation":true})", ""};
    if (outage_ == Outage::closedUntil) return {503, "", httpDate(baseMs + backMs)};
    return {0, "", ""};
  }
  /// Whatever comes next; false at the end.
  bool step(Client& client) {
    const std::int64_t inMs = client.stats().nextRequestInMs;
    const std::int64_t dueMs = inMs < 0 ? endMs : clock_->nowMs + inMs;
    const std::int64_t eventMs = next_ < life_.events.size() ? life_.events[next_] : endMs;
    const std::int64_t toldMs = heard_ < told_.size() ? told_[heard_].ms : endMs;
    const std::int64_t ms = std::min({dueMs, eventMs, toldMs, endMs});
    clock_->nowMs = ms;
    if (ms == endMs) return false;
    if (ms == toldMs) client.online(told_[heard_++].connected);
    else if (ms == eventMs) track(client);
    else client.poll();
    noteReturn(client);
    return true;
  }
  void track(Client& client) {
    const std::uint64_t before = client.stats().acceptedEvents;
    client.track("LEVEL_FINISHED", {{"level", next_++}, {"seconds", 61.5}});
    extraInits_ += client.stats().acceptedEvents - before - 1;
  }
  void noteReturn(Client& client) {
    if (returned_ || clock_->nowMs < backMs || client.stats().queuedEvents > 0) return;
    returned_ = true;
    count_.returned(clock_->nowMs);
  }

  Outage outage_;
  Life& life_;
  Count& count_;
  std::shared_ptr<Clock> clock_ = std::make_shared<Clock>();
  std::vector<Told> told_;
  std::size_t next_ = 0, heard_ = 0;
  std::uint64_t extraInits_ = 0;
  bool returned_ = false, whole_ = false;
};

/// A client that sends all that waits, if anything does, every 20 s from a second after its start.
void official(const Life& life, Count& count) {
  std::size_t next = 0;
  bool waits = true, returned = false;
  for (std::int64_t ms = life.startMs + secondMs; ms < endMs; ms += officialMs) {
    for (; next < life.events.size() && life.events[next] <= ms; ++next) waits = true;
    if (waits) count.request(ms);
    if (ms < 0 || ms >= backMs) waits = false;
    if (ms >= backMs && !std::exchange(returned, true)) count.returned(ms);
  }
}

struct Fleet {
  const char* name;
  Count count = {};
  std::uint64_t clients = 0;
  bool whole = true;
};

Fleet sail(const char* name, std::uint64_t clients, Outage outage) {
  Fleet fleet{name};
  for (; fleet.clients < clients; ++fleet.clients) {
    Life life(fleet.clients);
    fleet.whole = Ours(outage, life, fleet.count).whole() && fleet.whole;
  }
  return fleet;
}

Fleet sailOfficially(const char* name, std::uint64_t clients) {
  Fleet fleet{name};
  for (; fleet.clients < clients; ++fleet.clients) official(Life(fleet.clients), fleet.count);
  return fleet;
}

void printRow(const Fleet& fleet) {
  const Count& count = fleet.count;
  std::printf("| %s | %.0f | %.0f | %u (%.1f) | %u | %.0f s |\n", fleet.name, count.usual(),
              count.away(), count.most(), 1e3 * count.most() / static_cast<double>(fleet.clients),
              count.mostReturns(), static_cast<double>(count.lastMs()) / 1e3);
}

void printSeconds(const Fleet& fleet) {
  std::printf("%s:", fleet.name);
  for (const int second : {0, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900}) {
    std::printf(" %d s %u,", second, fleet.count.inSecond(backMs + second * secondMs));
  }
  std::puts("");
}

void printTable(const std::vector<Fleet>& fleets) {
  std::puts(
      "| requests per second | before | while it is away | most after (per 1,000 clients)"
      " | clients back per second, most | last one back after |\n|---|---|---|---|---|---|");
  for (const Fleet& fleet : fleets) printRow(fleet);
  std::puts("\nRequests in single seconds after the return:");
  for (const Fleet& fleet : fleets) printSeconds(fleet);
}

int failures = 0;

void check(bool holds, const Fleet& fleet, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s: %s\n", fleet.name, what);
  ++failures;
}

void checkSchedule(const Fleet& official, const Fleet& ours, bool alone) {
  const unsigned theirMost = official.count.most();
  check(ours.count.most() * 5 <= theirMost * 6, ours, "a herd: more than of the official clients");
  if (!alone) return;
  check(ours.count.most() * 2 <= theirMost, ours, "more than half of the official peak");
  check(ours.count.mostReturns() * 5 <= theirMost, ours, "they return in too few seconds");
  check(ours.count.away() * 5 <= official.count.away(), ours, "they knock too often");
}

}  // namespace

int main(int count, char** arguments) {
  const std::uint64_t clients = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 100'000;
  if (count > 2) backMs = std::strtoll(arguments[2], nullptr, 10) * secondMs;
  endMs = backMs + 20 * minuteMs;
  const std::vector<Fleet> fleets = {
      sailOfficially("every 20 s, as the official clients", clients),
      sail("nucleus.hpp: no server is reached", clients, Outage::unreachable),
      sail("nucleus.hpp: 503, `Retry-After` names the end", clients, Outage::closedUntil),
      sail("nucleus.hpp: all networks back, `online()` within 1 s", clients, Outage::offline)};
  std::printf("%llu clients with an event a minute each lose their server for %lld s.\n\n",
              static_cast<unsigned long long>(clients), static_cast<long long>(backMs / secondMs));
  printTable(fleets);
  for (std::size_t i = 0; i < fleets.size(); ++i) {
    check(fleets[i].whole, fleets[i], "a client has lost count");
    check(clients > 0 && fleets[i].count.back() == clients, fleets[i], "not every client is back");
    const bool hosts = i == 3;  // online() asks at once: when it is said is the host's choice
    if (i > 0 && !hosts && count < 3) checkSchedule(fleets[0], fleets[i], i == 1);
  }
  std::printf("%s\n", failures == 0 ? "passed" : "FAILED");
  return failures == 0 ? 0 : 1;
}
