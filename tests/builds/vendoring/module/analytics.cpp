// The module's bodies, which alone include the library.
module;
#include "nucleus.hpp"
module analytics;

namespace analytics {

static nucleus::Client client;

void start(const char* appId) {
  nucleus::Options options;
  options.appId = appId;
  options.offlineCache = options.respectDoNotTrack = false;
  options.transport = [](const nucleus::Request& request) -> nucleus::Response {
    const bool right = request.body().find("\"MODULE\"") != std::string_view::npos;
    return {right ? 200 : 500, "{\"confirmation\":true}", ""};
  };
  client = nucleus::Client(options);
}

bool track(const char* name) { return client.track(name) == nucleus::Outcome::ok; }
bool finish() { return client.flush(10'000) && client.shutdown(1'000); }

}  // namespace analytics
