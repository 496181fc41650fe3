// Shows how to measure what a part of a program takes of each frame.
//   part of game.cpp, which is built as it says
#ifndef GAME_SHARE_HPP
#define GAME_SHARE_HPP

#include <algorithm>
#include <chrono>
#include <ostream>
#include <vector>
#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

class Share {
 public:
  template <class Work>
  void of(Work&& work) {
    const long before = interruptions();
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - begin;
    now_.ms += spent.count();
    now_.interruptions += interruptions() - before;
  }
  void endFrame() {
    longest_ = std::max(longest_, now_.ms);
    frames_.push_back(now_);
    now_ = {};
  }
  double longestMs() const { return longest_; }
  void report(std::ostream& out, const char* name) const {
    for (const Frame& frame : frames_) {
      out << name << ' ' << frame.ms << ' ' << frame.interruptions << '\n';
    }
  }

 private:
  struct Frame {
    double ms = 0;
    long interruptions = 0;
  };

  /// How often the system has given this thread's processor to another program, where it says so.
  static long interruptions() {
#if defined(RUSAGE_THREAD)
    rusage usage = {};
    if (getrusage(RUSAGE_THREAD, &usage) == 0) return usage.ru_nivcsw;
#endif
    return 0;
  }

  Frame now_;
  double longest_ = 0;
  std::vector<Frame> frames_;
};

#endif
