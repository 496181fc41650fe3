// The least there is to a program that tracks: what the library takes by itself.
#include "../../nucleus.hpp"

int main() {
  static char memory[8720];
  nucleus::Options options;
  options.appId = "alone";
  options.transport = [](const nucleus::Request&) { return nucleus::Response(); };
  options.entropy = [](void*, std::size_t) { return true; };
  options.memory.data = memory;
  options.memory.bytes = sizeof memory;
  options.background = false;
  nucleus::Client nucleus(std::move(options));
  nucleus.track("STARTED");
  for (;;) nucleus.poll();
}
