// What the collector answers, and what it remembers: all of it but HTTP.
#ifndef COLLECTOR_ANSWERS_HPP
#define COLLECTOR_ANSWERS_HPP

#include "rules.hpp"

#include <cctype>
#include <chrono>
#include <ctime>
#include <deque>
#include <fstream>
#include <mutex>
#include <regex>
#include <stdexcept>

namespace collector {

// ==== 5. Script ==== which answer comes next

struct Behaviour {
  std::string verb = "ok", argument = {};
};

/// Throws where there is no such answer.
inline Behaviour behaviourOf(const std::string& answer) {
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
inline Script scriptOf(const std::string& text) {
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

inline std::string httpDate(long secondsAhead) {
  const std::time_t at = std::time(nullptr) + secondsAhead;
  std::tm utc{};
  gmtime_r(&at, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

/// The status that `behaviour` has for this request; 0: it is accepted.
inline int statusFor(const Behaviour& behaviour, const Batch& batch, std::size_t bodyBytes) {
  if (batch.events.empty()) return 400;
  if (!std::isdigit(static_cast<unsigned char>(behaviour.verb[0]))) return 0;
  const int status = std::stoi(behaviour.verb);
  if (behaviour.argument.empty() || status == 429 || status == 503) return status;
  if (status == 413) return bodyBytes > std::stoul(behaviour.argument) ? status : 0;
  const auto isNamed = [&](const Json& e) { return valueOf(e, "name") == behaviour.argument; };
  return std::any_of(batch.events.begin(), batch.events.end(), isNamed) ? status : 0;
}

inline Answer refusal(int status, const Behaviour& behaviour) {
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
    received_.at.push_back(steadyMs());
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
    return Json{{"requests", r.requests},          {"events", r.ids.size()}, {"repeats", r.repeats},
                {"violations", r.violations},      {"ids", r.ids},           {"names", r.names},
                {"sessions", r.sessions.size()},   {"answered", r.answered}, {"at", r.at},
                {"unused", script_.answers.size()}}
        .dump();
  }

  std::string events() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string json;
    for (const auto id : received_.ids)
      json += (json.empty() ? "" : ",") + received_.history.bytesOf(id);
    return "[" + json + "]";
  }

 private:
  static std::int64_t steadyMs() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  }

  struct Received {
    int requests = 0, repeats = 0;
    Findings violations = {};
    History history = {};                // all that was read, whatever the answer
    std::vector<std::int64_t> ids = {};  // what was stored, in order
    std::set<std::int64_t> stored = {};
    std::set<History::Session> sessions = {};
    std::map<std::string, int> names = {}, answered = {};
    std::vector<std::int64_t> at = {};  // when each request came, in steady milliseconds
  };

  void report(const std::string& subject, const Findings& findings) {
    const std::string start = "request " + std::to_string(received_.requests) + subject + " ";
    for (const auto& finding : findings) received_.violations.push_back(start + finding);
  }

  void log(const Behaviour& behaviour, const std::string& body, const Answer& answer) {
    if (!log_.is_open()) return;
    const Json line = {{"request", received_.requests},
                       {"behaviour", behaviour.verb},
                       {"body", body},
                       {"status", answer.status},
                       {"answer", answer.body}};
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

}  // namespace collector

#endif
