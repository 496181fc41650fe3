// The board of the example as QEMU plays it: a Cortex-M4, a flash in memory, and for all else the
// debugger's calls (Arm semihosting). What a real board has instead is a driver each.
//
// The simulation is told by words on its command line how long to run, and where to cut the power.
#include "board.hpp"
#include "simulated_flash.hpp"

#include <cerrno>

extern "C" {
extern char initBegin[], initEnd[], dataImage[], dataBegin[], dataEnd[], bssBegin[], bssEnd[],
    heapBegin[], stackEnd[];
int program() __asm("main");
void* __dso_handle = nullptr;
void reset();
void fault();
}

namespace {

// ---- the debugger's calls ----

enum Operation { openFile = 1, writeFile = 5, readFile = 6, commandLine = 0x15, exitWith = 0x20 };

int ask(Operation operation, const void* arguments) {
  register int number __asm("r0") = operation;
  register const void* block __asm("r1") = arguments;
  __asm volatile("bkpt 0xAB" : "+r"(number) : "r"(block) : "memory");
  return number;
}
[[noreturn]] void end(int code) {
  const std::uintptr_t arguments[] = {0x20026, static_cast<std::uintptr_t>(code)};
  for (;;) ask(exitWith, arguments);
}
int openHandle(std::string_view name, std::uintptr_t mode) {  // as fopen()'s r, rb, w, ... count
  const std::uintptr_t arguments[] = {reinterpret_cast<std::uintptr_t>(name.data()), mode,
                                      name.size()};
  return ask(openFile, arguments);
}
/// How many bytes were not transferred.
int transfer(Operation operation, int handle, const char* at, std::size_t bytes) {
  const std::uintptr_t arguments[] = {static_cast<std::uintptr_t>(handle),
                                      reinterpret_cast<std::uintptr_t>(at), bytes};
  return ask(operation, arguments);
}

// ---- the simulation ----

__attribute__((section(".pages"))) SimulatedFlash::Cells cells;

/// `IMAGE MILLISECONDS CUT LEFT CHANCE`: the file that the flash is kept in, how long the device
/// is on, and in which operation of the flash its power is cut, and how.
class Simulation : public SimulatedFlash {
 public:
  Simulation() : SimulatedFlash(cells) {
    const std::uintptr_t arguments[] = {reinterpret_cast<std::uintptr_t>(line_), sizeof line_};
    ask(commandLine, arguments);
    std::string_view line = line_;
    image_ = takeWord(line);
    endMs_ = toNumber(takeWord(line));
    const auto cut = static_cast<unsigned>(toNumber(takeWord(line)));
    const auto left = static_cast<Left>(toNumber(takeWord(line)));
    cutIn(cut, left, static_cast<std::uint32_t>(toNumber(line)));
    line_[image_.size()] = 0;  // as the debugger wants it
    const int image = openHandle(image_, 1);
    if (image < 0) cells.clear();
    else transfer(readFile, image, cells.bytes, sizeof cells);
  }
  std::int64_t endMs() const { return endMs_; }
  [[noreturn]] void end(int code) {
    transfer(writeFile, openHandle(image_, 5), cells.bytes, sizeof cells);
    ::end(wasMisused() ? 3 : code);
  }

 private:
  void powerIsGone() override;
  char line_[128] = {};
  std::string_view image_;
  std::int64_t endMs_ = 0;
};

Simulation& simulation() {
  static Simulation simulation;
  return simulation;
}

std::int64_t nowMs = 0;  // passes in sleep() alone

void Simulation::powerIsGone() { end(100 + static_cast<int>(nowMs / 1'000)); }

}  // namespace

namespace board {

Flash& flash() { return simulation(); }
std::int64_t uptimeMs() { return nowMs; }
void sleep(std::int64_t ms) { nowMs += ms; }
bool isOn() {
  if (nowMs >= simulation().endMs()) simulation().end(0);
  return true;
}
bool randomBytes(void* to, std::size_t bytes) {
  const int source = openHandle("/dev/urandom", 1);
  return source >= 0 && transfer(readFile, source, static_cast<char*>(to), bytes) == 0;
}
void sendLine(std::initializer_list<std::string_view> parts) {
  static const int out = openHandle(":tt", 4);
  for (const std::string_view part : parts) transfer(writeFile, out, part.data(), part.size());
}
bool receiveLine(char (&to)[256], std::size_t& bytes) {
  static const int in = openHandle(":tt", 0);
  char c = 0;
  for (bytes = 0; transfer(readFile, in, &c, 1) == 0;) {
    if (c == '\n') return true;
    if (bytes < sizeof to) to[bytes++] = c;
  }
  return false;
}

}  // namespace board

// ---- the start of the program, and what the C library asks for ----

extern "C" {

__attribute__((section(".vectors"), used))
const void* const vectors[16] = {stackEnd,
                                 reinterpret_cast<const void*>(reset),
                                 reinterpret_cast<const void*>(fault),
                                 reinterpret_cast<const void*>(fault),
                                 reinterpret_cast<const void*>(fault),
                                 reinterpret_cast<const void*>(fault),
                                 reinterpret_cast<const void*>(fault)};

void reset() {
  std::memcpy(dataBegin, dataImage, static_cast<std::size_t>(dataEnd - dataBegin));
  std::memset(bssBegin, 0, static_cast<std::size_t>(bssEnd - bssBegin));
  using Constructor = void (*)();
  for (const char* at = initBegin; at != initEnd; at += sizeof(Constructor)) {
    (*reinterpret_cast<const Constructor*>(at))();
  }
  program();
  end(0);
}
void fault() { end(4); }

int __aeabi_atexit(void*, void (*)(void*), void*) { return 0; }  // nothing is ever destroyed
/// The heap, up to what the stack has reached.
void* _sbrk(std::ptrdiff_t bytes) {
  static char* top = heapBegin;
  const char here = 0;
  if (top + bytes > &here) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  return std::exchange(top, top + bytes);
}
[[noreturn]] void abort() { end(6); }
}
