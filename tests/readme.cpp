// What the README says of the library is what the library says of itself.
#include "../nucleus.hpp"
#include "check.hpp"

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#if NUCLEUS_TESTS_SYSTEM

namespace {

std::string textOf(const std::string& nameInRoot) {
  const std::string here = __FILE__;
  std::ifstream file(here.substr(0, here.rfind("tests")) + nameInRoot, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> namesIn(const std::string& text, const char* pattern) {
  const std::regex names(pattern);
  std::set<std::string> all;
  for (std::sregex_iterator at(text.begin(), text.end(), names), end; at != end; ++at) {
    all.insert((*at)[1]);
  }
  return all;
}

std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const std::size_t from = text.find(begin);
  REQUIRE(from != std::string::npos);
  return text.substr(from, text.find(end, from + begin.size()) - from);
}

}  // namespace

TEST_CASE("the README's table of what is sent, and its paragraph, are those of dataInventory()") {
  nucleus::Options options;
  options.appId = "my-app";
  const std::string expected = nucleus::dataInventory(options).markdown();
  INFO("It should hold, as it stands:\n\n" << expected);
  CHECK(textOf("README.md").find("\n" + expected) != std::string::npos);
}

TEST_CASE("the README's table of options has every option, and no other") {
  const std::string header = textOf("nucleus.hpp");
  const std::string options = between(header, "struct Options {", "\n};");
  std::set<std::string> expected = namesIn(options, "\n  [^/\n ][^/\n]*?\\b(\\w+)(?: = [^;\n]*)?;");
  expected.insert("memory");
  const std::string table = between(textOf("README.md"), "## Options", "\n## ");
  std::string firstCells;
  for (const std::string& cell : namesIn(table, "\n\\| (`[^|]*) \\|")) firstCells += cell;
  CHECK(namesIn(firstCells, "`(\\w+)`") == expected);
}

#endif
