// The curl example against a real server, each a process of its own. POSIX only.
#include "../nucleus.hpp"
#include "check.hpp"

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

/// Looks again and again until it is so; false after a minute.
template <class Condition>
bool eventually(Condition&& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    ::usleep(2'000);  // between two looks; what is waited for is the condition
  }
  return false;
}

class Process {
 public:
  Process(const std::string& program, const std::vector<std::string>& arguments) {
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, 1);
    ::dup2(nowhere, 2);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ > 0) kill();
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_;
};

struct Folder {
  fs::path path;

  Folder() {
    std::string name = (fs::temp_directory_path() / "nucleus-e2e-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path); }
  std::string of(const std::string& name) const { return (path / name).string(); }
};

/// A port that nobody else gets, and where nobody listens, until it is let go.
class FreePort {
 public:
  FreePort() {
    sockaddr_in address = {};
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    ::fcntl(socket_, F_SETFD, FD_CLOEXEC);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(socket_, any, size) == 0);
    REQUIRE(::getsockname(socket_, any, &size) == 0);
    number_ = ntohs(address.sin_port);
  }
  FreePort(const FreePort&) = delete;
  FreePort& operator=(const FreePort&) = delete;
  ~FreePort() { ::close(socket_); }
  int number() const { return number_; }
  int letGo() { return ::close(std::exchange(socket_, -1)), number_; }

 private:
  int socket_ = ::socket(AF_INET, SOCK_STREAM, 0), number_ = 0;
};

class Collector {
 public:
  explicit Collector(const Folder& folder, int port = 0)
      : process_(NUCLEUS_COLLECTOR,
                 {"--port", std::to_string(port), "--port-file", folder.of("port")}),
        port_(readPort(folder.of("port"))) {}

  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void behave(const Json& script) {
    const auto answer = client().Post("/control/behave", script.dump(), "application/json");
    REQUIRE(answer);
    REQUIRE(answer->status == 200);
  }
  Json state() { return get("/control/state"); }
  Json events() { return get("/control/events"); }

 private:
  static int readPort(const std::string& path) {
    int port = 0;
    REQUIRE(eventually([&] { return static_cast<bool>(std::ifstream(path) >> port); }));
    fs::remove(path);
    return port;
  }
  httplib::Client client() { return httplib::Client("127.0.0.1", port_); }
  Json get(const std::string& path) {
    const auto answer = client().Get(path);
    REQUIRE(answer);
    return Json::parse(answer->body);
  }

  Process process_;
  int port_;
};

std::string contentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The ids of the events that stand whole in a cache file, less those it says have left.
std::set<std::uint64_t> idsInFile(const std::string& path) {
  std::set<std::uint64_t> ids;
  const std::string content = contentOf(path);
  for (std::size_t at = 0, end = 0; (end = content.find('\n', at)) != std::string::npos;
       at = end + 1) {
    const std::string line = content.substr(at, end - at);
    const std::size_t json = line.find(" {");
    if (!line.empty() && (line[0] == 'e' || line[0] == 'f')) {
      ids.insert(Json::parse(line.substr(json)).at("id").get<std::uint64_t>());
    } else if (!line.empty() && line[0] == 'g') {
      const std::string ranges = line.substr(line.rfind(' ') + 1) + ',';
      for (std::size_t from = 0, to = 0; (to = ranges.find(',', from)) != std::string::npos;
           from = to + 1) {
        const std::string range = ranges.substr(from, to - from);
        const std::uint64_t first = std::stoull(range);
        const std::size_t dash = range.find('-');
        const std::uint64_t last =
            dash == std::string::npos ? first : std::stoull(range.substr(dash + 1));
        ids.erase(ids.lower_bound(first), ids.upper_bound(last));
      }
    }
  }
  return ids;
}

void requireAllIn(const std::set<std::uint64_t>& ids, const Json& state) {
  const auto received = state.at("ids").get<std::set<std::uint64_t>>();
  for (const std::uint64_t id : ids) REQUIRE(received.count(id) == 1);
}

}  // namespace

TEST_CASE("a thousand events arrive, in the form that the wire asks for") {
  const Folder folder;
  Collector collector(folder);
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "1000", folder.of("cache")});
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());
  CHECK(state.at("events") == 1001);
  CHECK(state.at("repeats") == 0);
  CHECK(state.at("names").at("STEP") == 1000);
  CHECK(state.at("sessions") == 1);
  CHECK(idsInFile(folder.of("cache")).empty());
}

TEST_CASE("what was tracked while the server was away arrives when it is back") {
  const Folder folder;
  FreePort port;
  const std::string endpoint = "http://127.0.0.1:" + std::to_string(port.number());
  Process client(NUCLEUS_CURL_EXAMPLE, {endpoint, "50", folder.of("cache")});
  REQUIRE(eventually([&] { return idsInFile(folder.of("cache")).size() >= 40; }));
  Collector collector(folder, port.letGo());
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());
  CHECK(state.at("events") == 51);
}

