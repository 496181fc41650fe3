// Several processes, or clients of one process, on one cache file; ended at any moment.
#include "check.hpp"

#if NUCLEUS_TESTS_PROCESSES

#include "fakes.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <thread>

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using nucleus::Client;
using nucleus::Outcome;
using nucleus::StorageState;

/// A file in a new folder that goes with it.
class SharedFile {
 public:
  SharedFile() {
    std::uint64_t name = 0;
    nucleus::detail::systemEntropy(&name, sizeof name);
    folder_ = fs::temp_directory_path() / ("nucleus-processes-" + std::to_string(name));
    fs::create_directory(folder_);
  }
  ~SharedFile() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  std::string path() const { return (folder_ / "events.cache").string(); }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

 private:
  fs::path folder_;
};

/// What somebody has to say, line by line.
class Speaker {
 public:
  Speaker() { REQUIRE(pipe(ends_) == 0); }
  ~Speaker() { ::close(ends_[0]); }
  Speaker(const Speaker&) = delete;
  Speaker& operator=(const Speaker&) = delete;

  /// False at the end.
  bool readLine(std::string& line) {
    std::size_t end;
    while ((end = text_.find('\n')) == std::string::npos) {
      char piece[4096];
      const ssize_t got = ::read(ends_[0], piece, sizeof piece);
      if (got <= 0) return false;
      text_.append(piece, static_cast<std::size_t>(got));
    }
    line = text_.substr(0, end);
    text_.erase(0, end + 1);
    return true;
  }

 protected:
  int ends_[2] = {-1, -1};  // to read, to write

 private:
  std::string text_;
};

class Process : public Speaker {
 public:
  template <class Body>
  explicit Process(Body&& body) : id_(fork()) {
    REQUIRE(id_ >= 0);
    if (id_ == 0) {
      alarm(120);
      ::close(ends_[0]);
      body(ends_[1]);
      _exit(0);
    }
    ::close(ends_[1]);
  }
  ~Process() { kill(); }

  void kill() {
    if (id_ > 0) ::kill(id_, SIGKILL);
    waitForEnd();
  }
  void waitForEnd() {
    if (id_ > 0) waitpid(id_, nullptr, 0);
    id_ = -1;
  }

 private:
  pid_t id_ = -1;
};

/// Its body goes on until `stops`, and is listened to until its end.
class Thread : public Speaker {
 public:
  template <class Body>
  explicit Thread(Body&& body) {
    thread_ = std::thread([this, body = std::forward<Body>(body)] {
      body(ends_[1], stops);
      ::close(ends_[1]);
    });
  }
  ~Thread() {
    stops = true;
    for (std::string said; readLine(said);) {
    }
    thread_.join();
  }

  std::atomic<bool> stops{false};

 private:
  std::thread thread_;
};

void say(int to, const std::string& line) {
  const std::string text = line + '\n';
  if (::write(to, text.data(), text.size()) < 0) _exit(1);
}

/// A client in poll mode on the real file, with a clock that is moved by hand and its own chance.
nucleus::Options onFile(fakes::World& world, const SharedFile& file) {
  world.clock->wall = nucleus::detail::systemWallMs();
  nucleus::Options options = world.options();
  options.storage = nullptr;
  options.cacheFile = file.path();
  options.entropy = nullptr;
  options.respectDoNotTrack = false;
  options.cacheDelayMs = 0;
  options.cutoffMs = options.sessionTimeoutMs = std::int64_t{365} * 86'400'000;
  return options;
}

constexpr int eventsInMemory = 20;
constexpr int bulkAtOnce = 6;  // so every few steps enough of the file is dead to write it anew

