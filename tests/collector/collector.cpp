// A test server for the track endpoint: checks what it gets, and misbehaves on demand.
//
//   collector [--port N] [--port-file PATH] [--log PATH] [--behave JSON]
//
//   POST /app/{appId}/track   what a client talks to
//   POST /control/behave      {"answers":[one per request, ...],"then":"ok"}, in place of the last
//   GET  /control/state       counts, ids, violations       GET  /control/events   as received
//   POST /control/reset       forgets all, behaves well     POST /control/quit     exit code 0
//
// Answers. All but offline are checked; those marked * also store the events.
//   ok *        acknowledges all             drop *      closes the connection, no answer
//   half *      stores and acknowledges      offline     the same, as if nothing had arrived
//               every other event            html        200 and a web page
//   none *      acknowledges nothing         body TEXT   200 and this text
//   slow MS *   ok, but late                 STATUS      this status
//   429 N, 503 N    with Retry-After: N      429-date N, 503-date N   the same as an HTTP date
//   413 BYTES   if the body is larger, else ok *
//   400 NAME    if an event of this name is in it, else ok * (also 422, 500, ...)
//
// Build with the flags of `pkg-config cpp-httplib`: its macros change the layout of its classes.
#include "rules.hpp"

#include <httplib.h>  // and with it the system's sockets

#include <cctype>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <deque>
#include <fstream>
#include <functional>
#include <iostream>
#include <mutex>
#include <regex>
#include <stdexcept>
#include <thread>

namespace collector {

// ==== 5. Script ==== which answer comes next

struct Behaviour {
  std::string verb = "ok", argument = {};
};

/// Throws where there is no such answer.
Behaviour behaviourOf(const std::string& answer) {
  static const std::regex known(
      "ok|html|half|none|drop|offline|slow \\d{1,6}|body .*|(413|429|503)( \\d{1,9})?"
      "|(429|503)-date \\d{1,9}|(?!413|429|503)[2-5]\\d\\d( .+)?");
  if (!std::regex_match(answer, known)) throw std::invalid_argument("no such answer: " + answer);
  const auto space = answer.find(' ');
  if (space == std::string::npos) return {answer};
  return {answer.substr(0, space), answer.substr(space + 1)};
}

struct Script {
  std::deque<Behaviour> answers = {};
  Behaviour then = {};

  Behaviour next() {
    if (answers.empty()) return then;
    Behaviour first = answers.front();
    answers.pop_front();
    return first;
  }
};

/// Throws where `text` is not what POST /control/behave takes.
Script scriptOf(const std::string& text) {
  const Json json = Json::parse(text);
  Script script{{}, behaviourOf(json.value("then", "ok"))};
  for (const auto& answer : json.value("answers", Json::array()))
    script.answers.push_back(behaviourOf(answer.get<std::string>()));
  return script;
}

// ==== 6. Answer ==== what goes back

struct Answer {
  int status = 200;  // 0: none, the connection is closed
  std::string body = {}, contentType = "application/json", retryAfter = {};
  int delayMs = 0;
};

std::string httpDate(long secondsAhead) {
  const std::time_t at = std::time(nullptr) + secondsAhead;
  std::tm utc{};
  gmtime_r(&at, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

/// The status that `behaviour` has for this request; 0: it is accepted.
int statusFor(const Behaviour& behaviour, const Batch& batch, std::size_t bodyBytes) {
  if (batch.events.empty()) return 400;
  if (!std::isdigit(static_cast<unsigned char>(behaviour.verb[0]))) return 0;
  const int status = std::stoi(behaviour.verb);
  if (behaviour.argument.empty() || status == 429 || status == 503) return status;
  if (status == 413) return bodyBytes > std::stoul(behaviour.argument) ? status : 0;
  const auto isNamed = [&](const Json& e) { return valueOf(e, "name") == behaviour.argument; };
  return std::any_of(batch.events.begin(), batch.events.end(), isNamed) ? status : 0;
}

Answer refusal(int status, const Behaviour& behaviour) {
  Answer answer{status, status < 300 ? "" : "{\"error\":\"refused\"}"};
  if (status != 429 && status != 503) return answer;
  const bool isDate = behaviour.verb.size() > 3;
  answer.retryAfter = isDate ? httpDate(std::stol(behaviour.argument)) : behaviour.argument;
  return answer;
}

// ==== 7. Collector ==== all that was received, under one mutex

class Collector {
 public:
  explicit Collector(const std::string& logFile) {
    if (logFile.empty()) return;
    log_.open(logFile, std::ios::app);
    if (!log_) throw std::runtime_error("the log cannot be written");
  }

  void behave(const Script& script) {
    const std::lock_guard<std::mutex> lock(mutex_);
    script_ = script;
  }

  void reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    script_ = {};
    received_ = {};
  }

  Answer track(const std::string& appId, const std::string& contentType, const std::string& body) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++received_.requests;
    const Behaviour behaviour = script_.next();
    Answer answer{0};
    if (behaviour.verb != "offline") {
      const Batch batch = readBatch(body);
      check(batch, appId, contentType);
      answer = answerTo(batch, behaviour, body.size());
    }
    ++received_.answered[std::to_string(answer.status)];
    log(behaviour, body, answer);
    return answer;
  }

  std::string state() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Received& r = received_;
    return Json{{"requests", r.requests}, {"events", r.ids.size()}, {"repeats", r.repeats},
                {"violations", r.violations}, {"ids", r.ids}, {"names", r.names},
                {"sessions", r.sessions.size()}, {"answered", r.answered}}.dump();
  }

