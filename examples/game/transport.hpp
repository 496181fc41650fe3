// Shows how to deliver from a frame loop by libcurl multi, where no call waits for the network.
//   part of game.cpp, which is built as it says
#ifndef GAME_TRANSPORT_HPP
#define GAME_TRANSPORT_HPP

#include "../../nucleus.hpp"

#include <curl/curl.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

/// begin() is for Options::transport, from any thread; the other two are for the frame loop.
class FrameTransport {
 public:
  FrameTransport() = default;
  FrameTransport(const FrameTransport&) = delete;
  FrameTransport& operator=(const FrameTransport&) = delete;
  ~FrameTransport() {
    for (const auto& [curl, transfer] : running_) close(curl);
    curl_multi_cleanup(multi_);
    curl_slist_free_all(json_);
  }

  nucleus::Response begin(const nucleus::Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    begun_.push_back(request);
    return nucleus::Response::pending();
  }
  /// Sends and receives what can be without waiting.
  void transfer() {
    openBegun();
    int number = 0;
    curl_multi_perform(multi_, &number);
    while (const CURLMsg* const message = curl_multi_info_read(multi_, &number)) {
      CURL* const curl = message->easy_handle;
      auto ended = running_.extract(curl);
      if (message->data.result == CURLE_OK) readHead(curl, ended.mapped().response);
      close(curl);
      ended_.push_back(std::move(ended.mapped()));
    }
  }
  /// Hands the library the answers that are there, or that there is none.
  void reply() {
    for (Transfer& transfer : ended_) transfer.request.reply(std::move(transfer.response));
    ended_.clear();
  }

 private:
  struct Transfer {
    nucleus::Request request;
    nucleus::Response response = {};  // status 0: no server was reached
  };

  void openBegun() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const nucleus::Request& request : begun_) {
      CURL* const curl = curl_easy_init();
      if (curl != nullptr && open(curl, running_.emplace(curl, Transfer{request}).first->second)) {
        continue;
      }
      curl_easy_cleanup(curl);
      running_.erase(curl);
      ended_.push_back({request});
    }
    begun_.clear();
  }
  bool open(CURL* curl, Transfer& transfer) {
    const nucleus::Request& request = transfer.request;
    curl_easy_setopt(curl, CURLOPT_URL, std::string(request.url()).c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, json_);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body().data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body().size()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer.response.body);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stopIfCancelled);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &request);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);  // call the function above
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    return curl_multi_add_handle(multi_, curl) == CURLM_OK;
  }
  static void readHead(CURL* curl, nucleus::Response& response) {
    long status = 0;
    curl_off_t retryAfter = 0;  // in seconds, whatever form it had
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retryAfter);
    response.status = static_cast<int>(status);
    if (retryAfter > 0) response.retryAfter = std::to_string(retryAfter);
  }
  void close(CURL* curl) {
    curl_multi_remove_handle(multi_, curl);
    curl_easy_cleanup(curl);
  }
  static std::size_t keep(char* data, std::size_t, std::size_t bytes, void* body) {
    std::string& kept = *static_cast<std::string*>(body);
    if (kept.size() + bytes > 1 << 20) return 0;  // no answer is that long: give up
    return kept.append(data, bytes), bytes;
  }
  static int stopIfCancelled(void* request, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<const nucleus::Request*>(request)->cancelled() ? 1 : 0;
  }

  CURLM* const multi_ = (curl_global_init(CURL_GLOBAL_DEFAULT), curl_multi_init());
  curl_slist* const json_ = curl_slist_append(nullptr, "Content-Type: application/json");
  std::map<CURL*, Transfer> running_;  // curl points into them
  std::vector<Transfer> ended_;
  std::mutex mutex_;
  std::vector<nucleus::Request> begun_;  // under the mutex
};

#endif
