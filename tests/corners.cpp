// What only a stranger's file or an unlikely server leads to.
#include "check.hpp"
#include "fakes.hpp"
#include "reserved.hpp"

#include <set>

namespace {

using fakes::Json;
using fakes::Server;
using fakes::World;
using nucleus::Client;
using nucleus::Outcome;
using nucleus::Request;
using nucleus::Response;
namespace detail = nucleus::detail;

/// As small as a stranger may have written it.
std::string tinyEvent(int id, std::uint64_t session = 12'345'678) {
  return R"({"type":"event","id":)" + std::to_string(id) + R"(,"sessionId":)" +
         std::to_string(session) + '}';
}
std::vector<std::string> tinyEvents(int count) {
  std::vector<std::string> events;
  for (int i = 0; i < count; ++i) events.push_back(tinyEvent(1'000 + i));
  return events;
}

/// Puts a file there, with these events of one session whose init has left.
void fill(World& world, const std::vector<std::string>& events) {
  std::string file(events.size() * 600 + 200, '\0');
  detail::Buffer out(file.data(), file.size());
  detail::writeFirstLine(out, "test-app", nucleus::Consent::notAsked);
  for (const std::string& event : events) {
    REQUIRE(detail::writeLine(out, {event == events.front() ? 'f' : 'e', event}));
  }
  detail::seal(out.data(), out.size());
  file.resize(out.size());
  world.disk->file = file;
  world.disk->exists = true;
}

nucleus::Options smallOptions(World& world) {
  nucleus::Options options = world.options();
  options.maxEventBytes = 512;
  options.maxQueueBytes = 8 << 10;
  return options;
}

}  // namespace

// ---- the file ----

TEST_CASE("events so small that their number fills the memory make room for others") {
  World world;
  const nucleus::Options options = smallOptions(world);
  fill(world, tinyEvents(165));
  Client client(options);
  const nucleus::Stats loaded = client.stats();
  CHECK(loaded.acceptedEvents == 166);  // and the init
  CHECK(loaded.droppedQueueFull > 0);
  CHECK(loaded.queuedBytes + tinyEvent(1'000).size() < options.maxQueueBytes);  // it is not this
  CHECK(loaded.queuedEvents > 140);

  for (int i = 0; i < 200; ++i) REQUIRE(client.track("EVENT") == Outcome::ok);
  CHECK(fakes::balanced(client.stats()));
  CHECK(client.flush(1'000));
  const std::vector<Json> received = world.server->received();
  for (const Json& event : received) CHECK(event.at("id") != 1'000);  // the oldest
  CHECK(received.back().value("name", "") == "EVENT");
}

TEST_CASE("while all of it is in a request a call makes nothing go, and says queueFull") {
  World world;
  nucleus::Options options = smallOptions(world);
  std::vector<Request> held;
  bool holds = false;
  options.transport = [&](const Request& request) {
    if (holds) held.push_back(request);
    return holds ? Response::pending() : Response();
  };
  fill(world, tinyEvents(165));
  Client client(options);
  world.pass(client, 2'000);
  CHECK(client.persist());
  CHECK(client.track("EVENT") == Outcome::ok);  // the last for which there is memory
  holds = true;
  world.pass(client, 10'000);
  REQUIRE(held.size() == 1);
  const nucleus::Stats before = client.stats();
  REQUIRE(Server::ids(held[0].body()).size() == before.queuedEvents);
  const auto calls = [&client] {
    return std::vector<Outcome>{client.track("EVENT"), client.setProps({{"plan", "pro"}}),
                                client.trackError("error", "message"), client.setUserId("u")};
  };
  CHECK(calls() == std::vector<Outcome>(4, Outcome::queueFull));
  CHECK(client.stats().queuedEvents == before.queuedEvents);
  CHECK(client.stats().droppedQueueFull == before.droppedQueueFull);

  held[0].reply(Server::acknowledge(held[0]));
  CHECK(calls() == std::vector<Outcome>(4, Outcome::ok));
  CHECK(client.stats().acknowledgedEvents == before.queuedEvents);
  CHECK(client.persist());
}

TEST_CASE("an event that an append left twice is shown once, however many there are") {
  World world;
  std::vector<std::string> events;
  for (int i = 0; i < 65; ++i) events.push_back(tinyEvent(1'000 + 2 * i));  // with gaps between
  events.push_back(tinyEvent(1'127));                                       // no gap
  for (int i = 60; i < 65; ++i) events.push_back(tinyEvent(1'000 + 2 * i));
  fill(world, events);
  nucleus::Options options = world.options();
  options.disableTracking = true;
  const Client client(options);
  const Json shown = Json::parse(client.exportData());
  CHECK(shown.at("events").size() == 66);
  CHECK(shown.at("complete") == true);
}

TEST_CASE("after the end an export shows each event once, though half of them are in the file") {
  World world;
  nucleus::Options options = world.options();
  options.transport = nullptr;
  Client client(options);
  REQUIRE(client.persist());
  for (int i = 0; i < 20; ++i) client.track("EVENT");
  world.disk->tears = world.disk->readOnly = true;
  CHECK_FALSE(client.shutdown(0));
  REQUIRE(world.disk->file.find("EVENT") != std::string::npos);
  const Json shown = Json::parse(client.exportData());
  std::set<std::uint64_t> ids;
  for (const Json& event : shown.at("events")) ids.insert(event.at("id").get<std::uint64_t>());
  CHECK(ids.size() == 21);
  CHECK(shown.at("events").size() == 21);
}

TEST_CASE("a user id of the file that would not fit beside every event is let go") {
  World world;
  world.server->then = Server::always(500);
  {
    Client client(world.options());
    CHECK(client.setUserId(std::string(150, 'u')) == Outcome::ok);
    CHECK(client.shutdown(0));
  }
  world.server->then = {};
  const std::size_t maxEventBytes = GENERATE(std::size_t{512}, std::size_t{16} << 10);
  nucleus::Options options = world.options();
  options.maxEventBytes = maxEventBytes;
  Client client(options);
  CHECK(client.track("EVENT") == Outcome::ok);
  CHECK(client.flush(1'000));
  const Json last = world.server->received().back();
  CHECK(last.at("name") == "EVENT");
  CHECK(last.contains("userId") == (maxEventBytes > 512));
  CHECK(last.contains("deviceId"));
}

// ---- sessions ----

TEST_CASE("of two sessions that chance gives one number the newer takes another") {
  const auto drawnBeside = [](std::uint64_t queued) {
    World world;
    world.seed = 42;  // chance repeats itself
    fill(world, {tinyEvent(1'000, queued)});
    Client client(world.options());
    CHECK(client.flush(1'000));
    const Json init = world.server->received().back();
    CHECK(init.at("type") == "init");
    return init.at("sessionId").get<std::uint64_t>();
  };
  const std::uint64_t drawn = drawnBeside(12'345'678);
  CHECK(drawn == drawnBeside(12'345'679));
  CHECK(drawn != drawnBeside(drawn));
}

// ---- the server ----

TEST_CASE("one message over a WebSocket names every second of many events of an older request") {
  World world;
  nucleus::Options options = world.options();
  options.endpoint = "wss://example.test";
  std::vector<std::vector<std::uint64_t>> sent;
  options.transport = [&sent](const Request& request) {
    sent.push_back(Server::ids(request.body()));
    return sent.size() == 1 ? Server::with(413) : Response::pending();
  };
  Client client(std::move(options));
  for (int i = 0; i < 400; ++i) REQUIRE(client.track("EVENT") == Outcome::ok);
  world.pass(client, 2'000);
  REQUIRE(sent.size() == 2);  // the second has half of the first
  std::vector<std::uint64_t> named;
  for (std::size_t i = sent[1].size() + 1; i < sent[0].size(); i += 2) named.push_back(sent[0][i]);
  REQUIRE(named.size() > 70);

  client.receive(Server::naming(named));
  CHECK(client.stats().acknowledgedEvents == named.size());
  CHECK(client.stats().queuedEvents == 401 - named.size());
  client.receive(Server::naming(sent[0]));
  CHECK(client.stats().acknowledgedEvents == sent[0].size());
}

TEST_CASE("a name is known by all of it, however it is escaped") {
  World world;
  const std::string key = GENERATE(R"(reportedId\u0073)", R"(\u0072eportedIds)",
                                   R"(reportedId\u0073aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)",
                                   R"(\u0072eportedIdsaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)");
  CAPTURE(key);
  world.server->then = [&key](const Request& request) {
    const Json ids = Server::ids(request.body());
    return Server::with(200, "{\"" + key + "\":" + ids.dump() + "}");
  };
  Client client(world.options());
  world.pass(client, 2'000);
  CHECK(world.server->bodies.size() == 1);
  CHECK(client.stats().acknowledgedEvents == (key.size() < 20 ? 1u : 0u));
}

TEST_CASE("what has the words and numbers of an HTTP date, but not their order, is none") {
  for (const char* const text :
       {"Sun, 06 ovD 1994 08:49:37 GMT", "Nov 6 7 8 09:49", "1 Nov 2 3 4 5",
        "Sun, 06 Nov 1994 08:49 GMT", "08:49:37 Sun, 06 Nov 1994"}) {
    CAPTURE(text);
    CHECK(detail::readHttpDate(text) == -1);
  }
  CHECK(detail::readHttpDate("Sun, 06 Nov 1994 08:49:37 GMT") == 784'111'777'000);
}

TEST_CASE("over a WebSocket an empty answer after a message that named an event is progress") {
  World world;
  nucleus::Options options = world.options();
  options.endpoint = "wss://example.test";
  std::vector<Request> held;
  options.transport = [&held](const Request& request) {
    held.push_back(request);
    return Response::pending();
  };
  Client client(options);
  client.track("ONE");
  world.pass(client, 2'000);
  REQUIRE(held.size() == 1);
  const bool named = GENERATE(false, true);
  CAPTURE(named);
  if (named) client.receive(Server::naming({Server::ids(held[0].body())[0]}));
  held[0].reply(Server::with(200));
  CHECK(client.stats().failedRequests == (named ? 0u : 1u));
  CHECK(client.stats().queuedEvents == (named ? 1u : 2u));
}

TEST_CASE("an anonId from the server that would not fit beside every event is not adopted") {
  World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 512;
  Client client(options);
  const std::size_t bytes = GENERATE(std::size_t{1}, std::size_t{60});
  CHECK(client.setUserId(std::string(bytes, 'u')) == Outcome::ok);
  world.server->then = [](const Request& request) {
    const Json answer = {{"reportedIds", Server::ids(request.body())},
                         {"anonId", std::string(64, 'a')}};
    return Server::with(200, answer.dump());
  };
  CHECK(client.flush(1'000));
  CHECK(client.track("EVENT") == Outcome::ok);
  CHECK(client.flush(1'000));
  const Json last = world.server->received().back();
  CHECK(last.at("userId") == std::string(bytes, 'u'));
  CHECK((last.at("anonId") == std::string(64, 'a')) == (bytes == 1));
}

TEST_CASE("in the host's memory customData is taken up to maxEventBytes") {
  World world;
  nucleus::Options options = world.options();
  std::vector<std::uint64_t> memory(64 << 10);
  options.memory.data = memory.data();
  options.memory.bytes = memory.size() * sizeof memory[0];
  options.maxEventBytes = 1'024;
  options.maxQueueBytes = 64 << 10;
  std::string told;
  options.onCustomData = [&told](std::string_view json) { told = json; };
  const std::size_t bytes = GENERATE(std::size_t{1'024}, std::size_t{2'048});
  CAPTURE(bytes);
  const std::string data = '"' + std::string(bytes - 2, 'x') + '"';
  world.server->then = [&data](const Request& request) {
    const std::string ids = Json(Server::ids(request.body())).dump();
    return Server::with(200, "{\"reportedIds\":" + ids + ",\"customData\":" + data + "}");
  };
  Client client(options);
  world.pass(client, 3'000);
  CHECK(client.stats().acknowledgedEvents == 1);
  CHECK(told == (bytes == 1'024 ? data : ""));
}

// ---- calls ----

TEST_CASE("what is given for the detected values is taken whole or not at all") {
  World world;
  nucleus::Options options = world.options();
  options.version = "1.0";
  options.deviceId = "device";
  options.maxEventBytes = 512;
  Client client(options);
  CHECK(client.setUserId(std::string(60, 'u')) == Outcome::ok);
  CHECK(client.setProps({{"version", std::string(65, '9')}}) == Outcome::ok);
  CHECK(client.setProps({{"version", "a@b.co " + std::string(64, '9')}}) == Outcome::ok);
  CHECK(client.setProps({{"deviceId", std::string(64, 'd')}}) == Outcome::ok);
  CHECK(client.trackError("error", "message") == Outcome::ok);
  CHECK(client.flush(1'000));
  const Json kept = world.server->received().back();
  CHECK(kept.at("version") == "1.0");
  CHECK(kept.at("deviceId") == "device");
  CHECK(world.told("invalid-value") == 3);

  CHECK(client.setUserId("") == Outcome::ok);
  CHECK(client.setProps({{"version", std::string(64, '9')}}) == Outcome::ok);
  CHECK(client.setProps({{"deviceId", std::string(64, 'd')}}) == Outcome::ok);
  CHECK(client.trackError("error", "message") == Outcome::ok);
  CHECK(client.flush(1'000));
  const Json taken = world.server->received().back();
  CHECK(taken.at("version") == std::string(64, '9'));
  CHECK(taken.at("deviceId") == std::string(64, 'd'));
}

TEST_CASE("an exception whose type has a reserved name is tracked all the same") {
  World world;
  Client client(world.options());
  CHECK(client.trackError(init()) == Outcome::ok);
  CHECK(client.trackError(error::Lost()) == Outcome::ok);
  CHECK(client.flush(1'000));
  const std::vector<Json> received = world.server->received();
  REQUIRE(received.size() == 3);
  CHECK(received[1].at("name") == "::init");
  CHECK(received[2].at("name") == "::error::Lost");
}

TEST_CASE("without memory nothing is to be erased, unless there is a file") {
  World world;
  nucleus::Options options = world.options();
  options.memory.data = &options;
  options.memory.bytes = 1;
  options.offlineCache = GENERATE(false, true);
  Client client(options);
  CHECK(client.track("EVENT") == Outcome::notConfigured);
  CHECK(client.disableTracking() != options.offlineCache);
  CHECK(client.forget() != options.offlineCache);
}
