// Room 12: files on a real file system, the default folder, the surroundings, fork().
#include "fakes.hpp"
#include "check.hpp"
#include "windows.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#if NUCLEUS_TESTS_PROCESSES
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#endif
#if NUCLEUS_TESTS_SYSTEM && !defined(_WIN32)
#include <sys/stat.h>
#include <unistd.h>
#endif
#if defined(__GLIBC__)
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#endif

#if NUCLEUS_TESTS_SYSTEM

namespace {

namespace fs = std::filesystem;
using fakes::contentOf;
using fakes::takeAway;
using fakes::Variable;
using nucleus::fileStorage;
using State = nucleus::StorageState;
using StoragePtr = std::shared_ptr<nucleus::Storage>;

/// A new folder that goes with all that is in it.
class Folder {
 public:
  Folder() {
    std::uint64_t name = 0;
    nucleus::detail::systemEntropy(&name, sizeof name);
    path_ = fs::temp_directory_path() / ("nucleus-platform-" + std::to_string(name));
    fs::create_directory(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_.string() + '/' + name; }
  /// The names of all that is in it, at any depth.
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      names.insert(fs::relative(entry.path(), path_).generic_string());
    }
    return names;
  }

 private:
  fs::path path_;
};

using Names = std::set<std::string>;

void put(const std::string& path, const std::string& content) {
  std::ofstream(fs::u8path(path), std::ios::binary) << content;
}

bool replace(nucleus::Storage& storage, std::string_view content) {
  return storage.beginReplace() && storage.write(content) && storage.commitReplace();
}

std::string readAll(nucleus::Storage& storage) {
  std::string text(1 << 16, '\0');
  const std::size_t bytes = storage.read(0, text.data(), text.size());
  text.resize(bytes == SIZE_MAX ? 0 : bytes);
  return text;
}

/// A storage that is open, and holds the lock of a file with this content.
StoragePtr holderOf(const std::string& path, std::string_view content = "content\n") {
  StoragePtr storage = fileStorage(path);
  REQUIRE(storage->open() == State::absent);
  REQUIRE(replace(*storage, content));
  return storage;
}

/// A client in poll mode on a real file.
nucleus::Options onFile(fakes::World& world, const std::string& path) {
  nucleus::Options options = world.options();
  options.storage = nullptr;
  options.cacheFile = path;
  return options;
}

}  // namespace

TEST_CASE("a file storage without a path is none") { CHECK(fileStorage("") == nullptr); }

TEST_CASE("nothing is made until the first replacement is committed") {
  const Folder folder;
  const StoragePtr storage = fileStorage(folder / "sub/events.cache");
  CHECK(folder.names().empty());
  CHECK(storage->open() == State::absent);
  char text[8];
  CHECK(storage->read(0, text, sizeof text) == SIZE_MAX);
  CHECK_FALSE(storage->append("lost"));
  CHECK_FALSE(storage->write("lost"));
  CHECK_FALSE(storage->commitReplace());
  CHECK_FALSE(storage->sync());
  CHECK_FALSE(storage->vanished());
  CHECK(folder.names().empty());
  CHECK(replace(*storage, "content"));
  CHECK(folder.names() == Names{"sub", "sub/events.cache"});
  CHECK(contentOf(folder / "sub/events.cache") == "content");
}

TEST_CASE("a file is appended to, read from anywhere, replaced and erased") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path, "first\n");
  CHECK(storage->append("second\n"));
  CHECK(storage->append(""));
  CHECK(storage->sync());
  CHECK(readAll(*storage) == "first\nsecond\n");
  char text[4] = {};
  CHECK(storage->read(6, text, 3) == 3);
  CHECK(std::string(text) == "sec");
  CHECK(storage->read(11, text, 3) == 2);
  CHECK(storage->read(13, text, 3) == 0);
  CHECK(storage->read(std::size_t{1} << 30, text, 3) == 0);

  CHECK(replace(*storage, "third\n"));
  CHECK(storage->append("fourth\n"));
  CHECK(readAll(*storage) == "third\nfourth\n");
  CHECK(storage->open() == State::ready);
  storage->close();
  CHECK_FALSE(storage->append("lost"));
  CHECK(storage->open() == State::ready);
  CHECK(readAll(*storage) == "third\nfourth\n");

  CHECK(storage->erase());
  CHECK(folder.names().empty());
  CHECK_FALSE(storage->append("lost"));
  CHECK(storage->erase());
  CHECK(storage->open() == State::absent);
  CHECK(replace(*storage, "fifth\n"));
  CHECK(readAll(*storage) == "fifth\n");
}

TEST_CASE("a file of several megabytes with every byte arrives as it is") {
  const Folder folder;
  std::string content(3 << 20, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 >> 3);
  const StoragePtr storage = holderOf(folder / "events.cache", content);
  CHECK(storage->append(content));
  std::string back(content.size() * 2 + 1, '\0');
  REQUIRE(storage->read(0, back.data(), back.size()) == content.size() * 2);
  back.pop_back();
  CHECK((back == content + content));
}

TEST_CASE("until a replacement is committed the old content stands") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path, "old");
  REQUIRE(storage->beginReplace());
  REQUIRE(storage->write("new, but unfinished"));
  CHECK(contentOf(path) == "old");
  CHECK(readAll(*storage) == "old");
  SECTION("begun again") {
    CHECK(replace(*storage, "new"));
    CHECK(contentOf(path) == "new");
    CHECK(folder.names() == Names{"events.cache"});
  }
  SECTION("given up by closing") {
    storage->close();
    CHECK(storage->open() == State::ready);
    CHECK(readAll(*storage) == "old");
    CHECK(folder.names() == Names{"events.cache"});
  }
  SECTION("given up by erasing") {
    CHECK(storage->erase());
    CHECK(folder.names().empty());
  }
}

TEST_CASE("a second storage in the process finds the file locked, and reads it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  StoragePtr first = holderOf(path, "mine\n");
  const StoragePtr second = fileStorage(path);
  CHECK(second->open() == State::locked);
  CHECK(readAll(*second) == "mine\n");
  CHECK_FALSE(second->append("theirs"));
  CHECK_FALSE(second->sync());
  CHECK_FALSE(replace(*second, "theirs"));
  CHECK_FALSE(second->erase());
  CHECK(second->open() == State::locked);
  CHECK(first->append("more\n"));
  CHECK(readAll(*second) == "mine\nmore\n");
  CHECK(contentOf(path) == "mine\nmore\n");
  SECTION("until the first closes it") {
    first->close();
    CHECK(second->open() == State::ready);
    CHECK(first->open() == State::locked);
  }
  SECTION("until the first is destroyed") {
    first.reset();
    CHECK(second->open() == State::ready);
  }
  SECTION("until the first erases it") {
    CHECK(first->erase());
    CHECK(second->open() == State::absent);
    CHECK(replace(*second, "theirs"));
    CHECK(first->open() == State::locked);
  }
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("the lock survives a replacement") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr first = holderOf(path), early = fileStorage(path), late = fileStorage(path);
  REQUIRE(early->open() == State::locked);
  for (int times = 0; times < 3; ++times) {
    if (!nucleus::detail::replacesOpenFiles) early->close();
    REQUIRE(replace(*first, "again"));
    CHECK(early->open() == State::locked);
    CHECK(readAll(*early) == "again");
    CHECK(late->open() == State::locked);
    late->close();
  }
}

