// A program that imports the module.
import analytics;

extern "C" int puts(const char*);

int main() {
  analytics::start("module");
  if (!analytics::track("MODULE") || !analytics::finish()) return 1;
  puts("delivered by a module");
}
