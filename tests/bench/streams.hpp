// What is tracked while it is measured: the reference event again and again, or a mixed stream.
#pragma once

#include "../../nucleus.hpp"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace streams {

using nucleus::Property;

/// An event before it is tracked. Borrows: its texts are literals, or live as long as the program.
struct Tracked {
  std::string_view name;
  std::vector<Property> properties;
};

inline Tracked reference() {
  return {"PLAYED_TRACK", {{"trackName", "My Awesome Song"}, {"duration", 120}, {"premium", true}}};
}

/// `unit` until there are so many bytes, cut between units.
inline std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string text;
  while (text.size() + unit.size() <= bytes) text += unit;
  return text;
}

constexpr std::string_view words = "some words of a title, and then some more; ";
constexpr std::string_view multilingual =
    "Gr\xC3\xB6\xC3\x9F"
    "e \xD0\xBC\xD0\xB8\xD1\x80 \xE6\x9D\xB1\xE4\xBA\xAC "
    "\xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7 \xF0\x9F\x8E\xB5 and plain ";
constexpr std::string_view escapes = "\"a\"\t\"b\\c\"\n{\"k\":\"v\"}\r\n\x01";
constexpr std::string_view suspects = "a@b 10:42 x/y.z 3.5% c:d/e 7.1 ";

inline const std::string& longWords() {
  static const std::string text = repeated(words, 1'024);
  return text;
}
inline const std::string& longMultilingual() {
  static const std::string text = repeated(multilingual, 2'048);
  return text;
}
inline const std::string& longEscapes() {
  static const std::string text = repeated(escapes, 512);
  return text;
}
inline const std::string& longSuspects() {
  static const std::string text = repeated(suspects, 512);
  return text;
}

/// Small events, as most are.
inline std::vector<Tracked> plainEvents() {
  return {
      reference(),
      {"APP_FOCUSED", {}},
      {"BUTTON_CLICKED", {{"button", "save"}}},
      {"LEVEL_DONE", {{"level", 17}, {"score", 1'284'500}, {"seconds", 83.25}, {"hard", false}}},
      {"SEARCHED", {{"query", "wireless headphones"}, {"results", 48u}, {"ms", 12.5}}},
      {"FRAME_TIMES",
       {{"p50", 6.94},
        {"p99", 16.6666667},
        {"worst", 104.1},
        {"frames", 36'000},
        {"driver", "535.129.03"},
        {"vsync", true}}},
      {"SETTING_CHANGED", {{"setting", "theme"}, {"from", "light"}, {"to", "dark"}}},
      {"PURCHASED",
       {{"sku", "com.example.coins.500"},
        {"price", 4.99},
        {"currency", "EUR"},
        {"count", 1},
        {"trial", false},
        {"balance", -250},
        {"store", "web"},
        {"campaign", "spring-2026"}}}};
}

/// What needs more than copying: other scripts, escapes, what redaction changes or must look at.
inline std::vector<Tracked> otherEvents() {
  return {{"PLAYED_TRACK",
           {{"trackName",
             "Gr\xC3\xB6\xC3\x9F"
             "enwahn f\xC3\xBCr Anf\xC3\xA4nger"},
            {"duration", 241},
            {"premium", false}}},
          {"PLAYED_TRACK",
           {{"trackName", "\xE5\xA4\x9C\xE3\x81\xAB\xE9\xA7\x86\xE3\x81\x91\xE3\x82\x8B"},
            {"duration", 261},
            {"premium", true}}},
          {"CHAT_SENT", {{"text", "see you \xF0\x9F\x8E\xB5 \xD0\xB7\xD0\xB0\xD0\xB2\xD1\x82"}}},
          {"COMMAND_RUN", {{"command", "grep \"a\\b\" | sort\n"}, {"code", 1}}},
          {"SIGNED_UP", {{"email", "ada.lovelace@example.org"}, {"plan", "pro"}}},
          {"FILE_OPENED", {{"path", "/home/ada/Documents/notes.txt"}, {"bytes", 18'223}}},
          {"FILE_OPENED", {{"path", "C:\\Users\\Ada\\notes.txt"}, {"bytes", 18'223}}},
          {"PAGE_LOADED", {{"url", "https://example.org/a/b?c=d%20e"}, {"ms", 431}}},
          {"SERVER_JOINED", {{"address", "203.0.113.7"}, {"ping", 31}, {"build", "4.2.0.1871"}}}};
}

inline std::vector<Tracked> longEvents() {
  return {{"FEEDBACK", {{"text", longWords()}, {"stars", 4}}},
          {"FEEDBACK", {{"text", longMultilingual()}, {"stars", 5}}},
          {"LOG_TAIL", {{"text", longEscapes()}}},
          {"REPORT", {{"text", longSuspects()}}}};
}

/// 256 events in an order that is the same each time: of 16 about 10 are plain, 5 are not, and one
/// is long.
inline std::vector<Tracked> mixed() {
  const std::vector<Tracked> plain = plainEvents(), other = otherEvents(), large = longEvents();
  std::vector<Tracked> all;
  std::mt19937 random(1);  // whose numbers the standard fixes; not those of a distribution
  for (std::size_t i = 0; i < 256; ++i) {
    const std::size_t kind = random() % 16, which = random();
    const std::vector<Tracked>& from = kind == 0 ? large : kind <= 5 ? other : plain;
    all.push_back(from[which % from.size()]);
  }
  return all;
}

}  // namespace streams
