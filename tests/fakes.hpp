// What the tests put in place of the system: time, storage and a server, all under their control.
#pragma once

#include "../nucleus.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#if defined(_WIN32)
extern "C" __declspec(dllimport) int __stdcall SetEnvironmentVariableW(const wchar_t*,
                                                                       const wchar_t*);
#endif

namespace fakes {

/// Long loops are shorter by this where a sanitizer or an emulator makes each step slower: they are
/// gone through whole without one.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NUCLEUS_TEST_ADDRESSES
#endif
#endif
#if defined(NUCLEUS_TESTS_SLOWDOWN)
constexpr std::size_t slowdown = NUCLEUS_TESTS_SLOWDOWN;
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
    defined(NUCLEUS_TEST_ADDRESSES)
constexpr std::size_t slowdown = 10;
#else
constexpr std::size_t slowdown = 1;
#endif

/// So many rounds, or fewer where each is slow, but not under `least`.
constexpr std::size_t rounds(std::size_t most, std::size_t least) {
  return least + (most - least) / slowdown;
}

using Json = nlohmann::json;

/// Stands still until it is moved.
class Clock : public nucleus::Clock {
 public:
  std::int64_t wall = 1'790'000'000'000, steady = 5'000;

  std::int64_t wallMs() override { return wall; }
  std::int64_t steadyMs() override { return steady; }
  void advance(std::int64_t ms) {
    wall += ms;
    steady += ms;
  }
};

/// A file that outlives its clients, counts its calls, and fails when it is told to.
struct Disk {
  std::string file;     // its content
  std::string durable;  // what a power cut leaves of it
  bool exists = false;
  bool locked = false;  // by another process
  bool foreign = false;
  bool unreadable = false;
  bool full = false;      // append and write fail
  bool tears = false;     // append writes half of what it is given, then fails
  bool readOnly = false;  // a replacement cannot begin
  bool renameFails = false;
  bool syncFails = false;
  bool eraseFails = false;
  bool gone = false;  // vanished behind our back
  int opens = 0, reads = 0, appends = 0, replaces = 0, syncs = 0, erases = 0, closes = 0;
  std::size_t largest = 0;       // the file ever was
  std::size_t furthestRead = 0;  // how far into it was read
  const void* holder = nullptr;  // the storage that holds the lock
  // Called while the file is being written, and read:
  std::function<void()> onAppend, onWrite, onCommit, onRead;

  int calls() const { return opens + reads + appends + replaces + syncs + erases + closes; }
};

class Storage : public nucleus::Storage {
 public:
  explicit Storage(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
  ~Storage() override { release(); }

  nucleus::StorageState open() override {
    ++disk_->opens;
    if (disk_->foreign) return nucleus::StorageState::foreign;
    if (disk_->gone) disk_->exists = disk_->gone = false;
    if (!disk_->exists) return nucleus::StorageState::absent;
    const bool theirs = disk_->holder != nullptr && disk_->holder != this;
    if (disk_->locked || theirs) return nucleus::StorageState::locked;
    disk_->holder = this;
    return nucleus::StorageState::ready;
  }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    ++disk_->reads;
    if (disk_->onRead) disk_->onRead();
    if (disk_->unreadable) return SIZE_MAX;
    const std::size_t given = at < disk_->file.size() ? disk_->file.copy(to, bytes, at) : 0;
    disk_->furthestRead = std::max(disk_->furthestRead, at + given);
    return given;
  }
  bool append(std::string_view text) override {
    ++disk_->appends;
    if (disk_->onAppend) disk_->onAppend();
    if (disk_->full || disk_->gone) return false;
    disk_->file += disk_->tears ? text.substr(0, text.size() / 2) : text;
    disk_->largest = std::max(disk_->largest, disk_->file.size());
    return !disk_->tears;
  }
  bool beginReplace() override {
    ++disk_->replaces;
    twin_.clear();
    return !disk_->readOnly && !disk_->locked &&
           (disk_->holder == nullptr || disk_->holder == this);
  }
  bool write(std::string_view text) override {
    if (disk_->onWrite) disk_->onWrite();
    if (disk_->full) return false;
    twin_ += text;
    return true;
  }
  bool commitReplace() override {
    if (disk_->onCommit) disk_->onCommit();
    if (disk_->full || disk_->renameFails) return false;
    disk_->durable = disk_->file = std::exchange(twin_, {});
    disk_->largest = std::max(disk_->largest, disk_->file.size());
    disk_->exists = true;
    disk_->gone = false;
    disk_->holder = this;
    return true;
  }
  bool sync() override {
    ++disk_->syncs;
    if (disk_->syncFails) return false;
    disk_->durable = disk_->file;
    return true;
  }
  bool erase() override {
    ++disk_->erases;
    if (disk_->eraseFails) return false;
    disk_->file.clear();
    disk_->durable.clear();
    disk_->exists = false;
    release();
    return true;
  }
  bool vanished() override { return disk_->gone; }
  void close() override {
    ++disk_->closes;
    release();
  }

