// Room 5: whatever goes in, valid JSON comes out; whatever comes in is checked to its last byte.
#include "check.hpp"

#include "fakes.hpp"

#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <set>
#if NUCLEUS_TESTS_PROCESSES
#include <unistd.h>
#endif

namespace {

using fakes::Json;
using namespace nucleus::detail;
using namespace std::string_view_literals;
using Ids = std::vector<std::uint64_t>;

std::string folderOf(const std::string& file) { return file.substr(0, file.find_last_of("/\\")); }

const std::string testsFolder = folderOf(__FILE__);

/// What `write` puts into a buffer of `capacity` bytes, of which none around it may change.
template <class Write>
std::string written(std::size_t capacity, Write&& write, bool* full = nullptr) {
  constexpr std::size_t guard = 16;
  std::string memory(capacity + 2 * guard, '\x5A');
  Buffer out(&memory[guard], capacity);
  write(out);
  if (out.size() > capacity) FAIL("more than the capacity");
  if (full != nullptr) *full = out.full();
  else REQUIRE_FALSE(out.full());
  const bool intact =
      memory.substr(0, guard) + memory.substr(guard + capacity) == std::string(2 * guard, '\x5A');
  if (!intact) FAIL("written outside of the buffer");
  return std::string(out.view());
}

/// Whether `text` is one whole JSON value.
bool isJson(std::string_view text) {
  JsonReader reader(text);
  return reader.skip() && reader.finished();
}

std::string asJson(std::string_view text) {
  return written(6 * text.size() + 2, [&](Buffer& out) { writeString(out, text); });
}

/// What another implementation makes of these bytes: U+FFFD for each part that went wrong.
std::string replaced(const std::string& bytes) {
  return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace));
}

void checkString(const std::string& bytes) {
  const std::string json = asJson(bytes);
  const std::string back = Json::parse(json), expected = replaced(bytes);
  if (back == expected && isJson(json)) return;
  CAPTURE(Json::binary({bytes.begin(), bytes.end()}).dump(), json);
  CHECK(isJson(json));
  CHECK(back == expected);
}

/// Where the first character stands that is not plain, looked for one by one.
std::size_t skipEach(const std::string& text) {
  std::size_t at = 0;
  while (at < text.size() && isPlain(text[at])) ++at;
  return at;
}

std::string randomBytes(std::mt19937_64& random, std::size_t most) {
  std::string bytes(random() % (most + 1), '\0');
  // half of the bytes come from around the borders of UTF-8, so that long sequences happen
  const std::string_view likely =
      "\x01\x22\x5C\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1"
      "\xF3\xF4\xF5\xFF";
  for (char& c : bytes) {
    c = random() % 2 == 0 ? likely[random() % likely.size()] : static_cast<char>(random());
  }
  return bytes;
}

double fromBits(std::uint64_t bits) {
  double value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::string asNumber(double value) {
  Fixed<32> out;
  writeNumber(out, value);
  return out.full() ? "too long" : std::string(out.view());
}

/// Digits that count: without sign, point, exponent and the zeros around.
std::string significant(const std::string& number) {
  std::string digits;
  for (const char c : number.substr(0, number.find('e'))) {
    if (c >= '0' && c <= '9' && !(digits.empty() && c == '0')) digits += c;
  }
  return digits.substr(0, digits.find_last_not_of('0') + 1);
}

/// (The C library of mingw-w64 is off by a bit below some powers of two.)
double numberIn(const std::string& text) {
#if defined(__MINGW32__)
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
#else
  return std::strtod(text.c_str(), nullptr);
#endif
}

/// Reads back as the same bits twice, and in no more digits than printf would need for that.
bool isExact(double value) {
  const std::string text = asNumber(value);
  const std::size_t digits = significant(text).size();
  if (!isJson(text) || digits > 17) return false;
  if (bitsOf(numberIn(text)) != bitsOf(value)) return false;
#if !defined(__MINGW32__)
  if (bitsOf(Json::parse(text).get<double>()) != bitsOf(value)) return false;
#endif
  if (digits < 2) return true;
  char shorter[40];
  std::snprintf(shorter, sizeof shorter, "%.*e", static_cast<int>(digits) - 2, value);
  return bitsOf(numberIn(shorter)) != bitsOf(value);
}

void checkNumber(double value) {
  if (isExact(value)) return;
  CAPTURE(bitsOf(value), asNumber(value));
  CHECK(isExact(value));
}

/// Documents in every way that JSON can be written.
class Documents {
 public:
  explicit Documents(std::uint64_t seed) : random_(seed) {}

  std::string next(int depth = 5) { return space() + value(depth) + space(); }
  std::string damaged(std::string text) {
    constexpr std::string_view likely =
        "{}[]\",:\\0123-+eE.utfn \t\n\x00\x1F\x7F\x80\xBF\xC3\xED\xF4"sv;
    const auto at = static_cast<std::size_t>(pick(text.size()));
    const char c = pick(4) == 0 ? static_cast<char>(random_()) : likely[pick(likely.size())];
    switch (pick(6)) {
      case 0: text[at] = static_cast<char>(text[at] ^ (1 << pick(8))); break;
      case 1: text[at] = c; break;
      case 2: text.resize(at); break;
      case 3: text.erase(at, 1); break;
      case 4: text.insert(at, text, at, pick(4) + 1); break;
      default: text.insert(at, 1, c); break;
    }
    return text;
  }
  std::string string() {
    std::string text = "\"";
    for (std::size_t n = pick(6); n > 0; --n) text += piece();
    return text + '"';
  }
  std::size_t pick(std::size_t count) { return static_cast<std::size_t>(random_() % count); }

 private:
  std::string space() { return std::string("   \t\n\r").substr(pick(6), pick(8) == 0 ? 2 : 0); }
  std::string value(int depth) {
    switch (pick(depth > 0 ? 9 : 6)) {
      case 0: return "true";
      case 1: return "false";
      case 2: return "null";
      case 3: return number();
      case 4: return number();
      case 5: return string();
      case 6: return object(depth);
      default: return array(depth);
    }
  }
  std::string array(int depth) {
    std::string text = "[" + space();
    for (std::size_t n = pick(5); n > 0; --n) text += next(depth - 1) + (n > 1 ? "," : "");
    return text + "]";
  }
  std::string object(int depth) {
    std::string text = "{" + space();
    for (std::size_t n = pick(5); n > 0; --n) {
      text += space() + string() + space() + ":" + next(depth - 1) + (n > 1 ? "," : "");
    }
    return text + "}";
  }
  std::string digits() { return std::to_string(random_() >> pick(64)); }
  std::string number() {
    std::string text = pick(2) == 0 ? "-" : "";
    text += pick(4) == 0 ? "0" : digits();
    if (pick(3) == 0) text += "." + std::string(pick(3), '0') + digits();
    if (pick(3) == 0) {
      text += pick(2) == 0 ? "e" : "E";
      text += std::string("+-").substr(pick(2), pick(2)) + std::to_string(pick(200));
    }
    return text;
  }
  std::string unit(std::size_t lowest, std::size_t highest) {
    char text[8];
    std::snprintf(text, sizeof text, pick(2) == 0 ? "\\u%04x" : "\\u%04X",
                  static_cast<unsigned>(lowest + pick(highest - lowest + 1)));
    return text;
  }
  std::string piece() {
    constexpr const char* whole[] = {"a",
                                     "Az09 /",
                                     "\x7F",
                                     "\xC3\xA4",
                                     "\xE2\x82\xAC",
                                     "\xED\x9F\xBF",
                                     "\xEE\x80\x80",
                                     "\xF0\x9F\x98\x80",
                                     "\xF4\x8F\xBF\xBF"};
    switch (pick(5)) {
      case 0: return unit(0, 0xD7FF);
      case 1: return unit(0xE000, 0xFFFF);
      case 2: return unit(0xD800, 0xDBFF) + unit(0xDC00, 0xDFFF);
      case 3: return std::string("\\") + "\"\\/bfnrt"[pick(8)];
      default: return whole[pick(9)];
    }
  }

  std::mt19937_64 random_;
};

enum class Verdict { valid, invalid, overflow };

/// Told of an error, also where nothing can be thrown.
struct Judge : nlohmann::detail::json_sax_acceptor<Json> {
  Verdict verdict = Verdict::valid;

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) {
    constexpr int outOfRange = 406;
    verdict = error.id == outOfRange ? Verdict::overflow : Verdict::invalid;
    return false;
  }
};

