// Shows how to send with libcurl: a blocking transport for the worker thread.
//   c++ -std=c++17 curl.cpp -lcurl -pthread
//   ./a.out [endpoint [events [cache file]]]     tracks, delivers, and says what became of it
#include "../nucleus.hpp"

#include <curl/curl.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

std::size_t keepBody(char* data, std::size_t, std::size_t bytes, void* response) {
  std::string& body = static_cast<nucleus::Response*>(response)->body;
  if (body.size() + bytes > 1 << 20) return 0;  // no answer is that long: give up
  body.append(data, bytes);
  return bytes;
}

int stopIfCancelled(void* request, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const nucleus::Request*>(request)->cancelled() ? 1 : 0;
}

nucleus::Response post(const nucleus::Request& request) {
  if (request.cancelled()) return {};
  nucleus::Response response;
  const std::string url(request.url());
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  if (curl == nullptr || headers == nullptr) return response;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, request.body().data());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body().size()));
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, keepBody);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &response);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, stopIfCancelled);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &request);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 10L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 30L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  if (curl_easy_perform(curl.get()) != CURLE_OK) return {};
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  curl_off_t retryAfter = 0;
  if (curl_easy_getinfo(curl.get(), CURLINFO_RETRY_AFTER, &retryAfter) == CURLE_OK &&
      retryAfter > 0) {
    response.retryAfter = std::to_string(retryAfter);
  }
  return response;
}

int main(int count, char** arguments) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  nucleus::Options options;
  options.appId = "curl-example";
  options.transport = post;
  options.debug = true;
  if (count > 1) options.endpoint = arguments[1];
  const int events = count > 2 ? std::atoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "curl-example.cache";

  nucleus::Client nucleus(options);
  for (int i = 0; i < events; ++i) {
    nucleus.track("STEP", {{"number", i}});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // what your program does
  }
  const bool delivered = nucleus.flush(20'000);
  const nucleus::Stats stats = nucleus.stats();
  std::printf("acknowledged %llu, queued %zu\n",
              static_cast<unsigned long long>(stats.acknowledgedEvents), stats.queuedEvents);
  nucleus.shutdown(1'000);
  return delivered ? 0 : 1;
}
