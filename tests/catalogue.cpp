// A strict catalogue: what it does not declare is refused, and costs nothing.
#include "fakes.hpp"
#include "check.hpp"

namespace {

using fakes::Json;
using fakes::World;
using nucleus::Client;
using nucleus::Outcome;

constexpr nucleus::DeclaredProperty levelProperties[] = {
    {"level", "to see where the game is too hard"},
    {"seconds", "to see how long a level takes"},
};
constexpr nucleus::DeclaredProperty userProperties[] = {
    {"plan", "to see who pays"},
};
constexpr nucleus::DeclaredEvent events[] = {
    {"LEVEL_DONE", "to see how far people get", levelProperties, 2},
    {"MENU", "to see whether the menu is found"},
    {"props", "what is known of the player", userProperties, 1},
};
constexpr nucleus::Catalogue catalogue = {events, 3};

nucleus::Options strict(World& world) {
  nucleus::Options options = world.options();
  options.catalogue = catalogue;
  options.strictCatalogue = true;
  return options;
}

/// The message of the last diagnostic of that code, "" where it was not told.
std::string told(const World& world, std::string_view code) {
  std::string message;
  for (std::size_t i = 0; i < world.diagnostics.size(); ++i) {
    if (world.diagnostics[i].first == code) message = world.messages[i];
  }
  return message;
}

}  // namespace

