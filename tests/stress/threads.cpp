// Many threads on two clients of one file, with every public call; answers from other threads, late
// and twice; the end, fork() and exit in the middle of it. Afterwards every event that was accepted
// has been acknowledged by the server, or is counted as dropped, erased or left.
//
//   threads [SECONDS [SEED]]
//   threads --static FILE      for itself: clients that end with the program
#include "server.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include <sys/wait.h>
#include <unistd.h>

namespace stress {
namespace {

namespace fs = std::filesystem;
using nucleus::Client;
using nucleus::Options;
using nucleus::Outcome;
using nucleus::Stats;
using std::chrono::milliseconds;
using Time = std::chrono::steady_clock;
using Wall = std::chrono::system_clock;

constexpr int callers = 6;
constexpr std::int64_t plentyMs = 60'000;
constexpr milliseconds load{400};

bool isBalanced(const Stats& s) {
  return s.acceptedEvents == s.queuedEvents + s.acknowledgedEvents + s.erasedEvents +
                                 s.droppedQueueFull + s.droppedTooOld + s.droppedRefused +
                                 s.droppedDamaged + s.droppedPersonalData;
}
/// Not delivered, and said so.
std::uint64_t counted(const Stats& s) {
  check(s.droppedDamaged + s.droppedTooOld + s.droppedPersonalData == 0, "damage, age or allow");
  return s.erasedEvents + s.droppedQueueFull + s.droppedRefused;
}

/// How a round differs from others.
struct Plan {
  explicit Plan(std::uint64_t seed) : dice(seed) {}
  Dice dice;
  bool background = !dice.rarely(4), consents = dice.rarely(2), small = dice.rarely(4),
       hostMemory = dice.rarely(4), forks = dice.rarely(2), endsUnderLoad = dice.rarely(2),
       callsBack = dice.rarely(2), webSocket = dice.rarely(4);
  std::int64_t cacheDelayMs = dice.rarely(3) ? 0 : dice.below(20);
};

/// Twenty times as fast as time, so that pauses are short. Not to be used after the end.
class FastClock : public nucleus::Clock {
 public:
  std::atomic<bool> ended{false};
  std::atomic<bool> sends{false};  // its client
  std::int64_t wallMs() override {
    return std::chrono::duration_cast<milliseconds>(Wall::now().time_since_epoch()).count();
  }
  std::int64_t steadyMs() override {
    check(!ended, "the clock is used after shutdown()");
    using Ticks = std::chrono::duration<std::int64_t, std::ratio<1, 20'000>>;
    return std::chrono::duration_cast<Ticks>(Time::now().time_since_epoch()).count();
  }
};

/// A folder for one round.
class Folder {
 public:
  explicit Folder(std::uint64_t seed)
      : path_(fs::temp_directory_path() /
              ("nucleus-stress-" + std::to_string(getpid()) + '-' + std::to_string(seed))) {
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file() const { return (path_ / "events.cache").string(); }

 private:
  fs::path path_;
};

/// At the end of a transport, however it ends.
struct Idle {
  std::atomic<bool>& busy;
  ~Idle() { busy = false; }
};

Options optionsFor(const std::string& file, const std::shared_ptr<Server>& server) {
  Options options;
  options.appId = "stress";
  options.cacheFile = file;
  options.respectDoNotTrack = false;
  options.reportIntervalMs = options.answerTimeoutMs = 100;
  options.shutdownTimeoutMs = plentyMs;
  const auto busy = std::make_shared<std::atomic<bool>>(false);
  options.transport = [server, busy](const Request& request) {
    check(!busy->exchange(true), "two requests of a client at once");
    const Idle idle{*busy};
    return server->answer(request);
  };
  return options;
}

// ---- a child of a fork() ----

/// Everything answers that there is nothing; 0 if so.
int callInChild(Client& client, const std::string& file) {
  if (client.track("CHILD") != Outcome::shutDown) return 1;
  if (client.flush(plentyMs) || client.persist() || client.shutdown(plentyMs)) return 2;
  client.poll(), client.receive("{}"), client.online(), client.enableTracking();
  if (client.disableTracking() || client.forget()) return 3;
  if (client.trackingEnabled() || client.stats().queuedEvents != 0) return 4;
  client.exportData();
  Options options;
  options.appId = "stress";
  options.cacheFile = file + ".child";
  options.background = options.respectDoNotTrack = false;
  Client own(options);
  if (own.track("OWN") != Outcome::ok || !own.persist()) return 5;
  return own.shutdown(0) ? 0 : 6;
}

/// The exit code of a child, or 99 and more for how else it ended.
int waitFor(pid_t child) {
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 99;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

void forkUnder(Client& client, const std::string& file) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // one that hangs has failed
    _exit(callInChild(client, file));
  }
  const int code = waitFor(child);
  if (code != 0) fail("the child of a fork() ended with " + std::to_string(code));
  ++figures.forks;
}

// ---- one thread of the host ----

class Caller {
 public:
  Caller(std::uint64_t seed, std::string prefix, bool consents, std::shared_ptr<Server> server)
      : dice_(seed), prefix_(std::move(prefix)), consents_(consents), server_(std::move(server)) {}

