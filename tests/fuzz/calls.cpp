// Calls of the public face with odd data, and what the world does meanwhile: time, answers, faults
// of the storage, consent, the program's end and its next start. All of it is decoded from bytes.
#include "fuzz.hpp"

#include <fuzzer/FuzzedDataProvider.h>

#include <set>
#include <stdexcept>

namespace {

using fakes::Json;
using fuzz::demand;
using nucleus::Outcome;
using nucleus::Response;

/// Where every event that this run tracked is, by its number: what was erased is never sent.
struct Ledger {
  std::set<std::uint64_t> accepted, received, erased;
  bool owed = false;

  /// All that was accepted before: erased from memory, and from the file too if `durably`.
  void erase(bool durably) {
    for (const std::uint64_t number : accepted) erased.insert(number);
    if (!durably) owed = true;
  }
  /// The next start does not know what could not be erased.
  void restart() {
    if (std::exchange(owed, false)) erased.clear();
  }
};

class Program {
 public:
  explicit Program(FuzzedDataProvider& bytes)
      : bytes_(bytes), remembers_(bytes.ConsumeBool()), webSocket_(bytes.ConsumeBool()),
        small_(bytes.ConsumeBool()), allows_(bytes.ConsumeBool()), filters_(bytes.ConsumeBool()),
        delay_(bytes.ConsumeBool() ? 0 : 1'000) {
    start();
  }
  void live() {
    for (int i = 0; i < 100 && bytes_.remaining_bytes() > 0; ++i) {
      step();
      check();
    }
  }
  /// Once everything behaves, everything arrives.
  void end() {
    mend();
    client_->online(true);
    if (!client_->trackingEnabled()) return;
    for (int i = 0; i < 300 && client_->stats().queuedEvents > 0; ++i) {
      const std::int64_t due = client_->stats().nextRequestInMs;
      pass(due > 0 ? due : 500);
    }
    check();
    demand(client_->stats().queuedEvents == 0, "in the end everything has arrived");
    const nucleus::Stats stats = client_->stats();
    const std::uint64_t dropped = stats.droppedQueueFull + stats.droppedTooOld +
                                  stats.droppedRefused + stats.droppedPersonalData +
                                  stats.droppedDamaged;
    if (starts_ > 1 || dropped > 0) return;
    for (const std::uint64_t number : ledger_.accepted) {
      demand(ledger_.received.count(number) + ledger_.erased.count(number) > 0,
             "what was accepted arrives, is erased, or is counted as dropped");
    }
  }

 private:
  // ---- the client and its world ----

