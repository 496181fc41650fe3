// Calls that must not compile, each selected by its number; without one, all of this compiles.
// What would else be sent is the value of a pointer as `true`, a letter as a number, a guess.
#include "nucleus.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#ifndef REFUSED
#define REFUSED 0
#endif

enum Plain { first };
enum class Scoped { first };
struct Wider : nucleus::Property {
  double more = 0;
};

inline void calls(nucleus::Client& client, int* number, void* anything, std::string* text) {
  const std::shared_ptr<int> shared;
  const std::unique_ptr<int> unique;
  const std::optional<int> optional;
  const std::atomic<int> atomic = 1;
  const std::vector<Wider> wider;
  const std::vector<std::string> strings;
  client.track("e", {{"a", number != nullptr}, {"b", anything == nullptr}, {"c", *text}});

#if REFUSED == 1  // a lone char
  client.track("e", {{"a", 'x'}});
#elif REFUSED == 2   // an enumerator
  client.track("e", {{"a", first}});
#elif REFUSED == 3   // a scoped enumerator
  client.track("e", {{"a", Scoped::first}});
#elif REFUSED == 4   // a pointer to int
  client.track("e", {{"a", number}});
#elif REFUSED == 5   // a pointer to anything
  client.track("e", {{"a", anything}});
#elif REFUSED == 6   // a null pointer to int
  client.track("e", {{"a", static_cast<int*>(nullptr)}});
#elif REFUSED == 7   // a pointer to a string
  client.track("e", {{"a", text}});
#elif REFUSED == 8   // a pointer to unsigned char
  client.track("e", {{"a", reinterpret_cast<const unsigned char*>("x")}});
#elif REFUSED == 9   // a pointer to a function
  client.track("e", {{"a", &calls}});
#elif REFUSED == 10  // a pointer to a member
  client.track("e", {{"a", &Wider::more}});
#elif REFUSED == 11  // a lambda
  client.track("e", {{"a", [] { return 1; }}});
#elif REFUSED == 12  // a wchar_t
  client.track("e", {{"a", L'x'}});
#elif REFUSED == 13  // a char16_t
  client.track("e", {{"a", u'x'}});
#elif REFUSED == 14  // a char32_t
  client.track("e", {{"a", U'x'}});
#elif REFUSED == 15  // wide text
  client.track("e", {{"a", L"x"}});
#elif REFUSED == 16  // UTF-16 text
  client.track("e", {{"a", u"x"}});
#elif REFUSED == 17  // a wide string
  client.track("e", {{"a", std::wstring(L"x")}});
#elif REFUSED == 18  // a shared_ptr
  client.track("e", {{"a", shared}});
#elif REFUSED == 19  // a unique_ptr
  client.track("e", {{"a", unique}});
#elif REFUSED == 20  // an optional
  client.track("e", {{"a", optional}});
#elif REFUSED == 21  // an atomic
  client.track("e", {{"a", atomic}});
#elif REFUSED == 22  // a byte
  client.track("e", {{"a", std::byte{1}}});
#elif REFUSED == 23  // a duration
  client.track("e", {{"a", std::chrono::seconds(1)}});
#elif REFUSED == 24  // a list as a value
  client.track("e", {{"a", strings}});
#elif REFUSED == 25  // two values for one name
  client.track("e", {{"a", 1, 2}});
#elif REFUSED == 26  // an integer of 128 bits
  client.track("e", {{"a", static_cast<__int128>(1)}});
#elif REFUSED == 27  // a number as a name
  client.track(1);
#elif REFUSED == 28  // wide text as a name
  client.track(L"e");
#elif REFUSED == 29  // a number as the name of a property
  client.track("e", {{1, "a"}});
#elif REFUSED == 30  // one pair of braces too few
  client.track("e", {"a", "b"});
#elif REFUSED == 31  // text instead of properties
  client.track("e", "a");
#elif REFUSED == 32  // a number instead of properties
  client.track("e", 1);
#elif REFUSED == 33  // nullptr instead of properties
  client.track("e", nullptr);
#elif REFUSED == 34  // a list of something else
  client.track("e", strings);
#elif REFUSED == 35  // a list of something larger
  client.track("e", wider);
#elif REFUSED == 36  // an array of something larger
  const Wider array[2] = {};
  client.track("e", array);
#elif REFUSED == 37  // a pointer without a count
  client.track("e", wider.data());
#elif REFUSED == 38  // an error without a message
  client.trackError("e");
#elif REFUSED == 39  // a named list of properties, from braces after =
  nucleus::Properties named = {{"a", 1}};
#elif REFUSED == 40  // a named list of properties, from braces
  nucleus::Properties named{{"a", 1}};
#elif REFUSED == 41  // a named list of properties, from doubled braces
  nucleus::Properties named{{{"a", 1}, {"b", 2}}};
#elif REFUSED == 42  // a named list of properties, from braces in parentheses
  nucleus::Properties named({{"a", 1}});
#elif REFUSED == 43  // a named list of properties, from an initializer_list
  nucleus::Properties named = std::initializer_list<nucleus::Property>{{"a", 1}};
#elif REFUSED == 44  // a second owner of a client
  nucleus::Client second = client;
#endif
}
