// What the fuzz targets share: demands that end a run, and a witness of all that is sent.
#pragma once

#include "../fakes.hpp"

#include <sanitizer/allocator_interface.h>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <unordered_map>

namespace fuzz {

using fakes::Json;

/// What must hold for every input there is. An abort is what the fuzzer looks for.
inline void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// The elements of the one array of a body, as they are written.
inline std::vector<std::string_view> elementsOf(std::string_view body) {
  std::vector<std::string_view> elements;
  int depth = 0;
  bool inText = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (inText) {
      if (c == '\\') ++i;
      else inText = c != '"';
    } else if (c == '"') {
      inText = true;
    } else if (c == '{' || c == '[') {
      if (++depth == 3) begin = i;
    } else if ((c == '}' || c == ']') && depth-- == 3) {
      elements.push_back(body.substr(begin, i + 1 - begin));
    }
  }
  return elements;
}

/// Sees every request: valid, within its limit, each id once, the same bytes under it for ever.
class Witness {
 public:
  std::vector<std::uint64_t> current;  // ids of the last request
  std::vector<Json> events;            // and what they name

  void see(const nucleus::Request& request, std::size_t mostBytes) {
    demand(!request.cancelled(), "a request that is sent is wanted");
    const Json whole = Json::parse(request.body(), nullptr, false);
    demand(whole.is_object(), "what is sent is a JSON object");
    if (!request.expectsAnswer()) return demand(whole.at("type") == "heartbeat", "a heartbeat");
    demand(request.body().size() <= mostBytes, "a request is within maxBatchBytes");
    demand(whole.size() == 1 && !whole.at("data").empty(), "a request holds events alone");
    const std::vector<std::string_view> written = elementsOf(request.body());
    demand(written.size() == whole.at("data").size(), "every event is an object");
    current.clear();
    events.assign(whole.at("data").begin(), whole.at("data").end());
    for (std::size_t i = 0; i < events.size(); ++i) see(events[i].at("id"), written[i]);
  }
  bool sent(std::uint64_t id) const { return sent_.count(id) == 1; }
  std::size_t sentEvents() const { return sent_.size(); }

 private:
  void see(std::uint64_t id, std::string_view text) {
    demand(std::count(current.begin(), current.end(), id) == 0, "an id is in a request once");
    current.push_back(id);
    const std::size_t hash = std::hash<std::string_view>()(text);
    demand(sent_.emplace(id, hash).first->second == hash, "an id never names two texts");
  }

  std::unordered_map<std::uint64_t, std::size_t> sent_;
};

/// What holds between any two calls.
inline void check(const nucleus::Stats& stats, const nucleus::Options& options) {
  demand(fakes::balanced(stats), "accepted = queued + acknowledged + erased + dropped");
  demand(stats.queuedBytes <= options.maxQueueBytes, "the queue is within maxQueueBytes");
  demand(stats.nextRequestInMs >= -1 && stats.nextRequestInMs <= 86'400'000,
         "the next request is due within a day");
}

/// What a user gets to see is JSON, whatever happened; nothing where memory ran out.
inline Json exported(const nucleus::Client& client) {
  const Json shown = Json::parse(client.exportData(), nullptr, false);
  demand(shown.is_object(), "the export is a JSON object");
  std::vector<std::uint64_t> ids;
  for (const Json& event : shown.value("events", Json::array())) ids.push_back(event.at("id"));
  std::sort(ids.begin(), ids.end());
  demand(std::adjacent_find(ids.begin(), ids.end()) == ids.end(), "an export shows no id twice");
  return shown;
}

inline bool isIdentifier(const std::string& text) {
  const char* const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  return !text.empty() && text.size() <= 64 && text.find_first_not_of(allowed) == std::string::npos;
}

/// Small, so that every limit is met.
inline nucleus::Options smallOptions(fakes::World& world) {
  nucleus::Options options = world.options();
  options.respectDoNotTrack = false;
  options.maxEventBytes = 2 << 10;
  options.maxQueueBytes = 16 << 10;
  options.maxBatchBytes = 4 << 10;
  return options;
}

/// Memory in use since it was made.
class Memory {
 public:
  void check(std::size_t most) const {
    demand(__sanitizer_get_current_allocated_bytes() <= before_ + most, "memory is bounded");
  }

 private:
  std::size_t before_ = __sanitizer_get_current_allocated_bytes();
};

/// The text up to a mark, which goes with it.
inline std::string_view takeUntil(std::string_view& text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + mark.size());
  return part;
}

}  // namespace fuzz
