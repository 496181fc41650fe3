// Measures redaction: that its time grows with the length of a text and no faster, whatever the
// text, and what it adds to the escaping of one that holds nothing. Prints ratios and nanoseconds.
#include "../../nucleus.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace nucleus::detail;
using Clock = std::chrono::steady_clock;

/// Each made to have the same places looked at again and again.
// clang-format off
constexpr std::string_view adversaries[] = {
    "@", "1", ".", "/", "\\", "%", "%25", "%2525", "%40", "%2F", "%5C", ":", "::", "\"", "[", "~",
    " ", "\xC3\xBC", "a@a.", "a@b.c-", "@a.co", "a@[", "\"@", "\"a\"@", "/home/", "/home/ ", " /",
    "\\ ", "\\\\", "\\\\a", "\\\\ ", "\\\\a\\b ", "\\x\\Users\\", "C:\\Users\\", "C:\\Users\\a ",
    "C:\\Users\\ ", "file://", "file:///", "https://", "a://", "//wsl", "/mnt/c/", "/a/Users/",
    "a@b.co ", "/home/a ", "+1", "fe80::", "a@a./\\%25C:\"~ "};
// clang-format on

/// A long label of a domain, of which every dash may be the end.
std::string dashes(std::size_t bytes) {
  std::string text = "a@b." + std::string(bytes / 2, 'c');
  while (text.size() < bytes) text += "-c";
  return text;
}

std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

volatile std::size_t sink = 0;

std::size_t redact(std::string_view text) {
  std::size_t bytes = 0;
  Pieces pieces(text, Redaction::all);
  for (std::string_view piece; pieces.next(piece);) bytes += piece.size();
  return bytes;
}

template <class Work>
double nanoseconds(const Work& work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
}

/// The fastest of several runs each, taken in turns: what else the machine does slows both.
double ratio(const std::string& large, const std::string& small) {
  double ofLarge = 1e18, ofSmall = 1e18;
  for (int run = 0; run < 3; ++run) {
    ofLarge = std::min(ofLarge, nanoseconds([&] { sink = redact(large); }));
    ofSmall = std::min(ofSmall, nanoseconds([&] {
                         for (int i = 0; i < 16; ++i) sink = redact(small);
                       }));
  }
  return ofLarge / ofSmall;
}

std::string printable(std::string_view text) {
  std::string printed;
  for (const char c : text) printed += isPlain(c) || c == '"' || c == '\\' ? c : '?';
  return printed;
}

double linearity() {
  constexpr std::size_t large = 1 << 20, small = large / 16;
  double worst = 0;
  const auto print = [&](std::string_view name, double each) {
    worst = std::max(worst, each);
    std::printf("  %-16s %.2f\n", printable(name).c_str(), each);
  };
  std::puts("redaction, 1 MB of a text over 16 times 64 KB of it (1.00 is linear):");
  for (const std::string_view unit : adversaries) {
    print(unit, ratio(repeated(unit, large), repeated(unit, small)));
  }
  print("a@b.c...-c-c-c", ratio(dashes(large), dashes(small)));
  return worst;
}

/// Of one writing into a buffer, on average.
template <class Write>
double average(const Write& write) {
  constexpr int times = 20'000;
  Fixed<4'096> out;
  double best = 1e18;
  for (int run = 0; run < 10; ++run) {
    best = std::min(best, nanoseconds([&] {
                      for (int i = 0; i < times; ++i) {
                        out.clear();
                        write(out);
                        sink = out.size();
                      }
                    }));
  }
  return best / times;
}

void cost(const char* what, std::string_view unit) {
  for (const std::size_t bytes : {16u, 64u, 256u, 1'024u}) {
    const std::string text = repeated(unit, bytes).substr(0, bytes);
    const double copied = average([&](Buffer& out) { out.add(text); });
    const double escaped = average([&](Buffer& out) { writeString(out, text); });
    const double redacted = average([&](Buffer& out) { writeRedacted(out, text, Redaction::all); });
    std::printf("  %4zu bytes %s: %.0f ns, %.0f without redaction, %.0f for a copy\n", bytes, what,
                redacted, escaped, copied);
  }
}

}  // namespace

int main() {
  const double worst = linearity();
  std::printf("redaction, 1 MB over 16 times 64 KB, the worst of %zu texts: %.2f\n",
              sizeof adversaries / sizeof adversaries[0] + 1, worst);
  std::puts("writing a text with nothing to redact:");
  cost("of words", "some words of a title ");
  cost("of a path", "levels/forest/tree_01 ");
  return worst < 3 ? 0 : 1;
}
