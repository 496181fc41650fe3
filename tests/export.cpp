// The user's data shown, taken along and erased, in whatever state the client is.
#include "fakes.hpp"
#include "check.hpp"

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>

#if NUCLEUS_TESTS_THREADS
#include <thread>
#endif
#if NUCLEUS_TESTS_PROCESSES
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

namespace detail = nucleus::detail;
namespace fs = std::filesystem;
using fakes::Disk;
using fakes::Json;
using fakes::Server;
using fakes::World;
using nucleus::Client;
using nucleus::Outcome;
using Names = std::vector<std::string>;

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// What the export shows: a JSON object of what the inventory names, and no other.
Json shownBy(const Client& client) {
  const Json shown = Json::parse(client.exportData());
  const std::set<std::string> known = {"appId",      "deviceId",  "anonId",  "userId",
                                       "props",      "retryAtMs", "consent", "cacheFile",
                                       "retryForMs", "complete",  "events"};
  REQUIRE(shown.is_object());
  for (const auto& [name, value] : shown.items()) {
    CAPTURE(name, value);
    CHECK(known.count(name) == 1);
  }
  return shown;
}

/// What the events in an export are called; those without a name by their type.
Names namesOf(const Json& shown) {
  Names names;
  for (const Json& event : shown.at("events")) {
    names.push_back(event.value("name", event.value("type", "")));
  }
  return names;
}

/// Of nobody: what there is without a file, an id and a user.
Json nothing(const char* consent, bool complete = true) {
  return {{"appId", "test-app"},
          {"events", Json::array()},
          {"consent", consent},
          {"complete", complete}};
}

/// How often something was changed.
int changes(const Disk& disk) { return disk.appends + disk.replaces + disk.erases + disk.syncs; }

/// What an earlier run left: init, A and B of the user "user-7", unsent.
void leaveEvents(World& world, nucleus::PersonalData personal = nucleus::PersonalData::redact) {
  nucleus::Options options = world.options();
  options.transport = nullptr;
  options.personalData = personal;
  Client client(std::move(options));
  const bool redacts = personal == nucleus::PersonalData::redact;
  client.setUserId(redacts ? "user-7" : "bob@example.com");
  client.setProps({{"mail", "bob@example.com"}});
  client.track("A", {{"from", "bob@example.com"}});
  client.track("B");
  client.shutdown(0);
}
const Names left = {"init", "userid", "props", "A", "B"};

Names joined(Names names, const Names& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

/// A record as it stands in a file.
std::string record(char kind, const std::string& content) {
  std::string text(content.size() + 64, '\0');
  detail::Buffer out(text.data(), text.size());
  detail::writeLine(out, {kind, content});
  text.resize(out.size());
  detail::seal(text.data(), text.size());
  return text;
}
std::string firstLine(const char* appId = "test-app") {
  detail::Fixed<128> line;
  detail::writeFirstLine(line, appId, nucleus::Consent::notAsked);
  return std::string(line.view());
}
std::string event(std::uint64_t id, const char* name) {
  return Json{{"type", "event"}, {"name", name}, {"id", id}, {"sessionId", 12345678}}.dump();
}

nucleus::Options disabled(World& world) {
  nucleus::Options options = world.options();
  options.disableTracking = true;
  return options;
}

}  // namespace

// ---- before, without and after ----

TEST_CASE("before consent the export shows that there is nothing, and draws no id for it") {
  World world;
  int drawn = 0;
  nucleus::Options options = disabled(world);
  options.entropy = [&drawn](void*, std::size_t) { return ++drawn, true; };
  Client client(std::move(options));
  for (int i = 0; i < 3; ++i) {
    CHECK(shownBy(client) == nothing("notAsked"));
    world.pass(client, 60'000, 5'000);
  }
  CHECK(drawn == 0);
  CHECK_FALSE(world.disk->exists);
  CHECK(changes(*world.disk) == 0);
  CHECK(world.server->bodies.empty());
  CHECK(client.consent() == nucleus::Consent::notAsked);
  CHECK(world.diagnostics.empty());
}

TEST_CASE("before consent the export shows what an earlier run left, and leaves it there") {
  World world;
  leaveEvents(world);
  const std::string file = world.disk->file;
  const int before = changes(*world.disk);
  Client client(disabled(world));
  const Json shown = shownBy(client);
  CHECK(namesOf(shown) == left);
  CHECK(shown.at("userId") == "user-7");
  CHECK(shown.at("props") == Json({{"mail", "[email]"}}));
  CHECK(shown.at("consent") == "notAsked");
  CHECK(shown.at("complete") == true);
  CHECK(shown.at("deviceId").get<std::string>().size() == 15);
  CHECK(shown.at("anonId").get<std::string>().size() == 12);
  CHECK(world.disk->file == file);
  CHECK(changes(*world.disk) == before);
  CHECK(world.disk->holder == nullptr);  // and it is not held locked
}

TEST_CASE("a client that cannot track holds nothing, and says no more") {
  World world;
  nucleus::Options options = world.options();
  options.appId = GENERATE("", "no good", "../../etc/passwd");
  Client inert(std::move(options));
  CHECK(inert.exportData() == "{}");
  CHECK(Client().exportData() == "{}");
  CHECK(world.disk->calls() == 0);
}

TEST_CASE("a client with too little memory says that it cannot tell, nor erase") {
  World world;
  leaveEvents(world);
  char memory[100];
  nucleus::Options options = world.options();
  options.memory.data = memory;
  options.memory.bytes = sizeof memory;
  Client client(std::move(options));
  CHECK(client.exportData() == "{\"complete\":false}");
  CHECK_FALSE((GENERATE(false, true) ? client.forget() : client.disableTracking()));
  CHECK(world.disk->exists);
}

