// The rules of the wire: what a body and each event must look like, and what holds between events.
#ifndef NUCLEUS_COLLECTOR_RULES_HPP
#define NUCLEUS_COLLECTOR_RULES_HPP

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace collector {

using Json = nlohmann::json;
using Findings = std::vector<std::string>;  // each a sentence without its subject

// ==== 1. Values ==== what a field may hold

inline bool isWhole(const Json& value, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) return false;
  const auto number = value.get<std::int64_t>();
  return number >= least && number <= most;
}

inline bool isText(const Json& value) { return value.is_string() && value != ""; }
inline bool isMadeOf(const Json& value, std::string_view characters) {
  if (!isText(value)) return false;
  const auto& text = value.get_ref<const std::string&>();
  return text.size() <= 64 && text.find_first_not_of(characters) == std::string::npos;
}

inline bool isId(const Json& value) { return isWhole(value, 1LL << 32, 1LL << 53); }
inline bool isDate(const Json& value) { return isWhole(value, 1'577'836'800'000, 1LL << 53); }
inline bool isSession(const Json& value) { return isWhole(value, 10'000'000, 99'999'999); }
inline bool isGigabytes(const Json& value) { return isWhole(value, 0, 1 << 20); }
inline bool isCpp(const Json& value) { return value == "cpp"; }
inline bool isDotted(const Json& value) { return isMadeOf(value, "0123456789."); }
inline bool isToken(const Json& value) {
  return isMadeOf(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
}
inline bool isName(const Json& value) {
  return isText(value) && value.get_ref<const std::string&>().size() <= 256;
}
inline bool isFlat(const Json& value) {
  return value.is_object() && std::all_of(value.begin(), value.end(), [](const Json& member) {
    return member.is_string() || member.is_number() || member.is_boolean();
  });
}

// ==== 2. Fields ==== which type of event carries what

namespace in {
enum Types : unsigned { none = 0, init = 1, event = 2, error = 4, userid = 8, props = 16, view = 32,
                        named = event | error | view, described = init | error, all = 63 };
}

/// A heartbeat has no place here: only the WebSocket mode sends it, and not among the events.
inline in::Types typeOf(const Json& type) {
  static const std::map<Json, in::Types> types = {
      {"init", in::init},     {"event", in::event}, {"error", in::error},
      {"userid", in::userid}, {"props", in::props}, {"nucleus:view", in::view}};
  const auto found = types.find(type);
  return found == types.end() ? in::none : found->second;
}
inline bool isType(const Json& value) { return typeOf(value) != in::none; }

struct Field {
  const char* name;
  in::Types requiredIn, allowedIn;
  bool (*isGood)(const Json&);
  const char* expected;
};

inline constexpr Field fields[] = {
    {"type", in::all, in::all, isType, "known"},
    {"name", in::named, in::named, isName, "1 to 256 bytes of text"},
    {"id", in::all, in::all, isId, "an integer from 2^32 to 2^53"},
    {"date", in::none, in::all, isDate, "whole milliseconds since 1970, in 2020 or later"},
    {"payload", in::props, in::all, isFlat, "a flat object of strings, numbers and booleans"},
    {"sessionId", in::all, in::all, isSession, "an integer of 8 digits"},
    {"userId", in::none, in::all, isText, "text"},
    {"anonId", in::all, in::all, isToken, "1 to 64 of A-Za-z0-9_-"},
    {"deviceId", in::all, in::all, isToken, "1 to 64 of A-Za-z0-9_-"},
    {"client", in::described, in::described, isCpp, "cpp"},
    {"platform", in::described, in::described, isText, "text"},
    {"osVersion", in::described, in::described, isDotted, "digits and dots"},
    {"totalRam", in::none, in::described, isGigabytes, "whole gigabytes"},  // or has less
    {"version", in::described, in::described, isText, "text"},
    {"locale", in::none, in::described, isText, "text"},
    {"language", in::none, in::described, isText, "text"},
    {"arch", in::none, in::described, isText, "text"},
    {"moduleVersion", in::described, in::described, isText, "text"}};

/// The value of a field; null where there is none.
inline Json valueOf(const Json& event, const char* field) {
  return event.is_object() && event.contains(field) ? event[field] : Json();
}

/// What is wrong with one field of an event; empty: nothing. Of an unknown type all is allowed.
inline std::string checkField(const Field& field, in::Types type, const Json& event) {
  const std::string name = field.name;
  const bool isRequired = (field.requiredIn & type) || field.requiredIn == in::all;
  if (!event.contains(name)) return isRequired ? "lacks " + name : "";
  if (type != in::none && !(field.allowedIn & type))
    return "has " + name + ", which its type does not carry";
  if (field.isGood(event[name])) return "";
  const std::string shown = event[name].dump(-1, ' ', true).substr(0, 100);
  return "has " + name + " " + shown + ", which is not " + field.expected;
}

/// What is wrong with one event by itself.
inline Findings checkEvent(const Json& event) {
  if (!event.is_object()) return {"is not an object"};
  const in::Types type = typeOf(valueOf(event, "type"));
  Findings findings;
  std::set<std::string> unknown;
  for (const auto& member : event.items()) unknown.insert(member.key());
  for (const Field& field : fields) {
    const auto finding = checkField(field, type, event);
    if (!finding.empty()) findings.push_back(finding);
    unknown.erase(field.name);
  }
  for (const auto& name : unknown) findings.push_back("has the unknown field " + Json(name).dump());
  if (valueOf(event, "locale") != valueOf(event, "language"))
    findings.push_back("has a language that is not its locale");
  return findings;
}

// ==== 3. Request ==== a body, its events, and the bytes of each

struct Batch {
  std::vector<Json> events;
  std::vector<std::string> bytes;  // of each event, as received
  Findings findings;
};

/// Parses, and finds names that stand twice in one object. Discarded: not JSON in UTF-8.
inline Json parseStrictly(const std::string& text, Findings& findings) {
  std::vector<std::set<Json>> names;
  const auto onToken = [&](int, Json::parse_event_t token, Json& value) {
    if (token == Json::parse_event_t::object_start) names.emplace_back();
    if (token == Json::parse_event_t::object_end) names.pop_back();
    if (token == Json::parse_event_t::key && !names.back().insert(value).second)
      findings.push_back("has the field " + value.dump() + " twice in one object");
    return true;
  };
  return Json::parse(text, onToken, false);
}

/// The bytes of each element of the first array in `json`, which must be valid and not empty.
inline std::vector<std::string> elementsOf(const std::string& json) {
  std::vector<std::string> elements;
  std::size_t from = json.find('[') + 1, depth = 1;
  bool quoted = false;
  for (std::size_t at = from; depth > 0; ++at) {
    const char c = json[at];
    if (quoted && c == '\\') ++at;
    else if (c == '"') quoted = !quoted;
    else if (quoted) continue;
    else if (c == '{' || c == '[') ++depth;
    else if (c == '}' || c == ']') --depth;
    if (quoted || !(depth == 0 || (depth == 1 && c == ','))) continue;
    elements.push_back(json.substr(from, at - from));
    from = at + 1;
  }
  return elements;
}

/// Takes a body apart. No events: it is unusable, and the findings say why.
inline Batch readBatch(const std::string& body) {
  Batch batch;
  const Json json = parseStrictly(body, batch.findings);
  const Json data = json.is_discarded() ? json : valueOf(json, "data");
  if (json.is_discarded()) batch.findings.push_back("is not JSON in UTF-8");
  else if (json.size() != 1 || !data.is_array()) batch.findings.push_back("is not {\"data\":[]}");
  else if (data.empty()) batch.findings.push_back("carries no event");
  else {
    batch.events = data.get<std::vector<Json>>();
    batch.bytes = elementsOf(body);
  }
  return batch;
}

// ==== 4. History ==== what holds between events, in order of first receipt

class History {
 public:
  using Session = std::pair<Json, Json>;
  static Session sessionOf(const Json& event) {
    return {valueOf(event, "deviceId"), valueOf(event, "sessionId")};
  }

  /// Remembers an event with an integer id and its bytes; says what contradicts the past.
  Findings see(const Json& event, const std::string& bytes) {
    const auto [known, isNew] = bytes_.emplace(event["id"].get<std::int64_t>(), bytes);
    if (known->second != bytes) return {"is not the same bytes as when first received"};
    if (event["type"] == "init") begun_.insert(sessionOf(event));
    if (!isNew || begun_.count(sessionOf(event))) return {};
    return {"comes before the init of its session"};
  }

  const std::string& bytesOf(std::int64_t id) const { return bytes_.at(id); }

 private:
  std::map<std::int64_t, std::string> bytes_;
  std::set<Session> begun_;
};

}  // namespace collector

#endif