TEST_CASE("of two that found nothing one makes the file, and the other finds it locked") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr first = fileStorage(path), second = fileStorage(path);
  REQUIRE(first->open() == State::absent);
  REQUIRE(first->beginReplace());
  REQUIRE(first->write("first"));
  CHECK(second->open() == State::absent);
  CHECK_FALSE(replace(*second, "second"));
  CHECK(first->commitReplace());
  CHECK_FALSE(replace(*second, "second"));
  CHECK(second->open() == State::locked);
  CHECK(contentOf(path) == "first");
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("a twin that a crash left is removed when the file is opened") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const bool exists = GENERATE(false, true);
  if (exists) put(path, "content");
  put(path + ".tmp", "what a crash left");
  CHECK(fileStorage(path)->open() == (exists ? State::ready : State::absent));
  CHECK(folder.names() == (exists ? Names{"events.cache"} : Names{}));
}

TEST_CASE("a file that was removed or replaced behind our back has vanished") {
  const Folder folder;
  const std::string path = folder / "sub/events.cache";
  const StoragePtr storage = holderOf(path);
  CHECK_FALSE(storage->vanished());
  CHECK(replace(*storage, "by ourselves"));
  CHECK_FALSE(storage->vanished());
  SECTION("removed") {
    takeAway(path);
    CHECK(storage->vanished());
    storage->close();
    CHECK(storage->open() == State::absent);
    CHECK(replace(*storage, "anew"));
  }
#if !defined(_WIN32)
  SECTION("removed with its folder, and made again without closing it") {
    fs::remove_all(folder / "sub");
    CHECK(storage->vanished());
    CHECK(replace(*storage, "anew"));
    CHECK(storage->append("!"));
    CHECK(contentOf(path) == "anew!");
  }
#endif
  SECTION("replaced by another, which is left alone") {
    put(folder / "other", "another");
    takeAway(path);
    fs::rename(folder / "other", path);
    CHECK(storage->vanished());
    CHECK_FALSE(replace(*storage, "ours"));
    CHECK_FALSE(storage->erase());
    CHECK(contentOf(path) == "another");
  }
  storage->close();
  CHECK_FALSE(storage->vanished());
}

TEST_CASE("a path may hold any letters, and may be long") {
  const Folder folder;
  for (const std::string name : {"M\xC3\xBCller/\xE6\x97\xA5\xE6\x9C\xAC/\xF0\x9F\x92\xBE.cache",
                                 "with space/'quote'.cache", "a/b/c/d/e/f/g/h/i/j/k/l.cache"}) {
    CAPTURE(name);
    const StoragePtr storage = holderOf(folder / name, "here");
    CHECK(contentOf(folder / name) == "here");
    CHECK(storage->erase());
  }
}

TEST_CASE("a path that cannot be is a failure, not a crash") {
  const Folder folder;
  put(folder / "file", "a file");
  std::vector<std::string> paths = {folder / "file/events.cache"};
#if !defined(__EMSCRIPTEN__)  // which cuts a long name
  paths.push_back(folder / std::string(300, 'x'));
#endif
  for (const std::string& path : paths) {
    const StoragePtr storage = fileStorage(path);
    CHECK(storage->open() != State::ready);
    CHECK_FALSE(replace(*storage, "content"));
    CHECK_FALSE(storage->append("content"));
  }
  CHECK(folder.names() == Names{"file"});
  CHECK(contentOf(folder / "file") == "a file");
}

namespace {

/// A file that can be written only as long as the disk works.
struct FailingStorage : nucleus::Storage {
  explicit FailingStorage(const std::string& path) : file(fileStorage(path)) {}

  State open() override { return file->open(); }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    return file->read(at, to, bytes);
  }
  bool append(std::string_view text) override { return works && file->append(text); }
  bool beginReplace() override { return works && file->beginReplace(); }
  bool write(std::string_view text) override { return works && file->write(text); }
  bool commitReplace() override { return works && file->commitReplace(); }
  bool sync() override { return works && file->sync(); }
  bool erase() override { return works && file->erase(); }
  bool vanished() override { return file->vanished(); }
  void close() override { file->close(); }

  bool works = true;
  StoragePtr file;
};

}  // namespace

TEST_CASE("a file that another client made while the disk failed is read, not written over") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  world.server->then = fakes::Server::always(0);
  nucleus::Options options = onFile(world, path);
  const auto storage = std::make_shared<FailingStorage>(path);
  options.storage = storage;
  nucleus::Client client(options);
  client.track("BEFORE");
  REQUIRE(client.persist());
  storage->works = false;
  client.track("MEANWHILE");
  REQUIRE_FALSE(client.persist());
  takeAway(path);
  {
    nucleus::Client other(onFile(world, path));
    other.track("THEIRS");
    REQUIRE(other.shutdown(0));
  }
  storage->works = true;
  world.pass(client, 5'000);
  CHECK(client.stats().storage == State::ready);
  for (const char* const name : {"BEFORE", "MEANWHILE", "THEIRS"}) {
    CAPTURE(name);
    CHECK(contentOf(path).find(name) != std::string::npos);
  }
}

TEST_CASE(
    "of a file that was kept under allow nothing is taken, and nothing else is dropped for it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  world.server->then = fakes::Server::always(0);
  {
    nucleus::Client before(onFile(world, path));
    before.track("EARLIER");
    REQUIRE(before.shutdown(0));
  }
  nucleus::Options options = onFile(world, path);
  const auto storage = std::make_shared<FailingStorage>(path);
  options.storage = storage;
  nucleus::Client client(options);
  client.track("MINE");
  const std::uint64_t mine = client.stats().queuedEvents;
  REQUIRE(mine == 4);  // with two inits
  storage->works = false;
  REQUIRE_FALSE(client.persist());
  takeAway(path);
  {
    nucleus::Options allows = onFile(world, path);
    allows.personalData = nucleus::PersonalData::allow;
    nucleus::Client other(allows);
    other.track("THEIRS", {{"mail", "ada@example.com"}});
    REQUIRE(other.shutdown(0));
  }
  storage->works = true;
  world.pass(client, 5'000);
  CHECK(client.stats().storage == State::ready);
  CHECK(client.stats().queuedEvents == mine);
  CHECK(client.stats().droppedPersonalData == 2);
  CHECK(contentOf(path).find("EARLIER") != std::string::npos);
  CHECK(contentOf(path).find("THEIRS") == std::string::npos);
}

TEST_CASE("a refusal that is found in the file while tracking is enabled is told by everything") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  const auto options = [&] {
    nucleus::Options made = onFile(world, path);
    made.rememberTrackingChoice = true;
    return made;
  };
  nucleus::Client client(options());
  client.enableTracking();
  REQUIRE(client.persist());
  takeAway(path);
  {
    nucleus::Client other(options());
    REQUIRE(other.disableTracking());
  }
  client.enableTracking();
  CHECK(client.trackingEnabled() == client.stats().trackingEnabled);
  CHECK((client.track("EVENT") == nucleus::Outcome::ok) == client.trackingEnabled());
}

