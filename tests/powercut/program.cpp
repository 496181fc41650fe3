// The client on the real file storage: to be recorded, and to load what a power cut leaves.
//
//   program live FILE SEED        does what a host does, and says what it was promised
//   program load LIST             a line "FILE" each: what is held there, and whether it can go on
//
// live says, each as one write to standard output:
//   kept MS NAME      track() took it, or for `urgent` trackError(); the client counts by MS
//   urgent MS NAME
//   polled MS         poll() returned
//   gone NAME,...     acknowledged
//   safe              persist() said yes: all of this is in the file for good
//   erasing           what was kept before is to be erased
//   erased            disableTracking() or forget() said yes: it is, for good
//   forgetting        the ids are to be erased too
//   forgotten         and they are
//   user TEXT         was told to the client as the user's id
//   device TEXT       is the device's id from now on
#include "../fakes.hpp"

#include <fstream>
#include <iostream>
#include <unistd.h>

namespace {

using nucleus::Client;

void say(const std::string& line) {
  const std::string text = line + '\n';
  if (::write(1, text.data(), text.size()) < 0) _exit(3);
}

nucleus::Options optionsOf(const std::string& file, const std::shared_ptr<fakes::Clock>& clock) {
  nucleus::Options options;
  options.appId = "powercut";
  options.cacheFile = file;
  options.background = false;
  options.clock = clock;
  options.respectDoNotTrack = false;
  options.cutoffMs = std::int64_t{365} * 86'400'000;
  return options;
}

template <class Events>
std::string namesOf(const Events& events) {
  std::string names;
  for (const auto& event : events) {
    if (event.value("type", "") != "event" && event.value("type", "") != "error") continue;
    names += (names.empty() ? "" : ",") + event.at("name").template get<std::string>();
  }
  return names;
}

fakes::Json heldBy(const Client& client) { return fakes::Json::parse(client.exportData()); }

/// A host that does one thing after the other, as its seed has it.
class Host {
 public:
  Host(std::string file, unsigned seed) : file_(std::move(file)), random_(seed) { start(); }

  void act() {
    const int die = between(0, 99);
    if (die < 45) track();
    else if (die < 60) pass(between(1, 4) * 700);
    else if (die < 68) pass(21'000);
    else if (die < 76) pass(61'000);
    else if (die < 84) persist();
    else if (die < 88) error();
    else if (die < 91) identify();
    else if (die < 94) erase(false);
    else if (die < 96) erase(true);
    else restart();
  }
  void end() { client_ = Client(); }

 private:
  int between(int lowest, int highest) {
    return std::uniform_int_distribution<int>(lowest, highest)(random_);
  }
  void start() {
    nucleus::Options options = optionsOf(file_, clock_);
    options.entropy = [this](void* to, std::size_t bytes) {
      for (char* at = static_cast<char*>(to); bytes > 0; --bytes)
        *at++ = static_cast<char>(between(0, 255));
      return true;
    };
    options.transport = [this](const nucleus::Request& request) { return answer(request); };
    client_ = Client(options);
    sayDevice();
  }
  void sayDevice() { say("device " + heldBy(client_).value("deviceId", "")); }
  /// Half of the requests reach nobody; of the others a part is acknowledged.
  nucleus::Response answer(const nucleus::Request& request) {
    if (between(0, 1) == 0) return {};
    std::vector<fakes::Json> gone;
    std::vector<std::uint64_t> ids;
    for (const fakes::Json& event : fakes::Server::events(request.body())) {
      if (between(0, 3) == 0) continue;
      gone.push_back(event);
      ids.push_back(event.at("id"));
    }
    say("gone " + namesOf(gone));
    return fakes::Server::with(200, fakes::Server::naming(ids));
  }
  void track() {
    for (int left = between(1, 3); left > 0; --left) {
      const std::string name = 'e' + std::to_string(++count_) + '.';
      const std::string text(between(0, 3) == 0 ? 9'000 : 10, 'x');
      if (client_.track(name, {{"text", text}}) == nucleus::Outcome::ok)
        say("kept " + now() + name);
    }
  }
  void error() {
    const std::string name = 'e' + std::to_string(++count_) + '.';
    if (client_.trackError(name, "message") == nucleus::Outcome::ok) say("urgent " + now() + name);
  }
  void identify() {
    const std::string user = "user" + std::to_string(++count_) + '.';
    if (client_.setUserId(user) == nucleus::Outcome::ok) say("user " + user);
  }
  void pass(std::int64_t ms) {
    clock_->advance(ms);
    client_.poll();
    say("polled " + now());
  }
  std::string now() const { return std::to_string(clock_->steady) + ' '; }
  void persist() {
    if (client_.persist()) say("safe");
  }
  void erase(bool all) {
    say("erasing");
    if (all) say("forgetting");
    const bool erased = all ? client_.forget() : client_.disableTracking();
    if (!erased) _exit(4);  // nothing is wrong with this disk
    say("erased");
    if (all) say("forgotten");
    if (between(0, 1) == 0) restart();
    client_.enableTracking();
    sayDevice();
  }
  void restart() {
    if (client_.shutdown(0)) say("safe");
    start();
  }

  const std::string file_;
  std::minstd_rand random_;
  const std::shared_ptr<fakes::Clock> clock_ = std::make_shared<fakes::Clock>();
  Client client_;
  int count_ = 0;
};

/// What is held in a file, and whether it is of use from now on.
fakes::Json load(const std::string& file) {
  const auto clock = std::make_shared<fakes::Clock>();
  Client client(optionsOf(file, clock));
  const fakes::Json held = heldBy(client);
  const nucleus::Stats stats = client.stats();
  const bool went = client.track("after") == nucleus::Outcome::ok && client.persist();
  client = Client(optionsOf(file, clock));
  const std::string names = namesOf(held.at("events")),
                    later = namesOf(heldBy(client).at("events"));
  return {{"storage", static_cast<int>(stats.storage)},
          {"damaged", stats.droppedDamaged},
          {"deviceId", held.value("deviceId", "")},
          {"userId", held.value("userId", "")},
          {"names", names},
          {"goesOn", went && later == names + (names.empty() ? "after" : ",after")}};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[1] : "";
  if (mode == "live" && argc == 4) {
    Host host(argv[2], static_cast<unsigned>(std::atoi(argv[3])));
    for (int left = 60; left > 0; --left) host.act();
    host.end();
    return 0;
  }
  if (mode != "load") return 2;
  std::ifstream list(argv[2]);
  for (std::string file; std::getline(list, file);) std::cout << load(file) << '\n';
  return 0;
}
