// The two ledgers. They know what the host called, what the transport was handed and what was
// answered, and what the contract makes of it; nothing of how the client works.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nucleus.hpp"

namespace simulation {

using Ms = std::int64_t;
constexpr Ms longAgo = INT64_MIN / 4;
constexpr Ms dayMs = 86'400'000;
constexpr Ms clockSetMs = 1'577'836'800'000;

/// Calls `each` with every object of a JSON array that begins at `text`.
template <class Each>
void eachObject(std::string_view text, Each&& each) {
  std::size_t depth = 0, begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
    } else if (c == '{') {
      if (depth++ == 0) begin = i;
    } else if (c == '}') {
      if (--depth == 0) each(text.substr(begin, i + 1 - begin));
    } else if (c == ']' && depth == 0) {
      return;
    }
  }
}

/// The number behind `key`; `otherwise` where there is none.
inline Ms numberBehind(std::string_view text, std::string_view key, Ms otherwise = -1) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return otherwise;
  Ms value = 0;
  for (std::size_t i = at + key.size(); i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

inline bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The host numbers all that it tracks; -1 for an init, which it does not.
inline Ms serialOf(std::string_view event) {
  if (holds(event, "\"type\":\"init\"")) return -1;
  if (holds(event, "\"type\":\"userid\"")) return numberBehind(event, "\"userId\":\"u");
  if (holds(event, "\"type\":\"error\"")) return numberBehind(event, "\"message\":\"n");
  return numberBehind(event, "\"n\":");
}

enum class Where : unsigned char {
  queued,
  acknowledged,
  dropped,
  erased,
  lost,
  left  // by a run that is over: in the file, if `sure`; perhaps, if not
};

struct Event {
  Ms serial = -1;
  std::uint64_t id = 0;  // 0: not seen yet
  std::uint64_t session = 0;
  std::string text = {};
  Where where = Where::queued;
  Where before = Where::queued;  // it was left, perhaps
  int run = 0;
  bool sure = false, durablyErased = false;
  Ms acceptedAt = 0, changedAt = 0;  // world time
  Ms bornAt = 0;                     // what its age counts from
  Ms dateMs = -1;
  bool behind = false;   // the others, when it is sent again
  bool ageless = false;  // the clock jumped while it was read
  bool sent = false, received = false;
  std::uint64_t refusedAlone = 0;  // number of the answer that did it first
  std::uint64_t seen = 0;          // number of the last audit that saw it

  bool isInit() const { return serial < 0; }
};

/// What a request carried.
struct Carried {
  int run = 0;
  std::uint64_t number = 0;
  std::vector<Event*> events;
  std::string serials() const {
    std::string all;
    for (const Event* event : events) {
      all += event->isInit() ? "init " : std::to_string(event->serial) + ' ';
    }
    return all;
  }
  bool has(const Event* event) const {
    return std::find(events.begin(), events.end(), event) != events.end();
  }
};

/// One life of a client, from its constructor to its end.
struct Run {
  int number = 0;
  nucleus::Options options = {};
  nucleus::Stats stats = {}, audited = {};  // the last ones, and those of the last exact audit
  std::vector<Event*> queued;
  std::uint64_t acknowledged = 0, erased = 0;
  Ms unseenInits = 0, auditedAt = longAgo;
  std::uint64_t missing = 0, old = 0, refused = 0, neither = 0;  // since the last exact audit
  bool loose = true;       // inits may appear that no call was seen to make
  bool readsFile = false;  // it has just read the whole file
  Ms readAt = longAgo;
  bool staleWish = false;  // an erasure that the enabling overtook: what is read is not loaded
  // Of the file: all that happened until then is in it, and survives a power cut.
  Ms filedUntil = longAgo, syncedUntil = longAgo;
  std::deque<std::pair<Ms, Ms>> polls;  // when, and filedUntil then
  Ms errorAt = longAgo;
  bool operationFailed = false;  // since the last call began
  bool fileGone = false;         // or not whole, and it has not made another
  Ms syncTroubleAt = longAgo;
  // Of requests:
  Carried request;
  bool inFlight = false, offline = false;
  Ms begunAt = longAgo, notBefore = longAgo, backoffUntil = longAgo, retryAt = longAgo;
  int inARow = 0;
  // Of sessions:
  Ms callAt = 0, callMoment = 0, callBegan = 0, callWall = 0;  // the one that runs
  Ms lastCallAt = 0, lastCallFrom = 0, lastCallMoment = 0, lastCallWall = 0;
  bool clockJumped = false;
  bool mayWait = false;    // the server has asked for it, or the file may say so
  bool polledNow = false;  // at this very moment

  bool webSocket() const { return options.endpoint.substr(0, 2) == "ws"; }
};

class Ledger {
 public:
  std::string broken;  // the first rule that was
  Ms now = 0, wall = 0;
  std::uint64_t answers = 0, lastProgress = 0;
  bool jumped = false;            // the clock, since the call began
  std::uint64_t dropsAtKill = 0;  // that no audit saw

  void expect(bool holds, const char* rule, const std::string& detail = {}) {
    if (!holds && broken.empty())
      broken = std::string(rule) + (detail.empty() ? "" : ": ") + detail;
  }
  /// Finer than a millisecond: what happens later is later.
  Ms moment() {
    if (now != lastNow_) lastNow_ = now, count_ = 0;
    return now * 1'000 + std::min<Ms>(++count_, 999);
  }
  bool clockSet() const { return wall >= clockSetMs; }

  // ---- the client's ----

  Ms nextSerial() {
    events_.push_back({});
    events_.back().serial = static_cast<Ms>(serials_.size());
    events_.back().where = Where::lost;  // until it is accepted
    serials_.push_back(&events_.back());
    return events_.back().serial;
  }
  void accepted(Run& run, Ms serial) {
    Event& event = *serials_[static_cast<std::size_t>(serial)];
    enter(run, event);
    event.acceptedAt = event.changedAt = run.callMoment;
    event.bornAt = run.callAt;
  }
  /// The call was cut off by a kill: it may have been accepted.
  void perhaps(Ms serial) {
    Event& event = *serials_[static_cast<std::size_t>(serial)];
    event.where = Where::left;
    event.sure = false;
  }
  /// The numbers after a call that was to accept `calls` events.
  void counted(Run& run, const nucleus::Stats& stats, Ms calls, bool mayLoad, bool opens = false) {
    const Ms more = static_cast<Ms>(stats.acceptedEvents - run.stats.acceptedEvents);
    if (!mayLoad) {
      expect(more >= calls, "an accepted call is counted");
      expect(more <= calls * 2 || opens, "only an init comes with a call");
      run.unseenInits += more - calls;
      expect(more == calls || opens || mayOpen(run), "a session begins when it should");
      expect(calls == 0 || more > calls || !isIdle(run), "an idle session ends",
             std::to_string(now - run.lastCallAt) + " " + std::to_string(wall - run.lastCallWall));
    } else if (more > 0) {
      run.loose = true;
    }
    checkStats(run, stats);
    run.stats = stats;
  }
  /// An init is due with the next accepted call.
  bool isIdle(const Run& run) const {
    const Ms timeout = run.options.sessionTimeoutMs;
    const bool wallToo = run.callWall >= clockSetMs && run.lastCallWall >= clockSetMs;
    return run.callAt - run.lastCallAt >= timeout ||
           (wallToo && run.callWall - run.lastCallWall >= timeout);
  }
  /// Why a session may begin before the last one was idle: time has jumped, or its init is gone.
  bool mayOpen(const Run& run) const {
    return isIdle(run) || run.clockJumped ||
           run.stats.droppedTooOld + run.stats.droppedQueueFull > 0 ||
           now - run.lastCallFrom >= run.options.sessionTimeoutMs;
  }
  /// It did so at some time since `from`.
  void opened(Run& run, Ms from) {
    calls(run);
    called(run);
    run.lastCallFrom = from;
  }
  void calls(Run& run) {
    run.callAt = now;
    run.callMoment = moment();
    run.callWall = wall;
  }
  void called(Run& run) {
    run.lastCallAt = run.lastCallFrom = run.callAt;
    run.lastCallMoment = run.callMoment;
    run.lastCallWall = run.callWall;
  }

  /// What exportData() shows. `exact`: and nothing of anybody else's file.
  void audit(Run& run, const nucleus::Stats& stats, std::string_view exported, bool exact) {
    ++audits_;
    std::size_t count = 0;
    const std::size_t at = exported.find("\"events\":[");
    eachObject(exported.substr(at + 10), [&](std::string_view text) {
      Event* const event = sight(run, text, exact);
      if (event == nullptr) return;
      expect(event->seen != audits_, "no event is queued twice", text64(text));
      event->seen = audits_;
      ++count;
      if (exact) take(run, *event);
    });
    if (exact) expect(count == stats.queuedEvents, "exportData() shows what stats() counts");
    settleMissing(run, stats, exact);
    if (exact && run.readsFile && std::exchange(run.staleWish, false)) leftErased(run);
    if (exact && run.readsFile) resolveLeft(run, stats);
    if (exact)
      run.audited = stats, run.auditedAt = now, run.readsFile = run.loose = false,
      run.unseenInits = 0;
  }

  // ---- requests ----

  Carried begin(Run& run, std::string_view body) {
    Carried carried;
    carried.run = run.number;
    carried.number = ++requests_;
    eachObject(body.substr(9), [&](std::string_view text) {
      Event* const event = sight(run, text, true);
      if (event == nullptr) return;
      if (event->where == Where::left || event->where == Where::erased) take(run, *event);
      expect(event->where == Where::queued && event->run == run.number,
             "only what is queued is sent", describe(*event));
      carried.events.push_back(event);
      checkOrder(*event);
    });
    expect(!carried.events.empty(), "a request carries something");
    expect(body.size() <= run.options.maxBatchBytes, "a request is not too large");
    checkMoment(run);
    run.request = carried;
    run.inFlight = true;
    run.begunAt = now;
    run.inARow += 1;
    return carried;
  }
  /// What came back, as far as it counts: `names`, if the answer was good.
  void answered(Run& run, const Carried& carried, const std::vector<std::uint64_t>& names,
                int status, Ms retryAfterMs, bool current, bool received) {
    const Ms progress = acknowledge(run, carried, names);
    if (received) return receivedBy(run);
    if (!current) return;
    run.inFlight = false;
    ++answers;
    if (status >= 200 && status < 300 && progress > 0) return progressed(run);
    const bool alone = carried.events.size() == 1;
    if (status == 400 || status == 413 || status == 422) {
      if (alone && carried.events[0]->refusedAlone == 0) carried.events[0]->refusedAlone = answers;
      return;
    }
    if (alone && status >= 500) carried.events[0]->behind = true;
    failed(run);
    if (retryAfterMs <= 0) return;
    run.mayWait = true;
    run.retryAt = now + std::min(retryAfterMs, dayMs);
  }
  /// One that is queued, but not in that request.
  std::uint64_t otherId(const Carried& carried) const {
    for (auto event = events_.rbegin(); event != events_.rend(); ++event) {
      if (event->where == Where::queued && event->id != 0 && !carried.has(&*event))
        return event->id;
    }
    return 4;
  }
  bool isCurrent(const Run& run, const Carried& carried) const {
    return run.inFlight && run.request.number == carried.number;
  }
  void failed(Run& run) {
    run.backoffUntil = now + 1'000;
    run.inARow = 0;
  }
  void hurried(Run& run) { run.backoffUntil = longAgo, run.inARow = 0; }
  /// A request that was not answered in time is over.
  void timeOut(Run& run, Ms at) {
    if (!run.inFlight || at < run.begunAt + run.options.answerTimeoutMs) return;
    run.inFlight = false;
    if (!run.webSocket()) return failed(run);
    for (Event* event : run.request.events) event->behind = true;  // some may have been named
  }

  // ---- the server's ----

  void received(const Carried& carried) {
    for (Event* event : carried.events) {
      Session& session = sessions_[event->session];
      if (event->isInit()) session.initReceived = true;
      // One that a good answer left unnamed, or a 5xx hit alone, goes behind the others.
      const bool behind = session.init != nullptr && session.init->behind;
      expect(session.initReceived || behind, "a session's init arrives before its other events",
             describe(*event));
      event->received = true;
    }
  }

  // ---- consent and erasure ----

  /// `queued` of them, with what earlier runs left.
  void erased(Run& run, const nucleus::Stats& stats, std::uint64_t queued) {
    for (Event& event : events_) {
      const bool ours = event.where == Where::queued && event.run == run.number;
      const bool unfiled = event.run == run.number && event.changedAt > run.filedUntil &&
                           (event.where == Where::acknowledged || event.where == Where::dropped);
      if (!ours && !unfiled && event.where != Where::left) continue;
      gone(event, Where::erased);
      event.run = run.number;
    }
    run.erased += queued;
    run.audited = stats;
    run.queued.clear();
    run.inFlight = false;
    run.unseenInits = 0;
    run.missing = run.old = run.refused = run.neither = 0;
  }
  /// What is read from the file is to be erased, and does not come back.
  void leftErased(Run& run) {
    for (Event& event : events_) {
      if (event.where != Where::left) continue;
      gone(event, Where::erased);
      event.run = run.number;
    }
  }
  /// The file holds nothing of what was unsent.
  void erasureDone() {
    for (Event& event : events_) {
      if (event.where == Where::left) gone(event, Where::erased);
      if (event.where == Where::erased) event.durablyErased = true;
    }
  }

  // ---- the file ----

  /// The client's turn is over, and so everything older than cacheDelayMs is in the file.
  void polled(Run& run, Ms begunAt) {
    timeOut(run, begunAt);
    run.polledNow = begunAt == now;
    if (run.stats.storage != nucleus::StorageState::ready || run.operationFailed || run.fileGone) {
      return;
    }
    const Ms interval = run.options.reportIntervalMs;
    if (begunAt >= run.syncTroubleAt + interval) {
      while (!run.polls.empty() && run.polls.front().first <= begunAt - interval) {
        run.syncedUntil = std::max(run.syncedUntil, run.polls.front().second);
        run.polls.pop_front();
      }
      if (run.errorAt <= run.filedUntil) run.syncedUntil = std::max(run.syncedUntil, run.errorAt);
    }
    const Ms delay = run.options.cacheDelayMs;
    filed(run, delay == 0 ? run.callBegan : (begunAt - delay) * 1'000 + 999);
    run.polls.emplace_back(begunAt, run.filedUntil);
  }
  void filed(Run& run, Ms until) {
    if (run.stats.storage != nucleus::StorageState::ready || run.operationFailed || run.fileGone) {
      return;
    }
    run.filedUntil = std::max(run.filedUntil, until);
  }
  void synced(Run& run) {
    filed(run, run.callBegan);
    run.syncedUntil = std::max(run.syncedUntil, run.filedUntil);
  }
  void fileRemoved(Run& run) {
    run.filedUntil = run.syncedUntil = longAgo;
    run.polls.clear();
    run.fileGone = true;
  }
  /// `reading`: somebody may have it in memory already.
  void leftRemoved(bool reading) {
    for (Event& event : events_) {
      if (event.where == Where::left && !reading) event.where = Where::lost;
      const bool gone = event.where == Where::acknowledged || event.where == Where::dropped ||
                        event.where == Where::lost;
      if (gone && reading) event.where = Where::left;  // that it had gone may not be read any more
      event.sure = false;
    }
  }
  /// What is in the file when a run is over, and what may be.
  void ended(Run& run, Ms until, bool erasurePending) {
    for (Event& event : events_) {
      const bool ours = event.run == run.number, recent = event.changedAt > until;
      const bool left = event.where == Where::acknowledged || event.where == Where::dropped;
      if (event.where == Where::queued && ours) {
        event.where = Where::left;
        event.sure = event.acceptedAt <= until;
      } else if (left && recent) {
        event.before = event.where;
        event.where = Where::left;
        event.sure = false;
      } else if (event.where == Where::erased && ours && !event.durablyErased && erasurePending) {
        event.where = Where::left;
        event.sure = false;
      } else if (event.where == Where::left && event.acceptedAt > until) {
        event.sure = false;
      }
    }
    run.queued.clear();
  }
  std::size_t eventCount() const { return events_.size(); }
  std::uint64_t count(Where where) const {
    std::uint64_t n = 0;
    for (const Event& event : events_) n += event.where == where;
    return n;
  }
  /// In the end: what was acknowledged was received, and nothing waits.
  void close() {
    for (const Event& event : events_) {
      if (event.where == Where::acknowledged) {
        expect(event.received, "what is acknowledged was received", describe(event));
      }
      expect(event.where != Where::queued && !(event.where == Where::left && event.sure),
             "everything drains", describe(event));
    }
  }
  static std::string describe(const Event& event) {
    static constexpr const char* names[] = {"queued", "acknowledged", "dropped",
                                            "erased", "lost",         "left"};
    return (event.isInit() ? "init" : "event " + std::to_string(event.serial)) + " of run " +
           std::to_string(event.run) + ", " + names[static_cast<int>(event.where)] +
           (event.where == Where::left ? event.sure ? " surely" : " perhaps" : "") + " since " +
           std::to_string(event.changedAt);
  }

 private:
  static std::string text64(std::string_view text) { return std::string(text.substr(0, 160)); }

  void gone(Event& event, Where where) {
    event.where = where;
    event.changedAt = moment();
  }
  void enter(Run& run, Event& event) {
    event.where = Where::queued;
    event.run = run.number;
    event.changedAt = moment();
    run.queued.push_back(&event);
  }
  /// It was left in the file, and comes back.
  void take(Run& run, Event& event) {
    if (event.where == Where::queued && event.run == run.number) return;
    // What one process could not erase yet, another may find.
    const bool unerased =
        event.where == Where::erased && !event.durablyErased && event.run != run.number;
    expect(event.where == Where::left || unerased, "nothing comes back that had left",
           describe(event));
    if (!event.sure || dropsAtKill > 0)
      event.sent = true;  // its session may have gone on without it
    enter(run, event);
    event.before = Where::queued;
    const bool known = event.dateMs >= 0 && clockSet() && event.dateMs <= wall;
    event.ageless = jumped || run.readAt != now || event.isInit();
    event.bornAt = known ? now - (wall - event.dateMs) : now;
  }
  /// The event of that text. Its first sight gives its id.
  Event* sight(Run& run, std::string_view text, bool ours) {
    const auto id = static_cast<std::uint64_t>(numberBehind(text, "\"id\":", 0));
    const auto found = ids_.find(id);
    if (found != ids_.end()) {
      expect(found->second->text == text, "an id names one event, always in the same bytes",
             text64(text));
      return found->second;
    }
    const Ms serial = serialOf(text);
    if (serial >= static_cast<Ms>(serials_.size())) return strange(text);
    if (serial < 0) return ours ? &newInit(run, id, text) : nullptr;
    Event& event = *serials_[static_cast<std::size_t>(serial)];
    if (event.id != 0) return strange(text);
    learn(event, id, text);
    return &event;
  }
  Event* strange(std::string_view text) {
    expect(false, "an event has one id, and was tracked", text64(text));
    return nullptr;
  }
  void learn(Event& event, std::uint64_t id, std::string_view text) {
    event.id = id;
    event.text = text;
    event.session = static_cast<std::uint64_t>(numberBehind(text, "\"sessionId\":", 0));
    event.dateMs = numberBehind(text, "\"date\":");
    ids_[id] = &event;
  }
  Event& newInit(Run& run, std::uint64_t id, std::string_view text) {
    expect(holds(text, "\"type\":\"init\""), "an event without a number is an init", text64(text));
    events_.push_back({});
    Event& event = events_.back();
    expect(run.loose || run.readsFile || run.unseenInits > 0, "an init comes with a call",
           text64(text));
    if (run.unseenInits > 0) --run.unseenInits;
    learn(event, id, text);
    enter(run, event);
    event.bornAt = run.readsFile ? now : run.auditedAt;  // at the earliest
    event.ageless = run.readsFile;
    event.acceptedAt = moment();
    if (run.readsFile && event.dateMs >= 0 && clockSet() && event.dateMs <= wall) {
      event.bornAt = now - (wall - event.dateMs);
    }
    return event;
  }

  void checkStats(Run& run, const nucleus::Stats& s) {
    expect(s.acceptedEvents == s.queuedEvents + s.acknowledgedEvents + s.erasedEvents +
                                   s.droppedQueueFull + s.droppedTooOld + s.droppedRefused +
                                   s.droppedDamaged + s.droppedPersonalData,
           "stats() are balanced");
    expect(s.acknowledgedEvents == run.acknowledged, "stats() count what was acknowledged",
           std::to_string(s.acknowledgedEvents) + " for " + std::to_string(run.acknowledged));
    expect(s.erasedEvents == run.erased, "stats() count what was erased",
           std::to_string(s.erasedEvents) + " for " + std::to_string(run.erased));
    expect(s.queuedBytes <= run.options.maxQueueBytes, "the queue keeps its bound");
    expect(s.cacheBytes <= 2 * run.options.maxQueueBytes + (64 << 10), "the file keeps its bound");
    expect(s.droppedPersonalData == 0, "nothing personal was tracked");
    const Ms longest = run.mayWait ? dayMs : 600'000;
    expect(s.nextRequestInMs <= longest, "no pause is longer than the longest",
           std::to_string(s.nextRequestInMs));
  }

  /// Those that are neither shown nor acknowledged have been dropped, and are counted.
  void settleMissing(Run& run, const nucleus::Stats& stats, bool exact) {
    std::uint64_t missing = 0, old = 0, refused = 0, neither = 0;
    std::size_t kept = 0;
    for (Event* event : run.queued) {
      if (event->where != Where::queued || event->run != run.number) continue;
      if (event->seen == audits_) {
        run.queued[kept++] = event;
        checkAge(run, *event);
        continue;
      }
      const bool isOld = event->ageless || now - event->bornAt > run.options.cutoffMs;
      const bool isRefused = event->refusedAlone != 0 && lastProgress > event->refusedAlone;
      ++missing;
      old += isOld;
      refused += isRefused;
      neither += !isOld && !isRefused;
      const bool over = now >= run.begunAt + run.options.answerTimeoutMs;
      expect(!run.inFlight || over || !run.request.has(event),
             "what is in a request is not dropped", describe(*event));
      lastMissing_ = describe(*event) + ", aged " + std::to_string(now - event->bornAt);
      if (!isOld && !isRefused) lastNeither_ = lastMissing_;
      gone(*event, Where::dropped);
    }
    run.queued.resize(kept);
    run.missing += missing, run.old += old, run.refused += refused, run.neither += neither;
    if (exact) checkDrops(run, stats);
  }
  void checkDrops(Run& run, const nucleus::Stats& stats) {
    const nucleus::Stats& before = run.audited;
    const std::uint64_t full = stats.droppedQueueFull - before.droppedQueueFull,
                        old = stats.droppedTooOld - before.droppedTooOld,
                        refused = stats.droppedRefused - before.droppedRefused,
                        unseen = run.loose ? 1'000 : static_cast<std::uint64_t>(run.unseenInits);
    if (!run.readsFile) {
      expect(run.missing <= full + old + refused, "what is gone was counted as dropped",
             lastNeither_);
      expect(run.missing + unseen >= full + old + refused, "what was dropped is gone");
      expect(old <= run.old + unseen, "what is dropped as too old is",
             std::to_string(old) + " for " + std::to_string(run.old) + ", " + lastMissing_);
      expect(refused <= run.refused, "what is dropped as refused was, while others were taken");
      expect(run.neither <= full, "what is dropped for no other reason found the queue full",
             lastNeither_);
    }
    run.missing = run.old = run.refused = run.neither = 0;
  }
  void checkAge(const Run& run, const Event& event) {
    const bool carried = run.inFlight && run.request.has(&event);
    const bool old = now - event.bornAt > run.options.cutoffMs;
    expect(!run.polledNow || event.isInit() || event.ageless || carried || !old,
           "nothing queued is too old", describe(event));
  }

  /// The whole file was read: what did not come back was not in it.
  void resolveLeft(Run& run, const nucleus::Stats& stats) {
    const std::uint64_t drops = stats.droppedQueueFull + stats.droppedTooOld +
                                stats.droppedDamaged - run.audited.droppedQueueFull -
                                run.audited.droppedTooOld - run.audited.droppedDamaged;
    std::uint64_t missing = 0;
    std::string which;
    for (Event& event : events_) {
      if (event.where != Where::left) continue;
      if (event.sure) ++missing, which = describe(event);
      const bool counted = event.sure || drops + dropsAtKill > 0;  // by this run, as dropped
      const bool had = event.before != Where::queued && !counted;
      if (had) event.where = event.before;  // the file says so, as long as it is synced
      else gone(event, counted ? Where::dropped : Where::lost);
      event.before = Where::queued;
      event.run = -1;
    }
    expect(missing <= drops + dropsAtKill,
           "what was in the file comes back, or is counted as dropped",
           which + ", one of " + std::to_string(missing) + " with " + std::to_string(drops) +
               " + " + std::to_string(dropsAtKill) + " dropped, " +
               std::to_string(stats.queuedEvents) + " queued");
    dropsAtKill = 0;
  }

  // ---- of requests ----

  void checkOrder(Event& event) {
    Session& session = sessions_[event.session];
    Ms& last = session.lastSent;
    if (event.isInit()) session.init = &event;
    if (event.sent) return;
    event.sent = true;
    expect(session.init != nullptr, "a session's init is sent before its other events",
           describe(event));
    expect(event.isInit() || event.serial >= last, "a session's order is kept",
           describe(event) + ", behind " + std::to_string(last));
    last = std::max(last, event.serial);
  }
  void checkMoment(Run& run) {
    timeOut(run, now);
    expect(!run.inFlight, "there is one request at a time");
    expect(!run.offline, "no request while the host says that there is no network");
    expect(now >= run.retryAt, "no request before Retry-After",
           std::to_string(run.retryAt - now) + " ms early");
    expect(now >= run.backoffUntil, "a backoff lasts a second at least");
    if (now - run.begunAt >= 1'000) run.inARow = 0;
    expect(run.inARow < 12, "twelve requests in a row at most");
  }
  Ms acknowledge(Run& run, const Carried& carried, const std::vector<std::uint64_t>& names) {
    Ms progress = 0;
    for (const std::uint64_t id : names) {
      const auto found = ids_.find(id);
      if (found == ids_.end()) continue;
      Event& event = *found->second;
      if (!carried.has(&event)) continue;
      if (event.where != Where::queued || event.run != run.number) continue;
      gone(event, Where::acknowledged);
      ++run.acknowledged;
      ++progress;
    }
    return progress;
  }
  /// Over a WebSocket a request ends once all of it is named.
  void receivedBy(Run& run) {
    if (!run.inFlight || !allNamed(run)) return;
    run.inFlight = false;
    progressed(run);
  }
  void progressed(Run& run) {
    lastProgress = ++answers;
    for (Event* event : run.request.events) event->behind = true;
    run.inARow = 0;
    run.backoffUntil = longAgo;
  }
  static bool allNamed(const Run& run) {
    for (const Event* event : run.request.events) {
      if (event->where == Where::queued) return false;
    }
    return true;
  }

  std::deque<Event> events_;
  std::vector<Event*> serials_;
  std::unordered_map<std::uint64_t, Event*> ids_;
  struct Session {
    const Event* init = nullptr;  // once it was sent
    bool initReceived = false;
    Ms lastSent = -1;  // the latest event of it
  };
  std::unordered_map<std::uint64_t, Session> sessions_;
  std::uint64_t audits_ = 0;
  Ms lastNow_ = longAgo, count_ = 0;
  std::string lastNeither_, lastMissing_;
  std::uint64_t requests_ = 0;
};

}  // namespace simulation
