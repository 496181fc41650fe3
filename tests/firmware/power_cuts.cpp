// Cuts the power of a device in every operation of its flash, in each way that such a cut can end,
// and again while it starts; and looks at what has become of its events.
//
//   power_cuts [SHARE SHARES]
//
// One life is a script of calls on a simulated flash. The life is lived again for every operation
// of it, up to that one. Then the device starts anew, with a server that takes everything. Held:
// what was promised arrives; what was erased is nowhere to be read, and never arrives; the device
// goes on tracking, keeping and delivering.
#include "../../examples/firmware/simulated_flash.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

using nucleus::Outcome;

constexpr std::int64_t cacheDelayMs = 1'000;

struct Clock : nucleus::Clock {
  std::int64_t nowMs = 1'000, offsetMs = 0;
  std::int64_t wallMs() override { return offsetMs == 0 ? 0 : offsetMs + nowMs; }
  std::int64_t steadyMs() override { return nowMs; }
};

/// What is known of each event beside the device.
struct Fate {
  std::int64_t acceptedMs;
  bool promised = false, erased = false, arrived = false, arrivedErased = false;
};

/// What outlives the device: its flash, the server, and what it had said.
struct World {
  SimulatedFlash::Cells cells;
  std::map<int, Fate> events;
  std::string erasedIds;  // as they stand in the flash
  bool serverUp = true;
  int failures = 0;
  std::string where;

  World() { cells.clear(); }
  void check(bool holds, const char* what, int event = -1) {
    if (holds) return;
    ++failures;
    std::printf("FAILED %s: %s", where.c_str(), what);
    if (event >= 0) std::printf(" (event %d)", event);
    std::printf("\n");
  }
  static std::string marker(int event) { return "secret-" + std::to_string(event) + "."; }
  bool isReadable(const std::string& text) const {
    return std::string_view(cells.bytes, sizeof cells.bytes).find(text) != std::string_view::npos;
  }
  void arrives(std::string_view body) {
    for (std::size_t at = body.find("secret-"); at != body.npos;
         at = body.find("secret-", at + 1)) {
      Fate& fate = events[std::atoi(body.data() + at + 7)];
      fate.arrived = true;
      fate.arrivedErased = fate.arrivedErased || fate.erased;
    }
  }
  nucleus::Response answer(const nucleus::Request& request) {
    if (!serverUp) return {};
    const std::string_view body = request.body();
    arrives(body);
    std::string ids;
    for (std::size_t at = body.find("\"id\":"); at != body.npos;
         at = body.find("\"id\":", at + 1)) {
      ids += (ids.empty() ? "" : ",") + std::to_string(std::atoll(body.data() + at + 5));
    }
    return {200, "{\"reportedIds\":[" + ids + "]}", ""};
  }
};

/// Of something that lives longer.
template <class T>
std::shared_ptr<T> shared(T& object) {
  return {std::shared_ptr<T>(), &object};
}

class Device {
 public:
  Device(World& world, bool remembers, unsigned cutIn, SimulatedFlash::Left left, unsigned chance)
      : world_(world), flash_(world.cells), storage_(flash_), chance_(chance),
        first_(static_cast<int>(world.events.size())) {
    flash_.cutIn(cutIn, left, cutIn);
    nucleus::Options options;
    options.appId = "firmware";
    options.version = "1.0.0";
    options.platform = "device";
    options.transport = [this](const nucleus::Request& r) { return world_.answer(r); };
    options.clock = shared<nucleus::Clock>(clock_);
    options.storage = shared<nucleus::Storage>(storage_);
    options.entropy = [this](void* to, std::size_t bytes) { return random(to, bytes); };
    options.memory.data = memory_;
    options.memory.bytes = sizeof memory_;
    options.background = options.respectDoNotTrack = false;
    options.rememberTrackingChoice = remembers;
    options.cacheDelayMs = cacheDelayMs;
    options.maxQueueBytes = 4096;
    options.maxEventBytes = 512;
    options.maxBatchBytes = 528;
    nucleus_ = nucleus::Client(options);
  }

  bool isOn() const { return flash_.hasPower(); }
  unsigned operations() const { return flash_.operations(); }
  bool wasMisused() const { return flash_.wasMisused(); }
  nucleus::Client& nucleus() { return nucleus_; }

