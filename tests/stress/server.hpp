// The other end of the stress: a server that answers well, badly, late, twice and from other
// threads, and remembers what it was sent and what it has acknowledged.
#pragma once

#include "../../nucleus.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace stress {

using nucleus::Request;
using nucleus::Response;
using Ids = std::vector<std::uint64_t>;
using Names = std::set<std::string>;

/// What has been done so far.
struct Figures {
  std::atomic<std::uint64_t> rounds{0}, calls{0}, events{0}, requests{0}, replies{0}, failures{0},
      forks{0}, exits{0}, moves{0}, consents{0}, shutdowns{0}, exports{0};
};
inline Figures figures;

inline void fail(const std::string& what) {
  ++figures.failures;
  std::printf("FAILED: %s\n", what.c_str());
  std::fflush(stdout);
}
inline void check(bool holds, const char* what) {
  if (!holds) fail(what);
}

/// Random numbers of one thread.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  /// One in so many.
  bool rarely(unsigned times) { return below(times) == 0; }
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  void pause(unsigned mostMs) {
    std::this_thread::sleep_for(std::chrono::microseconds(below(mostMs * 1000 + 1)));
  }

 private:
  std::mt19937_64 random_;
};

class Server {
 public:
  explicit Server(std::uint64_t seed) : dice_(seed) {}

  /// From now on it only acknowledges.
  void behave() { good_ = true; }
  /// There is memory for one request alone.
  void holdNothing() { holds_ = false; }
  Response answer(const Request& request) {
    ++figures.requests;
    if (!request.expectsAnswer()) return {};
    note(request);
    if (good_) return acknowledge(request);
    switch (roll(24)) {
      case 0: throw std::runtime_error("no connection");
      case 1: return {500, "", ""};
      case 2: return {200, "<html>log in</html>", ""};
      case 3: return {413, "", ""};
      case 4: return {0, "", ""};
      case 5: return {429, "", roll(2) == 0 ? "0" : ""};
      case 6:
      case 7:
      case 8: return keep(request), Response::pending();
      case 9: return sleep(20), acknowledge(request);
      case 10: return acknowledge(request, 2);
      default: return acknowledge(request);
    }
  }
  /// On threads of its own: answers what was kept, late, and some of it again and again.
  void replyUntil(const std::atomic<bool>& stop, std::uint64_t seed) {
    for (Dice dice(seed); !stop; dice.pause(2)) {
      const std::vector<Request> some = take(dice);
      for (const Request& request : some) reply(request, dice);
    }
  }
  /// What names the events of a request that was kept.
  std::string message() {
    const std::vector<Request> all = kept();
    return all.empty() ? "{}" : acknowledge(all[roll(static_cast<unsigned>(all.size()))]).body;
  }
  bool allCancelled() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto* requests : {&kept_, &recent_}) {
      for (const Request& request : *requests) {
        if (!request.cancelled()) return false;
      }
    }
    return true;
  }
  void letGo() {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.clear();
    recent_.clear();
  }
  bool acknowledged(const std::string& name) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return acknowledged_.count(name) != 0;
  }

 private:
  static constexpr std::string_view begin = R"({"type":")";

  static std::string_view field(std::string_view event, std::string_view key, char end) {
    const std::size_t at = event.find(key);
    if (at == std::string_view::npos) return {};
    event.remove_prefix(at + key.size());
    return event.substr(0, event.find(end));
  }
  static std::string nameOf(std::string_view event) {
    return std::string(field(event, R"("name":")", '"'));
  }
  static std::uint64_t idOf(std::string_view event) {
    return std::strtoull(std::string(field(event, R"("id":)", ',')).c_str(), nullptr, 10);
  }
  template <class Each>
  static void forEach(std::string_view body, Each&& each) {
    for (std::size_t at = body.find(begin); at != std::string_view::npos;) {
      const std::size_t next = body.find(begin, at + 1);
      const bool last = next == std::string_view::npos;
      each(body.substr(at, (last ? body.size() - 2 : next - 1) - at));
      at = next;
    }
  }
  /// An event comes the same each time.
  void note(const Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (holds_ && dice_.rarely(2)) recent_.assign(1, request);
    forEach(request.body(), [this](std::string_view event) {
      const auto [known, isNew] = received_.emplace(idOf(event), event);
      if (!isNew && known->second != event) fail("an id names two events");
    });
  }
  /// Every event, or one of so many.
  Response acknowledge(const Request& request, unsigned oneOf = 1) {
    std::string ids;
    const std::lock_guard<std::mutex> lock(mutex_);
    forEach(request.body(), [&](std::string_view event) {
      const std::uint64_t id = idOf(event);
      if (id % oneOf != 0) return;
      acknowledged_.insert(nameOf(event));
      ids += (ids.empty() ? "" : ",") + std::to_string(id);
    });
    return {200, R"({"latestVersion":"9.9","customData":{"a":1},"reportedIds":[)" + ids + "]}", ""};
  }
  void keep(const Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.push_back(request);
  }
  std::vector<Request> kept() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return kept_;
  }
  /// Some stay, to be answered once more.
  std::vector<Request> take(Dice& dice) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kept_.empty() || dice.rarely(4)) return kept_;
    return std::exchange(kept_, {});
  }
  void reply(const Request& request, Dice& dice) {
    ++figures.replies;
    if (request.cancelled() && dice.rarely(2)) return;
    request.reply(dice.rarely(4) ? Response{500, "", ""} : acknowledge(request));
    if (dice.rarely(2)) request.reply(acknowledge(request));
  }
  unsigned roll(unsigned bound) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return dice_.below(bound);
  }
  void sleep(unsigned mostMs) {
    std::this_thread::sleep_for(std::chrono::milliseconds(roll(mostMs)));
  }

  mutable std::mutex mutex_;
  Dice dice_;
  std::atomic<bool> good_{false}, holds_{true};
  std::map<std::uint64_t, std::string> received_;
  Names acknowledged_;
  std::vector<Request> kept_, recent_;  // the latter: perhaps answered, and held
};

}  // namespace stress
