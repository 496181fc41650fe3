// Room 6: who decides whether anything is tracked, and where the random ids come from.
#include "check.hpp"

#include "fakes.hpp"

#include <array>
#include <cstdlib>
#include <set>

namespace {

using namespace nucleus::detail;
using nucleus::Consent;

/// The environment's DO_NOT_TRACK for the length of a test; a null pointer: not set.
struct Environment : fakes::Variable {
  explicit Environment(const char* value) : Variable("DO_NOT_TRACK", value) {}
};

std::function<bool(void*, std::size_t)> counting(std::uint64_t seed) {
  return [random = std::mt19937_64(seed)](void* to, std::size_t bytes) mutable {
    for (std::size_t i = 0; i < bytes; ++i) static_cast<char*>(to)[i] = static_cast<char>(random());
    return true;
  };
}

Random seeded(std::uint64_t seed) {
  Random random;
  REQUIRE(random.seed(counting(seed)));
  return random;
}

}  // namespace

TEST_CASE("DO_NOT_TRACK asks unless it says 0 or false") {
  for (const char* value : {"", "1", "true", "yes", "on", "2", "00", "no", "False", " "}) {
    CAPTURE(value);
    CHECK(asksNotToTrack(value));
  }
  for (const char* value : {"0", "false"}) {
    CAPTURE(value);
    CHECK_FALSE(asksNotToTrack(value));
  }
}