  void track() {
    const int event = static_cast<int>(world_.events.size());
    const std::string secret = World::marker(event);
    if (nucleus_.track("READING", {{"text", secret}, {"volts", 3.3}}) == Outcome::ok) note(event);
  }
  void trackError() {
    const int event = static_cast<int>(world_.events.size());
    const std::string secret = World::marker(event);
    if (nucleus_.trackError("fault", secret) == Outcome::ok) note(event);
    promise(clock_.nowMs);
  }
  void persist() {
    if (nucleus_.persist()) promise(clock_.nowMs);
  }
  void poll(std::int64_t ms) {
    for (const std::int64_t endMs = clock_.nowMs + ms; clock_.nowMs < endMs && isOn();) {
      clock_.nowMs += 250;
      nucleus_.poll();
      promise(clock_.nowMs - cacheDelayMs);
    }
  }
  void setClock() { clock_.offsetMs = 1'764'000'000'000; }
  void setUser() { nucleus_.setUserId("user-of-old"); }
  void disable() { erased(nucleus_.disableTracking()); }
  void forget() {
    world_.erasedIds = text(nucleus_.exportData(), "deviceId");
    if (erased(nucleus_.forget())) {
      world_.check(!world_.isReadable(world_.erasedIds), "an id can be read after forget()");
    }
  }
  void enable() { nucleus_.enableTracking(); }

  static std::string text(const std::string& json, const std::string& name) {
    const std::size_t at = json.find("\"" + name + "\":\"");
    if (at == std::string::npos) return "none";
    const std::size_t begin = at + name.size() + 4;
    return json.substr(begin, json.find('"', begin) - begin);
  }

 private:
  void note(int event) {
    if (isOn()) world_.events[event] = {clock_.nowMs};
  }
  void promise(std::int64_t acceptedBeforeMs) {
    if (!isOn()) return;
    for (auto& [event, fate] : world_.events) {
      if (event >= first_ && fate.acceptedMs <= acceptedBeforeMs) fate.promised = true;
    }
  }
  bool erased(bool durably) {
    // What it was about to erase may or may not be gone.
    for (auto& [event, fate] : world_.events) fate.promised = false;
    if (!isOn()) return false;
    world_.check(durably, "an erasure failed");
    for (auto& [event, fate] : world_.events) fate.erased = true;
    checkErased();
    world_.check(!world_.isReadable("user-of-old"), "the user can be read after the erasure");
    return true;
  }

 public:
  void checkErased() {
    for (const auto& [event, fate] : world_.events) {
      if (fate.erased) {
        world_.check(!world_.isReadable(World::marker(event)), "erased, and can be read", event);
      }
    }
  }

 private:
  bool random(void* to, std::size_t bytes) {
    std::uint64_t state = chance_ + 1;
    for (std::size_t i = 0; i < bytes; ++i) {
      state = state * 6'364'136'223'846'793'005 + 1'442'695'040'888'963'407;
      static_cast<unsigned char*>(to)[i] = static_cast<unsigned char>(state >> 56);
    }
    return true;
  }

  World& world_;
  Clock clock_;
  SimulatedFlash flash_;
  FlashStorage storage_;
  const unsigned chance_;
  const int first_;  // of the events of this life
  alignas(8) char memory_[12 << 10];
  nucleus::Client nucleus_;
};

