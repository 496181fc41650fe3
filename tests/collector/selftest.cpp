// Tests of the collector's rules and answers.
#include "answers.hpp"

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

using collector::Answer;
using collector::Findings;
using collector::Json;

namespace {

Json eventOf(const std::string& type) {
  return {{"type", type},
          {"id", 4294967301},
          {"date", 1700000000000},
          {"sessionId", 12345678},
          {"userId", "u1"},
          {"anonId", "V1StGXR8_Z5j"},
          {"deviceId", "dev-ice_0123456"}};
}

Json named(const std::string& type) {
  Json event = eventOf(type);
  event["name"] = "PLAYED";
  event["payload"] = {{"level", 3}, {"ratio", 0.5}, {"won", true}, {"map", "caf\u00e9"}};
  return event;
}

Json described(Json event) {
  event.update({{"client", "cpp"},
                {"platform", "linux"},
                {"osVersion", "6.1.0"},
                {"totalRam", 16},
                {"version", "1.2.3"},
                {"locale", "en-US"},
                {"language", "en-US"},
                {"arch", "x64"},
                {"moduleVersion", "1.0.0"}});
  return event;
}

Json init() { return described(eventOf("init")); }
Json error() { return described(named("error")); }

Json with(Json event, const char* field, const Json& value) {
  event[field] = value;
  return event;
}

Json without(Json event, const char* field) {
  event.erase(field);
  return event;
}

Findings findingsIn(const std::string& body) { return collector::readBatch(body).findings; }

std::string bodyOf(const std::vector<Json>& events) { return Json{{"data", events}}.dump(); }

/// An init and three events, with ids in a row.
std::string fourEvents() {
  std::vector<Json> events = {init()};
  for (int i = 1; i <= 3; ++i) events.push_back(with(named("event"), "id", 4294967301 + i));
  return bodyOf(events);
}

struct Asked {
  Answer answer;
  Json state;
};

/// The answer of a collector that behaves like this, and what it has afterwards.
Asked ask(const std::string& behaviour, const std::string& body = fourEvents()) {
  collector::Collector collector("");
  collector.behave(collector::scriptOf(Json{{"then", behaviour}}.dump()));
  Answer answer = collector.track("app", "application/json", body);
  return {answer, Json::parse(collector.state())};
}

struct Case {
  Json event;
  std::string finding;  // how it begins
};

void requireFindings(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    INFO(c.event.dump() << " should be found: " << c.finding);
    const Findings findings = collector::checkEvent(c.event);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].rfind(c.finding, 0) == 0);
  }
}

}  // namespace

TEST_CASE("a good event of each type has no findings") {
  const Json userid = eventOf("userid"), props = with(eventOf("props"), "payload", Json::object());
  for (const Json& event : {init(), error(), named("event"), named("nucleus:view"), userid, props})
    CHECK(collector::checkEvent(event) == Findings{});
}

TEST_CASE("what may be absent may be absent") {
  Json event = named("event");
  for (const char* field : {"date", "userId", "payload"}) event.erase(field);
  CHECK(collector::checkEvent(event) == Findings{});
  CHECK(collector::checkEvent(without(without(init(), "locale"), "language")) == Findings{});
}

TEST_CASE("limits belong to what is good") {
  for (const Json& id : {Json(1LL << 32), Json(1LL << 53)})
    CHECK(collector::checkEvent(with(named("event"), "id", id)) == Findings{});
  for (const Json& session : {Json(10000000), Json(99999999)})
    CHECK(collector::checkEvent(with(named("event"), "sessionId", session)) == Findings{});
  CHECK(collector::checkEvent(with(named("event"), "name", std::string(256, 'n'))) == Findings{});
  CHECK(collector::checkEvent(with(init(), "deviceId", std::string(64, 'd'))) == Findings{});
}

TEST_CASE("a required field that is absent is found") {
  for (const char* field : {"type", "name", "id", "sessionId", "anonId", "deviceId"})
    requireFindings({{without(named("event"), field), "lacks "}});
  for (const char* field : {"client", "platform", "osVersion", "version", "moduleVersion"})
    requireFindings({{without(init(), field), "lacks "}, {without(error(), field), "lacks "}});
  requireFindings({{without(error(), "name"), "lacks name"},
                   {without(named("nucleus:view"), "name"), "lacks name"},
                   {eventOf("props"), "lacks payload"}});
}

