// Room 6: SHA-256, HMAC, and the ids that are made with them.
#include "check.hpp"

#include "fakes.hpp"

#include <set>

namespace {

using nucleus::anonymize;
using nucleus::machineDeviceId;
using nucleus::detail::hmac;
using nucleus::detail::Sha256;

std::string hexOf(const Sha256::Digest& digest, std::size_t bytes = Sha256::digestBytes) {
  std::string hex;
  for (std::size_t i = 0; i < bytes; ++i) {
    hex += "0123456789abcdef"[digest[i] >> 4];
    hex += "0123456789abcdef"[digest[i] & 15];
  }
  return hex;
}

/// Of the text, given in pieces of so many bytes.
std::string sha256(std::string_view text, std::size_t pieceBytes = SIZE_MAX) {
  Sha256 sha;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, pieceBytes);
    sha.add(piece);
    text.remove_prefix(piece.size());
  }
  Sha256::Digest digest;
  sha.finish(digest);
  return hexOf(digest);
}

std::string hmacOf(std::string_view key, std::string_view text,
                   std::size_t bytes = Sha256::digestBytes) {
  Sha256::Digest digest;
  hmac(key, text, digest);
  return hexOf(digest, bytes);
}

std::string repeated(char byte, std::size_t times) { return std::string(times, byte); }

bool isHash(std::string_view text) {
  return text.size() == 22 && nucleus::detail::isIdentifier(text);
}

constexpr std::string_view key = "a key of 20 letters.";

}  // namespace

TEST_CASE("SHA-256 gives what NIST publishes for its examples") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
               "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(sha256(repeated('a', 1'000'000)) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 is right where a text just fits into a block and where it just does not") {
  const std::pair<std::size_t, const char*> rows[] = {
      {1, "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"},
      {3, "6ab0dba1f4f1dfbb37b4f9eeb092c09fca4900ad32bdcd147d8dde35d6c87c35"},
      {55, "81afe5b788dc2ce138ff83d9b20164db75a94d75d2b2432eea4a0ef605088c72"},
      {56, "2aba54f0ac632420a2b502431408866e40e1d5e430df4cd822642c78ab2eb9c1"},
      {57, "903284efbf9100e8ba1614ec65eacacad125e03f857cae7acbf8b73b23e0fdfe"},
      {63, "733d3d4ee79ee67145bf73da13588f6f235d37414fc64b14a2f00f1762792f5e"},
      {64, "79322907b3e9d013d7dc2c2f256674dbf733045cde01df3539271c6f5605feb8"},
      {65, "d85c007c6eb440f085afa2b84f6f2bce4658b240e9f62cb1364bf0485a57e720"},
      {119, "6c87eedf096b345de205b702e5223b73b447a3207791ded3ea007ba15ed6736e"},
      {120, "42500cf6a1e3936d6b9e0bcfe296d654b63255e525487d3634d0b15fde591c4d"},
      {127, "68f6ff710276900c0ffbbc57426f67e00c2e01f0750c7edc25ac06b8ce7a8095"},
      {128, "489d55fea9a73af36b6dd0be7b4117d8e5683386d39544e8a44c99a87f368707"},
      {129, "4e1556b2e9a50a3cc9478f3254727b01065f9ac5d2c3a8b4cd538ae7240bb87d"},
      {1000, "6b0df76627243d095b0c4400cb658b7e804dd03461cc03aee8fc8fe0bcada168"}};
  for (const auto& [bytes, expected] : rows) {
    CAPTURE(bytes);
    std::string text;
    for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>(i * 7 + bytes);
    CHECK(sha256(text) == expected);
  }
}

TEST_CASE("SHA-256 of a text does not depend on the pieces in which it comes") {
  std::mt19937_64 random(1);
  for (std::size_t bytes = 0; bytes <= 200; ++bytes) {
    CAPTURE(bytes);
    std::string text;
    while (text.size() < bytes) text += static_cast<char>(random());
    const std::string whole = sha256(text);
    for (const std::size_t pieceBytes : {1u, 3u, 55u, 63u, 64u, 65u}) {
      CAPTURE(pieceBytes);
      CHECK(sha256(text, pieceBytes) == whole);
    }
  }
}