TEST_CASE("a client leaves one file, whatever it does") {
  const Folder folder;
  const Variable data(fakes::dataVariable, folder.path().string().c_str());
  const std::string path = nucleus::defaultCacheFile("test-app");
  const Names only = {"nucleus", "nucleus/test-app.cache"};
  fakes::World world;
  nucleus::Options options = onFile(world, "");
  options.rememberTrackingChoice = GENERATE(false, true);
  {
    nucleus::Client client(options);
    CHECK(client.track("ONE") == nucleus::Outcome::ok);
    CHECK(client.persist());
    CHECK(folder.names() == only);
    CHECK(contentOf(path).find("ONE") != std::string::npos);
    world.pass(client, 120'000);
    CHECK(folder.names() == only);
    CHECK(client.disableTracking());
    CHECK(folder.names() == only);
    client.enableTracking();
    CHECK(client.track("TWO") == nucleus::Outcome::ok);
    CHECK(client.persist());
    CHECK(folder.names() == only);
    takeAway(path);
    world.pass(client, 60'000);
    CHECK(client.persist());
    CHECK(folder.names() == only);
  }
  CHECK(folder.names() == only);
  nucleus::Client client(options);
  CHECK(client.forget());
  CHECK(folder.names() == (options.rememberTrackingChoice ? only : Names{"nucleus"}));
}

TEST_CASE("the first file is made as soon as the delay is over") {
  const Folder folder;
  fakes::World world;
  nucleus::Options options = onFile(world, folder / "events.cache");
  options.cacheDelayMs = 50;
  nucleus::Client client(options);
  CHECK(client.track("ONE") == nucleus::Outcome::ok);
  world.pass(client, 100, 10);
  CHECK(contentOf(folder / "events.cache").find("\"ONE\"") != std::string::npos);
}

TEST_CASE("an event is in the file before it is in a request, also the first") {
  const Folder folder;
  fakes::World world;
  const std::string path = folder / "events.cache";
  nucleus::Options options = onFile(world, path);
  int requests = 0, missing = 0;
  options.transport = [&](const nucleus::Request& request) {
    const std::string content = contentOf(path);
    for (const fakes::Json& event : fakes::Server::events(request.body())) {
      const std::string id = "\"id\":" + event.at("id").dump();
      if (content.find(id) == std::string::npos) ++missing;
    }
    ++requests;
    return fakes::Server::acknowledge(request);
  };
  nucleus::Client client(options);
  CHECK(client.track("ONE") == nucleus::Outcome::ok);
  CHECK(client.flush(1'000));
  CHECK(client.track("TWO") == nucleus::Outcome::ok);
  CHECK(client.flush(1'000));
  CHECK(requests == 2);
  CHECK(missing == 0);
}

TEST_CASE("the clocks tell milliseconds, and the steady one does not go back") {
  using namespace std::chrono;
  const auto wall = [] {
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  };
  using nucleus::detail::systemSteadyMs;
  const std::int64_t before = wall(), now = nucleus::detail::systemWallMs(), after = wall();
  CHECK(before - 21 <= now);  // a clock that is read quickly is a few ms late
  CHECK(now <= after + 1);

  const std::int64_t begin = systemSteadyMs();
  const auto start = steady_clock::now();
  std::int64_t last = begin;
  bool goesBack = false;
  while (steady_clock::now() - start < milliseconds(50)) {
    const std::int64_t next = systemSteadyMs();
    goesBack = goesBack || next < last;
    last = next;
  }
  last = systemSteadyMs();
  CHECK_FALSE(goesBack);
  CHECK(last - begin >= 30);
  CHECK(last - begin < 60'000);
}

TEST_CASE("the system gives random bytes, others each time, and no more than asked for") {
  using Bytes = std::array<unsigned char, 40>;
  std::set<Bytes> draws;
  for (int times = 0; times < 100; ++times) {
    Bytes bytes;
    bytes.fill(0xA5);
    REQUIRE(nucleus::detail::systemEntropy(bytes.data(), 32));
    for (std::size_t i = 32; i < bytes.size(); ++i) CHECK(bytes[i] == 0xA5);
    draws.insert(bytes);
  }
  CHECK(draws.size() == 100);
}

TEST_CASE("what is told of the system has the form that is sent") {
  const std::string version = nucleus::detail::systemVersion();
  CHECK(version.find_first_not_of("0123456789.") == std::string::npos);
#if defined(__wasi__)
  constexpr bool tells = false;
#else
  constexpr bool tells = true;
#endif
  CHECK(version.empty() == !tells);
  CHECK((nucleus::detail::systemRamBytes() > 64u << 20) == tells);
  CHECK_FALSE(nucleus::detail::systemName.empty());
}

TEST_CASE("an appId of 64 characters has a file, one of 65 has none") {
  const Variable data(fakes::dataVariable, "/data"), home("HOME", "/home/me");
  CHECK_FALSE(nucleus::defaultCacheFile(std::string(64, 'a')).empty());
  CHECK(nucleus::defaultCacheFile(std::string(65, 'a')).empty());
}

TEST_CASE("where there is no place for a file events wait in memory") {
  const Variable data(fakes::dataVariable, nullptr), home("HOME", nullptr);
  fakes::World world;
  nucleus::Client client(onFile(world, ""));
  CHECK(client.track("ONE") == nucleus::Outcome::ok);
  CHECK_FALSE(client.persist());
  world.pass(client, 30'000);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(world.server->received().size() == 2);
}

#if !defined(__wasi__)
TEST_CASE("a path may be relative") {
  const Folder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  for (const char* const path : {"events.cache", "./dot.cache", "sub/events.cache"}) {
    CAPTURE(path);
    const StoragePtr storage = fileStorage(path);
    CHECK(storage->open() == State::absent);
    CHECK(replace(*storage, "content"));
    CHECK_FALSE(storage->vanished());
    CHECK(storage->append("!"));
    CHECK(storage->sync());
    CHECK(contentOf(path) == "content!");
    CHECK(storage->erase());
  }
  fs::current_path(before);
  CHECK(folder.names() == Names{"sub"});
}
#endif

TEST_CASE("a replacement that is taken away fails, and the old content stands, still locked") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path, "old");
  REQUIRE(storage->beginReplace());
  REQUIRE(storage->write("new"));
  takeAway(path + ".tmp");
  CHECK_FALSE(storage->commitReplace());
  CHECK(contentOf(path) == "old");
  CHECK(storage->append("er"));
  CHECK(contentOf(path) == "older");
  CHECK(fileStorage(path)->open() == State::locked);
  CHECK_FALSE(storage->commitReplace());
  CHECK(replace(*storage, "new"));
  CHECK(contentOf(path) == "new");
}

#if !defined(_WIN32)

namespace {

#if NUCLEUS_TESTS_PROCESSES

/// Runs `body` in a child process. Its result is the exit code; -1 if a signal ended it.
template <class Body>
int inChild(Body&& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// The same, as a user whom permissions bind.
template <class Body>
int asNobody(Body&& body) {
  return inChild([&] {
    const bool root = geteuid() == 0;
    if (root && (setgid(65'534) != 0 || setuid(65'534) != 0)) return 99;
    return body();
  });
}

struct Pipe {
  int ends[2] = {-1, -1};

  Pipe() { REQUIRE(pipe(ends) == 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void put(char c) const { static_cast<void>(!::write(ends[1], &c, 1)); }
  /// '\0' at the end.
  char take() const {
    char c = '\0';
    return ::read(ends[0], &c, 1) == 1 ? c : '\0';
  }
  void closeWriting() {
    ::close(ends[1]);
    ends[1] = -1;
  }
};

/// Waits for a signal that ends it.
[[noreturn]] void waitForTheEnd() {
  for (;;) pause();
}

void end(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

#endif

}  // namespace

TEST_CASE("the cache lies in the user's data folder") {
  struct Row {
    const char *data, *home, *appId, *path;
  };
  const Row rows[] = {
#if defined(__APPLE__)
    {nullptr, "/home/me", "app", "/home/me/Library/Application Support/nucleus/app.cache"},
    {"/data", "/home/me", "app", "/home/me/Library/Application Support/nucleus/app.cache"},
#else
    {"/data", "/home/me", "app", "/data/nucleus/app.cache"},
    {"/data", nullptr, "my-app_1", "/data/nucleus/my-app_1.cache"},
    {nullptr, "/home/me", "app", "/home/me/.local/share/nucleus/app.cache"},
    {"", "/home/me", "app", "/home/me/.local/share/nucleus/app.cache"},
    {"relative", "/home/me", "app", "/home/me/.local/share/nucleus/app.cache"},
    {"/d\xC3\xA4ten", nullptr, "app", "/d\xC3\xA4ten/nucleus/app.cache"},
#endif
    {nullptr, nullptr, "app", ""},
    {"", "", "app", ""},
    {"/data", "/home/me", "", ""},
    {"/data", "/home/me", nullptr, ""},
    {"/data", "/home/me", "../up", ""},
    {"/data", "/home/me", "a/b", ""},
    {"/data", "/home/me", "a.b", ""},
    {"/data", "/home/me", "\xC3\xA4", ""},
  };
  for (const Row& row : rows) {
    const Variable data("XDG_DATA_HOME", row.data), home("HOME", row.home);
    CHECK(nucleus::defaultCacheFile(row.appId) == row.path);
  }
}

TEST_CASE("the language comes from the environment") {
  struct Row {
    const char *all, *messages, *lang, *locale;
  };
  const Row rows[] = {
      {nullptr, nullptr, "en_US.UTF-8", "en-US"},
      {nullptr, "de_AT@euro", "en_US", "de-AT"},
      {"fr_FR.UTF-8", "de_DE", "en_US", "fr-FR"},
      {"", "", "ja_JP", "ja-JP"},
      {nullptr, nullptr, "C", ""},
      {nullptr, nullptr, "C.UTF-8", ""},
      {nullptr, nullptr, "POSIX", ""},
      {nullptr, nullptr, nullptr, ""},
      {nullptr, nullptr, "sv", "sv"},
  };
  for (const Row& row : rows) {
    const Variable all("LC_ALL", row.all), messages("LC_MESSAGES", row.messages);
    const Variable lang("LANG", row.lang);
    CHECK(nucleus::detail::systemLocale() == row.locale);
  }
}

#if !defined(__wasi__)

namespace {

mode_t modeOf(const std::string& path) {
  struct stat facts = {};
  REQUIRE(lstat(path.c_str(), &facts) == 0);
  return facts.st_mode & 07777;
}

}  // namespace

TEST_CASE("the file is 0600 and a folder made for it 0700, whatever the umask") {
  const Folder folder;
  const mode_t before = umask(GENERATE(mode_t{0}, mode_t{022}, mode_t{077}));
  const StoragePtr storage = holderOf(folder / "a/b/events.cache");
  REQUIRE(storage->beginReplace());
  CHECK(modeOf(folder / "a/b/events.cache.tmp") == 0600);
  REQUIRE(storage->commitReplace());
  umask(before);
  CHECK(modeOf(folder / "a") == 0700);
  CHECK(modeOf(folder / "a/b") == 0700);
  CHECK(modeOf(folder / "a/b/events.cache") == 0600);
}

TEST_CASE("a folder that is there keeps its mode") {
  const Folder folder;
  fs::create_directory(folder / "a");
  REQUIRE(chmod((folder / "a").c_str(), 0755) == 0);
  holderOf(folder / "a/events.cache");
  CHECK(modeOf(folder / "a") == 0755);
}

#endif

TEST_CASE("what is not a regular file of ours is foreign, and stays as it is") {
  const Folder folder;
  const std::string path = folder / "events.cache", target = folder / "target";
#if NUCLEUS_TESTS_PROCESSES
  std::string kind = GENERATE("symlink", "dangling symlink", "symlink to a folder", "folder",
                              "named pipe", "socket", "another user's file");
#else
  std::string kind = GENERATE("symlink", "dangling symlink", "symlink to a folder", "folder");
#endif
  CAPTURE(kind);
  put(target, "target");
  if (kind == "symlink") {
    fs::create_symlink(target, path);
  } else if (kind == "dangling symlink") {
    fs::create_symlink(folder / "nowhere", path);
  } else if (kind == "symlink to a folder") {
    fs::create_directory_symlink(folder.path(), path);
  } else if (kind == "folder") {
    fs::create_directory(path);
#if NUCLEUS_TESTS_PROCESSES
  } else if (kind == "named pipe") {
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  } else if (kind == "socket") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    const int handle = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(handle, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    ::close(handle);
  } else if (geteuid() != 0) {
    WARN("another user's file: not run, since it takes root");
    CHECK_FALSE(fakes::inCi());
    return;
  } else {
    put(path, "theirs");
    REQUIRE(chown(path.c_str(), 12'345, 12'345) == 0);
#endif
  }
  const fs::file_type type = fs::symlink_status(path).type();
  const bool regular = type == fs::file_type::regular;
  const Names names = regular || kind == "folder" || kind == "named pipe" || kind == "socket"
                          ? Names{"events.cache", "target"}
                          : folder.names();
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::foreign);
  CHECK(readAll(*storage).empty());
  CHECK_FALSE(storage->append("ours"));
  CHECK_FALSE(replace(*storage, "ours"));
  CHECK_FALSE(storage->erase());
  storage->close();
  CHECK(storage->open() == State::foreign);
  CHECK(fs::symlink_status(path).type() == type);
  CHECK(contentOf(target) == "target");
  if (regular) CHECK(contentOf(path) == "theirs");
  CHECK(folder.names() == names);

  fakes::World world;
  {
    nucleus::Client client(onFile(world, path));
    CHECK(client.track("ONE") == nucleus::Outcome::ok);
    CHECK_FALSE(client.persist());
    CHECK(client.stats().storage == State::foreign);
    world.pass(client, 5'000);
    CHECK(world.told("storage-foreign") > 0);
    CHECK(client.stats().queuedEvents == 0);
    client.forget();
  }
  CHECK(fs::symlink_status(path).type() == type);
  CHECK(contentOf(target) == "target");
  CHECK(folder.names() == names);
}

TEST_CASE("a twin that is a symbolic link is not followed") {
  const Folder folder;
  const std::string path = folder / "events.cache", target = folder / "target";
  put(target, "target");
  const StoragePtr storage = holderOf(path, "old");
  fs::create_symlink(target, path + ".tmp");
  CHECK(replace(*storage, "new"));
  CHECK(contentOf(path) == "new");
  CHECK_FALSE(fs::is_symlink(path));
  CHECK(contentOf(target) == "target");
  fs::create_symlink(target, path + ".tmp");
  CHECK(storage->erase());
  CHECK(contentOf(target) == "target");
}

TEST_CASE("a twin that is not ours stays, and nothing is replaced through it") {
  const Folder folder;
  const std::string path = folder / "events.cache", twin = path + ".tmp";
  const StoragePtr storage = holderOf(path, "old");
#if NUCLEUS_TESTS_PROCESSES
  const bool isFolder = GENERATE(true, false);
  if (!isFolder) REQUIRE(mkfifo(twin.c_str(), 0600) == 0);
#else
  const bool isFolder = true;
#endif
  if (isFolder) fs::create_directory(twin);
  CHECK_FALSE(replace(*storage, "new"));
  CHECK(readAll(*storage) == "old");
  CHECK(storage->append("!"));
  CHECK(fs::is_directory(twin) == isFolder);
  CHECK(folder.names() == Names{"events.cache", "events.cache.tmp"});
}

#if NUCLEUS_TESTS_PROCESSES

TEST_CASE("another user's file that cannot be opened stays as it is") {
  if (geteuid() != 0) {
    WARN("not run: it takes root");
    CHECK_FALSE(fakes::inCi());
    return;
  }
  const Folder folder;
  const std::string path = folder / "events.cache";
  put(path, "theirs");
  REQUIRE(chmod(path.c_str(), 0600) == 0);
  REQUIRE(chmod(folder.path().c_str(), 0777) == 0);
  CHECK(asNobody([&] {
          const StoragePtr storage = fileStorage(path);
          const State state = storage->open();
          if (state != State::foreign && state != State::failed) return 1;
          if (replace(*storage, "ours") || storage->append("ours")) return 2;
          return storage->erase() ? 3 : 0;
        }) == 0);
  CHECK(contentOf(path) == "theirs");
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("in a folder that is read-only nothing is made, but a file can be appended to") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  REQUIRE(chmod(folder.path().c_str(), 0777) == 0);
  REQUIRE(asNobody([&] {
            const StoragePtr storage = fileStorage(path);
            return storage->open() == State::absent && replace(*storage, "old") ? 0 : 1;
          }) == 0);
  REQUIRE(chmod(folder.path().c_str(), 0555) == 0);
  CHECK(asNobody([&] {
          const StoragePtr storage = fileStorage(path), other = fileStorage(folder / "other");
          if (storage->open() != State::ready || !storage->append("!")) return 1;
          if (storage->beginReplace()) return 2;
          if (storage->erase()) return 3;
          if (other->open() != State::absent || other->beginReplace()) return 4;
          return fileStorage(folder / "sub/other")->beginReplace() ? 5 : 0;
        }) == 0);
  CHECK(contentOf(path) == "old!");
  CHECK(folder.names() == Names{"events.cache"});
  chmod(folder.path().c_str(), 0777);
}

TEST_CASE("a folder that may not be listed will do") {
  const Folder folder;
  fs::create_directory(folder / "sub");
  REQUIRE(chmod((folder / "sub").c_str(), 0333) == 0);
  CHECK(asNobody([&] {
          const StoragePtr storage = fileStorage(folder / "sub/events.cache");
          if (storage->open() != State::absent) return 1;
          if (!replace(*storage, "content")) return 2;
          return storage->erase() ? 0 : 3;
        }) == 0);
}

TEST_CASE("a write that fails is told, and the next one that can succeeds") {
  const Folder folder;
  const std::string path = folder / "events.cache", large(4'000, 'x');
  const StoragePtr storage = holderOf(path, "old");
  const auto limited = [&](rlim_t bytes, auto&& action) {
    rlimit before = {};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto handler = signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    const bool result = action();
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    return result;
  };
  SECTION("an append") {
    CHECK_FALSE(limited(1'000, [&] { return storage->append(large); }));
    CHECK(contentOf(path).substr(0, 3) == "old");
    CHECK(storage->append("\nnew"));
    CHECK(readAll(*storage).substr(readAll(*storage).size() - 4) == "\nnew");
    CHECK(replace(*storage, "whole"));
    CHECK(contentOf(path) == "whole");
  }
  SECTION("a replacement, which leaves nothing behind") {
    CHECK_FALSE(limited(1'000, [&] { return replace(*storage, large); }));
    CHECK(contentOf(path) == "old");
    CHECK(folder.names() == Names{"events.cache"});
    CHECK(replace(*storage, "new"));
    CHECK(contentOf(path) == "new");
  }
  SECTION("a replacement, and then the file is erased") {
    CHECK_FALSE(limited(1'000, [&] { return replace(*storage, large); }));
    CHECK(storage->erase());
    CHECK(folder.names().empty());
  }
  SECTION("a replacement, and then the file is closed") {
    CHECK_FALSE(limited(1'000, [&] { return replace(*storage, large); }));
    storage->close();
    CHECK(folder.names() == Names{"events.cache"});
  }
}

#endif

TEST_CASE("more files than a fork() could close are not opened, until others are closed") {
  const Folder folder;
  std::vector<StoragePtr> holders;
  for (int i = 0; i < 64; ++i) holders.push_back(holderOf(folder / std::to_string(i)));
  put(folder / "more", "content");
  const StoragePtr more = fileStorage(folder / "more"), none = fileStorage(folder / "none");
  CHECK(more->open() == State::failed);
  CHECK_FALSE(more->append("!"));
  CHECK(none->open() == State::absent);
  CHECK_FALSE(replace(*none, "content"));
  CHECK(holders[0]->append("!"));
  CHECK_FALSE(replace(*holders[0], "of two at a time"));
  CHECK(contentOf(folder / "0") == "content\n!");
  holders[1]->close();
  CHECK(more->open() == State::ready);
  CHECK(more->append("!"));
  holders[2]->close();
  CHECK(replace(*holders[0], "of two at a time"));
}

#if NUCLEUS_TESTS_PROCESSES

TEST_CASE("a user who is forgotten while the disk is full leaves nothing behind") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  nucleus::Options options = onFile(world, path);
  options.transport = nullptr;
  CHECK(inChild([&] {
          nucleus::Client client(options);
          for (int i = 0; i < 40; ++i) client.track("SECRET", {{"text", std::string(4'000, 'x')}});
          signal(SIGXFSZ, SIG_IGN);
          const rlimit limit = {100'000, RLIM_INFINITY};
          if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
          if (client.persist()) return 2;
          if (!client.forget()) return 3;
          return folder.names().empty() ? 0 : 4;
        }) == 0);
}

TEST_CASE("the lock dies with the process") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  Pipe ready;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    const StoragePtr storage = fileStorage(path);
    const bool made = storage->open() == State::absent && replace(*storage, "first") &&
                      replace(*storage, "second") && storage->append("\n");
    ready.put(made ? 'y' : 'n');
    waitForTheEnd();
  }
  ready.closeWriting();
  CHECK(ready.take() == 'y');
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::locked);
  CHECK(readAll(*storage) == "second\n");
  end(child);
  CHECK(storage->open() == State::ready);
  CHECK(storage->append("third\n"));
  CHECK(contentOf(path) == "second\nthird\n");
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("a process that is killed within a replacement leaves the old content") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  Pipe ready;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    const StoragePtr storage = fileStorage(path);
    const bool begun = storage->open() == State::absent && replace(*storage, "old") &&
                       storage->beginReplace() && storage->write("unfinished");
    ready.put(begun ? 'y' : 'n');
    waitForTheEnd();
  }
  ready.closeWriting();
  CHECK(ready.take() == 'y');
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::locked);
  CHECK(folder.names() == Names{"events.cache", "events.cache.tmp"});
  end(child);
  CHECK(storage->open() == State::ready);
  CHECK(readAll(*storage) == "old");
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("a program that is started meanwhile does not inherit the lock") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path);
  REQUIRE(replace(*storage, "again"));
  const Pipe in;
  Pipe out;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.ends[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out.ends[1], 1);
  char name[] = "cat";
  char* const arguments[] = {name, nullptr};
  pid_t program = -1;
  REQUIRE(posix_spawnp(&program, name, &actions, nullptr, arguments, nullptr) == 0);
  posix_spawn_file_actions_destroy(&actions);
  out.closeWriting();
  in.put('x');
  CHECK(out.take() == 'x');
  storage->close();
  CHECK(fileStorage(path)->open() == State::ready);
  end(program);
}

TEST_CASE("the lock ends with its holder, though a child of a fork() lives on") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const bool killed = GENERATE(false, true);
  CAPTURE(killed);
  Pipe ready, close;
  const pid_t holder = fork();
  REQUIRE(holder >= 0);
  if (holder == 0) {
    alarm(60);
    setpgid(0, 0);
    const StoragePtr storage = fileStorage(path);
    const bool made = storage->open() == State::absent && replace(*storage, "content");
    if (fork() == 0) {
      alarm(60);
      ready.put(made ? 'y' : 'n');  // it has given up what it inherited
      waitForTheEnd();
    }
    close.take();
    storage->close();
    ready.put('c');
    waitForTheEnd();
  }
  ready.closeWriting();
  CHECK(ready.take() == 'y');
  CHECK(fileStorage(path)->open() == State::locked);
  if (killed) {
    end(holder);
  } else {
    close.put('c');
    CHECK(ready.take() == 'c');
  }
  CHECK(fileStorage(path)->open() == State::ready);
  kill(-holder, SIGKILL);
  waitpid(holder, nullptr, 0);
}

TEST_CASE("the child of a fork() has a copy that does nothing and harms nothing") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  auto client = std::make_unique<nucleus::Client>(onFile(world, path));
  REQUIRE(client->track("ONE") == nucleus::Outcome::ok);
  REQUIRE(client->persist());
  const std::string before = contentOf(path);
  CHECK(inChild([&] {
          using nucleus::Outcome;
          if (client->track("TWO") != Outcome::shutDown) return 1;
          if (client->trackError("TWO", "text") != Outcome::shutDown) return 2;
          if (client->setUserId("me") != Outcome::shutDown) return 3;
          if (client->setProps({{"a", 1}}) != Outcome::shutDown) return 4;
          if (client->startSession() != Outcome::shutDown) return 5;
          if (client->flush(1'000) || client->persist()) return 6;
          client->poll();
          client->online();
          client->receive("{}");
          client->disableTracking();
          client->forget();
          client->enableTracking();
          if (client->trackingEnabled() || client->track("TWO") != Outcome::shutDown) return 7;
          client->shutdown(1'000);
          client.reset();
          return world.server->bodies.empty() ? 0 : 8;
        }) == 0);
  CHECK(contentOf(path) == before);
  CHECK(fileStorage(path)->open() == State::locked);
  CHECK(client->track("THREE") == nucleus::Outcome::ok);
  CHECK(client->persist());
  world.pass(*client, 5'000);
  CHECK(client->stats().queuedEvents == 0);
  CHECK(world.server->received().size() == 3);
}

TEST_CASE("a storage that is used again in the child of a fork() is opened anew") {
  const Folder folder;
  const std::string path = folder / "events.cache", other = folder / "other";
  const StoragePtr storage = holderOf(path, "ours");
  const bool begun = GENERATE(false, true);
  if (begun) REQUIRE((storage->beginReplace() && storage->write("new")));
  CHECK(inChild([&] {
          std::vector<int> handles;  // take the places of those that are closed
          for (int i = 0; i < 8; ++i)
            handles.push_back(::open(other.c_str(), O_RDWR | O_CREAT | O_APPEND, 0600));
          if (storage->append("child") || storage->write("child") || storage->sync()) return 1;
          if (storage->commitReplace() || !readAll(*storage).empty()) return 2;
          if (storage->open() != State::locked || readAll(*storage) != "ours") return 3;
          if (replace(*storage, "child") || storage->append("child")) return 4;
          storage->close();
          for (const int handle : handles) {
            if (::close(handle) != 0) return 5;
          }
          return contentOf(other).empty() ? 0 : 6;
        }) == 0);
  CHECK(fileStorage(path)->open() == State::locked);
  CHECK((begun ? storage->commitReplace() : storage->append("!")));
  CHECK(contentOf(path) == (begun ? "new" : "ours!"));
}

TEST_CASE("a program that goes on in the child of a fork() takes the file over") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const Pipe gone;  // the parent is
  Pipe result;
  fakes::World world;
  const int parent = inChild([&] {
    nucleus::Options options = onFile(world, path);
    nucleus::Client client(options);
    if (client.track("ONE") != nucleus::Outcome::ok || !client.persist()) return 1;
    if (fork() != 0) _exit(0);
    alarm(60);
    nucleus::Client own(options);
    own.track("TWO");
    gone.take();
    world.pass(own, 10'000, 1'000);
    result.put(own.stats().storage == State::ready ? 'y' : 'n');
    return 0;
  });
  CHECK(parent == 0);
  gone.put('y');
  result.closeWriting();
  CHECK(result.take() == 'y');
}

TEST_CASE("a client in the child of a fork() is as good as any") {
  const Folder folder;
  fakes::World world;
  const nucleus::Client inherited(onFile(world, folder / "events.cache"));
  CHECK(inChild([&] {
          nucleus::Client client(onFile(world, folder / "other.cache"));
          if (client.track("ONE") != nucleus::Outcome::ok || !client.persist()) return 1;
          world.pass(client, 5'000);
          return client.stats().queuedEvents == 0 ? 0 : 2;
        }) == 0);
}

#if defined(__GLIBC__)

namespace {

/// What this thread does to the disk, in order, while somebody wants to know.
thread_local std::vector<std::string>* steps = nullptr;

}  // namespace

// These stand before the system's.
extern "C" int fsync(int handle) {
  struct stat facts = {};
  if (steps != nullptr && fstat(handle, &facts) == 0) {
    steps->push_back(S_ISDIR(facts.st_mode)
                         ? "sync of the folder"
                         : "sync of " + std::to_string(facts.st_size) + " bytes");
  }
  return static_cast<int>(syscall(SYS_fsync, handle));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  if (steps != nullptr) steps->push_back("rename");
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

TEST_CASE("a replacement is synced, renamed, and its folder synced, in that order") {
  const Folder folder;
  const StoragePtr storage = holderOf(folder / "events.cache", "old");
  std::vector<std::string> seen;
  steps = &seen;
  const bool replaced = replace(*storage, "the new content");
  steps = nullptr;
  CHECK(replaced);
  CHECK(seen == std::vector<std::string>{"sync of 15 bytes", "rename", "sync of the folder"});
}

namespace {

/// Called by this thread before it locks a file.
thread_local std::function<void()>* onLock = nullptr;

}  // namespace

extern "C" int flock(int handle, int operation) noexcept {
  if (onLock != nullptr && operation != LOCK_UN) (*onLock)();
  return static_cast<int>(syscall(SYS_flock, handle, operation));
}

TEST_CASE("a file that another takes the place of just before its lock is not taken for it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  put(path, "0");
  const bool endless = GENERATE(false, true);
  CAPTURE(endless);
  int replaced = 0;
  std::function<void()> replaceIt = [&] {
    if (replaced == (endless ? 1'000 : 3)) return;
    put(path + ".new", std::to_string(++replaced));
    fs::rename(path + ".new", path);
  };
  onLock = &replaceIt;
  const StoragePtr storage = fileStorage(path);
  const State state = storage->open();
  onLock = nullptr;
  CHECK(contentOf(path) == std::to_string(replaced));
  CHECK(storage->append("!") == !endless);
  if (endless) {
    CHECK(state == State::failed);
    CHECK(replaced < 100);
    CHECK(storage->open() == State::ready);
  } else {
    CHECK(state == State::ready);
    CHECK(contentOf(path) == "3!");
  }
}

// ---- a system without an id of its own, in a view of the files that ends with its process ----

namespace {

/// False where that is not allowed here.
bool beginView() {
  return unshare(CLONE_NEWNS) == 0 &&
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}
bool show(const std::string& file, const char* path) {
  return !fs::exists(path) || mount(file.c_str(), path, nullptr, MS_BIND, nullptr) == 0;
}

}  // namespace

TEST_CASE("machineDeviceId() is nothing where the system has no id, or says none") {
  const Folder folder;
  const std::string valid = "0123456789abcdef0123456789abcdef", file = folder / "id";
  const auto idWhere = [&](const std::string& content) {
    put(file, content);
    return inChild([&] {
      if (!beginView()) return 9;
      if (!show(file, "/etc/machine-id") || !show(file, "/var/lib/dbus/machine-id")) return 8;
      return nucleus::machineDeviceId("my-app").empty() ? 0 : 1;
    });
  };
  if (idWhere("") == 9) {
    WARN("not run: it takes root to hide a file from a process");
    return;
  }
  for (const std::string& content :
       {std::string(), std::string("uninitialized\n"), std::string(32, '0') + '\n',
        valid.substr(1) + '\n', 'f' + valid + '\n', 'g' + valid.substr(1) + '\n'}) {
    CAPTURE(content);
    CHECK(idWhere(content) == 0);
  }
  CHECK(idWhere(valid + '\n') == (fs::exists("/etc/machine-id") ? 1 : 0));
}

#endif

#endif

#else

// ---- Windows ----

namespace {

/// Waits until it is so, 30 seconds at most.
template <class Condition>
bool eventually(Condition&& condition) {
  for (const std::uint64_t end = GetTickCount64() + 30'000; !condition(); Sleep(1)) {
    if (GetTickCount64() > end) return false;
  }
  return true;
}

/// As another program has a file open.
class Opened {
 public:
  Opened(const std::string& path, DWORD shared)
      : handle_(CreateFileW(nucleus::detail::widen(path).c_str(), GENERIC_READ, shared, nullptr,
                            OPEN_EXISTING, 0, nullptr)) {
    REQUIRE(handle_ != INVALID_HANDLE_VALUE);
  }
  ~Opened() { close(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  void close() {
    if (handle_ != INVALID_HANDLE_VALUE) CloseHandle(handle_);
    handle_ = INVALID_HANDLE_VALUE;
  }

 private:
  HANDLE handle_;
};

const DWORD shareAll = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
const char* const fileVariable = "NUCLEUS_TEST_FILE";  // what a hidden test works on

}  // namespace

TEST_CASE("the cache lies in the user's folder of local data") {
  CHECK_FALSE(nucleus::defaultCacheFile("app").empty());
  struct Row {
    const char *data, *appId, *path;
  };
  const Row rows[] = {
      {"C:\\data", "app", "C:\\data/nucleus/app.cache"},
      {"C:\\J\xC3\xB6rg \xF0\x9F\x92\xBE", "my-app_1",
       "C:\\J\xC3\xB6rg \xF0\x9F\x92\xBE/nucleus/my-app_1.cache"},
      {nullptr, "app", ""},
      {"", "app", ""},
      {"C:\\data", "", ""},
      {"C:\\data", nullptr, ""},
      {"C:\\data", "..\\up", ""},
      {"C:\\data", "C:up", ""},
  };
  for (const Row& row : rows) {
    const Variable data(fakes::dataVariable, row.data);
    CHECK(nucleus::defaultCacheFile(row.appId) == row.path);
  }
}

TEST_CASE("a user whose name has any letters has a file, and it is found again") {
  const Folder folder;
  const std::string user = folder / "J\xC3\xB6rg \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x92\xBE";
  const Variable data(fakes::dataVariable, user.c_str());
  fakes::World world;
  for (const char* const name : {"ONE", "TWO"}) {
    nucleus::Options options = onFile(world, "");
    options.transport = nullptr;
    nucleus::Client client(options);
    CHECK(client.track(name) == nucleus::Outcome::ok);
    CHECK(client.persist());
    CHECK(contentOf(user + "/nucleus/test-app.cache").find("\"ONE\"") != std::string::npos);
  }
  nucleus::Client client(onFile(world, ""));
  world.pass(client, 5'000);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(world.server->received().size() == 5);  // with three inits
  CHECK(client.forget());
  CHECK_FALSE(fs::exists(fs::u8path(user + "/nucleus/test-app.cache")));
}

TEST_CASE("a path may have either separator") {
  const Folder folder;
  const StoragePtr storage = holderOf(folder / "one\\two/events.cache");
  CHECK(folder.names() == Names{"one", "one/two", "one/two/events.cache"});
}

TEST_CASE("hidden: holds a file within a replacement", "[.child]") {
  const std::string path = nucleus::detail::environment(fileVariable);
  if (path.empty()) return;
  const StoragePtr storage = holderOf(path, "first");
  CHECK(replace(*storage, "second"));
  CHECK(storage->append("\n"));
  CHECK(storage->beginReplace());
  CHECK(storage->write("unfinished"));
  Sleep(60'000);  // it is ended before
}

TEST_CASE("the lock dies with the process, and what it had not finished is gone") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const Variable file(fileVariable, path.c_str());
  fakes::HiddenTest other("hidden: holds a file within a replacement");
  REQUIRE(eventually([&] { return contentOf(path + ".tmp") == "unfinished"; }));
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::locked);
  CHECK(readAll(*storage) == "second\n");
  CHECK_FALSE(storage->append("third"));
  CHECK_FALSE(replace(*storage, "third"));
  CHECK_FALSE(storage->erase());
  CHECK(folder.names() == Names{"events.cache", "events.cache.tmp"});
  other.kill();
  CHECK(storage->open() == State::ready);
  CHECK(folder.names() == Names{"events.cache"});
  CHECK(storage->append("third"));
  CHECK(contentOf(path) == "second\nthird");
}

TEST_CASE("a program that is started meanwhile does not inherit the lock") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path);
  REQUIRE(replace(*storage, "again"));
  const Variable file(fileVariable, (folder / "other.cache").c_str());
  const fakes::HiddenTest other("hidden: holds a file within a replacement");
  REQUIRE(eventually([&] { return contentOf(folder / "other.cache.tmp") == "unfinished"; }));
  storage->close();
  CHECK(fileStorage(path)->open() == State::ready);
}

TEST_CASE("hidden: a client that has stored an event", "[.child]") {
  const std::string path = nucleus::detail::environment(fileVariable);
  if (path.empty()) return;
  fakes::World world;
  nucleus::Options options = onFile(world, path);
  options.transport = nullptr;
  options.entropy = nullptr;  // or the ids are those of the other process
  nucleus::Client client(options);
  client.track("THEIRS");
  CHECK(client.persist());
  Sleep(60'000);  // it is ended before
}

TEST_CASE("a client takes over from another process when that is ended, and delivers for both") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const Variable file(fileVariable, path.c_str());
  fakes::HiddenTest other("hidden: a client that has stored an event");
  REQUIRE(eventually([&] { return contentOf(path).find("THEIRS") != std::string::npos; }));
  fakes::World world;
  nucleus::Client client(onFile(world, path));
  CHECK(client.track("MINE") == nucleus::Outcome::ok);
  CHECK(client.stats().storage == State::locked);
  CHECK(client.stats().notCached == client.stats().queuedEvents);
  other.kill();
  world.pass(client, 60'000);
  CHECK(client.stats().storage == State::ready);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(world.told("storage-locked") > 0);
  std::multiset<std::string> names;
  for (const fakes::Json& event : world.server->received()) names.insert(event.value("name", ""));
  CHECK(names.count("THEIRS") == 1);
  CHECK(names.count("MINE") == 1);
}

TEST_CASE("a file that another program does not share is taken over when that closes it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  {
    nucleus::Options options = onFile(world, path);
    options.transport = nullptr;
    nucleus::Client client(options);
    client.track("EARLIER");
    REQUIRE(client.shutdown(0));
  }
  Opened other(path, 0);
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::locked);
  CHECK(readAll(*storage).empty());
  CHECK_FALSE(storage->append("!"));
  CHECK_FALSE(storage->erase());
  nucleus::Client client(onFile(world, path));
  CHECK(client.track("MEANWHILE") == nucleus::Outcome::ok);
  CHECK_FALSE(client.persist());
  other.close();
  world.pass(client, 60'000);
  CHECK(client.stats().storage == State::ready);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(world.server->received().size() == 4);  // with two inits
}

TEST_CASE("a file that another program reads is appended to, and replaced when that closes it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const StoragePtr storage = holderOf(path, "old");
  Opened reader(path, shareAll);
  CHECK(storage->append("er"));
  CHECK_FALSE(replace(*storage, "new"));
  CHECK(contentOf(path) == "older");
  CHECK(folder.names() == Names{"events.cache"});
  CHECK(fileStorage(path)->open() == State::locked);
  CHECK(storage->append("!"));
  reader.close();
  CHECK(replace(*storage, "new"));
  CHECK(contentOf(path) == "new");
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("what another program reads is erased when that closes it") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  fakes::World world;
  nucleus::Options options = onFile(world, path);
  options.transport = nullptr;
  nucleus::Client client(options);
  client.track("SECRET");
  REQUIRE(client.persist());
  Opened reader(path, shareAll);
  CHECK_FALSE(client.disableTracking());
  CHECK(contentOf(path).find("SECRET") != std::string::npos);
  reader.close();
  world.pass(client, 60'000);
  CHECK(world.told("erase-failed") == 1);
  CHECK(contentOf(path).find("SECRET") == std::string::npos);
  CHECK(folder.names() == Names{"events.cache"});
}

TEST_CASE("a file that is read-only stays as it is, until it is not") {
  const Folder folder;
  const std::string path = folder / "events.cache";
  const std::wstring wide = nucleus::detail::widen(path);
  holderOf(path, "old")->close();
  REQUIRE(SetFileAttributesW(wide.c_str(), FILE_ATTRIBUTE_READONLY) != 0);
  const StoragePtr storage = fileStorage(path);
  CHECK(storage->open() == State::failed);
  CHECK_FALSE(storage->append("!"));
  CHECK_FALSE(replace(*storage, "new"));
  CHECK_FALSE(storage->erase());
  CHECK(contentOf(path) == "old");
  CHECK(folder.names() == Names{"events.cache"});
  REQUIRE(SetFileAttributesW(wide.c_str(), FILE_ATTRIBUTE_NORMAL) != 0);
  CHECK(storage->open() == State::ready);
  CHECK(replace(*storage, "new"));
}

TEST_CASE("a folder in the place of the file is left alone") {
  const Folder folder;
  fs::create_directory(folder.path() / "events.cache");
  const StoragePtr storage = fileStorage(folder / "events.cache");
  CHECK(storage->open() != State::ready);
  CHECK_FALSE(replace(*storage, "new"));
  CHECK_FALSE(storage->erase());
  CHECK(folder.names() == Names{"events.cache"});
}

#endif

#endif
