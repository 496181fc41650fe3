// A program that has just started a client; with EMPTY one that has not. Prints its memory, in KB:
// all of it, and what is its own and was written to; and how many threads it has beside its first.
#ifndef EMPTY
#include "subject.hpp"
#endif

#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

namespace {

void printFacts(const char* file, const char* name) {
  std::FILE* const facts = std::fopen(file, "r");
  char line[256];
  while (facts != nullptr && std::fgets(line, sizeof line, facts) != nullptr) {
    long value = 0;
    if (std::strncmp(line, name, std::strlen(name)) != 0) continue;
    if (std::sscanf(line + std::strlen(name), ": %ld", &value) == 1) {
      std::printf("%s %ld\n", name, value);
    }
  }
  if (facts != nullptr) std::fclose(facts);
}

}  // namespace

int main() {
#ifndef EMPTY
  nucleus::Client client(subject::options("started.cache"));
  subject::trackReference(client);
#endif
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the worker gets up
  printFacts("/proc/self/smaps_rollup", "Rss");
  printFacts("/proc/self/smaps_rollup", "Private_Dirty");
  printFacts("/proc/self/status", "Threads");
}
