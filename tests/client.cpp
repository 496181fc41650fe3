// The public face: bad input, outcomes, the books, consent, erasure, callbacks, flush and the end.
#include "allocations.hpp"
#include "check.hpp"
#include "fakes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>

#if NUCLEUS_TESTS_THREADS
#include <thread>
#endif
#if NUCLEUS_TESTS_PROCESSES || defined(__MINGW32__)
#include <unistd.h>
#endif

using fakes::balanced;
using fakes::Json;
using fakes::Server;
using fakes::World;
using namespace heap;
using nucleus::Client;
using nucleus::Consent;
using nucleus::Outcome;
using nucleus::Properties;
using nucleus::Property;
using nucleus::Request;
using nucleus::Response;
using nucleus::Stats;
using nucleus::StorageState;
using nucleus::Text;

namespace {

constexpr std::int64_t minuteMs = 60'000, hourMs = 60 * minuteMs, dayMs = 24 * hourMs;
constexpr std::int64_t forever = std::numeric_limits<std::int64_t>::max();
const char* const nothing = nullptr;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// What the server has once all that is queued has arrived.
std::vector<Json> delivered(const World& world, Client& client) {
  CHECK(client.flush(1'000));
  return world.server->received();
}

Json lastDelivered(const World& world, Client& client) {
  const std::vector<Json> events = delivered(world, client);
  return events.empty() ? Json() : events.back();
}

bool everSent(const World& world, std::string_view text) {
  return std::any_of(world.server->bodies.begin(), world.server->bodies.end(),
                     [&](const std::string& body) { return contains(body, text); });
}

/// All calls that track; each has something to say.
std::vector<Outcome> callAll(Client& client) {
  return {client.track("event"),
          client.track("event", {{"name", 1}}),
          client.page("page"),
          client.screen("screen"),
          client.trackError("error", "message"),
          client.trackError(std::runtime_error("what")),
          client.setUserId("someone"),
          client.setProps({{"plan", "pro"}}),
          client.identify("someone", {{"plan", "pro"}}),
          client.startSession()};
}

bool allAre(const std::vector<Outcome>& outcomes, Outcome expected) {
  return std::all_of(outcomes.begin(), outcomes.end(),
                     [&](Outcome outcome) { return outcome == expected; });
}

void throwIfPossible([[maybe_unused]] const char* text) {
#if NUCLEUS_TESTS_EXCEPTIONS
  throw std::runtime_error(text);
#endif
}

/// A transport that answers later, and keeps what it was handed.
nucleus::Transport holding(std::vector<Request>& requests) {
  return [&requests](const Request& request) {
    requests.push_back(request);
    return Response::pending();
  };
}

}  // namespace

// ---- bad input ----

TEST_CASE("a name has 1 to 256 bytes and is none of ours") {
  struct Row {
    std::string name;
    Outcome outcome;
  };
  const Row row = GENERATE(
      Row{"", Outcome::invalidName}, Row{std::string(257, 'n'), Outcome::invalidName},
      Row{std::string(256, 'n'), Outcome::ok}, Row{std::string(1, '\0'), Outcome::ok},
      Row{"init", Outcome::reservedName}, Row{"error:", Outcome::reservedName},
      Row{"error:mine", Outcome::reservedName}, Row{"nucleus:view", Outcome::reservedName},
      Row{"nucleus:", Outcome::reservedName}, Row{"initial", Outcome::ok}, Row{"Init", Outcome::ok},
      Row{"error", Outcome::ok}, Row{"my error:", Outcome::ok}, Row{"nucleus", Outcome::ok},
      Row{"heartbeat", Outcome::ok}, Row{"null", Outcome::ok});
  INFO(row.name);
  World world;
  Client client(world.options());
  CHECK(client.track(row.name) == row.outcome);
  CHECK(client.track(row.name, {{"a", 1}}) == row.outcome);
  CHECK(client.page(row.name) == row.outcome);
  CHECK(client.screen(row.name, {{"a", 1}}) == row.outcome);
  CHECK(client.trackError(row.name, "message") == row.outcome);
  CHECK(client.stats().queuedEvents == (row.outcome == Outcome::ok ? 6u : 1u));
  world.pass(client, 250);
  CHECK(world.told("invalid-name") == (row.outcome == Outcome::ok ? 0u : 5u));
  if (row.outcome == Outcome::ok) CHECK(lastDelivered(world, client).at("name") == row.name);
}

TEST_CASE("an event may have maxEventBytes, and not one more") {
  World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'000;
  Client client(std::move(options));
  std::string text(400, 'x');
  std::size_t bytes = 0;
  for (;; text += 'x') {
    const std::size_t before = client.stats().queuedBytes;
    if (client.track("grows", {{"text", text}}) != Outcome::ok) break;
    bytes = client.stats().queuedBytes - before;
    REQUIRE(text.size() < 1'000);
  }
  CHECK(bytes == 1'000);
  const Stats before = client.stats();
  CHECK(client.track("grows", {{"text", text}}) == Outcome::tooLarge);
  CHECK(client.page("grows", {{"text", text}}) == Outcome::tooLarge);
  CHECK(client.trackError("grows", std::string(1'000, 'x')) == Outcome::tooLarge);
  CHECK(client.setProps({{"text", std::string(1'000, 'x')}}) == Outcome::tooLarge);
  CHECK(client.stats().acceptedEvents == before.acceptedEvents);
  CHECK(client.stats().queuedEvents == before.queuedEvents);
  world.pass(client, 250);
  CHECK(world.told("too-large") == 5);
}

TEST_CASE("the stack of an error is cut to fit, between characters") {
  World world;
  Client client(world.options());
  const std::string unit = GENERATE(std::string("x"), std::string("\xC3\xA9"), std::string("\n"),
                                    std::string("\xF0\x9F\x98\x80"));
  std::string stack;
  while (stack.size() < 100'000) stack += unit;
  const std::size_t before = client.stats().queuedBytes;
  REQUIRE(client.trackError("crash", "message", stack) == Outcome::ok);
  const std::size_t bytes = client.stats().queuedBytes - before;
  CHECK(bytes <= 16 << 10);
  CHECK(bytes > (16 << 10) - 8);
  const Json payload = lastDelivered(world, client).at("payload");
  CHECK(payload.at("message") == "message");
  const std::string kept = payload.at("stack");
  CHECK(kept.size() % unit.size() == 0);
  CHECK(kept == stack.substr(0, kept.size()));
}

TEST_CASE("what JSON cannot say, and all but the last of a name, is left out of an event") {
  World world;
  Client client(world.options());
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(client.track("left out", {{"nan", std::nan("")},
                                  {"infinity", infinity},
                                  {"minus", -infinity},
                                  {"float", std::numeric_limits<float>::infinity()},
                                  {"null", nothing},
                                  {"twice", 1},
                                  {"good", true},
                                  {"twice", "2"}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"good", true}, {"twice", "2"}});
  world.pass(client, 250);
  CHECK(world.told("invalid-value") == 5);
  CHECK(client.page("all of it", {{"nan", std::nan("")}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).value("payload", Json::object()) == Json::object());
  CHECK(client.setProps({{"plan", "free"}, {"nan", std::nan("")}, {"plan", "pro"}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"plan", "pro"}});
  world.pass(client, minuteMs);
  CHECK(world.told("invalid-value") == 7);
}

TEST_CASE("a null const char* is empty text") {
  World world;
  Client client(world.options());
  CHECK(client.track(nothing) == Outcome::invalidName);
  CHECK(client.page(nothing) == Outcome::invalidName);
  CHECK(client.trackError(nothing, "message") == Outcome::invalidName);
  CHECK(client.trackError("error", nothing, nothing) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"message", ""}});
  CHECK(client.track("named nothing", {{nothing, 1}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"", 1}});
  CHECK(client.track("no properties", Properties(nullptr, 5)) == Outcome::ok);
  CHECK_FALSE(lastDelivered(world, client).contains("payload"));
  CHECK(client.setUserId("someone") == Outcome::ok);
  CHECK(client.setUserId(nothing) == Outcome::ok);
  CHECK_FALSE(lastDelivered(world, client).contains("userId"));
  client.receive(nothing);
}

TEST_CASE("every text arrives: escaped as it is, or with U+FFFD for what is not UTF-8") {
  struct Row {
    std::string given, arrives;
  };
  constexpr char controls[] = "\0\x01\b\t\n\f\r\x1F \"quoted\" 'it' \\ / \x7F </script>";
  const std::string special(controls, sizeof controls - 1);
  const std::string foreign =
      "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80\xE2\x80\xA8\xEF\xBF\xBF\xEF\xBB\xBF";
  const Row row = GENERATE_COPY(
      Row{special, special}, Row{foreign, foreign}, Row{"a\x80z", "a\uFFFDz"},
      Row{"a\xC3(", "a\uFFFD("}, Row{"a\xE2\x82z", "a\uFFFDz"}, Row{"a\xF0\x9F\x98", "a\uFFFD"},
      Row{"\xC0\xAFz", "\uFFFD\uFFFDz"}, Row{"\xED\xA0\x80z", "\uFFFD\uFFFD\uFFFDz"},
      Row{"\xF4\x90\x80\x80z", "\uFFFD\uFFFD\uFFFD\uFFFDz"}, Row{"\xFFz", "\uFFFDz"});
  const std::string &given = row.given, &arrives = row.arrives;
  INFO(arrives);
  World world;
  nucleus::Options options = world.options();
  options.version = options.locale = options.platform = options.osVersion = given;
  options.deviceId = given;
  Client client(std::move(options));
  const Json init = lastDelivered(world, client);
  for (const char* const field : {"version", "locale", "platform", "osVersion", "deviceId"}) {
    CHECK(init.at(field) == arrives);
  }
  REQUIRE(client.track(given, {{given, given}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("name") == arrives);
  CHECK(lastDelivered(world, client).at("payload") == Json{{arrives, arrives}});
  REQUIRE(client.trackError(given, given, given) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") ==
        Json{{"message", arrives}, {"stack", arrives}});
  REQUIRE(client.identify(given, {{given, given}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("userId") == arrives);
  CHECK(lastDelivered(world, client).at("payload") == Json{{arrives, arrives}});

  client = Client(world.options());  // and from the file
  CHECK(lastDelivered(world, client).at("userId") == arrives);
  CHECK(lastDelivered(world, client).at("payload") == Json{{arrives, arrives}});
}

TEST_CASE("an appId is 1 to 64 of A-Z a-z 0-9 _ -, or the client is inert and says so once") {
  const auto [appId, valid] = GENERATE(table<std::string, bool>({{"", false},
                                                                 {" ", false},
                                                                 {"my app", false},
                                                                 {"my/app", false},
                                                                 {"../app", false},
                                                                 {"my.app", false},
                                                                 {"\xC3\xA9", false},
                                                                 {std::string("app\0", 4), false},
                                                                 {std::string(65, 'a'), false},
                                                                 {std::string(64, 'a'), true},
                                                                 {"-", true},
                                                                 {"A-z_09", true}}));
  INFO(appId);
  World world;
  nucleus::Options options = world.options();
  options.appId = appId;
  Client client(std::move(options));
  CHECK(allAre(callAll(client), valid ? Outcome::ok : Outcome::notConfigured));
  CHECK(client.trackingEnabled() == valid);
  world.pass(client, 10 * minuteMs, 1'000);
  CHECK(world.server->bodies.empty() == !valid);
  if (valid) return;
  client.enableTracking();
  CHECK_FALSE(client.trackingEnabled());
  CHECK_FALSE(client.flush(1'000));
  CHECK_FALSE(client.persist());
  CHECK(client.disableTracking());
  CHECK(client.forget());
  CHECK(client.shutdown(0));
  CHECK(world.disk->calls() == 0);
  CHECK(world.told("not-configured") == 1);
  CHECK(world.diagnostics.size() == 1);
}

TEST_CASE("an answer that cannot be understood acknowledges nothing and stops nothing", "[large]") {
  const auto number = GENERATE(range(0, 18));
  World world;
  world.server->then = [&](const Request& request) {
    const std::string id = std::to_string(Server::ids(request.body())[0]);
    const std::string good = Server::naming(Server::ids(request.body()));
    const std::size_t large = number == 15 || number == 16 ? 10 << 20 : 1;
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    const std::string answers[] = {"",
                                   "null",
                                   "[]",
                                   "{}",
                                   "<!DOCTYPE html><html><body>Log in</body></html>",
                                   "{\"reportedIds\":" + id + "}",
                                   "{\"reportedIds\":{\"0\":" + id + "}}",
                                   "{\"reportedIds\":[[" + id + "]," + id + ".0," + id + "e0,-" +
                                       id + ",null,true,{},1e999,99999999999999999999999999]}",
                                   "{\"reportedIds\":[\"0x1\",\" " + id + "\",\"" + id + " \"]}",
                                   "{\"data\":" + good + "}",
                                   good.substr(0, good.size() - 1),
                                   good + "}",
                                   "{\"reportedIds\":[" + id + ",]}",
                                   "{\"x\":" + deep + "," + good.substr(1),
                                   std::string(100'000, '['),
                                   good + std::string(large, ' '),
                                   "{\"x\":" + std::string(large, '9') + "," + good.substr(1),
                                   "{\"confirmation\":\"true\"}"};
    return Server::with(200, answers[number]);
  };
  CAPTURE(number);
  Client client(world.options());
  world.pass(client, 30'000);
  const Stats stats = client.stats();
  CHECK(stats.queuedEvents == 1);
  CHECK(stats.acknowledgedEvents == 0);
  CHECK(stats.requests >= 2);
  CHECK(stats.failedRequests == stats.requests);
  CHECK(stats.lastStatus == 200);
  CHECK(world.told("no-progress") >= 1);
  world.server->then = {};
  world.pass(client, 20 * minuteMs, 1'000);
  CHECK(client.stats().queuedEvents == 0);
}

TEST_CASE("an answer of 10 MB costs no memory of its size", "[large]") {
  constexpr std::size_t size = 10 << 20;
  std::string ids = "{\"reportedIds\":[1";
  while (ids.size() < size) ids += ",4294967296";
  for (std::string body : {std::string(size, 'x'), "{\"reportedIds\":[]}" + std::string(size, ' '),
                           "{\"customData\":\"" + std::string(size, 'x') + "\"}",
                           "{\"anonId\":\"" + std::string(size, 'x') + "\"}", ids + "]}"}) {
    INFO(body.substr(0, 40));
    World world;
    std::vector<Request> held;
    nucleus::Options options = world.options();
    options.transport = holding(held);
    options.onCustomData = [](std::string_view) {};
    Client client(std::move(options));
    world.pass(client, 2'000);
    REQUIRE(held.size() == 1);
    Response response = Server::with(200);
    response.body = std::move(body);
    allocatedBytes = 0;
    counting = true;
    held[0].reply(std::move(response));
    counting = false;
    CHECK(client.stats().failedRequests == 1);
    CHECK(allocatedBytes < 64 << 10);
  }
}

TEST_CASE("what an answer adds is checked, and ignored where it is not right") {
  struct Row {
    const char* field;
    Json value;
    bool taken;
  };
  const Row row = GENERATE(
      Row{"anonId", "Az09_-", true}, Row{"anonId", std::string(64, 'a'), true},
      Row{"anonId", std::string(65, 'a'), false}, Row{"anonId", "", false},
      Row{"anonId", "a b", false}, Row{"anonId", "a\"b", false}, Row{"anonId", "\u00e9", false},
      Row{"anonId", std::string("ab\0", 3), false}, Row{"anonId", 123456, false},
      Row{"anonId", nullptr, false}, Row{"anonId", Json{"abc"}, false},
      Row{"latestVersion", "9.9", true}, Row{"latestVersion", "9.9; rm -rf", false},
      Row{"latestVersion", "newest", false}, Row{"latestVersion", 9.9, false},
      Row{"latestVersion", "9." + std::string(70, '9'), false},
      Row{"customData", Json{{"a", {1, "b", nullptr}}}, true},
      Row{"customData", std::string(65'534, 'x'), true},
      Row{"customData", std::string(65'535, 'x'), false});
  CAPTURE(row.field, row.value.dump().substr(0, 80));
  World world;
  std::vector<std::string> told;
  nucleus::Options options = world.options();
  options.onUpdate = [&](std::string_view version) { told.emplace_back(version); };
  options.onCustomData = [&](std::string_view json) { told.emplace_back(json); };
  world.server->then = [&](const Request& request) {
    return Server::with(
        200, Json{{"reportedIds", Server::ids(request.body())}, {row.field, row.value}}.dump());
  };
  Client client(std::move(options));
  const Json before = lastDelivered(world, client).at("anonId");
  world.pass(client, 250);
  client.track("after");
  const Json after = lastDelivered(world, client).at("anonId");
  CHECK(client.stats().queuedEvents == 0);
  if (row.field == std::string("anonId")) {
    CHECK(after == (row.taken ? row.value : before));
    CHECK(told.empty());
  } else {
    CHECK(after == before);
    REQUIRE(told.empty() == !row.taken);
    if (!row.taken) return;
    const bool isVersion = row.field == std::string("latestVersion");
    CHECK(told.front() == (isVersion ? row.value.get<std::string>() : row.value.dump()));
  }
}

TEST_CASE("a plain endpoint that is not this machine is told of, once") {
  const auto [endpoint, tells] =
      GENERATE(table<const char*, bool>({{"http://example.com", true},
                                         {"ws://example.com", true},
                                         {"HTTP://example.com", true},
                                         {"http://192.168.0.1:80", true},
                                         {"http://localhost.example.com", true},
                                         {"http://127.0.0.1.example.com", true},
                                         {"https://example.com", false},
                                         {"wss://example.com", false},
                                         {"http://localhost", false},
                                         {"http://localhost:8080/path", false},
                                         {"http://127.0.0.1:8080", false},
                                         {"ws://[::1]:8080", false},
                                         {"ws://localhost:8080", false}}));
  CAPTURE(endpoint);
  World world;
  nucleus::Options options = world.options();
  options.endpoint = endpoint;
  Client client(std::move(options));
  world.pass(client, 10 * minuteMs, 1'000);
  CHECK(world.told("plain-endpoint") == (tells ? 1u : 0u));
}

// ---- diagnostics ----

TEST_CASE("a diagnostic is told at most once a minute for each code, with its count") {
  World world;
  Client client(world.options());
  for (int i = 0; i < 5; ++i) client.track("");
  CHECK(world.diagnostics.empty());
  client.poll();
  for (int i = 0; i < 3; ++i) client.track(""), world.pass(client, 1'000);
  client.track("null", {{"null", nothing}});
  world.pass(client, 55'000);
  using Told = std::vector<std::pair<std::string, std::uint64_t>>;
  CHECK(world.diagnostics == Told{{"invalid-name", 5}, {"invalid-value", 1}});
  world.pass(client, 10'000);
  CHECK(world.diagnostics == Told{{"invalid-name", 5}, {"invalid-value", 1}, {"invalid-name", 3}});
  world.pass(client, hourMs, 1'000);
  CHECK(world.diagnostics.size() == 3);
}

TEST_CASE("a diagnostic has a code, a severity, and names the option to turn") {
  using nucleus::Severity;
  struct Row {
    const char *code, *option;
    Severity severity;
    std::function<void(nucleus::Options&, World&)> before;
    std::function<void(Client&, World&)> after;
  };
  const auto nothingBefore = [](nucleus::Options&, World&) {};
  const auto nothingAfter = [](Client&, World&) {};
  const Row rows[] = {{"queue-full", "maxQueueBytes", Severity::warning,
                       [](nucleus::Options& o, World&) {
                         o.maxEventBytes = 512, o.maxQueueBytes = 1'024;
                       },
                       [](Client& c, World&) {
                         for (int i = 0; i < 9; ++i) c.track("fills");
                       }},
                      {"too-old", "cutoffMs", Severity::warning,
                       [](nucleus::Options& o, World& w) {
                         o.cutoffMs = 5'000;
                         w.server->then = Server::always(500);
                       },
                       nothingAfter},
                      {"too-large", "maxEventBytes", Severity::warning, nothingBefore,
                       [](Client& c, World&) {
                         c.track("large", {{"a", std::string(20'000, 'x')}});
                       }},
                      {"invalid-name", "", Severity::warning, nothingBefore,
                       [](Client& c, World&) { c.track("init"); }},
                      {"invalid-value", "", Severity::warning, nothingBefore,
                       [](Client& c, World&) {
                         c.track("a", {{"a", nothing}});
                       }},
                      {"no-progress", "endpoint", Severity::warning,
                       [](nucleus::Options&, World& w) {
                         w.server->then = Server::always(200, "<html>");
                       },
                       nothingAfter},
                      {"request-failed", "", Severity::info,
                       [](nucleus::Options&, World& w) { w.server->then = Server::always(500); },
                       nothingAfter},
                      {"plain-endpoint", "endpoint", Severity::warning,
                       [](nucleus::Options& o, World&) { o.endpoint = "http://example.com"; },
                       nothingAfter},
                      {"option-clamped", "answerTimeoutMs", Severity::warning,
                       [](nucleus::Options& o, World&) { o.answerTimeoutMs = 0; }, nothingAfter},
                      {"not-configured", "appId", Severity::failure,
                       [](nucleus::Options& o, World&) { o.appId = "an app"; }, nothingAfter},
                      {"no-entropy", "entropy", Severity::failure,
                       [](nucleus::Options& o, World&) {
                         o.entropy = [](void*, std::size_t) { return false; };
                       },
                       nothingAfter},
                      {"storage-locked", "cacheFile", Severity::info,
                       [](nucleus::Options&, World& w) { w.disk->exists = w.disk->locked = true; },
                       nothingAfter},
                      {"storage-foreign", "cacheFile", Severity::failure,
                       [](nucleus::Options&, World& w) { w.disk->foreign = true; }, nothingAfter},
                      {"storage-failed", "cacheFile", Severity::failure,
                       [](nucleus::Options&, World& w) { w.disk->readOnly = true; }, nothingAfter},
                      {"storage-vanished", "cacheFile", Severity::warning, nothingBefore,
                       [](Client& c, World& w) {
                         w.pass(c, 5'000), w.disk->gone = true, c.persist();
                       }},
                      {"damaged", "cacheFile", Severity::warning,
                       [](nucleus::Options&, World& w) {
                         {
                           w.server->then = Server::always(500);
                           Client client(w.options());
                         }
                         w.disk->file[w.disk->file.size() - 20] ^= 1;
                       },
                       nothingAfter},
                      {"erase-failed", "cacheFile", Severity::failure, nothingBefore,
                       [](Client& c, World& w) {
                         c.persist();
                         w.disk->readOnly = true;
                         c.disableTracking();
                       }},
                      {"choice-unreadable", "enableTracking()", Severity::warning,
                       [](nucleus::Options& o, World& w) {
                         o.rememberTrackingChoice = true;
                         w.disk->exists = true;
                         w.disk->file = "nucleus-cache 1 test-app gr";
                       },
                       nothingAfter},
                      {"do-not-track", "respectDoNotTrack", Severity::info,
                       [](nucleus::Options&, World&) { fakes::setVariable("DO_NOT_TRACK", "1"); },
                       [](Client&, World&) { fakes::setVariable("DO_NOT_TRACK", "0"); }},
                      {"no-memory", "memory", Severity::failure,
                       [](nucleus::Options& o, World&) { o.memory.data = &o, o.memory.bytes = 1; },
                       nothingAfter},
                      {"refused", "server", Severity::warning,
                       [](nucleus::Options&, World& w) {
                         w.server->then = [](const Request& request) {
                           const bool bad = contains(request.body(), "\"bad\"");
                           return bad ? Server::with(400) : Server::acknowledge(request);
                         };
                       },
                       [](Client& c, World& w) {
                         c.track("bad"), w.pass(c, minuteMs), c.track("good"), w.pass(c, minuteMs);
                       }},
                      {"callback-threw", "transport", Severity::failure,
                       [](nucleus::Options& o, World&) {
                         o.transport = [](const Request&) -> Response {
                           throwIfPossible("secret");
                           return {};
                         };
                       },
                       nothingAfter}};
  for (const Row& row : rows) {
    INFO(row.code);
    if (!NUCLEUS_TESTS_EXCEPTIONS && row.code == std::string("callback-threw")) continue;
    if (!NUCLEUS_TESTS_SYSTEM && row.code == std::string("do-not-track")) continue;
    World world;
    nucleus::Options options = world.options();
    row.before(options, world);
    bool told = false, severe = false, named = false;
    options.onDiagnostic = [&](const nucleus::Diagnostic& diagnostic) {
      if (diagnostic.code != row.code) return;
      told = diagnostic.count > 0;
      severe = diagnostic.severity == row.severity;
      named = contains(diagnostic.message, row.option);
    };
    Client client(std::move(options));
    row.after(client, world);
    world.pass(client, 10'000);
    CHECK(told);
    CHECK(severe);
    CHECK(named);
  }
}

TEST_CASE("a diagnostic is fixed words, numbers, option names and names cut and escaped") {
  World world;
  nucleus::Options options = world.options();
  const std::string userId = "user-secret", value = "value-secret";
  options.deviceId = "device-secret";
  options.endpoint = "http://endpoint-secret.test";
  options.maxEventBytes = 1'024;
  options.onCustomData = [](std::string_view) { throwIfPossible("exception-secret"); };
  world.server->then = Server::always(
      200, "{\"customData\":\"server-secret\",\"anonId\":\"anon-secret\",\"reportedIds\":[7]}",
      "retry-secret");
  Client client(std::move(options));
  const std::string name = "\x01\x1B[31m\"\n\xFF" + std::string(300, 'n');
  client.identify(userId, {{"plan", value}});
  client.track("short\n\x1B", {{"null", nothing}});
  client.track(name, {{"a", value}});
  client.track(name.substr(0, 200), {{"a", value}, {"null", nothing}});
  client.track(name.substr(0, 200), {{"a", value + std::string(2'000, 'x')}});
  client.trackError(name.substr(0, 200), value + std::string(2'000, 'x'));
  client.setUserId(userId + std::string(2'000, 'x'));
  client.setProps({{"plan", value + std::string(2'000, 'x')}});
  client.setProps({{"version", value + std::string(2'000, 'x')}});
  world.disk->full = true;
  world.pass(client, 3 * minuteMs);
  client.disableTracking();
  world.pass(client, 3 * minuteMs);
  CHECK(world.messages.size() >= 7);
  for (const std::string& message : world.messages) {
    INFO(message);
    CHECK_FALSE(contains(message, "secret"));
    CHECK(message.size() <= 200);
    CHECK(std::all_of(message.begin(), message.end(),
                      [](char c) { return c < 0 || (c >= ' ' && c != '\x7F'); }));
#if NUCLEUS_TESTS_EXCEPTIONS
    CHECK_NOTHROW(Json(message).dump());  // valid UTF-8
#endif
  }
}

#if NUCLEUS_TESTS_PROCESSES || defined(__MINGW32__)
TEST_CASE("with Options::debug diagnostics go to stderr, otherwise nothing does") {
  const bool debug = GENERATE(false, true);
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int before = dup(2);
  dup2(fileno(file), 2);
  {
    World world;
    nucleus::Options options = world.options();
    options.debug = debug;
    options.onDiagnostic = nullptr;
    Client client(std::move(options));
    client.track("init");
    world.pass(client, 1'000);
  }
  std::fflush(stderr);
  dup2(before, 2);
  close(before);
  std::rewind(file);
  char text[400];
  const std::string said(text, std::fread(text, 1, sizeof text, file));
  std::fclose(file);
  CHECK(said.empty() == !debug);
  if (debug) CHECK(contains(said, "invalid-name"));
}
#endif

// ---- options ----

TEST_CASE("options out of range are clamped, and the diagnostic names them") {
  using nucleus::Options;
  using nucleus::detail::Limits;
  struct Row {
    const char* name;
    std::function<void(Options&, std::int64_t)> set;
    std::function<std::int64_t(const Limits&)> get;
    std::int64_t lowest, highest;
  };
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  const auto number = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const Row rows[] = {
      {"reportIntervalMs", [](Options& o, std::int64_t v) { o.reportIntervalMs = v; },
       [](const Limits& l) { return l.reportIntervalMs; }, 100, dayMs},
      {"sessionTimeoutMs", [](Options& o, std::int64_t v) { o.sessionTimeoutMs = v; },
       [](const Limits& l) { return l.sessionTimeoutMs; }, 1'000, 365 * dayMs},
      {"cutoffMs", [](Options& o, std::int64_t v) { o.cutoffMs = v; },
       [](const Limits& l) { return l.cutoffMs; }, 1'000, 365 * dayMs},
      {"answerTimeoutMs", [](Options& o, std::int64_t v) { o.answerTimeoutMs = v; },
       [](const Limits& l) { return l.answerTimeoutMs; }, 100, dayMs},
      {"cacheDelayMs", [](Options& o, std::int64_t v) { o.cacheDelayMs = v; },
       [](const Limits& l) { return l.cacheDelayMs; }, 0, hourMs},
      {"maxEventBytes",
       [&](Options& o, std::int64_t v) {
         o.maxEventBytes = size(v);
         o.maxQueueBytes = 1 << 29;
         o.maxBatchBytes = 32 << 20;
       },
       [&](const Limits& l) { return number(l.maxEventBytes); }, 512, 8 << 20},
      {"maxQueueBytes", [&](Options& o, std::int64_t v) { o.maxQueueBytes = size(v); },
       [&](const Limits& l) { return number(l.maxQueueBytes); }, 32 << 10, 1 << 30},
      {"maxBatchBytes", [&](Options& o, std::int64_t v) { o.maxBatchBytes = size(v); },
       [&](const Limits& l) { return number(l.maxBatchBytes); }, (16 << 10) + 16, 64 << 20}};
  for (const Row& row : rows) {
    for (const std::int64_t given :
         {std::int64_t{0}, row.lowest - 1, row.lowest, row.highest, row.highest + 1, forever}) {
      if (given < 0) continue;
      CAPTURE(row.name, given);
      nucleus::detail::Notices notices;
      Options options;
      row.set(options, given);
      const Limits limits = nucleus::detail::Checked(options, notices).limits;
      CHECK(row.get(limits) == std::clamp(given, row.lowest, row.highest));
      std::size_t index = 0;
      std::uint64_t count = 0;
      nucleus::detail::Fixed<256> message;
      const bool told = notices.take(0, index, count, message);
      CHECK(told == (row.get(limits) != given));
      if (told) CHECK(contains(message.view(), row.name));
    }
  }
}

TEST_CASE("every option that was clamped is named") {
  World world;
  nucleus::Options options = world.options();
  options.reportIntervalMs = -1;
  options.maxQueueBytes = 1;
  Client client(std::move(options));
  CHECK(client.track("works") == Outcome::ok);
  world.pass(client, 10 * minuteMs);
  std::string all;
  for (const std::string& message : world.messages) all += message;
  CHECK(world.told("option-clamped") == 2);
  CHECK(contains(all, "reportIntervalMs"));
  CHECK(contains(all, "maxQueueBytes"));
}

TEST_CASE("Options is copyable, and one is good for many clients") {
  World world;
  const nucleus::Options options = world.options();
  Client first(options), second(options);
  CHECK(first.track("one") == Outcome::ok);
  CHECK(second.track("two") == Outcome::ok);
}

// ---- Options::memory ----

namespace {

/// One page of flash. Allocates nothing.
class Page : public nucleus::Storage {
 public:
  StorageState open() override { return size_ == 0 ? StorageState::absent : StorageState::ready; }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    return at < size_ ? std::string_view(bytes_, size_).copy(to, bytes, at) : 0;
  }
  bool append(std::string_view text) override { return add(bytes_, size_, text); }
  bool beginReplace() override { return twinSize_ = 0, true; }
  bool write(std::string_view text) override { return add(twin_, twinSize_, text); }
  bool commitReplace() override {
    std::copy(twin_, twin_ + twinSize_, bytes_);
    size_ = twinSize_;
    return true;
  }
  bool sync() override { return true; }
  bool erase() override { return size_ = 0, true; }
  bool vanished() override { return false; }
  void close() override {}
  std::string_view content() const { return {bytes_, size_}; }

 private:
  static constexpr std::size_t capacity = 256 << 10;
  static bool add(char* to, std::size_t& size, std::string_view text) {
    if (text.size() > capacity - size) return false;
    std::copy(text.begin(), text.end(), to + size);
    size += text.size();
    return true;
  }
  char bytes_[capacity], twin_[capacity];
  std::size_t size_ = 0, twinSize_ = 0;
};

}  // namespace

TEST_CASE("with Options::memory nothing is allocated after the constructor") {
  World world;
  std::vector<char> memory(64 << 10);
  const auto page = std::make_shared<Page>();
  nucleus::Options options = world.options();
  options.memory.data = memory.data();
  options.memory.bytes = memory.size();
  options.storage = page;
  options.onDiagnostic = [](const nucleus::Diagnostic&) {};
  options.onCustomData = [](std::string_view) {};
  options.onUpdate = [](std::string_view) {};
  options.filter = [](Text, Text name, Properties) { return name.view() != "unwanted"; };
  std::mt19937 random(1);
  std::optional<Request> held;
  std::size_t answered = 0;
  options.transport = [&](const Request& request) {
    const Uncounted hosts;
    held.reset();
    switch (++answered % 8) {
      case 1: return Server::with(500);
      case 2: return Server::with(200, "{}");
      case 3: return Server::with(413);
      case 4: held = request; return Response::pending();
      case 5:
        return Server::with(200, Json{{"reportedIds", Server::ids(request.body())},
                                      {"anonId", "from-the-server"},
                                      {"latestVersion", "2.0"},
                                      {"customData", {1, 2, 3}}}
                                     .dump());
      default: return Server::acknowledge(request);
    }
  };
  Client client(std::move(options));
  const std::string text(300, 'x');
  const std::string largest(20'000, 'x');
  const std::size_t calls = fakes::rounds(10'000, 2'500);
  allocations = 0;
  counting = true;
  for (unsigned i = 0; i < calls; ++i) {
    client.track("happened", {{"number", i}, {"text", text}, {"ratio", 0.1 * i}});
    if (i % 7 == 0) client.page("page", {{"nan", std::nan("")}});
    if (i % 11 == 0) client.trackError("error", "message", largest);
    if (i % 13 == 0) client.track("large", {{"text", largest}});
    if (i % 17 == 0) client.track("unwanted"), client.track("");
    if (i % 101 == 0) client.identify("someone", {{"plan", "pro"}, {"number", i}});
    if (i % 211 == 0) client.startSession();
    if (i % 997 == 0) client.disableTracking(), client.enableTracking();
    if (i % 1'999 == 0) client.forget(), client.enableTracking();
    if (i % 401 == 0) client.persist(), client.flush(100);
    world.pass(client, static_cast<std::int64_t>(random() % 2'000));
    if (held.has_value() && i % 3 == 0) held->reply(Response()), held.reset();
  }
  held.reset();
  const Stats stats = client.stats();
  const bool safe = client.shutdown(1'000);
  counting = false;
  CHECK(safe);
  CHECK(allocations == 0);
  CHECK(answered > calls / 20);
  CHECK(stats.acknowledgedEvents > calls / 10);
  CHECK(balanced(stats));
  CHECK(contains(page->content(), "nucleus-cache"));
}

TEST_CASE("a call allocates nothing once warm") {
  World world;
  Client client(world.options());
  const std::string text(100, 'x');
  bool accepted = true;
  const auto call = [&](int i) {
    const Outcome outcomes[] = {
        client.track("happened", {{"number", i}, {"text", text}, {"ratio", 0.1 * i}}),
        client.page("page"), client.setProps({{"plan", "pro"}, {"number", i}})};
    for (const Outcome outcome : outcomes) accepted = accepted && outcome == Outcome::ok;
  };
  for (int i = 0; i < 200; ++i) call(i);
  allocations = 0;
  counting = true;
  for (int i = 0; i < 1'000; ++i) call(i);
  counting = false;
  CHECK(accepted);
  CHECK(allocations == 0);
}

TEST_CASE("limits are lowered to fit the memory given, or there is nothing but a diagnostic") {
  const std::size_t bytes = GENERATE(0u, 100u, 3'000u, 5'000u, 6'000u, 8'000u, 9'001u, 20'000u,
                                     100'000u, 300'000u, 1u << 20, 1'400'000u, 4u << 20);
  const std::size_t shift = GENERATE(0u, 1u, 7u);
  CAPTURE(bytes, shift);
  World world;
  std::vector<char> memory(bytes + shift);
  char none = 0;
  nucleus::Options options = world.options();
  options.memory.data = bytes == 0 ? &none : memory.data() + shift;
  options.memory.bytes = bytes;
  Client client(std::move(options));
  const bool works = client.track("works") == Outcome::ok;
  CHECK((works || bytes < 8'000));
  CHECK((!works || bytes > 3'000));
  if (works) {
    for (std::size_t i = 0; i < fakes::rounds(2'000, 300); ++i) {
      client.track("fills", {{"text", "some text that takes room"}});
    }
    CHECK(delivered(world, client).size() > 2);
    CHECK(client.stats().queuedEvents == 0);
    CHECK(balanced(client.stats()));
    world.pass(client, 250);
    CHECK((world.told("option-clamped") > 0) == (bytes < 1'400'000));
  } else {
    CHECK(allAre(callAll(client), Outcome::notConfigured));
    world.pass(client, 10 * minuteMs, 1'000);
    CHECK(world.told("no-memory") == 1);
    CHECK(world.disk->calls() == 0);
    CHECK(world.server->bodies.empty());
  }
}

// ---- the books ----

TEST_CASE("the books balance at every step of a long run with every fault there is") {
  const unsigned seed = GENERATE(1u, 2u, 3u, 4u);
  CAPTURE(seed);
  World world;
  std::mt19937 random(seed);
  const auto oneOf = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  std::vector<Request> held;
  world.server->then = [&](const Request& request) {
    std::vector<std::uint64_t> ids = Server::ids(request.body());
    switch (oneOf(12)) {
      case 0: return Server::with(500);
      case 1: return Server::with(413);
      case 2: return Server::with(400);
      case 3: return Server::with(429, "", "30");
      case 4: return Server::with(200, "<html>");
      case 5: throwIfPossible("no network"); return Response();
      case 6: held.push_back(request); return Response::pending();
      case 7: ids.resize(ids.size() / 2); return Server::with(200, Server::naming(ids));
      case 8: return Server::with(200, "{\"confirmation\":true}");
      default: return Server::with(200, Server::naming(ids));
    }
  };
  const auto start = [&] {
    nucleus::Options options = world.options();
    options.maxEventBytes = 1'024;
    options.maxQueueBytes = 8'192;
    options.maxBatchBytes = 2'048;
    options.cutoffMs = hourMs;
    options.rememberTrackingChoice = seed % 2 == 0;
    options.cacheDelayMs = seed == 3 ? 0 : 1'000;
    return options;
  };
  fakes::Disk& disk = *world.disk;
  bool fakes::Disk::*const faults[] = {&fakes::Disk::locked,      &fakes::Disk::full,
                                       &fakes::Disk::tears,       &fakes::Disk::readOnly,
                                       &fakes::Disk::syncFails,   &fakes::Disk::eraseFails,
                                       &fakes::Disk::renameFails, &fakes::Disk::gone};
  std::optional<Client> client(start());
  Stats before = client->stats();
  for (std::size_t step = 0; step < fakes::rounds(4'000, 500); ++step) {
    const std::string text(oneOf(600), 'x');
    const unsigned what = oneOf(40);
    switch (what) {
      case 0: client->startSession(); break;
      case 1: client->setUserId(text.substr(0, 40)); break;
      case 2: client->setProps({{"text", text}}, oneOf(2) == 0); break;
      case 3: client->trackError("failed", text, text); break;
      case 4: client->flush(oneOf(2) * 1'000); break;
      case 5: client->persist(); break;
      case 6: client->online(oneOf(2) == 0); break;
      case 7: client->receive(Server::naming({oneOf(100), 1u << 31})); break;
      case 8: world.clock->wall += oneOf(2) == 0 ? -dayMs : dayMs; break;
      case 9: world.pass(*client, 10 * minuteMs, minuteMs); break;
      case 10: disk.*faults[oneOf(8)] = true; break;
      case 11:
        for (const auto fault : faults) disk.*fault = false;
        break;
      case 12:
        if (oneOf(4) == 0) client->disableTracking();
        break;
      case 13:
        if (oneOf(8) == 0) client->forget();
        break;
      case 14:
      case 15: client->enableTracking(); break;
      case 16:
        if (!disk.file.empty()) disk.file[oneOf(static_cast<unsigned>(disk.file.size()))] ^= 4;
        break;
      case 17:
        client.emplace(start());
        before = client->stats();
        break;
      case 18:
        if (!held.empty()) held[oneOf(static_cast<unsigned>(held.size()))].reply(Response());
        break;
      case 19:
        if (held.empty()) break;
        held.back().reply(Server::acknowledge(held.back()));
        if (oneOf(2) == 0) held.pop_back();
        break;
      default:
        if (what < 28) world.pass(*client, 2'000);
        else client->track("happened", {{"text", text}});
    }
    const Stats after = client->stats();
    const bool grows =
        after.acceptedEvents >= before.acceptedEvents &&
        after.acknowledgedEvents >= before.acknowledgedEvents &&
        after.erasedEvents >= before.erasedEvents && after.requests >= before.requests &&
        after.failedRequests >= before.failedRequests && after.requests >= after.failedRequests;
    const bool sound = balanced(after) && (after.queuedEvents == 0) == (after.queuedBytes == 0) &&
                       after.queuedBytes <= 8'192 && after.notCached <= after.queuedEvents &&
                       (after.trackingEnabled || after.queuedEvents == 0);
    CAPTURE(step, what, after.acceptedEvents, after.queuedEvents, after.acknowledgedEvents,
            after.erasedEvents, after.droppedQueueFull, after.droppedTooOld, after.droppedRefused,
            after.droppedDamaged);
    REQUIRE(grows);
    REQUIRE(sound);
    before = after;
  }
  for (const auto fault : faults) disk.*fault = false;
  world.server->then = {};
  client->online();
  client->enableTracking();
  client->track("at last");
  world.pass(*client, 30 * minuteMs, 1'000);
  CHECK(client->stats().queuedEvents == 0);
  CHECK(everSent(world, "at last"));
}

TEST_CASE("a call that is refused as queueFull makes nothing else go") {
  World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1024;
  options.maxQueueBytes = 2048;
  Client client(std::move(options));
  world.server->then = [](const Request&) { return nucleus::Response::pending(); };
  REQUIRE(client.track("SENT", {{"x", std::string(700, 'x')}}) == Outcome::ok);
  world.pass(client, 1'500);
  REQUIRE(client.stats().requests == 1);
  REQUIRE(client.track("WAITS") == Outcome::ok);
  const Stats before = client.stats();
  CHECK(client.track("HUGE", {{"x", std::string(850, 'x')}}) == Outcome::queueFull);
  CHECK(client.stats().queuedEvents == before.queuedEvents);
  CHECK(client.stats().droppedQueueFull == 0);
  CHECK(client.track("SMALL") == Outcome::ok);
}

TEST_CASE("stats() tells of the next request, the last status, the file and the consent") {
  World world;
  nucleus::Options options = world.options();
  options.disableTracking = true;
  Client client(std::move(options));
  Stats stats = client.stats();
  CHECK(stats.nextRequestInMs == -1);
  CHECK(stats.lastStatus == 0);
  CHECK(stats.storage == StorageState::absent);
  CHECK(stats.consent == Consent::notAsked);
  CHECK_FALSE(stats.trackingEnabled);

  client.enableTracking();
  stats = client.stats();
  CHECK(stats.consent == Consent::granted);
  CHECK(client.consent() == Consent::granted);
  CHECK(stats.trackingEnabled);
  CHECK(stats.notCached == 1);
  CHECK(stats.nextRequestInMs >= 500);
  CHECK(stats.nextRequestInMs <= 1'500);

  world.server->then = Server::always(503, "", "100");
  const std::int64_t dueMs = stats.nextRequestInMs;
  world.clock->advance(dueMs - 1);
  client.poll();
  CHECK(client.stats().nextRequestInMs == 1);
  CHECK(client.stats().requests == 0);
  world.clock->advance(1);
  client.poll();
  stats = client.stats();
  CHECK(stats.requests == 1);
  CHECK(stats.lastStatus == 503);
  CHECK(stats.failedRequests == 1);
  CHECK(stats.nextRequestInMs >= 100'000);
  CHECK(stats.nextRequestInMs <= 200'000);
  CHECK(stats.storage == StorageState::ready);
  CHECK(stats.notCached == 0);
  CHECK(stats.queuedBytes > 100);
  world.pass(client, 5'000);
  CHECK(client.stats().cacheBytes == world.disk->file.size());

  CHECK(client.disableTracking());
  stats = client.stats();
  CHECK(stats.consent == Consent::refused);
  CHECK(stats.erasedEvents == 1);
  CHECK(stats.queuedEvents == 0);
  CHECK(stats.queuedBytes == 0);
  CHECK(stats.nextRequestInMs == -1);
}

TEST_CASE("stats() tells what the file is, and counts what it could not keep") {
  struct Row {
    bool fakes::Disk::*fault;
    StorageState state;
  };
  const Row row = GENERATE(Row{&fakes::Disk::locked, StorageState::locked},
                           Row{&fakes::Disk::foreign, StorageState::foreign},
                           Row{&fakes::Disk::readOnly, StorageState::failed});
  World world;
  world.disk->exists = row.state == StorageState::locked;
  (*world.disk).*row.fault = true;
  world.server->then = Server::always(500);
  Client client(world.options());
  client.track("kept in memory");
  world.pass(client, 10'000);
  CHECK(client.stats().storage == row.state);
  CHECK(client.stats().notCached == 2);
  CHECK_FALSE(client.persist());
  (*world.disk).*row.fault = false;
  world.pass(client, 3 * minuteMs);
  CHECK(client.stats().storage == StorageState::ready);
  CHECK(client.stats().notCached == 0);
  CHECK(contains(world.disk->file, "kept in memory"));
}

// ---- consent ----

TEST_CASE("with tracking disabled nothing is collected, drawn, read, written or sent") {
  World world;
  nucleus::Options options = world.options();
  int drawn = 0, asked = 0;
  options.disableTracking = true;
  options.entropy = [&](void*, std::size_t) { return ++drawn, true; };
  options.filter = [&](Text, Text, Properties) { return ++asked, true; };
  Client client(std::move(options));
  CHECK(allAre(callAll(client), Outcome::trackingDisabled));
  CHECK_FALSE(client.trackingEnabled());
  CHECK(client.consent() == Consent::notAsked);
  world.pass(client, hourMs, 1'000);
  client.online();
  client.receive("{\"reportedIds\":[1],\"anonId\":\"abc\"}");
  client.flush(1'000);
  CHECK_FALSE(client.persist());
  CHECK(client.stats().acceptedEvents == 0);
  CHECK(world.disk->calls() == 0);
  const bool refuses = GENERATE(false, true);
  if (refuses) CHECK((client.disableTracking() && client.forget()));
  CHECK(client.shutdown(1'000));
  CHECK((world.disk->calls() == 0) == !refuses);
  CHECK(world.disk->appends + world.disk->replaces == 0);
  CHECK(drawn == 0);
  CHECK(asked == 0);
  CHECK(world.server->bodies.empty());
}

#if NUCLEUS_TESTS_SYSTEM
TEST_CASE("DO_NOT_TRACK disables at the start, if it is respected and nobody was asked") {
  const auto [value, disables] = GENERATE(table<const char*, bool>(
      {{nullptr, false}, {"", true}, {"0", false}, {"false", false}, {"1", true}, {"yes", true}}));
  const fakes::Variable environment("DO_NOT_TRACK", value);
  CAPTURE(disables);
  World world;
  {
    Client client(world.options());
    CHECK(client.trackingEnabled() == !disables);
    CHECK(client.consent() == Consent::notAsked);
    CHECK((world.disk->calls() == 0) == disables);
    client.enableTracking();  // the user is asked, and agrees
    CHECK(client.trackingEnabled());
  }
  nucleus::Options options = world.options();
  options.respectDoNotTrack = false;
  CHECK(Client(std::move(options)).trackingEnabled());
}
#endif

TEST_CASE("the remembered choice decides, else the environment, else disableTracking") {
  struct Row {
    const char* what;
    std::function<void(Client&)> choose;
    Consent remembered;
  };
  const Row rows[] = {
      {"tracked, but not asked", [](Client& c) { c.track("a"); }, Consent::notAsked},
      {"granted", [](Client& c) { c.enableTracking(); }, Consent::granted},
      {"refused", [](Client& c) { c.disableTracking(); }, Consent::refused},
      {"refused and forgotten", [](Client& c) { c.forget(); }, Consent::refused},
      {"refused, then granted", [](Client& c) { c.disableTracking(), c.enableTracking(); },
       Consent::granted},
      {"granted, then refused", [](Client& c) { c.enableTracking(), c.disableTracking(); },
       Consent::refused}};
  const bool before = GENERATE(false, true), disabled = GENERATE(false, true),
             asksNot = NUCLEUS_TESTS_SYSTEM && GENERATE(false, true);
  for (const Row& row : rows) {
    CAPTURE(row.what, before, disabled, asksNot);
    World world;
    const auto remembering = [&](bool disable) {
      nucleus::Options options = world.options();
      options.rememberTrackingChoice = true;
      options.disableTracking = disable;
      return options;
    };
    {
      Client client(remembering(before));
      row.choose(client);
    }
    const fakes::Variable environment("DO_NOT_TRACK", asksNot ? "1" : "0");
    Client client(remembering(disabled));
    CHECK(client.consent() == row.remembered);
    CHECK(client.trackingEnabled() == (row.remembered == Consent::notAsked
                                           ? !disabled && !asksNot
                                           : row.remembered == Consent::granted));
  }
}

TEST_CASE("a choice is remembered at once, and only where that is wanted") {
  const bool remember = GENERATE(false, true);
  World world;
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = remember;
  options.disableTracking = true;
  Client client(std::move(options));
  client.enableTracking();
  CHECK(contains(world.disk->file, " granted ") == remember);
  client.persist();
  CHECK(contains(world.disk->file, " granted ") == remember);
  client.disableTracking();
  CHECK_FALSE(contains(world.disk->file, " granted "));
  CHECK(contains(world.disk->file, " refused ") == remember);
}

TEST_CASE("a file that cannot be understood means refused, and is left as it is") {
  World world;
  const auto remembering = [&] {
    nucleus::Options options = world.options();
    options.rememberTrackingChoice = true;
    return options;
  };
  { Client(remembering()).enableTracking(); }
  const fakes::Disk good = *world.disk;
  CHECK(Client(remembering()).consent() == Consent::granted);
  std::vector<fakes::Disk> bad(good.file.find('\n') + 4, good);
  for (std::size_t i = 0; i < bad.size(); ++i) bad[i].file[i] ^= 1;
  const std::size_t line = good.file.find('\n');
  bad.resize(line + 4);
  bad[line] = bad[line + 1] = bad[line + 2] = bad[line + 3] = good;
  bad[line].file.clear();
  bad[line + 1].file = "a letter to my aunt\n";
  bad[line + 2].file.replace(good.file.find("test-app"), 8, "rest-app");
  bad[line + 3].foreign = true;
  for (const fakes::Disk& disk : bad) {
    INFO(disk.file.substr(0, 60));
    *world.disk = disk;
    world.disk->holder = nullptr;
    Client client(remembering());
    CHECK(client.consent() == Consent::refused);
    CHECK_FALSE(client.trackingEnabled());
    CHECK(client.track("no") == Outcome::trackingDisabled);
    world.pass(client, minuteMs);
    client.shutdown(0);
    CHECK(world.disk->file == disk.file);
    CHECK(world.disk->appends + world.disk->replaces + world.disk->erases ==
          disk.appends + disk.replaces + disk.erases);
  }
}

TEST_CASE("of a longer file only the first line is read while nobody agreed") {
  World world;
  const auto remembering = [&](bool disabled) {
    nucleus::Options options = world.options();
    options.rememberTrackingChoice = true;
    options.disableTracking = disabled;
    options.transport = nullptr;
    return options;
  };
  { Client(remembering(false)).track("unsent"); }
  const std::string file = world.disk->file;
  REQUIRE(file.rfind("nucleus-cache 1 test-app - ", 0) == 0);
  REQUIRE(contains(file, "unsent"));
  world.disk->furthestRead = 0;
  {
    Client client(remembering(true));
    CHECK(client.consent() == Consent::notAsked);
    CHECK_FALSE(client.trackingEnabled());
    world.pass(client, hourMs, minuteMs);
  }
  CHECK(world.disk->furthestRead > 0);
  CHECK(world.disk->furthestRead <= file.find('\n') + 1);
  CHECK(world.disk->file == file);
}

TEST_CASE("a remembered no leaves one line, and nothing but that line is read afterwards") {
  World world;
  const auto remembering = [&] {
    nucleus::Options options = world.options();
    options.rememberTrackingChoice = true;
    options.disableTracking = true;
    return options;
  };
  const bool forgets = GENERATE(false, true);
  {
    Client client(remembering());
    if (forgets) {
      client.enableTracking();
      client.setUserId("someone");
      client.persist();
      CHECK(client.forget());
    } else {
      CHECK(client.disableTracking());
    }
  }
  const std::string& file = world.disk->file;
  CHECK(file.rfind("nucleus-cache 1 test-app refused ", 0) == 0);
  CHECK(std::count(file.begin(), file.end(), '\n') == 1);
  CHECK(file.back() == '\n');

  const fakes::Disk before = *world.disk;
  Client client(remembering());
  CHECK(client.consent() == Consent::refused);
  world.pass(client, hourMs, minuteMs);
  CHECK(client.shutdown(1'000));
  CHECK(world.disk->file == before.file);
  CHECK(world.disk->opens == before.opens + 1);
  CHECK(world.disk->appends == before.appends);
  CHECK(world.disk->replaces == before.replaces);
  CHECK(world.disk->holder == nullptr);
}

// ---- erasure ----

TEST_CASE("disableTracking() erases events, user and properties everywhere; the ids stay") {
  World world;
  Client client(world.options());
  const Json init = lastDelivered(world, client);
  client.identify("secret-user", {{"secret-plan", "secret-gold"}});
  client.track("secret-event", {{"a", "secret-value"}});
  CHECK(client.persist());
  REQUIRE(contains(world.disk->file, "secret-user"));
  const std::size_t sent = world.server->bodies.size();
  const Stats before = client.stats();
  REQUIRE(before.queuedEvents == 3);

  CHECK(client.disableTracking());
  CHECK(client.disableTracking());
  CHECK(client.stats().erasedEvents == 3);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(balanced(client.stats()));
  CHECK_FALSE(contains(world.disk->file, "secret"));
  CHECK(contains(world.disk->file, init.at("deviceId").get<std::string>()));
  CHECK(contains(world.disk->file, init.at("anonId").get<std::string>()));
  CHECK(world.disk->holder == nullptr);
  CHECK(client.track("no") == Outcome::trackingDisabled);
  CHECK(client.setUserId("secret-while-disabled") == Outcome::trackingDisabled);
  CHECK(client.setProps({{"secret-while-disabled", 1}}) == Outcome::trackingDisabled);
  world.pass(client, hourMs, 1'000);
  CHECK(world.server->bodies.size() == sent);

  const bool restarts = GENERATE(false, true);
  if (restarts) client = Client(world.options());
  else client.enableTracking();
  CHECK(client.track("after") == Outcome::ok);
  const std::vector<Json> events = delivered(world, client);
  REQUIRE(events.size() == 3);
  CHECK(events[1].at("type") == "init");
  CHECK(events[1].at("sessionId") != init.at("sessionId"));
  CHECK(events[1].at("deviceId") == init.at("deviceId"));
  CHECK(events[1].at("anonId") == init.at("anonId"));
  CHECK_FALSE(events[1].contains("payload"));
  CHECK_FALSE(events[2].contains("userId"));
  CHECK_FALSE(everSent(world, "secret"));
}

TEST_CASE("the first disableTracking() of a run erases what earlier runs left") {
  World world;
  world.server->then = Server::always(500);
  {
    Client client(world.options());
    client.identify("secret-user", {{"secret-plan", 1}});
    client.track("secret-event");
  }
  REQUIRE(contains(world.disk->file, "secret-event"));
  world.server->bodies.clear();
  nucleus::Options options = world.options();
  options.disableTracking = true;
  const bool forgets = GENERATE(false, true);
  SECTION("though tracking was never enabled in it") {}
  SECTION("though there is no entropy") {
    options.disableTracking = false;
    options.entropy = [](void*, std::size_t) { return false; };
  }
  {
    Client client(std::move(options));
    CHECK_FALSE(client.trackingEnabled());
    CHECK((forgets ? client.forget() : client.disableTracking()));
  }
  CHECK_FALSE(contains(world.disk->file, "secret"));
  CHECK(contains(world.disk->file, "deviceId") == !forgets);
  CHECK(world.disk->exists == !forgets);
  world.server->then = {};
  Client client(world.options());
  CHECK(delivered(world, client).size() == 1);
  CHECK_FALSE(everSent(world, "secret"));
}

TEST_CASE("forget() removes the file and every id; enabling again starts as somebody new") {
  World world;
  const bool remember = GENERATE(false, true);
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = remember;
  Client client(std::move(options));
  client.identify("secret-user", {{"secret-plan", 1}});
  const Json before = lastDelivered(world, client);
  client.track("secret-event");
  client.persist();
  CHECK(client.forget());
  CHECK_FALSE(client.trackingEnabled());
  CHECK(world.disk->exists == remember);
  CHECK(std::count(world.disk->file.begin(), world.disk->file.end(), '\n') == (remember ? 1 : 0));
  CHECK(balanced(client.stats()));

  client.enableTracking();
  const Json after = lastDelivered(world, client);
  for (const char* const id : {"deviceId", "anonId", "sessionId"}) {
    CHECK(after.at(id) != before.at(id));
  }
  const auto idBefore = before.at("id").get<std::int64_t>();
  CHECK(std::llabs(after.at("id").get<std::int64_t>() - idBefore) > 1'000'000);
  CHECK_FALSE(after.contains("userId"));
  CHECK_FALSE(everSent(world, "secret-event"));
  client.persist();
  CHECK(contains(world.disk->file, after.at("deviceId").get<std::string>()));
}

TEST_CASE("an erasure that fails says so, is tried again until done, and brings nothing back") {
  struct Row {
    const char* what;
    bool fakes::Disk::*fault;
    bool forgets, remembers;
  };
  const Row row = GENERATE(Row{"read-only", &fakes::Disk::readOnly, false, false},
                           Row{"full", &fakes::Disk::full, false, false},
                           Row{"rename fails", &fakes::Disk::renameFails, false, false},
                           Row{"locked", &fakes::Disk::locked, false, false},
                           Row{"remembering, read-only", &fakes::Disk::readOnly, false, true},
                           Row{"forget, erase fails", &fakes::Disk::eraseFails, true, false},
                           Row{"forget, locked", &fakes::Disk::locked, true, false},
                           Row{"forget, remembering, full", &fakes::Disk::full, true, true});
  const std::string_view then = GENERATE(
      "it is tried again", "it is called again", "enabled again just when it would succeed",
      "enabled again before it succeeds", "enabled and refused again");
  CAPTURE(row.what, then);
  World world;
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = row.remembers;
  std::optional<Client> client(std::move(options));
  const Json before = lastDelivered(world, *client);
  client->identify("secret-user", {{"secret-plan", 1}});
  client->track("secret-event");
  client->persist();
  bool& fault = (*world.disk).*row.fault;
  fault = true;
  CHECK_FALSE((row.forgets ? client->forget() : client->disableTracking()));
  CHECK(client->stats().erasedEvents == 3);
  world.pass(*client, 10'000);
  CHECK(world.told("erase-failed") >= 1);
  REQUIRE(contains(world.disk->file, "secret-event"));

  if (then == "it is tried again") {
    fault = false;
    world.pass(*client, 2'000);
    CHECK_FALSE(contains(world.disk->file, "secret"));
    CHECK(world.disk->holder == nullptr);
    CHECK((row.forgets ? client->forget() : client->disableTracking()));
  } else if (then == "it is called again") {
    fault = false;
    CHECK((row.forgets ? client->forget() : client->disableTracking()));
  } else if (then == "enabled again just when it would succeed") {
    fault = false;
    client->enableTracking();
    client->track("after");
    world.pass(*client, minuteMs);
  } else {
    client->enableTracking();
    client->track("after");
    world.pass(*client, minuteMs);
    fault = false;
    if (then == "enabled again before it succeeds") world.pass(*client, minuteMs);
    else CHECK(client->disableTracking());
  }
  CHECK_FALSE(contains(world.disk->file, "secret"));
  if (then == "enabled and refused again") CHECK(contains(world.disk->file, "\"deviceId\""));
  CHECK(balanced(client->stats()));
  client->enableTracking();
  client.emplace(world.options());
  client->track("next run");
  const Json after = lastDelivered(world, *client);
  CHECK((after.at("deviceId") == before.at("deviceId")) == !row.forgets);
  CHECK((after.at("anonId") == before.at("anonId")) == !row.forgets);
  CHECK_FALSE(everSent(world, "secret"));
}

TEST_CASE("a request under way is cancelled for good by disableTracking()") {
  World world;
  std::vector<Request> held;
  nucleus::Options options = world.options();
  options.transport = holding(held);
  Client client(std::move(options));
  client.track("secret-event");
  world.pass(client, 2'000);
  REQUIRE(held.size() == 1);
  CHECK_FALSE(held[0].cancelled());
  CHECK((GENERATE(false, true) ? client.forget() : client.disableTracking()));
  CHECK(held[0].cancelled());
  CHECK(client.stats().erasedEvents == 2);
  client.enableTracking();
  CHECK(held[0].cancelled());
  held[0].reply(Server::acknowledge(held[0]));
  CHECK(client.stats().acknowledgedEvents == 0);
  CHECK(client.stats().erasedEvents == 2);
  world.pass(client, 10 * minuteMs, 1'000);
  REQUIRE(held.size() > 1);
  CHECK(held[0].cancelled());
  for (std::size_t i = 1; i < held.size(); ++i) {
    CHECK_FALSE(contains(held[i].body(), "secret"));
    CHECK_FALSE(held[i].cancelled());
  }
}

// ---- users ----

TEST_CASE("setUserId keeps the properties of the same user, and clears those of another") {
  World world;
  Client client(world.options());
  const auto initPayload = [&] {
    client.startSession();
    return lastDelivered(world, client).value("payload", Json());
  };
  const Json plan = {{"plan", "pro"}};
  CHECK(client.setProps({{"plan", "pro"}}) == Outcome::ok);
  CHECK(client.setUserId("first") == Outcome::ok);  // until now it was nobody
  CHECK(lastDelivered(world, client).at("type") == "userid");
  CHECK(lastDelivered(world, client).at("userId") == "first");
  CHECK(initPayload() == plan);
  CHECK(client.setUserId("first") == Outcome::ok);
  CHECK(initPayload() == plan);
  CHECK(client.setUserId("second") == Outcome::ok);
  CHECK(initPayload() == Json());
  CHECK(client.identify("second", {{"plan", "pro"}}) == Outcome::ok);
  for (int i = 0; i < 2; ++i) {  // signed out by the first, nobody at the second
    CHECK(client.setUserId("") == Outcome::ok);
    CHECK_FALSE(lastDelivered(world, client).contains("userId"));
    CHECK(initPayload() == Json());
    CHECK(client.setProps({{"plan", "pro"}}) == Outcome::ok);
  }
}

TEST_CASE("a user id too long is refused, and its events are not another user's") {
  World world;
  Client client(world.options());
  CHECK(client.setUserId("previous") == Outcome::ok);
  delivered(world, client);
  const Stats before = client.stats();
  CHECK(client.setUserId(std::string(5'000, 'u')) == Outcome::tooLarge);
  CHECK(client.identify(std::string(5'000, 'u'), {{"plan", "pro"}}) == Outcome::tooLarge);
  CHECK(client.stats().acceptedEvents == before.acceptedEvents);
  CHECK(client.setUserId(std::string(500, 'u')) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("userId") == std::string(500, 'u'));
}

TEST_CASE("setProps merges by name or replaces; identify replaces; both last over a restart") {
  World world;
  std::optional<Client> client(world.options());
  const auto payload = [&] { return lastDelivered(world, *client).at("payload"); };
  CHECK(client->setProps({{"a", 1}, {"b", "two"}}) == Outcome::ok);
  CHECK(lastDelivered(world, *client).at("type") == "props");
  CHECK(client->setProps({{"b", 2.5}, {"c\"\n", true}}) == Outcome::ok);
  CHECK(payload() == Json{{"a", 1}, {"b", 2.5}, {"c\"\n", true}});
  CHECK(client->setProps({{"c\"\n", false}}) == Outcome::ok);
  CHECK(payload() == Json{{"a", 1}, {"b", 2.5}, {"c\"\n", false}});
  CHECK(client->setProps({{"huge", std::string(20'000, 'x')}}) == Outcome::tooLarge);
  CHECK(client->setProps({{"a", std::nan("")}}) == Outcome::ok);  // as if it had not been given
  client.emplace(world.options());
  CHECK(payload() == Json{{"a", 1}, {"b", 2.5}, {"c\"\n", false}});
  CHECK(client->setProps({{"d", 4}}, true) == Outcome::ok);
  CHECK(payload() == Json{{"d", 4}});
  CHECK(client->identify("someone") == Outcome::ok);
  CHECK(lastDelivered(world, *client).at("type") == "userid");
  client->startSession();
  CHECK(payload() == Json{{"d", 4}});
  CHECK(client->identify("someone", {{"e", 5}}) == Outcome::ok);
  CHECK(payload() == Json{{"e", 5}});
  CHECK(lastDelivered(world, *client).at("userId") == "someone");
}

TEST_CASE("setProps of a detected field replaces it, and it is not the user's") {
  World world;
  Client client(world.options());
  CHECK(client.setProps({{"version", "3.2.1"},
                         {"locale", "de-AT"},
                         {"platform", "toaster"},
                         {"osVersion", 7},
                         {"deviceId", "my-device"},
                         {"plan", "pro"}}) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"plan", "pro"}});
  client.trackError("error", "message");
  const Json error = lastDelivered(world, client);
  CHECK(error.at("version") == "3.2.1");
  CHECK(error.at("locale") == "de-AT");
  CHECK(error.at("language") == "de-AT");
  CHECK(error.at("platform") == "toaster");
  CHECK(error.at("osVersion") == "7");
  CHECK(error.at("deviceId") == "my-device");
  const std::uint64_t accepted = client.stats().acceptedEvents;
  CHECK(client.setProps({{"version", "3.2.2"}}) == Outcome::ok);
  CHECK(client.stats().acceptedEvents == accepted);
  client.startSession();
  CHECK(lastDelivered(world, client).at("version") == "3.2.2");
  CHECK(lastDelivered(world, client).at("payload") == Json{{"plan", "pro"}});
  client = Client(world.options());
  CHECK(lastDelivered(world, client).at("deviceId") == "my-device");
}

TEST_CASE("page and screen are views, and a std::exception is an error of its readable type") {
  World world;
  Client client(world.options());
  const Property properties[] = {{"from", "menu"}};
  CHECK(client.page("Settings", properties) == Outcome::ok);
  const Json page = lastDelivered(world, client);
  CHECK(page.at("type") == "nucleus:view");
  CHECK(page.at("name") == "Settings");
  CHECK(page.at("payload") == Json{{"from", "menu"}});
  CHECK(client.screen("Settings") == Outcome::ok);
  CHECK(lastDelivered(world, client).at("type") == "nucleus:view");

  struct Silent : std::exception {
    const char* what() const noexcept override { return nullptr; }
  };
  CHECK(client.trackError(std::out_of_range("past the end")) == Outcome::ok);
  const Json error = lastDelivered(world, client);
  CHECK(error.at("type") == "error");
#if defined(__cpp_rtti) || defined(__GXX_RTTI) || defined(_CPPRTTI)
  CHECK(contains(error.at("name").get<std::string>(), "std::out_of_range"));
#else
  CHECK(error.at("name") == "exception");
#endif
  CHECK(error.at("payload") == Json{{"message", "past the end"}});
  CHECK(client.trackError(Silent()) == Outcome::ok);
  CHECK(lastDelivered(world, client).at("payload") == Json{{"message", ""}});
}

// ---- callbacks ----

TEST_CASE("filter is asked with type, name and properties, and its no is final") {
  World world;
  nucleus::Options options = world.options();
  std::vector<std::string> asked;
  options.filter = [&](Text type, Text name, Properties properties) {
    std::string question = std::string(type.view()) + "|" + std::string(name.view());
    for (const Property& each : properties) question += "|" + std::string(each.name.view());
    asked.push_back(question);
    if (name.view() == "throws") throwIfPossible("filter");
    return name.view() != "unwanted";
  };
  Client client(std::move(options));
  client.track("event", {{"a", 1}, {"b", 2}});
  client.page("page");
  client.trackError("error", "message", "stack");
  client.setUserId("someone");
  client.setProps({{"plan", "pro"}});
  client.identify("someone", {{"plan", "free"}});
  client.startSession();
  client.track("");
  CHECK(asked == std::vector<std::string>{"event|event|a|b", "nucleus:view|page", "error|error",
                                          "userid|", "props||plan", "userid|", "props||plan"});
  const std::uint64_t accepted = client.stats().acceptedEvents;
  CHECK(client.track("unwanted") == Outcome::filtered);
#if NUCLEUS_TESTS_EXCEPTIONS
  CHECK(client.track("throws") == Outcome::filtered);
  world.pass(client, 1'000);
  CHECK(world.told("callback-threw") == 1);
#endif
  CHECK(client.stats().acceptedEvents == accepted);
}

TEST_CASE("filter is asked about what other callbacks track, not about what it tracks itself") {
  World world;
  nucleus::Options options = world.options();
  Client* self = nullptr;
  std::vector<Outcome> outcomes;
  const auto tracks = [&] { outcomes.push_back(self->track("unwanted")); };
  options.filter = [&](Text, Text name, Properties) {
    if (name.view() == "asks") CHECK(self->track("unwanted") == Outcome::ok);
    return name.view() != "unwanted";
  };
  options.onUpdate = [&](std::string_view) { tracks(); };
  options.onCustomData = [&](std::string_view) { tracks(); };
  options.onDiagnostic = [&](const nucleus::Diagnostic&) { tracks(); };
  options.transport = [&](const Request& request) {
    tracks();
    Json answer = Json::parse(Server::naming(Server::ids(request.body())));
    answer.update({{"latestVersion", "9.9"}, {"customData", 1}});
    return Server::with(200, answer.dump());
  };
  Client client(std::move(options));
  self = &client;
  client.track("");
  world.pass(client, 2'000);
  CHECK(outcomes.size() >= 4);
  CHECK(allAre(outcomes, Outcome::filtered));
  CHECK(client.track("asks") == Outcome::ok);
}

namespace {

/// Calls `action` once from inside the callback of that name.
struct Inside {
  const char* callback;
  std::function<void()> action = [] {};
  int calls = 0;

  void run() {
    if (++calls == 1) action();
  }
  nucleus::Options install(World& world) {
    const std::string_view which = callback;
    nucleus::Options options = world.options();
    if (which == "filter") {
      options.filter = [this](Text, Text, Properties) { return run(), true; };
    } else if (which == "transport") {
      options.transport = [this, send = options.transport](const Request& request) {
        return run(), send(request);
      };
    } else if (which == "onDiagnostic") {
      options.onDiagnostic = [this](const nucleus::Diagnostic&) { run(); };
    } else if (which == "onUpdate") {
      options.onUpdate = [this](std::string_view) { run(); };
    } else {
      options.onCustomData = [this](std::string_view) { run(); };
    }
    world.server->then = [](const Request& request) {
      Json answer = Json::parse(Server::naming(Server::ids(request.body())));
      answer.update({{"latestVersion", "9.9"}, {"customData", 1}});
      return Server::with(200, answer.dump());
    };
    return options;
  }
  /// Makes the callback happen, by track() or by poll().
  void provoke(World& world, Client& client) {
    client.track("");
    client.track("provokes");
    if (callback != std::string_view("filter")) world.pass(client, 2'000);
  }
};

}  // namespace

TEST_CASE("from inside every callback every call is fine") {
  Inside inside{GENERATE("filter", "transport", "onDiagnostic", "onUpdate", "onCustomData")};
  INFO(inside.callback);
  World world;
  Client client(inside.install(world));

  SECTION("track, flush, persist, poll") {
    inside.action = [&] {
      const std::size_t bodies = world.server->bodies.size();
      CHECK(allAre(callAll(client), Outcome::ok));
      CHECK_FALSE(client.flush(60'000));
      CHECK_FALSE(client.flush(0));
      CHECK_FALSE(client.persist());
      client.poll();
      client.receive("{}");
      client.online();
      CHECK(client.stats().trackingEnabled);
      CHECK(client.consent() == Consent::notAsked);
      CHECK(world.server->bodies.size() == bodies);
      client.track("from inside");
    };
    inside.provoke(world, client);
    CHECK(inside.calls > 0);
    CHECK(client.flush(1'000));
    CHECK(everSent(world, "from inside"));
  }
  SECTION("disableTracking and enableTracking") {
    inside.action = [&] {
      CHECK(client.track("secret") == Outcome::ok);
      CHECK(client.disableTracking());
      CHECK_FALSE(client.trackingEnabled());
    };
    inside.provoke(world, client);
    CHECK(inside.calls > 0);
    const std::size_t bodies = world.server->bodies.size();
    CHECK_FALSE(client.trackingEnabled());
    world.pass(client, minuteMs);
    CHECK(world.server->bodies.size() == bodies);
    CHECK_FALSE(contains(world.disk->file, "secret"));
    client.enableTracking();
    client.track("after");
    CHECK(client.flush(1'000));
    CHECK_FALSE(everSent(world, "secret"));
    CHECK(everSent(world, "after"));
  }
  SECTION("forget and enableTracking") {
    inside.action = [&] {
      CHECK(client.forget());
      client.enableTracking();
    };
    inside.provoke(world, client);
    CHECK(inside.calls > 0);
    CHECK(client.trackingEnabled());
    CHECK(client.flush(1'000));
    CHECK(balanced(client.stats()));
  }
  SECTION("shutdown, which takes effect when the callback returns") {
    inside.action = [&] {
      client.track("last words");
      CHECK_FALSE(client.shutdown(60'000));
    };
    inside.provoke(world, client);
    CHECK(inside.calls > 0);
    const int calls = world.disk->calls();
    const std::size_t bodies = world.server->bodies.size();
    CHECK(contains(world.disk->file, "last words"));
    CHECK(world.disk->holder == nullptr);
    CHECK(client.track("too late") == Outcome::shutDown);
    CHECK_FALSE(client.trackingEnabled());
    world.pass(client, minuteMs);
    CHECK(client.shutdown(1'000));
    CHECK(world.disk->calls() == calls);
    CHECK(world.server->bodies.size() == bodies);
  }
}

TEST_CASE("shutdown from inside a transport that flush() called takes effect when it returns") {
  World world;
  Inside inside{"transport"};
  Client client(inside.install(world));
  inside.action = [&] { CHECK_FALSE(client.shutdown(60'000)); };
  client.track("event");
  client.flush(1'000);
  CHECK(inside.calls == 1);
  CHECK(world.disk->holder == nullptr);
  CHECK(world.disk->closes > 0);
  CHECK(client.track("too late") == Outcome::shutDown);
}

#if NUCLEUS_TESTS_EXCEPTIONS
TEST_CASE("a callback that throws has given no answer, and is told of by name") {
  Inside inside{GENERATE("transport", "onDiagnostic", "onUpdate", "onCustomData")};
  INFO(inside.callback);
  World world;
  nucleus::Options options = inside.install(world);
  std::vector<std::string> told;
  if (options.onDiagnostic) {
    options.onDiagnostic = [&, tell = options.onDiagnostic](const nucleus::Diagnostic& each) {
      told.push_back(std::string(each.code) + ": " + std::string(each.message));
      tell(each);
    };
  }
  inside.action = [] { throw 42; };
  Client client(std::move(options));
  inside.provoke(world, client);
  world.pass(client, 2 * minuteMs);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.stats().failedRequests == (inside.callback == std::string("transport") ? 1u : 0u));
  CHECK(std::any_of(told.begin(), told.end(), [&](const std::string& each) {
    return contains(each, "callback-threw: ") && contains(each, inside.callback);
  }));
}
#endif

TEST_CASE("a client may be replaced or destroyed from inside its transport") {
  const bool replaces = GENERATE(false, true), flushes = GENERATE(false, true);
  World world;
  Inside inside{"transport"};
  std::optional<Client> client(inside.install(world));
  inside.action = [&] {
    if (replaces) *client = Client();
    else client.reset();
  };
  client->track("event");
  Client& self = *client;
  world.clock->advance(2'000);
  if (flushes) self.flush(1'000);
  else self.poll();
  CHECK(inside.calls == 1);
  CHECK(world.disk->holder == nullptr);
  if (replaces) CHECK(client->track("event") == Outcome::notConfigured);
}

// ---- flush ----

TEST_CASE("flush(t) without a worker delivers all, and flush(0) leaves it to poll()") {
  World world;
  nucleus::Options options = world.options();
  options.maxEventBytes = 1'024;
  options.maxBatchBytes = 2'048;
  Client client(std::move(options));
  for (int i = 0; i < 100; ++i) client.track("event", {{"number", i}});
  world.clock->advance(100);
  for (const std::int64_t none : {std::int64_t{0}, std::int64_t{-1}, -forever}) {
    CHECK_FALSE(client.flush(none));
    CHECK(world.server->bodies.empty());
  }
  const std::int64_t timeoutMs = GENERATE(as<std::int64_t>(), 1, 60'000, forever - 1, forever);
  CAPTURE(timeoutMs);
  CHECK(client.flush(timeoutMs));
  CHECK(world.server->received().size() == 101);
  CHECK(world.server->bodies.size() > 5);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(client.flush(0));
  CHECK(client.flush(timeoutMs));
}

TEST_CASE("flush() answers false as soon as it would have to wait") {
  World world;
  nucleus::Options options = world.options();
  std::vector<Request> held;
  int calls = 0;
  nucleus::Transport answer;
  options.transport = [&](const Request& request) { return ++calls, answer(request); };

  SECTION("for a pending answer") {
    answer = holding(held);
    Client client(std::move(options));
    CHECK_FALSE(client.flush(60'000));
    CHECK_FALSE(client.flush(60'000));
    CHECK(calls == 1);
    held[0].reply(Server::acknowledge(held[0]));
    CHECK(client.flush(60'000));
  }
  SECTION("for the end of a backoff, which it cuts short once a second") {
    answer = Server::always(500);
    Client client(std::move(options));
    CHECK_FALSE(client.flush(60'000));
    CHECK(calls == 1);
    CHECK_FALSE(client.flush(60'000));
    CHECK_FALSE(client.flush(60'000));
    CHECK(calls == 2);
    world.clock->advance(1'000);
    answer = Server::acknowledge;
    CHECK(client.flush(60'000));
  }
  SECTION("for a Retry-After, which it never cuts short") {
    answer = Server::always(429, "", "3600");
    Client client(std::move(options));
    CHECK_FALSE(client.flush(60'000));
    if (GENERATE(false, true)) client.disableTracking(), client.enableTracking();
    answer = Server::acknowledge;
    for (int minute = 0; minute < 59; ++minute) {
      world.pass(client, minuteMs, 10'000);
      client.online();
      CHECK_FALSE(client.flush(60'000));
    }
    CHECK(calls == 1);
    world.clock->advance(minuteMs);
    CHECK(client.flush(60'000));
    CHECK(calls == 2);
  }
  SECTION("for the network") {
    answer = Server::acknowledge;
    Client client(std::move(options));
    client.online(false);
    CHECK_FALSE(client.flush(60'000));
    CHECK(calls == 0);
    client.online(true);
    CHECK(client.flush(60'000));
  }
}

TEST_CASE("flush() is true only if the server has acknowledged all that was accepted before") {
  World world;
  Client* self = nullptr;
  nucleus::Options options = world.options();
  bool tracks = true;
  options.transport = [&](const Request& request) {
    if (tracks) self->track("meanwhile");
    tracks = false;
    return (*world.server)(request);
  };
  options.maxBatchBytes = options.maxEventBytes + 16;
  Client client(std::move(options));
  self = &client;
  client.track("before");
  SECTION("all of it: what came later may wait") {
    CHECK(client.flush(1'000));
    CHECK(client.stats().queuedEvents <= 1);
  }
  SECTION("part of it") {
    world.server->then = [](const Request& request) {
      return Server::with(200, Server::naming({Server::ids(request.body())[0]}));
    };
    world.server->script.push_back(world.server->then);
    world.server->then = Server::always(500);
    CHECK_FALSE(client.flush(1'000));
  }
  SECTION("refused by the server is not acknowledged") {
    world.server->then = [](const Request& request) {
      const bool bad = contains(request.body(), "\"before\"");
      return bad ? Server::with(400) : Server::acknowledge(request);
    };
    CHECK_FALSE(client.flush(1'000));
    CHECK(client.stats().droppedRefused == 1);
  }
}

// ---- the end ----

TEST_CASE("shutdown writes the file first, then tries one last delivery") {
  World world;
  nucleus::Options options = world.options();
  bool wasInFile = false;
  options.transport = [&](const Request& request) {
    wasInFile = contains(world.disk->file, "last words");
    return (*world.server)(request);
  };
  Client client(std::move(options));
  client.setUserId("someone");
  client.track("last words");
  SECTION("that succeeds: the file holds ids, user and no event") {
    CHECK(client.shutdown(GENERATE(as<std::int64_t>(), 1, 1'000, forever)));
    CHECK(everSent(world, "last words"));
    CHECK(wasInFile);
    CHECK(contains(world.disk->file, "someone"));
    CHECK(contains(world.disk->file, "deviceId"));
    CHECK_FALSE(contains(world.disk->file, "\"type\""));
  }
  SECTION("that fails: the next run sends it") {
    world.server->then = Server::always(500);
    CHECK(client.shutdown(1'000));
    CHECK(client.shutdown(1'000));
    CHECK(wasInFile);
    world.server->then = {};
    world.server->bodies.clear();
    Client next(world.options());
    CHECK(delivered(world, next).size() == 4);
    CHECK(everSent(world, "last words"));
  }
  SECTION("or not, with no time for it") {
    CHECK(client.shutdown(GENERATE(as<std::int64_t>(), 0, -1, -forever)));
    CHECK(world.server->bodies.empty());
    CHECK(contains(world.disk->file, "last words"));
  }
  CHECK(world.disk->holder == nullptr);
}

TEST_CASE("shutdown is true if the queue is empty or in the file") {
  struct Row {
    const char* what;
    bool cache, full;
    int status;  // -1: pending
    bool safe;
  };
  const Row row = GENERATE(Row{"delivered", true, false, 200, true},
                           Row{"delivered, no file", false, false, 200, true},
                           Row{"in the file", true, false, 500, true},
                           Row{"in the file, pending", true, false, -1, true},
                           Row{"pending, no file", false, false, -1, false},
                           Row{"failed, no file", false, false, 500, false},
                           Row{"failed, disk full", true, true, 500, false},
                           Row{"delivered, disk full", true, true, 200, true});
  INFO(row.what);
  World world;
  nucleus::Options options = world.options();
  options.offlineCache = row.cache;
  world.disk->full = row.full;
  int calls = 0;
  options.transport = [&](const Request& request) {
    ++calls;
    return row.status == 200  ? Server::acknowledge(request)
           : row.status == -1 ? Response::pending()
                              : Server::with(row.status);
  };
  Client client(std::move(options));
  client.track("event");
  CHECK(client.shutdown(1'000) == row.safe);
  CHECK(client.shutdown(1'000) == row.safe);
  CHECK(calls == 1);
  if (!row.cache) CHECK(world.disk->calls() == 0);
}

TEST_CASE("after shutdown() what is in the file can still be erased") {
  World world;
  world.server->then = Server::always(500);
  Client client(world.options());
  client.identify("secret-user", {{"secret-plan", 1}});
  CHECK(client.shutdown(1'000));
  REQUIRE(contains(world.disk->file, "secret"));
  CHECK(client.disableTracking());
  CHECK_FALSE(contains(world.disk->file, "secret"));
  CHECK(contains(world.disk->file, "deviceId"));
  CHECK(client.forget());
  CHECK_FALSE(world.disk->exists);
}

TEST_CASE("after shutdown() nothing of the host is used any more") {
  struct CountingClock : fakes::Clock {
    int calls = 0;
    std::int64_t wallMs() override { return ++calls, fakes::Clock::wallMs(); }
    std::int64_t steadyMs() override { return ++calls, fakes::Clock::steadyMs(); }
  };
  World world;
  const auto clock = std::make_shared<CountingClock>();
  nucleus::Options options = world.options();
  int callbacks = 0;
  options.clock = clock;
  options.filter = [&](Text, Text, Properties) { return ++callbacks, true; };
  options.onDiagnostic = [&](const nucleus::Diagnostic&) { ++callbacks; };
  options.onUpdate = [&](std::string_view) { ++callbacks; };
  options.onCustomData = [&](std::string_view) { ++callbacks; };
  options.entropy = [&, draw = options.entropy](void* to, std::size_t bytes) {
    return ++callbacks, draw(to, bytes);
  };
  std::vector<Request> held;
  options.transport = holding(held);
  Client client(std::move(options));
  client.track("kept");
  CHECK(client.shutdown(1'000));
  const Stats before = client.stats();
  const int clockCalls = clock->calls, diskCalls = world.disk->calls(), called = callbacks;
  const std::string file = world.disk->file;

  CHECK(allAre(callAll(client), Outcome::shutDown));
  client.enableTracking();
  CHECK_FALSE(client.trackingEnabled());
  client.poll();
  client.online();
  client.receive("{\"reportedIds\":[1],\"customData\":1,\"latestVersion\":\"9.9\"}");
  for (const Request& request : held) request.reply(Server::acknowledge(request));
  client.flush(1'000);
  CHECK_FALSE(client.persist());
  CHECK(client.shutdown(1'000));
  static_cast<void>(client.consent());
  const Stats after = client.stats();
  CHECK(after.queuedEvents == 2);
  CHECK(after.acceptedEvents == before.acceptedEvents);
  CHECK_FALSE(after.trackingEnabled);
  CHECK(balanced(after));
  CHECK(clock->calls == clockCalls);
  CHECK(world.disk->calls() == diskCalls);
  CHECK(callbacks == called);
  CHECK(world.disk->file == file);
}

TEST_CASE("a default client is inert, a moved-from one is shut down, and both take every call") {
  World world;
  Client none;
  CHECK(allAre(callAll(none), Outcome::notConfigured));
  Client first(world.options());
  Client second(std::move(first));
  CHECK(allAre(callAll(first), Outcome::shutDown));
  for (Client* const client : {&none, &first}) {
    client->poll();
    client->online();
    client->receive("{}");
    client->enableTracking();
    CHECK_FALSE(client->trackingEnabled());
    CHECK(client->consent() == Consent::notAsked);
    CHECK_FALSE(client->flush(1'000));
    CHECK_FALSE(client->persist());
    CHECK(client->disableTracking());
    CHECK(client->forget());
    CHECK(client->shutdown(1'000));
    CHECK(client->stats().acceptedEvents == 0);
  }
  CHECK(second.track("goes on") == Outcome::ok);
  none = std::move(second);
  CHECK(none.track("goes on") == Outcome::ok);
  CHECK(second.track("moved") == Outcome::shutDown);
  CHECK(delivered(world, none).size() == 3);
}

TEST_CASE("assignment shuts down the client that it replaces") {
  World world;
  World other;
  other.server->then = Server::always(500);
  Client client(other.options());
  client.track("of the first");
  client = Client(world.options());
  CHECK(other.disk->holder == nullptr);
  CHECK(contains(other.disk->file, "of the first"));
  CHECK(other.server->bodies.size() == 1);
  CHECK(client.track("of the second") == Outcome::ok);
  CHECK(delivered(world, client).size() == 2);
  client = Client();
  CHECK(world.disk->holder == nullptr);
  CHECK(client.track("nobody") == Outcome::notConfigured);
}

TEST_CASE("without a transport events wait in the cache") {
  World world;
  nucleus::Options options = world.options();
  options.transport = nullptr;
  {
    Client client(std::move(options));
    client.track("waits");
    world.pass(client, hourMs, 1'000);
    CHECK(client.stats().queuedEvents == 2);
    CHECK(client.stats().requests == 0);
    CHECK(client.stats().nextRequestInMs == -1);
    CHECK_FALSE(client.flush(1'000));
    CHECK(client.persist());
    CHECK(client.shutdown(1'000));
  }
  Client client(world.options());
  CHECK(delivered(world, client).size() == 3);
  CHECK(everSent(world, "waits"));
}

#if NUCLEUS_TESTS_EXCEPTIONS
TEST_CASE("a storage that throws is one that fails") {
  struct Throwing : nucleus::Storage {
    static bool fail() { throw std::runtime_error("storage"); }
    StorageState open() override { return fail(), StorageState::failed; }
    std::size_t read(std::size_t, char*, std::size_t) override { return fail(); }
    bool append(std::string_view) override { return fail(); }
    bool beginReplace() override { return fail(); }
    bool write(std::string_view) override { return fail(); }
    bool commitReplace() override { return fail(); }
    bool sync() override { return fail(); }
    bool erase() override { return fail(); }
    bool vanished() override { return fail(); }
    void close() override { fail(); }
  };
  World world;
  nucleus::Options options = world.options();
  options.storage = std::make_shared<Throwing>();
  Client client(std::move(options));
  client.trackError("error", "message");
  CHECK_FALSE(client.persist());
  CHECK(client.stats().storage == StorageState::failed);
  CHECK(client.stats().notCached == 2);
  CHECK(delivered(world, client).size() == 2);
  CHECK_FALSE(client.disableTracking());
  CHECK_FALSE(client.forget());
  client.enableTracking();
  CHECK(client.track("goes on") == Outcome::ok);
  CHECK(client.shutdown(1'000));
  CHECK(everSent(world, "goes on"));
}
#endif

TEST_CASE("without entropy the client is inert, and says so once") {
  World world;
  nucleus::Options options = world.options();
  SECTION("it fails") {
    options.entropy = [](void*, std::size_t) { return false; };
  }
  SECTION("it throws") {
    options.entropy = [](void*, std::size_t) { return throwIfPossible("none"), false; };
  }
  SECTION("it gives nothing") {
    options.entropy = [](void* to, std::size_t bytes) {
      std::fill_n(static_cast<char*>(to), bytes, '\0');
      return true;
    };
  }
  Client client(std::move(options));
  CHECK(allAre(callAll(client), Outcome::notConfigured));
  client.enableTracking();
  CHECK_FALSE(client.trackingEnabled());
  world.pass(client, 10 * minuteMs, 1'000);
  CHECK(world.told("no-entropy") == 1);
  CHECK(world.diagnostics.size() == 1);
  CHECK(world.disk->appends + world.disk->replaces == 0);
  CHECK(world.server->bodies.empty());
}

TEST_CASE("a client may be replaced or destroyed from inside its filter") {
  const bool replaces = GENERATE(false, true);
  World world;
  Inside inside{"filter"};
  std::optional<Client> client(inside.install(world));
  inside.action = [&] {
    if (replaces) *client = Client();
    else client.reset();
  };
  Client& self = *client;
  CHECK(self.track("event") == Outcome::shutDown);
  CHECK(inside.calls == 1);
  CHECK(world.disk->holder == nullptr);
}

// ---- what attacks have found ----

namespace {

/// Calls `onRead` once, in the middle of reading.
struct HookedStorage : fakes::Storage {
  using fakes::Storage::Storage;
  std::function<void()> onRead;

  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    const std::size_t got = fakes::Storage::read(at, to, bytes);
    if (onRead && bytes > 1) std::exchange(onRead, nullptr)();
    return got;
  }
};

#if NUCLEUS_TESTS_THREADS

/// A file with a user and an event of an earlier run.
void leaveEarlierRun(fakes::World& world) {
  nucleus::Options options = world.options();
  options.transport = nullptr;
  Client client(std::move(options));
  client.setUserId("bob");
  client.track("EARLIER");
}

/// Begins `call` on another thread, and waits until the client knows of it.
std::thread optOut(Client& client, std::function<void()> call) {
  std::thread thread(std::move(call));
  while (client.consent() != Consent::refused) std::this_thread::yield();
  return thread;
}

#endif

}  // namespace

#if NUCLEUS_TESTS_THREADS
TEST_CASE("opting out while the file is read erases what was read") {
  const bool forgets = GENERATE(false, true), takesOver = GENERATE(false, true);
  CAPTURE(forgets, takesOver);
  fakes::World world;
  leaveEarlierRun(world);
  world.disk->locked = takesOver;
  nucleus::Options options = world.options();
  const auto storage = std::make_shared<HookedStorage>(world.disk);
  options.storage = storage;
  options.transport = nullptr;
  options.disableTracking = !takesOver;
  Client client(std::move(options));
  std::thread thread;
  bool erased = false;
  storage->onRead = [&] {
    thread = optOut(client, [&] { erased = forgets ? client.forget() : client.disableTracking(); });
  };
  world.disk->locked = false;
  if (takesOver) world.pass(client, 2000);
  else client.enableTracking();
  REQUIRE(thread.joinable());
  thread.join();
  CHECK(erased);
  CHECK(world.disk->file.find("EARLIER") == std::string::npos);
  CHECK(world.disk->file.find("bob") == std::string::npos);
  CHECK(fakes::balanced(client.stats()));
  client.enableTracking();
  client.track("LATER");
  client.persist();
  CHECK(world.disk->file.find("EARLIER") == std::string::npos);
}
#endif

TEST_CASE("flush() answers false where what it waited for was erased") {
  fakes::World world;
  nucleus::Options options = world.options();
  Client* called = nullptr;
  options.transport = [&called](const Request&) {
    called->disableTracking();
    called->enableTracking();
    return Response();
  };
  Client client(std::move(options));
  called = &client;
  client.track("A");
  CHECK_FALSE(client.flush(1000));
  CHECK(client.stats().acknowledgedEvents == 0);
  CHECK(client.stats().erasedEvents == 2);
}

TEST_CASE("a refusal that is remembered binds a second client that takes the file over") {
  fakes::World world;
  const auto remembering = [&world] {
    nucleus::Options options = world.options();
    options.rememberTrackingChoice = true;
    return options;
  };
  {
    Client first(remembering());
    world.pass(first, 2000);
    Client second(remembering());
    second.track("BESIDE");
    first.disableTracking();
    CHECK(world.disk->file.find(" refused ") != std::string::npos);
    world.pass(second, 3000);
    CHECK_FALSE(second.trackingEnabled());
    CHECK(second.track("LATER") == Outcome::trackingDisabled);
    CHECK(second.stats().queuedEvents == 0);
    world.pass(second, 3000);
  }
  CHECK(world.disk->file.find(" refused ") != std::string::npos);
  CHECK(world.disk->file.find("\"type\"") == std::string::npos);
  CHECK_FALSE(Client(remembering()).trackingEnabled());
}

TEST_CASE("time-outs of any number are taken, and a negative one is none") {
  for (const std::int64_t timeoutMs : {INT64_MIN, std::int64_t{-1}, INT64_MAX}) {
    CAPTURE(timeoutMs);
    fakes::World world;
    nucleus::Options options = world.options();
    options.transport = [](const Request&) { return Response::pending(); };
    Client client(std::move(options));
    client.track("A");
    CHECK_FALSE(client.flush(timeoutMs));
    CHECK(client.shutdown(timeoutMs));
  }
}

TEST_CASE("an endpoint without a scheme is used as it is") {
  for (const char* const endpoint : {"http", "ws", "", "localhost"}) {
    CAPTURE(endpoint);
    fakes::World world;
    nucleus::Options options = world.options();
    options.endpoint = endpoint;
    Client client(std::move(options));
    CHECK(client.track("A") == Outcome::ok);
    CHECK(client.flush(1000));
    CHECK(world.server->urls.at(0) == std::string(endpoint) + "/app/test-app/track");
    CHECK(world.told("plain-endpoint") == 0);
  }
}

TEST_CASE("after forget() the file counts no bytes") {
  fakes::World world;
  Client client(world.options());
  client.persist();
  CHECK(client.stats().cacheBytes > 0);
  CHECK(client.forget());
  CHECK(client.stats().cacheBytes == 0);
}

TEST_CASE("a callback within a callback of another client is inside both") {
  fakes::World outer, inner;
  nucleus::Options options = inner.options();
  Client* first = nullptr;
  int flushed = -1;
  options.filter = [&](Text, Text, Properties) {
    flushed = first->flush(10'000) ? 1 : 0;
    return true;
  };
  Client second(std::move(options));
  options = outer.options();
  options.transport = [&second](const Request&) {
    second.track("B");
    return Response();
  };
  Client client(std::move(options));
  first = &client;
  client.flush(1000);
  CHECK(flushed == 0);
  CHECK(outer.server->bodies.empty());
  CHECK(client.stats().requests == 1);  // the callback began none
}

// ---- where memory runs out ----

#if NUCLEUS_TESTS_EXCEPTIONS

namespace {

/// Calls `action` with ever more allocations allowed, and `check` after each, until none failed.
template <class Action, class Check>
void withFewAllocations(Action&& action, Check&& check) {
  for (std::size_t most = 0;; ++most) {
    CAPTURE(most);
    allocations = 0;
    allowed = most;
    failed = false;
    counting = true;
    action();
    counting = false;
    allowed = SIZE_MAX;
    check(!failed);
    if (!failed) return;
    REQUIRE(most < 1'000);
  }
}

}  // namespace

TEST_CASE("an export for which memory runs out is empty, or says so, and leaves nothing open") {
  World world;
  nucleus::Options options = world.options();
  {
    Client earlier(options);
    earlier.track("A");
    earlier.shutdown(0);
  }
  options.disableTracking = GENERATE(true, false);
  Client client(options);
  const void* const holder = world.disk->holder;
  std::string shown;
  withFewAllocations([&] { shown = client.exportData(); },
                     [&](bool enough) {
                       CHECK(world.disk->holder == holder);
                       CHECK((enough || shown.empty() || contains(shown, "\"complete\":false")));
                     });
  CHECK(contains(shown, "\"complete\":true"));
}

TEST_CASE("a client for which memory ran out does not claim to have erased, nor to show all") {
  World world;
  nucleus::Options options = world.options();
  options.disableTracking = true;
  {
    nucleus::Options before = world.options();
    before.transport = nullptr;
    Client(before).track("A");
  }
  std::optional<nucleus::Options> copy;
  std::optional<Client> client;
  const auto renew = [&] { client.reset(), copy.emplace(options); };
  renew();
  withFewAllocations([&] { client.emplace(std::move(*copy)); },
                     [&](bool enough) {
                       if (enough) return;
                       const std::string file = world.disk->file;
                       const bool unmade = !contains(client->exportData(), "\"events\"");
                       if (unmade) CHECK(contains(client->exportData(), "\"complete\":false"));
                       if (unmade) CHECK_FALSE(client->disableTracking());
                       if (unmade) CHECK_FALSE(client->forget());
                       CHECK(world.disk->file == file);
                       renew();
                     });
  CHECK(client->forget());
  CHECK_FALSE(world.disk->exists);
}

#endif