  void start() {
    options_ = fuzz::smallOptions(world_);
    options_.rememberTrackingChoice = remembers_;
    if (webSocket_) options_.endpoint = "wss://example.org";
    if (small_) options_.maxEventBytes = 512, options_.maxQueueBytes = 2'048;
    if (allows_) options_.personalData = nucleus::PersonalData::allow;
    options_.cacheDelayMs = delay_;
    options_.sessionTimeoutMs = 60'000;
    options_.transport = [this](const nucleus::Request& request) { return send(request); };
    if (filters_) options_.filter = [this](auto, auto, auto) { return inside(), !refuses_; };
    options_.onDiagnostic = [this](const nucleus::Diagnostic& told) {
      demand(Json(std::string(told.message)).dump().size() > 2, "a diagnostic is UTF-8");
      inside();
    };
    client_ = std::make_unique<nucleus::Client>(options_);
    ++starts_;
  }
  /// What a callback does; every call is fine there.
  void inside() {
    if (client_ == nullptr || std::exchange(isInside_, true)) return;
    demand(!client_->flush(10) && !client_->persist(), "nothing waits inside a callback");
    client_->poll();
    client_->stats();
    isInside_ = false;
  }
  Response send(const nucleus::Request& request) {
    demand(enabled_, "nothing is sent while tracking is disabled");
    witness_.see(request, std::max(options_.maxBatchBytes, options_.maxEventBytes + 16));
    if (!request.expectsAnswer()) return Response::pending();
    for (const Json& event : witness_.events) judge(event);
    if (mended_) return webSocket_ ? later(request) : acknowledge();
    pending_.push_back(request);
    if (pending_.size() > 4) pending_.erase(pending_.begin());
    return answer();
  }
  void judge(const Json& event) {
    if (event.at("type") != "event") return;
    const auto number = event.at("payload").at("number").get<std::uint64_t>();
    demand(ledger_.accepted.count(number) == 1, "what was not accepted is not sent");
    demand(ledger_.erased.count(number) == 0, "what was erased is not sent");
    ledger_.received.insert(number);
  }
  Response acknowledge() const { return {200, Json{{"reportedIds", witness_.current}}.dump(), {}}; }
  Response later(const nucleus::Request&) {
    message_ = acknowledge().body;
    return Response::pending();
  }
  Response answer() {
    switch (bytes_.ConsumeIntegralInRange(0, 9)) {
      case 0: return {bytes_.ConsumeIntegralInRange(-2, 599), text(), text()};
      case 1: return {413, {}, {}};
      case 2: return {400, {}, {}};
      case 3: return {bytes_.ConsumeBool() ? 429 : 503, {}, number()};
      case 4: return {200, Json{{"reportedIds", {witness_.current.back()}}}.dump(), {}};
      case 5: return Response::pending();
      case 6: throw std::runtime_error("no network");
      case 7: return {200, text(), {}};
      case 8: return decline(), acknowledge();
      default: return acknowledge();
    }
  }
  /// From within the transport, which also runs while the client ends.
  void decline() {
    if (client_ != nullptr) disabled(client_->disableTracking());
  }
  void mend() {
    mended_ = true;
    fakes::Disk& disk = *world_.disk;
    disk.full = disk.tears = disk.readOnly = disk.renameFails = false;
    disk.syncFails = disk.eraseFails = disk.locked = disk.foreign = disk.unreadable = false;
  }
  void pass(std::int64_t ms) {
    world_.clock->advance(ms);
    client_->poll();
    if (!message_.empty()) client_->receive(std::exchange(message_, {}));
  }
  void check() {
    fuzz::check(client_->stats(), options_);
    demand(client_->trackingEnabled() == enabled_ || mayBeRefused(),
           "consent is what was said last");
    demand(world_.disk->largest <= 2 * options_.maxQueueBytes + (64 << 10), "the file is bounded");
  }

  // ---- one step ----