/// Tracks until it is stopped. "KEPT" events are never acknowledged, and `by n` is said once the
/// file holds number n; others are acknowledged, so that the file is often rewritten: each time
/// `rewritten` is said. `locked` is said where it is, and `ids ...` with the first request.
void trackUntil(const std::atomic<bool>& stops, int to, const SharedFile& file,
                const std::string& by) {
  fakes::World world;
  bool saidIds = false, saidLocked = false;
  nucleus::Options options = onFile(world, file);
  options.transport = [&](const nucleus::Request& request) {
    std::vector<std::uint64_t> ids;
    for (const fakes::Json& event : fakes::Server::events(request.body())) {
      if (event.value("name", "") != "KEPT") ids.push_back(event.at("id"));
      if (saidIds) continue;
      saidIds = true;
      say(to, "ids " + event.at("deviceId").get<std::string>() + ' ' +
                  event.at("anonId").get<std::string>());
    }
    return fakes::Server::with(200, fakes::Server::naming(ids));
  };
  options.onDiagnostic = [&](const nucleus::Diagnostic& diagnostic) {
    if (diagnostic.code == "storage-locked" && !saidLocked) saidLocked = true, say(to, "locked");
  };
  Client client(options);
  const auto isReady = [&] { return client.stats().storage == StorageState::ready; };
  ino_t inode = 0;
  for (int tracked = 0, said = 0; !stops;) {
    const bool ready = isReady();
    if (ready || tracked < eventsInMemory) {
      const bool kept = client.track("KEPT", {{"by", by}, {"n", tracked}}) == Outcome::ok;
      if (!kept) return;
      ++tracked;
      for (int i = 0; i < (ready ? bulkAtOnce : 1); ++i) {
        client.track("BULK", {{"text", std::string(12'000, 'x')}});
      }
      if (client.stats().droppedQueueFull > 0) say(to, "dropped");
    }
    for (; isReady() && ready && said < tracked; ++said) say(to, by + ' ' + std::to_string(said));
    world.pass(client, ready ? 61'000 : 200, ready ? 20'500 : 200);
    struct stat facts = {};
    if (!ready) sched_yield();
    if (ready && stat(file.path().c_str(), &facts) == 0 && facts.st_ino != inode) {
      if (inode != 0) say(to, "rewritten");
      inode = facts.st_ino;
    }
  }
}

void trackForever(int to, const SharedFile& file, const std::string& by) {
  const std::atomic<bool> never{false};
  trackUntil(never, to, file, by);
}

/// What was heard.
struct Heard {
  std::multiset<std::string> lines;
  std::set<std::string> ids, stored;

  void note(const std::string& line) {
    lines.insert(line);
    if (line == "dropped") FAIL_CHECK("the queue was too small for this test");
    if (line.substr(0, 4) == "ids ") ids.insert(line);
    else if (line.find(' ') != std::string::npos) stored.insert(line);
  }
  /// Listens until `line` was said so many times.
  bool waitFor(Speaker& speaker, const std::string& line, std::size_t times = 1) {
    std::size_t count = 0;
    for (std::string said; count < times; count += said == line ? 1u : 0u) {
      if (!speaker.readLine(said)) return false;
      note(said);
    }
    return true;
  }
  /// Listens to so many lines.
  bool listen(Speaker& speaker, int lines_) {
    std::string said;
    while (lines_-- > 0) {
      if (!speaker.readLine(said)) return false;
      note(said);
    }
    return true;
  }
  void listenToTheEnd(Speaker& speaker) {
    for (std::string said; speaker.readLine(said);) note(said);
  }
};

/// What the next client finds in the file: `by n` of each event. It takes all of them out.
struct Found {
  std::multiset<std::string> events;
  std::set<std::string> ids;
  std::uint64_t damaged = 0;
};

Found takeAll(const SharedFile& file) {
  fakes::World world;
  Client client(onFile(world, file));
  CHECK(client.stats().storage == StorageState::ready);
  for (int turns = 0; turns < 1'000 && client.stats().queuedEvents > 0; ++turns) {
    world.pass(client, 1'000, 1'000);
  }
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.stats().droppedQueueFull == 0);
  Found found;
  found.damaged = client.stats().droppedDamaged;
  for (const fakes::Json& event : world.server->received()) {
    found.ids.insert("ids " + event.at("deviceId").get<std::string>() + ' ' +
                     event.at("anonId").get<std::string>());
    if (event.value("name", "") != "KEPT") continue;
    const fakes::Json& payload = event.at("payload");
    found.events.insert(payload.at("by").get<std::string>() + ' ' + payload.at("n").dump());
  }
  return found;
}

std::size_t lost(const Heard& heard, const Found& found) {
  std::size_t lost = 0;
  for (const std::string& event : heard.stored) lost += found.events.count(event) == 0 ? 1u : 0u;
  return lost;
}

std::size_t twice(const Found& found) {
  std::size_t twice = 0;
  for (const std::string& event : found.events) twice += found.events.count(event) > 1 ? 1u : 0u;
  return twice;
}

/// So that the moments differ, and do so again in the next run.
int between(int lowest, int highest) {
  static std::minstd_rand random(7);
  return std::uniform_int_distribution<int>(lowest, highest)(random);
}

/// The file is rewritten so often before something happens.
constexpr std::size_t rewritings = fakes::rounds(20, 4);

void spin() {
  for (int left = between(0, 200'000); left > 0; --left) static_cast<void>(getppid());
}

}  // namespace

TEST_CASE("two processes on one file, killed at any moment, lose nothing that was stored") {
  const SharedFile file;
  std::set<std::string> ids;
  std::size_t rewritten = 0, rounds = 0;
  for (std::size_t round = 0; round < fakes::rounds(18, 3); ++round) {
    CAPTURE(round);
    Heard heard;
    Process first([&](int to) { trackForever(to, file, "first"); });
    REQUIRE(heard.waitFor(first, "first 0"));
    Process second([&](int to) { trackForever(to, file, "second"); });
    REQUIRE(heard.waitFor(second, "locked"));
    CHECK(heard.stored.count("second 0") == 0);
    REQUIRE(heard.waitFor(first, "rewritten", rewritings));
    REQUIRE(heard.listen(first, between(0, 20)));
    spin();
    if (round % 3 == 0) {  // the second goes first, and the first goes on
      second.kill();
      REQUIRE(heard.listen(first, between(1, 20)));
      first.kill();
    } else if (round % 3 == 1) {  // the second takes over
      first.kill();
      REQUIRE(heard.waitFor(second, "second " + std::to_string(eventsInMemory)));
      REQUIRE(heard.listen(second, between(0, 40)));
      spin();
      second.kill();
    } else {  // the second is killed as it takes over
      first.kill();
      REQUIRE(heard.waitFor(second, "second 0"));
      spin();
      second.kill();
    }
    heard.listenToTheEnd(first);
    heard.listenToTheEnd(second);
    const Found found = takeAll(file);
    CHECK(lost(heard, found) == 0);
    CHECK(twice(found) == 0);
    CHECK(found.damaged <= 2);
    CHECK(file.names() == std::set<std::string>{"events.cache"});
    ids.insert(heard.ids.begin(), heard.ids.end());
    ids.insert(found.ids.begin(), found.ids.end());
    rewritten += heard.lines.count("rewritten");
    ++rounds;
  }
  CHECK(ids.size() == 1);
  CHECK(rewritten >= rewritings * rounds);
}

TEST_CASE("two clients on one file in one process lose nothing, whichever ends first") {
  for (std::size_t round = 0; round < fakes::rounds(6, 2); ++round) {
    CAPTURE(round);
    const SharedFile file;
    Heard heard;
    const auto start = [&file](const char* by) {
      return std::make_unique<Thread>(
          [&file, by](int to, const std::atomic<bool>& stops) { trackUntil(stops, to, file, by); });
    };
    const auto end = [&heard](Thread& thread) {
      thread.stops = true;
      heard.listenToTheEnd(thread);
    };
    const auto first = start("first");
    REQUIRE(heard.waitFor(*first, "first 0"));
    const auto second = start("second");
    REQUIRE(heard.waitFor(*second, "locked"));
    CHECK(heard.stored.count("second 0") == 0);
    REQUIRE(heard.waitFor(*first, "rewritten", rewritings));
    REQUIRE(heard.listen(*first, between(0, 20)));
    spin();
    if (round % 2 == 0) {
      end(*second);
      REQUIRE(heard.listen(*first, between(1, 20)));
      end(*first);
    } else {
      end(*first);
      REQUIRE(heard.waitFor(*second, "second " + std::to_string(eventsInMemory)));
      REQUIRE(heard.listen(*second, between(0, 20)));
      end(*second);
      CHECK(heard.stored.count("second 0") == 1);
    }
    const Found found = takeAll(file);
    CHECK(lost(heard, found) == 0);
    CHECK(twice(found) == 0);
    CHECK(found.damaged == 0);
    CHECK(file.names() == std::set<std::string>{"events.cache"});
    heard.ids.insert(found.ids.begin(), found.ids.end());
    CHECK(heard.ids.size() == 1);
  }
}

TEST_CASE("of processes that start at once one has the file, and none loses what it stored") {
  for (std::size_t round = 0; round < fakes::rounds(12, 3); ++round) {
    CAPTURE(round);
    const SharedFile file;
    Heard heard;
    std::array<int, 2> start = {};
    REQUIRE(pipe(start.data()) == 0);
    std::vector<std::unique_ptr<Process>> processes;
    for (const char* const by : {"first", "second", "third"}) {
      processes.push_back(std::make_unique<Process>([&](int to) {
        ::close(start[1]);
        char c = 0;
        if (::read(start[0], &c, 1) != 0) _exit(1);
        trackForever(to, file, by);
      }));
    }
    ::close(start[0]);
    ::close(start[1]);
    spin();
    std::size_t killed = 0;
    for (auto& process : processes) {
      if (killed++ % 2 == 0) REQUIRE(heard.listen(*process, between(0, 2)));
      spin();
      process->kill();
      heard.listenToTheEnd(*process);
    }
    Process last([&](int to) { trackForever(to, file, "last"); });
    REQUIRE(heard.waitFor(last, "last 3"));
    last.kill();
    heard.listenToTheEnd(last);
    const Found found = takeAll(file);
    CHECK(lost(heard, found) == 0);
    CHECK(twice(found) == 0);
    CHECK(found.damaged <= 3);
    CHECK(file.names() == std::set<std::string>{"events.cache"});
  }
}

TEST_CASE("processes that come and go quickly lose nothing that they said was safe") {
  const SharedFile file;
  Heard heard;
  std::vector<std::unique_ptr<Process>> processes;
  for (const char* const by : {"first", "second", "third", "fourth"}) {
    processes.push_back(std::make_unique<Process>([&file, by](int to) {
      for (int n = 0, stored = 0; stored < 30 && n < 20'000; ++n) {
        fakes::World world;
        nucleus::Options options = onFile(world, file);
        options.transport = nullptr;
        Client client(options);
        if (client.track("KEPT", {{"by", by}, {"n", n}}) != Outcome::ok) _exit(1);
        for (int polls = n % 4; polls > 0; --polls) world.pass(client, 1'000, 1'000);
        if (!client.shutdown(0)) continue;
        say(to, by + (' ' + std::to_string(n)));
        ++stored;
      }
    }));
  }
  for (auto& process : processes) heard.listenToTheEnd(*process);
  for (auto& process : processes) process->waitForEnd();
  const Found found = takeAll(file);
  CHECK(heard.stored.size() == 120);
  CHECK(lost(heard, found) == 0);
  CHECK(twice(found) == 0);
  CHECK(found.damaged == 0);
}

TEST_CASE("the second process takes over from a first that ends, and delivers for both") {
  const SharedFile file;
  Heard heard;
  std::array<int, 2> end = {};
  REQUIRE(pipe(end.data()) == 0);
  Process first([&](int to) {
    fakes::World world;
    nucleus::Options options = onFile(world, file);
    options.transport = nullptr;
    Client client(options);
    client.track("KEPT", {{"by", "first"}, {"n", 0}});
    say(to, "ready");
    char c = 0;
    if (::read(end[0], &c, 1) != 1) _exit(1);
    client.track("KEPT", {{"by", "first"}, {"n", 1}});
    if (client.shutdown(0)) say(to, "ended");
  });
  REQUIRE(heard.waitFor(first, "ready"));
  fakes::World world;
  Client second(onFile(world, file));
  CHECK(second.stats().storage == StorageState::locked);
  CHECK(second.track("KEPT", {{"by", "second"}, {"n", 0}}) == Outcome::ok);
  CHECK(second.stats().notCached == second.stats().queuedEvents);
  CHECK(::write(end[1], "e", 1) == 1);
  REQUIRE(heard.waitFor(first, "ended"));
  world.pass(second, 60'000, 500);
  CHECK(second.stats().storage == StorageState::ready);
  CHECK(second.stats().notCached == 0);
  CHECK(second.stats().queuedEvents == 0);
  CHECK(world.told("storage-locked") > 0);
  std::multiset<std::string> names;
  std::set<std::string> ids;
  for (const fakes::Json& event : world.server->received()) {
    ids.insert(event.at("deviceId"));
    if (event.value("name", "") != "KEPT") continue;
    names.insert(event.at("payload").at("by").get<std::string>() +
                 event.at("payload").at("n").dump());
  }
  CHECK(names == std::multiset<std::string>{"first0", "first1", "second0"});
  CHECK(ids.size() == 1);
  ::close(end[0]);
  ::close(end[1]);
}

#endif
