// Shows how a game uses the library: it asks on its first screen, tracks levels and deaths,
// delivers from its frame loop, plays on without a network, and shows what all of that costs a
// frame.
//   c++ -std=c++17 -O2 game.cpp $(pkg-config --cflags --libs sdl2 libcurl) -pthread -o game
//   ./game [--endpoint URL] [--cache FILE] [--worker no] [--script FILE] [--frames N]
//          [--picture BMP] [--report FILE]     the last four are how a test plays it
#include "../../nucleus.hpp"
#include "picture.hpp"
#include "share.hpp"
#include "transport.hpp"
#include "world.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

class Game {
 public:
  using Arguments = std::map<std::string, std::string>;

  explicit Game(Arguments arguments) : arguments_(std::move(arguments)) {
    nucleus::Options options;
    options.appId = "star-dodger";
    options.disableTracking = true;         // nothing before the player has said yes ...
    options.rememberTrackingChoice = true;  // ... which the next run knows
    options.transport = [net = net_](const nucleus::Request& r) { return net->begin(r); };
    options.reportIntervalMs = 5'000;
    options.background = arguments_["--worker"] != "no";  // the worker waits for the disk, or we
    options.cacheFile = arguments_["--cache"];
    if (!arguments_["--endpoint"].empty()) options.endpoint = arguments_["--endpoint"];
    nucleus_ = nucleus::Client(options);
    asking_ = nucleus_.consent() == nucleus::Consent::notAsked;
    if (!arguments_["--frames"].empty()) lastFrame_ = std::stoi(arguments_["--frames"]);
    std::ifstream script(arguments_["--script"]);
    for (Press press; script >> press.frame >> press.way >> press.key;) script_.push_back(press);
  }
  bool run() {
    auto next = std::chrono::steady_clock::now();
    for (int frame = 0; picture_.isThere() && goesOn(frame); ++frame) {
      pressScripted(frame);
      input();
      if (!asking_ && !leaving_) play();
      curl_.of([&] { net_->transfer(); });
      library_.of([&] { net_->reply(), nucleus_.poll(), stats_ = nucleus_.stats(); });
      library_.endFrame(), curl_.endFrame();
      draw();
      if (frame + 1 == lastFrame_ && !savePicture()) return false;
      picture_.show();
      next += std::chrono::microseconds(16'667);
      std::this_thread::sleep_until(next);
    }
    nucleus_.shutdown(0);  // what has not arrived is in the file, for the next run
    report();
    return picture_.isThere();
  }

 private:
  struct Press {
    int frame;
    std::string way, key;
  };

  void pressScripted(int frame) {
    for (; pressed_ < script_.size() && script_[pressed_].frame <= frame; ++pressed_) {
      SDL_Event event = {};
      event.type = script_[pressed_].way == "down" ? SDL_KEYDOWN : SDL_KEYUP;
      event.key.keysym.sym = SDL_GetKeyFromName(script_[pressed_].key.c_str());
      SDL_PushEvent(&event);
    }
  }
  void input() {
    for (SDL_Event event; SDL_PollEvent(&event) != 0;) {
      const SDL_Keycode key = event.key.keysym.sym;
      if (event.type == SDL_QUIT) leave();
      if (event.type == SDL_KEYUP) held_[key] = false;
      if (event.type != SDL_KEYDOWN || event.key.repeat != 0) continue;
      held_[key] = true;
      if (key == SDLK_ESCAPE) leave();
      else if (asking_ && (key == SDLK_y || key == SDLK_n)) choose(key == SDLK_y);
      else if (!asking_ && key == SDLK_t) choose(!nucleus_.trackingEnabled());
    }
  }
  /// Waits for the disk: for a menu, not for the middle of a game.
  void choose(bool yes) {
    choice_.of([&] { yes ? nucleus_.enableTracking() : void(nucleus_.disableTracking()); });
    choice_.endFrame();
    asking_ = false;
  }
  void play() {
    const int right = held_[SDLK_RIGHT] - held_[SDLK_LEFT];
    const World::News news = world_.step(right, held_[SDLK_DOWN] - held_[SDLK_UP]);
    if (news == World::News::none) return;
    const char* const name = news == World::News::death ? "DEATH" : "LEVEL";
    library_.of([&] {
      const nucleus::Outcome outcome = nucleus_.track(
          name,
          {{"level", world_.level()}, {"seconds", world_.seconds()}, {"number", tracked_ + 1}});
      tracked_ += outcome == nucleus::Outcome::ok;
    });
  }
  void leave() {
    leaving_ = true;
    library_.of([&] { nucleus_.flush(0); });  // never waits; the frames go on
  }
  /// Once the player leaves, for a second or until all has arrived.
  bool goesOn(int frame) {
    if (frame == lastFrame_) leave();
    return !leaving_ || (farewell_-- > 0 && stats_.queuedEvents > 0);
  }

  void draw() {
    world_.draw(picture_);
    drawStats();
    if (asking_) drawQuestion();
    if (leaving_) picture_.write("Good bye", 224, 160, 4, yellow);
  }
  void drawQuestion() {
    const char* const lines[] = {"May we count levels and deaths?",
                                 "",
                                 "They go to Nucleus with two random ids",
                                 "and the kind of your system, no name.",
                                 "T takes it back at any time.",
                                 "",
                                 "Y yes   N no"};
    picture_.fill({60, 136, 520, 206}, panel);
    picture_.write("Star Dodger", 188, 150, 4, yellow);
    int y = 188;
    for (const char* line : lines) picture_.write(line, 80, y, 2, white), y += 20;
  }
  void drawStats() {
    const std::pair<const char*, std::string> rows[] = {
        {"tracking", stats_.trackingEnabled ? "on" : "off"},
        {"queued", std::to_string(stats_.queuedEvents)},
        {"acknowledged", std::to_string(stats_.acknowledgedEvents)},
        {"dropped", std::to_string(dropped())},
        {"cache", std::to_string(stats_.cacheBytes) + " B"},
        {"server", stats_.requests == 0       ? "-"
                   : stats_.lastStatus == 200 ? "here"
                                              : "away"},
        {"worst frame", std::to_string(static_cast<int>(1000 * library_.longestMs())) + " us"}};
    picture_.fill({372, 8, 260, 118}, panel);
    int y = 16;
    for (const auto& [name, value] : rows) {
      picture_.write(name, 382, y, 2, grey);
      picture_.write(value, 622 - Picture::widthOf(value, 2), y, 2, white);
      y += 15;
    }
  }
  std::uint64_t dropped() const {
    return stats_.droppedQueueFull + stats_.droppedTooOld + stats_.droppedRefused +
           stats_.droppedDamaged + stats_.droppedPersonalData;
  }
  bool savePicture() {
    const std::string& file = arguments_["--picture"];
    return file.empty() || picture_.save(file.c_str());
  }
  void report() {
    std::ofstream out(arguments_["--report"]);
    out << "asking " << asking_ << "\ntracking " << stats_.trackingEnabled << "\ntracked "
        << tracked_ << "\naccepted " << stats_.acceptedEvents << "\nacknowledged "
        << stats_.acknowledgedEvents << "\nqueued " << stats_.queuedEvents << "\nerased "
        << stats_.erasedEvents << "\ndropped " << dropped() << "\nfailed " << stats_.failedRequests
        << '\n';
    library_.report(out, "library");
    curl_.report(out, "curl");
    choice_.report(out, "choice");
  }

  static constexpr SDL_Color white = {230, 236, 255, 255}, grey = {150, 160, 200, 255},
                             yellow = {255, 210, 80, 255}, panel = {24, 30, 66, 215};

  Arguments arguments_;
  std::shared_ptr<FrameTransport> net_ = std::make_shared<FrameTransport>();
  nucleus::Client nucleus_;
  nucleus::Stats stats_;
  Picture picture_{"Star Dodger"};
  World world_;
  Share library_, curl_, choice_;
  std::vector<Press> script_;
  std::map<SDL_Keycode, bool> held_;
  std::size_t pressed_ = 0;
  int lastFrame_ = -1, farewell_ = 60, tracked_ = 0;
  bool asking_ = false, leaving_ = false;
};

int main(int count, char** arguments) {
  Game::Arguments given;
  for (int i = 1; i + 1 < count; i += 2) given[arguments[i]] = arguments[i + 1];
  Game game(std::move(given));
  if (game.run()) return 0;
  std::fprintf(stderr, "No picture: %s\n", SDL_GetError());
  return 1;
}