 private:
  void release() {
    if (disk_->holder == this) disk_->holder = nullptr;
  }

  std::shared_ptr<Disk> disk_;
  std::string twin_;
};

/// Notes every request, and answers as it is told: by default it acknowledges everything.
struct Server {
  using Answer = std::function<nucleus::Response(const nucleus::Request&)>;

  std::vector<std::string> bodies;
  std::vector<std::string> urls;
  std::vector<nucleus::Request> requests;  // handles, kept only if `keeps`
  std::deque<Answer> script;               // used up first
  Answer then;                             // afterwards
  bool keeps = false;

  static Json events(std::string_view body) { return Json::parse(body).at("data"); }
  static std::vector<std::uint64_t> ids(std::string_view body) {
    std::vector<std::uint64_t> ids;
    for (const Json& event : events(body)) ids.push_back(event.at("id"));
    return ids;
  }
  static std::string naming(const std::vector<std::uint64_t>& ids) {
    return Json{{"reportedIds", ids}}.dump();
  }
  static nucleus::Response with(int status, std::string body = {}, std::string retryAfter = {}) {
    return {status, std::move(body), std::move(retryAfter)};
  }
  static Answer always(int status, std::string body = {}, std::string retryAfter = {}) {
    return [=](const nucleus::Request&) { return with(status, body, retryAfter); };
  }
  static nucleus::Response acknowledge(const nucleus::Request& request) {
    if (!request.expectsAnswer()) return nucleus::Response::pending();  // a heartbeat
    return with(200, naming(ids(request.body())));
  }