TEST_CASE("a program killed while it tracks loses nothing that was in the file") {
  const bool online = GENERATE(false, true);
  CAPTURE(online);
  const Folder folder;
  Collector collector(folder);
  for (std::size_t round = 1; round <= 3; ++round) {
    if (!online) collector.behave({{"then", "offline"}});
    const std::set<std::uint64_t> before = idsInFile(folder.of("cache"));
    Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "100000", folder.of("cache")});
    REQUIRE(eventually([&] {
      const std::set<std::uint64_t> now = idsInFile(folder.of("cache"));
      return now.size() > 100 * round && now != before;
    }));
    client.kill();
    const std::set<std::uint64_t> kept = idsInFile(folder.of("cache"));
    collector.behave({{"then", "ok"}});
    Process next(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "1", folder.of("cache")});
    REQUIRE(next.wait() == 0);
    requireAllIn(kept, collector.state());
  }
  CHECK(collector.state().at("violations") == Json::array());
}

TEST_CASE("a connection that breaks after processing repeats the same ids") {
  const Folder folder;
  Collector collector(folder);
  collector.behave({{"answers", {"drop"}}, {"then", "ok"}});
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "20", folder.of("cache")});
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());  // same id, same bytes, among others
  CHECK(state.at("events") == 21);
  CHECK(state.at("repeats").get<int>() > 0);
  CHECK(state.at("unused") == 0);
}

TEST_CASE("a server that answers badly gets everything in the end") {
  const std::vector<std::string> answers =
      GENERATE(std::vector<std::string>{"500", "none", "offline"},
               std::vector<std::string>{"429 1", "413", "413", "503-date 2"},
               std::vector<std::string>{"html", "half", "body {\"reportedIds\":[1,2"},
               std::vector<std::string>{"400", "422", "slow 300"});
  const Folder folder;
  Collector collector(folder);
  collector.behave({{"answers", answers}, {"then", "ok"}});
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "40", folder.of("cache")});
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());
  CHECK(state.at("events") == 41);
  CHECK(state.at("unused") == 0);
}

TEST_CASE("an event that the server refuses is dropped, all others arrive") {
  const Folder folder;
  const std::string answer = GENERATE("400 BAD", "422 BAD");
  CAPTURE(answer);
  {
    nucleus::Options options;
    options.appId = "curl-example";
    options.cacheFile = folder.of("cache");
    nucleus::Client earlier(options);
    CHECK(earlier.track("BAD") == nucleus::Outcome::ok);
  }
  REQUIRE(idsInFile(folder.of("cache")).size() == 2);
  Collector collector(folder);
  collector.behave({{"then", answer}});
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "40", folder.of("cache")});
  CHECK(client.wait() == 1);  // not all was acknowledged
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());
  CHECK(state.at("events") == 42);
  CHECK(state.at("names") == Json{{"STEP", 40}});
  CHECK(state.at("answered").at(answer.substr(0, 3)) > 1);
  CHECK(idsInFile(folder.of("cache")).empty());
}

TEST_CASE("what a server refuses while it accepts nothing else is kept, until one accepts it") {
  const Folder folder;
  Collector collector(folder);
  collector.behave({{"then", "400 STEP"}});
  {
    Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "3", folder.of("cache")});
    REQUIRE(eventually([&] { return collector.state().at("requests") >= 5; }));
  }
  CHECK(collector.state().at("events") == 1);  // the init
  collector.behave({{"then", "ok"}});
  Process next(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "1", folder.of("cache")});
  REQUIRE(next.wait() == 0);
  CHECK(collector.state().at("names").at("STEP") == 4);
}

TEST_CASE("no request comes before the time that the server asked for") {
  const Folder folder;
  Collector collector(folder);
  collector.behave({{"answers", {GENERATE("429 2", "503-date 3")}}, {"then", "ok"}});
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "5", folder.of("cache")});
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("events") == 6);
  REQUIRE(state.at("at").size() >= 2);
  CHECK(state.at("at")[1].get<std::int64_t>() - state.at("at")[0].get<std::int64_t>() >= 2'000);
}

TEST_CASE("a server with a small limit gets everything in small requests") {
  const Folder folder;
  Collector collector(folder);
  collector.behave({{"then", "413 1500"}});
  Process client(NUCLEUS_CURL_EXAMPLE, {collector.endpoint(), "60", folder.of("cache")});
  REQUIRE(client.wait() == 0);
  const Json state = collector.state();
  CHECK(state.at("violations") == Json::array());
  CHECK(state.at("events") == 61);
}
