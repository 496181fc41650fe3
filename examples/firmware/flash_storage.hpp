// Unsent events in the pages of a flash: a log that no power cut tears, and that wears all pages.
//
// A page begins with two words: whose it is, and, in the first page of a content, that this content
// is complete. Then come chunks: a word that says how many bytes follow, and these. That word is
// programmed last, so a chunk is there or it is not. Where a cut may have left a word that looks
// erased and is not, nothing is programmed again: each run begins with a page of its own, and when
// half of the pages are taken, what they hold is put together in others.
//
// The newest complete content counts. A replacement goes into other pages, round and round, and
// what it replaces is erased before it is said to be done: so nothing of it can be read any more.
// A page that can no longer be erased is told as a failure, and events then wait in memory alone.
// Half of the pages must hold what is stored, which is never more than 3 * Options::maxQueueBytes
// up to a queue of 64 KB.
#pragma once

#include "../../nucleus.hpp"

#include <algorithm>
#include <cstring>

/// A flash that is read like memory: erased to ones page by page, programmed in words of 8 bytes.
class Flash {
 public:
  static constexpr std::size_t wordBytes = 8;

  Flash(const char* memory, std::size_t pageBytes, std::size_t pages)
      : memory_(memory), pageBytes_(pageBytes), pages_(pages) {}
  virtual ~Flash() = default;
  virtual bool program(std::size_t at, const char* word) = 0;
  virtual bool erase(std::size_t page) = 0;

  const char* at(std::size_t offset) const { return memory_ + offset; }
  std::size_t pageBytes() const { return pageBytes_; }
  std::size_t pages() const { return pages_; }

 private:
  const char* const memory_;
  const std::size_t pageBytes_, pages_;  // 64 at most
};

class FlashStorage : public nucleus::Storage {
 public:
  explicit FlashStorage(Flash& flash) : flash_(flash) {}