  std::string events() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string json;
    for (const auto id : received_.ids)
      json += (json.empty() ? "" : ",") + received_.history.bytesOf(id);
    return "[" + json + "]";
  }

 private:
  struct Received {
    int requests = 0, repeats = 0;
    Findings violations = {};
    History history = {};                // all that was read, whatever the answer
    std::vector<std::int64_t> ids = {};  // what was stored, in order
    std::set<std::int64_t> stored = {};
    std::set<History::Session> sessions = {};
    std::map<std::string, int> names = {}, answered = {};
  };

  void report(const std::string& subject, const Findings& findings) {
    const std::string start = "request " + std::to_string(received_.requests) + subject + " ";
    for (const auto& finding : findings) received_.violations.push_back(start + finding);
  }

  void log(const Behaviour& behaviour, const std::string& body, const Answer& answer) {
    if (!log_.is_open()) return;
    const Json line = {{"request", received_.requests}, {"behaviour", behaviour.verb},
                       {"body", body}, {"status", answer.status}, {"answer", answer.body}};
    log_ << line.dump(-1, ' ', true, Json::error_handler_t::replace) << std::endl;
  }

  void check(const Batch& batch, const std::string& appId, const std::string& contentType) {
    report("", batch.findings);
    if (!isToken(appId)) report("", {"has an appId that is not 1 to 64 of A-Za-z0-9_-"});
    if (contentType != "application/json") report("", {"is not of type application/json"});
    std::set<Json> ids;
    for (std::size_t i = 0; i < batch.events.size(); ++i) {
      const Json id = valueOf(batch.events[i], "id");
      const std::string subject = ", event " + std::to_string(i) + ", id " + id.dump(-1, ' ', true);
      report(subject, checkEvent(batch.events[i]));
      if (!id.is_number_integer()) continue;
      report(subject, received_.history.see(batch.events[i], batch.bytes[i]));
      if (!ids.insert(id).second) report(subject, {"is twice in the request"});
    }
  }

  Answer answerTo(const Batch& batch, const Behaviour& behaviour, std::size_t bodyBytes) {
    const auto& verb = behaviour.verb;
    const int status = statusFor(behaviour, batch, bodyBytes);
    if (status != 0) return refusal(status, behaviour);
    if (verb == "html") return {200, "<!DOCTYPE html><title>Log in</title>", "text/html"};
    if (verb == "body") return {200, behaviour.argument};
    const std::size_t step = verb == "half" ? 2 : 1;
    Json reported = Json::array();
    for (std::size_t i = 0; i < batch.events.size(); i += step)
      if (store(batch.events[i])) reported.push_back(batch.events[i]["id"]);
    if (verb == "drop") return {0};
    if (verb == "none") reported.clear();
    Answer answer{200, Json{{"reportedIds", reported}}.dump()};
    if (verb == "slow") answer.delayMs = std::stoi(behaviour.argument);
    return answer;
  }

  /// False: without an integer id it can be neither stored nor acknowledged.
  bool store(const Json& event) {
    const Json id = valueOf(event, "id"), name = valueOf(event, "name");
    if (!id.is_number_integer()) return false;
    if (!received_.stored.insert(id.get<std::int64_t>()).second) {
      ++received_.repeats;
      return true;
    }
    received_.ids.push_back(id.get<std::int64_t>());
    received_.sessions.insert(History::sessionOf(event));
    if (name.is_string()) ++received_.names[name.get<std::string>()];
    return true;
  }

  std::mutex mutex_;
  Script script_;
  Received received_;
  std::ofstream log_;  // one line of JSON per request
};

