// How much memory a client has: every block that it allocates remembers whose it is. main.cpp
// replaces operator new, and the linker malloc(), to get there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace simulation {

struct Tally {
  std::atomic<std::size_t> bytes{0}, most{0};  // now, and at most since it was last set
  std::atomic<std::uint64_t> blocks{0};        // ever allocated

  void took(std::size_t size) {
    const std::size_t all = bytes += size;
    ++blocks;
    if (all > most) most = all;
  }
  void gave(std::size_t size) { bytes -= size; }
};

/// Whose code runs on this thread: that of a client, or of the host.
inline thread_local Tally* running = nullptr;

class Inside {
 public:
  explicit Inside(Tally* whose) : before_(running) { running = whose; }
  ~Inside() { running = before_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Tally* const before_;
};

struct alignas(std::max_align_t) Block {
  Tally* owner;
  std::size_t bytes;

  static void* made(void* memory, std::size_t size) {
    if (memory == nullptr) return nullptr;
    Block* const block = static_cast<Block*>(memory);
    *block = {running, size};
    if (running != nullptr) running->took(size);
    return block + 1;
  }
  /// What the allocator made.
  static void* gone(void* at) {
    if (at == nullptr) return nullptr;
    Block* const block = static_cast<Block*>(at) - 1;
    if (block->owner != nullptr) block->owner->gave(block->bytes);
    return block;
  }
};

}  // namespace simulation