/// The other implementation's. It takes NUL for the end and skips a byte order mark, we refuse
/// both; and it refuses a number that no double can hold, which is JSON nevertheless.
Verdict verdict(const std::string& text) {
  if (text.find('\0') != std::string::npos || text.rfind("\xEF\xBB\xBF", 0) == 0) {
    return Verdict::invalid;
  }
  Judge judge;
  Json::sax_parse(text, &judge);
  return judge.verdict;
}

std::string repeat(std::string_view text, std::size_t count) {
  std::string all;
  all.reserve(text.size() * count);
  for (; count > 0; --count) all += text;
  return all;
}

Ids idsIn(std::string_view answer) {
  Ids ids;
  Answer rest;
  readAnswer(answer, rest);
  nucleus::detail::ReportedIds named(rest.reportedIds);
  for (std::uint64_t id = 0; named.next(id);) ids.push_back(id);
  return ids;
}

template <class Read>
std::string answered(std::string_view text, Read&& read) {
  Answer answer;
  readAnswer(text, answer);
  return std::string(read(answer));
}

std::string anonIdIn(std::string_view text) {
  return answered(text, [](const Answer& answer) { return answer.anonId.view(); });
}
std::string versionIn(std::string_view text) {
  return answered(text, [](const Answer& answer) { return answer.latestVersion.view(); });
}
std::string dataIn(std::string_view text) {
  return answered(text, [](const Answer& answer) { return answer.customData; });
}

}  // namespace

// ---- out: strings ----

