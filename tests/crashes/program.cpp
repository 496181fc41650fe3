// Tracks until it is killed, and says on standard output what was accepted and acknowledged.
//
//   program FILE threads|poll CACHE_DELAY_MS appends|rewrites RUN
//
//   held MS STORAGE DAMAGED NAME,NAME,...    at the start: what the file holds
//   kept MS NAME                             track() took it
//   gone MS NAME,NAME,...                    about to be acknowledged
//   polled MS                                poll() returned; nothing due at MS is left to do
//   rewritten MS                             another file is in its place
//
// MS is the time by which the client counts: of the system, or where it is polled of its own.
#include "../fakes.hpp"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace {

struct Plan {
  std::string file;
  bool polls, rewrites;
  std::int64_t cacheDelayMs;
  std::string run;

  /// Where the real time counts, and nothing is to be rewritten, it is left alone.
  bool leaps() const { return polls || rewrites || cacheDelayMs == 0; }
  /// A busy machine's worker delivers late, and nothing is to be dropped; but with a large queue
  /// much is dead before the file is rewritten.
  std::size_t queueBytes() const { return !rewrites ? 16 << 20 : polls ? 128 << 10 : 256 << 10; }
};

std::int64_t systemMs(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

/// Stands still where it is polled; may be moved forward in any case.
class Clock : public nucleus::Clock {
 public:
  explicit Clock(bool stands) : stands_(stands) {}

  std::int64_t wallMs() override { return passed() + (stands_ ? startWall_ : wall()); }
  std::int64_t steadyMs() override { return passed() + (stands_ ? startSteady_ : steady()); }
  void advance(std::int64_t ms) { ahead_ += ms; }
  /// As the runner counts.
  std::int64_t sayMs() { return stands_ ? steadyMs() : steady(); }

 private:
  std::int64_t passed() const { return ahead_.load(); }
  static std::int64_t wall() { return systemMs(CLOCK_REALTIME); }
  static std::int64_t steady() { return systemMs(CLOCK_MONOTONIC); }

  const bool stands_;
  std::atomic<std::int64_t> ahead_{0};
  const std::int64_t startWall_ = wall(), startSteady_ = steady();
};

void say(const std::string& line) {
  static std::mutex oneAtATime;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  const std::string text = line + '\n';
  if (::write(1, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(3);
}

template <class Events>
std::string namesOf(const Events& events) {
  std::string names;
  for (const auto& event : events) {
    if (event.value("type", "") != "event") continue;
    names += (names.empty() ? "" : ",") + event.at("name").template get<std::string>();
  }
  return names;
}

/// Names all of a request but every fourth event of this run, which thus stays in the file.
nucleus::Response acknowledge(const nucleus::Request& request, const Plan& plan, Clock& clock) {
  std::vector<fakes::Json> gone;
  std::vector<std::uint64_t> ids;
  for (const fakes::Json& event : fakes::Server::events(request.body())) {
    const std::string name = event.value("name", "");
    const bool stays =
        name.rfind(plan.run + '.', 0) == 0 && event.at("payload").value("stays", false);
    if (stays) continue;
    ids.push_back(event.at("id"));
    gone.push_back(event);
  }
  say("gone " + std::to_string(clock.sayMs()) + ' ' + namesOf(gone));
  return fakes::Server::with(200, fakes::Server::naming(ids));
}

nucleus::Options optionsOf(const Plan& plan, const std::shared_ptr<Clock>& clock) {
  nucleus::Options options;
  options.appId = "crashes";
  options.cacheFile = plan.file;
  options.background = !plan.polls;
  options.cacheDelayMs = plan.cacheDelayMs;
  options.clock = clock;
  options.respectDoNotTrack = false;
  options.cutoffMs = options.sessionTimeoutMs = std::int64_t{365} * 86'400'000;
  options.maxQueueBytes = plan.queueBytes();
  options.transport = [plan, clock](const nucleus::Request& request) {
    return acknowledge(request, plan, *clock);
  };
  return options;
}

void sayHeld(nucleus::Client& client, Clock& clock) {
  const nucleus::Stats stats = client.stats();
  const fakes::Json held = fakes::Json::parse(client.exportData());
  say("held " + std::to_string(clock.sayMs()) + ' ' +
      std::to_string(static_cast<int>(stats.storage)) + ' ' + std::to_string(stats.droppedDamaged) +
      ' ' + namesOf(held.at("events")));
}

void sayIfRewritten(const std::string& file, Clock& clock) {
  static ino_t inode = 0;
  struct stat facts = {};
  if (stat(file.c_str(), &facts) != 0 || facts.st_ino == inode) return;
  if (inode != 0) say("rewritten " + std::to_string(clock.sayMs()));
  inode = facts.st_ino;
}

/// Time passes: so much that the file may be rewritten, or a frame.
void pass(nucleus::Client& client, const Plan& plan, Clock& clock, bool far) {
  if (plan.polls) {
    clock.advance(far ? 61'000 : 40);
    client.poll();
    say("polled " + std::to_string(clock.sayMs()));
  } else if (far) {
    clock.advance(61'000);
    do client.flush(5);
    while (client.stats().queuedBytes > plan.queueBytes() / 2);
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  sayIfRewritten(plan.file, clock);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const Plan plan = {argv[1], argv[2] == std::string("poll"), argv[4] == std::string("rewrites"),
                     std::atoll(argv[3]), argv[5]};
  const auto clock = std::make_shared<Clock>(plan.polls);
  nucleus::Client client(optionsOf(plan, clock));
  sayHeld(client, *clock);
  const std::string bulk(12'000, 'x');
  for (int n = 0;; ++n) {
    const std::string name = plan.run + '.' + std::to_string(n);
    const bool large = plan.rewrites && n % 2 == 1;
    const std::int64_t before = clock->sayMs();
    const nucleus::Outcome outcome =
        client.track(name, {{"stays", n % 4 == 0}, {"text", large ? bulk : std::string("x")}});
    if (outcome == nucleus::Outcome::ok) say("kept " + std::to_string(before) + ' ' + name);
    if (client.stats().droppedQueueFull > 0) return 4;
    pass(client, plan, *clock, n % (plan.rewrites ? 4 : 128) == 3 && plan.leaps());
  }
}
