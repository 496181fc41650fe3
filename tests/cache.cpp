// Room 9: the file in which unsent events survive the program, whatever happens to it.
#include "check.hpp"
#include "fakes.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/stat.h>
#endif

using namespace nucleus;
using fakes::Json;
using Bytes = std::string;
using fakes::contentOf;
using Change = std::function<void(Options&)>;
using Ids = std::set<std::uint64_t>;

namespace {

Bytes hex(std::uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(value));
  return text;
}

/// A record: kind, CRC-32, bytes of content, content.
Bytes record(char kind, const Bytes& content) {
  return Bytes(1, kind) + ' ' + hex(detail::crc32(kind + content)) + ' ' +
         std::to_string(content.size()) + ' ' + content + '\n';
}
Bytes firstLine(const Bytes& appId = "test-app", const Bytes& version = "1",
                const Bytes& choice = "-") {
  const Bytes text = "nucleus-cache " + version + ' ' + appId + ' ' + choice;
  return text + ' ' + hex(detail::crc32(text)) + '\n';
}
Bytes state(const Bytes& more = {}) {
  return record('s', R"({"appId":"test-app","deviceId":"theDevice","anonId":"theAnon")" + more +
                         R"(,"props":{},"retryAtMs":-1,"retryForMs":0})");
}
Bytes event(std::uint64_t id, const Bytes& more = {}, std::uint64_t session = 12'345'678) {
  return R"({"type":"event","name":"STORED","id":)" + std::to_string(id) + more +
         R"(,"sessionId":)" + std::to_string(session) + '}';
}

struct Record {
  char kind;
  Bytes text;  // the whole line, without its line feed
  Bytes content;
};

/// The records of a file that is whole, checked byte by byte.
std::vector<Record> recordsOf(const Bytes& file) {
  std::vector<Record> records;
  std::istringstream lines(file);
  Bytes line;
  REQUIRE(std::getline(lines, line));
  REQUIRE((file.empty() || file.back() == '\n'));
  while (std::getline(lines, line)) {
    if (line.empty()) continue;
    const std::size_t space = line.find(' ', 11);
    REQUIRE(space != Bytes::npos);
    const Record each = {line[0], line, line.substr(space + 1)};
    REQUIRE(record(each.kind, each.content) == line + '\n');
    records.push_back(each);
  }
  return records;
}
std::vector<Bytes> eventsIn(const Bytes& file) {
  std::vector<Bytes> events;
  for (const Record& each : recordsOf(file)) {
    if (each.kind == 'e' || each.kind == 'f') events.push_back(each.content);
  }
  return events;
}
/// The events that a file holds and that have not left.
Ids idsIn(const Bytes& file) {
  Ids ids;
  for (const Record& each : recordsOf(file)) {
    if (each.kind == 'e' || each.kind == 'f')
      ids.insert(Json::parse(each.content).at("id").get<std::uint64_t>());
    std::istringstream ranges(each.kind == 'g' ? each.content : "");
    for (Bytes range; std::getline(ranges, range, ',');) {
      std::uint64_t first = std::stoull(range);
      const std::size_t dash = range.find('-');
      const std::uint64_t last = dash == Bytes::npos ? first : std::stoull(range.substr(dash + 1));
      for (; first <= last; ++first) ids.erase(first);
    }
  }
  return ids;
}
Ids idsOf(const std::vector<Json>& events) {
  Ids ids;
  for (const Json& each : events) ids.insert(each.at("id").get<std::uint64_t>());
  return ids;
}
/// Each session's init comes before its other events.
void requireInitsFirst(const std::vector<Json>& events) {
  Ids begun;
  for (const Json& each : events) {
    const auto session = each.at("sessionId").get<std::uint64_t>();
    if (each.at("type") == "init") begun.insert(session);
    REQUIRE(begun.count(session) == 1);
  }
}
int countOf(const Bytes& name, const std::vector<Json>& events) {
  return static_cast<int>(std::count_if(events.begin(), events.end(), [&](const Json& each) {
    return each.value("name", "") == name;
  }));
}
Ids allBut(const Ids& ids, const Ids& without) {
  Ids rest;
  std::set_difference(ids.begin(), ids.end(), without.begin(), without.end(),
                      std::inserter(rest, rest.begin()));
  return rest;
}
bool contains(const Bytes& text, const Bytes& part) { return text.find(part) != Bytes::npos; }

/// One start of the program, on a file with this content; none where it is empty.
struct Program {
  fakes::World world;
  std::unique_ptr<Client> client;

  explicit Program(const Bytes& file = {}, const Change& change = {}) {
    world.disk->file = file;
    world.disk->exists = !file.empty();
    world.seed = 1 + file.size();
    start(change);
  }
  /// One that runs beside another.
  Program(std::shared_ptr<fakes::Disk> disk, std::shared_ptr<fakes::Clock> clock,
          const Change& change = {}) {
    world.disk = std::move(disk);
    world.clock = std::move(clock);
    world.seed = 77;
    start(change);
  }
  void pass(std::int64_t ms, std::int64_t step = 250) { world.pass(*client, ms, step); }
  void serverIsDown() { world.server->then = fakes::Server::always(0); }
  void serverIsUp() { world.server->then = nullptr; }
  const Bytes& file() const { return world.disk->file; }
  Stats stats() const { return client->stats(); }
  std::vector<Json> received() const { return world.server->received(); }

 private:
  /// With small limits, which take less time to set up.
  void start(const Change& change) {
    Options options = world.options();
    options.platform = options.osVersion = options.version = options.locale = "1";
    options.maxEventBytes = 1024;
    options.maxQueueBytes = 32 << 10;
    options.maxBatchBytes = 8 << 10;
    if (change) change(options);
    client = std::make_unique<Client>(std::move(options));
  }
};

/// A file with an init and these many other events, none of them sent.
Bytes fileOf(int events) {
  Program program;
  program.serverIsDown();
  program.client->setUserId("the user");
  for (int i = 1; i < events; ++i) program.client->track("EVENT", {{"n o", i}});
  REQUIRE(program.client->persist());
  return program.file();
}

#if NUCLEUS_TESTS_SYSTEM