/// A life: acknowledged and not, errors, a file that is full and written anew, both erasures.
void live(World& world, Device& device) {
  const auto repeat = [&](int times, auto&& step) {
    for (int i = 0; i < times && device.isOn(); ++i) step();
  };
  const auto step = [&](auto&& call) {
    if (device.isOn()) call();
  };
  world.serverUp = false;
  repeat(3, [&] { device.track(); });
  step([&] { device.poll(2'000); });
  step([&] { device.setClock(), device.setUser(); });
  step([&] { device.trackError(); });
  world.serverUp = true;
  step([&] { device.poll(30'000); });
  world.serverUp = false;
  repeat(10, [&] { device.track(), device.poll(500); });
  step([&] { device.persist(); });
  world.serverUp = true;
  step([&] { device.poll(60'000); });
  repeat(60, [&] { device.track(), device.poll(1'500); });
  step([&] { device.poll(20'000); });
  world.serverUp = false;
  repeat(4, [&] { device.track(); });
  step([&] { device.persist(); });
  step([&] { device.disable(); });
  step([&] { device.enable(); });
  repeat(3, [&] { device.track(); });
  step([&] { device.poll(2'000); });
  step([&] { device.forget(); });
  step([&] { device.enable(); });
  repeat(3, [&] { device.track(); });
  step([&] { device.poll(2'000); });
  step([&] { device.nucleus().shutdown(0); });
}

/// After the cut: everything works, what was promised arrives, what was erased does not.
void recover(World& world, bool remembers, unsigned chance) {
  world.serverUp = true;
  Device device(world, remembers, 0, SimulatedFlash::Left::all, chance);
  device.setClock();
  device.checkErased();
  if (!device.nucleus().trackingEnabled()) device.enable();
  device.track();
  for (int tries = 0; tries < 1'000 && device.nucleus().stats().queuedEvents != 0; ++tries) {
    device.poll(2'000);
  }
  device.poll(2'000);
  const nucleus::Stats stats = device.nucleus().stats();
  world.check(stats.storage == nucleus::StorageState::ready, "nothing can be stored any more");
  world.check(stats.queuedEvents == 0, "events are left behind");
  world.check(!world.events.empty() && world.events.rbegin()->second.arrived,
              "what is tracked afterwards does not arrive");
  for (const auto& [event, fate] : world.events) {
    world.check(fate.arrived || fate.erased || !fate.promised, "promised, and lost", event);
    world.check(!fate.arrivedErased, "erased, and arrived", event);
  }
  world.check(!device.wasMisused(), "the flash was misused");
}

enum class Life { plain, remembering, restarted };

std::string describe(Life life, unsigned cut, int left, unsigned again) {
  const char* const names[] = {"plain", "remembering", "restarted"};
  return std::string(names[static_cast<int>(life)]) + ", operation " + std::to_string(cut) +
         ", left " + std::to_string(left) +
         (again == 0 ? "" : ", again in operation " + std::to_string(again));
}

/// A life of many starts, without a shutdown: every run begins with a page of its own.
unsigned liveInRuns(World& world, unsigned cut, SimulatedFlash::Left left) {
  unsigned operations = 0;
  for (unsigned run = 0; run < 20; ++run) {
    world.serverUp = run % 3 == 2;
    Device device(world, false, cut == 0 ? 0 : cut - operations, left, run + 1);
    device.track();
    device.poll(world.serverUp ? 5'000 : 1'500);
    world.check(!device.wasMisused(), "the flash was misused");
    operations += device.operations();
    if (!device.isOn()) break;
  }
  return operations;
}

/// Returns how many operations were done.
unsigned liveUpTo(World& world, Life life, unsigned cut, int how) {
  const auto left = static_cast<SimulatedFlash::Left>(how);
  if (life == Life::restarted) return liveInRuns(world, cut, left);
  Device device(world, life == Life::remembering, cut, left, 1);
  live(world, device);
  world.check(!device.wasMisused(), "the flash was misused");
  world.check(cut == 0 || !device.isOn(), "there was no cut");
  return device.operations();
}

int cutOnce(Life life, unsigned cut, int left) {
  World world;
  world.where = describe(life, cut, left, 0);
  liveUpTo(world, life, cut, left);
  recover(world, life == Life::remembering, cut + 30);
  return world.failures;
}

/// And once more, in an operation of the start.
int cutTwice(Life life, unsigned cut, int left, unsigned again) {
  const bool remembers = life == Life::remembering;
  World world;
  world.where = describe(life, cut, left, again);
  liveUpTo(world, life, cut, left);
  {
    const auto how = static_cast<SimulatedFlash::Left>((left + static_cast<int>(again)) %
                                                       SimulatedFlash::leftCount);
    Device device(world, remembers, again, how, cut + 31);
    if (device.isOn()) device.poll(3'000);
    world.check(!device.wasMisused(), "the flash was misused");
  }
  recover(world, remembers, cut + 32);
  return world.failures;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned share = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 0;
  const unsigned shares = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1;
  int failures = 0;
  for (const Life life : {Life::plain, Life::remembering, Life::restarted}) {
    World whole;
    unsigned cuts = 0, twice = 0;
    const unsigned operations = liveUpTo(whole, life, 0, 0);
    for (unsigned cut = 1 + share; cut <= operations && failures < 20; cut += shares, ++twice) {
      for (int left = 0; left < SimulatedFlash::leftCount; ++left, ++cuts) {
        failures += cutOnce(life, cut, left);
      }
      failures += cutTwice(life, cut, static_cast<int>(cut) % 5, 1 + cut / shares % 150);
    }
    std::printf("%s of %u: %u cuts, %u of two in a row\n", describe(life, 1, 0, 0).c_str(),
                operations, cuts, twice);
    failures += whole.failures;
  }
  if (failures == 0) std::printf("power cuts: passed\n");
  return failures == 0 ? 0 : 1;
}