TEST_CASE("null is found in every field") {
  const Json whole = error();
  for (const auto& member : whole.items()) {
    INFO(member.key());
    CHECK(!collector::checkEvent(with(whole, member.key().c_str(), nullptr)).empty());
  }
}

TEST_CASE("a value of the wrong kind is found") {
  struct Wrong {
    const char* field;
    std::vector<Json> values;
  };
  const std::vector<Wrong> table = {
      {"type", {"heartbeat", "$pageview", "", 1}},
      {"name", {"", 7, std::string(257, 'n')}},
      {"id", {(1LL << 32) - 1, (1LL << 53) + 1, 4294967301.0, "4294967301", ~0ULL, -4294967301}},
      {"date", {1700000000, 1700000000000.5, "2024-01-01T00:00:00Z"}},
      {"payload", {1, "{}", Json::array(), {{"a", nullptr}}, {{"a", {{"b", 1}}}}, {{"a", {1, 2}}}}},
      {"sessionId", {1234567, 123456789, "12345678", 12345678.0}},
      {"userId", {"", 42}},
      {"anonId", {"", "a b", 1, std::string(65, 'a')}},
      {"deviceId", {"", "d/1", "caf\u00e9", std::string(65, 'd')}},
      {"client", {"js", "", 1}},
      {"platform", {"", 1}},
      {"osVersion", {"6.1-deb", "", 6.1}},
      {"totalRam", {15.12, "16", -1}},
      {"version", {"", 2}},
      {"arch", {"", 64}},
      {"moduleVersion", {"", true}}};
  for (const Wrong& wrong : table)
    for (const Json& value : wrong.values)
      requireFindings({{with(error(), wrong.field, value), std::string("has ") + wrong.field}});
}

TEST_CASE("a language that is not the locale is found") {
  requireFindings({{with(init(), "language", "de-DE"), "has a language"},
                   {without(init(), "language"), "has a language"},
                   {without(init(), "locale"), "has a language"}});
}

TEST_CASE("a field that is unknown, or belongs to another type, is found") {
  requireFindings({{with(named("event"), "machineId", "m"), "has the unknown field \"machineId\""},
                   {with(named("event"), "client", "cpp"), "has client"},
                   {with(init(), "name", "init"), "has name"},
                   {with(eventOf("userid"), "name", "x"), "has name"}});
}

TEST_CASE("a body that is not what it should be is found and has no events") {
  for (const char* body : {"", "{\"data\":[{}]", "[]", "3", "{}", "{\"data\":{}}", "{\"data\":[]}",
                           "{\"data\":[{}],\"more\":1}", "{\"data\":[\"\xff\"]}"}) {
    INFO(body);
    CHECK(findingsIn(body).size() == 1);
    CHECK(collector::readBatch(body).events.empty());
  }
}

TEST_CASE("a name twice in one object is found, in two objects it is not") {
  CHECK(findingsIn(R"({"data":[{"a":1,"b":{"a":2}},{"a":3}]})") == Findings{});
  CHECK(findingsIn(R"({"data":[{"payload":{"a":1,"\u0061":2}}]})").size() == 1);
}

TEST_CASE("the bytes of each event are kept as received") {
  const std::vector<std::string> bytes = {R"({"a":"],}\"[\\"})", R"({"b":[1,{}],"c":"\u00e9"})",
                                          "3"};
  const auto batch =
      collector::readBatch("{\"data\":[" + bytes[0] + "," + bytes[1] + "," + bytes[2] + "]}");
  CHECK(batch.bytes == bytes);
  CHECK(batch.events.size() == bytes.size());
}

TEST_CASE("an event before the init of its session is found") {
  collector::History history;
  CHECK(history.see(init(), "init").empty());
  CHECK(history.see(with(named("event"), "id", 4294967302), "event").empty());
  CHECK(history.see(with(with(named("event"), "id", 4294967303), "sessionId", 87654321), "x") ==
        Findings{"comes before the init of its session"});
}

