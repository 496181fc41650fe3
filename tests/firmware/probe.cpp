// Measures the example from inside: its stack by painting it, its heap and its allocations by
// standing before the C library. Said once, when the device has been on for PROBE_AFTER_MS.
// And of the answers that come over the link one is lost, and one is too long.
#include "../../examples/firmware/board.hpp"

extern "C" {
extern char heapBegin[], stackEnd[];
void* __real__sbrk(std::ptrdiff_t bytes);
void* __real__malloc_r(void* context, std::size_t bytes);
bool __real__ZN5board4isOnEv();
bool __real__ZN5board11receiveLineERA256_cRj(char (&to)[256], std::size_t& bytes);
}

namespace {

constexpr char paint = '\x5A';
char* heapEnd = heapBegin;
unsigned allocations = 0, ofConstructor = 0, answers = 0, lines = 0;
std::int64_t silentUntilMs = 0;
bool started = false, told = false;

__attribute__((constructor, noinline)) void paintStack() {
  char* volatile here;
  __asm volatile("mov %0, sp" : "=r"(here));
  for (char* at = heapBegin; at < here; ++at) *at = paint;
}

void tell(std::string_view what, std::size_t value) {
  char text[64];
  nucleus::detail::Buffer line(text, sizeof text);
  line.add(what);
  line.add(' ');
  nucleus::detail::writeUnsigned(line, value);
  line.add({"\n", 2});
  register int operation __asm("r0") = 4;  // writes a text to the debugger
  register const void* block __asm("r1") = text;
  __asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(block) : "memory");
}

void tellAll() {
  const char* untouched = heapEnd;
  while (untouched < stackEnd && *untouched == paint) ++untouched;
  tell("static", static_cast<std::size_t>(heapBegin - reinterpret_cast<char*>(0x2000'0000)));
  tell("heap", static_cast<std::size_t>(heapEnd - heapBegin));
  tell("stack", static_cast<std::size_t>(stackEnd - untouched));
  tell("allocations-constructor", ofConstructor);
  tell("allocations-later", allocations - ofConstructor);
  tell("answers", answers);
}

}  // namespace

extern "C" {

void* __wrap__sbrk(std::ptrdiff_t bytes) {
  char* const at = static_cast<char*>(__real__sbrk(bytes));
  if (at != reinterpret_cast<char*>(-1) && at + bytes > heapEnd) heapEnd = at + bytes;
  return at;
}
void* __wrap__malloc_r(void* context, std::size_t bytes) {
  ++allocations;
  return __real__malloc_r(context, bytes);
}
bool __wrap__ZN5board4isOnEv() {
  if (!std::exchange(started, true)) ofConstructor = allocations;
  if (board::uptimeMs() >= PROBE_AFTER_MS && !std::exchange(told, true)) tellAll();
  return __real__ZN5board4isOnEv();
}
bool __wrap__ZN5board11receiveLineERA256_cRj(char (&to)[256], std::size_t& bytes) {
  if (board::uptimeMs() < silentUntilMs) return false;
  const bool received = __real__ZN5board11receiveLineERA256_cRj(to, bytes);
  if (received && ++lines == 9) return silentUntilMs = board::uptimeMs() + 31'000, false;  // lost
  if (lines == 11) bytes = sizeof to;               // as a line that is too long
  if (received && to[bytes - 1] == '}') ++answers;  // with a text that needs memory
  return received;
}
}
