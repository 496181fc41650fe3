// Tests of the collector's rules.
#include "rules.hpp"

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

using collector::Findings;
using collector::Json;

namespace {

Json eventOf(const std::string& type) {
  return {{"type", type}, {"id", 4294967301}, {"date", 1700000000000}, {"sessionId", 12345678},
          {"userId", "u1"}, {"anonId", "V1StGXR8_Z5j"}, {"deviceId", "dev-ice_0123456"}};
}

Json named(const std::string& type) {
  Json event = eventOf(type);
  event["name"] = "PLAYED";
  event["payload"] = {{"level", 3}, {"ratio", 0.5}, {"won", true}, {"map", "caf\u00e9"}};
  return event;
}

Json described(Json event) {
  event.update({{"client", "cpp"}, {"platform", "linux"}, {"osVersion", "6.1.0"}, {"totalRam", 16},
                {"version", "1.2.3"}, {"locale", "en-US"}, {"language", "en-US"}, {"arch", "x64"},
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
  for (const char* field : {"client", "platform", "osVersion", "totalRam", "version",
                            "moduleVersion"})
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
  const std::vector<std::string> bytes = {R"({"a":"],}\"[\\"})",
                                          R"({"b":[1,{}],"c":"\u00e9"})", "3"};
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