TEST_CASE("with a strict catalogue what is declared is tracked, with all or none of it") {
  World world;
  Client client(strict(world));
  CHECK(client.track("LEVEL_DONE", {{"level", 3}, {"seconds", 61.5}}) == Outcome::ok);
  CHECK(client.track("LEVEL_DONE", {{"seconds", 7}}) == Outcome::ok);
  CHECK(client.track("LEVEL_DONE") == Outcome::ok);
  CHECK(client.page("MENU") == Outcome::ok);
  CHECK(client.screen("MENU") == Outcome::ok);
  CHECK(client.setProps({{"plan", "pro"}}) == Outcome::ok);
  CHECK(client.setProps({{"plan", "free"}}, true) == Outcome::ok);
  CHECK(client.identify("player-7", {{"plan", "pro"}}) == Outcome::ok);
  CHECK(client.startSession() == Outcome::ok);
  world.pass(client, 5'000);
  CHECK(world.told("unknown-event") == 0);
  CHECK(world.server->received().size() == 11);
}

TEST_CASE("a strict catalogue refuses what it does not declare, and says its name alone") {
  struct Row {
    const char* what;
    Outcome (*call)(Client&);
    const char* named;
  };
  const Row row = GENERATE(
      Row{"an event",
          [](Client& c) {
            return c.track("CHEATED", {{"level", "of secrecy"}});
          },
          "CHEATED"},
      Row{"an event that differs in case", [](Client& c) { return c.track("Menu"); }, "Menu"},
      Row{"an event with a declared beginning", [](Client& c) { return c.track("MENU2"); },
          "MENU2"},
      Row{"a page", [](Client& c) { return c.page("ABOUT"); }, "ABOUT"},
      Row{"a screen", [](Client& c) { return c.screen("ABOUT"); }, "ABOUT"},
      Row{"a property",
          [](Client& c) {
            return c.track("LEVEL_DONE", {{"level", 1}, {"friend", "secrecy"}});
          },
          "friend"},
      Row{"a property where none is declared",
          [](Client& c) {
            return c.track("MENU", {{"level", "of secrecy"}});
          },
          "level"},
      Row{"a property of a page",
          [](Client& c) {
            return c.page("MENU", {{"from", "secrecy"}});
          },
          "from"},
      Row{"a property without a name",
          [](Client& c) {
            return c.track("LEVEL_DONE", {{nullptr, "secrecy"}});
          },
          ": "},
      Row{"a property of the user",
          [](Client& c) {
            return c.setProps({{"mood", "secrecy"}});
          },
          "mood"},
      Row{"one of two properties of the user",
          [](Client& c) {
            return c.setProps({{"plan", "pro"}, {"mood", "secrecy"}}, true);
          },
          "mood"});
  CAPTURE(row.what);
  World world;
  Client client(strict(world));
  world.pass(client, 5'000);
  const std::size_t received = world.server->received().size();

  CHECK(row.call(client) == Outcome::unknownEvent);
  CHECK(client.stats().queuedEvents == 0);
  world.pass(client, 30'000);
  CHECK(world.server->received().size() == received);
  CHECK(world.told("unknown-event") == 1);
  const std::string message = told(world, "unknown-event");
  CHECK(message.find(row.named) != std::string::npos);
  CHECK(message.find("secrecy") == std::string::npos);
  CHECK(message.find("catalogue") != std::string::npos);
}

TEST_CASE("an event that is refused by the catalogue is told without what is personal in it") {
  World world;
  Client client(strict(world));
  CHECK(client.track("bob@example.com") == Outcome::unknownEvent);
  world.pass(client, 1'000);
  CHECK(told(world, "unknown-event").find("[email]") != std::string::npos);
  CHECK(told(world, "unknown-event").find("bob") == std::string::npos);
}

TEST_CASE("a property of the user that the catalogue refuses changes none of those there are") {
  World world;
  Client client(strict(world));
  REQUIRE(client.identify("player-7", {{"plan", "pro"}}) == Outcome::ok);
  REQUIRE(client.setProps({{"mood", "bad"}}, true) == Outcome::unknownEvent);
  const Json held = Json::parse(client.exportData());
  CHECK(held.at("props") == Json({{"plan", "pro"}}));
  CHECK(held.at("userId") == "player-7");
}

TEST_CASE("identify() with an undeclared property says so, and has set the user id") {
  World world;
  Client client(strict(world));
  CHECK(client.identify("player-7", {{"mood", "bad"}}) == Outcome::unknownEvent);
  const Json held = Json::parse(client.exportData());
  CHECK(held.at("userId") == "player-7");
  CHECK(held.count("props") == 0);
}

TEST_CASE("a strict catalogue is not asked about errors, user ids and sessions") {
  World world;
  nucleus::Options options = strict(world);
  if (GENERATE(false, true)) options.catalogue = {};
  Client client(std::move(options));
  CHECK(client.trackError("Broken", "it broke", "at main()") == Outcome::ok);
  CHECK(client.trackError(std::runtime_error("it broke again")) == Outcome::ok);
  CHECK(client.setUserId("player-7") == Outcome::ok);
  CHECK(client.identify("player-8") == Outcome::ok);
  CHECK(client.startSession() == Outcome::ok);
  CHECK(client.setUserId("") == Outcome::ok);
  world.pass(client, 1'000);
  CHECK(world.told("unknown-event") == 0);
}

TEST_CASE("what setProps() says of the device needs no declaration") {
  World world;
  nucleus::Options options = strict(world);
  const bool empty = GENERATE(false, true);
  if (empty) options.catalogue = {};
  Client client(std::move(options));
  CHECK(client.setProps({{"version", "2.1.0"},
                         {"locale", "de-CH"},
                         {"platform", "toaster"},
                         {"osVersion", "7.1"},
                         {"deviceId", "bread-1"}}) == Outcome::ok);
  CHECK(client.setProps({{"version", "2.2.0"}, {"Version", "2.2.0"}}) == Outcome::unknownEvent);
  REQUIRE(client.trackError("Broken", "") == Outcome::ok);
  world.pass(client, 5'000);
  const Json last = world.server->received().back();
  CHECK(last.at("version") == "2.1.0");
  CHECK(last.at("platform") == "toaster");
  CHECK(last.at("deviceId") == "bread-1");
}

TEST_CASE("a strict catalogue without entries refuses every event, and no session") {
  struct Row {
    const char* what;
    nucleus::Catalogue catalogue;
  };
  const Row row = GENERATE(Row{"nothing", {}}, Row{"no events, but a count", {nullptr, 7}},
                           Row{"events, but none counted", {events, 0}});
  CAPTURE(row.what);
  World world;
  nucleus::Options options = strict(world);
  options.catalogue = row.catalogue;
  Client client(std::move(options));
  CHECK(client.track("LEVEL_DONE") == Outcome::unknownEvent);
  CHECK(client.page("MENU") == Outcome::unknownEvent);
  CHECK(client.setProps({{"plan", "pro"}}) == Outcome::unknownEvent);
  CHECK(client.setProps({}, true) == Outcome::ok);
  world.pass(client, 5'000);
  for (const Json& event : world.server->received()) {
    CHECK((event.at("type") == "init" || event.at("type") == "props"));
  }
}

TEST_CASE("a declared event whose properties are null or not counted has none") {
  constexpr nucleus::DeclaredEvent odd[] = {
      {"NULL", "nothing, but a count", nullptr, 3},
      {"ZERO", "some, but none counted", levelProperties, 0},
  };
  World world;
  nucleus::Options options = strict(world);
  options.catalogue = {odd, 2};
  Client client(std::move(options));
  for (const char* name : {"NULL", "ZERO"}) {
    CHECK(client.track(name) == Outcome::ok);
    CHECK(client.track(name, {{"level", 1}}) == Outcome::unknownEvent);
  }
}

TEST_CASE("a catalogue that is not strict refuses nothing") {
  World world;
  nucleus::Options options = strict(world);
  options.strictCatalogue = false;
  Client client(std::move(options));
  CHECK(client.track("CHEATED", {{"how", "badly"}}) == Outcome::ok);
  CHECK(client.track("LEVEL_DONE", {{"friend", true}}) == Outcome::ok);
  CHECK(client.page("ABOUT") == Outcome::ok);
  CHECK(client.setProps({{"mood", "bad"}}) == Outcome::ok);
  world.pass(client, 5'000);
  CHECK(world.told("unknown-event") == 0);
  CHECK(world.server->received().size() == 5);
}

TEST_CASE("filter is asked only about what the catalogue lets pass") {
  World world;
  nucleus::Options options = strict(world);
  std::vector<std::string> asked;
  options.filter = [&asked](nucleus::Text, nucleus::Text name, nucleus::Properties) {
    asked.emplace_back(name.view());
    return true;
  };
  Client client(std::move(options));
  CHECK(client.track("CHEATED") == Outcome::unknownEvent);
  CHECK(client.track("LEVEL_DONE", {{"friend", true}}) == Outcome::unknownEvent);
  CHECK(client.setProps({{"mood", "bad"}}) == Outcome::unknownEvent);
  CHECK(asked.empty());
  CHECK(client.track("MENU") == Outcome::ok);
  CHECK(asked == std::vector<std::string>{"MENU"});
}

TEST_CASE("a call that the catalogue refuses opens no session, and is not activity") {
  World world;
  nucleus::Options options = strict(world);
  options.sessionTimeoutMs = 60'000;
  Client client(std::move(options));
  world.pass(client, 5'000);
  const std::size_t before = world.server->received().size();

  world.pass(client, 50'000, 5'000);
  CHECK(client.track("CHEATED") == Outcome::unknownEvent);  // does not prolong the session
  world.pass(client, 50'000, 5'000);
  CHECK(client.track("CHEATED") == Outcome::unknownEvent);  // does not open the next
  world.pass(client, 5'000);
  CHECK(world.server->received().size() == before);

  CHECK(client.track("MENU") == Outcome::ok);
  world.pass(client, 30'000, 1'000);
  const std::vector<Json> received = world.server->received();
  REQUIRE(received.size() == before + 2);
  CHECK(received[before].at("type") == "init");
}

TEST_CASE("a call that the catalogue refuses erases nothing and touches no file") {
  World world;
  nucleus::Options options = strict(world);
  options.transport = nullptr;
  options.maxEventBytes = 512;
  options.maxQueueBytes = 1'024;
  options.cacheDelayMs = 0;
  Client client(std::move(options));
  while (client.stats().queuedBytes < 900) {
    const std::size_t bytes = client.stats().queuedBytes;
    REQUIRE(client.track("MENU") == Outcome::ok);
    if (client.stats().queuedBytes <= bytes) break;  // it is full
  }
  const std::string held = client.exportData();
  const int calls = world.disk->calls();
  const nucleus::Stats stats = client.stats();
  for (int i = 0; i < 100; ++i) REQUIRE(client.track("CHEATED") == Outcome::unknownEvent);
  CHECK(client.exportData() == held);
  CHECK(world.disk->calls() == calls);
  CHECK(client.stats().acceptedEvents == stats.acceptedEvents);
  CHECK(client.stats().droppedQueueFull == stats.droppedQueueFull);
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("an undeclared event is refused before consent and after the end like any other call") {
  World world;
  nucleus::Options options = strict(world);
  options.disableTracking = true;
  Client client(std::move(options));
  CHECK(client.track("CHEATED") == Outcome::trackingDisabled);
  client.enableTracking();
  CHECK(client.track("CHEATED") == Outcome::unknownEvent);
  client.shutdown(0);
  CHECK(client.track("CHEATED") == Outcome::shutDown);
}

TEST_CASE("a name that may not be is refused as such, also with a strict catalogue") {
  World world;
  Client client(strict(world));
  CHECK(client.track("") == Outcome::invalidName);
  CHECK(client.track("nucleus:view") == Outcome::reservedName);
  CHECK(client.page("init") == Outcome::reservedName);
}

TEST_CASE("the entry of the user's properties declares no event") {
  World world;
  Client client(strict(world));
  CHECK(client.track("props") == Outcome::unknownEvent);
  CHECK(client.page("props") == Outcome::unknownEvent);
}
