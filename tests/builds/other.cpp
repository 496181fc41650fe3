// The other file: uses the client it is handed, and throws an exception of its own.
#include "nucleus.hpp"

nucleus::Outcome trackElsewhere(nucleus::Client& client) { return client.track("elsewhere"); }

nucleus::Outcome reportElsewhere(nucleus::Client& client, const std::exception& error) {
  return client.trackError(error);
}

namespace {
struct Elsewhere : std::exception {
  const char* what() const noexcept override { return "thrown elsewhere"; }
};
}  // namespace

void throwElsewhere() {
#if defined(__cpp_exceptions)
  throw Elsewhere();
#endif
}