TEST_CASE("any single byte and any pair of bytes becomes valid JSON") {
  constexpr int step = static_cast<int>(fakes::slowdown + 1) / 2;
  int strings = 0;
  for (int first = 0; first < 256; ++first) {
    checkString({static_cast<char>(first)});
    for (int second = first % step; second < 256; second += step, ++strings) {
      checkString({static_cast<char>(first), static_cast<char>(second)});
      checkString({'<', static_cast<char>(first), static_cast<char>(second), '>'});
    }
  }
  CHECK(strings >= 65'536 / step);
}

TEST_CASE("any sequence around the borders of UTF-8 becomes valid JSON") {
  const std::string leads =
      "\x41\x7F\x80\xBF\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5";
  const std::string others = "\x22\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC2\xE1\xFF";
  std::size_t strings = 0;
  for (const char a : leads) {
    for (const char b : others) {
      for (const char c : others) {
        checkString({a, b, c});
        for (const char d : others) checkString({a, b, c, d}), ++strings;
      }
    }
  }
  CHECK(strings == 18 * 12 * 12 * 12);
}

TEST_CASE("random bytes become valid JSON", "[large]") {
  std::mt19937_64 random(5);
  for (std::size_t i = 0; i < fakes::rounds(20'000, 500); ++i) {
    checkString(randomBytes(random, 40));
  }
  checkString(randomBytes(random, 1 << 20));
}

TEST_CASE("each bad sequence becomes one U+FFFD, as Unicode recommends") {
  const std::string bad = "\xEF\xBF\xBD";
  struct Row {
    std::string bytes, expected;
  };
  const Row rows[] = {
      // the examples of the Unicode Standard, tables 3-8 to 3-11
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", repeat(bad, 8) + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", repeat(bad, 8) + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", repeat(bad, 5) + "A" + repeat(bad, 2) + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", repeat(bad, 4) + "A"},
      // cut off
      {"\xC3", bad},
      {"\xE2\x82", bad},
      {"\xF0\x9F\x98", bad},
      {"\xF0\x9F\x98\"", bad + "\""},
      // the highest and lowest of each length
      {"\x7F", "\x7F"},
      {"\xC2\x80\xDF\xBF", "\xC2\x80\xDF\xBF"},
      {"\xE0\xA0\x80\xEF\xBF\xBF", "\xE0\xA0\x80\xEF\xBF\xBF"},
      {"\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
      {"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
      {"\xF4\x90\x80\x80", repeat(bad, 4)},
      {"\xF8\x88\x80\x80\x80", repeat(bad, 5)},
      {bad, bad}};
  for (const Row& row : rows) {
    CHECK(Json::parse(asJson(row.bytes)).get<std::string>() == row.expected);
  }
}

TEST_CASE("what must be escaped is escaped, and nothing else") {
  CHECK(asJson("") == R"("")");
  CHECK(asJson("plain 'text' </script>") == R"("plain 'text' </script>")");
  CHECK(asJson("\"\\\b\f\n\r\t") == R"("\"\\\b\f\n\r\t")");
  CHECK(asJson(std::string_view("\0\x01\x1F", 3)) == R"("\u0000\u0001\u001f")");
  CHECK(asJson("\xC3\xA4\xE2\x82\xAC") == "\"\xC3\xA4\xE2\x82\xAC\"");
}

/// What a kind of block says of `c` at `place` among others.
template <class AnyBlock>
void checkBlock(char c, std::size_t place, const std::string& others) {
  std::string text = others;
  text[place] = c;
  const AnyBlock block(text.data(), text.data() + 8);
  const std::string words = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _";
  CAPTURE(static_cast<int>(c), place, others);
  CHECK(AnyBlock::isAny(block.notPlain()) == (skipEach(text) != text.size()));
  CHECK(AnyBlock::isAny(block.notWord()) == (text.find_first_not_of(words) != text.npos));
}

TEST_CASE("sixteen characters at once are judged as each of them is, by vectors and without") {
  for (const std::string& others : {std::string(16, 'k'), std::string("0 9_azAZ/:@[`{~\x7F")}) {
    for (std::size_t place = 0; place < 16; ++place) {
      for (int c = 0; c < 256; ++c) {
        checkBlock<WordBlock>(static_cast<char>(c), place, others);
        checkBlock<Block>(static_cast<char>(c), place, others);
      }
    }
  }
}

TEST_CASE("where something is not plain is found at any place of texts of any length") {
  for (std::size_t size = 0; size < 200; size += size < 40 ? 1 : (fakes::slowdown + 1) / 2) {
    for (std::size_t place = 0; place <= size; ++place) {
      std::string text(size, 'x');
      if (place < size) text[place] = place % 2 == 0 ? '\n' : '\xC3';
      const auto found =
          static_cast<std::size_t>(skipPlain(text.data(), text.data() + text.size()) - text.data());
      if (found != place) FAIL(found << " instead of " << place << " of " << size);
      checkString(text);
    }
  }
}

TEST_CASE("a buffer never grows past its capacity, and says when something is left out") {
  const std::string text("a\"\xC3\xA4\x01\xFF\xF0\x9F\x98\x80 end", 14);
  const auto write = [&](Buffer& out) {
    writeString(out, text);
    writeInteger(out, INT64_MIN);
    writeNumber(out, -1.7976931348623157e308);
    writeUtf8(out, 0x1F600);
    out.add('.');
  };
  const std::string whole = written(200, write);
  for (std::size_t capacity = 0; capacity <= whole.size() + 1; ++capacity) {
    bool full = false;
    const std::string part = written(capacity, write, &full);
    CAPTURE(capacity);
    CHECK(full == (capacity < whole.size()));
    if (!full) CHECK(part == whole);
  }
}

TEST_CASE("a text that is cut is cut between characters, as late as possible") {
  std::mt19937_64 random(6);
  std::vector<std::string> texts = {"", "plain", "\n\n\n", "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80",
                                    "ab\"cd\\\x01\xFFtail"};
  for (int i = 0; i < 300; ++i) texts.push_back(randomBytes(random, 12));
  for (const std::string& text : texts) {
    const std::string whole = asJson(text);
    std::set<std::size_t> ends = {0};  // of its characters, as JSON
    for (const char* at = text.data(); at != text.data() + text.size();) {
      at += utf8At(at, text.data() + text.size()).bytes;
      ends.insert(asJson({text.data(), static_cast<std::size_t>(at - text.data())}).size() - 2);
    }
    for (std::size_t most = 0; most <= whole.size(); ++most) {
      const std::size_t expected = *std::prev(ends.upper_bound(most));
      const std::string cut =
          written(whole.size(), [&](Buffer& out) { writeCut(out, text, most); });
      const std::string tight = written(most, [&](Buffer& out) { writeCut(out, text, 1000); });
      if (cut != whole.substr(1, expected) || tight != cut) {
        CAPTURE(whole, most);
        CHECK(cut == whole.substr(1, expected));
        CHECK(tight == cut);
      }
    }
  }
}

// ---- out: numbers ----

TEST_CASE("random doubles read back as the same bits, in as few digits as there can be") {
  std::mt19937_64 random(7);
  std::size_t doubles = 0;
  while (doubles < 200'000 / fakes::slowdown) {
    const double value = fromBits(random());
    if (!std::isfinite(value)) continue;
    checkNumber(value);
    ++doubles;
  }
  CHECK(doubles * fakes::slowdown >= 200'000);
}

TEST_CASE("the doubles between the ordinary ones read back as the same bits") {
  std::mt19937_64 random(8);
  const double largest = std::numeric_limits<double>::max();
  for (const double value : {0.0, -0.0, 5e-324, -5e-324, largest, -largest,
                             std::numeric_limits<double>::min(), fromBits(0x000FFFFFFFFFFFFF)}) {
    checkNumber(value);
  }
  for (std::size_t i = 0; i < fakes::rounds(20'000, 500); ++i) {
    checkNumber(fromBits(random() >> (12 + i % 52)));  // denormal
  }
  for (int power = -1074; power < 1024; ++power) {
    const double value = std::ldexp(1.0, power);
    checkNumber(value);
    checkNumber(std::nextafter(value, 0.0));
    checkNumber(std::nextafter(value, largest));
  }
  for (int power = -324; power < 309; ++power) {
    const double value = std::strtod(("1e" + std::to_string(power)).c_str(), nullptr);
    checkNumber(value);
    checkNumber(std::nextafter(value, 0.0));
    checkNumber(std::nextafter(value, largest));
  }
  for (std::size_t i = 0; i < fakes::rounds(20'000, 500); ++i) {
    checkNumber(static_cast<double>(random() >> (i % 64)));
  }
  CHECK(isExact(0.1));
}

TEST_CASE("a short decimal is written as it was said") {
  std::mt19937_64 random(9);
  int decimals = 0;
  for (; decimals < 20'000; ++decimals) {
    const std::uint64_t whole = random() % 1'000'000, part = random() % 1'000;
    std::string text = std::to_string(whole) + "." + std::to_string(1'000 + part).substr(1);
    text.resize(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    if (asNumber(std::strtod(text.c_str(), nullptr)) != text) CHECK(text == "written otherwise");
  }
  CHECK(decimals == 20'000);
}

TEST_CASE("numbers are laid out as in JavaScript") {
  struct Row {
    double value;
    const char* text;
  };
  const Row rows[] = {{0.0, "0"},
                      {-0.0, "-0.0"},  // keeps its sign; JavaScript would not
                      {1, "1"},
                      {-1.5, "-1.5"},
                      {0.1, "0.1"},
                      {0.1 + 0.2, "0.30000000000000004"},
                      {100, "100"},
                      {1234567.25, "1234567.25"},
                      {1e20, "100000000000000000000"},
                      {123456789012345680000.0, "123456789012345680000"},
                      {1e21, "1e21"},
                      {1.5e300, "1.5e300"},
                      {0.000001, "0.000001"},
                      {0.0000012, "0.0000012"},
                      {1e-7, "1e-7"},
                      {-1.25e-9, "-1.25e-9"},
                      {5e-324, "5e-324"},
                      {1.7976931348623157e308, "1.7976931348623157e308"},
                      {2.2250738585072014e-308, "2.2250738585072014e-308"},
                      {9007199254740993.0, "9007199254740992"}};
  for (const Row& row : rows) CHECK(asNumber(row.value) == row.text);
}

namespace {

/// A program in an emulator cannot read those of this machine where its byte order is another.
bool readsLocales() {
  const std::uint16_t one = 1;
  char first = 0;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

}  // namespace

TEST_CASE("a decimal comma of the host's locale does not get into the numbers") {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  bool comma = false;
  for (const char* name :
       {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8", "nl_NL.UTF-8",
        "it_IT.UTF-8", "pt_BR.UTF-8", "ru_RU.UTF-8", "de-DE", "German_Germany.1252"}) {
    if (!comma && std::setlocale(LC_NUMERIC, name) != nullptr) {
      comma = *std::localeconv()->decimal_point == ',';
    }
  }
  const std::string half = asNumber(0.5), large = asNumber(1234567.25), small = asNumber(1.5e-9);
  std::setlocale(LC_NUMERIC, before.c_str());
  if (!comma) {
    WARN("not run: this system has no locale with a decimal comma");
    CHECK_FALSE((fakes::inCi() && readsLocales()));
    return;
  }
  CHECK(half == "0.5");
  CHECK(large == "1234567.25");
  CHECK(small == "1.5e-9");
}

TEST_CASE("integers of every type are exact up to their limits") {
  const auto text = [](const nucleus::Value& value) {
    Fixed<32> out;
    if (!nucleus::detail::isSayable(value)) return std::string("nothing");
    writeValue(out, value);
    return std::string(out.view());
  };
  CHECK(text(INT64_MAX) == "9223372036854775807");
  CHECK(text(INT64_MIN) == "-9223372036854775808");
  CHECK(text(UINT64_MAX) == "18446744073709551615");
  CHECK(text(std::uint64_t{1} << 63) == "9223372036854775808");
  CHECK(text((std::int64_t{1} << 53) + 1) == "9007199254740993");
  CHECK(text(INT32_MIN) == "-2147483648");
  CHECK(text(UINT32_MAX) == "4294967295");
  CHECK(text(std::int16_t{-32768}) == "-32768");
  CHECK(text(std::uint8_t{255}) == "255");
  CHECK(text(static_cast<signed char>(-128)) == "-128");
  CHECK(text(0) == "0");
  CHECK(text(-0) == "0");
  CHECK(text(true) == "true");
  CHECK(text(false) == "false");
  CHECK(text(0.5f) == "0.5");
  CHECK(text(std::numeric_limits<double>::quiet_NaN()) == "nothing");
  CHECK(text(-std::numeric_limits<double>::infinity()) == "nothing");
  CHECK(text(static_cast<const char*>(nullptr)) == "nothing");
  CHECK(text("") == R"("")");
}

// ---- in ----

TEST_CASE("the reader takes what another implementation takes, and refuses what it refuses") {
  Documents documents(11);
  int valid = 0, invalid = 0, overflown = 0;
  const auto compare = [&](const std::string& text) {
    const Verdict theirs = verdict(text);
    ++(theirs == Verdict::valid ? valid : theirs == Verdict::invalid ? invalid : overflown);
    if (theirs == Verdict::overflow || isJson(text) == (theirs == Verdict::valid)) return;
    CAPTURE(text);
    CHECK(isJson(text) == (theirs == Verdict::valid));
  };
  constexpr int count = static_cast<int>(6'000 / fakes::slowdown);
  for (int i = 0; i < count; ++i) {
    const std::string text = documents.next();
    REQUIRE(isJson(text));
    compare(text);
    for (int j = 0; j < 12; ++j) {
      const std::string once = documents.damaged(text);
      compare(once);
      if (!once.empty()) compare(documents.damaged(once));
    }
  }
  CHECK(valid > 2 * count);
  CHECK(invalid > 8 * count);
  CHECK(overflown < 1'000);
}

TEST_CASE("every prefix of a document is refused") {
  Documents documents(12);
  for (int i = 0; i < 1'000; ++i) {
    const std::string text = "[" + documents.next() + "]";
    for (std::size_t size = 0; size < text.size(); ++size) {
      if (isJson({text.data(), size})) CHECK(text.substr(0, size) == "refused");
    }
    CHECK(isJson(text));
  }
}

TEST_CASE("the reader refuses what only looks like JSON") {
  const std::string_view rows[] = {"",
                                   " ",
                                   "nul",
                                   "nulll",
                                   "True",
                                   "NaN",
                                   "Infinity",
                                   "-",
                                   "+1",
                                   "01",
                                   "-01",
                                   "1.",
                                   ".5",
                                   "1e",
                                   "1e+",
                                   "0x10",
                                   "1_000",
                                   "'a'",
                                   "\"a",
                                   "a\"",
                                   "\"\t\"",
                                   "\"\\x41\"",
                                   "\"\\u12\"",
                                   "\"\\u12G4\"",
                                   "\"\\ud800\"",
                                   "\"\\udc00\"",
                                   "\"\\ud800\\u0041\"",
                                   "\"\\ud800x\"",
                                   "\"\xFF\"",
                                   "\"\xC0\x80\"",
                                   "\"\xED\xA0\x80\"",
                                   "[",
                                   "]",
                                   "[1",
                                   "[1,",
                                   "[1,]",
                                   "[,1]",
                                   "[1 2]",
                                   "[1]]",
                                   "{",
                                   "}",
                                   "{\"a\"",
                                   "{\"a\":",
                                   "{\"a\":1",
                                   "{\"a\":1,",
                                   "{\"a\":1,}",
                                   "{a:1}",
                                   "{1:1}",
                                   "{\"a\" 1}",
                                   "{\"a\":1 \"b\":2}",
                                   "{\"a\"}",
                                   "{\"a\",1}",
                                   "[\"a\":1]",
                                   "[}",
                                   "{]",
                                   "[{]}",
                                   "1 2",
                                   "null,",
                                   "/**/1",
                                   "1//",
                                   "\xEF\xBB\xBF"
                                   "1",
                                   std::string_view("1\0", 2),
                                   std::string_view("\0", 1),
                                   std::string_view("\"\0\"", 3),
                                   "\xC2\xA0"
                                   "1",
                                   "\v1"};
  for (const std::string_view row : rows) {
    CAPTURE(row);
    CHECK_FALSE(isJson(row));
  }
}

TEST_CASE("a number that no double can hold is JSON nevertheless") {
  for (const std::string& number : {std::string("1e999"), "-1e" + repeat("9", 500),
                                    repeat("9", 500), "0." + repeat("0", 500) + "1"}) {
    CHECK(isJson(number));
  }
}

TEST_CASE("values nest 64 deep and no deeper") {
  Documents documents(13);
  for (int i = 0; i < 500; ++i) {
    const std::size_t depth = 60 + documents.pick(8);
    std::string front, back;
    for (std::size_t level = 0; level < depth; ++level) {
      const bool object = documents.pick(2) == 0;
      front += object ? R"({"a":1,"b":)" : "[[],";
      back = (object ? R"(,"c":{}})" : ",2]") + back;
    }
    const std::string text = front + "0" + back;  // the siblings are one level deeper
    REQUIRE(Json::accept(text));
    CHECK(isJson(text) == (depth < 64));
    std::string wrong = text;
    const std::size_t at = wrong.find_last_of("]}", wrong.size() - 1 - documents.pick(40));
    wrong[at] = wrong[at] == ']' ? '}' : ']';
    CHECK_FALSE(isJson(wrong));
  }
  CHECK(isJson(repeat("[", 64) + repeat("]", 64)));
  CHECK_FALSE(isJson(repeat("[", 65) + repeat("]", 65)));
  CHECK(isJson("[" + repeat(repeat("[", 63) + repeat("]", 63) + ",", 100) + "0]"));
}

TEST_CASE("what is nested 100,000 deep is refused, without recursion") {
  for (const char* open : {"[", "{\"a\":", "[{\"a\":", "[[],", "{\"a\":1,\"b\":"}) {
    const std::string deep = repeat(open, 100'000);
    CHECK_FALSE(isJson(deep));
    CHECK_FALSE(isJson(deep + "1" + repeat(open[0] == '[' ? "]" : "}", 100'000)));
    CHECK(idsIn(R"({"reportedIds":[1],"customData":)" + deep + "}").empty());
    CHECK(idsIn(R"({"reportedIds":)" + deep).empty());
  }
}

TEST_CASE("10 MB of anything are read to the end or refused") {  // quadratic work would never end
  constexpr std::size_t size = (10 << 20) / fakes::slowdown;
  const std::string spaces(size, ' ');
  CHECK(isJson("[" + repeat("1,", size / 2) + "1]"));
  CHECK(isJson("[" + repeat("{},[],", size / 6) + "1]"));
  CHECK(isJson("{" + repeat(R"("a":"b",)", size / 8) + R"("a":1})"));
  CHECK(isJson("\"" + repeat("\\n", size / 2) + "\""));
  CHECK(isJson("\"" + repeat("\xF0\x9F\x98\x80", size / 4) + "\""));
  CHECK(isJson(spaces + "1" + spaces));
  CHECK(isJson(repeat("9", size)));
  CHECK_FALSE(isJson(spaces));
  CHECK_FALSE(isJson(std::string(size, '"')));
  CHECK_FALSE(isJson(std::string(size, '\\')));
  CHECK_FALSE(isJson("\"" + std::string(size, 'x')));
  CHECK_FALSE(isJson("[" + repeat("1,", size / 2)));
}

TEST_CASE("a string is read as another implementation reads it") {
  Documents documents(14);
  for (int i = 0; i < 20'000; ++i) {
    const std::string json = documents.string();
    JsonReader reader(json);
    std::string_view raw;
    REQUIRE(reader.string(raw));
    REQUIRE(reader.finished());
    const std::string text = written(json.size(), [&](Buffer& out) { readString(raw, out); });
    const std::string expected = Json::parse(json);
    if (text != expected) CHECK(json == "read otherwise");
    if (!sameString(raw, expected) && expected.size() <= 32) CHECK(json == "another string");
    if (sameString(raw, expected + "x")) CHECK(json == "the same string");
  }
}

TEST_CASE("a string that does not fit is left out without harm") {
  const std::string raw = "ab\\n\\ud83d\\ude00\\u20acrest";
  const auto read = [&](Buffer& out) { readString(raw, out); };
  const std::string whole = written(40, read);
  CHECK(whole == "ab\n\xF0\x9F\x98\x80\xE2\x82\xACrest");
  for (std::size_t capacity = 0; capacity <= whole.size(); ++capacity) {
    bool full = false;
    written(capacity, read, &full);
    CHECK(full == (capacity < whole.size()));
  }
}

TEST_CASE("decimal digits are a number as long as they fit") {
  struct Row {
    const char* text;
    bool read;
    std::uint64_t value;
  };
  const Row rows[] = {{"0", true, 0},
                      {"7", true, 7},
                      {"18446744073709551615", true, UINT64_MAX},
                      {"18446744073709551616", false, 0},
                      {"99999999999999999999", false, 0},
                      {"184467440737095516150", false, 0},
                      {"", false, 0},
                      {"-1", false, 0},
                      {"+1", false, 0},
                      {"1.0", false, 0},
                      {"1e3", false, 0},
                      {" 1", false, 0},
                      {"1 ", false, 0},
                      {"0x1", false, 0}};
  for (const Row& row : rows) {
    std::uint64_t value = 42;
    CAPTURE(row.text);
    CHECK(readUnsigned(row.text, value) == row.read);
    CHECK(value == (row.read ? row.value : 42));
  }
}

// ---- in: what the server answers ----

TEST_CASE("plain integers and numeric strings name events, and nothing else does") {
  struct Row {
    const char* answer;
    Ids ids;
  };
  const Row rows[] = {
      {R"({"reportedIds":[1,2,3]})", {1, 2, 3}},
      {R"({"reportedIds":["1",2,"30"]})", {1, 2, 30}},
      {R"( { "reportedIds" : [ 1 , "2" ] } )", {1, 2}},
      {"\xEF\xBB\xBF{\"reportedIds\":[5]}", {5}},
      {R"({"a":[{"b":[]}],"reportedIds":[1],"c":null})", {1}},
      {R"({"reported\u0049ds":[1]})", {1}},
      {R"({"reportedIds":[18446744073709551615,4503599627370496]})",
       {UINT64_MAX, std::uint64_t{1} << 52}},
      {R"({"reportedIds":[18446744073709551616,"99999999999999999999",1e999,7]})", {7}},
      {R"({"reportedIds":[1.0,1.5,1e3,-1,-0,"-1","+1","1.0"," 1","1 ","0x1","","x",7]})", {7}},
      {R"({"reportedIds":[[1],{"id":2},{"3":3},[[4]],null,true,false,[],{},7]})", {7}},
      {R"({"reportedIds":[[1,2],"3",{"a":4},5]})", {3, 5}},
      {R"({"reportedIds":[]})", {}},
      {R"({"reportedIds":5})", {}},
      {R"({"reportedIds":"5"})", {}},
      {R"({"reportedIds":{"0":5}})", {}},
      {R"({"reportedIds":null})", {}},
      {R"({"reportedIds":true})", {}},
      {R"({"ReportedIds":[5],"reportedids":[5],"reportedIds ":[5]})", {}},
      {R"({"data":{"reportedIds":[5]}})", {}},
      {R"([{"reportedIds":[5]}])", {}},
      {R"([5])", {}},
      {"5", {}},
      {"null", {}},
      {R"("reportedIds")", {}},
      {"", {}},
      {"<html><body>{\"reportedIds\":[5]}</body></html>", {}},
      {R"({"reportedIds":[5]}{"reportedIds":[6]})", {}},
      {R"({"reportedIds":[5]},)", {}},
      {R"({"reportedIds":[5]}x)", {}},
      {R"({"reportedIds":[5],})", {}},
      {R"({"reportedIds":[5,]})", {}},
      {R"({"reportedIds":[05]})", {}},
      {"{\"reportedIds\":[5],\"a\":\"\xFF\"}", {}},
      {"{\"reportedIds\":[5],\"a\":\"\x01\"}", {}}};
  for (const Row& row : rows) {
    CAPTURE(row.answer);
    CHECK(idsIn(row.answer) == row.ids);
  }
}

TEST_CASE("a part of an answer names nothing") {
  const std::string good =
      R"({"reportedIds":[11,"12",13],"anonId":"abc","latestVersion":"1.2","confirmation":true})";
  CHECK(idsIn(good) == Ids{11, 12, 13});
  for (std::size_t size = 0; size < good.size(); ++size) {
    Answer answer;
    readAnswer({good.data(), size}, answer);
    CAPTURE(size);
    CHECK_FALSE((!answer.reportedIds.empty() || answer.understood || answer.confirmed ||
                 !answer.anonId.empty() || !answer.latestVersion.empty()));
  }
}

TEST_CASE("damaged answers name no event that stands nowhere in them") {
  Documents documents(15);
  int named = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string answer = R"({"reportedIds":[1111,"2222",3333],"anonId":"abc"})";
    for (std::size_t n = documents.pick(4); n > 0 && !answer.empty(); --n) {
      answer = documents.damaged(answer);
    }
    for (const std::uint64_t id : idsIn(answer)) {
      ++named;
      if (answer.find(std::to_string(id)) == std::string::npos) CHECK(answer == "names no other");
    }
  }
  CHECK(named > 10'000);
}

TEST_CASE("an anonId is adopted only if it is an identifier") {
  const std::string most(64, 'a');
  struct Row {
    std::string json, anonId;
  };
  const Row rows[] = {{R"("OUm_Ix3kGu-Q")", "OUm_Ix3kGu-Q"},
                      {R"("\u0061bc")", "abc"},
                      {"\"" + most + "\"", most},
                      {"\"" + most + "a\"", ""},
                      {"\"" + most.substr(2) + R"(\u0061\u0061\u0061")", ""},
                      {"\"" + repeat("a", 70) + R"(\u0061")", ""},
                      {"\"" + repeat("a", 100'000) + "\"", ""},
                      {R"("")", ""},
                      {R"("a b")", ""},
                      {R"("a/b")", ""},
                      {R"("../a")", ""},
                      {R"("a\u0000")", ""},
                      {R"("a\n")", ""},
                      {R"("<a>")", ""},
                      {"\"\xC3\xA4\"", ""},
                      {"5", ""},
                      {"null", ""},
                      {R"(["abc"])", ""},
                      {R"({"abc":"abc"})", ""}};
  for (const Row& row : rows) {
    CAPTURE(row.json);
    CHECK(anonIdIn("{\"anonId\":" + row.json + "}") == row.anonId);
  }
}

TEST_CASE("a latestVersion is told only if it is a version") {
  const std::string most = "1." + repeat("0", 62);
  struct Row {
    std::string json, version;
  };
  const Row rows[] = {{R"("1.2.3")", "1.2.3"},
                      {R"("\u0031.2")", "1.2"},
                      {R"("2.0.0-beta.1")", "2.0.0-beta.1"},
                      {"\"" + most + "\"", most},
                      {"\"" + most + "0\"", ""},
                      {"\"" + repeat("9", 70) + R"(\u0031")", ""},
                      {R"("")", ""},
                      {R"("latest")", ""},
                      {R"("1.2.3-a b<script>")", ""},
                      {R"("1.0-x\n")", ""},
                      {R"("1.0-x\u0000")", ""},
                      {"1.2", ""},
                      {"null", ""},
                      {R"(["1.2.3"])", ""}};
  for (const Row& row : rows) {
    CAPTURE(row.json);
    CHECK(versionIn("{\"latestVersion\":" + row.json + "}") == row.version);
  }
}

TEST_CASE("customData is handed on as the server wrote it, up to 64 KB") {
  for (const char* json : {R"({ "a" : [1, "x"] })", R"("text")", "[]", "5", "false"}) {
    CHECK(dataIn(std::string(R"({"customData": )") + json + " }") == json);
  }
  const std::string most = "\"" + repeat("x", (64 << 10) - 2) + "\"";
  CHECK(dataIn("{\"customData\":" + most + "}") == most);
  CHECK(dataIn("{\"customData\":[" + most + "]}").empty());
  CHECK(dataIn(R"({"customdata":1,"data":{"customData":2}})").empty());
}

TEST_CASE("only confirmation:true confirms") {
  struct Row {
    const char* json;
    bool confirmed;
  };
  for (const Row& row : {Row{"true", true}, Row{" true ", true}, Row{"false", false},
                         Row{"1", false}, Row{"\"true\"", false}, Row{"null", false},
                         Row{"[true]", false}, Row{"{\"confirmation\":true}", false}}) {
    Answer answer;
    readAnswer("{\"confirmation\":" + std::string(row.json) + "}", answer);
    CAPTURE(row.json);
    CHECK(answer.understood);
    CHECK(answer.confirmed == row.confirmed);
  }
}

TEST_CASE("what a version looks like") {
  for (const char* version : {"1", "1.2", "1.2.3", "10.20.30.40", "2026.1", "0.0.0", "1.0.0-beta",
                              "1.0.0-beta.1", "1.0.0+build5", "1.0.0-rc.1+5", "4294967296.1"}) {
    CAPTURE(version);
    CHECK(isVersion(version));
  }
  for (const char* other :
       {"",     ".",       "1.",      ".1",     "1..2", "-1",   "1-",
        "1.0-", "1.0+",    "latest",  "1.x",    "1 ",   " 1",   "1.0 beta",
        "1,0",  "1.0-a b", "1.0-<b>", "1.0-\"", "-",    "1.-a", "1.0-\xC3\xA4"}) {
    CAPTURE(other);
    CHECK_FALSE(isVersion(other));
  }
  CHECK(isVersion(std::string(64, '1')));
  CHECK_FALSE(isVersion(std::string(65, '1')));
  CHECK_FALSE(isVersion("1-" + std::string(63, 'a')));
}

TEST_CASE("versions are compared number by number") {
  struct Row {
    const char *candidate, *version;
    bool newer;
  };
  const Row rows[] = {{"1.0.1", "1.0.0", true},
                      {"1.10", "1.9", true},
                      {"1.9", "1.10", false},
                      {"2", "1.9.9", true},
                      {"1.0.0.1", "1.0.0", true},
                      {"1.0", "1.0.0", false},
                      {"1.0.0", "1.0", false},
                      {"1.0.0", "1.0.0", false},
                      {"01.2", "1.2", false},
                      {"0.9", "1.0", false},
                      {"1.0.1", "0.0.0", true},
                      {"0.0.0", "0.0.0", false},
                      {"1.1-beta", "1.0", true},
                      {"1.0-beta", "1.0", false},
                      {"1.0+build7", "1.0", false},
                      {"4294967297.0", "4294967296.9", true},
                      {"1.0", "", true},
                      {"", "1.0", false},
                      {"", "", false}};
  for (const Row& row : rows) {
    CAPTURE(row.candidate, row.version);
    CHECK(isNewer(row.candidate, row.version) == row.newer);
  }
}

TEST_CASE("whatever the server answers, an event stays until it is named", "[large]") {
  const auto odd = GENERATE_COPY(
      values<std::string>({"", "null", "[]", "<html>", R"({"reportedIds":5})",
                           R"({"reportedIds":[0,1,-1,1.5,"x",null,[[]],18446744073709551616]})",
                           repeat("[", 100'000), repeat("{\"a\":", 100'000), std::string(1, '\0'),
                           R"({"reportedIds":[)" + repeat("7,", 5 << 20) + "7]}",
                           R"({"reportedIds":["a)" + std::string(10 << 20, 'x'), "\xFF\xFE"}));
  fakes::World world;
  nucleus::Client client(world.options());
  client.track("kept");
  world.server->script.push_back(fakes::Server::always(200, odd));
  world.pass(client, 2'000);
  REQUIRE(world.server->bodies.size() == 1);
  CHECK(client.stats().queuedEvents == 2);
  CHECK(client.stats().failedRequests == 1);
  client.flush(1'000);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.stats().acknowledgedEvents == 2);
}

TEST_CASE("an answer may name every event of the largest request", "[large]") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.storage = nullptr;
  options.offlineCache = false;
  options.maxBatchBytes = 64 << 20;
  options.maxQueueBytes = 128 << 20;
  nucleus::Client client(options);
  for (std::size_t i = 0; i < 100'000 / fakes::slowdown; ++i) client.track("e");
  world.pass(client, 2'000);
  REQUIRE(world.server->bodies.size() >= 1);
  CHECK(client.stats().queuedEvents == 0);
}

TEST_CASE("the server's anonId, version and data reach the host") {
  fakes::World world;
  std::vector<std::string> versions, data;
  nucleus::Options options = world.options();
  options.version = "1.5";
  options.onUpdate = [&](std::string_view version) { versions.emplace_back(version); };
  options.onCustomData = [&](std::string_view json) { data.emplace_back(json); };
  nucleus::Client client(options);
  const auto next = [&](const char* more) {
    world.server->then = [more](const nucleus::Request& request) {
      const Ids ids = fakes::Server::ids(request.body());
      std::string body = fakes::Server::naming(ids);
      body.insert(1, more);
      return fakes::Server::with(200, body);
    };
    client.track("event");
    client.flush(1'000);
    client.poll();
    return world.server->received().back().at("anonId").get<std::string>();
  };
  const std::string first = next(R"("anonId":"from the server","latestVersion":"1.5",)");
  CHECK(next(R"("anonId":"from-the-server","latestVersion":"soon",)") == first);
  CHECK(next(R"("latestVersion":"1.10","customData":{"a": [1]},)") == "from-the-server");
  CHECK(next(R"("latestVersion":"2.0",)") == "from-the-server");
  CHECK(versions == std::vector<std::string>{"1.10"});
  CHECK(data == std::vector<std::string>{R"({"a": [1]})"});
}

// ---- another language reads it ----

#if NUCLEUS_TESTS_PROCESSES
TEST_CASE("Python reads what is written, and finds every string and number as it was", "[python]") {
  REQUIRE(std::system("python3 --version") == 0);
  const std::string path = "roundtrip-" + std::to_string(getpid()) + ".jsonl";
  std::mt19937_64 random(16);
  int lines = 0;
  {
    std::ofstream file(path, std::ios::binary);
    const auto hex = [](const std::string& bytes) {
      std::string text;
      for (const char c : bytes) {
        char digits[4];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(c) & 0xFF);
        text += digits;
      }
      return text;
    };
    const auto string = [&](const std::string& bytes) {
      file << R"({"bytes":")" << hex(bytes) << R"(","text":)" << asJson(bytes) << "}\n";
      ++lines;
    };
    const auto number = [&](double value) {
      if (!std::isfinite(value)) return;
      char bits[20];
      std::snprintf(bits, sizeof bits, "%016llx", static_cast<unsigned long long>(bitsOf(value)));
      file << R"({"bits":")" << bits << R"(","number":)" << asNumber(value) << "}\n";
      ++lines;
    };
    const auto integer = [&](std::int64_t value) {
      Fixed<32> out;
      writeInteger(out, value);
      file << R"({"decimal":")" << value << R"(","integer":)" << out.view() << "}\n";
      ++lines;
    };
    for (int first = 0; first < 256; ++first) {
      string({static_cast<char>(first)});
      for (const char next : {'A', '\x80', '\x8F', '\x9F', '\xA0', '\xBF', '\xE1'}) {
        string({static_cast<char>(first), next});
        string({static_cast<char>(first), next, '\xBF', '\x80'});
      }
    }
    for (int i = 0; i < 20'000; ++i) string(randomBytes(random, 24));
    for (int i = 0; i < 40'000; ++i) number(fromBits(random()));
    for (int power = -1074; power < 1024; ++power) number(std::ldexp(1.0, power));
    for (int i = 0; i < 5'000; ++i) number(static_cast<double>(random() % 1'000'000) / 1000);
    for (int i = 0; i < 5'000; ++i) integer(static_cast<std::int64_t>(random() >> (i % 64)));
    integer(INT64_MIN);
    integer(INT64_MAX);
  }
  const std::string command =
      "python3 \"" + testsFolder + "/roundtrip.py\" " + path + " " + std::to_string(lines);
  CHECK(std::system(command.c_str()) == 0);
  std::remove(path.c_str());
}
#endif
