// Every call and every type, as a host uses them. `disabled` builds this with NUCLEUS_DISABLED:
// nothing is done, and that is what each answer says. No function here has a type of the library in
// its signature, for the symbols of this program would hold that name.
//
// With HOST_CLASSES: what the host derives as well, of which it keeps what it made itself.
#include "nucleus.hpp"

#include <array>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace nucleus;

int failures = 0;

void expect(bool right) {
  if (!right) ++failures;
}

#ifdef HOST_CLASSES

class Page : public Storage {
 public:
  StorageState open() override { return StorageState::absent; }
  std::size_t read(std::size_t, char*, std::size_t) override { return 0; }
  bool append(std::string_view) override { return true; }
  bool beginReplace() override { return true; }
  bool write(std::string_view) override { return true; }
  bool commitReplace() override { return true; }
  bool sync() override { return true; }
  bool erase() override { return true; }
  bool vanished() override { return false; }
  void close() override {}
};
class Counter : public Clock {
 public:
  std::int64_t wallMs() override { return 1'700'000'000'000; }
  std::int64_t steadyMs() override { return ++ms_; }

 private:
  std::int64_t ms_ = 0;
};

#endif

void values() {
  const std::string owned = "owned";
  const Text texts[] = {Text(), "pointer", owned, std::string_view(owned)};
  std::size_t bytes = 0;
  for (const Text text : texts) bytes += text.view().size() + std::string_view(text).size();
  expect(bytes == 34);

  const Value values[] = {Value(), true, -1, 2u, 0.5, 0.5f, "text", owned};
  for (const Value& value : values) bytes += value.text().size();
  expect(bytes == 43 && values[1].boolean() && values[2].integer() == -1);
  expect(values[3].unsignedInteger() == 2 && values[4].number() > 0.4);
  expect(values[0].kind() == Value::Kind::nothing && values[1].kind() == Value::Kind::boolean);
  expect(values[2].kind() == Value::Kind::integer && values[5].kind() == Value::Kind::number);
  expect(values[3].kind() == Value::Kind::unsignedInteger && values[7].kind() == Value::Kind::text);

  const Property array[] = {{"a", 1}, {owned, owned}};
  const Properties list = array;
  expect(list.size() == 2 && list.end() - list.begin() == 2 && Properties().size() == 0);
}

constexpr DeclaredProperty declaredProperties[] = {{"number", "how many"}};
constexpr DeclaredEvent declaredEvents[] = {{"LEVEL_DONE", "how far", declaredProperties, 1},
                                            {"props", "who plays"}};

// ---- options, with every field set ----

void setTexts(void* to) {
  Options& options = *static_cast<Options*>(to);
  options.appId = "own";
  options.endpoint = "ws://host";
  options.version = "1.2.3";
  options.locale = "eo";
  options.platform = "own";
  options.osVersion = "1";
  options.deviceId = "d1";
  options.anonId = "a1";
  options.cacheFile = "nowhere/at/all";
  options.anonymizeKey = std::string("0123456789abcdef");
  options.catalogue = {declaredEvents, 2};
}

/// What was set is not there to be read.
void noText(void* of) {
  const Options& options = *static_cast<Options*>(of);
  const std::string copy = options.appId;
  const std::string_view view = options.endpoint;
  expect(copy.empty() && view.empty() && options.deviceId.empty());
  expect(options.version.size() == 0 && *options.locale.c_str() == '\0');
}

void setSources(void* to, char* memory, std::size_t bytes) {
  Options& options = *static_cast<Options*>(to);
  options.storage = fileStorage("nowhere/at/all");
  options.clock = std::shared_ptr<Clock>();
#ifdef HOST_CLASSES
  options.storage = std::make_shared<Page>();
  options.clock = std::make_shared<Counter>();
#endif
  options.entropy = [](void*, std::size_t) { return expect(false), false; };
  options.memory.data = memory;
  options.memory.bytes = bytes;
}

void setSwitches(void* to) {
  Options& options = *static_cast<Options*>(to);
  options.offlineCache = true;
  options.background = false;
  options.disableTracking = false;
  options.rememberTrackingChoice = true;
  options.respectDoNotTrack = true;
  options.personalData = PersonalData::allow;
  options.strictCatalogue = true;
  options.reportUncaught = true;
  options.debug = true;
}

void setLimits(void* to) {
  Options& options = *static_cast<Options*>(to);
  options.reportIntervalMs = 1'000;
  options.sessionTimeoutMs = 1'000;
  options.cutoffMs = 1'000;
  options.answerTimeoutMs = 1'000;
  options.shutdownTimeoutMs = 1'000;
  options.cacheDelayMs = 0;
  options.maxQueueBytes = 1 << 20;
  options.maxEventBytes = 1 << 10;
  options.maxBatchBytes = 1 << 14;
}

