// Every allocation of this thread, counted where that is wanted. main.cpp has the operators.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace heap {

inline thread_local bool counting = false;
inline thread_local std::size_t allocations = 0, allocatedBytes = 0;
inline thread_local std::size_t allowed = SIZE_MAX;  // more fail, while they are counted
inline thread_local bool failed = false;             // one has

/// What the host itself allocates in a callback does not count.
struct Uncounted {
  bool before = std::exchange(counting, false);
  Uncounted() = default;
  Uncounted(const Uncounted&) = delete;
  Uncounted& operator=(const Uncounted&) = delete;
  ~Uncounted() { counting = before; }
};

}  // namespace heap
