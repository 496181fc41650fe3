// What a library of the program does for it. No type of nucleus.hpp is seen from outside.
#pragma once

struct Library {
  const char* version;
  void (*open)(const char* cacheFile);
  bool (*holdsFile)();
  bool (*track)(const char* name);
  bool (*deliver)();
  const char* (*sent)();  // all that left by its transport
  void (*close)();
};