TEST_CASE("an id that comes again with other bytes is found") {
  collector::History history;
  CHECK(history.see(init(), "{\"a\":1}").empty());
  CHECK(history.see(init(), "{\"a\":1}").empty());
  CHECK(history.see(init(), "{\"a\": 1}") ==
        Findings{"is not the same bytes as when first received"});
}

TEST_CASE("a script's answers come one after the other, then the last for ever") {
  collector::Script script =
      collector::scriptOf(R"({"answers":["500","slow 20","body {}"],"then":"429 7"})");
  for (const char* verb : {"500", "slow", "body", "429", "429"}) CHECK(script.next().verb == verb);
  CHECK(script.next().argument == "7");
}

TEST_CASE("an answer that there is not is refused") {
  for (const char* answer : {"", "okay", "slow", "slow x", "drop 1", "429 soon", "429-date", "600",
                             "413 many", "500-date 3"}) {
    INFO(answer);
    CHECK_THROWS(collector::scriptOf(Json{{"then", answer}}.dump()));
    CHECK_THROWS(collector::scriptOf(Json{{"answers", {answer}}}.dump()));
  }
  CHECK_THROWS(collector::scriptOf("{"));
}

TEST_CASE("ok stores and acknowledges all, none acknowledges nothing of it") {
  const Asked ok = ask("ok"), none = ask("none");
  CHECK(ok.answer.status == 200);
  CHECK(Json::parse(ok.answer.body).at("reportedIds") == ok.state.at("ids"));
  CHECK(Json::parse(none.answer.body).at("reportedIds") == Json::array());
  for (const Json& state : {ok.state, none.state}) {
    CHECK(state.at("events") == 4);
    CHECK(state.at("violations") == Json::array());
  }
}

TEST_CASE("half stores and acknowledges every other event") {
  const Asked half = ask("half");
  CHECK(half.state.at("ids") == Json{4294967301, 4294967303});
  CHECK(Json::parse(half.answer.body).at("reportedIds") == half.state.at("ids"));
}

TEST_CASE("drop stores all and does not answer, offline does not even store") {
  const Asked drop = ask("drop"), offline = ask("offline");
  CHECK(drop.answer.status == 0);
  CHECK(drop.state.at("events") == 4);
  CHECK(offline.answer.status == 0);
  CHECK(offline.state.at("events") == 0);
  CHECK(offline.state.at("requests") == 1);
}

TEST_CASE("429 and 503 say when to come again, in seconds or as a date") {
  CHECK(ask("429 30").answer.retryAfter == "30");
  CHECK(ask("503").answer.retryAfter.empty());
  for (const char* behaviour : {"429-date 3600", "503-date 3600"}) {
    const Asked dated = ask(behaviour);
    CHECK(dated.answer.status == std::stoi(behaviour));
    CHECK(dated.state.at("events") == 0);
    std::tm utc{};
    const char* const end =
        strptime(dated.answer.retryAfter.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
    REQUIRE(end != nullptr);
    CHECK(*end == '\0');
    CHECK(std::abs(std::difftime(timegm(&utc), std::time(nullptr)) - 3600) < 60);
  }
}

TEST_CASE("a body that is too large, or has an event of that name, is refused whole") {
  CHECK(ask("413 100").answer.status == 413);
  CHECK(ask("413 100000").answer.status == 200);
  const Asked refused = ask("400 PLAYED"), taken = ask("400 OTHER");
  CHECK(refused.answer.status == 400);
  CHECK(refused.state.at("events") == 0);
  CHECK(taken.answer.status == 200);
  CHECK(taken.state.at("events") == 4);
}

TEST_CASE("the collector counts what comes again, and the answers that are left") {
  collector::Collector collector("");
  collector.behave(collector::scriptOf(R"({"answers":["none","ok","500"]})"));
  for (int i = 0; i < 2; ++i) collector.track("app", "application/json", fourEvents());
  const Json state = Json::parse(collector.state());
  CHECK(state.at("events") == 4);
  CHECK(state.at("repeats") == 4);
  CHECK(state.at("unused") == 1);
  CHECK(state.at("at").size() == 2);
}