// ==== 8. Server ==== HTTP in front of it

/// httplib answers every request. So the accepted socket is looked up by its peer, for which the
/// port is enough on the loopback, and shut down both ways: the client reads the end of the stream
/// before any byte; httplib's own write fails, and it closes the socket as it does any other.
/// (On a connection that was used before, a client may send the request again by itself.)
void dropConnection(const httplib::Request& request) {
  const int limit = static_cast<int>(::sysconf(_SC_OPEN_MAX));
  for (int socket = 0; socket < limit; ++socket) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family != AF_INET || ntohs(peer.sin_port) != request.remote_port) continue;
    ::shutdown(socket, SHUT_RDWR);
    return;
  }
}

void give(const Answer& answer, const httplib::Request& request, httplib::Response& response) {
  std::this_thread::sleep_for(std::chrono::milliseconds(answer.delayMs));
  if (answer.status == 0) return dropConnection(request);
  response.status = answer.status;
  response.set_content(answer.body, answer.contentType);
  if (!answer.retryAfter.empty()) response.set_header("Retry-After", answer.retryAfter);
}

/// A POST that needs no body. httplib would wait for one that comes without a length.
void onCommand(httplib::Server& server, const char* path, const std::function<void()>& command) {
  server.Post(path, [command](const httplib::Request& request, httplib::Response&,
                              const httplib::ContentReader& read) {
    if (request.has_header("Content-Length")) read([](const char*, std::size_t) { return true; });
    command();
  });
}

void route(httplib::Server& server, Collector& collector) {
  using httplib::Request, httplib::Response;
  server.Post("/app/([^/]*)/track", [&](const Request& request, Response& response) {
    const auto contentType = request.get_header_value("Content-Type");
    give(collector.track(request.matches[1], contentType, request.body), request, response);
  });
  server.Post("/control/behave", [&](const Request& request, Response& response) {
    try {
      collector.behave(scriptOf(request.body));
    } catch (const std::exception& problem) {
      response.status = 400;
      response.set_content(problem.what(), "text/plain");
    }
  });
  server.Get("/control/state", [&](const Request&, Response& response) {
    response.set_content(collector.state(), "application/json");
  });
  server.Get("/control/events", [&](const Request&, Response& response) {
    response.set_content(collector.events(), "application/json");
  });
  onCommand(server, "/control/reset", [&] { collector.reset(); });
  onCommand(server, "/control/quit", [&] { server.stop(); });
}

/// Its own socket options: httplib's would let a second collector share the port. Many threads and
/// a short keep-alive: each open connection holds a thread, and the end waits for them all.
void configure(httplib::Server& server) {
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.new_task_queue = [] { return new httplib::ThreadPool(32); };
  server.set_keep_alive_max_count(1'000'000);
  server.set_keep_alive_timeout(2);
  server.set_tcp_nodelay(true);
}

int run(std::map<std::string, std::string> options) {
  const std::string portFile = options["--port-file"];
  Collector collector(options["--log"]);
  if (!options["--behave"].empty()) collector.behave(scriptOf(options["--behave"]));
  httplib::Server server;
  configure(server);
  route(server, collector);
  int port = options["--port"].empty() ? 0 : std::stoi(options["--port"]);
  if (port == 0) port = server.bind_to_any_port("127.0.0.1");
  else if (!server.bind_to_port("127.0.0.1", port)) port = -1;
  if (port < 0) throw std::runtime_error("the port cannot be had");
  if (!portFile.empty()) {
    std::ofstream(portFile + ".tmp") << port << '\n';
    if (std::rename((portFile + ".tmp").c_str(), portFile.c_str()) != 0)
      throw std::runtime_error("the port file cannot be written");
  }
  std::cout << "listening on http://127.0.0.1:" << port << std::endl;
  return server.listen_after_bind() ? 0 : 1;
}

}  // namespace collector

int main(int count, char** arguments) try {
  const std::set<std::string> known = {"--port", "--port-file", "--log", "--behave"};
  std::map<std::string, std::string> options;
  for (int i = 1; i < count; i += 2) {
    if (!known.count(arguments[i]) || i + 1 == count) throw std::invalid_argument(arguments[i]);
    options[arguments[i]] = arguments[i + 1];
  }
  return collector::run(options);
} catch (const std::exception& problem) {
  std::cerr << "collector: " << problem.what() << "\nusage: collector [--port N] "
            << "[--port-file PATH] [--log PATH] [--behave JSON]\n";
  return 2;
}
