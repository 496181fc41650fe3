// A test server for the track endpoint: checks what it gets, and misbehaves on demand.
//
//   collector [--port N] [--port-file PATH] [--log PATH] [--behave JSON] [--tls PEM]
//
// With --tls it speaks HTTPS alone; PEM is a file with its key and its certificate.
//
//   POST /app/{appId}/track   what a client talks to
//   POST /control/behave      {"answers":[one per request, ...],"then":"ok"}, in place of the last
//   GET  /control/state       counts, ids, violations, when each request came, answers unused
//   GET  /control/events      as received
//   POST /control/reset       forgets all, behaves well     POST /control/quit     exit code 0
//
// Answers. All but offline are checked; those marked * also store the events.
//   ok *        acknowledges all             drop *      closes the connection, no answer
//   half *      stores and acknowledges      offline     the same, as if nothing had arrived
//               every other event            html        200 and a web page
//   none *      acknowledges nothing         body TEXT   200 and this text
//   slow MS *   ok, but late                 STATUS      this status
//   429 N, 503 N    with Retry-After: N      429-date N, 503-date N   the same as an HTTP date
//   413 BYTES   if the body is larger, else ok *
//   400 NAME    if an event of this name is in it, else ok * (also 422, 500, ...)
//
// Build with the flags of `pkg-config cpp-httplib`: its macros change the layout of its classes.
#include "answers.hpp"

#include <httplib.h>  // and with it the system's sockets

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <thread>

namespace collector {

// ==== 8. Server ==== HTTP in front of it

/// httplib answers every request. So the accepted socket is looked up by its peer, for which the
/// port is enough on the loopback, and shut down both ways: the client reads the end of the stream
/// before any byte; httplib's own write fails, and it closes the socket as it does any other.
/// (On a connection that was used before, a client may send the request again by itself.)
void dropConnection(const httplib::Request& request) {
  const int limit = static_cast<int>(::sysconf(_SC_OPEN_MAX));
  for (int socket = 0; socket < limit; ++socket) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family != AF_INET || ntohs(peer.sin_port) != request.remote_port) continue;
    ::shutdown(socket, SHUT_RDWR);
    return;
  }
}

void give(const Answer& answer, const httplib::Request& request, httplib::Response& response) {
  std::this_thread::sleep_for(std::chrono::milliseconds(answer.delayMs));
  if (answer.status == 0) return dropConnection(request);
  response.status = answer.status;
  response.set_content(answer.body, answer.contentType);
  if (!answer.retryAfter.empty()) response.set_header("Retry-After", answer.retryAfter);
}

/// A POST that needs no body. httplib would wait for one that comes without a length.
void onCommand(httplib::Server& server, const char* path, const std::function<void()>& command) {
  server.Post(path, [command](const httplib::Request& request, httplib::Response&,
                              const httplib::ContentReader& read) {
    if (request.has_header("Content-Length")) read([](const char*, std::size_t) { return true; });
    command();
  });
}

void route(httplib::Server& server, Collector& collector) {
  using httplib::Request, httplib::Response;
  server.Post("/app/([^/]*)/track", [&](const Request& request, Response& response) {
    const auto contentType = request.get_header_value("Content-Type");
    give(collector.track(request.matches[1], contentType, request.body), request, response);
  });
  server.Post("/control/behave", [&](const Request& request, Response& response) {
    try {
      collector.behave(scriptOf(request.body));
    } catch (const std::exception& problem) {
      response.status = 400;
      response.set_content(problem.what(), "text/plain");
    }
  });
  server.Get("/control/state", [&](const Request&, Response& response) {
    response.set_content(collector.state(), "application/json");
  });
  server.Get("/control/events", [&](const Request&, Response& response) {
    response.set_content(collector.events(), "application/json");
  });
  onCommand(server, "/control/reset", [&] { collector.reset(); });
  onCommand(server, "/control/quit", [&] { server.stop(); });
}

/// Its own socket options: httplib's would let a second collector share the port. Many threads and
/// a short keep-alive: each open connection holds a thread, and the end waits for them all.
void configure(httplib::Server& server) {
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.new_task_queue = [] { return new httplib::ThreadPool(32); };
  server.set_keep_alive_max_count(1'000'000);
  server.set_keep_alive_timeout(2);
  server.set_tcp_nodelay(true);
}

std::unique_ptr<httplib::Server> serverFor(const std::string& pem) {
  if (pem.empty()) return std::make_unique<httplib::Server>();
  auto server = std::make_unique<httplib::SSLServer>(pem.c_str(), pem.c_str());
  if (!server->is_valid()) throw std::runtime_error("the key or the certificate cannot be used");
  return server;
}

int run(std::map<std::string, std::string> options) {
  const std::string portFile = options["--port-file"], pem = options["--tls"];
  Collector collector(options["--log"]);
  if (!options["--behave"].empty()) collector.behave(scriptOf(options["--behave"]));
  const auto owned = serverFor(pem);
  httplib::Server& server = *owned;
  configure(server);
  route(server, collector);
  int port = options["--port"].empty() ? 0 : std::stoi(options["--port"]);
  if (port == 0) port = server.bind_to_any_port("127.0.0.1");
  else if (!server.bind_to_port("127.0.0.1", port)) port = -1;
  if (port < 0) throw std::runtime_error("the port cannot be had");
  if (!portFile.empty()) {
    std::ofstream(portFile + ".tmp") << port << '\n';
    if (std::rename((portFile + ".tmp").c_str(), portFile.c_str()) != 0)
      throw std::runtime_error("the port file cannot be written");
  }
  std::cout << "listening on http" << (pem.empty() ? "" : "s") << "://127.0.0.1:" << port
            << std::endl;
  return server.listen_after_bind() ? 0 : 1;
}

}  // namespace collector

int main(int count, char** arguments) try {
  const std::set<std::string> known = {"--port", "--port-file", "--log", "--behave", "--tls"};
  std::map<std::string, std::string> options;
  for (int i = 1; i < count; i += 2) {
    if (!known.count(arguments[i]) || i + 1 == count) throw std::invalid_argument(arguments[i]);
    options[arguments[i]] = arguments[i + 1];
  }
  return collector::run(options);
} catch (const std::exception& problem) {
  std::cerr << "collector: " << problem.what() << "\nusage: collector [--port N] "
            << "[--port-file PATH] [--log PATH] [--behave JSON] [--tls PEM]\n";
  return 2;
}
