// Room 7: what a program says, and what arrives of it, at the client's public face where it shows.
#include "check.hpp"

#include "fakes.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>

namespace {

using nucleus::Outcome;
using nucleus::Property;
using namespace std::string_literals;
using Json = nlohmann::ordered_json;
using Names = std::vector<std::string>;

const Names fieldOrder = {"type",      "name",      "id",           "date",     "payload",
                          "sessionId", "userId",    "anonId",       "deviceId", "client",
                          "platform",  "osVersion", "totalRam",     "version",  "locale",
                          "language",  "arch",      "moduleVersion"};

#if defined(__linux__)
constexpr bool tellsRam = true;
#else
constexpr bool tellsRam = false;  // or it may
#endif
#if defined(__linux__) && defined(__x86_64__)
constexpr bool tellsArch = true;  // and it is x64
#else
constexpr bool tellsArch = false;
#endif

/// A client and the server it talks to.
struct Wire {
  using Change = std::function<void(nucleus::Options&)>;

  explicit Wire(const Change& change = [](nucleus::Options&) {}) : client(options(world, change)) {}

  static nucleus::Options options(fakes::World& world, const Change& change) {
    nucleus::Options options = world.options();
    options.version = "2.3.4";
    options.locale = "en-US";
    options.platform = "linux";
    options.osVersion = "6.1.0";
    change(options);
    return options;
  }
  /// What was tracked since the last time, as the server got it.
  std::vector<Json> sent() {
    world.server->bodies.clear();
    client.flush(1'000);
    client.poll();
    std::vector<Json> events;
    for (const std::string& body : world.server->bodies) {
      const Json message = Json::parse(body);
      REQUIRE(message.size() == 1);
      for (const Json& event : message.at("data")) events.push_back(event);
    }
    return events;
  }
  /// The only one of them.
  Json only() {
    const std::vector<Json> events = sent();
    REQUIRE(events.size() == 1);
    return events[0];
  }
  /// Without what went before.
  Wire& fresh() { return sent(), *this; }

  fakes::World world;
  nucleus::Client client;
};

Names keys(const Json& object) {
  Names names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  return names;
}

Names without(Names names, const Names& others) {
  for (const std::string& other : others) {
    names.erase(std::remove(names.begin(), names.end(), other), names.end());
  }
  return names;
}

/// The payload as plain JSON, where the order does not matter; empty if there is none.
fakes::Json payload(const Json& event) {
  return event.contains("payload") ? fakes::Json::parse(event["payload"].dump())
                                   : fakes::Json::object();
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0, at = 0;
  while ((at = text.find(part, at)) != std::string::npos) ++count, at += part.size();
  return count;
}

bool holdsNull(const Json& json) {
  if (json.is_null()) return true;
  if (!json.is_structured()) return false;
  return std::any_of(json.begin(), json.end(), holdsNull);
}

/// What another implementation makes of these bytes.
std::string replaced(const std::string& bytes) {
  return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string repeat(const std::string& text, std::size_t count) {
  std::string all;
  for (; count > 0; --count) all += text;
  return all;
}

/// An event of room 7, encoded into `capacity` bytes.
std::string encoded(const nucleus::detail::Event& event, const nucleus::detail::Envelope& envelope,
                    std::size_t capacity, bool& full) {
  std::string memory(capacity, '\0');
  nucleus::detail::Buffer out(memory.data(), capacity);
  nucleus::detail::encode(out, event, envelope);
  full = out.full();
  return std::string(out.view());
}

constexpr std::string_view plainTail = R"(,"sessionId":12345678,"anonId":"a","deviceId":"d")";

bool isOurs(std::string_view json) {
  nucleus::detail::EventFacts facts;
  return nucleus::detail::readEvent(json, facts);
}

}  // namespace

// ---- the shape of each type ----

TEST_CASE("every type has its fields, in the order of the wire") {
  Wire wire;
  wire.client.setUserId("alice");
  wire.client.setProps({{"age", 34}});
  wire.client.track("EVENT", {{"a", 1}});
  wire.client.page("/page", {{"a", 1}});
  wire.client.screen("Screen", {{"a", 1}});
  wire.client.trackError("ERROR", "message", "stack");
  wire.client.startSession();
  const std::vector<Json> events = wire.sent();
  const Names types = {"init",         "userid",       "props", "event",
                       "nucleus:view", "nucleus:view", "error", "init"};
  REQUIRE(events.size() == types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    Names expected = fieldOrder;
    const Json& event = events[i];
    const std::string& type = types[i];
    CAPTURE(event.dump());
    CHECK(event.at("type") == type);
    if (type == "init" || type == "userid" || type == "props")
      expected = without(expected, {"name"});
    if (type == "userid" || i == 0) expected = without(expected, {"payload"});
    if (i == 0) expected = without(expected, {"userId"});
    if (type != "init" && type != "error") expected.resize(expected.size() - 9);
    if (!tellsRam && !event.contains("totalRam")) expected = without(expected, {"totalRam"});
    if (!tellsArch && !event.contains("arch")) expected = without(expected, {"arch"});
    CHECK(keys(event) == expected);
    CHECK_FALSE(holdsNull(event));
  }
}

TEST_CASE("what the official module sends is sent in the same shape") {
  // nucleus-analytics 4.0.3, recorded; what only the documentation asks for is left out
  const Names docsOnly = {"totalRam", "version", "language", "arch", "moduleVersion"};
  const Names head = {"id", "date"}, who = {"sessionId", "anonId", "deviceId"},
              known = {"sessionId", "userId", "anonId", "deviceId"},
              device = {"client", "platform", "osVersion", "locale"};
  const auto join = [](std::initializer_list<Names> parts) {
    Names all = {"type"};
    for (const Names& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  Wire wire;
  std::vector<Json> events = wire.sent();
  REQUIRE(events.size() == 1);
  CHECK(without(keys(events[0]), docsOnly) == join({head, who, device}));

  wire.client.track("PLAYED_TRACK");
  CHECK(keys(wire.only()) == join({{"name"}, head, who}));

  wire.client.track(
      "PLAYED_TRACK",
      {{"trackName", "My Awesome Song"}, {"duration", 120}, {"ratio", 0.25}, {"liked", true}});
  const Json track = wire.only();
  CHECK(keys(track) == join({{"name"}, head, {"payload"}, who}));
  CHECK(track["payload"].dump() ==
        R"({"trackName":"My Awesome Song","duration":120,"ratio":0.25,"liked":true})");

  wire.client.trackError("API-ERROR", "Missing required parameter", "at doWork\n    at main");
  const Json error = wire.only();
  CHECK(without(keys(error), docsOnly) == join({{"name"}, head, {"payload"}, who, device}));
  CHECK(payload(error) == fakes::Json{{"message", "Missing required parameter"},
                                      {"stack", "at doWork\n    at main"}});

  wire.client.setUserId("richard_hendrix");
  CHECK(keys(wire.only()) == join({head, known}));

  wire.client.setProps({{"age", 34}, {"name", "Richard Hendricks"}, {"admin", false}});
  const Json props = wire.only();
  CHECK(keys(props) == join({head, {"payload"}, known}));
  CHECK(props["payload"].dump() == R"({"age":34,"name":"Richard Hendricks","admin":false})");

  wire.client.identify("other_user", {{"plan", "pro"}});
  events = wire.sent();
  REQUIRE(events.size() == 2);
  CHECK(keys(events[0]) == join({head, known}));
  CHECK(keys(events[1]) == join({head, {"payload"}, known}));
  CHECK(events[1]["payload"].dump() == R"({"plan":"pro"})");

  wire.client.identify("third_user");
  CHECK(keys(wire.only()) == join({head, known}));

  wire.client.page("/settings");
  CHECK(keys(wire.only()) == join({{"name"}, head, known}));

  wire.client.screen("Home", {{"tab", 1}});
  CHECK(keys(wire.only()) == join({{"name"}, head, {"payload"}, known}));
}

TEST_CASE("the fields say what they should") {
  Wire wire;
  wire.client.setUserId("alice");
  wire.client.trackError("E", "m");
  const std::vector<Json> events = wire.sent();
  REQUIRE(events.size() == 3);
  const Json &init = events[0], &error = events[2];
  CHECK(init.at("date") == wire.world.clock->wall - 500);
  CHECK(error.at("date") == wire.world.clock->wall);
  CHECK(error.at("id") == init.at("id").get<std::uint64_t>() + 2);
  CHECK(error.at("sessionId") == init.at("sessionId"));
  CHECK(init.at("sessionId").dump().size() == 8);
  CHECK(init.at("anonId").get<std::string>().size() == 12);
  CHECK(init.at("deviceId").get<std::string>().size() == 15);
  CHECK(error.at("userId") == "alice");
  CHECK(error.at("name") == "E");
  CHECK(payload(error) == fakes::Json{{"message", "m"}});
  for (const Json& event : {init, error}) {
    CHECK(event.at("client") == "cpp");
    CHECK(event.at("platform") == "linux");
    CHECK(event.at("osVersion") == "6.1.0");
    CHECK(event.at("version") == "2.3.4");
    CHECK(event.at("locale") == "en-US");
    CHECK(event.at("language") == "en-US");
    CHECK(event.at("moduleVersion") == NUCLEUS_VERSION);
    CHECK((event.contains("totalRam") || !tellsRam));
    CHECK((event.contains("arch") || !tellsArch));
    if (event.contains("totalRam")) {
      CHECK(event.at("totalRam").is_number_unsigned());
      CHECK(event.at("totalRam") > 0);
    }
    if (tellsArch) CHECK(event.value("arch", "") == "x64");
  }
}

TEST_CASE("what is detected is of the documented form") {
  Wire wire([](nucleus::Options& options) {
    options.locale = options.platform = options.osVersion = "";
  });
  const Json init = wire.only();
  CHECK_FALSE(holdsNull(init));
  CHECK_FALSE(init.at("platform").get<std::string>().empty());
#if defined(__linux__)
  CHECK(init.at("platform") == "linux");
  CHECK(init.contains("osVersion"));
#endif
  if (init.contains("osVersion")) {
    const std::string version = init["osVersion"];
    CHECK(version.find_first_not_of("0123456789.") == std::string::npos);
    CHECK(version.find_first_of("0123456789") == 0);
  }
  CHECK(init.contains("locale") == init.contains("language"));
  if (init.contains("locale")) CHECK(init["locale"] == init["language"]);
}

TEST_CASE("what is not known is left out") {
  nucleus::detail::Device device;
  nucleus::detail::Fixed<300> out;
  device.write(out);
  CHECK(out.view() == ",\"client\":\"cpp\",\"moduleVersion\":\"" NUCLEUS_VERSION "\"");
  device.totalRamGb = 16;
  device.locale.set("de-DE");
  out.clear();
  device.write(out);
  CHECK(out.view() ==
        ",\"client\":\"cpp\",\"totalRam\":16,\"locale\":\"de-DE\","
        "\"language\":\"de-DE\",\"moduleVersion\":\"" NUCLEUS_VERSION "\"");
}

TEST_CASE("a device that does not fit is told in part, and still as JSON") {
  nucleus::detail::Device device;
  device.version.set("1.0");
  device.locale.set("en-\"US\"");
  device.platform.set("li\x01nux");
  device.osVersion.set("6.1");
  device.arch = "x64";
  device.totalRamGb = 1024;
  std::string broken;
  for (std::size_t capacity = 0; capacity < 250; ++capacity) {
    std::string memory(capacity, '\0');
    nucleus::detail::Buffer out(memory.data(), capacity);
    device.write(out);
    const std::string json = "{\"type\":\"init\"" + std::string(out.view()) + "}";
    if (!Json::accept(json)) broken = json;
  }
  CHECK(broken == "");
}

TEST_CASE("whatever the host says of itself, what is sent is JSON") {
  std::string broken;
  for (std::size_t bytes = 0; bytes <= 64; ++bytes) {
    Wire wire([&](nucleus::Options& options) {
      options.maxEventBytes = 512;
      options.platform = std::string(64, '"');
      options.osVersion = std::string(bytes, '"');
    });
    wire.client.trackError("E", "m", "s");
    wire.client.flush(1'000);
    const std::string body = wire.world.server->bodies.empty() ? "" : wire.world.server->bodies[0];
    if (!Json::accept(body)) broken = body;
  }
  CHECK(broken == "");
}

TEST_CASE("while the clock is not set, events carry no date") {
  Wire wire([](nucleus::Options& options) {
    static_cast<fakes::Clock&>(*options.clock).wall = 1'000'000;  // in 1970
  });
  wire.client.track("event");
  const std::vector<Json> events = wire.sent();
  REQUIRE(events.size() == 2);
  for (const Json& event : events) {
    CHECK_FALSE(event.contains("date"));
    CHECK(event.contains("id"));
    CHECK(isOurs(event.dump()));
  }
}

TEST_CASE("a heartbeat has four fields, and its last two are the same") {
  const auto deviceId =
      GENERATE(values<std::string>({"", "my-device", "\"\\\"", std::string(64, '"'),
                                    std::string(64, '\x01'), std::string(64, '\xFF')}));
  fakes::World world;
  nucleus::Client* talker = nullptr;
  std::string message, heartbeat;
  nucleus::Options options = world.options();
  options.endpoint = "wss://nucleus.example";
  options.deviceId = deviceId;
  options.transport = [&](const nucleus::Request& request) {
    (request.expectsAnswer() ? message : heartbeat) = request.body();
    if (request.expectsAnswer()) {
      talker->receive(fakes::Server::naming(fakes::Server::ids(request.body())));
    }
    return nucleus::Response::pending();
  };
  nucleus::Client client(options);
  talker = &client;
  world.pass(client, 90'000, 1'000);
  REQUIRE(Json::accept(message));
  REQUIRE(Json::accept(heartbeat));
  const Json init = Json::parse(message).at("data").at(0), beat = Json::parse(heartbeat);
  CHECK(keys(beat) == Names{"type", "sessionId", "deviceId", "machineId"});
  CHECK(beat.at("type") == "heartbeat");
  CHECK(beat.at("sessionId") == init.at("sessionId"));
  CHECK(beat.at("deviceId") == init.at("deviceId"));
  CHECK(beat.at("machineId") == init.at("deviceId"));
}

// ---- payloads ----

TEST_CASE("values of every kind arrive as they were") {
  Wire wire;
  wire.fresh().client.track("event", {{"true", true},
                                      {"false", false},
                                      {"zero", 0},
                                      {"lowest", INT64_MIN},
                                      {"highest", UINT64_MAX},
                                      {"odd", (std::int64_t{1} << 53) + 1},
                                      {"tenth", 0.1},
                                      {"tiny", 5e-324},
                                      {"half", 0.5f},
                                      {"empty", ""},
                                      {"text", std::string("text")},
                                      {"view", std::string_view("view")}});
  CHECK(wire.only()["payload"].dump() ==
        R"({"true":true,"false":false,"zero":0,"lowest":-9223372036854775808,)"
        R"("highest":18446744073709551615,"odd":9007199254740993,"tenth":0.1,"tiny":5e-324,)"
        R"("half":0.5,"empty":"","text":"text","view":"view"})");
}

TEST_CASE("of properties with the same name the last one is sent") {
  Wire wire;
  wire.fresh().client.track("event", {{"a", 1}, {"b", 2}, {"a", 3}, {"a", "last"}});
  CHECK(payload(wire.only()) == fakes::Json{{"a", "last"}, {"b", 2}});
  CHECK(occurrences(wire.world.server->bodies.back(), "\"a\":") == 1);
  wire.client.setProps({{"a", 1}, {"b", 2}, {"a", 3}});
  CHECK(payload(wire.only()) == fakes::Json{{"a", 3}, {"b", 2}});
  CHECK(occurrences(wire.world.server->bodies.back(), "\"a\":") == 1);
}

TEST_CASE("names that are the same once they are valid are sent once") {
  Wire wire;
  wire.fresh().client.track("event", {{"\xFE", 1}, {"\xFF", 2}});
  CHECK(payload(wire.only()) == fakes::Json{{"\xEF\xBF\xBD", 2}});
  CHECK(occurrences(wire.world.server->bodies.back(), "\xEF\xBF\xBD") == 1);
  wire.client.setProps({{"\xFE", 1}, {"\xFF", 2}});
  CHECK(payload(wire.only()) == fakes::Json{{"\xEF\xBF\xBD", 2}});
  CHECK(occurrences(wire.world.server->bodies.back(), "\xEF\xBF\xBD") == 1);
}

TEST_CASE("NaN, infinity and a null text are left out and counted") {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  const char* const null = nullptr;
  Wire wire;
  wire.fresh().client.track(
      "event", {{"a", nan}, {"b", infinity}, {"c", -infinity}, {"d", null}, {"e", 1}, {"f", nan}});
  const Json event = wire.only();
  CHECK(payload(event) == fakes::Json{{"e", 1}});
  CHECK(wire.world.told("invalid-value") == 5);
  CHECK(wire.client.track("event", {{"a", nan}}) == Outcome::ok);
  CHECK(payload(wire.only()).empty());
  CHECK(wire.client.setProps({{"a", null}, {"e", 1}}) == Outcome::ok);
  CHECK(payload(wire.only()) == fakes::Json{{"e", 1}});
  wire.world.pass(wire.client, 61'000, 1'000);
  CHECK(wire.world.told("invalid-value") == 7);
}

TEST_CASE("a property of the user stays where the last new value of it cannot be sent") {
  Wire wire;
  wire.client.setProps({{"a", 1}});
  wire.client.setProps({{"a", 2}, {"a", std::numeric_limits<double>::quiet_NaN()}});
  CHECK(fakes::Json::parse(wire.client.exportData()).at("props") == fakes::Json{{"a", 1}});
}

TEST_CASE("a null text elsewhere is empty") {
  const char* const null = nullptr;
  Wire wire;
  wire.client.setUserId("alice");
  wire.fresh();
  CHECK(wire.client.track(null) == Outcome::invalidName);
  CHECK(wire.client.trackError("E", null, null) == Outcome::ok);
  CHECK(payload(wire.only()) == fakes::Json{{"message", ""}});
  CHECK(wire.client.setUserId(null) == Outcome::ok);
  CHECK_FALSE(wire.only().contains("userId"));
  CHECK(wire.client.track("event", {{null, 1}}) == Outcome::ok);
  CHECK(payload(wire.only()) == fakes::Json{{"", 1}});
}

TEST_CASE("names and texts arrive unchanged, whatever characters they hold") {
  Wire wire;
  wire.fresh();
  for (const std::string& text :
       {"a\0b"s, "\0"s, "\"quoted\""s, "it's"s, "back\\slash\\"s, "new\nline\ttab\r"s,
        "\x01\x1F\x7F\b\f"s, "</script>"s, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"s, " "s, "{}"s,
        "null"s, ",\"id\":1"s, "%s%n"s, "\xE2\x80\xA8"s}) {
    CAPTURE(text);
    wire.client.track(text, {{text, text}});
    wire.client.page(text, {{text, true}});
    wire.client.trackError(text, text, text);
    wire.client.identify(text, {{text, text}});
    const std::vector<Json> events = wire.sent();
    REQUIRE(events.size() == 5);
    for (int i = 0; i < 3; ++i) CHECK(events[static_cast<std::size_t>(i)].at("name") == text);
    CHECK(payload(events[0]) == fakes::Json{{text, text}});
    CHECK(payload(events[1]) == fakes::Json{{text, true}});
    CHECK(payload(events[2]) == fakes::Json{{"message", text}, {"stack", text}});
    CHECK(events[3].at("userId") == text);
    CHECK(payload(events[4]) == fakes::Json{{text, text}});
  }
}

TEST_CASE("invalid UTF-8 arrives as U+FFFD, wherever it was") {
  Wire wire([](nucleus::Options& options) {
    options.version = "1\xFF";
    options.locale = "\xED\xA0\x80";
    options.deviceId = "d\xC0\xAF";
  });
  const std::string bad = "a\xE2\x82z\xF0\x9F\x98", good = replaced(bad);
  wire.client.setUserId(bad);
  wire.client.trackError(bad, bad, bad);
  const std::vector<Json> events = wire.sent();
  REQUIRE(events.size() == 3);
  CHECK(events[0].at("version") == replaced("1\xFF"));
  CHECK(events[0].at("locale") == replaced("\xED\xA0\x80"));
  CHECK(events[0].at("deviceId") == replaced("d\xC0\xAF"));
  CHECK(events[2].at("userId") == good);
  CHECK(events[2].at("name") == good);
  CHECK(payload(events[2]) == fakes::Json{{"message", good}, {"stack", good}});
}

// ---- the user ----

TEST_CASE("properties of the user are merged by name, or replaced") {
  Wire wire;
  wire.fresh();
  const auto after = [&](Outcome outcome) {
    CHECK(outcome == Outcome::ok);
    return payload(wire.only());
  };
  CHECK(after(wire.client.setProps({{"age", 34}, {"na\"me", "A,\"b\":1"}, {"admin", false}})) ==
        fakes::Json{{"age", 34}, {"na\"me", "A,\"b\":1"}, {"admin", false}});
  CHECK(after(wire.client.setProps({{"job", "CEO"}})) ==
        fakes::Json{{"age", 34}, {"na\"me", "A,\"b\":1"}, {"admin", false}, {"job", "CEO"}});
  CHECK(after(wire.client.setProps({{"admin", true}, {"na\"me", 0.5}})) ==
        fakes::Json{{"age", 34}, {"na\"me", 0.5}, {"admin", true}, {"job", "CEO"}});
  CHECK(after(wire.client.setProps({{"ag", 1}, {"", 2}})).size() == 6);
  CHECK(after(wire.client.setProps({{"age", 23}}, true)) == fakes::Json{{"age", 23}});
  CHECK(after(wire.client.setProps({}, true)).empty());
  CHECK(wire.client.setProps({}) == Outcome::ok);
  CHECK(wire.sent().empty());
}

TEST_CASE("init carries the user's properties") {
  Wire wire;
  wire.client.identify("alice", {{"plan", "pro"}, {"seats", 5}});
  wire.fresh().client.startSession();
  const Json init = wire.only();
  CHECK(init.at("type") == "init");
  CHECK(init.at("userId") == "alice");
  CHECK(payload(init) == fakes::Json{{"plan", "pro"}, {"seats", 5}});
}

TEST_CASE("the properties belong to the user who is signed in") {
  Wire wire;
  const auto held = [&] {
    wire.client.startSession();
    return payload(wire.sent().back());
  };
  wire.client.setProps({{"seen", true}});
  wire.client.setUserId("alice");
  CHECK(held() == fakes::Json{{"seen", true}});  // the unknown user has turned out to be alice
  wire.client.identify("alice", {{"plan", "pro"}});
  wire.client.setUserId("alice");
  wire.client.identify("alice");
  CHECK(held() == fakes::Json{{"plan", "pro"}});
  wire.client.setUserId("bob");
  CHECK(held().empty());
  wire.client.setProps({{"plan", "free"}});
  wire.client.setUserId("");
  CHECK(held().empty());
  wire.fresh().client.track("event");
  CHECK_FALSE(wire.only().contains("userId"));
}

TEST_CASE("signing out also clears the properties of a user who had no id") {
  Wire wire;
  wire.client.setProps({{"plan", "pro"}});
  wire.client.setUserId("");
  wire.fresh().client.startSession();
  CHECK(payload(wire.only()).empty());
}

TEST_CASE("a property that cannot be said leaves the one before as it was") {
  Wire wire;
  wire.client.setProps({{"age", 34}});
  wire.fresh().client.setProps({{"age", std::nan("")}, {"seats", 5}});
  CHECK(payload(wire.only()) == fakes::Json{{"age", 34}, {"seats", 5}});
}

TEST_CASE("built-in names replace what was detected and are no properties of the user") {
  Wire wire;
  wire.fresh();
  CHECK(wire.client.setProps({{"version", "9.1"}, {"age", 3}, {"locale", "de-DE"}}) == Outcome::ok);
  CHECK(payload(wire.only()) == fakes::Json{{"age", 3}});
  CHECK(wire.client.setProps({{"platform", "web"}, {"osVersion", "10.1"}, {"deviceId", "mine"}}) ==
        Outcome::ok);
  CHECK(wire.sent().empty());
  wire.client.trackError("E", "m");
  const Json error = wire.only();
  CHECK(error.at("version") == "9.1");
  CHECK(error.at("locale") == "de-DE");
  CHECK(error.at("language") == "de-DE");
  CHECK(error.at("platform") == "web");
  CHECK(error.at("osVersion") == "10.1");
  CHECK(error.at("deviceId") == "mine");
  wire.client.startSession();
  const Json init = wire.only();
  CHECK(init.at("version") == "9.1");
  CHECK(payload(init) == fakes::Json{{"age", 3}});
  wire.client.identify("alice", {{"version", "9.2"}, {"plan", "pro"}});
  const std::vector<Json> events = wire.sent();
  REQUIRE(events.size() == 2);
  CHECK(payload(events[1]) == fakes::Json{{"plan", "pro"}});
  wire.client.trackError("E", "m");
  CHECK(wire.only().at("version") == "9.2");
}

TEST_CASE("a built-in name keeps its value where the new one cannot be said") {
  Wire wire;
  const char* const null = nullptr;
  wire.client.setProps({{"version", null}, {"locale", std::string(65, 'x')}});
  wire.fresh().client.trackError("E", "m");
  const Json error = wire.only();
  CHECK(error.at("version") == "2.3.4");
  CHECK(error.at("locale") == "en-US");
  CHECK(wire.world.told("invalid-value") == 2);
}

// ---- sizes ----

TEST_CASE("an event of exactly maxEventBytes passes, one byte more does not") {
  const auto limit = GENERATE(values<std::size_t>({512, 1'000, 16 << 10}));
  Wire wire([&](nucleus::Options& options) { options.maxEventBytes = limit; });
  wire.fresh();
  const auto size = [&] {
    return wire.world.server->bodies.at(0).size() - R"({"data":[]})"s.size();
  };
  struct Unit {
    std::string text;
    std::size_t bytes;  // as JSON
  };
  std::uint64_t refused = 0;
  for (const Unit& unit :
       {Unit{"x", 1}, Unit{"\n", 2}, Unit{"\xC3\xA4", 2}, Unit{"\xFF", 3}, Unit{"\x01", 6}}) {
    wire.client.track("event", {{"p", ""}});
    wire.only();
    const std::size_t room = limit - size();
    const std::string text =
        repeat(unit.text, room / unit.bytes) + std::string(room % unit.bytes, 'x');
    CHECK(wire.client.track("event", {{"p", text}}) == Outcome::ok);
    CHECK(payload(wire.only()) == fakes::Json{{"p", replaced(text)}});
    CHECK(size() == limit);
    CHECK(wire.client.track("event", {{"p", text + "x"}}) == Outcome::tooLarge);
    CHECK(wire.client.track("event", {{"p", text + "x"}, {"q", std::nan("")}}) ==
          Outcome::tooLarge);
    CHECK(wire.sent().empty());
    refused += 2;
  }
  wire.world.pass(wire.client, 61'000, 1'000);
  CHECK(wire.world.told("too-large") == refused);
}

TEST_CASE("a setProps that is too large changes nothing") {
  const double nan = std::nan("");
  const std::string huge(100'000, 'x');
  Wire wire;
  wire.client.setProps({{"a", 1}});
  wire.fresh();
  CHECK(wire.client.setProps({{"big", huge}}) == Outcome::tooLarge);
  CHECK(wire.client.setProps({{"big", huge}}, true) == Outcome::tooLarge);
  CHECK(wire.client.setProps({{"version", "9"}, {"big", huge}}) == Outcome::tooLarge);
  CHECK(wire.client.setProps({{"big", huge}, {"b", nan}}) == Outcome::tooLarge);
  CHECK(wire.sent().empty());
  wire.client.startSession();
  const Json init = wire.only();
  CHECK(payload(init) == fakes::Json{{"a", 1}});
  CHECK(init.at("version") == "2.3.4");
}

TEST_CASE("properties of the user at the limit of their size are sent whole or not at all") {
  Wire wire([](nucleus::Options& options) { options.maxEventBytes = 512; });
  wire.fresh();
  int taken = 0, refused = 0;
  for (std::size_t bytes = 150; bytes < 512; bytes += (fakes::slowdown + 2) / 3) {
    const std::string text(bytes, 'x');
    const bool ok =
        wire.client.setProps({{"big", text}, {"nan", std::nan("")}}, true) == Outcome::ok;
    ++(ok ? taken : refused);
    wire.client.flush(1'000);
    REQUIRE(Json::accept(wire.world.server->bodies.back()));
    if (ok) REQUIRE(payload(wire.world.server->received().back()) == fakes::Json{{"big", text}});
  }
  CHECK(taken > 0);
  CHECK(refused > 0);
}

TEST_CASE("the stack of an error fills the room that is left, up to a whole character") {
  const auto limit = GENERATE(values<std::size_t>({512, 16 << 10}));
  Wire wire([&](nucleus::Options& options) { options.maxEventBytes = limit; });
  wire.fresh();
  const auto size = [&] {
    return wire.world.server->bodies.at(0).size() - R"({"data":[]})"s.size();
  };
  const std::string stack = repeat("\xF0\x9F\x98\x80\xC3\xA4\n\x01x\xFF\"", limit);
  const std::string whole = replaced(stack);
  for (std::size_t shift = 0; shift < 12; ++shift) {
    const std::string message(shift, 'm');
    CHECK(wire.client.trackError("E", message, stack) == Outcome::ok);
    const Json error = wire.only();
    const std::string cut = error.at("payload").at("stack");
    CHECK(error.at("payload").at("message") == message);
    CHECK(size() <= limit);
    CHECK(size() > limit - 6);
    CHECK(cut == whole.substr(0, cut.size()));
    CHECK(replaced(cut) == cut);
  }
}

TEST_CASE("an error whose message alone is too large is refused, with or without a stack") {
  Wire wire([](nucleus::Options& options) { options.maxEventBytes = 1'000; });
  wire.fresh().client.trackError("E", "");
  wire.only();
  const std::size_t room =
      1'000 + R"({"data":[]})"s.size() - wire.world.server->bodies.at(0).size();
  const std::string most(room, 'm');
  CHECK(wire.client.trackError("E", most, "stack") == Outcome::ok);
  CHECK(payload(wire.only()).at("message") == most);
  CHECK(wire.client.trackError("E", most + "m", "stack") == Outcome::tooLarge);
  CHECK(wire.client.trackError("E", most + "m") == Outcome::tooLarge);
  CHECK(wire.sent().empty());
}

TEST_CASE("an error fits into any space that holds it without its stack") {
  const std::string stack = repeat("a\"\xC3\xA4\x01", 20);
  nucleus::detail::Event event = {nucleus::detail::Type::error, "E", {}, "message", stack};
  const nucleus::detail::Envelope envelope = {7, 1, {}, plainTail, R"(,"client":"cpp")"};
  bool full = false;
  const std::size_t whole = encoded(event, envelope, 2'000, full).size();
  event.stack = {};
  const std::size_t least = encoded(event, envelope, 2'000, full).size();
  event.stack = stack;
  for (std::size_t capacity = 0; capacity <= whole + 1; ++capacity) {
    const std::string json = encoded(event, envelope, capacity, full);
    CAPTURE(capacity, json);
    CHECK(full == (capacity < least));
    CHECK(json.size() <= capacity);
    if (full) continue;
    CHECK(isOurs(json));
    const std::string cut = Json::parse(json).at("payload").value("stack", ""s);
    CHECK(cut == stack.substr(0, cut.size()));
    CHECK(json.size() + 20 > std::min(capacity, whole));
    if (capacity >= whole) CHECK(cut == stack);
  }
}

TEST_CASE("an exception is an error by the name of its type") {
  struct Mute : std::exception {
    const char* what() const noexcept override { return nullptr; }
  };
  Wire wire;
  wire.fresh();
  CHECK(wire.client.trackError(std::runtime_error("out of \"paper\"")) == Outcome::ok);
  const Json error = wire.only();
  CHECK(error.at("type") == "error");
  CHECK(error.at("name").get<std::string>().find("runtime_error") != std::string::npos);
  CHECK(payload(error) == fakes::Json{{"message", "out of \"paper\""}});
  CHECK(wire.client.trackError(Mute()) == Outcome::ok);
  CHECK(payload(wire.only()) == fakes::Json{{"message", ""}});
}

// ---- reading it back ----

TEST_CASE("an event of ours is recognised, with what is needed of it") {
  nucleus::detail::EventFacts facts;
  CHECK(nucleus::detail::readEvent(
      R"({"type":"event","name":"n","id":4503599627370495,"date":1790000000000,)"
      R"("payload":{"a":1,"b":"x","c":true,"d":-0.5e3},"sessionId":12345678,"userId":"u",)"
      R"("anonId":"a","deviceId":"d"})",
      facts));
  CHECK_FALSE(facts.isInit);
  CHECK(facts.id == (std::uint64_t{1} << 52) - 1);
  CHECK(facts.sessionId == 12'345'678);
  CHECK(facts.dateMs == 1'790'000'000'000);
  nucleus::detail::EventFacts init;
  CHECK(nucleus::detail::readEvent(
      R"({"type":"init","id":5,"payload":{},"sessionId":99999999,"client":"cpp","totalRam":16})",
      init));
  CHECK(init.isInit);
  CHECK(init.dateMs == -1);
}

TEST_CASE("an event that is not ours is not read back") {
  const std::string type = R"("type":"event")", id = R"("id":7)",
                    session = R"("sessionId":12345678)";
  const auto object = [](std::initializer_list<std::string> members) {
    std::string text;
    for (const std::string& member : members) text += (text.empty() ? "{" : ",") + member;
    return text + "}";
  };
  const auto with = [&](const std::string& more) { return object({type, id, session, more}); };
  REQUIRE(isOurs(object({type, id, session})));
  REQUIRE(isOurs(with(R"("name":"n","payload":{"a":1})")));
  REQUIRE(isOurs(object({session, id, type})));

  const std::string rows[] = {
      "", "null", "7", "[]", "{}", "\"event\"", "[" + object({type, id, session}) + "]",
      object({id, session}), object({type, session}), object({type, id}),
      // another type
      object({R"("type":"")", id, session}), object({R"("type":"heartbeat")", id, session}),
      object({R"("type":"Event")", id, session}), object({R"("type":7)", id, session}),
      object({R"("type":null)", id, session}), object({R"("type":["event"])", id, session}),
      object({R"("type":"$pageview")", id, session}),
      // another number
      object({type, R"("id":0)", session}), object({type, R"("id":-7)", session}),
      object({type, R"("id":7.0)", session}), object({type, R"("id":7e2)", session}),
      object({type, R"("id":"7")", session}), object({type, R"("id":null)", session}),
      object({type, R"("id":9007199254740992)", session}),
      object({type, R"("id":18446744073709551623)", session}),
      object({type, R"("id":07)", session}),
      // another session
      object({type, id, R"("sessionId":0)"}), object({type, id, R"("sessionId":9999999)"}),
      object({type, id, R"("sessionId":100000000)"}),
      object({type, id, R"("sessionId":"12345678")"}),
      object({type, id, R"("sessionId":12345678.0)"}),
      object({type, id, R"("sessionId":-12345678)"}),
      // another date
      with(R"("date":"2026-01-01")"), with(R"("date":-1)"), with(R"("date":1.5)"),
      with(R"("date":9007199254740992)"), with(R"("date":null)"),
      // a payload that is not flat
      with(R"("payload":null)"), with(R"("payload":[])"), with(R"("payload":"a")"),
      with(R"("payload":7)"), with(R"("payload":{"a":{}})"), with(R"("payload":{"a":[]})"),
      with(R"("payload":{"a":null})"), with(R"("payload":{"a":1,})"), with(R"("payload":{"a"})"),
      with(R"("payload":{"a":nul})"), with(R"("payload":{"a":1)"),
      // other fields
      with(R"("unknown":1)"), with(R"("appId":"a")"), with(R"("":1)"), with(R"("Name":"n")"),
      with(R"("name":7)"), with(R"("name":null)"), with(R"("name":{})"), with(R"("userId":7)"),
      with(R"("anonId":true)"), with(R"("deviceId":["d"])"), with(R"("totalRam":"16")"),
      with(R"("locale":null)"), with(R"("client":{"a":1})"),
      // not JSON
      object({type, id, session}) + "x", object({type, id, session}) + object({type, id, session}),
      "x" + object({type, id, session}), object({type, id, session, ""}),
      object({"", type, id, session}), object({"", id, type, session}),
      object({type, "", id, session}), "{" + type + "{" + type + "," + id + "," + session + "}",
      "{" + type + " " + id + "," + session + "}", with("\"name\":\"\xFF\""),
      with("\"name\":\"\n\""), with(R"("name":"\ud800")"), with(R"("name":"n)"),
      object({type, id, session}) + "\0"s};
  for (const std::string& row : rows) {
    CAPTURE(row);
    CHECK_FALSE(isOurs(row));
  }
  const std::string whole = with(R"("payload":{"a":"b"})");
  REQUIRE(isOurs(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_FALSE(isOurs({whole.data(), size}));
  }
}

TEST_CASE("an event with a field given twice is not ours") {
  const std::string good = R"({"type":"event","id":7,"sessionId":12345678,)";
  for (const char* again :
       {R"("type":"heartbeat")", R"("type":"init")", R"("id":8)", R"("sessionId":12345679)"}) {
    CAPTURE(again);
    CHECK_FALSE(isOurs(good + again + "}"));
  }
}

TEST_CASE("a payload nested 100,000 deep is not read back, without recursion") {
  CHECK_FALSE(isOurs(R"({"type":"event","id":7,"sessionId":12345678,"payload":)" +
                     repeat("{\"a\":", 100'000) + "1" + repeat("}", 100'001)));
  CHECK_FALSE(isOurs(repeat("[", 100'000)));
}

// ---- all of it at once ----

namespace {

/// Integers that were doubles become these again, of 64 bits: x87 would compare longer ones.
void storeDoubles(fakes::Json& arrived, const fakes::Json& expected) {
  for (auto& [key, value] : arrived.items()) {
    if (!value.is_number() || !expected.contains(key) || !expected[key].is_number_float()) continue;
    const volatile double stored = value.get<double>();
    value = double{stored};
  }
}

}  // namespace

TEST_CASE("random events arrive as they were said, and are recognised as ours") {
  using namespace nucleus::detail;
  std::mt19937_64 random(17);
  const auto pick = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  const auto bytes = [&](std::size_t most) {
    std::string text(pick(most + 1), '\0');
    const std::string likely = "az09 _\"\\\n\x01\x7F\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\xFF";
    for (char& c : text) c = likely[pick(likely.size())];
    return text;
  };
  constexpr std::size_t count = fakes::rounds(10'000, 300);
  std::size_t wholes = 0, parts = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::string> names, texts(12);
    std::vector<Property> properties;
    std::map<std::string, Json> model;
    std::size_t unsayable = 0;
    for (std::size_t n = pick(12); n > 0; --n) {
      const bool again = !names.empty() && pick(5) == 0;
      names.push_back(again ? names[pick(names.size())] : std::to_string(n) + bytes(8));
    }
    for (std::size_t n = 0; n < names.size(); ++n) {
      const std::int64_t integer = static_cast<std::int64_t>(random() >> pick(64));
      double number = 0;
      std::memcpy(&number, &integer, sizeof number);
      nucleus::Value value;
      Json expected;
      switch (pick(6)) {
        case 0: value = integer, expected = integer; break;
        case 1: value = random(), expected = value.unsignedInteger(); break;
        case 2: value = integer % 2 == 0, expected = value.boolean(); break;
        case 3: value = number, expected = std::isfinite(number) ? Json(number) : Json(); break;
        case 4: value = texts[n] = bytes(30), expected = replaced(texts[n]); break;
        default: break;  // nothing
      }
      properties.push_back({names[n], value});
      model[replaced(names[n])] = expected;
    }
    for (auto at = model.begin(); at != model.end();) {
      unsayable += at->second.is_null() ? 1u : 0u;
      at = at->second.is_null() ? model.erase(at) : std::next(at);
    }

    Identity identity;
    std::string userMemory = bytes(20);
    identity.userId = Buffer(userMemory.data(), userMemory.size());
    identity.userId.grow(userMemory.size());
    identity.anonId.set(bytes(10));
    identity.deviceId.set(bytes(10));
    const auto type = static_cast<Type>(pick(6));
    const std::string name = bytes(20), message = bytes(20), stack = bytes(40);
    const std::uint64_t id = 1 + random() % ((std::uint64_t{1} << 52) - 1),
                        session = 10'000'000 + pick(90'000'000);
    const std::int64_t date = pick(4) == 0 ? -1 : static_cast<std::int64_t>(random() >> 12);
    const bool hasName = type == Type::event || type == Type::error || type == Type::view;
    const bool ofUser = type == Type::init || type == Type::props;
    Fixed<1000> tail;
    writeCount(tail, Field::sessionId, session);
    identity.write(tail);

    fakes::Json expected = {{"type", std::string(typeNames[static_cast<std::size_t>(type)])},
                            {"id", id},
                            {"sessionId", session}};
    const auto put = [&](const char* key, std::string_view text) {
      if (!text.empty()) expected[key] = replaced(std::string(text));
    };
    if (hasName) put("name", name);
    put("userId", userMemory);
    put("anonId", identity.anonId.view());
    put("deviceId", identity.deviceId.view());
    if (date >= 0) expected["date"] = date;
    if (type == Type::error) {
      expected["payload"] = {{"message", replaced(message)}};
      if (!stack.empty()) expected["payload"]["stack"] = replaced(stack);
      expected["client"] = "cpp";
    } else if (ofUser) {
      expected["payload"] = {{"plan", "pro"}, {"seats", 5}};
      if (type == Type::init) expected["client"] = "cpp";
    } else if (type != Type::userId && !properties.empty()) {
      expected["payload"] = fakes::Json::object();
      for (const auto& [key, value] : model)
        expected["payload"][key] = fakes::Json::parse(value.dump());
    }

    Event event = {type, {}, {}, {}, {}};
    if (hasName) event.name = name;
    if (type == Type::event || type == Type::view) event.properties = properties;
    if (type == Type::error) event.message = message, event.stack = stack;
    const Envelope envelope = {id, date, ofUser ? R"("plan":"pro","seats":5)" : "", tail.view(),
                               R"(,"client":"cpp")"};
    Fixed<8000> out;
    const std::size_t left = encode(out, event, envelope);
    REQUIRE_FALSE(out.full());
    const std::string json(out.view());
    fakes::Json arrived = fakes::Json::parse(json);
    if (expected.contains("payload")) storeDoubles(arrived["payload"], expected["payload"]);
    EventFacts facts;
    const bool right = arrived == expected && readEvent(json, facts) && facts.id == id &&
                       facts.sessionId == session && facts.dateMs == date &&
                       facts.isInit == (type == Type::init) &&
                       left == (type == Type::event || type == Type::view ? unsayable : 0);
    ++wholes;
    if (!right) {
      CAPTURE(json, expected.dump(), left, unsayable);
      CHECK(right);
    }
    bool full = false;
    const std::size_t capacity = pick(json.size());
    const std::string part = encoded(event, envelope, capacity, full);
    ++parts;
    if (part.size() > capacity || (!full && (type != Type::error || !isOurs(part)))) {
      CAPTURE(json, part);
      CHECK(full);
    }
  }
  CHECK(wholes == count);
  CHECK(parts == count);
}
