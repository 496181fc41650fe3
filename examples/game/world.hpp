// Shows a game of its own: a ship that catches stars and dodges rocks, one step a frame.
//   part of game.cpp, which is built as it says
#ifndef GAME_WORLD_HPP
#define GAME_WORLD_HPP

#include "picture.hpp"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

class World {
 public:
  enum class News { none, level, death };

  int level() const { return level_; }
  int deaths() const { return deaths_; }
  double seconds() const { return age_ / 60.0; }  // of this life

  News step(int right, int down) {
    ++frame_, ++age_;
    x_ = std::clamp(x_ + 5 * right, 0, Picture::width - size);
    y_ = std::clamp(y_ + 5 * down, Picture::height / 2, Picture::height - size);
    if (frame_ % std::max(6, 15 - level_) == 0) add();
    for (Thing& thing : things_) thing.y += thing.speed;
    const auto gone = [](const Thing& thing) { return thing.y > Picture::height; };
    things_.erase(std::remove_if(things_.begin(), things_.end(), gone), things_.end());
    const auto hit = std::find_if(things_.begin(), things_.end(), [this](const Thing& thing) {
      return std::abs(thing.x - x_) < 20 && std::abs(thing.y - y_) < 20;
    });
    if (hit == things_.end()) return News::none;
    if (!hit->isStar) return die();
    things_.erase(hit);
    if (++stars_ < starsOfLevel) return News::none;
    ++level_, stars_ = 0;
    return News::level;
  }
  void draw(Picture& picture) const {
    picture.fill({0, 0, Picture::width, Picture::height}, {8, 10, 28, 255});
    for (int i = 0; i < 60; ++i) {  // far stars, the nearer the faster
      const int depth = 1 + i % 3, y = (i * 97 + frame_ * depth / 2) % Picture::height;
      picture.fill({i * 211 % Picture::width, y, depth, depth}, {120, 130, 190, 255});
    }
    for (const Thing& thing : things_) {
      if (thing.isStar) picture.draw(star, thing.x, thing.y, 3, {255, 210, 80, 255});
      else picture.draw(rock, thing.x, thing.y, 3, {130, 112, 120, 255});
      if (!thing.isStar) picture.draw(craters, thing.x, thing.y, 3, {88, 74, 86, 255});
    }
    const bool isNew = deaths_ > 0 && age_ < 90, shows = !isNew || age_ % 10 < 5;
    if (shows && frame_ % 8 < 4) picture.draw(flame, x_, y_ + 3, 3, {255, 140, 60, 255});
    if (shows) picture.draw(ship, x_, y_, 3, {110, 220, 255, 255});
    picture.fill({4, 8, 350, 26}, {24, 30, 66, 215});
    picture.write("level " + std::to_string(level_) + "  stars " + std::to_string(stars_) + "/" +
                      std::to_string(starsOfLevel) + "  deaths " + std::to_string(deaths_),
                  12, 16, 2, {230, 236, 255, 255});
  }

 private:
  static constexpr int size = 24, starsOfLevel = 3;
  struct Thing {
    int x, y, speed;
    bool isStar;
  };

  int any(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }
  void add() {
    const int x = any(Picture::width - size), speed = 2 + any(2 + std::min(level_, 8) / 2);
    things_.push_back({x, -size, speed, any(5) < 2});
  }
  News die() {
    things_.clear();
    ++deaths_;
    age_ = 0;
    return News::death;
  }

  std::minstd_rand random_;
  std::vector<Thing> things_;
  int x_ = 308, y_ = 310, level_ = 1, stars_ = 0, deaths_ = 0, frame_ = 0, age_ = 0;
};

#endif
