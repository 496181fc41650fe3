// Shows how to keep events in the browser's localStorage, between tabs that share it.
//   See game.cpp. One item holds what elsewhere is the file; each write writes all of it, so keep
//   Options::maxQueueBytes small. It survives the tab and its crash; when the machine or the whole
//   browser crashes, what was not on disk is lost, some seconds. The lock is a Web Lock: it comes a
//   moment after the object is made (then call persist()), and ends with the tab. Pages that are
//   not from https or localhost have none: there, and for a second object in one page, the last to
//   write wins.
#ifndef STORAGE_HPP
#define STORAGE_HPP

#include "../../nucleus.hpp"

#include <emscripten.h>

#include <string>
#include <utility>

#if defined(EM_JS_DEPS)  // from 3.1.24 on what is not named may be left out
EM_JS_DEPS(local_storage, "$UTF8ToString,$stringToUTF8,$lengthBytesUTF8")
#endif
// clang-format off
EM_JS(int, localRead, (const char* key, char* to, int bytes), {  // its size; -1: none; -2: failed
  try {
    const text = localStorage.getItem(UTF8ToString(key));
    if (text === null) return -1;
    if (to) stringToUTF8(text, to, bytes);
    return lengthBytesUTF8(text);
  } catch (blocked) { return -2; }
})
EM_JS(bool, localWrite, (const char* key, const char* text), {  // null: none is left
  try {
    if (text) localStorage.setItem(UTF8ToString(key), UTF8ToString(text));
    else localStorage.removeItem(UTF8ToString(key));
    return true;
  } catch (full) { return false; }
})
EM_JS(bool, localLocked, (const char* key), {  // asks for the lock at first; is it ours by now?
  const name = UTF8ToString(key);
  const ours = Module.localLocks = Module.localLocks || {};
  if (name in ours) return ours[name];
  ours[name] = !navigator.locks;
  const keep = () => new Promise(() => { ours[name] = true; });
  if (navigator.locks) navigator.locks.request(name, keep).catch(() => {});
  return ours[name];
})
// clang-format on

class LocalStorage : public nucleus::Storage {
 public:
  explicit LocalStorage(std::string key) : key_(std::move(key)) { hasLock(); }

  bool hasLock() const { return localLocked(key_.c_str()); }

  nucleus::StorageState open() override {
    const int size = load(text_);
    if (size < 0) return size == -1 ? nucleus::StorageState::absent : nucleus::StorageState::failed;
    return hasLock() ? nucleus::StorageState::ready : nucleus::StorageState::locked;
  }
  std::size_t read(std::size_t at, char* to, std::size_t bytes) override {
    return at < text_.size() ? text_.copy(to, bytes, at) : 0;
  }
  bool append(std::string_view text) override { return replace(text_ + std::string(text)); }
  bool beginReplace() override { return next_.clear(), hasLock(); }
  bool write(std::string_view text) override { return next_ += text, true; }
  bool commitReplace() override { return replace(std::move(next_)); }
  bool sync() override { return true; }  // when is the browser's to choose
  bool erase() override { return hasLock() && localWrite(key_.c_str(), nullptr); }
  bool vanished() override {
    std::string now;
    return load(now) < 0 || now != text_;
  }
  void close() override {}  // the lock stays: tabs take turns, not each other's place

 private:
  int load(std::string& text) const {
    const int size = localRead(key_.c_str(), nullptr, 0);
    text.assign(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
    if (size > 0) localRead(key_.c_str(), text.data(), size + 1);
    return size;
  }
  bool replace(std::string text) {
    if (!hasLock() || !localWrite(key_.c_str(), text.c_str())) return false;
    text_ = std::move(text);
    return true;
  }

  const std::string key_;
  std::string text_, next_;
};

#endif
