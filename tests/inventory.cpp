// What the user is told is collected: all that is, and no more than that.
#include "fakes.hpp"
#include "check.hpp"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <stdexcept>

#if NUCLEUS_TESTS_PROCESSES
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pwd.h>
#include <unistd.h>
#endif

namespace {

using fakes::Json;
using fakes::World;
using nucleus::Client;
using nucleus::Outcome;
using Names = std::set<std::string>;

#if NUCLEUS_TESTS_SYSTEM

namespace fs = std::filesystem;

/// A new folder that goes with it.
class Folder {
 public:
  explicit Folder(const std::string& name) {
    std::uint64_t number = 0;
    nucleus::detail::systemEntropy(&number, sizeof number);
    path_ = fs::temp_directory_path() / (name + '-' + std::to_string(number));
    fs::create_directory(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path() const { return path_.string(); }
  std::string file(const char* name) const { return (path_ / name).string(); }
  /// Of all files in it.
  std::string content() const {
    std::string all;
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) all += fakes::contentOf(entry.path().string());
    }
    return all;
  }

 private:
  fs::path path_;
};

#endif

/// Variables of the environment, until it goes.
class Environment {
 public:
  Environment() = default;
  ~Environment() {
    for (const auto& [name, before] : before_) put(name, before);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  void set(const std::string& name, const std::string& value) {
    const char* const before = std::getenv(name.c_str());
    before_.emplace_back(name, before != nullptr ? before : "");
    put(name, value);
  }

 private:
  static void put(const std::string& name, const std::string& value) {
    fakes::setVariable(name.c_str(), value.empty() ? nullptr : value.c_str());
  }

  std::vector<std::pair<std::string, std::string>> before_;
};

class Boom : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The names of all properties that makeEveryOddCall() gives, as they are written.
const Names propertyNames = {"",
                             "plan",
                             "odd \"name\"\n",
                             "gr\xC3\xB6\xC3\x9F",
                             "list",
                             "mood",
                             "[email]",
                             "bob@example.com",
                             "long",
                             "type",
                             "id",
                             "events"};

/// Every call that tracks, in every overload, with values that are hard to write.
void makeEveryOddCall(Client& client) {
  const std::string longText(3'000, 'x');
  const nucleus::Property array[] = {{"list", 1}, {"mood", nullptr}, {"", "no name"}};
  const std::vector<nucleus::Property> vector = {
      {"plan", -0.0}, {"plan", INT64_MIN}, {"plan", UINT64_MAX}, {"type", "init"}, {"id", true}};
  const double nan = std::numeric_limits<double>::quiet_NaN();

  client.track("BRACES", {{"plan", nan}, {"odd \"name\"\n", "\x01\"\\\xFF"}});
  client.track("ARRAY", array);
  client.track(std::string("VECTOR"), vector);
  client.track("POINTER", nucleus::Properties(array, 2));
  client.track("gr\xC3\xB6\xC3\x9F", {{"gr\xC3\xB6\xC3\x9F", "\xF0\x9F\x98\x80"}});
  client.track("bob@example.com", {{"bob@example.com", "/home/bob"}, {"mood", 1e308}});
  client.track("LONG", {{"long", longText}});
  client.track(nullptr, {{"plan", "lost"}});
  client.track("PLAIN");
  client.page("PAGE");
  client.page("PAGE", {{"events", "\xE2\x82\xAC"}});
  client.page("PAGE", array);
  client.screen("SCREEN");
  client.screen("SCREEN", {{"plan", 0.1f}});
  client.screen("SCREEN", vector);
  client.trackError("Broken", "it broke at 192.0.2.1", "at main()\n\tat start()");
  client.trackError("Broken", longText, std::string(100'000, '\n'));
  client.trackError("Broken", nullptr);
  client.trackError(Boom("boom"));
  client.setUserId("user \"7\"");
  client.setUserId("bob@example.com");
  client.setProps({{"plan", "pro"}, {"mood", nan}, {"plan", "free"}});
  client.setProps(vector, true);
  client.setProps(array);
  client.setProps({{"version", "2.0"}, {"locale", "de-CH"}, {"osVersion", "9.9"}});
  client.identify("user-8");
  client.identify("user-8", {{"plan", true}});
  client.identify("user-8", array);
  client.startSession();
}

/// Collects the names of fields; those of the host's properties are known.
void collect(const Json& object, Names& names) {
  const bool ofError = object.value("type", "") == "error";
  for (const auto& [key, value] : object.items()) {
    names.insert(key);
    const bool ofHost = key == "props" || (key == "payload" && !ofError);
    if (!value.is_structured()) continue;
    for (const auto& [member, content] : value.items()) {
      if (key == "data" || key == "events") collect(content, names);
      else if (ofHost) CHECK(propertyNames.count(member) == 1);
      else names.insert(key + '.' + member);
    }
  }
}

/// What stands in a cache file: of each record its JSON.
void collectFile(const std::string& file, Names& names) {
  std::size_t at = file.find('\n');
  while (at != std::string::npos && ++at < file.size()) {
    const std::size_t end = std::min(file.find('\n', at), file.size());
    const std::string line = file.substr(at, end - at);
    at = end;
    if (line.empty() || line[0] == 'g') continue;
    REQUIRE(std::string("sefSEF").find(line[0]) != std::string::npos);
    collect(Json::parse(line.substr(line.find('{'))), names);
  }
}

Names inventoryNames(const nucleus::Options& options) {
  Names names;
  for (const auto& row : nucleus::dataInventory(options)) names.insert(row.field);
  return names;
}

/// The same server for HTTP and WebSocket: first it wants to be left alone.
fakes::Server::Answer answers() {
  return [asked = std::make_shared<int>(0)](const nucleus::Request& request) {
    if (!request.expectsAnswer()) return nucleus::Response::pending();
    if (++*asked == 1) return fakes::Server::with(429, "", "30");
    return fakes::Server::acknowledge(request);
  };
}

void setEveryOption(nucleus::Options& options) {
  options.version = "1.2.3";
  options.locale = "en-US";
  options.platform = "toaster";
  options.osVersion = "7.1";
  options.deviceId = "device-1";
  options.anonId = "anon-1";
  options.rememberTrackingChoice = true;
  options.respectDoNotTrack = false;
  options.personalData = nucleus::PersonalData::allow;
  options.anonymizeKey = "sixteen bytes and more";
  options.reportUncaught = true;
  options.filter = [](nucleus::Text, nucleus::Text, nucleus::Properties) { return true; };
  options.onUpdate = [](std::string_view) {};
  options.onCustomData = [](std::string_view) {};
}

/// Runs every call, and collects every name in requests, file and export.
Names namesSeen(World& world, const nucleus::Options& options, const std::string& cacheFile) {
  Names names;
  const auto look = [&](const Client& client) {
    collectFile(cacheFile.empty() ? world.disk->file : fakes::contentOf(cacheFile), names);
    collect(Json::parse(client.exportData()), names);
  };
  world.server->then = answers();
  Client client(options);
  look(client);
  makeEveryOddCall(client);
  look(client);
  for (int i = 0; i < 40; ++i) world.pass(client, 5'000), look(client);
  makeEveryOddCall(client);
  client.persist();
  look(client);
  client.disableTracking();
  look(client);
  client.enableTracking();
  makeEveryOddCall(client);
  client.shutdown(0);
  look(client);
  client.forget();
  look(client);
  for (const std::string& body : world.server->bodies) collect(Json::parse(body), names);
  return names;
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t countOf(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

std::string policyOf(const nucleus::Options& options) {
  return nucleus::dataInventory(options).policy();
}

nucleus::Options plainOptions() {
  nucleus::Options options;
  options.appId = "my-app";
#if NUCLEUS_TESTS_SYSTEM
  options.cacheFile = "my-app.cache";
#else
  options.storage = std::make_shared<fakes::Storage>(std::make_shared<fakes::Disk>());
#endif
  return options;
}

const nucleus::DataInventory::Row* rowOf(const nucleus::DataInventory& inventory,
                                         const std::string& field) {
  for (const auto& row : inventory) {
    if (row.field == field) return &row;
  }
  return nullptr;
}

}  // namespace

// ---- the rows ----

TEST_CASE("the inventory names every field that is sent, kept or exported, and no other") {
  struct Row {
    const char* what;
    const char* endpoint;
    bool everyOption, offlineCache, realFile;
  };
  const Row row = GENERATE(Row{"HTTP", "https://a.example", false, true, false},
                           Row{"HTTP, all options set", "https://a.example", true, true, false},
                           Row{"HTTP, nothing stored", "https://a.example", false, false, false},
                           Row{"WebSocket", "wss://a.example", false, true, false},
                           Row{"HTTP, a real file", "https://a.example", true, true, true},
                           Row{"WebSocket, a real file", "wss://a.example", true, true, true},
                           Row{"WebSocket, nothing stored", "wss://a.example", true, false, false});
  CAPTURE(row.what);
  if (row.realFile && !NUCLEUS_TESTS_SYSTEM) return;
  World world;
  nucleus::Options options = world.options();
  options.locale = "en-US";
  if (row.everyOption) setEveryOption(options);
  options.endpoint = row.endpoint;
  options.offlineCache = row.offlineCache;
#if NUCLEUS_TESTS_SYSTEM
  const Folder folder("nucleus-inventory");
  if (row.realFile) {
    options.storage = nullptr;
    options.cacheFile = folder.file("events.cache");
  }
#endif
  Names expected = inventoryNames(options);
  if (nucleus::detail::systemRamBytes() == 0) expected.erase("totalRam");  // where it is not known
  CHECK(namesSeen(world, options, options.cacheFile) == expected);
}

TEST_CASE("each row says where, why and whether it is personal; none comes twice") {
  nucleus::Options options = plainOptions();
  options.endpoint = "wss://a.example";
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  Names names;
  for (const auto& row : inventory) {
    CAPTURE(row.field);
    CHECK(names.insert(row.field).second);
    CHECK_FALSE(row.when.empty());
    CHECK_FALSE(row.purpose.empty());
  }
  CHECK(names.size() == inventory.size());
  for (const char* personal :
       {"userId", "anonId", "deviceId", "machineId", "payload", "payload.message", "payload.stack",
        "props", "cacheFile", "data", "events"}) {
    CAPTURE(personal);
    if (!NUCLEUS_TESTS_SYSTEM && personal == std::string("cacheFile")) continue;
    REQUIRE(names.erase(personal) == 1);
    CHECK(rowOf(inventory, personal)->personal);
  }
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK_FALSE(rowOf(inventory, name)->personal);
  }
}

TEST_CASE("what options switch off is in no row") {
  nucleus::Options options = plainOptions();
  CHECK(rowOf(nucleus::dataInventory(options), "machineId") == nullptr);
  options.endpoint = "WS://a.example";
  CHECK(rowOf(nucleus::dataInventory(options), "machineId") != nullptr);
  CHECK((rowOf(nucleus::dataInventory(options), "cacheFile") != nullptr) == NUCLEUS_TESTS_SYSTEM);
  CHECK(holds(rowOf(nucleus::dataInventory(options), "props")->when, "file"));

  options.offlineCache = false;
  options.rememberTrackingChoice = true;
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  CHECK(rowOf(inventory, "cacheFile") == nullptr);
  for (const auto& row : inventory) {
    CAPTURE(row.field);
    CHECK_FALSE(holds(row.when, "file"));
  }
}

TEST_CASE("the choice is in the file only where it is remembered") {
  nucleus::Options options = plainOptions();
  CHECK(rowOf(nucleus::dataInventory(options), "consent")->when == "exportData() alone");
  options.rememberTrackingChoice = true;
  CHECK(holds(rowOf(nucleus::dataInventory(options), "consent")->when, "file"));
}

TEST_CASE("an inventory can be copied, outlives its options, and nobody's is empty") {
  nucleus::DataInventory copy;
  CHECK(copy.size() == 0);
  CHECK(copy.begin() == copy.end());
  CHECK(copy.policy().empty());
  {
    nucleus::Options options = plainOptions();
    const nucleus::DataInventory inventory = nucleus::dataInventory(options);
    copy = inventory;
  }
  CHECK(copy.size() > 20);
  CHECK(holds(copy.policy(), "app.nucleus.sh"));
  CHECK(nucleus::dataInventory(nucleus::Options()).size() > 20);
}

// ---- the host's own ----

namespace {

constexpr nucleus::DeclaredProperty levelProperties[] = {
    {"level", "where the game is too hard"},
    {"seconds", "how long a level takes"},
};
constexpr nucleus::DeclaredProperty userProperties[] = {
    {"plan", "who pays"},
};
constexpr nucleus::DeclaredEvent gameEvents[] = {
    {"LEVEL_DONE", "how far people get", levelProperties, 2},
    {"MENU", "whether the menu is found"},
    {"props", "what is known of the player", userProperties, 1},
};

}  // namespace

TEST_CASE("the events of the catalogue follow, each property with its purpose") {
  nucleus::Options options = plainOptions();
  const std::size_t own = nucleus::dataInventory(options).size();
  options.catalogue = {gameEvents, 3};
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  struct Row {
    const char *field, *when, *purpose;
    bool personal;
  };
  const Row rows[] = {
      {"LEVEL_DONE", "events, views", "how far people get", false},
      {"LEVEL_DONE.level", "events, views", "where the game is too hard", false},
      {"LEVEL_DONE.seconds", "events, views", "how long a level takes", false},
      {"MENU", "events, views", "whether the menu is found", false},
      {"props", "init, props", "what is known of the player", false},
      {"props.plan", "init, props", "who pays", true},
  };
  REQUIRE(inventory.size() == own + std::size(rows));
  const auto* row = inventory.begin() + own;
  for (const Row& expected : rows) {
    CAPTURE(expected.field);
    CHECK(row->field == expected.field);
    CHECK(row->when == expected.when);
    CHECK(row->purpose == expected.purpose);
    CHECK(row->personal == expected.personal);
    ++row;
  }
}

TEST_CASE("a catalogue of null pointers adds nothing") {
  nucleus::Options options = plainOptions();
  const std::size_t own = nucleus::dataInventory(options).size();
  options.catalogue = {nullptr, 5};
  CHECK(nucleus::dataInventory(options).size() == own);
  constexpr nucleus::DeclaredEvent odd[] = {{nullptr, nullptr, nullptr, 9}};
  options.catalogue = {odd, 1};
  CHECK(nucleus::dataInventory(options).size() == own + 1);
}

// ---- as text ----

namespace {

constexpr nucleus::DeclaredProperty hostileProperties[] = {
    {"a|b", "x | y\n| z | no | no | no |"},
    {"<script>alert(1)</script>", "</table>\r\n\r\n# heading"},
    {"`code`", "*bold* _em_ ~~del~~ [link](javascript:1) ![i](x) &lt; \\| \t end"},
};
constexpr nucleus::DeclaredEvent hostileEvents[] = {
    {"E\n|---|---|", "\"quoted\" \\ \x01 \xF0\x9F\x98\x80", hostileProperties, 3},
};

std::vector<std::string> linesOf(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') lines.emplace_back();
    else lines.back() += c;
  }
  return lines;
}

/// What Markdown shows of a cell: without its escapes.
std::string shown(const std::string& cell) {
  std::string text;
  for (std::size_t i = 0; i < cell.size(); ++i) {
    if (cell[i] == '\\' && i + 1 < cell.size()) ++i;
    text += cell[i];
  }
  return text;
}

/// The cells of a line of a table; none where it is not one.
std::vector<std::string> cellsOf(const std::string& line) {
  std::vector<std::string> cells;
  if (line.empty() || line[0] != '|') return cells;
  std::string cell;
  for (std::size_t i = 1; i < line.size(); ++i) {
    if (line[i] == '|') {
      cells.push_back(shown(cell.substr(1, cell.size() - 2)));
      cell.clear();
      continue;
    }
    cell += line[i];
    if (line[i] == '\\' && i + 1 < line.size()) cell += line[++i];
  }
  CHECK(cell.empty());  // the line ends with a bar
  return cells;
}

std::string inOneLine(std::string text) {
  for (char& c : text) c = static_cast<unsigned char>(c) <= ' ' ? ' ' : c;
  return text;
}

}  // namespace

TEST_CASE("as JSON the inventory holds the policy and the rows") {
  nucleus::Options options = plainOptions();
  if (GENERATE(false, true)) options.catalogue = {hostileEvents, 1};
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  const Json json = Json::parse(inventory.json());
  CHECK(json.size() == 2);
  CHECK(json.at("policy") == inventory.policy());
  REQUIRE(json.at("rows").size() == inventory.size());
  std::size_t i = 0;
  for (const auto& row : inventory) {
    CHECK(json.at("rows")[i++] == Json({{"field", row.field},
                                        {"when", row.when},
                                        {"purpose", row.purpose},
                                        {"personal", row.personal}}));
  }
}

TEST_CASE("an empty inventory is empty as JSON too") {
  CHECK(Json::parse(nucleus::DataInventory().json()) ==
        Json({{"policy", ""}, {"rows", Json::array()}}));
}

TEST_CASE("as Markdown the inventory is the policy, then one line of a table for each row") {
  nucleus::Options options = plainOptions();
  const int catalogue = GENERATE(0, 1, 2);
  if (catalogue == 1) options.catalogue = {gameEvents, 3};
  if (catalogue == 2) options.catalogue = {hostileEvents, 1};
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  const std::string markdown = inventory.markdown();
  CHECK(shown(markdown.substr(0, markdown.find("\n|") - 1)) == inventory.policy());

  const auto* row = inventory.begin();
  int tables = 0;
  bool inTable = false;
  for (const std::string& line : linesOf(markdown.substr(markdown.find("\n|") + 1))) {
    CAPTURE(line);
    const std::vector<std::string> cells = cellsOf(line);
    const bool begins = !inTable && !cells.empty();
    inTable = !cells.empty();
    tables += begins ? 1 : 0;
    if (cells.empty()) CHECK(line.empty());
    if (cells.empty() || begins || line.find("|---|---|---|") == 0) continue;
    const bool own = tables == 1;  // of the host's own it is not known
    REQUIRE(cells.size() == (own ? 4 : 3));
    REQUIRE(row != inventory.end());
    CHECK(cells[0] == inOneLine(row->field));
    CHECK(cells[1] == row->when);
    CHECK(cells[2] == inOneLine(row->purpose));
    if (own) CHECK(cells[3] == (row->personal ? "yes" : "no"));
    ++row;
  }
  CHECK(row == inventory.end());
  CHECK(tables == (catalogue == 0 ? 1 : 2));
}

TEST_CASE("no text of the host is markup in the page") {
  nucleus::Options options = plainOptions();
  options.catalogue = {hostileEvents, 1};
  options.endpoint = "https://<b>evil</b>\n\n# h/";
  options.cacheFile = "/data/<img src=x>\n\n- list\n\n| a | b |\n\n*x*";
  const std::string markdown = nucleus::dataInventory(options).markdown();
  for (std::size_t i = 0; i < markdown.size(); ++i) {
    const bool markup = std::string("<>*`[]&#~").find(markdown[i]) != std::string::npos;
    if (markup) CHECK(markdown[i - 1] == '\\');
  }
  for (const std::string& line : linesOf(markdown)) {
    CAPTURE(line);
    const bool ofPage = line.empty() || line[0] == '|' || (line[0] >= 'A' && line[0] <= 'Z');
    CHECK(ofPage);
    CHECK((line.empty() || line[0] != '|' || line.back() == '|'));
  }
}

// ---- the policy ----

TEST_CASE("the policy claims what an option gives, and not what it would be without") {
  struct Row {
    const char* option;
    void (*set)(nucleus::Options&);
    const char *with, *without;
  };
  const Row row = GENERATE(
      Row{"disableTracking", [](nucleus::Options& o) { o.disableTracking = true; },
          "Nothing is collected until the program switches it on.", "from its first start on"},
      Row{"disableTracking, and DO_NOT_TRACK has nothing to add",
          [](nucleus::Options& o) { o.disableTracking = true; }, "Nothing is collected until",
          "DO_NOT_TRACK"},
      Row{"respectDoNotTrack", [](nucleus::Options& o) { o.respectDoNotTrack = false; },
          "It does so from its first start on.", "DO_NOT_TRACK is set, and is not 0 or false"},
      Row{"rememberTrackingChoice", [](nucleus::Options& o) { o.rememberTrackingChoice = true; },
          "The choice is kept on the device.", "The choice lasts until the program ends."},
      Row{"offlineCache, for events", [](nucleus::Options& o) { o.offlineCache = false; },
          "Nothing is stored on the device.", "waits on the device"},
      Row{"offlineCache, for ids", [](nucleus::Options& o) { o.offlineCache = false; },
          "what is random in them is made anew at each start",
          "over time; they are kept on the device"},
      Row{"no file to be had", [](nucleus::Options& o) { o.cacheFile = "", o.appId = "?"; },
          "Nothing is stored on the device.", "kept on the device"},
      Row{"storage",
          [](nucleus::Options& o) {
            o.storage = std::make_shared<fakes::Storage>(std::make_shared<fakes::Disk>());
          },
          "in a storage of the program's own", "in one file"},
      Row{"cacheFile", [](nucleus::Options& o) { o.cacheFile = "/data/my.events"; },
          "in one file, /data/my.events, and a copy of it while", "my-app.cache"},
      Row{"cacheFile in a home folder",
          [](nucleus::Options& o) { o.cacheFile = "/home/alice/my.events"; }, "~/my.events",
          "alice"},
      Row{"cacheFile on Windows",
          [](nucleus::Options& o) { o.cacheFile = "C:\\Users\\alice\\my.events"; }, "~\\my.events",
          "alice"},
      Row{"deviceId", [](nucleus::Options& o) { o.deviceId = "d-1"; },
          "a random one of the user and one of the device that the program gives",
          "Two random identifiers"},
      Row{"deviceId and anonId", [](nucleus::Options& o) { o.deviceId = "d-1", o.anonId = "a"; },
          "Two identifiers, given by the program", "random identifier"},
      Row{"anonId", [](nucleus::Options& o) { o.anonId = "a-1"; },
          "a random one of the device and one of the user that the program gives",
          "Two random identifiers"},
      Row{"anonymizeKey", [](nucleus::Options& o) { o.anonymizeKey = "sixteen bytes---"; },
          "replaced by a hash under a key, which is a pseudonym", "folder is not used"},
      Row{"personalData, of texts",
          [](nucleus::Options& o) { o.personalData = nucleus::PersonalData::allow; },
          "with the personal data that they may hold", "is taken out of all texts"},
      Row{"personalData, of user ids",
          [](nucleus::Options& o) { o.personalData = nucleus::PersonalData::allow; },
          "A user's id is kept and sent as the program gives it.", "folder is not used"},
      Row{"endpoint", [](nucleus::Options& o) { o.endpoint = "https://u:p@in.example:8/x?y"; },
          "Nucleus (in.example:8)", "app.nucleus.sh"},
      Row{"an endpoint without a scheme", [](nucleus::Options& o) { o.endpoint = "in.example/x"; },
          "Nucleus (in.example)", "app.nucleus.sh"},
      Row{"a plain endpoint", [](nucleus::Options& o) { o.endpoint = "http://a.example"; },
          "The connection is not encrypted.", "app.nucleus.sh"},
      Row{"a plain WebSocket", [](nucleus::Options& o) { o.endpoint = "ws://a.example"; },
          "The connection is not encrypted.", "app.nucleus.sh"},
      Row{"cutoffMs", [](nucleus::Options& o) { o.cutoffMs = 3'600'000; }, "older than 1 h",
          "48 h"});
  CAPTURE(row.option);
  const std::string option = row.option;
  const bool ofFile = option == "storage" || option.find("ile") != std::string::npos;
  if (ofFile && !NUCLEUS_TESTS_SYSTEM) return;
  nucleus::Options options = plainOptions();
  const std::string before = policyOf(options);
  row.set(options);
  const std::string after = policyOf(options);
  CAPTURE(before, after);
  CHECK(holds(after, row.with));
  CHECK_FALSE(holds(before, row.with));
  if (row.without != std::string("alice")) CHECK(holds(before, row.without));
  CHECK_FALSE(holds(after, row.without));
}

TEST_CASE("the policy claims nothing of an option that has no effect") {
  const std::string before = policyOf(plainOptions());
  struct Row {
    const char* what;
    void (*set)(nucleus::Options&);
  };
  const Row row = GENERATE(
      Row{"a key that is too short",
          [](nucleus::Options& o) { o.anonymizeKey = "fifteen bytes--"; }},
      Row{"a personal deviceId", [](nucleus::Options& o) { o.deviceId = "bob@example.com"; }},
      Row{"a personal anonId", [](nucleus::Options& o) { o.anonId = "bob@example.com"; }},
      Row{"an anonId that cannot be", [](nucleus::Options& o) { o.anonId = "not an id"; }},
      Row{"a secure WebSocket", [](nucleus::Options& o) { o.endpoint = "wss://app.nucleus.sh"; }},
      Row{"how it is sent", [](nucleus::Options& o) { o.maxBatchBytes *= 2, o.debug = true; }});
  CAPTURE(row.what);
  nucleus::Options options = plainOptions();
  row.set(options);
  CHECK(policyOf(options) == before);
}

TEST_CASE("a choice that cannot be stored is not claimed to be") {
  nucleus::Options options = plainOptions();
  options.rememberTrackingChoice = true;
  options.offlineCache = false;
  CHECK(holds(policyOf(options), "The choice lasts until the program ends."));
  CHECK_FALSE(holds(policyOf(options), "kept on the device"));
}

TEST_CASE("a connection to this machine is not claimed to be open to others") {
  nucleus::Options options = plainOptions();
  options.endpoint = GENERATE("http://localhost:8080", "http://127.0.0.1", "ws://[::1]:9");
  CHECK_FALSE(holds(policyOf(options), "encrypted"));
}

TEST_CASE("how long an event may wait is told exactly") {
  struct Row {
    std::int64_t cutoffMs;
    const char* told;
  };
  const Row row =
      GENERATE(Row{172'800'000, "older than 48 h are"}, Row{5'400'000, "older than 90 min are"},
               Row{60'000, "older than 1 min are"}, Row{90'000, "older than 90 s are"},
               Row{1'500, "older than 2 s are"}, Row{0, "older than 1 s are"},
               Row{-5, "older than 1 s are"}, Row{INT64_MAX, "older than 8760 h are"});
  nucleus::Options options = plainOptions();
  options.cutoffMs = row.cutoffMs;
  CAPTURE(row.told, policyOf(options));
  CHECK(holds(policyOf(options), row.told));
}

#if NUCLEUS_TESTS_SYSTEM
TEST_CASE("the policy says where the file is by default on each system, without this user's name") {
  Environment environment;
  environment.set("HOME", "/home/alice");
  environment.set("XDG_DATA_HOME", "/home/alice/data");
  environment.set("LOCALAPPDATA", "C:\\Users\\alice\\AppData");
  nucleus::Options options;
  options.appId = "my-app";
  const std::string policy = policyOf(options);
  CAPTURE(policy);
  CHECK(holds(policy, "nucleus/my-app.cache in ~/.local/share (or $XDG_DATA_HOME) on Linux"));
  CHECK(holds(policy, "~/Library/Application Support on macOS"));
  CHECK(holds(policy, "%LOCALAPPDATA% on Windows"));
  CHECK_FALSE(holds(policy, "alice"));
}
#endif

TEST_CASE("whatever the options, the policy says what every user must know, once") {
  for (unsigned bits = 0; bits < 512; ++bits) {
    nucleus::Options options = plainOptions();
    const auto has = [bits](int bit) { return (bits >> bit & 1) != 0; };
    options.disableTracking = has(0);
    options.respectDoNotTrack = has(1);
    options.rememberTrackingChoice = has(2);
    options.offlineCache = has(3);
    if (has(4)) options.deviceId = "device";
    if (has(5)) options.anonId = "anon";
    if (has(6)) options.anonymizeKey = "sixteen bytes and more";
    if (has(7)) options.personalData = nucleus::PersonalData::allow;
    if (has(8)) options.endpoint = "ws://a.example";
    const std::string policy = policyOf(options);
    CAPTURE(bits, policy);
    REQUIRE(countOf(policy, "the server sees the IP address that a request comes from") == 1);
    REQUIRE(countOf(policy, "Nucleus derives a country from it") == 1);
    REQUIRE(countOf(policy, "tell one device and one user from others") == 1);
    REQUIRE(holds(policy, "they are kept on the device") == has(3));
    REQUIRE(holds(policy, "waits on the device, with the identifiers and the user's id") == has(3));
    REQUIRE(countOf(policy, "what was not sent yet is erased") == 1);
    REQUIRE(countOf(policy, "stays with Nucleus until it is erased there") == 1);
    REQUIRE(countOf(policy, "as the program gives it.") == 1);  // of the user's id
    REQUIRE_FALSE(holds(policy, "anonym"));  // a pseudonym is the most that there is
    REQUIRE_FALSE(holds(policy, "  "));
    REQUIRE(policy.back() == '.');
  }
}

// ---- what it cannot name, since it is not there ----

#if NUCLEUS_TESTS_SYSTEM

namespace {

#if NUCLEUS_TESTS_PROCESSES

std::string firstLine(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

void addAddresses(Names& values) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    const sockaddr* const address = each->ifa_addr;
    char text[INET6_ADDRSTRLEN] = {};
    if (address == nullptr) continue;
    if (address->sa_family == AF_INET) {
      sockaddr_in v4 = {};
      std::memcpy(&v4, address, sizeof v4);
      inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    } else if (address->sa_family == AF_INET6) {
      sockaddr_in6 v6 = {};
      std::memcpy(&v6, address, sizeof v6);
      inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    }
    values.insert(text);
  }
  freeifaddrs(all);
}

/// What tells this machine and its user from others.
Names valuesOfThisMachine() {
  Names values;
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) == 0) values.insert(host);
  if (const passwd* const user = getpwuid(getuid())) {
    const std::string about = user->pw_gecos != nullptr ? user->pw_gecos : "";
    values.insert({user->pw_name, user->pw_dir, about.substr(0, about.find(','))});
  }
  addAddresses(values);
  for (const char* path :
       {"/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid",
        "/sys/class/dmi/id/product_serial", "/proc/sys/kernel/random/boot_id"}) {
    values.insert(firstLine(path));
  }
  std::error_code ignored;
  for (const auto& card : fs::directory_iterator("/sys/class/net", ignored)) {
    values.insert(firstLine(card.path() / "address"));
  }
  return values;
}

#else

Names valuesOfThisMachine() { return {}; }

#endif

/// Sets what a program could learn from its environment to what would be found again.
Names tellTales(Environment& environment, const std::string& home) {
  const std::pair<const char*, const char*> variables[] = {
      {"USER", "tell-user"},
      {"LOGNAME", "tell-logname"},
      {"USERNAME", "tell-username"},
      {"USERDOMAIN", "tell-domain"},
      {"HOSTNAME", "tell-hostname"},
      {"COMPUTERNAME", "tell-computer"},
      {"TMPDIR", "/tell-tmp"},
      {"MAIL", "/var/mail/tell-mail"},
      {"EMAIL", "tell-email@example.com"},
      {"SSH_CONNECTION", "203.0.113.7 5 203.0.113.8 22"},
      {"REMOTE_ADDR", "203.0.113.9"},
      {"HTTP_X_FORWARDED_FOR", "203.0.113.10"},
      {"DISPLAY", "tell-display:0"},
      {"PWD", "/home/tell-pwd"},
      {"LANG", "de_CH.UTF-8@tell-lang"}};
  Names values = {"tell-",        "203.0.113.7", "203.0.113.8", "203.0.113.9",
                  "203.0.113.10", "tell-email",  "example.com", home};
  for (const auto& [name, value] : variables) {
    environment.set(name, value);
    values.insert(value);
  }
  for (const char* name : {"HOME", "USERPROFILE", "XDG_DATA_HOME", "LOCALAPPDATA", "APPDATA"}) {
    environment.set(name, home);
  }
  for (const char* name : {"LC_ALL", "LC_MESSAGES"}) environment.set(name, "");
  return values;
}

/// A word, as "root" is one, only where it is a value as a whole.
bool tells(const std::string& bytes, const std::string& value) {
  if (value.empty() || value == "00:00:00:00:00:00") return false;
  const bool word = value.size() < 5 || value.find_first_of("0123456789.:/-@") == std::string::npos;
  return holds(bytes, word ? '"' + value + '"' : value);
}

/// All that a client sends, stores, exports and says while every call is made.
std::string everyByte(World& world, nucleus::Options options, const Folder& folder) {
  std::string bytes;
  const auto exportOf = [&](const Client& client) {
    Json data = Json::parse(client.exportData());
    data.erase("cacheFile");  // where the file is, told to the user alone
    bytes += data.dump() + folder.content();
  };
  options.transport = [&](const nucleus::Request& request) {
    bytes += std::string(request.url()).append(request.contentType()).append(request.body());
    return fakes::Server::acknowledge(request);
  };
  options.onDiagnostic = [&](const nucleus::Diagnostic& told) {
    bytes += std::string(told.code) + ' ' + std::string(told.message) + '\n';
  };
  Client client(options), second(options);  // which finds the file locked
  for (int i = 0; i < 3; ++i) {
    makeEveryOddCall(client);
    second.trackError("Broken", "message", "stack");
    client.persist();
    exportOf(client), exportOf(second);
    world.pass(client, 70'000, 1'000), world.pass(second, 70'000, 1'000);
    exportOf(client);
    if (i == 1) client.disableTracking(), exportOf(client), client.enableTracking();
  }
  client.shutdown(0);
  exportOf(client);
  return bytes;
}

}  // namespace

TEST_CASE("nothing that tells this machine or its user is sent, stored, exported or said") {
  const Folder folder("nucleus-tell-home");
  Environment environment;
  Names values = tellTales(environment, folder.path());
  values.merge(valuesOfThisMachine());
  World world;
  nucleus::Options options = world.options();
  options.storage = nullptr;
  const bool ofMachine = GENERATE(false, true);
  if (ofMachine) options.deviceId = nucleus::machineDeviceId(options.appId);
  if (GENERATE(false, true)) options.cacheFile = folder.file("my.cache");

  const std::string bytes = everyByte(world, options, folder);
  CHECK(holds(bytes, "\"de-CH\""));         // the locale is told
  CHECK(holds(bytes, "nucleus-cache 1 "));  // the file was there
  CHECK(holds(bytes, "storage-locked"));    // diagnostics were
  if (ofMachine && !options.deviceId.empty()) CHECK(holds(bytes, options.deviceId));
  for (const std::string& value : values) {
    CAPTURE(value);
    CHECK_FALSE(tells(bytes, value));
  }
}

TEST_CASE("a diagnostic of a file that cannot be says nothing of its path") {
  const Folder folder("nucleus-tell-home");
  World world;
  nucleus::Options options = world.options();
  options.storage = nullptr;
  options.cacheFile = GENERATE(false, true) ? folder.path() : folder.file("theirs");
  if (options.cacheFile != folder.path()) std::ofstream(options.cacheFile) << "not ours\n";
  Client client(options);
  makeEveryOddCall(client);
  world.pass(client, 120'000, 1'000);
  client.forget();
  world.pass(client, 1'000);
  CHECK((world.told("storage-foreign") + world.told("storage-failed")) > 0);
  for (const std::string& message : world.messages) CHECK_FALSE(holds(message, "nucleus-tell"));
}

#endif