  /// Any of the public calls.
  void call(Client& client) {
    ++figures.calls;
    const unsigned kind = dice_.below(64);
    if (kind < 40) track(client, kind);
    else if (kind < 50) ask(client, kind);
    else if (kind < 63) work(client, kind);
    else if (consents_) decide(client);
  }
  const std::vector<std::string>& accepted() const { return accepted_; }

 private:
  void track(Client& client, unsigned kind) {
    const std::string name = prefix_ + std::to_string(serial_++);
    switch (kind) {
      case 0: return note(client.trackError(name, "message", "a stack"), name);
      case 1: return note(client.page(name, {{"a", 1}}), name);
      case 2: return note(client.screen(name), name);
      case 3: return note(client.identify("user", {{"plan", "pro"}}));
      case 4: return note(client.setUserId(dice_.rarely(2) ? "" : "someone"));
      case 5: return note(client.setProps({{"level", serial_}}, dice_.rarely(2)));
      case 6: return note(client.startSession());
      case 7: return note(client.trackError(std::runtime_error("wrong")));
      default: return note(client.track(name, {{"kind", kind}, {"text", "some words"}}), name);
    }
  }
  void note(Outcome outcome, const std::string& name = {}) {
    if (outcome != Outcome::ok) return;
    ++figures.events;
    if (!name.empty()) accepted_.push_back(name);
  }
  void ask(Client& client, unsigned kind) {
    if (kind == 40 && dice_.rarely(8)) {
      const std::string data = client.exportData();
      check(data.size() > 1 && data.front() == '{' && data.back() == '}', "an export is cut");
      ++figures.exports;
    }
    if (!isBalanced(client.stats())) fail("stats() do not add up");
    static_cast<void>(client.trackingEnabled());
    static_cast<void>(client.consent());
  }
  void work(Client& client, unsigned kind) {
    switch (kind) {
      case 50: client.flush(dice_.below(20)); break;
      case 51: client.flush(0); break;
      case 52: client.persist(); break;
      case 53: client.receive(R"({"reportedIds":[1,2,"3"],"anonId":"server-gave-it"})"); break;
      case 57:
      case 58: client.receive(server_->message()); break;
      case 54: client.online(false); break;
      case 55: client.online(true); break;
      case 56: std::this_thread::yield(); break;
      default: client.poll();
    }
  }
  void decide(Client& client) {
    ++figures.consents;
    if (dice_.rarely(4)) client.forget();
    else if (dice_.rarely(2)) client.disableTracking();
    else client.enableTracking();
  }

