// A host that does as it is told, line by line, and answers each line with what it sees.
//
//   program FILE poll|threads
//
//   track N        N events, e1. e2. ...
//   pass MS        time passes, in steps of a quarter of a second
//   deliver        the server is there and acknowledges from now on; `offline`: it is not
//   persist, erase, forget, enable, held
//   end            the client ends as it should; `crash`: it does not
#include "../fakes.hpp"

#include <atomic>
#include <chrono>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include <unistd.h>

namespace {

using fakes::Json;

/// Moved by hand; read by any thread.
class Clock : public nucleus::Clock {
 public:
  std::int64_t wallMs() override { return 1'790'000'000'000 + passed_; }
  std::int64_t steadyMs() override { return 5'000 + passed_; }
  void advance(std::int64_t ms) { passed_ += ms; }

 private:
  std::atomic<std::int64_t> passed_{0};
};

/// What the host was told, from whichever thread.
struct Told {
  std::mutex mutex;
  std::map<std::string, int> codes;
  std::vector<std::string> gone;
};

class Host {
 public:
  Host(const std::string& file, bool threads) : threads_(threads) {
    nucleus::Options options;
    options.appId = "faults";
    options.cacheFile = file;
    options.background = threads;
    options.clock = clock_;
    options.respectDoNotTrack = false;
    options.cutoffMs = options.sessionTimeoutMs = std::int64_t{365} * 86'400'000;
    options.entropy = [random = std::make_shared<std::minstd_rand>(
                           std::hash<std::string>()(file) ^ static_cast<unsigned>(getpid()))](
                          void* to, std::size_t bytes) {
      for (char* at = static_cast<char*>(to); bytes > 0; --bytes)
        *at++ = static_cast<char>((*random)() >> 8);
      return true;
    };
    options.transport = [told = told_, delivers = delivers_](const nucleus::Request& request) {
      return *delivers ? acknowledge(request, *told) : nucleus::Response();
    };
    options.onDiagnostic = [told = told_](const nucleus::Diagnostic& diagnostic) {
      const std::lock_guard<std::mutex> lock(told->mutex);
      ++told->codes[std::string(diagnostic.code)];
    };
    client_ = nucleus::Client(options);
  }

  Json obey(const std::string& what, std::int64_t number) {
    Json result = true;
    if (what == "track") result = track(number);
    else if (what == "pass") pass(number);
    else if (what == "deliver") *delivers_ = true;
    else if (what == "offline") *delivers_ = false;
    else if (what == "persist") result = client_.persist();
    else if (what == "erase") result = client_.disableTracking();
    else if (what == "forget") result = client_.forget();
    else if (what == "enable") client_.enableTracking();
    else if (what == "held") result = held();
    else if (what == "end") result = client_.shutdown(1'000);
    else _exit(what == "crash" ? 0 : 2);
    return result;
  }
  /// As everything is after it.
  Json seen(const Json& result) {
    const nucleus::Stats stats = client_.stats();
    const std::lock_guard<std::mutex> lock(told_->mutex);
    return {{"result", result},
            {"told", told_->codes},
            {"gone", std::exchange(told_->gone, {})},
            {"storage", static_cast<int>(stats.storage)},
            {"balanced", fakes::balanced(stats)},
            {"queued", stats.queuedEvents},
            {"notCached", stats.notCached},
            {"damaged", stats.droppedDamaged},
            {"dropped", stats.droppedQueueFull + stats.droppedTooOld + stats.droppedRefused +
                            stats.droppedPersonalData}};
  }

 private:
  static nucleus::Response acknowledge(const nucleus::Request& request, Told& told) {
    const std::lock_guard<std::mutex> lock(told.mutex);
    for (const Json& event : fakes::Server::events(request.body())) {
      if (event.at("type") == "event") told.gone.push_back(event.at("name"));
    }
    return fakes::Server::acknowledge(request);
  }
  /// The names of those that were taken.
  Json track(std::int64_t number) {
    Json names = Json::array();
    for (; number > 0; --number) {
      const std::string name = 'e' + std::to_string(getpid()) + '.' + std::to_string(++count_);
      const std::string text(static_cast<std::size_t>(count_ % 5 * 300), 'x');
      if (client_.track(name, {{"text", text}}) == nucleus::Outcome::ok) names.push_back(name);
    }
    return names;
  }
  void pass(std::int64_t ms) {
    for (; ms > 0; ms -= 250) {
      clock_->advance(250);
      if (!threads_) client_.poll();
      else wake();
    }
    if (threads_) std::this_thread::sleep_for(std::chrono::milliseconds(30));  // let it work
  }
  /// Lets the worker see what time it is.
  void wake() {
    client_.online();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  Json held() {
    const Json all = Json::parse(client_.exportData());
    Json names = Json::array();
    for (const Json& event : all.at("events")) {
      if (event.at("type") == "event") names.push_back(event.at("name"));
    }
    return {{"names", names}, {"complete", all.at("complete")}};
  }

  const bool threads_;
  const std::shared_ptr<Clock> clock_ = std::make_shared<Clock>();
  const std::shared_ptr<Told> told_ = std::make_shared<Told>();
  const std::shared_ptr<std::atomic<bool>> delivers_ = std::make_shared<std::atomic<bool>>(false);
  nucleus::Client client_;
  int count_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  Host host(argv[1], argv[2] == std::string("threads"));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string what;
    std::int64_t number = 0;
    words >> what >> number;
    const Json result = host.obey(what, number);
    std::cout << host.seen(result) << std::endl;
  }
  return 0;
}