  nucleus::Response operator()(const nucleus::Request& request) {
    bodies.emplace_back(request.body());
    urls.emplace_back(request.url());
    if (keeps) requests.push_back(request);
    Answer answer = then ? then : Answer(acknowledge);
    if (!script.empty()) {
      answer = script.front();
      script.pop_front();
    }
    return answer(request);
  }
  /// Every event of every request, in order, repetitions included.
  std::vector<Json> received() const {
    std::vector<Json> all;
    for (const std::string& body : bodies) {
      for (const Json& event : events(body)) all.push_back(event);
    }
    return all;
  }
};

/// A null pointer: not set.
inline void setVariable(const char* name, const char* value) {
#if defined(_WIN32)
  using nucleus::detail::widen;
  const std::wstring wide = widen(value != nullptr ? value : "");
  SetEnvironmentVariableW(widen(name).c_str(), value != nullptr ? wide.c_str() : nullptr);
#else
  if (value != nullptr) setenv(name, value, 1);
  else unsetenv(name);
#endif
}

/// Where the system keeps the data of a user's programs is in this variable.
#if defined(_WIN32)
constexpr const char* dataVariable = "LOCALAPPDATA";
#else
constexpr const char* dataVariable = "XDG_DATA_HOME";
#endif

/// All of a file. (On Windows a stream cannot read one that is held.)
inline std::string contentOf(const std::string& path) {
#if defined(_WIN32)
  nucleus::detail::File file;
  std::string content;
  if (!file.openToLook(nucleus::detail::toPath(path))) return content;
  for (char piece[4096];;) {
    const std::size_t got = file.read(content.size(), piece, sizeof piece);
    if (got == 0 || got == SIZE_MAX) return content;
    content.append(piece, got);
  }
#else
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
#endif
}

/// Takes a file away that may be open. (On Windows its name would stay until it is closed.)
inline void takeAway(std::string path) {
#if defined(_WIN32)
  static int taken = 0;
  const std::string other = path + ".gone" + std::to_string(++taken);
  if (std::rename(path.c_str(), other.c_str()) == 0) path = other;
#endif
  std::remove(path.c_str());
}

/// A variable of the environment, put back at the end.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    std::string before;
    if (nucleus::detail::readEnvironment(name, before)) before_ = before;
    setVariable(name_, value);
  }
  ~Variable() { setVariable(name_, before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

/// The same numbers each time for the same seed, whatever the machine's order of bytes.
inline std::function<bool(void*, std::size_t)> entropyFrom(std::uint64_t seed) {
  return [random = std::make_shared<std::mt19937_64>(seed)](void* to, std::size_t n) {
    for (std::size_t at = 0; at < n; at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      for (int bit = 0; bit < 64; bit += 8) word |= ((*random)() & 0xff) << bit;
      std::memcpy(static_cast<char*>(to) + at, &word, std::min(n - at, sizeof word));
    }
    return true;
  };
}

/// A client's surroundings, without threads: move the clock, then poll().
struct World {
  std::shared_ptr<Clock> clock = std::make_shared<Clock>();
  std::shared_ptr<Disk> disk = std::make_shared<Disk>();
  std::shared_ptr<Server> server = std::make_shared<Server>();
  std::vector<std::pair<std::string, std::uint64_t>> diagnostics;  // code, count
  std::vector<std::string> messages;
  std::uint64_t seed = 1;

  World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  nucleus::Options options() {
    nucleus::Options options;
    options.appId = "test-app";
    options.background = false;
    options.clock = clock;
    options.storage = std::make_shared<Storage>(disk);
    options.entropy = entropyFrom(seed++);
    options.transport = [server = server](const nucleus::Request& r) { return (*server)(r); };
    options.onDiagnostic = [this](const nucleus::Diagnostic& d) {
      diagnostics.emplace_back(d.code, d.count);
      messages.emplace_back(d.message);
    };
    return options;
  }
  /// Lets time pass in steps, polling at each.
  void pass(nucleus::Client& client, std::int64_t ms, std::int64_t step = 250) {
    for (; ms > 0; ms -= step) {
      clock->advance(step < ms ? step : ms);
      client.poll();
    }
  }
  std::uint64_t told(std::string_view code) const {
    std::uint64_t count = 0;
    for (const auto& [each, times] : diagnostics) count += each == code ? times : 0;
    return count;
  }
};

/// Every call that costs nothing while cacheDelayMs is not 0. How many events it makes.
inline int makeEveryCall(nucleus::Client& client) {
  int events = 0;
  const auto count = [&](nucleus::Outcome outcome, int each = 1) {
    if (outcome == nucleus::Outcome::ok) events += each;
  };
  count(client.track("EVENT", {{"a", 1}}));
  count(client.page("PAGE"));
  count(client.screen("SCREEN"));
  count(client.setUserId("somebody"));
  count(client.setProps({{"plan", "pro"}}));
  count(client.identify("somebody else", {{"plan", "free"}}), 2);
  count(client.startSession());
  client.receive(R"({"reportedIds":[1,2,3]})");
  client.online(true);
  client.online(false);
  client.stats();
  client.consent();
  client.trackingEnabled();
  return events;
}

/// There a test that lacks what it needs, as root or a locale, has failed.
inline bool inCi() { return std::getenv("NUCLEUS_CI") != nullptr; }

/// Every event that was accepted is queued, acknowledged, erased or dropped.
inline bool balanced(const nucleus::Stats& s) {
  return s.acceptedEvents == s.queuedEvents + s.acknowledgedEvents + s.erasedEvents +
                                 s.droppedQueueFull + s.droppedTooOld + s.droppedRefused +
                                 s.droppedDamaged + s.droppedPersonalData;
}

}  // namespace fakes
