// Room 11: sessions, ids, clocks, age, WebSocket mode and late answers, at the public face; then
// the engine alone.
#include "check.hpp"
#include "fakes.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

using fakes::Json;
using fakes::Server;
using fakes::World;
using nucleus::Client;
using nucleus::Outcome;
using nucleus::Request;
using nucleus::Response;

namespace {

constexpr std::int64_t minuteMs = 60'000, hourMs = 60 * minuteMs, dayMs = 24 * hourMs;
constexpr std::int64_t sessionTimeoutMs = 30 * minuteMs;  // the default
constexpr std::int64_t year2020Ms = 1'577'836'800'000;

std::uint64_t idOf(const Json& event) { return event.at("id"); }
std::uint64_t sessionOf(const Json& event) { return event.at("sessionId"); }
bool isInit(const Json& event) { return event.at("type") == "init"; }
bool isNamed(const Json& event, std::string_view name) { return event.value("name", "") == name; }

std::vector<Json> initsOf(const std::vector<Json>& events) {
  std::vector<Json> inits;
  std::copy_if(events.begin(), events.end(), std::back_inserter(inits), isInit);
  return inits;
}

/// What the server has once all that is queued has arrived.
std::vector<Json> delivered(const World& world, Client& client) {
  CHECK(client.flush(1'000));
  return world.server->received();
}

/// Lets time pass, an hour at most, until something has happened.
template <class Happened>
bool passUntil(World& world, Client& client, Happened&& happened) {
  for (int i = 0; i < 14'400 && !happened(); ++i) world.pass(client, 250);
  return happened();
}

bool isUrlSafe(const std::string& text) {
  return text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
             "0123456789-_") == std::string::npos;
}

/// The other end of a connection that answers later: keeps every handle.
struct Peer {
  std::vector<Request> requests, heartbeats;

  nucleus::Transport transport() {
    return [this](const Request& request) {
      (request.expectsAnswer() ? requests : heartbeats).push_back(request);
      return Response::pending();
    };
  }
  std::vector<std::uint64_t> ids(std::size_t request) const {
    return Server::ids(requests.at(request).body());
  }
};

nucleus::Options overWebSocket(World& world, Peer& peer) {
  nucleus::Options options = world.options();
  options.endpoint = "wss://example.test";
  options.transport = peer.transport();
  return options;
}

nucleus::Options overHttp(World& world, Peer& peer) {
  nucleus::Options options = world.options();
  options.transport = peer.transport();
  return options;
}

Response naming(const std::vector<std::uint64_t>& ids) {
  return Server::with(200, Server::naming(ids));
}

}  // namespace

// ---- sessions ----

TEST_CASE("a session begins with an init dated half a second before the call that opened it") {
  World world;
  std::vector<std::int64_t> openedMs{world.clock->wall};
  Client client(world.options());
  world.clock->advance(sessionTimeoutMs + 1);
  openedMs.push_back(world.clock->wall);
  REQUIRE(client.track("after a pause") == Outcome::ok);
  world.clock->advance(1'000);
  openedMs.push_back(world.clock->wall);
  REQUIRE(client.startSession() == Outcome::ok);
  delivered(world, client);
  REQUIRE(client.disableTracking());
  world.clock->advance(1'000);
  openedMs.push_back(world.clock->wall);
  client.enableTracking();
  world.clock->advance(1'000);
  client.enableTracking();  // it is enabled already

  const std::vector<Json> events = delivered(world, client);
  const std::vector<Json> inits = initsOf(events);
  REQUIRE(inits.size() == openedMs.size());
  std::set<std::uint64_t> sessions;
  for (std::size_t i = 0; i < inits.size(); ++i) {
    CAPTURE(i);
    CHECK(inits[i].at("date") == openedMs[i] - 500);
    CHECK(sessionOf(inits[i]) >= 10'000'000);
    CHECK(sessionOf(inits[i]) <= 99'999'999);
    CHECK(sessions.insert(sessionOf(inits[i])).second);
  }
  REQUIRE(isNamed(events.at(2), "after a pause"));
  CHECK(events[2].at("date") == openedMs[1]);
  CHECK(events[2].at("sessionId") == events[1].at("sessionId"));
}

TEST_CASE("an idle session ends by the clock that ran further, and by no other clock step") {
  struct Row {
    const char* what;
    std::int64_t wallBefore, wallStep, steadyStep;
    bool opens;
  };
  constexpr std::int64_t now = 1'790'000'000'000;
  const Row row =
      GENERATE(Row{"not yet", now, sessionTimeoutMs - 1, sessionTimeoutMs - 1, false},
               Row{"exactly", now, sessionTimeoutMs, sessionTimeoutMs, true},
               Row{"exactly, by the wall clock", now, sessionTimeoutMs, 10, true},
               Row{"both", now, sessionTimeoutMs + 1, sessionTimeoutMs + 1, true},
               Row{"steady alone", now, 0, sessionTimeoutMs + 1, true},
               Row{"wall alone, as after a sleep", now, sessionTimeoutMs + 1, 10, true},
               Row{"set back", now, -10 * dayMs, 10, false},
               Row{"set back, but idle by steady", now, -10 * dayMs, sessionTimeoutMs + 1, true},
               Row{"from unset to set", 1'000, now, 10, false},
               Row{"from set to unset", now, 1'000 - now, 10, false});
  INFO(row.what);
  World world;
  world.clock->wall = row.wallBefore;
  Client client(world.options());
  REQUIRE(client.track("first") == Outcome::ok);
  world.clock->wall += row.wallStep;
  world.clock->steady += row.steadyStep;
  REQUIRE(client.track("second") == Outcome::ok);

  const std::vector<Json> events = delivered(world, client);
  CHECK(initsOf(events).size() == (row.opens ? 2u : 1u));
  CHECK((sessionOf(events.front()) != sessionOf(events.back())) == row.opens);
  CHECK(isInit(events.at(events.size() - 2)) == row.opens);
}

TEST_CASE("every accepted call keeps the session alive") {
  World world;
  Client client(world.options());
  for (int i = 0; i < 20; ++i) {
    world.clock->advance(sessionTimeoutMs - 1);
    REQUIRE(client.track("still here") == Outcome::ok);
  }
  CHECK(initsOf(delivered(world, client)).size() == 1);
}

TEST_CASE("a refused call opens no session and keeps none alive") {
  World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  options.filter = [](nucleus::Text, nucleus::Text name, nucleus::Properties) {
    return name.view() != "unwanted";
  };
  Client client(std::move(options));
  const std::string huge(2'000, 'x');
  const std::pair<Outcome, std::function<Outcome()>> rows[] = {
      {Outcome::invalidName, [&] { return client.track(""); }},
      {Outcome::reservedName, [&] { return client.page("nucleus:x"); }},
      {Outcome::filtered, [&] { return client.track("unwanted"); }},
      {Outcome::tooLarge,
       [&] {
         return client.track("large", {{"text", huge}});
       }},
      {Outcome::tooLarge, [&] { return client.trackError("large", huge); }},
      {Outcome::tooLarge, [&] { return client.setUserId(huge); }},
      {Outcome::tooLarge, [&] {
         return client.setProps({{"text", huge}});
       }}};
  for (const auto& [outcome, call] : rows) {
    CAPTURE(static_cast<int>(outcome));
    const std::uint64_t accepted = client.stats().acceptedEvents;
    world.clock->advance(sessionTimeoutMs - 1);
    CHECK(call() == outcome);
    world.clock->advance(2);
    CHECK(call() == outcome);
    CHECK(client.stats().acceptedEvents == accepted);
    CHECK(client.track("accepted") == Outcome::ok);
    CHECK(client.stats().acceptedEvents == accepted + 2);
  }
  const std::vector<Json> inits = initsOf(delivered(world, client));
  REQUIRE(inits.size() == 8);
  CHECK(inits.back().at("date") == world.clock->wall - 500);
}

TEST_CASE("an event refused for want of room opens no session") {
  World world;
  Peer peer;
  nucleus::Options options = overHttp(world, peer);
  options.maxEventBytes = 512;
  options.maxQueueBytes = 1'024;
  options.answerTimeoutMs = dayMs;
  Client client(std::move(options));
  while (client.stats().queuedBytes < 700) REQUIRE(client.track("fills") == Outcome::ok);
  world.pass(client, 2'000);  // all is in a request now
  REQUIRE(peer.requests.size() == 1);
  const std::uint64_t accepted = client.stats().acceptedEvents;
  world.clock->advance(sessionTimeoutMs + 1);
  CHECK(client.track("late") == Outcome::queueFull);
  CHECK(client.stats().acceptedEvents == accepted);
  peer.requests[0].reply(naming(peer.ids(0)));
  CHECK(client.track("later") == Outcome::ok);
  CHECK(client.stats().acceptedEvents == accepted + 2);
}

TEST_CASE("every session's init goes first, and what is sent again is unchanged") {
  World world;
  std::mt19937 random(GENERATE(1u, 2u, 3u));
  const auto oneOf = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  world.server->then = [&](const Request& request) {
    std::vector<std::uint64_t> ids = Server::ids(request.body());
    const unsigned answer = oneOf(8);
    if (answer < 2) ids.resize(ids.size() / 2);
    return Server::with(answer == 2   ? 500
                        : answer == 3 ? 413
                        : answer == 4 ? 400
                                      : 200,
                        answer == 5 ? std::string() : Server::naming(ids));
  };
  const auto start = [&] {
    nucleus::Options options = world.options();
    options.maxEventBytes = 1'024;
    options.maxQueueBytes = 6'000;
    options.maxBatchBytes = 2'000;
    options.sessionTimeoutMs = minuteMs;
    options.cutoffMs = 10 * minuteMs;
    options.shutdownTimeoutMs = 0;
    return options;
  };
  std::optional<Client> client(start());
  const std::size_t steps = fakes::rounds(2'000, 300);
  for (std::size_t step = 0; step < steps; ++step) {
    const std::string text(oneOf(400), 'x');
    const unsigned what = oneOf(16);
    if (what == 0) client->startSession();
    else if (what == 1) client->setProps({{"text", text}});
    else if (what == 2) client->trackError("failed", text);
    else if (what == 3) world.clock->advance(minuteMs + 1);
    else if (what == 4) client.emplace(start());
    else if (what < 9) world.pass(*client, 2'000);
    else client->track("happened", {{"text", text}});
  }
  world.server->then = {};
  world.pass(*client, hourMs, 1'000);
  CHECK(client->stats().queuedEvents == 0);

  std::set<std::uint64_t> opened;
  std::map<std::uint64_t, std::string> texts;
  std::size_t early = 0, changed = 0;
  for (const Json& event : world.server->received()) {
    if (isInit(event)) opened.insert(sessionOf(event));
    early += opened.count(sessionOf(event)) == 0 ? 1u : 0u;
    const std::string& text = texts.emplace(idOf(event), event.dump()).first->second;
    changed += text != event.dump() ? 1u : 0u;
  }
  CHECK(opened.size() > steps / 20);
  CHECK(early == 0);
  CHECK(changed == 0);
}

// ---- ids ----

TEST_CASE("ids count up from a base that is new at each start and after forget()") {
  World world;
  std::vector<std::uint64_t> bases;
  for (int run = 0; run < 3; ++run) {
    Client client(world.options());
    for (const bool forgotten : {false, true}) {
      if (forgotten) {
        REQUIRE(client.forget());
        client.enableTracking();
      }
      world.server->bodies.clear();
      for (int i = 0; i < 50; ++i) REQUIRE(client.track("counted") == Outcome::ok);
      std::uint64_t next = 0;
      for (const Json& event : delivered(world, client)) {
        if (next == 0) bases.push_back(idOf(event));
        CHECK((next == 0 || idOf(event) == next));
        next = idOf(event) + 1;
      }
      CHECK(next == bases.back() + 51);
    }
  }
  for (const std::uint64_t base : bases) {
    CHECK(base >= std::uint64_t{1} << 32);
    CHECK(base <= std::uint64_t{1} << 52);
  }
  std::sort(bases.begin(), bases.end());
  for (std::size_t i = 1; i < bases.size(); ++i) CHECK(bases[i] - bases[i - 1] > 1'000'000);
}

TEST_CASE("no id is used twice, among a thousand queued, a restart and consent taken back") {
  World world;
  world.server->then = Server::always(0);
  {
    Client client(world.options());
    for (int i = 0; i < 1'000; ++i) REQUIRE(client.track("queued") == Outcome::ok);
  }
  world.server->then = {};
  world.server->bodies.clear();
  Client client(world.options());
  for (int i = 0; i < 100; ++i) REQUIRE(client.track("queued") == Outcome::ok);
  CHECK(delivered(world, client).size() == 1'102);
  client.track("unsent");
  CHECK(client.disableTracking());
  client.enableTracking();
  const std::vector<Json> events = delivered(world, client);
  std::set<std::uint64_t> ids;
  for (const Json& event : events) ids.insert(idOf(event));
  CHECK(events.size() == 1'103);
  CHECK(ids.size() == events.size());
}

TEST_CASE("anonId and deviceId are drawn once, URL-safe, and kept in the file") {
  World world;
  Json first;
  {
    Client client(world.options());
    first = delivered(world, client).front();
  }
  const std::string anonId = first.at("anonId"), deviceId = first.at("deviceId");
  CHECK(anonId.size() == 12);
  CHECK(deviceId.size() == 15);
  CHECK(isUrlSafe(anonId + deviceId));
  CHECK(world.disk->file.find(anonId) != std::string::npos);
  CHECK(world.disk->file.find(deviceId) != std::string::npos);

  SECTION("a restart takes them from there") {
    Client client(world.options());
    CHECK(delivered(world, client).back().at("anonId") == anonId);
    CHECK(world.server->received().back().at("deviceId") == deviceId);
  }
  SECTION("without the file they are others") {
    *world.disk = {};
    Client client(world.options());
    CHECK(delivered(world, client).back().at("anonId") != anonId);
    CHECK(world.server->received().back().at("deviceId") != deviceId);
  }
  SECTION("the host's are used instead, and after forget() again") {
    nucleus::Options options = world.options();
    options.anonId = "anon_of-the_host";
    options.deviceId = "the host's \"device\"";
    Client client(std::move(options));
    CHECK(delivered(world, client).back().at("anonId") == "anon_of-the_host");
    CHECK(client.forget());
    client.enableTracking();
    CHECK(delivered(world, client).back().at("anonId") == "anon_of-the_host");
    CHECK(world.server->received().back().at("deviceId") == "the host's \"device\"");
  }
}

TEST_CASE("an anonId from the server is adopted for new events, and kept after a restart") {
  World world;
  {
    Client client(world.options());
    const std::vector<Json> before = delivered(world, client);
    world.server->script.push_back([](const Request& request) {
      Json answer = Json::parse(Server::naming(Server::ids(request.body())));
      answer["anonId"] = "from-the-server";
      return Server::with(200, answer.dump());
    });
    client.track("carries the old one");
    CHECK(delivered(world, client).back().at("anonId") == before.front().at("anonId"));
    client.track("carries the new one");
    CHECK(delivered(world, client).back().at("anonId") == "from-the-server");
  }
  CHECK(world.disk->file.find("from-the-server") != std::string::npos);
  Client client(world.options());
  CHECK(delivered(world, client).back().at("anonId") == "from-the-server");
}

// ---- clocks and age ----

TEST_CASE("an event carries a date if the clock is set, which means 2020 or later") {
  World world;
  world.clock->wall = 0;
  Client client(world.options());
  for (const std::int64_t wall : {std::int64_t{-5}, year2020Ms - 1, year2020Ms}) {
    world.clock->wall = wall;
    REQUIRE(client.track("when") == Outcome::ok);
  }
  const std::vector<Json> events = delivered(world, client);
  REQUIRE(events.size() == 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK_FALSE(events[i].contains("date"));
  CHECK(events[3].at("date") == year2020Ms);
}

TEST_CASE("an event is dropped once it is older than cutoffMs, to the millisecond") {
  World world;
  nucleus::Options options = world.options();
  options.cutoffMs = hourMs;
  const std::string_view why = GENERATE("the server fails", "no network", "no transport");
  INFO(why);
  world.server->then = Server::always(500);
  if (why == "no transport") options.transport = nullptr;
  Client client(std::move(options));
  client.online(why != "no network");
  world.clock->advance(100);
  client.track("younger");
  world.pass(client, hourMs - 100);
  CHECK(client.stats().droppedTooOld == 0);
  world.pass(client, 100);
  CHECK(client.stats().queuedEvents == 2);  // its init is needed, however old
  world.pass(client, 1);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.stats().droppedTooOld == 2);
  CHECK(world.told("too-old") == 2);
  CHECK(fakes::balanced(client.stats()));

  CHECK(client.track("first of the next session") == Outcome::ok);
  CHECK(client.stats().queuedEvents == 2);
}

TEST_CASE("what grew too old in a request goes as soon as the request is over") {
  World world;
  nucleus::Options options = world.options();
  options.cutoffMs = 30'000;
  options.answerTimeoutMs = 60'000;
  world.server->then = [](const Request&) { return Response::pending(); };
  Client client(std::move(options));
  client.track("old");
  world.pass(client, 35'000);
  CHECK(client.stats().requests == 1);
  client.track("younger");
  world.pass(client, 24'000);
  CHECK(client.stats().droppedTooOld == 0);
  world.pass(client, 4'000);
  CHECK(client.stats().droppedTooOld == 1);
  CHECK(client.stats().queuedEvents == 2);  // the init is needed
}

TEST_CASE("a step of the wall clock ages nothing, of this run or of an earlier one") {
  World world;
  world.server->then = Server::always(500);
  { Client client(world.options()); }
  const std::int64_t step = GENERATE(10 * dayMs, -10 * dayMs, -3'000 * dayMs);
  CAPTURE(step);
  Client client(world.options());
  REQUIRE(client.stats().queuedEvents == 2);
  world.clock->wall += step;
  world.pass(client, hourMs, minuteMs);
  CHECK(client.stats().queuedEvents == 2);
  CHECK(client.stats().droppedTooOld == 0);
}

TEST_CASE("events of an earlier run have the age that the wall clock gives them at loading") {
  struct Row {
    const char* what;
    std::int64_t writtenMs, pauseMs, leftMs;  // how long they are kept after the restart
  };
  constexpr std::int64_t now = 1'790'000'000'000;
  const Row row =
      GENERATE(Row{"hours later", now, 2 * hourMs, 3 * hourMs},
               Row{"too late", now, 5 * hourMs + 1, 0}, Row{"years later", now, 3'000 * dayMs, 0},
               Row{"dated in the future", now, -10 * dayMs, 5 * hourMs},
               Row{"without a date", 1'000, now, 5 * hourMs},
               Row{"the clock not set any more", now, 1'000 - now, 5 * hourMs});
  INFO(row.what);
  World world;
  world.clock->wall = row.writtenMs;
  world.server->then = Server::always(500);
  const auto fiveHours = [&] {
    nucleus::Options options = world.options();
    options.cutoffMs = 5 * hourMs;
    options.sessionTimeoutMs = 365 * dayMs;
    return options;
  };
  {
    Client client(fiveHours());
    client.track("old");
  }
  world.clock->wall += row.pauseMs;
  Client client(fiveHours());
  if (row.leftMs > 0) {
    world.pass(client, row.leftMs - 1'000, minuteMs);
    CHECK(client.stats().droppedTooOld == 0);
    CHECK(client.stats().queuedEvents == 3);
    world.pass(client, 2'000);
  }
  CHECK(client.stats().droppedTooOld >= 2);
}

TEST_CASE("an event that grows too old does not end a session younger than itself") {
  World world;
  nucleus::Options options = world.options();
  options.cutoffMs = 10 * minuteMs;
  std::uint64_t stuck = 0;
  world.server->then = [&](const Request& request) {
    std::vector<std::uint64_t> ids;
    for (const Json& event : Server::events(request.body())) {
      if (isNamed(event, "stuck")) stuck = idOf(event);
      else ids.push_back(idOf(event));
    }
    return naming(ids);
  };
  Client client(std::move(options));
  client.track("stuck");
  world.pass(client, 2'000);
  client.startSession();
  world.pass(client, 9 * minuteMs, 1'000);
  client.track("fine");
  CHECK_FALSE(client.flush(1'000));
  REQUIRE(client.stats().queuedEvents == 1);
  world.pass(client, minuteMs, 1'000);
  REQUIRE(stuck != 0);
  REQUIRE(client.stats().droppedTooOld == 1);
  REQUIRE(client.stats().queuedEvents == 0);
  client.track("of the same session");
  CHECK(client.stats().queuedEvents == 1);
}

// ---- WebSocket mode ----

TEST_CASE("the URL is the endpoint's, in either mode") {
  const auto [endpoint, url] = GENERATE(
      std::pair("https://app.nucleus.sh", "https://app.nucleus.sh/app/test-app/track"),
      std::pair("https://example.test:8443/", "https://example.test:8443/app/test-app/track"),
      std::pair("ws://localhost:9", "ws://localhost:9/app/test-app/track"),
      std::pair("wss://example.test/under/", "wss://example.test/under/app/test-app/track"));
  World world;
  Peer peer;
  nucleus::Options options = overHttp(world, peer);
  options.endpoint = endpoint;
  Client client(std::move(options));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  CHECK(peer.requests[0].url() == url);
  CHECK(peer.requests[0].contentType() == "application/json");
  CHECK(peer.requests[0].expectsAnswer());
  CHECK_FALSE(peer.requests[0].cancelled());
}

TEST_CASE("over a WebSocket a request ends when the server has named all of its events") {
  World world;
  Peer peer;
  Client client(overWebSocket(world, peer));
  client.track("one");
  client.track("two");
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  const std::vector<std::uint64_t> ids = peer.ids(0);
  REQUIRE(ids.size() == 3);
  client.track("meanwhile");

  client.receive(Server::naming({ids[1]}));
  CHECK(client.stats().acknowledgedEvents == 1);
  client.receive(Server::naming({ids[1], 4711, ids[2] + 1}));  // repeated, unknown, never sent
  CHECK(client.stats().acknowledgedEvents == 1);
  CHECK(client.stats().queuedEvents == 3);
  world.pass(client, 30'000);
  CHECK(peer.requests.size() == 1);

  client.receive(Server::naming({ids[2], ids[0]}));
  CHECK(client.stats().acknowledgedEvents == 3);
  CHECK(client.stats().queuedEvents == 1);
  CHECK(client.stats().failedRequests == 0);
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 2);
  CHECK(peer.ids(1) == std::vector<std::uint64_t>{ids[2] + 1});
}

TEST_CASE("over a WebSocket a request without its answer ends after answerTimeoutMs") {
  World world;
  Peer peer;
  nucleus::Options options = overWebSocket(world, peer);
  options.answerTimeoutMs = 5'000;
  Client client(std::move(options));
  client.track("one");
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  const std::vector<std::uint64_t> ids = peer.ids(0);

  SECTION("with nothing named it has failed, and is sent again unchanged after a pause") {
    world.pass(client, 5'000);
    CHECK(client.stats().failedRequests == 1);
    world.pass(client, 2'000);
    REQUIRE(peer.requests.size() == 2);
    CHECK(peer.requests[1].body() == peer.requests[0].body());
  }
  SECTION("with some named it has not, and the others are sent again") {
    client.receive(Server::naming({ids[0]}));
    world.pass(client, 5'000);
    CHECK(client.stats().failedRequests == 0);
    REQUIRE(passUntil(world, client, [&] { return peer.requests.size() == 2; }));
    CHECK(peer.ids(1) == std::vector<std::uint64_t>{ids[1]});
  }
}

TEST_CASE("online(false) ends a WebSocket request, and nothing goes out before online(true)") {
  World world;
  Peer peer;
  Client client(overWebSocket(world, peer));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  client.online(false);
  CHECK(client.stats().nextRequestInMs == -1);
  client.track("meanwhile");
  CHECK_FALSE(client.flush(1'000));
  world.pass(client, 20 * minuteMs, 1'000);
  CHECK(peer.requests.size() == 1);
  CHECK(peer.heartbeats.empty());

  client.online();
  world.pass(client, 500);
  REQUIRE(peer.requests.size() == 2);
  CHECK(peer.heartbeats.empty());  // they are for idle times
  CHECK(peer.ids(1).size() == 2);
  client.receive(Server::naming({peer.ids(1)[1]}));
  client.receive(Server::naming(peer.ids(0)));
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.stats().failedRequests <= 1);
}

TEST_CASE("over a WebSocket a late answer names events of an older request") {
  World world;
  Peer peer;
  nucleus::Options options = overWebSocket(world, peer);
  options.transport = [&peer, hold = peer.transport()](const Request& request) {
    hold(request);
    return peer.requests.size() == 1 ? Server::with(413) : Response::pending();
  };
  Client client(std::move(options));
  for (const char* const name : {"one", "two", "three"}) client.track(name);
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 2);  // the second has half of the first
  const std::vector<std::uint64_t> ids = peer.ids(0);
  REQUIRE(peer.ids(1).size() < ids.size());

  client.receive(Server::naming({ids.back()}));
  CHECK(client.stats().acknowledgedEvents == 1);
  client.receive(Server::naming(ids));
  CHECK(client.stats().acknowledgedEvents == ids.size());
  CHECK(client.stats().queuedEvents == 0);
  world.pass(client, 50'000);
  CHECK(peer.requests.size() == 2);
}

TEST_CASE("a confirmation empties an HTTP request, and nothing over a WebSocket") {
  const bool webSocket = GENERATE(false, true);
  World world;
  Peer peer;
  Client client(webSocket ? overWebSocket(world, peer) : overHttp(world, peer));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  client.track("meanwhile");
  if (webSocket) client.receive("{\"confirmation\":true}");
  else peer.requests[0].reply(Server::with(200, "{\"confirmation\":true}"));
  CHECK(client.stats().acknowledgedEvents == (webSocket ? 0u : 1u));
  CHECK(client.stats().queuedEvents == (webSocket ? 2u : 1u));
}

TEST_CASE("what receive() cannot understand changes nothing", "[large]") {
  World world;
  Peer peer;
  Client client(overWebSocket(world, peer));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  const std::string good = Server::naming(peer.ids(0));
  const std::string id = std::to_string(peer.ids(0)[0]);
  for (const std::string& garbage :
       {std::string(), std::string("null"), std::string("[]"), std::string("<html></html>"),
        std::string("{\"reportedIds\":5}"), std::string("{\"reportedIds\":{\"0\":") + id + "}}",
        std::string("{\"reportedIds\":[[") + id + "]]}", "{\"a\":" + good + "}",
        "{\"reportedIds\":[" + id + ".0," + id + "e0,-" + id + "]}",
        good.substr(0, good.size() - 1), good + good, std::string("\0", 1) + good,
        std::string(100'000, '['), std::string(10 << 20, '1'),
        "{\"x\":\"" + std::string(10 << 20, 'x') + "\"," + good.substr(1)}) {
    INFO(garbage.substr(0, 80));
    client.receive(garbage);
    CHECK(client.stats().queuedEvents == 1);
  }
  client.receive(nullptr);
  client.receive(good);
  CHECK(client.stats().queuedEvents == 0);
}

TEST_CASE("an idle WebSocket gets a heartbeat every minute until the session times out") {
  World world;
  Peer peer;
  Client client(overWebSocket(world, peer));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  const Json init = Server::events(peer.requests[0].body())[0];
  client.receive(Server::naming(peer.ids(0)));
  world.pass(client, 5'000);
  const std::string file = world.disk->file;
  const nucleus::Stats before = client.stats();

  world.pass(client, 10 * minuteMs);
  CHECK(peer.heartbeats.size() == 10);
  for (const Request& heartbeat : peer.heartbeats) {
    CHECK(heartbeat.url() == peer.requests[0].url());
    CHECK(Json::parse(heartbeat.body()) == Json{{"type", "heartbeat"},
                                                {"sessionId", init.at("sessionId")},
                                                {"deviceId", init.at("deviceId")},
                                                {"machineId", init.at("deviceId")}});
  }
  const nucleus::Stats after = client.stats();
  CHECK(after.requests == before.requests);
  CHECK(after.failedRequests == 0);
  CHECK(after.acceptedEvents == before.acceptedEvents);
  CHECK(after.queuedEvents == 0);
  CHECK(world.disk->file == file);

  SECTION("then it is silent") {
    world.pass(client, 3 * hourMs, 1'000);
    CHECK(peer.heartbeats.size() >= 28);
    CHECK(peer.heartbeats.size() <= 30);
    client.track("back again");
    world.pass(client, 2'000);
    REQUIRE(peer.requests.size() == 2);
    const std::size_t beats = peer.heartbeats.size();
    client.receive(Server::naming(peer.ids(1)));
    world.pass(client, minuteMs);
    REQUIRE(peer.heartbeats.size() == beats + 1);
    CHECK(Json::parse(peer.heartbeats.back().body()).at("sessionId") ==
          Server::events(peer.requests[1].body())[0].at("sessionId"));
  }
  SECTION("and none without consent") {
    CHECK(client.disableTracking());
    world.pass(client, 10 * minuteMs, 1'000);
    CHECK(peer.heartbeats.size() == 10);
    for (const Request& heartbeat : peer.heartbeats) CHECK(heartbeat.cancelled());
  }
  SECTION("and none while a request waits for its answer") {
    client.track("unanswered");
    world.pass(client, 50'000);
    CHECK(peer.requests.size() == 2);
    CHECK(peer.heartbeats.size() == 10);
  }
  SECTION("and none without the network") {
    client.online(false);
    world.pass(client, 10 * minuteMs, 1'000);
    CHECK(peer.heartbeats.size() == 10);
    client.online(true);
    world.pass(client, minuteMs);
    CHECK(peer.heartbeats.size() == 11);
  }
}

TEST_CASE("there are no heartbeats during a backoff, and they go on after it") {
  World world;
  Peer peer;
  nucleus::Options options = overWebSocket(world, peer);
  SECTION("of a server that fails") {
    options.transport = [hold = peer.transport()](const Request& request) {
      hold(request);
      return Server::with(500);
    };
    Client client(std::move(options));
    world.pass(client, 25 * minuteMs, 1'000);
    CHECK(peer.requests.size() > 2);
    CHECK(peer.heartbeats.empty());
  }
  SECTION("of a server that asks to wait") {
    options.transport = [hold = peer.transport()](const Request& request) {
      hold(request);
      return Server::with(429, "", "600");
    };
    Client client(std::move(options));
    world.pass(client, 10 * minuteMs, 1'000);
    CHECK(peer.requests.size() == 1);
    CHECK(peer.heartbeats.empty());
  }
  SECTION("that a late answer leaves without an event to send") {
    options.answerTimeoutMs = 1'000;
    Client client(std::move(options));
    REQUIRE(passUntil(world, client, [&] { return client.stats().failedRequests == 1; }));
    client.receive(Server::naming(peer.ids(0)));
    REQUIRE(client.stats().queuedEvents == 0);
    world.pass(client, 3 * minuteMs);
    CHECK(peer.heartbeats.size() >= 2);
  }
}

TEST_CASE("a heartbeat needs no answer, and none that it gets changes anything") {
  const bool answersAtOnce = GENERATE(false, true);
  World world;
  Peer peer;
  nucleus::Options options = overWebSocket(world, peer);
  options.transport = [=, hold = peer.transport()](const Request& request) {
    const Response pending = hold(request);
    return answersAtOnce && !request.expectsAnswer() ? Server::with(500) : pending;
  };
  Client client(std::move(options));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  client.receive(Server::naming(peer.ids(0)));
  world.pass(client, 5'000);
  const nucleus::Stats before = client.stats();
  world.diagnostics.clear();
  for (std::size_t beats = 1; beats <= 3; ++beats) {
    world.pass(client, minuteMs);
    REQUIRE(peer.heartbeats.size() == beats);
    peer.heartbeats.back().reply(Response::pending());
    peer.heartbeats.back().reply(Server::with(500));
    peer.heartbeats.back().reply(Server::with(429, "", "3600"));
    peer.heartbeats.back().reply(Server::with(200, R"({"anonId":"fromBeat"})"));
  }
  const nucleus::Stats after = client.stats();
  CHECK(after.requests == before.requests);
  CHECK(after.failedRequests == before.failedRequests);
  CHECK(after.acknowledgedEvents == before.acknowledgedEvents);
  CHECK(after.nextRequestInMs == before.nextRequestInMs);
  CHECK(after.lastStatus == before.lastStatus);
  CHECK(world.diagnostics.empty());
  client.track("at once");
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 2);
  CHECK(peer.requests[1].body().find("fromBeat") == std::string_view::npos);
}

TEST_CASE("there are no heartbeats over HTTP") {
  World world;
  Client client(world.options());
  world.pass(client, hourMs, 1'000);
  CHECK(world.server->bodies.size() == 1);
}

// ---- answers that come later ----

TEST_CASE("an answer by reply() counts once, whenever it comes") {
  World world;
  Peer peer;
  nucleus::Options options = overHttp(world, peer);
  SECTION("before the transport has returned") {
    options.transport = [hold = peer.transport()](const Request& request) {
      request.reply(naming(Server::ids(request.body())));
      return hold(request);
    };
  }
  SECTION("later") {}
  Client client(std::move(options));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  peer.requests[0].reply(Response::pending());  // says nothing
  peer.requests[0].reply(naming(peer.ids(0)));
  peer.requests[0].reply(naming(peer.ids(0)));
  peer.requests[0].reply(Server::with(503, "", "3600"));
  const nucleus::Stats stats = client.stats();
  CHECK(stats.acknowledgedEvents == 1);
  CHECK(stats.queuedEvents == 0);
  CHECK(stats.lastStatus == 200);
  CHECK(stats.failedRequests == 0);
  client.track("next");
  world.pass(client, 21'000);
  CHECK(peer.requests.size() == 2);
}

TEST_CASE("after the time-out an answer removes what it names, and changes nothing else") {
  World world;
  Peer peer;
  nucleus::Options options = overHttp(world, peer);
  options.answerTimeoutMs = 5'000;
  Client client(std::move(options));
  client.track("one");
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  client.track("not in that request");
  REQUIRE(passUntil(world, client, [&] { return client.stats().failedRequests == 1; }));
  const nucleus::Stats before = client.stats();
  REQUIRE(before.nextRequestInMs > 0);

  for (const Response& late :
       {Server::with(500), Server::with(413), Server::with(400), Server::with(429, "", "7200"),
        Server::with(200, "{}"), Server::with(0)}) {
    peer.requests[0].reply(late);
    CHECK(client.stats().nextRequestInMs == before.nextRequestInMs);
    CHECK(client.stats().failedRequests == 1);
    CHECK(client.stats().lastStatus == before.lastStatus);
    CHECK(client.stats().queuedEvents == 3);
  }
  const bool confirms = GENERATE(false, true);
  peer.requests[0].reply(confirms ? Server::with(200, "{\"confirmation\":true}")
                                  : naming({peer.ids(0)[0], peer.ids(0)[1] + 1}));
  CHECK(client.stats().queuedEvents == (confirms ? 1u : 2u));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 2);
  CHECK(peer.ids(1).size() == (confirms ? 1u : 2u));
  CHECK(fakes::balanced(client.stats()));
}

TEST_CASE("answers to one request after another may come in any order, and twice") {
  std::vector<std::size_t> order{0, 1, 2};
  do {
    World world;
    Peer peer;
    nucleus::Options options = overHttp(world, peer);
    options.answerTimeoutMs = 1'000;
    Client client(std::move(options));
    for (std::size_t request = 1; request <= 3; ++request) {
      client.track("another");
      REQUIRE(passUntil(world, client, [&] { return peer.requests.size() == request; }));
    }
    const std::uint64_t accepted = client.stats().acceptedEvents;
    for (const std::size_t i : order) {
      peer.requests[i].reply(naming(peer.ids(i)));
      peer.requests[i].reply(naming(peer.ids(i)));
      CHECK(fakes::balanced(client.stats()));
    }
    CHECK(client.stats().queuedEvents == 0);
    CHECK(client.stats().acknowledgedEvents == accepted);
    world.pass(client, 50'000, 1'000);
    CHECK(peer.requests.size() == 3);
    CHECK(client.track("goes out again") == Outcome::ok);
    CHECK(passUntil(world, client, [&] { return peer.requests.size() == 4; }));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("an answer after disableTracking() changes nothing, also when enabled again") {
  World world;
  Peer peer;
  nucleus::Options options = overHttp(world, peer);
  int told = 0;
  options.onCustomData = [&](std::string_view) { ++told; };
  options.onUpdate = [&](std::string_view) { ++told; };
  Client client(std::move(options));
  world.pass(client, 2'000);
  REQUIRE(peer.requests.size() == 1);
  CHECK(client.disableTracking());
  CHECK(peer.requests[0].cancelled());
  const bool again = GENERATE(false, true);
  if (again) client.enableTracking();
  const nucleus::Stats before = client.stats();
  Json answer = Json::parse(Server::naming(peer.ids(0)));
  answer.update({{"anonId", "someone-else"}, {"latestVersion", "9.9.9"}, {"customData", 1}});
  peer.requests[0].reply(Server::with(200, answer.dump()));
  peer.requests[0].reply(Server::with(429, "", "7200"));
  const nucleus::Stats after = client.stats();
  CHECK(after.acknowledgedEvents == before.acknowledgedEvents);
  CHECK(after.queuedEvents == before.queuedEvents);
  CHECK(after.lastStatus == before.lastStatus);
  CHECK(after.failedRequests == before.failedRequests);
  world.pass(client, 25'000);
  CHECK(told == 0);
  CHECK(peer.requests[0].cancelled());
  REQUIRE(peer.requests.size() == (again ? 2u : 1u));
  if (again) {
    CHECK_FALSE(peer.requests[1].cancelled());
    CHECK(peer.ids(1).size() == 1);
    CHECK(Server::events(peer.requests[1].body())[0].at("anonId") != "someone-else");
  }
}

TEST_CASE("copies of a request stay valid after answers, consent, new requests and the client") {
  World world;
  Peer peer;
  std::vector<std::string> bodies;
  const auto hold = [&](nucleus::Options options) {
    options.answerTimeoutMs = 1'000;
    options.transport = [&, hold = peer.transport()](const Request& request) {
      bodies.emplace_back(request.body());
      return hold(request);
    };
    return options;
  };
  std::optional<Client> client(hold(overHttp(world, peer)));
  for (int i = 0; i < 5; ++i) {
    client->track("held", {{"number", i}});
    world.pass(*client, 30'000);
    if (i == 1) peer.requests.back().reply(naming(peer.ids(peer.requests.size() - 1)));
    if (i == 2) client->disableTracking(), client->enableTracking();
    if (i == 3) client->forget(), client->enableTracking();
  }
  client.reset();
  std::vector<Request> copies = peer.requests;
  peer.requests.clear();
  REQUIRE(copies.size() >= 5);
  REQUIRE(copies.size() == bodies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    CHECK(copies[i].body() == bodies[i]);
    CHECK(copies[i].url() == "https://app.nucleus.sh/app/test-app/track");
    CHECK(copies[i].expectsAnswer());
    copies[i].reply(naming(Server::ids(bodies[i])));
    copies[i].reply(Server::with(500));
  }
}

TEST_CASE("answers after the client's end leave its file alone") {
  World world;
  Peer peer;
  {
    Client client(overHttp(world, peer));
    world.pass(client, 2'000);
  }
  REQUIRE(peer.requests.size() == 1);
  const std::string file = world.disk->file;
  peer.requests[0].reply(naming(peer.ids(0)));
  CHECK(world.disk->file == file);
  Client client(world.options());
  CHECK(client.stats().queuedEvents == 2);
}

// ---- what else the server says ----

TEST_CASE("onUpdate tells of a newer version, once, and only from poll()") {
  struct Row {
    const char *ours, *theirs;
    bool newer;
  };
  const Row row = GENERATE(
      Row{"1.2.3", "1.2.4", true}, Row{"1.2.3", "1.2.3", false}, Row{"1.2.3", "1.2.2", false},
      Row{"1.9.9", "1.10.0", true}, Row{"1.2", "1.2.0", false}, Row{"1.2", "1.2.1", true},
      Row{"0.0.0", "1", true}, Row{"1.2.3", "latest", false}, Row{"1.2.3", "", false},
      Row{"1.2.3", "9..9", false}, Row{"1.2.3", "2.0.0 <b>", false});
  CAPTURE(row.ours, row.theirs);
  World world;
  Peer peer;
  std::vector<std::string> told;
  nucleus::Options options = overWebSocket(world, peer);
  options.version = row.ours;
  options.onUpdate = [&](std::string_view version) { told.emplace_back(version); };
  Client client(std::move(options));
  const std::string message = Json{{"latestVersion", row.theirs}}.dump();
  client.receive(message);
  client.receive(message);
  CHECK(told.empty());
  client.poll();
  CHECK(told == (row.newer ? std::vector<std::string>{row.theirs} : std::vector<std::string>{}));
  client.receive(message);
  client.receive("{\"latestVersion\":123}");
  world.pass(client, minuteMs);
  CHECK(told.size() == (row.newer ? 1u : 0u));
}

TEST_CASE("onCustomData gets the JSON as the server wrote it, up to 64 KB, only from poll()") {
  World world;
  Peer peer;
  std::vector<std::string> told;
  nucleus::Options options = overWebSocket(world, peer);
  options.onCustomData = [&](std::string_view json) { told.emplace_back(json); };
  Client client(std::move(options));
  const std::string most(65'536 - 2, 'x');
  for (const std::string& json :
       {std::string("{ \"a\" : [1, 2.50, \"\\u00e9\\n\"] }"), std::string("\"text\""),
        std::string("[]"), std::string("false"), "\"" + most + "\""}) {
    told.clear();
    client.receive("{\"customData\":" + json + ",\"reportedIds\":[]}");
    CHECK(told.empty());
    client.poll();
    CHECK((told == std::vector<std::string>{json}));
    client.poll();
    CHECK(told.size() == 1);
  }
  told.clear();
  client.receive("{\"customData\":\"" + most + "x\"}");
  client.receive("{\"customData\":{\"unfinished\":1}");
  client.poll();
  CHECK(told.empty());
}

// ---- the engine alone, with numbers for moments ----

namespace {

namespace detail = nucleus::detail;
using PostPtr = std::shared_ptr<detail::Post>;

struct Bare {
  static detail::Setup setup(std::int64_t sessionTimeout, bool webSocket) {
    detail::Setup setup;
    setup.appId = "app";
    setup.canSend = true;
    setup.webSocket = webSocket;
    setup.limits.reportIntervalMs = 20'000;
    setup.limits.sessionTimeoutMs = sessionTimeout;
    setup.limits.cutoffMs = 2 * dayMs;
    setup.limits.answerTimeoutMs = minuteMs;
    setup.limits.cacheDelayMs = 1'000;
    setup.limits.maxQueueBytes = 32 << 10;
    setup.limits.maxEventBytes = 1 << 10;
    setup.limits.maxBatchBytes = 4 << 10;
    return setup;
  }
  static detail::Moment at(std::int64_t ms) { return {1'790'000'000'000 + ms, ms}; }

  std::vector<std::uint64_t> memory = std::vector<std::uint64_t>(16 << 10);
  detail::Arena arena{memory.data(), memory.size() * sizeof(std::uint64_t)};
  detail::Notices notices;
  detail::Engine engine;
  std::shared_ptr<std::atomic<unsigned>> epoch = std::make_shared<std::atomic<unsigned>>(1u);

  /// Its session begins at 0.
  explicit Bare(std::int64_t sessionTimeout = sessionTimeoutMs, bool webSocket = false)
      : engine(setup(sessionTimeout, webSocket), arena, notices) {
    engine.random.seed([](void* to, std::size_t bytes) {
      std::fill_n(static_cast<char*>(to), bytes, '\x17');
      return true;
    });
    REQUIRE(engine.enable(at(0)) == Outcome::ok);
  }
  void track(std::string_view name, std::int64_t ms) {
    REQUIRE(engine.accept({detail::Type::event, name}, at(ms)) == Outcome::ok);
  }
  /// The request that is due, or nothing.
  PostPtr next(std::int64_t ms) {
    return engine.next(at(ms), [this](bool heartbeat) {
      const auto post = std::make_shared<detail::Post>();
      const detail::Limits& limits = engine.limits();
      char* const ids = arena.take(limits.batchIds() * sizeof(std::uint64_t));
      post->ids = {reinterpret_cast<std::uint64_t*>(ids), limits.batchIds()};
      post->body = arena.buffer(limits.maxBatchBytes + 8);
      post->heartbeat = heartbeat;
      post->currentEpoch = epoch;
      return post;
    });
  }
  void acknowledge(detail::Post& post, std::int64_t ms) {
    engine.settle(post, naming(Server::ids(post.body.view())), at(ms));
  }
  nucleus::Stats stats(std::int64_t ms) {
    nucleus::Stats stats;
    engine.fill(stats, at(ms));
    return stats;
  }
  /// What is to be appended to the file.
  std::string gather(std::int64_t ms) {
    char text[4 << 10];
    detail::Buffer out(text, sizeof text);
    engine.gather(out, at(ms));
    return std::string(out.view());
  }
  void hasFile() {
    engine.file.wanted = true;
    engine.fileOpened(nucleus::StorageState::ready, false, at(0));
  }
};

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_CASE("what the engine accepts comes out in a request, and leaves once it is named") {
  Bare bare;
  bare.track("ONE", 100);
  const std::int64_t due = bare.engine.dueMs();
  const PostPtr post = bare.next(due);
  REQUIRE(post != nullptr);
  const Json events = Server::events(post->body.view());
  REQUIRE(events.size() == 2);
  CHECK(isInit(events[0]));
  CHECK(isNamed(events[1], "ONE"));
  CHECK(events[1].at("date") == Bare::at(100).wallMs);
  bare.engine.settle(*post, naming({idOf(events[1])}), Bare::at(due + 1));
  CHECK(bare.stats(due + 1).queuedEvents == 1);
  bare.acknowledge(*post, due + 2);
  CHECK(bare.engine.queueEmpty());
  CHECK(bare.stats(due + 2).acknowledgedEvents == 2);
}

TEST_CASE("the engine has no request before it is due, and one at a time") {
  Bare bare;
  const std::int64_t due = bare.engine.dueMs();
  CHECK(due >= 500);
  CHECK(due <= 1'500);
  CHECK(bare.next(due - 1) == nullptr);
  const PostPtr post = bare.next(due);
  REQUIRE(post != nullptr);
  bare.track("NEXT", due + 1);
  CHECK(bare.next(due + 30'000) == nullptr);  // the first waits for its answer
  bare.acknowledge(*post, due + 30'000);
  CHECK(bare.next(due + 30'000) != nullptr);
}

TEST_CASE("after a 413 the engine's next request is half as large") {
  Bare bare;
  for (int i = 0; i < 30; ++i) bare.track("EVENT", i);
  const std::int64_t due = bare.engine.dueMs();
  const PostPtr large = bare.next(due);
  REQUIRE(large != nullptr);
  CHECK(large->body.size() > 3 << 10);
  bare.engine.settle(*large, Server::with(413), Bare::at(due));
  const PostPtr half = bare.next(due);
  REQUIRE(half != nullptr);
  CHECK(half->body.size() <= large->body.size() / 2);
  CHECK(half->body.size() > large->body.size() / 4);
  CHECK(Server::ids(half->body.view())[0] == Server::ids(large->body.view())[0]);
}

TEST_CASE("the engine gathers what the file lacks, and nothing twice") {
  Bare bare;
  bare.hasFile();
  bare.track("ONE", 10);
  const std::string first = bare.gather(1'000);
  CHECK(first[first.find_first_not_of('\n')] == 's');
  CHECK(std::count(first.begin(), first.end(), '\n') == 3);
  CHECK(holds(first, "ONE"));
  CHECK(bare.gather(1'000).empty());  // it is on its way
  bare.engine.appended(true, first.size(), Bare::at(1'000));
  bare.track("TWO", 1'100);
  const std::string second = bare.gather(2'000);
  CHECK(holds(second, "TWO"));
  CHECK_FALSE(holds(second, "ONE"));
  CHECK(std::count(second.begin(), second.end(), '\n') == 1);
  bare.engine.appended(false, second.size(), Bare::at(2'000));
  CHECK(bare.engine.mustRewrite());  // what arrived is not known
}

TEST_CASE("the engine sends what the file holds, and then tells the file what has left") {
  Bare bare;
  bare.hasFile();
  CHECK(bare.next(1'500) == nullptr);
  bare.engine.appended(true, bare.gather(1'600).size(), Bare::at(1'600));
  bare.track("LATE", 1'700);
  const PostPtr post = bare.next(3'000);
  REQUIRE(post != nullptr);
  const std::vector<std::uint64_t> ids = Server::ids(post->body.view());
  CHECK(ids.size() == 1);
  CHECK_FALSE(holds(post->body.view(), "LATE"));
  bare.acknowledge(*post, 3'100);
  const std::string rest = bare.gather(4'000);
  CHECK(holds(rest, "LATE"));
  CHECK(rest[rest.find_first_not_of('\n')] == 'g');
  CHECK(holds(rest, ' ' + std::to_string(ids[0]) + '\n'));
}

TEST_CASE("the engine has no heartbeat for a session that has been idle for its time-out") {
  const bool beats = GENERATE(false, true);
  Bare bare(minuteMs + (beats ? 1 : 0), true);
  const std::int64_t due = bare.engine.dueMs();
  bare.track("LAST", due);
  const PostPtr post = bare.next(due);
  REQUIRE(post != nullptr);
  bare.acknowledge(*post, due);
  CHECK(bare.next(due + minuteMs - 1) == nullptr);
  const PostPtr heartbeat = bare.next(due + minuteMs);
  CHECK((heartbeat != nullptr) == beats);
}

TEST_CASE("heartbeats end with a session that the wall clock has ended") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.endpoint = "wss://host";
  Client* called = nullptr;
  int beats = 0;
  options.transport = [&](const Request& request) {
    if (request.expectsAnswer()) {
      called->receive(fakes::Server::naming(fakes::Server::ids(request.body())));
    } else {
      ++beats;
    }
    return Response::pending();
  };
  Client client(std::move(options));
  called = &client;
  world.pass(client, 5000);
  world.clock->wall += 36'000'000;  // as after a night's sleep
  world.pass(client, 200'000, 1000);
  CHECK(beats == 0);
}

TEST_CASE("a WebSocket that comes and goes does not multiply the requests") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.endpoint = "wss://host";
  options.transport = [](const Request&) { return Response::pending(); };
  Client client(std::move(options));
  world.pass(client, 2000);
  for (int i = 0; i < 100; ++i) {
    client.online(false);
    client.online();
    client.poll();
  }
  CHECK(client.stats().requests <= 2);
  CHECK(client.stats().failedRequests == client.stats().requests);
}