#if NUCLEUS_TESTS_SYSTEM
TEST_CASE("with DO_NOT_TRACK nothing is collected, written or sent") {
  struct Row {
    const char* variable;
    bool respected, tracks;
  };
  for (const Row& row :
       {Row{"1", true, false}, Row{"true", true, false}, Row{"", true, false}, Row{"0", true, true},
        Row{"false", true, true}, Row{nullptr, true, true}, Row{"1", false, true}}) {
    const Environment environment(row.variable);
    fakes::World world;
    nucleus::Options options = world.options();
    options.respectDoNotTrack = row.respected;
    {
      nucleus::Client client(options);
      CAPTURE(row.variable == nullptr ? "not set" : row.variable, row.respected);
      CHECK(client.trackingEnabled() == row.tracks);
      const auto expected = row.tracks ? nucleus::Outcome::ok : nucleus::Outcome::trackingDisabled;
      CHECK(client.track("event") == expected);
      world.pass(client, 5'000);
    }
    CHECK(world.server->bodies.empty() != row.tracks);
    CHECK((world.disk->calls() == 0) != row.tracks);
  }
}

TEST_CASE("the user's enableTracking() outweighs DO_NOT_TRACK") {
  const Environment environment("1");
  fakes::World world;
  nucleus::Client client(world.options());
  REQUIRE_FALSE(client.trackingEnabled());
  client.enableTracking();
  CHECK(client.trackingEnabled());
  CHECK(client.track("event") == nucleus::Outcome::ok);
}
#endif

TEST_CASE("the remembered answer decides, else the environment, else the option") {
  struct Row {
    Consent remembered;
    bool doNotTrack, disableTracking, enabled;
  };
  constexpr Row rows[] = {
      {Consent::granted, false, false, true},  {Consent::granted, false, true, true},
      {Consent::granted, true, false, true},   {Consent::granted, true, true, true},
      {Consent::refused, false, false, false}, {Consent::refused, false, true, false},
      {Consent::refused, true, false, false},  {Consent::refused, true, true, false},
      {Consent::notAsked, false, false, true}, {Consent::notAsked, false, true, false},
      {Consent::notAsked, true, false, false}, {Consent::notAsked, true, true, false}};
  for (const Row& row : rows) {
    CAPTURE(static_cast<int>(row.remembered), row.doNotTrack, row.disableTracking);
    CHECK(enabledAtStart(row.remembered, row.doNotTrack, row.disableTracking) == row.enabled);
  }
}

TEST_CASE("an identifier is 1 to 64 of A-Z a-z 0-9 _ -") {
  for (const char* text : {"a", "Z", "0", "_", "-", "my-app_2", "5f5e100aaaaaaaaaaaaaaaaa"}) {
    CAPTURE(text);
    CHECK(isIdentifier(text));
  }
  for (const char* text : {"", " ", "a b", "a.b", "a/b", "../x", "a\n", "a\"", "a+b",
                           "a=", "\xC3\xA4", "\xFF", "@", "[", "`", "{", ":", "/"}) {
    CAPTURE(text);
    CHECK_FALSE(isIdentifier(text));
  }
  CHECK(isIdentifier(std::string(64, 'x')));
  CHECK_FALSE(isIdentifier(std::string(65, 'x')));
  CHECK_FALSE(isIdentifier(std::string_view("a\0b", 3)));
}

TEST_CASE("a random id has its length and only URL-safe characters, all of them about as often") {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  Random random = seeded(1);
  std::array<int, 64> times = {};
  std::set<std::string> ids;
  for (int i = 0; i < 20'000; ++i) {
    Fixed<64> id;
    random.writeId(id, 1 + i % 20);
    REQUIRE(id.size() == static_cast<std::size_t>(1 + i % 20));
    for (const char c : id.view()) ++times.at(alphabet.find(c));
    if (id.size() >= 12) ids.emplace(id.view());
  }
  CHECK(ids.size() == 9'000);
  for (const int each : times) {  // 3,281 on average, with a deviation of 57
    CHECK(each > 2'900);
    CHECK(each < 3'700);
  }
}

TEST_CASE("random numbers lie within their limits, both included, and spread evenly") {
  Random random = seeded(2);
  std::array<int, 6> dice = {};
  for (int i = 0; i < 60'000; ++i) ++dice.at(static_cast<std::size_t>(random.between(1, 6) - 1));
  for (const int each : dice) {  // a deviation of 91
    CHECK(each > 9'500);
    CHECK(each < 10'500);
  }
  for (int i = 0; i < 1'000; ++i) {
    const std::int64_t id = random.between(std::int64_t{1} << 32, std::int64_t{1} << 52);
    REQUIRE(id >= std::int64_t{1} << 32);
    REQUIRE(id <= std::int64_t{1} << 52);
    REQUIRE(random.between(7, 7) == 7);
    REQUIRE(std::abs(random.between(-3, 3)) <= 3);
  }
}

TEST_CASE("every bit of a random number is set half of the time") {
  Random random = seeded(3);
  std::array<int, 64> times = {};
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t number = random.next();
    for (std::size_t bit = 0; bit < 64; ++bit) times[bit] += static_cast<int>(number >> bit & 1);
  }
  for (const int each : times) {  // a deviation of 50
    CHECK(each > 4'700);
    CHECK(each < 5'300);
  }
}

TEST_CASE("the same entropy gives the same numbers, other entropy gives others") {
  Random one = seeded(4), same = seeded(4), other = seeded(5);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t number = one.next();
    CHECK(number == same.next());
    differs = differs || number != other.next();
  }
  CHECK(differs);
}

TEST_CASE("without entropy there are no random numbers") {
  Random random;
  CHECK_FALSE(random.seeded());
  CHECK_FALSE(random.seed([](void*, std::size_t) { return false; }));
  CHECK_FALSE(random.seeded());
  const auto zeros = [](void* to, std::size_t bytes) { return std::memset(to, 0, bytes), true; };
  CHECK_FALSE(random.seed(zeros));
  CHECK_FALSE(random.seeded());
  CHECK(random.seed(counting(6)));
  CHECK(random.seeded());
}

TEST_CASE("without entropy the client stays inert and says so") {
  const auto fails = [](void*, std::size_t) { return false; };
  const auto zeros = [](void* to, std::size_t bytes) { return std::memset(to, 0, bytes), true; };
  std::vector<std::function<bool(void*, std::size_t)>> entropies = {fails, zeros};
#if NUCLEUS_TESTS_EXCEPTIONS
  entropies.push_back([](void*, std::size_t) -> bool { throw 1; });
#endif
  for (const auto& entropy : entropies) {
    fakes::World world;
    nucleus::Options options = world.options();
    options.entropy = entropy;
    nucleus::Client client(options);
    CHECK(client.track("event") == nucleus::Outcome::notConfigured);
    client.enableTracking();
    CHECK_FALSE(client.trackingEnabled());
    world.pass(client, 5'000);
    CHECK(world.told("no-entropy") == 1);
    CHECK(world.server->bodies.empty());
    CHECK(world.disk->file.empty());
  }
}

TEST_CASE("without entropy the client cannot be enabled, and says so") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.disableTracking = true;
  options.entropy = [](void*, std::size_t) { return false; };
  nucleus::Client client(options);
  world.pass(client, 1'000);
  CHECK(world.told("no-entropy") == 0);
  CHECK(client.track("event") == nucleus::Outcome::trackingDisabled);
  client.enableTracking();
  CHECK_FALSE(client.trackingEnabled());
  CHECK(client.track("event") == nucleus::Outcome::notConfigured);
  world.pass(client, 5'000);
  CHECK(world.told("no-entropy") == 1);
  CHECK(world.server->bodies.empty());
  CHECK(world.disk->file.empty());
}

TEST_CASE("a choice that is too long or cannot be read is a no, and no more than that is read") {
  fakes::World world;
  nucleus::Options options = world.options();
  options.rememberTrackingChoice = true;
  world.disk->exists = true;
  const bool readable = GENERATE(false, true);
  CAPTURE(readable);
  world.disk->unreadable = !readable;
  world.disk->file = "nucleus-cache 1 test-app granted" + std::string(1'000, ' ') + '\n';
  const nucleus::Client client(options);
  CHECK(client.consent() == nucleus::Consent::refused);
  CHECK_FALSE(client.trackingEnabled());
  CHECK(world.disk->furthestRead == (readable ? 128 : 0));
}

TEST_CASE("every start draws other ids, and a user keeps his") {
  std::set<std::string> sessions, bases, anonIds, deviceIds;
  fakes::World world;
  for (int i = 0; i < 20; ++i) {
    nucleus::Client client(world.options());
    REQUIRE(client.flush(1'000));
    const fakes::Json init = world.server->received().back();
    sessions.insert(init.at("sessionId").dump());
    bases.insert(init.at("id").dump());
    anonIds.insert(init.at("anonId"));
    deviceIds.insert(init.at("deviceId"));
    const std::uint64_t id = init.at("id"), session = init.at("sessionId");
    CHECK(id >= std::uint64_t{1} << 32);
    CHECK(id <= (std::uint64_t{1} << 52));
    CHECK(session >= 10'000'000);
    CHECK(session <= 99'999'999);
  }
  CHECK(sessions.size() == 20);
  CHECK(bases.size() == 20);
  REQUIRE(anonIds.size() == 1);
  REQUIRE(deviceIds.size() == 1);
  CHECK(anonIds.begin()->size() == 12);
  CHECK(deviceIds.begin()->size() == 15);
  CHECK(isIdentifier(*anonIds.begin()));
  CHECK(isIdentifier(*deviceIds.begin()));
}
