// Measures that the time of redaction grows with the length of a text and no faster, whatever the
// text. Prints a ratio for each. What it costs where there is nothing to redact, text.cpp measures.
#include "adversaries.hpp"
#include "inside.hpp"
#include "measure.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

namespace {

volatile std::size_t sink = 0;

template <class Work>
double nanoseconds(const Work& work) {
  const double begin = measure::nowNs();
  work();
  return measure::nowNs() - begin;
}

/// The fastest of several runs each, taken in turns: what else the machine does slows both.
double ratio(const std::string& large, const std::string& small) {
  double ofLarge = 1e18, ofSmall = 1e18;
  for (int run = 0; run < 3; ++run) {
    ofLarge = std::min(ofLarge, nanoseconds([&] { sink = inside::redactedBytes(large); }));
    ofSmall = std::min(ofSmall, nanoseconds([&] {
                         for (int i = 0; i < 16; ++i) sink = inside::redactedBytes(small);
                       }));
  }
  return ofLarge / ofSmall;
}

std::string printable(std::string_view text) {
  std::string printed;
  for (const char c : text) printed += c >= ' ' && c <= '~' ? c : '?';
  return printed;
}

double linearity() {
  constexpr std::size_t large = 1 << 20, small = large / 16;
  double worst = 0;
  std::puts("redaction, 1 MB of a text over 16 times 64 KB of it (1.00 is linear):");
  for (std::size_t i = 0; i < adversaries::count; ++i) {
    const double each = ratio(adversaries::text(i, large), adversaries::text(i, small));
    worst = std::max(worst, each);
    std::printf("  %-16s %.2f\n", printable(adversaries::name(i)).c_str(), each);
  }
  return worst;
}

}  // namespace

int main() {
  const double worst = linearity();
  std::printf("redaction, 1 MB over 16 times 64 KB, the worst of %zu texts: %.2f\n",
              adversaries::count, worst);
  return worst < 3 ? 0 : 1;
}