TEST_CASE("without entropy the export still shows what an earlier run left") {
  World world;
  leaveEvents(world);
  nucleus::Options options = world.options();
  options.entropy = [](void*, std::size_t) { return false; };
  Client client(std::move(options));
  CHECK(namesOf(shownBy(client)) == left);
}

TEST_CASE("a client that was moved from holds nothing; the other one all") {
  World world;
  Client client(world.options());
  client.track("A");
  Client other(std::move(client));
  CHECK(client.exportData() == "{}");
  CHECK(namesOf(shownBy(other)) == Names{"init", "A"});
}

// ---- while tracking ----

TEST_CASE("every event is shown once, in order, as it is then sent, and showing changes nothing") {
  struct Row {
    const char* what;
    void (*arrange)(World&, Client&);
    void (*mend)(World&, Client&);
  };
  const auto nothingToDo = [](World&, Client&) {};
  const Row row = GENERATE_COPY(
      Row{"in memory alone", nothingToDo, nothingToDo},
      Row{"in the file", [](World&, Client& c) { c.persist(); }, nothingToDo},
      Row{"in the file, then more in memory",
          [](World&, Client& c) { c.persist(), c.track("more"); }, nothingToDo},
      Row{"offline", [](World& w, Client& c) { c.online(false), w.pass(c, 5'000); },
          [](World&, Client& c) { c.online(); }},
      Row{"in a request",
          [](World& w, Client& c) {
            w.server->then = [](const nucleus::Request&) { return nucleus::Response::pending(); };
            w.pass(c, 2'000);
            REQUIRE(w.server->bodies.size() == 1);
          },
          [](World& w, Client&) { w.server->then = nullptr; }},
      Row{"after requests that failed",
          [](World& w, Client& c) {
            w.server->then = Server::always(500);
            w.pass(c, 60'000);
          },
          [](World& w, Client&) { w.server->then = nullptr; }},
      Row{"the file full", [](World& w, Client& c) { w.disk->full = true, w.pass(c, 400); },
          [](World& w, Client&) { w.disk->full = false; }},
      Row{"the file torn",
          [](World& w, Client& c) {
            c.persist(), c.track("torn"), w.disk->tears = true;
            c.persist();
          },
          [](World& w, Client&) { w.disk->tears = false; }},
      Row{"the file read-only", [](World& w, Client& c) { w.disk->readOnly = true, c.persist(); },
          [](World& w, Client&) { w.disk->readOnly = false; }},
      Row{"the file vanished", [](World& w, Client& c) { c.persist(), w.disk->gone = true; },
          nothingToDo},
      Row{"the file no longer readable",
          [](World& w, Client& c) { c.persist(), w.disk->unreadable = true; },
          [](World& w, Client&) { w.disk->unreadable = false; }});
  const bool earlier = GENERATE(false, true);
  CAPTURE(row.what, earlier);
  World world;
  if (earlier) leaveEvents(world);
  Client client(world.options());
  client.track("first", {{"n", 1}});
  client.page("second");
  client.trackError("third", "message", "stack");
  row.arrange(world, client);

  const Names expected = joined(earlier ? left : Names{}, {"init", "first", "second", "third"});
  const std::string file = world.disk->file;
  const int before = changes(*world.disk);
  const std::size_t sent = world.server->bodies.size();
  const Json shown = shownBy(client);
  const Json again = shownBy(client);
  CHECK(changes(*world.disk) == before);
  CHECK(world.disk->file == file);
  CHECK(world.server->bodies.size() == sent);
  CHECK(again.at("events") == shown.at("events"));
  CHECK(shown.at("complete") == true);
  Names names = namesOf(shown);
  if (names.back() == "more" || names.back() == "torn") names.pop_back();
  CHECK(names == expected);

  row.mend(world, client);
  world.server->bodies.clear();
  world.pass(client, 1'500'000, 1'000);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(Json(world.server->received()) == shown.at("events"));
  CHECK(shownBy(client).at("events") == Json::array());
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("what was acknowledged is not shown, in memory and in the file") {
  World world;
  std::optional<Client> client(world.options());
  client->track("A");
  client->track("B");
  world.server->then = [](const nucleus::Request& request) {
    const auto ids = Server::ids(request.body());
    return Server::with(200, Server::naming({ids[0], ids[1]}));  // not B
  };
  world.pass(*client, 1'500);
  REQUIRE(client->stats().acknowledgedEvents == 2);
  CHECK(namesOf(shownBy(*client)) == Names{"B"});
  world.server->then = Server::always(500);
  client->persist();
  CHECK(holds(world.disk->file, "\"A\""));  // still there, and said to have left
  nucleus::Options second = disabled(world);
  Client other(std::move(second));
  CHECK(namesOf(shownBy(other)) == Names{"B"});
}

TEST_CASE("ids, user, properties, choice and the server's wish are shown as they are") {
  World world;
  world.server->then = Server::always(429, "", "120");
  nucleus::Options options = world.options();
  if (GENERATE(false, true)) options.offlineCache = false;
  Client client(std::move(options));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  client.setUserId("user \"7\" \xF0\x9F\x98\x80");
  client.setProps({{"plan", "pro"}, {"age", 7.5}, {"nan", nan}, {"null", nullptr}, {"ok", true}});
  world.pass(client, 2'000);
  client.track("A");
  const Json shown = shownBy(client);
  CHECK(shown.at("userId") == "user \"7\" \xF0\x9F\x98\x80");
  CHECK(shown.at("props") == Json({{"plan", "pro"}, {"age", 7.5}, {"ok", true}}));
  CHECK(shown.at("consent") == "notAsked");
  CHECK(shown.at("retryForMs").get<std::int64_t>() > 100'000);
  for (const char* id : {"deviceId", "anonId"}) {
    CHECK(shown.at(id) == shown.at("events").back().at(id));
  }
  world.pass(client, 200'000, 5'000);
  world.server->then = nullptr;
  world.pass(client, 700'000, 5'000);
  CHECK(shownBy(client).count("retryForMs") == 0);
}

TEST_CASE("the choice is shown, also one that an earlier run keeps") {
  World world;
  nucleus::Options options = disabled(world);
  options.rememberTrackingChoice = true;
  std::optional<Client> client(options);
  CHECK(shownBy(*client).at("consent") == "notAsked");
  client->enableTracking();
  CHECK(shownBy(*client).at("consent") == "granted");
  const bool refuses = GENERATE(false, true);
  if (refuses) client->disableTracking();
  const char* const expected = refuses ? "refused" : "granted";
  CHECK(shownBy(*client).at("consent") == expected);
  client.emplace(options);
  CHECK(shownBy(*client).at("consent") == expected);
  options.rememberTrackingChoice = false;  // a program that asks anew still keeps the answer
  client.emplace(options);
  CHECK(shownBy(*client).at("consent") == expected);
}

TEST_CASE("from inside every callback the export shows what is held") {
  World world;
  Client* self = nullptr;
  std::vector<std::pair<std::string, Names>> seen;
  const auto look = [&](const char* where) {
    if (self != nullptr) seen.emplace_back(where, namesOf(shownBy(*self)));
  };
  nucleus::Options options = world.options();
  options.transport = [&](const nucleus::Request& request) {
    look("transport");
    Json answer = Json::parse(Server::naming(Server::ids(request.body())));
    answer["latestVersion"] = "9.9";
    answer["customData"] = 1;
    return Server::with(200, answer.dump());
  };
  options.filter = [&](nucleus::Text, nucleus::Text, nucleus::Properties) {
    return look("filter"), true;
  };
  options.onUpdate = [&](std::string_view) { look("onUpdate"); };
  options.onCustomData = [&](std::string_view) { look("onCustomData"); };
  options.onDiagnostic = [&](const nucleus::Diagnostic&) { look("onDiagnostic"); };
  Client client(std::move(options));
  self = &client;
  client.track("A", {{"null", nullptr}});
  world.pass(client, 2'000);
  self = nullptr;
  const std::vector<std::pair<std::string, Names>> expected = {{"filter", {"init"}},
                                                               {"onDiagnostic", {"init", "A"}},
                                                               {"transport", {"init", "A"}},
                                                               {"onUpdate", {}},
                                                               {"onCustomData", {}}};
  CHECK(seen == expected);
}

TEST_CASE("in the host's memory the export works as elsewhere") {
  World world;
  leaveEvents(world);
  static std::uint64_t memory[40'000 / sizeof(std::uint64_t)];
  nucleus::Options options = world.options();
  options.memory.data = memory;
  options.memory.bytes = sizeof memory;
  Client client(std::move(options));
  client.track("C");
  REQUIRE(client.trackingEnabled());
  CHECK(namesOf(shownBy(client)) == joined(left, {"init", "C"}));
}

#if NUCLEUS_TESTS_THREADS
TEST_CASE("while others track and opt out, every export is whole and has each event once") {
  World world;
  nucleus::Options options = world.options();
  options.maxQueueBytes = 64 << 10;
  options.cacheDelayMs = 0;
  options.onDiagnostic = nullptr;
  options.transport = nullptr;
  Client client(std::move(options));
  std::atomic<bool> ends{false};
  std::thread other([&] {
    for (int i = 0; !ends; ++i) {
      client.track("A");
      if (i % 50 == 49) client.disableTracking(), client.enableTracking();
      if (i % 7 == 0) client.exportData();
    }
  });
  for (std::size_t i = 0; i < 200 / fakes::slowdown + 20; ++i) {
    const Json shown = shownBy(client);
    std::set<std::uint64_t> ids;
    for (const Json& each : shown.at("events")) {
      CHECK(ids.insert(each.at("id").get<std::uint64_t>()).second);
    }
    CHECK(shown.at("complete") == true);
  }
  ends = true;
  other.join();
  CHECK(fakes::balanced(client.stats()));
}
#endif

#if NUCLEUS_TESTS_PROCESSES
TEST_CASE("the child of a fork() says that it cannot tell, and erases nothing") {
  World world;
  Client client(world.options());
  client.track("A");
  client.persist();
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool cannotTell = client.exportData() == "{\"complete\":false}";
    _exit(cannotTell && !client.forget() && world.disk->exists ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(namesOf(shownBy(client)) == Names{"init", "A"});
}
#endif

// ---- files that are not as they should be ----

TEST_CASE("of a file that another client holds its events are shown, and one's own") {
  World world;
  nucleus::Options options = world.options();
  options.transport = nullptr;
  Client first(options);
  first.setUserId("user-7");
  first.track("A");
  first.persist();
  const std::string file = world.disk->file;
  SECTION("without consent here") {
    Client second(disabled(world));
    CHECK(namesOf(shownBy(second)) == Names{"init", "userid", "A"});
    CHECK(shownBy(second).at("userId") == "user-7");
  }
  SECTION("while tracking here too") {
    nucleus::Options ours = world.options();
    ours.transport = nullptr;
    Client second(std::move(ours));
    second.track("B");
    const Json shown = shownBy(second);
    CHECK(namesOf(shown) == Names{"init", "userid", "A", "init", "B"});
    CHECK(shown.at("complete") == true);
    CHECK(shown.at("deviceId") == shownBy(first).at("deviceId"));
    first.shutdown(0);
    CHECK(namesOf(shownBy(second)) == Names{"init", "userid", "A", "init", "B"});
    second.persist();  // takes the file over
    CHECK(namesOf(shownBy(second)) == Names{"init", "userid", "A", "init", "B"});
  }
  CHECK(world.disk->file.substr(0, file.size()) == file);
}

TEST_CASE("of a file that cannot be read the export says so, and shows what is in memory") {
  World world;
  leaveEvents(world);
  world.disk->unreadable = true;
  SECTION("without consent") {
    Client client(disabled(world));
    CHECK(shownBy(client) == nothing("notAsked", false));
    world.disk->unreadable = false;
    CHECK(namesOf(shownBy(client)) == left);
  }
  SECTION("while tracking") {
    Client client(world.options());
    client.track("C");
    const Json shown = shownBy(client);
    CHECK(namesOf(shown) == Names{"init", "C"});
    CHECK(shown.at("complete") == false);
    client.shutdown(0);
    CHECK(namesOf(shownBy(client)) == Names{"init", "C"});
    CHECK(shownBy(client).at("complete") == false);
  }
  SECTION("after opting out, which could not erase it") {
    Client client(world.options());
    CHECK_FALSE((GENERATE(false, true) ? client.forget() : client.disableTracking()));
    CHECK(shownBy(client).at("complete") == false);
    CHECK(namesOf(shownBy(client)).empty());
  }
}

TEST_CASE("of a file that is not ours nothing is shown") {
  struct Row {
    const char* what;
    std::string file;
    bool complete;
  };
  const std::string secret =
      record('s', R"({"appId":"other-app","userId":"secret"})") + record('e', event(7, "secret"));
  const Row row = GENERATE_COPY(
      Row{"of another program", "root:x:0:0:secret:/root:/bin/sh\n", false},
      Row{"of another appId", firstLine("other-app") + secret, true},
      Row{"of an appId that ours begins", firstLine("test-app2") + secret, true},
      Row{"of a newer format of ours", "nucleus-cache 2 test-app - 00000000\n" + secret, false},
      Row{"a picture", std::string("\x89PNG\r\n\0\0secret\0", 16), false});
  CAPTURE(row.what);
  World world;
  world.disk->exists = true;
  world.disk->file = row.file;
  if (row.what == std::string("of a newer format of ours")) {  // with the right checksum
    const std::string line = "nucleus-cache 2 test-app -";
    char hex[8];
    detail::writeHex(hex, detail::crc32(line));
    world.disk->file = line + ' ' + std::string(hex, 8) + '\n' + secret;
  }
  const std::string file = world.disk->file;
  const bool tracks = GENERATE(false, true);
  Client client(tracks ? world.options() : disabled(world));
  const Json shown = shownBy(client);
  CHECK_FALSE(holds(shown.dump(), "secret"));
  CHECK(shown.at("complete") == row.complete);
  CHECK(namesOf(shown) == (tracks ? Names{"init"} : Names{}));
  client.forget();
  CHECK(world.disk->file == file);
}

TEST_CASE("where the storage is not ours to touch nothing of it is shown") {
  World world;
  leaveEvents(world);
  world.disk->foreign = true;
  Client client(disabled(world));
  CHECK(shownBy(client) == nothing("notAsked"));
}

TEST_CASE("of a file with damage the rest is shown, and that it is not all") {
  World world;
  leaveEvents(world);
  std::string& file = world.disk->file;
  const char* const what = GENERATE("a byte", "half a record", "something between", "its end");
  CAPTURE(what);
  Names expected = left;
  if (what == std::string("a byte")) {
    file[file.find("\"A\"") + 1] ^= 1;
    expected = {"init", "userid", "props", "B"};
  } else if (what == std::string("half a record")) {
    file.erase(file.find("\"A\""), 9);
    expected = {"init", "userid", "props", "B"};
  } else if (what == std::string("something between")) {
    file.insert(file.find("\ne ") + 1, "garbage\n");
  } else {
    file.resize(file.size() - 5);
    expected = {"init", "userid", "props", "A"};
  }
  Client client(disabled(world));
  const Json shown = shownBy(client);
  CHECK(namesOf(shown) == expected);
  CHECK(shown.at("complete") == false);
  CHECK(shown.at("userId") == "user-7");
}

TEST_CASE("what a stranger wrote into the file cannot break the export") {
  const std::string ours = R"({"appId":"test-app","userId":"user-7"})";
  struct Row {
    const char* what;
    std::string records;
    const char* userId;
  };
  const Row row = GENERATE_COPY(
      Row{"blanks around the state", record('s', " " + ours + " \t"), "user-7"},
      Row{"blanks in the state", record('s', R"({ "appId" : "test-app" , "userId":"u" })"), "u"},
      Row{"an empty state", record('s', ours) + record('s', "{}"), "user-7"},
      Row{"another program's state",
          record('s', ours) + record('s', R"({"appId":"other","userId":"secret"})"), "user-7"},
      Row{"a state with more", record('s', ours) + record('s', R"({"appId":"test-app","x":1})"),
          "user-7"},
      Row{"a state that is cut", record('s', ours) + record('s', ours.substr(0, 30)), "user-7"},
      Row{"text that is not UTF-8",
          record('s', ours) + record('s', "{\"appId\":\"test-app\",\"userId\":\"\xFF\"}"),
          "user-7"},
      Row{"nested properties",
          record('s', ours) + record('s', R"({"appId":"test-app","props":{"a":{"b":1}}})"),
          "user-7"},
      Row{"a record of an unknown kind", record('s', ours) + record('x', "whatever"), "user-7"});
  CAPTURE(row.what);
  World world;
  world.disk->exists = true;
  world.disk->file = firstLine() + row.records + record('e', " " + event(7, "A") + " ") +
                     record('e', R"({"type":"event","id":8,"secret":1,"sessionId":12345678})");
  Client client(disabled(world));
  const Json shown = shownBy(client);
  CHECK(shown.at("userId") == row.userId);
  CHECK(namesOf(shown) == Names{"A"});
  CHECK_FALSE(holds(shown.dump(), "secret"));
}

TEST_CASE("an event that stands in the file twice is shown once; one that has left, not at all") {
  World world;
  world.disk->exists = true;
  std::string& file = world.disk->file;
  file = firstLine();
  Names expected;
  for (std::uint64_t id = 1'000; id < 3'000; id += 2) {  // more gaps than are kept apart
    file += record('e', event(id, std::to_string(id).c_str()));
    if (id % 20 == 0) file += record('e', event(id, "again"));
    if (id % 10 == 4) file += record('g', std::to_string(id));
    else expected.push_back(std::to_string(id));
  }
  file += record('e', event(1'000, "again")) + record('g', "not a number");
  Client client(disabled(world));
  CHECK(namesOf(shownBy(client)) == expected);
}

// ---- erasure ----

TEST_CASE("after disableTracking() the export shows the random ids and the choice alone") {
  World world;
  if (GENERATE(false, true)) leaveEvents(world);
  nucleus::Options options = world.options();
  const bool cached = GENERATE(true, false);
  options.offlineCache = cached;
  Client client(std::move(options));
  client.identify("user-8", {{"plan", "pro"}});
  client.track("C");
  const Json before = shownBy(client);
  CHECK(client.disableTracking());
  const Json after = shownBy(client);
  Json expected = nothing("refused");
  expected["deviceId"] = before.at("deviceId");
  expected["anonId"] = before.at("anonId");
  CHECK(after == expected);
}

TEST_CASE("after forget() the export shows nothing, and there is no file, whatever the state") {
  struct Row {
    const char* what;
    void (*arrange)(World&, Client&);
  };
  const Row row = GENERATE(
      Row{"never enabled", [](World&, Client&) {}},
      Row{"tracking", [](World&, Client& c) { c.enableTracking(), c.track("C"); }},
      Row{"all in the file", [](World&, Client& c) { c.enableTracking(), c.persist(); }},
      Row{"offline", [](World&, Client& c) { c.enableTracking(), c.online(false); }},
      Row{"in a request",
          [](World& w, Client& c) {
            w.server->then = [](const nucleus::Request&) { return nucleus::Response::pending(); };
            c.enableTracking();
            w.pass(c, 2'000);
            REQUIRE(w.server->bodies.size() == 1);
          }},
      Row{"the file missing", [](World& w, Client& c) { c.enableTracking(), w.disk->gone = true; }},
      Row{"the disk full", [](World& w, Client& c) { c.enableTracking(), w.disk->full = true; }},
      Row{"read-only", [](World& w, Client& c) { c.enableTracking(), w.disk->readOnly = true; }},
      Row{"disabled", [](World&, Client& c) { c.enableTracking(), c.disableTracking(); }},
      Row{"after shutdown", [](World&, Client& c) { c.enableTracking(), c.shutdown(0); }},
      Row{"shut down without consent", [](World&, Client& c) { c.shutdown(0); }});
  CAPTURE(row.what);
  World world;
  leaveEvents(world);
  Client client(disabled(world));
  row.arrange(world, client);
  CHECK(client.forget());
  CHECK(shownBy(client) == nothing("refused"));
  CHECK((!world.disk->exists || world.disk->gone));
  CHECK(client.forget());  // again
  CHECK(client.disableTracking());
  world.pass(client, 120'000, 1'000);
  CHECK((!world.disk->exists || world.disk->gone));
  CHECK(shownBy(client) == nothing("refused"));
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("forget() and disableTracking() erase again what another client wrote meanwhile") {
  World world;
  leaveEvents(world);
  const std::string before = world.disk->file;
  Client client(disabled(world));
  const bool forgets = GENERATE(true, false);
  const auto optOut = [&] { return forgets ? client.forget() : client.disableTracking(); };
  CHECK(optOut());
  world.disk->file = before;
  world.disk->exists = true;
  CHECK_FALSE(namesOf(shownBy(client)).empty());
  world.disk->locked = true;
  CHECK_FALSE(optOut());
  world.disk->locked = false;
  CHECK(optOut());
  CHECK(namesOf(shownBy(client)).empty());
  CHECK((forgets ? !world.disk->exists : world.disk->file.find("bob") == std::string::npos));
}

TEST_CASE("a remembered no leaves one line and no id, whatever the state") {
  World world;
  if (GENERATE(false, true)) leaveEvents(world);
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = true;
  options.disableTracking = GENERATE(false, true);
  Client client(options);
  client.track("C");
  if (GENERATE(false, true)) world.pass(client, 5'000);
  if (GENERATE(false, true)) client.shutdown(0);
  CHECK(client.forget());
  std::string line = firstLine();
  line.replace(line.find(" - "), std::string::npos, " refused ");
  CHECK(world.disk->file.substr(0, line.size()) == line);
  CHECK(world.disk->file.size() == line.size() + 9);  // a checksum
  CHECK(world.disk->file.back() == '\n');
  CHECK(shownBy(client) == nothing("refused"));
  const Client next(options);
  CHECK(shownBy(next) == nothing("refused"));
}

TEST_CASE("an erasure that failed is not claimed: the export shows what is still there") {
  struct Row {
    const char* what;
    bool Disk::*fault;
    bool forgets, remembers;
  };
  const Row row = GENERATE(Row{"forget, erase fails", &Disk::eraseFails, true, false},
                           Row{"forget, locked by another", &Disk::locked, true, false},
                           Row{"forget, remembering, full", &Disk::full, true, true},
                           Row{"disable, full", &Disk::full, false, false},
                           Row{"disable, locked by another", &Disk::locked, false, false},
                           Row{"disable, read-only", &Disk::readOnly, false, true});
  const bool tracked = GENERATE(false, true);
  CAPTURE(row.what, tracked);
  World world;
  leaveEvents(world);
  nucleus::Options options = world.options();
  options.disableTracking = !tracked;
  options.rememberTrackingChoice = row.remembers;
  Client client(std::move(options));
  (*world.disk).*row.fault = true;
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE((row.forgets ? client.forget() : client.disableTracking()));
    const Json shown = shownBy(client);
    CHECK(namesOf(shown) == left);
    CHECK(shown.at("userId") == "user-7");
    CHECK(shown.at("consent") == "refused");
    world.pass(client, 5'000);
  }
  CHECK(world.told("erase-failed") > 0);
  CHECK(world.server->bodies.empty());

  (*world.disk).*row.fault = false;
  world.pass(client, 2'000);  // a turn, and it is done
  const Json shown = shownBy(client);
  CHECK(namesOf(shown).empty());
  CHECK(shown.count("userId") == 0);
  CHECK(shown.count("deviceId") == (row.forgets ? 0 : 1));
  CHECK(world.disk->exists == (!row.forgets || row.remembers));
  CHECK((row.forgets ? client.forget() : client.disableTracking()));
}

// ---- kept while all was allowed, opened when it is not ----

namespace {

using nucleus::PersonalData;

nucleus::Options under(World& world, PersonalData personal) {
  nucleus::Options options = world.options();
  options.personalData = personal;
  return options;
}

/// What an earlier run under allow left: nothing unsent, but who the user is.
void leaveUser(World& world) {
  Client client(under(world, PersonalData::allow));
  client.identify("bob@example.com", {{"mail", "bob@example.com"}});
  world.pass(client, 5'000);
  REQUIRE(client.stats().queuedEvents == 0);
}

/// Nothing of bob is left, in the file, in memory or on the way.
void checkForgotten(World& world, const Client& client) {
  CHECK_FALSE(holds(world.disk->file, "bob"));
  CHECK_FALSE(holds(client.exportData(), "bob"));
  for (const std::string& body : world.server->bodies) CHECK_FALSE(holds(body, "bob"));
  CHECK(fakes::balanced(client.stats()));
}

}  // namespace

TEST_CASE("what was kept under allow is dropped under redact, but for the ids") {
  World world;
  leaveEvents(world, PersonalData::allow);
  REQUIRE(holds(world.disk->file, "bob@example.com"));
  const Json before = shownBy(Client(disabled(world)));
  REQUIRE(before.at("userId") == "bob@example.com");

  Client client(under(world, PersonalData::redact));
  client.track("C");
  const Json after = shownBy(client);
  CHECK(namesOf(after) == Names{"init", "C"});
  CHECK(after.count("userId") == 0);
  CHECK(after.count("props") == 0);
  CHECK(after.at("deviceId") == before.at("deviceId"));
  CHECK(after.at("anonId") == before.at("anonId"));
  CHECK(client.stats().droppedPersonalData == left.size());
  world.pass(client, 5'000);
  CHECK(world.told("personal-file") == left.size());
  CHECK(client.stats().acknowledgedEvents == 2);
  checkForgotten(world, client);
}

TEST_CASE("where only a user was kept under allow, he is dropped under redact") {
  World world;
  leaveUser(world);
  REQUIRE(holds(world.disk->file, "bob"));
  world.server->bodies.clear();
  Client client(under(world, PersonalData::redact));
  world.pass(client, 5'000);
  CHECK(client.stats().droppedPersonalData == 0);
  checkForgotten(world, client);
}

TEST_CASE("what was kept under allow and is locked by another is dropped when it is taken over") {
  World world;
  const bool events = GENERATE(true, false);
  CAPTURE(events);
  if (events) leaveEvents(world, PersonalData::allow);
  else leaveUser(world);
  REQUIRE(holds(world.disk->file, "bob"));
  world.server->bodies.clear();
  world.disk->locked = true;
  Client client(under(world, PersonalData::redact));
  client.track("C");
  const std::string deviceId = shownBy(client).at("deviceId");
  CHECK(holds(world.disk->file, deviceId));
  CHECK(shownBy(client).count("userId") == 0);
  world.pass(client, 5'000);
  CHECK(client.stats().droppedPersonalData == 0);

  world.disk->locked = false;
  world.pass(client, 5'000);
  CHECK(client.stats().droppedPersonalData == (events ? left.size() : 0));
  CHECK(world.told("personal-file") == (events ? left.size() : 0));
  CHECK(shownBy(client).at("deviceId") == deviceId);
  checkForgotten(world, client);
}

TEST_CASE("what was kept under allow, and could not be read at first, is dropped when it can be") {
  World world;
  const bool events = GENERATE(true, false);
  CAPTURE(events);
  if (events) leaveEvents(world, PersonalData::allow);
  else leaveUser(world);
  world.server->bodies.clear();
  world.disk->unreadable = true;
  Client client(under(world, PersonalData::redact));
  world.pass(client, 5'000);
  world.disk->unreadable = false;
  client.track("C");
  world.pass(client, 100'000, 1'000);
  CHECK(client.stats().droppedPersonalData == (events ? left.size() : 0));
  checkForgotten(world, client);
}

TEST_CASE("what was kept under allow stays untouched until there is consent under redact") {
  World world;
  leaveEvents(world, PersonalData::allow);
  const std::string file = world.disk->file;
  Client client(disabled(world));
  world.pass(client, 60'000, 5'000);
  CHECK(world.disk->file == file);
  CHECK(namesOf(shownBy(client)) == left);
  if (GENERATE(false, true)) {
    client.enableTracking();
    CHECK(client.stats().droppedPersonalData == left.size());
  } else {
    CHECK(client.disableTracking());
    CHECK(client.stats().droppedPersonalData == 0);
  }
  world.pass(client, 5'000);
  checkForgotten(world, client);
}

TEST_CASE("what was kept under allow leaves a file that cannot be written as soon as it can") {
  World world;
  leaveEvents(world, PersonalData::allow);
  bool Disk::*const fault = GENERATE(&Disk::full, &Disk::readOnly, &Disk::renameFails);
  (*world.disk).*fault = true;
  Client client(under(world, PersonalData::redact));
  client.track("C");
  world.pass(client, 10'000);
  (*world.disk).*fault = false;
  world.pass(client, 10'000);
  CHECK(client.stats().droppedPersonalData == left.size());
  checkForgotten(world, client);
}

TEST_CASE("what was kept under a rule that is as strict, or stricter, is kept") {
  struct Row {
    PersonalData before, now;
    const char* userId;
  };
  const Row row = GENERATE(Row{PersonalData::allow, PersonalData::allow, "bob@example.com"},
                           Row{PersonalData::redact, PersonalData::allow, "user-7"},
                           Row{PersonalData::redact, PersonalData::redact, "user-7"});
  World world;
  leaveEvents(world, row.before);
  Client client(under(world, row.now));
  const Json shown = shownBy(client);
  CHECK(namesOf(shown) == joined(left, {"init"}));
  CHECK(shown.at("userId") == row.userId);
  CHECK(shown.at("props").size() == 1);
  world.pass(client, 10'000);
  CHECK(client.stats().droppedPersonalData == 0);
  CHECK(client.stats().acknowledgedEvents == left.size() + 1);
  CHECK(world.told("personal-file") == 0);
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("ids kept under allow that are personal are drawn anew under redact") {
  World world;
  {
    nucleus::Options options = under(world, PersonalData::allow);
    const bool inOptions = GENERATE(true, false);
    if (inOptions) options.deviceId = "bob@example.com";
    if (inOptions) options.anonId = "aa-bb-cc-dd-ee-ff";
    Client client(options);
    if (!inOptions) client.setProps({{"deviceId", "bob@example.com"}});
    world.pass(client, 5'000);
  }
  world.server->bodies.clear();
  Client client(under(world, PersonalData::redact));
  world.pass(client, 5'000);
  REQUIRE(world.server->bodies.size() == 1);
  CHECK_FALSE(holds(world.server->bodies[0], "bob@"));
  CHECK_FALSE(holds(world.server->bodies[0], "aa-bb"));
  CHECK(client.persist());
  CHECK_FALSE(holds(world.disk->file, "bob@"));
}

// ---- a damaged first line ----

TEST_CASE("one damaged byte in the first line hides nothing from the user, and is mended") {
  const PersonalData personal = GENERATE(PersonalData::redact, PersonalData::allow);
  World world;
  leaveEvents(world, personal);
  world.disk->file[static_cast<std::size_t>(GENERATE(0, 3, 14, 18, 25, 33, 35))] ^= 1;
  nucleus::Options options = under(world, personal);
  SECTION("the events are loaded") {
    Client client(options);
    CHECK(client.stats().storage == nucleus::StorageState::ready);
    CHECK(namesOf(shownBy(client)) == joined(left, {"init"}));
  }
  SECTION("the file can be erased") {
    options.disableTracking = true;
    Client client(options);
    CHECK(client.forget());
    CHECK_FALSE(world.disk->exists);
  }
}

TEST_CASE("a remembered choice with one damaged byte is a no, and the next one is remembered") {
  World world;
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = options.disableTracking = true;
  CHECK(Client(options).disableTracking());
  world.disk->file[static_cast<std::size_t>(GENERATE(3, 20, 30))] ^= 1;
  {
    Client client(options);
    CHECK(client.consent() == nucleus::Consent::refused);
    client.enableTracking();
    CHECK(client.stats().storage == nucleus::StorageState::ready);
  }
  Client client(options);
  CHECK(client.consent() == nucleus::Consent::granted);
  CHECK(client.forget());
  CHECK(holds(world.disk->file, " refused "));
}

TEST_CASE("another app's file is not taken for a newer one of ours, whatever the app is called") {
  World world;
  detail::Fixed<128> line;
  detail::writeFirstLine(line, "other", nucleus::Consent::granted);
  world.disk->exists = true;
  world.disk->file = std::string(line.view());
  nucleus::Options options = world.options();
  options.appId = GENERATE("granted", "1");
  Client client(options);
  CHECK(client.forget());
  CHECK(world.disk->file == line.view());
}

TEST_CASE("a file of ours that a later version wrote is not touched, nor claimed to be erased") {
  World world;
  std::string line = "nucleus-cache 2 test-app - ";
  char hex[8];
  detail::writeHex(hex, detail::crc32(line.substr(0, line.size() - 1)));
  world.disk->exists = true;
  world.disk->file = line + std::string(hex, 8) + "\nwhatever comes then\n";
  const std::string before = world.disk->file;
  Client client(disabled(world));
  CHECK_FALSE(client.forget());
  CHECK_FALSE(client.disableTracking());
  world.pass(client, 120'000, 1'000);
  CHECK(world.told("erase-failed") > 0);
  CHECK(world.disk->file == before);
  CHECK(shownBy(client).at("complete") == false);
}

// ---- what is not shown ----

TEST_CASE("a record that was not understood is not claimed to be shown, before consent and after") {
  World world;
  leaveEvents(world);
  const auto row = GENERATE(as<std::string>{}, "a damaged one", "one of an unknown form");
  CAPTURE(row);
  if (row == "a damaged one") world.disk->file[world.disk->file.find("\"A\"") + 1] = 'X';
  else
    world.disk->file += record('e', R"({"type":"event","id":77,"sessionId":12345678,"mail":"x"})");
  Client client(disabled(world));
  CHECK(shownBy(client).at("complete") == false);
  client.enableTracking();
  CHECK(shownBy(client).at("complete") == false);
}

TEST_CASE("an event of an earlier run that is too large now is not claimed to be shown") {
  World world;
  {
    nucleus::Options options = world.options();
    options.transport = nullptr;
    Client client(options);
    client.track("A", {{"text", std::string(5'000, 'x')}});
    client.shutdown(0);
  }
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  const Client client(options);
  REQUIRE(holds(world.disk->file, "xxxx"));
  CHECK(shownBy(client).at("complete") == false);
}

TEST_CASE("after shutdown() stats() follows what forget() erases") {
  World world;
  nucleus::Options options = world.options();
  options.transport = nullptr;
  Client client(options);
  client.track("A");
  client.shutdown(0);
  CHECK(client.stats().queuedEvents == 2);
  CHECK(client.forget());
  const nucleus::Stats stats = client.stats();
  CHECK(stats.queuedEvents == 0);
  CHECK(stats.erasedEvents == 2);
  CHECK(stats.cacheBytes == 0);
  CHECK(stats.consent == nucleus::Consent::refused);
  CHECK(fakes::balanced(stats));
}

TEST_CASE("after forget() nothing of the user can be read in the memory that the host gave") {
  World world;
  std::string memory(60'000, '\0');
  nucleus::Options options = world.options();
  options.memory = {memory.data(), memory.size()};
  options.offlineCache = GENERATE(true, false);
  Client client(options);
  client.setUserId("user-seven");
  client.setProps({{"plan", "hidden"}});
  client.track("SECRET", {{"a", "hidden"}});
  REQUIRE(holds(memory, "hidden"));
  CHECK(client.forget());
  CHECK_FALSE(holds(memory, "user-seven"));
  CHECK_FALSE(holds(memory, "hidden"));
}

// ---- a real file ----

#if NUCLEUS_TESTS_SYSTEM

namespace {

/// A path in a new folder that goes with it; the file's own folder is not there yet.
class Place {
 public:
  Place() {
    std::uint64_t number = 0;
    detail::systemEntropy(&number, sizeof number);
    folder_ = fs::temp_directory_path() / ("nucleus-export-" + std::to_string(number));
    fs::create_directory(folder_);
  }
  ~Place() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  std::string path() const { return (folder_ / newFolder / "events.cache").string(); }
  std::string content() const { return fakes::contentOf(path()); }
  std::size_t entries() const {
    const fs::recursive_directory_iterator begin(folder_), end;
    return static_cast<std::size_t>(std::distance(begin, end));
  }

 private:
#if defined(_WIN32)  // a name may not hold quotes, but a path has backslashes
  static constexpr const char* newFolder = "new folder";
#else
  static constexpr const char* newFolder = "new \"folder\"";
#endif
  fs::path folder_;
};

}  // namespace

TEST_CASE("where the file is does not change with the environment") {
  const Place place;
  World world;
  nucleus::Options options = disabled(world);
  options.storage = nullptr;
  const fakes::Variable data(fakes::dataVariable,
                             fs::path(place.path()).parent_path().string().c_str());
  const Client client(options);
  const Json before = shownBy(client).at("cacheFile");
  fakes::setVariable(fakes::dataVariable, "/elsewhere");
  CHECK(shownBy(client).at("cacheFile") == before);
}

TEST_CASE("with a real file the export says where it is, and makes and changes none") {
  const Place place;
  World world;
  nucleus::Options options = disabled(world);
  options.storage = nullptr;
  options.cacheFile = place.path();
  Client client(options);
  Json expected = nothing("notAsked");
  expected["cacheFile"] = place.path();
  CHECK(shownBy(client) == expected);
  CHECK(place.entries() == 0);

  client.enableTracking();
  client.identify("user-7", {{"plan", "pro"}});
  client.track("A");
  client.persist();
  const std::string content = place.content();
  const auto time = fs::last_write_time(place.path());
  const Client second(options);
  for (const Client* each : {static_cast<const Client*>(&client), &second}) {
    const Json shown = shownBy(*each);
    CHECK(namesOf(shown) == Names{"init", "userid", "props", "A"});
    CHECK(shown.at("cacheFile") == place.path());
    CHECK(shown.at("userId") == "user-7");
    CHECK(shown.at("complete") == true);
  }
  CHECK(place.content() == content);
  CHECK(fs::last_write_time(place.path()) == time);
  CHECK(place.entries() == 2);

  client.shutdown(0);
  CHECK(namesOf(shownBy(client)) == Names{"init", "userid", "props", "A"});
  CHECK(client.forget());
  CHECK_FALSE(fs::exists(place.path()));
  expected["consent"] = "refused";
  CHECK(shownBy(client) == expected);
  CHECK_FALSE(fs::exists(place.path()));
}
#endif
