// One of two libraries of a program: contains nucleus.hpp, and knows nothing of the other.
#include "library.hpp"

#include "nucleus.hpp"

namespace {

nucleus::Client client;
std::string sent;

void open(const char* cacheFile) {
  nucleus::Options options;
  options.appId = "libraries";
  options.cacheFile = cacheFile;
  options.respectDoNotTrack = false;
  options.shutdownTimeoutMs = 0;
  options.cacheDelayMs = 20;
  options.reportUncaught = true;
  options.transport = [](const nucleus::Request& request) -> nucleus::Response {
    sent += request.body();
    if (client.flush(10'000)) return {};  // false at once: not from within
    return {200, "{\"confirmation\":true}", ""};
  };
  client = nucleus::Client(options);
}
bool holdsFile() { return client.stats().storage == nucleus::StorageState::ready; }
bool track(const char* name) { return client.track(name) == nucleus::Outcome::ok; }
bool deliver() { return client.flush(10'000); }
const char* allSent() { return sent.c_str(); }
void close() { client = nucleus::Client(); }

}  // namespace

extern "C" __attribute__((visibility("default"))) const Library* library() {
  static const Library all = {NUCLEUS_VERSION, open, holdsFile, track, deliver, allSent, close};
  return &all;
}
