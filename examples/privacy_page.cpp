// Shows how to tell users what is collected: the page of a small game, made from its own options.
#include "../nucleus.hpp"

#include <cstdio>
#include <cstring>

namespace {

// Constant data, so it can stand in a header beside the names of the events.
constexpr nucleus::DeclaredProperty levelDone[] = {
    {"level", "to see where players stop"},
    {"seconds", "to see which levels are too long"},
    {"deaths", "to see which levels are too hard"},
};
constexpr nucleus::DeclaredProperty player[] = {
    {"difficulty", "to balance easy and hard apart"},
};
constexpr nucleus::DeclaredEvent events[] = {
    {"LEVEL_DONE", "to make the levels better", levelDone, 3},
    {"GAME_WON", "to see how many reach the end"},
    {"/settings", "to see whether the settings are found"},
    {"props", "what is known of the player", player, 1},
};

}  // namespace

// The game gives the same options to its client; strict, nothing else can be tracked.
nucleus::Options gameOptions() {
  nucleus::Options options;
  options.appId = "small-game";
  options.version = "1.2.0";
  options.disableTracking = true;
  options.rememberTrackingChoice = true;
  options.catalogue = {events, sizeof events / sizeof events[0]};
  options.strictCatalogue = true;
  return options;
}

int main(int count, char** arguments) {
  const nucleus::DataInventory inventory = nucleus::dataInventory(gameOptions());
  if (count > 1 && std::strcmp(arguments[1], "--json") == 0) {
    std::puts(inventory.json().c_str());
  } else {
    std::printf("# Small Game: what it tells us\n\n%s", inventory.markdown().c_str());
  }
}
