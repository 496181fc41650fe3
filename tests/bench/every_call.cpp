// Every call there is, for the size of a program that uses the library whole. With EMPTY: none.
#ifndef EMPTY
#include "../../nucleus.hpp"

#include <cstdio>

int main(int count, char** arguments) {
  nucleus::Options options;
  options.appId = arguments[0];
  options.transport = [](const nucleus::Request& request) {
    std::fwrite(request.body().data(), 1, request.body().size(), stdout);
    return nucleus::Response{200, "", ""};
  };
  options.background = count > 1;
  nucleus::Client client(options);
  client.track(arguments[0], {{"a", count}, {"b", 0.5}, {"c", "x"}, {"d", true}});
  client.page(arguments[0]);
  client.screen(arguments[0]);
  client.trackError(arguments[0], "message", "stack");
  client.trackError(std::exception());
  client.setUserId(arguments[0]);
  client.setProps({{"a", 1u}});
  client.identify(arguments[0], {{"a", 1}});
  client.startSession();
  client.enableTracking();
  client.online();
  client.receive(arguments[0]);
  client.poll();
  options.deviceId = nucleus::machineDeviceId(arguments[0]);
  options.anonId = nucleus::anonymize(arguments[0], arguments[0]);
  const nucleus::DataInventory inventory = nucleus::dataInventory(options);
  std::puts((inventory.markdown() + inventory.json() + client.exportData()).c_str());
  const bool done = client.persist() && client.flush(100) && client.disableTracking() &&
                    client.forget() && client.trackingEnabled() && client.shutdown(100);
  return done && client.consent() == nucleus::Consent::granted ? 0 : client.stats().lastStatus;
}
#else
int main() { return 0; }
#endif
