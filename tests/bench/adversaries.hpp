// Texts that are made to have redaction look at the same places again and again.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adversaries {

// clang-format off
constexpr std::string_view units[] = {
    "@", "1", ".", "/", "\\", "%", "%25", "%2525", "%40", "%2F", "%5C", ":", "::", "\"", "[", "~",
    " ", "\xC3\xBC", "a@a.", "a@b.c-", "@a.co", "a@[", "\"@", "\"a\"@", "/home/", "/home/ ", " /",
    "\\ ", "\\\\", "\\\\a", "\\\\ ", "\\\\a\\b ", "\\x\\Users\\", "C:\\Users\\", "C:\\Users\\a ",
    "C:\\Users\\ ", "file://", "file:///", "https://", "a://", "//wsl", "/mnt/c/", "/a/Users/",
    "a@b.co ", "/home/a ", "+1", "fe80::", "a@a./\\%25C:\"~ "};
// clang-format on

constexpr std::size_t count = sizeof units / sizeof units[0] + 1;

/// A long label of a domain, of which every dash may be the end.
inline std::string dashes(std::size_t bytes) {
  std::string text = "a@b." + std::string(bytes / 2, 'c');
  while (text.size() < bytes) text += "-c";
  return text;
}

inline std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

inline std::string_view name(std::size_t index) {
  return index + 1 == count ? std::string_view("a@b.c...-c-c-c") : units[index];
}

inline std::string text(std::size_t index, std::size_t bytes) {
  return index + 1 == count ? dashes(bytes) : repeated(units[index], bytes);
}

}  // namespace adversaries