  nucleus::StorageState open() override {
    if (file_.number == 0) file_ = newest();
    if (!eraseOthers()) return nucleus::StorageState::failed;
    return file_.bytes == 0 ? nucleus::StorageState::absent : nucleus::StorageState::ready;
  }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    std::size_t done = 0, begin = 0;
    eachChunk(file_, [&](const char* chunk, std::size_t size) {
      const std::size_t wanted = at + done;
      if (wanted >= begin && wanted < begin + size && done < bytes) {
        const std::size_t part = std::min(begin + size - wanted, bytes - done);
        std::memcpy(to + done, chunk + (wanted - begin), part);
        done += part;
      }
      begin += size;
    });
    return done;
  }
  bool append(std::string_view text) override { return file_.bytes != 0 && add(file_, text); }
  bool beginReplace() override {
    twin_ = {};
    if (!eraseOthers()) return false;
    twin_.number = file_.number + 1;
    return addPage(twin_);
  }
  bool write(std::string_view text) override {
    return twin_.number != 0 && (add(twin_, text) || (twin_ = {}, false));
  }
  bool commitReplace() override {
    if (twin_.number == 0) return false;
    const std::size_t first = pageOf(twin_, 0);
    if (!program(first * flash_.pageBytes() + Flash::wordBytes, mark(twin_, completeMark))) {
      return twin_ = {}, false;
    }
    file_ = std::exchange(twin_, {});
    return eraseOthers();
  }
  bool sync() override { return true; }
  bool erase() override { return beginReplace() && commitReplace(); }  // by nothing
  bool vanished() override { return false; }
  void close() override { twin_ = {}; }

 private:
  static constexpr std::size_t headBytes = 2 * Flash::wordBytes, none = SIZE_MAX;
  static constexpr std::uint32_t completeMark = 0xFF;  // no page has this index

  struct Content {
    std::uint32_t number = 0;  // counts up from 1
    std::uint32_t pages = 0;
    std::size_t end = 0;  // in the last page, where the next chunk goes
    std::size_t bytes = 0;
  };

  // ---- words ----

  /// A value and its complement: nothing else is ever taken for it, however a cut left a word.
  static std::uint64_t twice(std::uint32_t value) { return std::uint64_t{~value} << 32 | value; }
  static std::uint64_t mark(const Content& content, std::uint32_t index) {
    return twice(content.number << 8 | index);
  }
  std::uint64_t wordAt(std::size_t at) const {
    std::uint64_t word;
    std::memcpy(&word, flash_.at(at), sizeof word);
    return word;
  }
  bool program(std::size_t at, std::uint64_t word) {
    char bytes[Flash::wordBytes];
    std::memcpy(bytes, &word, sizeof bytes);
    return flash_.program(at, bytes);
  }
  static std::size_t roundedUp(std::size_t bytes) {
    return (bytes + Flash::wordBytes - 1) / Flash::wordBytes * Flash::wordBytes;
  }

  // ---- what is there ----

  std::size_t pageOf(const Content& content, std::uint32_t index) const {
    std::size_t page = flash_.pages();
    while (page-- > 0 && wordAt(page * flash_.pageBytes()) != mark(content, index)) {
    }
    return page;  // none where it does not exist
  }
  bool isUsed(std::size_t page) const {
    const auto value = static_cast<std::uint32_t>(wordAt(page * flash_.pageBytes()));
    for (const Content* content : {&file_, &twin_}) {
      const std::uint32_t index = value & 0xFF;
      if (content->number != 0 && index < content->pages && pageOf(*content, index) == page) {
        return true;
      }
    }
    return false;
  }
  template <class Take>
  void eachChunk(const Content& content, const Take& take) const {
    for (std::uint32_t index = 0; index < content.pages; ++index) {
      const std::size_t page = pageOf(content, index) * flash_.pageBytes();
      std::size_t at = headBytes;
      while (at < flash_.pageBytes()) {
        const std::size_t size = chunkAt(page, at);
        if (size != 0) take(flash_.at(page + at + Flash::wordBytes), size);
        at += Flash::wordBytes + roundedUp(size);
      }
    }
  }
  /// Its size; 0 where there is none.
  std::size_t chunkAt(std::size_t page, std::size_t at) const {
    const std::uint64_t word = wordAt(page + at);
    const auto size = static_cast<std::uint32_t>(word);
    const bool whole = word == twice(size) && size < flash_.pageBytes() - at;
    return whole ? size : 0;
  }
  Content newest() const {
    Content found;
    for (std::size_t page = 0; page < flash_.pages(); ++page) {
      const std::uint64_t word = wordAt(page * flash_.pageBytes());
      Content content;
      content.number = static_cast<std::uint32_t>(word) >> 8;
      const bool complete =
          word == mark(content, 0) &&
          wordAt(page * flash_.pageBytes() + Flash::wordBytes) == mark(content, completeMark);
      if (complete && content.number > found.number) found = content;
    }
    if (found.number == 0) return found;
    while (pageOf(found, found.pages) != none) ++found.pages;
    eachChunk(found, [&found](const char*, std::size_t size) { found.bytes += size; });
    found.end = flash_.pageBytes();
    return found;
  }

  // ---- what is written ----

  bool add(Content& to, std::string_view text) {
    while (!text.empty()) {
      while (to.end + headBytes > flash_.pageBytes()) {
        if (!addPage(to)) return false;
      }
      const std::size_t at = pageOf(to, to.pages - 1) * flash_.pageBytes() + to.end;
      const std::size_t size =
          std::min(text.size(), flash_.pageBytes() - to.end - Flash::wordBytes);
      to.end += Flash::wordBytes + roundedUp(size);
      if (!programChunk(at, text.substr(0, size))) return to.end = flash_.pageBytes(), false;
      to.bytes += size;
      text.remove_prefix(size);
    }
    return true;
  }
  bool programChunk(std::size_t at, std::string_view text) {
    const auto size = static_cast<std::uint32_t>(text.size());
    for (std::size_t done = 0; done < text.size(); done += Flash::wordBytes) {
      const std::string_view part = text.substr(done, Flash::wordBytes);
      std::uint64_t word = UINT64_MAX;
      std::memcpy(&word, part.data(), part.size());
      if (!program(at + Flash::wordBytes + done, word)) return false;
    }
    return program(at, twice(size));
  }
  /// The next one round that is free. Half of them are left for a replacement.
  bool addPage(Content& to) {
    if (to.pages == flash_.pages() / 2) return &to == &file_ && putTogether();
    const Content& last = to.pages != 0 ? to : file_;
    std::size_t page = last.pages != 0 ? pageOf(last, last.pages - 1) : 0;
    do {
      page = (page + 1) % flash_.pages();
    } while (isUsed(page));
    if (!eraseUnlessClean(page)) return false;
    clean_ &= ~bit(page);
    if (!program(page * flash_.pageBytes(), mark(to, to.pages))) return false;
    ++to.pages;
    to.end = headBytes;
    return true;
  }

  bool putTogether() {
    bool done = beginReplace();
    eachChunk(file_, [&](const char* chunk, std::size_t size) {
      done = done && write({chunk, size});
    });
    return done && commitReplace() && file_.pages < flash_.pages() / 2;
  }

  // ---- what is erased ----

  static std::uint64_t bit(std::size_t page) { return std::uint64_t{1} << page; }
  /// Only what was erased in this run is known to be clean, whatever it looks like.
  bool eraseUnlessClean(std::size_t page) {
    if ((clean_ & bit(page)) == 0 && flash_.erase(page)) clean_ |= bit(page);
    return (clean_ & bit(page)) != 0;
  }
  bool eraseOthers() {
    bool erased = true;
    for (std::size_t page = 0; page < flash_.pages(); ++page) {
      if (!isUsed(page) && !isBlank(page)) erased = eraseUnlessClean(page) && erased;
    }
    return erased;
  }
  bool isBlank(std::size_t page) const {
    const std::size_t begin = page * flash_.pageBytes();
    std::size_t at = 0;
    while (at < flash_.pageBytes() && wordAt(begin + at) == UINT64_MAX) at += Flash::wordBytes;
    return at == flash_.pageBytes();
  }

  Flash& flash_;
  Content file_, twin_;
  std::uint64_t clean_ = 0;
};
