// Counts the calls of malloc and its kin: of the caller for each event, of the worker for each
// answer. And the memory that an event takes while it is queued. Prints one number a line.
#include "subject.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

std::atomic<bool> counts{false};
std::atomic<long> callers{0}, others{0}, bytes{0};
thread_local bool isCaller = false;
thread_local bool isHost = false;  // within the transport: what it allocates is not ours

void note(std::size_t size) {
  if (!counts || isHost) return;
  ++(isCaller ? callers : others);
  bytes += static_cast<long>(size);
}

}  // namespace

// operator new comes here too. What glibc has under these names stays the allocator.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) { return note(size), __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) { return note(n * size), __libc_calloc(n, size); }
void* realloc(void* old, std::size_t size) { return note(size), __libc_realloc(old, size); }
void* aligned_alloc(std::size_t to, std::size_t size) {
  return note(size), __libc_memalign(to, size);
}
void* memalign(std::size_t to, std::size_t size) { return note(size), __libc_memalign(to, size); }
int posix_memalign(void** memory, std::size_t to, std::size_t size) {
  note(size);
  *memory = __libc_memalign(to, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

namespace {

void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "allocations: %s\n", what);
  std::exit(1);
}

void print(const char* name, double value) { std::printf("%s %.6f\n", name, value); }

/// All the caller's but flush(), and all the worker's, while 10,000 events meet 100 answers.
void perEvent(const std::string& name, const std::vector<streams::Tracked>& events) {
  constexpr long answers = 100, perAnswer = 100;
  nucleus::Options options = subject::options(name + ".cache");
  options.maxBatchBytes = 256 << 10;  // so that 100 mixed events are one request
  options.transport = [](const nucleus::Request& request) {
    isHost = true;
    nucleus::Response response = subject::confirm(request);
    isHost = false;
    return response;
  };
  nucleus::Client client(options);
  subject::signIn(client);
  std::size_t next = 0;
  const auto round = [&] {
    isCaller = true;
    for (long i = 0; i < perAnswer; ++i) {
      const nucleus::Outcome outcome = subject::track(client, events[next++ % events.size()]);
      demand(outcome == nucleus::Outcome::ok, "an event was refused");
    }
    isCaller = false;
    demand(client.flush(60'000), "the events did not arrive");
  };
  for (int i = 0; i < 10; ++i) round();
  const std::uint64_t before = client.stats().requests;
  callers = others = 0;
  counts = true;
  for (long i = 0; i < answers; ++i) round();
  counts = false;
  const auto requests = static_cast<double>(client.stats().requests - before);
  demand(requests >= answers, "there were too few requests");
  print(("allocations-track-" + name).c_str(),
        static_cast<double>(callers) / (answers * perAnswer));
  print(("allocations-answer-" + name).c_str(), static_cast<double>(others) / requests);
}

/// Reference events in memory alone, in a block that is filled with a pattern first.
struct Queued {
  std::size_t blocks = 0;  // of 64 bytes, that were written to
  std::size_t json = 0;
};
Queued queued(std::size_t events) {
  constexpr char pattern = static_cast<char>(0xA5);
  constexpr std::size_t block = 64;
  std::vector<char> memory(8 << 20, pattern);
  Queued queued;
  {
    nucleus::Options options = subject::polled("", std::make_shared<subject::Clock>());
    options.offlineCache = false;
    options.maxQueueBytes = 2 << 20;
    options.memory.data = memory.data();
    options.memory.bytes = memory.size();
    nucleus::Client client(options);
    subject::signIn(client);
    for (std::size_t i = 0; i < events; ++i) subject::trackReference(client);
    demand(client.stats().queuedEvents >= events, "the queue is too small");
    queued.json = client.stats().queuedBytes;
    for (std::size_t at = 0; at < memory.size(); at += block) {
      const auto first = memory.begin() + static_cast<std::ptrdiff_t>(at);
      const auto end = first + block;
      queued.blocks += std::find_if(first, end, [](char c) { return c != pattern; }) != end;
    }
  }
  return queued;
}

void writtenPerEvent() {
  const Queued few = queued(1'000), many = queued(5'000);
  const double events = 4'000, json = static_cast<double>(many.json - few.json) / events;
  print("json-reference", json);
  print("queue-over-json", static_cast<double>((many.blocks - few.blocks) * 64) / events - json);
}

/// What a client asks the heap for, and the reference events it holds at most.
struct Capacity {
  double bytes = 0, events = 0, json = 0;
};
Capacity capacity(std::size_t queueBytes) {
  nucleus::Options options = subject::polled("", std::make_shared<subject::Clock>());
  options.offlineCache = false;
  options.transport = nullptr;
  options.maxQueueBytes = queueBytes;
  bytes = 0;
  counts = true;
  nucleus::Client client(options);
  counts = false;
  subject::signIn(client);
  while (client.stats().droppedQueueFull == 0) subject::trackReference(client);
  const nucleus::Stats stats = client.stats();
  return {static_cast<double>(bytes), static_cast<double>(stats.queuedEvents),
          static_cast<double>(stats.queuedBytes)};
}

/// The same with all that is set aside for a queue that is full.
void reservedPerEvent() {
  const Capacity small = capacity(2 << 20), large = capacity(8 << 20);
  const double events = large.events - small.events;
  print("reserve-over-json",
        (large.bytes - small.bytes) / events - (large.json - small.json) / events);
}

}  // namespace

int main() {
  perEvent("reference", {streams::reference()});
  perEvent("mixed", streams::mixed());
  writtenPerEvent();
  reservedPerEvent();
}
