// A module of the program's own words; who imports it sees nothing of the library.
export module analytics;

export namespace analytics {
void start(const char* appId);
bool track(const char* name);
bool finish();
}  // namespace analytics
