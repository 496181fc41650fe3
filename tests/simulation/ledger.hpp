// The two ledgers. They know what the host called, what the transport was handed and what was
// answered, and what the contract makes of it; nothing of how the client works.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory.hpp"
#include "nucleus.hpp"

namespace simulation {

using Ms = std::int64_t;
constexpr Ms longAgo = INT64_MIN / 4;
constexpr Ms dayMs = 86'400'000;
constexpr Ms clockSetMs = 1'577'836'800'000;
constexpr Ms longestPauseMs = 600'000;

/// The longest pause after so many failures in a row: 2 s, and twice as long each time.
inline Ms longestPause(int failures) {
  return std::min<Ms>(longestPauseMs, Ms{1'000} << std::clamp(failures, 1, 20));
}

// Where in the time that it may be drawn from a request was put, in tenths: chance has to fill
// them alike.
constexpr const char* drawNames[] = {"first request",   "after 1 failure", "2 to 4 failures",
                                     "5 to 9 failures", "10 and more",     "after Retry-After"};
constexpr std::size_t drawCount = sizeof drawNames / sizeof drawNames[0];
using Draws = std::array<std::array<std::uint64_t, 10>, drawCount>;

/// How long the JSON object is that `text` begins with.
inline std::size_t objectSize(std::string_view text) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return i + 1;
    }
  }
  return text.size();
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
  bool allowed = false, redacted = false;  // tracked while personal data was, or was not
  Ms acceptedAt = 0, changedAt = 0;        // world time
  Ms bornAt = 0;                           // what its age counts from
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
  Ms at = 0;
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
  Tally* memory = nullptr;
  nucleus::Stats stats = {}, audited = {};  // the last ones, and those of the last exact audit
  nucleus::Stats looked = {};               // those of the last audit of any kind
  std::vector<Event*> queued;
  std::uint64_t acknowledged = 0, erased = 0;
  Ms unseenInits = 0, auditedAt = longAgo;
  std::uint64_t missing = 0, old = 0, refused = 0, neither = 0;  // since the last exact audit
  bool loose = true;       // inits may appear that no call was seen to make
  bool readsFile = false;  // it has just read the whole file
  Ms readAt = longAgo;
  std::uint64_t readJumps = 0;    // of the clock, before the call that did it
  std::uint64_t damagesRead = 0;  // so many damaged records there may have been
  bool damagedBytesRead = false;
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
  Ms begunAt = longAgo, spokenAt = longAgo, backoffUntil = longAgo, retryAt = longAgo;
  int inARow = 0;
  // When the next one is to begin, and why; failures since the server last took something.
  Ms earliest = longAgo, latest = longAgo, fileBarrierBy = longAgo, postponedAt = longAgo;
  int failuresLeast = 0, failuresMost = 0, unbroken = 0, filings = 0;
  bool asleep = true, rested = true, progressedLately = false;
  bool wasEmpty = true;  // before the last call
  struct {
    Ms at = longAgo, low = 0, high = 0;
    std::size_t row = 0;
  } draw = {};
  // Of sessions:
  Ms callAt = 0, callMoment = 0, callBegan = 0, callWall = 0;  // the one that runs
  Ms lastCallAt = 0, lastCallFrom = 0, lastCallMoment = 0, lastCallWall = 0;
  bool clockJumped = false;
  bool mayWait = false;    // the server has asked for it, or the file may say so
  bool polledNow = false;  // at this very moment

  bool webSocket() const { return options.endpoint[0] == 'w'; }
  bool allowsPersonal() const { return options.personalData == nucleus::PersonalData::allow; }
  Ms latestBegin() const { return std::max(latest, fileBarrierBy); }
};

