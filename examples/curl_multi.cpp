// Shows how to send with libcurl's multi interface in a frame loop: no thread, no call that waits.
//   c++ -std=c++17 curl_multi.cpp -lcurl -pthread
//   ./a.out [endpoint [events [cache file]]]     an event a frame, until all are delivered
// No name look-up waits where `curl-config --features` has AsynchDNS, as it mostly does. The first
// connection reads all the certificate authorities that the system trusts: 30 ms, once.
#include "../nucleus.hpp"

#include <curl/curl.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>

class Http {
 public:
  ~Http() {
    while (!transfers_.empty()) end(transfers_.begin()->first, CURLE_ABORTED_BY_CALLBACK);
    curl_multi_cleanup(multi_);
    curl_slist_free_all(type_);
  }

  /// The transport: begins a transfer, whose answer comes in a later step().
  nucleus::Response send(const nucleus::Request& request) {
    CURL* const curl = curl_easy_init();
    if (curl == nullptr) return {};
    Transfer& transfer = transfers_.emplace(curl, Transfer{request, {}}).first->second;
    curl_easy_setopt(curl, CURLOPT_URL, std::string(request.url()).c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, type_);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body().data());  // kept by the transfer
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body().size()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stopIfCancelled);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);  // call the function above
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    const char* const authorities = std::getenv("SSL_CERT_FILE");  // else the system's
    if (authorities != nullptr) curl_easy_setopt(curl, CURLOPT_CAINFO, authorities);
    if (curl_multi_add_handle(multi_, curl) == CURLM_OK) return nucleus::Response::pending();
    curl_easy_cleanup(curl);
    transfers_.erase(curl);
    return {};
  }

  /// Sends and receives what can be without waiting. Call it every frame.
  void step() {
    int unused = 0;
    curl_multi_perform(multi_, &unused);
    while (const CURLMsg* const message = curl_multi_info_read(multi_, &unused)) {
      if (message->msg == CURLMSG_DONE) end(message->easy_handle, message->data.result);
    }
  }

 private:
  struct Transfer {
    nucleus::Request request;
    nucleus::Response response;
  };

  static std::size_t keep(char* data, std::size_t, std::size_t bytes, void* transfer) {
    std::string& kept = static_cast<Transfer*>(transfer)->response.body;
    if (kept.size() + bytes > 1 << 20) return 0;  // no answer is that long: give up
    return kept.append(data, bytes), bytes;
  }
  static int stopIfCancelled(void* transfer, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Transfer*>(transfer)->request.cancelled() ? 1 : 0;
  }
  void end(CURL* curl, CURLcode result) {
    auto ended = transfers_.extract(curl);  // curl looks at it until it is removed
    auto& [request, response] = ended.mapped();
    long status = 0;            // no server was reached
    curl_off_t retryAfter = 0;  // in seconds, whatever form it had
    if (result == CURLE_OK) {
      curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
      curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retryAfter);
    }
    response.status = static_cast<int>(status);
    if (retryAfter > 0) response.retryAfter = std::to_string(retryAfter);
    curl_multi_remove_handle(multi_, curl);
    curl_easy_cleanup(curl);
    request.reply(response);
  }

  CURLM* multi_ = curl_multi_init();
  curl_slist* type_ = curl_slist_append(nullptr, "Content-Type: application/json");
  std::map<CURL*, Transfer> transfers_;
};

int main(int count, char** arguments) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  const auto http = std::make_shared<Http>();
  nucleus::Options options;
  options.appId = "curl-multi-example";
  options.transport = [http](const nucleus::Request& request) { return http->send(request); };
  options.background = false;
  options.debug = true;
  if (count > 1) options.endpoint = arguments[1];
  const int events = count > 2 ? std::stoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "curl-multi-example.cache";

  nucleus::Client nucleus(options);
  bool delivered = false;
  for (int frame = 0; frame < events + 60 * 20 && !delivered; ++frame) {
    if (frame < events) nucleus.track("STEP", {{"number", frame}});
    else delivered = nucleus.flush(0);  // the game is over: now, but still without waiting
    nucleus.poll();
    http->step();
    std::this_thread::sleep_for(std::chrono::milliseconds(16));  // what your game does
  }
  std::printf("%zu events are still in the cache file\n", nucleus.stats().queuedEvents);
  return delivered ? 0 : 1;
}
