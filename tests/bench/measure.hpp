// Time, and what becomes of many measurements of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace measure {

inline void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

inline void print(const std::string& name, double value) {
  std::printf("%s %.6g\n", name.c_str(), value);
}

inline double nowNs() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::nano>(since).count();
}

/// Of all threads, in the program and in the system.
inline double processorNs() {
  timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) * 1e9 + static_cast<double>(used.tv_nsec);
}

/// Writes through more memory than there is cache.
inline void evictCaches() {
  static std::vector<unsigned char> memory(64 << 20);
  for (std::size_t at = 0; at < memory.size(); at += 64) ++memory[at];
}

class Samples {
 public:
  void reserve(std::size_t count) { values_.reserve(count); }
  void add(double value) { values_.push_back(value); }
  void add(const Samples& others) {
    values_.insert(values_.end(), others.values_.begin(), others.values_.end());
  }
  double at(double part) {
    std::sort(values_.begin(), values_.end());
    return values_[static_cast<std::size_t>(part * static_cast<double>(values_.size() - 1))];
  }
  double median() { return at(0.5); }

 private:
  std::vector<double> values_;
};

/// What one call takes, and beside it what reading the clock takes, which is part of it.
class Calls {
 public:
  explicit Calls(std::size_t count) { calls_.reserve(count), clocks_.reserve(count); }

  template <class Call>
  void time(const Call& call) {
    const double begin = nowNs();
    call();
    const double end = nowNs();
    calls_.add(end - begin);
    clocks_.add(nowNs() - end);
  }
  void add(const Calls& others) { calls_.add(others.calls_), clocks_.add(others.clocks_); }
  /// Percentiles without the clock's median.
  void print(const std::string& name) {
    const double clock = clocks_.median();
    measure::print(name + "-p50", calls_.at(0.5) - clock);
    measure::print(name + "-p99", calls_.at(0.99) - clock);
    measure::print(name + "-p99.9", calls_.at(0.999) - clock);
    measure::print("clock", clock);
  }

 private:
  Samples calls_, clocks_;
};

}  // namespace measure
