// Shows how to track on a device without an operating system: own flash, clock, chance and link.
//
//   examples/firmware/build firmware.elf
#include "board.hpp"

#include <algorithm>
#include <optional>

namespace {

/// Unset until the other end of the link has told the time.
class DeviceClock : public nucleus::Clock {
 public:
  std::int64_t wallMs() override { return offsetMs_ == 0 ? 0 : board::uptimeMs() + offsetMs_; }
  std::int64_t steadyMs() override { return board::uptimeMs(); }
  void set(std::int64_t wallMs) { offsetMs_ = wallMs - board::uptimeMs(); }

 private:
  std::int64_t offsetMs_ = 0;
};

/// Requests go out as `URL BODY`; answers come back as `STATUS TIME RETRY-AFTER BODY`.
class Link {
 public:
  explicit Link(DeviceClock& clock) : clock_(clock) {}

  nucleus::Response begin(const nucleus::Request& request) {
    if (request.cancelled()) return {};
    board::sendLine({request.url(), " ", request.body(), "\n"});
    waiting_ = request;
    sentMs_ = board::uptimeMs();
    return nucleus::Response::pending();
  }
  void poll() {
    static char text[256];
    std::size_t bytes = 0;
    if (!waiting_) return;
    nucleus::Response response;
    if (board::receiveLine(text, bytes)) {
      if (bytes < sizeof text) response = read({text, bytes});  // else it was too long: no answer
    } else if (!waiting_->cancelled() && board::uptimeMs() - sentMs_ < 30'000) {
      return;
    }  // a lost line: the library has memory for one request, so it must be let go
    waiting_->reply(std::move(response));
    waiting_.reset();
  }

 private:
  nucleus::Response read(std::string_view line) {
    nucleus::Response response;
    response.status = static_cast<int>(toNumber(takeWord(line)));
    clock_.set(toNumber(takeWord(line)));
    response.retryAfter = takeWord(line);
    response.body = line;
    return response;
  }

  DeviceClock& clock_;
  std::optional<nucleus::Request> waiting_;
  std::int64_t sentMs_ = 0;
};

/// Of something that lives as long as the program: nothing is allocated, nothing freed.
template <class T>
std::shared_ptr<T> shared(T& object) {
  return {std::shared_ptr<T>(), &object};
}

/// Not in main(), where the options would stay on the stack.
[[gnu::noinline]] nucleus::Client start(DeviceClock& clock, FlashStorage& storage, Link& link) {
  alignas(8) static char memory[8720];  // as much as a queue of 4 KB and one request need
  nucleus::Options options;
  options.appId = "firmware";
  options.version = "1.0.0";
  options.osVersion = "1.0";
  options.transport = [&link](const nucleus::Request& request) { return link.begin(request); };
  options.clock = shared<nucleus::Clock>(clock);
  options.storage = shared<nucleus::Storage>(storage);
  options.entropy = board::randomBytes;
  options.memory.data = memory;
  options.memory.bytes = sizeof memory;
  options.background = false;
  options.maxQueueBytes = 4096;
  options.maxEventBytes = 512;
  options.maxBatchBytes = 528;
  return nucleus::Client(std::move(options));
}

/// As a converter of 12 bits gives it.
void track(nucleus::Client& nucleus, int reading) {
  const int steps = 900 + reading % 7;
  nucleus.track("TEMPERATURE", {{"reading", reading}, {"volts", steps * 3.3 / 4095}});
}

}  // namespace

int main() {
  static DeviceClock clock;
  static FlashStorage storage(board::flash());
  static Link link(clock);
  static nucleus::Client nucleus = start(clock, storage, link);
  for (int reading = 0; board::isOn(); ++reading) {
    if (reading % 50 == 0) track(nucleus, reading);
    nucleus.poll();
    link.poll();
    board::sleep(100);
  }
}