class Ledger {
 public:
  std::string broken;  // the first rule that was
  Ms now = 0, wall = 0;
  std::uint64_t answers = 0, lastProgress = 0;
  std::uint64_t jumps = 0, jumpsBefore = 0;  // of the clock, and when the call began
  std::uint64_t dropsAtKill = 0;             // that no audit saw
  bool bytesDamaged = false;    // in the file; it may be in what says which events have left
  bool initsMayReturn = false;  // that had left, where the file is damaged, or was before
  bool mixed = false;           // some runs allow personal data, some do not
  Draws draws = {};
  std::uint64_t heartbeats = 0;

  /// `details`: texts, numbers, events; they are put into words only where a rule is broken.
  template <class... Details>
  void expect(bool holds, const char* rule, const Details&... details) {
    if (holds || !broken.empty()) return;
    broken = std::string(rule) + (sizeof...(details) > 0 ? ":" : "");
    ((broken += ' ' + inWords(details)), ...);
  }
  /// Finer than a millisecond: what happens later is later.
  Ms moment() {
    if (now != lastNow_) lastNow_ = now, count_ = 0;
    return now * 1'000 + std::min<Ms>(++count_, 999);
  }
  bool clockSet() const { return wall >= clockSetMs; }

  // ---- the client's ----

  Ms nextSerial(const Run& run) {
    events_.push_back({});
    events_.back().allowed = run.allowsPersonal();
    events_.back().redacted = !run.allowsPersonal();
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
             now - run.lastCallAt, wall - run.lastCallWall);
    } else if (more > 0) {
      run.loose = true;
    }
    checkStats(run, stats);
    schedule(run, stats);
    run.wasEmpty = run.stats.queuedEvents == 0;
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
    if (jumps != jumpsBefore) run.lastCallWall = 0;  // before or after that, it cannot be told
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
  /// From within another call: it may have been the first event that waits.
  void calledInside(Run& run) {
    called(run);
    run.loose = true;
    run.latest = std::max({run.latest, now + 1'500, run.begunAt + run.options.reportIntervalMs});
  }

  /// What exportData() shows. `exact`: and nothing of anybody else's file.
  void audit(Run& run, const nucleus::Stats& stats, std::string_view exported, bool exact) {
    ++audits_;
    std::size_t count = 0;
    const std::size_t at = exported.find("\"events\":[");
    eachEvent(run, exported.substr(at + 10), exact, [&](Event* event) {
      if (event == nullptr) return;
      expect(event->seen != audits_, "no event is queued twice", event);
      event->seen = audits_;
      ++count;
      if (exact) take(run, *event);
    });
    if (exact) expect(count == stats.queuedEvents, "exportData() shows what stats() counts");
    settleMissing(run, stats, exact);
    if (exact && run.readsFile && std::exchange(run.staleWish, false)) leftErased(run);
    if (exact && run.readsFile) resolveLeft(run, stats);
    if (exact) checkPersonal(run);
    if (exact && run.readsFile) {
      initsMayReturn = run.damagesRead > 0;
      bytesDamaged = run.damagedBytesRead;
    }
    if (exact)
      run.audited = stats, run.auditedAt = now, run.unseenInits = 0,
      run.readsFile = run.loose = false;
  }

  // ---- requests ----

  Carried begin(Run& run, std::string_view body) {
    Carried carried;
    carried.run = run.number;
    carried.number = ++requests_;
    eachEvent(run, body.substr(9), true, [&](Event* event) {
      if (event == nullptr) return;
      if (event->where != Where::queued) take(run, *event);
      expect(event->where == Where::queued && event->run == run.number,
             "only what is queued is sent", *event);
      carried.events.push_back(event);
      checkOrder(*event);
    });
    expect(!carried.events.empty(), "a request carries something");
    expect(body.size() <= run.options.maxBatchBytes, "a request is not too large");
    checkMoment(run);
    carried.at = moment();
    run.request = carried;
    run.inFlight = true;
    run.begunAt = run.spokenAt = now;
    run.earliest = run.fileBarrierBy = run.draw.at = longAgo;
    run.inARow += 1;
    run.unbroken += 1;
    run.filings = 0;
    return carried;
  }
  /// What came back, as far as it counts: `names`, if the answer was good.
  void answered(Run& run, const Carried& carried, const std::vector<std::uint64_t>& names,
                int status, Ms retryAfterMs, bool current, bool received) {
    const Ms progress = acknowledge(run, carried, names);
    if (!current && progress > 0) run.progressedLately = false;  // the queue may end by this
    if (received) return receivedBy(run);
    if (!current) return;
    run.inFlight = false;
    ++answers;
    if (status >= 200 && status < 300 && progress > 0) return progressed(run);
    const bool alone = carried.events.size() == 1;
    if (status == 400 || status == 413 || status == 422) {
      if (alone && carried.events[0]->refusedAlone == 0) carried.events[0]->refusedAlone = answers;
      return halved(run, alone);
    }
    if (alone && status >= 500 && retryAfterMs <= 0) carried.events[0]->behind = true;
    failed(run);
    if (retryAfterMs > 0) toldToWait(run, std::min(retryAfterMs, dayMs));
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
    run.inARow = run.unbroken = 0;
    ++run.failuresLeast;
    const int failures = ++run.failuresMost;
    run.latest = now + longestPause(failures);
    if (run.failuresLeast != failures) return;
    const std::size_t row = failures > 9 ? 4 : failures > 4 ? 3 : failures > 1 ? 2 : 1;
    run.draw = {now, now + 1'000, run.latest, row};
  }
  /// The next request is smaller, and goes at once; but not if that has come to nothing so far.
  void halved(Run& run, bool alone) {
    const bool mayPause = alone || run.unbroken >= 12;
    if (mayPause) ++run.failuresMost;
    run.latest = now + (mayPause ? longestPause(run.failuresMost) : 0);
  }
  /// Nothing before that; then it comes within as much time again, ten minutes at most, and within
  /// a day of the answer. Whether it counts as a failure is not said.
  void toldToWait(Run& run, Ms waitMs) {
    --run.failuresLeast;
    run.mayWait = true;
    run.retryAt = now + waitMs;
    run.latest = run.retryAt + std::min({waitMs, dayMs - waitMs, longestPauseMs});
    run.draw = {now, run.retryAt, run.latest, 5};
    barrierUntil_ = std::max(barrierUntil_, run.retryAt);
    barrierUnsure_ = barrierUnsure_ || !clockSet();
  }
  /// It ended without all being named: the rest may have been a failure or not.
  void unanswered(Run& run) {
    for (Event* event : run.request.events) {  // some may have been named, the rest goes behind
      if (event->where == Where::acknowledged) lastProgress = answers + 1;
      event->behind = true;
    }
    answers += 1;
    run.inFlight = false;
    run.failuresLeast = 0;
    run.latest = now + std::max(longestPause(++run.failuresMost), run.options.reportIntervalMs);
  }
  void clockJumped() {
    ++jumps;
    barrierUnsure_ = barrierUnsure_ || barrierUntil_ != longAgo;
  }
  /// The host says that now would be a good time.
  void hurried(Run& run) {
    run.backoffUntil = run.earliest = run.draw.at = longAgo;
    run.inARow = 0;
  }
  /// The host cannot make one now: all of its memory for requests is still held.
  void postponed(Run& run) {
    run.latest = std::max(run.latest, now + 1'000);
    run.draw.at = longAgo;
    run.postponedAt = now;
  }
  /// The file was read, and may say that a server has asked to wait.
  void mayHaveToWait(Run& run) {
    const bool over = now >= barrierUntil_ && !barrierUnsure_ && clockSet();
    if (barrierUntil_ == longAgo || over) return;
    run.fileBarrierBy = now + dayMs;
    run.rested = false;  // the pause may be its own
  }
  void heartbeat(Run& run, const nucleus::Stats& stats, std::string_view body) {
    ++heartbeats;
    const auto session = static_cast<std::uint64_t>(numberBehind(body, "\"sessionId\":", 0));
    expect(run.webSocket(), "only a WebSocket has heartbeats");
    expect(body.substr(0, 19) == "{\"type\":\"heartbeat\"" && sessions_.count(session) == 1,
           "a heartbeat names the session", body);
    expect(!run.inFlight && stats.queuedEvents == 0, "a heartbeat comes when there is no more");
    expect(now - run.spokenAt >= 60'000, "a minute is between heartbeats", now - run.spokenAt);
    expect(!run.offline && now >= run.retryAt && now >= run.backoffUntil,
           "no heartbeat while the client is to be quiet");
    expect(now - run.lastCallAt < run.options.sessionTimeoutMs || run.loose,
           "a session that has timed out has no heartbeat", now - run.lastCallAt);
    run.spokenAt = now;
  }
  bool isOverdue(const Run& run) const {
    return run.inFlight && now >= run.begunAt + run.options.answerTimeoutMs;
  }
  /// A request that was not answered in time is over.
  void timeOut(Run& run, Ms at) {
    if (!run.inFlight || at < run.begunAt + run.options.answerTimeoutMs) return;
    run.inFlight = false;
    if (!run.webSocket()) return failed(run);
    unanswered(run);
  }

  // ---- the server's ----

  void received(const Carried& carried) {
    for (Event* event : carried.events) {
      Session& session = sessions_[event->session];
      if (event->isInit()) session.initReceived = true;
      // One that a good answer left unnamed, or a 5xx hit alone, goes behind the others.
      const bool behind = session.init != nullptr && session.init->behind;
      expect(session.initReceived || behind, "a session's init arrives before its other events",
             *event);
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
    run.audited = run.looked = stats;
    run.queued.clear();
    run.inFlight = false;
    run.asleep = run.rested = true;
    run.earliest = run.latest = run.backoffUntil = run.draw.at = longAgo;
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
  /// The file holds nothing of what was unsent. `others`: another client has just read it.
  void erasureDone(bool others) {
    for (Event& event : events_) {
      if (event.where == Where::left) gone(event, Where::erased);
      if (event.where == Where::erased && !others) event.durablyErased = true;
    }
  }

  // ---- the file ----

  /// The client's turn is over, and so everything older than cacheDelayMs is in the file.
  void polled(Run& run, Ms begunAt) {
    timeOut(run, begunAt);
    checkDue(run, begunAt);
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
    // What others have filed is synced with what this run files, its init at the latest.
    if (begunAt >= run.readAt + delay) run.polls.emplace_back(begunAt, run.filedUntil);
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
        event.before = event.where;
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
        expect(event.received, "what is acknowledged was received", event);
      }
      expect(event.where != Where::queued && !(event.where == Where::left && event.sure),
             "everything drains", event);
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
  static std::string inWords(std::string_view text) { return std::string(text.substr(0, 160)); }
  static std::string inWords(const Event& event) { return describe(event); }
  static std::string inWords(const Event* event) { return event ? describe(*event) : "none"; }
  template <class Number, std::enable_if_t<std::is_arithmetic<Number>::value, int> = 0>
  static std::string inWords(Number number) {
    return std::to_string(number);
  }

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
    // The file lacks that it had left; or lacks something, and others may need this one.
    const bool untold = (bytesDamaged || (event.isInit() && initsMayReturn)) &&
                        (event.where == Where::acknowledged || event.where == Where::dropped);
    // Another dropped it, or found it gone from the file, after this run had read it.
    const bool byAnother =
        event.where == Where::lost || (event.where == Where::dropped && event.run != run.number);
    const bool inMemory = byAnother && run.readAt != longAgo;
    expect(event.where == Where::left || unerased || untold || inMemory,
           "nothing comes back that had left", event);
    // Its session may have gone on without it.
    if (!event.sure || unerased || untold || dropsAtKill > 0) event.sent = true;
    // The file may say still that it has left.
    const bool kept = event.isInit() && event.before != Where::queued && initsMayReturn;
    if (untold || kept) event.acceptedAt = moment();
    enter(run, event);
    event.before = Where::queued;
    const bool known = event.dateMs >= 0 && clockSet() && event.dateMs <= wall;
    event.ageless = jumps != run.readJumps || run.readAt != now || event.isInit();
    event.bornAt = known ? now - (wall - event.dateMs) : now;
  }
  /// Calls `each` with every event of a JSON array, of which `text` is the rest. Most often it is
  /// the next of those that are known to be queued, in the same bytes.
  template <class Each>
  void eachEvent(Run& run, std::string_view text, bool ours, Each&& each) {
    std::vector<Event*> known;
    known.swap(run.queued);  // new ones may be added to it
    std::size_t next = 0;
    while (!text.empty() && text[0] != ']') {
      if (text[0] == '{') {
        Event* event = nextOf(known, next, text);
        const std::size_t size = event != nullptr ? event->text.size() : objectSize(text);
        if (event == nullptr) event = sight(run, text.substr(0, size), ours);
        each(event);
        text.remove_prefix(size);
      } else {
        text.remove_prefix(1);
      }
    }
    known.insert(known.end(), run.queued.begin(), run.queued.end());
    run.queued.swap(known);
  }
  static Event* nextOf(const std::vector<Event*>& known, std::size_t& next, std::string_view text) {
    for (std::size_t i = next; i < known.size() && i < next + 4; ++i) {
      const std::string& expected = known[i]->text;
      if (expected.empty() || text.compare(0, expected.size(), expected) != 0) continue;
      next = i + 1;
      return known[i];
    }
    return nullptr;
  }
  /// The event of that text. Its first sight gives its id.
  Event* sight(Run& run, std::string_view text, bool ours) {
    const auto id = static_cast<std::uint64_t>(numberBehind(text, "\"id\":", 0));
    const auto found = ids_.find(id);
    if (found != ids_.end()) {
      expect(found->second->text == text, "an id names one event, always in the same bytes", text);
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
    expect(false, "an event has one id, and was tracked", text);
    return nullptr;
  }
  void learn(Event& event, std::uint64_t id, std::string_view text) {
    event.id = id;
    event.text = text;
    event.session = static_cast<std::uint64_t>(numberBehind(text, "\"sessionId\":", 0));
    event.dateMs = numberBehind(text, "\"date\":");
    ids_[id] = &event;
    if (!event.redacted) return;
    const Ms user = numberBehind(text, "\"userId\":\"u");
    const bool theirs = user >= 0 && user < static_cast<Ms>(serials_.size()) &&
                        serials_[static_cast<std::size_t>(user)]->allowed;
    expect(!holds(text, "@"), "no personal data where it is not allowed", text);
    expect(!theirs, "a user id that was set while all was allowed is not used", text);
  }
  Event& newInit(Run& run, std::uint64_t id, std::string_view text) {
    expect(holds(text, "\"type\":\"init\""), "an event without a number is an init", text);
    events_.push_back({});
    Event& event = events_.back();
    expect(run.loose || run.readsFile || run.unseenInits > 0, "an init comes with a call", text);
    if (run.unseenInits > 0) --run.unseenInits;
    event.allowed = run.allowsPersonal() && !run.readsFile;  // else another run may have made it
    event.redacted = !run.allowsPersonal() && !run.readsFile;
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
           s.acknowledgedEvents, "for", run.acknowledged);
    expect(s.erasedEvents == run.erased, "stats() count what was erased", s.erasedEvents, "for",
           run.erased);
    expect(s.queuedBytes <= run.options.maxQueueBytes, "the queue keeps its bound");
    expect(s.cacheBytes <= 2 * run.options.maxQueueBytes + (64 << 10), "the file keeps its bound");
    expect(s.droppedDamaged <= run.damagesRead, "a damaged byte costs one record at most",
           s.droppedDamaged, "for", run.damagesRead);
    expect(s.droppedPersonalData == 0 || (mixed && !run.allowsPersonal()),
           "nothing personal was tracked");
    const Ms longest = run.mayWait ? dayMs : longestPauseMs;
    expect(s.nextRequestInMs <= longest, "no pause is longer than the longest", s.nextRequestInMs);
  }

  // ---- the law of pauses ----

  /// Whether something waits, and when it is to go.
  void schedule(Run& run, const nucleus::Stats& s) {
    const bool empty = s.queuedEvents == 0;
    const bool acknowledged = drops(s) == drops(run.stats);
    if (empty) {
      run.rested = run.rested || (run.progressedLately && acknowledged);
      run.asleep = true;
    } else if (run.asleep) {
      woken(run);
    }
    run.progressedLately = false;
    const Ms pause = s.nextRequestInMs;
    if (empty || run.inFlight || run.offline || !s.trackingEnabled) return;
    expect(pause >= 0, "what waits has a time to go");
    // It looks for a file that it may make, for a second; then the request goes without.
    const bool late = now + pause > run.latestBegin() && pause <= 1'000;
    const bool files = late && s.storage != nucleus::StorageState::ready;
    if (files && run.filings++ < 3) run.latest = std::max(run.latest, now + pause);
    expect(now + pause <= run.latestBegin() || pause == 0,
           "no pause is longer than the failures so far allow", pause, "ms after", run.failuresMost,
           "failures, and", run.latestBegin() - now, "are allowed");
    if (run.draw.at == now && now >= run.fileBarrierBy) drawn(run, now + pause);
    run.draw.at = longAgo;
  }
  static std::uint64_t drops(const nucleus::Stats& s) {
    return s.droppedQueueFull + s.droppedTooOld + s.droppedRefused + s.droppedPersonalData;
  }
  /// The first event that waits. Half a second to one and a half, or when the interval ends.
  void woken(Run& run) {
    const Ms from = run.callBegan / 1'000, interval = run.begunAt + run.options.reportIntervalMs;
    const Ms low = std::max(from + 500, interval);
    const Ms high = std::max({now + 1'500, interval, run.retryAt});
    const bool begun = run.begunAt * 1'000 + 999 >= run.callBegan;  // and was followed by a request
    if (run.rested && !begun) {
      run.earliest = now < run.fileBarrierBy ? longAgo : low;  // which has a pause of its own
      run.latest = high;
      if (from == now && interval <= from + 500) run.draw = {now, low, high, 0};
    } else {
      run.latest = std::max(run.latest, high);
    }
    run.asleep = run.rested = false;
  }
  void drawn(const Run& run, Ms moment) {
    const Ms low = run.draw.low, high = run.draw.high;
    const bool asked = run.draw.row != 5 && now < run.retryAt;
    if (asked || low == high || moment < low || moment > high) return;
    const Ms tenth = std::min<Ms>(9, (moment - low) * 10 / (high + 1 - low));
    ++draws[run.draw.row][static_cast<std::size_t>(tenth)];
  }
  /// After a turn of the client, which began then.
  void checkDue(const Run& run, Ms begunAt) {
    const nucleus::Stats& s = run.stats;
    const bool free = !run.inFlight && !run.offline && s.trackingEnabled && run.spokenAt < begunAt;
    if (free && !run.asleep && s.queuedEvents > 0) {
      expect(begunAt < run.latestBegin(), "a request goes when it is due",
             begunAt - run.latestBegin(), "ms late after", run.failuresMost, "failures");
    }
    if (!free || !run.webSocket() || s.queuedEvents > 0 || run.spokenAt == longAgo) return;
    const bool quiet = !run.wasEmpty || begunAt != now || begunAt < run.latestBegin() ||
                       begunAt < run.retryAt || run.loose ||
                       begunAt - run.lastCallFrom >= run.options.sessionTimeoutMs ||
                       run.clockJumped || drops(s) > 0;  // it may be its init
    expect(quiet || begunAt < std::max(run.spokenAt, run.postponedAt) + 61'000,
           "a heartbeat comes when it is due", begunAt - run.spokenAt);
  }
  /// Nothing that was tracked while all was allowed is kept when it is not.
  void checkPersonal(const Run& run) {
    if (!mixed || run.allowsPersonal()) return;
    for (const Event* event : run.queued) {
      expect(!event->allowed, "what was tracked while all was allowed is not kept", event);
    }
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
             "what is in a request is not dropped", *event);
      lastMissing_ = event;
      if (!isOld && !isRefused) lastNeither_ = event;
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
      expect(old <= run.old + unseen, "what is dropped as too old is", old, "for", run.old,
             lastMissing_);
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
           "nothing queued is too old", event);
  }

  /// The whole file was read: what did not come back was not in it.
  void resolveLeft(Run& run, const nucleus::Stats& stats) {
    const nucleus::Stats& before = run.audited;
    const std::uint64_t damaged = stats.droppedDamaged - before.droppedDamaged;
    const std::uint64_t drops = stats.droppedQueueFull + stats.droppedTooOld +
                                stats.droppedPersonalData - before.droppedQueueFull -
                                before.droppedTooOld - before.droppedPersonalData + damaged;
    std::uint64_t missing = 0;
    const Event* which = nullptr;
    for (Event& event : events_) {
      if (event.where != Where::left) continue;
      if (event.sure) ++missing, which = &event;
      const bool counted = event.sure || drops + dropsAtKill > 0;  // by this run, as dropped
      const bool had = event.before != Where::queued && !counted;
      if (had) event.where = event.before;  // the file says so, as long as it is synced
      else gone(event, counted ? Where::dropped : Where::lost);
      event.before = Where::queued;
      event.run = counted ? run.number : -1;
    }
    expect(missing <= drops + dropsAtKill,
           "what was in the file comes back, or is counted as dropped", which, "one of", missing,
           "with", drops, "+", dropsAtKill, "dropped,", stats.queuedEvents, "queued");
    dropsAtKill = 0;
  }

  // ---- of requests ----

  void checkOrder(Event& event) {
    Session& session = sessions_[event.session];
    Ms& last = session.lastSent;
    if (event.isInit()) session.init = &event;
    if (event.sent) return;
    event.sent = true;
    expect(session.init != nullptr, "a session's init is sent before its other events", event);
    expect(event.isInit() || event.serial >= last, "a session's order is kept", event, "behind",
           last);
    last = std::max(last, event.serial);
  }
  void checkMoment(Run& run) {
    timeOut(run, now);
    expect(!run.inFlight, "there is one request at a time");
    expect(!run.offline, "no request while the host says that there is no network");
    expect(now >= run.retryAt, "no request before Retry-After", run.retryAt - now, "ms early");
    expect(now >= run.backoffUntil, "a backoff lasts a second at least");
    expect(now >= run.earliest, "the first request is not too early", run.earliest - now);
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
      const bool anew = event.changedAt > carried.at;  // it was read again since
      if (event.where != Where::queued || event.run != run.number || anew) continue;
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
    run.inARow = run.unbroken = run.failuresLeast = run.failuresMost = 0;
    run.backoffUntil = run.draw.at = longAgo;
    run.latest = std::max(now + 1'500, run.begunAt + run.options.reportIntervalMs);
    run.progressedLately = true;
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
  const Event *lastNeither_ = nullptr, *lastMissing_ = nullptr;
  std::uint64_t requests_ = 0;
  Ms barrierUntil_ = longAgo;   // the last that any server has asked for
  bool barrierUnsure_ = false;  // how long it is in the file depends on the clock
};

}  // namespace simulation
