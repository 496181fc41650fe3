// Starts the suite on a Cortex-M4 without an operating system. What it prints goes to the debugger.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

extern "C" {
using Constructor = void (*)();
extern Constructor __init_array_start[], __init_array_end[];
extern char dataImage[], dataBegin[], dataEnd[], bssBegin[], bssEnd[], stackEnd[], firstHeap[],
    firstHeapEnd[], secondHeap[], secondHeapEnd[];
extern void initialise_monitor_handles();
int startTests(int count, char** arguments) __asm("main");

[[noreturn]] void reset();
[[noreturn]] void fault();
void* __dso_handle = nullptr;
void _init() {}
void _fini() {}

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
  initialise_monitor_handles();
  static char printed[64 << 10];
  std::setvbuf(stdout, printed, _IOFBF, sizeof printed);
  for (Constructor* each = __init_array_start; each != __init_array_end; ++each) (*each)();
  char name[] = "suite", option[] = "--reporter", reporter[] = "xml", tests[] = "~[large]";
  char* arguments[] = {name, option, reporter, tests, nullptr};
  std::exit(startTests(4, arguments));
}
void fault() {
  std::fputs("fault\n", stderr);
  std::_Exit(99);
}
/// Of one memory, and when that is used up, of the other.
void* _sbrk(std::ptrdiff_t bytes) {
  static char *top = firstHeap, *heapEnd = firstHeapEnd;
  if (bytes > heapEnd - top && heapEnd == firstHeapEnd) top = secondHeap, heapEnd = secondHeapEnd;
  if (bytes <= heapEnd - top) return std::exchange(top, top + bytes);
  std::fputs("out of memory\n", stderr);
  std::_Exit(98);
}
}
