// Shows how to send over a WebSocket with libwebsockets: what arrived is acknowledged by messages.
//   c++ -std=c++17 websocket.cpp -lwebsockets -pthread
//   ./a.out [endpoint [events [cache file [seconds]]]]     then stays, with a heartbeat a minute
// It trusts the system's certificate authorities, or those in the file that SSL_CERT_FILE names.
#include "../nucleus.hpp"

#include <libwebsockets.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

/// Connects when there is something to send. Where that fails, or the connection breaks, so does
/// the request: the library comes again with it after its backoff, and that connects again.
class WebSocket {
 public:
  WebSocket() {
    lws_set_log_level(LLL_ERR | LLL_WARN, nullptr);
    lws_context_creation_info info = {};
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    info.protocols = protocols;
    info.user = this;
    context_ = lws_create_context(&info);
    if (context_ == nullptr) throw std::runtime_error("libwebsockets cannot start");
  }
  ~WebSocket() { lws_context_destroy(context_); }

  /// The transport.
  nucleus::Response send(const nucleus::Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    next_ = request;
    lws_cancel_service(context_);  // wakes the thread
    return nucleus::Response::pending();
  }
  void start(nucleus::Client& client) {
    client_ = &client;
    thread_ = std::thread([this] {
      while (!stopped_ && lws_service(context_, 0) >= 0) continue;
    });
  }
  void stop() {  // before the client's end; a name look-up that hangs is waited for
    stopped_ = true;
    lws_cancel_service(context_);
    thread_.join();
  }

 private:
  static int on(lws* socket, lws_callback_reasons event, void*, void* data, std::size_t bytes) {
    WebSocket& self = *static_cast<WebSocket*>(lws_context_user(lws_get_context(socket)));
    switch (event) {  // what is not 0 closes the connection
      case LWS_CALLBACK_EVENT_WAIT_CANCELLED: return self.wake();
      case LWS_CALLBACK_CLIENT_ESTABLISHED: return self.connected_ = true, self.wake();
      case LWS_CALLBACK_CLIENT_WRITEABLE: return self.write();
      case LWS_CALLBACK_CLIENT_RECEIVE: return self.read(static_cast<char*>(data), bytes);
      case LWS_CALLBACK_CLIENT_RECEIVE_PONG: return self.client_->trackingEnabled() ? 0 : 1;
      case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
      case LWS_CALLBACK_CLIENT_CLOSED: return self.end();
      default: return 0;
    }
  }
  int wake() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (next_) unsent_ = std::exchange(next_, {});
    lock.unlock();
    if (connected_) lws_callback_on_writable(socket_);
    else if (unsent_ && socket_ == nullptr) connect(std::string(unsent_->url()));
    return 0;
  }
  void connect(std::string url) {
    static const lws_retry_bo_t alive = {nullptr, 0, 0, 30, 45, 0};  // a ping at 30 s, over at 45
    const char *scheme = "", *path = "";
    lws_client_connect_info info = {};
    if (lws_parse_uri(url.data(), &scheme, &info.address, &info.port, &path) != 0) return;
    const std::string target = std::string("/") + path;
    info.context = context_;
    info.host = info.address;
    info.path = target.c_str();
    info.ssl_connection = std::string(scheme) == "wss" ? LCCSCF_USE_SSL : 0;
    info.retry_and_idle_policy = &alive;
    info.pwsi = &socket_;
    if (lws_client_connect_via_info(&info) == nullptr) end();
  }
  int write() {
    if (!unsent_) return 0;
    sent_ = std::exchange(unsent_, {});
    if (sent_->cancelled()) return 0;
    std::string frame = std::string(LWS_PRE, ' ') + std::string(sent_->body());
    auto* const text = reinterpret_cast<unsigned char*>(&frame[LWS_PRE]);
    return lws_write(socket_, text, frame.size() - LWS_PRE, LWS_WRITE_TEXT) < 0 ? 1 : 0;
  }
  int read(const char* data, std::size_t bytes) {
    if (message_.size() + bytes > 1 << 20) return 1;  // no answer is that long: give up
    message_.append(data, bytes);
    if (!lws_is_final_fragment(socket_)) return 0;
    client_->receive(message_);
    sent_.reset();  // with Options::memory there is no room for another before it is let go
    message_.clear();
    return 0;
  }
  int end() {
    connected_ = false;
    socket_ = nullptr;
    message_.clear();
    for (auto* const request : {&sent_, &unsent_}) {
      if (*request) std::exchange(*request, {})->reply({});
    }
    return 0;
  }

  static constexpr lws_protocols protocols[] = {{"", on, 0, 0, 0, nullptr, 0}, {}};
  lws_context* context_ = nullptr;
  nucleus::Client* client_ = nullptr;
  std::thread thread_;
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::optional<nucleus::Request> next_;  // handed over to the thread, whose is all that follows
  std::optional<nucleus::Request> unsent_, sent_;
  std::string message_;
  lws* socket_ = nullptr;
  bool connected_ = false;
};

int main(int count, char** arguments) {
  const auto socket = std::make_shared<WebSocket>();
  nucleus::Options options;
  options.appId = "websocket-example";
  options.transport = [socket](const nucleus::Request& request) { return socket->send(request); };
  options.debug = true;
  options.endpoint = count > 1 ? arguments[1] : "wss://app.nucleus.sh";
  const int events = count > 2 ? std::stoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "websocket-example.cache";

  nucleus::Client nucleus(options);
  socket->start(nucleus);
  for (int i = 0; i < events; ++i) {
    nucleus.track("STEP", {{"number", i}});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // what your program does
  }
  const bool delivered = nucleus.flush(20'000);
  std::printf("%zu events are still in the cache file\n", nucleus.stats().queuedEvents);
  std::this_thread::sleep_for(std::chrono::seconds(count > 4 ? std::stoi(arguments[4]) : 0));
  nucleus.shutdown(250);
  socket->stop();
  return delivered ? 0 : 1;
}
