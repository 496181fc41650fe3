// Shows how to use the library without a thread: poll() once a frame does all the work.
#include "../nucleus.hpp"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

using Milliseconds = std::chrono::duration<double, std::milli>;

// Stands in for an asynchronous HTTP stack: begins the transfer, never waits. A real one keeps
// `request` (it is a small handle) and calls request.reply(...) when the answer is there.
nucleus::Response beginTransfer(const nucleus::Request& request) {
  std::printf("begin: %zu bytes to %s\n", request.body().size(),
              std::string(request.url()).c_str());
  return nucleus::Response::pending();
}

int main() {
  nucleus::Options options;
  options.appId = "game-loop";
  options.cacheFile = "game-loop.cache";
  options.background = false;
  options.transport = beginTransfer;
  nucleus::Client nucleus(options);

  Milliseconds longest{0};
  auto next = std::chrono::steady_clock::now();
  for (int frame = 0; frame < 150; ++frame) {
    const auto begin = std::chrono::steady_clock::now();
    if (frame % 30 == 0) nucleus.track("LEVEL_UP", {{"level", frame / 30}, {"frame", frame}});
    nucleus.poll();
    const Milliseconds spent = std::chrono::steady_clock::now() - begin;
    if (spent > longest) longest = spent;
    next += std::chrono::microseconds(16'667);  // the rest of the frame is the game's
    std::this_thread::sleep_until(next);
  }
  const nucleus::Stats stats = nucleus.stats();
  std::printf("%zu events wait in %zu bytes of cache\n", stats.queuedEvents, stats.cacheBytes);
  std::printf("the longest time a frame spent in the library: %.3f ms\n", longest.count());
}