void setCallbacks(void* to, std::size_t bytes) {
  Options& options = *static_cast<Options*>(to);
  options.transport = [bytes](const Request& request) {
    expect(request.url().size() + request.contentType().size() + request.body().size() < bytes);
    if (!request.cancelled() && request.expectsAnswer()) request.reply(Response());
    return Response::pending();
  };
  options.filter = [](Text type, Text name, Properties properties) {
    return expect(type.view().size() + name.view().size() + properties.size() == 0), true;
  };
  options.onDiagnostic = [](const Diagnostic& diagnostic) {
    expect(diagnostic.severity == Severity::failure && diagnostic.code.empty() &&
           diagnostic.message.empty() && diagnostic.count == 0);
  };
  options.onUpdate = [](std::string_view latest) { expect(latest.empty()); };
  options.onCustomData = [](std::string_view json) { expect(json.empty()); };
}

// ---- calls ----

void tracks(void* of) {
  Client& client = *static_cast<Client*>(of);
  const std::array<Property, 2> list = {{{"a", 1}, {"b", "x"}}};
  const Outcome outcomes[] = {
      client.track("event"),
      client.track("event", list),
      client.track("event", {{"a", 1}, {"b", 0.5}, {"c", "x"}, {"d", true}}),
      client.page("page"),
      client.page("page", list),
      client.page("page", {{"a", 1}}),
      client.screen("screen"),
      client.screen("screen", list),
      client.screen("screen", {{"a", 1}}),
      client.trackError("error", "message"),
      client.trackError("error", "message", "stack"),
      client.trackError(std::exception()),
      client.setUserId("u1"),
      client.setProps(list),
      client.setProps(list, true),
      client.setProps({{"a", 1u}}),
      client.setProps({{"a", 1u}}, true),
      client.identify("u1"),
      client.identify("u1", list),
      client.identify("u1", {{"a", 1}}),
      client.startSession(),
  };
  for (const Outcome outcome : outcomes) expect(outcome == Outcome::trackingDisabled);
}

void steers(void* of) {
  Client& client = *static_cast<Client*>(of);
  client.enableTracking();
  expect(!client.trackingEnabled() && client.consent() == Consent::notAsked);
  expect(client.disableTracking() && client.forget());
  expect(client.exportData() == "{}");
  client.online();
  client.online(false);
  client.receive("{}");
  client.poll();
  expect(!client.flush(1'000) && !client.persist() && !client.shutdown(1'000));
}

void counts(void* of) {
  const Stats stats = static_cast<Client*>(of)->stats();
  expect(stats.queuedEvents + stats.queuedBytes + stats.cacheBytes == 0);
  expect(stats.acceptedEvents + stats.acknowledgedEvents + stats.erasedEvents == 0);
  expect(stats.requests + stats.failedRequests + stats.notCached == 0);
  expect(stats.droppedQueueFull + stats.droppedTooOld + stats.droppedRefused == 0);
  expect(stats.droppedDamaged + stats.droppedPersonalData == 0);
  expect(stats.nextRequestInMs == -1 && stats.lastStatus == 0);
  expect(stats.storage == StorageState::absent && stats.consent == Consent::notAsked);
  expect(!stats.trackingEnabled);
}

void all(void* of) {
  tracks(of);
  steers(of);
  counts(of);
}

void clients() {
  static char memory[1 << 16];
  Options options;
  setTexts(&options);
  setSources(&options, memory, sizeof memory);
  setSwitches(&options);
  setLimits(&options);
  setCallbacks(&options, sizeof memory);
  noText(&options);
  Client client(options), other, moved = std::move(client);
  all(&client);
  all(&other);
  other = std::move(moved);
  all(&moved);
  all(&other);
  Client plain{Options()};
  all(&plain);
  for (const char each : memory) expect(each == 0);
}

void requests() {
  const Request request(nullptr), copy = request;
  expect(copy.url().empty() && copy.contentType().empty() && copy.body().empty());
  expect(copy.cancelled() && !copy.expectsAnswer());
  Response response = Response::pending();
  response.body = response.retryAfter = "1";
  copy.reply(std::move(response));
  const Transport empty;
  expect(!empty);
}

void functions() {
  Options options;
  options.catalogue = {declaredEvents, 2};
  const DataInventory inventory = dataInventory(options);
  for (const DataInventory::Row& row : inventory) {
    expect(row.field.empty() && row.when.empty() && row.purpose.empty() && row.personal);
  }
  expect(inventory.size() == 0 && inventory.begin() == inventory.end());
  expect(inventory.policy().empty() && inventory.markdown().empty() && inventory.json().empty());
  expect(anonymize("ada", "0123456789abcdef").empty());
  expect(machineDeviceId("own").empty() && defaultCacheFile("own").empty());
  expect(fileStorage("nowhere/at/all") == nullptr);
}

}  // namespace

int main() {
  values();
  clients();
  requests();
  functions();
  return failures;
}
