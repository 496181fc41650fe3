// Shows how to build for the browser: a small game that asks first, keeps events in localStorage,
// and sends them with fetch().
//   em++ -std=c++17 -Os game.cpp -o game.js && python3 -m http.server
//   Then open http://localhost:8000/ in a browser. Where events go to stands in index.html.
#include "../../nucleus.hpp"
#include "fetch.hpp"
#include "storage.hpp"

#include <emscripten.h>

#include <cstdlib>
#include <memory>
#include <string>

#if defined(EM_JS_DEPS)
EM_JS_DEPS(game, "$UTF8ToString")
#endif
// clang-format off
EM_JS(void, show, (const char* id, const char* text), {
  document.getElementById(UTF8ToString(id)).textContent = UTF8ToString(text);
})
EM_JS(void, moveDot, (int left, int top, bool visible), {
  const style = document.getElementById("dot").style;
  style.left = left + "%";
  style.top = top + "%";
  style.display = visible ? "block" : "none";
})
// clang-format on

static nucleus::Client client;  // lives as long as the page
static std::shared_ptr<LocalStorage> storage;

static struct Game {
  int level = 1, caught = 0, lives = 0;
  double jumpsAtMs = 0;

  void start() {
    *this = {1, 0, 3, 0};
    client.track("GAME_STARTED");
    jump();
  }
  void catchDot() {
    if (lives == 0) return;
    if (++caught % 5 == 0) client.track("LEVEL_DONE", {{"level", level++}, {"lives", lives}});
    jump();
  }
  void tick() {
    if (lives == 0 || emscripten_get_now() < jumpsAtMs) return;
    if (--lives == 0) client.track("GAME_OVER", {{"level", level}, {"caught", caught}});
    jump();
  }
  void jump() {
    double pauseMs = 2'000;
    for (int i = 1; i < level; ++i) pauseMs *= 0.85;
    jumpsAtMs = emscripten_get_now() + pauseMs;
    moveDot(5 + std::rand() % 85, 5 + std::rand() % 80, lives > 0);
    const std::string text = "Level " + std::to_string(level) + ", " + std::to_string(caught) +
                             " caught, " + std::to_string(lives) + " lives";
    show("score", text.c_str());
  }
} game;

static void showStats() {
  static std::string shown;
  const nucleus::Stats stats = client.stats();
  const char* const states[] = {"ready", "absent", "locked", "foreign", "failed"};
  const std::string text = std::to_string(stats.acceptedEvents) + " tracked, " +
                           std::to_string(stats.queuedEvents) + " wait, " +
                           std::to_string(stats.acknowledgedEvents) + " arrived; storage " +
                           states[static_cast<int>(stats.storage)];
  if (text != shown) show("stats", text.c_str());
  shown = text;
}

static void frame() {
  static bool locked = false;
  game.tick();
  if (!locked && (locked = storage->hasLock()) && client.persist()) {
    client.flush(0);  // with what an earlier visit left there
  }
  client.poll();
  showStats();
}

extern "C" {  // what index.html calls
EMSCRIPTEN_KEEPALIVE void startGame() { game.start(); }
EMSCRIPTEN_KEEPALIVE void catchDot() { game.catchDot(); }
EMSCRIPTEN_KEEPALIVE bool mustAsk() { return client.consent() == nucleus::Consent::notAsked; }
/// A first no leaves nothing in the browser, not even itself: the next visit asks again. After a
/// yes it leaves one line, which says no and has no id.
EMSCRIPTEN_KEEPALIVE void answer(bool yes) {
  if (yes) client.enableTracking();
  else if (!mustAsk()) client.forget();
}
EMSCRIPTEN_KEEPALIVE void connected(bool yes) { client.online(yes); }
/// The page may not come back. A tab that does not have the storage sends what it has.
EMSCRIPTEN_KEEPALIVE void leave() {
  if (client.persist()) return;
  client.flush(0);
  client.poll();
}
EMSCRIPTEN_KEEPALIVE void showData() { show("data", client.exportData().c_str()); }
}

int main(int, char** arguments) {
  nucleus::Options options;
  options.appId = "browser-example";
  options.endpoint = arguments[1];
  options.platform = "browser";
  options.transport = post;
  options.storage = storage = std::make_shared<LocalStorage>("nucleus/browser-example");
  options.maxQueueBytes = 128 << 10;
  options.maxEventBytes = 4 << 10;
  options.cacheDelayMs = 200;  // pages may end without notice
  options.background = false;
  options.disableTracking = true;  // until the user agrees ...
  options.rememberTrackingChoice = true;
  client = nucleus::Client(options);
  show("policy", nucleus::dataInventory(options).policy().c_str());
  emscripten_set_main_loop(frame, 0, false);
}
