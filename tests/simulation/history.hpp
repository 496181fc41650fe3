// One seed, one history: calls, time and faults, and after every step both ledgers.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <thread>

#include "world.hpp"

namespace simulation {

class History;
class DiskStorage;

/// A process of the host with its client, until it is shut down, killed, or the power goes.
struct Process {
  Run run = {};
  std::shared_ptr<DiskStorage> storage = {};
  std::unique_ptr<nucleus::Client> client = {};
  Tally* memory = nullptr;
  std::uint64_t blocksAtStart = 0;
  Ms steadyFrom = 0;
  bool dead = false;  // what it still does has no effect
  bool tracking = false, erasurePending = false;
  bool replacing = false, halving = false;
  bool inCall = false, accepts = false;  // the call that runs is one that tracks
  bool mayUseFile = true;
  Ms troubleUntil = 0;  // of the disk, or of a lock
  bool inTrouble = false;
  std::thread elsewhere;  // another of its threads opts out
  bool elsewhereDurable = false, elsewhereReading = false;
  bool retryCarried = false;
  Ms retrySetAt = longAgo;
  std::uint64_t retryJumps = 0;

  bool starts = false;

  bool alive() const { return client != nullptr && !dead; }
  bool exists() const { return starts ? !dead : alive(); }
};

struct Answer {
  nucleus::Response response = {};
  std::vector<std::uint64_t> names = {};
  Ms retryAfterMs = 0;
};

/// A request that the host holds on to; its answer may be on the way.
struct Held {
  nucleus::Request request;
  Carried carried;
  Process* process;
  Ms dueAt;  // of the answer
  Answer answer;
  bool waits;  // for that answer
};

class DiskStorage : public nucleus::Storage {
 public:
  DiskStorage(History& history, Process& process, Disk& disk)
      : history_(history), process_(process), disk_(disk) {}
  nucleus::StorageState open() override;
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override;
  bool append(std::string_view text) override;
  bool beginReplace() override;
  bool write(std::string_view text) override;
  bool commitReplace() override;
  bool sync() override;
  bool erase() override;
  bool vanished() override { return !process_.dead && isOrphan(); }
  void close() override { release(); }
  void release() {
    if (disk_.holder == this) disk_.holder = nullptr;
    giveUp();
  }

 private:
  bool done(bool good, bool inSync = false);
  void giveUp() {
    if (disk_.twinHolder == this) disk_.twinHolder = nullptr;
  }
  bool isOrphan() const { return generation_ != disk_.generation; }
  /// It is ours and locked by us, or there is none.
  bool mayReplace() const { return !disk_.exists || (disk_.holder == this && !isOrphan()); }

  History& history_;
  Process& process_;
  Disk& disk_;
  std::string twin_ = {};
  int generation_ = 0;
  bool wholeRead_ = false;
  Ms readFrom_ = longAgo;
};

class ProcessClock : public nucleus::Clock {
 public:
  ProcessClock(const Ledger& world, Ms from) : world_(world), from_(from) {}
  std::int64_t wallMs() override { return world_.wall; }
  std::int64_t steadyMs() override { return world_.now - from_; }

 private:
  const Ledger& world_;
  const Ms from_;
};

struct Plan {
  std::uint64_t seed = 0;
  std::size_t steps = 200;
  std::set<std::size_t> skipped = {};  // by the shrinker
  bool traced = false;
};

class History {
 public:
  explicit History(const Plan& plan);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  Ledger ledger = {};
  Table table = {};
  std::array<std::uint64_t, faultCount> injected = {};
  std::uint64_t requests = 0, restarts = 0, kills = 0, polls = 0, calls = 0, audits = 0;
  std::uint64_t digest = 1469598103934665603u;
  std::vector<std::string> trace = {};
  std::size_t step = 0;

  bool run();
  bool fine() const { return ledger.broken.empty(); }
  std::size_t kinds() const {
    return static_cast<std::size_t>(
        std::count_if(injected.begin(), injected.end(), [](auto n) { return n > 0; }));
  }
  bool quiet() const { return quiet_; }
  void diskWorks(Process& process, const char* what);
  void diskFails(Process& process, bool inSync);
  void sized(const Process& process);

  template <class... Parts>
  void note(const char* what, const Parts&... parts) {
    if (std::this_thread::get_id() != home_) return;  // when it comes to it is not decided
    digest = (digest ^ static_cast<std::uint64_t>(ledger.now) ^ static_cast<unsigned char>(*what)) *
             1099511628211u;
    if (!plan_.traced) return;
    std::string line = std::to_string(step) + "\trun " + std::to_string(inRun_) + "\t" +
                       std::to_string(ledger.now - 1'000'000) + " ms\t" + what;
    ((line += ' ', line += text(parts)), ...);
    trace.push_back(line);
  }

 private:
  static std::string text(const std::string& part) { return part; }
  static std::string text(const char* part) { return part; }
  template <class Number>
  static std::string text(Number part) {
    return std::to_string(part);
  }

  // ---- processes ----
  void start(Process& process);
  nucleus::Options optionsOf(Process& process);
  void end(Process& process, bool killed, Ms until);
  void bury(Process& process);
  void kill(Process& process, bool power);
  void shutDown(Process& process);

  // ---- calls ----
  template <class Call>
  bool call(Process& process, Call&& action, bool loads = false, const bool& opens = never);
  bool finish(Process& process, Ms events, bool loads, bool opens);
  void track(Process& process);
  void poll(Process& process);
  void consent(Process& process);
  void optOut(Process& process, bool forgets);
  void optOutElsewhere(Process& process, bool forgets);
  void optedOut(Process& process, bool forgets, bool durably);
  void enable(Process& process);
  void checkErased(const Process& process, bool forgets);
  void checkPending(Process& process);
  void flush(Process& process);
  void persist(Process& process);
  void online(Process& process);
  void audit(Process& process);
  std::string exported(Process& process);
  void checkMemory(const Process& process);
  nucleus::Outcome make(Process& process, std::size_t kind, Ms serial, const std::string& name);
  bool isFiltered(const std::string& name) const;
  static std::size_t memoryBound(const nucleus::Options& options, std::size_t requests) {
    const std::size_t request = options.maxBatchBytes + options.maxBatchBytes / 8 + 1'024;
    return options.maxQueueBytes * 5 / 4 + 6 * options.maxEventBytes + options.maxBatchBytes +
           requests * request + (8 << 10);
  }

  // ---- the network ----
  nucleus::Response transport(Process& process, const nucleus::Request& request);
  nucleus::Response answerAtOnce(Process& process, Held& held);
  Fault chooseTrouble();
  Answer answer(Fault fault, const Carried& carried);
  Answer good(const Carried& carried, bool whole);
  bool deliver(Held& held, const Answer& answer);
  bool answerHeld(Fault fault);
  bool poisoned(const Carried& carried) const;
  void tellLedger(Held& held, const Answer& answer, bool received);

  // ---- faults ----
  bool inject(Fault fault);
  bool injectNetwork(Fault fault);
  bool injectDisk(Fault fault);
  bool injectClock(Fault fault);
  bool injectUser(Fault fault);
  void count(Fault fault);
  bool has(State state) const;
  void arm();