/// A folder that is there for the length of a test.
class Folder {
 public:
  Folder() {
    std::random_device random;
    do {
      path_ = std::filesystem::temp_directory_path() / ("nucleus-" + std::to_string(random()));
    } while (!std::filesystem::create_directory(path_));
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  Bytes operator/(const Bytes& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

void write(const Bytes& path, const Bytes& content) {
  std::ofstream(path, std::ios::binary) << content;
}
Change onFile(const Bytes& path) {
  return [path](Options& options) { options.storage = fileStorage(path); };
}

#endif

}  // namespace

// ---- the format ----

TEST_CASE("the CRC-32 is the one of zip and PNG") {
  CHECK(detail::crc32("123456789") == 0xcbf43926);
  CHECK(detail::crc32("") == 0);
  CHECK(detail::crc32("a") == 0xe8b7be43);
  CHECK(detail::crc32(Bytes(32, '\0')) == 0x190a55ad);
  CHECK(detail::crc32("456789", detail::crc32("123")) == 0xcbf43926);
}

TEST_CASE("the checksum of a text is the same in one piece, and byte by byte") {
  Bytes text;
  for (int i = 0; i < 100; ++i) {
    std::uint32_t crc = 0;
    for (const char& c : text) crc = detail::crc32({&c, 1}, crc);
    CHECK(detail::crc32(text) == crc);
    text += static_cast<char>(37 * i + 0x80);
  }
}

TEST_CASE("the file is text in lines: what it is, who it belongs to, and the events as sent") {
  Program program;
  program.client->setUserId("Zo\xC3\xAB \"the\" user\n");
  program.client->track("ONE", {{"text", "line\nfeed\t\x01"}, {"number", 1.5}, {"flag", true}});
  program.client->trackError("broken", "message", "stack");
  REQUIRE(program.client->persist());
  const Bytes& file = program.file();
  CHECK(file.substr(0, file.find('\n') + 1) == firstLine());
  for (const char c : file) CHECK((c == '\n' || static_cast<unsigned char>(c) >= 0x20));
  const std::vector<Record> records = recordsOf(file);
  REQUIRE(records.size() == 5);
  CHECK(records[0].kind == 's');
  const Json state = Json::parse(records[0].content);
  CHECK(state.at("appId") == "test-app");
  CHECK(state.at("userId") == "Zo\xC3\xAB \"the\" user\n");
  CHECK(state.at("deviceId").get<Bytes>().size() == 15);
  CHECK(state.at("anonId").get<Bytes>().size() == 12);
  program.pass(3000);
  REQUIRE(program.world.server->bodies.size() == 1);
  for (std::size_t i = 1; i < 5; ++i) {
    CHECK(records[i].kind == 'e');
    CHECK(contains(program.world.server->bodies[0], records[i].content));
  }
}

TEST_CASE("records and ranges that were written are read again") {
  char memory[200];
  detail::Buffer out(memory, sizeof memory);
  REQUIRE(detail::writeLine(out, {'e', "content of any length"}));
  REQUIRE(detail::writeLine(out, {'g', ""}));
  detail::seal(out.data(), out.size());
  CHECK(out.view() == record('e', "content of any length") + record('g', ""));
  detail::Line line;
  std::size_t bytes = 0;
  REQUIRE(detail::readLine(out.view(), line, bytes));
  CHECK(line.kind == 'e');
  CHECK(line.content == "content of any length");
  CHECK(out.view()[bytes] == '\n');
  CHECK_FALSE(detail::writeLine(out, {'e', Bytes(200, 'x')}));
  CHECK(out.view() == record('e', "content of any length") + record('g', ""));

  detail::IdRanges ranges;
  for (const std::uint64_t id : {7u, 8u, 9u, 20u}) ranges.add(id, id);
  out.clear();
  detail::writeRanges(out, ranges);
  CHECK(out.view() == "7-9,20");
  std::string_view text = out.view();
  detail::IdRanges::Range range;
  REQUIRE(detail::readRange(text, range));
  CHECK((range.first == 7 && range.last == 9));
  REQUIRE(detail::readRange(text, range));
  CHECK((range.first == 20 && range.last == 20));
  CHECK_FALSE(detail::readRange(text, range));
  for (const std::string_view bad : {"x", "-", "1-", "-1", "1-x", " 1", "99999999999999999999"}) {
    CAPTURE(bad);
    text = bad;
    CHECK_FALSE(detail::readRange(text, range));
  }
}

// ---- from one run to the next ----

TEST_CASE("a new start finds the events unchanged and the user's ids, and sends them") {
  Program before;
  before.serverIsDown();
  before.client->identify("the user", {{"plan", "pro"}});
  before.client->track("ONE", {{"text", "\xF0\x9F\x98\x80 \\ \" /"}});
  before.client->page("HOME");
  REQUIRE(before.client->shutdown(0));
  const std::vector<Bytes> events = eventsIn(before.file());
  REQUIRE(events.size() == 5);

  Program after(before.file());
  CHECK(after.stats().acceptedEvents == 6);  // those, and the new session's init
  CHECK(after.stats().queuedEvents == 6);
  after.pass(3000);
  REQUIRE(after.world.server->bodies.size() == 1);
  const Bytes& body = after.world.server->bodies[0];
  std::size_t at = 0;
  for (const Bytes& each : events) {
    CHECK(body.find(each) > at);  // in order
    REQUIRE(contains(body, each));
    at = body.find(each);
  }
  const Json first = after.received().front(), init = after.received().back();
  CHECK(init.at("type") == "init");
  CHECK(init.at("deviceId") == first.at("deviceId"));
  CHECK(init.at("anonId") == first.at("anonId"));
  CHECK(init.at("userId") == "the user");
  CHECK(init.at("payload") == Json{{"plan", "pro"}});
  CHECK(init.at("sessionId") != first.at("sessionId"));
  CHECK(after.stats().queuedEvents == 0);
  CHECK(fakes::balanced(after.stats()));
}

TEST_CASE("after a shutdown with nothing queued the file holds no event, and no trace of any") {
  Bytes file;
  for (int start = 0; start < 4; ++start) {
    Program program(file);
    if (start != 2) program.client->track("SECRET", {{"code", "hidden"}});
    program.pass(3000);
    REQUIRE(program.stats().queuedEvents == 0);
    CHECK(program.client->shutdown(0));
    file = program.file();
    CHECK_FALSE(contains(file, "SECRET"));
    CHECK_FALSE(contains(file, "init"));
    for (const Record& each : recordsOf(file)) CHECK(each.kind == 's');
    CHECK(recordsOf(file).size() == 1);
  }
}

TEST_CASE("after a shutdown with nothing queued it holds ids, user, limits and choice alone") {
  Program program({}, [](Options& options) {
    options.rememberTrackingChoice = true;
    options.disableTracking = true;
  });
  program.client->enableTracking();
  program.client->identify("the user", {{"plan", "pro"}});
  program.client->track("EVENT", {{"code", "hidden"}});
  program.client->trackError("broken", "it broke");
  program.world.server->script = {fakes::Server::always(429, "", "60")};
  program.pass(150'000);
  REQUIRE(program.stats().queuedEvents == 0);
  REQUIRE(program.client->shutdown(0));

  CHECK(program.file().substr(0, program.file().find('\n') + 1) ==
        firstLine("test-app", "1", "granted"));
  const std::vector<Record> records = recordsOf(program.file());
  REQUIRE(records.size() == 1);
  REQUIRE(records[0].kind == 's');
  const std::set<Bytes> all = {"appId", "deviceId", "anonId", "userId", "props"};
  std::set<Bytes> names;
  const Json state = Json::parse(records[0].content);
  for (const auto& [name, value] : state.items()) names.insert(name);
  CHECK(names == all);
  CHECK(state.at("userId") == "the user");
  CHECK(state.at("props") == Json{{"plan", "pro"}});
}

TEST_CASE("what was acknowledged does not come back after a kill, once cacheDelayMs has passed") {
  Program before;
  before.client->track("ONE");
  before.pass(2000);
  REQUIRE(before.stats().acknowledgedEvents == 2);
  before.pass(1000);
  before.serverIsDown();
  before.client->track("TWO");
  before.pass(1000);
  if (GENERATE(false, true)) {  // no kill, but an end at which the file is written anew
    REQUIRE(before.client->shutdown(0));
    REQUIRE_FALSE(contains(before.file(), "ONE"));
  }
  Program after(before.file());
  CHECK(after.stats().queuedEvents == 2);  // TWO, and the new init: its session has had one
  after.pass(3000);
  REQUIRE(after.received().size() == 2);
  CHECK(after.received()[0].at("name") == "TWO");
  CHECK(after.received()[1].at("type") == "init");
}

TEST_CASE("a kill loses and brings back only what happened within cacheDelayMs") {
  std::mt19937 random(5);
  Ids acknowledged;
  Program program({}, [](Options& options) { options.cutoffMs = 1 << 30; });
  program.world.server->then = [&](const Request& request) {
    std::vector<std::uint64_t> named;
    for (const std::uint64_t id : fakes::Server::ids(request.body())) {
      if (random() % 3 != 0) named.push_back(id);
    }
    acknowledged.insert(named.begin(), named.end());
    return fakes::Server::with(200, fakes::Server::naming(named));
  };
  for (int round = 0; round < 150; ++round) {
    CAPTURE(round);
    for (std::size_t more = random() % 12; more > 0; --more) {
      program.client->track("EVENT", {{"text", Bytes(random() % 200, 'x')}});
    }
    if (random() % 16 == 0) program.client->startSession();
    program.pass(static_cast<std::int64_t>(random() % 40'000));
    program.world.server->script = {20, fakes::Server::always(0)};  // the last word has been said
    program.pass(1500);
    program.world.server->script.clear();
    const Stats stats = program.stats();
    REQUIRE(stats.droppedQueueFull + stats.droppedTooOld + stats.droppedDamaged == 0);

    const Ids filed = idsIn(program.file());
    REQUIRE(filed.size() == stats.queuedEvents);
    REQUIRE(allBut(filed, acknowledged) == filed);
    Program after(program.file());
    after.pass(5000, 500);
    const Ids received = idsOf(after.received());
    REQUIRE(allBut(filed, received).empty());
    REQUIRE(after.stats().droppedDamaged == 0);
    REQUIRE(allBut(received, acknowledged) == received);
  }
  CHECK(acknowledged.size() > 500);
}

TEST_CASE("an event is in the file before it is in a request") {
  Program program;
  program.world.server->then = [&](const Request& request) {
    for (const Json& each : fakes::Server::events(request.body())) {
      CHECK(
          contains(program.file(), "\"id\":" + std::to_string(each.at("id").get<std::uint64_t>())));
    }
    return fakes::Server::acknowledge(request);
  };
  for (int i = 0; i < 40; ++i) {
    program.client->track("EVENT", {{"i", i}});
    if (i % 10 == 9) program.client->flush(1000);
    program.pass(700, 50);
  }
  CHECK(program.stats().acknowledgedEvents > 20);
}

TEST_CASE("what is accepted while the file is written waits for the next request") {
  int late = 0;
  std::size_t carried = 0;
  Program program;
  const auto trackLate = [&] {
    if (program.client && late < 20) program.client->track("LATE", {{"n o", ++late}});
  };
  program.world.disk->onCommit = trackLate;
  SECTION("made") {}
  SECTION("made, and appended to") { program.world.disk->onAppend = trackLate; }
  program.world.server->then = [&](const Request& request) {
    for (const Json& each : fakes::Server::events(request.body())) {
      CHECK(idsIn(program.file()).count(each.at("id").get<std::uint64_t>()) == 1);
      if (each.value("name", "") == "LATE") ++carried;
    }
    return fakes::Server::acknowledge(request);
  };
  program.pass(2000, 2000);
  REQUIRE(program.world.server->bodies.size() >= 1);
  CHECK_FALSE(contains(program.world.server->bodies[0], "LATE"));
  program.pass(60'000, 2000);
  CHECK(late > 0);
  CHECK(carried == static_cast<std::size_t>(late));
}

// ---- when it is written ----

TEST_CASE("with cacheDelayMs 0 an event is in the file before the call returns") {
  Program program({}, [](Options& options) { options.cacheDelayMs = 0; });
  CHECK(contains(program.file(), "\"type\":\"init\""));
  program.client->track("ONE");
  CHECK(contains(program.file(), "\"ONE\""));
  program.client->page("TWO");
  CHECK(contains(program.file(), "\"TWO\""));
  program.client->setUserId("three");
  CHECK(contains(program.file(), "\"userId\":\"three\""));
  CHECK(eventsIn(program.file()).size() == 4);

  const auto appends = [&](auto&& call) {
    const int before = program.world.disk->appends;
    REQUIRE(call(*program.client) == Outcome::ok);
    return program.world.disk->appends - before;
  };
  CHECK(appends([](Client& client) { return client.track("FOUR"); }) == 1);
  CHECK(appends([](Client& client) { return client.screen("FIVE"); }) == 1);
  CHECK(appends([](Client& client) { return client.trackError("SIX", "it broke"); }) == 1);
  CHECK(appends([](Client& client) { return client.setUserId("seven"); }) == 1);
  CHECK(appends([](Client& client) { return client.setProps({{"eight", 8}}); }) == 1);
  CHECK(appends([](Client& client) { return client.startSession(); }) == 1);
  CHECK(appends([](Client& client) { return client.identify("nine"); }) == 1);
  program.client->online(false);
  program.client->stats();
  CHECK(eventsIn(program.file()).size() == 11);
}

TEST_CASE("an error is in the file before the call returns, with all before it, in one write") {
  Program program;
  program.client->persist();
  program.client->track("ONE");
  program.client->track("TWO");
  CHECK_FALSE(contains(program.file(), "ONE"));
  const int appends = program.world.disk->appends, syncs = program.world.disk->syncs;
  program.client->trackError("broken", "it broke");
  CHECK(program.world.disk->appends == appends + 1);
  CHECK(program.file().find("ONE") < program.file().find("TWO"));
  CHECK(program.file().find("TWO") < program.file().find("broken"));
  CHECK(contains(program.file(), "it broke"));
  CHECK(program.world.disk->syncs == syncs);
  program.pass(1000);
  CHECK(program.world.disk->syncs == syncs + 1);  // soon after
}

TEST_CASE("otherwise calls touch no storage, and it is written once a cacheDelayMs") {
  Program program({}, [](Options& options) { options.maxBatchBytes = 64 << 10; });
  program.client->persist();
  const int calls = program.world.disk->calls(), appends = program.world.disk->appends;
  int events = fakes::makeEveryCall(*program.client);  // the network is gone, for one
  REQUIRE(events == 8);
  for (; events < 50; ++events) program.client->track("EVENT");
  CHECK(program.world.disk->calls() == calls);
  program.pass(900, 100);
  CHECK(program.world.disk->calls() == calls);
  program.pass(200, 100);
  CHECK(eventsIn(program.file()).size() == 51);
  CHECK(program.world.disk->appends == appends + 1);
}

TEST_CASE("what was appended is synced once in reportIntervalMs, and nothing is when idle") {
  Program program;
  program.pass(60'000);
  const int syncs = program.world.disk->syncs, calls = program.world.disk->calls();
  program.pass(120'000);
  CHECK(program.world.disk->calls() == calls);
  for (int i = 0; i < 60; ++i) {
    program.client->track("EVENT");
    program.pass(1000);
  }
  CHECK(program.world.disk->syncs >= syncs + 2);
  CHECK(program.world.disk->syncs <= syncs + 4);
}

TEST_CASE("a power cut loses at most what came since the last sync") {
  Program program;
  program.serverIsDown();
  const fakes::Disk& disk = *program.world.disk;
  int syncs = 0;
  std::size_t before = 0, most = 0;  // what had been accepted a cacheDelayMs ago
  for (int second = 0; second < 130; ++second) {
    CAPTURE(second);
    const bool breaks = second > 0 && second % 32 == 0;
    if (breaks) program.client->trackError("broken", "it broke");
    else program.client->track("EVENT");
    program.pass(1000);
    if (breaks) program.pass(1000);  // soon after
    const Stats stats = program.stats();
    const std::size_t kept = idsIn(disk.durable).size();
    if (disk.syncs > syncs) CHECK(kept >= before);
    if (breaks) CHECK(kept == stats.queuedEvents);
    most = std::max(most, stats.queuedEvents - kept);
    before = stats.queuedEvents;
    syncs = disk.syncs;
  }
  CHECK(most > 0);
  CHECK(most <= 21);  // reportIntervalMs and cacheDelayMs
  const Ids kept = idsIn(disk.durable);
  Program after(disk.durable);
  after.pass(60'000);
  CHECK(allBut(kept, idsOf(after.received())).empty());
}

TEST_CASE("persist puts all that is pending into the file, synced, or says that it could not") {
  Program program;
  program.client->track("ONE");
  CHECK(program.client->persist());
  CHECK(contains(program.file(), "ONE"));
  const int syncs = program.world.disk->syncs;
  program.client->track("TWO");
  program.client->page("AFTER TWO");
  program.client->setUserId("somebody");
  CHECK(program.client->persist());
  CHECK(contains(program.file(), "TWO"));
  CHECK(program.world.disk->syncs > syncs);
  std::vector<std::uint64_t> ids;
  for (const Bytes& each : eventsIn(program.file())) ids.push_back(Json::parse(each).at("id"));
  CHECK(ids.size() == 5);
  CHECK(std::is_sorted(ids.begin(), ids.end()));
  program.client->track("THREE");
  program.world.disk->full = true;
  CHECK_FALSE(program.client->persist());
  program.world.disk->full = false;
  CHECK(program.client->persist());
  CHECK(eventsIn(program.file()).size() == 6);
  program.client->track("FOUR");
  program.world.disk->syncFails = true;
  CHECK_FALSE(program.client->persist());
}

TEST_CASE("with offlineCache false the storage is never called") {
  Program program({}, [](Options& options) {
    options.offlineCache = false;
    options.cacheDelayMs = 0;
  });
  program.client->track("ONE");
  program.client->trackError("broken", "it broke");
  CHECK_FALSE(program.client->persist());
  program.pass(30'000);
  CHECK(program.received().size() == 3);
  program.client->disableTracking();
  program.client->enableTracking();
  program.client->forget();
  program.client->shutdown(0);
  CHECK(program.world.disk->calls() == 0);
}

// ---- rewriting ----

TEST_CASE("the file never grows beyond twice maxQueueBytes and 64 KB") {
  const int eventsPerSecond = GENERATE(1, static_cast<int>(fakes::rounds(20, 4)));
  Program program;
  const std::size_t limit = 2 * (32 << 10) + (64 << 10);
  const Bytes filler(400, 'x');
  std::mt19937 random(3);
  int replaces = 1, lastReplace = -60;  // it was made
  for (int second = 0; second < 3600; ++second) {
    if (second == 1200) program.serverIsDown();
    if (second == 1800) program.serverIsUp();
    for (int i = 0; i < eventsPerSecond; ++i) {
      program.client->track("EVENT", {{"filler", filler.substr(random() % 300)}});
    }
    program.pass(1000, 500);
    if (program.world.disk->replaces == replaces) continue;
    if (eventsPerSecond == 1) CHECK(second - lastReplace >= 60);  // once a minute at most
    replaces = program.world.disk->replaces;
    lastReplace = second;
  }
  CHECK(program.world.disk->largest > (16 << 10));
  CHECK(program.world.disk->largest <= limit);
  CHECK(program.stats().cacheBytes == program.file().size());
  CHECK(fakes::balanced(program.stats()));
  CHECK(program.world.told("storage-failed") == 0);  // nothing has failed
  CHECK(idsIn(program.file()).size() == program.stats().queuedEvents);
  CHECK(replaces > 10);
}

TEST_CASE("a file is rewritten once 16 KB and more than half of it are dead, not before") {
  const int kept = GENERATE(0, 30, 60);
  CAPTURE(kept);
  Program program({}, [](Options& options) {
    options.maxBatchBytes = 64 << 10;
    options.cutoffMs = std::int64_t{365} * 86'400'000;
  });
  program.world.server->then = [](const Request& request) {
    std::vector<std::uint64_t> ids;
    for (const Json& each : fakes::Server::events(request.body())) {
      if (each.value("name", "") != "KEPT") ids.push_back(each.at("id"));
    }
    return fakes::Server::with(200, fakes::Server::naming(ids));
  };
  const Bytes filler(200, 'x');
  for (int i = 0; i < kept; ++i) program.client->track("KEPT", {{"filler", filler}});
  program.pass(3000);  // it is made
  const fakes::Disk& disk = *program.world.disk;
  for (std::size_t times = 0; times < fakes::rounds(3, 1); ++times) {
    CAPTURE(times);
    const int replaces = disk.replaces;
    std::size_t before = 0;
    while (disk.replaces == replaces) {
      before = program.file().size();
      program.client->track("TAKEN", {{"filler", filler}});
      program.pass(11 * 60'000, 30'000);  // longer than any pause
      program.world.server->bodies.clear();
    }
    const std::size_t alive = program.file().size();
    const std::size_t threshold = std::max<std::size_t>(16 << 10, alive);
    CHECK(before - alive < threshold + 400);
    CHECK(before - alive > threshold - 1200);
  }
}

TEST_CASE("with a large queue a quarter of maxQueueBytes is dead before the file is rewritten") {
  Program program({}, [](Options& options) { options.maxQueueBytes = 256 << 10; });
  const fakes::Disk& disk = *program.world.disk;
  program.pass(3000);  // it is made
  std::size_t before = 0;
  for (const int replaces = disk.replaces; disk.replaces == replaces;) {
    before = program.file().size();
    program.client->track("EVENT", {{"filler", Bytes(400, 'x')}});
    program.pass(60'000, 5000);
  }
  CHECK(before > (63 << 10));
  CHECK(before <= (64 << 10));
}

TEST_CASE("a busy file is rewritten when what it holds has been delivered, not before") {
  Program program({}, [](Options& options) {
    options.maxQueueBytes = 64 << 10;
    options.maxBatchBytes = 2 << 10;    // several requests each time
    options.reportIntervalMs = 25'000;  // a minute ends between two
  });
  const fakes::Disk& disk = *program.world.disk;
  const int made = disk.replaces;
  int replaces = made;
  for (int second = 0; second < 600; ++second) {
    program.client->track("EVENT", {{"filler", Bytes(150, 'x')}});
    program.pass(1000, 50);
    if (disk.replaces == replaces) continue;
    replaces = disk.replaces;
    CHECK(idsIn(program.file()).size() <= 2);
  }
  CHECK(replaces - made >= 5);
}

TEST_CASE("a kill while the file is rewritten loses nothing that was accepted before") {
  Bytes atKill;
  Program program;
  fakes::Disk& disk = *program.world.disk;
  disk.onCommit = [&] { atKill = disk.file; };  // what it would find
  program.client->track("EVENT", {{"n", 0}});
  program.pass(3000);  // it is made
  const int replaces = disk.replaces;
  int last = 0;
  while (disk.replaces == replaces && last < 2000) {
    program.client->track("EVENT", {{"n", ++last}, {"filler", Bytes(200, 'x')}});
    program.pass(250);
  }
  REQUIRE(disk.replaces == replaces + 1);
  CHECK(contains(atKill, "\"n\":" + std::to_string(last) + ","));
}

TEST_CASE("a user who signs in while the file is rewritten is in it soon after") {
  Program program;
  program.serverIsDown();
  fakes::Disk& disk = *program.world.disk;
  disk.onWrite = [&] {
    disk.onWrite = nullptr;
    program.client->setUserId("just now");
  };
  program.pass(5000);
  Program next(program.file());
  next.client->track("LATER");
  next.pass(5000);
  CHECK(next.received().back().at("name") == "LATER");
  CHECK(next.received().back().at("userId") == "just now");
}

TEST_CASE("a file that is mostly alive is not rewritten") {
  Program program({}, [](Options& options) { options.maxBatchBytes = 64 << 10; });
  program.world.server->then = [](const Request& request) {
    std::vector<std::uint64_t> ids;
    for (const Json& each : fakes::Server::events(request.body())) {
      if (each.value("name", "") == "TAKEN") ids.push_back(each.at("id"));
    }
    return fakes::Server::with(200, fakes::Server::naming(ids));
  };
  const Bytes filler(400, 'x');
  for (int i = 0; i < 40; ++i) program.client->track("KEPT", {{"filler", filler}});
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) program.client->track("TAKEN", {{"filler", filler}});
    program.pass(120'000);
  }
  CHECK(program.stats().acknowledgedEvents == 40);
  CHECK(program.file().size() > program.stats().queuedBytes + (16 << 10));
  CHECK(program.world.disk->replaces == 1);  // it was made
}

// ---- damage ----

namespace {

/// Files with every kind of record in them, and the events that are to be found.
Bytes fileWithNumbers() {
  const Bytes more = ",\"payload\":{\"a b\":\"e s f\"}";
  return firstLine() + state() + record('f', event(71, more)) + record('e', event(72)) +
         record('g', "72") + state(R"(,"userId":"user")") + record('e', event(73)) +
         record('f', event(74, {}, 23'456'789)) + record('g', "60-70,75") + record('e', event(76));
}
/// With these the file is read in several pieces.
void smallPieces(Options& options) {
  options.maxEventBytes = 700;
  options.maxBatchBytes = 1600;
}
/// What is wrong with what a damaged file leads to; empty: nothing.
Bytes wrongWith(const Bytes& damaged, const Ids& all) {
  Program program(damaged, smallPieces);
  program.pass(4000, 500);
  const std::vector<Json> received = program.received();  // all of it is JSON
  const std::size_t lost = allBut(all, idsOf(received)).size();
  const Stats stats = program.stats();
  if (lost > 1) return "more than one record is lost";
  if (stats.droppedDamaged < lost) return "what is lost is not counted";
  if (stats.droppedDamaged > 1) return "more is counted than was damaged";
  if (program.world.told("damaged") != stats.droppedDamaged) return "it is not reported";
  if (stats.storage != StorageState::ready) return "the file is not used";
  if (!fakes::balanced(stats)) return "the counts do not add up";
  return "";
}

}  // namespace

TEST_CASE("one damaged byte costs at most one record, which is counted and reported") {
  for (const Bytes& file : {fileOf(6), fileWithNumbers()}) {
    const Ids all = idsIn(file);
    REQUIRE(wrongWith(file, all).empty());
    const auto check = [&](const char* what, int byte, const Bytes& damaged) {
      CAPTURE(what, byte);
      CHECK(wrongWith(damaged, all) == "");
    };
    for (std::size_t at = 0; at < file.size(); at += fakes::slowdown) {
      CAPTURE(at, file.substr(at < 20 ? 0 : at - 20, 40));
      const int others[] = {' ', 0xff, '9', file[at] ^ 1};
      for (const int byte : {int{'\n'}, 0, others[at % 4]}) {
        Bytes damaged = file;
        damaged[at] = static_cast<char>(byte);
        if (damaged != file) check("changed", byte, damaged);
      }
      check("removed", 0, Bytes(file).erase(at, 1));
      check("inserted", 0, Bytes(file).insert(at, 1, at % 2 == 0 ? '\n' : '1'));
    }
  }
}

TEST_CASE("a file that went through an editor is read as before") {
  const Bytes file = fileOf(5);
  Bytes windows;
  for (const char c : file) windows += c == '\n' ? Bytes("\r\n") : Bytes(1, c);
  for (const Bytes& edited : {windows, file.substr(0, file.size() - 1), file + "\n\n\n"}) {
    Program program(edited);
    program.pass(2000, 500);
    CHECK(allBut(idsIn(file), idsOf(program.received())).empty());
    CHECK(program.stats().droppedDamaged == 0);
  }
}

TEST_CASE("of a file that was cut off anywhere all before is found, and what comes next survives") {
  const Bytes file = fileOf(8);
  const std::size_t firstLineBytes = firstLine().size() - 1;
  for (std::size_t size = firstLineBytes; size <= file.size(); size += (fakes::slowdown + 1) / 2) {
    CAPTURE(size);
    const Bytes cut = file.substr(0, size);
    Program program(cut);
    program.serverIsDown();
    REQUIRE(program.client->track("NEXT") == Outcome::ok);
    REQUIRE(program.client->persist());
    const bool torn = size > firstLineBytes && cut.back() != '\n' && file[size] != '\n';
    REQUIRE(program.stats().droppedDamaged == (torn ? 1 : 0));

    Program after(program.file());
    after.pass(2000, 500);
    Ids whole;
    for (std::size_t at = firstLineBytes + 1; at < size;) {
      const std::size_t end = file.find('\n', at);
      const Bytes line = file.substr(at, end - at);
      if (end <= size && line[0] == 'e') {
        whole.insert(Json::parse(line.substr(line.find('{'))).at("id").get<std::uint64_t>());
      }
      at = end + 1;
    }
    const std::vector<Json> received = after.received();
    REQUIRE(allBut(whole, idsOf(received)).empty());
    REQUIRE(std::count_if(received.begin(), received.end(),
                          [](const Json& each) { return each.value("name", "") == "NEXT"; }) == 1);
    REQUIRE(after.stats().droppedDamaged <= (torn ? 1u : 0u));
  }
}

TEST_CASE(
    "a file that was cut off inside its first line is made whole, if it says that it is ours") {
  const Bytes line = firstLine();
  for (std::size_t size = 0; size < line.size(); ++size) {
    CAPTURE(size);
    Program program(line.substr(0, size), [](Options& options) { options.cacheDelayMs = 0; });
    program.world.disk->exists = true;
    program.serverIsDown();
    program.client->track("NEXT");
    const Bytes cut = line.substr(0, size);
    if (size != 0 && !contains(cut, "nucleus-cache")) {  // it may be anybody's
      CHECK_FALSE(program.client->persist());
      CHECK(program.file() == cut);
      continue;
    }
    CHECK(program.client->persist());
    Program after(program.file());
    after.pass(2000, 500);
    CHECK(after.received().size() == 3);
  }
}

TEST_CASE("a damaged file is whole again after the next shutdown") {
  Bytes file = fileOf(5);
  file[file.size() / 2] = '\0';
  Program program(file);
  program.serverIsDown();
  REQUIRE(program.client->shutdown(0));
  Program after(program.file());
  CHECK(after.stats().droppedDamaged == 0);
  CHECK(after.stats().queuedEvents == idsIn(program.file()).size() + 1);
}

TEST_CASE("an append that was torn by a kill costs only what was in it") {
  Program before;
  before.serverIsDown();
  before.client->track("ONE");
  REQUIRE(before.client->persist());
  before.world.disk->tears = before.world.disk->readOnly = true;
  for (int i = 0; i < 3; ++i) before.client->track("TORN", {{"i", i}});
  before.pass(1000);
  REQUIRE(contains(before.file(), "TORN"));
  const Bytes torn = before.file();
  REQUIRE(torn.back() != '\n');

  Program program(torn);
  program.serverIsDown();
  program.client->track("NEXT");
  CHECK(program.client->persist());
  CHECK(program.stats().droppedDamaged == 1);
  Program after(program.file());
  after.pass(2000, 500);
  std::map<Bytes, int> names;
  for (const Json& each : after.received()) ++names[each.value("name", "")];
  CHECK(names["ONE"] == 1);
  CHECK(names["TORN"] == 1);
  CHECK(names["NEXT"] == 1);
}

// ---- a disk that does not do what it should ----

TEST_CASE("a file that cannot be read is left as it is, and read once it can be") {
  const auto disk = std::make_shared<fakes::Disk>();
  const Bytes file = disk->file = fileOf(5);
  disk->exists = disk->unreadable = true;
  Program program(disk, std::make_shared<fakes::Clock>());
  program.client->track("NEXT");
  CHECK_FALSE(program.client->persist());
  program.pass(5000);
  CHECK(program.file() == file);
  CHECK(program.stats().storage == StorageState::failed);
  CHECK(program.world.told("storage-failed") > 0);
  disk->unreadable = false;
  program.pass(60'000);
  CHECK(allBut(idsIn(file), idsOf(program.received())).empty());
  CHECK(program.stats().storage == StorageState::ready);
  CHECK(program.stats().queuedEvents == 0);
}

TEST_CASE("a disk that fails for a while costs nothing, and the file is made whole after") {
  struct Row {
    const char* fault;
    bool fakes::Disk::*flag;
    bool fakes::Disk::*also;
  };
  const std::vector<Row> rows = {
      {"full", &fakes::Disk::full, nullptr},
      {"appends are torn", &fakes::Disk::tears, nullptr},
      {"appends are torn and the folder cannot be written", &fakes::Disk::tears,
       &fakes::Disk::readOnly},
      {"full and renames fail", &fakes::Disk::full, &fakes::Disk::renameFails},
      {"the folder cannot be written", &fakes::Disk::readOnly, nullptr},
      {"renames fail", &fakes::Disk::renameFails, nullptr},
      {"syncs fail", &fakes::Disk::syncFails, nullptr},
      {"removed", &fakes::Disk::gone, nullptr},
  };
  for (const Row& row : rows) {
    for (const bool fromTheStart : {false, true}) {
      CAPTURE(row.fault, fromTheStart);
      Program program;
      program.serverIsDown();
      fakes::Disk& disk = *program.world.disk;
      if (!fromTheStart) {
        program.client->track("BEFORE");
        REQUIRE(program.client->persist());
      }
      disk.*row.flag = true;
      if (row.also != nullptr) disk.*row.also = true;
      for (int i = 0; i < 10; ++i) {
        REQUIRE(program.client->track("DURING", {{"i", i}}) == Outcome::ok);
        program.pass(3000);
      }
      CHECK(fakes::balanced(program.stats()));
      CHECK(program.world.told("storage-failed") <= 1);  // a minute has not passed
      disk.*row.flag = false;
      if (row.also != nullptr) disk.*row.also = false;
      program.pass(2500);
      const std::size_t events = fromTheStart ? 11 : 12;
      CHECK(program.stats().queuedEvents == events);
      CHECK(program.stats().storage == StorageState::ready);
      CHECK(program.stats().notCached == 0);
      Program after(program.file());
      CHECK(after.stats().queuedEvents == events + 1);
      CHECK(after.stats().droppedDamaged == 0);
    }
  }
}

TEST_CASE("whatever the disk does, the file ends up with what is queued, and nothing else") {
  for (std::uint32_t seed = 1; seed <= fakes::rounds(10, 2); ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Program program;
    fakes::Disk& disk = *program.world.disk;
    program.world.server->then = [&](const Request& request) {
      std::vector<std::uint64_t> ids = fakes::Server::ids(request.body());
      ids.resize(random() % (ids.size() + 1));
      return fakes::Server::with(200, fakes::Server::naming(ids));
    };
    for (int i = 0; i < 400; ++i) {
      for (std::size_t more = random() % 4; more > 0; --more) program.client->track("EVENT");
      if (random() % 30 == 0) program.client->trackError("broken", "it broke");
      if (random() % 30 == 0) program.client->startSession();
      if (random() % 10 == 0) program.client->persist();
      for (bool* fault : {&disk.full, &disk.tears, &disk.readOnly, &disk.renameFails,
                          &disk.syncFails, &disk.locked, &disk.gone}) {
        *fault = *fault ? random() % 3 != 0 : random() % 12 == 0;
      }
      if (!disk.file.empty() && random() % 40 == 0) disk.file[random() % disk.file.size()] = 'x';
      program.pass(static_cast<std::int64_t>(random() % 8000));
      REQUIRE(fakes::balanced(program.stats()));
    }
    disk.full = disk.tears = disk.readOnly = disk.renameFails = disk.syncFails = false;
    disk.locked = disk.gone = false;
    program.serverIsDown();
    program.client->track("LAST");
    program.pass(5000);
    const Stats stats = program.stats();
    CHECK(stats.storage == StorageState::ready);
    CHECK(stats.notCached == 0);
    REQUIRE(program.client->shutdown(0));
    CHECK(idsIn(program.file()).size() == stats.queuedEvents);
    CHECK(stats.droppedQueueFull == 0);
  }
}

TEST_CASE("events are delivered from memory while the disk is full") {
  Program program;
  program.world.disk->full = true;
  for (int i = 0; i < 10; ++i) {
    program.client->track("EVENT");
    program.pass(10'000);
  }
  program.pass(30'000);
  CHECK(program.stats().acknowledgedEvents == 11);
  CHECK(program.stats().queuedEvents == 0);
  CHECK(program.stats().storage == StorageState::failed);
  CHECK(program.world.told("storage-failed") > 0);
}

TEST_CASE("what is in memory alone is counted while there is no file") {
  Program program;
  program.serverIsDown();
  program.world.disk->full = true;
  program.client->track("EVENT");
  program.pass(2000);
  CHECK(program.stats().notCached == 2);
  program.world.disk->full = false;
  program.pass(2000);
  CHECK(program.stats().notCached == 0);
}

#if NUCLEUS_TESTS_EXCEPTIONS
TEST_CASE("a storage that throws while it writes is one that fails") {
  struct Throwing : Storage {
    StorageState open() override { throw 1; }
    std::size_t read(std::size_t, char*, std::size_t) override { throw 2; }
    bool append(std::string_view) override { throw 3; }
    bool beginReplace() override { throw 4; }
    bool write(std::string_view) override { throw 5; }
    bool commitReplace() override { throw 6; }
    bool sync() override { throw 7; }
    bool erase() override { throw 8; }
    bool vanished() override { throw 9; }
    void close() override { throw 10; }
  };
  Program program({}, [](Options& options) { options.storage = std::make_shared<Throwing>(); });
  program.client->track("EVENT");
  CHECK_FALSE(program.client->persist());
  program.pass(30'000);
  CHECK(program.stats().acknowledgedEvents == 2);
  CHECK(program.stats().storage == StorageState::failed);
}
#endif

// ---- files that are not ours ----

TEST_CASE("a file that is not ours is not touched, and events go on in memory") {
  const std::vector<std::pair<const char*, Bytes>> files = {
      {"of another program", firstLine("other-app") + state()},
      {"of a program whose appId begins with ours", firstLine("test-app-2")},
      {"of a newer format", firstLine("test-app", "2") + "whatever comes then\n"},
      {"of a newer format, with a choice", firstLine("test-app", "2", "granted")},
      {"somebody's text", "Dear diary,\ntoday I\n"},
      {"somebody's JSON", R"({"appId":"test-app","events":[]})"},
      {"one letter", "x"},
      {"a line feed", "\n"},
      {"binary", Bytes("\x7f"
                       "ELF\0\0\0\n\xff\xfe",
                       10)},
      {"another program's, damaged",
       "nucleus-cache 1 oth3r-app - 00000000\n" + record('s', R"({"appId":"other-app"})")},
      {"long and without a line feed", Bytes(300'000, 'x')},
  };
  for (const auto& [what, content] : files) {
    CAPTURE(what);
    Program program(content);
    program.client->track("EVENT");
    CHECK_FALSE(program.client->persist());
    program.pass(180'000);
    CHECK(program.stats().acknowledgedEvents == 2);
    CHECK(program.stats().storage == StorageState::foreign);
    CHECK(program.world.told("storage-foreign") > 0);
    program.client->track("LAST");
    CHECK(program.stats().notCached == 1);
    program.client->shutdown(0);
    CHECK(program.file() == content);
    CHECK(program.world.disk->holder == nullptr);
  }
}

TEST_CASE("what the storage calls foreign is neither read nor written") {
  Program program({}, [](Options& options) { options.disableTracking = true; });
  program.world.disk->foreign = true;
  program.client->enableTracking();
  program.client->track("EVENT");
  CHECK_FALSE(program.client->persist());
  program.pass(120'000);
  CHECK(program.stats().acknowledgedEvents == 2);
  const fakes::Disk& disk = *program.world.disk;
  CHECK(disk.reads + disk.appends + disk.replaces + disk.erases + disk.syncs == 0);
}

// ---- a file that another client holds ----

namespace {

void passBoth(Program& first, Program& second, std::int64_t ms) {
  for (; ms > 0; ms -= 250) {
    first.world.clock->advance(250);
    if (first.client) first.client->poll();
    second.client->poll();
  }
}
/// The process ends without a word, and the system unlocks the file. What is left is not polled.
std::unique_ptr<Client> kill(Program& program) {
  program.world.disk->holder = nullptr;
  return std::move(program.client);
}

}  // namespace

TEST_CASE("a second client has the same ids, goes on in memory, and takes the file over") {
  Program first;
  first.serverIsDown();
  first.client->setUserId("the user");
  first.client->track("FIRST");
  first.pass(2000);
  Program second(first.world.disk, first.world.clock);
  second.serverIsDown();
  second.client->track("SECOND");
  passBoth(first, second, 30'000);
  CHECK(second.stats().storage == StorageState::locked);
  CHECK(second.stats().notCached == 2);
  CHECK(second.world.told("storage-locked") == 1);
  CHECK_FALSE(second.client->persist());
  const Json theirs = first.received().front(), ours = second.received().front();
  for (const char* id : {"deviceId", "anonId"}) CHECK(ours.at(id) == theirs.at(id));
  CHECK(ours.at("userId") == "the user");
  CHECK(ours.at("sessionId") != theirs.at("sessionId"));
  CHECK(second.stats().acceptedEvents == 2);  // those of the first are not its own

  std::unique_ptr<Client> killed;
  if (GENERATE(false, true)) killed = kill(first);
  first.client.reset();
  const Ids before = idsIn(first.file());
  passBoth(first, second, 3000);
  CHECK(second.stats().storage == StorageState::ready);
  CHECK(second.stats().notCached == 0);
  CHECK(second.stats().queuedEvents == 5);
  CHECK(fakes::balanced(second.stats()));
  const Ids filed = idsIn(second.file());
  CHECK(filed.size() == 5);
  CHECK(allBut(before, filed).empty());
  second.serverIsUp();
  second.world.server->bodies.clear();
  second.client->flush(1000);
  second.pass(2000);
  CHECK(idsOf(second.received()) == filed);
  CHECK(second.received().front().at("sessionId") == theirs.at("sessionId"));  // older first
  second.client->shutdown(0);
  CHECK(eventsIn(second.file()).empty());
}

TEST_CASE("a call while a file is taken over costs its own session no init") {
  Program before;
  before.serverIsDown();
  for (int i = 0; i < 100; ++i) before.client->track("EVENT", {{"i", i}});
  REQUIRE(before.client->persist());
  before.client.reset();
  fakes::Disk& disk = *before.world.disk;
  disk.locked = true;
  Program program(before.world.disk, before.world.clock,
                  [](Options& options) { options.maxQueueBytes = 8 << 10; });
  program.serverIsDown();
  REQUIRE(program.stats().queuedEvents == 1);  // its init
  int calls = 0;
  disk.onRead = [&] {
    if (program.client->track("NEW", {{"i", calls}}) == Outcome::ok) ++calls;
  };
  disk.locked = false;
  program.pass(2000);
  disk.onRead = nullptr;
  REQUIRE(calls > 3);
  REQUIRE(program.stats().droppedQueueFull > 20);
  program.serverIsUp();
  program.pass(3'600'000, 1000);
  requireInitsFirst(program.received());
  CHECK(countOf("NEW", program.received()) == calls);
}

TEST_CASE("what was tracked while a file was taken over drops its init last, when room is short") {
  Program program({}, [](Options& options) { options.maxQueueBytes = 8 << 10; });
  program.serverIsDown();
  fakes::Disk& disk = *program.world.disk;
  disk.locked = true;
  program.pass(2000);
  disk.file = firstLine() + state();  // each of a session that the server knows
  for (std::uint64_t i = 0; i < 200; ++i)
    disk.file += record('f', event(5'000'000'001 + i, {}, 12'345'000 + i));
  disk.exists = true;
  disk.onRead = [&] { program.client->track("NEW"); };
  disk.locked = false;
  program.pass(2000);
  disk.onRead = nullptr;
  REQUIRE(program.stats().storage == StorageState::ready);
  const std::uint64_t dropped = program.stats().droppedQueueFull;
  for (int i = 0; i < 60; ++i) program.client->track("NEWER", {{"i", i}});
  REQUIRE(program.stats().droppedQueueFull > dropped + 30);
  program.serverIsUp();
  program.world.server->bodies.clear();
  program.pass(3'600'000, 1000);
  bool begun = false;
  for (const Json& each : program.received()) {
    begun = begun || each.at("type") == "init";
    CHECK((begun || each.at("sessionId").get<std::uint64_t>() < 12'346'000));
  }
  CHECK(begun);
}

TEST_CASE("an init that is made anew while a file is taken over costs our own session nothing") {
  Program program({}, [](Options& options) { options.maxQueueBytes = 8 << 10; });
  program.serverIsDown();
  fakes::Disk& disk = *program.world.disk;
  disk.locked = true;
  program.pass(2000);
  int tracked = 0;
  while (program.stats().queuedBytes < 7000) program.client->track("OURS"), ++tracked;
  REQUIRE(program.stats().droppedQueueFull == 0);
  disk.file = firstLine() + state();
  for (std::uint64_t i = 0; i < 9; ++i)
    disk.file += record('e', event(5'000'000'001 + i, {}, 12'345'000 + i));
  disk.exists = true;
  disk.locked = false;
  program.pass(2000);
  REQUIRE(program.stats().storage == StorageState::ready);
  REQUIRE(program.stats().droppedQueueFull > 0);
  program.client->track("OURS");
  program.serverIsUp();
  program.world.server->bodies.clear();
  program.pass(3'600'000, 1000);
  requireInitsFirst(program.received());
  CHECK(countOf("OURS", program.received()) == tracked + 1);
  CHECK(fakes::balanced(program.stats()));
}

TEST_CASE("what is dropped while a file is taken over does not come back after a kill") {
  Program before;
  before.serverIsDown();
  for (int i = 0; i < 100; ++i) before.client->track("EVENT", {{"i", i}});
  REQUIRE(before.client->persist());
  before.client.reset();
  before.world.disk->locked = true;
  Program program(before.world.disk, before.world.clock,
                  [](Options& options) { options.maxQueueBytes = 8 << 10; });
  program.pass(2500);
  REQUIRE(program.stats().queuedEvents == 0);
  program.serverIsDown();
  before.world.disk->locked = false;
  program.pass(5000);
  REQUIRE(program.stats().storage == StorageState::ready);
  REQUIRE(program.stats().droppedQueueFull > 20);
  CHECK(idsIn(program.file()).size() == program.stats().queuedEvents);
}

TEST_CASE(
    "a session that lost its init is not sent without one where there is no room for another") {
  Program before;
  before.serverIsDown();
  for (int i = 0; i < 3; ++i) before.client->track("LEFT");
  before.client->setProps({{"plan", Bytes(500, 'x')}});  // which makes each init long
  REQUIRE(before.client->persist());
  fakes::Disk& disk = *before.world.disk;
  Bytes file = firstLine();
  for (const Record& each : recordsOf(disk.file)) {
    if (each.kind == 's' || contains(each.content, "LEFT")) file += each.text + '\n';
  }
  REQUIRE(eventsIn(file).size() == 3);
  before.client.reset();
  disk.file = file;
  disk.locked = true;

  Program program(before.world.disk, before.world.clock,
                  [](Options& options) { options.maxBatchBytes = 64 << 10; });
  program.world.server->then = [](const Request&) { return nucleus::Response::pending(); };
  while ((32u << 10) - program.stats().queuedBytes > 600) program.client->track("EVENT");
  program.pass(1500);  // all of them are in a request: none can go
  REQUIRE(program.stats().requests == 1);
  disk.locked = false;
  program.pass(5000);
  REQUIRE(program.stats().storage == StorageState::ready);
  program.serverIsUp();
  program.pass(3'600'000, 1000);
  CHECK(program.stats().queuedEvents == 0);
  CHECK(fakes::balanced(program.stats()));
  std::set<std::uint64_t> begun;
  for (const Json& each : program.received()) {
    const auto session = each.at("sessionId").get<std::uint64_t>();
    if (each.at("type") == "init") begun.insert(session);
    CHECK(begun.count(session) == 1);
  }
}

TEST_CASE("two clients that start where there is no file lose nothing") {
  Program first;
  Program second(first.world.disk, first.world.clock);
  first.serverIsDown();
  second.serverIsDown();
  for (int i = 0; i < 5; ++i) {
    first.client->track("FIRST", {{"i", i}});
    second.client->track("SECOND", {{"i", i}});
    passBoth(first, second, 1000);
  }
  REQUIRE(first.stats().storage == StorageState::ready);
  REQUIRE(second.stats().storage == StorageState::locked);
  first.client.reset();
  passBoth(first, second, 5000);
  CHECK(second.stats().storage == StorageState::ready);
  CHECK(second.stats().queuedEvents == 12);
  CHECK(idsIn(second.file()).size() == 12);
  second.client->shutdown(0);
  Program after(second.file());
  CHECK(after.stats().queuedEvents == 13);
}

TEST_CASE("taking over a file with more than there is room for drops the oldest") {
  Program first;
  first.serverIsDown();
  REQUIRE(first.client->persist());
  Program second(first.world.disk, first.world.clock);
  second.serverIsDown();
  const Bytes filler(400, 'x');
  for (int i = 0; i < 50; ++i) first.client->track("OLDER", {{"i", i}, {"filler", filler}});
  passBoth(first, second, 2000);
  for (int i = 0; i < 50; ++i) second.client->track("NEWER", {{"i", i}, {"filler", filler}});
  REQUIRE(second.stats().droppedQueueFull + first.stats().droppedQueueFull == 0);
  first.client.reset();
  passBoth(first, second, 3000);
  const Stats stats = second.stats();
  CHECK(stats.droppedQueueFull > 0);
  CHECK(fakes::balanced(stats));
  CHECK(second.world.told("queue-full") == stats.droppedQueueFull);
  second.serverIsUp();
  second.world.server->bodies.clear();
  second.client->flush(1000);
  second.pass(60'000);
  std::map<Bytes, int> names;
  for (const Json& each : second.received()) ++names[each.value("name", "")];
  CHECK(names["NEWER"] == 50);
  CHECK(names["OLDER"] > 0);
}

TEST_CASE("taking over a file whose events have left changes nothing for our own session") {
  Program first;
  first.client->track("FIRST");
  first.pass(1250);
  REQUIRE(first.client->persist());
  Program second(first.world.disk, first.world.clock);
  second.serverIsDown();
  second.client->track("SECOND");
  passBoth(first, second, 10'000);
  REQUIRE(first.client->persist());
  REQUIRE(first.stats().queuedEvents == 0);
  REQUIRE(contains(first.file(), "FIRST"));  // with a note that it has left
  const auto killed = kill(first);
  passBoth(first, second, 3000);
  REQUIRE(second.stats().storage == StorageState::ready);
  CHECK(second.stats().queuedEvents == 2);
  second.client->track("THIRD");
  REQUIRE(second.client->persist());
  Program after(second.file());
  CHECK(after.stats().queuedEvents == 4);
  CHECK(after.stats().acceptedEvents == 4);  // our session has its init, and only one
}

// ---- what a file may hold ----

TEST_CASE("a session that is found without its init gets one before anything else of it") {
  const std::int64_t date = 1'789'999'000'000;
  const Bytes dated = ",\"date\":" + std::to_string(date);
  const Bytes file = firstLine() + state(R"(,"userId":"user")") +
                     record('e', event(5'000'000'001)) + record('e', event(5'000'000'002)) +
                     record('e', event(5'000'000'003, dated, 23'456'789)) +
                     record('f', event(5'000'000'004, {}, 34'567'890)) +
                     record('e', event(5'000'000'005, {}, 34'567'890));
  Program program(file);
  program.pass(2000);
  const std::vector<Json> received = program.received();
  REQUIRE(received.size() == 8);
  std::map<std::uint64_t, int> inits;
  Ids began;
  for (const Json& each : received) {
    const std::uint64_t session = each.at("sessionId");
    if (each.at("type") == "init") {
      CHECK(began.count(session) == 0);
      ++inits[session];
      CHECK(each.at("deviceId") == "theDevice");
      CHECK(each.at("anonId") == "theAnon");
      CHECK(each.at("userId") == "user");
      CHECK(each.at("client") == "cpp");
      CHECK(each.at("id").get<std::uint64_t>() != 0);
      if (session == 23'456'789) CHECK(each.at("date") == date - 500);
      if (session == 12'345'678) CHECK(each.count("date") == 0);  // the server dates both
    }
    began.insert(session);
  }
  CHECK(inits[12'345'678] == 1);
  CHECK(inits[23'456'789] == 1);
  CHECK(inits[34'567'890] == 0);  // the server has had it
  CHECK(program.stats().acknowledgedEvents == 8);
  CHECK(fakes::balanced(program.stats()));
}

TEST_CASE("an init stays with its events where it is damaged that these had left before it") {
  const Bytes init = R"({"type":"init","id":5000000001,"sessionId":12345678})";
  const Bytes before =
      firstLine() + state() + record('e', init) + record('e', event(5'000'000'002));
  const Bytes left = record('g', "5000000002"), last = record('g', "5000000001");
  const auto sent = [](const Bytes& file) {
    Program program(file);
    program.pass(2000);
    std::vector<std::uint64_t> ids;
    for (const Json& each : program.received()) {
      if (each.at("sessionId") == 12'345'678) ids.push_back(each.at("id").get<std::uint64_t>());
    }
    return ids;
  };
  const Bytes damaged = Bytes(left.size() - 1, '\0') + '\n';
  CHECK(sent(before + damaged + last) == std::vector<std::uint64_t>{5'000'000'001, 5'000'000'002});
  CHECK(sent(before + left + last).empty());
  CHECK(sent(before + last) == std::vector<std::uint64_t>{5'000'000'002});  // the server has had it
  CHECK(sent(before + damaged + left + last).empty());
  CHECK(sent(before + last + damaged) == std::vector<std::uint64_t>{5'000'000'002});
}

TEST_CASE("an init that was made anew is made once, though the program is killed before it went") {
  const Bytes file =
      firstLine() + state() + record('e', event(5'000'000'001)) + record('e', event(5'000'000'002));
  Program before(file);
  before.serverIsDown();
  REQUIRE(before.client->persist());
  Program after(before.file());
  after.pass(2000);
  int inits = 0;
  bool first = true;
  for (const Json& each : after.received()) {
    if (each.at("sessionId") != 12'345'678) continue;
    if (first) CHECK(each.at("type") == "init");
    first = false;
    inits += each.at("type") == "init" ? 1 : 0;
  }
  CHECK(inits == 1);
}

TEST_CASE("loaded events age by the date they carry, those without from loading") {
  const std::int64_t now = 1'790'000'000'000, cutoff = 172'800'000;
  struct Row {
    const char* what;
    std::int64_t date;  // -1: none
    bool clockSet;
    std::int64_t leftMs;  // to live; 0: dropped when loaded
  };
  const std::vector<Row> rows = {
      {"too old", now - cutoff - 1, true, 0},
      {"long ago", 0, true, 0},
      {"as old as may be", now - cutoff + 60'000, true, 60'000},
      {"an hour", now - 3'600'000, true, cutoff - 3'600'000},
      {"now", now, true, cutoff},
      {"no date", -1, true, cutoff},
      {"in the future", now + 3'600'000, true, cutoff},
      {"far in the future", std::int64_t{1} << 52, true, cutoff},
      {"the clock is not set", now - cutoff - 1, false, cutoff},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Bytes dated = row.date < 0 ? "" : ",\"date\":" + std::to_string(row.date);
    const Bytes file = firstLine() + state() + record('f', event(5'000'000'001, dated));
    const auto clock = std::make_shared<fakes::Clock>();
    if (!row.clockSet) clock->wall = 3000;
    Program program(file, [&](Options& options) { options.clock = clock; });
    program.serverIsDown();
    const auto isThere = [&] { return program.stats().queuedEvents == 2; };
    const auto move = [&](std::int64_t ms) {
      clock->advance(ms);
      program.client->poll();
    };
    CHECK(program.stats().acceptedEvents == 2);
    if (row.leftMs == 0) {
      CHECK(program.stats().droppedTooOld == 1);
      move(1);
      CHECK(program.world.told("too-old") == 1);
      CHECK(program.stats().queuedEvents == 1);
      continue;
    }
    CHECK(isThere());
    move(row.leftMs - 10'000);
    CHECK(isThere());
    move(20'000);
    CHECK(program.stats().droppedTooOld == (row.leftMs == cutoff ? 2u : 1u));  // and our init
    CHECK(fakes::balanced(program.stats()));
    move(60'000);
    CHECK(program.world.told("too-old") == program.stats().droppedTooOld);
    Program after(program.file());
    CHECK(after.stats().droppedTooOld + after.stats().queuedEvents <= 2);
  }
}

TEST_CASE("events that wait in memory age by the steady clock, whatever the wall clock does") {
  Program program;
  program.serverIsDown();
  program.client->track("EVENT");
  program.pass(2000);
  for (const std::int64_t wall : {1'900'000'000'000, 1'600'000'000'000, std::int64_t{5'000}}) {
    program.world.clock->wall = wall;
    program.pass(2000);
    CHECK(program.stats().queuedEvents == 2);
  }
  program.world.clock->advance(172'800'000);
  program.client->poll();
  CHECK(program.stats().queuedEvents == 0);
  CHECK(program.stats().droppedTooOld == 2);
}

TEST_CASE("more than there is room for is dropped oldest first, counted and reported") {
  Bytes file = firstLine() + state();
  for (std::uint64_t i = 0; i < 100; ++i) {
    const Bytes filler = ",\"payload\":{\"filler\":\"" + Bytes(900, 'x') + "\"}";
    file += record(i == 0 ? 'f' : 'e', event(5'000'000'000 + i, filler));
  }
  Program program(file);
  const Stats stats = program.stats();
  CHECK(stats.acceptedEvents == 101);
  CHECK(stats.droppedQueueFull == 101 - stats.queuedEvents);
  CHECK(stats.queuedEvents > 20);
  program.pass(60'000);
  CHECK(program.stats().queuedEvents == 0);
  CHECK(idsOf(program.received()).count(5'000'000'099) == 1);
  CHECK(program.world.told("queue-full") == stats.droppedQueueFull);
  CHECK(fakes::balanced(program.stats()));
}

TEST_CASE("an event of the file that is sent can be acknowledged, whatever its number") {
  const std::uint64_t most = std::uint64_t{1} << 53;
  Bytes file = firstLine() + state();
  for (const std::uint64_t id : {std::uint64_t{1}, std::uint64_t{1} << 32, (most >> 1) - 1,
                                 most >> 1, (most >> 1) + 5, most - 1, most, UINT64_MAX}) {
    file += record('f', event(id));
  }
  Program program(file);
  program.pass(60'000);
  CHECK(program.stats().queuedEvents == 0);
  CHECK(idsOf(program.received()).count((std::uint64_t{1} << 32)) == 1);
  CHECK(fakes::balanced(program.stats()));
}

namespace {

/// Contents that nobody but an enemy would write, with a first line and CRCs that are right.
std::vector<std::pair<Bytes, Bytes>> hostileFiles() {
  const Bytes begin = firstLine() + state();
  const std::size_t large = 2 << 20;
  Bytes manyEvents = begin, manyNumbers;
  for (std::uint64_t id = 1; id <= 500; ++id) manyEvents += record('f', event(2 * id));
  for (int line = 0; line < 400; ++line) {
    Bytes numbers = "1";
    for (int i = 3; numbers.size() < 4000; i += 2) numbers += ',' + std::to_string(i % 1000);
    manyNumbers += record('g', numbers);
  }
  std::vector<std::pair<Bytes, Bytes>> files = {
      {"2 MB of line feeds", begin + Bytes(large, '\n')},
      {"2 MB of digits", begin + Bytes(large, '7')},
      {"2 MB of blanks", begin + Bytes(large, ' ')},
      {"2 MB of zeros", begin + Bytes(large, '\0')},
      {"one record of 2 MB",
       begin + record('e', event(9, ",\"payload\":{\"x\":\"" + Bytes(large, 'x') + "\"}"))},
      {"a state of 2 MB", begin + state(",\"userId\":\"" + Bytes(large, 'u') + '"')},
      {"numbers of 2 MB", begin + record('g', Bytes(large, '9'))},
      {"huge ranges", begin + record('e', event(9)) +
                          record('g', "0-18446744073709551615,18446744073709551615,0-5")},
      {"ranges that end nowhere",
       begin + record('g', "18446744073709551616,5-,-,,,1-2-3,9-1") + record('e', event(9))},
      {"ids repeated", begin + record('e', event(9)) + record('e', event(9)) +
                           record('f', event(9, "", 23'456'789)) + record('e', event(9))},
      {"ids of 0", begin + record('e', event(0)) + record('e', event(0))},
      {"kinds that are unknown", begin + record('z', "what") + record('\0', "is") +
                                     record('E', event(9)) + record('n', "this")},
      {"very many numbers that have left", manyEvents + manyNumbers},
      {"a state of another", begin + record('s', R"({"appId":"other","deviceId":"evil"})")},
  };
  for (const Bytes length : {"99999999", "999999999", "18446744073709551615", "-1", "0", "", "x",
                             "00000000", "4294967296"}) {
    files.emplace_back("length " + length,
                       begin + "e 00000000 " + length + " {}\n" + record('e', event(9)));
  }
  const std::vector<Bytes> events = {
      "",
      "{}",
      "[]",
      "null",
      "{",
      "7",
      "\"text\"",
      R"({"type":"event"})",
      event(9) + ' ' + event(10),
      event(9, ",\"id\":null"),
      event(9, ",\"date\":-1"),
      event(9, ",\"date\":1e300"),
      event(9, ",\"date\":9007199254740993"),
      event(9, ",\"payload\":null"),
      event(9, ",\"payload\":[1]"),
      event(9, ",\"payload\":\"x\""),
      event(9, ",\"payload\":{\"a\":{\"b\":1}}"),
      event(9, ",\"payload\":{\"a\":[1]}"),
      event(9, ",\"payload\":{\"a\":null}"),
      event(9, ",\"evil\":\"yes\""),
      event(9, ",\"name\":5"),
      event(9, ",\"userId\":{}"),
      event(9, ",\"totalRam\":\"x\""),
      event(9, ",\"type\":\"evil\""),
      event(9, ",\"type\":\"heartbeat\""),
      event(9, ",\"id\":12"),
      event(9, ",\"sessionId\":1"),
      event(9, "", 1),
      event(9, "", 100'000'000),
      event(9, ",\"name\":\"\x80\""),
      event(9, ",\"name\":\"\\ud800\""),
      event(9, ",\"name\":\"\\x\""),
      event(9, ",\"name\":\"\x01\""),
      event(9, ",\"payload\":" + Bytes(500, '[') + Bytes(500, ']')),
      event(9, ",\"date\":01"),
      event(9, ",\"payload\":{\"a\":1,}"),
      event(9, ",\"payload\":{\"a\":NaN}"),
      event(9, ",\"payload\":{\"a\":+1}"),
      event(9, ",\"date\":1790000000000.5"),
      R"({"type":"init","id":9,"sessionId":12345678,"deviceId":"other"})",
      R"({"type":"error","name":"x","id":"9","sessionId":12345678})",
      R"({"type":"event","id":9,"sessionId":12345678}x)"};
  for (const Bytes& each : events) {
    files.emplace_back("event " + each.substr(0, 80),
                       begin + record('f', event(7)) + record('e', each) + record('e', event(8)));
  }
  const Bytes app = R"({"appId":"test-app",)";
  const std::vector<Bytes> states = {"",
                                     "{}",
                                     "[]",
                                     "null",
                                     app + R"("deviceId":7})",
                                     app + R"("deviceId":null})",
                                     app + R"("anonId":"no blanks please"})",
                                     app + R"("anonId":")" + Bytes(65, 'a') + "\"}",
                                     app + R"("deviceId":")" + Bytes(65, 'a') + "\"}",
                                     app + R"("deviceId":"\ud800"})",
                                     app + R"("deviceId":"\n\u0000\"\\","anonId":"\u0061"})",
                                     app + R"("props":null})",
                                     app + R"("props":{"a":{"b":1}}})",
                                     app + R"("props":{"a":null}})",
                                     app + R"("props":[]})",
                                     app + R"("props":{"a":1,"a":2,"a":3}})",
                                     app + R"("props":{"":""}})",
                                     app + R"("props":{"a":")" + Bytes(900, 'p') + "\"}}",
                                     app + R"("userId":")" + Bytes(300, 'u') + "\"}",
                                     app + R"("userId":"\u0000\u001f\"\\"})",
                                     app + R"("userId":"a","userId":"b"})",
                                     app + R"("retryAtMs":1e9})",
                                     app + R"("retryAtMs":9007199254740993})",
                                     app + R"("retryForMs":-5})",
                                     app + R"("evil":1})",
                                     app + R"("retryAtMs":0,"retryForMs":9007199254740991})"};
  for (const Bytes& each : states) {
    files.emplace_back("state " + each.substr(0, 80),
                       begin + record('s', each) + record('f', event(7)) + record('e', event(8)));
  }
  return files;
}

/// What the wire allows, and nothing else.
bool isEvent(const Json& event) {
  static const std::set<Bytes> types = {"init",   "event", "error",
                                        "userid", "props", "nucleus:view"};
  static const std::set<Bytes> texts = {
      "type",      "name",    "userId", "anonId",   "deviceId", "client",       "platform",
      "osVersion", "version", "locale", "language", "arch",     "moduleVersion"};
  static const std::set<Bytes> numbers = {"id", "date", "sessionId", "totalRam"};
  for (const auto& [key, value] : event.items()) {
    if (key == "payload") {
      if (!value.is_object()) return false;
      for (const Json& each : value) {
        if (each.is_structured() || each.is_null()) return false;
      }
    } else if (texts.count(key) != 0 ? !value.is_string() : !value.is_number()) {
      return false;
    } else if (texts.count(key) + numbers.count(key) == 0) {
      return false;
    }
  }
  return types.count(event.at("type").get<Bytes>()) != 0 && event.count("sessionId") != 0;
}

}  // namespace

TEST_CASE("a hostile file neither crashes nor hangs, and nothing wrong of it is sent", "[large]") {
  for (const auto& [what, content] : hostileFiles()) {
    CAPTURE(what);
    Program program(content);
    CHECK(program.client->track("OURS") == Outcome::ok);
    program.pass(90'000'000, 30'000'000);  // any Retry-After is over
    program.pass(30'000);
    bool ours = false;
    for (const Json& each : program.received()) {
      CAPTURE(each.dump());
      CHECK(isEvent(each));
      ours = ours || each.value("name", "") == "OURS";
    }
    CHECK(ours);
    for (const Bytes& body : program.world.server->bodies) {
      CHECK(idsOf(fakes::Server::events(body)).size() == fakes::Server::ids(body).size());
    }
    const Stats stats = program.stats();
    CHECK(stats.queuedEvents == 0);
    CHECK(fakes::balanced(stats));
    CHECK(program.client->shutdown(0));
    CHECK(recordsOf(program.file()).size() == 1);
  }
}

TEST_CASE("what is right in a file with wrong records is found, and the wrong ones are counted") {
  const Bytes file = firstLine() + state() + record('f', event(7)) + record('e', "{}") +
                     record('e', event(9, ",\"payload\":{\"a\":{}}")) + "trash\n" +
                     record('e', event(8));
  Program program(file);
  CHECK(program.stats().droppedDamaged == 3);
  program.pass(2000);
  CHECK(idsOf(program.received()).count(7) == 1);
  CHECK(idsOf(program.received()).count(8) == 1);
  CHECK(program.world.told("damaged") == 3);
}

TEST_CASE("the last state counts, and numbers that left stay away, wherever they stand") {
  const Bytes last = R"({"appId":"test-app","deviceId":"lastDevice","anonId":"lastAnon",)"
                     R"("userId":"last","props":{"a":1},"retryAtMs":-1,"retryForMs":0})";
  const Bytes file = firstLine() + state(R"(,"userId":"first")") + record('f', event(7)) +
                     record('e', event(8)) + record('s', last) + record('g', "7,20-30") +
                     record('e', event(9));
  Program program(file);
  program.pass(2000);
  const std::vector<Json> received = program.received();
  CHECK(idsOf(received).count(7) == 0);
  CHECK(idsOf(received).count(8) + idsOf(received).count(9) == 2);
  REQUIRE(received.back().at("type") == "init");
  CHECK(received.back().at("deviceId") == "lastDevice");
  CHECK(received.back().at("userId") == "last");
  CHECK(received.back().at("payload") == Json{{"a", 1}});
  CHECK(received.size() == 3);
  CHECK(program.stats().acceptedEvents == 3);
}

// ---- files of the system ----

#if NUCLEUS_TESTS_SYSTEM

TEST_CASE("on a real file a new start finds what was unsent, and nothing is left when all went") {
  const Folder folder;
  const Bytes path = folder / "deep/er/test.cache";
  const auto onPath = [&](Options& options) {
    options.storage = nullptr;
    options.cacheFile = path;
  };
  {
    Program before({}, onPath);
    before.serverIsDown();
    for (int i = 0; i < 100; ++i) before.client->track("EVENT", {{"i", i}});
    before.pass(5000);
  }
  CHECK(eventsIn(contentOf(path)).size() == 101);
#if defined(__unix__) || defined(__APPLE__)
  struct stat facts;
  REQUIRE(::stat(path.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777) == 0600);
  REQUIRE(::stat((folder / "deep/er").c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777) == 0700);
#endif
  {
    Program after({}, onPath);
    CHECK(after.stats().queuedEvents == 102);
    after.pass(5000);
    CHECK(after.stats().queuedEvents == 0);
  }
  CHECK(recordsOf(contentOf(path)).size() == 1);
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("a real file is locked for a second client, which takes it over") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  Program first({}, onFile(path));
  first.serverIsDown();
  first.client->track("FIRST");
  REQUIRE(first.client->persist());
  Program second({}, [&](Options& options) {
    onFile(path)(options);
    options.entropy = [random = std::mt19937_64(7)](void* to, std::size_t bytes) mutable {
      for (std::size_t n = 0; n < bytes; ++n)
        static_cast<char*>(to)[n] = static_cast<char>(random());
      return true;
    };
  });
  second.serverIsDown();
  second.client->track("SECOND");
  second.pass(2000);
  CHECK(second.stats().storage == StorageState::locked);
  const Bytes device = "\"deviceId\":\"";
  CHECK(contains(second.world.server->bodies.at(0),
                 contentOf(path).substr(contentOf(path).find(device), device.size() + 15)));
  REQUIRE(first.client->persist());  // it is still whole
  first.client->track("LAST");
  REQUIRE(first.client->shutdown(0));
  second.pass(3000);
  CHECK(second.stats().storage == StorageState::ready);
  CHECK(second.stats().queuedEvents == 5);
  second.client->shutdown(0);
  CHECK(eventsIn(contentOf(path)).size() == 5);
}

TEST_CASE("a lock survives the rewriting of the file") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  Program first({}, onFile(path));
  for (int i = 0; i < 40; ++i) first.client->track("EVENT", {{"filler", Bytes(800, 'x')}});
  first.pass(120'000);
  REQUIRE(first.stats().queuedEvents == 0);
  REQUIRE(first.stats().cacheBytes < 2000);  // rewritten
  Program second({}, onFile(path));
  CHECK(second.stats().storage == StorageState::locked);
}

TEST_CASE("a file that was removed is written anew, with all that waits") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  Program program({}, onFile(path));
  program.serverIsDown();
  program.client->track("ONE");
  REQUIRE(program.client->persist());
  const int how = GENERATE(0, 1, 2);
  CAPTURE(how);
  fakes::takeAway(path);
  program.client->track("TWO");
  if (how == 0) program.pass(30'000);
  if (how == 1) CHECK(program.client->persist());
  if (how == 2) CHECK(program.client->shutdown(0));
  REQUIRE(std::filesystem::exists(path));
  CHECK(eventsIn(contentOf(path)).size() == 3);
  if (how == 0) CHECK(program.world.told("storage-vanished") == 1);
}

TEST_CASE("a file that somebody put in place of ours is not touched") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  Program program({}, onFile(path));
  program.serverIsDown();
  program.client->track("ONE");
  REQUIRE(program.client->persist());
  fakes::takeAway(path);
  write(path, "somebody's text\n");
  program.client->track("TWO");
  program.pass(60'000);
  program.client->shutdown(0);
  CHECK(contentOf(path) == "somebody's text\n");
}

TEST_CASE("a twin that a crash left is removed at the next start") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  write(path, fileOf(3));
  write(path + ".tmp", "nucleus-cache 1 test-app - 0");
  {
    Program program({}, onFile(path));
    CHECK(program.stats().queuedEvents == 5);
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
    program.serverIsDown();
  }
  std::filesystem::remove(path);
  write(path + ".tmp", "SECRET");
  Program program({}, onFile(path));
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("a real file that is not ours is not touched") {
  const Folder folder;
  const Bytes path = folder / "test.cache";
  write(path, firstLine("test-app", "2") + "of the future\n");
  {
    Program program({}, onFile(path));
    program.client->track("EVENT");
    program.pass(5000);
    CHECK(program.stats().acknowledgedEvents == 2);
    CHECK(program.stats().storage == StorageState::foreign);
  }
  CHECK(contentOf(path) == firstLine("test-app", "2") + "of the future\n");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  Program program({}, onFile(path));
  program.client->track("EVENT");
  program.pass(5000);
  CHECK(program.stats().acknowledgedEvents == 2);
  CHECK_FALSE(program.client->persist());
  CHECK(std::filesystem::is_directory(path));
}

#if !defined(_WIN32)

TEST_CASE("a symbolic link is not followed, neither as the file nor as its twin") {
  const Folder folder;
  const Bytes path = folder / "test.cache", other = folder / "other";
  write(other, "precious");
  std::filesystem::create_symlink(other, path);
  {
    Program program({}, onFile(path));
    program.client->track("EVENT");
    program.pass(5000);
    CHECK(program.stats().storage == StorageState::foreign);
    CHECK(program.stats().acknowledgedEvents == 2);
  }
  CHECK(contentOf(other) == "precious");
  std::filesystem::remove(path);
  std::filesystem::create_symlink(other, path + ".tmp");
  {
    Program program({}, onFile(path));
    program.serverIsDown();
    program.client->track("EVENT");
    program.pass(5000);
  }
  CHECK(contentOf(other) == "precious");
}

#endif

#endif

// ---- what attacks have found ----

TEST_CASE("an answer with many gaps is in the file before a kill can bring back what has left") {
  fakes::World world;
  const auto small = [](fakes::World& of) {
    Options options = of.options();
    options.maxEventBytes = 1024;
    options.maxQueueBytes = 64 << 10;
    return options;
  };
  std::set<Bytes> alive;
  world.server->then = fakes::Server::always(0);
  world.server->script = {[&](const Request& request) {
    std::vector<std::uint64_t> ids;
    bool odd = false;
    for (const fakes::Json& event : fakes::Server::events(request.body())) {
      odd = !odd;
      if (odd) continue;  // every other event
      ids.push_back(event.at("id"));
      alive.erase(event.value("name", ""));
    }
    return fakes::Server::with(200, fakes::Server::naming(ids));
  }};
  Client client(small(world));
  int number = 0;
  const auto track = [&](int count) {
    while (count-- > 0) {
      const Bytes name = "e" + std::to_string(number++);
      REQUIRE(client.track(name, {{"text", Bytes(150, 'x')}}) == Outcome::ok);
      alive.insert(name);
    }
  };
  track(200);
  world.pass(client, 3000);
  track(100);
  world.pass(client, 10'000);
  REQUIRE(client.stats().droppedQueueFull == 0);

  fakes::World next;  // the first one is killed
  next.disk->file = world.disk->file;
  next.disk->exists = true;
  next.clock->wall = world.clock->wall;
  next.server->then = fakes::Server::always(0);
  Client again(small(next));
  again.shutdown(0);
  std::size_t lost = 0;
  for (const Bytes& name : alive) {
    lost += next.disk->file.find('"' + name + '"') == Bytes::npos ? 1u : 0u;
  }
  CHECK(lost == 0);
}

TEST_CASE("a large batch does not make every append a whole new file") {
  fakes::World world;
  Options options = world.options();
  options.maxBatchBytes = 4 << 20;
  options.transport = nullptr;
  Client client(std::move(options));
  for (int i = 0; i < 600; ++i) client.track("A", {{"text", Bytes(400, 'x')}});
  world.pass(client, 2000);
  const int before = world.disk->replaces;
  for (int i = 0; i < 50; ++i) {
    client.track("B");
    world.pass(client, 1000);
  }
  CHECK(world.disk->replaces == before);
}

TEST_CASE("while the disk fails calls do not try again, however many there are") {
  fakes::World world;
  Options options = world.options();
  options.transport = nullptr;
  Client client(std::move(options));
  world.pass(client, 3000);
  world.disk->full = true;
  client.track("A");
  world.pass(client, 1100);
  world.disk->full = false;
  world.disk->renameFails = true;
  const int before = world.disk->calls();
  for (int i = 0; i < 100; ++i) client.trackError("E", "message");
  CHECK(world.disk->calls() <= before + 5);
  world.disk->renameFails = false;
  world.pass(client, 2000);
  CHECK(client.stats().notCached == 0);
}

TEST_CASE("a file that vanishes while nothing is written is noticed, and written anew") {
  fakes::World world;
  Options options = world.options();
  options.transport = nullptr;
  Client client(std::move(options));
  client.track("A");
  world.pass(client, 60'000, 1000);
  world.disk->gone = true;
  world.pass(client, 120'000, 1000);
  CHECK_FALSE(world.disk->gone);
  CHECK(world.disk->file.find("\"A\"") != Bytes::npos);
  CHECK(client.stats().notCached == 0);
  CHECK(world.told("storage-vanished") == 1);
}

TEST_CASE("an id that setProps replaced is in the file, though no event followed") {
  fakes::World world;
  Client client(world.options());
  world.pass(client, 60'000, 1000);
  client.setProps({{"deviceId", "mine"}});
  world.pass(client, 2000);
  CHECK(world.disk->file.find("\"mine\"") != Bytes::npos);
}

TEST_CASE("a file of a few letters is not ours, though our first line begins with them") {
  for (const char* const content : {"n", "nucleus", "nucleus-cach"}) {
    CAPTURE(content);
    fakes::World world;
    world.disk->exists = true;
    world.disk->file = content;
    Client client(world.options());
    world.pass(client, 2000);
    CHECK(world.disk->file == content);
    CHECK(client.stats().storage == StorageState::foreign);
  }
}

TEST_CASE("a file that breaks off in the middle, or throws, is left until it can be read") {
  fakes::World world;
  {
    Client client(world.options());
    world.server->then = fakes::Server::always(0);
    for (int i = 0; i < 300; ++i) client.track("EARLIER", {{"text", Bytes(200, 'x')}});
  }
  const Bytes before = world.disk->file;
  struct Failing : fakes::Storage {
    using fakes::Storage::Storage;
    std::size_t readable = 0;
    bool throws = false;
    std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
      if (at < readable) return fakes::Storage::read(at, to, bytes);
#if NUCLEUS_TESTS_EXCEPTIONS
      if (throws) throw 1;
#endif
      return SIZE_MAX;
    }
  };
  for (const bool throws : {false, true}) {
    for (const std::size_t readable : {std::size_t{0}, before.size() / 2}) {
      CAPTURE(throws, readable);
      world.disk->file = before;
      Options options = world.options();
      const auto storage = std::make_shared<Failing>(world.disk);
      storage->readable = readable;
      storage->throws = throws;
      options.storage = storage;
      Client client(std::move(options));
      CHECK(client.track("NOW") == Outcome::ok);
      world.pass(client, 5000);
      CHECK(world.disk->file == before);
      CHECK(client.stats().storage == StorageState::failed);
      storage->readable = SIZE_MAX;
      world.pass(client, 5000);
      CHECK(client.stats().storage == StorageState::ready);
      CHECK(client.stats().queuedEvents == 303);
      CHECK(fakes::balanced(client.stats()));
      client.shutdown(0);
      CHECK(world.disk->file.find("\"NOW\"") != Bytes::npos);
    }
  }
}
