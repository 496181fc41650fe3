// One of two files of a program: hands its client to the other, and reports what that one throws.
#include "nucleus.hpp"

#include <cstdio>
#include <string>

nucleus::Outcome trackElsewhere(nucleus::Client& client);  // in other.cpp
nucleus::Outcome reportElsewhere(nucleus::Client&, const std::exception&);
void throwElsewhere();

namespace {

struct Own : std::exception {
  const char* what() const noexcept override { return "thrown here"; }
};

std::string sent;

nucleus::Options options() {
  nucleus::Options options;
  options.appId = "two-files";
  options.offlineCache = options.background = options.respectDoNotTrack = false;
  options.transport = [](const nucleus::Request& request) {
    sent += request.body();
    nucleus::Response response;
    response.status = 200;
    response.body = "{\"confirmation\":true}";
    return response;
  };
  return options;
}

void throwAndReport(nucleus::Client& client) {
#if defined(__cpp_exceptions)
  try {
    throwElsewhere();
  } catch (const std::exception& error) {
    client.trackError(error);
  }
#else
  client.trackError("exception", "thrown elsewhere");
#endif
}

}  // namespace

int main() {
  nucleus::Client client(options());
  client.track("here");
  trackElsewhere(client);
  reportElsewhere(client, Own());
  throwAndReport(client);
  if (!client.flush(5'000)) return 2;
  for (const char* each : {"\"here\"", "\"elsewhere\"", "thrown here", "thrown elsewhere"}) {
    if (sent.find(each) == std::string::npos) return 1;
  }
  std::puts("both files were heard");
}
