// Shows how little it takes to draw with SDL2: bitmaps of squares, and a font of 236 bytes.
//   part of game.cpp, which is built as it says
#ifndef GAME_PICTURE_HPP
#define GAME_PICTURE_HPP

#include <SDL.h>

#include <cctype>
#include <cstdint>
#include <string_view>
#include <vector>

/// Pixels row by row, the first in the highest of side * side bits.
struct Bitmap {
  std::uint64_t bits;
  int side;
};

constexpr Bitmap ship = {0x18183c3c7edb9918, 8}, flame = {0x24, 8}, star = {0x1818ff7e3c7e6681, 8},
                 rock = {0x3c7effffffff7e3c, 8}, craters = {0x0008026062080000, 8};

/// From the space to the Z.
constexpr std::uint32_t glyphs[] = {
    0x0000000, 0x0421004, 0x0000000, 0x0000000, 0x0000000, 0x1911113, 0x0000000, 0x0420000,
    0x0221082, 0x0821088, 0x0000000, 0x0023880, 0x0000088, 0x0003800, 0x0000004, 0x0111110,
    0x0e9d72e, 0x046108e, 0x1e0ba1f, 0x1e0b83e, 0x1297c42, 0x1f8783e, 0x0e87a2e, 0x1f08884,
    0x0e8ba2e, 0x0e8bc2e, 0x0020080, 0x0000000, 0x0000000, 0x0000000, 0x0000000, 0x1c13008,
    0x0000000, 0x0e8fe31, 0x1e8fa3e, 0x0f8420f, 0x1e8c63e, 0x1f87a1f, 0x1f87a10, 0x0f84e2f,
    0x118fe31, 0x0e2108e, 0x0710a4c, 0x1197251, 0x108421f, 0x11dd631, 0x11cd671, 0x0e8c62e,
    0x1e8fa10, 0x0e8d64d, 0x1e8fa51, 0x0f8383e, 0x1f21084, 0x118c62e, 0x118c544, 0x118d771,
    0x1151151, 0x1151084, 0x1f1111f};

class Picture {
 public:
  static constexpr int width = 640, height = 360;

  explicit Picture(const char* title) {
    SDL_Init(SDL_INIT_VIDEO);
    window_ = SDL_CreateWindow(title, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, width, height,
                               SDL_WINDOW_RESIZABLE);
    if (window_ != nullptr) renderer_ = SDL_CreateRenderer(window_, -1, 0);
    if (renderer_ == nullptr) return;
    SDL_RenderSetLogicalSize(renderer_, width, height);
    SDL_SetRenderDrawBlendMode(renderer_, SDL_BLENDMODE_BLEND);
  }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;
  ~Picture() {
    SDL_DestroyRenderer(renderer_);
    SDL_DestroyWindow(window_);
    SDL_Quit();
  }

  static int widthOf(std::string_view text, int pixel) {
    return (static_cast<int>(text.size()) * 6 - 1) * pixel;
  }
  bool isThere() const { return renderer_ != nullptr; }
  void fill(SDL_Rect area, SDL_Color colour) {
    set(colour);
    SDL_RenderFillRect(renderer_, &area);
  }
  void draw(Bitmap bitmap, int x, int y, int pixel, SDL_Color colour) {
    squares_.clear();
    for (int i = 0, last = bitmap.side * bitmap.side - 1; i <= last; ++i) {
      if ((bitmap.bits >> (last - i) & 1) == 0) continue;
      squares_.push_back({x + i % bitmap.side * pixel, y + i / bitmap.side * pixel, pixel, pixel});
    }
    set(colour);
    SDL_RenderFillRects(renderer_, squares_.data(), static_cast<int>(squares_.size()));
  }
  void write(std::string_view text, int x, int y, int pixel, SDL_Color colour) {
    for (const char c : text) {
      const int at = std::toupper(static_cast<unsigned char>(c)) - ' ';
      if (at > 0 && at < 59) draw({glyphs[at], 5}, x, y, pixel, colour);
      x += 6 * pixel;
    }
  }
  void show() { SDL_RenderPresent(renderer_); }
  bool save(const char* file) {
    const SDL_Rect all = {0, 0, width, height};
    SDL_Surface* const surface =
        SDL_CreateRGBSurfaceWithFormat(0, width, height, 24, SDL_PIXELFORMAT_RGB24);
    const bool saved = surface != nullptr &&
                       SDL_RenderReadPixels(renderer_, &all, SDL_PIXELFORMAT_RGB24, surface->pixels,
                                            surface->pitch) == 0 &&
                       SDL_SaveBMP(surface, file) == 0;
    SDL_FreeSurface(surface);
    return saved;
  }

 private:
  void set(SDL_Color c) { SDL_SetRenderDrawColor(renderer_, c.r, c.g, c.b, c.a); }

  SDL_Window* window_ = nullptr;
  SDL_Renderer* renderer_ = nullptr;
  std::vector<SDL_Rect> squares_;
};

#endif
