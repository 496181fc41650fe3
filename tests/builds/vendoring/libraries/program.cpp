// A program of two libraries that both contain nucleus.hpp, linked or, with PLUGINS, loaded:
//
//   program CACHE_FILE [local|global FIRST.so SECOND.so]
#include "library.hpp"

#include <cstdio>
#include <string>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int failures = 0;

void expect(bool right, const char* what) {
  if (right) return;
  ++failures;
  std::printf("failed: %s\n", what);
}
template <class Condition>
bool within10s(Condition condition) {
  for (int tries = 0; tries < 1'000; ++tries) {
    if (condition()) return true;
    usleep(10'000);
  }
  return false;
}
bool has(const Library& library, const std::string& text) {
  return std::string(library.sent()).find(text) != std::string::npos;
}
std::string idOf(const Library& library) {
  const std::string sent = library.sent();
  const std::size_t at = sent.find("\"deviceId\":");
  return at == std::string::npos ? "none" : sent.substr(at, 30);
}

/// Neither takes the other's calls, events or version; they are one user.
void sideBySide(const Library& first, const Library& second, const char* file) {
  first.open(file);
  expect(first.track("FIRST") && first.deliver(), "the first delivers");
  second.open(file);
  expect(second.track("SECOND") && second.deliver(), "the second delivers");
  expect(has(first, "\"FIRST\"") && !has(first, "\"SECOND\""), "the first sends its own");
  expect(has(second, "\"SECOND\"") && !has(second, "\"FIRST\""), "the second sends its own");
  for (const Library* each : {&first, &second}) {
    expect(has(*each, std::string("\"moduleVersion\":\"") + each->version), "each its version");
  }
  expect(idOf(first) == idOf(second), "both send the ids that the file has");
}

/// As two processes would, they take turns with the file.
void oneFile(const Library& first, const Library& second, const char* file) {
  expect(first.holdsFile() && !second.holdsFile(), "the first holds the file");
  first.close();
  expect(within10s([&] { return second.track("TURN") && second.holdsFile(); }),
         "the second takes the file over");
  expect(second.track("KEPT"), "the second tracks on");
  second.close();
  first.open(file);
  expect(first.holdsFile(), "the first holds the file again");
  expect(first.deliver() && has(first, "\"KEPT\""), "the first delivers what the second kept");
}

/// In the child of a fork() both are inert, and neither keeps the file.
void forked(const Library& first, const Library& second, const char* file) {
  int release[2];
  if (pipe(release) != 0) return expect(false, "a pipe");
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    ::close(release[1]);
    const bool inert = !first.track("CHILD") && !second.track("CHILD");
    _exit(read(release[0], &byte, 1) == 0 && inert ? 0 : 1);
  }
  first.close();
  second.close();
  first.open(file);
  expect(first.holdsFile(), "the child of a fork() does not keep the file");
  first.close();
  ::close(release[0]);
  ::close(release[1]);
  int status = 1;
  expect(waitpid(child, &status, 0) == child && status == 0, "both are inert in the child");
}

}  // namespace

#if defined(PLUGINS)
static void* loaded(const char* path, const char* how) {
  void* const library = dlopen(path, RTLD_NOW | (how[0] == 'g' ? RTLD_GLOBAL : RTLD_LOCAL));
  if (library == nullptr) std::printf("failed: %s\n", dlerror());
  return library;
}
static const Library* named(void* library, const char* name) {
  const auto function = reinterpret_cast<const Library* (*)()>(dlsym(library, name));
  return function != nullptr ? function() : nullptr;
}
#else
extern "C" const Library* first();
extern "C" const Library* second();
#endif

int main(int count, char** arguments) {
#if defined(PLUGINS)
  if (count < 5) return 2;
  void* const handles[] = {loaded(arguments[3], arguments[2]), loaded(arguments[4], arguments[2])};
  const Library* const one = named(handles[0], "first");
  const Library* const two = named(handles[1], "second");
  if (one == nullptr || two == nullptr) return 2;
#else
  if (count < 2) return 2;
  const Library *const one = first(), *const two = second();
#endif
  const std::string versions = std::string(one->version) + " and " + two->version;
  sideBySide(*one, *two, arguments[1]);
  oneFile(*one, *two, arguments[1]);
  two->open(arguments[1]);
  forked(*one, *two, arguments[1]);
#if defined(PLUGINS)
  for (void* const handle : handles) dlclose(handle);
  const pid_t child = fork();  // calls nothing of what is gone
  if (child == 0) _exit(0);
  int status = 1;
  expect(waitpid(child, &status, 0) == child && status == 0,
         "after dlclose() a fork() still works");
#endif
  if (failures == 0) std::printf("side by side: %s\n", versions.c_str());
  return failures == 0 ? 0 : 1;
}
