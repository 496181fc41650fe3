// What any program does: makes a client, tracks, and sees the event leave by its own transport.
#include <nucleus.hpp>

#include <cstdio>

static bool seen = false;  // written and read in turn: flush() waits for the transport

int main() {
  nucleus::Options options;
  options.appId = "consumer";
  options.offlineCache = options.respectDoNotTrack = false;
  options.transport = [](const nucleus::Request& request) -> nucleus::Response {
    seen = seen || request.body().find("\"VENDORED\"") != std::string_view::npos;
    return {200, "{\"confirmation\":true}", ""};
  };
  nucleus::Client client(options);
  client.track("VENDORED", {{"standard", __cplusplus}});
  if (!client.flush(10'000) || !seen) return 1;
  std::puts("delivered by nucleus " NUCLEUS_VERSION);
}
