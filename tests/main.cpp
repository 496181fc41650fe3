// The one file that brings Catch2's main, where the system has version 2, and operator new.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#endif
#include "allocations.hpp"
#include "check.hpp"

#include <cstdlib>
#include <new>

namespace {

void* allocate(std::size_t bytes) noexcept {
  using namespace heap;
  if (counting && allocations >= allowed) return failed = true, nullptr;
  if (counting) ++allocations, allocatedBytes += bytes;
  return std::malloc(bytes == 0 ? 1 : bytes);
}

void* allocateOrThrow(std::size_t bytes) {
  void* const memory = allocate(bytes);
#if NUCLEUS_TESTS_EXCEPTIONS
  if (memory == nullptr) throw std::bad_alloc();
#endif
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocateOrThrow(bytes); }
void* operator new[](std::size_t bytes) { return allocateOrThrow(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
