// Every way to call, and what arrives of it.
#include "nucleus.hpp"

#include <array>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

using namespace std::string_literals;
using namespace std::string_view_literals;
using nucleus::Outcome;
using nucleus::Properties;
using nucleus::Property;

namespace {

// What a value may be, and what it may not, in every standard; refused.cpp has the calls.
template <class... Types>
constexpr bool areValues = (std::is_constructible_v<nucleus::Value, Types> && ...);
template <class... Types>
constexpr bool areRefused = (!std::is_constructible_v<nucleus::Value, Types> && ...);
enum Plain { plain };
enum class Scoped { scoped };
static_assert(areValues<bool, short, int, long, unsigned long long, float, double, const char*>);
static_assert(areValues<std::string, const std::string&, std::string_view, const char (&)[4]>);
static_assert(areRefused<char, wchar_t, char16_t, char32_t, decltype(u8'x'), Plain, Scoped>);
static_assert(areRefused<int*, const void*, std::string*, void (*)(), std::byte>);
static_assert(!std::is_constructible_v<nucleus::Text, int>);
static_assert(!std::is_constructible_v<nucleus::Properties, std::initializer_list<Property>>);

int failures = 0;
std::string sent;  // the last request

nucleus::Options options() {
  nucleus::Options options;
  options.appId = "call-sites";
  options.offlineCache = options.background = options.respectDoNotTrack = false;
  options.transport = [](const nucleus::Request& request) {
    sent = request.body();
    nucleus::Response response;
    response.status = 200;
    response.body = R"({"confirmation":true})";
    return response;
  };
  return options;
}

nucleus::Client client(options());

void check(bool right, std::string_view expected) {
  if (right) return;
  ++failures;
  std::printf("expected %s\nin       %s\n", std::string(expected).c_str(), sent.c_str());
}

/// The last event sent holds `expected`.
void arrives(Outcome outcome, std::string_view expected) {
  const bool delivered = client.flush(2'000);
  const std::size_t last = sent.rfind("{\"type\":");
  check(outcome == Outcome::ok && delivered && last != std::string::npos &&
            sent.find(expected, last) != std::string::npos,
        expected);
}
void arrivesAsPayload(Outcome outcome, const std::string& object) {
  arrives(outcome, "\"payload\":" + object);
}
void arrivesBare(Outcome outcome) {
  arrives(outcome, "");
  check(sent.find("\"payload\"", sent.rfind("{\"type\":")) == std::string::npos, "no payload");
}

struct Name {
  operator std::string_view() const { return "Converted"; }
};

struct SignedSize {
  const Property* data() const { return nullptr; }
  int size() const { return 0; }
};

constexpr Property fixed[] = {{"a", 1}, {"b", 2u}, {"c", 0.5}, {"d", true}, {"e", "x"}};

void braces() {
  arrivesAsPayload(client.track("e", {{"plan", "pro"}}), R"({"plan":"pro"})");
  arrivesAsPayload(client.track("e", {{"a", "b"}, {"c", "d"}}), R"({"a":"b","c":"d"})");
  arrivesAsPayload(client.track("e", {{"a", 1}, {"b", 2.5f}, {"c", true}, {"d", "x"}}),
                   R"({"a":1,"b":2.5,"c":true,"d":"x"})");
  arrivesAsPayload(client.page("e", {{"a", 1}}), R"({"a":1})");
  arrivesAsPayload(client.screen("e", {{"a", 1}}), R"({"a":1})");
  arrivesAsPayload(client.setProps({{"plan", "pro"}}), R"({"plan":"pro"})");
  arrivesAsPayload(client.setProps({{"b", 1}}, true), R"({"b":1})");
  arrivesAsPayload(client.identify("u1", {{"plan", "pro"}}), R"({"plan":"pro"})");
  arrivesBare(client.track("e"));
  arrivesBare(client.track("e", {}));
  arrivesBare(client.page("e"));
  arrives(client.identify("u2"), R"("userId":"u2")");
}

void texts() {
  const std::string owned = "owned";
  const std::string_view borrowed = owned;
  char buffer[16] = "buffer";
  char* const writable = buffer;
  const char* const pointer = "pointer";
  arrivesAsPayload(client.track("e", {{"a", owned}, {"b", borrowed}, {"c", pointer}}),
                   R"({"a":"owned","b":"owned","c":"pointer"})");
  arrivesAsPayload(client.track("e", {{"a", buffer}, {"b", writable}, {"c", Name()}}),
                   R"({"a":"buffer","b":"buffer","c":"Converted"})");
  arrivesAsPayload(client.track("e", {{owned, 1}, {"b"sv, 2}, {buffer, 3}, {Name(), 4}}),
                   R"({"owned":1,"b":2,"buffer":3,"Converted":4})");
  arrivesAsPayload(client.track("e", {{"a", owned + " and " + pointer}, {owned + "2", "x"s}}),
                   R"({"a":"owned and pointer","owned2":"x"})");
  arrivesAsPayload(client.track("e", {{"a", "x\0y"sv}, {"b", ""}, {"c", ""sv}}),
                   R"({"a":"x\u0000y","b":"","c":""})");
  arrivesAsPayload(client.track("e", {{"a", std::string_view()}, {"b", nullptr}}), R"({"a":""})");
  arrives(client.track(owned), R"("name":"owned")");
  arrives(client.track(borrowed), R"("name":"owned")");
  arrives(client.track(buffer), R"("name":"buffer")");
  arrives(client.track(Name()), R"("name":"Converted")");
  arrives(client.track("tempo"s + "rary"), R"("name":"temporary")");
}

void numbers() {
  const auto least = std::numeric_limits<long long>::min();
  const auto most = std::numeric_limits<unsigned long long>::max();
  arrivesAsPayload(client.track("e", {{"a", 4'000'000'000u}, {"b", least}, {"c", most}}),
                   R"({"a":4000000000,"b":-9223372036854775808,"c":18446744073709551615})");
  arrivesAsPayload(client.track("e", {{"a", std::int8_t{-5}}, {"b", std::uint8_t{200}}}),
                   R"({"a":-5,"b":200})");
  arrivesAsPayload(client.track("e", {{"a", short{-1}}, {"b", 7L}, {"c", std::size_t{9}}}),
                   R"({"a":-1,"b":7,"c":9})");
  arrivesAsPayload(client.track("e", {{"a", 0.1}, {"b", -0.5f}, {"c", 0.25L}}),
                   R"({"a":0.1,"b":-0.5,"c":0.25})");
  const bool no = false;
  const int zero = 0;
  arrivesAsPayload(client.track("e", {{"a", no}, {"b", zero}, {"c", 0}}),
                   R"({"a":false,"b":0,"c":0})");
}

void lists() {
  const std::string both = R"({"a":1,"b":"x"})";
  Property array[] = {{"a", 1}, {"b", "x"}};
  const std::array<Property, 2> standard = {{{"a", 1}, {"b", "x"}}};
  std::vector<Property> vector(standard.begin(), standard.end());
  arrivesAsPayload(client.track("e", array), both);
  arrivesAsPayload(client.track("e", standard), both);
  arrivesAsPayload(client.track("e", vector), both);
  arrivesAsPayload(client.track("e", std::vector<Property>(vector)), both);
  arrivesAsPayload(client.track("e", {array, 2}), both);
  arrivesAsPayload(client.track("e", {vector.data(), vector.size()}), both);
  arrivesAsPayload(client.track("e", Properties(array, 1)), R"({"a":1})");
  arrivesAsPayload(client.track("e", fixed), R"({"a":1,"b":2,"c":0.5,"d":true,"e":"x"})");
  const Properties named = vector;
  arrivesAsPayload(client.track("e", named), both);
  const std::initializer_list<Property> list = {{"a", 1}, {"b", "x"}};
  arrivesAsPayload(client.track("e", list), both);
#if __cplusplus >= 202002L
  arrivesAsPayload(client.track("e", std::span<const Property>(vector)), both);
#endif
  vector.push_back({"c", std::string_view("y")});
  arrivesAsPayload(client.setProps(vector, true), R"({"a":1,"b":"x","c":"y"})");
  arrivesAsPayload(client.identify("u3", array), both);
  arrivesBare(client.track("e", std::vector<Property>()));
  arrivesBare(client.track("e", SignedSize()));
  arrivesBare(client.track("e", {static_cast<const Property*>(nullptr), 3}));
}

void errors() {
  arrives(client.trackError("name", "text"), R"("name":"name")");
  arrives(client.trackError("name"s, "text"s, "stack"sv), "stack");
  arrives(client.trackError("name", nullptr), R"("name":"name")");
  arrives(client.trackError(std::runtime_error("broken")), "broken");
  const std::logic_error error("wrong");
  arrives(client.trackError(error), "wrong");
}

}  // namespace

int main() {
  braces();
  texts();
  numbers();
  lists();
  errors();
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