  void step() {
    switch (bytes_.ConsumeIntegralInRange(0, 21)) {
      case 0:
      case 1: return track();
      case 2: return void(client_->page(text(), properties()));
      case 3: return error();
      case 4: return void(client_->setUserId(text()));
      case 5: return void(client_->setProps(properties(), bytes_.ConsumeBool()));
      case 6: return void(client_->identify(text(), properties()));
      case 7: return void(client_->startSession());
      case 8: return client_->enableTracking(), void(enabled_ = true);
      case 9: return decline();
      case 10: return disabled(client_->forget());
      case 11: return void(fuzz::exported(*client_));
      case 12: return void(client_->flush(bytes_.ConsumeIntegralInRange(-1, 100)));
      case 13: return void(client_->persist());
      case 14: return client_->online(bytes_.ConsumeBool());
      case 15: return client_->receive(bytes_.ConsumeBool() ? acknowledge().body : text());
      case 16: return reply();
      case 17: return breakDisk();
      case 18: return restart();
      case 19:
        return void(world_.clock->wall +=
                    bytes_.ConsumeIntegralInRange(-1'000'000'000, 1'000'000'000));
      case 20: return pass(bytes_.ConsumeIntegralInRange(0, 200'000'000));
      default: return pass(std::max<std::int64_t>(client_->stats().nextRequestInMs, 250));
    }
  }
  void track() {
    const std::uint64_t number = ++number_;
    refuses_ = filters_ && bytes_.ConsumeBool();
    std::vector<nucleus::Property> all = properties();
    all.push_back({"number", number});
    if (client_->track(text(), all) == Outcome::ok) ledger_.accepted.insert(number);
    refuses_ = false;
  }
  void error() {
    const std::string name = text(), message = text(), stack = text();
    client_->trackError(name, message, stack);
  }
  void disabled(bool durably) {
    enabled_ = false;
    demand(client_->stats().queuedEvents == 0, "after opting out nothing waits");
    ledger_.erase(durably);
  }
  void reply() {
    if (pending_.empty()) return;
    const nucleus::Request request =
        pending_[bytes_.ConsumeIntegralInRange<std::size_t>(0, pending_.size() - 1)];
    request.reply(bytes_.ConsumeBool() ? acknowledge() : Response{200, text(), {}});
    client_->poll();
  }
  void breakDisk() {
    fakes::Disk& disk = *world_.disk;
    bool* const faults[] = {&disk.full,      &disk.tears,      &disk.readOnly, &disk.renameFails,
                            &disk.syncFails, &disk.eraseFails, &disk.locked,   &disk.gone};
    faults[bytes_.ConsumeIntegralInRange<std::size_t>(0, std::size(faults) - 1)][0] ^= true;
  }
  void restart() {
    if (bytes_.ConsumeBool()) client_->shutdown(0);
    client_.reset();
    ledger_.restart();
    start();
    enabled_ = client_->trackingEnabled();
  }
  bool mayBeRefused() const { return remembers_; }  // in a file that can be read only later

  // ---- odd data ----

  const std::string& text() {
    static const char* const odd[] = {
        "",        "init",        "error:x",          "nucleus:view", "ann@example.org",
        "1.2.3.4", "/home/ann/x", "\xF0\x9F\x98\x80", "\xFF\xC0",     "a\"\\\n\x01"};
    const auto kind = bytes_.ConsumeIntegralInRange<std::size_t>(0, 15);
    std::string given = kind < std::size(odd) ? odd[kind] : bytes_.ConsumeRandomLengthString(64);
    if (kind == 15) given.append(bytes_.ConsumeIntegralInRange<std::size_t>(0, 3'000), 'x');
    texts_.push_back(std::move(given));
    if (texts_.size() > 64) texts_.pop_front();
    return texts_.back();
  }
  std::string number() { return std::to_string(bytes_.ConsumeIntegralInRange(-1, 100'000)); }
  std::vector<nucleus::Property> properties() {
    std::vector<nucleus::Property> all;
    const int count = bytes_.ConsumeIntegralInRange(0, 5);
    for (int i = 0; i < count; ++i) all.push_back({text(), value()});
    return all;
  }
  nucleus::Value value() {
    switch (bytes_.ConsumeIntegralInRange(0, 4)) {
      case 0: return bytes_.ConsumeBool();
      case 1: return bytes_.ConsumeIntegral<std::int64_t>();
      case 2: return bytes_.ConsumeFloatingPoint<double>();
      case 3: return static_cast<const char*>(nullptr);
      default: return text();
    }
  }

  FuzzedDataProvider& bytes_;
  const bool remembers_, webSocket_, small_, allows_, filters_;
  const std::int64_t delay_;
  fakes::World world_;
  nucleus::Options options_;
  fuzz::Witness witness_;
  Ledger ledger_;
  std::vector<nucleus::Request> pending_;
  std::deque<std::string> texts_;  // borrowed for one call
  std::string message_;
  std::uint64_t number_ = 0;
  int starts_ = 0;
  bool enabled_ = true, refuses_ = false, isInside_ = false, mended_ = false;
  std::unique_ptr<nucleus::Client> client_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider bytes(data, size);
  const fuzz::Memory memory;
  Program program(bytes);
  program.live();
  memory.check(2 << 20);
  program.end();
  return 0;
}
