// The client that is measured: default options, a real cache file, a server that answers at once.
#pragma once

#include "streams.hpp"

#include <cstring>
#include <memory>
#include <string>

namespace subject {

/// Instead of random ids, which differ in length from run to run.
inline bool sameEntropy(void* to, std::size_t bytes) {
  std::memset(to, 0x5A, bytes);
  return true;
}

inline nucleus::Response confirm(const nucleus::Request&) {
  return {200, R"({"confirmation":true})", {}};
}

inline nucleus::Options options(const std::string& cacheFile) {
  nucleus::Options options;
  options.appId = "bench";
  options.cacheFile = cacheFile;
  options.deviceId = "k3TzQ8sVbN1xLw0";
  options.anonId = "Zq7Rk2MvXc9T";
  options.entropy = sameEntropy;
  options.respectDoNotTrack = false;
  options.transport = confirm;
  return options;
}

/// With it the reference event is 254 bytes of JSON.
inline void signIn(nucleus::Client& client) { client.setUserId("user-123456789"); }

inline nucleus::Outcome trackReference(nucleus::Client& client) {
  return client.track("PLAYED_TRACK",
                      {{"trackName", "My Awesome Song"}, {"duration", 120}, {"premium", true}});
}

inline nucleus::Outcome track(nucleus::Client& client, const streams::Tracked& event) {
  return client.track(event.name, event.properties);
}

/// Stands still until it is moved: what happens on time happens at the same time in every run.
class Clock : public nucleus::Clock {
 public:
  std::int64_t wallMs() override { return 1'790'000'000'000 + ms_; }
  std::int64_t steadyMs() override { return ms_; }
  void advance(std::int64_t ms) { ms_ += ms; }

 private:
  std::int64_t ms_ = 5'000;
};

/// Without a worker and on a clock of our own: move it, then poll().
inline nucleus::Options polled(const std::string& cacheFile, std::shared_ptr<Clock> clock) {
  nucleus::Options options = subject::options(cacheFile);
  options.background = false;
  options.clock = std::move(clock);
  return options;
}

}  // namespace subject
