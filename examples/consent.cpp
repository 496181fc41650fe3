// Shows how to ask for consent, remember the answer, and show and erase a user's data.
#include "../nucleus.hpp"

#include <iostream>
#include <string>

bool isYes(const char* question) {
  std::string answer;
  std::cout << question << " [y/N] " << std::flush;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

// Erasing on Nucleus's servers takes a secret token, which never belongs in a program that users
// have. Your own server holds it: send the ids there, and have it ask Nucleus. False: not now.
bool sendIdsToOurServer(const std::string& data) {
  std::cout << "to our own server, which has what was sent erased, the ids in:\n" << data << '\n';
  return true;
}

void ask(nucleus::Client& nucleus, const nucleus::Options& options) {
  std::cout << nucleus::dataInventory(options).policy() << "\n\n";
  if (isYes("Is that all right?")) nucleus.enableTracking();
  else if (!nucleus.disableTracking()) std::cout << "Not erased yet; it is tried again.\n";
}

// In this order: what is forgotten can no longer say whom to erase.
void erase(nucleus::Client& nucleus) {
  const std::string data = nucleus.exportData();
  nucleus.disableTracking();  // nothing more is sent meanwhile
  if (!sendIdsToOurServer(data)) std::cout << "We cannot reach our server; try again later.\n";
  else if (nucleus.forget()) std::cout << "Erased.\n";
  else std::cout << "Not erased yet; it is tried again.\n";
}

int main() {
  nucleus::Options options;
  options.appId = "consent-example";
  options.disableTracking = true;         // nothing before there is an answer ...
  options.rememberTrackingChoice = true;  // ... which the next run knows
  options.transport = [](const nucleus::Request&) -> nucleus::Response { return {}; };  // offline
  nucleus::Client nucleus(options);

  if (nucleus.consent() == nucleus::Consent::notAsked) ask(nucleus, options);
  nucleus.track("STARTED");  // does nothing without consent
  for (std::string line;;) {
    std::cout << "tracking is " << (nucleus.trackingEnabled() ? "on" : "off")
              << "; [a]sk again, [s]how my data, [e]rase my data, [q]uit: " << std::flush;
    if (!std::getline(std::cin, line) || line == "q") break;
    if (line == "a") ask(nucleus, options);
    if (line == "s") std::cout << nucleus.exportData() << '\n';
    if (line == "e") erase(nucleus);
  }
}
