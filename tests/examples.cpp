// The examples about privacy, run as a user would: what they print, and what they leave behind.
#include "check.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string contentOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A home of its own for an example, in which it may leave what it leaves.
class Home {
 public:
  Home() {
    std::string name = (fs::temp_directory_path() / "nucleus-home-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) FAIL("no temporary folder");
    path_ = name;
  }
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  ~Home() { fs::remove_all(path_); }

  fs::path cache() const { return path_ / "nucleus" / "consent-example.cache"; }
  /// What the example prints when these lines are typed, and nothing after them.
  std::string run(const std::string& example, const std::string& typed,
                  const std::string& argument = "") const {
    std::ofstream(path_ / "typed") << typed;
    const std::string home = "'" + path_.string() + "'";
    const std::string command = "cd " + home + " && DO_NOT_TRACK=0 XDG_DATA_HOME=" + home +
                                " '" NUCLEUS_EXAMPLES "/example_" + example + "' " + argument +
                                " < typed 2>&1";
    std::FILE* const pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return {};
    std::string output;
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output += static_cast<char>(c);
    CHECK(pclose(pipe) == 0);
    return output;
  }

 private:
  fs::path path_;
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The lines of a text that are JSON objects.
std::vector<Json> objectsIn(const std::string& text) {
  std::vector<Json> objects;
  for (std::size_t at = text.find("{\""); at != std::string::npos; at = text.find("{\"", at)) {
    const std::size_t end = text.find('\n', at);
    objects.push_back(Json::parse(text.substr(at, end - at)));
    at = end;
  }
  return objects;
}

}  // namespace

TEST_CASE("consent.cpp: a no is remembered as one line, and the next run does not ask") {
  const Home home;
  const std::string question = "Is that all right?";
  CHECK(holds(home.run("consent", "n\ns\nq\n"), question));
  const std::string file = contentOf(home.cache());
  CHECK(file.find('\n') == file.size() - 1);
  CHECK(holds(file, " refused "));
  const std::string second = home.run("consent", "s\nq\n");
  CHECK_FALSE(holds(second, question));
  CHECK(holds(second, "tracking is off"));
  CHECK(contentOf(home.cache()) == file);
}

TEST_CASE("consent.cpp: a user agrees, sees the data, and has all of it erased") {
  const Home home;
  const std::string said = home.run("consent", "y\ns\ne\ns\nq\n");
  const std::vector<Json> shown = objectsIn(said);
  REQUIRE(shown.size() == 3);
  CHECK(shown[0].at("consent") == "granted");
  CHECK(shown[0].at("complete") == true);
  CHECK(shown[0].at("events").size() == 2);
  CHECK(shown[0].at("cacheFile") == home.cache().string());
  CHECK(shown[1].at("deviceId") == shown[0].at("deviceId"));  // whom our own server is to erase
  CHECK(holds(said, "Erased."));
  CHECK(shown[2].at("events").empty());
  CHECK(shown[2].count("deviceId") + shown[2].count("anonId") == 0);
  CHECK_FALSE(holds(contentOf(home.cache()), shown[0].at("deviceId")));
}

TEST_CASE("consent.cpp: a user changes their mind, both ways") {
  const Home home;
  const std::string said = home.run("consent", "n\na\ny\na\nn\nq\n");
  const std::size_t on = said.find("tracking is on");
  REQUIRE(on != std::string::npos);
  CHECK(holds(said.substr(0, on), "tracking is off"));
  CHECK(holds(said.substr(on), "tracking is off"));
}

TEST_CASE("privacy_page.cpp prints the game's own events, as a page and as JSON") {
  const Home home;
  const std::string page = home.run("privacy_page", "");
  CHECK(holds(page, "# Small Game"));
  CHECK(holds(page, "| LEVEL\\_DONE.level | events, views | to see where players stop |\n"));
  const Json json = Json::parse(home.run("privacy_page", "", "--json"));
  CHECK(json.at("rows").back().at("field") == "props.difficulty");
}
