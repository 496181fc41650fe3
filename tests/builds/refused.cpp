// Calls that must not compile: with REFUSED there is an error in each, without it in none.
// What would else be sent is the value of a pointer as `true`, a letter as a number, a guess.
#include "nucleus.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#if defined(REFUSED)
#define REFUSE(...) \
  do {              \
    __VA_ARGS__;    \
  } while (false)
#else
#define REFUSE(...) static_cast<void>(0)
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

  // a lone char
  REFUSE(client.track("e", {{"a", 'x'}}));
  // an enumerator
  REFUSE(client.track("e", {{"a", first}}));
  // a scoped enumerator
  REFUSE(client.track("e", {{"a", Scoped::first}}));
  // a pointer to int
  REFUSE(client.track("e", {{"a", number}}));
  // a pointer to anything
  REFUSE(client.track("e", {{"a", anything}}));
  // a null pointer to int
  REFUSE(client.track("e", {{"a", static_cast<int*>(nullptr)}}));
  // a pointer to a string
  REFUSE(client.track("e", {{"a", text}}));
  // a pointer to unsigned char
  REFUSE(client.track("e", {{"a", reinterpret_cast<const unsigned char*>("x")}}));
  // a pointer to a function
  REFUSE(client.track("e", {{"a", &calls}}));
  // a pointer to a member
  REFUSE(client.track("e", {{"a", &Wider::more}}));
  // a lambda
  REFUSE(client.track("e", {{"a", [] { return 1; }}}));
  // a wchar_t
  REFUSE(client.track("e", {{"a", L'x'}}));
  // a char16_t
  REFUSE(client.track("e", {{"a", u'x'}}));
  // a char32_t
  REFUSE(client.track("e", {{"a", U'x'}}));
  // wide text
  REFUSE(client.track("e", {{"a", L"x"}}));
  // UTF-16 text
  REFUSE(client.track("e", {{"a", u"x"}}));
  // a wide string
  REFUSE(client.track("e", {{"a", std::wstring(L"x")}}));
  // a shared_ptr
  REFUSE(client.track("e", {{"a", shared}}));
  // a unique_ptr
  REFUSE(client.track("e", {{"a", unique}}));
  // an optional
  REFUSE(client.track("e", {{"a", optional}}));
  // an atomic
  REFUSE(client.track("e", {{"a", atomic}}));
  // a byte
  REFUSE(client.track("e", {{"a", std::byte{1}}}));
  // a duration
  REFUSE(client.track("e", {{"a", std::chrono::seconds(1)}}));
  // a list as a value
  REFUSE(client.track("e", {{"a", strings}}));
  // two values for one name
  REFUSE(client.track("e", {{"a", 1, 2}}));
  // an integer of 128 bits
  REFUSE(client.track("e", {{"a", static_cast<__int128>(1)}}));
  // a number as a name
  REFUSE(client.track(1));
  // wide text as a name
  REFUSE(client.track(L"e"));
  // a number as the name of a property
  REFUSE(client.track("e", {{1, "a"}}));
  // one pair of braces too few
  REFUSE(client.track("e", {"a", "b"}));
  // text instead of properties
  REFUSE(client.track("e", "a"));
  // a number instead of properties
  REFUSE(client.track("e", 1));
  // nullptr instead of properties
  REFUSE(client.track("e", nullptr));
  // a list of something else
  REFUSE(client.track("e", strings));
  // a list of something larger
  REFUSE(client.track("e", wider));
  // an array of something larger
  REFUSE(const Wider array[2] = {}; client.track("e", array));
  // a pointer without a count
  REFUSE(client.track("e", wider.data()));
  // an error without a message
  REFUSE(client.trackError("e"));
  // a named list of properties, from braces after =
  REFUSE(nucleus::Properties named = {{"a", 1}});
  // a named list of properties, from braces
  REFUSE(nucleus::Properties named{{"a", 1}});
  // a named list of properties, from doubled braces
  REFUSE(nucleus::Properties named{{{"a", 1}, {"b", 2}}});
  // a named list of properties, from braces in parentheses
  REFUSE(nucleus::Properties named({{"a", 1}}));
  // a named list of properties, from an initializer_list
  REFUSE(nucleus::Properties named = std::initializer_list<nucleus::Property>{{"a", 1}});
  // a second owner of a client
  REFUSE(nucleus::Client second = client);
}
