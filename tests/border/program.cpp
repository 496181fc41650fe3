// The program whose system calls `run` reads. Before each step it looks for a file that is nowhere,
// /nucleus-border/STEP, so that the trace tells where it is. With BARE: the same without library.
//
//   program [enabled] [remember] [offline] STEP...
#ifndef BARE
#include "nucleus.hpp"
#endif

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <thread>

// These two stand in for the C library's, of which some answer without a system call: a trace would
// not show it. By another name, for its declarations differ from system to system.
long tracedRandom(void* to, std::size_t bytes, unsigned flags) __asm__("getrandom");
int tracedEntropy(void* to, std::size_t bytes) __asm__("getentropy");

long tracedRandom(void* to, std::size_t bytes, unsigned flags) {
  return syscall(SYS_getrandom, to, bytes, flags);
}
int tracedEntropy(void* to, std::size_t bytes) {
  return tracedRandom(to, bytes, 0) == static_cast<long>(bytes) ? 0 : -1;
}

namespace {

std::string failed;  // told at the end: a line of output would stand in the trace

void mark(std::string_view step) { access(("/nucleus-border/" + std::string(step)).c_str(), F_OK); }

#ifdef BARE

void live(int, char**) {}

#else

void expect(bool right, std::string_view what) {
  if (!right) failed += "it is not so that " + std::string(what) + '\n';
}

std::atomic<int> requests{0};

nucleus::Options options(bool enabled, bool remember, bool offline) {
  nucleus::Options options;
  options.appId = "border";
  options.transport = [offline](const nucleus::Request& request) {
    ++requests;
    nucleus::Response response;
    response.status = offline || request.body().empty() ? 0 : 200;
    response.body = "{\"confirmation\":true}";
    return response;
  };
  options.disableTracking = !enabled;
  options.rememberTrackingChoice = remember;
  options.anonymizeKey = "sixteen bytes or more";
  options.cacheDelayMs = 10;
  options.reportIntervalMs = 100;
  options.filter = [](nucleus::Text, nucleus::Text, nucleus::Properties) { return true; };
  options.onDiagnostic = [](const nucleus::Diagnostic&) {};
  options.onUpdate = [](std::string_view) {};
  options.onCustomData = [](std::string_view) {};
  return options;
}

void track(nucleus::Client& client) {
  const bool enabled = client.trackingEnabled();
  const nucleus::Property list[] = {{"a", 1}, {"b", "x"}};
  const nucleus::Outcome outcomes[] = {
      client.track("track"),
      client.track("track", list),
      client.track("track", {{"a", 0.5}, {"b", true}}),
      client.page("page"),
      client.page("page", {{"a", 1}}),
      client.screen("screen"),
      client.screen("screen", {{"a", 1}}),
      client.trackError("error", "message", "stack"),
      client.trackError(std::exception()),
      client.setUserId("user"),
      client.setProps(list),
      client.setProps({{"a", 2}}, true),
      client.identify("ada@example.org"),
      client.identify("user", {{"a", 3}}),
      client.startSession(),
  };
  for (const nucleus::Outcome outcome : outcomes) {
    expect((outcome == nucleus::Outcome::ok) == enabled, "a call is accepted if tracking is on");
  }
}

void steer(nucleus::Client& client) {
  client.poll();
  client.receive("{\"reportedIds\":[1]}");
  client.online(false);
  client.online();
  expect(client.flush(2'000) == client.trackingEnabled(), "flush() delivers if tracking is on");
  client.persist();
  client.consent();
  expect(client.stats().trackingEnabled == client.trackingEnabled(), "stats() knows the state");
}

void ask() {
  const nucleus::DataInventory inventory = nucleus::dataInventory(options(true, true, true));
  expect(!inventory.markdown().empty() && !inventory.json().empty(), "there is an inventory");
  expect(!nucleus::anonymize("ada@example.org", "key").empty(), "anonymize() answers");
  expect(!nucleus::defaultCacheFile("border").empty(), "there is a place for the file");
  expect(nucleus::fileStorage("/nucleus-border/unused") != nullptr, "there is a file storage");
}

/// Every call but those that read or erase the file. Then waits longer than the worker ever does.
void callAll(nucleus::Client& client) {
  const int before = requests;
  track(client);
  steer(client);
  ask();
  std::this_thread::sleep_for(std::chrono::milliseconds(1'700));
  expect((requests > before) == client.trackingEnabled(), "requests begin if tracking is on");
}

/// So much that the file is worth a new one once all of it is acknowledged.
void fill(nucleus::Client& client) {
  for (int i = 0; i < 400; ++i) client.track("many", {{"number", i}});
  client.persist();
  client.flush(2'000);
}

void take(nucleus::Client& client, std::string_view step) {
  mark(step);
  if (step == "enable") client.enableTracking();
  if (step == "enable" || step == "calls") callAll(client);
  if (step == "fill") fill(client);
  if (step == "export") expect(client.exportData().size() > 2, "exportData() shows something");
  if (step == "machine") nucleus::machineDeviceId("border");
  if (step == "disable") expect(client.disableTracking(), "disableTracking() has erased");
  if (step == "forget") expect(client.forget(), "forget() has erased");
}

void live(int count, char** arguments) {
  bool enabled = false, remember = false, offline = false;
  int at = 1;
  for (; at < count; ++at) {
    const std::string_view word = arguments[at];
    if (word == "enabled") enabled = true;
    else if (word == "remember") remember = true;
    else if (word == "offline") offline = true;
    else break;
  }
  mark("construct");
  nucleus::Client client(options(enabled, remember, offline));
  for (; at < count; ++at) take(client, arguments[at]);
  mark("end");
}

#endif

}  // namespace

int main(int count, char** arguments) {
  mark("begin");
  live(count, arguments);
  mark("over");
  std::fputs(failed.c_str(), stdout);
  return failed.empty() ? 0 : 1;
}