  Dice dice_;
  std::string prefix_;
  bool consents_;
  std::shared_ptr<Server> server_;
  unsigned serial_ = 0;
  std::vector<std::string> accepted_;
};

/// Threads that start together and are joined before what they use goes.
class Threads {
 public:
  ~Threads() { join(); }
  template <class Action>
  void start(Action action) {
    threads_.emplace_back(std::move(action));
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

// ---- a round ----

class Round {
 public:
  explicit Round(std::uint64_t seed) : seed_(seed), plan_(seed), folder_(seed) {
    if (plan_.hostMemory) server_->holdNothing();
    for (std::size_t i = 0; i < 2; ++i) clients_[i].emplace(options(i));
    for (unsigned i = 0; i < callers; ++i) {
      callers_.emplace_back(seed * 100 + i, "E" + std::to_string(i) + '-', plan_.consents, server_);
    }
  }
  void run() {
    std::atomic<bool> repliersStop{false};
    Threads repliers;
    for (unsigned i = 0; i < 2; ++i) {
      repliers.start([&, i] { server_->replyUntil(repliersStop, seed_ * 100 + 50 + i); });
    }
    underLoad();
    if (plan_.consents) fallSilent();
    end();
    inherit();
    repliersStop = true;
    repliers.join();
    settle();
    ++figures.rounds;
  }

 private:
  Options options(std::size_t which) {
    Options options = optionsFor(folder_.file(), server_);
    options.clock = clocks_[which];
    options.transport = [clock = clocks_[which], send = options.transport](const Request& request) {
      check(!clock->ended, "a request begins after shutdown()");
      clock->sends = true;
      const Idle idle{clock->sends};
      return send(request);
    };
    if (plan_.webSocket) options.endpoint = "ws://localhost";
    options.background = plan_.background;
    options.cacheDelayMs = plan_.cacheDelayMs;
    options.maxEventBytes = 1 << 10;
    options.maxQueueBytes = plan_.small ? 4 << 10 : 1 << 20;
    if (plan_.hostMemory) options.memory = {memory_[which].data(), memory_[which].size() * 8};
    options.filter = [](nucleus::Text, nucleus::Text, nucleus::Properties) { return true; };
    if (plan_.callsBack) callBack(options, which);
    return options;
  }
  /// Callbacks that use the client. They run as long as it lives, and no longer.
  void callBack(Options& options, std::size_t which) {
    const auto use = [this, which] {
      if (!running_) return;
      Client& client = *clients_[which];
      client.track("FROM_A_CALLBACK");
      client.flush(10);
      client.online();
      check(isBalanced(client.stats()), "stats() in a callback do not add up");
    };
    options.onDiagnostic = [use](const nucleus::Diagnostic&) { use(); };
    options.onCustomData = [use](std::string_view) { use(); };
    options.onUpdate = [use](std::string_view) { use(); };
  }
  void underLoad() {
    Threads hosts;
    running_ = true;
    for (Caller& caller : callers_) hosts.start([&] { callUntilStopped(caller); });
    if (plan_.forks) {
      hosts.start([this] {
        for (int i = 0; i < 3; ++i) forkUnder(*clients_[i % 2], folder_.file());
      });
    }
    std::this_thread::sleep_for(load);
    if (plan_.endsUnderLoad) shutDownTwice();
    running_ = false;
  }
  void callUntilStopped(Caller& caller) {
    for (unsigned i = 0; running_; ++i) {
      caller.call(*clients_[i % 2]);
      if (i % 64 == 63) std::this_thread::sleep_for(milliseconds(1));  // as hosts do other things
    }
  }
  /// Two threads end each client, while others call it.
  void shutDownTwice() {
    Threads enders;
    for (std::size_t i = 0; i < 4; ++i) {
      enders.start([this, i] {
        clients_[i % 2]->shutdown(plentyMs);
        check(clients_[i % 2]->track("LATE") == Outcome::shutDown, "a call after shutdown()");
        ++figures.shutdowns;
      });
    }
  }
  /// Once every client is disabled no request begins.
  void fallSilent() {
    for (auto& client : clients_) client->disableTracking();
    const std::uint64_t before = figures.requests;
    std::this_thread::sleep_for(milliseconds(20));
    check(figures.requests == before, "a request after disableTracking()");
    check(server_->allCancelled(), "a request is not cancelled by disableTracking()");
    for (auto& client : clients_) client->enableTracking();
  }
  /// The destructor is in the middle of answers and callbacks.
  void end() {
    for (std::size_t i = 0; i < 2; ++i) {
      auto& client = clients_[i];
      const bool patient = plan_.dice.rarely(2);
      const bool safe = client->shutdown(patient ? plentyMs : 0);
      check(!patient || plan_.endsUnderLoad || !clocks_[i]->sends, "a request outlives shutdown()");
      clocks_[i]->ended = true;
      const Stats last = client->stats();
      check(isBalanced(last), "the last stats() do not add up");
      counted_ += counted(last) + (safe ? 0 : last.queuedEvents);
      client.reset();
    }
  }
  /// What the file holds is delivered by the next run.
  void inherit() {
    server_->behave();
    Client heir(optionsFor(folder_.file(), server_));
    check(heir.track("LAST") == Outcome::ok, "the heir does not track");
    check(heir.flush(plentyMs), "the heir cannot deliver");
    check(heir.shutdown(plentyMs), "the heir is left with something");
    counted_ += counted(heir.stats());
    check(isBalanced(heir.stats()), "the heir's stats() do not add up");
    check(heir.stats().queuedEvents == 0, "the heir's queue is not empty");
  }
  void settle() {
    std::uint64_t missing = 0;
    for (const Caller& caller : callers_) {
      for (const std::string& name : caller.accepted()) missing += !server_->acknowledged(name);
    }
    if (missing > counted_) {
      fail(std::to_string(missing) + " events are missing, counted are " +
           std::to_string(counted_) + ", seed " + std::to_string(seed_));
    }
    server_->letGo();
  }

  std::uint64_t seed_;
  Plan plan_;
  Folder folder_;
  std::vector<std::uint64_t> memory_[2] = {std::vector<std::uint64_t>(20'000),
                                           std::vector<std::uint64_t>(20'000)};
  std::shared_ptr<Server> server_ = std::make_shared<Server>(seed_);
  std::shared_ptr<FastClock> clocks_[2] = {std::make_shared<FastClock>(),
                                           std::make_shared<FastClock>()};
  std::atomic<bool> running_{false};
  std::optional<Client> clients_[2];
  std::vector<Caller> callers_;
  std::uint64_t counted_ = 0;
};

// ---- clients that move ----

/// One client goes from hand to hand while it works, and another takes its place in its own
/// callback, while flush() waits.
void moveAbout(std::uint64_t seed) {
  const Folder folder(seed);
  const auto server = std::make_shared<Server>(seed);
  std::atomic<bool> stop{false};
  Threads repliers;
  repliers.start([&] { server->replyUntil(stop, seed); });
  std::vector<Client> hands(3);
  hands[0] = Client(optionsFor(folder.file(), server));
  Dice dice(seed);
  for (std::size_t i = 0; i < 200; ++i) {
    check(hands[i % 3].track("MOVED-" + std::to_string(i)) == Outcome::ok, "a moved client stops");
    hands[(i + 1) % 3] = std::move(hands[i % 3]);
    check(hands[i % 3].track("NONE") == Outcome::shutDown, "a moved-from client goes on");
    dice.pause(1);
    ++figures.moves;
  }
  server->behave();
  check(hands[200 % 3].flush(plentyMs), "a moved client cannot deliver");
  for (std::size_t i = 0; i < 200; ++i) {
    check(server->acknowledged("MOVED-" + std::to_string(i)), "a moved client loses an event");
  }
  hands.clear();
  stop = true;
}

void replaceInCallback(std::uint64_t seed) {
  const Folder folder(seed);
  const auto server = std::make_shared<Server>(seed);
  server->behave();
  auto options = optionsFor(folder.file(), server);
  auto slot = std::make_shared<std::optional<Client>>();
  std::atomic<bool> replaced{false};
  Options other = optionsFor(folder.file() + ".other", server);
  options.transport = [&, slot](const Request& request) {
    if (!replaced.exchange(true)) **slot = Client(other);
    return server->answer(request);
  };
  slot->emplace(options);
  check((*slot)->track("REPLACED") == Outcome::ok, "no event before it is replaced");
  (*slot)->flush(plentyMs);
  while (!replaced) std::this_thread::sleep_for(milliseconds(1));
  check((*slot)->track("AFTER") == Outcome::ok, "what replaced it does not track");
  check((*slot)->flush(plentyMs), "what replaced it does not deliver");
  slot->reset();
  ++figures.moves;
}

// ---- clients that end with the program ----

constexpr int staticEvents = 50;

/// The server only says 500, from threads that are never joined; then the program ends.
int beStatic(const std::string& file) {
  auto& kept = *new std::vector<Request>;  // outlives the program's end
  auto& mutex = *new std::mutex;
  Options options = optionsFor(file, nullptr);
  options.shutdownTimeoutMs = 100;
  options.transport = [&kept, &mutex](const Request& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    kept.push_back(request);
    return Response::pending();
  };
  static Client first(options);
  options.cacheFile += ".second";
  static Client second(options);
  std::thread([&kept, &mutex] {
    for (;; std::this_thread::yield()) {
      const std::lock_guard<std::mutex> lock(mutex);
      for (const Request& request : kept) request.reply({500, "", ""});
    }
  }).detach();
  for (int i = 0; i < staticEvents; ++i) {
    first.track("S" + std::to_string(i));
    second.track("S" + std::to_string(i));
    if (i == staticEvents / 2) first.flush(5), second.flush(5);
  }
  return 0;
}

void checkStatic(const char* program, std::uint64_t seed) {
  const Folder folder(seed);
  const std::string file = folder.file();
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    execl(program, program, "--static", file.c_str(), nullptr);
    _exit(98);
  }
  const int code = waitFor(child);
  if (code != 0) fail("a program with static clients ended with " + std::to_string(code));
  for (const std::string& each : {file, file + ".second"}) {
    const auto server = std::make_shared<Server>(seed);
    server->behave();
    Client heir(optionsFor(each, server));
    check(heir.flush(plentyMs), "the heir of a static client cannot deliver");
    for (int i = 0; i < staticEvents; ++i) {
      check(server->acknowledged("S" + std::to_string(i)), "a static client loses an event");
    }
  }
  ++figures.exits;
}

void printFigures(double seconds) {
  const auto show = [](const char* name, const std::atomic<std::uint64_t>& count) {
    std::printf("%s %llu, ", name, static_cast<unsigned long long>(count.load()));
  };
  std::printf("%.0f s: ", seconds);
  show("rounds", figures.rounds);
  show("calls", figures.calls);
  show("events", figures.events);
  show("requests", figures.requests);
  show("late replies", figures.replies);
  show("forks", figures.forks);
  show("exits", figures.exits);
  show("moves", figures.moves);
  show("changes of consent", figures.consents);
  show("racing shutdowns", figures.shutdowns);
  show("exports", figures.exports);
  show("failures", figures.failures);
  std::puts(figures.failures == 0 ? "passed" : "FAILED");
}

int runFor(const char* program, std::chrono::seconds time, std::uint64_t seed) {
  const auto begin = Time::now();
  for (std::uint64_t i = 0; Time::now() - begin < time && figures.failures == 0; ++i) {
    Round(seed + i).run();
    if (i % 8 == 1) checkStatic(program, seed + i);
    if (i % 8 == 3) moveAbout(seed + i);
    if (i % 8 == 5) replaceInCallback(seed + i);
  }
  printFigures(std::chrono::duration<double>(Time::now() - begin).count());
  return figures.failures == 0 && figures.rounds > 0 ? 0 : 1;
}

}  // namespace
}  // namespace stress

int main(int count, char** arguments) {
  if (count == 3 && std::string(arguments[1]) == "--static") return stress::beStatic(arguments[2]);
  const auto number = [&](int which, std::uint64_t otherwise) {
    return count > which ? std::strtoull(arguments[which], nullptr, 10) : otherwise;
  };
  return stress::runFor(arguments[0], std::chrono::seconds(number(1, 40)), number(2, 1));
}
