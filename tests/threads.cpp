// A client with its worker: deliveries, ends, callbacks, races, fork() and exit.
#include "check.hpp"
#include "windows.hpp"

#if NUCLEUS_TESTS_THREADS

#include "fakes.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif

namespace {

namespace fs = std::filesystem;
using nucleus::Client;
using nucleus::Options;
using nucleus::Outcome;
using nucleus::Request;
using nucleus::Response;
using std::chrono::milliseconds;
using Time = std::chrono::steady_clock;

/// Whether `done` comes true before a generous deadline.
template <class Done>
bool eventually(Done&& done) {
  const auto end = Time::now() + std::chrono::seconds(30);
  while (!done()) {
    if (Time::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));  // between two looks
  }
  return true;
}

/// Lets time pass in which nothing is to happen.
void letPass(milliseconds time) { std::this_thread::sleep_for(time); }

/// A file in a new folder that goes with it.
class TestFile {
 public:
  TestFile() {
    std::uint64_t name = 0;
    nucleus::detail::systemEntropy(&name, sizeof name);
    folder_ = fs::temp_directory_path() / ("nucleus-threads-" + std::to_string(name));
    fs::create_directory(folder_);
  }
  ~TestFile() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;

  std::string path() const { return (folder_ / "events.cache").string(); }
  std::string content() const { return fakes::contentOf(path()); }
  bool holdsEvents() const {
    const std::string text = '\n' + content();
    return text.find("\ne ") != std::string::npos || text.find("\nf ") != std::string::npos;
  }

 private:
  fs::path folder_;
};

Options onFile(const TestFile& file) {
  Options options;
  options.appId = "test-app";
  options.cacheFile = file.path();
  options.respectDoNotTrack = false;
  options.reportIntervalMs = 100;
  return options;
}

using Names = std::multiset<std::string>;

/// Acknowledges everything, and remembers it.
class Server {
 public:
  Response operator()(const Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const fakes::Json& event : fakes::Server::events(request.body())) {
      names_.insert(event.value("name", std::string()));
      devices_.insert(event.at("deviceId").get<std::string>() + '/' +
                      event.at("anonId").get<std::string>());
    }
    return fakes::Server::acknowledge(request);
  }
  Names names() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return names_;
  }
  /// Device and user, each that was seen.
  std::set<std::string> devices() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return devices_;
  }

 private:
  mutable std::mutex mutex_;
  Names names_;
  std::set<std::string> devices_;
};

nucleus::Transport to(const std::shared_ptr<Server>& server) {
  return [server](const Request& request) { return (*server)(request); };
}

/// Where threads wait until it is opened; half a minute at most.
class Gate {
 public:
  ~Gate() { open(); }
  void pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    reached_ = true;
    if (!changed_.wait_for(lock, std::chrono::seconds(30), [this] { return open_; }))
      timedOut_ = true;
  }
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool reached() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reached_;
  }
  /// It was not opened in time: who should have opened it waited itself.
  bool timedOut() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return timedOut_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false, reached_ = false, timedOut_ = false;
};

/// A thread that makes one call, while another thread is in the middle of its own.
class Racer {
 public:
  explicit Racer(std::function<void()> call)
      : thread_([this, call = std::move(call)] {
#if defined(__linux__)
          id_ = static_cast<int>(syscall(SYS_gettid));
#endif
          start_.pass();
          calling_ = true;
          call();
          done_ = true;
        }) {
  }
  ~Racer() {
    if (thread_.joinable()) join();
  }
  Racer(const Racer&) = delete;
  Racer& operator=(const Racer&) = delete;

  /// Called in the middle: returns once the racer has made its call, or waits in it. The first
  /// time.
  void race() {
    if (raced_.exchange(true)) return;
    start_.open();
    eventually([this] { return done_ || (calling_ && isAsleep()); });
  }
  void join() {
    start_.open();
    thread_.join();
  }

 private:
#if defined(__linux__)
  bool isAsleep() const {
    std::ifstream file("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string stat;
    std::getline(file, stat);  // number (name) state ...
    return stat.find(") S ") != std::string::npos;
  }
#else
  static bool isAsleep() { return letPass(milliseconds(50)), true; }  // most likely
#endif

  std::atomic<int> id_{0};
  std::atomic<bool> calling_{false}, done_{false}, raced_{false};
  Gate start_;
  std::thread thread_;
};

/// The system's clock; counts how often it is asked.
class CountingClock : public nucleus::Clock {
 public:
  std::atomic<int> calls{0}, othersCalls{0};
  std::function<void()> onCall;

  std::int64_t wallMs() override { return count(), nucleus::detail::systemWallMs(); }
  std::int64_t steadyMs() override { return count(), nucleus::detail::systemSteadyMs(); }

 private:
  void count() {
    ++calls;
    if (onCall) onCall();
    if (std::this_thread::get_id() != maker_) ++othersCalls;
  }
  std::thread::id maker_ = std::this_thread::get_id();
};

/// A real file that counts how often it is used, and refuses to be replaced when told so.
class CountingFile : public nucleus::Storage {
 public:
  std::atomic<int> calls{0};
  std::atomic<bool> refuses{false};
  std::function<void()> beforeCommit;

  explicit CountingFile(const std::string& path) : file_(nucleus::fileStorage(path)) {}
  nucleus::StorageState open() override { return ++calls, file_->open(); }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    return ++calls, file_->read(at, to, bytes);
  }
  bool append(std::string_view text) override { return ++calls, file_->append(text); }
  bool beginReplace() override { return ++calls, !refuses && file_->beginReplace(); }
  bool write(std::string_view text) override { return ++calls, file_->write(text); }
  bool commitReplace() override {
    if (beforeCommit) beforeCommit();
    return ++calls, file_->commitReplace();
  }
  bool sync() override { return ++calls, file_->sync(); }
  bool erase() override { return ++calls, !refuses && file_->erase(); }
  bool vanished() override { return ++calls, file_->vanished(); }
  void close() override { ++calls, file_->close(); }

 private:
  std::shared_ptr<nucleus::Storage> file_;
};

/// The names of the events that the next client finds in the file.
Names heldIn(const TestFile& file) {
  fakes::World world;
  world.clock->wall = nucleus::detail::systemWallMs();
  Options options = world.options();
  options.storage = nullptr;
  options.cacheFile = file.path();
  options.entropy = nullptr;
  options.respectDoNotTrack = false;
  Client client(options);
  CHECK(client.stats().storage == nucleus::StorageState::ready);
  for (int turns = 0; turns < 1'000 && client.stats().queuedEvents > 0; ++turns) {
    world.pass(client, 1'000);
  }
  CHECK(client.stats().droppedDamaged == 0);
  Names names;
  for (const fakes::Json& event : world.server->received()) {
    names.insert(event.value("name", std::string()));
  }
  return names;
}

std::size_t lacking(const Names& wanted, const Names& there) {
  std::size_t lacking = 0;
  for (const std::string& name : wanted) lacking += there.count(name) == 0 ? 1u : 0u;
  return lacking;
}

}  // namespace