TEST_CASE("HMAC-SHA-256 gives what RFC 4231 publishes") {
  std::string counted;
  for (char c = 1; c <= 25; ++c) counted += c;
  CHECK(hmacOf(repeated('\x0B', 20), "Hi There") ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(hmacOf("Jefe", "what do ya want for nothing?") ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hmacOf(repeated('\xAA', 20), repeated('\xDD', 50)) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  CHECK(hmacOf(counted, repeated('\xCD', 50)) ==
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  CHECK(hmacOf(repeated('\x0C', 20), "Test With Truncation", 16) ==
        "a3b6167473100ee06e0c796c2955552b");
  CHECK(hmacOf(repeated('\xAA', 131), "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hmacOf(repeated('\xAA', 131),
               "This is a test using a larger than block-size key and a larger than block-size "
               "data. The key needs to be hashed before being used by the HMAC algorithm.") ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("HMAC-SHA-256 is right for keys about as long as a block") {
  CHECK(hmacOf(repeated('k', 63), "text") ==
        "c90d83e78c64ee16fe2eefa3e8a834d79d1d3d0ea483f8d9908323b714c7f134");
  CHECK(hmacOf(repeated('k', 64), "text") ==
        "0414bb1d8c0c4556cdb2028727b16610ae377b1a194b6db1f853d4297f2329bc");
  CHECK(hmacOf(repeated('k', 65), "text") ==
        "5b69580123e3d7e788b7e8352ac37a3247b911c5ec0837147b74109a6382d3f5");
}

TEST_CASE("anonymize() is the first 132 bits of the HMAC in URL-safe base64") {
  CHECK(anonymize("user-1", key) == "Lw6QD36eTtq0p1nvGZAjBB");
  CHECK(anonymize("user-7", key) == "ty8Ey-b-QVm_k6uAykuI7l");
  CHECK(anonymize("ann@example.org", key) == "CDJHtooXLzdDvHK_LMwsHZ");
  CHECK(anonymize("bob@example.org", key) == "Kgo1JGOCGc7j0AnU_F_ZeV");
  CHECK(anonymize("prefix:a@b.co", key) == "G7NX2Z9UAFoYgrZVjqD0KB");
  CHECK(anonymize("prefix:c@d.co", key) == "IlQ-1Cy7nF-BPnlMwA40ut");
  CHECK(anonymize("+1 202 555 0123", key) == "SSx3MmnUW8v1tAVvHmHjck");
  CHECK(anonymize("192.168.0.1", key) == "kDthNMvrrkbqHc00RBsmnw");
  CHECK(anonymize("ann@example.org", "another key, as long") == "P02aX8pTO_8xcfNVKD5F0q");
  CHECK(anonymize("ann@example.org", "k") == "QfJKp6CiUSKjca4-7RLAAf");
}

TEST_CASE("anonymize() trims and lower-cases what holds an e-mail address") {
  for (const char* same : {"ann@example.org", "Ann@Example.ORG", " ann@example.org",
                           "ANN@EXAMPLE.ORG\r\n", "\t ann@example.org "}) {
    CAPTURE(same);
    CHECK(anonymize(same, key) == "CDJHtooXLzdDvHK_LMwsHZ");
  }
  CHECK(anonymize(" Prefix:A@B.co", key) == "G7NX2Z9UAFoYgrZVjqD0KB");
  CHECK(anonymize("/home/ann of B@C.co ", key) == anonymize("/home/ann of b@c.co", key));
  CHECK(anonymize("J\xC3\x9CRGEN@example.org", key) != anonymize("j\xC3\xBCrgen@example.org", key));
  CHECK(anonymize("J\xC3\xBCrgen@Example.org", key) == "NOJappLQwTqD0UFyVgkoT3");
}

TEST_CASE("anonymize() takes every other identifier as it is") {
  CHECK(anonymize("User-1", key) == "bADL8wWn5CMeLe4Wmeew8q");
  CHECK(anonymize(" user-1 ", key) == "j4cpAb1ypc8nvUS1KylwpX");
  CHECK(anonymize("/home/Ann", key) == "6GlB2DDdEpi2Ha2eh4-O6Q");
  CHECK(anonymize("@Ann", key) != anonymize("@ann", key));
}

TEST_CASE("anonymize() of nothing, or with no key, is nothing") {
  CHECK(anonymize("", key).empty());
  CHECK(anonymize("ann@example.org", "").empty());
  CHECK(anonymize("", "").empty());
  CHECK(anonymize(nullptr, key).empty());
  CHECK(anonymize("ann@example.org", nullptr).empty());
}

TEST_CASE("anonymize() tells apart what differs in a single byte, also a NUL") {
  std::set<std::string> hashes;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string identifier = {'u', static_cast<char>(byte), '1'};
    const std::string hash = anonymize(identifier, key);
    CHECK(isHash(hash));
    hashes.insert(hash);
  }
  CHECK(hashes.size() == 256);
}

TEST_CASE("machineDeviceId() is the same twice, another for each app, and not the machine's id") {
  const std::string machine = nucleus::detail::systemMachineId();
  if (machine.empty()) {
    WARN("not run: this system has no machine id");
    CHECK_FALSE(fakes::inCi());
    CHECK(machineDeviceId("my-app").empty());
    return;
  }
  std::set<std::string> ids;
  for (const char* appId : {"my-app", "my-app2", "My-app", "a", "_"}) {
    CAPTURE(appId);
    const std::string id = machineDeviceId(appId);
    CHECK(isHash(id));
    CHECK(machineDeviceId(appId) == id);
    CHECK(id.find(machine) == std::string::npos);
    CHECK(machine.find(id) == std::string::npos);
    CHECK(id == anonymize(appId, machine));
    CHECK_FALSE(nucleus::detail::isPersonal(id));
    ids.insert(id);
  }
  CHECK(ids.size() == 5);
}

TEST_CASE("machineDeviceId() of an invalid app id is nothing") {
  CHECK(machineDeviceId("").empty());
  CHECK(machineDeviceId(nullptr).empty());
  CHECK(machineDeviceId("my app").empty());
  CHECK(machineDeviceId("../my-app").empty());
  CHECK(machineDeviceId(std::string(65, 'a')).empty());
}

TEST_CASE("machineDeviceId() serves as deviceId, and outlives forget()") {
  const std::string id = machineDeviceId("test-app");
  if (id.empty()) {
    WARN("not run: this system has no machine id");
    CHECK_FALSE(fakes::inCi());
    return;
  }
  fakes::World world;
  nucleus::Options options = world.options();
  options.deviceId = id;
  nucleus::Client client(options);
  REQUIRE(client.flush(1'000));
  CHECK(client.forget());
  client.enableTracking();
  REQUIRE(client.flush(1'000));
  const auto received = world.server->received();
  REQUIRE(received.size() == 2);
  for (const fakes::Json& event : received) CHECK(event.at("deviceId") == id);
}
