// Room 10: when the next request goes, how large it is, and what each answer does.
#include "check.hpp"
#include "fakes.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace nucleus;
using fakes::Json;
using fakes::Server;
using Ids = std::vector<std::uint64_t>;

namespace {

constexpr std::int64_t second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

/// A client, and the moments at which its requests went out.
struct Sender {
  fakes::World world;
  std::vector<std::int64_t> times;
  std::int64_t begin = 0;
  std::unique_ptr<Client> client;

  explicit Sender(const std::function<void(Options&)>& change = {}) {
    Options options = world.options();
    options.transport = [this](const Request& request) {
      times.push_back(world.clock->steady);
      return (*world.server)(request);
    };
    if (change) change(options);
    begin = world.clock->steady;
    client = std::make_unique<Client>(std::move(options));
  }
  Server& server() { return *world.server; }
  Stats stats() const { return client->stats(); }
  void pass(std::int64_t ms, std::int64_t step = 50) { world.pass(*client, ms, step); }
  void track(int events, std::size_t bytes = 0) {
    for (int i = 0; i < events; ++i) {
      REQUIRE(client->track("EVENT", {{"i", i}, {"x", std::string(bytes, 'x')}}) == Outcome::ok);
    }
  }
  /// Until there have been this many requests; fails where that takes more than a day.
  void passUntil(std::size_t requests, std::int64_t step = 50) {
    const std::int64_t end = world.clock->steady + day;
    while (times.size() < requests && world.clock->steady < end) pass(step, step);
    REQUIRE(times.size() >= requests);
  }
  std::int64_t gap(std::size_t after) const { return times.at(after + 1) - times.at(after); }
  Ids ids(std::size_t request) { return Server::ids(server().bodies.at(request)); }
};

Response named(const Request& request, std::size_t from, std::size_t step) {
  Ids some;
  const Ids all = Server::ids(request.body());
  for (std::size_t i = from; i < all.size(); i += step) some.push_back(all[i]);
  return Server::with(200, Server::naming(some));
}
Response pending(const Request&) { return Response::pending(); }

/// Requests that followed each other without a pause, at most.
std::size_t longestRow(const std::vector<std::int64_t>& times) {
  std::size_t longest = 0, row = 0;
  for (std::size_t i = 0; i < times.size(); ++i) {
    row = i > 0 && times[i] - times[i - 1] < second ? row + 1 : 1;
    longest = std::max(longest, row);
  }
  return longest;
}

bool mentions(std::string_view body, std::string_view name) {
  return body.find(name) != std::string_view::npos;
}

}  // namespace

// ---- dates and pauses ----

TEST_CASE("an HTTP date is read in all of its three forms") {
  const std::int64_t expected = 784'111'777'000;
  CHECK(detail::readHttpDate("Sun, 06 Nov 1994 08:49:37 GMT") == expected);
  CHECK(detail::readHttpDate("Sunday, 06-Nov-94 08:49:37 GMT") == expected);
  CHECK(detail::readHttpDate("Sun Nov  6 08:49:37 1994") == expected);
  CHECK(detail::readHttpDate("Thu, 01 Jan 1970 00:00:00 GMT") == 0);
  CHECK(detail::readHttpDate("Sat, 29 Feb 2020 23:59:60 GMT") == 1'583'020'800'000);
}

TEST_CASE("any date is read as the system would") {
#if defined(__unix__) || defined(__APPLE__)
  std::mt19937_64 random(4);
  for (int i = 0; i < 5000; ++i) {
    const auto when = static_cast<std::time_t>(random() % 10'000'000'000);  // to the year 2286
    std::tm parts = {};
    REQUIRE(gmtime_r(&when, &parts) != nullptr);
    REQUIRE(timegm(&parts) == when);
    for (const char* form :
         {"%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%A, %d-%b-%y %H:%M:%S GMT"}) {
      const bool shortYear = std::string(form).find("%y") != std::string::npos;
      if (shortYear && (parts.tm_year >= 140 || parts.tm_year < 70)) continue;  // to 2039
      char text[64];
      REQUIRE(std::strftime(text, sizeof text, form, &parts) > 0);
      CAPTURE(text);
      REQUIRE(detail::readHttpDate(text) == static_cast<std::int64_t>(when) * 1000);
    }
  }
#endif
}

TEST_CASE("what is no date is read as none") {
  for (const std::string_view text : {"",
                                      " ",
                                      "soon",
                                      "120",
                                      "-5",
                                      "Sun, 06 Nov 1994",
                                      "08:49:37",
                                      "Sun, 06 Foo 1994 08:49:37 GMT",
                                      "Sun, 32 Nov 1994 08:49:37 GMT",
                                      "Sun, 00 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 25:00:00 GMT",
                                      "Sun, 06 Nov 99999 08:49:37 GMT",
                                      "Sun, 06 nov 1994 08:49:37 GMT",
                                      "06 11 1994 08:49:37",
                                      "1994-11-06T08:49:37Z",
                                      "Nov Nov Nov Nov Nov",
                                      ":::::",
                                      ",,,,,",
                                      "1:2:3:4:5:6:7:8:9",
                                      "Sun, 99999999999999999999 Nov 1994 08:49:37 GMT"}) {
    CAPTURE(text);
    CHECK(detail::readHttpDate(text) == -1);
  }
}

TEST_CASE("Retry-After is seconds or a date, and at most a day") {
  const std::int64_t now = 784'111'777'000 + 1'000'000'000'000;  // Fri, 20 Jul 2026 10:36:17 GMT
  struct Row {
    const char* text;
    std::int64_t wall, expected;
  };
  const std::vector<Row> rows = {
      {"120", now, 120 * second},
      {" 120 ", now, 120 * second},
      {"0", now, 0},
      {"86400", now, day},
      {"86401", now, day},
      {"18446744073709551615", now, day},
      {"99999999999999999999999999", now, day},
      {"120", 5000, 120 * second},  // the clock is not set: seconds need none
      {"", now, 0},
      {"-1", now, 0},
      {"1.5", now, 0},
      {"soon", now, 0},
      {"Sun, 06 Nov 1994 08:49:37 GMT", now, 0},
      {"Sun, 06 Nov 2094 08:49:37 GMT", now, day},
      {"Sun, 06 Nov 2094 08:49:37 GMT", 5000, 0},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text, row.wall);
    CHECK(detail::readRetryAfter(row.text, row.wall) == row.expected);
  }
  const std::int64_t date = detail::readHttpDate("Wed, 15 Jul 2026 10:00:00 GMT");
  CHECK(detail::readRetryAfter("Wed, 15 Jul 2026 10:00:00 GMT", date - 90 * second) == 90 * second);
  CHECK(detail::readRetryAfter("Wednesday, 15-Jul-26 10:00:00 GMT", date - 1) == 1);
  CHECK(detail::readRetryAfter("Wed Jul 15 10:00:00 2026", date) == 0);
}