TEST_CASE("a worker stores and delivers by itself") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  Options options = onFile(file);
  options.transport = to(server);
  Client client(options);
  CHECK(client.track("ONE") == Outcome::ok);
  CHECK(eventually([&] { return client.stats().queuedEvents == 0; }));
  CHECK(server->names().count("ONE") == 1);
  CHECK(client.stats().cacheBytes > 0);
  CHECK(client.track("TWO") == Outcome::ok);
  CHECK(eventually([&] { return client.stats().queuedEvents == 0; }));
  CHECK(server->names().count("TWO") == 1);
}

TEST_CASE("a worker stores by itself where there is nothing to send with") {
  const TestFile file;
  Client client(onFile(file));
  CHECK(client.track("ONE") == Outcome::ok);
  CHECK(eventually([&] { return file.content().find("\"ONE\"") != std::string::npos; }));
}

TEST_CASE("flush waits until all is acknowledged, however long it may take") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const std::int64_t timeoutMs = GENERATE(std::int64_t{30'000}, INT64_MAX);
  Options options = onFile(file);
  options.transport = to(server);
  options.reportIntervalMs = 20'000;
  options.maxEventBytes = 1'024;
  options.maxBatchBytes = 1'040;
  Client client(options);
  for (int i = 0; i < 20; ++i) client.track("ONE", {{"text", std::string(500, 'x')}});
  CHECK(client.flush(timeoutMs));
  CHECK(server->names().count("ONE") == 20);
  CHECK(client.stats().queuedEvents == 0);
}

TEST_CASE("shutdown with all the time there is ends when there is nothing left") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const std::weak_ptr<Server> left = server;
  Options options = onFile(file);
  options.transport = to(server);
  Client client(options);
  client.track("ONE");
  CHECK(client.shutdown(INT64_MAX));
  CHECK(server->names().count("ONE") == 1);
  CHECK(client.stats().queuedEvents == 0);
  client = Client();
  options = Options();
  CHECK(left.use_count() == 1);  // the worker has ended, and nothing of it is left
}

TEST_CASE("a flush that the transport holds up ends at its time-out") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  Options options = onFile(file);
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  Client client(options);
  const auto begin = Time::now();
  CHECK_FALSE(client.flush(100));
  CHECK(Time::now() - begin >= milliseconds(90));
  CHECK(Time::now() - begin < std::chrono::seconds(2));
  CHECK_FALSE(gate->timedOut());
  gate->open();
}

TEST_CASE("the end is bounded though the host's code hangs, and every event is in the file") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  const auto clock = std::make_shared<CountingClock>();
  const auto storage = std::make_shared<CountingFile>(file.path());
  const auto told = std::make_shared<std::atomic<int>>(0);
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> worker = token;
  const bool transportHangs = GENERATE(true, false);
  CAPTURE(transportHangs);
  Options options = onFile(file);
  options.clock = clock;
  options.storage = storage;
  options.transport = [=](const Request& request) {
    if (!transportHangs) return Response();
    gate->pass();
    return fakes::Server::acknowledge(request);
  };
  options.onDiagnostic = [gate, told, transportHangs, token = std::move(token)](const auto&) {
    ++*told;
    if (!transportHangs) gate->pass();
  };
  options.endpoint = "http://collector.invalid";  // worth a diagnostic
  {
    Client client(std::move(options));
    client.track("ONE");
    client.flush(0);
    REQUIRE(eventually([&] { return gate->reached(); }));
    client.track("TWO");
    client.trackError("THREE", "message");
    const auto begin = Time::now();
    client.track("FOUR");
    Client last = std::move(client);
    static_cast<void>(Client(std::move(last)));
    CHECK(Time::now() - begin < std::chrono::seconds(2));
    CHECK_FALSE(gate->timedOut());
  }
  const int clockCalls = clock->calls, fileCalls = storage->calls, callbacks = *told;
  CHECK(lacking({"ONE", "TWO", "THREE", "FOUR"}, heldIn(file)) == 0);
  gate->open();
  CHECK(eventually([&] { return worker.expired(); }));
  CHECK(clock->calls == clockCalls);
  CHECK(storage->calls == fileCalls);
  CHECK(*told == callbacks);
}

TEST_CASE("a transport that shuts the client down and then hangs does not hold up the end") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  const auto storage = std::make_shared<CountingFile>(file.path());
  const auto client = std::make_shared<std::unique_ptr<Client>>();
  const auto made = std::make_shared<Gate>();
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> worker = token;
  Options options = onFile(file);
  options.storage = storage;
  options.cacheDelayMs = 60'000;
  options.transport = [=, token = std::move(token)](const Request&) {
    made->pass();
    (*client)->shutdown(0);
    return gate->pass(), Response();
  };
  *client = std::make_unique<Client>(std::move(options));
  (*client)->track("ONE");
  (*client)->flush(0);
  REQUIRE(eventually([&] { return made->reached(); }));
  (*client)->track("TWO");
  made->open();
  REQUIRE(eventually([&] { return gate->reached(); }));
  CHECK((*client)->track("THREE") == Outcome::shutDown);
  const auto begin = Time::now();
  client->reset();
  CHECK(Time::now() - begin < std::chrono::seconds(2));
  CHECK_FALSE(gate->timedOut());
  const int calls = storage->calls;
  CHECK(lacking({"ONE", "TWO"}, heldIn(file)) == 0);
  gate->open();
  CHECK(eventually([&] { return worker.expired(); }));
  CHECK(storage->calls == calls);
}

TEST_CASE("a poll() that hangs on another thread does not hold up the end") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  const auto storage = std::make_shared<CountingFile>(file.path());
  Options options = onFile(file);
  options.storage = storage;
  options.background = false;
  options.cacheDelayMs = 60'000;
  options.transport = [=](const Request& request) {
    gate->pass();
    return fakes::Server::acknowledge(request);
  };
  Client client(options);
  client.track("ONE");
  std::thread other([&] { eventually([&] { return client.poll(), gate->reached(); }); });
  CHECK(eventually([&] { return gate->reached(); }));
  client.track("TWO");
  const auto begin = Time::now();
  CHECK(client.shutdown(250));
  CHECK(Time::now() - begin < std::chrono::seconds(2));
  CHECK_FALSE(gate->timedOut());
  const int calls = storage->calls;
  CHECK(lacking({"ONE", "TWO"}, heldIn(file)) == 0);
  gate->open();
  other.join();
  CHECK(storage->calls == calls);
}

