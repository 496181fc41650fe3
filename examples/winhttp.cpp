// Shows how to send with WinHTTP: a blocking transport for the worker thread.
//   x86_64-w64-mingw32-g++-posix -std=c++17 -static winhttp.cpp -o winhttp.exe -lwinhttp
//   winhttp.exe [endpoint [events [cache file]]]     tracks, delivers, and says what became of it
// It trusts the certificate authorities in the stores "Root" of the user and of the machine.
#include "../nucleus.hpp"

#include <windows.h>
#include <winhttp.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

struct Close {
  void operator()(HINTERNET handle) const { WinHttpCloseHandle(handle); }
};
using Handle = std::unique_ptr<void, Close>;

nucleus::Response post(const nucleus::Request& request) {
  const std::wstring url(request.url().begin(), request.url().end());  // which is ASCII
  URL_COMPONENTS part = {};
  part.dwStructSize = sizeof part;
  part.dwHostNameLength = part.dwUrlPathLength = 1;  // these two are wanted
  if (request.cancelled() || !WinHttpCrackUrl(url.c_str(), 0, 0, &part)) return {};
  const std::wstring host(part.lpszHostName, part.dwHostNameLength);
  const DWORD secure = part.nScheme == INTERNET_SCHEME_HTTPS ? WINHTTP_FLAG_SECURE : 0;
  const auto bytes = static_cast<DWORD>(request.body().size());
  const ULONGLONG end = GetTickCount64() + 30'000;

  const Handle session(
      WinHttpOpen(L"nucleus", WINHTTP_ACCESS_TYPE_AUTOMATIC_PROXY, nullptr, nullptr, 0));
  WinHttpSetTimeouts(session.get(), 10'000, 10'000, 10'000, 10'000);
  const Handle server(WinHttpConnect(session.get(), host.c_str(), part.nPort, 0));
  const Handle exchange(WinHttpOpenRequest(server.get(), L"POST", part.lpszUrlPath, nullptr,
                                           nullptr, nullptr, secure));
  if (!WinHttpSendRequest(exchange.get(), L"Content-Type: application/json", ~DWORD(0), nullptr, 0,
                          bytes, 0)) {
    return {};
  }
  DWORD written = 0;  // connected, which may have taken long
  if (request.cancelled()) return {};
  if (!WinHttpWriteData(exchange.get(), request.body().data(), bytes, &written)) return {};
  if (!WinHttpReceiveResponse(exchange.get(), nullptr)) return {};  // no server was reached

  DWORD status = 0, size = sizeof status;
  WinHttpQueryHeaders(exchange.get(), WINHTTP_QUERY_STATUS_CODE | WINHTTP_QUERY_FLAG_NUMBER,
                      nullptr, &status, &size, nullptr);
  nucleus::Response response;
  response.status = static_cast<int>(status);
  wchar_t retryAfter[64];
  size = sizeof retryAfter;
  if (WinHttpQueryHeaders(exchange.get(), WINHTTP_QUERY_RETRY_AFTER, nullptr, retryAfter, &size,
                          nullptr)) {
    for (const wchar_t* c = retryAfter; *c != 0; ++c) response.retryAfter += static_cast<char>(*c);
  }
  char piece[8192];
  while (WinHttpReadData(exchange.get(), piece, sizeof piece, &size)) {
    if (size == 0) return response;
    response.body.append(piece, size);
    const bool endless = response.body.size() > 1 << 20 || GetTickCount64() > end;
    if (endless || request.cancelled()) return {};
  }
  return {};
}

int main(int count, char** arguments) {
  nucleus::Options options;
  options.appId = "winhttp-example";
  options.transport = post;
  options.debug = true;
  if (count > 1) options.endpoint = arguments[1];
  const int events = count > 2 ? std::stoi(arguments[2]) : 3;
  options.cacheFile = count > 3 ? arguments[3] : "winhttp-example.cache";

  nucleus::Client nucleus(options);
  for (int i = 0; i < events; ++i) {
    nucleus.track("STEP", {{"number", i}});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // what your program does
  }
  const bool delivered = nucleus.flush(20'000);
  std::printf("%zu events are still in the cache file\n", nucleus.stats().queuedEvents);
  return delivered ? 0 : 1;
}
