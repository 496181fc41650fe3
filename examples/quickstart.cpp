// Shows how to track events while offline, and how they are delivered by the next run.
#include "../nucleus.hpp"

#include <cstdio>
#include <string>

const char* const cacheFile = "quickstart.cache";

void showCache(const char* when) {
  std::printf("\n--- %s, %s holds:\n", when, cacheFile);
  if (std::FILE* file = std::fopen(cacheFile, "rb")) {
    for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) std::putchar(c);
    std::fclose(file);
  }
}

// Stands in for your HTTP stack while there is no network.
nucleus::Response offline(const nucleus::Request&) { return {}; }

// Stands in for your HTTP stack and the server behind it, which names the ids that it has taken.
nucleus::Response online(const nucleus::Request& request) {
  const std::string body(request.body());
  std::string ids;
  const std::string key = "\"id\":";
  for (std::size_t at = body.find(key); at != std::string::npos; at = body.find(key, at)) {
    at += key.size();
    ids +=
        (ids.empty() ? "" : ",") + body.substr(at, body.find_first_not_of("0123456789", at) - at);
  }
  const nucleus::Response answer = {200, "{\"reportedIds\":[" + ids + "]}", {}};
  std::printf("\n--- POST %s\n%s\n", std::string(request.url()).c_str(), body.c_str());
  std::printf("\n--- answer %d\n%s\n", answer.status, answer.body.c_str());
  return answer;
}

int main() {
  nucleus::Options options;
  options.appId = "quickstart";
  options.cacheFile = cacheFile;

  options.transport = offline;
  {
    nucleus::Client nucleus(options);
    nucleus.track("PLAYED_TRACK",
                  {{"title", "My Awesome Song"}, {"seconds", 120}, {"liked", true}});
    nucleus.page("/settings", {{"tab", "audio"}});
    nucleus.trackError("DECODER", "unexpected end of stream");
    std::printf("first run: %zu events wait: three calls and the session's init\n",
                nucleus.stats().queuedEvents);
  }
  showCache("the first run is over");

  options.transport = online;
  nucleus::Client nucleus(options);
  std::printf("\nsecond run: %zu events wait: those and this session's init\n",
              nucleus.stats().queuedEvents);
  const bool delivered = nucleus.flush(5'000);
  nucleus.shutdown(1'000);
  showCache("all is delivered");
  return delivered ? 0 : 1;
}
