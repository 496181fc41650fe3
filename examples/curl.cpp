// Shows how to send with libcurl: a blocking transport for the worker thread.
//   c++ -std=c++17 curl.cpp -lcurl -pthread
//   ./a.out [endpoint [events [cache file]]]     tracks, delivers, and says what became of it
#include "../nucleus.hpp"

#include <curl/curl.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

std::size_t keep(char* data, std::size_t, std::size_t bytes, void* body) {
  std::string& kept = *static_cast<std::string*>(body);
  if (kept.size() + bytes > 1 << 20) return 0;  // no answer is that long: give up
  return kept.append(data, bytes), bytes;
}

int stopIfCancelled(void* request, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const nucleus::Request*>(request)->cancelled() ? 1 : 0;
}

nucleus::Response post(const nucleus::Request& request) {
  nucleus::Response response;  // status 0: no server was reached
  CURL* const curl = curl_easy_init();
  curl_slist* const type = curl_slist_append(nullptr, "Content-Type: application/json");
  curl_easy_setopt(curl, CURLOPT_URL, std::string(request.url()).c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, type);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body().data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body().size()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &response.body);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stopIfCancelled);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &request);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);  // call the function above
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);  // time-outs of name look-ups: this is a thread
  const char* const authorities = std::getenv("SSL_CERT_FILE");  // else the system's
  if (authorities != nullptr) curl_easy_setopt(curl, CURLOPT_CAINFO, authorities);
  long status = 0;
  curl_off_t retryAfter = 0;  // in seconds, whatever form it had
  if (!request.cancelled() && curl_easy_perform(curl) == CURLE_OK) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retryAfter);
  }
  response.status = static_cast<int>(status);
  if (retryAfter > 0) response.retryAfter = std::to_string(retryAfter);
  curl_slist_free_all(type);
  curl_easy_cleanup(curl);
  return response;
}

int main(int count, char** arguments) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // with CURLOPT_NOSIGNAL a server that hangs up may send it
#endif
  curl_global_init(CURL_GLOBAL_DEFAULT);
  nucleus::Options options;
  options.appId = "curl-example";
  options.transport = post;
  options.debug = true;
  if (count > 1) options.endpoint = arguments[1];
  const int events = count > 2 ? std::stoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "curl-example.cache";

  nucleus::Client nucleus(options);
  for (int i = 0; i < events; ++i) {
    nucleus.track("STEP", {{"number", i}});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // what your program does
  }
  const bool delivered = nucleus.flush(20'000);
  std::printf("%zu events are still in the cache file\n", nucleus.stats().queuedEvents);
  return delivered ? 0 : 1;
}