TEST_CASE("of two that shut a client down while its transport hangs none waits long") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  Options options = onFile(file);
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  Client client(options);
  client.track("ONE");
  client.flush(0);
  REQUIRE(eventually([&] { return gate->reached(); }));
  const auto begin = Time::now();
  std::thread other([&] { client.shutdown(100); });
  client.shutdown(100);
  other.join();
  CHECK(Time::now() - begin < std::chrono::seconds(2));
  CHECK_FALSE(gate->timedOut());
  CHECK(client.track("TWO") == Outcome::shutDown);
  CHECK(client.shutdown(0));
  CHECK(heldIn(file).count("ONE") == 1);
  gate->open();
}

TEST_CASE("of two that shut a client down at once both find it done") {
  for (int round = 0; round < 50; ++round) {
    const TestFile file;
    Client client(onFile(file));
    client.track("ONE");
    bool first = false, second = false;
    std::thread other([&] { first = client.shutdown(30'000); });
    second = client.shutdown(30'000);
    other.join();
    CHECK(first);
    CHECK(second);
    CHECK(file.content().find("\"ONE\"") != std::string::npos);
  }
}

TEST_CASE("what is accepted while a client is shut down is in the file") {
  for (int round = 0; round < 10; ++round) {
    const TestFile file;
    Options options = onFile(file);
    Client client(options);
    std::atomic<int> accepted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 300 && client.track("ONE") == Outcome::ok; ++i) ++accepted;
      });
    }
    CHECK(eventually([&] { return accepted > 40 * round; }));
    CHECK(client.shutdown(30'000));
    for (std::thread& thread : threads) thread.join();
    CHECK(heldIn(file).count("ONE") == static_cast<std::size_t>(accepted));
  }
}

TEST_CASE("many threads that do everything at once lose count of nothing") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  Options options = onFile(file);
  options.transport = to(server);
  options.maxQueueBytes = 64 << 10;
  options.maxEventBytes = 1 << 10;
  options.cacheDelayMs = 10;
  std::atomic<int> told{0};
  options.onDiagnostic = [&](const nucleus::Diagnostic&) { ++told; };
  options.filter = [](nucleus::Text, nucleus::Text name, nucleus::Properties) {
    return name.view() != "FILTERED";
  };
  Client client(options);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<int> unbalanced{0}, toggled{0};
  std::vector<std::thread> threads;
  const auto start = [&](auto action) {
    threads.emplace_back([&stop, action] {
      for (int i = 0; !stop; ++i) action(i);
    });
  };
  for (int t = 0; t < 8; ++t) {
    start([&, t](int i) {
      const Outcome outcome = i % 97 == 0   ? client.trackError("ERROR", "message")
                              : i % 31 == 0 ? client.page("PAGE")
                              : i % 13 == 0 ? client.track("FILTERED")
                                            : client.track("EVENT", {{"thread", t}, {"i", i}});
      if (outcome == Outcome::ok) ++accepted;
    });
  }
  start([&](int) { client.flush(5); });
  for (int t = 0; t < 2; ++t) {
    start([&, t](int i) {
      if (t == 0 || i % 4 != 0) client.disableTracking();
      else client.forget();
      client.enableTracking();
      ++toggled;
    });
  }
  start([&](int) {
    if (!fakes::balanced(client.stats())) ++unbalanced;
    client.setUserId("me");
    client.setProps({{"plan", "pro"}});
    client.persist();
    client.online(false);
    client.online(true);
    client.poll();
  });
  CHECK(eventually([&] { return toggled > 50; }));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  client.enableTracking();
  CHECK(client.track("LAST") == Outcome::ok);
  CHECK(eventually([&] { return client.flush(1'000); }));
  const nucleus::Stats stats = client.stats();
  CHECK(unbalanced == 0);
  CHECK(fakes::balanced(stats));
  CHECK(stats.queuedEvents == 0);
  CHECK(stats.acceptedEvents >= accepted);
  CHECK(client.shutdown(30'000));
  CHECK(fakes::balanced(client.stats()));
  CHECK_FALSE(file.holdsEvents());
}

TEST_CASE("with no delay every thread finds its event in the file when the call returns") {
  const TestFile file;
  Options options = onFile(file);
  options.cacheDelayMs = 0;
  Client client(options);
  std::atomic<int> missing{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string name = "EVENT-" + std::to_string(t) + '-' + std::to_string(i);
        const bool stored = client.track(name) == Outcome::ok &&
                            file.content().find('"' + name + '"') != std::string::npos;
        if (!stored) ++missing;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(missing == 0);
}

TEST_CASE("once tracking is disabled every request is cancelled and the file holds no event") {
  const TestFile file;
  struct Late {
    std::mutex mutex;
    std::vector<Request> requests;
    std::atomic<bool> off{false}, stop{false};
    std::atomic<int> entered{0}, tooLate{0};
  };
  const auto late = std::make_shared<Late>();
  Options options = onFile(file);
  options.cacheDelayMs = GENERATE(0, 1'000);
  const bool pending = GENERATE(true, false);
  CAPTURE(options.cacheDelayMs, pending);
  options.transport = [late, pending](const Request& request) {
    ++late->entered;
    for (int i = 0; i < 50; ++i) {
      if (late->off && !request.cancelled()) ++late->tooLate;
      std::this_thread::yield();
    }
    const std::lock_guard<std::mutex> lock(late->mutex);
    if (pending) late->requests.push_back(request);
    return pending ? Response::pending() : fakes::Server::acknowledge(request);
  };
  Client client(options);
  std::thread tracker([&] {
    while (!late->stop) client.track("EVENT", {{"text", "content"}});
  });
  std::thread replier([&] {
    while (!late->stop) {
      std::vector<Request> requests;
      {
        const std::lock_guard<std::mutex> lock(late->mutex);
        requests.swap(late->requests);
      }
      for (const Request& request : requests) request.reply(fakes::Server::acknowledge(request));
      std::this_thread::yield();
    }
  });
  int notErased = 0, inFile = 0, inMemory = 0;
  const std::size_t rounds = fakes::rounds(120, 8);
  for (std::size_t round = 0; round < rounds; ++round) {
    const int before = late->entered;
    client.flush(0);
    if (round % 4 == 0) eventually([&] { return client.flush(0), late->entered > before; });
    if (!client.disableTracking()) ++notErased;
    late->off = true;
    if (file.holdsEvents()) ++inFile;
    if (client.stats().queuedEvents != 0) ++inMemory;
    {
      const std::lock_guard<std::mutex> lock(late->mutex);
      for (const Request& request : late->requests) late->tooLate += request.cancelled() ? 0 : 1;
    }
    late->off = false;
    client.enableTracking();
  }
  late->stop = true;
  tracker.join();
  replier.join();
  CHECK(late->tooLate == 0);
  CHECK(notErased == 0);
  CHECK(inFile == 0);
  CHECK(inMemory == 0);
  CHECK(late->entered >= static_cast<int>(rounds / 4));
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("an erasure that fails while nothing is due is tried again") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const auto storage = std::make_shared<CountingFile>(file.path());
  std::atomic<bool> told{false};
  Options options = onFile(file);
  options.storage = storage;
  options.transport = to(server);
  options.onDiagnostic = [&](const nucleus::Diagnostic& diagnostic) {
    if (diagnostic.code == "erase-failed") told = true;
  };
  const bool idle = GENERATE(true, false);
  CAPTURE(idle);
  if (!idle) options.transport = nullptr;
  Client client(options);
  client.setUserId("somebody");
  if (idle) REQUIRE(client.flush(30'000));
  REQUIRE(client.persist());
  int before = 0;
  if (idle) {
    REQUIRE(eventually([&] {  // until the worker has come to rest
      before = storage->calls;
      letPass(milliseconds(300));
      return storage->calls == before;
    }));
  }
  storage->refuses = true;
  CHECK_FALSE(client.disableTracking());
  CHECK(eventually([&] { return told.load(); }));
  CHECK(file.content().find("somebody") != std::string::npos);
  storage->refuses = false;
  CHECK(eventually([&] { return file.content().find("somebody") == std::string::npos; }));
}

TEST_CASE("a forget() that comes while another thread disables tracking leaves no file") {
  const TestFile file;
  const auto storage = std::make_shared<CountingFile>(file.path());
  Options options = onFile(file);
  options.storage = storage;
  options.background = GENERATE(true, false);
  std::atomic<bool> erases{false};
  bool forgotten = false;
  Client client;
  Racer other([&] { forgotten = client.forget(); });
  storage->beforeCommit = [&] {
    if (erases) other.race();
  };
  client = Client(options);
  REQUIRE(client.persist());
  erases = true;
  CHECK(client.disableTracking());
  other.join();
  CHECK(forgotten);
  CHECK_FALSE(fs::exists(file.path()));
}

TEST_CASE("threads that enable, disable and forget at once agree in the end") {
  const auto disk = std::make_shared<fakes::Disk>();
  const TestFile file;
  Options options = onFile(file);
  options.storage = std::make_shared<fakes::Storage>(disk);
  options.background = GENERATE(true, false);
  Client client(options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&client, t] {
      for (int i = 0; i < 1'000; ++i) {
        if (t == 0) client.forget();
        else client.disableTracking();
        if (t != 1) client.enableTracking();
        client.track("EVENT");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  client.enableTracking();
  CHECK(client.trackingEnabled());
  CHECK(client.track("LAST") == Outcome::ok);
  CHECK(client.persist());
  CHECK(disk->file.find("\"LAST\"") != std::string::npos);
  CHECK(client.forget());
  CHECK_FALSE(disk->exists);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("however many threads poll and flush, one request is out at a time") {
  struct Traffic {
    std::atomic<int> requests{0}, out{0}, overlaps{0};
    std::mutex mutex;
    std::vector<Request> pending;
  };
  const TestFile file;
  const bool answersLater = GENERATE(true, false);
  const auto traffic = std::make_shared<Traffic>();
  Options options = onFile(file);
  options.background = GENERATE(true, false);
  CAPTURE(answersLater, options.background);
  options.maxEventBytes = 512;
  options.maxBatchBytes = 528;
  options.transport = [=](const Request& request) {
    ++traffic->requests;
    if (++traffic->out > 1) ++traffic->overlaps;
    std::this_thread::yield();
    if (!answersLater) return --traffic->out, fakes::Server::acknowledge(request);
    const std::lock_guard<std::mutex> lock(traffic->mutex);
    traffic->pending.push_back(request);
    return Response::pending();
  };
  Client client(options);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  const auto start = [&](auto action) {
    threads.emplace_back([&stop, action] {
      for (; !stop; std::this_thread::yield()) action();
    });
  };
  start([&] {
    if (client.stats().queuedEvents < 50) client.track("EVENT");
  });
  start([&] {
    std::vector<Request> requests;
    {
      const std::lock_guard<std::mutex> lock(traffic->mutex);
      requests.swap(traffic->pending);
    }
    for (const Request& request : requests) {
      --traffic->out;
      request.reply(fakes::Server::acknowledge(request));
    }
  });
  for (int t = 0; t < 2; ++t) {
    start([&] { client.poll(); });
    start([&, t] { client.flush(t); });
  }
  CHECK(eventually([&] { return traffic->requests > 200; }));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(traffic->overlaps == 0);
}

TEST_CASE("a call does not wait while the worker writes or sends") {
  const TestFile file;
  const std::string work = GENERATE("append", "rewrite", "send");
  CAPTURE(work);
  const auto gate = std::make_shared<Gate>();
  const auto holds = std::make_shared<std::atomic<bool>>(work == "rewrite");
  const auto pass = [=] {
    if (*holds) gate->pass();
  };
  const auto disk = std::make_shared<fakes::Disk>();
  if (work == "append") disk->onAppend = pass;
  if (work == "rewrite") disk->onCommit = pass;
  Options options = onFile(file);
  options.storage = std::make_shared<fakes::Storage>(disk);
  options.transport = [=](const Request& request) {
    if (work == "send") pass();
    return fakes::Server::acknowledge(request);
  };
  Client client(options);
  if (work != "rewrite") REQUIRE(client.persist());
  *holds = true;
  client.track("ONE");
  client.flush(0);
  REQUIRE(eventually([&] { return gate->reached(); }));
  CHECK(client.track("TWO", {{"plan", "pro"}}) == Outcome::ok);
  CHECK(client.page("THREE") == Outcome::ok);
  CHECK(client.setUserId("somebody") == Outcome::ok);
  CHECK(client.setProps({{"plan", "pro"}}) == Outcome::ok);
  CHECK(client.identify("somebody", {{"plan", "free"}}) == Outcome::ok);
  CHECK(client.startSession() == Outcome::ok);
  CHECK(client.trackingEnabled());
  CHECK(client.consent() == nucleus::Consent::notAsked);
  CHECK(client.stats().queuedEvents >= 8);
  CHECK_FALSE(client.flush(0));
  client.online();
  client.receive("{}");
  client.poll();
  CHECK_FALSE(gate->timedOut());
  gate->open();
}

TEST_CASE("flush(0) with a worker never waits") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  Options options = onFile(file);
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  Client client(options);
  CHECK_FALSE(client.flush(0));
  REQUIRE(eventually([&] { return gate->reached(); }));
  const auto begin = Time::now();
  for (int i = 0; i < 100; ++i) CHECK_FALSE(client.flush(0));
  CHECK(Time::now() - begin < std::chrono::seconds(2));
  CHECK_FALSE(gate->timedOut());
  gate->open();
}

TEST_CASE("shutdown writes the file before it waits for the transport") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  Options options = onFile(file);
  options.cacheDelayMs = 3'600'000;
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  Client client(options);
  client.flush(0);
  REQUIRE(eventually([&] { return gate->reached(); }));
  client.track("LATE");
  const auto begin = Time::now();
  std::thread ender([&client] { client.shutdown(20'000); });
  const bool written =
      eventually([&] { return file.content().find("\"LATE\"") != std::string::npos; });
  CHECK(written);
  CHECK(Time::now() - begin < std::chrono::seconds(10));  // it waits for twenty
  CHECK_FALSE(gate->timedOut());
  gate->open();
  ender.join();
}

TEST_CASE("while one thread polls, poll() on another does nothing") {
  const TestFile file;
  const auto gate = std::make_shared<Gate>();
  const auto told = std::make_shared<std::atomic<int>>(0);
  Options options = onFile(file);
  options.background = false;
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  options.onDiagnostic = [told](const nucleus::Diagnostic&) { ++*told; };
  Client client(options);
  std::thread other([&client] { client.flush(10'000); });
  REQUIRE(eventually([&] { return gate->reached(); }));
  client.track("");  // which is told of
  client.poll();
  CHECK(*told == 0);
  gate->open();
  other.join();
  CHECK(*told >= 1);
}

TEST_CASE("filter runs on the caller, all other callbacks on the one worker or in poll()") {
  struct Seen {
    std::mutex mutex;
    std::set<std::string> callbacks;
    std::set<std::thread::id> caller, others;
    void note(const char* callback) {
      const std::lock_guard<std::mutex> lock(mutex);
      callbacks.insert(callback);
      (callback == std::string("filter") ? caller : others).insert(std::this_thread::get_id());
    }
  };
  const TestFile file;
  const auto seen = std::make_shared<Seen>();
  Options options = onFile(file);
  options.background = GENERATE(true, false);
  CAPTURE(options.background);
  options.endpoint = "http://collector.invalid";  // worth a diagnostic
  options.filter = [=](nucleus::Text, nucleus::Text, nucleus::Properties) {
    return seen->note("filter"), true;
  };
  options.transport = [=](const Request& request) {
    seen->note("transport");
    fakes::Json answer = fakes::Json::parse(fakes::Server::acknowledge(request).body);
    answer.update({{"latestVersion", "9.9"}, {"customData", 1}});
    return fakes::Server::with(200, answer.dump());
  };
  options.onDiagnostic = [=](const nucleus::Diagnostic&) { seen->note("onDiagnostic"); };
  options.onUpdate = [=](std::string_view) { seen->note("onUpdate"); };
  options.onCustomData = [=](std::string_view) { seen->note("onCustomData"); };
  Client client(options);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    for (; !stop; std::this_thread::yield()) client.poll();
  });
  const std::thread::id poller = other.get_id();
  CHECK(eventually([&] {
    client.track("EVENT");
    const std::lock_guard<std::mutex> lock(seen->mutex);
    return seen->callbacks.size() == 5;
  }));
  stop = true;
  other.join();
  const std::lock_guard<std::mutex> lock(seen->mutex);
  CHECK(seen->caller == std::set<std::thread::id>{std::this_thread::get_id()});
  CHECK(seen->others.size() == 1);
  CHECK(seen->others.count(std::this_thread::get_id()) == 0);
  CHECK((seen->others.count(poller) == 0) == options.background);
}

TEST_CASE("while a filter takes its time others go on") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const auto gate = std::make_shared<Gate>();
  Options options = onFile(file);
  options.background = GENERATE(true, false);
  options.transport = to(server);
  options.filter = [gate](nucleus::Text, nucleus::Text name, nucleus::Properties) {
    if (name.view() == "SLOW") gate->pass();
    return true;
  };
  Client client(options);
  std::thread slow([&] { client.track("SLOW"); });
  CHECK(eventually([&] { return gate->reached(); }));
  CHECK(client.track("QUICK") == Outcome::ok);
  CHECK(client.persist());
  CHECK(client.flush(20'000));
  CHECK(server->names().count("QUICK") == 1);
  CHECK(server->names().count("SLOW") == 0);
  CHECK_FALSE(gate->timedOut());
  gate->open();
  slow.join();
  CHECK(client.flush(20'000));
  CHECK(server->names().count("SLOW") == 1);
}

TEST_CASE("from inside every callback on the worker every call is fine") {
  enum class Action { everything, shutdown, destroy };
  struct Stage {
    std::mutex mutex;
    std::condition_variable changed;
    std::unique_ptr<Client> client;
    bool ready = false, done = false;
    std::vector<std::string> wrong;
  };
  const TestFile file;
  const std::string callback = GENERATE("transport", "onDiagnostic", "onUpdate", "onCustomData");
  const Action action = GENERATE(Action::everything, Action::shutdown, Action::destroy);
  CAPTURE(callback, static_cast<int>(action));
  const auto stage = std::make_shared<Stage>();
  const auto server = std::make_shared<Server>();
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> core = token;
  const auto act = [stage, action] {
    std::unique_lock<std::mutex> lock(stage->mutex);
    stage->changed.wait(lock, [&] { return stage->ready; });
    if (stage->done) return;
    Client& client = *stage->client;
    const auto check = [&](bool right, const char* what) {
      if (!right) stage->wrong.push_back(what);
    };
    const auto begin = Time::now();
    if (action == Action::everything) {
      check(client.track("INSIDE") == Outcome::ok, "track");
      check(client.page("INSIDE") == Outcome::ok, "page");
      check(client.trackError("INSIDE", "message") == Outcome::ok, "trackError");
      check(client.identify("me", {{"plan", "pro"}}) == Outcome::ok, "identify");
      check(client.setProps({{"plan", "free"}}) == Outcome::ok, "setProps");
      check(client.startSession() == Outcome::ok, "startSession");
      check(!client.flush(30'000), "flush");
      check(!client.persist(), "persist");
      client.poll();
      client.receive("{}");
      client.online(false);
      client.online();
      check(client.stats().trackingEnabled && client.trackingEnabled(), "stats");
      check(client.disableTracking(), "disableTracking");
      check(client.track("INSIDE") == Outcome::trackingDisabled, "track, disabled");
      client.enableTracking();
      check(client.forget(), "forget");
      client.enableTracking();
      check(client.consent() == nucleus::Consent::granted, "consent");
      check(client.track("AFTERWARDS") == Outcome::ok, "track, enabled again");
    } else if (action == Action::shutdown) {
      client.shutdown(30'000);
      check(client.track("INSIDE") == Outcome::shutDown, "track, shut down");
    } else {
      stage->client.reset();
    }
    check(Time::now() - begin < std::chrono::seconds(10), "at once");
    stage->done = true;
    stage->changed.notify_all();
  };
  Options options = onFile(file);
  options.endpoint = "http://collector.invalid";  // worth a diagnostic
  options.transport = [=](const Request& request) {
    if (callback == "transport") act();
    Response response = (*server)(request);
    response.body.pop_back();
    response.body += R"(,"latestVersion":"9.9.9","customData":{"a":1}})";
    return response;
  };
  options.onDiagnostic = [=](const nucleus::Diagnostic&) {
    if (callback == "onDiagnostic") act();
  };
  options.onUpdate = [=](std::string_view) {
    if (callback == "onUpdate") act();
  };
  options.onCustomData = [=, token = std::move(token)](std::string_view) {
    if (callback == "onCustomData") act();
  };
  auto client = std::make_unique<Client>(std::move(options));
  CHECK(client->track("ONE") == Outcome::ok);
  client->flush(0);
  {
    std::unique_lock<std::mutex> lock(stage->mutex);
    stage->client = std::move(client);
    stage->ready = true;
    stage->changed.notify_all();
    REQUIRE(stage->changed.wait_for(lock, std::chrono::seconds(30), [&] { return stage->done; }));
    for (const std::string& wrong : stage->wrong) FAIL_CHECK(wrong);
  }
  if (action == Action::everything) {
    CHECK(eventually([&] { return stage->client->stats().queuedEvents == 0; }));
    CHECK(server->names().count("AFTERWARDS") == 1);
    CHECK(fakes::balanced(stage->client->stats()));
    CHECK(stage->client->shutdown(30'000));
  } else if (action == Action::shutdown) {
    CHECK(stage->client->shutdown(30'000));
    CHECK(stage->client->track("LATER") == Outcome::shutDown);
  }
  stage->client.reset();
  CHECK(eventually([&] { return core.expired(); }));
  if (action == Action::everything) return;
  Names found = heldIn(file);
  for (const std::string& name : server->names()) found.insert(name);
  CHECK(found.count("ONE") >= 1);
}

TEST_CASE("a filter may use the client, and shut it down") {
  const TestFile file;
  const bool background = GENERATE(true, false), shutsDown = GENERATE(true, false);
  CAPTURE(background, shutsDown);
  Client client;
  int asked = 0;
  Options options = onFile(file);
  options.background = background;
  options.filter = [&](nucleus::Text, nucleus::Text name, nucleus::Properties) {
    ++asked;
    CHECK(client.track("INSIDE") == Outcome::ok);
    CHECK_FALSE(client.flush(30'000));
    CHECK_FALSE(client.persist());
    client.poll();
    if (shutsDown) client.shutdown(30'000);
    return name.view() != "NO";
  };
  client = Client(options);
  CHECK(client.track("YES") == (shutsDown ? Outcome::shutDown : Outcome::ok));
  CHECK(client.track("NO") == (shutsDown ? Outcome::shutDown : Outcome::filtered));
  CHECK(asked == (shutsDown ? 1 : 2));
  CHECK(client.shutdown(30'000));
  const Names held = heldIn(file);
  CHECK(held.count("INSIDE") == static_cast<std::size_t>(asked));
  CHECK(held.count("YES") == (shutsDown ? 0 : 1));
}

TEST_CASE("answers may come late, from any thread, and more than once") {
  const TestFile file;
  struct Kept {
    std::mutex mutex;
    std::vector<Request> requests;
  };
  const auto kept = std::make_shared<Kept>();
  const auto requests = [&] {
    const std::lock_guard<std::mutex> lock(kept->mutex);
    return kept->requests;
  };
  Options options = onFile(file);
  options.answerTimeoutMs = 100;
  options.transport = [kept](const Request& request) {
    const std::lock_guard<std::mutex> lock(kept->mutex);
    kept->requests.push_back(request);
    return Response::pending();
  };
  auto client = std::make_unique<Client>(options);
  CHECK(client->track("ONE") == Outcome::ok);
  CHECK(eventually([&] { return client->flush(0), requests().size() >= 2; }));  // it is sent again
  CHECK(client->stats().queuedEvents == 2);
  const auto replyTwice = [&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([all = requests()] {
        for (const Request& request : all) {
          request.reply(fakes::Server::acknowledge(request));
          request.reply(fakes::Server::acknowledge(request));
          request.reply({500, "", ""});
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  replyTwice();
  CHECK(client->stats().queuedEvents == 0);
  CHECK(client->stats().acknowledgedEvents == 2);
  CHECK(client->track("TWO") == Outcome::ok);
  const std::size_t before = requests().size();
  CHECK(eventually([&] { return client->flush(0), requests().size() > before; }));
  client.reset();
  replyTwice();
  for (const Request& request : requests()) {
    CHECK(request.cancelled());
    CHECK(request.url() == "https://app.nucleus.sh/app/test-app/track");
    CHECK(request.contentType() == "application/json");
    CHECK_FALSE(fakes::Server::ids(request.body()).empty());
  }
  CHECK(heldIn(file).count("TWO") == 1);
}

TEST_CASE("a client that is moved goes on, and what it was answers that it is shut down") {
  const TestFile first, second;
  const auto server = std::make_shared<Server>();
  Options options = onFile(first);
  options.transport = to(server);
  Client client(options);
  CHECK(client.track("ONE") == Outcome::ok);
  CHECK(eventually([&] { return client.stats().queuedEvents == 0; }));
  Client moved = std::move(client);
  CHECK(client.track("NONE") == Outcome::shutDown);
  CHECK_FALSE(client.flush(30'000));
  CHECK(moved.track("TWO") == Outcome::ok);
  CHECK(eventually([&] { return moved.stats().queuedEvents == 0; }));
  std::vector<Client> clients;
  clients.push_back(std::move(moved));
  clients.emplace_back();
  CHECK(clients[0].track("THREE") == Outcome::ok);
  CHECK(clients[0].flush(30'000));
  options = onFile(second);
  clients[1] = Client(options);
  CHECK(clients[1].track("FOUR") == Outcome::ok);
  clients[1] = std::move(clients[0]);
  CHECK(heldIn(second).count("FOUR") == 1);
  CHECK(clients[1].track("FIVE") == Outcome::ok);
  CHECK(clients[1].flush(30'000));
  CHECK(lacking({"ONE", "TWO", "THREE", "FIVE"}, server->names()) == 0);
  CHECK(server->names().count("NONE") == 0);
}

TEST_CASE("a second client on the file says so, has the same ids, and takes over") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  std::atomic<bool> locked{false};
  Options options = onFile(file);
  auto first = std::make_unique<Client>(options);
  CHECK(first->track("ONE") == Outcome::ok);
  CHECK(first->persist());
  Options other = onFile(file);
  other.onDiagnostic = [&](const nucleus::Diagnostic& diagnostic) {
    if (diagnostic.code == "storage-locked") locked = true;
  };
  other.transport = to(server);
  Client second(other);
  CHECK(second.stats().storage == nucleus::StorageState::locked);
  CHECK(eventually([&] { return locked.load(); }));
  CHECK(second.track("TWO") == Outcome::ok);
  CHECK_FALSE(second.persist());
  CHECK(second.stats().notCached == second.stats().queuedEvents);
  CHECK(second.flush(30'000));
  CHECK(server->names().count("TWO") == 1);
  CHECK(first->track("THREE") == Outcome::ok);
  first.reset();
  CHECK(second.track("FOUR") == Outcome::ok);
  CHECK(eventually([&] { return second.stats().storage == nucleus::StorageState::ready; }));
  CHECK(second.stats().notCached == 0);
  CHECK(second.flush(30'000));
  CHECK(server->names().count("ONE") == 1);
  CHECK(lacking({"TWO", "THREE", "FOUR"}, server->names()) == 0);
  CHECK(server->devices().size() == 1);
}

TEST_CASE("a worker with nothing to do rests") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const auto clock = std::make_shared<CountingClock>();
  Options options = onFile(file);
  options.clock = clock;
  options.transport = to(server);
  const std::string state = GENERATE("all is delivered", "disabled", "waiting for its interval");
  CAPTURE(state);
  if (state == "waiting for its interval") options.reportIntervalMs = 3'600'000;
  Client client(options);
  client.track("ONE");
  REQUIRE(client.flush(30'000));
  if (state == "disabled") client.disableTracking();
  if (state == "waiting for its interval") REQUIRE((client.track("TWO"), client.persist()));
  CHECK(eventually([&] {
    const int before = clock->othersCalls;
    letPass(milliseconds(1'500));
    return clock->othersCalls == before;
  }));
}

TEST_CASE("a thousand events do not wake the worker a thousand times") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  const auto clock = std::make_shared<CountingClock>();
  Options options = onFile(file);
  options.clock = clock;
  options.transport = to(server);
  options.reportIntervalMs = 20'000;
  Client client(options);
  for (int i = 0; i < 1'000; ++i) {
    CHECK(client.track("EVENT") == Outcome::ok);
    std::this_thread::yield();
  }
  CHECK(eventually([&] { return client.flush(1'000); }));
  CHECK(clock->othersCalls < 1'000);
}

TEST_CASE("clients that come and go quickly leave their events in the file") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  for (int round = 0; round < 100; ++round) {
    Options options = onFile(file);
    options.transport = round % 3 == 0 ? to(server) : nucleus::Transport();
    Client client(options);
    CHECK(client.track("EVENT-" + std::to_string(round)) == Outcome::ok);
  }
  Names found = heldIn(file);
  for (const std::string& name : server->names()) found.insert(name);
  Names wanted;
  for (int round = 0; round < 100; ++round) wanted.insert("EVENT-" + std::to_string(round));
  CHECK(lacking(wanted, found) == 0);
}

TEST_CASE("a client that is enabled while it is shut down does not use the file any more") {
  const TestFile file;
  const auto clock = std::make_shared<CountingClock>();
  Options options = onFile(file);
  options.clock = clock;
  options.background = GENERATE(true, false);
  std::atomic<bool> ends{false};
  Client client;
  Racer other([&] { client.enableTracking(); });
  clock->onCall = [&] {
    if (ends) other.race();
  };
  client = Client(options);
  REQUIRE(client.persist());
  REQUIRE(client.disableTracking());
  ends = true;
  CHECK(client.shutdown(30'000));
  other.join();
  CHECK(nucleus::fileStorage(file.path())->open() == nucleus::StorageState::ready);
}

#if !defined(_WIN32)

namespace {

/// Runs `body` in a child process. Its result is the exit code; -1 if a signal ended it.
template <class Body>
int inChild(Body&& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("the host's signals do not reach the worker") {
  const TestFile file;
  std::atomic<int> blocked{-1};
  Options options = onFile(file);
  options.transport = [&](const Request& request) {
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, nullptr, &set);
    blocked = sigismember(&set, SIGINT) + sigismember(&set, SIGTERM) + sigismember(&set, SIGUSR1);
    return fakes::Server::acknowledge(request);
  };
  Client client(options);
  CHECK(client.flush(30'000));
  CHECK(blocked == 3);
}

TEST_CASE("in the child of a fork() a client with a worker is inert, and the parent goes on") {
  const TestFile file;
  const auto server = std::make_shared<Server>();
  Options options = onFile(file);
  options.transport = to(server);
  options.cacheDelayMs = 5;
  auto client = std::make_unique<Client>(options);
  REQUIRE(client->persist());
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        client->track("EVENT");
        client->stats();
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    CHECK(inChild([&] {
            const auto begin = Time::now();
            if (client->track("CHILD") != Outcome::shutDown) return 1;
            if (client->trackError("CHILD", "message") != Outcome::shutDown) return 2;
            if (client->flush(30'000) || client->persist()) return 3;
            client->poll();
            client->receive("{}");
            client->online();
            client->enableTracking();
            client->disableTracking();
            client->forget();
            if (client->trackingEnabled() || client->stats().queuedEvents != 0) return 4;
            if (client->track("CHILD") != Outcome::shutDown) return 5;
            client.reset();
            return Time::now() - begin < std::chrono::seconds(10) ? 0 : 6;
          }) == 0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(client->track("LAST") == Outcome::ok);
  CHECK(client->flush(30'000));
  CHECK(server->names().count("LAST") == 1);
  CHECK(server->names().count("CHILD") == 0);
  CHECK(nucleus::fileStorage(file.path())->open() == nucleus::StorageState::locked);
}

TEST_CASE("where no thread can be had the client says so, and poll() does the work") {
  const TestFile file;
  const int result = inChild([&] {
    if (geteuid() == 0 && (setgid(65'534) != 0 || setuid(65'534) != 0)) return 98;
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0) return 98;
    pthread_t thread = {};
    if (pthread_create(
            &thread, nullptr, [](void* p) { return p; }, nullptr) == 0)
      return 98;
    const auto server = std::make_shared<Server>();
    const auto disk = std::make_shared<fakes::Disk>();
    bool told = false;
    Options options = onFile(file);
    options.storage = std::make_shared<fakes::Storage>(disk);
    options.transport = to(server);
    options.onDiagnostic = [&](const nucleus::Diagnostic& diagnostic) {
      told = told ||
             (diagnostic.code == "no-thread" && diagnostic.severity == nucleus::Severity::warning &&
              diagnostic.message.find("poll()") != std::string_view::npos);
    };
    Client client(options);
    if (client.track("ONE") != Outcome::ok) return 1;
    if (!eventually([&] { return client.poll(), client.stats().queuedEvents == 0; })) return 2;
    if (!told) return 3;
    if (client.track("TWO") != Outcome::ok || !client.flush(30'000)) return 4;
    if (server->names().count("TWO") != 1) return 5;
    if (client.track("THREE") != Outcome::ok || !client.shutdown(30'000)) return 6;
    return client.track("FOUR") == Outcome::shutDown ? 0 : 7;
  });
  if (result != 98) CHECK(result == 0);
  else if (fakes::inCi()) FAIL("threads can always be had here");
  else WARN("not run: threads can always be had here");
}

#endif

#if defined(__linux__) || defined(_WIN32)

namespace {

const char* const fileVariable = "NUCLEUS_TEST_FILE";

/// Runs the hidden test of this name in a new process, on this file. Its exit code, or -1.
int runHidden(const char* name, const TestFile& file) {
  const fakes::Variable variable(fileVariable, file.path().c_str());
#if defined(_WIN32)
  return fakes::HiddenTest(name).exitCode();
#else
  return inChild([name] {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    if (const char* const command = std::getenv("NUCLEUS_TESTS_COMMAND")) {  // an emulator's
      execl("/bin/sh", "sh", "-c", (std::string(command) + " \"$0\"").c_str(), name, nullptr);
    }
    execl("/proc/self/exe", "tests", name, nullptr);
    return 127;
  });
#endif
}

/// Of a hidden test: empty where it was not runHidden() that started it.
Options hiddenOptions() {
  Options options;
  options.appId = "test-app";
  options.respectDoNotTrack = false;
  if (const char* const path = std::getenv(fileVariable)) options.cacheFile = path;
  return options;
}

[[noreturn]] void exitWith42() { _exit(42); }

std::terminate_handler above = nullptr;

[[noreturn]] void passOn() {
  above();
  _exit(43);
}

[[noreturn]] void throwUncaught() {
  std::thread([] { throw std::runtime_error("gone wrong"); }).join();
  _exit(44);
}

fakes::Json errorIn(const TestFile& file) {
  const std::string text = file.content();
  const std::size_t at = text.find("{\"type\":\"error\"");
  if (at == std::string::npos) return {};
  return fakes::Json::parse(text.substr(at, text.find('\n', at) - at));
}

}  // namespace

TEST_CASE("hidden: a static client", "[.child]") {
  const Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  static Client client(options);
  CHECK(client.track("ONE") == Outcome::ok);
}

TEST_CASE("a static client ends cleanly at exit, with its events in the file") {
  const TestFile file;
  CHECK(runHidden("hidden: a static client", file) == 0);
  CHECK(heldIn(file).count("ONE") == 1);
}

TEST_CASE("hidden: a static client with a transport that hangs", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  const auto gate = std::make_shared<Gate>();
  options.transport = [gate](const Request&) { return gate->pass(), Response(); };
  static Client client(options);
  CHECK(client.track("ONE") == Outcome::ok);
  client.flush(0);
  CHECK(eventually([&] { return gate->reached(); }));
}

TEST_CASE("a static client ends cleanly though its transport hangs at exit") {
  const TestFile file;
  const auto begin = Time::now();
  CHECK(runHidden("hidden: a static client with a transport that hangs", file) == 0);
  CHECK(Time::now() - begin < std::chrono::seconds(20));
  CHECK(heldIn(file).count("ONE") == 1);
}

TEST_CASE("hidden: uncaught", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  std::set_terminate(exitWith42);
  options.reportUncaught = true;
  Client client(options);
  client.track("BEFORE");
  throwUncaught();
}

TEST_CASE("an uncaught exception becomes an error event, and goes on as before") {
  const TestFile file;
  CHECK(runHidden("hidden: uncaught", file) == 42);
  const fakes::Json error = errorIn(file);
  REQUIRE(error.is_object());
  CHECK(error.at("name") == "std::runtime_error");
  CHECK(error.dump().find("gone wrong") != std::string::npos);
  CHECK(file.content().find("\"BEFORE\"") != std::string::npos);
}

TEST_CASE("hidden: uncaught and no exception", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  std::set_terminate(exitWith42);
  options.reportUncaught = true;
  const Client client(options);
  std::thread([] { throw 7; }).join();
}

TEST_CASE("hidden: terminated without an exception", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  std::set_terminate(exitWith42);
  options.reportUncaught = true;
  const Client client(options);
  std::terminate();
}

TEST_CASE("what is thrown and is no std::exception is reported, and so is an end without either") {
  struct Row {
    const char *test, *name, *message;
  };
  const Row row =
      GENERATE(Row{"hidden: uncaught and no exception", "exception", "not a std::exception"},
               Row{"hidden: terminated without an exception", "terminate",
                   "std::terminate without an exception"});
  const TestFile file;
  CHECK(runHidden(row.test, file) == 42);
  const fakes::Json error = errorIn(file);
  REQUIRE(error.is_object());
  CHECK(error.at("name") == row.name);
  CHECK(error.at("payload").at("message") == row.message);
}

TEST_CASE("hidden: uncaught with one of two clients", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  std::set_terminate(exitWith42);
  options.reportUncaught = true;
  Client client(options);
  options.cacheFile += ".other";
  { Client other(options); }
  throwUncaught();
}

TEST_CASE("an uncaught exception is reported though another client that reports has ended") {
  const TestFile file;
  CHECK(runHidden("hidden: uncaught with one of two clients", file) == 42);
  CHECK(errorIn(file).is_object());
}

TEST_CASE("hidden: uncaught below another handler", "[.child]") {
  Options options = hiddenOptions();
  if (options.cacheFile.empty()) return;
  std::set_terminate(exitWith42);
  options.reportUncaught = true;
  {
    Client first(options);
    above = std::set_terminate(passOn);
  }
  Client second(options);
  throwUncaught();
}

TEST_CASE("handlers that pass on to each other do not go round in circles") {
  const TestFile file;
  CHECK(runHidden("hidden: uncaught below another handler", file) == 42);
  CHECK(errorIn(file).is_object());
}

TEST_CASE("the handler of before is back when the client has ended") {
  const TestFile file;
  const std::terminate_handler before = std::get_terminate();
  Options options = onFile(file);
  options.reportUncaught = true;
  {
    const Client client(options);
    CHECK(std::get_terminate() != before);
  }
  CHECK(std::get_terminate() == before);
}

#endif

#endif
