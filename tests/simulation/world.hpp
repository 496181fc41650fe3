// What surrounds a client: chance, time, one file on a disk that may fail, and a server behind a
// network. All of it is decided by one seed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ledger.hpp"
#include "nucleus.hpp"

namespace simulation {

/// splitmix64: small, and the same everywhere.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  Ms between(Ms low, Ms high) {
    return low + static_cast<Ms>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  std::size_t below(std::size_t end) { return static_cast<std::size_t>(next() % end); }
  bool one(unsigned in) { return next() % in == 0; }
  template <class T>
  T of(std::initializer_list<T> all) {
    return all.begin()[below(all.size())];
  }

 private:
  std::uint64_t state_;
};

enum class Fault : unsigned char {
  offline,
  latency,
  answerLost,
  answerRepeated,
  answerLate,
  answersReordered,
  answerPartial,
  answerGarbage,
  answerOfOthers,
  captivePortal,
  tooLarge413,
  refused4xx,
  tooMany,
  server5xx,
  otherStatus,
  transportThrows,
  clockForward,
  clockBack,
  clockNotSet,
  diskFull,
  readOnly,
  renameFails,
  appendTears,
  syncFails,
  fileRemoved,
  byteDamaged,
  powerCut,
  kill,
  consent,
  forget,
  sessionTimeout,
  queuePressure,
  secondClient
};
constexpr const char* faultNames[] = {"offline",
                                      "latency",
                                      "answer lost",
                                      "answer repeated",
                                      "answer late",
                                      "answers reorder",
                                      "answer partial",
                                      "answer garbage",
                                      "answer of others",
                                      "captive portal",
                                      "413",
                                      "400 422",
                                      "429 503 + wait",
                                      "5xx",
                                      "other status",
                                      "transport throws",
                                      "clock forward",
                                      "clock back",
                                      "clock not set",
                                      "disk full",
                                      "read-only",
                                      "rename fails",
                                      "append tears",
                                      "sync fails",
                                      "file removed",
                                      "byte damaged",
                                      "power cut",
                                      "kill",
                                      "consent",
                                      "forget",
                                      "session timeout",
                                      "queue pressure",
                                      "second client"};
constexpr std::size_t faultCount = sizeof faultNames / sizeof faultNames[0];

enum State : unsigned char { inFlight, rewriting, erasing, halving, waiting };
constexpr const char* stateNames[] = {"in flight", "rewriting", "erasing", "halving", "waiting"};
constexpr std::size_t stateCount = 5;

using Table = std::array<std::array<std::uint64_t, stateCount>, faultCount>;

/// One file. `durable` bytes of it survive a power cut; of the rest, anything may.
struct Disk {
  std::string file;
  std::size_t durable = 0;
  bool exists = false;
  int generation = 0;                // another number is another file
  const void* holder = nullptr;      // of its lock
  const void* twinHolder = nullptr;  // of that of what is to replace it
  bool full = false, readOnly = false, renameFails = false, tears = false, syncFails = false;
  std::uint64_t damages = 0;  // so many records may be torn or damaged
  bool byteDamaged = false;

  bool troubled() const { return full || readOnly || renameFails || tears || syncFails; }
  void mend() { full = readOnly = renameFails = tears = syncFails = false; }
  void replace(std::string content) {
    file = std::move(content);
    durable = file.size();
    exists = true;
    damages = 0;
    byteDamaged = false;
    ++generation;
  }
  void remove() {
    file.clear();
    durable = 0;
    exists = byteDamaged = false;
    damages = 0;
    holder = nullptr;
    ++generation;
  }
  void cutPower(Dice& dice) {
    const std::size_t loose = file.size() - durable;
    holder = nullptr;
    if (loose > 0 && !dice.one(4)) {
      ++damages;
      const std::size_t at = durable + dice.below(loose + 1);
      if (dice.one(2)) file.resize(at);  // the rest did not arrive
      else
        for (std::size_t i = durable; i < at; ++i) file[i] = '\0';  // its beginning did not
    }
    durable = file.size();
  }
  /// One bit of one byte; in one of four the first line, which says what the file is.
  void damage(Dice& dice) {
    const std::size_t end = dice.one(4) ? file.find('\n') + 1 : file.size();
    char& byte = file[dice.below(std::min(end == 0 ? file.size() : end, file.size()))];
    byte = static_cast<char>(byte ^ 1 << dice.below(8));
    ++damages;
    byteDamaged = true;
  }
};

}  // namespace simulation