TEST_CASE("the longest pause doubles with every failure, to ten minutes") {
  std::int64_t before = 1000;
  for (int failures = 1; failures < 100; ++failures) {
    const std::int64_t longest = detail::longestBackoffMs(failures);
    CHECK(longest == std::min<std::int64_t>(2 * before, 600'000));
    before = longest;
  }
}

// ---- the schedule, with plain numbers ----

namespace {

detail::Random chance(std::uint32_t seed) {
  detail::Random random;
  random.seed([seed](void* to, std::size_t bytes) {
    std::mt19937 source(seed);
    for (std::size_t i = 0; i < bytes; ++i)
      static_cast<unsigned char*>(to)[i] = static_cast<unsigned char>(source());
    return true;
  });
  return random;
}

}  // namespace

TEST_CASE("nothing is due before something waits, then half a second to one and a half later") {
  std::set<std::int64_t> different;
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    detail::Random random = chance(seed);
    detail::Delivery delivery(20'000, 1000, 10);
    CHECK(delivery.dueMs() == detail::never);
    delivery.wake(7000, true, random);
    CHECK(delivery.dueMs() >= 7500);
    CHECK(delivery.dueMs() <= 8500);
    different.insert(delivery.dueMs());
    delivery.wake(7001, true, random);  // no second time
    CHECK(different.count(delivery.dueMs()) == 1);
    delivery.sleep();
    CHECK(delivery.dueMs() == detail::never);
  }
  CHECK(different.size() > 50);
}

TEST_CASE("a pause after a failure is between a second and the longest there is, and varies") {
  detail::Random random = chance(9);
  detail::Delivery delivery(20'000, 1000, 10);
  std::set<std::int64_t> different;
  std::int64_t sum = 0;
  for (int failures = 1; failures <= 300; ++failures) {
    delivery.begin(failures);
    delivery.backOff(failures, random);
    const std::int64_t pause = delivery.dueMs() - failures;
    CHECK(pause >= 1000);
    CHECK(pause <= detail::longestBackoffMs(failures));
    different.insert(pause);
    if (failures > 10) sum += pause;
  }
  CHECK(different.size() > 200);
  CHECK(sum / 290 > 200'000);  // full jitter: half of ten minutes on average
  CHECK(sum / 290 < 400'000);
  delivery.progress(true, false, 1000);
  delivery.backOff(0, random);
  CHECK(delivery.dueMs() <= 2000);  // from the start again
}

TEST_CASE("limits are halved down to one, and doubled up to where they were") {
  detail::Delivery delivery(20'000, 1000, 10);
  delivery.halveBytes(600);
  CHECK(delivery.mostBytes() == 300);
  delivery.halveBytes(100'000);
  CHECK(delivery.mostBytes() == 150);
  delivery.halveEvents(7);
  CHECK(delivery.mostEvents() == 3);
  for (int i = 0; i < 20; ++i) delivery.halveBytes(10'000), delivery.halveEvents(100);
  CHECK(delivery.mostBytes() == 1);
  CHECK(delivery.mostEvents() == 1);
  delivery.progress(false, true, 0);
  CHECK(delivery.mostEvents() == 1);
  delivery.progress(true, true, 0);
  CHECK(delivery.mostBytes() == 2);
  CHECK(delivery.mostEvents() == 2);
  for (int i = 0; i < 20; ++i) delivery.progress(true, true, 0);
  CHECK(delivery.mostBytes() == 1000);
  CHECK(delivery.mostEvents() == 10);
}

TEST_CASE("another try follows at once, but not a thirteenth") {
  detail::Random random = chance(2);
  detail::Delivery delivery(20'000, 1000, 10);
  for (int i = 1; i <= 12; ++i) {
    delivery.begin(100);
    delivery.again(100, random);
    CHECK((delivery.dueMs() == 100) == (i < 12));
  }
  CHECK(delivery.dueMs() >= 1100);
}

TEST_CASE("a backoff is cut short at most once a second, a Retry-After never") {
  detail::Random random = chance(3);
  detail::Delivery delivery(20'000, 1000, 10);
  delivery.backOff(10'000, random);
  delivery.hurry(10'001);
  CHECK(delivery.dueMs() == 10'001);
  delivery.begin(10'001);
  delivery.backOff(10'001, random);
  delivery.hurry(11'000);
  CHECK(delivery.dueMs() > 11'000);
  delivery.hurry(11'001);
  CHECK(delivery.dueMs() == 11'001);
  delivery.begin(11'001);
  delivery.waitFor(38'999, 11'001, random);
  for (std::int64_t now = 11'001; now < 50'000; now += 1000) {
    delivery.hurry(now);
    CHECK(delivery.dueMs() == 50'000);
  }
}

TEST_CASE("a Retry-After that is found in the file cuts no backoff short") {
  detail::Random random = chance(5);
  for (int i = 0; i < 100; ++i) {
    detail::Delivery delivery(20'000, 1000, 10);
    delivery.begin(1000);
    delivery.backOff(1000, random);
    const std::int64_t due = delivery.dueMs();
    delivery.waitFor(100, 1010, random);
    CHECK(delivery.dueMs() >= due);
  }
}

TEST_CASE("many that were told the same Retry-After come back at moments of their own") {
  detail::Random random = chance(4);
  for (const std::int64_t waitMs : {second, minute, 10 * minute, day - hour, day - minute}) {
    CAPTURE(waitMs);
    const std::int64_t longest = std::min({waitMs, 10 * minute, day - waitMs});
    std::array<int, 10> tenths = {};
    for (int i = 0; i < 1000; ++i) {
      detail::Delivery delivery(20'000, 1000, 10);
      delivery.waitFor(waitMs, 5000, random);
      const std::int64_t later = delivery.dueMs() - (5000 + waitMs);
      REQUIRE(later >= 0);
      REQUIRE(later <= longest);
      ++tenths.at(static_cast<std::size_t>(std::min<std::int64_t>(later * 10 / longest, 9)));
    }
    for (const int count : tenths) CHECK((count > 60 && count < 140));
  }
}

// ---- when requests go out ----

TEST_CASE("the first request goes out 0.5 to 1.5 s after the first event, then the next in turn") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Sender sender([seed](Options& options) { options.entropy = fakes::entropyFrom(seed); });
    sender.pass(10 * minute, 10);
    REQUIRE(sender.times.size() == 1);
    CHECK(sender.times[0] - sender.begin >= 500);
    CHECK(sender.times[0] - sender.begin <= 1510);
    const std::int64_t later = sender.world.clock->steady;
    sender.track(1);
    sender.pass(5 * second, 10);
    REQUIRE(sender.times.size() == 2);
    CHECK(sender.times[1] - later >= 500);
    CHECK(sender.times[1] - later <= 1510);
  }
}

TEST_CASE("while anything is queued a request goes out every reportIntervalMs") {
  const std::int64_t interval = GENERATE(2'000, 5'000, 20'000, 600'000);
  Sender sender([=](Options& options) { options.reportIntervalMs = interval; });
  for (std::int64_t passed = 0; passed < 20 * interval; passed += interval / 10) {
    sender.track(1);
    sender.pass(interval / 10, interval / 10);
  }
  REQUIRE(sender.times.size() >= 5);
  CHECK(sender.times.size() <= 21);
  for (std::size_t i = 0; i + 1 < sender.times.size(); ++i) {
    CHECK(sender.gap(i) >= interval);
    CHECK(sender.gap(i) <= interval + 1500 + interval / 10);
  }
}

TEST_CASE("without events there is no request") {
  Sender sender;
  sender.pass(2 * second);
  REQUIRE(sender.times.size() == 1);
  sender.pass(day, minute);
  CHECK(sender.times.size() == 1);
  CHECK(sender.stats().nextRequestInMs == -1);
}

TEST_CASE("nothing is sent while the network is gone, and soon once it is back") {
  Sender sender;
  sender.track(3);
  sender.client->online(false);
  sender.pass(hour, second);
  CHECK(sender.times.empty());
  CHECK(sender.stats().queuedEvents == 4);
  sender.client->online();
  sender.pass(2 * second);
  CHECK(sender.times.size() == 1);
  CHECK(sender.stats().queuedEvents == 0);
}

TEST_CASE("one request at a time, oldest first, within the limit of bytes") {
  Sender sender([](Options& options) {
    options.maxEventBytes = 1000;
    options.maxBatchBytes = 3000;
  });
  sender.track(40, 300);
  sender.server().then = pending;
  sender.server().keeps = true;
  for (std::size_t i = 0; i < 3; ++i) {
    sender.passUntil(i + 1);
    sender.pass(10 * second);
    CHECK(sender.times.size() == i + 1);
    CHECK(sender.server().bodies[i].size() <= 3000);
    CHECK(sender.server().bodies[i].size() > 2000);
    sender.server().requests[i].reply(Server::acknowledge(sender.server().requests[i]));
  }
  Ids all;
  for (std::size_t i = 0; i < 3; ++i) {
    for (const std::uint64_t id : sender.ids(i)) all.push_back(id);
  }
  CHECK(std::is_sorted(all.begin(), all.end()));
  CHECK(all.back() - all.front() + 1 == all.size());
  CHECK(sender.stats().acknowledgedEvents == all.size());
}

// ---- what each answer does ----

TEST_CASE("after an answer with progress the next request follows at once") {
  Sender sender([](Options& options) {
    options.maxEventBytes = 1000;
    options.maxBatchBytes = 1500;
  });
  sender.track(30, 300);
  const bool whole = GENERATE(true, false);
  if (!whole) sender.server().then = [](const Request& request) { return named(request, 0, 2); };
  sender.pass(20 * second);
  CHECK(sender.stats().queuedEvents == 0);
  REQUIRE(sender.times.size() >= 10);
  for (std::size_t i = 0; i + 1 < sender.times.size(); ++i) CHECK(sender.gap(i) == 50);
  CHECK(sender.stats().failedRequests == 0);
}

namespace {

struct Useless {
  const char* what;
  int status;
  std::string body;
};

/// Good answers that name nothing, or not as they should. `right` is the one that would do.
std::vector<Useless> uselessAnswers(const std::string& right) {
  const std::string ids = Json::parse(right).at("reportedIds").dump();
  std::vector<Useless> rows;
  const auto add = [&rows](const char* what, std::string body, int status = 200) {
    rows.push_back({what, status, std::move(body)});
  };
  add("empty", "");
  add("no content", "", 204);
  add("blank", " \n");
  add("HTML", "<!DOCTYPE html><html><body>Please sign in</body></html>");
  add("an empty object", "{}");
  add("no ids", R"({"reportedIds":[]})");
  add("other ids", R"({"reportedIds":[1,2,3,9007199254740993,18446744073709551615]})");
  add("not ids", R"({"reportedIds":["x","",null,{},[1],1.5,-1,true,1e3,"1e3"]})");
  add("wrong types", R"({"reportedIds":{"0":1},"anonId":5,"confirmation":"true"})");
  add("confirmation of nothing", R"({"confirmation":false})");
  add("null", "null");
  add("a number", "7");
  add("a number of any size", "{\"reportedIds\":[" + std::string(1000, '9') + "]}");
  add("deep", std::string(100'000, '[') + std::string(100'000, ']'));
  add("10 MB", "{\"reportedIds\":[" + std::string(10 << 20, ' ') + "]}");
  add("half an answer", right.substr(0, right.size() / 2));
  add("all but the end", right.substr(0, right.size() - 1));
  add("the ids alone", ids);
  add("the ids one level down", "{\"data\":" + right + '}');
  add("two answers", right + "{}");
  return rows;
}

}  // namespace

TEST_CASE("a good answer without progress keeps everything, and is followed by a pause",
          "[large]") {
  for (std::size_t row = 0; row < uselessAnswers(R"({"reportedIds":[]})").size(); ++row) {
    const char* what = "";
    Sender sender;
    sender.track(5);
    sender.server().script = {[&](const Request& request) {
      const Useless useless = uselessAnswers(Server::acknowledge(request).body)[row];
      what = useless.what;
      return Server::with(useless.status, useless.body);
    }};
    sender.passUntil(1);
    CAPTURE(what);
    CHECK(sender.stats().queuedEvents == 6);
    CHECK(sender.stats().failedRequests == 1);
    CHECK(sender.stats().lastStatus / 100 == 2);
    CHECK(sender.stats().nextRequestInMs >= 900);
    sender.passUntil(2);
    CHECK(sender.gap(0) >= 1000);
    CHECK(sender.gap(0) <= 2050);
    CHECK(sender.world.told("no-progress") == 1);
    CHECK(sender.stats().queuedEvents == 0);
    CHECK(sender.server().bodies[0] == sender.server().bodies[1]);
  }
}

TEST_CASE("any other answer, or none, keeps everything and is followed by a pause") {
  std::vector<std::pair<std::string, Server::Answer>> rows;
  for (const int status :
       {0,   1,   100, 199, 300, 301, 302, 304, 307, 401, 402, 403, 404, 405, 408, 409,
        410, 418, 429, 451, 499, 500, 501, 502, 503, 504, 520, 599, 600, 999, -2,  1'000'000}) {
    rows.emplace_back("status " + std::to_string(status), [=](const Request& request) {
      return Server::with(status, Server::acknowledge(request).body);  // of which nothing counts
    });
  }
  rows.emplace_back("a Retry-After that is none", Server::always(503, "", "whenever"));
  rows.emplace_back("a Retry-After of another status", Server::always(500, "", "3600"));
#if NUCLEUS_TESTS_EXCEPTIONS
  rows.emplace_back("an exception", [](const Request&) -> Response { throw 7; });
#endif
  for (const auto& [what, answer] : rows) {
    CAPTURE(what);
    Sender sender;
    sender.track(5);
    sender.server().script = {answer};
    sender.passUntil(1);
    CHECK(sender.stats().queuedEvents == 6);
    CHECK(sender.stats().failedRequests == 1);
    sender.passUntil(2);
    CHECK(sender.gap(0) >= 1000);
    CHECK(sender.gap(0) <= 2050);
    CHECK(sender.world.told("request-failed") == 1);
    CHECK(sender.stats().queuedEvents == 0);
    CHECK(sender.stats().lastStatus == 200);
  }
}

TEST_CASE("an answer that stays out longer than answerTimeoutMs is none") {
  Sender sender([](Options& options) { options.answerTimeoutMs = 30'000; });
  sender.track(5);
  sender.server().script = {pending};
  sender.passUntil(1);
  sender.pass(29 * second);
  CHECK(sender.stats().failedRequests == 0);
  CHECK(sender.times.size() == 1);
  sender.passUntil(2);
  CHECK(sender.gap(0) >= 31 * second);
  CHECK(sender.gap(0) <= 32 * second + 100);
  CHECK(sender.stats().failedRequests == 1);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.server().bodies[0] == sender.server().bodies[1]);
}

TEST_CASE("a pending request is answered by its handle, before or after the transport returns") {
  Sender sender;
  sender.server().script = {[](const Request& request) {
    request.reply(Server::acknowledge(request));
    return Response::pending();
  }};
  sender.passUntil(1);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().requests == 1);
  sender.track(3);
  sender.server().script = {pending};
  sender.server().keeps = true;
  sender.passUntil(2);
  sender.pass(5 * second);
  CHECK(sender.stats().queuedEvents == 3);
  sender.server().requests[0].reply(Server::acknowledge(sender.server().requests[0]));
  CHECK(sender.stats().queuedEvents == 0);
  sender.pass(10 * minute, second);
  CHECK(sender.times.size() == 2);
  CHECK(sender.stats().failedRequests == 0);
}

TEST_CASE("ids count as numbers and as text, in any order, among others, more than once") {
  Sender sender;
  sender.track(5);
  sender.server().script = {[](const Request& request) {
    const Ids ids = Server::ids(request.body());
    Json named = {"x", 5, nullptr};
    for (std::size_t i = ids.size(); i-- > 0;) {
      if (i % 2 == 0) named.push_back(ids[i]);
      else named.push_back(std::to_string(ids[i]));
      named.push_back(ids[i]);
    }
    return Server::with(201, Json{{"message", "thanks"}, {"reportedIds", named}}.dump(2));
  }};
  sender.passUntil(1);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().acknowledgedEvents == 6);
}

TEST_CASE("only a request that carried an event can acknowledge it") {
  Sender sender;
  sender.track(2);
  Ids ids;
  sender.server().script = {[&](const Request& request) {
    ids = Server::ids(request.body());
    sender.client->track("MEANWHILE");
    Ids more = ids;
    for (std::uint64_t next = 1; next < 5; ++next) more.push_back(ids.back() + next);
    return Server::with(200, Server::naming(more));
  }};
  sender.passUntil(1);
  CHECK(sender.stats().acknowledgedEvents == 3);
  CHECK(sender.stats().queuedEvents == 1);
}

TEST_CASE("a confirmation acknowledges all of its request, and nothing else") {
  for (const char* body : {R"({"confirmation":true})", R"({"reportedIds":[],"confirmation":true})",
                           " {\"confirmation\" : true , \"x\" : [ ] } "}) {
    CAPTURE(body);
    Sender sender;
    sender.track(3);
    sender.server().script = {[&](const Request&) {
      sender.client->track("MEANWHILE");
      return Server::with(200, body);
    }};
    sender.passUntil(1);
    CHECK(sender.stats().acknowledgedEvents == 4);
    CHECK(sender.stats().queuedEvents == 1);
    sender.pass(minute);
    REQUIRE(sender.times.size() == 2);
    CHECK(sender.ids(1).size() == 1);
  }
}

TEST_CASE("a confirmation does not count in WebSocket mode") {
  Sender sender([](Options& options) { options.endpoint = "wss://localhost"; });
  sender.track(3);
  sender.server().keeps = true;
  sender.server().then = pending;
  sender.passUntil(1);
  sender.client->receive(R"({"confirmation":true})");
  CHECK(sender.stats().queuedEvents == 4);
  sender.server().requests.at(0).reply(Server::with(200, R"({"confirmation":true})"));
  CHECK(sender.stats().queuedEvents == 4);
  sender.client->receive(Server::naming(sender.ids(0)));
  CHECK(sender.stats().queuedEvents == 0);
}

TEST_CASE("what is sent again is sent unchanged") {
  Sender sender;
  sender.track(20, 100);
  sender.client->setProps({{"plan", "pro"}});
  sender.server().then = Server::always(500);
  sender.passUntil(8);
  for (const std::string& body : sender.server().bodies) CHECK(body == sender.server().bodies[0]);
  sender.client->setProps({{"plan", "other"}});
  sender.client->setUserId("somebody");
  sender.passUntil(9);
  const std::string& first = sender.server().bodies[0];
  CHECK(sender.server().bodies[8].substr(0, first.size() - 2) == first.substr(0, first.size() - 2));
}

// ---- sizes ----

TEST_CASE("after a 413 the limit of bytes is halved, and recovers") {
  Sender sender([](Options& options) { options.maxBatchBytes = 32 << 10; });
  sender.track(400, 500);
  sender.server().script = {Server::always(413), Server::always(413)};
  sender.passUntil(7);
  std::vector<std::size_t> sizes;
  for (const std::string& body : sender.server().bodies) sizes.push_back(body.size());
  CHECK(sizes[0] > 30'000);
  CHECK(sizes[1] <= sizes[0] / 2);
  CHECK(sizes[1] > sizes[0] / 2 - 1000);
  CHECK(sizes[2] <= sizes[1] / 2);
  CHECK(sizes[3] > sizes[2]);
  CHECK(sizes[3] <= 2 * sizes[2] + 1000);
  CHECK(sizes[6] > 30'000);
  CHECK(sender.gap(0) == 50);  // at once
  sender.pass(10 * second);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().droppedRefused == 0);
}

TEST_CASE("after a 400 or 422 the count of events is halved, and recovers") {
  const int status = GENERATE(400, 422);
  Sender sender([](Options& options) { options.maxBatchBytes = 16 << 10; });
  sender.track(300, 100);
  sender.server().script = {Server::always(status), Server::always(status)};
  sender.passUntil(7);
  std::vector<std::size_t> counts;
  for (std::size_t i = 0; i < 7; ++i) counts.push_back(sender.ids(i).size());
  CHECK(counts[0] > 30);
  CHECK(counts[1] == counts[0] / 2);
  CHECK(counts[2] == counts[1] / 2);
  CHECK(counts[3] == 2 * counts[2]);
  CHECK(counts[6] >= counts[0] - 2);
  sender.pass(10 * second);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().droppedRefused == 0);
}

TEST_CASE("limits stay as they are after a request that was acknowledged in part") {
  Sender sender;
  sender.track(40);
  sender.server().script = {Server::always(400),
                            [](const Request& request) { return named(request, 0, 2); }};
  sender.passUntil(3);
  CHECK(sender.ids(1).size() == sender.ids(0).size() / 2);
  CHECK(sender.ids(2).size() == sender.ids(1).size());
}

TEST_CASE("a server that takes only little at once gets everything in the end") {
  struct Row {
    int status;
    std::size_t bytes, events;
  };
  const Row row = GENERATE(Row{413, 1200, 1000}, Row{413, 600, 1000}, Row{400, 100'000, 3},
                           Row{422, 100'000, 1});
  CAPTURE(row.status, row.bytes, row.events);
  Sender sender;
  sender.track(100, 50);
  sender.server().then = [=](const Request& request) {
    const bool right =
        request.body().size() <= row.bytes && Server::ids(request.body()).size() <= row.events;
    return right ? Server::acknowledge(request) : Server::with(row.status);
  };
  sender.pass(hour, 100);
  CHECK(sender.stats().acknowledgedEvents == 101);
  CHECK(sender.stats().droppedRefused == 0);
  CHECK(longestRow(sender.times) < 400);
}

// ---- events that are refused ----

TEST_CASE("an event that the server refuses is dropped once others were taken, and they arrive") {
  const int status = GENERATE(400, 413, 422);
  const int where = GENERATE(0, 7, 19);
  CAPTURE(status, where);
  Sender sender([](Options& options) { options.sessionTimeoutMs = 10 * day; });
  for (int i = 0; i < 20; ++i) {
    sender.client->track(i == where ? "POISON" : "EVENT", {{"i", i}});
  }
  sender.server().then = [=](const Request& request) {
    return mentions(request.body(), "POISON") ? Server::with(status) : Server::acknowledge(request);
  };
  sender.pass(hour, 100);
  sender.track(1);  // where POISON was the last
  sender.pass(hour, 100);
  const Stats stats = sender.stats();
  CHECK(stats.droppedRefused == 1);
  CHECK(stats.acknowledgedEvents == 21);
  CHECK(stats.queuedEvents == 0);
  CHECK(fakes::balanced(stats));
  CHECK(sender.world.told("refused") == 1);
}

TEST_CASE("an event that is refused alone is kept until another was taken") {
  const int status = GENERATE(400, 413, 422);
  Sender sender([](Options& options) { options.sessionTimeoutMs = 10 * day; });
  sender.pass(10 * second);
  REQUIRE(sender.stats().queuedEvents == 0);
  sender.client->track("POISON");
  sender.server().then = [=](const Request& request) {
    return mentions(request.body(), "POISON") ? Server::with(status) : Server::acknowledge(request);
  };
  sender.pass(day, second);
  CHECK(sender.stats().queuedEvents == 1);
  CHECK(sender.stats().droppedRefused == 0);
  CHECK(sender.times.size() < 500);  // with pauses up to ten minutes
  sender.track(1);
  sender.pass(hour, second);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().droppedRefused == 1);
}

TEST_CASE("a proxy that refuses everything for a day costs nothing") {
  struct Row {
    int status;
    int hours;
  };
  const Row row = GENERATE(Row{400, 24}, Row{413, 24}, Row{422, 24}, Row{403, 24}, Row{400, 1},
                           Row{400, 0}, Row{413, 0}, Row{422, 1});
  CAPTURE(row.status, row.hours);
  Sender sender([](Options& options) { options.sessionTimeoutMs = 10 * day; });
  sender.server().then = Server::always(row.status);
  sender.track(30);
  for (int i = 0; i < row.hours; ++i) {
    sender.track(1);
    sender.pass(hour, second);
  }
  sender.pass(20 * second, second);
  CHECK(sender.stats().queuedEvents == static_cast<std::size_t>(31 + row.hours));
  sender.server().then = nullptr;
  sender.pass(hour, second);
  const Stats stats = sender.stats();
  CHECK(stats.droppedRefused == 0);
  CHECK(stats.acknowledgedEvents == static_cast<std::uint64_t>(31 + row.hours));
  CHECK(stats.queuedEvents == 0);
}

TEST_CASE("there are at most twelve requests in a row without a pause or progress") {
  const int status = GENERATE(400, 413, 422);
  Sender sender;
  sender.server().then = Server::always(status);
  for (int i = 0; i < 60; ++i) {
    sender.track(20);
    sender.pass(minute);
  }
  CHECK(longestRow(sender.times) <= 12);
  CHECK(sender.times.size() > 12);
  CHECK(sender.times.size() < 1000);
}

TEST_CASE("what an otherwise good answer leaves unnamed goes behind the others") {
  Sender sender([](Options& options) {
    options.maxEventBytes = 700;
    options.maxBatchBytes = 1400;
  });
  sender.track(12, 300);
  sender.server().script = {[](const Request& request) { return named(request, 0, 2); },
                            [](const Request& request) { return named(request, 0, 2); }};
  sender.pass(20 * second);
  REQUIRE(sender.ids(0).size() >= 2);
  const std::uint64_t unnamed = sender.ids(0)[1];
  for (std::size_t i = 1; i + 2 < sender.times.size(); ++i) {
    for (const std::uint64_t id : sender.ids(i)) CHECK(id != unnamed);
  }
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().acknowledgedEvents == 13);
}

TEST_CASE("an event that the server never names holds up nothing, and is kept") {
  Sender sender;
  for (int i = 0; i < 20; ++i) sender.client->track(i == 3 ? "NEVER" : "EVENT");
  sender.server().then = [](const Request& request) {
    Ids ids;
    for (const Json& event : Server::events(request.body())) {
      if (event.value("name", "") != "NEVER") ids.push_back(event.at("id"));
    }
    return Server::with(200, Server::naming(ids));
  };
  for (int i = 0; i < 60; ++i) {
    sender.track(1);
    sender.pass(minute, 250);
  }
  CHECK(sender.stats().queuedEvents <= 2);
  CHECK(sender.stats().acknowledgedEvents >= 79);
  CHECK(sender.stats().requests < 600);
  CHECK(sender.stats().droppedRefused == 0);
  sender.server().then = nullptr;
  sender.pass(hour, second);
  CHECK(sender.stats().queuedEvents == 0);
}

TEST_CASE("an event that draws a 5xx alone goes behind the others, and is kept") {
  Sender sender([](Options& options) {
    options.maxEventBytes = 512;
    options.maxBatchBytes = 528;  // one at a time
  });
  for (int i = 0; i < 10; ++i) {
    sender.client->track(i == 3 ? "POISON" : "EVENT", {{"x", std::string(150, 'x')}});
  }
  sender.server().then = [](const Request& request) {
    return mentions(request.body(), "POISON") ? Server::with(500) : Server::acknowledge(request);
  };
  sender.pass(minute);
  CHECK(sender.stats().queuedEvents == 1);
  CHECK(sender.stats().acknowledgedEvents == 10);
  for (std::size_t i = 0; i + 1 < sender.times.size() && i < 10; ++i) {
    const bool twice = mentions(sender.server().bodies[i], "POISON") &&
                       mentions(sender.server().bodies[i + 1], "POISON");
    CHECK_FALSE(twice);
  }
  sender.server().then = nullptr;
  sender.pass(hour, second);
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().droppedRefused == 0);
}

TEST_CASE("an event that never gets through does not multiply the requests") {
  const bool draws500 = GENERATE(false, true);
  CAPTURE(draws500);
  Sender sender([=](Options& options) {
    options.maxEventBytes = 512;
    if (draws500) options.maxBatchBytes = 600;  // it goes alone
  });
  sender.client->track("NEVER");
  sender.server().then = [=](const Request& request) {
    Ids ids;
    for (const Json& event : Server::events(request.body())) {
      if (event.value("name", "") != "NEVER") ids.push_back(event.at("id"));
    }
    return Server::with(draws500 && ids.empty() ? 500 : 200, Server::naming(ids));
  };
  for (int i = 0; i < 720; ++i) {
    sender.track(1);
    sender.pass(5 * second, 250);
  }
  const std::uint64_t intervals = hour / 20'000, batches = draws500 ? 4 : 1;
  CHECK(sender.stats().queuedEvents <= 5);
  CHECK(sender.stats().requests < (batches + 2) * intervals);
}

// ---- Retry-After ----

namespace {

struct Wait {
  int status;
  std::string retryAfter;
  std::int64_t expectedMs;
};

std::string httpDate(std::int64_t wallMs) {
  const auto when = static_cast<std::time_t>(wallMs / 1000);
  char text[64];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", std::gmtime(&when));
  return text;
}

std::vector<Wait> waits() {
  const std::int64_t now = fakes::Clock().wall;
  return {{429, "120", 120 * second},
          {503, "120", 120 * second},
          {503, "3600", hour},
          {429, "999999999", day},
          {503, httpDate(now + 10 * minute), 10 * minute},
          {429, httpDate(now + 400 * day), day}};
}

}  // namespace

TEST_CASE("nothing is sent before a Retry-After has passed, whatever is called") {
  for (const Wait& wait : waits()) {
    CAPTURE(wait.status, wait.retryAfter);
    Sender sender([](Options& options) { options.sessionTimeoutMs = 10 * day; });
    sender.track(3);
    sender.server().script = {Server::always(wait.status, "", wait.retryAfter)};
    sender.passUntil(1, 10);
    const std::int64_t step = wait.expectedMs / 100;
    while (sender.times.size() == 1 && sender.world.clock->steady < sender.times[0] + 2 * day) {
      sender.pass(step, step);
      sender.client->online();
      sender.client->flush(1000);
      sender.client->poll();
    }
    REQUIRE(sender.times.size() == 2);
    CHECK(sender.gap(0) >= wait.expectedMs - 2 * second);  // a date has whole seconds
    CHECK(sender.gap(0) <= wait.expectedMs + step);
    CHECK(sender.stats().queuedEvents == 0);
  }
}

TEST_CASE("a Retry-After survives a restart, but not beyond its time") {
  for (const Wait& wait : waits()) {
    for (const bool kills : {false, true}) {
      for (const std::int64_t awayMs :
           {std::int64_t{0}, wait.expectedMs / 2, wait.expectedMs * 2}) {
        CAPTURE(wait.status, wait.retryAfter, kills, awayMs);
        Sender before([](Options& options) { options.cutoffMs = 10 * day; });
        before.track(3);
        before.server().script = {Server::always(wait.status, "", wait.retryAfter)};
        before.passUntil(1);
        before.pass(1200);
        const std::int64_t passed = before.world.clock->steady - before.times[0];
        if (!kills) before.client->shutdown(1000);
        CHECK(before.times.size() == 1);
        const auto disk = std::make_shared<fakes::Disk>();
        disk->file = before.world.disk->file;
        disk->exists = true;
        const std::int64_t wall = before.world.clock->wall + awayMs;

        std::int64_t begin = 0;
        Sender after([&](Options& options) {
          options.storage = std::make_shared<fakes::Storage>(disk);
          options.cutoffMs = 10 * day;
          static_cast<fakes::Clock&>(*options.clock).wall = wall;
          begin = static_cast<fakes::Clock&>(*options.clock).steady;
        });
        const std::int64_t left = wait.expectedMs - passed - awayMs;
        const std::int64_t step = std::max<std::int64_t>(50, wait.expectedMs / 200);
        while (after.times.empty() && after.world.clock->steady < begin + 2 * day) {
          after.client->online();
          after.client->flush(100);
          after.pass(step, step);
        }
        REQUIRE(after.times.size() >= 1);
        CHECK(after.times[0] - begin >= left - 2 * second);
        CHECK(after.times[0] - begin <= std::max<std::int64_t>(left, 1500) + step);
        after.pass(10 * second);
        CHECK(after.stats().queuedEvents == 0);
      }
    }
  }
}

TEST_CASE("a Retry-After that has passed is not heeded once more after a restart") {
  Sender before([](Options& options) { options.cutoffMs = 10 * day; });
  before.track(1);
  before.server().script = {Server::always(429, "", "60")};
  before.passUntil(1);
  before.pass(2 * minute + second);
  REQUIRE(before.stats().queuedEvents == 0);
  before.client->setProps({{"plan", "pro"}});
  before.client->persist();
  const auto disk = std::make_shared<fakes::Disk>(*before.world.disk);
  disk->holder = nullptr;
  for (const std::int64_t wall : {std::int64_t{3000}, before.world.clock->wall}) {
    CAPTURE(wall);
    Sender after([&](Options& options) {
      options.storage = std::make_shared<fakes::Storage>(disk);
      static_cast<fakes::Clock&>(*options.clock).wall = wall;  // 3000: it is not set
    });
    after.passUntil(1);
    CHECK(after.times[0] - after.begin <= 1600);
  }
}

TEST_CASE("clients that were told one Retry-After come back apart, within twice that time") {
  std::set<std::int64_t> moments;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Sender sender([seed](Options& options) { options.entropy = fakes::entropyFrom(seed); });
    sender.server().script = {Server::always(503, "", "300")};
    sender.passUntil(2);
    CHECK(sender.gap(0) >= 300 * second);
    CHECK(sender.gap(0) <= 600 * second + 50);
    moments.insert(sender.gap(0) / (10 * second));
  }
  CHECK(moments.size() > 10);
}

TEST_CASE("an event that draws a Retry-After alone is not put behind the others") {
  Sender sender([](Options& options) {
    options.maxEventBytes = 512;
    options.maxBatchBytes = 528;  // one at a time
  });
  for (int i = 0; i < 3; ++i) sender.client->track("EVENT", {{"x", std::string(150, 'x')}});
  sender.server().script = {Server::acknowledge, Server::always(503, "", "60")};
  sender.passUntil(3);
  REQUIRE(sender.ids(1).size() == 1);
  CHECK(sender.ids(2) == sender.ids(1));
}

TEST_CASE("after a Retry-After that is zero comes a pause as after any failure") {
  Sender sender;
  sender.server().script = {Server::always(429, "", "0")};
  sender.passUntil(2);
  CHECK(sender.gap(0) >= 1000);
  CHECK(sender.gap(0) <= 2050);
}

// ---- who sends ----

TEST_CASE("a call sends nothing, though a request is overdue") {
  Sender sender;
  sender.world.clock->advance(hour);
  REQUIRE(sender.stats().nextRequestInMs == 0);
  REQUIRE(fakes::makeEveryCall(*sender.client) == 8);
  sender.client->online();
  sender.client->trackError("ERROR", "message");
  sender.client->persist();
  CHECK(sender.stats().nextRequestInMs == 0);
  CHECK(sender.times.empty());
  sender.client->poll();
  CHECK(sender.times.size() == 1);
}

// ---- pauses ----

TEST_CASE("pauses after failures grow from a second to ten minutes at most") {
  Sender sender;
  sender.track(3);
  sender.server().then = Server::always(0);
  sender.pass(day, 100);
  REQUIRE(sender.times.size() > 100);
  std::int64_t longest = 0, early = 0, late = 0;
  for (std::size_t i = 0; i + 1 < sender.times.size(); ++i) {
    CHECK(sender.gap(i) >= 1000);
    CHECK(sender.gap(i) <= detail::longestBackoffMs(static_cast<int>(i) + 1) + 100);
    longest = std::max(longest, sender.gap(i));
    if (i < 4) early += sender.gap(i) / 4;
    if (i >= 10 && i < 100) late += sender.gap(i) / 90;
  }
  CHECK(longest > 9 * minute);
  CHECK(early < 20 * second);
  CHECK(late > 3 * minute);
  CHECK(late < 7 * minute);
  sender.server().then = nullptr;
  sender.pass(11 * minute);
  CHECK(sender.stats().queuedEvents == 0);
}

TEST_CASE("online and flush cut a pause short, but at most once a second") {
  const bool flushes = GENERATE(false, true);
  CAPTURE(flushes);
  Sender sender;
  sender.track(3);
  sender.server().then = Server::always(0);
  sender.pass(hour, second);
  const std::size_t before = sender.times.size();
  for (int i = 0; i < 600; ++i) {
    if (flushes) CHECK_FALSE(sender.client->flush(1));
    else sender.client->online();
    sender.pass(100, 50);
  }
  const std::size_t cuts = sender.times.size() - before;
  CHECK(cuts >= 50);
  CHECK(cuts <= 62);
  for (std::size_t i = before; i + 1 < sender.times.size(); ++i) CHECK(sender.gap(i) >= 900);
}

// ---- late and repeated answers ----

TEST_CASE("once a late answer has taken all, the next event is again the first") {
  Sender sender([](Options& options) { options.answerTimeoutMs = 10'000; });
  sender.server().keeps = true;
  sender.server().then = pending;
  sender.passUntil(1);
  while (sender.stats().failedRequests == 0) sender.pass(50);  // it is given up
  const Request late = sender.server().requests[0];
  late.reply(Server::acknowledge(late));
  REQUIRE(sender.stats().queuedEvents == 0);
  sender.pass(hour / 4, second);
  const std::int64_t tracked = sender.world.clock->steady;
  sender.track(1);
  sender.pass(2 * second, 10);
  REQUIRE(sender.times.size() == 2);
  CHECK(sender.times[1] - tracked >= 500);
  CHECK(sender.times[1] - tracked <= 1510);
}

TEST_CASE("a late answer makes what it names leave, and does nothing else") {
  Sender sender([](Options& options) { options.answerTimeoutMs = 10'000; });
  sender.track(9);
  sender.server().keeps = true;
  sender.server().then = pending;
  sender.passUntil(2);  // the first was given up
  const Request late = sender.server().requests[0], current = sender.server().requests[1];
  REQUIRE(late.body() == current.body());
  const std::int64_t now = sender.world.clock->steady;

  for (const int status : {400, 413, 422, 500, 0}) late.reply(Server::with(status));
  late.reply(Server::with(429, "", "3600"));
  late.reply(Server::with(200, "{}"));
  late.reply(Server::with(200, "garbage"));
  late.reply(Response::pending());
  CHECK(sender.stats().queuedEvents == 10);
  CHECK(sender.stats().failedRequests == 1);

  late.reply(named(late, 0, 2));
  CHECK(sender.stats().queuedEvents == 5);
  CHECK(sender.stats().acknowledgedEvents == 5);
  late.reply(named(late, 0, 2));  // repeated
  CHECK(sender.stats().acknowledgedEvents == 5);
  sender.pass(2 * second);
  CHECK(sender.times.size() == 2);  // the current one still waits

  current.reply(Server::acknowledge(current));
  CHECK(sender.stats().queuedEvents == 0);
  CHECK(sender.stats().acknowledgedEvents == 10);
  current.reply(Server::acknowledge(current));
  late.reply(Server::acknowledge(late));
  CHECK(sender.stats().acknowledgedEvents == 10);
  CHECK(fakes::balanced(sender.stats()));
  CHECK(sender.world.clock->steady - now <= 2 * second);
}

TEST_CASE("a late answer is not the progress of the request that is out now") {
  Sender sender([](Options& options) {
    options.answerTimeoutMs = 10'000;
    options.maxEventBytes = 700;
    options.maxBatchBytes = 1400;
  });
  sender.track(12, 300);
  sender.server().keeps = true;
  sender.server().then = pending;
  sender.passUntil(2);
  const Request late = sender.server().requests[0], current = sender.server().requests[1];
  late.reply(named(late, 0, 2));
  current.reply(Server::with(200, "{}"));  // names nothing of its own
  CHECK(sender.stats().failedRequests == 2);
  sender.passUntil(3);
  CHECK(sender.gap(1) >= 1000);
}

TEST_CASE("a late answer brings no anonId, version or data, and changes no limit") {
  std::vector<std::string> versions, data;
  Sender sender([&](Options& options) {
    options.answerTimeoutMs = 10'000;
    options.maxEventBytes = 1024;
    options.maxBatchBytes = 4096;
    options.onUpdate = [&](std::string_view version) { versions.emplace_back(version); };
    options.onCustomData = [&](std::string_view json) { data.emplace_back(json); };
  });
  sender.track(40, 100);
  sender.server().keeps = true;
  sender.server().script = {pending, pending};
  sender.passUntil(2);
  const Request late = sender.server().requests[0];
  const Ids carried = sender.ids(0);
  REQUIRE(carried.size() > 8);
  const Stats before = sender.stats();
  for (const int status : {413, 400, 422}) late.reply(Server::with(status));
  late.reply(Server::with(200, Json{{"reportedIds", carried},
                                    {"anonId", "fromLate"},
                                    {"latestVersion", "99.0"},
                                    {"customData", {{"a", 1}}}}
                                   .dump()));
  CHECK(sender.stats().acknowledgedEvents == before.acknowledgedEvents + carried.size());
  CHECK(sender.stats().queuedEvents == before.queuedEvents - carried.size());
  CHECK(sender.stats().failedRequests == before.failedRequests);

  sender.client->startSession();
  sender.pass(5 * minute);
  REQUIRE(sender.stats().queuedEvents == 0);
  CHECK(sender.ids(2).size() + 1 >= carried.size());  // the limit is what it was
  for (const std::string& body : sender.server().bodies) CHECK_FALSE(mentions(body, "fromLate"));
  CHECK_FALSE(mentions(sender.world.disk->file, "fromLate"));
  CHECK(versions.empty());
  CHECK(data.empty());
}

TEST_CASE("a late answer names what was sent again meanwhile, and it is not sent a third time") {
  Sender sender([](Options& options) { options.answerTimeoutMs = 10'000; });
  sender.track(3);
  sender.server().keeps = true;
  sender.server().script = {pending};
  sender.server().then = Server::always(500);
  sender.passUntil(4);
  sender.server().requests[0].reply(Server::acknowledge(sender.server().requests[0]));
  CHECK(sender.stats().queuedEvents == 0);
  sender.pass(hour, second);
  CHECK(sender.times.size() == 4);
}

TEST_CASE("handles stay valid after the client's end, and their answers do no harm") {
  std::vector<Request> handles;
  std::string body;
  {
    Sender sender([](Options& options) { options.answerTimeoutMs = 5'000; });
    sender.track(50, 100);
    sender.server().keeps = true;
    sender.server().then = pending;
    sender.passUntil(4);
    handles = sender.server().requests;
    body = sender.server().bodies[0];
    CHECK_FALSE(handles[0].cancelled());
    sender.client->shutdown(0);
    for (const Request& handle : handles) CHECK(handle.cancelled());
  }
  for (const Request& handle : handles) {
    CHECK(handle.body() == body);
    CHECK(handle.url() == "https://app.nucleus.sh/app/test-app/track");
    CHECK(handle.contentType() == "application/json");
    handle.reply(Server::acknowledge(handle));
  }
}

TEST_CASE("an answer to a request from before tracking was disabled changes nothing") {
  Sender sender;
  sender.track(3);
  sender.server().keeps = true;
  sender.server().then = pending;
  sender.passUntil(1);
  const Request old = sender.server().requests[0];
  sender.client->disableTracking();
  CHECK(old.cancelled());
  sender.client->enableTracking();
  CHECK(old.cancelled());
  old.reply(Server::with(200, R"({"confirmation":true,"anonId":"fromBefore"})"));
  old.reply(Server::acknowledge(old));
  CHECK(sender.stats().acknowledgedEvents == 0);
  CHECK(sender.stats().queuedEvents == 1);
  CHECK(sender.stats().erasedEvents == 4);
  sender.passUntil(2);
  CHECK_FALSE(mentions(sender.server().bodies[1], "fromBefore"));
}

// ---- anything, in any order ----

TEST_CASE("whatever a server answers, every event is delivered, or dropped and counted") {
  for (std::uint32_t seed = 1; seed <= fakes::rounds(12, 2); ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    std::set<std::uint64_t> delivered;
    Sender sender([](Options& options) {
      options.maxEventBytes = 1024;
      options.maxBatchBytes = 4096;
      options.maxQueueBytes = 1 << 20;
      options.answerTimeoutMs = 15'000;
    });
    sender.server().keeps = true;
    sender.server().then = [&](const Request& request) {
      const std::vector<int> statuses = {0, 301, 400, 413, 422, 429, 500, 503};
      for (const std::uint64_t id : Server::ids(request.body())) delivered.insert(id);
      switch (random() % 6) {
        case 0: return Server::with(statuses[random() % statuses.size()], "", "30");
        case 1: return named(request, random() % 3, 1 + random() % 3);
        case 2: return Server::with(200, random() % 2 == 0 ? "" : "<html>");
        case 3: return Response::pending();
        default: return Server::acknowledge(request);
      }
    };
    for (int i = 0; i < 1500; ++i) {
      sender.track(static_cast<int>(random() % 3), random() % 300);
      if (random() % 50 == 0) sender.client->online(random() % 3 != 0);
      if (random() % 60 == 0) sender.client->flush(10);
      if (random() % 80 == 0) sender.client->startSession();
      if (random() % 4 == 0 && !sender.server().requests.empty()) {
        const Request& any = sender.server().requests[random() % sender.server().requests.size()];
        any.reply(random() % 2 == 0 ? named(any, 0, 2) : Server::with(413));
      }
      if (sender.server().requests.size() > 20) sender.server().requests.clear();
      sender.pass(static_cast<std::int64_t>(random() % 8000), 500);
      REQUIRE(fakes::balanced(sender.stats()));
    }
    sender.server().then = [&](const Request& request) {
      for (const std::uint64_t id : Server::ids(request.body())) delivered.insert(id);
      return Server::acknowledge(request);
    };
    sender.client->online();
    sender.pass(hour, 500);
    const Stats stats = sender.stats();
    CHECK(stats.queuedEvents == 0);
    CHECK(stats.droppedQueueFull + stats.droppedTooOld == 0);
    CHECK(stats.acknowledgedEvents + stats.droppedRefused == stats.acceptedEvents);
    CHECK(delivered.size() == stats.acceptedEvents);
  }
}

TEST_CASE("who takes the file over heeds the Retry-After that stands in it") {
  fakes::World world;
  world.server->then = Server::always(503, "", "3600");
  auto first = std::make_unique<Client>(world.options());
  world.pass(*first, 5 * second);
  REQUIRE(world.server->bodies.size() == 1);
  Client next(world.options());
  next.track("B");
  first.reset();
  world.server->then = nullptr;
  world.pass(next, minute);
  CHECK(world.server->bodies.size() == 1);
  world.pass(next, hour + 10 * minute, second);
  CHECK(next.stats().queuedEvents == 0);
}
