// A flash in memory that is as strict as a real one: programming only clears bits, a word takes it
// once, and only a whole page can be erased. The power can be cut in the middle of any operation.
#pragma once

#include "flash_storage.hpp"

class SimulatedFlash : public Flash {
 public:
  static constexpr std::size_t pageSize = 2048, pageCount = 16;

  struct Cells {
    char bytes[pageSize * pageCount];
    char used[pageSize * pageCount / wordBytes];  // programmed, or not erased to the end

    void clear() {
      std::memset(bytes, 0xFF, sizeof bytes);
      std::memset(used, 0, sizeof used);
    }
  };

  /// What a cut leaves of the operation that it falls into.
  enum class Left { nothing, half, random, almostAll, all };
  static constexpr int leftCount = 5;

  explicit SimulatedFlash(Cells& cells) : Flash(cells.bytes, pageSize, pageCount), cells_(cells) {}

  /// The power goes in that operation, counted from 1; 0: in none.
  void cutIn(unsigned operation, Left left, std::uint32_t chance) {
    cutIn_ = operation;
    left_ = left;
    chance_ = chance * 2'654'435'761u + 1;
    operations_ = 0;
    hasPower_ = true;
  }
  bool hasPower() const { return hasPower_; }
  unsigned operations() const { return operations_; }
  bool wasMisused() const { return misused_; }

  bool program(std::size_t at, const char* word) override {
    if (!begins()) return false;
    misused_ = misused_ || at % wordBytes != 0 || cells_.used[at / wordBytes] != 0;
    cells_.used[at / wordBytes] = 1;
    for (std::size_t i = 0; i < wordBytes; ++i) {
      char& byte = cells_.bytes[at + i];
      byte = static_cast<char>(byte & (word[i] | survives(i, wordBytes)));
    }
    return ends();
  }
  bool erase(std::size_t page) override {
    if (!begins()) return false;
    const std::size_t begin = page * pageSize;
    for (std::size_t i = 0; i < pageSize; ++i) {
      char& byte = cells_.bytes[begin + i];
      byte = static_cast<char>(byte | ~survives(i, pageSize));
    }
    std::memset(cells_.used + begin / wordBytes, hasPower_ ? 0 : 1, pageSize / wordBytes);
    return ends();
  }

 protected:
  virtual void powerIsGone() {}

 private:
  bool begins() {
    if (!hasPower_) return false;
    hasPower_ = ++operations_ != cutIn_;
    return true;
  }
  bool ends() {
    if (!hasPower_) powerIsGone();
    return hasPower_;
  }
  /// The bits of the byte at `i` of so many that keep what they were.
  int survives(std::size_t i, std::size_t bytes) {
    if (hasPower_ || left_ == Left::all) return 0;
    if (left_ == Left::nothing) return 0xFF;
    if (left_ == Left::half) return i < bytes / 2 ? 0 : 0xFF;
    chance_ = chance_ * 1'664'525 + 1'013'904'223;
    const int bits = static_cast<int>(chance_ >> 24);
    return left_ == Left::random ? bits : i + 1 == bytes ? bits | 1 : 0;
  }

  Cells& cells_;
  unsigned cutIn_ = 0, operations_ = 0;
  std::uint32_t chance_ = 1;
  Left left_ = Left::all;
  bool hasPower_ = true, misused_ = false;
};
