// What the example needs of a board. mps2.cpp has it for a Cortex-M4 that QEMU plays.
#pragma once

#include "flash_storage.hpp"

/// Takes the word at the front, and the blank behind it.
inline std::string_view takeWord(std::string_view& line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(word.size() + 1, line.size()));
  return word;
}
inline std::int64_t toNumber(std::string_view digits) {
  std::int64_t value = 0;
  for (const char c : digits) value = value * 10 + (c - '0');
  return value;
}

namespace board {

Flash& flash();
std::int64_t uptimeMs();
bool randomBytes(void* to, std::size_t bytes);
void sendLine(std::initializer_list<std::string_view> parts);
/// The next line that has come over the link, without its line feed, or of one that is too long the
/// first 256 bytes; false: nothing yet.
bool receiveLine(char (&to)[256], std::size_t& bytes);
void sleep(std::int64_t ms);
bool isOn();  // false: the simulation is at its end

}  // namespace board
