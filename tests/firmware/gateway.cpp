// The other end of the example's link: each line is a request, checked by the collector's rules,
// and answered with the time. At the end what was received goes into a file.
//
//   gateway FILE [BEHAVIOUR]     as POST /control/behave of the collector takes it
#include "../collector/answers.hpp"

#include <iostream>

int main(int count, char** arguments) {
  collector::Collector collector("");
  if (count > 2) collector.behave(collector::scriptOf(arguments[2]));
  std::int64_t wallMs = 1'764'000'000'000;
  for (std::string line; std::getline(std::cin, line); wallMs += 1'000) {
    const auto app = line.find("/app/") + 5, space = line.find(' ');
    const std::string appId = line.substr(app, line.find('/', app) - app);
    const auto answer = collector.track(appId, "application/json", line.substr(space + 1));
    std::cout << answer.status << ' ' << wallMs << ' ' << answer.retryAfter << ' ' << answer.body
              << std::endl;
  }
  std::ofstream(arguments[1]) << "{\"state\":" << collector.state()
                              << ",\"events\":" << collector.events() << "}\n";
}
