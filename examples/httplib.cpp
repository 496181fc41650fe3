// Shows how to send with cpp-httplib: a blocking transport for the worker thread.
//   c++ -std=c++17 httplib.cpp $(pkg-config --cflags --libs cpp-httplib) -lssl -lcrypto -pthread
//   ./a.out [endpoint [events [cache file]]]     tracks, delivers, and says what became of it
// Without its package: -DCPPHTTPLIB_OPENSSL_SUPPORT in place of the flags of pkg-config. It trusts
// the system's certificate authorities, or those in the file that SSL_CERT_FILE names.
#include "../nucleus.hpp"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>

using Clock = std::chrono::steady_clock;

/// Stops a server that is `over`, since the time-outs of cpp-httplib are those of each step.
class Watch {
 public:
  Watch(httplib::Client& server, std::function<bool()> over)
      : thread_([this, &server, over] {
          for (; !ended_; std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
            if (over()) server.stop();
          }
        }) {}
  ~Watch() {
    ended_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

nucleus::Response post(const nucleus::Request& request) {
  if (request.cancelled()) return {};
  const std::string url(request.url());
  const std::size_t path = url.find('/', url.find("://") + 3);
  const auto end = Clock::now() + std::chrono::seconds(30);
  nucleus::Response response;

  httplib::Request post;
  post.method = "POST";
  post.path = url.substr(path);
  post.body = request.body();
  post.set_header("Content-Type", std::string(request.contentType()));
  post.content_receiver = [&](const char* data, std::size_t bytes, auto, auto) {
    if (response.body.size() + bytes > 1 << 20) return false;  // no answer is that long: give up
    response.body.append(data, bytes);
    return true;
  };
  httplib::Client server(url.substr(0, path));
  server.set_connection_timeout(10);
  server.set_write_timeout(10);
  server.set_read_timeout(10);
  httplib::Response answer;
  const bool reached = [&] {
    const Watch watch(server, [&] { return request.cancelled() || Clock::now() > end; });
    httplib::Error error = httplib::Error::Success;
    return server.send(post, answer, error);
  }();
  if (!reached) return {};  // no server was reached
  response.status = answer.status;
  response.retryAfter = answer.get_header_value("Retry-After");
  return response;
}

int main(int count, char** arguments) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // a server that hangs up is an error, not the end of the program
#endif
  nucleus::Options options;
  options.appId = "httplib-example";
  options.transport = post;
  options.debug = true;
  if (count > 1) options.endpoint = arguments[1];
  const int events = count > 2 ? std::stoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "httplib-example.cache";

  nucleus::Client nucleus(options);
  for (int i = 0; i < events; ++i) {
    nucleus.track("STEP", {{"number", i}});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // what your program does
  }
  const bool delivered = nucleus.flush(20'000);
  std::printf("%zu events are still in the cache file\n", nucleus.stats().queuedEvents);
  return delivered ? 0 : 1;
}