  // ---- time and steps ----
  void pass(Ms ms);
  void letGo();
  void stillHeld();
  void wait(Ms ms, Ms pace);
  void makeStep();
  void act(Process& process);
  void settle();
  void drain();
  Process& someone();
  Process& main() { return processes_[0]; }
  Process& second() { return processes_[1]; }

  static constexpr bool never = false;
  static constexpr char guard = '~';
  static constexpr std::size_t guardBytes = 32;

  const Plan plan_;
  std::deque<Tally> tallies_ = {};
  std::vector<std::unique_ptr<char[]>> memories_ = {};  // that the host gave
  bool filters_ = false;
  int allows_ = 0;  // personal data: never, always, by some runs
  const std::thread::id home_ = std::this_thread::get_id();
  Dice dice_, armedDice_{0};
  nucleus::Options options_ = {};
  Disk disk_ = {};
  Process processes_[2] = {};
  std::vector<Held> held_ = {};
  int runs_ = 0;
  int inRun_ = 0;  // whose call this is
  bool quiet_ = false;
  std::size_t armed_ = 0;  // operations until the fault; 0: none
  Fault armedFault_ = Fault::kill;
  Process* inDisk_ = nullptr;
  Process* inTransport_ = nullptr;
  bool erasing_ = false, reading_ = false, polling_ = false;
  std::atomic<bool> callOver_{true};
  Ms pollBegunAt_ = 0;
  Ms filedUntil_ = longAgo, syncedUntil_ = longAgo;  // of the file, by the runs that are over
  // The weather:
  Ms offlineUntil_ = 0, slowUntil_ = 0, badUntil_ = 0, diskMendsAt_ = 0;
  bool losesNext_ = false, throwsNext_ = false, poison_ = false, draining_ = false;
  bool stuck_ = false;
  Fault stuckFault_ = Fault::refused4xx;
  std::size_t serverLimit_ = SIZE_MAX;
  Ms wallOffset_ = 0;  // LONG_AGO: not set
  bool clockUnset_ = false;
  Ms retryAt_ = longAgo;  // that the file tells the next run
  Ms retrySetAt_ = longAgo;
  std::uint64_t retryJumps_ = 0;
};

// ---- the storage ----

inline bool DiskStorage::done(bool good, bool inSync) {
  if (!good && !process_.dead) history_.diskFails(process_, inSync);
  return good && !process_.dead;
}
inline nucleus::StorageState DiskStorage::open() {
  const Inside host(nullptr);
  history_.diskWorks(process_, "open");
  if (process_.dead) return nucleus::StorageState::failed;
  generation_ = disk_.generation;
  if (!history_.quiet()) wholeRead_ = false;
  if (!disk_.exists) return nucleus::StorageState::absent;
  if (disk_.holder != nullptr && disk_.holder != this) return nucleus::StorageState::locked;
  disk_.holder = this;
  return nucleus::StorageState::ready;
}
inline std::size_t DiskStorage::read(std::size_t at, char* to, std::size_t bytes) {
  const Inside host(nullptr);
  if (at == 0) readFrom_ = history_.ledger.now;
  history_.diskWorks(process_, "read");
  if (process_.dead) return SIZE_MAX;
  const std::size_t got =
      at < disk_.file.size() && !isOrphan() ? disk_.file.copy(to, bytes, at) : 0;
  const bool whole = got < bytes && !history_.quiet();
  if (whole) history_.ledger.mayHaveToWait(process_.run);
  if (whole && !std::exchange(wholeRead_, true)) process_.run.damagesRead += disk_.damages;
  if (whole && disk_.damages > 0) history_.ledger.initsMayReturn = true;
  if (whole && disk_.holder == this) {
    process_.run.readsFile = true;
    process_.run.readAt = readFrom_;
    process_.run.readJumps = history_.ledger.jumpsBefore;
    process_.run.damagedBytesRead = disk_.byteDamaged;
    history_.ledger.bytesDamaged = history_.ledger.bytesDamaged || disk_.byteDamaged;
  }
  return got;
}
inline bool DiskStorage::append(std::string_view text) {
  const Inside host(nullptr);
  history_.diskWorks(process_, "append");
  if (process_.dead) return false;
  if (isOrphan()) return true;  // into what has no name any more
  if (disk_.full) return done(false);
  if (disk_.tears) text = text.substr(0, text.size() / 2), ++disk_.damages;
  disk_.file += text;
  history_.sized(process_);
  return done(!disk_.tears);
}
inline bool DiskStorage::beginReplace() {
  const Inside host(nullptr);
  process_.replacing = !process_.dead;
  twin_.clear();
  history_.diskWorks(process_, "begin");
  const bool theirs = disk_.holder != nullptr && disk_.holder != this;
  const bool busy = disk_.twinHolder != nullptr && disk_.twinHolder != this;
  process_.replacing = done(!disk_.readOnly && !theirs && !busy);
  if (process_.replacing) disk_.twinHolder = this;
  return process_.replacing;
}
inline bool DiskStorage::write(std::string_view text) {
  const Inside host(nullptr);
  history_.diskWorks(process_, "write");
  if (disk_.full || process_.dead) process_.replacing = false;
  if (!process_.replacing) giveUp();
  twin_ += text;
  return done(!disk_.full);
}
inline bool DiskStorage::commitReplace() {
  const Inside host(nullptr);
  history_.diskWorks(process_, "commit");
  process_.replacing = false;
  giveUp();
  if (process_.dead || !done(!disk_.renameFails && mayReplace())) return false;
  disk_.replace(std::move(twin_));
  generation_ = disk_.generation;
  disk_.holder = this;
  process_.run.fileGone = false;
  history_.sized(process_);
  return true;
}
inline bool DiskStorage::sync() {
  const Inside host(nullptr);
  history_.diskWorks(process_, "sync");
  if (process_.dead || isOrphan()) return !process_.dead;
  if (!disk_.syncFails) disk_.durable = disk_.file.size();
  return done(!disk_.syncFails, true);
}
inline bool DiskStorage::erase() {
  const Inside host(nullptr);
  history_.diskWorks(process_, "erase");
  if (process_.dead || !done(!disk_.readOnly && mayReplace())) return false;
  disk_.remove();
  generation_ = disk_.generation;
  process_.run.fileGone = false;
  return true;
}

// ---- what the storage tells ----

inline void History::diskWorks(Process& process, const char* what) {
  const bool elsewhere = std::this_thread::get_id() != home_;
  while (elsewhere && !callOver_) std::this_thread::yield();  // in the same order each time
  if (process.dead) return;
  if (!quiet_) note("  disk", what);
  if (!quiet_) ledger.expect(process.mayUseFile, "the file is not used while tracking is disabled");
  ledger.expect(options_.offlineCache, "there is no file where there is to be none");
  if (quiet_ || armed_ == 0 || --armed_ != 0) return;
  std::swap(armedDice_, dice_);
  inDisk_ = &process;
  reading_ = *what == 'r' || *what == 'o';
  inject(armedFault_);
  inDisk_ = nullptr;
  std::swap(armedDice_, dice_);
}
inline void History::diskFails(Process& process, bool inSync) {
  if (quiet_) return;
  process.run.operationFailed = true;
  if (disk_.syncFails) process.run.syncTroubleAt = ledger.now;
  if (!inSync) process.run.fileGone = true;
}
inline void History::sized(const Process& process) {
  ledger.expect(disk_.file.size() <= 2 * process.run.options.maxQueueBytes + (64 << 10),
                "the file keeps its bound", disk_.file.size());
}

// ---- processes ----

inline std::uint64_t dropped(const nucleus::Stats& s) {
  return s.droppedQueueFull + s.droppedTooOld + s.droppedRefused + s.droppedPersonalData;
}
inline History::History(const Plan& plan)
    : plan_(plan), dice_(plan.seed * 0x2545F4914F6CDD1Du + 1) {
  ledger.now = 1'000'000;
  wallOffset_ = 1'790'000'000'000 + dice_.between(0, 1'000'000'000);
  ledger.wall = ledger.now + wallOffset_;
  options_.appId = "simulated";
  options_.background = options_.respectDoNotTrack = false;
  options_.cacheDelayMs = dice_.of<Ms>({0, 200, 1'000, 1'000, 5'000});
  options_.reportIntervalMs = dice_.of<Ms>({1'000, 5'000, 20'000});
  options_.sessionTimeoutMs = dice_.of<Ms>({60'000, 1'800'000});
  options_.cutoffMs = dice_.of<Ms>({600'000, 14'400'000, 172'800'000});
  options_.answerTimeoutMs = dice_.of<Ms>({3'000, 60'000});
  options_.maxEventBytes = dice_.of<std::size_t>({1'024, 2'048});
  options_.maxQueueBytes = dice_.of<std::size_t>({4'096, 8'192, 16'384, 65'536});
  options_.maxBatchBytes = dice_.of<std::size_t>({2'064, 4'096, 8'192});
  options_.rememberTrackingChoice = dice_.one(3);
  options_.disableTracking = dice_.one(10);
  if (dice_.one(5)) options_.endpoint = "wss://app.nucleus.sh";
  options_.offlineCache = plan.seed % 32 != 0;
  filters_ = dice_.one(3);
  allows_ = dice_.of({0, 0, 0, 1, 2});
  ledger.mixed = allows_ == 2;
  if (dice_.one(3)) {
    const std::size_t ample = 2 * options_.maxQueueBytes + 4 * options_.maxBatchBytes + (64 << 10);
    options_.memory.bytes = dice_.one(2) ? ample : ample / 2;  // the limits are lowered, or not
  }
}
inline History::~History() {
  for (Process& process : processes_) {
    if (process.elsewhere.joinable()) process.elsewhere.join();
    process.dead = true;
  }
  held_.clear();
}
inline bool History::isFiltered(const std::string& name) const {
  return filters_ && (name == "E7" || name == "E8");
}
inline nucleus::Options History::optionsOf(Process& process) {
  nucleus::Options options = options_;
  if (allows_ == 1 || (allows_ == 2 && dice_.one(2)))
    options.personalData = nucleus::PersonalData::allow;
  if (options.memory.bytes > 0) {
    memories_.emplace_back(new char[options.memory.bytes + guardBytes]);
    options.memory.data = memories_.back().get();
    std::memset(memories_.back().get() + options.memory.bytes, guard, guardBytes);
  }
  if (filters_) {
    options.filter = [this](nucleus::Text, nucleus::Text name, nucleus::Properties) {
      const Inside host(nullptr);
      const std::string text(name);
      if (text == "E8") throw 1;  // which is a no
      return !isFiltered(text);
    };
  }
  options.storage = process.storage;
  options.clock = std::make_shared<ProcessClock>(ledger, process.steadyFrom);
  options.entropy = [dice = std::make_shared<Dice>(dice_.next())](void* to, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      static_cast<char*>(to)[i] = static_cast<char>(dice->next());
    return true;
  };
  options.transport = [this, &process](const nucleus::Request& request) {
    const Inside host(nullptr);
    return transport(process, request);
  };
  options.onDiagnostic = [this, &process](const nucleus::Diagnostic& diagnostic) {
    const Inside host(nullptr);
    if (process.dead) return;
    note("  says", std::string(diagnostic.code));
    if (dice_.one(16)) track(process);
    if (dice_.one(64)) throw 1;
  };
  return options;
}
inline void History::start(Process& process) {
  process = Process();
  process.run.number = ++runs_;
  process.steadyFrom = ledger.now - dice_.between(0, 1'000'000);
  process.storage = std::make_shared<DiskStorage>(*this, process, disk_);
  process.run.options = optionsOf(process);
  inRun_ = process.run.number;
  note("start", process.run.number);
  process.mayUseFile = !options_.disableTracking || options_.rememberTrackingChoice;
  process.inCall = process.accepts = process.starts = true;
  ledger.jumpsBefore = ledger.jumps;
  ledger.calls(process.run);
  process.run.callBegan = process.run.callMoment;
  tallies_.emplace_back();
  process.memory = process.run.memory = &tallies_.back();
  {
    const Inside client(process.memory);
    process.client = std::make_unique<nucleus::Client>(process.run.options);
  }
  process.blocksAtStart = process.memory->blocks;
  process.inCall = process.accepts = process.starts = false;
  ++restarts;
  if (process.dead) {
    ledger.dropsAtKill += dropped(process.client->stats()) + process.client->stats().droppedDamaged;
    return bury(process);
  }
  const bool told = retryAt_ != longAgo && retryJumps_ == ledger.jumps && !ledger.bytesDamaged;
  if (process.run.readsFile && told) {
    process.run.retryAt = retryAt_;
    process.retrySetAt = retrySetAt_;
    process.retryJumps = ledger.jumps;
  }
  retryAt_ = longAgo;
  process.run.mayWait = true;
  if (process.run.readsFile && !process.run.fileGone) {
    process.run.filedUntil = filedUntil_;
    process.run.syncedUntil = syncedUntil_;
  }
  if (!finish(process, 0, true, true)) return;
  if (options_.cacheDelayMs == 0) ledger.filed(process.run, process.run.callMoment);
}
/// Its client is gone; what the ledger makes of it is known already.
inline void History::bury(Process& process) {
  if (process.elsewhere.joinable()) process.elsewhere.join();
  process.dead = true;
  const Inside client(process.memory);
  process.client.reset();
}
inline void History::end(Process& process, bool killed, Ms until) {
  const Run& run = process.run;
  const bool barrier = run.retryAt > ledger.now && process.retrySetAt <= until;
  if (barrier)
    retryAt_ = run.retryAt, retryJumps_ = process.retryJumps, retrySetAt_ = process.retrySetAt;
  ledger.ended(process.run, until, process.erasurePending);
  filedUntil_ = std::max(filedUntil_, until);
  // What it had before it got the file is as old, but not as long in it.
  if (run.filedUntil != longAgo) syncedUntil_ = std::min(until, run.syncedUntil);
  if (!killed || process.client == nullptr) return;
  const nucleus::Stats last = process.client->stats();
  ledger.dropsAtKill += dropped(last) - dropped(run.audited);
  if (run.readsFile) ledger.dropsAtKill += last.droppedDamaged - run.audited.droppedDamaged;
}
inline void History::kill(Process& process, bool power) {
  note("  KILLED", process.run.number, power ? "by a power cut" : "");
  end(process, true, power ? process.run.syncedUntil : process.run.filedUntil);
  process.dead = true;
  process.storage->release();
  ++kills;
  if (!process.inCall) bury(process);
}
inline void History::shutDown(Process& process) {
  note("shutdown");
  const Ms timeout = dice_.of<Ms>({0, 250});
  bool safe = false;
  process.run.operationFailed = false;
  ledger.jumpsBefore = ledger.jumps;
  process.inCall = true;
  inRun_ = process.run.number;
  ledger.calls(process.run);
  if (timeout > 0) ledger.hurried(process.run);
  {
    const Inside client(process.memory);
    safe = process.client->shutdown(timeout);
  }
  process.inCall = false;
  if (process.dead) return bury(process);
  const bool tracked = process.tracking;
  process.run.stats = process.client->stats();
  const std::uint64_t erased = process.run.stats.erasedEvents - process.run.erased;
  if (tracked && erased > 0) {  // the file says that the user has refused since
    ledger.expect(options_.rememberTrackingChoice, "nobody opts out but the user");
    ledger.erased(process.run, process.run.stats, erased);
  }
  if (safe && tracked && !process.run.fileGone &&
      process.run.stats.storage == nucleus::StorageState::ready) {
    process.run.filedUntil = process.run.callMoment;
    if (!process.run.operationFailed) process.run.syncedUntil = process.run.filedUntil;
  }
  const bool stale = process.run.staleWish && process.run.readsFile;
  if (stale || (process.erasurePending && !holds(disk_.file, "\"sessionId\":")))
    ledger.leftErased(process.run);
  note("  safe", safe, "queued", process.run.stats.queuedEvents, "storage",
       static_cast<int>(process.run.stats.storage), process.run.fileGone);
  const bool known = dropped(process.run.stats) == dropped(process.run.audited);
  ledger.expect(!tracked || !known || process.run.webSocket() ||
                    process.run.stats.acknowledgedEvents == process.run.acknowledged,
                "stats() count what was acknowledged, also in the end");
  end(process, true, process.run.filedUntil);
  bury(process);
}

// ---- calls ----

template <class Call>
bool History::call(Process& process, Call&& action, bool loads, const bool& opens) {
  ++calls;
  const bool nested = process.inCall;
  if (!nested) {
    process.run.operationFailed = process.run.progressedLately = false;
    ledger.jumpsBefore = ledger.jumps;
    process.memory->most = process.memory->bytes.load();
    stillHeld();
  }
  process.inCall = true;
  ledger.calls(process.run);
  if (!nested) inRun_ = process.run.number, process.run.callBegan = process.run.callMoment;
  Ms events = 0;
  {
    const Inside client(process.memory);
    events = action(*process.client);
  }
  process.inCall = nested;
  if (nested) {
    if (events > 0 || opens) ledger.calledInside(process.run);
    return !process.dead;
  }
  callOver_ = true;
  if (process.elsewhere.joinable()) {
    process.elsewhere.join();
    if (process.elsewhereReading || process.run.readsFile)
      process.run.erased = process.client->stats().erasedEvents;
    if (!process.dead) optedOut(process, false, process.elsewhereDurable);
  }
  if (process.dead) return bury(process), false;
  return finish(process, events, loads, opens);
}
inline bool History::finish(Process& process, Ms events, bool loads, bool opens) {
  const bool was = process.tracking;
  const nucleus::Stats stats = process.client->stats();
  process.tracking = process.client->trackingEnabled();
  process.mayUseFile = process.tracking || process.erasurePending;
  // The file says that the user has refused since, or says it while tracking is enabled.
  if (!process.tracking && (was || stats.erasedEvents > process.run.erased)) {
    ledger.expect(options_.rememberTrackingChoice, "nobody opts out but the user");
    ledger.erased(process.run, stats, stats.erasedEvents - process.run.erased);
    process.erasurePending = process.mayUseFile = true;
  }
  ledger.expect(stats.trackingEnabled == process.tracking, "stats() tell whether tracking is on");
  if (polling_) ledger.timeOut(process.run, pollBegunAt_);
  ledger.counted(process.run, stats, events, loads || process.run.readsFile, opens);
  checkMemory(process);
  if (events > 0) ledger.called(process.run);
  if (opens) ledger.opened(process.run, process.run.callAt);
  if (process.run.readsFile || dropped(stats) != dropped(process.run.looked)) audit(process);
  digest = (digest ^ stats.acceptedEvents ^ stats.queuedBytes << 8 ^ stats.cacheBytes << 24) *
           1099511628211u;
  return true;
}
/// What a client may have for itself: its queue and what goes with it, and what the host holds.
inline void History::checkMemory(const Process& process) {
  const Tally& memory = *process.memory;
  const nucleus::Options& options = process.run.options;
  if (options.memory.bytes > 0) {
    ledger.expect(memory.blocks == process.blocksAtStart,
                  "nothing is allocated where the host gave the memory",
                  memory.blocks - process.blocksAtStart);
    const char* const end = static_cast<const char*>(options.memory.data) + options.memory.bytes;
    for (std::size_t i = 0; i < guardBytes; ++i)
      ledger.expect(end[i] == guard, "no more than the host's memory is used");
    return;
  }
  std::size_t requests = 2;
  for (const Held& held : held_) requests += held.process == &process;
  ledger.expect(memory.most <= memoryBound(options, requests), "memory keeps its bound",
                memory.most.load(), "of", memoryBound(options, requests), "with", requests,
                "requests");
}
inline nucleus::Outcome History::make(Process& process, std::size_t kind, Ms serial,
                                      const std::string& name) {
  nucleus::Client& client = *process.client;
  const std::string filler(dice_.below(dice_.one(20) ? 1'500 : 120), 'x');
  const std::string number = std::to_string(serial);
  const std::string mail = serial % 5 == 0 ? "ann@example.com" : filler;
  const Inside inside(process.memory);
  switch (kind) {
    case 4: return client.trackError(name, "n" + number, filler);
    case 5: return client.setUserId("u" + number);
    case 6: return client.setProps({{"n", serial}});
    case 3: return client.page(name, {{"n", serial}});
    default: return client.track(name, {{"n", serial}, {"filler", mail}});
  }
}
inline void History::track(Process& process) {
  if (!process.alive() || process.accepts) return;
  if (inDisk_ != nullptr && (options_.cacheDelayMs == 0 || !process.inCall)) return;
  const Ms serial = ledger.nextSerial(process.run);
  const std::size_t kind = dice_.below(inDisk_ != nullptr ? 4 : 7);
  const std::string name = "E" + std::to_string(dice_.below(20));
  const bool urgent = kind == 4 || options_.cacheDelayMs == 0;
  const bool nested = process.inCall, enabled = process.client->trackingEnabled();
  nucleus::Outcome outcome = nucleus::Outcome::shutDown;
  process.accepts = true;
  const bool filtered = isFiltered(name) && kind != 5 && kind != 6;
  const bool lives = call(process, [&](nucleus::Client&) -> Ms {
    const Inside host(nullptr);
    outcome = make(process, kind, serial, name);
    const bool ok = outcome == nucleus::Outcome::ok;
    if (filtered || outcome == nucleus::Outcome::filtered) {
      ledger.expect(!ok && filtered, "what the filter refuses, and nothing else, is not tracked");
    }
    if (process.dead) return ledger.perhaps(serial), 0;
    const bool told = process.run.readsFile && options_.rememberTrackingChoice;  // by the file
    ledger.expect(ok ? enabled : !enabled || told || outcome != nucleus::Outcome::trackingDisabled,
                  "tracked is what is tracked while it is enabled");
    if (ok) ledger.accepted(process.run, serial);
    if (ok && kind == 4) process.run.errorAt = process.run.callMoment;
    return ok ? 1 : 0;
  });
  process.accepts = false;
  note("track", serial, "kind", kind, "outcome", static_cast<int>(outcome));
  if (lives && !nested && urgent && outcome == nucleus::Outcome::ok) {
    ledger.filed(process.run, process.run.callMoment);
  }
}
inline void History::poll(Process& process) {
  if (!process.alive()) return;
  ++polls;
  const Ms begunAt = ledger.now;
  polling_ = true;
  pollBegunAt_ = begunAt;
  const bool lives = call(
      process,
      [](nucleus::Client& client) -> Ms {
        client.poll();
        return 0;
      },
      true);
  polling_ = false;
  if (!lives) return;
  ledger.polled(process.run, begunAt);
  checkPending(process);
}
inline void History::flush(Process& process) {
  note("flush");
  ledger.hurried(process.run);
  const Ms timeout = dice_.of<Ms>({0, 1'000});
  call(
      process,
      [&](nucleus::Client& client) -> Ms {
        client.flush(timeout);
        return 0;
      },
      true);
}
inline void History::persist(Process& process) {
  bool done = false;
  const Ms begunAt = ledger.now;
  const bool tracked = process.tracking;
  const bool lives = call(
      process,
      [&](nucleus::Client& client) -> Ms {
        done = client.persist();
        return 0;
      },
      true);
  note("persist", done);
  ledger.expect(!done || !lives || tracked, "nothing is persisted without consent");
  if (!lives || !done || begunAt != ledger.now) return;
  process.run.operationFailed = false;  // it says that all is well
  ledger.synced(process.run);
}
inline void History::online(Process& process) {
  const bool connected = process.run.offline;
  note("online", connected);
  process.run.offline = !connected;
  if (connected) ledger.hurried(process.run);
  if (!connected && process.run.webSocket() && process.run.inFlight) ledger.unanswered(process.run);
  call(process, [&](nucleus::Client& client) -> Ms {
    client.online(connected);
    return 0;
  });
}
/// What it shows takes memory as long as it is shown.
inline std::string History::exported(Process& process) {
  Tally& memory = *process.memory;
  const std::uint64_t blocks = memory.blocks;
  const std::size_t most = memory.most;
  std::string copy;
  {
    const Inside client(process.memory);
    const std::string text = process.client->exportData();
    const Inside host(nullptr);
    copy = std::string(text);
  }
  process.blocksAtStart += memory.blocks - blocks;
  memory.most = most;
  return copy;
}
inline void History::audit(Process& process) {
  if (!process.alive() || !process.tracking || !fine()) return;
  ++audits;
  quiet_ = true;
  const std::string held = exported(process);
  quiet_ = false;
  const nucleus::Stats stats = process.client->stats();
  const bool ready = stats.storage == nucleus::StorageState::ready;
  process.run.looked = stats;
  ledger.audit(process.run, stats, held, ready || !disk_.exists);
}

// ---- consent ----

inline void History::consent(Process& process) {
  if (process.client->trackingEnabled()) optOut(process, false);
  else enable(process);
}
inline void History::optOut(Process& process, bool forgets) {
  bool durably = false;
  const bool wasErasing = std::exchange(erasing_, true);
  process.mayUseFile = true;
  note(forgets ? "forget" : "disable");
  const bool lives = call(
      process,
      [&](nucleus::Client& client) -> Ms {
        const Inside host(nullptr);
        ledger.erased(process.run, client.stats(), client.stats().queuedEvents);
        process.erasurePending = true;
        const Inside inside(process.memory);
        durably = forgets ? client.forget() : client.disableTracking();
        process.tracking = false;
        return 0;
      },
      true);
  erasing_ = wasErasing;
  if (lives) optedOut(process, forgets, durably);
}
/// Another thread of the host does it while this one is at the file, which it has to wait for.
inline void History::optOutElsewhere(Process& process, bool forgets) {
  nucleus::Client& client = *process.client;
  note(forgets ? "forget elsewhere" : "disable elsewhere");
  ledger.erased(process.run, client.stats(), client.stats().queuedEvents);
  process.erasurePending = true;
  process.elsewhereReading = reading_;
  callOver_ = false;
  process.elsewhere = std::thread([&process, &client, forgets] {
    const Inside inside(process.memory);
    process.elsewhereDurable = forgets ? client.forget() : client.disableTracking();
  });
  while (client.trackingEnabled()) std::this_thread::yield();
}
inline void History::optedOut(Process& process, bool forgets, bool durably) {
  note("  durably", durably);
  process.tracking = false;
  retryAt_ = longAgo;
  process.retrySetAt = INT64_MAX;
  process.erasurePending = !durably;
  process.mayUseFile = !durably;
  process.troubleUntil = ledger.now;
  for (const Held& held : held_) {
    if (held.process == &process && held.carried.run == process.run.number) {
      ledger.expect(held.request.cancelled(), "what was handed over before is cancelled");
    }
  }
  if (!durably) return;
  checkErased(process, forgets);
  const Process& other = &process == &main() ? second() : main();
  ledger.erasureDone(other.alive() && other.run.readsFile);
}
inline void History::checkErased(const Process&, bool forgets) {
  for (const char* word : {"\"sessionId\":", "\"userId\":", "\"props\":"}) {
    ledger.expect(!holds(disk_.file, word), "what was unsent is erased", word);
  }
  if (!forgets) return;
  ledger.expect(!holds(disk_.file, "\"deviceId\":"), "after forget() there are no ids");
  ledger.expect(disk_.exists == false || options_.rememberTrackingChoice,
                "after forget() there is no file");
}
/// An erasure that failed is tried again at every turn.
inline void History::checkPending(Process& process) {
  if (!process.erasurePending || process.tracking) return;
  const bool locked = disk_.holder != nullptr && disk_.holder != process.storage.get();
  const bool trouble = disk_.troubled() || locked;
  if (trouble || process.inTrouble) process.troubleUntil = ledger.now;  // or until just now
  process.inTrouble = trouble;
  if (!holds(disk_.file, "\"sessionId\":")) optOut(process, false);
  else
    ledger.expect(ledger.now <= process.troubleUntil + 2'000,
                  "an erasure is tried again until it is done");
}
inline void History::enable(Process& process) {
  note("enable");
  if (process.erasurePending) ledger.erased(process.run, process.client->stats(), 0);
  process.mayUseFile = true;
  process.run.staleWish = process.erasurePending;
  process.run.readsFile = false;  // what was read to be erased
  call(
      process,
      [&](nucleus::Client& client) -> Ms {
        process.accepts = true;
        client.enableTracking();
        process.accepts = false;
        return 0;
      },
      true, true);
  if (!process.alive()) return;
  const bool ready = process.run.stats.storage == nucleus::StorageState::ready;
  process.run.staleWish = process.erasurePending && process.tracking && !ready;
  process.erasurePending = process.erasurePending && !process.tracking;
  if (options_.cacheDelayMs == 0) ledger.filed(process.run, process.run.callMoment);
}

// ---- the network ----

inline bool History::poisoned(const Carried& carried) const {
  if (!poison_ || draining_) return false;
  for (const Event* event : carried.events) {
    if (event->serial % 17 == 3) return true;
  }
  return false;
}
inline Answer History::good(const Carried& carried, bool whole) {
  Answer answer;
  answer.response.status = dice_.of({200, 200, 201});
  const bool old = whole && !main().run.webSocket() && dice_.one(8);
  const bool texts = dice_.one(8);
  std::string& body = answer.response.body = old ? "{\"confirmation\":true" : "{\"reportedIds\":[";
  for (const Event* event : carried.events) {
    if (!whole && dice_.one(2) && !answer.names.empty()) continue;
    answer.names.push_back(event->id);
    if (old) continue;
    if (answer.names.size() > 1) body += ',';
    body += texts ? '"' + std::to_string(event->id) + '"' : std::to_string(event->id);
  }
  if (!old) body += ']';
  if (dice_.one(40)) body += ",\"anonId\":\"A" + std::to_string(dice_.below(10)) + "\"";
  if (dice_.one(40)) body += ",\"customData\":{\"a\":[1,2]},\"latestVersion\":\"9.0\"";
  body += '}';
  return answer;
}
inline Answer History::answer(Fault fault, const Carried& carried) {
  Answer answer;
  nucleus::Response& response = answer.response;
  response.status = 200;
  switch (fault) {
    case Fault::answerPartial: {
      answer = good(carried, true);
      response.body.resize(dice_.below(response.body.size()));
      answer.names.clear();
      return answer;
    }
    case Fault::answerGarbage:
      response.body =
          dice_.of({"", "{}", "[]", "null", "{\"reportedIds\":7}", "\xff\xfe{", "{\"a\":"});
      return answer;
    case Fault::answerOfOthers:
      response.body = "{\"reportedIds\":[1,2,3," +
                      std::to_string(main().run.webSocket() ? 4 : ledger.otherId(carried)) + "]}";
      return answer;
    case Fault::captivePortal: response.body = "<html>Please log in: [1,2]</html>"; return answer;
    case Fault::tooLarge413: response.status = 413; return answer;
    case Fault::refused4xx: response.status = dice_.of({400, 422}); return answer;
    case Fault::tooMany:
      response.status = dice_.of({429, 503});
      answer.retryAfterMs = 1'000 * dice_.of<Ms>({1, 30, 300, 3'600, 90'000});
      response.retryAfter = std::to_string(answer.retryAfterMs / 1'000);
      return answer;
    case Fault::server5xx: response.status = dice_.of({500, 502, 503, 504}); return answer;
    case Fault::otherStatus:
      response.status = dice_.of({204, 301, 302, 401, 403, 404, 418});
      return answer;
    default: return good(carried, fault != Fault::answerLate || !dice_.one(4));
  }
}
inline void History::tellLedger(Held& held, const Answer& answer, bool received) {
  Process& process = *held.process;
  Run& run = process.run;
  if (run.number != held.carried.run || process.dead) return;
  const bool current = ledger.isCurrent(run, held.carried);
  const int status = answer.response.status;
  const bool big = held.carried.events.size() > 1;
  if (current && big && (status == 400 || status == 413 || status == 422)) process.halving = true;
  if (current && answer.names.size() == held.carried.events.size()) process.halving = false;
  if (current && answer.retryAfterMs > 0)
    process.retrySetAt = ledger.moment(), process.retryJumps = ledger.jumps;
  ledger.answered(run, held.carried, answer.names, status, answer.retryAfterMs, current, received);
}
/// By reply(), or as a message of the WebSocket.
inline bool History::deliver(Held& held, const Answer& answer) {
  Process& process = *held.process;
  const bool lives = process.alive() && process.run.number == held.carried.run;
  const bool message = lives && process.run.webSocket() && answer.response.status / 100 == 2;
  const bool counts =
      lives && (message ? process.client->trackingEnabled() : !held.request.cancelled());
  note("  answer", held.carried.number, answer.response.status, "names", answer.names.size());
  if (counts) tellLedger(held, answer, message);
  if (counts && options_.memory.bytes > 0) ledger.postponed(process.run);  // it is still held
  const std::string body = answer.response.body;
  nucleus::Response response = answer.response;
  {
    const Inside client(process.memory);
    if (message) process.client->receive(body);
    else held.request.reply(std::move(response));
  }
  if (lives && process.client->stats().queuedEvents == 0) process.run.asleep = true;
  process.run.polledNow = false;
  return true;
}
inline bool History::answerHeld(Fault fault) {
  std::vector<Held*> possible;
  for (const Process& p : processes_) {  // what is dropped must be known first
    if (p.alive() && dropped(p.client->stats()) != dropped(p.run.looked)) return false;
  }
  for (Held& held : held_) {
    const bool current = ledger.isCurrent(held.process->run, held.carried);
    if (held.process->alive() &&
        current == (fault != Fault::answerLate && possible.empty() && current))
      possible.push_back(&held);
  }
  if (possible.empty()) return false;
  // The file may just have said that the user has refused: then an answer changes nothing.
  if (inDisk_ != nullptr && inDisk_->run.readsFile && options_.rememberTrackingChoice) return false;
  Held& chosen = *possible[dice_.below(possible.size())];
  // Whether the turn that runs has given the request up already could not be told.
  if (inDisk_ != nullptr && ledger.isOverdue(chosen.process->run)) return false;
  Held copy = chosen;
  if (fault == Fault::answersReordered && possible.size() < 2) return false;
  count(fault);
  const bool reaches = fault != Fault::captivePortal && fault != Fault::transportThrows;
  if (reaches) ledger.received(copy.carried);
  const Answer once = answer(fault, copy.carried);
  if (fault == Fault::answersReordered) {
    Held first = *possible.front(), last = *possible.back();
    ledger.received(first.carried), ledger.received(last.carried);
    deliver(last, good(last.carried, true));
    return deliver(first, good(first.carried, true));
  }
  if (options_.memory.bytes > 0) chosen.waits = false;  // it is let go of, and not answered again
  deliver(copy, once);
  if (fault == Fault::answerRepeated) deliver(copy, once);
  return true;
}
inline Fault History::chooseTrouble() {
  return dice_.of({Fault::answerLost, Fault::answerRepeated, Fault::answerPartial,
                   Fault::answerGarbage, Fault::answerOfOthers, Fault::captivePortal,
                   Fault::tooLarge413, Fault::refused4xx, Fault::tooMany, Fault::server5xx,
                   Fault::otherStatus, Fault::transportThrows, Fault::latency, Fault::answerLate});
}
inline nucleus::Response History::transport(Process& process, const nucleus::Request& request) {
  if (process.dead) return {};
  ledger.expect(!request.cancelled(), "what is handed over is wanted");
  ledger.expect(process.client == nullptr || process.client->trackingEnabled() || process.accepts,
                "no request without consent");
  if (!request.expectsAnswer()) {
    ledger.timeOut(process.run, ledger.now);
    ledger.heartbeat(process.run, process.client->stats(), request.body());
    return nucleus::Response::pending();
  }
  ++requests;
  ledger.timeOut(process.run, ledger.now);
  if (process.client != nullptr && !process.accepts) {
    if (dropped(process.client->stats()) != dropped(process.run.looked)) audit(process);
  }
  Held held = {request, ledger.begin(process.run, request.body()), &process, 0, {}, false};
  note("  request", held.carried.number, "of", held.carried.serials());
  const bool ready = process.client->stats().storage == nucleus::StorageState::ready;
  if (ready && !process.run.fileGone && !process.run.operationFailed && !disk_.byteDamaged &&
      !held.carried.events.empty()) {
    ledger.expect(holds(disk_.file, held.carried.events.back()->text),
                  "an event is in the file before it is in a request");
  }
  if (inDisk_ == nullptr && armed_ > 0 && dice_.one(6)) {
    armed_ = 0;
    inTransport_ = &process;
    inject(armedFault_);
    inTransport_ = nullptr;
  }
  if (process.dead) return {};
  if (dice_.one(30)) track(process);
  if (process.dead) return {};
  if (request.cancelled()) return {200, "{}", {}};
  const nucleus::Response response = answerAtOnce(process, held);
  if (held.waits || options_.memory.bytes == 0) held_.push_back(held);
  return response;
}
/// Or not: then the answer is on its way, or lost.
inline nucleus::Response History::answerAtOnce(Process&, Held& held) {
  const bool bad = ledger.now < badUntil_ && (stuck_ || dice_.one(2));
  const Fault trouble = chooseTrouble();
  const Fault fault = !bad ? Fault::answerRepeated : stuck_ ? stuckFault_ : trouble;
  if (ledger.now < offlineUntil_) return tellLedger(held, {}, false), nucleus::Response();
  if (std::exchange(throwsNext_, false) || (bad && fault == Fault::transportThrows)) {
    count(Fault::transportThrows);
    tellLedger(held, {}, false);
    throw 1;
  }
  if (bad) count(fault);
  if (fault != Fault::captivePortal) ledger.received(held.carried);
  held.answer = answer(bad ? fault : Fault::latency, held.carried);
  if (poisoned(held.carried)) held.answer = answer(Fault::refused4xx, held.carried);
  else if (held.request.body().size() > serverLimit_)
    held.answer = answer(Fault::tooLarge413, held.carried);
  const bool lost = std::exchange(losesNext_, false) || (bad && fault == Fault::answerLost);
  const bool slow = ledger.now < slowUntil_ || (dice_.one(5) && !(bad && stuck_)) ||
                    (bad && fault == Fault::latency);
  if (lost && dice_.one(2)) return tellLedger(held, {}, false), nucleus::Response();
  held.waits = !lost;
  held.dueAt =
      ledger.now + (slow ? dice_.between(50, 2 * options_.answerTimeoutMs) : dice_.between(0, 300));
  if (lost || slow || held.process->run.webSocket()) return nucleus::Response::pending();
  held.waits = false;
  tellLedger(held, held.answer, false);
  const bool again = bad && fault == Fault::answerRepeated && options_.memory.bytes == 0;
  if (again) held.waits = true, held.dueAt = ledger.now + 500;
  return held.answer.response;
}

// ---- faults ----

inline bool History::has(State state) const {
  for (const Process& p : processes_) {
    if (!p.alive()) continue;
    if (state == inFlight && p.run.inFlight) return true;
    if (state == rewriting && p.replacing) return true;
    if (state == erasing && (erasing_ || p.erasurePending)) return true;
    if (state == halving && p.halving) return true;
    if (state == waiting && !p.run.inFlight && p.tracking && p.run.stats.queuedEvents > 0)
      return true;
  }
  return false;
}
inline void History::count(Fault fault) {
  const auto row = static_cast<std::size_t>(fault);
  note("FAULT", faultNames[row]);
  ++injected[row];
  for (std::size_t state = 0; state < stateCount; ++state) {
    table[row][state] += has(static_cast<State>(state));
  }
}
inline bool History::inject(Fault fault) {
  if (fault <= Fault::transportThrows) return injectNetwork(fault);
  if (fault <= Fault::clockNotSet) return injectClock(fault);
  if (fault <= Fault::kill) return injectDisk(fault);
  return injectUser(fault);
}
inline bool History::injectNetwork(Fault fault) {
  switch (fault) {
    case Fault::offline:
      offlineUntil_ = ledger.now + dice_.of<Ms>({3'000, 60'000, 3'600'000, 2 * dayMs});
      break;
    case Fault::latency: slowUntil_ = ledger.now + 60'000; break;
    case Fault::answerLost: losesNext_ = true; break;
    case Fault::transportThrows: throwsNext_ = true; break;
    default: return answerHeld(fault);
  }
  count(fault);
  return true;
}
inline bool History::injectClock(Fault fault) {
  count(fault);
  ledger.clockJumped();
  for (Process& process : processes_) process.run.clockJumped = true;
  clockUnset_ = fault == Fault::clockNotSet;
  if (fault == Fault::clockForward) wallOffset_ += dice_.of<Ms>({5'000, 3'600'000, 3 * dayMs});
  if (fault == Fault::clockBack) wallOffset_ -= dice_.of<Ms>({5'000, 3'600'000, 3 * dayMs});
  pass(0);
  return true;
}
inline bool History::injectDisk(Fault fault) {
  if (fault == Fault::byteDamaged && (disk_.byteDamaged || disk_.file.empty())) return false;
  // What of it is in memory by then could not be told.
  if (fault == Fault::fileRemoved && inDisk_ != nullptr && reading_) return false;
  count(fault);
  diskMendsAt_ = ledger.now + dice_.of<Ms>({1'000, 10'000, 120'000});
  switch (fault) {
    case Fault::diskFull: disk_.full = true; break;
    case Fault::readOnly: disk_.readOnly = true; break;
    case Fault::renameFails: disk_.renameFails = true; break;
    case Fault::appendTears: disk_.tears = true; break;
    case Fault::syncFails: disk_.syncFails = true; break;
    case Fault::byteDamaged: disk_.damage(dice_); break;
    case Fault::fileRemoved:
      disk_.remove();
      for (Process& process : processes_) {
        ledger.fileRemoved(process.run);
        process.retrySetAt = std::max(process.retrySetAt, ledger.moment());  // is to be filed again
      }
      ledger.leftRemoved(inDisk_ != nullptr || main().run.readsFile || second().run.readsFile);
      retryAt_ = longAgo;
      break;
    case Fault::powerCut:
      for (Process& process : processes_) {
        if (process.exists()) kill(process, true);
      }
      disk_.cutPower(dice_);
      if (retrySetAt_ > syncedUntil_) retryAt_ = longAgo;
      break;
    default: {
      Process& process = inDisk_ != nullptr ? *inDisk_ : someone();
      if (process.exists()) kill(process, false);
    }
  }
  return true;
}
inline bool History::injectUser(Fault fault) {
  Process& process = inDisk_ != nullptr ? *inDisk_ : inTransport_ ? *inTransport_ : someone();
  if (!process.alive()) return false;
  const bool tracks = process.client->trackingEnabled();
  const bool switches = fault == Fault::consent || fault == Fault::forget;
  const bool inside = inDisk_ != nullptr || inTransport_ != nullptr;
  // When a request timed out could not be told.
  if (fault == Fault::sessionTimeout && inside && has(inFlight)) return false;
  if (switches && inDisk_ != nullptr && (!tracks || erasing_ || process.accepts || !polling_))
    return false;
  count(fault);
  if (switches && inDisk_ != nullptr) return optOutElsewhere(process, fault == Fault::forget), true;
  if (fault == Fault::consent) consent(process);
  if (fault == Fault::forget) optOut(process, true);
  if (fault == Fault::sessionTimeout) pass(options_.sessionTimeoutMs + 1), track(process);
  if (fault == Fault::queuePressure) {
    for (int i = 0; i < 25; ++i) track(process);
  }
  if (fault != Fault::secondClient || inDisk_ == &second() || inTransport_ == &second())
    return true;
  if (!second().alive() && second().client == nullptr) start(second());
  else if (second().alive() && !second().inCall) shutDown(second());
  return true;
}
inline void History::arm() {
  armed_ = 1 + dice_.below(6);
  armedFault_ = static_cast<Fault>(dice_.below(faultCount));
  armedDice_ = Dice(dice_.next());
  note("armed", faultNames[static_cast<std::size_t>(armedFault_)], armed_);
}

// ---- time and steps ----

inline Process& History::someone() { return second().alive() && dice_.one(3) ? second() : main(); }
inline void History::pass(Ms ms) {
  ledger.now += ms;
  for (Process& process : processes_) process.run.polledNow = false;
  ledger.wall = clockUnset_ ? ledger.now : ledger.now + wallOffset_;
  stillHeld();
}
/// In the host's memory there is room for one request: the host lets go of what was answered.
inline void History::letGo() {
  if (options_.memory.bytes == 0) return;
  const auto over = [](const Held& held) { return !held.waits; };
  held_.erase(std::remove_if(held_.begin(), held_.end(), over), held_.end());
  stillHeld();
}
/// And a client waits while it is.
inline void History::stillHeld() {
  if (options_.memory.bytes == 0) return;
  for (const Held& held : held_) {
    if (held.process->alive()) ledger.postponed(held.process->run);
  }
}
/// Time passes, answers arrive, the host polls.
inline void History::wait(Ms ms, Ms pace) {
  for (; ms > 0 && fine(); ms -= pace) {
    pass(std::min(ms, pace));
    if (ledger.now >= diskMendsAt_) disk_.mend();
    for (std::size_t i = 0; i < held_.size(); ++i) {
      if (!held_[i].waits || held_[i].dueAt > ledger.now) continue;
      held_[i].waits = false;
      Held held = held_[i];
      deliver(held, held.answer);
    }
    if (held_.size() > 6) held_.erase(held_.begin(), held_.end() - 4);
    letGo();
    for (Process& process : processes_) poll(process);
  }
}
inline void History::act(Process& process) {
  const std::size_t kind = dice_.below(20);
  if (kind < 12) {
    for (std::size_t i = dice_.below(4); i-- > 0 && process.alive();) track(process);
  } else if (kind == 12) {
    flush(process);
  } else if (kind == 13) {
    persist(process);
  } else if (kind == 14 && (process.run.offline || dice_.one(3))) {
    online(process);
  } else if (kind == 15 && dice_.one(2)) {
    note("session");
    bool opened = false;
    call(
        process,
        [&](nucleus::Client& client) -> Ms {
          process.accepts = true;
          opened = client.startSession() == nucleus::Outcome::ok;
          process.accepts = false;
          return 0;
        },
        false, opened);
    if (process.alive() && options_.cacheDelayMs == 0)
      ledger.filed(process.run, process.run.callMoment);
  } else if (kind == 16 && !process.tracking && dice_.one(2)) {
    enable(process);
  } else if (kind == 17 && dice_.one(4)) {
    shutDown(process);
  }
}
inline void History::makeStep() {
  dice_ = Dice((plan_.seed << 20) + step);
  for (Process& process : processes_) process.run.polledNow = false;
  if (main().client == nullptr) start(main());
  if (!fine()) return;
  if (step == plan_.steps / 3 || step == plan_.steps * 2 / 3) {
    if (main().alive()) dice_.one(2) ? kill(main(), false) : shutDown(main());
    return;
  }
  if (dice_.one(10)) {
    badUntil_ = ledger.now + dice_.of<Ms>({10'000, 300'000});
    stuck_ = dice_.one(4);  // something on the way answers all in the same manner
    stuckFault_ = chooseTrouble();
  }
  if (dice_.one(60)) poison_ = !poison_;
  if (dice_.one(60)) serverLimit_ = serverLimit_ == SIZE_MAX ? 1'500 : SIZE_MAX;
  if (dice_.one(5)) arm();
  if (dice_.one(6)) inject(static_cast<Fault>(dice_.below(faultCount)));
  if (Process& process = someone(); process.alive()) act(process);
  const std::size_t pace = dice_.below(30);
  if (pace < 18) wait(dice_.between(1, 1'500), 500);
  else if (pace < 27) wait(dice_.between(1'000, 30'000), 4'000);
  else if (pace == 27) wait(dice_.of<Ms>({600'000, 7'200'000, 2 * dayMs}), 600'000);
  settle();
}
/// Both ledgers after a step. What a client shows that has no file of its own includes all of
/// another's, which takes long to read: its numbers say when to look, and it is done at times.
inline void History::settle() {
  for (Process& process : processes_) {
    if (!process.alive()) continue;
    const nucleus::Stats &now = process.run.stats, &then = process.run.looked;
    const bool changed = now.acceptedEvents != then.acceptedEvents ||
                         now.queuedEvents != then.queuedEvents ||
                         now.queuedBytes != then.queuedBytes;
    const bool alone = now.storage != nucleus::StorageState::locked;
    if (alone || changed || step % 4 == 0) audit(process);
  }
}
inline bool History::run() {
  for (; step < plan_.steps && fine(); ++step) {
    if (plan_.skipped.count(step) == 0) makeStep();
  }
  for (; plan_.skipped.empty() && fine() && (kinds() < 3 || restarts < 3); ++step) makeStep();
  if (fine()) drain();
  return fine();
}
/// The network and the disk behave from now on: everything leaves within a bounded time.
inline void History::drain() {
  dice_ = Dice(plan_.seed + 77);
  draining_ = true;
  armed_ = 0;
  disk_.mend();
  offlineUntil_ = slowUntil_ = badUntil_ = 0;
  losesNext_ = throwsNext_ = false;
  serverLimit_ = SIZE_MAX;
  if (std::exchange(clockUnset_, false)) ledger.clockJumped();
  if (second().alive()) shutDown(second());
  if (main().client == nullptr) start(main());
  if (!main().alive() || !fine()) return;
  if (!main().tracking) enable(main());
  if (main().run.offline) online(main());
  note("drain");
  persist(main());
  if (!main().alive()) return;
  wait(65'000, 1'000);  // the file is free now, and who had lost it finds out
  Ms until = ledger.now + 7'200'000;
  while (fine() && ledger.now < until && main().run.stats.queuedEvents > 0) {
    const Ms due = main().run.stats.nextRequestInMs;
    if (due > 600'000) until += due, wait(due, 3'600'000);
    wait(30'000, 1'000);
    audit(main());
    if (ledger.now < until - 3'600'000 && dice_.one(8)) track(main());
  }
  ledger.expect(main().run.stats.queuedEvents == 0, "everything drains once all is well",
                main().run.stats.queuedEvents);
  audit(main());
  if (!fine()) return;
  shutDown(main());
  ledger.expect(!holds(disk_.file, "\"sessionId\":"),
                "after a shutdown with nothing queued the file holds no event");
  ledger.close();
}

}  // namespace simulation
