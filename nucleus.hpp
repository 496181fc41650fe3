// nucleus.hpp: Nucleus (nucleus.sh) analytics for C++17 programs, in this one file. MIT licence.
//
//   #include "nucleus.hpp"
//
//   int main() {
//     nucleus::Options options;
//     options.appId = "my-app";
//     options.transport = [](const nucleus::Request& request) -> nucleus::Response {
//       return myHttpPost(request.url(), request.contentType(), request.body());   // yours
//     };
//     nucleus::Client nucleus(options);                 // the session begins
//     nucleus.track("PLAYED_TRACK", {{"title", "My Song"}, {"seconds", 120}});
//   }                                                   // cached, delivered, or both
//
// The way of an event:
//
//   track() -> gate -> encode -> push -> append -> batch -> transport -> settle
//           consent,   JSON     memory    one     request  your HTTP or  acknowledged,
//           filter     once     queue     file     body     WebSocket     kept or dropped
//
// `grep '====' nucleus.hpp` prints the rooms of this file in that order.

// ==== 1. Configuration ==== what you may define first ====
// NUCLEUS_NO_THREADS      no worker and no locks: the host calls poll(), all from one thread
// NUCLEUS_NO_FILES        no file storage: Options::storage, or memory alone
// NUCLEUS_DISABLED        every call does nothing: no code and no text of the library remains
// NUCLEUS_SPLIT           declarations only; exactly one file also defines ...
// NUCLEUS_IMPLEMENTATION  ... this, and gets the bodies
// Builds that differ in any of these (or in exceptions, standard library or version) use different
// symbols. What is defined here for the rest of the file, but for the version, is undefined at its
// end.

#if defined(_MSVC_LANG) ? _MSVC_LANG < 201703L : __cplusplus < 201703L
#error "nucleus.hpp needs C++17 (-std=c++17, /std:c++17)"
#endif

#include <cstddef>           // std::size_t
#include <cstdint>           // std::int64_t
#include <exception>         // trackError(const std::exception&)
#include <functional>        // Transport and the callbacks
#include <initializer_list>  // track("name", {{"key", value}})
#include <memory>            // the client shares its core with its worker
#include <string>            // Options own their text
#include <string_view>       // everything else borrows it
#include <type_traits>       // a pointer is never taken for a bool

#define NUCLEUS_VERSION "1.0.0"

#if defined(NUCLEUS_NO_THREADS) || defined(__wasi__) ||               \
    (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)) || \
    (defined(__GLIBCXX__) && !defined(_GLIBCXX_HAS_GTHREADS)) ||      \
    (!defined(_WIN32) && !defined(__unix__) && !defined(__APPLE__))
#define NUCLEUS_THREADS 0
#else
#define NUCLEUS_THREADS 1
#endif

#if defined(NUCLEUS_NO_FILES) || \
    (!defined(_WIN32) && !defined(__unix__) && !defined(__APPLE__) && !defined(__wasi__))
#define NUCLEUS_FILES 0
#else
#define NUCLEUS_FILES 1
#endif

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define NUCLEUS_EXCEPTIONS 1
#else
#define NUCLEUS_EXCEPTIONS 0
#endif

#if defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
#define NUCLEUS_VECTORS 1
#else
#define NUCLEUS_VECTORS 0
#endif

// Brings over memory that is to be written; on x86-64 in functions that say so.
#if defined(__GNUC__)
#define NUCLEUS_PREFETCH(at) __builtin_prefetch(at, 1)
#else
#define NUCLEUS_PREFETCH(at) static_cast<void>(at)
#endif
#if defined(__GNUC__) && defined(__x86_64__)
#define NUCLEUS_PREFETCHES __attribute__((target("prfchw")))
#else
#define NUCLEUS_PREFETCHES
#endif

// State of the process. All libraries of a program that share code have it once, even where they
// are built with hidden symbols: the templates of the standard library hide nothing.
#if defined(__GNUC__) && !defined(_WIN32) && !defined(__CYGWIN__)
#define NUCLEUS_SHARED __attribute__((visibility("default")))
#else
#define NUCLEUS_SHARED
#endif

#if defined(__OPTIMIZE_SIZE__)
#define NUCLEUS_SMALL true  // shorter code and smaller tables instead of faster ones
#else
#define NUCLEUS_SMALL false
#endif

#if defined(__FAST_MATH__) || (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0) || \
    (defined(__arm__) && !(defined(__ARM_FP) && (__ARM_FP & 8)))  // or it takes a library
#define NUCLEUS_IEEE_ARITHMETIC false
#else
#define NUCLEUS_IEEE_ARITHMETIC true
#endif

#if defined(NUCLEUS_DISABLED)
#define NUCLEUS_INLINE inline
#define NUCLEUS_BODIES disabled
#define NUCLEUS_ENABLED false
#elif defined(NUCLEUS_SPLIT)
#define NUCLEUS_INLINE
#define NUCLEUS_BODIES split
#define NUCLEUS_ENABLED true
#else
#define NUCLEUS_INLINE inline
#define NUCLEUS_BODIES inline
#define NUCLEUS_ENABLED true
#endif

#if defined(_LIBCPP_VERSION)
#define NUCLEUS_STANDARD libcxx
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define NUCLEUS_STANDARD oldstd
#else
#define NUCLEUS_STANDARD std
#endif

#define NUCLEUS_PASTE(t, f, e, s, b) v1_0_0_threads##t##_files##f##_exceptions##e##_##s##_##b
#define NUCLEUS_TAG(t, f, e, s, b) NUCLEUS_PASTE(t, f, e, s, b)
#define NUCLEUS_ABI \
  NUCLEUS_TAG(NUCLEUS_THREADS, NUCLEUS_FILES, NUCLEUS_EXCEPTIONS, NUCLEUS_STANDARD, NUCLEUS_BODIES)

#ifndef NUCLEUS_HPP
#define NUCLEUS_HPP

namespace nucleus {
inline namespace NUCLEUS_ABI {

// ==== 2. Vocabulary ==== the words a program uses ====
// Text, Value and Properties borrow for the length of one call; everything else owns its content.

namespace detail {
class Core;
struct Post;

template <class T>
constexpr bool isCharacter =
    std::is_same_v<T, char> || std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> ||
    std::is_same_v<T, char32_t> || std::is_same_v<T, std::decay_t<decltype(u8"x"[0])>>;

template <class T>
constexpr bool isInteger = std::is_integral_v<T> && sizeof(T) <= 8 && !isCharacter<T>;

template <class T>
constexpr bool isText = std::is_convertible_v<const T&, std::string_view> &&
                        !std::is_pointer_v<std::decay_t<T>> && !std::is_null_pointer_v<T>;

// What Options hold. Under NUCLEUS_DISABLED all of it is taken, and nothing kept.
struct Ignored {
  Ignored() = default;
  template <class Any>
  Ignored(Any&&) noexcept {}
  explicit operator bool() const noexcept { return false; }
  std::nullptr_t get() const noexcept { return nullptr; }
};
struct IgnoredText {
  IgnoredText() = default;
  template <class Any, std::enable_if_t<std::is_convertible_v<Any&&, std::string>, int> = 0>
  IgnoredText(Any&&) noexcept {}
  operator std::string() const { return {}; }
  operator std::string_view() const noexcept { return {}; }
  const char* c_str() const noexcept { return ""; }
  std::size_t size() const noexcept { return 0; }
  bool empty() const noexcept { return true; }
};
using String = std::conditional_t<NUCLEUS_ENABLED, std::string, IgnoredText>;
template <class T>
using Pointer = std::conditional_t<NUCLEUS_ENABLED, std::shared_ptr<T>, Ignored>;
template <class Signature>
using Function = std::conditional_t<NUCLEUS_ENABLED, std::function<Signature>, Ignored>;

constexpr const char* defaultEndpoint = NUCLEUS_ENABLED ? "https://app.nucleus.sh" : "";
constexpr const char* defaultVersion = NUCLEUS_ENABLED ? "0.0.0" : "";
}  // namespace detail

/// Borrowed text: a `const char*` (null is empty) or anything that is a `std::string_view`.
class Text {
 public:
  constexpr Text() noexcept = default;
  constexpr Text(const char* text) noexcept
      : view_(text != nullptr ? std::string_view(text) : std::string_view()) {}
  template <class T, std::enable_if_t<detail::isText<T>, int> = 0>
  constexpr Text(const T& text) noexcept : view_(text) {}

  constexpr operator std::string_view() const noexcept { return view_; }
  constexpr std::string_view view() const noexcept { return view_; }

 private:
  std::string_view view_;
};

/// Borrowed value of a property: bool, integer, floating point number or text.
/// Any other type, and a lone `char`, is a compile error. NaN, infinity and a null `const char*`
/// cannot be sent: that property is left out, with the diagnostic `invalid-value`.
class Value {
 public:
  enum class Kind : unsigned char { nothing, boolean, integer, unsignedInteger, number, text };

  constexpr Value() noexcept : integer_(0) {}
  template <class T, std::enable_if_t<detail::isInteger<T>, int> = 0>
  constexpr Value(T value) noexcept
      : kind_(std::is_same_v<T, bool> ? Kind::boolean
              : std::is_unsigned_v<T> ? Kind::unsignedInteger
                                      : Kind::integer),
        integer_(static_cast<std::uint64_t>(value)) {}
  template <class T, std::enable_if_t<std::is_floating_point_v<T>, int> = 0>
  constexpr Value(T value) noexcept : kind_(Kind::number), number_(static_cast<double>(value)) {}
  constexpr Value(const char* text) noexcept
      : kind_(text != nullptr ? Kind::text : Kind::nothing), text_(Text(text).view().data()),
        bytes_(Text(text).view().size()) {}
  template <class T, std::enable_if_t<detail::isText<T>, int> = 0>
  constexpr Value(const T& text) noexcept
      : kind_(Kind::text), text_(Text(text).view().data()), bytes_(Text(text).view().size()) {}

  constexpr Kind kind() const noexcept { return kind_; }
  constexpr bool boolean() const noexcept { return kind_ == Kind::boolean && integer_ != 0; }
  constexpr std::int64_t integer() const noexcept {
    return kind_ == Kind::integer ? static_cast<std::int64_t>(integer_) : 0;
  }
  constexpr std::uint64_t unsignedInteger() const noexcept {
    return kind_ == Kind::unsignedInteger ? integer_ : 0;
  }
  constexpr double number() const noexcept { return kind_ == Kind::number ? number_ : 0.0; }
  constexpr std::string_view text() const noexcept {
    return kind_ == Kind::text ? std::string_view(text_, bytes_) : std::string_view();
  }

 private:
  Kind kind_ = Kind::nothing;
  union {
    std::uint64_t integer_;  // of two's complement, or a bool
    double number_;
    const char* text_;
  };
  std::size_t bytes_ = 0;
};

/// One property of an event or of the user, as in `{"plan", "pro"}`.
struct Property {
  Text name;
  Value value;
};

/// Borrowed list of properties: an array, a vector, a pointer and a count, or nothing. Braces go
/// to the overloads for `std::initializer_list`, so that a named Properties cannot dangle.
class Properties {
 public:
  constexpr Properties() noexcept = default;
  constexpr Properties(const Property* first, std::size_t count) noexcept
      : first_(first), count_(first != nullptr ? count : 0) {}
  template <class T, std::size_t count,
            std::enable_if_t<std::is_same_v<std::remove_const_t<T>, Property>, int> = 0>
  constexpr Properties(T (&array)[count]) noexcept : Properties(array, count) {}
  template <
      class List,
      std::enable_if_t<
          std::is_same_v<std::decay_t<decltype(*std::declval<const List&>().data())>, Property>,
          int> = 0>
  constexpr Properties(const List& list) noexcept
      : Properties(list.data(), static_cast<std::size_t>(list.size())) {}

  constexpr const Property* begin() const noexcept { return first_; }
  constexpr const Property* end() const noexcept { return first_ + count_; }
  constexpr std::size_t size() const noexcept { return count_; }

 private:
  const Property* first_ = nullptr;
  std::size_t count_ = 0;
};

/// What became of a call. All but `ok` mean that nothing was queued.
enum class Outcome {
  ok,                ///< queued; it will be delivered, or counted as dropped in Stats
  trackingDisabled,  ///< the user has not agreed
  notConfigured,     ///< the client is inert: default constructed, no valid appId, no entropy
  invalidName,       ///< empty, or over 256 bytes
  reservedName,      ///< `init`, or begins with `error:` or `nucleus:`
  unknownEvent,      ///< with strictCatalogue: it, or one of its properties, is not declared
  tooLarge,          ///< over Options::maxEventBytes
  queueFull,         ///< all that is queued is in a request or still needed
  personalData,      ///< a user id that holds personal data; the previous one is cleared
  filtered,          ///< Options::filter said no
  shutDown           ///< after shutdown(), moved from, or in the child of a fork()
};

/// The server's answer to a request.
struct Response {
  int status = 0;               ///< HTTP status; 0: no server was reached
  std::string body = {};        ///< as received
  std::string retryAfter = {};  ///< the Retry-After header, as received

  /// The answer comes later, by Request::reply (HTTP) or Client::receive (WebSocket).
  static Response pending() {
    Response response;
    response.status = -1;
    return response;
  }
};

/// What a transport is to send: HTTP POST, or a WebSocket text message. A small handle to copy;
/// while a copy lives all of it stays valid, from any thread, also after the client's end.
class Request {
 public:
  explicit Request(std::shared_ptr<detail::Post> post) noexcept : post_(std::move(post)) {}

  std::string_view url() const noexcept;          ///< where to
  std::string_view contentType() const noexcept;  ///< `application/json`
  std::string_view body() const noexcept;         ///< UTF-8
  bool cancelled() const noexcept;                ///< true, for good: no longer wanted, do not send
  bool expectsAnswer() const noexcept;            ///< false for a heartbeat
  /// For a transport that answered pending. Any thread; later and repeated answers do no harm.
  void reply(Response response) const noexcept;

 private:
  std::shared_ptr<detail::Post> post_;
};

/// The host's way to send a request. Called by the worker (or in poll(), flush(), shutdown()) with
/// no lock held, one request at a time. What it captures must live until shutdown() returned.
/// One that throws has not answered.
using Transport = detail::Function<Response(const Request&)>;

/// What there is to store in.
enum class StorageState {
  ready,    ///< open, locked by us
  absent,   ///< nothing there yet; a replace creates it
  locked,   ///< another client holds it; it can be read
  foreign,  ///< something that is not ours to touch
  failed    ///< the system refused
};

/// Where unsent events survive the program: one flat file, or a page of flash. Called by one thread
/// at a time, only while tracking is enabled or to erase. A replacement is all or nothing.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual StorageState open() = 0;  ///< opens and locks what is there; creates nothing
  /// Short at the end; SIZE_MAX where it cannot be read.
  virtual std::size_t read(std::size_t at, char* to, std::size_t bytes) = 0;
  virtual bool append(std::string_view text) = 0;  ///< false: an unknown part may be written
  virtual bool beginReplace() = 0;                 ///< then write() the new content, then commit
  virtual bool write(std::string_view text) = 0;   ///< false: the replacement is given up
  virtual bool commitReplace() = 0;                ///< durable; false: the old content stands
  virtual bool sync() = 0;                         ///< what was appended survives a power cut
  virtual bool erase() = 0;                        ///< nothing is left, also after a power cut
  virtual bool vanished() = 0;                     ///< removed or replaced behind our back
  virtual void close() = 0;                        ///< and unlock
};

/// A file at `path` (UTF-8), with a lock that dies with the process. Not touched before open();
/// empty under NUCLEUS_NO_FILES.
std::shared_ptr<Storage> fileStorage(std::string path);

/// Where the cache goes by default: `nucleus/<appId>.cache` in the user's data folder, which is
/// $XDG_DATA_HOME or ~/.local/share, ~/Library/Application Support, %LOCALAPPDATA%; "" where none.
std::string defaultCacheFile(Text appId);

/// Time, in milliseconds. Any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t wallMs() = 0;    ///< since 1970; before 2020 means: not set
  virtual std::int64_t steadyMs() = 0;  ///< never goes back
};

/// What becomes of personal data in event names, in names and values of properties, and in the
/// messages and stacks of errors.
enum class PersonalData {
  /// E-mail addresses become `[email]`, home folders `~`; a text that as a whole is an IP address,
  /// a MAC address or an international phone number becomes `[ip]`, `[mac]`, `[phone]`. A user id
  /// that holds any of these is refused, or hashed if there is an Options::anonymizeKey.
  redact,
  allow  ///< all is sent as it is given, but for a user id where there is an anonymizeKey
};

/// Was the user asked, and what was the answer.
enum class Consent { notAsked, granted, refused };

/// What the host's events are for: constant data, which must outlive the client. The entry `props`
/// declares the properties of the user.
struct DeclaredProperty {
  Text name, purpose;
};
struct DeclaredEvent {
  Text name, purpose;
  const DeclaredProperty* properties = nullptr;
  std::size_t count = 0;
};
struct Catalogue {
  const DeclaredEvent* events = nullptr;
  std::size_t count = 0;
};

/// How much a diagnostic matters.
enum class Severity { info, warning, failure };

/// Something the developer should know. Never holds a value, an id or the server's text.
struct Diagnostic {
  Severity severity;
  std::string_view code;     ///< fixed, such as `queue-full`
  std::string_view message;  ///< one sentence that names the option to turn
  std::uint64_t count;       ///< how often since the last one of this code
};

/// Where every event is. At every moment: acceptedEvents == queuedEvents + acknowledgedEvents +
/// erasedEvents + all dropped. Events found in the cache count as accepted when they are loaded.
struct Stats {
  std::size_t queuedEvents = 0;
  std::size_t queuedBytes = 0;  ///< of event text
  std::size_t cacheBytes = 0;   ///< size of the file
  std::uint64_t acceptedEvents = 0;
  std::uint64_t acknowledgedEvents = 0;
  std::uint64_t erasedEvents = 0;    ///< by disableTracking() and forget()
  std::uint64_t requests = 0;        ///< begun, without heartbeats
  std::uint64_t failedRequests = 0;  ///< those that acknowledged nothing
  std::uint64_t droppedQueueFull = 0;
  std::uint64_t droppedTooOld = 0;
  std::uint64_t droppedRefused = 0;       ///< refused alone while the server accepted others
  std::uint64_t droppedDamaged = 0;       ///< records of the cache file that could not be read
  std::uint64_t droppedPersonalData = 0;  ///< kept by an earlier run under PersonalData::allow
  std::uint64_t notCached = 0;            ///< queued now, in memory alone since there is no file
  std::int64_t nextRequestInMs = -1;      ///< -1: none is due
  int lastStatus = 0;
  StorageState storage = StorageState::absent;
  Consent consent = Consent::notAsked;
  bool trackingEnabled = false;
};

// ==== 3. Options ==== everything there is to set ====
// Values out of range are clamped, with the diagnostic `option-clamped`.

struct Options {
  detail::String appId;                               ///< required: [A-Za-z0-9_-]{1,64}
  Transport transport;                                ///< empty: events wait in the cache
  detail::String endpoint = detail::defaultEndpoint;  ///< ws:// and wss:// select WebSocket mode
  detail::String version = detail::defaultVersion;    ///< of the host program
  detail::String locale;                              ///< as en-US; empty: detected
  detail::String platform;                            ///< as linux, darwin, win32; empty: detected
  detail::String osVersion;                           ///< empty: detected
  detail::String deviceId;           ///< empty: random, kept; see machineDeviceId()
  detail::String anonId;             ///< empty: random, kept in the cache file
  detail::String cacheFile;          ///< empty: defaultCacheFile(appId)
  bool offlineCache = true;          ///< false: nothing is ever written
  detail::Pointer<Storage> storage;  ///< instead of a file
  detail::Pointer<Clock> clock;      ///< instead of the system's
  /// Instead of the system's source of random bytes; false: there are none. Any thread; must not
  /// call the client.
  detail::Function<bool(void*, std::size_t)> entropy;
  /// Given: queue, request and file buffers live here, the limits below are lowered to fit, and
  /// nothing is allocated after the constructor, but for the name of a `std::exception` and by
  /// exportData(). Must outlive the client and every Request.
  struct {
    void* data = nullptr;
    std::size_t bytes = 0;
  } memory;
  bool background = true;               ///< false: the host calls poll()
  bool disableTracking = false;         ///< true: wait for enableTracking()
  bool rememberTrackingChoice = false;  ///< keep the user's choice in the cache file
  bool respectDoNotTrack = true;        ///< the environment's DO_NOT_TRACK disables at the start
  PersonalData personalData = PersonalData::redact;
  /// 16 bytes or more: personal user ids are sent as anonymize(id, anonymizeKey), which is the same
  /// on every device of the person. Else they are refused.
  detail::String anonymizeKey;
  Catalogue catalogue;           ///< the host's events, each with its purpose, for dataInventory()
  bool strictCatalogue = false;  ///< true: what is undeclared is refused, but for errors
  std::int64_t reportIntervalMs = 20'000;     ///< between requests while anything is queued
  std::int64_t sessionTimeoutMs = 1'800'000;  ///< without a call; then a new session
  std::int64_t cutoffMs = 172'800'000;        ///< older events are dropped
  std::int64_t answerTimeoutMs = 60'000;      ///< of a pending answer
  std::int64_t shutdownTimeoutMs = 250;       ///< of the destructor
  std::int64_t cacheDelayMs = 1'000;          ///< to the file; 0: before the call returns
  std::size_t maxQueueBytes = 1 << 20;        ///< of event text; at least 2 * maxEventBytes
  std::size_t maxEventBytes = 16 << 10;       ///< 512 bytes to 8 MB
  std::size_t maxBatchBytes = 64 << 10;       ///< of a request; at least maxEventBytes + 16
  bool reportUncaught = false;  ///< std::terminate becomes an error event, then goes on as before
  bool debug = false;           ///< diagnostics to stderr, where the system has one
  /// Asked on the caller's thread, with no lock held, about every event but `init`; false: not
  /// tracked. Not asked again about what it tracks itself.
  detail::Function<bool(Text type, Text name, Properties)> filter;
  /// These three: on the worker, or in poll().
  detail::Function<void(const Diagnostic&)> onDiagnostic;
  detail::Function<void(std::string_view latest)> onUpdate;    ///< newer than version; once
  detail::Function<void(std::string_view json)> onCustomData;  ///< from the server, 64 KB at most
};

// ==== 4. Client ==== the one object ====
// Movable. Every member may be called from any thread and none throws; moving, like destroying, is
// for a thread that has the client to itself. Calls that track take no lock that is held during
// file or network work; those that say so wait for the file.

class Client {
 public:
  Client() noexcept;                  ///< inert until another is moved into it
  explicit Client(Options) noexcept;  ///< reads the cache, opens the session: `init` comes first
  ~Client();                          ///< shutdown(Options::shutdownTimeoutMs)
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;  ///< shuts down what it replaces

  /// An event: something that happened. Properties are copied before the call returns.
  Outcome track(Text name, Properties = {}) noexcept;
  Outcome track(Text name, std::initializer_list<Property>) noexcept;
  /// A page or screen the user sees now.
  Outcome page(Text name, Properties = {}) noexcept;
  Outcome page(Text name, std::initializer_list<Property>) noexcept;
  Outcome screen(Text name, Properties = {}) noexcept;
  Outcome screen(Text name, std::initializer_list<Property>) noexcept;
  /// An error; in the file before the call returns. A stack too long for one event is cut.
  Outcome trackError(Text name, Text message, Text stack = {}) noexcept;
  /// The same; named by the readable type where RTTI is on, else `exception`.
  Outcome trackError(const std::exception&) noexcept;

  /// Who the user is from now on, by an opaque id; "" signs out: no user id and no properties.
  /// Another user's id also clears the properties. See PersonalData::redact for what is refused.
  Outcome setUserId(Text id) noexcept;
  /// Properties of the user, merged by name, or replaced with `overwrite`. `version`, `locale`,
  /// `platform`, `osVersion` and `deviceId` replace the detected value instead.
  Outcome setProps(Properties, bool overwrite = false) noexcept;
  Outcome setProps(std::initializer_list<Property>, bool overwrite = false) noexcept;
  /// setUserId and, where there are any, setProps with overwrite.
  Outcome identify(Text id, Properties = {}) noexcept;
  Outcome identify(Text id, std::initializer_list<Property>) noexcept;
  /// Ends this session and begins the next.
  Outcome startSession() noexcept;

  /// The user agrees: a new session begins. User id and properties are to be set again. Does file
  /// work.
  void enableTracking() noexcept;
  /// The user declines: no request begins after it returned, and what was unsent is erased from
  /// memory and from the file, with user id and properties. True: durably. False: the file could
  /// not be erased now, and it is tried again. Does file work.
  bool disableTracking() noexcept;
  bool trackingEnabled() const noexcept;
  Consent consent() const noexcept;
  /// disableTracking(), and the ids and the file go too, but for a remembered refusal; enabling
  /// again starts as a new, unknown user, unless the options give the ids. True: durably. Does file
  /// work.
  bool forget() noexcept;
  /// All that is held about this user, in memory and in the file, as a JSON object: ids, user id,
  /// properties, choice, unsent events, where the file is. `"complete":false` where the file could
  /// not all be read, or still holds what is to go; "" where memory ran out. Whatever the state,
  /// also before consent and after shutdown(). Does file work.
  std::string exportData() const noexcept;

  /// Sends now and waits. True: all that was accepted before the call was acknowledged. Cuts a
  /// backoff short, but not a Retry-After. From inside a callback: false at once.
  bool flush(std::int64_t timeoutMs) noexcept;
  /// The work that is due, when Options::background is false. Call it every frame.
  void poll() noexcept;
  /// A message from the server, in WebSocket mode.
  void receive(Text message) noexcept;
  /// The network is back (sends soon), or gone (sends nothing until it is back).
  void online(bool connected = true) noexcept;
  /// All that is pending goes into the file, synced. False: it could not.
  bool persist() noexcept;
  /// Into the file, a last delivery, the end. Waits at most `timeoutMs` for the transport. True:
  /// nothing is left that is not in the file.
  bool shutdown(std::int64_t timeoutMs) noexcept;
  Stats stats() const noexcept;

 private:
  detail::Pointer<detail::Core> core_;
  Outcome coreless_ = Outcome::notConfigured;  // what calls answer where there is no core
  bool unmade_ = false;                        // there was no memory for it
};

/// HMAC-SHA-256 of an identifier (RFC 2104, FIPS 180-4), as 22 characters of URL-safe base64. One
/// that holds an e-mail address is trimmed and lower-cased (ASCII) first. Who has the key can test
/// a guess: this is a pseudonym, not anonymity. "" where identifier or key is empty.
std::string anonymize(Text identifier, Text key);

/// An id for Options::deviceId that outlives the cache file: a hash of `appId` keyed by the
/// system's machine id (/etc/machine-id, MachineGuid, the host's UUID on macOS), so that two
/// programs on one machine cannot be joined by it. Opt-in. "" where the system has none, or appId
/// is invalid.
std::string machineDeviceId(Text appId);

/// What is collected, kept and sent under these options, for the program's users to read: one row
/// for each name in events, file and export, then the host's own from Options::catalogue.
class DataInventory {
 public:
  struct Row {
    std::string field;      ///< such as `userId` or `payload.stack`; of the host: `EVENT.property`
    std::string when;       ///< in which events, or where else
    std::string purpose;    ///< why
    bool personal = false;  ///< known to tell a person or a device from others
  };

  const Row* begin() const noexcept { return rows_.get(); }
  const Row* end() const noexcept { return begin() + count_; }
  std::size_t size() const noexcept { return count_; }
  /// What the options give, as paragraphs for a privacy policy.
  const std::string& policy() const noexcept { return policy_; }
  /// The same, then the rows as tables.
  std::string markdown() const;
  /// `{"policy":"...","rows":[{"field":"...","when":"...","purpose":"...","personal":true},...]}`
  std::string json() const;

 private:
  friend DataInventory dataInventory(const Options&);
  detail::Pointer<Row> rows_;  // an array
  std::size_t count_ = 0, ownRows_ = 0;
  std::string policy_;
};
DataInventory dataInventory(const Options&);

}  // namespace NUCLEUS_ABI
}  // namespace nucleus

// You have read everything there is to use. Below is how it works.

#endif  // NUCLEUS_HPP

#if defined(NUCLEUS_DISABLED) && !defined(NUCLEUS_BODY)
#define NUCLEUS_BODY  // nothing: this is all

namespace nucleus {
inline namespace NUCLEUS_ABI {

inline std::shared_ptr<Storage> fileStorage(std::string) { return {}; }
inline std::string defaultCacheFile(Text) { return {}; }
inline std::string anonymize(Text, Text) { return {}; }
inline std::string machineDeviceId(Text) { return {}; }
inline DataInventory dataInventory(const Options&) { return {}; }
inline std::string DataInventory::markdown() const { return static_cast<void>(ownRows_), ""; }
inline std::string DataInventory::json() const { return {}; }

inline std::string_view Request::url() const noexcept { return {}; }
inline std::string_view Request::contentType() const noexcept { return {}; }
inline std::string_view Request::body() const noexcept { return {}; }
inline bool Request::cancelled() const noexcept { return true; }
inline bool Request::expectsAnswer() const noexcept { return false; }
inline void Request::reply(Response) const noexcept {}

inline Client::Client() noexcept = default;
inline Client::Client(Options) noexcept {}
inline Client::~Client() {
  static_cast<void>(core_), static_cast<void>(coreless_), static_cast<void>(unmade_);
}
inline Client::Client(Client&&) noexcept = default;
inline Client& Client::operator=(Client&&) noexcept = default;

inline Outcome Client::track(Text, Properties) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::track(Text, std::initializer_list<Property>) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::page(Text, Properties) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::page(Text, std::initializer_list<Property>) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::screen(Text, Properties) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::screen(Text, std::initializer_list<Property>) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::trackError(Text, Text, Text) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::trackError(const std::exception&) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::setUserId(Text) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::setProps(Properties, bool) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::setProps(std::initializer_list<Property>, bool) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::identify(Text, Properties) noexcept { return Outcome::trackingDisabled; }
inline Outcome Client::identify(Text, std::initializer_list<Property>) noexcept {
  return Outcome::trackingDisabled;
}
inline Outcome Client::startSession() noexcept { return Outcome::trackingDisabled; }

inline void Client::enableTracking() noexcept {}
inline bool Client::disableTracking() noexcept { return true; }
inline bool Client::trackingEnabled() const noexcept { return false; }
inline Consent Client::consent() const noexcept { return {}; }
inline bool Client::forget() noexcept { return true; }
inline std::string Client::exportData() const noexcept { return "{}"; }
inline bool Client::flush(std::int64_t) noexcept { return false; }
inline void Client::poll() noexcept {}
inline void Client::receive(Text) noexcept {}
inline void Client::online(bool) noexcept {}
inline bool Client::persist() noexcept { return false; }
inline bool Client::shutdown(std::int64_t) noexcept { return false; }
inline Stats Client::stats() const noexcept { return {}; }

}  // namespace NUCLEUS_ABI
}  // namespace nucleus

#endif

#if (!defined(NUCLEUS_SPLIT) || defined(NUCLEUS_IMPLEMENTATION)) && !defined(NUCLEUS_BODY)
#define NUCLEUS_BODY

#include <atomic>   // a request is cancelled from any thread
#include <cstdio>   // diagnostics to stderr
#include <cstdlib>  // memory, environment
#include <cstring>  // memcpy
#include <utility>  // std::exchange, std::move
#include <vector>   // exportData() and dataInventory()

namespace nucleus {
inline namespace NUCLEUS_ABI {
namespace detail {

// ==== 5. Text ==== JSON out, JSON in ====
// CharacterSet in, bytes out; knows nothing of events. What is written is always valid UTF-8 JSON
// (RFC 8259, RFC 3629); what is read is checked completely, in bounded memory, without recursion.

template <class T>
constexpr T lesser(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T greater(T a, T b) {
  return a < b ? b : a;
}

/// memcpy(), but for few bytes: those need no call.
inline void copyBytes(char* to, const char* from, std::size_t bytes) {
  const auto twice = [=](auto word) {  // from either end, which may overlap
    auto last = word;
    std::memcpy(&word, from, sizeof word);
    std::memcpy(&last, from + bytes - sizeof last, sizeof last);
    std::memcpy(to, &word, sizeof word);
    std::memcpy(to + bytes - sizeof last, &last, sizeof last);
  };
  struct Pair {
    std::uint64_t of[2];
  };
  if (NUCLEUS_SMALL || bytes > 32) std::memcpy(to, from, bytes);
  else if (bytes >= 16) twice(Pair{});
  else if (bytes >= 8) twice(std::uint64_t{});
  else if (bytes >= 4) twice(std::uint32_t{});
  else if (bytes >= 2) twice(std::uint16_t{});
  else if (bytes == 1) *to = *from;
}

/// Text in a fixed piece of memory. From the first piece that does not fit on, all is left out, and
/// full() says so.
class Buffer {
 public:
  Buffer() = default;
  /// Without memory nothing fits.
  Buffer(char* data, std::size_t capacity)
      : data_(data), end_(data), capacity_(data != nullptr ? capacity : 0) {
    clear();
  }

  std::string_view view() const { return {data_, size()}; }
  std::size_t size() const { return static_cast<std::size_t>(end_ - data_); }
  std::size_t room() const { return static_cast<std::size_t>(limit_ - end_); }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return end_ == data_; }
  bool full() const { return full_; }
  char* data() { return data_; }
  char* end() { return end_; }

  void clear() { cut(0); }
  /// Nothing of it can be read in the memory any more.
  void wipe() {
    if (capacity_ != 0) std::memset(data_, 0, capacity_);
    clear();
  }
  void cut(std::size_t size) {
    end_ = data_ + size;
    limit_ = data_ + capacity_;
    full_ = false;
  }
  /// Where so much may be written; null, now and from now on, where it does not fit.
  char* take(std::size_t bytes) {
    if (bytes > room()) return full_ = true, limit_ = end_, nullptr;
    return std::exchange(end_, end_ + bytes);
  }
  void add(char c) {
    if (char* const to = take(1)) *to = c;
  }
  template <std::size_t size>
  void addLiteral(const char (&literal)[size]) {
    if (char* const to = take(size - 1)) std::memcpy(to, literal, size - 1);
  }
  void add(std::string_view text) {
    if (char* const to = take(text.size())) copyBytes(to, text.data(), text.size());
  }
  /// Between quotes.
  void addQuoted(std::string_view text) {
    char* const to = take(text.size() + 2);
    if (to == nullptr) return;
    *to = '"';
    copyBytes(to + 1, text.data(), text.size());
    to[text.size() + 1] = '"';
  }
  /// The caller has written `bytes` at end().
  void grow(std::size_t bytes) { take(bytes); }
  void dropFront(std::size_t bytes) {
    if (bytes != 0) std::memmove(data_, data_ + bytes, size() - bytes);
    cut(size() - bytes);
  }

 private:
  char* data_ = nullptr;
  char* end_ = nullptr;
  char* limit_ = nullptr;
  std::size_t capacity_ = 0;
  bool full_ = false;
};

/// A buffer that brings its memory along.
template <std::size_t bytes>
class Fixed : public Buffer {
 public:
  Fixed() : Buffer(storage_, bytes) {}
  explicit Fixed(std::string_view text) : Fixed() { add(text); }
  Fixed(const Fixed&) = delete;
  Fixed& operator=(const Fixed&) = delete;
  void set(std::string_view text) {
    clear();
    add(text);
  }

 private:
  char storage_[bytes];
};

struct Utf8 {
  std::size_t bytes;
  bool valid;
};

/// The sequence at `at`: a whole character, or the longest part of one that went wrong (RFC 3629).
inline Utf8 utf8At(const char* at, const char* end) {
  const auto byte = [at](std::size_t n) { return static_cast<unsigned char>(at[n]); };
  const unsigned lead = byte(0);
  if (lead < 0xC2 || lead > 0xF4) return {1, lead < 0x80};
  const std::size_t more = lead < 0xE0 ? 1u : lead < 0xF0 ? 2u : 3u;
  unsigned lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t n = 1; n <= more; ++n) {
    if (at + n == end || byte(n) < lowest || byte(n) > highest) return {n, false};
    lowest = 0x80;
    highest = 0xBF;
  }
  return {more + 1, true};
}

template <std::size_t size>
bool beginsWith(std::string_view text, const char (&beginning)[size]) {
  return text.size() >= size - 1 && std::memcmp(text.data(), beginning, size - 1) == 0;
}

constexpr bool isAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }
constexpr bool isPlain(char c) {
  return isAscii(c) && static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
}

// ---- sixteen characters at once ----
// Each of the two classes says the same of sixteen characters: which of them are something. What
// is said of several blocks may be joined by |. Which one is used changes nothing but the time.

/// With the arithmetic of any processor, eight in a word.
class WordBlock {
 public:
  /// Eight from `first`, and eight from `second`.
  WordBlock(const char* first, const char* second) : first_(load(first)), second_(load(second)) {}

  std::uint64_t notPlain() const { return notPlain(first_) | notPlain(second_); }
  /// Neither letter, digit, blank nor underscore.
  std::uint64_t notWord() const { return notWord(first_) | notWord(second_); }
  static bool isAny(std::uint64_t found) { return found != 0; }

 private:
  static std::uint64_t load(const char* from) {
    std::uint64_t eight;
    std::memcpy(&eight, from, sizeof eight);
    return eight;
  }
  static constexpr std::uint64_t all(std::uint64_t c) { return 0x0101'0101'0101'0101 * c; }
  /// The top bit of each that is `least` or more, where all are ASCII.
  static std::uint64_t from(unsigned least, std::uint64_t ascii) {
    return (ascii + all(0x80 - least)) & all(0x80);
  }
  static std::uint64_t is(unsigned char c, std::uint64_t ascii) {
    return ~from(1, ascii ^ all(c)) & all(0x80);
  }
  static std::uint64_t notPlain(std::uint64_t eight) {
    const std::uint64_t ascii = eight & all(0x7F);
    return (eight & all(0x80)) | (~from(' ', ascii) & all(0x80)) | is('"', ascii) | is('\\', ascii);
  }
  static std::uint64_t notWord(std::uint64_t eight) {
    const std::uint64_t ascii = eight & all(0x7F), lower = ascii | all(0x20);
    const std::uint64_t letters = from('a', lower) & ~from('z' + 1, lower);
    const std::uint64_t digits = from('0', ascii) & ~from('9' + 1, ascii);
    const std::uint64_t words = letters | digits | is(' ', ascii) | is('_', ascii);
    return (eight | ~words) & all(0x80);
  }

  std::uint64_t first_, second_;
};

#if NUCLEUS_VECTORS
/// With vectors of the processor, as GCC and Clang have them.
class VectorBlock {
 public:
  typedef unsigned char Vector __attribute__((vector_size(16)));
  typedef signed char Signed __attribute__((vector_size(16)));

  VectorBlock(const char* first, const char* second) {
    std::memcpy(&of_, first, 8);
    std::memcpy(reinterpret_cast<char*>(&of_) + 8, second, 8);
  }
  Signed notPlain() const {
    return (reinterpret_cast<const Signed&>(of_) < ' ') | (of_ == '"') | (of_ == '\\');
  }
  Signed notWord() const {
    const Vector letter = (of_ | 0x20) - 'a', digit = of_ - '0';
    return ~((letter < 26) | (digit < 10) | (of_ == ' ') | (of_ == '_'));
  }
  static bool isAny(Signed found) {
    std::uint64_t halves[2];
    std::memcpy(halves, &found, sizeof halves);
    return (halves[0] | halves[1]) != 0;
  }

 private:
  Vector of_;
};
using Block = VectorBlock;
#else
using Block = WordBlock;
#endif

/// Goes over whole blocks that can stand in a JSON string as they are.
inline const char* skipPlainBlocks(const char* at, const char* end) {
  const auto notPlain = [&at](int i) { return Block(at + i, at + i + 8).notPlain(); };
  while (!NUCLEUS_SMALL && end - at >= 16 && !Block::isAny(notPlain(0))) {
    at += 16;
    while (end - at >= 64 &&
           !Block::isAny(notPlain(0) | notPlain(16) | notPlain(32) | notPlain(48))) {
      at += 64;
    }
  }
  return at;
}

/// The first byte from `at` that cannot stand in a JSON string as it is.
inline const char* skipPlain(const char* at, const char* end) {
  at = skipPlainBlocks(at, end);
  while (at != end && isPlain(*at)) ++at;
  return at;
}

/// What an ASCII character is written as, in at most 7 bytes. Returns how many.
constexpr std::size_t makeEscape(char c, char* to) {
  constexpr char hex[] = "0123456789abcdef";
  constexpr std::string_view shortForms = "\"\"\\\\\bb\ff\nn\rr\tt";
  to[0] = isPlain(c) ? c : '\\';
  if (isPlain(c)) return 1;
  for (std::size_t i = 0; i < shortForms.size(); i += 2) {
    if (shortForms[i] == c) return to[1] = shortForms[i + 1], 2;
  }
  const char rest[] = {'u', '0', '0', hex[c >> 4], hex[c & 15]};
  for (std::size_t i = 0; i < sizeof rest; ++i) to[i + 1] = rest[i];
  return sizeof rest + 1;
}

/// The same for each of them, and behind it how long it is.
struct Escapes {
  char of[128][8];
  static constexpr std::size_t length = 7;

  constexpr Escapes() : of() {
    for (int c = 0; c < 128; ++c) {
      of[c][length] = static_cast<char>(makeEscape(static_cast<char>(c), of[c]));
    }
  }
};
inline constexpr Escapes escapes;

/// `to` has 8 bytes.
inline std::size_t writeEscape(char c, char* to) {
  if (NUCLEUS_SMALL) return makeEscape(c, to);
  const char(&escape)[8] = escapes.of[static_cast<unsigned char>(c)];
  std::memcpy(to, escape, sizeof escape);
  return static_cast<std::size_t>(escape[Escapes::length]);
}

/// One character: escaped where it must be, U+FFFD where it is none. Returns what follows it.
inline const char* writeCharacter(Buffer& out, const char* at, const char* end) {
  if (isAscii(*at)) {
    char escape[8];
    out.add({escape, writeEscape(*at, escape)});
    return at + 1;
  }
  const Utf8 next = utf8At(at, end);
  if (next.valid) out.add({at, next.bytes});
  else out.add("\xEF\xBF\xBD");
  return at + next.bytes;
}

/// Whether two texts are the same once they are written.
inline bool isSameText(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const Utf8 left = utf8At(a.data(), a.data() + a.size());
    const Utf8 right = utf8At(b.data(), b.data() + b.size());
    if (left.valid != right.valid) return false;
    if (left.valid && a.substr(0, left.bytes) != b.substr(0, right.bytes)) return false;
    a.remove_prefix(left.bytes);
    b.remove_prefix(right.bytes);
  }
  return a.empty() && b.empty();
}

/// Characters that are ASCII, until one is not.
inline const char* writeAscii(Buffer& out, const char* at, const char* end) {
  if (out.room() < 8 * static_cast<std::size_t>(end - at)) return writeCharacter(out, at, end);
  char* to = out.end();
  for (; at != end && isAscii(*at); ++at) to += writeEscape(*at, to);
  out.grow(static_cast<std::size_t>(to - out.end()));
  return at;
}

/// Characters that are not ASCII, until one is, or is none at all.
inline const char* writeOthers(Buffer& out, const char* at, const char* end) {
  const char* const begin = at;
  Utf8 next = {0, true};
  while (at != end && !isAscii(*at) && (next = utf8At(at, end)).valid) at += next.bytes;
  out.add({begin, static_cast<std::size_t>(at - begin)});
  return next.valid ? at : writeCharacter(out, at, end);
}

/// `text` as the inside of a JSON string: as much as is plain at once, the rest in small steps.
inline void writeEscaped(Buffer& out, std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const char* const plain = skipPlainBlocks(at, end);
    const char* const step = plain + lesser<std::ptrdiff_t>(end - plain, 16);
    out.add({at, static_cast<std::size_t>(plain - at)});
    at = plain;
    while (at < step) at = isAscii(*at) ? writeAscii(out, at, step) : writeOthers(out, at, end);
  }
}

inline void writeString(Buffer& out, std::string_view text) {
  out.add('"');
  writeEscaped(out, text);
  out.add('"');
}

/// As much of `text` as fits into `most` bytes of JSON, cut between characters. True: all of it.
inline bool writeCut(Buffer& out, std::string_view text, std::size_t most) {
  Buffer part(out.end(), lesser(most, out.room()));
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const char* const plain = skipPlain(at, end);
    const std::size_t run = lesser(static_cast<std::size_t>(plain - at), part.room());
    part.add({at, run});
    at += run;
    if (at != plain) break;
    const char* const next = at == end ? end : writeCharacter(part, at, end);
    if (part.full()) break;
    at = next;
  }
  out.grow(part.size());
  return at == end;
}

/// 00 to 99, one after the other.
struct DigitPairs {
  char of[200];

  constexpr DigitPairs() : of() {
    for (int i = 0; i < 100; ++i) {
      of[2 * i] = static_cast<char>('0' + i / 10);
      of[2 * i + 1] = static_cast<char>('0' + i % 10);
    }
  }
};
inline constexpr DigitPairs digitPairs;

inline void writeUnsigned(Buffer& out, std::uint64_t value) {
  char digits[20];
  char* at = digits + sizeof digits;
  for (; NUCLEUS_SMALL && value >= 10; value /= 10) *--at = static_cast<char>('0' + value % 10);
  const auto addPair = [&at](unsigned pair) { std::memcpy(at -= 2, digitPairs.of + pair * 2, 2); };
  for (; value >= 10'000; value /= 10'000) {
    const auto four = static_cast<unsigned>(value % 10'000);
    addPair(four % 100);
    addPair(four / 100);
  }
  auto rest = static_cast<unsigned>(value);
  for (; rest >= 100; rest /= 100) addPair(rest % 100);
  if (rest >= 10) addPair(rest);
  else *--at = static_cast<char>('0' + rest);
  const auto count = static_cast<std::size_t>(digits + sizeof digits - at);
  out.add({at, lesser(count, sizeof digits)});  // of which it is, as not every compiler sees
}

inline void writeInteger(Buffer& out, std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  if (value < 0) out.add('-');
  writeUnsigned(out, value < 0 ? 0 - bits : bits);
}

inline std::uint64_t bitsOf(double value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// A natural number of up to 1,152 bits: what the extremes of a double need.
class BigNumber {
 public:
  explicit BigNumber(std::uint64_t value) {
    limbs_[0] = static_cast<std::uint32_t>(value);
    limbs_[1] = static_cast<std::uint32_t>(value >> 32);
    size_ = limbs_[1] != 0 ? 2 : limbs_[0] != 0 ? 1 : 0;
  }
  void multiply(std::uint32_t factor) {
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      carry += std::uint64_t{limbs_[i]} * factor;
      limbs_[i] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) limbs_[size_++] = static_cast<std::uint32_t>(carry);
  }
  void shiftLeft(unsigned bits) {
    for (; bits >= 31; bits -= 31) multiply(1u << 31);
    multiply(1u << bits);
  }
  void add(const BigNumber& other) {
    std::uint64_t carry = 0;
    const std::size_t size = greater(size_, other.size_);
    for (std::size_t i = 0; i < size; ++i) {
      carry += std::uint64_t{limb(i)} + other.limb(i);
      limbs_[i] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    size_ = size;
    if (carry != 0) limbs_[size_++] = static_cast<std::uint32_t>(carry);
  }
  /// Of a number that is not larger.
  void subtract(const BigNumber& other) {
    std::uint64_t borrow = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const std::uint64_t difference = std::uint64_t{limbs_[i]} - other.limb(i) - borrow;
      limbs_[i] = static_cast<std::uint32_t>(difference);
      borrow = difference >> 63;
    }
    while (size_ > 0 && limbs_[size_ - 1] == 0) --size_;
  }
  /// Negative, zero or positive, as this is smaller, equal or larger.
  int compare(const BigNumber& other) const {
    for (std::size_t i = greater(size_, other.size_); i-- > 0;) {
      if (limb(i) != other.limb(i)) return limb(i) < other.limb(i) ? -1 : 1;
    }
    return 0;
  }

 private:
  std::uint32_t limb(std::size_t i) const { return i < size_ ? limbs_[i] : 0; }

  std::uint32_t limbs_[37] = {};
  std::size_t size_ = 0;
};

/// The fewest digits that read back as exactly this double: value = 0.DIGITS * 10^exponent.
/// Free-format algorithm of Steele and White, as refined by Burger and Dybvig (1996).
class ShortestDigits {
 public:
  /// Of a finite number greater than zero, given by the bits of a double (IEEE 754).
  explicit ShortestDigits(std::uint64_t bits)
      : mantissa_(bits & ((std::uint64_t{1} << 52) - 1)),
        power_(static_cast<int>(bits >> 52 & 0x7FF)), even_((bits & 1) == 0) {
    closerBelow_ = mantissa_ == 0 && power_ > 1;
    if (power_ == 0) {
      power_ = 1;
    } else {
      mantissa_ |= std::uint64_t{1} << 52;
    }
    power_ -= 1075;
    if (!NUCLEUS_IEEE_ARITHMETIC || !findFew(bits)) generate();
  }

  std::string_view digits() const { return {digits_, count_}; }
  int exponent() const { return exponent_; }

 private:
  /// At most nine decimals, as most numbers have: so few digits that all of them are exact.
  bool findFew(std::uint64_t bits) {
    double value = 0, power = 1;
    std::memcpy(&value, &bits, sizeof value);
    for (int decimals = 0; decimals <= 9; ++decimals, power *= 10) {
      const double scaled = value * power + 0.5;
      if (!(scaled < 1e15)) break;
      const auto whole = static_cast<std::uint64_t>(scaled);
      if (bitsOf(static_cast<double>(whole) / power) == bits) return keep(whole, decimals), true;
    }
    return false;
  }
  void keep(std::uint64_t whole, int decimals) {
    Buffer text(digits_, sizeof digits_);
    writeUnsigned(text, whole);
    exponent_ = static_cast<int>(text.size()) - decimals;
    count_ = text.view().find_last_not_of('0') + 1;
  }
  // rest / scale is the value, and gap / scale half the way to the neighbour below, all times 2 or
  // 4. It is as far to the one above, or twice as far.
  void generate() {
    BigNumber rest(mantissa_), scale(1), gap(1);
    rest.shiftLeft(closerBelow_ ? 2 : 1);
    scale.shiftLeft(closerBelow_ ? 2 : 1);
    for (BigNumber* up : {&rest, &gap}) {
      if (power_ > 0) up->shiftLeft(static_cast<unsigned>(power_));
    }
    if (power_ < 0) scale.shiftLeft(static_cast<unsigned>(-power_));
    estimate(rest, scale, gap);
    while (step(rest, scale, gap)) {
    }
  }
  bool reachesAbove(const BigNumber& rest, const BigNumber& scale, const BigNumber& gap) const {
    BigNumber sum = rest;
    sum.add(gap);
    if (closerBelow_) sum.add(gap);
    const int order = sum.compare(scale);
    return even_ ? order >= 0 : order > 0;
  }
  void estimate(BigNumber& rest, BigNumber& scale, BigNumber& gap) {
    int bitLength = power_;
    for (std::uint64_t m = mantissa_; m != 0; m >>= 1) ++bitLength;
    exponent_ = (bitLength - 1) * 30103 / 100000 - 1;  // log10(2), and never too high
    for (int i = 0; i < exponent_; ++i) scale.multiply(10);
    for (int i = exponent_; i < 0; ++i) {
      for (BigNumber* up : {&rest, &gap}) up->multiply(10);
    }
    for (; reachesAbove(rest, scale, gap); ++exponent_) scale.multiply(10);
  }
  bool step(BigNumber& rest, BigNumber& scale, BigNumber& gap) {
    for (BigNumber* up : {&rest, &gap}) up->multiply(10);
    char digit = '0';
    for (; rest.compare(scale) >= 0; ++digit) rest.subtract(scale);
    const int order = rest.compare(gap);
    const bool lowEnough = even_ ? order <= 0 : order < 0;
    const bool highEnough = reachesAbove(rest, scale, gap);
    if (highEnough && (!lowEnough || roundsUp(rest, scale))) ++digit;
    digits_[count_++] = digit;
    return !lowEnough && !highEnough;
  }
  static bool roundsUp(BigNumber rest, const BigNumber& scale) {
    rest.multiply(2);
    return rest.compare(scale) >= 0;
  }

  std::uint64_t mantissa_;
  int power_;
  bool even_, closerBelow_ = false;
  char digits_[20] = {};
  std::size_t count_ = 0;
  int exponent_ = 0;
};

inline bool isFinite(double value) { return (bitsOf(value) >> 52 & 0x7FF) != 0x7FF; }

inline void writeZeros(Buffer& out, int count) {
  for (; count > 0; --count) out.add('0');
}

/// A finite double in at most 17 digits that read back as the same bits; laid out as ECMAScript
/// does (ECMA-262, Number::toString).
inline void writeNumber(Buffer& out, double value) {
  const std::uint64_t bits = bitsOf(value);
  if (bits >> 63 != 0) out.add('-');
  if (bits << 1 == 0) return out.add(bits == 0 ? "0" : "0.0");
  const ShortestDigits shortest(bits << 1 >> 1);
  const std::string_view digits = shortest.digits();
  const int count = static_cast<int>(digits.size());
  const int point = shortest.exponent();
  if (point > 21 || point <= -6) {
    out.add(digits[0]);
    if (count > 1) out.add('.');
    out.add(digits.substr(1));
    out.add('e');
    return writeInteger(out, point - 1);
  }
  if (point <= 0) {
    out.add("0.");
    writeZeros(out, -point);
    return out.add(digits);
  }
  out.add(digits.substr(0, static_cast<std::size_t>(lesser(point, count))));
  writeZeros(out, point - count);
  if (count <= point) return;
  out.add('.');
  out.add(digits.substr(static_cast<std::size_t>(point)));
}

/// Whether JSON has such a value.
inline bool isSayable(const Value& value) {
  return value.kind() != Value::Kind::nothing && isFinite(value.number());
}

inline void writeValue(Buffer& out, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::boolean:
      return value.boolean() ? out.addLiteral("true") : out.addLiteral("false");
    case Value::Kind::integer: return writeInteger(out, value.integer());
    case Value::Kind::unsignedInteger: return writeUnsigned(out, value.unsignedInteger());
    case Value::Kind::text: return writeString(out, value.text());
    case Value::Kind::number: return writeNumber(out, value.number());
    case Value::Kind::nothing: break;
  }
}

inline bool isDigit(char c) { return c >= '0' && c <= '9'; }

/// Decimal digits, nothing else, that fit; false and unchanged otherwise.
inline bool readUnsigned(std::string_view text, std::uint64_t& value) {
  std::uint64_t result = 0;
  for (const char c : text) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (!isDigit(c) || result > (UINT64_MAX - digit) / 10) return false;
    result = result * 10 + digit;
  }
  if (text.empty()) return false;
  value = result;
  return true;
}

/// Reads JSON once, from front to back. The first fault ends it: from then on nothing more is
/// found, and ok() is false. Strings come as they are written, checked, without their quotes.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  bool ok() const { return ok_; }
  /// Nothing but white space is left, and all before it was right.
  bool finished() { return ok_ && peek() == '\0' && at_ == end_; }
  /// The first character of what comes next, '\0' at the end.
  char peek() {
    while (at_ != end_ && *at_ <= ' ' && isSpace(*at_)) ++at_;
    return at_ == end_ ? '\0' : *at_;
  }
  /// Goes into an object or array.
  bool enter(char bracket) {
    first_ = true;
    return take(bracket);
  }
  /// Goes to the next element, or past the closing bracket and returns false.
  bool next(char bracket) {
    const bool first = first_;
    first_ = false;
    if (!ok_) return false;
    if (peek() == bracket) return ++at_, false;
    return first || take(',');
  }
  /// The same in an object: the next name, up to its value.
  bool nextName(std::string_view& name) { return next('}') && string(name) && take(':'); }
  /// The same where it is written exactly as `key`, from the comma before it to the colon.
  bool passes(std::string_view key) {
    const bool follows = ok_ && !first_ && static_cast<std::size_t>(end_ - at_) >= key.size() &&
                         std::memcmp(at_, key.data(), key.size()) == 0;
    if (follows) at_ += key.size();
    return follows;
  }

  bool string(std::string_view& raw) {
    if (!take('"')) return false;
    const char* const begin = at_;
    while (ok_ && (at_ = skipPlain(at_, end_)) != end_ && *at_ != '"') character();
    raw = {begin, static_cast<std::size_t>(at_ - begin)};
    return ok_ && take('"');
  }
  bool number(std::string_view& text) {
    peek();
    const char* const begin = at_;
    if (at_ != end_ && *at_ == '-') ++at_;
    if (at_ != end_ && *at_ == '0') ++at_;
    else digits();
    if (at_ != end_ && *at_ == '.') ++at_, digits();
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) exponent();
    text = {begin, static_cast<std::size_t>(at_ - begin)};
    return ok_;
  }
  bool word(std::string_view expected) {
    peek();
    const auto left = static_cast<std::size_t>(end_ - at_);
    if (std::string_view(at_, lesser(left, expected.size())) != expected) return fail();
    at_ += expected.size();
    return ok_;
  }
  /// A string, number, true, false or null; anything else is a fault.
  bool scalar() {
    std::string_view text;
    switch (peek()) {
      case '"': return string(text);
      case 't': return word("true");
      case 'f': return word("false");
      case 'n': return word("null");
      default: return number(text);
    }
  }
  /// Any value, nested up to 64 deep.
  bool skip() {
    std::uint64_t objects = 0;  // one bit a level: an object, or an array
    int depth = 0;
    do {
      open(objects, depth);
      close(objects, depth);
    } while (ok_ && depth > 0);
    return ok_;
  }
  const char* position() const { return at_; }

 private:
  static bool isSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  bool fail() { return ok_ = false; }
  bool take(char c) {
    if (!ok_ || peek() != c || at_ == end_) return fail();
    return ++at_, true;
  }
  void digits() {
    if (at_ == end_ || !isDigit(*at_)) fail();
    while (at_ != end_ && isDigit(*at_)) ++at_;
  }
  void exponent() {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    digits();
  }
  /// One character inside a string.
  void character() {
    if (*at_ == '\\') return escape();
    const Utf8 next = utf8At(at_, end_);
    if (!next.valid || static_cast<unsigned char>(*at_) < 0x20) fail();
    at_ += next.bytes;
  }
  void escape() {
    if (++at_ == end_) return void(fail());
    if (*at_ != 'u') {
      if (std::string_view("\"\\/bfnrt").find(*at_) == std::string_view::npos) fail();
      ++at_;
      return;
    }
    const unsigned unit = hexUnit();
    if (unit >= 0xDC00 && unit <= 0xDFFF) fail();
    if (unit < 0xD800 || unit > 0xDBFF) return;
    if (at_ == end_ || *at_ != '\\' || ++at_ == end_ || *at_ != 'u') return void(fail());
    const unsigned low = hexUnit();
    if (low < 0xDC00 || low > 0xDFFF) fail();
  }
  /// At the `u` of an escape; goes past its four digits.
  unsigned hexUnit() {
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i) {
      if (++at_ == end_) return fail(), 0u;
      const std::size_t digit = std::string_view("0123456789abcdefABCDEF").find(*at_);
      if (digit == std::string_view::npos) return fail(), 0u;
      unit = unit * 16 + static_cast<unsigned>(digit < 16 ? digit : digit - 6);
    }
    return ++at_, unit;
  }
  /// Goes down to the next scalar or empty bracket, over it.
  void open(std::uint64_t& objects, int& depth) {
    std::string_view name;
    while (peek() == '{' || peek() == '[') {
      const bool object = *at_ == '{';
      if (depth == 64) return void(fail());
      objects = objects << 1 | (object ? 1u : 0u);
      ++depth;
      ++at_;
      if (peek() == (object ? '}' : ']')) return;
      if (object && (!string(name) || !take(':'))) return;
    }
    scalar();
  }
  /// Goes up over closing brackets, to the start of the next value if there is one.
  void close(std::uint64_t& objects, int& depth) {
    std::string_view name;
    while (ok_ && depth > 0) {
      const bool object = (objects & 1) != 0;
      if (peek() != (object ? '}' : ']')) {
        if (take(',') && object && string(name)) take(':');
        return;
      }
      ++at_;
      objects >>= 1;
      --depth;
    }
  }

  const char* at_;
  const char* end_;
  bool ok_ = true;
  bool first_ = false;
};

inline void writeUtf8(Buffer& out, std::uint32_t code) {
  const auto tail = [code](unsigned shift) {
    return static_cast<char>(0x80 | (code >> shift & 0x3F));
  };
  if (code < 0x80) return out.add(static_cast<char>(code));
  char bytes[4] = {};
  std::size_t size = 0;
  if (code >= 0x10000) {
    bytes[size++] = static_cast<char>(0xF0 | code >> 18);
    bytes[size++] = tail(12);
  } else if (code >= 0x800) {
    bytes[size++] = static_cast<char>(0xE0 | code >> 12);
  }
  bytes[size++] = code < 0x800 ? static_cast<char>(0xC0 | code >> 6) : tail(6);
  bytes[size++] = tail(0);
  out.add({bytes, size});
}

inline std::uint32_t readHex(std::string_view digits) {
  std::uint32_t value = 0;
  for (const char c : digits) {
    const auto digit = static_cast<std::uint32_t>(isDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    value = value * 16 + digit;
  }
  return value;
}

/// One escape at the front of `raw`; returns how long it is.
inline std::size_t readEscape(std::string_view raw, Buffer& out) {
  if (raw[1] != 'u') {
    constexpr std::string_view from = "bfnrt", to = "\b\f\n\r\t";
    const std::size_t i = from.find(raw[1]);
    out.add(i == std::string_view::npos ? raw[1] : to[i]);
    return 2;
  }
  const std::uint32_t high = readHex(raw.substr(2, 4));
  const bool pair = high >= 0xD800 && high <= 0xDBFF;
  const std::uint32_t low = pair ? readHex(raw.substr(8, 4)) : 0;
  writeUtf8(out, pair ? 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00) : high);
  return pair ? 12 : 6;
}

/// The text that a string of JsonReader stands for.
inline void readString(std::string_view raw, Buffer& out) {
  while (!raw.empty()) {
    const std::size_t plain = lesser(raw.find('\\'), raw.size());
    out.add(raw.substr(0, plain));
    raw.remove_prefix(plain);
    if (!raw.empty()) raw.remove_prefix(readEscape(raw, out));
  }
}

/// Whether a string of JsonReader stands for `expected`, however it is escaped.
inline bool sameString(std::string_view raw, std::string_view expected) {
  if (raw.find('\\') == std::string_view::npos) return raw == expected;
  Fixed<32> text;
  readString(raw, text);
  return !text.full() && text.view() == expected;
}

// ==== 6. Privacy ==== consent, redaction, ids that identify nobody ====
// Pure rules. While tracking is off nothing is collected, written or sent, and no id exists. What
// is personal leaves a text before its size is checked; a text that holds nothing costs a look.

// ---- consent ----

/// What the environment's DO_NOT_TRACK says where it is set.
inline bool asksNotToTrack(std::string_view variable) {
  return variable != "0" && variable != "false";
}

/// Whether tracking begins enabled: the remembered answer, else the environment, else the options.
inline bool enabledAtStart(Consent remembered, bool doNotTrack, bool disableTracking) {
  if (remembered != Consent::notAsked) return remembered == Consent::granted;
  return !doNotTrack && !disableTracking;
}

/// The answer as it stands in the first line of the file.
inline std::string_view consentWord(Consent consent) {
  return consent == Consent::granted ? "granted" : consent == Consent::refused ? "refused" : "-";
}

// ---- redaction ----

/// What is looked for in a text.
enum class Redaction : unsigned char { none, allButIpv4, all };

/// A set of bytes.
class CharacterSet {
 public:
  constexpr explicit CharacterSet(std::string_view members) : has_() {
    for (const char c : members) add(static_cast<unsigned char>(c));
  }
  /// And all from the first to the last.
  constexpr CharacterSet with(unsigned first, unsigned last) const {
    CharacterSet more = *this;
    for (unsigned byte = first; byte <= last; ++byte) more.add(byte);
    return more;
  }
  constexpr bool has(char c) const {
    const auto byte = static_cast<unsigned char>(c);
    return (has_[byte >> 6] >> (byte & 63) & 1) != 0;
  }

 private:
  constexpr void add(unsigned byte) { has_[byte >> 6] |= std::uint64_t{1} << (byte & 63); }

  std::uint64_t has_[4];
};

inline bool isLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline char toLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
inline bool isHex(char c) { return isDigit(c) || (toLower(c) >= 'a' && toLower(c) <= 'f'); }
inline bool isSeparator(char c) { return c == '/' || c == '\\'; }
inline bool isBlank(char c) { return static_cast<unsigned char>(c) <= ' '; }
inline bool isWord(char c) {
  static constexpr CharacterSet words =
      CharacterSet("_").with('0', '9').with('a', 'z').with('A', 'Z').with(0x80, 0xFF);
  return words.has(c);
}

inline bool isSameIgnoringCase(std::string_view a, std::string_view b) {
  std::size_t i = 0;
  while (i < a.size() && i < b.size() && toLower(a[i]) == toLower(b[i])) ++i;
  return i == a.size() && i == b.size();
}
inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && isBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && isBlank(text.back())) text.remove_suffix(1);
  return text;
}

struct Character {
  char value;
  std::size_t bytes;
};

/// What the `%` at `at` begins: a character in percent-encoding (RFC 3986), up to three times over.
inline Character encodedAt(std::string_view text, std::size_t at) {
  std::size_t digits = at + 1;
  while (digits < at + 5 && text.substr(digits, 2) == "25") digits += 2;
  if (digits + 2 > text.size() || !isHex(text[digits]) || !isHex(text[digits + 1])) return {'%', 1};
  return {static_cast<char>(readHex(text.substr(digits, 2))), digits + 2 - at};
}
/// The character at `at`, seen through percent-encoding.
inline Character characterAt(std::string_view text, std::size_t at) {
  return text[at] == '%' ? encodedAt(text, at) : Character{text[at], 1};
}

inline bool isIpv4(std::string_view text) {
  for (int group = 0; group < 4; ++group) {
    const std::string_view digits = text.substr(0, text.find('.'));
    std::uint64_t value = 0;
    if (digits.size() > 3 || !readUnsigned(digits, value) || value > 255) return false;
    if ((digits.size() == text.size()) != (group == 3)) return false;
    text.remove_prefix(lesser(digits.size() + 1, text.size()));
  }
  return true;
}

/// The eight groups of an IPv6 address (RFC 4291, 2.2).
class Ipv6 {
 public:
  explicit Ipv6(std::string_view text) {
    while (valid_ && !text.empty()) takeGroup(text);
    valid_ = valid_ && (gap_ == none ? count_ == 8 : count_ < 8);
  }
  /// Not a word of a program that looks like one: global, unique local, link-local, or IPv4-mapped.
  bool isAddress() const {
    const unsigned first = gap_ == 0 ? 0u : groups_[0];
    return valid_ &&
           ((first >= 0x2000 && first <= 0x3FFF) || (first >= 0xFC00 && first <= 0xFDFF) ||
            (first >= 0xFE80 && first <= 0xFEBF) || isMapped());
  }

 private:
  static constexpr std::size_t none = SIZE_MAX;

  void takeGroup(std::string_view& text) {
    if (text.substr(0, 2) == "::" && gap_ == none) {
      gap_ = count_;
      return text.remove_prefix(2);
    }
    const bool follows = count_ > 0 && gap_ != count_;
    if (follows && text[0] != ':') return void(valid_ = false);
    if (follows) text.remove_prefix(1);
    if (count_ <= 6 && isIpv4(text)) {
      count_ += 2;
      return text.remove_prefix(text.size());
    }
    std::size_t digits = 0;
    while (digits < text.size() && digits < 5 && isHex(text[digits])) ++digits;
    valid_ = digits > 0 && digits < 5 && count_ < 8;
    if (!valid_) return;
    groups_[count_++] = readHex(text.substr(0, digits));
    text.remove_prefix(digits);
  }
  /// ::ffff:a.b.c.d, however the zeros are written.
  bool isMapped() const {
    const std::size_t zeros = gap_ == none ? 0 : 8 - count_;
    for (std::size_t i = 0; i < 6; ++i) {
      const bool inGap = gap_ != none && i >= gap_ && i < gap_ + zeros;
      const std::size_t at = gap_ != none && i >= gap_ + zeros ? i - zeros : i;
      const unsigned group = inGap ? 0u : groups_[at];
      if (group != (i == 5 ? 0xFFFFu : 0u)) return false;
    }
    return true;
  }

  unsigned groups_[8] = {};
  std::size_t count_ = 0, gap_ = none;
  bool valid_ = true;
};

/// `text` without what follows `mark`, if that is a number: a port, or the length of a prefix.
inline std::string_view withoutNumber(std::string_view text, char mark) {
  const std::size_t at = text.rfind(mark);
  std::uint64_t number = 0;
  const bool found = at != std::string_view::npos && readUnsigned(text.substr(at + 1), number);
  return found ? text.substr(0, at) : text;
}

inline bool isIp(std::string_view text, bool v4) {
  text = withoutNumber(text, '/');
  if (!text.empty() && text[0] == '[') {
    text = withoutNumber(text, ':');
    if (text.back() != ']') return false;
    text = text.substr(1, text.size() - 2);
  }
  if (isIpv4(withoutNumber(text, ':'))) return v4;
  const std::size_t zone = text.find('%');
  const bool oneWord = text.find_first_of(" @[]~") == std::string_view::npos;
  return oneWord && Ipv6(text.substr(0, zone)).isAddress();
}

/// EUI-48 or EUI-64: pairs of hex digits between `:` or `-`, or fours between dots.
inline bool isMac(std::string_view text) {
  const bool dotted = text.size() == 14 || text.size() == 19;
  if (!dotted && text.size() != 17 && text.size() != 23) return false;
  const std::size_t group = dotted ? 4 : 2;
  if (!CharacterSet(dotted ? "." : ":-").has(text[group])) return false;
  bool letter = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool between = i % (group + 1) == group;
    if (between ? text[i] != text[group] : !isHex(text[i])) return false;
    letter = letter || isLetter(text[i]);
  }
  return letter;
}

/// E.164 in writing: `+`, then 8 to 15 digits, among blanks, dots, dashes, slashes and brackets.
inline bool isPhone(std::string_view text) {
  static constexpr CharacterSet between(
      " .-/()[]\xC2\xA0\xE2\x80\x91\xAF");  // also unbreakable ones
  if (isSameIgnoringCase(text.substr(0, 4), "tel:")) text.remove_prefix(4);
  const std::size_t plus = text.find_first_not_of("([");
  if (plus == std::string_view::npos || text[plus] != '+') return false;
  std::size_t digits = 0;
  for (const char c : text.substr(plus + 1)) {
    if (isDigit(c) && ++digits == 1 && c == '0') return false;
    if (!isDigit(c) && !between.has(c)) return false;
  }
  return digits >= 8 && digits <= 15;
}

/// What stands in place of a text that as a whole is personal; "" where it is not.
inline std::string_view markOfWhole(std::string_view text, Redaction redaction) {
  constexpr std::size_t longest = 80;
  static constexpr CharacterSet beginnings("+([:%tT");
  const bool possible =
      text.size() > 2 && text.size() <= longest && (isHex(text[0]) || beginnings.has(text[0]));
  if (!possible) return {};
  if (isPhone(text)) return "[phone]";
  if (isMac(text)) return "[mac]";
  if (isIp(text, redaction == Redaction::all)) return "[ip]";
  Fixed<longest> decoded;
  for (std::size_t at = 0; at < text.size();) {
    const Character next = characterAt(text, at);
    decoded.add(next.value);
    at += next.bytes;
  }
  return decoded.size() < text.size() ? markOfWhole(decoded.view(), redaction) : "";
}

/// Where people have their home folders. `/` is any number of separators of either kind, `?` a
/// drive; where there is one, case does not matter.
constexpr char homeRoots[][28] = {"/home/",     "/Users/",       "/var/home/",
                                  "/usr/home/", "/export/home/", "/System/Volumes/Data/Users/",
                                  "/?/Users/",  "/mnt/?/Users/", "/cygdrive/?/Users/",
                                  "/?:/Users/", "?:/Users/",     "?:/Documents and Settings/"};

/// Looks for e-mail addresses and home folders, front to back, at each byte a few times at most.
class Finder {
 public:
  struct Match {
    std::size_t begin = 0, end = 0;
    std::string_view mark = {};  // "": there is none
  };

  explicit Finder(std::string_view text) : text_(text) {}

  /// The first one from `at` on.
  Match find(std::size_t at) {
    word_ = at;
    inUrl_ = false;
    before_ = at == 0 ? ' ' : ']';
    beforeThat_ = ' ';
    quote_ = openingQuote_ = 0;
    for (; at < text_.size(); at = restOfWord(at)) {
      const Character next = characterAt(text_, at);
      if (mayBegin(next.value)) {
        const Match match = next.value == '@' ? address(at, next.bytes) : home(at, next.value);
        if (!match.mark.empty()) return match;
      }
      at = pass(at, next);
    }
    return {text_.size(), text_.size(), {}};
  }

 private:
  static bool mayBegin(char c) { return c == '@' || isSeparator(c) || isLetter(c); }
  char valueAt(std::size_t at) const {
    return at < text_.size() ? characterAt(text_, at).value : '\0';
  }
  std::size_t after(std::size_t at) const {
    return at < text_.size() ? at + characterAt(text_, at).bytes : at;
  }

  // ---- addresses ----

  /// RFC 5322's local part, but for what separates in a URL and the mark `~`; or one in quotes.
  static bool isLocal(char c) {
    static constexpr CharacterSet marks(".+-'#$!^*`{|}%");
    return isWord(c) || marks.has(c);
  }
  Match address(std::size_t at, std::size_t bytes) const {
    constexpr std::size_t longestLocal = 66;
    const bool quoted = before_ == '"' && openingQuote_ > 0 && at - openingQuote_ < longestLocal;
    const std::size_t begin = quoted ? openingQuote_ - 1 : word_;
    const std::size_t end = begin < at ? domainEnd(at + bytes) : 0;
    return end == 0 ? Match() : Match{begin, end, "[email]"};
  }
  /// Past the longest domain at `at` that ends as one can; 0 where there is none.
  std::size_t domainEnd(std::size_t at) const {
    if (valueAt(at) == '[') return literalEnd(at);
    std::size_t end = 0, label = at, labels = 1;
    for (bool more = true; more; at = after(at)) {
      const char c = valueAt(at);
      if (c != '_' && isWord(c)) continue;
      if (labels > 1 && isTop(label, at)) end = at;
      more = c == '-' || (c == '.' && at > label);
      if (c == '.') ++labels, label = after(at);
    }
    return end;
  }
  /// Of an IP address in brackets.
  std::size_t literalEnd(std::size_t at) const {
    const std::string_view rest = text_.substr(at, 60);
    const std::size_t end = rest.find(']');
    if (end == std::string_view::npos) return 0;
    std::string_view inside = rest.substr(1, end - 1);
    if (isSameIgnoringCase(inside.substr(0, 5), "IPv6:")) inside.remove_prefix(5);
    return isIpv4(inside) || Ipv6(inside).isAddress() ? at + end + 1 : 0;
  }
  /// A top-level domain, as far as its form tells, and nothing that is known to be something else.
  bool isTop(std::size_t at, std::size_t end) const {
    constexpr std::size_t longest = 127;
    static constexpr char others[][8] = {
        // no pointers to be relocated
        "latest", "next", "beta", "alpha", "canary", "nightly", "stable", "png", "jpg",
        "jpeg",   "gif",  "webp", "svg",   "bmp",    "ico",     "tga",    "dds", "ktx",
        "psd",    "mp3",  "mp4",  "ogg",   "wav",    "json",    "xml",    "css", "js",
        "ts",     "html", "txt",  "pdf",   "dll",    "exe",     "cpp",    "hpp"};
    const std::string_view label = text_.substr(at, end - at);
    if (label.size() < 2 || label.size() > longest) return false;
    if (isSameIgnoringCase(label.substr(0, 4), "xn--")) return label.size() > 4;
    for (; at < end; at = after(at)) {
      if (!isWord(valueAt(at)) || isDigit(valueAt(at))) return false;
    }
    for (const std::string_view other : others) {
      if (isSameIgnoringCase(label, other)) return false;
    }
    return true;
  }

  // ---- home folders ----

  static bool namesDrive(std::string_view root) { return root.find('?') != std::string_view::npos; }
  Match home(std::size_t at, char c) const {
    const bool path = isSeparator(c) && pathMayBegin();
    const bool drive = isLetter(c) && !isWord(before_) && !inUrl_ && valueAt(after(at)) == ':';
    if (!path && !drive) return {};
    for (const std::string_view root : homeRoots) {
      if ((root[0] == '/') != path) continue;
      const std::size_t name = pastRoot(at, root);
      const std::size_t end = name == 0 ? 0 : nameEnd(name, namesDrive(root));
      if (end > name) return {at, end, "~"};
    }
    return {};
  }
  /// Not in the middle of a path, in that of a URL, or behind what stands for the front of one.
  bool pathMayBegin() const {
    static constexpr CharacterSet marks("_-.~/\\])}%@*#?");
    const bool inside = isLetter(before_) || isDigit(before_) || marks.has(before_);
    const bool upwards = before_ == '.' && beforeThat_ == '.';
    return !inUrl_ && (!inside || upwards);
  }
  /// Where the name of the person begins; 0 where the text is not `root`.
  std::size_t pastRoot(std::size_t at, std::string_view root) const {
    const bool anyCase = namesDrive(root);
    for (const char expected : root) {
      const char c = valueAt(at);
      const bool same = expected == '/'   ? isSeparator(c)
                        : expected == '?' ? isLetter(c)
                        : anyCase         ? toLower(c) == toLower(expected)
                                          : c == expected;
      if (!same) return 0;
      at = after(at);
      if (expected == '/') at = pastSeparators(at);
    }
    return at;
  }
  std::size_t pastSeparators(std::size_t at) const {
    while (isSeparator(valueAt(at))) at = after(at);
    return at;
  }
  /// `spaced`: on Windows a name may hold blanks. It ends at the next separator then or, where
  /// there is none, with what may be one name: rather too much goes than half of it stays.
  std::size_t nameEnd(std::size_t begin, bool spaced) const {
    std::size_t end = begin;
    for (std::size_t at = begin; at < text_.size() && !isSeparator(valueAt(at)); at = after(at)) {
      const bool space = text_[at] == ' ';
      const bool joins = spaced && at > begin && !pathBeginsAt(at + 1);
      if (space ? !joins : endsName(at, valueAt(at))) break;
      if (!space) end = after(at);
    }
    return end;
  }
  bool endsName(std::size_t at, char c) const {
    static constexpr CharacterSet marks("\"`<>|:;,()[]{}?*&#=!");
    if (c == '\'') return !isWord(valueAt(at + 1));
    return static_cast<unsigned char>(c) < ' ' || marks.has(c);
  }
  bool pathBeginsAt(std::size_t at) const {
    return isSeparator(valueAt(at)) || (isLetter(valueAt(at)) && valueAt(after(at)) == ':');
  }

  // ---- going on ----

  /// Within a word nothing begins.
  std::size_t restOfWord(std::size_t at) {
    if (!isWord(before_)) return at;
    for (; at < text_.size() && isWord(text_[at]); ++at) {
      beforeThat_ = std::exchange(before_, text_[at]);
    }
    return at;
  }
  /// Past this character, and past the host of a file: where its path begins.
  std::size_t pass(std::size_t at, Character next) {
    static constexpr CharacterSet endsUrl("\"'<>(){}|\\,;=");
    const std::size_t rest = at + next.bytes;
    const char c = next.value;
    if (isWord(c)) return beforeThat_ = std::exchange(before_, c), rest;
    if (c == ':' && isWord(before_) && valueAt(rest) == '/' && valueAt(after(rest)) == '/') {
      return beginUrl(at, after(after(rest)));
    }
    if (isSeparator(c) && isSeparator(valueAt(rest)) && pathMayBegin()) {
      const std::size_t host = pastSeparators(rest);
      const bool ofWsl = isSameIgnoringCase(text_.substr(host, 3), "wsl");
      if (c == '\\' || ofWsl) return pastHost(host);
    }
    if (isBlank(c) || endsUrl.has(c)) inUrl_ = false;
    if (c == ']' || c == '~') quote_ = 0;  // as behind a mark
    if (c == '"') openingQuote_ = std::exchange(quote_, at + 1);
    if (!isLocal(c) || word_ == at) word_ = rest;
    beforeThat_ = std::exchange(before_, c);
    return rest;
  }
  std::size_t beginUrl(std::size_t at, std::size_t host) {
    const bool ofFile = isSameIgnoringCase(text_.substr(word_, at - word_), "file");
    if (ofFile || isSeparator(valueAt(host))) return pastHost(host);
    inUrl_ = true;
    before_ = '/';
    return word_ = host;
  }
  /// And past the folder that it shares, where that holds homes, as in `//wsl$/Ubuntu/home/x`.
  std::size_t pastHost(std::size_t host) {
    const std::size_t path = pastWord(host);
    const std::size_t share = pastWord(pastSeparators(path));
    const bool holdsHomes = pastRoot(share, "/home/") != 0 || pastRoot(share, "/Users/") != 0;
    before_ = ' ';
    word_ = host;
    return path > host && holdsHomes ? word_ = share : path;
  }
  std::size_t pastWord(std::size_t at) const {
    static constexpr CharacterSet marks(".-$");
    const auto isPart = [&](char c) { return isWord(c) || marks.has(c); };
    while (!pathBeginsAt(at) && isPart(valueAt(at))) at = after(at);
    return at;
  }

  std::string_view text_;
  std::size_t word_ = 0;  // where the local part of an address may begin
  bool inUrl_ = false;
  char before_ = ' ', beforeThat_ = ' ';
  std::size_t quote_ = 0, openingQuote_ = 0;  // the last two, counted from 1
};

/// What a look at a text tells, which is all that most texts cost.
class Look {
 public:
  static constexpr unsigned char special = 1;  // there is something that is not plain,
  static constexpr unsigned char inside = 2;   // there may be something personal inside,
  static constexpr unsigned char whole = 4;    // or it may be personal as a whole
  static constexpr unsigned char suspicious = inside | whole;

  constexpr Look() : of_() {
    for (int c = 0; c < 256; ++c) of_[c] = isPlain(static_cast<char>(c)) ? 0 : special;
    for (const char c : {'@', '/', '\\', '%'}) of_[static_cast<unsigned char>(c)] |= inside;
    for (const char c : {'.', ':', '-', '+', '%'}) of_[static_cast<unsigned char>(c)] |= whole;
  }
  unsigned at(std::string_view text) const {
    const char* at = text.data();
    const char* const end = at + text.size();
    unsigned seen = 0;
    if (NUCLEUS_SMALL) return among(at, end);
    for (; end - at >= 16; at += 16) seen |= inBlock(at, at + 8, at, at + 16);
    return seen | (end - at >= 8 ? inBlock(at, end - 8, at, end) : among(at, end));
  }

 private:
  /// From `at` to `end`, which is all that the two eights hold: mostly words alone.
  unsigned inBlock(const char* first, const char* second, const char* at, const char* end) const {
    return Block::isAny(Block(first, second).notWord()) ? among(at, end) : 0;
  }
  unsigned among(const char* at, const char* end) const {
    unsigned seen = 0;
    for (; at != end; ++at) seen |= of_[static_cast<unsigned char>(*at)];
    return seen;
  }
  unsigned char of_[256];
};
inline constexpr Look look;

/// A text without what is personal, as stretches of it and marks: `while (pieces.next(piece))`.
class Pieces {
 public:
  Pieces(std::string_view text, Redaction redaction)
      : Pieces(text, redaction, redaction == Redaction::none ? 0 : look.at(text)) {}
  /// Of a text that was looked at.
  Pieces(std::string_view text, Redaction redaction, unsigned seen) : text_(text), finder_(text) {
    suspicious_ = (seen & Look::inside) != 0;
    if ((seen & Look::whole) != 0) mark_ = markOfWhole(trimmed(text), redaction);
    if (!mark_.empty()) at_ = text.size();
  }
  bool next(std::string_view& piece) {
    if (!mark_.empty()) return piece = std::exchange(mark_, {}), true;
    if (at_ == text_.size()) return false;
    const Finder::Match match =
        suspicious_ ? finder_.find(at_) : Finder::Match{text_.size(), text_.size(), {}};
    piece = text_.substr(at_, match.begin - at_);
    at_ = match.end;
    mark_ = match.mark;
    return !piece.empty() || next(piece);
  }

 private:
  std::string_view text_, mark_;
  Finder finder_;
  std::size_t at_ = 0;
  bool suspicious_ = false;
};

inline bool isPersonal(std::string_view text) {
  if ((look.at(text) & Look::suspicious) == 0) return false;
  std::string_view piece;
  const bool any = Pieces(text, Redaction::all).next(piece);
  return any && (piece.data() != text.data() || piece.size() != text.size());
}

// ---- ids that identify nobody ----

constexpr char urlSafe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

inline std::uint32_t rotateRight(std::uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

/// SHA-256 (FIPS 180-4).
class Sha256 {
 public:
  static constexpr std::size_t blockBytes = 64, digestBytes = 32;
  using Digest = unsigned char[digestBytes];

  void add(std::string_view text) {
    for (const char c : text) addByte(static_cast<unsigned char>(c));
  }
  /// Once.
  void finish(Digest& digest) {
    const std::uint64_t bits = bytes_ * 8;
    addByte(0x80);
    while (bytes_ % blockBytes != blockBytes - 8) addByte(0);
    for (int shift = 56; shift >= 0; shift -= 8) addByte(static_cast<unsigned char>(bits >> shift));
    for (std::size_t i = 0; i < digestBytes; ++i) {
      digest[i] = static_cast<unsigned char>(state_[i / 4] >> (24 - i % 4 * 8));
    }
  }

 private:
  void addByte(unsigned char byte) {
    std::uint32_t& word = words_[bytes_ % blockBytes / 4];
    word = word << 8 | byte;
    if (++bytes_ % blockBytes == 0) mix();
  }
  static std::uint32_t sigma(std::uint32_t x, int a, int b, int shift) {
    return rotateRight(x, a) ^ rotateRight(x, b) ^ x >> shift;
  }
  static std::uint32_t sum(std::uint32_t x, int a, int b, int c) {
    return rotateRight(x, a) ^ rotateRight(x, b) ^ rotateRight(x, c);
  }
  void mix() {
    std::uint32_t s[8];
    for (int i = 0; i < 8; ++i) s[i] = state_[i];
    for (unsigned round = 0; round < 64; ++round) {
      std::uint32_t& word = words_[round % 16];
      if (round >= 16) {
        word += sigma(words_[(round + 1) % 16], 7, 18, 3) + words_[(round + 9) % 16] +
                sigma(words_[(round + 14) % 16], 17, 19, 10);
      }
      const std::uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
      const std::uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
      const std::uint32_t first = s[7] + sum(s[4], 6, 11, 25) + choice + constants[round] + word;
      for (int i = 7; i > 0; --i) s[i] = s[i - 1];
      s[4] += first;
      s[0] = first + sum(s[1], 2, 13, 22) + majority;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
  }

  static constexpr std::uint32_t constants[64] = {  // of the cube roots of the first 64 primes
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,  // of square roots
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint32_t words_[16] = {};
  std::uint64_t bytes_ = 0;
};

/// HMAC-SHA-256 (RFC 2104), of the text in lower case if wanted.
inline void hmac(std::string_view key, std::string_view text, Sha256::Digest& digest,
                 bool lowers = false) {
  Sha256::Digest hashed;
  Sha256 inner, outer, ofKey;
  if (key.size() > Sha256::blockBytes) {
    ofKey.add(key);
    ofKey.finish(hashed);
    key = {reinterpret_cast<const char*>(hashed), sizeof hashed};
  }
  for (std::size_t i = 0; i < Sha256::blockBytes; ++i) {
    const int byte = i < key.size() ? key[i] : 0;
    const char padded[] = {static_cast<char>(byte ^ 0x36), static_cast<char>(byte ^ 0x5C)};
    inner.add({padded, 1});
    outer.add({padded + 1, 1});
  }
  for (const char c : text) {
    const char one[] = {lowers ? toLower(c) : c};
    inner.add({one, 1});
  }
  inner.finish(digest);
  outer.add({reinterpret_cast<const char*>(digest), sizeof digest});
  outer.finish(digest);
}

/// The first 132 bits of an HMAC, as 22 characters of URL-safe base64 (RFC 4648, 5).
inline void writeHashed(Buffer& out, std::string_view text, std::string_view key,
                        bool lowers = false) {
  Sha256::Digest digest;
  hmac(key, text, digest, lowers);
  for (std::size_t bit = 0; bit < 132; bit += 6) {
    const unsigned pair = unsigned{digest[bit / 8]} << 8 | digest[bit / 8 + 1];
    out.add(urlSafe[pair >> (10 - bit % 8) & 63]);
  }
}

inline bool holdsAddress(std::string_view text) {
  Finder finder(text);
  Finder::Match match = finder.find(0);
  while (match.mark == "~") match = finder.find(match.end);
  return !match.mark.empty();
}

/// An identifier under a key. Blanks around and the case of an e-mail address do not matter.
inline void writeAnonymized(Buffer& out, std::string_view identifier, std::string_view key) {
  const bool address = holdsAddress(identifier);
  writeHashed(out, address ? trimmed(identifier) : identifier, key, address);
}

inline bool isIdentifier(std::string_view text) {
  for (const char c : text) {
    if (!isLetter(c) && !isDigit(c) && c != '-' && c != '_') return false;
  }
  return !text.empty() && text.size() <= 64;
}

/// Unpredictable numbers from 32 bytes of the system's entropy: xoshiro256** (Blackman, Vigna).
class Random {
 public:
  bool seed(const std::function<bool(void*, std::size_t)>& entropy) {
    seeded_ =
        entropy(state_, sizeof state_) && (state_[0] | state_[1] | state_[2] | state_[3]) != 0;
    return seeded_;
  }
  bool seeded() const { return seeded_; }
  std::uint64_t next() {
    const std::uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }
  /// From `lowest` to `highest`, both included.
  std::int64_t between(std::int64_t lowest, std::int64_t highest) {
    const auto span = static_cast<std::uint64_t>(highest - lowest) + 1;
    return lowest + static_cast<std::int64_t>((next() >> 1) % span);
  }
  void writeId(Buffer& out, int characters) {
    for (; characters > 0; --characters) out.add(urlSafe[next() >> 58]);
  }

 private:
  static std::uint64_t rotate(std::uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

  std::uint64_t state_[4] = {};
  bool seeded_ = false;
};

// ==== 7. Encode ==== an event becomes its JSON, once ====
// The table of fields is all that is ever sent or kept, and what the user is told of it. The order
// of an event's is that on the wire; what stays the same for a session is escaped once, into the
// tail.

enum class Type : unsigned char { init, event, error, userId, props, view };

constexpr std::string_view typeNames[] = {"init",   "event", "error",
                                          "userid", "props", "nucleus:view"};

// clang-format off
enum class Field : unsigned char {
  type, name, id, date, payload, sessionId, userId, anonId, deviceId,
  client, platform, osVersion, totalRam, version, locale, language, arch, moduleVersion,
  message, stack, machineId, data, appId, props, retryAtMs, retryForMs,
  consent, cacheFile, complete, events
};
// clang-format on

struct FieldRule {
  std::string_view key;  // as it is written; the first one follows the opening brace
  char kind;             // of its value: s string, n number, o object, a array, b boolean
  bool personal;         // tells a person or a device from others, or may
  std::string_view when, purpose;
};

constexpr std::string_view everyEvent = "every event", onStart = "init and errors",
                           onDevice = "the file on the device, exportData()",
                           inExport = "exportData() alone";

constexpr FieldRule fieldRules[] = {
    {"{\"type\":", 's', false, everyEvent,
     "what happened: a start, an event, a view, an error, another user"},
    {",\"name\":", 's', false, "events, views, errors", "which event, page, screen or error"},
    {",\"id\":", 'n', false, everyEvent, "a number by which the server confirms the event"},
    {",\"date\":", 'n', false, everyEvent, "the time; of a start, half a second earlier"},
    {",\"payload\":", 'o', true, "events, views, errors, init, props",
     "the event's properties, the user's, or what is said of the error"},
    {",\"sessionId\":", 'n', false, everyEvent, "a random number for one stretch of use"},
    {",\"userId\":", 's', true, "every event after setUserId()",
     "the program's own id of its user, or a hash of it"},
    {",\"anonId\":", 's', true, everyEvent, "an id that tells one user from another"},
    {",\"deviceId\":", 's', true, everyEvent, "an id that tells one device from another"},
    {",\"client\":", 's', false, onStart, "the kind of client: cpp"},
    {",\"platform\":", 's', false, onStart, "the kind of system"},
    {",\"osVersion\":", 's', false, onStart, "the version of the system"},
    {",\"totalRam\":", 'n', false, onStart, "the memory of the device in GB"},
    {",\"version\":", 's', false, onStart, "the version of the program"},
    {",\"locale\":", 's', false, onStart, "the language and region of the user"},
    {",\"language\":", 's', false, onStart, "the same"},
    {",\"arch\":", 's', false, onStart, "the kind of processor"},
    {",\"moduleVersion\":", 's', false, onStart, "the version of this library"},
    {"{\"message\":", 's', true, "errors", "what the error says"},
    {",\"stack\":", 's', true, "errors", "where in the program it happened"},
    {",\"machineId\":", 's', true, "the heartbeat of a WebSocket", "the same as deviceId"},
    {"{\"data\":", 'a', true, "every request", "the list of events"},
    {"{\"appId\":", 's', false, onDevice,
     "which program it is; the address of a request has it too"},
    {",\"props\":", 'o', true, onDevice, "the user's properties"},
    {",\"retryAtMs\":", 'n', false, onDevice, "when the server may be asked again"},
    {",\"retryForMs\":", 'n', false, onDevice, "how long it is not to be asked"},
    {",\"consent\":", 's', false, inExport, "the user's choice"},
    {",\"cacheFile\":", 's', true, inExport, "where the file on the device is"},
    {",\"complete\":", 'b', false, inExport, "whether all that is held could be read"},
    {",\"events\":", 'a', true, inExport, "the events that wait to be sent"}};

constexpr std::size_t fieldCount = sizeof fieldRules / sizeof fieldRules[0];
constexpr std::size_t eventFieldCount = static_cast<std::size_t>(Field::moduleVersion) + 1;

/// Of the table what encoding needs: a program that never asks for the words does not hold them.
struct Keys {
  std::string_view of[fieldCount];
  char kind[fieldCount];

  constexpr Keys() : of(), kind() {
    for (std::size_t i = 0; i < fieldCount; ++i)
      of[i] = fieldRules[i].key, kind[i] = fieldRules[i].kind;
  }
};
inline constexpr Keys wireKeys;

constexpr std::string_view keyOf(Field field) {
  return wireKeys.of[static_cast<std::size_t>(field)];
}
/// Without its quotes and what is around them.
constexpr std::string_view nameOf(Field field) {
  return keyOf(field).substr(2, keyOf(field).size() - 4);
}

/// `text` without what is personal, as much as fits.
inline void addRedacted(Buffer& out, std::string_view text, Redaction redaction) {
  Pieces pieces(text, redaction);
  for (std::string_view piece; pieces.next(piece);) out.add(piece.substr(0, out.room()));
}

/// `text` as a JSON string.
inline std::string jsonOf(std::string_view text) {
  std::string json(6 * text.size() + 2, '\0');
  Buffer out(json.data(), json.size());
  writeString(out, text);
  json.resize(out.size());
  return json;
}

/// The same without what is personal, of a text where something was `seen`.
inline void writeSeen(Buffer& out, std::string_view text, unsigned seen, Redaction redaction) {
  const bool suspicious = redaction != Redaction::none && (seen & Look::suspicious) != 0;
  if (!suspicious) return writeString(out, text);
  Pieces pieces(text, redaction, seen);
  out.add('"');
  for (std::string_view piece; pieces.next(piece);) writeEscaped(out, piece);
  out.add('"');
}
inline void writeRedacted(Buffer& out, std::string_view text, Redaction redaction) {
  const unsigned seen = look.at(text);
  if (seen == 0) out.addQuoted(text);
  else writeSeen(out, text, seen, redaction);
}

/// A version may look like an IP address; `server` holds none.
inline bool namesVersion(std::string_view name) {
  static constexpr CharacterSet ends("nrdNRD");
  if (name.empty() || !ends.has(name.back())) return false;  // as those words end
  for (const std::string_view word : {"version", "ver", "build", "driver"}) {
    if (name.size() < word.size()) continue;
    const std::size_t at = name.size() - word.size();
    if (!isSameIgnoringCase(name.substr(at), word)) continue;
    const bool begins =
        at == 0 || !isLetter(name[at - 1]) || (name[at] == 'V' && name[at - 1] >= 'a');
    if (word != "ver" || begins) return true;
  }
  return false;
}

/// For the value of a property of that name.
inline Redaction redactionOf(std::string_view name, Redaction redaction) {
  return redaction == Redaction::all && namesVersion(name) ? Redaction::allButIpv4 : redaction;
}

inline void writeText(Buffer& out, Field field, std::string_view text,
                      Redaction redaction = Redaction::none) {
  if (text.empty()) return;
  out.add(keyOf(field));
  writeRedacted(out, text, redaction);
}

/// What is known when the program is built takes no loop to copy.
template <Field field>
void writeKey(Buffer& out) {
  constexpr std::string_view key = keyOf(field);
  if (char* const to = out.take(key.size())) std::memcpy(to, key.data(), key.size());
}

inline void writeCount(Buffer& out, Field field, std::uint64_t value) {
  out.add(keyOf(field));
  writeUnsigned(out, value);
}

/// A field, or nothing where it does not fit.
template <class Value>
void writeIfFits(Buffer& out, Field field, const Value& value) {
  const std::size_t before = out.size();
  if constexpr (std::is_integral_v<Value>) writeCount(out, field, value);
  else writeText(out, field, value);
  if (out.full()) out.cut(before);
}

/// What the program runs on, told in `init` and `error`.
struct Device {
  Fixed<64> version, locale, platform, osVersion;
  std::string_view arch;  // constant
  std::uint64_t totalRamGb = 0;

  void write(Buffer& out) const {
    writeIfFits(out, Field::client, std::string_view("cpp"));
    writeIfFits(out, Field::platform, platform.view());
    writeIfFits(out, Field::osVersion, osVersion.view());
    if (totalRamGb != 0) writeIfFits(out, Field::totalRam, totalRamGb);
    writeIfFits(out, Field::version, version.view());
    writeIfFits(out, Field::locale, locale.view());
    writeIfFits(out, Field::language, locale.view());
    writeIfFits(out, Field::arch, arch);
    writeIfFits(out, Field::moduleVersion, std::string_view(NUCLEUS_VERSION));
  }
};

/// Who sends: two random ids, and what the host says of its user.
struct Identity {
  Fixed<64> deviceId, anonId;
  Buffer userId;  // as given
  Buffer props;   // the members of a JSON object, without its braces

  void write(Buffer& out) const {
    writeIfFits(out, Field::userId, userId.view());
    writeIfFits(out, Field::anonId, anonId.view());
    writeIfFits(out, Field::deviceId, deviceId.view());
  }
};

/// What the caller said, not yet JSON.
struct Event {
  Type type = Type::event;
  std::string_view name = {};
  Properties properties = {};
  std::string_view message = {}, stack = {};  // of an error

  bool tellsDevice() const { return type == Type::init || type == Type::error; }
};

inline void writePlainName(Buffer& out, std::string_view name) {
  char* const to = out.take(name.size() + 3);
  if (to == nullptr) return;
  *to = '"';
  copyBytes(to + 1, name.data(), name.size());
  std::memcpy(to + 1 + name.size(), "\":", 2);
}

/// Properties of which of each name the last one counts.
class Named {
 public:
  Named(Properties all, Redaction redaction) : all_(all), redaction_(redaction) {
    for (const Property& property : all) seen_ |= look.at(property.name);
  }

  const Property* begin() const { return all_.begin(); }
  const Property* end() const { return all_.end(); }
  Redaction redaction() const { return redaction_; }
  /// And the colon.
  void writeName(Buffer& out, std::string_view name) const {
    if (seen_ == 0) return writePlainName(out, name);
    writeRedacted(out, name, redaction_);
    out.add(':');
  }
  /// Whether a later one of the same name counts instead. Needs some room behind `out` at times.
  bool isRepeated(Buffer& out, const Property& property) const {
    const Property* const later = &property + 1;
    return seen_ == 0 ? isIn(later, property.name) : isWrittenIn(out, later, property.name);
  }

 private:
  bool isIn(const Property* later, std::string_view name) const {
    while (later != end() && later->name.view() != name) ++later;
    return later != end();
  }
  bool isWrittenIn(Buffer& out, const Property* later, std::string_view name) const {
    while (later != end() && !isSame(out, later->name, name)) ++later;
    return later != end();
  }
  /// Once they are written. Where marks may stand in them both are.
  bool isSame(Buffer& out, std::string_view a, std::string_view b) const {
    if (isSameText(a, b)) return true;
    if (redaction_ == Redaction::none || (!isPersonal(a) && !isPersonal(b))) return false;
    const std::size_t first = out.size();
    writeRedacted(out, a, redaction_);
    const std::size_t second = out.size();
    writeRedacted(out, b, redaction_);
    const bool same =
        !out.full() && out.view().substr(first, second - first) == out.view().substr(second);
    out.cut(first);
    return same;
  }

  const Properties all_;
  const Redaction redaction_;
  unsigned seen_ = 0;
};

/// `"name":value`, behind a comma where it is not the first.
inline void writeProperty(Buffer& out, const Property& property, bool first, const Named& all) {
  if (!first) out.add(',');
  all.writeName(out, property.name);
  if (property.value.kind() != Value::Kind::text) return writeValue(out, property.value);
  const std::string_view text = property.value.text();
  const unsigned seen = look.at(text);
  if (seen == 0) return out.addQuoted(text);
  writeSeen(out, text, seen, redactionOf(property.name, all.redaction()));
}

/// Each property but earlier ones of the same name and those that JSON cannot say. Returns how many
/// of the latter there were.
inline std::size_t writeProperties(Buffer& out, const Named& properties) {
  std::size_t unsayable = 0;
  bool first = true;
  for (const Property& property : properties) {
    if (out.full() || properties.isRepeated(out, property)) continue;
    if (isSayable(property.value))
      writeProperty(out, property, std::exchange(first, false), properties);
    else ++unsayable;
  }
  return unsayable;
}

/// The parts of an event that are ready: its number, its time, and what is the same for many.
struct Envelope {
  std::uint64_t id = 0;
  std::int64_t dateMs = -1;  // -1: the clock is not set
  std::string_view props;    // of the user, as JSON members
  std::string_view tail;     // session and identity
  std::string_view device;
  Redaction redaction = Redaction::none;  // of what the caller said
};

inline void writeErrorPayload(Buffer& out, const Event& event, const Envelope& envelope,
                              std::size_t tailBytes) {
  writeKey<Field::message>(out);
  writeRedacted(out, event.message, envelope.redaction);
  const std::size_t keyBytes = keyOf(Field::stack).size() + 1;
  const std::size_t closing = tailBytes + 2;  // the quote and the brace
  if (!event.stack.empty() && out.room() > keyBytes + closing) {
    writeKey<Field::stack>(out);
    out.add('"');
    Pieces pieces(event.stack, envelope.redaction);
    std::string_view piece;
    while (pieces.next(piece) && writeCut(out, piece, out.room() - closing)) {
    }
    out.add('"');
  }
  out.add('}');
}

inline std::size_t writePayload(Buffer& out, const Event& event, const Envelope& envelope) {
  const bool ofUser = event.type == Type::init || event.type == Type::props;
  const std::size_t tailBytes = envelope.tail.size() + envelope.device.size() + 1;
  if (event.type == Type::error) {
    writeKey<Field::payload>(out);
    writeErrorPayload(out, event, envelope, tailBytes);
    return 0;
  }
  if (ofUser ? event.type == Type::init && envelope.props.empty() : event.properties.size() == 0) {
    return 0;
  }
  writeKey<Field::payload>(out);
  out.add('{');
  const std::size_t unsayable =
      ofUser ? 0 : writeProperties(out, {event.properties, envelope.redaction});
  if (ofUser) out.add(envelope.props);
  out.add('}');
  return unsayable;
}

/// What an event of each type begins with.
struct Beginnings {
  static constexpr std::size_t count = sizeof typeNames / sizeof typeNames[0];
  char text[count][32];
  std::size_t bytes[count];

  constexpr Beginnings() : text(), bytes() {
    for (std::size_t i = 0; i < count; ++i) {
      for (const std::string_view part : {keyOf(Field::type), quote, typeNames[i], quote}) {
        for (const char c : part) text[i][bytes[i]++] = c;
      }
    }
  }
  std::string_view of(Type type) const {
    const auto i = static_cast<std::size_t>(type);
    return {text[i], bytes[i]};
  }

 private:
  static constexpr std::string_view quote = "\"";
};
inline constexpr Beginnings beginnings;

/// Writes the event. Returns how many properties had to be left out; out.full() if it is too large.
inline std::size_t encode(Buffer& out, const Event& event, const Envelope& envelope) {
  out.add(beginnings.of(event.type));
  if (!event.name.empty()) {
    writeKey<Field::name>(out);
    writeRedacted(out, event.name, envelope.redaction);
  }
  writeKey<Field::id>(out);
  writeUnsigned(out, envelope.id);
  if (envelope.dateMs >= 0) {
    writeKey<Field::date>(out);
    writeUnsigned(out, static_cast<std::uint64_t>(envelope.dateMs));
  }
  const std::size_t unsayable = writePayload(out, event, envelope);
  out.add(envelope.tail);
  if (event.tellsDevice()) out.add(envelope.device);
  out.add('}');
  return unsayable;
}

/// What is read back from an event of ours.
struct EventFacts {
  bool isInit = false;
  std::uint64_t id = 0, sessionId = 0;
  std::int64_t dateMs = -1;
};

/// A JSON object of strings, numbers and booleans.
inline bool skipFlatObject(JsonReader& reader) {
  std::string_view name;
  if (!reader.enter('{')) return false;
  while (reader.nextName(name)) {
    const char first = reader.peek();
    if (first == 'n' || first == '{' || first == '[' || !reader.scalar()) return false;
  }
  return reader.ok();
}

inline bool readField(JsonReader& reader, char kind, std::string_view& value) {
  if (kind == 'o') return skipFlatObject(reader);
  return kind == 's' ? reader.string(value) : reader.number(value);
}

/// Goes to the next field of an event, most likely one behind the last; eventFieldCount where what
/// comes next is none.
inline bool nextField(JsonReader& reader, std::size_t& index) {
  for (std::size_t i = index + 1; i < eventFieldCount; ++i) {
    if (reader.passes(wireKeys.of[i])) return index = i, true;
  }
  std::string_view name;
  const bool any = reader.nextName(name);
  index = 0;
  while (index < eventFieldCount && nameOf(static_cast<Field>(index)) != name) ++index;
  return any;
}

/// Reads an event as if a stranger had written it: only known fields, of the right kind. False
/// where it is not one of ours.
inline bool readEvent(std::string_view json, EventFacts& facts) {
  JsonReader reader(json);
  std::string_view value;
  std::uint64_t date = 0;
  std::uint32_t seen = 0;
  bool knownType = false;
  std::size_t index = 0;
  if (!reader.enter('{')) return false;
  while (nextField(reader, index)) {
    if (index == eventFieldCount || !readField(reader, wireKeys.kind[index], value)) return false;
    const std::uint32_t bit = 1u << index;
    if ((seen & bit) != 0) return false;
    seen |= bit;
    const auto field = static_cast<Field>(index);
    if (field == Field::type) {
      for (const std::string_view type : typeNames) knownType = knownType || type == value;
      facts.isInit = value == typeNames[0];
    }
    if (field == Field::id && !readUnsigned(value, facts.id)) return false;
    if (field == Field::sessionId && !readUnsigned(value, facts.sessionId)) return false;
    if (field == Field::date) {
      if (!readUnsigned(value, date) || date >> 53 != 0) return false;
      facts.dateMs = static_cast<std::int64_t>(date);
    }
  }
  return reader.finished() && knownType && facts.id != 0 && facts.id >> 52 == 0 &&
         facts.sessionId >= 10'000'000 && facts.sessionId <= 99'999'999;
}

// ==== 8. Queue ==== what waits, oldest first ====
// Events in one piece of memory, each behind 16 bytes of what there is to know of it. Behind the
// last that fits they go on at the front. Removing marks; space() tidies up, where it must. The
// events of a session stand together, their init first.

/// Numbers of events that have left, as ranges: they are told to the file, and then forgotten.
class RangeList {
 public:
  struct Range {
    std::uint64_t first, last;
  };

  RangeList() = default;
  RangeList(Range* memory, std::size_t capacity) : ranges_(memory), capacity_(capacity) {}

  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == capacity_; }
  const Range* begin() const { return ranges_; }
  const Range* end() const { return ranges_ + count_; }
  void clear() { count_ = 0; }
  /// Of an id that continues the newest range, or while there is room.
  bool add(std::uint64_t first, std::uint64_t last) {
    if (count_ > 0 && ranges_[count_ - 1].last + 1 == first) {
      ranges_[count_ - 1].last = last;
      return true;
    }
    if (full()) return false;
    ranges_[count_++] = {first, last};
    return true;
  }
  bool contains(std::uint64_t id) const {
    for (const Range& range : *this) {
      if (id >= range.first && id <= range.last) return true;
    }
    return false;
  }

  static constexpr std::size_t most = 64;

 private:
  Range* ranges_ = nullptr;
  std::size_t capacity_ = 0, count_ = 0;
};

/// A list that brings its memory along.
class IdRanges : public RangeList {
 public:
  IdRanges() : RangeList(memory_, most) {}
  IdRanges(const IdRanges&) = delete;
  IdRanges& operator=(const IdRanges&) = delete;

 private:
  Range memory_[most];
};

/// The ids that a request carries, in order, each with a mark once the server has named it.
class CarriedIds {
 public:
  CarriedIds() = default;
  CarriedIds(std::uint64_t* ids, std::size_t capacity) : ids_(ids), capacity_(capacity) {}

  std::size_t count() const { return count_; }
  std::size_t named() const { return named_; }
  bool full() const { return count_ == capacity_; }
  void clear() { count_ = named_ = 0; }
  void add(std::uint64_t id) {
    std::size_t at = count_++;
    for (; at > 0 && plain(ids_[at - 1]) > id; --at) ids_[at] = ids_[at - 1];
    ids_[at] = id;
  }
  /// False where the request did not carry it.
  bool name(std::uint64_t id) {
    const std::size_t at = find(id);
    if (at == count_) return false;
    if ((ids_[at] & mark) == 0) ++named_;
    ids_[at] |= mark;
    return true;
  }
  void nameAll() {
    for (std::size_t i = 0; i < count_; ++i) ids_[i] |= mark;
    named_ = count_;
  }
  bool isNamed(std::uint64_t id) const {
    const std::size_t at = find(id);
    return at != count_ && (ids_[at] & mark) != 0;
  }

 private:
  static constexpr std::uint64_t mark = std::uint64_t{1} << 63;
  static std::uint64_t plain(std::uint64_t id) { return id & ~mark; }
  /// Where it stands, or count().
  std::size_t find(std::uint64_t id) const {
    std::size_t low = 0, high = count_;
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (plain(ids_[middle]) < id) low = middle + 1;
      else high = middle;
    }
    return low < count_ && plain(ids_[low]) == id ? low : count_;
  }

  std::uint64_t* ids_ = nullptr;
  std::size_t capacity_ = 0, count_ = 0, named_ = 0;
};

class Queue {
 public:
  enum Flag : unsigned {
    gone = 1,           // removed; its place is taken up by space()
    init = 2,           // opens its session
    inRequest = 4,      // not to be evicted
    inFile = 8,         // a crash does not lose it
    writing = 16,       // on its way into the file
    sent = 32,          // was in a request of this run
    first = 64,         // of those of its session that are left
    initSettled = 128,  // with `first`: the init needs no sending any more
    aside = 256,        // refused alone; waits to see whether others are accepted
    loaded = 512,       // of an earlier run
    later = 1024,       // goes behind the others; two bits, how often
    laterMost = 2048,
    suspect = 3072  // behind all others: refused alone, and then others were taken
  };
  struct Record {
    std::uint64_t id = 0;
    std::int64_t bornMs = 0;  // steady time; before the start for loaded ones
    std::size_t bytes = 0;
    unsigned flags = 0;

    bool has(unsigned flag) const { return (flags & flag) != 0; }
    unsigned rank() const { return flags & suspect; }
  };
  static constexpr std::size_t headerBytes = 16;
  static constexpr std::size_t none = SIZE_MAX;

  Queue() = default;
  /// `left` is where numbers of events that have left are kept.
  Queue(char* data, std::size_t capacity, std::size_t maxBytes, const RangeList& left)
      : data_(data), capacity_(capacity), maxBytes_(maxBytes), goneIds_(left) {
    goneIds_.clear();
  }

  bool empty() const { return events_ == 0; }
  std::size_t events() const { return events_; }
  std::size_t bytes() const { return bytes_; }
  std::size_t filedEvents() const { return filedEvents_; }
  std::size_t filedBytes() const { return filedBytes_; }
  std::size_t maxBytes() const { return maxBytes_; }
  /// Nothing is left of the newest session.
  bool newestSessionLeft() const { return handedOn_ != 0; }
  RangeList& goneIds() { return goneIds_; }
  bool tellsGone() const { return lostTrack_ || !goneIds_.empty(); }
  /// More has left than goneIds could hold: a whole new file is to tell, soon.
  bool lostTrack() const { return lostTrack_; }
  void loseTrack(bool lost) { lostTrack_ = lost; }

  std::size_t oldest() const { return head_; }
  std::size_t end() const { return tail_; }
  std::size_t after(std::size_t at) const { return live(at + sizeAt(at)); }
  Record at(std::size_t at) const { return load(at); }
  std::string_view text(std::size_t at) const { return {data_ + at + headerBytes, load(at).bytes}; }

  /// Free memory behind the newest event; what is written there becomes an event by push().
  char* space(std::size_t bytes) {
    if (empty()) head_ = tail_ = 0, forgetHints();
    if (!turned()) turn_ = none;
    if (room() < bytes) findRoom(bytes);
    return room() < bytes ? nullptr : data_ + tail_;
  }
  /// The text stands headerBytes behind what space() returned, or behind the event pushed before.
  /// Memory for another event comes over from where the worker has had it, while nobody waits.
  NUCLEUS_PREFETCHES
  void push(std::uint64_t id, std::int64_t bornMs, std::size_t bytes, unsigned flags) {
    if ((flags & init) != 0) flags |= first;
    if ((flags & (init | loaded)) == 0) flags |= handedOn_;
    if ((flags & loaded) == 0) handedOn_ = 0;
    store(tail_, {id, bornMs, bytes, flags});
    const std::size_t size = headerBytes + bytes;
    tail_ += size;
    const std::size_t end = lesser(tail_ + size + lesser<std::size_t>(size, 512), capacity_);
    for (std::size_t at = tail_ + size; at < end; at += 64) NUCLEUS_PREFETCH(data_ + at);
    ++events_;
    bytes_ += bytes;
    if ((flags & inFile) != 0) ++filedEvents_, filedBytes_ += bytes;
  }
  /// Lets the oldest go until `bytes` more fit, and counts them. False: that cannot be, and none
  /// goes. `onlyLoaded`: of an earlier run, as what needs the room is older than all of this one.
  bool makeRoom(std::size_t bytes, std::uint64_t& evicted, bool onlyLoaded = false) {
    const std::size_t lacks = bytes_ + bytes > maxBytes_ ? bytes_ + bytes - maxBytes_ : 0;
    if (lacks > 0 && !canFree(lacks, onlyLoaded)) return false;
    for (; bytes_ + bytes > maxBytes_; ++evicted) remove(evictable(onlyLoaded));
    return true;
  }
  /// Removes what was born before, but not an init that is still needed. Returns how many;
  /// `lastInit` becomes the id of the newest init among them.
  std::uint64_t expire(std::int64_t bornBeforeMs, std::uint64_t* lastInit = nullptr) {
    std::uint64_t expired = 0;
    std::size_t bareInit = none;
    const auto dropBareInit = [&] {
      if (bareInit != none && load(bareInit).bornMs < bornBeforeMs) {
        if (lastInit != nullptr) *lastInit = load(bareInit).id;
        remove(bareInit);
        ++expired;
      }
      bareInit = none;
    };
    for (std::size_t at = head_; at != tail_; at = after(at)) {
      const Record record = load(at);
      if (record.has(first)) dropBareInit();
      if (record.has(init) && !record.has(inRequest)) {
        bareInit = at;
      } else if (record.has(inRequest) || record.bornMs >= bornBeforeMs) {
        bareInit = none;
      } else {
        remove(at);
        ++expired;
      }
    }
    dropBareInit();
    return expired;
  }
  /// Every event leaves. Returns how many.
  std::uint64_t clear() {
    const std::uint64_t cleared = events_;
    *this = Queue(data_, capacity_, maxBytes_, goneIds_);
    return cleared;
  }
  /// Nothing of what was in it can be read in its memory any more.
  void wipe() { Buffer(data_, capacity_).wipe(); }
  void remove(std::size_t at) {
    Record record = load(at);
    if (record.has(inFile | writing) && !goneIds_.add(record.id, record.id)) lostTrack_ = true;
    const std::size_t next = after(at);
    if (record.has(first)) handOn(next, record);
    record.flags |= gone;
    store(at, record);
    --events_;
    bytes_ -= record.bytes;
    if (record.has(inFile)) --filedEvents_, filedBytes_ -= record.bytes;
    moveHints(at, next);
    if (at == head_) head_ = next;
  }
  void mark(std::size_t at, unsigned set, unsigned cleared = 0) {
    Record record = load(at);
    const bool was = record.has(inFile);
    record.flags = (record.flags & ~cleared) | set;
    store(at, record);
    if (record.has(inFile) && !was) ++filedEvents_, filedBytes_ += record.bytes;
    if (!record.has(inFile) && was) --filedEvents_, filedBytes_ -= record.bytes;
  }
  void markAll(unsigned set, unsigned cleared) {
    for (std::size_t at = head_; at != tail_; at = after(at)) mark(at, set, cleared);
    forgetHints();
  }
  /// The oldest that is not in the file and not on its way there; end() if there is none.
  std::size_t unfiled() { return firstWithout(inFile | writing, unfiled_); }
  /// The oldest that is not on its way into the file; end() if there is none.
  std::size_t unwritten() { return firstWithout(writing, unwritten_); }
  /// What was on its way into the file has arrived there, or has not.
  void written(bool arrived) {
    for (std::size_t at = writing_; at != tail_; at = after(at)) {
      if (load(at).has(writing)) mark(at, arrived ? inFile : 0u, writing);
    }
    if (arrived) writing_ = unfiled_;
    else forgetHints();
  }
  /// The file is new: it holds what was on its way, and nothing else.
  void rewritten() {
    for (std::size_t at = head_; at != tail_; at = after(at)) {
      mark(at, load(at).has(writing) ? inFile : 0u, load(at).has(writing) ? writing : inFile);
    }
    forgetHints();
  }
  /// What is of this run goes behind what was loaded, in order.
  void loadedFirst() {
    std::size_t others = 0, largest = 0;
    for (std::size_t at = head_; at != tail_; at = after(at)) {
      if (load(at).has(loaded)) continue;
      ++others;
      largest = greater(largest, sizeAt(at));
    }
    for (; others > 0 && space(largest) != nullptr; --others) {
      std::size_t at = head_;
      while (load(at).has(loaded)) at = after(at);
      Record left = load(at);
      const std::size_t size = sizeAt(at);
      std::memcpy(data_ + tail_, data_ + at, size);
      tail_ += size;
      left.flags |= gone;
      store(at, left);
      if (at == head_) head_ = live(head_);
    }
    forgetHints();
  }

 private:
  // A header is two words: id and flags, birth and size.
  Record load(std::size_t at) const {
    std::uint64_t words[2];
    std::memcpy(words, data_ + at, sizeof words);
    return {words[0] >> 12, static_cast<std::int64_t>(words[1] >> 24) - birthBase,
            static_cast<std::size_t>(words[1] & 0xFF'FFFF),
            static_cast<unsigned>(words[0] & 0xFFF)};
  }
  void store(std::size_t at, const Record& record) const {
    const auto born = static_cast<std::uint64_t>(record.bornMs + birthBase);
    const std::uint64_t words[2] = {record.id << 12 | record.flags, born << 24 | record.bytes};
    std::memcpy(data_ + at, words, sizeof words);
  }
  std::size_t sizeAt(std::size_t at) const { return headerBytes + load(at).bytes; }
  /// The first at or behind `at` that is not gone. What it passes over becomes one gap, so that
  /// the next one passes faster.
  std::size_t live(std::size_t at) const {
    const std::size_t from = at;
    while (at != tail_ && at != turn_ && load(at).has(gone)) at += sizeAt(at);
    const std::size_t gap = at - from;
    if (gap > 0 && gap <= maxRecordBytes) store(from, {0, 0, gap - headerBytes, gone});
    return at == turn_ ? live(0) : at;
  }
  /// What `left` was to its session, the next of them is; or the next that will be pushed. While a
  /// file is read what is tracked stands among what is loaded.
  void handOn(std::size_t next, const Record& left) {
    const unsigned flags = first | (left.has(init | initSettled) ? initSettled : 0u);
    while (next != tail_ && load(next).has(loaded) != left.has(loaded)) next = after(next);
    if (next != tail_) {
      if (!load(next).has(first)) mark(next, flags);
    } else if (!left.has(loaded)) {
      handedOn_ = flags;
    }
  }
  /// The newest stand before the oldest.
  bool turned() const { return tail_ < head_; }
  std::size_t room() const { return (turned() ? head_ - 1 : capacity_) - tail_; }
  /// With as little as will do.
  void findRoom(std::size_t bytes) {
    closeFirstGap(bytes);
    if (room() < bytes && !turned() && head_ > bytes) turn();
    if (room() < bytes && capacity_ - bytes_ - events_ * headerBytes >= bytes) tidy();
  }
  void turn() {
    moveHints(tail_, 0);
    turn_ = std::exchange(tail_, 0);
  }
  /// The oldest, if they are few, go up to what follows the first gap: an init that is needed for
  /// long does not keep the memory behind it.
  void closeFirstGap(std::size_t mostBytes) {
    std::size_t gap = head_;
    while (gap != tail_ && gap != turn_ && !load(gap).has(gone)) {
      if (gap - head_ > mostBytes) return;
      gap += sizeAt(gap);
    }
    if (gap == tail_ || gap == turn_) return;
    live(gap);  // makes it one
    const std::size_t bytes = sizeAt(gap);
    std::memmove(data_ + head_ + bytes, data_ + head_, gap - head_);
    eachHint([&](std::size_t& hint) { hint += hint >= head_ && hint < gap ? bytes : 0; });
    head_ += bytes;
  }
  /// Closes all gaps.
  void tidy() {
    if (turned()) {
      tail_ = moveDown(0, tail_, 0);
      const std::size_t bytes = moveDown(head_, turn_, head_) - head_;
      turn_ = capacity_;
      std::memmove(data_ + turn_ - bytes, data_ + head_, bytes);
      head_ = turn_ - bytes;
    } else {
      tail_ = moveDown(head_, tail_, 0);
      head_ = 0;
    }
    forgetHints();
  }
  /// What stands there goes to `to`, one behind the other. Returns where that ends.
  std::size_t moveDown(std::size_t from, std::size_t end, std::size_t to) {
    for (std::size_t at = from, next = at; at != end; at = next) {
      const std::size_t size = sizeAt(at);
      next = at + size;
      if (load(at).has(gone)) continue;
      std::memmove(data_ + to, data_ + at, size);
      to += size;
    }
    return to;
  }
  template <class Change>
  void eachHint(const Change& change) {
    for (std::size_t* const hint : {&unfiled_, &unwritten_, &writing_}) change(*hint);
  }
  void moveHints(std::size_t from, std::size_t to) {
    eachHint([&](std::size_t& hint) { hint = hint == from ? to : hint; });
  }
  void forgetHints() { unfiled_ = unwritten_ = writing_ = head_; }
  /// From `hint` on, which becomes what is found.
  std::size_t firstWithout(unsigned flags, std::size_t& hint) const {
    while (hint != tail_ && load(hint).has(flags)) hint = after(hint);
    return hint;
  }
  /// The oldest that may go: not in a request, no init of a session that has events left, and not
  /// the newest session's init.
  std::size_t evictable(bool onlyLoaded) const {
    std::size_t bareInit = none;
    for (std::size_t at = head_; at != tail_; at = after(at)) {
      const Record record = load(at);
      if (onlyLoaded && !record.has(loaded)) continue;
      if (record.has(first) && bareInit != none) return bareInit;
      if (record.has(init) && !record.has(inRequest)) {
        bareInit = at;
      } else if (record.has(inRequest)) {
        bareInit = none;
      } else {
        return at;
      }
    }
    return none;
  }

  /// Whether all that may go one after the other has so many bytes.
  bool canFree(std::size_t bytes, bool onlyLoaded) const {
    std::size_t freed = 0, bareInit = 0;
    for (std::size_t at = head_; at != tail_ && freed < bytes; at = after(at)) {
      const Record record = load(at);
      if (onlyLoaded && !record.has(loaded)) continue;
      if (record.has(first)) freed += std::exchange(bareInit, 0);
      if (record.has(inRequest)) bareInit = 0;
      else (record.has(init) ? bareInit : freed) += record.bytes;
    }
    return freed >= bytes;
  }

  static constexpr std::int64_t birthBase = std::int64_t{1} << 38;
  static constexpr std::size_t maxRecordBytes = 0xFF'FFFF;

  char* data_ = nullptr;
  std::size_t capacity_ = 0, maxBytes_ = 0;
  std::size_t head_ = 0, tail_ = 0;
  std::size_t turn_ = none;  // where what stands before the front ends
  std::size_t events_ = 0, bytes_ = 0, filedEvents_ = 0, filedBytes_ = 0;
  std::size_t unfiled_ = 0, unwritten_ = 0, writing_ = 0;  // none of the kind is before
  unsigned handedOn_ = 0;
  RangeList goneIds_;
  bool lostTrack_ = false;
};

// ==== 9. Cache ==== the same bytes in one flat file ====
// Pure text and bookkeeping: which line says what, what the file lacks, when it is due.
//
//   nucleus-cache 1 my-app granted 5b3c91d2      format, owner, the user's choice or -, CRC-32
//   s 0f9e8d7c 83 {"appId":"my-app",...}         state: ids, user, properties, limits; the last
//                                                one counts, and it names the owner again
//   e 1a2b3c4d 254 {"type":"event",...}          an event, as it is sent
//   f 1a2b3c4d 254 {"type":"event",...}          the same, first of those left of a session whose
//                                                init needs no sending any more
//   g 99aabbcc 9 1000-1003                       numbers of events that have left
//   S E F                                        the same as s e f, with personal data allowed
//
// A record is: kind, CRC-32 of kind and content, bytes of content, content, line feed. A record
// that is damaged is skipped to the next line feed; a damaged line feed costs nothing.

/// What half a byte makes of a CRC once so many halves have followed it. Files of one program may
/// be optimised for size and for speed: each finds the table that it knows.
template <std::size_t BytesAtOnce>
struct CrcTable {
  std::uint32_t after[2 * BytesAtOnce][16];

  constexpr CrcTable() : after() {
    for (std::uint32_t half = 0; half < 16; ++half) {
      std::uint32_t crc = half;
      for (auto& table : after) table[half] = crc = pass(crc);
    }
  }

 private:
  static constexpr std::uint32_t pass(std::uint32_t crc) {
    for (int bit = 0; bit < 4; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
    return crc;
  }
};
template <std::size_t BytesAtOnce>
inline constexpr CrcTable<BytesAtOnce> crcTable;

/// CRC-32 as in ISO-HDLC, zip and PNG.
inline std::uint32_t crc32(std::string_view text, std::uint32_t before = 0) {
  std::uint32_t crc = ~before;
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char* const end = at + text.size();
  constexpr std::size_t bytesAtOnce = NUCLEUS_SMALL ? 1 : 8;
  constexpr const auto& table = crcTable<bytesAtOnce>;
  const auto pass = [](std::uint32_t byte, int following) {
    const auto* const tables = table.after + 2 * following;
    return tables[1][byte & 15] ^ tables[0][byte >> 4 & 15];
  };
  for (; bytesAtOnce == 8 && end - at >= 8; at += 8) {
    crc = pass(at[0] ^ crc, 7) ^ pass(at[1] ^ crc >> 8, 6) ^ pass(at[2] ^ crc >> 16, 5) ^
          pass(at[3] ^ crc >> 24, 4) ^ pass(at[4], 3) ^ pass(at[5], 2) ^ pass(at[6], 1) ^
          pass(at[7], 0);
  }
  for (; at != end; ++at) crc = crc >> 8 ^ pass(*at ^ crc, 0);
  return ~crc;
}

inline void writeHex(char* to, std::uint32_t value) {
  for (int i = 7; i >= 0; --i, value >>= 4) to[i] = "0123456789abcdef"[value & 15];
}

struct Line {
  char kind = 0;
  std::string_view content;

  static constexpr std::size_t overhead = 24;  // at most, around the content

  std::uint32_t crc() const { return crc32(content, crc32({&kind, 1})); }
};

/// Adds a record without its CRC, which seal() fills in. False, and nothing, if it does not fit.
inline bool writeLine(Buffer& out, const Line& line) {
  const std::size_t before = out.size();
  out.add(line.kind);
  out.add(" 00000000 ");
  writeUnsigned(out, line.content.size());
  out.add(' ');
  out.add(line.content);
  out.add('\n');
  if (!out.full()) return true;
  out.cut(before);
  return false;
}

/// Reads the record at the front of `text`. `bytes` is how far it goes, up to its line feed.
inline bool parseLine(std::string_view text, Line& line, std::size_t& bytes) {
  std::uint64_t size = 0;
  const std::size_t space = text.substr(0, 20).find(' ', 11);
  if (text.size() < 12 || text[1] != ' ' || text[10] != ' ' || space == std::string_view::npos ||
      !readUnsigned(text.substr(11, space - 11), size) || size > text.size() - space - 1) {
    return false;
  }
  line = {text[0], text.substr(space + 1, static_cast<std::size_t>(size))};
  bytes = space + 1 + line.content.size();
  return true;
}

/// The same, and its CRC is right.
inline bool readLine(std::string_view text, Line& line, std::size_t& bytes) {
  if (!parseLine(text, line, bytes)) return false;
  char hex[8];
  writeHex(hex, line.crc());
  return text.substr(2, 8) == std::string_view(hex, 8);
}

/// Fills in the CRC of every record in a piece of file that writeLine() made.
inline void seal(char* at, std::size_t size) {
  Line line;
  std::size_t bytes = 0;
  while (size > 0) {
    if (*at != '\n' && parseLine({at, size}, line, bytes)) {
      writeHex(at + 2, line.crc());
    } else {  // the first line, or the line feed before a record
      bytes = lesser(std::string_view(at, size).find('\n'), size - 1);
    }
    at += bytes + 1;
    size -= bytes + 1;
  }
}

inline void writeFirstLine(Buffer& out, std::string_view appId, Consent choice) {
  const std::size_t before = out.size();
  out.add("nucleus-cache 1 ");
  out.add(appId);
  out.add(' ');
  out.add(consentWord(choice));
  const std::uint32_t crc = crc32(out.view().substr(before));
  char hex[8];
  writeHex(hex, crc);
  out.add(' ');
  out.add({hex, 8});
  out.add('\n');
}

enum class Owner { us, newer, other, damaged };

/// What the first line of a file says. `bytes` is where it ends, without its line feed.
inline Owner readFirstLine(std::string_view text, std::string_view appId, Consent& choice,
                           std::size_t& bytes) {
  for (const Consent consent : {Consent::notAsked, Consent::granted, Consent::refused}) {
    Fixed<128> expected;
    writeFirstLine(expected, appId, consent);
    bytes = expected.size() - 1;
    choice = consent;
    if (text.substr(0, bytes) == expected.view().substr(0, bytes)) return Owner::us;
  }
  choice = Consent::notAsked;
  bytes = lesser(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, bytes);
  if (line.size() < 9 || line[line.size() - 9] != ' ') return Owner::damaged;
  char hex[8];
  writeHex(hex, crc32(line.substr(0, line.size() - 9)));
  if (line.substr(line.size() - 8) != std::string_view(hex, 8)) return Owner::damaged;
  std::string_view words = line;  // what it is, the format, whose
  for (int i = 0; i < 2; ++i) words.remove_prefix(lesser(words.find(' '), words.size() - 1) + 1);
  return words.substr(0, words.find(' ')) == appId ? Owner::newer : Owner::other;
}

/// A Retry-After that outlives the program.
struct Barrier {
  std::int64_t untilWallMs = -1;  // -1: the clock was not set
  std::int64_t forMs = 0;         // 0: none
};

inline void writeState(Buffer& out, std::string_view appId, const Identity& who, Barrier barrier) {
  writeText(out, Field::appId, appId);
  writeText(out, Field::deviceId, who.deviceId.view());
  writeText(out, Field::anonId, who.anonId.view());
  writeText(out, Field::userId, who.userId.view());
  if (!who.props.empty()) {
    out.add(keyOf(Field::props));
    out.add('{');
    out.add(who.props.view());
    out.add('}');
  }
  if (barrier.forMs != 0) {
    out.add(keyOf(Field::retryAtMs));
    writeInteger(out, barrier.untilWallMs);
    out.add(keyOf(Field::retryForMs));
    writeInteger(out, barrier.forMs);
  }
  out.add('}');
}

/// The strings are as JsonReader gives them.
struct State {
  std::string_view appId, deviceId, anonId, userId, props;
  Barrier barrier;
};

inline bool readNumber(JsonReader& reader, std::int64_t& value) {
  std::string_view text;
  std::uint64_t result = 0;
  if (!reader.number(text)) return false;
  if (text == "-1") return value = -1, true;
  if (!readUnsigned(text, result) || result >> 53 != 0) return false;
  value = static_cast<std::int64_t>(result);
  return true;
}

inline bool readStateField(JsonReader& reader, std::string_view name, State& state) {
  if (name == nameOf(Field::appId)) return reader.string(state.appId);
  if (name == nameOf(Field::deviceId)) return reader.string(state.deviceId);
  if (name == nameOf(Field::anonId)) return reader.string(state.anonId);
  if (name == nameOf(Field::userId)) return reader.string(state.userId);
  if (name == nameOf(Field::retryAtMs)) return readNumber(reader, state.barrier.untilWallMs);
  if (name == nameOf(Field::retryForMs)) return readNumber(reader, state.barrier.forMs);
  if (name != nameOf(Field::props) || reader.peek() != '{') return false;
  const char* const begin = reader.position() + 1;
  if (!skipFlatObject(reader)) return false;
  state.props = {begin, static_cast<std::size_t>(reader.position() - begin) - 1};
  return true;
}

inline bool readState(std::string_view json, State& state) {
  JsonReader reader(json);
  std::string_view name;
  if (!reader.enter('{')) return false;
  while (reader.nextName(name)) {
    if (!readStateField(reader, name, state)) return false;
  }
  return reader.finished();
}

inline void writeRanges(Buffer& out, const RangeList& ranges) {
  for (const RangeList::Range& range : ranges) {
    if (!out.empty()) out.add(',');
    writeUnsigned(out, range.first);
    if (range.last == range.first) continue;
    out.add('-');
    writeUnsigned(out, range.last);
  }
}

/// The next of the comma-separated ranges; false at the end and at anything else.
inline bool readRange(std::string_view& text, RangeList::Range& range) {
  const std::string_view part = text.substr(0, text.find(','));
  text.remove_prefix(lesser(part.size() + 1, text.size()));
  const std::size_t dash = part.find('-');
  if (!readUnsigned(part.substr(0, dash), range.first)) return false;
  range.last = range.first;
  return dash == std::string_view::npos || readUnsigned(part.substr(dash + 1), range.last);
}

/// What a file holds, to be shown: the last state, and the events that have not left. It borrows.
class Held {
 public:
  struct Entry {
    std::uint64_t id;
    std::string_view event;
  };
  explicit Held(std::string_view appId) : appId_(appId) {}

  std::string_view state = {};  // "" where there is none
  std::vector<Entry> events = {};
  bool damaged = false;  // a record could not be read

  void read(std::string_view text) {
    Line line;
    for (std::size_t bytes = 0; !text.empty(); text.remove_prefix(bytes)) {
      const bool whole = readLine(text, line, bytes);
      damaged = damaged || (!whole && text[0] != '\n');
      if (whole) take({toLower(line.kind), line.content});
      else bytes = text.find('\n');
      bytes = lesser(bytes, text.size() - 1) + 1;
    }
    forgetGone();
  }
  bool has(std::uint64_t id) const {
    if (seenAll_) return seen_.contains(id);
    std::size_t i = 0;
    while (i < events.size() && events[i].id != id) ++i;
    return i < events.size();
  }

 private:
  void take(const Line& line) {
    EventFacts facts;
    State read;
    if (line.kind == 'g') return takeGone(line.content);
    if (line.kind == 's') {
      if (!readState(line.content, read)) damaged = true;
      else if (sameString(read.appId, appId_)) state = trimmed(line.content);
    } else {
      if (readEvent(line.content, facts)) takeEvent({facts.id, line.content});
      else damaged = true;
    }
  }
  /// One that an append left twice is one.
  void takeEvent(const Entry& entry) {
    if (has(entry.id)) return;
    seenAll_ = seen_.add(entry.id, entry.id) && seenAll_;
    events.push_back(entry);
  }
  void takeGone(std::string_view text) {
    RangeList::Range range;
    while (readRange(text, range)) {
      if (gone_.add(range.first, range.last)) continue;
      forgetGone();
      gone_.add(range.first, range.last);
    }
  }
  void forgetGone() {
    std::size_t kept = 0;
    for (const Entry& entry : events) {
      if (!gone_.contains(entry.id)) events[kept++] = entry;
    }
    while (events.size() > kept) events.pop_back();
    gone_.clear();
  }

  const std::string_view appId_;
  IdRanges gone_, seen_;
  bool seenAll_ = true;
};

constexpr std::int64_t never = INT64_MAX;

/// What is known of the file, and what is to be done to it when. Times are steady.
struct CacheFile {
  bool wanted = false;  // there is a storage to use
  bool opened = false;  // it was looked at
  bool known = false;   // what it holds was read, or written by us
  StorageState state = StorageState::absent;
  std::size_t bytes = 0;
  bool stateChanged = false;
  bool freshLine = false;    // the end of the file may be torn
  bool mustRewrite = false;  // the file lacks what appending cannot mend
  bool holdsMore = false;    // than memory: what is to be erased, or cannot be read
  bool unsynced = false;
  bool appendedTo = false;              // since it was written whole
  bool mayTidy = false;                 // events have left it, and none came since
  std::int64_t pendingSinceMs = never;  // something is in memory alone
  bool urgent = false;                  // an error event is
  std::int64_t lastSyncMs = 0, lastRewriteMs = 0, lookedMs = 0, retryAtMs = 0;
  static constexpr std::int64_t retryMs = 1'000, rewriteGapMs = 60'000;

  bool usable() const { return wanted && opened && state == StorageState::ready; }
  /// Events go into it before they go into a request.
  bool works() const { return usable() || (wanted && opened && state == StorageState::absent); }
  void note(std::int64_t nowMs) { pendingSinceMs = lesser(pendingSinceMs, nowMs); }
  bool mostlyDead(std::size_t liveBytes, std::size_t least) const {
    const std::size_t dead = bytes > liveBytes ? bytes - liveBytes : 0;
    return dead >= least && dead > bytes / 2;
  }
};

// ==== 10. Delivery ==== when the next request goes, and how large ====
// Numbers in, numbers out: steady milliseconds, sizes, and what the answer said.

/// A piece of the heap, or null where there is none.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : data_(bytes == 0 ? nullptr : static_cast<char*>(std::malloc(bytes))) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(data_); }
  char* data() const { return data_; }

 private:
  char* const data_;
};

/// What a request carries, shared by every copy of its handle. `body` and `ids` do not change
/// while the host holds one.
struct Post {
  explicit Post(std::size_t bytes = 0) : memory(bytes) {}

  std::string url;
  Memory memory;  // none where the host gave it
  Buffer body;
  CarriedIds ids;
  bool heartbeat = false;
  unsigned epoch = 0;
  std::shared_ptr<std::atomic<unsigned>> currentEpoch;  // of consent; changes when it ends
  std::weak_ptr<Core> core;

  bool cancelled() const { return currentEpoch->load() != epoch; }
};

/// The server's answer, as far as it can be understood. It borrows.
struct Answer {
  bool understood = false;
  bool confirmed = false;
  Fixed<64> anonId, latestVersion;
  std::string_view reportedIds;  // an array
  std::string_view customData;

  void forget() {
    confirmed = false;
    anonId.clear();
    latestVersion.clear();
    reportedIds = customData = {};
  }
};

inline bool isVersion(std::string_view text) {
  const std::size_t end = lesser(text.find_first_of("-+"), text.size());
  const std::string_view numbers = text.substr(0, end), suffix = text.substr(end);
  for (const char c : suffix) {
    if (c != '.' && c != '+' && !isIdentifier({&c, 1})) return false;
  }
  return text.size() <= 64 && !numbers.empty() && suffix.size() != 1 && isDigit(numbers.front()) &&
         isDigit(numbers.back()) && numbers.find("..") == std::string_view::npos &&
         numbers.find_first_not_of("0123456789.") == std::string_view::npos;
}

/// Takes the number at the front, and what separates it from the next.
inline std::uint64_t takeNumber(std::string_view& version) {
  const std::size_t end = lesser(version.find_first_not_of("0123456789"), version.size());
  std::uint64_t value = 0;
  readUnsigned(version.substr(0, end), value);
  const bool dot = end < version.size() && version[end] == '.';
  version = dot ? version.substr(end + 1) : std::string_view();
  return value;
}

inline bool isNewer(std::string_view candidate, std::string_view version) {
  while (!candidate.empty() || !version.empty()) {
    const std::uint64_t theirs = takeNumber(candidate), ours = takeNumber(version);
    if (theirs != ours) return theirs > ours;
  }
  return false;
}

/// The ids in an array: plain integers, also as strings.
class ReportedIds {
 public:
  explicit ReportedIds(std::string_view array) : reader_(array) { reader_.enter('['); }
  bool next(std::uint64_t& id) {
    while (reader_.next(']')) {
      const char first = reader_.peek();
      std::string_view text;
      if (first == '"') reader_.string(text);
      else if (first == '-' || isDigit(first)) reader_.number(text);
      else reader_.skip();
      if (readUnsigned(text, id)) return true;
    }
    return false;
  }

 private:
  JsonReader reader_;
};

inline void copyString(Buffer& to, std::string_view json, bool (*isRight)(std::string_view)) {
  to.clear();
  readString(json.substr(1, json.size() - 2), to);
  if (to.full() || !isRight(to.view())) to.clear();
}

inline void readAnswerField(std::string_view name, std::string_view json, Answer& answer) {
  const bool string = json[0] == '"';
  if (json[0] == '[' && sameString(name, "reportedIds")) answer.reportedIds = json;
  if (string && sameString(name, "anonId")) copyString(answer.anonId, json, isIdentifier);
  if (string && sameString(name, "latestVersion")) {
    copyString(answer.latestVersion, json, isVersion);
  }
  if (sameString(name, "confirmation")) answer.confirmed = json == "true";
  if (sameString(name, "customData") && json.size() <= 64 << 10) answer.customData = json;
}

/// Reads an answer, if it is whole.
inline void readAnswer(std::string_view text, Answer& answer, std::size_t mostBytes = 1 << 20) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  JsonReader reader(text);
  std::string_view name;
  if (text.size() > mostBytes || !reader.enter('{')) return;
  while (reader.nextName(name)) {
    reader.peek();
    const char* const begin = reader.position();
    if (!reader.skip()) break;
    readAnswerField(name, {begin, static_cast<std::size_t>(reader.position() - begin)}, answer);
  }
  answer.understood = reader.finished();
  if (!answer.understood) answer.forget();
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
inline std::int64_t daysSince1970(std::int64_t year, int month, int day) {
  if (month <= 2) --year, month += 12;
  const std::int64_t leapDays = year / 4 - year / 100 + year / 400;
  return 365 * year + leapDays + (153 * (month - 3) + 2) / 5 + day - 1 - 719'468;
}

inline int monthOf(std::string_view word) {
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const std::size_t at = word.size() == 3 ? months.find(word) : std::string_view::npos;
  return at == std::string_view::npos || at % 3 != 0 ? 0 : static_cast<int>(at / 3) + 1;
}

/// An HTTP date in any of its three forms (RFC 9110, 5.6.7), in ms since 1970; -1 if it is none.
inline std::int64_t readHttpDate(std::string_view text) {
  std::uint64_t numbers[5] = {};  // day, year and hour, minute, second, in either order
  std::size_t count = 0, timeAt = 0;
  int month = 0;
  while (!text.empty()) {
    const std::size_t end = lesser(text.find_first_of(" ,-:"), text.size());
    const std::string_view word = text.substr(0, end);
    const bool colon = end < text.size() && text[end] == ':';
    if (month == 0) month = monthOf(word);
    if (count < 5 && readUnsigned(word, numbers[count])) {
      if (colon && timeAt == 0) timeAt = count;
      if (numbers[count++] > 9999) return -1;
    }
    text.remove_prefix(lesser(end + 1, text.size()));
  }
  if (count != 5 || month == 0 || (timeAt != 1 && timeAt != 2)) return -1;
  std::int64_t year = static_cast<std::int64_t>(numbers[timeAt == 1 ? 4 : 1]);
  if (year < 100) year += year < 70 ? 2000 : 1900;
  const std::uint64_t seconds =
      (numbers[timeAt] * 60 + numbers[timeAt + 1]) * 60 + numbers[timeAt + 2];
  if (numbers[0] < 1 || numbers[0] > 31 || seconds > 86'400) return -1;
  const std::int64_t days = daysSince1970(year, month, static_cast<int>(numbers[0]));
  return (days * 86'400 + static_cast<std::int64_t>(seconds)) * 1000;
}

constexpr std::int64_t dayMs = 86'400'000;
constexpr std::int64_t clockSetMs = 1'577'836'800'000;  // 2020-01-01: before, the clock is not set

/// How long a Retry-After asks to wait, 24 h at most; 0 if it cannot be told.
inline std::int64_t readRetryAfter(std::string_view text, std::int64_t wallMs) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  std::uint64_t seconds = 0;
  if (readUnsigned(text, seconds)) {
    return static_cast<std::int64_t>(lesser<std::uint64_t>(seconds, dayMs / 1000)) * 1000;
  }
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos) return dayMs;
  if (wallMs < clockSetMs) return 0;
  return lesser(greater<std::int64_t>(readHttpDate(text) - wallMs, 0), dayMs);
}

constexpr std::int64_t longestPauseMs = 600'000;  // of the client's own

/// The longest pause after so many failures in a row: 2 s, then twice as long each time, to 10 min.
constexpr std::int64_t longestBackoffMs(int failures) {
  return failures > 9 ? longestPauseMs : lesser<std::int64_t>(1'000LL << failures, longestPauseMs);
}

/// The schedule of requests, and how much goes into one.
class Delivery {
 public:
  Delivery() = default;
  Delivery(std::int64_t intervalMs, std::size_t maxBytes, std::size_t maxEvents)
      : intervalMs_(intervalMs), maxBytes_(maxBytes), maxEvents_(maxEvents), bytes_(maxBytes),
        events_(maxEvents) {}

  std::size_t mostBytes() const { return bytes_; }
  std::size_t mostEvents() const { return events_; }
  std::int64_t dueMs() const { return nextMs_ == never ? never : greater(nextMs_, barrierMs_); }
  std::int64_t barrierMs() const { return barrierMs_; }
  std::int64_t begunMs() const { return begunMs_; }
  /// The end of a backoff or a Retry-After.
  std::int64_t pauseEndMs() const {
    return backingOff_ && nextMs_ != never ? greater(nextMs_, barrierMs_) : barrierMs_;
  }

  /// Something waits. The first request goes after 0.5 to 1.5 s, then one each interval. `first`:
  /// nothing waited before, so that a time which has passed was for nothing.
  void wake(std::int64_t nowMs, bool first, Random& random) {
    if (nextMs_ != never && (!first || nextMs_ > nowMs)) return;
    nextMs_ = nowMs + random.between(500, 1500);
    if (begunMs_ != never) nextMs_ = greater(nextMs_, begunMs_ + intervalMs_);
  }
  void sleep() { nextMs_ = never; }
  /// It could not be made now.
  void postpone(std::int64_t nowMs) { nextMs_ = nowMs + 1'000; }
  void begin(std::int64_t nowMs) {
    begunMs_ = nowMs;
    nextMs_ = never;
    backingOff_ = false;
    ++inARow_;
  }
  /// The server took something. `backlog`: there is more that was waiting before.
  void progress(bool whole, bool backlog, std::int64_t nowMs) {
    failures_ = inARow_ = 0;
    nextMs_ = backlog ? nowMs : begunMs_ + intervalMs_;
    if (!whole) return;
    bytes_ = lesser(bytes_ * 2, maxBytes_);
    events_ = lesser(events_ * 2, maxEvents_);
  }
  /// Exponential backoff with full jitter, 1 s to 10 min.
  void backOff(std::int64_t nowMs, Random& random) {
    failures_ = lesser(failures_ + 1, 30);
    inARow_ = 0;
    backingOff_ = true;
    nextMs_ = nowMs + random.between(1'000, longestBackoffMs(failures_));
  }
  void halveBytes(std::size_t tried) {
    bytes_ = greater<std::size_t>(lesser(tried, bytes_) / 2, 1);
  }
  void halveEvents(std::size_t tried) {
    events_ = greater<std::size_t>(lesser(tried, events_) / 2, 1);
  }
  /// Another try at once, but at most 12 in a row without a pause.
  void again(std::int64_t nowMs, Random& random) {
    if (inARow_ >= 12) return backOff(nowMs, random);
    nextMs_ = nowMs;
  }
  /// Nothing before that, as the server asked, a day at most. It may have named one moment to many
  /// clients: each comes back at one of its own, within as much time again, 10 min at most.
  void waitFor(std::int64_t waitMs, std::int64_t nowMs, Random& random) {
    barrierMs_ = nowMs + waitMs;
    const std::int64_t spreadMs = lesser(lesser(waitMs, dayMs - waitMs), longestPauseMs);
    const std::int64_t again = barrierMs_ + random.between(0, spreadMs);
    nextMs_ = nextMs_ == never ? again : greater(nextMs_, again);
    inARow_ = 0;
  }
  /// As soon as may be; a backoff is cut short at most once a second.
  void hurry(std::int64_t nowMs) {
    if (backingOff_ && lastCutMs_ != never && nowMs - lastCutMs_ < 1'000) return;
    if (backingOff_) lastCutMs_ = nowMs;
    nextMs_ = lesser(nextMs_, nowMs);
  }

 private:
  std::int64_t intervalMs_ = 0;
  std::size_t maxBytes_ = 0, maxEvents_ = 0;
  std::size_t bytes_ = 0, events_ = 0;
  std::int64_t nextMs_ = never, begunMs_ = never, lastCutMs_ = never;
  std::int64_t barrierMs_ = INT64_MIN;
  int failures_ = 0, inARow_ = 0;
  bool backingOff_ = false;
};

// ==== 11. Engine ==== the whole client, without clock, lock, thread or file ====
// Every call gets the moment it happens at. accept() takes an event in, next() gives the request
// that is due, settle() takes its answer; gather() gives the text that the file lacks.

// clang-format off
enum class Notice : unsigned char {
  notConfigured, noEntropy, noThread, noMemory, optionClamped, plainEndpoint, invalidName,
  invalidValue, tooLarge, queueFull, tooOld, refused, damaged, noProgress, requestFailed,
  callbackThrew, storageLocked, storageForeign, storageFailed, storageVanished, eraseFailed,
  choiceUnreadable, doNotTrack, personalId, shortKey, personalFile, unknownEvent
};
// clang-format on

struct NoticeRule {
  Severity severity;
  std::string_view code, message;  // where the message ends with a blank, details follow
};

constexpr NoticeRule noticeRules[] = {
    {Severity::failure, "not-configured",
     "appId takes 1 to 64 of A-Z a-z 0-9 _ -; nothing is tracked"},
    {Severity::failure, "no-entropy", "entropy gave no random bytes; nothing is tracked"},
    {Severity::warning, "no-thread", "no thread could be started; call poll() instead"},
    {Severity::failure, "no-memory", "the memory was not enough; nothing is tracked"},
    {Severity::warning, "option-clamped", "an option was out of range and has been changed: "},
    {Severity::warning, "plain-endpoint", "endpoint is not encrypted; use https or wss"},
    {Severity::warning, "invalid-name", "a name was empty, longer than 256 bytes or reserved: "},
    {Severity::warning, "invalid-value",
     "NaN, infinity or a null text cannot be sent, left out of: "},
    {Severity::warning, "too-large", "an event was not tracked; raise maxEventBytes: "},
    {Severity::warning, "queue-full", "events were dropped; raise maxQueueBytes"},
    {Severity::warning, "too-old", "events were dropped; raise cutoffMs"},
    {Severity::warning, "refused",
     "events were dropped that the server refused while it took others"},
    {Severity::warning, "damaged", "records of cacheFile could not be read and were skipped"},
    {Severity::warning, "no-progress",
     "an answer named no event; is endpoint right, and does transport return the whole body?"},
    {Severity::info, "request-failed", "a request failed and will be sent again"},
    {Severity::failure, "callback-threw", "a callback threw an exception: "},
    {Severity::info, "storage-locked", "another client uses cacheFile; events wait in memory"},
    {Severity::failure, "storage-foreign",
     "cacheFile is not ours, events wait in memory; set another"},
    {Severity::failure, "storage-failed", "cacheFile cannot be written, events wait in memory"},
    {Severity::warning, "storage-vanished",
     "cacheFile was removed or replaced, and is written anew"},
    {Severity::failure, "erase-failed",
     "what was unsent is still in cacheFile, and is tried again; the reason: "},
    {Severity::warning, "choice-unreadable",
     "cacheFile holds no readable choice, which counts as a no; ask, and call enableTracking()"},
    {Severity::info, "do-not-track",
     "the environment has DO_NOT_TRACK; ask and call enableTracking(), or see respectDoNotTrack"},
    {Severity::warning, "personal-id",
     "an id held personal data and is not used; give an opaque one, or set anonymizeKey: "},
    {Severity::failure, "short-key",
     "anonymizeKey takes 16 bytes or more; it is not used, and personal user ids are refused"},
    {Severity::warning, "personal-file",
     "events were dropped that an earlier run kept in cacheFile with PersonalData::allow"},
    {Severity::warning, "unknown-event", "not in catalogue, which is strict, and not tracked: "}};

constexpr std::size_t noticeCount = sizeof noticeRules / sizeof noticeRules[0];

constexpr std::size_t noticeBytes() {
  std::size_t sum = 0;
  for (const NoticeRule& rule : noticeRules) sum += rule.code.size() + rule.message.size();
  return sum;
}

/// The same as the program holds it: one text, and no pointers to be relocated.
class NoticeTexts {
 public:
  constexpr NoticeTexts() : text_(), begins_(), severities_() {
    std::uint16_t at = 0;
    for (std::size_t i = 0; i < noticeCount; ++i) {
      severities_[i] = static_cast<char>(noticeRules[i].severity);
      begins_[2 * i] = at;
      for (const char c : noticeRules[i].code) text_[at++] = c;
      begins_[2 * i + 1] = at;
      for (const char c : noticeRules[i].message) text_[at++] = c;
    }
    begins_[2 * noticeCount] = at;
  }
  constexpr Severity severity(std::size_t index) const {
    return static_cast<Severity>(severities_[index]);
  }
  constexpr std::string_view code(std::size_t index) const { return piece(2 * index); }
  constexpr std::string_view message(std::size_t index) const { return piece(2 * index + 1); }
  constexpr bool hasDetail(std::size_t index) const { return message(index).back() == ' '; }
  /// How many of the first ones have.
  constexpr std::size_t detailsAmong(std::size_t count) const {
    std::size_t details = 0;
    while (count-- > 0) details += hasDetail(count) ? 1u : 0u;
    return details;
  }

 private:
  constexpr std::string_view piece(std::size_t i) const {
    return {text_ + begins_[i], static_cast<std::size_t>(begins_[i + 1] - begins_[i])};
  }

  char text_[noticeBytes()];
  std::uint16_t begins_[2 * noticeCount + 1];
  char severities_[noticeCount];
};
inline constexpr NoticeTexts noticeTexts;

/// Diagnostics on their way to the host: counted here, told at most once a minute for each code.
class Notices {
 public:
  void add(Notice notice, std::string_view detail = {}, std::uint64_t count = 1) {
    if (count > 0) add(static_cast<std::size_t>(notice), detail, count);
  }
  /// When the next one may be told.
  std::int64_t dueMs() const {
    std::int64_t due = never;
    for (const Slot& slot : slots_) {
      if (pending_ && slot.count > 0) due = lesser(due, slot.notBeforeMs);
    }
    return due;
  }
  /// Takes the next one; false when there is none to tell now.
  bool take(std::int64_t nowMs, std::size_t& index, std::uint64_t& count, Buffer& message) {
    for (index = 0; pending_ && index < noticeCount; ++index) {
      Slot& slot = slots_[index];
      if (slot.count == 0 || slot.notBeforeMs > nowMs) continue;
      message.add(noticeTexts.message(index));
      if (const Buffer* const detail = detailOf(index)) message.add(detail->view());
      count = slot.count;
      slot.count = 0;
      slot.notBeforeMs = nowMs + 60'000;
      return true;
    }
    pending_ = dueMs() != never;
    return false;
  }

 private:
  struct Slot {
    std::uint64_t count = 0;
    std::int64_t notBeforeMs = INT64_MIN;
  };
  /// Null where the message is the same each time.
  Buffer* detailOf(std::size_t index) {
    const std::size_t before = noticeTexts.detailsAmong(index);
    return noticeTexts.hasDetail(index) ? &details_[before] : nullptr;
  }
  void add(std::size_t index, std::string_view detail, std::uint64_t count) {
    Slot& slot = slots_[index];
    Buffer* const details = detailOf(index);
    if (details != nullptr && slot.count == 0) details->clear();
    if (details != nullptr) add(*details, detail);
    slot.count += count;
    pending_ = true;
  }
  static void add(Buffer& details, std::string_view detail) {
    Fixed<64> told;
    Pieces pieces(detail, Redaction::all);
    for (std::string_view piece; pieces.next(piece);) writeCut(told, piece, told.room());
    if (details.view().find(told.view()) != std::string_view::npos) return;
    if (!details.empty()) details.add(", ");
    details.add(told.view().substr(0, details.room()));
  }
  Slot slots_[noticeCount];
  Fixed<64> details_[noticeTexts.detailsAmong(noticeCount)];
  bool pending_ = false;
};

struct Moment {
  std::int64_t wallMs = 0, steadyMs = 0;

  bool clockSet() const { return wallMs >= clockSetMs; }
};

struct Limits {
  std::int64_t reportIntervalMs = 0, sessionTimeoutMs = 0, cutoffMs = 0, answerTimeoutMs = 0,
               cacheDelayMs = 0;
  std::size_t maxQueueBytes = 0, maxEventBytes = 0, maxBatchBytes = 0;

  std::size_t recordBytes() const { return maxEventBytes + Queue::headerBytes; }
  std::size_t queueCapacity() const {
    return maxQueueBytes + maxQueueBytes / 8 + 2 * recordBytes();
  }
  std::size_t batchIds() const { return maxBatchBytes / 64 + 1; }
  std::size_t postCapacity() const {
    return maxBatchBytes + 8 + batchIds() * sizeof(std::uint64_t);
  }
  std::size_t scratchBytes() const { return greater(maxBatchBytes / 2, maxEventBytes + 256); }
  std::size_t answerBytes() const { return greater<std::size_t>(1 << 20, maxBatchBytes / 2); }
  /// Three ids of 64 bytes at least; with the device's text it leaves room in any event.
  std::size_t tailBytes() const {
    return greater<std::size_t>(lesser<std::size_t>(maxEventBytes / 4, 2048), 192);
  }
  std::size_t deviceBytes() const { return lesser<std::size_t>(maxEventBytes * 3 / 8, 1024); }
  std::size_t propsBytes() const { return maxEventBytes / 2; }
  /// Of numbers of events: as many as a small queue can have.
  std::size_t ranges() const { return lesser(maxQueueBytes / 256, RangeList::most); }
  /// What the file never exceeds: a device gives it a few pages of flash.
  std::size_t fileBytes() const {
    return 2 * maxQueueBytes + lesser<std::size_t>(maxQueueBytes, 64 << 10);
  }
  /// So much of the file is dead before it is written anew for that.
  std::size_t deadBytes() const { return greater<std::size_t>(maxQueueBytes / 4, 16 << 10); }
};

/// Hands out one piece of memory, front to back.
class Arena {
 public:
  Arena(void* data, std::size_t bytes) : at_(static_cast<char*>(data)), left_(bytes) {}
  static constexpr std::size_t alignment = alignof(std::uint64_t);

  char* take(std::size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    if (bytes > left_) return nullptr;
    left_ -= bytes;
    return std::exchange(at_, at_ + bytes);
  }
  Buffer buffer(std::size_t bytes) { return {take(bytes), bytes}; }

 private:
  char* at_;
  std::size_t left_;
};

/// What the host decided, checked and completed.
struct Setup {
  std::string_view appId, deviceId, anonId, anonymizeKey;  // the options outlive it
  std::string url;
  Redaction redaction = Redaction::all;
  Limits limits;
  bool webSocket = false, canSend = false, remember = false, tellsUpdate = false;
  bool refusesPersonalUsers = true;  // unless they are hashed
};

class Engine {
 public:
  Engine(const Setup& setup, Arena& arena, Notices& reports)
      : notices(reports), setup_(setup), limits_(setup_.limits),
        queue_(arena.take(limits_.queueCapacity()), limits_.queueCapacity(), limits_.maxQueueBytes,
               ranges(arena)),
        delivery_(limits_.reportIntervalMs, limits_.maxBatchBytes, limits_.batchIds()),
        tail_(arena.buffer(limits_.tailBytes())), deviceText_(arena.buffer(limits_.deviceBytes())) {
    identity.userId = arena.buffer(limits_.tailBytes());
    identity.props = arena.buffer(limits_.propsBytes());
    loadedGone_ = ranges(arena);
    loadedIds_ = ranges(arena);
  }

  Notices& notices;
  Device device;
  Identity identity;
  Random random;
  CacheFile file;
  Consent consent = Consent::notAsked;
  std::string customData;  // waits for its callback
  Fixed<64> latestVersion;

  const Setup& setup() const { return setup_; }
  /// To be used for requests, and for heartbeats.
  void keep(std::shared_ptr<Post> post, std::shared_ptr<Post> heartbeat) {
    post_ = std::move(post);
    heartbeat_ = std::move(heartbeat);
  }
  const Limits& limits() const { return limits_; }
  bool tracking() const { return tracking_; }

  // ---- what the host calls ----

  /// Ids are drawn or kept, a session is opened.
  Outcome enable(Moment now) {
    if (setup_.remember && consent != Consent::granted) file.mustRewrite = true;
    consent = Consent::granted;
    return begin(now);
  }
  Outcome begin(Moment now) {
    if (tracking_) return Outcome::ok;
    if (nextId_ == 0) nextId_ = static_cast<std::uint64_t>(random.between(idLowest, idHighest));
    drawIds();
    tracking_ = true;
    file.stateChanged = true;
    session_.open = false;
    deviceText_.clear();
    device.write(deviceText_);
    return accept({Type::init}, now);
  }
  /// Everything unsent goes, with user and properties.
  void disable() {
    consent = Consent::refused;
    tracking_ = inFlight_ = false;
    erasedEvents_ += queue_.clear();
    if (nextId_ != 0) queue_.wipe();  // else there was never anything
    identity.userId.wipe();
    identity.props.wipe();
    tail_.wipe();
    customData.clear();
    latestVersion.clear();
    session_.open = false;
    delivery_.sleep();
    file.pendingSinceMs = never;
  }
  /// And every id.
  void forget() {
    disable();
    identity.deviceId.wipe();
    identity.anonId.wipe();
    nextId_ = 0;
  }
  Outcome accept(const Event& event, Moment now) {
    if (!tracking_) return Outcome::trackingDisabled;
    now = ordered(now);
    const Session before = session_;
    const bool first = queue_.empty();
    const bool opens = event.type == Type::init || !session_.open || isIdle(now);
    if (opens) openSession();
    const Outcome outcome = write(event, opens, now);
    if (outcome == Outcome::ok) {
      session_.lastCall = now;
      wake(first, now);
      if (event.type == Type::error) file.urgent = true;
    } else if (opens) {
      session_ = before;
      writeTail();
    }
    return outcome;
  }
  Outcome setUserId(std::string_view id, Moment now) {
    if (!tracking_) return Outcome::trackingDisabled;
    Fixed<22> hashed;
    if (isPersonal(id) && !setup_.anonymizeKey.empty()) {
      writeAnonymized(hashed, id, setup_.anonymizeKey);
      id = hashed.view();
    } else if (setup_.refusesPersonalUsers && isPersonal(id)) {
      return refuseUser(now);
    }
    if (room() == nullptr) return Outcome::queueFull;
    if (!fitsTail(id)) return tooLarge("userId");
    const bool other = id.empty() || (!identity.userId.empty() && identity.userId.view() != id);
    identity.userId.clear();
    identity.userId.add(id);
    if (other) identity.props.clear();
    changeState(now);
    writeTail();
    return accept({Type::userId}, now);
  }
  bool isRefused(std::string_view id) const {
    return setup_.redaction != Redaction::none && isPersonal(id);
  }
  /// Nobody is better than the one before.
  Outcome refuseUser(Moment now) {
    identity.userId.clear();
    identity.props.clear();
    changeState(now);
    writeTail();
    notices.add(Notice::personalId, "userId");
    return Outcome::personalData;
  }
  Outcome setProps(Properties properties, bool overwrite, Moment now) {
    if (!tracking_) return Outcome::trackingDisabled;
    char* const memory = room();
    if (memory == nullptr) return Outcome::queueFull;
    Buffer merged(memory, limits_.propsBytes());
    bool any = overwrite;
    const Named named(properties, setup_.redaction);
    if (!overwrite) keepOthers(merged, named);
    for (const Property& property : named) {
      if (!detected(property.name)) any = mergeProperty(merged, property, named) || any;
    }
    if (merged.full()) return tooLarge("setProps");
    identity.props.clear();
    identity.props.add(merged.view());
    for (const Property& property : properties) replaceDetected(property);
    changeState(now);
    writeTail();
    deviceText_.clear();
    device.write(deviceText_);
    return any ? accept({Type::props}, now) : Outcome::ok;
  }
  bool isDetected(std::string_view name) { return detected(name) != nullptr; }
  void online(bool connected, Moment now) {
    offline_ = !connected;
    if (!connected && setup_.webSocket && inFlight_) endUnanswered(now);
    if (connected && !queue_.empty() && !inFlight_) delivery_.hurry(now.steadyMs);
  }
  /// Whether something goes out soon that was accepted before `mark`.
  std::uint64_t flushMark() const { return nextId_; }
  bool delivered(std::uint64_t mark) const {
    if (queue_.empty()) return true;
    const Queue::Record oldest = queue_.at(queue_.oldest());
    return !oldest.has(Queue::loaded) && oldest.id >= mark;
  }
  void hurry(Moment now) {
    if (!queue_.empty() && !inFlight_) delivery_.hurry(now.steadyMs);
  }
  bool pausing(Moment now) const { return offline_ || now.steadyMs < delivery_.pauseEndMs(); }

  // ---- requests ----

  /// What time alone does: a request is given up, events grow too old.
  void tend(Moment now) {
    if (!tracking_) return;
    if (session_.open && isIdle(now)) session_.open = false;
    if (barrier_.forMs != 0 && now.steadyMs >= delivery_.barrierMs()) {
      barrier_ = {};
      changeState(now);
    }
    if (inFlight_ && now.steadyMs >= answerDueMs_) endUnanswered(now);
    expire(now);
  }

  /// The request that is due, or nothing. `fresh` makes a Post where the last one is still held.
  template <class Fresh>
  std::shared_ptr<Post> next(Moment now, Fresh&& fresh) {
    const bool beat = now.steadyMs < requestDueMs();
    if (beat && now.steadyMs < heartbeatDueMs()) return nullptr;
    std::shared_ptr<Post>& post = beat ? heartbeat_ : post_;
    lastSentMs_ = now.steadyMs;
    if (!isFree(post)) {
      std::shared_ptr<Post> made = fresh(beat);
      if (made == nullptr) return delivery_.postpone(now.steadyMs), nullptr;  // it may come back
      post.swap(made);
    }
    post->epoch = post->currentEpoch->load();
    post->body.clear();
    post->ids.clear();
    if (beat) return writeHeartbeat(*post), post;
    if (batch(*post, now)) return post;
    return delivery_.postpone(now.steadyMs), nullptr;
  }
  /// The transport's answer, or a later one.
  void settle(Post& post, const Response& response, Moment now) {
    if (!tracking_ || post.cancelled() || post.heartbeat) return;
    const bool current = inFlight_ && &post == post_.get();
    if (response.status == Response::pending().status) return;
    const bool good = response.status >= 200 && response.status < 300;
    Answer answer;
    if (good) readAnswer(response.body, answer, limits_.answerBytes());
    ReportedIds ids(answer.reportedIds);
    for (std::uint64_t id = 0; ids.next(id);) post.ids.name(id);
    if (answer.confirmed && !setup_.webSocket) post.ids.nameAll();
    if (current) adopt(answer, now);
    const std::size_t removed = dropNamed(post);
    if (current) conclude(response, removed, now);
    noteGone(now);
  }
  /// A message from the server, in WebSocket mode: it names events of any request.
  void receive(std::string_view message, Moment now) {
    if (!tracking_) return;
    Answer answer;
    IdRanges others;
    std::size_t strangers = 0;
    const auto name = [&](std::uint64_t id) {
      if (post_ != nullptr && !post_->cancelled() && post_->ids.name(id)) return;
      if (++strangers > limits_.batchIds()) return;  // no earlier request carried more
      if (others.add(id, id)) return;
      acknowledge(others);
      others.clear();
      others.add(id, id);
    };
    readAnswer(message, answer, limits_.answerBytes());
    ReportedIds ids(answer.reportedIds);
    for (std::uint64_t id = 0; ids.next(id);) name(id);
    adopt(answer, now);
    acknowledge(others);
    if (post_ != nullptr && !post_->cancelled()) dropNamed(*post_);
    if (inFlight_ && post_->ids.named() == post_->ids.count()) {
      conclude({200, {}, {}}, post_->ids.named(), now);
    }
    noteGone(now);
  }

  // ---- the file ----

  /// Text that the file lacks, without checksums: state, numbers of what left, events.
  void gather(Buffer& out, Moment now) {
    if (file.freshLine) out.add('\n');
    const std::size_t start = out.size();
    if (file.stateChanged && writeStateLine(out, now)) file.stateChanged = false;
    if (!queue_.goneIds().empty()) writeGoneLine(out);
    for (std::size_t at = queue_.unfiled(); at != queue_.end(); at = queue_.unfiled()) {
      if (!writeLine(out, {lineKind(at), queue_.text(at)})) break;
      queue_.mark(at, Queue::writing);
      file.mayTidy = false;
    }
    if (out.size() == start) out.clear();
    if (queue_.unfiled() == queue_.end()) file.pendingSinceMs = never;
  }
  /// What the storage said when it was opened. `stale`: what it holds is still to be erased.
  void fileOpened(StorageState state, bool stale, Moment now) {
    const bool gone = state == StorageState::absent || state == StorageState::locked;
    if (gone && file.known) fileLost(now);
    file.lookedMs = now.steadyMs;
    file.opened = true;
    file.known = file.known || state == StorageState::ready;
    file.state = state;
    if (stale && state == StorageState::ready) file.mustRewrite = file.holdsMore = true;
    if (state == StorageState::ready || state == StorageState::absent) return;
    const bool foreign = state == StorageState::foreign;
    file.retryAtMs = now.steadyMs + (foreign ? CacheFile::rewriteGapMs : CacheFile::retryMs);
    notices.add(foreign                         ? Notice::storageForeign
                : state == StorageState::locked ? Notice::storageLocked
                                                : Notice::storageFailed);
  }
  void appended(bool done, std::size_t bytes, Moment now) {
    queue_.written(done);
    file.bytes += bytes;
    file.unsynced = file.appendedTo = true;
    file.freshLine = !done;
    if (!done) failFile(now);
  }
  /// The content of a new file, piece by piece; an empty piece is the end.
  void gatherAll(Buffer& out, bool begins, Moment now) {
    if (begins) {
      queue_.markAll(0, Queue::writing);
      queue_.goneIds().clear();
      queue_.loseTrack(false);
      writeFirstLine(out, setup_.appId, setup_.remember ? consent : Consent::notAsked);
      if (!identity.deviceId.empty()) writeStateLine(out, now);
      file.stateChanged = false;
    }
    for (std::size_t at = queue_.unwritten(); at != queue_.end(); at = queue_.unwritten()) {
      if (!writeLine(out, {lineKind(at), queue_.text(at)})) return;
      queue_.mark(at, Queue::writing);
    }
    if (!file.stateChanged) file.pendingSinceMs = never;
  }
  void rewritten(bool done, std::size_t bytes, Moment now) {
    if (!done) return queue_.written(false), failFile(now);
    queue_.rewritten();
    file.opened = file.known = true;
    file.state = StorageState::ready;
    file.bytes = bytes;
    file.mustRewrite = file.unsynced = file.freshLine = file.urgent = file.appendedTo = false;
    file.holdsMore = file.mayTidy = false;
    file.lastRewriteMs = file.lastSyncMs = now.steadyMs;
    noteGone(now);
  }
  /// When to see whether the file, which nothing is written to, is still there.
  std::int64_t lookDueMs() const {
    const bool matters = tracking_ && file.usable() && queue_.filedEvents() > 0;
    return matters ? file.lookedMs + CacheFile::rewriteGapMs : never;
  }
  void looked(bool vanished, Moment now) {
    file.lookedMs = now.steadyMs;
    if (!vanished) return;
    fileLost(now);
    notices.add(Notice::storageVanished);
  }
  bool mirrorsFile() const { return tracking_ && file.known; }
  /// All that is held, as the front of a JSON object. `alone`: of the file nothing more is known.
  std::string exported(const Held& held, bool alone, Moment now) {
    std::string json(held.state);
    if (tracking_ || json.empty()) {
      json.resize(2 * limits_.recordBytes() + 512);
      Buffer state(json.data(), json.size());
      noteBarrier(now);
      writeState(state, setup_.appId, identity, barrier_);
      json.resize(state.size());
    }
    json.pop_back();
    json.append(keyOf(Field::events)) += '[';
    const std::size_t start = json.size();
    const auto add = [&](std::string_view event) {
      if (json.size() > start) json += ',';
      json.append(event);
    };
    for (const Held::Entry& entry : held.events) add(entry.event);
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if ((alone || !record.has(Queue::inFile)) && !held.has(record.id)) add(queue_.text(at));
    }
    return json += ']';
  }
  /// The queue is in memory alone.
  void unfile() {
    queue_.markAll(0, Queue::inFile | Queue::writing);
    queue_.goneIds().clear();
    queue_.loseTrack(false);
  }
  /// There is no file any more.
  void fileLost(Moment now) {
    unfile();
    file.opened = file.known = file.mustRewrite = file.holdsMore = file.unsynced = false;
    file.state = StorageState::absent;
    file.bytes = 0;
    changeState(now);
  }
  void synced(bool done, Moment now) {
    file.unsynced = !done;
    file.urgent = false;
    file.lastSyncMs = now.steadyMs;
    if (!done) notices.add(Notice::storageFailed);
  }
  void fileClosed() {
    file.opened = file.known = file.mustRewrite = file.holdsMore = false;
    file.unsynced = file.urgent = false;
    file.state = StorageState::absent;
  }
  bool isSyncDue(Moment now) const {
    return file.unsynced &&
           (file.urgent || now.steadyMs >= file.lastSyncMs + limits_.reportIntervalMs);
  }
  bool unfiledEvents() { return queue_.unfiled() != queue_.end(); }
  /// Appending would not do.
  bool mustRewrite() const {
    return file.mustRewrite || file.state == StorageState::absent || queue_.lostTrack();
  }
  std::int64_t tidyingDueMs() const {
    const bool worth = file.mayTidy && file.mostlyDead(liveFileBytes(), limits_.deadBytes());
    return worth ? file.lastRewriteMs + CacheFile::rewriteGapMs : never;
  }
  /// Once no request follows at once, what there is to write to a new file is the least.
  bool tidyingDue(Moment now) const {
    return now.steadyMs >= tidyingDueMs() && now.steadyMs < requestDueMs();
  }
  bool fileWouldOverflow(std::size_t more) const { return file.bytes + more > limits_.fileBytes(); }
  bool worthTidying() const {
    return file.bytes > liveFileBytes() || queue_.lostTrack() ||
           (queue_.empty() && file.appendedTo);
  }

  /// Before the records of a file are read.
  void loadBegins() {
    loading_ = Loading();
    loadedGone_.clear();
    loadedIds_.clear();
    loading_.before = queue_.events();
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const std::uint64_t id = queue_.at(at).id;
      if (!loadedIds_.add(id, id)) loading_.seenAll = false;
      queue_.mark(at, 0, Queue::loaded);  // which is said of this reading alone
    }
    loading_.dropped = droppedQueueFull_;
    loading_.reading = true;
    loading_.takesState = !tracking_ && identity.deviceId.empty();
  }
  /// Reads records; returns how far it came. What is cut off at the end is left for the next call,
  /// unless there is none.
  std::size_t load(std::string_view text, bool last, bool idsOnly, Moment now) {
    std::size_t at = 0;
    while (at < text.size()) {
      const std::string_view rest = text.substr(at);
      Line line;
      std::size_t bytes = 0;
      if (rest[0] == '\n') {
        ++at;
      } else if (readLine(rest, line, bytes)) {
        loading_.inDamage = false;
        loadLine(line, idsOnly, now);
        at += bytes + 1;
      } else {
        const std::size_t end = rest.find('\n');
        if (end == std::string_view::npos && !last) break;
        if (!idsOnly) countDamage(rest);
        at += lesser(end, rest.size());
      }
    }
    return lesser(at, text.size());
  }
  void loadEnds(bool ours, Moment now) {
    forgetLoadedGone();
    loadBarrier(loading_.barrier, now);
    loading_.reading = false;
    if (!ours) return;
    notices.add(Notice::queueFull, {}, droppedQueueFull_ - loading_.dropped);
    if (loading_.personal) dropLoaded();
    if (loading_.before > 0 || tracking_) queue_.loadedFirst();
    nextExpiryMs_ = now.steadyMs;
    expire(now);
    if (!queue_.empty() && !inFlight_) {
      delivery_.wake(now.steadyMs, loading_.before == 0, random);
    }
    noteGone(now);
  }

  // ---- when, and how things stand ----

  /// When there is something to do: steady ms, or never.
  std::int64_t dueMs() {
    const std::int64_t request = inFlight_ ? answerDueMs_ : requestDueMs();
    const std::int64_t expiry = tracking_ && !queue_.empty() ? nextExpiryMs_ : never;
    return lesser(lesser(request, heartbeatDueMs()), lesser(expiry, fileDueMs()));
  }
  bool fileDue(Moment now) { return now.steadyMs >= fileDueMs(); }
  std::int64_t requestDueMs() const {
    const bool possible = tracking_ && setup_.canSend && !offline_ && !inFlight_ && !queue_.empty();
    return possible ? delivery_.dueMs() : never;
  }
  void fill(Stats& stats, Moment now) {
    stats.queuedEvents = queue_.events();
    stats.queuedBytes = queue_.bytes();
    stats.cacheBytes = file.bytes;
    stats.acceptedEvents = accepted_;
    stats.acknowledgedEvents = acknowledged_;
    stats.erasedEvents = erasedEvents_;
    stats.requests = requests_;
    stats.failedRequests = failedRequests_;
    stats.droppedQueueFull = droppedQueueFull_;
    stats.droppedTooOld = droppedTooOld_;
    stats.droppedRefused = droppedRefused_;
    stats.droppedDamaged = droppedDamaged_;
    stats.droppedPersonalData = droppedPersonalData_;
    if (file.wanted && !file.usable()) stats.notCached = queue_.events() - queue_.filedEvents();
    const std::int64_t due = requestDueMs();
    if (due != never) stats.nextRequestInMs = greater<std::int64_t>(due - now.steadyMs, 0);
    stats.lastStatus = lastStatus_;
    stats.storage = file.state;
    stats.consent = consent;
    stats.trackingEnabled = tracking_;
  }
  std::uint64_t dropped() const {
    return droppedQueueFull_ + droppedTooOld_ + droppedRefused_ + droppedDamaged_ +
           droppedPersonalData_;
  }
  bool queueEmpty() const { return queue_.empty(); }
  bool allFiled() const { return queue_.events() == queue_.filedEvents(); }

 private:
  static constexpr std::int64_t idLowest = std::int64_t{1} << 32,
                                idHighest = (std::int64_t{1} << 52) - idLowest;  // and counts up

  struct Session {
    std::uint64_t id = 0, initId = UINT64_MAX;
    Moment lastCall;
    bool open = false;
  };
  struct Loading {
    std::size_t before = 0;
    std::uint64_t dropped = 0;
    bool takesState = false;
    bool reading = false;
    bool personal = false;  // there are events that are not redacted, and should be
    std::uint64_t sessionId = 0;
    bool inDamage = false, damaged = false;  // there, or anywhere before
    Barrier barrier;                         // of the last state
    bool seenAll = true;
  };

  RangeList ranges(Arena& arena) const {
    char* const memory = arena.take(limits_.ranges() * sizeof(RangeList::Range));
    const std::size_t count = memory == nullptr ? 0 : limits_.ranges();
    return {reinterpret_cast<RangeList::Range*>(memory), count};
  }

  // ---- sessions and identity ----

  /// What the file says of the user and of the server's wish has changed.
  void changeState(Moment now) {
    file.stateChanged = true;
    file.note(now.steadyMs);
  }
  Moment ordered(Moment now) {
    now.steadyMs = latestMs_ = greater(latestMs_, now.steadyMs);
    return now;
  }
  bool isIdle(Moment now) const {
    const Moment& last = session_.lastCall;
    const bool comparable = now.clockSet() && last.clockSet();
    return now.steadyMs - last.steadyMs >= limits_.sessionTimeoutMs ||
           (comparable && now.wallMs - last.wallMs >= limits_.sessionTimeoutMs);
  }
  void openSession() {
    session_.open = true;
    do {
      session_.id = static_cast<std::uint64_t>(random.between(10'000'000, 99'999'999));
    } while (isQueuedSession(session_.id));
    writeTail();
  }
  bool isQueuedSession(std::uint64_t id) const {
    Fixed<40> key;
    writeCount(key, Field::sessionId, id);
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const bool first = queue_.at(at).has(Queue::first);
      if (first && queue_.text(at).rfind(key.view()) != std::string_view::npos) return true;
    }
    return false;
  }
  void drawIds() {
    if (!setup_.deviceId.empty()) identity.deviceId.set(setup_.deviceId);
    if (!setup_.anonId.empty()) identity.anonId.set(setup_.anonId);
    if (identity.deviceId.empty()) random.writeId(identity.deviceId, 15);
    if (identity.anonId.empty()) random.writeId(identity.anonId, 12);
  }
  void writeTail() {
    tail_.clear();
    writeCount(tail_, Field::sessionId, session_.id);
    identity.write(tail_);
  }
  /// Whether what every event says of the user fits into the tail, with ids of so many bytes.
  bool fitsTail(std::string_view userId, std::size_t idBytes) {
    constexpr std::size_t keys = 64;  // and the session's id
    char* const memory = room();
    if (memory == nullptr || userId.size() > identity.userId.capacity()) return false;
    Buffer probe(memory, limits_.tailBytes());
    writeText(probe, Field::userId, userId);
    return !probe.full() && probe.size() + idBytes + keys <= limits_.tailBytes();
  }
  bool fitsTail(std::string_view userId) {
    return fitsTail(userId, identity.deviceId.size() + identity.anonId.size());
  }
  /// The members of the properties so far that `properties` does not name.
  void keepOthers(Buffer& merged, const Named& properties) {
    JsonReader reader(identity.props.view());
    std::string_view name;
    while (reader.peek() != '\0' && reader.string(name) && reader.word(":")) {
      const char* const begin = name.data() - 1;
      reader.scalar();
      const std::string_view member(begin, static_cast<std::size_t>(reader.position() - begin));
      if (reader.peek() == ',') reader.word(",");
      if (isNamed(name, properties)) continue;
      if (!merged.empty()) merged.add(',');
      merged.add(member);
    }
  }
  bool isNamed(std::string_view rawName, const Named& properties) {
    char* const memory = room() + limits_.propsBytes();
    for (const Property& property : properties) {
      Buffer name(memory, limits_.propsBytes());
      if (!isSayable(property.value)) continue;
      if (properties.isRepeated(name, property)) continue;
      writeRedacted(name, property.name, setup_.redaction);
      if (name.view().substr(1, name.size() - 2) == rawName) return true;
    }
    return false;
  }
  bool mergeProperty(Buffer& merged, const Property& property, const Named& all) {
    if (merged.full()) return false;  // cut() would forget it
    if (all.isRepeated(merged, property)) return false;
    if (!isSayable(property.value)) return notices.add(Notice::invalidValue, property.name), false;
    writeProperty(merged, property, merged.empty(), all);
    return true;
  }
  /// `version`, `locale` and the like are the device's, not the user's.
  Buffer* detected(std::string_view name) {
    return name == "version"     ? &device.version
           : name == "locale"    ? &device.locale
           : name == "platform"  ? &device.platform
           : name == "osVersion" ? &device.osVersion
           : name == "deviceId"  ? &identity.deviceId
                                 : nullptr;
  }
  void replaceDetected(const Property& property) {
    Buffer* const target = detected(property.name);
    if (target == nullptr) return;
    Fixed<64> text;
    if (target == &identity.deviceId && isRefused(property.value.text())) {
      return notices.add(Notice::personalId, property.name);
    }
    if (property.value.kind() == Value::Kind::text) addDetected(text, property);
    else if (isSayable(property.value)) writeValue(text, property.value);
    const bool fits = target != &identity.deviceId ||
                      fitsTail(identity.userId.view(), text.size() + identity.anonId.size());
    if (text.empty() || text.full() || !fits) {
      return notices.add(Notice::invalidValue, property.name);
    }
    target->clear();
    target->add(text.view());
  }

  /// Nothing of it is left out, or it is too much.
  void addDetected(Buffer& to, const Property& property) const {
    Pieces pieces(property.value.text(), redactionOf(property.name, setup_.redaction));
    for (std::string_view piece; pieces.next(piece);) to.add(piece);
  }

  // ---- an event in ----

  Outcome tooLarge(std::string_view what) {
    notices.add(Notice::tooLarge, what);
    return Outcome::tooLarge;
  }
  /// Free memory for two events, making some if there must be.
  char* room() {
    char* memory = queue_.space(2 * limits_.recordBytes());
    while (memory == nullptr && makeRoom(queue_.maxBytes() - queue_.bytes() + 1)) {
      memory = queue_.space(2 * limits_.recordBytes());
    }
    return memory;
  }
  /// While a file is read nothing goes but what is read from it, which is older.
  bool makeRoom(std::size_t bytes) {
    return queue_.makeRoom(bytes, droppedQueueFull_, loading_.reading);
  }
  /// Writes the event behind the queue, behind the init that its session may need, and pushes both.
  Outcome write(const Event& event, bool opens, Moment now) {
    const std::uint64_t dropped = droppedQueueFull_;
    char* const memory = room();
    if (memory == nullptr) return Outcome::queueFull;
    std::size_t initBytes = 0, eventBytes = 0;
    std::size_t unsayable = 0;
    const std::uint64_t id = nextId_ + (opens ? 1 : 0);
    if (opens && !encodeInit(memory, nextId_, dateOf(now, -500), initBytes))
      return tooLarge("init");
    if (event.type != Type::init) {
      char* const at = memory + (opens ? Queue::headerBytes + initBytes : 0);
      if (!encodeEvent(at, event, envelope(id, dateOf(now, 0), event), eventBytes, unsayable)) {
        return tooLarge(event.name);
      }
    }
    const bool fits = makeRoom(initBytes + eventBytes);
    notices.add(Notice::queueFull, {}, droppedQueueFull_ - dropped + (fits ? 0 : 1));
    if (!fits) return Outcome::queueFull;
    notices.add(Notice::invalidValue, event.name, unsayable);
    if (opens) session_.initId = nextId_, push(initBytes, Queue::init, now);
    if (eventBytes != 0) push(eventBytes, 0, now);
    return Outcome::ok;
  }
  void push(std::size_t bytes, unsigned flags, Moment now) {
    queue_.push(nextId_++, now.steadyMs, bytes, flags);
    ++accepted_;
    nextExpiryMs_ = lesser(nextExpiryMs_, now.steadyMs + limits_.cutoffMs + 1);
  }
  static std::int64_t dateOf(Moment now, std::int64_t shiftMs) {
    return now.clockSet() ? now.wallMs + shiftMs : -1;
  }
  Envelope envelope(std::uint64_t id, std::int64_t dateMs, const Event& event) const {
    return {id,
            dateMs,
            identity.props.view(),
            tail_.view(),
            event.tellsDevice() ? deviceText_.view() : std::string_view(),
            setup_.redaction};
  }
  bool encodeEvent(char* memory, const Event& event, const Envelope& parts, std::size_t& bytes,
                   std::size_t& unsayable) const {
    Buffer out(memory + Queue::headerBytes, limits_.maxEventBytes);
    unsayable = encode(out, event, parts);
    bytes = out.size();
    return !out.full();
  }
  /// With the user's properties, or without them if it must be.
  bool encodeInit(char* memory, std::uint64_t id, std::int64_t dateMs, std::size_t& bytes) const {
    const Event event = {Type::init};
    std::size_t unsayable = 0;
    Envelope parts = envelope(id, dateMs, event);
    if (encodeEvent(memory, event, parts, bytes, unsayable)) return true;
    parts.props = {};
    return encodeEvent(memory, event, parts, bytes, unsayable);
  }
  void wake(bool first, Moment now) {
    file.note(now.steadyMs);
    if (!inFlight_) delivery_.wake(now.steadyMs, first, random);
  }
  void expire(Moment now) {
    if (now.steadyMs < nextExpiryMs_) return;
    const std::int64_t oldest = now.steadyMs - limits_.cutoffMs;
    std::uint64_t lastInit = 0;
    const std::uint64_t expired = queue_.expire(oldest, &lastInit);
    droppedTooOld_ += expired;
    notices.add(Notice::tooOld, {}, expired);
    if (lastInit == session_.initId) session_.open = false;  // what follows needs another
    nextExpiryMs_ = never;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const std::int64_t born = queue_.at(at).bornMs;
      if (born >= oldest) nextExpiryMs_ = lesser(nextExpiryMs_, born + limits_.cutoffMs + 1);
    }
    noteGone(now);
  }

  // ---- a request out, an answer in ----

  /// No copy of its handle is left, and what the last holder did is known here.
  static bool isFree(const std::shared_ptr<Post>& post) {
    if (post == nullptr || post.use_count() != 1) return false;
    std::shared_ptr<Post>(post).reset();  // its decrement acquires what the last one released
    return true;
  }
  std::int64_t heartbeatDueMs() const {
    if (!setup_.webSocket || !setup_.canSend || !tracking_ || !session_.open || offline_ ||
        inFlight_ || !queue_.empty() || lastSentMs_ == never) {
      return never;
    }
    const std::int64_t due = greater(lastSentMs_ + 60'000, delivery_.pauseEndMs());
    const std::int64_t idle = due - session_.lastCall.steadyMs;
    return idle < limits_.sessionTimeoutMs ? due : never;
  }
  void writeHeartbeat(Post& post) {
    Buffer& out = post.body;
    writeText(out, Field::type, "heartbeat");
    writeCount(out, Field::sessionId, session_.id);
    writeText(out, Field::deviceId, identity.deviceId.view());
    writeText(out, Field::machineId, identity.deviceId.view());
    out.add('}');
  }
  bool isReady(const Queue::Record& record) const {
    return !record.has(Queue::aside) && (record.has(Queue::inFile) || !file.works());
  }
  /// The lowest round there is among those that can go; false if there are none.
  bool lowestRound(unsigned& round) const {
    bool any = false;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!isReady(record)) continue;
      round = any ? lesser(round, record.rank()) : record.rank();
      any = true;
      if (round == 0) break;
    }
    return any;
  }
  bool batch(Post& post, Moment now) {
    unsigned round = 0;
    if (!lowestRound(round)) {
      queue_.markAll(0, Queue::aside);  // those set aside are all there is: they try again
      if (!lowestRound(round)) return false;
    }
    post.body.add(keyOf(Field::data));
    post.body.add('[');
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!isReady(record) || record.rank() != round) continue;
      const bool none = post.ids.count() == 0;
      const std::size_t size = post.body.size() + record.bytes + 3;
      if (!none && (size > delivery_.mostBytes() || post.ids.count() >= delivery_.mostEvents()))
        break;
      if (!none) post.body.add(',');
      post.body.add(queue_.text(at));
      post.ids.add(record.id);
      queue_.mark(at, Queue::inRequest | Queue::sent);
    }
    post.body.add("]}");
    ++requests_;
    inFlight_ = true;
    namedInFlight_ = 0;
    answerDueMs_ = now.steadyMs + limits_.answerTimeoutMs;
    delivery_.begin(now.steadyMs);
    return true;
  }
  /// What the answer names leaves. Returns how many.
  std::size_t dropNamed(const Post& post) {
    std::size_t removed = 0;
    for (std::size_t at = queue_.oldest(); at != queue_.end() && removed < post.ids.named();
         at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!record.has(Queue::sent) || !post.ids.isNamed(record.id)) continue;
      queue_.remove(at);
      ++removed;
    }
    acknowledged_ += removed;
    if (inFlight_ && &post == post_.get()) namedInFlight_ += removed;
    return removed;
  }
  void acknowledge(const RangeList& ids) {
    if (ids.empty()) return;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!record.has(Queue::sent) || !ids.contains(record.id)) continue;
      queue_.remove(at);
      ++acknowledged_;
    }
  }
  /// The request is over; those of its events that are left get `flag`, or go behind the others:
  /// as far as `round`, or `roundAgain` if they were behind already.
  void endRequest(unsigned flag, unsigned round, unsigned roundAgain) {
    inFlight_ = false;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      nextExpiryMs_ = lesser(nextExpiryMs_, record.bornMs + limits_.cutoffMs + 1);
      if (!record.has(Queue::inRequest)) continue;
      const unsigned next = greater(record.rank(), record.rank() == 0 ? round : roundAgain);
      queue_.mark(at, flag | next, Queue::inRequest | Queue::suspect);
    }
  }
  /// The table of answers.
  void conclude(const Response& response, std::size_t removed, Moment now) {
    const int status = lastStatus_ = response.status;
    const bool alone = post_->ids.count() == 1;
    const bool good = status >= 200 && status < 300;
    if (good && (removed > 0 || namedInFlight_ > 0)) return progress(now);
    ++failedRequests_;
    notices.add(good ? Notice::noProgress : Notice::requestFailed);
    const std::int64_t waitMs =
        status == 429 || status == 503 ? readRetryAfter(response.retryAfter, now.wallMs) : 0;
    if (status == 413 || status == 400 || status == 422) return refused(status, alone, now);
    const bool failsAlone = alone && status >= 500 && waitMs == 0;
    endRequest(0, failsAlone ? Queue::later : 0u, Queue::laterMost);
    if (waitMs == 0) return delivery_.backOff(now.steadyMs, random);
    delivery_.waitFor(waitMs, now.steadyMs, random);
    barrier_ = {now.clockSet() ? now.wallMs + waitMs : -1, waitMs};
    changeState(now);
  }
  /// Something waited before the request began, and has not failed as one passed over.
  bool hasBacklog() const {
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (record.bornMs <= delivery_.begunMs() && record.rank() < Queue::laterMost) return true;
    }
    return false;
  }
  void progress(Moment now) {
    endRequest(0, Queue::later, Queue::later);
    suspectAside();
    const bool whole = post_->ids.named() == post_->ids.count();
    delivery_.progress(whole, hasBacklog(), now.steadyMs);
    if (queue_.empty()) delivery_.sleep();
  }
  void refused(int status, bool alone, Moment now) {
    if (alone) dropSuspect(), anyAside_ = true;
    endRequest(alone ? Queue::aside : 0u, 0, 0);
    if (!alone && status == 413) delivery_.halveBytes(post_->body.size());
    if (!alone && status != 413) delivery_.halveEvents(post_->ids.count());
    unsigned round = 0;
    if (alone && !lowestRound(round)) return delivery_.backOff(now.steadyMs, random);
    delivery_.again(now.steadyMs, random);
  }
  /// Another event was taken after these had been refused alone: they are tried once more, last.
  void suspectAside() {
    if (!std::exchange(anyAside_, false)) return;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      if (queue_.at(at).has(Queue::aside)) queue_.mark(at, Queue::suspect, Queue::aside);
    }
  }
  /// The event in the request is refused alone again, while others were taken: it is wrong.
  void dropSuspect() {
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!record.has(Queue::inRequest) || record.rank() != Queue::suspect) continue;
      queue_.remove(at);
      ++droppedRefused_;
      notices.add(Notice::refused);
    }
  }
  /// The answer stays out; over a WebSocket some of it may have come.
  void endUnanswered(Moment now) {
    lastStatus_ = 0;
    if (namedInFlight_ > 0) return progress(now);
    ++failedRequests_;
    notices.add(Notice::requestFailed);
    endRequest(0, 0, 0);
    delivery_.backOff(now.steadyMs, random);
  }
  void adopt(const Answer& answer, Moment now) {
    const std::size_t idBytes = identity.deviceId.size() + answer.anonId.size();
    if (!answer.anonId.empty() && answer.anonId.view() != identity.anonId.view() &&
        fitsTail(identity.userId.view(), idBytes)) {
      identity.anonId.set(answer.anonId.view());
      changeState(now);
      writeTail();
    }
    if (setup_.tellsUpdate && isNewer(answer.latestVersion.view(), device.version.view())) {
      latestVersion.set(answer.latestVersion.view());
    }
    if (answer.customData.size() > 0 && answer.customData.size() <= customData.capacity()) {
      customData = answer.customData;
    }
  }

  // ---- lines of the file ----

  char lineKind(std::size_t at) const {
    const Queue::Record record = queue_.at(at);
    return kind(record.has(Queue::first) && record.has(Queue::initSettled) ? 'f' : 'e');
  }
  /// A capital where what is written may be personal.
  char kind(char lower) const {
    return setup_.redaction == Redaction::none ? static_cast<char>(lower - 32) : lower;
  }
  void noteBarrier(Moment now) {
    if (now.steadyMs >= delivery_.barrierMs()) barrier_ = {};
    if (barrier_.forMs != 0) barrier_.forMs = delivery_.barrierMs() - now.steadyMs;
  }
  bool writeStateLine(Buffer& out, Moment now) {
    noteBarrier(now);
    char* const memory = room();
    if (memory == nullptr) return false;
    Buffer content(memory, 2 * limits_.recordBytes());
    writeState(content, setup_.appId, identity, barrier_);
    return !content.full() && writeLine(out, {kind('s'), content.view()});
  }
  void writeGoneLine(Buffer& out) {
    char* const memory = room();
    Buffer content(memory, memory == nullptr ? 0 : 2 * limits_.recordBytes());
    writeRanges(content, queue_.goneIds());
    if (content.full() || !writeLine(out, {'g', content.view()})) queue_.loseTrack(true);
    queue_.goneIds().clear();
  }
  void noteGone(Moment now) {
    if (!queue_.tellsGone()) return;
    file.note(now.steadyMs);
    file.mayTidy = true;
  }
  void failFile(Moment now) {
    file.mustRewrite = true;
    file.state = StorageState::failed;
    file.retryAtMs = now.steadyMs + CacheFile::retryMs;
    notices.add(Notice::storageFailed);
  }
  std::size_t liveFileBytes() const {
    constexpr std::size_t perEvent = 16, words = 160;  // of a record, of the first line and state
    const std::size_t ids = 2 * setup_.appId.size() + identity.deviceId.size() +
                            identity.anonId.size() + identity.userId.size();
    return queue_.filedBytes() + queue_.filedEvents() * perEvent + identity.props.size() + ids +
           words;
  }
  std::int64_t fileDueMs() {
    if (!file.wanted || !tracking_) return never;
    const std::int64_t append = file.pendingSinceMs == never ? never
                                : file.urgent                ? file.pendingSinceMs
                                              : file.pendingSinceMs + limits_.cacheDelayMs;
    if (!file.usable()) {
      const bool creates = file.opened && file.state == StorageState::absent;
      return creates ? (append == never ? never : greater(append, file.retryAtMs)) : file.retryAtMs;
    }
    const std::int64_t sync = !file.unsynced ? never
                              : file.urgent  ? latestMs_
                                             : file.lastSyncMs + limits_.reportIntervalMs;
    if (file.mustRewrite) return file.retryAtMs;
    return lesser(lesser(append, lookDueMs()), lesser(sync, tidyingDueMs()));
  }

  // ---- records of a file ----

  /// What follows a damaged record up to the next one is part of the damage.
  void countDamage(std::string_view rest) {
    constexpr std::string_view kinds = "sefgSEF", hex = "0123456789abcdef";
    const bool looksLikeRecord =
        rest.size() > 10 && kinds.find(rest[0]) != std::string_view::npos && rest[1] == ' ' &&
        rest.substr(2, 8).find_first_not_of(hex) == std::string_view::npos && rest[10] == ' ';
    if (!loading_.inDamage || looksLikeRecord) countDamagedRecord();
    if (!loading_.damaged) forgetLoadedGone();  // which is said without a doubt
    loading_.inDamage = loading_.damaged = true;
  }
  void countDamagedRecord() {
    ++droppedDamaged_;
    ++accepted_;
    file.holdsMore = true;
    notices.add(Notice::damaged);
  }
  void loadLine(const Line& line, bool idsOnly, Moment now) {
    const bool unwanted = line.kind < 'a' && setup_.redaction != Redaction::none;
    const char kind = toLower(line.kind);
    if (kind == 's') return loadState(line.content, unwanted);
    if (idsOnly) return;
    if (kind == 'g') return loadGone(line.content);
    if (kind != 'e' && kind != 'f') return;
    loading_.personal = loading_.personal || unwanted;
    loadEvent({kind, line.content}, now);
  }
  /// `idsOnly`: the user id and the properties may be personal.
  void loadState(std::string_view content, bool idsOnly) {
    State state;
    if (!readState(content, state) || !sameString(state.appId, setup_.appId)) return;
    loading_.barrier = state.barrier;
    if (idsOnly) file.mustRewrite = file.holdsMore = true;
    if (!loading_.takesState) return;
    const auto copy = [](Buffer& to, std::string_view raw) {
      to.clear();
      readString(raw, to);
      if (to.full()) to.clear();
    };
    copy(identity.deviceId, state.deviceId);
    copy(identity.anonId, state.anonId);
    copy(identity.userId, idsOnly ? std::string_view() : state.userId);
    if (isRefused(identity.deviceId.view())) identity.deviceId.clear();
    if (!isIdentifier(identity.anonId.view()) || isRefused(identity.anonId.view())) {
      identity.anonId.clear();
    }
    if (!fitsTail(identity.userId.view())) identity.userId.clear();
    identity.props.clear();
    if (!idsOnly && state.props.size() <= identity.props.capacity()) {
      identity.props.add(state.props);
    }
  }
  void loadBarrier(Barrier barrier, Moment now) {
    std::int64_t left = lesser(barrier.forMs, dayMs);
    if (now.clockSet() && barrier.untilWallMs >= 0) {
      left = lesser(left, barrier.untilWallMs - now.wallMs);
    }
    if (left <= 0 || now.steadyMs + left <= delivery_.barrierMs()) return;
    barrier_ = barrier;
    delivery_.waitFor(left, now.steadyMs, random);
  }
  void loadGone(std::string_view text) {
    RangeList::Range range;
    while (readRange(text, range)) {
      if (loadedGone_.add(range.first, range.last)) continue;
      forgetLoadedGone();
      loadedGone_.add(range.first, range.last);
    }
  }
  /// Those of the loaded events leave again that the file says have left. Not an init that others
  /// need, where what was damaged may have said that they had left before it.
  void forgetLoadedGone() {
    for (std::size_t at = queue_.oldest(); at != queue_.end() && !loadedGone_.empty();
         at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!record.has(Queue::loaded) || !loadedGone_.contains(record.id)) continue;
      if (record.has(Queue::init) && loading_.damaged && !isSessionGone(at)) {
        file.mustRewrite = true;
        continue;
      }
      queue_.mark(at, 0, Queue::inFile);  // the file knows
      queue_.remove(at);
      --accepted_;
    }
    loadedGone_.clear();
  }
  /// The file says that all of the session have left that this init opens.
  bool isSessionGone(std::size_t init) const {
    for (std::size_t at = queue_.after(init); at != queue_.end(); at = queue_.after(at)) {
      const Queue::Record record = queue_.at(at);
      if (!record.has(Queue::loaded)) continue;
      if (record.has(Queue::first)) break;
      if (!loadedGone_.contains(record.id)) return false;
    }
    return true;
  }
  /// They were kept while personal data was allowed; the file is to forget them too.
  void dropLoaded() {
    std::uint64_t dropped = 0;
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      if (queue_.at(at).has(Queue::loaded)) queue_.remove(at), ++dropped;
    }
    droppedPersonalData_ += dropped;
    notices.add(Notice::personalFile, {}, dropped);
    file.mustRewrite = file.holdsMore = true;
  }
  void loadEvent(const Line& line, Moment now) {
    EventFacts facts;
    if (line.content.size() > limits_.maxEventBytes || !readEvent(line.content, facts)) {
      return countDamagedRecord();
    }
    if (!loading_.seenAll || loadedIds_.contains(facts.id)) {
      const std::size_t at = find(facts.id);
      if (at != Queue::none) {
        loading_.sessionId = facts.sessionId;
        return queue_.mark(at, Queue::inFile);
      }
    }
    if (!loadedIds_.add(facts.id, facts.id)) loading_.seenAll = false;
    const bool another = facts.sessionId != loading_.sessionId;
    const bool lacksInit = another && !facts.isInit && line.kind != 'f';
    const bool restored = lacksInit && restoreInit(facts, now);
    if (lacksInit && !restored) return ++accepted_, dropUnread(facts.id);
    const bool first = another && !restored;
    loading_.sessionId = facts.sessionId;
    unsigned flags = Queue::inFile | Queue::loaded | (facts.isInit ? Queue::init : 0u);
    if (first && !facts.isInit) flags |= Queue::first;
    if (first && line.kind == 'f') flags |= Queue::initSettled;
    const bool kept = restore(facts.id, line.content, birthOf(facts.dateMs, now), flags);
    if (facts.isInit && !kept) loading_.sessionId = 0;  // what follows of it needs another
  }
  std::size_t find(std::uint64_t id) const {
    for (std::size_t at = queue_.oldest(); at != queue_.end(); at = queue_.after(at)) {
      if (queue_.at(at).id == id) return at;
    }
    return Queue::none;
  }
  std::int64_t birthOf(std::int64_t dateMs, Moment now) const {
    const bool known = dateMs >= 0 && now.clockSet() && dateMs <= now.wallMs;
    return known ? now.steadyMs - lesser(now.wallMs - dateMs, limits_.cutoffMs + 1) : now.steadyMs;
  }
  /// There was no room for it, which the file is to know.
  void dropUnread(std::uint64_t id) {
    ++droppedQueueFull_;
    if (!queue_.goneIds().add(id, id)) queue_.loseTrack(true);
  }
  /// False: there was no room.
  bool restore(std::uint64_t id, std::string_view text, std::int64_t bornMs, unsigned flags) {
    if (queue_.bytes() + text.size() > queue_.maxBytes()) forgetLoadedGone();
    char* const memory = room();
    ++accepted_;
    if (memory == nullptr || !makeRoom(text.size())) return dropUnread(id), false;
    std::memcpy(memory + Queue::headerBytes, text.data(), text.size());
    queue_.push(id, bornMs, text.size(), flags);
    return true;
  }
  /// A session whose init was lost gets another, before anything else of it.
  bool restoreInit(const EventFacts& facts, Moment now) {
    char* const memory = room();
    if (memory == nullptr) return false;
    bool restored = false;
    if (nextId_ == 0) nextId_ = static_cast<std::uint64_t>(random.between(idLowest, idHighest));
    drawIds();
    const Session current = session_;
    session_.id = facts.sessionId;
    writeTail();
    deviceText_.clear();
    device.write(deviceText_);
    std::size_t bytes = 0;
    const std::int64_t dateMs = facts.dateMs < 0 ? -1 : facts.dateMs - 500;
    if (encodeInit(memory, nextId_, dateMs, bytes) && makeRoom(bytes)) {
      queue_.push(nextId_++, birthOf(facts.dateMs, now), bytes, Queue::init | Queue::loaded);
      ++accepted_;
      restored = true;
      file.mustRewrite = true;  // it belongs before what it was made for
    }
    session_ = current;
    writeTail();
    return restored;
  }

  Setup setup_;
  Limits limits_;
  Queue queue_;
  Delivery delivery_;
  Buffer tail_, deviceText_;
  Session session_;
  Loading loading_;
  RangeList loadedGone_, loadedIds_;  // the latter: of every event so far, if loading_.seenAll
  Barrier barrier_;
  bool tracking_ = false, offline_ = false, inFlight_ = false, anyAside_ = false;
  std::uint64_t nextId_ = 0;
  std::int64_t latestMs_ = INT64_MIN / 2, nextExpiryMs_ = never, lastSentMs_ = never,
               answerDueMs_ = never;
  std::size_t namedInFlight_ = 0;
  std::shared_ptr<Post> post_, heartbeat_;
  std::uint64_t accepted_ = 0, acknowledged_ = 0, erasedEvents_ = 0, requests_ = 0,
                failedRequests_ = 0, droppedQueueFull_ = 0, droppedTooOld_ = 0, droppedRefused_ = 0,
                droppedDamaged_ = 0, droppedPersonalData_ = 0;
  int lastStatus_ = 0;
};

}  // namespace detail
}  // namespace NUCLEUS_ABI
}  // namespace nucleus

// ==== 12. Platform ==== bytes, time and threads; no events ====
// All that differs from system to system. Windows functions are declared by hand, so that
// <windows.h> is never included.

#if NUCLEUS_EXCEPTIONS
#include <new>  // std::bad_alloc must not escape
#endif
#if defined(__cpp_rtti) || defined(__GXX_RTTI) || defined(_CPPRTTI)
#include <typeinfo>
#endif
#if (defined(__cpp_rtti) || defined(__GXX_RTTI)) && (defined(__GNUC__) || defined(__clang__))
#include <cxxabi.h>  // readable type names
#endif

#if defined(_WIN32)
#include <process.h>  // _beginthreadex
struct _BY_HANDLE_FILE_INFORMATION;
struct _FILETIME;
struct _MEMORYSTATUSEX;
struct _OVERLAPPED;
struct _RTL_CONDITION_VARIABLE;
struct _RTL_SRWLOCK;
struct _SECURITY_ATTRIBUTES;
struct HINSTANCE__;
extern "C" {
__declspec(dllimport) void __stdcall AcquireSRWLockExclusive(_RTL_SRWLOCK*);
__declspec(dllimport) void __stdcall ReleaseSRWLockExclusive(_RTL_SRWLOCK*);
__declspec(dllimport) int __stdcall SleepConditionVariableSRW(_RTL_CONDITION_VARIABLE*,
                                                              _RTL_SRWLOCK*, unsigned long,
                                                              unsigned long);
__declspec(dllimport) void __stdcall WakeAllConditionVariable(_RTL_CONDITION_VARIABLE*);
__declspec(dllimport) unsigned long __stdcall WaitForSingleObject(void*, unsigned long);
__declspec(dllimport) int __stdcall CloseHandle(void*);
__declspec(dllimport) unsigned long __stdcall GetLastError();
__declspec(dllimport) void __stdcall GetSystemTimeAsFileTime(_FILETIME*);
__declspec(dllimport) unsigned long long __stdcall GetTickCount64();
__declspec(dllimport) unsigned long __stdcall GetEnvironmentVariableW(const wchar_t*, wchar_t*,
                                                                      unsigned long);
__declspec(dllimport) int __stdcall GetUserDefaultLocaleName(wchar_t*, int);
__declspec(dllimport) int __stdcall GlobalMemoryStatusEx(_MEMORYSTATUSEX*);
__declspec(dllimport) HINSTANCE__* __stdcall GetModuleHandleW(const wchar_t*);
__declspec(dllimport) HINSTANCE__* __stdcall LoadLibraryW(const wchar_t*);
__declspec(dllimport) std::intptr_t(__stdcall* __stdcall GetProcAddress(HINSTANCE__*,
                                                                        const char*))();
__declspec(dllimport) int __stdcall MultiByteToWideChar(unsigned int, unsigned long, const char*,
                                                        int, wchar_t*, int);
__declspec(dllimport) int __stdcall WideCharToMultiByte(unsigned int, unsigned long, const wchar_t*,
                                                        int, char*, int, const char*, int*);
__declspec(dllimport) void* __stdcall CreateFileW(const wchar_t*, unsigned long, unsigned long,
                                                  _SECURITY_ATTRIBUTES*, unsigned long,
                                                  unsigned long, void*);
__declspec(dllimport) int __stdcall ReadFile(void*, void*, unsigned long, unsigned long*,
                                             _OVERLAPPED*);
__declspec(dllimport) int __stdcall WriteFile(void*, const void*, unsigned long, unsigned long*,
                                              _OVERLAPPED*);
__declspec(dllimport) unsigned long __stdcall SetFilePointer(void*, long, long*, unsigned long);
__declspec(dllimport) int __stdcall FlushFileBuffers(void*);
__declspec(dllimport) int __stdcall GetFileInformationByHandle(void*, _BY_HANDLE_FILE_INFORMATION*);
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t*, const wchar_t*, unsigned long);
__declspec(dllimport) int __stdcall DeleteFileW(const wchar_t*);
__declspec(dllimport) int __stdcall CreateDirectoryW(const wchar_t*, _SECURITY_ATTRIBUTES*);
__declspec(dllimport) int __cdecl rand_s(unsigned int*);
}
#elif defined(__unix__) || defined(__APPLE__) || defined(__wasi__)
#include <time.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>  // getentropy
#include <TargetConditionals.h>
#endif
#if !defined(__wasi__)
#include <sys/utsname.h>
#endif
#if NUCLEUS_FILES
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>  // flock
#include <sys/stat.h>
#endif
#if !defined(__wasi__) && !defined(__EMSCRIPTEN__)
#include <pthread.h>  // also pthread_atfork
#include <signal.h>
#elif NUCLEUS_THREADS
#include <pthread.h>
#include <signal.h>
#endif
#endif

namespace nucleus {
inline namespace NUCLEUS_ABI {
namespace detail {

// ---- exceptions and types ----

/// What `action` returns, or `otherwise` where it throws.
template <class Action, class Result>
Result attempt(Action&& action, Result otherwise) noexcept {
#if NUCLEUS_EXCEPTIONS
  try {
    return action();
  } catch (...) {
    return otherwise;
  }
#else
  return action();
  static_cast<void>(otherwise);
#endif
}

/// The readable type of an exception; "exception" where the build has no RTTI.
inline std::string exceptionName(const std::exception& error) {
#if defined(__cpp_rtti) || defined(__GXX_RTTI) || defined(_CPPRTTI)
  // Volatile: an exception from code without RTTI has a null type, which no reference may be.
  const std::type_info* volatile type = &typeid(error);
  if (type == nullptr) return "exception";
  const std::type_info* const known = type;
#if defined(__GNUC__) || defined(__clang__)
  int status = 0;
  char* const readable = abi::__cxa_demangle(known->name(), nullptr, nullptr, &status);
  std::string name = status == 0 && readable != nullptr ? readable : known->name();
  std::free(readable);
  return name;
#else
  return known->name();
#endif
#else
  static_cast<void>(error);
  return "exception";
#endif
}

/// Calls `report` with the exception that ends the program, if there is one.
template <class Report>
void describeUncaught(Report&& report) {
#if NUCLEUS_EXCEPTIONS
  const std::exception_ptr current = std::current_exception();
  if (current != nullptr) {
    try {
      std::rethrow_exception(current);
    } catch (const std::exception& error) {
      return report(exceptionName(error), std::string_view(error.what()));
    } catch (...) {
      return report(std::string("exception"), std::string_view("not a std::exception"));
    }
  }
#endif
  report(std::string("terminate"), std::string_view("std::terminate without an exception"));
}

// ---- threads ----

/// A callback that runs on this thread, and the one that it runs in.
struct Callback {
  const void* owner;
  const Callback* outer;
};

#if !NUCLEUS_THREADS

class Mutex {
 public:
  void lock() {}
  void unlock() {}
};
class Signal {
 public:
  void wait(Mutex&, std::int64_t) {}
  void notify() {}
};
class Thread {
 public:
  bool start(void (*)(void*), void*) { return false; }
  void join() {}
  void detach() {}
};
NUCLEUS_SHARED inline const Callback*& innermostCallback() {
  static const Callback* innermost = nullptr;
  return innermost;
}

#else

NUCLEUS_SHARED inline const Callback*& innermostCallback() {
  static thread_local const Callback* innermost = nullptr;
  return innermost;
}

#if defined(_WIN32)

class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void lock() { AcquireSRWLockExclusive(handle()); }
  void unlock() { ReleaseSRWLockExclusive(handle()); }
  _RTL_SRWLOCK* handle() { return reinterpret_cast<_RTL_SRWLOCK*>(&word_); }

 private:
  void* word_ = nullptr;
};
class Signal {
 public:
  void wait(Mutex& mutex, std::int64_t ms) {
    const auto most = static_cast<unsigned long>(lesser<std::int64_t>(ms, 0x7FFF'FFFF));
    SleepConditionVariableSRW(handle(), mutex.handle(), most, 0);
  }
  void notify() { WakeAllConditionVariable(handle()); }

 private:
  _RTL_CONDITION_VARIABLE* handle() { return reinterpret_cast<_RTL_CONDITION_VARIABLE*>(&word_); }
  void* word_ = nullptr;
};
class Thread {
 public:
  bool start(void (*body)(void*), void* of) {
    body_ = body;
    of_ = of;
    handle_ = reinterpret_cast<void*>(_beginthreadex(nullptr, 0, run, this, 0, nullptr));
    return handle_ != nullptr;
  }
  void join() {
    WaitForSingleObject(handle_, 0xFFFF'FFFF);
    detach();
  }
  void detach() { CloseHandle(handle_); }

 private:
  static unsigned __stdcall run(void* thread) {
    const auto* const self = static_cast<Thread*>(thread);
    self->body_(self->of_);
    return 0;
  }
  void (*body_)(void*) = nullptr;
  void* of_ = nullptr;
  void* handle_ = nullptr;
};

#else

class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  /// Tries for some microseconds: most of what is locked is free again before a thread can sleep.
  void lock() {
    for (int tries = 0; tries < 500; ++tries) {
      if (pthread_mutex_trylock(&mutex_) == 0) return;
    }
    pthread_mutex_lock(&mutex_);
  }
  void unlock() { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* handle() { return &mutex_; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};
class Signal {
 public:
  Signal() {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&condition_, &attributes);
    pthread_condattr_destroy(&attributes);
  }
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal() { pthread_cond_destroy(&condition_); }
  void wait(Mutex& mutex, std::int64_t ms) {
    if (ms > dayLimitMs) ms = dayLimitMs;
    timespec time = {};
#if defined(__APPLE__)
    time.tv_sec = static_cast<decltype(time.tv_sec)>(ms / 1000);
    time.tv_nsec = static_cast<decltype(time.tv_nsec)>(ms % 1000 * 1'000'000);
    pthread_cond_timedwait_relative_np(&condition_, mutex.handle(), &time);
#else
    clock_gettime(CLOCK_MONOTONIC, &time);
    const std::int64_t nanoseconds = time.tv_nsec + ms % 1000 * 1'000'000;
    time.tv_sec += static_cast<decltype(time.tv_sec)>(ms / 1000 + nanoseconds / 1'000'000'000);
    time.tv_nsec = static_cast<decltype(time.tv_nsec)>(nanoseconds % 1'000'000'000);
    pthread_cond_timedwait(&condition_, mutex.handle(), &time);
#endif
  }
  void notify() { pthread_cond_broadcast(&condition_); }

 private:
  static constexpr std::int64_t dayLimitMs = 86'400'000;
  pthread_cond_t condition_;
};
class Thread {
 public:
  /// With all signals blocked: they are for the host's threads.
  bool start(void (*body)(void*), void* of) {
    body_ = body;
    of_ = of;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&thread_, nullptr, run, this) == 0;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }
  void join() { pthread_join(thread_, nullptr); }
  void detach() { pthread_detach(thread_); }

 private:
  static void* run(void* thread) {
    const auto* const self = static_cast<Thread*>(thread);
    self->body_(self->of_);
    return nullptr;
  }
  void (*body_)(void*) = nullptr;
  void* of_ = nullptr;
  pthread_t thread_ = {};
};

#endif
#endif

class Lock {
 public:
  explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Mutex& mutex_;
};

// ---- fork ----

/// How many fork() lie between the start of the program and this process.
NUCLEUS_SHARED inline std::atomic<unsigned>& forkCount() {
  static std::atomic<unsigned> count{0};
  return count;
}

/// The files that are open. A child of a fork() closes them: its copy would keep their locks.
class OpenHandles {
 public:
  /// False where there are too many.
  static bool add(int handle) { return replace(0, handle + 1); }
  static void remove(int handle) { replace(handle + 1, 0); }
  template <class Close>
  static void closeAll(Close&& close) {
    for (std::atomic<int>& slot : handles()) {
      const int handle = slot.exchange(0) - 1;
      if (handle >= 0) close(handle);
    }
  }

 private:
  using Handles = std::atomic<int>[64];  // a handle and 1; 0: free
  NUCLEUS_SHARED static Handles& handles() {
    static Handles handles = {};
    return handles;
  }
  static bool replace(int before, int after) {
    for (std::atomic<int>& slot : handles()) {
      int expected = before;
      if (slot.compare_exchange_strong(expected, after)) return true;
    }
    return false;
  }
};

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__EMSCRIPTEN__)
inline void afterFork() {
  ++forkCount();
  OpenHandles::closeAll(::close);
}
NUCLEUS_SHARED inline void watchForks() {
  static const int watching = pthread_atfork(nullptr, nullptr, afterFork);
  static_cast<void>(watching);
}
#else
inline void watchForks() {}
#endif

// ---- time, chance, surroundings ----

#if defined(_WIN32)

inline std::int64_t systemWallMs() {
  std::uint32_t time[2] = {};  // 100 ns since 1601, low word first
  GetSystemTimeAsFileTime(reinterpret_cast<_FILETIME*>(time));
  const std::uint64_t ticks = std::uint64_t{time[1]} << 32 | time[0];
  return static_cast<std::int64_t>(ticks / 10'000) - 11'644'473'600'000;
}
inline std::int64_t systemSteadyMs() { return static_cast<std::int64_t>(GetTickCount64()); }
inline bool systemEntropy(void* to, std::size_t bytes) {
  auto* at = static_cast<unsigned char*>(to);
  for (; bytes > 0; --bytes, ++at) {
    unsigned int value = 0;
    if (rand_s(&value) != 0) return false;
    *at = static_cast<unsigned char>(value >> 11);
  }
  return true;
}
inline std::string narrow(const wchar_t* text) {
  const int size = WideCharToMultiByte(65001, 0, text, -1, nullptr, 0, nullptr, nullptr);
  std::string result(static_cast<std::size_t>(greater(size, 1)) - 1, '\0');
  WideCharToMultiByte(65001, 0, text, -1, result.data(), size, nullptr, nullptr);
  return result;
}
inline std::wstring widen(const std::string& text) {
  const int size = MultiByteToWideChar(65001, 0, text.c_str(), -1, nullptr, 0);
  std::wstring result(static_cast<std::size_t>(greater(size, 1)) - 1, L'\0');
  MultiByteToWideChar(65001, 0, text.c_str(), -1, result.data(), size);
  return result;
}
inline bool readEnvironment(const char* name, std::string& value) {
  const std::wstring key = widen(name);
  wchar_t wide[1024] = {};
  const unsigned long size = GetEnvironmentVariableW(key.c_str(), wide, 1024);
  value = size < 1024 ? narrow(wide) : std::string();
  return size != 0 || GetEnvironmentVariableW(key.c_str(), nullptr, 0) != 0;  // empty, but there
}
inline std::string systemLocale() {
  wchar_t name[85] = {};
  return GetUserDefaultLocaleName(name, 85) > 0 ? narrow(name) : std::string();
}
inline std::string systemVersion() {
  struct {
    unsigned long size, major_, minor_, build, platform;
    wchar_t servicePack[128];
  } version = {};
  version.size = sizeof version;
  const auto function = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "RtlGetVersion");
  if (function == nullptr) return {};
  void* const address = reinterpret_cast<void*>(function);
  reinterpret_cast<long(__stdcall*)(void*)>(address)(&version);
  return std::to_string(version.major_) + '.' + std::to_string(version.minor_) + '.' +
         std::to_string(version.build);
}
inline std::uint64_t systemRamBytes() {
  struct {
    unsigned long size, load;
    std::uint64_t total, others[6];
  } status = {sizeof status, 0, 0, {}};
  const bool known = GlobalMemoryStatusEx(reinterpret_cast<_MEMORYSTATUSEX*>(&status)) != 0;
  return known ? status.total : 0;
}

#elif defined(__unix__) || defined(__APPLE__) || defined(__wasi__)

inline std::int64_t clockMs(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}
#if defined(__linux__)  // these lag by some ms, and are read in an eighth of the time
inline std::int64_t systemWallMs() { return clockMs(CLOCK_REALTIME_COARSE); }
inline std::int64_t systemSteadyMs() { return clockMs(CLOCK_MONOTONIC_COARSE); }
#else
inline std::int64_t systemWallMs() { return clockMs(CLOCK_REALTIME); }
inline std::int64_t systemSteadyMs() { return clockMs(CLOCK_MONOTONIC); }
#endif
inline bool systemEntropy(void* to, std::size_t bytes) { return getentropy(to, bytes) == 0; }
inline bool readEnvironment(const char* name, std::string& value) {
  const char* const found = std::getenv(name);
  value = found == nullptr ? "" : found;
  return found != nullptr;
}
/// From the environment, as in en_US.UTF-8.
inline std::string systemLocale() {
  for (const char* name : {"LC_ALL", "LC_MESSAGES", "LANG"}) {
    std::string locale;
    readEnvironment(name, locale);
    locale.resize(lesser(std::string_view(locale).find_first_of(".@"), locale.size()));
    for (char& c : locale) c = c == '_' ? '-' : c;
    if (locale.size() > 1 && locale != "POSIX") return locale;
  }
  return {};
}
inline std::string systemVersion() {
#if defined(__wasi__)
  return {};
#else
  utsname name = {};
  if (uname(&name) != 0) return {};
  const std::string_view release = name.release;
  return std::string(release.substr(0, release.find_first_not_of("0123456789.")));
#endif
}
inline std::uint64_t systemRamBytes() {
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && bytes > 0) {
    return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(bytes);
  }
#endif
  return 0;
}

#else

inline std::int64_t systemWallMs() { return 0; }
inline std::int64_t systemSteadyMs() { return 0; }
inline bool systemEntropy(void*, std::size_t) { return false; }
inline bool readEnvironment(const char*, std::string&) { return false; }
inline std::string systemLocale() { return {}; }
inline std::string systemVersion() { return {}; }
inline std::uint64_t systemRamBytes() { return 0; }

#endif

inline void writeToStderr(std::string_view text) {
#if defined(_WIN32) || defined(__unix__) || defined(__APPLE__) || defined(__wasi__)
  std::fwrite(text.data(), 1, text.size(), stderr);
#else
  static_cast<void>(text);  // a device has none, and no room for what it takes
#endif
}

constexpr std::string_view systemName =
#if defined(_WIN32)
    "win32";
#elif defined(__APPLE__)
    "darwin";
#elif defined(__EMSCRIPTEN__) || defined(__wasi__)
    "wasm";
#elif defined(__linux__)
    "linux";
#elif defined(__unix__)
    "unix";
#else
    "embedded";
#endif

constexpr std::string_view systemArch =
#if defined(__x86_64__) || defined(_M_X64)
    "x64";
#elif defined(__aarch64__) || defined(_M_ARM64)
    "arm64";
#elif defined(__i386__) || defined(_M_IX86)
    "ia32";
#elif defined(__arm__) || defined(_M_ARM)
    "arm";
#elif defined(__wasm__)
    "wasm";
#elif defined(__s390x__)
    "s390x";
#elif defined(__powerpc64__)
        "ppc64";
#elif defined(__powerpc__)
        "ppc";
#elif defined(__riscv)
        "riscv";
#else
        "";
#endif

// ---- the system's own id ----

/// The first line of a small file; "" where it cannot be read.
inline std::string firstLineOf(const char* path) {
  std::string line;
#if NUCLEUS_FILES
  if (std::FILE* const file = std::fopen(path, "rb")) {
    for (int c = std::fgetc(file); c > ' ' && line.size() < 64; c = std::fgetc(file)) {
      line += static_cast<char>(c);
    }
    std::fclose(file);
  }
#else
  static_cast<void>(path);
#endif
  return line;
}

#if defined(_WIN32)

/// MachineGuid, from the registry's 64-bit view.
inline std::string systemMachineId() {
  constexpr std::uintptr_t localMachine = 0x8000'0002;
  constexpr unsigned long stringIn64Bit = 0x0001'0002;
  using Get = long(__stdcall*)(void*, const wchar_t*, const wchar_t*, unsigned long, unsigned long*,
                               void*, unsigned long*);
  HINSTANCE__* const library = LoadLibraryW(L"advapi32.dll");
  const auto function = library != nullptr ? GetProcAddress(library, "RegGetValueW") : nullptr;
  if (function == nullptr) return {};
  wchar_t text[64] = {};
  unsigned long bytes = sizeof text;
  void* const address = reinterpret_cast<void*>(function);
  auto* const root = reinterpret_cast<void*>(static_cast<std::intptr_t>(
      static_cast<std::int32_t>(localMachine)));  // sign-extended, as HKEY_LOCAL_MACHINE is
  const long error =
      reinterpret_cast<Get>(address)(root, L"SOFTWARE\\Microsoft\\Cryptography", L"MachineGuid",
                                     stringIn64Bit, nullptr, text, &bytes);
  return error == 0 ? narrow(text) : std::string();
}

#elif defined(__APPLE__) && TARGET_OS_OSX

/// What IOKit calls IOPlatformUUID.
inline std::string systemMachineId() {
  unsigned char uuid[16] = {};
  const timespec wait = {};
  if (gethostuuid(uuid, &wait) != 0) return {};
  std::string text;
  for (const unsigned char byte : uuid) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

#else

/// As systemd and D-Bus keep it (machine-id(5)).
inline std::string systemMachineId() {
  for (const char* path : {"/etc/machine-id", "/var/lib/dbus/machine-id"}) {
    const std::string id = firstLineOf(path);
    const std::string_view text = id;
    const bool hex = text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
    const bool zero = text.find_first_not_of("0") == std::string_view::npos;
    if (id.size() == 32 && hex && !zero) return id;
  }
  return {};
}

#endif

inline std::string environment(const char* name) {
  std::string value;
  readEnvironment(name, value);
  return value;
}

/// One after the other.
inline void addAll(std::string& to, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) to.append(part.data(), part.size());
}
inline std::string joined(std::initializer_list<std::string_view> parts) {
  std::string text;
  addAll(text, parts);
  return text;
}

/// `name` begins with the separator.
inline std::string joinPath(std::string_view folder, std::string_view name) {
  return folder.empty() ? std::string() : joined({folder, name});
}

/// Where the system keeps the data of a user's programs; "" where it has no such place.
inline std::string userDataFolder() {
#if !NUCLEUS_FILES
  return {};
#elif defined(_WIN32)
  return environment("LOCALAPPDATA");
#elif defined(__APPLE__)
  return joinPath(environment("HOME"), "/Library/Application Support");
#else
  const std::string data = environment("XDG_DATA_HOME");
  return !data.empty() && data[0] == '/' ? data : joinPath(environment("HOME"), "/.local/share");
#endif
}

// ---- files ----

/// What tells one file from another while both exist; zero where there is no regular file.
struct FileIdentity {
  std::uint64_t volume = 0, number = 0;

  bool exists() const { return number != 0; }
  bool operator==(const FileIdentity& other) const {
    return volume == other.volume && number == other.number;
  }
};

#if NUCLEUS_FILES && defined(_WIN32)

using Path = std::wstring;
constexpr const wchar_t* separators = L"/\\";
constexpr bool replacesOpenFiles = false;

inline Path toPath(const std::string& path) { return widen(path); }
inline bool isMissing(unsigned long error) { return error == 2 || error == 3; }
inline bool isLink(const Path&) { return false; }  // File opens no link
inline bool removeFile(const Path& path) {
  return DeleteFileW(path.c_str()) != 0 || isMissing(GetLastError());
}
inline bool replaceFile(const Path& from, const Path& to) {
  constexpr unsigned long replaceWriteThrough = 1 | 8;
  return MoveFileExW(from.c_str(), to.c_str(), replaceWriteThrough) != 0;
}
inline void makeFolder(const wchar_t* path) { CreateDirectoryW(path, nullptr); }
inline bool syncFolder(const Path&) { return true; }  // written through

/// The lock is that others may read the file, but not open it for writing; it ends with the handle.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(); }
  bool isOpen() const { return handle_ != nullptr; }
  /// What is there, locked; or, where it is locked already, to be read.
  StorageState open(const Path& path) {
    if (openHandle(path, true, existing)) {
      return identity().exists() ? StorageState::ready : (close(), StorageState::foreign);
    }
    const unsigned long error = GetLastError();
    constexpr unsigned long sharingViolation = 32;
    if (isMissing(error)) return StorageState::absent;
    if (error != sharingViolation) return StorageState::failed;
    openHandle(path, false, existing);
    return StorageState::locked;
  }
  /// A new one, locked; false where there is one already.
  bool create(const Path& path) { return openHandle(path, true, createNew); }
  bool openToLook(const Path& path) { return openHandle(path, false, existing); }
  void close() {
    if (isOpen()) CloseHandle(handle_);
    handle_ = nullptr;
  }
  void swap(File& other) { std::swap(handle_, other.handle_); }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) {
    long high = static_cast<long>(std::uint64_t{at} >> 32);
    SetFilePointer(handle_, static_cast<long>(at & 0xFFFF'FFFF), &high, 0);
    unsigned long got = 0;
    const auto most = static_cast<unsigned long>(lesser<std::size_t>(bytes, 1 << 30));
    return ReadFile(handle_, to, most, &got, nullptr) != 0 ? got : SIZE_MAX;
  }
  bool append(std::string_view text) {
    long high = 0;
    SetFilePointer(handle_, 0, &high, 2);
    unsigned long done = 0;
    const auto size = static_cast<unsigned long>(text.size());
    return WriteFile(handle_, text.data(), size, &done, nullptr) != 0 && done == size;
  }
  bool sync() { return FlushFileBuffers(handle_) != 0; }
  FileIdentity identity() const {
    std::uint32_t facts[13] = {};  // attributes .. index high (11), index low (12)
    auto* const to = reinterpret_cast<_BY_HANDLE_FILE_INFORMATION*>(facts);
    constexpr std::uint32_t folderOrLink = 0x410;
    if (GetFileInformationByHandle(handle_, to) == 0 || (facts[0] & folderOrLink) != 0) return {};
    return {0, std::uint64_t{facts[11]} << 32 | facts[12]};  // of one volume, as the path is
  }

 private:
  static constexpr unsigned long createNew = 1, existing = 3;
  bool openHandle(const Path& path, bool writes, unsigned long disposition) {
    constexpr unsigned long readWriteDelete = 0xC001'0000, readOnly = 0x8000'0000;
    constexpr unsigned long shareAll = 7, shareReadDelete = 5, notThroughLinks = 0x0020'0080;
    close();
    void* const handle = CreateFileW(path.c_str(), writes ? readWriteDelete : readOnly,
                                     writes ? shareReadDelete : shareAll, nullptr, disposition,
                                     notThroughLinks, nullptr);
    if (handle != reinterpret_cast<void*>(std::intptr_t{-1})) handle_ = handle;
    return isOpen();
  }
  void* handle_ = nullptr;
};

inline FileIdentity identityAt(const Path& path) {
  File file;
  return file.openToLook(path) ? file.identity() : FileIdentity();
}

#elif NUCLEUS_FILES

using Path = std::string;
constexpr const char* separators = "/";
constexpr bool replacesOpenFiles = true;

inline Path toPath(const std::string& path) { return path; }
inline bool isLink(const Path& path) {
  struct stat facts;
  return ::lstat(path.c_str(), &facts) == 0 && S_ISLNK(facts.st_mode);
}
inline bool removeFile(const Path& path) { return ::unlink(path.c_str()) == 0 || errno == ENOENT; }
inline bool replaceFile(const Path& from, const Path& to) {
  return std::rename(from.c_str(), to.c_str()) == 0;
}
inline bool syncFolder(const Path& folder) {
  const int handle = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (handle < 0) return errno == ENOENT || errno == EACCES;    // which need not be readable
  const bool synced = ::fsync(handle) == 0 || errno == EINVAL;  // some systems cannot
  ::close(handle);
  return synced;
}
/// One that is new is named in the folder above it, for good.
inline void makeFolder(const char* path) {
  if (::mkdir(path, 0700) == 0) syncFolder(Path(path) + "/..");
}
inline FileIdentity identityOf(const struct stat& facts) {
  return S_ISREG(facts.st_mode) ? FileIdentity{static_cast<std::uint64_t>(facts.st_dev),
                                               static_cast<std::uint64_t>(facts.st_ino)}
                                : FileIdentity();
}
inline FileIdentity identityAt(const Path& path) {
  struct stat facts;
  return ::lstat(path.c_str(), &facts) == 0 ? identityOf(facts) : FileIdentity();
}

#if defined(__wasi__) || defined(__EMSCRIPTEN__)
/// What this process has locked, where the system has no locks, and knows no other process.
class LockedFiles {
 public:
  /// False where it is there already, or there are too many.
  static bool add(const FileIdentity& file) {
    const Lock lock(mutex());
    FileIdentity* free = nullptr;
    for (FileIdentity& each : files()) {
      if (each == file) return false;
      if (!each.exists()) free = &each;
    }
    if (free != nullptr) *free = file;
    return free != nullptr;
  }
  static void remove(const FileIdentity& file) {
    const Lock lock(mutex());
    for (FileIdentity& each : files()) {
      if (each == file) each = {};
    }
  }

 private:
  using Files = FileIdentity[64];
  static Files& files() {
    static Files files = {};
    return files;
  }
  static Mutex& mutex() {
    static Mutex mutex;
    return mutex;
  }
};
#endif

/// The lock is the open file's, whatever its name becomes, until it is closed.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(); }
  /// Here, not in the parent of a fork(), whose copy is closed.
  bool isOpen() const { return handle_ >= 0 && forks_ == forkCount().load(); }
  /// What is there, locked; or, where it is locked already, to be read.
  StorageState open(const Path& path) {
#if defined(__wasi__)
    if (isLink(path)) return close(), StorageState::foreign;  // some hosts follow it nevertheless
#endif
    if (!openHandle(path, 0)) return unopened(errno);
    struct stat facts;
    if (::fstat(handle_, &facts) != 0) return close(), StorageState::failed;
    if (!isOurs(facts)) return close(), StorageState::foreign;
    identity_ = identityOf(facts);
    if (lock()) return StorageState::ready;
    return errno == EWOULDBLOCK ? StorageState::locked : StorageState::failed;
  }
  /// A new one, locked; false where there is one already, or was taken away before the lock.
  bool create(const Path& path) {
    if (!openHandle(path, O_CREAT | O_EXCL)) return false;
    struct stat facts;
    if (::fstat(handle_, &facts) == 0) identity_ = identityOf(facts);
    const bool made = lock() && identityAt(path) == identity_;
    if (!made) close();
    return made;
  }
  void close() {
    if (isOpen()) {
      unlock();
      OpenHandles::remove(handle_);
      ::close(handle_);
    }
    handle_ = -1;
  }
  void swap(File& other) {
    std::swap(handle_, other.handle_);
    std::swap(forks_, other.forks_);
    std::swap(identity_, other.identity_);
    std::swap(locked_, other.locked_);
  }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) {
    std::size_t done = 0;
    while (done < bytes) {
      const ssize_t got = ::pread(handle_, to + done, bytes - done, static_cast<off_t>(at + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return SIZE_MAX;
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }
  bool append(std::string_view text) {
    while (!text.empty()) {
      const ssize_t done = ::write(handle_, text.data(), text.size());
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(done));
    }
    return true;
  }
  bool sync() {
#if defined(F_FULLFSYNC)
    if (::fcntl(handle_, F_FULLFSYNC) == 0) return true;
#endif
    return ::fsync(handle_) == 0;
  }
  /// As it was opened: Emscripten's fstat() asks for what has that name now.
  FileIdentity identity() const { return identity_; }

 private:
  bool openHandle(const Path& path, int flags) {
    close();
    constexpr int always = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    handle_ = ::open(path.c_str(), always | flags, 0600);
    forks_ = forkCount().load();
    if (isOpen() && !OpenHandles::add(handle_)) {
      ::close(std::exchange(handle_, -1));
      errno = EMFILE;
    }
    return isOpen();
  }
  static StorageState unopened(int error) {
    if (error == ENOENT) return StorageState::absent;
    const bool foreign = error == ELOOP || error == EISDIR || error == ENXIO;
    return foreign ? StorageState::foreign : StorageState::failed;
  }
#if defined(__wasi__)
  static bool isOurs(const struct stat& facts) { return identityOf(facts).exists(); }
#else
  static bool isOurs(const struct stat& facts) {
    return identityOf(facts).exists() && facts.st_uid == ::geteuid();
  }
#endif
#if defined(__wasi__) || defined(__EMSCRIPTEN__)
  bool lock() {
    locked_ = LockedFiles::add(identity_);
    errno = EWOULDBLOCK;
    return locked_;
  }
  void unlock() {
    if (std::exchange(locked_, false)) LockedFiles::remove(identity_);
  }
#else
  bool lock() { return ::flock(handle_, LOCK_EX | LOCK_NB) == 0; }
  void unlock() { ::flock(handle_, LOCK_UN); }  // a copy in a forked process may be open still
#endif

  int handle_ = -1;
  unsigned forks_ = 0;
  FileIdentity identity_;
  bool locked_ = false;  // among LockedFiles
};

#endif

#if NUCLEUS_FILES

/// A file, and a twin beside it that takes its place once it is whole.
class FileStorage : public Storage {
 public:
  explicit FileStorage(const std::string& path)
      : path_(toPath(path)), twinPath_(toPath(joined({path, ".tmp"}))),
        folder_(toPath(folderOf(path))) {
    watchForks();
  }

  StorageState open() override {
    if (isHeld()) return StorageState::ready;
    held_ = false;
    for (int attempts = 0; attempts < 8; ++attempts) {
      const StorageState state = file_.open(path_);
      if (state == StorageState::ready && vanished()) continue;  // replaced meanwhile
      held_ = state == StorageState::ready;
      if (held_ || state == StorageState::absent) removeTwin();
      return state;
    }
    return StorageState::failed;
  }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    return file_.isOpen() ? file_.read(at, to, bytes) : SIZE_MAX;
  }
  bool append(std::string_view text) override { return isHeld() && file_.append(text); }
  bool beginReplace() override {
    makeFolders();
    dropTwin();
    removeTwin();
    return twin_.create(twinPath_);
  }
  bool write(std::string_view text) override {
    return (twin_.isOpen() && twin_.append(text)) || (dropTwin(), false);
  }
  bool commitReplace() override {
    if (!twin_.isOpen() || !twin_.sync() || !mayReplace()) return dropTwin(), false;
    if (!replacesOpenFiles) file_.close();
    if (!replaceFile(twinPath_, path_)) {
      dropTwin();
      held_ = isHeld() || file_.open(path_) == StorageState::ready;
      return false;
    }
    file_.swap(twin_);
    twin_.close();
    held_ = true;
    return syncFolder(folder_);
  }
  bool sync() override { return isHeld() && file_.sync(); }
  bool erase() override {
    dropTwin();
    const bool removed = mayReplace() && removeFile(path_);
    removeTwin();
    close();
    return syncFolder(folder_) && removed;
  }
  bool vanished() override { return file_.isOpen() && !(identityAt(path_) == file_.identity()); }
  void close() override {
    dropTwin();
    file_.close();
    held_ = false;
  }

 private:
  static std::string folderOf(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return std::string(slash == std::string_view::npos ? "." : path.substr(0, slash + 1));
  }
  bool isHeld() const { return held_ && file_.isOpen(); }
  /// The file is ours and locked by us, or there is none.
  bool mayReplace() {
    if (isHeld() && !vanished()) return true;
    File other;
    return other.open(path_) == StorageState::absent;
  }
  /// Of a replacement that is given up.
  void dropTwin() {
    if (twin_.isOpen()) removeFile(twinPath_);
    twin_.close();
  }
  /// What a crash left behind; a twin that is being written is locked, and stays.
  void removeTwin() {
    File twin;
    if (twin.open(twinPath_) == StorageState::ready || isLink(twinPath_)) removeFile(twinPath_);
  }
  void makeFolders() {
    for (std::size_t at = path_.find_first_of(separators, 1); at != Path::npos;
         at = path_.find_first_of(separators, at + 1)) {
      const auto separator = std::exchange(path_[at], Path::value_type());
      makeFolder(path_.c_str());
      path_[at] = separator;
    }
  }

  Path path_;
  const Path twinPath_, folder_;
  File file_, twin_;
  bool held_ = false;  // locked by us
};

#endif

inline std::shared_ptr<Storage> makeFileStorage(const std::string& path) {
#if NUCLEUS_FILES
  if (!path.empty()) return std::make_shared<FileStorage>(path);
#endif
  static_cast<void>(path);
  return nullptr;
}

}  // namespace detail
}  // namespace NUCLEUS_ABI
}  // namespace nucleus

// ==== 13. Client, defined ==== where engine, clock, locks and host meet ====
// Desk: the engine behind its lock; nothing slow happens under it. Disk: the storage behind its
// own, which is taken first. Core: the host's calls and the worker; it calls the host under
// neither.

namespace nucleus {
inline namespace NUCLEUS_ABI {
namespace detail {

/// Whether what stands before "://" is that.
inline bool hasScheme(std::string_view endpoint, std::string_view scheme) {
  const std::size_t end = endpoint.find("://");
  return end != std::string_view::npos && isSameIgnoringCase(endpoint.substr(0, end), scheme);
}

inline bool isWebSocket(std::string_view endpoint) {
  return hasScheme(endpoint, "ws") || hasScheme(endpoint, "wss");
}

/// The options, checked: what is out of range is clamped and noted.
class Checked {
 public:
  Checked(const Options& options, Notices& notices)
      : notices_(notices), webSocket_(isWebSocket(options.endpoint)) {
    limits.reportIntervalMs = clamp("reportIntervalMs", options.reportIntervalMs, 100, dayMs);
    limits.sessionTimeoutMs =
        clamp("sessionTimeoutMs", options.sessionTimeoutMs, 1'000, 365 * dayMs);
    limits.cutoffMs = clamp("cutoffMs", options.cutoffMs, 1'000, 365 * dayMs);
    limits.answerTimeoutMs = clamp("answerTimeoutMs", options.answerTimeoutMs, 100, dayMs);
    limits.cacheDelayMs = clamp("cacheDelayMs", options.cacheDelayMs, 0, 3'600'000);
    limits.maxEventBytes = clamp("maxEventBytes", options.maxEventBytes, 512, 8 << 20);
    limits.maxQueueBytes =
        clamp("maxQueueBytes", options.maxQueueBytes, 2 * limits.maxEventBytes, 1 << 30);
    limits.maxBatchBytes =
        clamp("maxBatchBytes", options.maxBatchBytes, limits.maxEventBytes + 16, 64 << 20);
    if (options.memory.data != nullptr) fit(options.memory.bytes);
  }

  Limits limits;

  /// Of memory, for all but the requests.
  static std::size_t need(const Limits& limits) {
    return limits.queueCapacity() + 2 * limits.tailBytes() + limits.deviceBytes() +
           limits.propsBytes() + limits.scratchBytes() +
           3 * limits.ranges() * sizeof(RangeList::Range) + 6 * Arena::alignment;
  }
  /// And with one request of each kind there is.
  std::size_t needWithPosts(const Limits& some) const {
    return need(some) + some.postCapacity() + (webSocket_ ? heartbeatBytes : 0) +
           2 * Arena::alignment;
  }
  static constexpr std::size_t heartbeatBytes = 1024;

 private:
  template <class Number>
  Number clamp(std::string_view name, Number value, std::common_type_t<Number> lowest,
               std::common_type_t<Number> highest) {
    const Number clamped = lesser(greater(value, lowest), highest);
    if (clamped != value) notices_.add(Notice::optionClamped, name);
    return clamped;
  }
  /// Lowers the limits until everything fits into the host's memory, if it can.
  void fit(std::size_t memory) {
    const Limits before = limits;
    constexpr std::size_t leastEvent = 512;
    while (needWithPosts(limits) + Arena::alignment > memory) {
      const std::size_t batchLeast = limits.maxEventBytes + 16,
                        queueLeast = 2 * limits.maxEventBytes;
      if (limits.maxBatchBytes > batchLeast) {
        limits.maxBatchBytes = greater(limits.maxBatchBytes * 7 / 8, batchLeast);
      } else if (limits.maxQueueBytes > queueLeast) {
        limits.maxQueueBytes = greater(limits.maxQueueBytes * 7 / 8, queueLeast);
      } else if (limits.maxEventBytes > leastEvent) {
        limits.maxEventBytes = greater(limits.maxEventBytes * 7 / 8, leastEvent);
      } else {
        break;  // not enough, which Core finds
      }
    }
    const auto tell = [this](std::string_view name, std::size_t was, std::size_t is) {
      if (was != is) notices_.add(Notice::optionClamped, name);
    };
    tell("maxEventBytes", before.maxEventBytes, limits.maxEventBytes);
    tell("maxBatchBytes", before.maxBatchBytes, limits.maxBatchBytes);
    tell("maxQueueBytes", before.maxQueueBytes, limits.maxQueueBytes);
  }

  Notices& notices_;
  const bool webSocket_;
};

/// A connection that leaves this machine, and that anybody on the way can read.
inline bool isPlain(std::string_view endpoint) {
  if (!hasScheme(endpoint, "http") && !hasScheme(endpoint, "ws")) return false;
  std::string_view host = endpoint.substr(endpoint.find("://") + 3);
  host = host.substr(0, host.find('/'));
  const std::size_t bracket = host.find(']');
  host = host.substr(0, host.find(':', bracket == std::string_view::npos ? 0 : bracket));
  const bool digits = host.find_first_not_of("0123456789.") == std::string_view::npos;
  const bool loopback = digits && host.substr(0, 4) == "127.";
  return !loopback && host != "localhost" && host != "[::1]";
}

inline std::string trackUrl(std::string_view endpoint, std::string_view appId) {
  while (!endpoint.empty() && endpoint.back() == '/') endpoint.remove_suffix(1);
  return joined({endpoint, "/app/", appId, "/track"});
}

inline bool isReserved(std::string_view name) {
  return name == "init" || beginsWith(name, "error:") || beginsWith(name, "nucleus:");
}

constexpr std::size_t leastKey = 16;  // bytes of Options::anonymizeKey

inline std::string cachePath(const Options& options) {
  return options.cacheFile.empty() ? defaultCacheFile(options.appId) : options.cacheFile;
}

/// The declaration of that name, or null.
template <class Declared>
const Declared* findNamed(const Declared* first, std::size_t count, std::string_view name) {
  for (const Declared* each = first; first != nullptr && each != first + count; ++each) {
    if (each->name.view() == name) return each;
  }
  return nullptr;
}

/// The engine behind its lock, and what time it is.
struct Desk {
  Desk(const Setup& setup, Arena& arena, Notices& notices, Clock* hostClock)
      : engine(setup, arena, notices), clock(hostClock), startMs(steadyMs()) {}

  Engine engine;
  Mutex mutex;
  Clock* const clock;  // null: the system's
  const std::int64_t startMs;

  /// Steady time counts from the start of the client.
  Moment now() const {
    const auto steady = static_cast<std::uint64_t>(steadyMs());
    return {clock != nullptr ? clock->wallMs() : systemWallMs(),
            static_cast<std::int64_t>(steady - static_cast<std::uint64_t>(startMs))};
  }

 private:
  std::int64_t steadyMs() const { return clock != nullptr ? clock->steadyMs() : systemSteadyMs(); }
};

/// The host's storage, which may throw.
class HostStorage {
 public:
  explicit HostStorage(std::shared_ptr<Storage> storage) : storage_(std::move(storage)) {}

  bool exists() const { return storage_ != nullptr; }
  StorageState open() {
    return attempt([&] { return storage_->open(); }, StorageState::failed);
  }
  /// Fills what room there is; false where it cannot be read.
  bool read(std::size_t at, Buffer& to) {
    const auto read = [&] { return storage_->read(at, to.end(), to.room()); };
    const std::size_t got = attempt(read, std::size_t{SIZE_MAX});
    if (got > to.room()) return false;
    to.grow(got);
    return true;
  }
  bool append(std::string_view text) {
    return attempt([&] { return storage_->append(text); }, false);
  }
  bool beginReplace() {
    return attempt([&] { return storage_->beginReplace(); }, false);
  }
  bool write(std::string_view text) {
    return attempt([&] { return storage_->write(text); }, false);
  }
  bool commitReplace() {
    return attempt([&] { return storage_->commitReplace(); }, false);
  }
  bool sync() {
    return attempt([&] { return storage_->sync(); }, false);
  }
  bool erase() {
    return attempt([&] { return storage_->erase(); }, false);
  }
  bool vanished() {
    return attempt([&] { return storage_->vanished(); }, false);
  }
  void close() {
    attempt([&] { return storage_->close(), true; }, false);
  }

 private:
  std::shared_ptr<Storage> storage_;
};

/// How much is to leave the file.
enum class Erasure : unsigned char { none, unsent, all };

/// Carries the engine's text into the storage and back. Every call is made with `mutex` held; the
/// engine's lock is taken for moments, and never while the storage works.
class Disk {
 public:
  Disk(Desk& desk, std::shared_ptr<Storage> storage, Buffer scratch)
      : desk_(desk), engine_(desk.engine), storage_(std::move(storage)), scratch_(scratch) {
    engine_.file.wanted = storage_.exists();
  }

  Mutex mutex;

  bool exists() const { return storage_.exists(); }

  /// What is due, or needed for a request that is.
  void work() {
    if (!isWorkDue()) return;
    if (isLookDue()) look();
    if (isTracking()) store(isSyncDue());
    if (!isTracking()) erase();
  }
  /// All that is pending goes into the file. Where it failed, `synced` tries again at once.
  bool store(bool synced) {
    if (ended_ || !exists() || !isTracking()) return false;
    if (!isUsable() && !synced && !isRetryDue()) return false;
    if (synced && isUsable()) look();
    if (!isUsable() && (!open() || !isTracking())) return false;
    if (mustRewrite()) return rewrite();
    const bool tidies = isTidyingDue();
    if (!append()) return false;
    if (tidies) return rewrite();  // a kill meanwhile finds all in the old file
    return !synced || sync();
  }
  /// The same, for the last time.
  bool storeLast() {
    if (!store(true)) return false;
    const bool worth = ask([this] { return engine_.worthTidying(); });
    return !worth || rewrite();
  }
  /// Opens what is there and reads it. True: it can be written, or made.
  bool open() {
    if (isKnown()) look();  // since it failed it may have become another
    bool stale = false;
    unsigned wishes = 0;
    {
      Lock lock(desk_.mutex);
      stale = wanted_ != Erasure::none;
      wishes = wishes_;
    }
    const StorageState state = openAndRead(stale);
    Lock lock(desk_.mutex);
    const bool overtaken = wishes != wishes_;  // the user has opted out meanwhile
    if (overtaken) optOut();
    engine_.fileOpened(state, stale, desk_.now());
    const bool usable = state == StorageState::ready || state == StorageState::absent;
    if (usable && !overtaken) wanted_ = Erasure::none;  // what was to be erased was not read
    return usable;
  }
  /// The first line of the file, and nothing else, is read. What cannot be understood is a no.
  Consent rememberedChoice() {
    if (!exists()) return Consent::notAsked;
    const StorageState state = storage_.open();
    engine_.file.opened = true;
    if (state == StorageState::absent) return Consent::notAsked;
    const bool readable = state == StorageState::ready || state == StorageState::locked;
    if (!readable) return unreadableChoice();
    Fixed<128> line;
    for (Fixed<1> byte; byte.view() != "\n" && line.room() > 0; line.add(byte.view())) {
      byte.clear();
      if (!storage_.read(line.size(), byte) || byte.empty()) break;
    }
    Consent choice = Consent::refused;
    std::size_t bytes = 0;
    const Owner owner = readFirstLine(line.view(), appId(), choice, bytes);
    return owner == Owner::us ? choice : unreadableChoice();
  }
  void close() {
    if (exists() && engine_.file.opened) storage_.close();
    engine_.fileClosed();
  }
  /// For good; what is known of the file stays known.
  void end() {
    if (exists() && engine_.file.opened) storage_.close();
    ended_ = true;
  }

  /// All that is held, as JSON; `path` is where the file is.
  std::string exported(const std::string& path) {
    std::string text;
    Consent choice = Consent::notAsked;
    Held held(appId());
    const bool mirrored = mirrorsFile();
    const bool readable = mirrored || readWhole(text, choice);
    held.read(text);
    Lock lock(desk_.mutex);
    const bool complete = readable && !held.damaged && !engine_.file.holdsMore;
    if (engine_.consent != Consent::notAsked) choice = engine_.consent;
    std::string json = engine_.exported(held, mirrored || !readable, desk_.now());
    Fixed<64> tail;
    writeText(tail, Field::consent, choice == Consent::notAsked ? "notAsked" : consentWord(choice));
    addAll(json, {tail.view()});
    if (!path.empty()) addAll(json, {keyOf(Field::cacheFile), jsonOf(path)});
    addAll(json, {keyOf(Field::complete), complete ? "true}" : "false}"});
    return json;
  }

  // ---- erasure; what is wanted is said under the engine's lock alone ----

  /// Also what was erased before: another client of the file may have written it again.
  void want(Erasure erasure) {
    wanted_ = greater(wanted_, erasure);
    done_ = Erasure::none;
    ++wishes_;
  }
  bool isErasureWanted() const { return wanted_ != Erasure::none && !engine_.tracking(); }
  std::int64_t eraseDueMs() const { return isErasureWanted() ? eraseRetryMs_ : never; }
  /// There may be something to erase again; but no more than what was unsent before.
  void enabled() {
    done_ = Erasure::none;
    wanted_ = lesser(wanted_, Erasure::unsent);
  }
  /// What was unsent leaves the file, or all of it goes. False: not now, but it is tried again.
  bool erase() {
    Erasure erasure;
    {
      Lock lock(desk_.mutex);
      if (done_ >= wanted_ || !exists()) return wanted_ = Erasure::none, true;
      erasure = wanted_;
    }
    StorageState state = StorageState::failed;
    const bool erased = eraseFile(erasure, state);
    const bool closes = !isTracking();
    if (closes) storage_.close();
    Lock lock(desk_.mutex);
    if (closes) engine_.fileClosed();
    if (erased && erasure == Erasure::all && !engine_.setup().remember) engine_.file.bytes = 0;
    if (erased) done_ = erasure;
    if (done_ >= wanted_) wanted_ = Erasure::none;
    eraseRetryMs_ = desk_.now().steadyMs + CacheFile::retryMs;
    const bool locked = state == StorageState::locked;
    const char* const reason = newer_ ? "of a newer version" : locked ? "locked" : "not writable";
    if (!erased) engine_.notices.add(Notice::eraseFailed, reason);
    return erased;
  }

 private:
  std::string_view appId() const { return engine_.setup().appId; }
  /// What the engine says, of now where that matters.
  template <class Question>
  bool ask(Question&& question) const {
    Lock lock(desk_.mutex);
    if constexpr (std::is_invocable_v<Question, Moment>) return question(desk_.now());
    else return question();
  }
  bool isTracking() const {
    return ask([this] { return engine_.tracking(); });
  }
  /// Whether memory has all that is in the file.
  bool mirrorsFile() const {
    return !exists() || (!ended_ && ask([this] { return engine_.mirrorsFile(); }));
  }
  bool isUsable() const {
    return ask([this] { return engine_.file.usable(); });
  }
  bool isKnown() const {
    return ask([this] { return engine_.file.known; });
  }
  bool isWorkDue() const {
    return ask([this](Moment now) {
      const bool ahead = engine_.requestDueMs() <= now.steadyMs && engine_.unfiledEvents();
      const bool due = engine_.fileDue(now) || eraseDueMs() <= now.steadyMs;
      return exists() && !ended_ && (due || (ahead && engine_.file.works()));
    });
  }
  bool isSyncDue() const {
    return ask([this](Moment now) { return engine_.isSyncDue(now); });
  }
  bool mustRewrite() const {
    return ask([this] { return engine_.mustRewrite(); });
  }
  bool isTidyingDue() const {
    return ask([this](Moment now) { return engine_.tidyingDue(now); });
  }
  bool isRetryDue() const {
    return ask([this](Moment now) { return now.steadyMs >= engine_.file.retryAtMs; });
  }
  bool isLookDue() const {
    return ask([this](Moment now) { return now.steadyMs >= engine_.lookDueMs(); });
  }
  /// Whether the file was removed or replaced.
  void look() {
    const bool vanished = storage_.vanished();
    if (vanished) storage_.close();
    Lock lock(desk_.mutex);
    engine_.looked(vanished, desk_.now());
  }

  // ---- out ----

  bool append() {
    bool more = true;
    while (more) {
      if (!gather()) return rewrite();
      if (scratch_.empty()) break;
      seal(scratch_.data(), scratch_.size());
      const bool done = storage_.append(scratch_.view());
      Lock lock(desk_.mutex);
      engine_.appended(done, scratch_.size(), desk_.now());
      if (!done) return false;
      more = engine_.unfiledEvents();
    }
    return true;
  }
  /// False: the file has no room for it.
  bool gather() {
    Lock lock(desk_.mutex);
    scratch_.clear();
    engine_.gather(scratch_, desk_.now());
    return !engine_.fileWouldOverflow(scratch_.size());
  }
  bool sync() {
    const bool done = storage_.sync();
    Lock lock(desk_.mutex);
    engine_.synced(done, desk_.now());
    return done;
  }
  /// A new file with all that there is.
  bool rewrite() {
    std::size_t bytes = 0;
    bool done = storage_.beginReplace();
    for (bool begins = true; done; begins = false) {
      scratch_.clear();
      {
        Lock lock(desk_.mutex);
        engine_.gatherAll(scratch_, begins, desk_.now());
      }
      if (scratch_.empty()) break;
      seal(scratch_.data(), scratch_.size());
      bytes += scratch_.size();
      done = storage_.write(scratch_.view());
    }
    done = done && storage_.commitReplace();
    Lock lock(desk_.mutex);
    engine_.rewritten(done, bytes, desk_.now());
    return done;
  }
  bool eraseFile(Erasure erasure, StorageState& state) {
    state = storage_.open();
    newer_ = false;
    if (state == StorageState::ready && !engine_.file.known) state = readIds();
    const bool ours = state == StorageState::ready;
    if (!ours && state != StorageState::absent) return state == StorageState::foreign && !newer_;
    if (engine_.setup().remember || (ours && erasure != Erasure::all)) return rewrite();
    return !ours || storage_.erase();
  }

  // ---- in ----

  /// `stale`: what the file holds is still to be erased, and does not come back.
  StorageState openAndRead(bool stale) {
    StorageState state = storage_.open();
    if (state == StorageState::ready && !engine_.file.known) {
      state = stale ? readIds() : read(false);
      if (state != StorageState::ready) storage_.close();
    } else if (state == StorageState::locked) {
      if (!isTracking()) stale ? readIds() : read(true);
      storage_.close();
    }
    return state;
  }
  /// Without its first line, as it stands. False where it cannot be read, or is not understood.
  bool readWhole(std::string& text, Consent& choice) {
    struct Closing {
      HostStorage& storage;
      ~Closing() { storage.close(); }
    } const closing{storage_};
    const StorageState state = storage_.open();
    const bool readable = state == StorageState::ready || state == StorageState::locked;
    bool more = readable, failed = state == StorageState::failed;
    while (more && !failed) {
      const std::size_t at = text.size();
      text.resize(at + (64u << 10));
      Buffer piece(&text[at], text.size() - at);
      failed = !storage_.read(at, piece) || at > mostShown;
      text.resize(at + piece.size());
      more = !piece.empty();
    }
    std::size_t first = 0;
    const Owner owner = readFirstLine(text, appId(), choice, first);
    const bool ours = isOurs(owner, text);
    if (!ours) text.clear();
    if (owner == Owner::us) text.erase(0, first);
    return !failed && (ours || owner == Owner::other);
  }
  Consent unreadableChoice() {
    Lock lock(desk_.mutex);
    engine_.notices.add(Notice::choiceUnreadable);
    return Consent::refused;
  }
  void optOut() {
    if (wanted_ == Erasure::all) engine_.forget();
    else engine_.disable();
  }
  /// The random ids, which stay when all else is erased.
  StorageState readIds() {
    const StorageState state = read(true);
    Lock lock(desk_.mutex);
    if (state == StorageState::ready && !engine_.tracking()) optOut();
    return state;
  }
  /// Foreign where it is not ours, failed where it cannot be read. `idsOnly`: no events.
  StorageState read(bool idsOnly) {
    std::size_t at = 0, first = 0;
    scratch_.clear();
    if (!fill(at)) return StorageState::failed;
    Consent choice = Consent::notAsked;
    const Owner owner = readFirstLine(scratch_.view(), appId(), choice, first);
    newer_ = owner == Owner::newer;
    if (!isOurs(owner, scratch_.view())) return StorageState::foreign;
    if (owner == Owner::us) scratch_.dropFront(lesser(first + 1, scratch_.size()));
    {
      Lock lock(desk_.mutex);
      engine_.loadBegins();
    }
    bool more = true, readable = true;
    while (more && readable) readable = readRecords(at, idsOnly, more) && fill(at);
    Lock lock(desk_.mutex);
    engine_.loadEnds(!idsOnly, desk_.now());
    if (!readable) return engine_.unfile(), StorageState::failed;
    engine_.file.freshLine = true;  // whatever its end looks like
    engine_.file.bytes = idsOnly ? 0 : at;
    if (owner != Owner::us) engine_.file.mustRewrite = true;
    const bool refused = engine_.setup().remember && choice == Consent::refused;
    if (refused && engine_.tracking()) engine_.disable(), want(Erasure::unsent);
    return StorageState::ready;
  }
  /// False where it cannot be read.
  bool fill(std::size_t& at) {
    const std::size_t before = scratch_.size();
    const bool readable = storage_.read(at, scratch_);
    at += scratch_.size() - before;
    return readable;
  }
  bool readRecords(std::size_t at, bool idsOnly, bool& more) {
    Fixed<1> next;
    if (!storage_.read(at, next)) return false;
    more = !next.empty();
    const bool stuck = scratch_.room() == 0;
    Lock lock(desk_.mutex);
    std::size_t used = engine_.load(scratch_.view(), !more, idsOnly, desk_.now());
    if (used == 0 && stuck) used = engine_.load(scratch_.view(), true, idsOnly, desk_.now());
    scratch_.dropFront(used);
    return true;
  }
  bool isOurs(Owner owner, std::string_view text) const {
    return owner == Owner::us || text.empty() ||
           (owner == Owner::damaged &&
            (isTornFirstLine(text) || isDamagedFirstLine(text) || namesUs(text)));
  }
  /// Whether a file begins with our first line, but for one byte.
  bool isDamagedFirstLine(std::string_view text) const {
    for (const Consent consent : {Consent::notAsked, Consent::granted, Consent::refused}) {
      Fixed<128> expected;
      writeFirstLine(expected, appId(), consent);
      std::size_t i = 0, wrong = text.size() < expected.size() ? 2 : 0;
      for (; wrong < 2 && i < expected.size(); ++i) wrong += text[i] != expected.view()[i];
      if (wrong < 2) return true;
    }
    return false;
  }
  /// Whether a file ends within what would be our first line.
  bool isTornFirstLine(std::string_view text) const {
    Fixed<128> expected;
    writeFirstLine(expected, appId(), Consent::notAsked);
    const std::size_t known = lesser(text.size(), expected.view().rfind(" - "));
    return text.find('\n') == std::string_view::npos && known >= expected.view().find(' ') &&
           text.substr(0, known) == expected.view().substr(0, known);
  }
  /// Whether a record of state, close to the front, says that the file is ours.
  bool namesUs(std::string_view text) const {
    while (!text.empty()) {
      Line line;
      State state;
      std::size_t bytes = 0;
      if (readLine(text, line, bytes) && toLower(line.kind) == 's' &&
          readState(line.content, state) && sameString(state.appId, appId())) {
        return true;
      }
      text.remove_prefix(lesser(text.find('\n'), text.size() - 1) + 1);
    }
    return false;
  }

  static constexpr std::size_t mostShown = std::size_t{1} << 30;  // no file of ours is larger

  Desk& desk_;
  Engine& engine_;
  HostStorage storage_;
  Buffer scratch_;
  bool ended_ = false;
  // Under the engine's lock:
  bool newer_ = false;  // the file is ours, but of a format that a later version writes
  Erasure wanted_ = Erasure::none, done_ = Erasure::none;
  unsigned wishes_ = 0;  // how often something was wanted
  std::int64_t eraseRetryMs_ = INT64_MIN;
};

/// std::terminate, told to the clients that asked for it before it takes its course.
template <class Reporter>
class Uncaught {
 public:
  static void watch(Reporter* reporter) {
    Uncaught& all = instance();
    if (!all.replace(nullptr, reporter) || all.installed_) return;
    all.previous_ = std::set_terminate(report);
    all.installed_ = true;
  }
  static void forget(Reporter* reporter) {
    Uncaught& all = instance();
    if (!all.replace(reporter, nullptr) || std::get_terminate() != report) return;
    for (const std::atomic<Reporter*>& slot : all.reporters_) {
      if (slot != nullptr) return;
    }
    std::set_terminate(all.previous_);
    all.installed_ = false;
  }

 private:
  static Uncaught& instance() {
    static Uncaught all;
    return all;
  }
  bool replace(Reporter* before, Reporter* after) {
    for (std::atomic<Reporter*>& slot : reporters_) {
      Reporter* expected = before;
      if (slot.compare_exchange_strong(expected, after)) return true;
    }
    return false;
  }
  [[noreturn]] static void report() {
    for (std::atomic<Reporter*>& slot : instance().reporters_) {
      Reporter* const reporter = slot.exchange(nullptr);
      if (reporter == nullptr) continue;
      describeUncaught([reporter](const std::string& name, std::string_view message) {
        reporter->accept({{Type::error, std::string_view(name).substr(0, 256), {}, message, {}}});
      });
    }
    if (instance().previous_ != nullptr) instance().previous_();
    std::abort();
  }

  std::atomic<Reporter*> reporters_[8] = {};
  std::terminate_handler previous_ = nullptr;
  bool installed_ = false;
};

/// How far the end has come. Calls answer `shutDown` from the second on.
enum class Phase : unsigned char {
  running,
  lastDelivery,  // the worker sends what it can
  stopping,      // the worker, or who polls, is to return
  stopped,       // it has, or is left behind in the host's code: nothing of the host is used there
  closed
};

/// What the host calls with. A program that never says who the user is has no code for it.
struct Call {
  Event event;
  Outcome (*take)(Engine&, const Call&, Moment) = nullptr;  // instead of Engine::accept()
  std::string_view userId = {};
  bool overwrite = false;  // the user's properties
};

class Core {
 public:
  explicit Core(Options&& options)
      : options_(std::move(options)), checked_(options_, notices_),
        memory_(hostMemory() ? 0 : memoryBytes()),
        arena_(memory(), memory() == nullptr ? 0 : memoryBytes()),
        desk_(setup(), arena_, notices_, options_.clock.get()),
        disk_(desk_, chooseStorage(), arena_.buffer(checked_.limits.scratchBytes())) {
    if (!options_.entropy) options_.entropy = systemEntropy;
    if (options_.onCustomData) {
      engine_.customData.reserve(hostMemory() ? checked_.limits.maxEventBytes : 64u << 10);
      customData_.reserve(engine_.customData.capacity());
    }
    watchForks();
    forksBefore_ = forkCount().load();
  }

  ~Core() { Uncaught<Core>::forget(this); }

  /// What the constructor of Client does, once there is a shared pointer to this.
  void start(const std::shared_ptr<Core>& self) {
    self_ = self;
    inert_ = !isConfigured();
    if (!isIdentifier(options_.appId)) note(Notice::notConfigured);
    else if (memory() == nullptr) note(Notice::noMemory);
    if (isPlain(options_.endpoint)) note(Notice::plainEndpoint);
    if (isRefusedId(options_.deviceId)) note(Notice::personalId, "deviceId");
    if (isRefusedId(options_.anonId)) note(Notice::personalId, "anonId");
    const std::size_t keyBytes = options_.anonymizeKey.size();
    if (keyBytes > 0 && keyBytes < leastKey) note(Notice::shortKey);
    if (!inert_) {
      detect();
      const bool beats = engine_.setup().webSocket;
      if (hostMemory()) engine_.keep(makePost(false), beats ? makePost(true) : nullptr);
      beginTracking();
    }
    if (options_.background) startWorker();
    if (options_.reportUncaught) Uncaught<Core>::watch(this);
  }

  // ---- what is tracked ----

  /// Checks what the host gives, and hands it to the engine.
  Outcome accept(const Call& call) {
    const Event& event = call.event;
    const auto self = options_.filter ? self_.lock() : nullptr;  // it may end the client
    const Outcome state = usable();
    if (state != Outcome::ok) return state;
    if (!isNameRight(event)) {
      return isReserved(event.name) ? Outcome::reservedName : Outcome::invalidName;
    }
    if (!isDeclared(event)) return Outcome::unknownEvent;
    if (!passesFilter(event)) return Outcome::filtered;
    return run(call);
  }
  Outcome accept(const std::exception& error) {
    const auto report = [&] {
      std::string name = exceptionName(error);
      if (isReserved(name)) name = joined({"::", name});
      const char* const message = error.what();
      return accept({{Type::error, std::string_view(name).substr(0, 256), {}, Text(message), {}}});
    };
    return attempt(report, Outcome::tooLarge);
  }

  // ---- consent ----

  void enable() {
    if (!isOpen()) return;
    Lock files(disk_.mutex);
    if (phase_ != Phase::running) return;
    if (isErasureWanted()) disk_.erase();
    if (!prepare()) return;
    {
      Lock lock(mutex_);
      disk_.enabled();
      engine_.enable(now());
      tracking_ = engine_.tracking();
      wakeWorker();
    }
    if (options_.rememberTrackingChoice || checked_.limits.cacheDelayMs == 0) disk_.store(true);
    heedFile();
  }
  bool disable(Erasure erasure) {
    if (isForked()) return false;
    if (!isConfigured()) return !isIdentifier(options_.appId) || !disk_.exists();
    {
      Lock lock(mutex_);
      tracking_ = false;
      ++*epoch_;  // cancels what the host was handed
      if (erasure == Erasure::all) engine_.forget();
      else engine_.disable();
      disk_.want(erasure);
      settled_.notify();
    }
    Lock files(disk_.mutex);
    const bool erased = disk_.erase();
    Lock lock(mutex_);
    if (phase_ == Phase::closed) keepStats();
    wakeWorker();
    return erased;
  }
  std::string exportData() {
    if (!isIdentifier(options_.appId)) return "{}";
    if (isForked() || !isConfigured()) return "{\"complete\":false}";
    Lock files(disk_.mutex);
    return disk_.exported(path_);
  }
  bool tracking() const { return tracking_.load() && !isClosed(); }
  Consent consent() {
    if (isForked()) return Consent::notAsked;
    Lock lock(mutex_);
    return engine_.consent;
  }

  // ---- delivery ----

  bool flush(std::int64_t timeoutMs) {
    if (!isOpen() || isInside()) return false;
    const bool delivered = deliver(timeoutMs);
    if (isEndWanted()) shutdown(0);
    return delivered;
  }
  void poll() {
    if (isClosed() || isInside()) return;
    {
      Lock lock(mutex_);
      if (hasWorker_ || turning_ || dueMs() > now().steadyMs) return;
      turning_ = true;
    }
    turn();
    {
      Lock lock(mutex_);
      turning_ = false;
      settled_.notify();
    }
    if (isEndWanted()) shutdown(0);
  }
  void receive(std::string_view message) {
    if (!isOpen()) return;
    Lock lock(mutex_);
    if (phase_ == Phase::closed) return;
    engine_.receive(message, now());
    answered();
  }
  void reply(Post& post, const Response& response) {
    if (isClosed()) return;
    Lock lock(mutex_);
    if (phase_ == Phase::closed) return;
    engine_.settle(post, response, now());
    answered();
  }
  void online(bool connected) {
    if (!isOpen()) return;
    Lock lock(mutex_);
    if (phase_ == Phase::closed) return;
    engine_.online(connected, now());
    wakeWorker();
  }
  bool persist() {
    if (!isOpen() || isInside()) return false;
    return withFile([this] { return disk_.store(true); });
  }
  Stats stats() {
    Stats stats;
    if (isForked()) return stats;
    Lock lock(mutex_);
    if (phase_ == Phase::closed) return last_;
    engine_.fill(stats, now());
    return stats;
  }

  // ---- the end ----

  /// Once; whoever calls it meanwhile waits for it.
  bool shutdown(std::int64_t timeoutMs) {
    if (isForked()) return false;
    if (isInside()) return endLater(), false;
    if (claimEnd()) {
      finish(timeoutMs, false);
    } else {
      Lock lock(mutex_);
      waitUntil(timeoutMs, [] { return false; });
    }
    return safe_;
  }
  void end() { shutdown(options_.shutdownTimeoutMs); }

 private:
  // ---- the start ----

  bool hostMemory() const { return options_.memory.data != nullptr; }
  /// The host's, from its first aligned word on, or our own; null if it is not enough.
  char* memory() const {
    if (!hostMemory()) return memory_.data();
    const auto address = reinterpret_cast<std::uintptr_t>(options_.memory.data);
    const std::size_t skipped = (0 - address) % Arena::alignment;
    const bool enough = options_.memory.bytes >= skipped + memoryBytes();
    return enough ? static_cast<char*>(options_.memory.data) + skipped : nullptr;
  }
  std::size_t memoryBytes() const {
    return hostMemory() ? checked_.needWithPosts(checked_.limits) : Checked::need(checked_.limits);
  }
  Setup setup() const {
    Setup setup;
    setup.appId = options_.appId;
    setup.url = trackUrl(options_.endpoint, options_.appId);
    setup.redaction =
        options_.personalData == PersonalData::redact ? Redaction::all : Redaction::none;
    if (!isRefusedId(options_.deviceId))
      setup.deviceId = std::string_view(options_.deviceId).substr(0, 64);
    const bool good = isIdentifier(options_.anonId) && !isRefusedId(options_.anonId);
    if (good) setup.anonId = options_.anonId;
    if (options_.anonymizeKey.size() >= leastKey) setup.anonymizeKey = options_.anonymizeKey;
    setup.refusesPersonalUsers =
        options_.personalData == PersonalData::redact || !options_.anonymizeKey.empty();
    setup.limits = checked_.limits;
    setup.webSocket = isWebSocket(options_.endpoint);
    setup.canSend = static_cast<bool>(options_.transport);
    setup.remember = options_.rememberTrackingChoice;
    setup.tellsUpdate = static_cast<bool>(options_.onUpdate);
    return setup;
  }
  bool isRefusedId(const std::string& id) const {
    return options_.personalData == PersonalData::redact && isPersonal(id);
  }
  std::shared_ptr<Storage> chooseStorage() {
    if (!options_.offlineCache) return nullptr;
    if (options_.storage != nullptr) return options_.storage;
    path_ = cachePath(options_);
    auto storage = makeFileStorage(path_);
    if (storage == nullptr) path_.clear();
    return storage;
  }
  void detect() {
    const Redaction ofText = engine_.setup().redaction;
    const Redaction ofVersion = redactionOf("version", ofText);
    Device& device = engine_.device;
    const auto orElse = [](std::string_view given, std::string_view detected) {
      return given.empty() ? detected : given;
    };
    addRedacted(device.version, options_.version, ofVersion);
    addRedacted(device.locale, orElse(options_.locale, systemLocale()), ofText);
    addRedacted(device.platform, orElse(options_.platform, systemName), ofText);
    addRedacted(device.osVersion, orElse(options_.osVersion, systemVersion()), ofVersion);
    device.arch = systemArch;
    device.totalRamGb = (systemRamBytes() + (1u << 29)) >> 30;
  }
  void beginTracking() {
    Lock files(disk_.mutex);
    if (options_.rememberTrackingChoice) engine_.consent = disk_.rememberedChoice();
    std::string wish;
    const bool asksNot =
        options_.respectDoNotTrack && readEnvironment("DO_NOT_TRACK", wish) && asksNotToTrack(wish);
    if (!enabledAtStart(engine_.consent, asksNot, options_.disableTracking)) {
      if (asksNot && engine_.consent == Consent::notAsked) note(Notice::doNotTrack);
      return disk_.close();
    }
    if (!prepare()) return;
    engine_.begin(now());
    tracking_ = engine_.tracking();
    if (checked_.limits.cacheDelayMs == 0) disk_.store(false);
    heedFile();
  }
  /// Chance and the file, before tracking begins. The file's lock is held.
  bool prepare() {
    if (!engine_.random.seeded()) {
      Random random;
      const auto seed = [&] { return random.seed(options_.entropy); };
      if (!attempt(seed, false)) return inert_ = true, note(Notice::noEntropy), false;
      Lock lock(mutex_);
      engine_.random = random;
    }
    if (disk_.exists() && !tracking_) disk_.open();
    return true;
  }
  void startWorker() {
    hasWorker_ = true;
    workersSelf_ = self_.lock();
    hasWorker_ = worker_.start(runWorker, this);
    if (hasWorker_) return;
    workersSelf_.reset();
    note(Notice::noThread);
  }
  static void runWorker(void* core) {
    const auto self = std::move(static_cast<Core*>(core)->workersSelf_);  // until it returns
    self->work();
  }

  // ---- callers ----

  bool isConfigured() const { return isIdentifier(options_.appId) && memory() != nullptr; }
  bool isForked() const { return forkCount().load(std::memory_order_relaxed) != forksBefore_; }
  bool isClosed() const { return phase_ == Phase::closed || isForked(); }
  bool isOpen() const { return !isClosed() && !inert_; }
  bool isInside() const { return runs(this) || isInFilter(); }
  bool isInFilter() const { return runs(&options_.filter); }
  static bool runs(const void* owner) {
    const Callback* callback = innermostCallback();
    while (callback != nullptr && callback->owner != owner) callback = callback->outer;
    return callback != nullptr;
  }
  bool isErasureWanted() const {
    Lock lock(mutex_);
    return disk_.isErasureWanted();
  }
  Outcome usable() const {
    if (phase_ != Phase::running || isForked()) return Outcome::shutDown;
    if (inert_) return Outcome::notConfigured;
    return tracking_ ? Outcome::ok : Outcome::trackingDisabled;
  }
  static bool isNamed(Type type) {
    return type == Type::event || type == Type::error || type == Type::view;
  }
  bool isNameRight(const Event& event) {
    const std::string_view name = event.name;
    if (!isNamed(event.type)) return true;
    const bool fits = name.size() <= 128 || redactedBytes(name) <= 256;  // no mark adds so much
    if (!name.empty() && fits && !isReserved(name)) return true;
    note(Notice::invalidName, name);
    return false;
  }
  std::size_t redactedBytes(std::string_view text) const {
    Pieces pieces(text, engine_.setup().redaction);
    std::size_t bytes = 0;
    for (std::string_view piece; pieces.next(piece);) bytes += piece.size();
    return bytes;
  }
  /// Whether the catalogue has it, with all of its properties.
  bool isDeclared(const Event& event) {
    const bool ofUser = event.type == Type::props;
    if (!options_.strictCatalogue) return true;
    if (!ofUser && event.type != Type::event && event.type != Type::view) return true;
    constexpr std::string_view user = "props";  // the entry that is no event
    const DeclaredEvent* const declared =
        findNamed(options_.catalogue.events, options_.catalogue.count, ofUser ? user : event.name);
    if (!ofUser && (declared == nullptr || event.name == user))
      return note(Notice::unknownEvent, event.name), false;
    for (const Property& property : event.properties) {
      if (ofUser && engine_.isDetected(property.name)) continue;
      if (declared != nullptr && findNamed(declared->properties, declared->count, property.name)) {
        continue;
      }
      return note(Notice::unknownEvent, property.name), false;
    }
    return true;
  }
  bool passesFilter(const Event& event) {
    if (!options_.filter || event.type == Type::init || isInFilter()) return true;
    const std::string_view type = typeNames[static_cast<std::size_t>(event.type)];
    bool passes = false;
    const auto ask = [&] { passes = options_.filter(type, event.name, event.properties); };
    inside("filter", ask, &options_.filter);
    if (isEndWanted()) shutdown(0);
    return passes;
  }
  /// Wakes the worker if it would sleep too long, and writes what must be written at once.
  Outcome run(const Call& call) {
    const Moment at = now();
    const Event& event = call.event;
    const Type type = event.type;
    Outcome outcome;
    {
      Lock lock(mutex_);
      if (phase_ != Phase::running) return Outcome::shutDown;
      outcome = call.take != nullptr ? call.take(engine_, call, at) : engine_.accept(event, at);
      if (sleepsUntilMs_ > dueMs()) wakeWorker();
    }
    const bool changed = outcome == Outcome::ok || outcome == Outcome::personalData;
    if (changed && (type == Type::error || checked_.limits.cacheDelayMs == 0)) {
      withFile([this] { return disk_.store(false); });
    }
    return outcome;
  }
  void wakeWorker() {
    sleepsUntilMs_ = INT64_MIN;  // once is enough
    wake_.notify();
  }
  void note(Notice notice, std::string_view detail = {}) {
    Lock lock(mutex_);
    notices_.add(notice, detail);
    if (tellsDiagnostics()) wakeWorker();
  }
  Moment now() const { return desk_.now(); }
  bool tellsDiagnostics() const { return options_.debug || options_.onDiagnostic; }

  // ---- the worker, or poll() ----

  void work() {
    for (;;) {
      turn();
      Lock lock(mutex_);
      if (phase_ >= Phase::stopping) break;
      const std::int64_t nowMs = now().steadyMs;
      sleepsUntilMs_ = dueMs();
      if (sleepsUntilMs_ > nowMs) wake_.wait(mutex_, sleepsUntilMs_ - nowMs);
      sleepsUntilMs_ = INT64_MIN;
      if (phase_ >= Phase::stopping) break;
    }
    if (claimEnd()) finish(0, true);
    Lock lock(mutex_);
    workerDone_ = true;
    settled_.notify();
  }
  /// True: there was a request.
  bool turn() {
    workOnFile();
    const bool sent = send();
    tellHost();
    return sent;
  }
  void workOnFile() {
    withFile([this] { return disk_.work(), true; });
  }
  template <class Work>
  bool withFile(Work&& work) {
    Lock files(disk_.mutex);
    const bool done = work();
    heedFile();
    return done;
  }
  /// What was read from a file that another client had may say that the user has refused.
  void heedFile() {
    Lock lock(mutex_);
    if (!tracking_ || engine_.tracking()) return;
    tracking_ = false;
    ++*epoch_;
    settled_.notify();
  }
  std::int64_t dueMs() {
    const bool tells = !engine_.customData.empty() || !engine_.latestVersion.empty();
    if (tells || phase_ >= Phase::stopping) return INT64_MIN;
    const std::int64_t notices = tellsDiagnostics() ? notices_.dueMs() : never;
    return lesser(lesser(engine_.dueMs(), notices), disk_.eraseDueMs());
  }
  /// One request, if one is due. Here alone the transport is called, and no lock is held.
  bool send() {
    std::shared_ptr<Post> next = nextPost();
    if (next == nullptr) return false;
    Post& post = *next;
    const Request request(std::move(next));
    Response response;
    if (!request.cancelled()) {
      inside("transport", [&] { response = options_.transport(request); });
    }
    Lock lock(mutex_);
    if (phase_ < Phase::stopped) engine_.settle(post, response, now()), answered();
    return phase_ < Phase::stopped;
  }
  std::shared_ptr<Post> nextPost() {
    Lock lock(mutex_);
    if (inert_ || phase_ >= Phase::stopping) return nullptr;
    engine_.tend(now());
    return engine_.next(now(), [this](bool heartbeat) { return makePost(heartbeat); });
  }
  /// Null where it cannot be had: in the host's memory there is room for one of each kind.
  std::shared_ptr<Post> makePost(bool heartbeat) {
    const Limits& limits = checked_.limits;
    const std::size_t bytes = heartbeat ? Checked::heartbeatBytes : limits.postCapacity();
    const std::size_t ids = heartbeat ? 0 : limits.batchIds();
    const auto make = [&]() -> std::shared_ptr<Post> {
      char* const given = hostMemory() ? arena_.take(bytes) : nullptr;
      if (hostMemory() && given == nullptr) return nullptr;
      // std::make_shared() asks for the names of types, also in a build that has none.
      std::shared_ptr<Post> post(new Post(hostMemory() ? 0 : bytes));
      char* const memory = hostMemory() ? given : post->memory.data();
      if (memory == nullptr) return nullptr;
      const std::size_t idBytes = ids * sizeof(std::uint64_t);
      post->ids = CarriedIds(reinterpret_cast<std::uint64_t*>(memory), ids);
      post->body = Buffer(memory + idBytes, bytes - idBytes);
      post->url = engine_.setup().url;
      post->heartbeat = heartbeat;
      post->currentEpoch = epoch_;
      post->core = self_;
      return post;
    };
    return attempt(make, std::shared_ptr<Post>());
  }
  /// After an answer: those who wait may go on. The lock is held.
  void answered() {
    if (flushing_ > 0 && !engine_.pausing(now())) engine_.hurry(now());
    settled_.notify();
    if (sleepsUntilMs_ > dueMs()) wakeWorker();
  }

  // ---- callbacks ----

  /// Diagnostics and what the server had to say.
  void tellHost() {
    Fixed<64> version;
    if (takeVersion(version)) {
      inside("onUpdate", [&] { options_.onUpdate(version.view()); });
    }
    if (takeData()) {
      inside("onCustomData", [&] { options_.onCustomData(customData_); });
    }
    Fixed<256> message;
    Diagnostic diagnostic = {};
    while (takeDiagnostic(diagnostic, message)) tell(diagnostic);
  }
  bool takeVersion(Buffer& version) {
    Lock lock(mutex_);
    if (engine_.latestVersion.empty() || phase_ >= Phase::stopped) return false;
    version.add(engine_.latestVersion.view());
    engine_.latestVersion.clear();
    return !std::exchange(updateTold_, true);
  }
  bool takeData() {
    Lock lock(mutex_);
    if (engine_.customData.empty() || phase_ >= Phase::stopped) return false;
    customData_.swap(engine_.customData);
    engine_.customData.clear();
    return static_cast<bool>(options_.onCustomData);
  }
  bool takeDiagnostic(Diagnostic& diagnostic, Buffer& message) {
    Lock lock(mutex_);
    std::size_t index = 0;
    message.clear();
    if (phase_ >= Phase::stopped || !tellsDiagnostics()) return false;
    if (!notices_.take(now().steadyMs, index, diagnostic.count, message)) return false;
    diagnostic.severity = noticeTexts.severity(index);
    diagnostic.code = noticeTexts.code(index);
    diagnostic.message = message.view();
    return true;
  }
  void tell(const Diagnostic& diagnostic) {
    if (options_.debug) {
      Fixed<400> line;
      for (const std::string_view part :
           {std::string_view("nucleus: "), diagnostic.code, std::string_view(": "),
            diagnostic.message, std::string_view(" (")}) {
        line.add(part);
      }
      writeUnsigned(line, diagnostic.count);
      line.add(")\n");
      writeToStderr(line.view());
    }
    if (options_.onDiagnostic) {
      inside("onDiagnostic", [&] { options_.onDiagnostic(diagnostic); });
    }
  }
  /// Calls the host, with no lock held. What it throws ends here.
  template <class Action>
  void inside(std::string_view name, Action&& action, const void* owner = nullptr) {
    const Callback callback = {owner == nullptr ? this : owner, innermostCallback()};
    innermostCallback() = &callback;
    const bool returned = attempt([&] { return action(), true; }, false);
    innermostCallback() = callback.outer;
    if (!returned) note(Notice::callbackThrew, name);
  }

  // ---- waiting; the lock is held ----

  bool deliver(std::int64_t timeoutMs) {
    Lock lock(mutex_);
    const std::uint64_t mark = engine_.flushMark(), dropped = engine_.dropped();
    const unsigned epoch = epoch_->load();  // another means that what was unsent is erased
    workFor(timeoutMs, mark, [&] { return engine_.delivered(mark) || *epoch_ != epoch; });
    return tracking_ && *epoch_ == epoch && engine_.delivered(mark) && engine_.dropped() == dropped;
  }
  /// What was accepted before `mark` goes out now: the worker sends it, or the caller does.
  template <class Done>
  void workFor(std::int64_t timeoutMs, std::uint64_t mark, Done&& done) {
    engine_.hurry(now());
    wakeWorker();
    ++flushing_;
    if (hasWorker_) waitUntil(timeoutMs, done);
    else if (timeoutMs > 0) workUntil(now().steadyMs + bounded(timeoutMs), mark);
    --flushing_;
  }
  static std::int64_t bounded(std::int64_t timeoutMs) {
    return greater<std::int64_t>(lesser(timeoutMs, 365 * dayMs), 0);
  }
  template <class Done>
  void waitUntil(std::int64_t timeoutMs, Done&& done) {
    timeoutMs = bounded(timeoutMs);
    const std::int64_t endMs = systemSteadyMs() + timeoutMs;
    for (std::int64_t left = timeoutMs; left > 0 && phase_ != Phase::closed && !done();) {
      settled_.wait(mutex_, left);
      left = endMs - systemSteadyMs();
    }
  }
  /// Without a worker: the caller does it, as long as it need not wait.
  void workUntil(std::int64_t endMs, std::uint64_t mark) {
    if (turning_) return;
    turning_ = true;
    while (!engine_.delivered(mark) && tracking_ && now().steadyMs < endMs &&
           engine_.requestDueMs() <= now().steadyMs) {
      mutex_.unlock();
      const bool sent = turn();
      mutex_.lock();
      if (!sent) break;
      if (!engine_.pausing(now())) engine_.hurry(now());
    }
    turning_ = false;
    settled_.notify();
  }

  // ---- the end ----

  /// From inside a callback: the worker ends itself; without one, who called the callback does.
  void endLater() {
    Lock lock(mutex_);
    if (phase_ != Phase::running) return;
    phase_ = Phase::stopping;
    wakeWorker();
  }
  bool isEndWanted() const { return phase_ == Phase::stopping && !ending_ && !hasWorker_; }
  /// From now on calls answer `shutDown`. False: somebody else is at it.
  bool claimEnd() {
    Lock lock(mutex_);
    if (phase_ == Phase::running) phase_ = Phase::lastDelivery;
    return !ending_.exchange(true);
  }
  void finish(std::int64_t timeoutMs, bool onWorker) {
    timeoutMs = bounded(timeoutMs);
    const std::int64_t endMs = systemSteadyMs() + timeoutMs;
    storeLast(false);
    if (phase_ == Phase::lastDelivery) deliverLast(timeoutMs);
    stopWorker(endMs, onWorker);
    storeLast(true);
    close();
  }
  void storeLast(bool tidies) {
    Lock files(disk_.mutex);
    if (inert_) return;
    if (isErasureWanted()) disk_.erase();
    else if (tidies) disk_.storeLast();
    else disk_.store(false);
  }
  void deliverLast(std::int64_t timeoutMs) {
    Lock lock(mutex_);
    const auto done = [&] {
      return engine_.queueEmpty() || engine_.pausing(now()) || !tracking_ || !options_.transport;
    };
    if (timeoutMs > 0 && !done()) workFor(timeoutMs, engine_.flushMark(), done);
  }
  /// The worker, or who polls, ends, or is left behind in a transport that does not return.
  void stopWorker(std::int64_t endMs, bool onWorker) {
    Lock lock(mutex_);
    phase_ = Phase::stopping;
    ++*epoch_;
    wakeWorker();
    const bool hadWorker = hasWorker_.exchange(false);
    if (onWorker) return worker_.detach();
    const auto done = [&] { return hadWorker ? workerDone_ : !turning_; };
    waitUntil(greater<std::int64_t>(endMs - systemSteadyMs(), 1), done);
    phase_ = Phase::stopped;
    if (!hadWorker) return;
    if (!done()) return worker_.detach();
    mutex_.unlock();
    worker_.join();
    mutex_.lock();
  }
  void close() {
    Uncaught<Core>::forget(this);
    Lock files(disk_.mutex);
    disk_.end();
    Lock lock(mutex_);
    safe_ = inert_ || engine_.queueEmpty() || (disk_.exists() && engine_.allFiled());
    tracking_ = false;
    phase_ = Phase::closed;
    keepStats();
    settled_.notify();
  }
  /// The last ones.
  void keepStats() {
    engine_.fill(last_, now());
    last_.trackingEnabled = false;
    last_.nextRequestInMs = -1;
  }

  Options options_;
  Notices notices_;  // under mutex_
  Checked checked_;
  const Memory memory_;
  Arena arena_;
  Desk desk_;
  Engine& engine_ = desk_.engine;  // under mutex_
  Mutex& mutex_ = desk_.mutex;
  std::string path_;  // of the file; "" where there is none
  Disk disk_;
  const std::shared_ptr<std::atomic<unsigned>> epoch_{new std::atomic<unsigned>(1u)};
  Signal wake_, settled_;
  Thread worker_;
  std::weak_ptr<Core> self_;
  std::shared_ptr<Core> workersSelf_;  // on its way
  std::atomic<Phase> phase_{Phase::running};
  std::atomic<bool> ending_{false};    // somebody brings the end about
  std::atomic<bool> tracking_{false};  // as the engine has it
  std::atomic<bool> inert_{false}, hasWorker_{false};
  bool workerDone_ = false, turning_ = false;
  int flushing_ = 0;
  std::int64_t sleepsUntilMs_ = INT64_MIN;
  unsigned forksBefore_ = 0;
  bool updateTold_ = false;
  std::string customData_;  // of the callback that runs; of the turn alone
  std::atomic<bool> safe_{false};
  Stats last_;
};

// ---- what the user is told ----

inline std::string inOneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) c = isBlank(c) ? ' ' : c;
  return line;
}

/// What the options give, in sentences, and no more than that.
class Policy {
 public:
  explicit Policy(const Options& options)
      : options_(options),
        stores_(options.offlineCache &&
                (options.storage != nullptr || makeFileStorage(cachePath(options)) != nullptr)) {}

  bool stores() const { return stores_; }
  std::string text() {
    const bool kept = options_.rememberTrackingChoice && stores_;
    add({"This program tells the analytics service Nucleus (", host(),
         ") how it is used: what is listed here, and nothing else.\n\n", start(),
         " When it is switched off, what was not sent yet is erased, with the user's id and"
         " properties; when the program forgets the user, the identifiers are erased too. What"
         " was sent stays with Nucleus until it is erased there. ",
         kept ? "The choice is kept on the device.\n\n"
              : "The choice lasts until the program ends.\n\n"});
    addIds();
    add({" ", userId(), "\n\n", redaction(),
         "\n\nAs with any connection, the server sees the IP address that a request comes from;"
         " Nucleus derives a country from it.",
         isPlain(options_.endpoint) ? " The connection is not encrypted.\n\n" : "\n\n"});
    addFile();
    return std::move(text_);
  }

 private:
  void add(std::initializer_list<std::string_view> parts) { addAll(text_, parts); }
  std::string host() const {
    std::string_view host = options_.endpoint;
    const std::size_t scheme = host.find("://");
    host.remove_prefix(scheme == std::string_view::npos ? 0 : scheme + 3);
    host = host.substr(0, host.find_first_of("/?#"));
    return inOneLine(host.substr(host.rfind('@') + 1));
  }
  std::string_view start() const {
    if (options_.disableTracking) return "Nothing is collected until the program switches it on.";
    if (!options_.respectDoNotTrack) return "It does so from its first start on.";
    return "It does so from its first start on; where the environment variable DO_NOT_TRACK is"
           " set, and is not 0 or false, only once the program switches it on.";
  }
  void addIds() {
    const bool device = isUsed(options_.deviceId);
    const bool user = isUsed(options_.anonId) && isIdentifier(options_.anonId);
    add({"Two ",
         !device && !user ? "random identifiers"
         : device && user ? "identifiers, given by the program,"
         : device ? "identifiers, a random one of the user and one of the device that the program"
                    " gives,"
                  : "identifiers, a random one of the device and one of the user that the program"
                    " gives,",
         " tell one device and one user from others",
         stores_          ? " over time; they are kept on the device."
         : device && user ? "; they are not kept on the device."
                          : "; what is random in them is made anew at each start.",
         " Nucleus may replace the user's by one of its own.",
         device || user ? " One that the program gives may come back after it was erased." : ""});
  }
  /// Whether an id that the host gives is not refused for what it holds.
  bool isUsed(const std::string& id) const {
    const bool refuses = options_.personalData == PersonalData::redact;
    return !id.empty() && !(refuses && isPersonal(id));
  }
  std::string_view userId() const {
    if (options_.anonymizeKey.empty() && options_.personalData == PersonalData::allow) {
      return "A user's id is kept and sent as the program gives it.";
    }
    if (options_.anonymizeKey.size() < leastKey) {
      return "A user's id that holds an e-mail address, an IP or MAC address, an international"
             " phone number or a home folder is not used; any other is kept and sent as the"
             " program gives it.";
    }
    return "A user's id that holds an e-mail address, an IP or MAC address, an international phone"
           " number or a home folder is replaced by a hash under a key, which is a pseudonym, and"
           " the same for one person on every device; any other is kept and sent as the program"
           " gives it.";
  }
  std::string_view redaction() const {
    if (options_.personalData == PersonalData::allow) {
      return "Texts are kept and sent as the program gives them, with the personal data that they"
             " may hold.";
    }
    return "What reads as an e-mail address or a home folder is taken out of all texts before these"
           " are kept or sent. So is a text that as a whole reads as an IP address (unless it is a"
           " version), a MAC address or an international phone number. Names of people and other"
           " personal data in texts are not recognised.";
  }
  void addFile() {
    if (!stores_) return add({"Nothing is stored on the device."});
    add(
        {"What was not sent yet waits on the device,"
         " with the identifiers and the user's id and properties, "});
    addPlace();
    add({" Events older than ", cutoff(), " are dropped as soon as the program runs."});
  }
  void addPlace() {
    constexpr std::string_view twin = ", and a copy of it while it is written anew.";
    if (options_.storage != nullptr) return add({"in a storage of the program's own."});
    if (!options_.cacheFile.empty()) return add({"in one file, ", withoutHome(), twin});
    add({"in one file", twin, " The file is nucleus/", options_.appId,
         ".cache in ~/.local/share (or $XDG_DATA_HOME) on Linux,"
         " in ~/Library/Application Support on macOS, in %LOCALAPPDATA% on Windows."});
  }
  std::string withoutHome() const {
    std::string path;
    Pieces pieces(options_.cacheFile, Redaction::all);
    for (std::string_view piece; pieces.next(piece);) path.append(piece);
    return inOneLine(path);
  }
  /// In the largest unit that says it exactly.
  std::string cutoff() const {
    constexpr std::int64_t minute = 60, hour = 60 * minute;
    const std::int64_t ms = greater<std::int64_t>(lesser(options_.cutoffMs, 365 * dayMs), 1'000);
    const std::int64_t seconds = (ms + 999) / 1'000;
    const bool hours = seconds % hour == 0, minutes = seconds % minute == 0;
    Fixed<32> text;
    writeInteger(text, seconds / (hours ? hour : minutes ? minute : 1));
    text.add(hours ? " h" : minutes ? " min" : " s");
    return std::string(text.view());
  }

  const Options& options_;
  const bool stores_;
  std::string text_;
};

using Rows = std::vector<DataInventory::Row>;

inline void addRow(Rows& rows, std::initializer_list<std::string_view> field, std::string_view when,
                   std::string_view purpose, bool personal) {
  DataInventory::Row& row = rows.emplace_back();
  addAll(row.field, field);
  row.when = when;
  row.purpose = purpose;
  row.personal = personal;
}

/// Of the encoder's table, what these options give.
inline void addOwnRows(Rows& rows, const Options& options, bool stores) {
  const bool hasFile = stores && options.storage == nullptr;
  for (std::size_t i = 0; i < fieldCount; ++i) {
    const auto field = static_cast<Field>(i);
    const FieldRule& rule = fieldRules[i];
    if (field == Field::machineId && !isWebSocket(options.endpoint)) continue;
    if (field == Field::cacheFile && !hasFile) continue;
    const bool remembered = field == Field::consent && options.rememberTrackingChoice;
    const bool kept = rule.when == onDevice || remembered;
    const std::string_view when = !kept ? rule.when : stores ? onDevice : inExport;
    const bool ofError = field == Field::message || field == Field::stack;
    addRow(rows, {ofError ? "payload." : "", nameOf(field)}, when, rule.purpose, rule.personal);
  }
}

inline void addCatalogue(Rows& rows, const Catalogue& catalogue) {
  for (std::size_t i = 0; catalogue.events != nullptr && i < catalogue.count; ++i) {
    const DeclaredEvent& event = catalogue.events[i];
    const bool ofUser = event.name.view() == "props";
    const char* const when = ofUser ? "init, props" : "events, views";
    addRow(rows, {event.name}, when, event.purpose, false);
    for (std::size_t k = 0; event.properties != nullptr && k < event.count; ++k) {
      const DeclaredProperty& property = event.properties[k];
      addRow(rows, {event.name, ".", property.name}, when, property.purpose, ofUser);
    }
  }
}

/// As plain text in Markdown, one line of it if it is for a table.
inline void addMarkdown(std::string& to, std::string_view text, bool inTable) {
  static constexpr CharacterSet marks("\\`*_[]<>|#&~$");
  for (const char c : text) {
    const bool blank = inTable && isBlank(c);
    if (marks.has(c)) to += '\\';
    to += blank ? ' ' : c;
  }
}

}  // namespace detail

NUCLEUS_INLINE DataInventory dataInventory(const Options& options) {
  detail::Policy policy(options);
  const auto rows = std::make_shared<detail::Rows>();
  DataInventory inventory;
  detail::addOwnRows(*rows, options, policy.stores());
  inventory.ownRows_ = rows->size();
  detail::addCatalogue(*rows, options.catalogue);
  inventory.count_ = rows->size();
  inventory.policy_ = policy.text();
  inventory.rows_ = {rows, rows->data()};
  return inventory;
}
NUCLEUS_INLINE std::string DataInventory::markdown() const {
  std::string text;
  detail::addMarkdown(text, policy_, false);
  text += '\n';
  if (ownRows_ != 0) text += "\n| field | when | purpose | personal |\n|---|---|---|---|\n";
  for (const Row& row : *this) {
    const auto index = static_cast<std::size_t>(&row - begin());
    if (index == ownRows_) text += "\n| event | when | purpose |\n|---|---|---|\n";
    for (const std::string* cell : {&row.field, &row.when, &row.purpose}) {
      text += "| ";
      detail::addMarkdown(text, *cell, true);
      text += ' ';
    }
    text += index >= ownRows_ ? "|\n" : row.personal ? "| yes |\n" : "| no |\n";
  }
  return text;
}
NUCLEUS_INLINE std::string DataInventory::json() const {
  std::string text;
  detail::addAll(text, {"{\"policy\":", detail::jsonOf(policy_), ",\"rows\":["});
  for (const Row& row : *this) {
    detail::addAll(
        text, {&row == begin() ? "{\"field\":" : ",{\"field\":", detail::jsonOf(row.field),
               ",\"when\":", detail::jsonOf(row.when), ",\"purpose\":", detail::jsonOf(row.purpose),
               ",\"personal\":", row.personal ? "true}" : "false}"});
  }
  return text += "]}";
}

NUCLEUS_INLINE std::shared_ptr<Storage> fileStorage(std::string path) {
  return detail::makeFileStorage(path);
}
NUCLEUS_INLINE std::string defaultCacheFile(Text appId) {
  if (!detail::isIdentifier(appId)) return {};
  return detail::joinPath(detail::userDataFolder(), detail::joined({"/nucleus/", appId, ".cache"}));
}

NUCLEUS_INLINE std::string anonymize(Text identifier, Text key) {
  detail::Fixed<22> hashed;
  const bool both = !identifier.view().empty() && !key.view().empty();
  if (both) detail::writeAnonymized(hashed, identifier, key);
  return std::string(hashed.view());
}
NUCLEUS_INLINE std::string machineDeviceId(Text appId) {
  const std::string machine =
      detail::isIdentifier(appId) ? detail::systemMachineId() : std::string();
  detail::Fixed<22> hashed;
  if (!machine.empty()) detail::writeHashed(hashed, appId, machine);
  return std::string(hashed.view());
}

NUCLEUS_INLINE std::string_view Request::url() const noexcept { return post_->url; }
NUCLEUS_INLINE std::string_view Request::contentType() const noexcept { return "application/json"; }
NUCLEUS_INLINE std::string_view Request::body() const noexcept { return post_->body.view(); }
NUCLEUS_INLINE bool Request::cancelled() const noexcept { return post_->cancelled(); }
NUCLEUS_INLINE bool Request::expectsAnswer() const noexcept { return !post_->heartbeat; }
NUCLEUS_INLINE void Request::reply(Response response) const noexcept {
  if (const std::shared_ptr<detail::Core> core = post_->core.lock()) core->reply(*post_, response);
}

NUCLEUS_INLINE Client::Client() noexcept = default;
NUCLEUS_INLINE Client::Client(Options options) noexcept {
  const auto make = [&] {
    std::shared_ptr<detail::Core> core(new detail::Core(std::move(options)));
    core->start(core);
    return core;
  };
  core_ = detail::attempt(make, std::shared_ptr<detail::Core>());
  unmade_ = core_ == nullptr;
}
NUCLEUS_INLINE Client::Client(Client&& other) noexcept
    : core_(std::move(other.core_)), coreless_(std::exchange(other.coreless_, Outcome::shutDown)),
      unmade_(std::exchange(other.unmade_, false)) {}
NUCLEUS_INLINE Client& Client::operator=(Client&& other) noexcept {
  Client moved(std::move(other));  // and takes over what is replaced, which ends with it
  core_.swap(moved.core_);
  std::swap(coreless_, moved.coreless_);
  std::swap(unmade_, moved.unmade_);
  return *this;
}
NUCLEUS_INLINE Client::~Client() {
  if (const auto core = core_) core->end();
}

NUCLEUS_INLINE Outcome Client::track(Text name, Properties properties) noexcept {
  return core_ ? core_->accept({{detail::Type::event, name, properties}}) : coreless_;
}
NUCLEUS_INLINE Outcome Client::page(Text name, Properties properties) noexcept {
  return core_ ? core_->accept({{detail::Type::view, name, properties}}) : coreless_;
}
NUCLEUS_INLINE Outcome Client::screen(Text name, Properties properties) noexcept {
  return page(name, properties);
}
NUCLEUS_INLINE Outcome Client::trackError(Text name, Text message, Text stack) noexcept {
  return core_ ? core_->accept({{detail::Type::error, name, {}, message, stack}}) : coreless_;
}
NUCLEUS_INLINE Outcome Client::trackError(const std::exception& error) noexcept {
  return core_ ? core_->accept(error) : coreless_;
}
NUCLEUS_INLINE Outcome Client::setUserId(Text id) noexcept {
  const auto take = [](detail::Engine& engine, const detail::Call& call, detail::Moment now) {
    return engine.setUserId(call.userId, now);
  };
  return core_ ? core_->accept({{detail::Type::userId}, take, id}) : coreless_;
}
NUCLEUS_INLINE Outcome Client::setProps(Properties properties, bool overwrite) noexcept {
  const auto take = [](detail::Engine& engine, const detail::Call& call, detail::Moment now) {
    return engine.setProps(call.event.properties, call.overwrite, now);
  };
  const detail::Event event = {detail::Type::props, {}, properties};
  return core_ ? core_->accept({event, take, {}, overwrite}) : coreless_;
}
NUCLEUS_INLINE Outcome Client::identify(Text id, Properties properties) noexcept {
  const Outcome outcome = setUserId(id);
  if (outcome != Outcome::ok || properties.size() == 0) return outcome;
  return setProps(properties, true);
}
NUCLEUS_INLINE Outcome Client::startSession() noexcept {
  return core_ ? core_->accept({{detail::Type::init}}) : coreless_;
}

using PropertyList = std::initializer_list<Property>;
NUCLEUS_INLINE Outcome Client::track(Text name, PropertyList list) noexcept {
  return track(name, Properties(list.begin(), list.size()));
}
NUCLEUS_INLINE Outcome Client::page(Text name, PropertyList list) noexcept {
  return page(name, Properties(list.begin(), list.size()));
}
NUCLEUS_INLINE Outcome Client::screen(Text name, PropertyList list) noexcept {
  return page(name, Properties(list.begin(), list.size()));
}
NUCLEUS_INLINE Outcome Client::setProps(PropertyList list, bool overwrite) noexcept {
  return setProps(Properties(list.begin(), list.size()), overwrite);
}
NUCLEUS_INLINE Outcome Client::identify(Text id, PropertyList list) noexcept {
  return identify(id, Properties(list.begin(), list.size()));
}

NUCLEUS_INLINE void Client::enableTracking() noexcept {
  if (core_) core_->enable();
}
NUCLEUS_INLINE bool Client::disableTracking() noexcept {
  return core_ ? core_->disable(detail::Erasure::unsent) : !unmade_;
}
NUCLEUS_INLINE bool Client::trackingEnabled() const noexcept { return core_ && core_->tracking(); }
NUCLEUS_INLINE Consent Client::consent() const noexcept {
  return core_ ? core_->consent() : Consent::notAsked;
}
NUCLEUS_INLINE bool Client::forget() noexcept {
  return core_ ? core_->disable(detail::Erasure::all) : !unmade_;
}

NUCLEUS_INLINE std::string Client::exportData() const noexcept {
  const auto show = [this]() -> std::string {
    if (core_) return core_->exportData();
    return unmade_ ? "{\"complete\":false}" : "{}";
  };
  return detail::attempt(show, std::string());
}

NUCLEUS_INLINE bool Client::flush(std::int64_t timeoutMs) noexcept {
  const auto core = core_;  // a callback may replace this client
  return core && core->flush(timeoutMs);
}
NUCLEUS_INLINE void Client::poll() noexcept {
  if (const auto core = core_) core->poll();
}
NUCLEUS_INLINE void Client::receive(Text message) noexcept {
  if (core_) core_->receive(message);
}
NUCLEUS_INLINE void Client::online(bool connected) noexcept {
  if (core_) core_->online(connected);
}
NUCLEUS_INLINE bool Client::persist() noexcept { return core_ && core_->persist(); }
NUCLEUS_INLINE bool Client::shutdown(std::int64_t timeoutMs) noexcept {
  const auto core = core_;
  return !core || core->shutdown(timeoutMs);
}
NUCLEUS_INLINE Stats Client::stats() const noexcept { return core_ ? core_->stats() : Stats(); }

}  // namespace NUCLEUS_ABI
}  // namespace nucleus

#endif  // NUCLEUS_BODY

#undef NUCLEUS_THREADS
#undef NUCLEUS_FILES
#undef NUCLEUS_EXCEPTIONS
#undef NUCLEUS_VECTORS
#undef NUCLEUS_PREFETCH
#undef NUCLEUS_PREFETCHES
#undef NUCLEUS_SHARED
#undef NUCLEUS_SMALL
#undef NUCLEUS_IEEE_ARITHMETIC
#undef NUCLEUS_INLINE
#undef NUCLEUS_BODIES
#undef NUCLEUS_ENABLED
#undef NUCLEUS_STANDARD
#undef NUCLEUS_PASTE
#undef NUCLEUS_TAG
#undef NUCLEUS_ABI

// ==== 14. Licence ==== MIT ====
//
// Copyright (c) 2026 The nucleus.hpp authors
//
// Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
// associated documentation files (the "Software"), to deal in the Software without restriction,
// including without limitation the rights to use, copy, modify, merge, publish, distribute,
// sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
// furnished to do so, subject to the following conditions:
//
// The above copyright notice and this permission notice shall be included in all copies or
// substantial portions of the Software.
//
// THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
// NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
// NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
// DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
// OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
