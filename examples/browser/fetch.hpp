// Shows how to send with the browser's fetch(): asynchronous, no thread, no blocking call.
//   See game.cpp. Options::background must be false, and poll() called from the page's main thread.
//   Not emscripten_fetch(): in 3.1.6, Debian's, a transfer that is closed early goes
//   on in memory that was freed; it opens an IndexedDB before anybody agreed; and it cannot outlive
//   the page. By CORS the server must allow the page's origin and, since application/json makes
//   browsers ask first, answer OPTIONS; Access-Control-Expose-Headers lets Retry-After be seen.
#ifndef FETCH_HPP
#define FETCH_HPP

#include "../../nucleus.hpp"

#include <emscripten.h>

#include <memory>
#include <string>

struct Transfer {
  nucleus::Request request;  // while it lives, its body does
  nucleus::Response response = {};
};

extern "C" {
EMSCRIPTEN_KEEPALIVE inline bool fetchCancelled(const Transfer* transfer) {
  return transfer->request.cancelled();
}
EMSCRIPTEN_KEEPALIVE inline char* fetchRoom(Transfer* transfer, bool isBody, std::size_t bytes) {
  std::string& text = isBody ? transfer->response.body : transfer->response.retryAfter;
  text.resize(text.size() + bytes);
  return &text[text.size() - bytes];
}
EMSCRIPTEN_KEEPALIVE inline void fetchDone(Transfer* transfer, int status) {
  const std::unique_ptr<Transfer> owner(transfer);
  if (status == 0) transfer->response = {};
  transfer->response.status = status;
  transfer->request.reply(transfer->response);
}
}

#if defined(EM_JS_DEPS)
EM_JS_DEPS(fetch_begin, "$UTF8ToString")
#endif
// clang-format off
EM_JS(void, fetchBegin, (Transfer* transfer, const char* url, const char* type, const char* body,
                         std::size_t bytes), {
  const stop = new AbortController();
  const end = Date.now() + 30000;
  const isOver = () => Date.now() > end || _fetchCancelled(transfer);
  const watch = setInterval(() => isOver() && stop.abort(), 100);
  const post = {
    method: "POST", body: HEAPU8.slice(body, body + bytes), signal: stop.signal,
    headers: {"Content-Type": UTF8ToString(type)}, credentials: "omit", cache: "no-store",
    keepalive: bytes < 32768  // such small ones go on when the page has gone
  };
  (async () => {
    let status = 0;  // no server was reached, or too much came back
    try {
      const answer = await fetch(UTF8ToString(url), post);
      const parts = (answer.body || new Blob().stream()).getReader();
      const keep = (part, isBody) => {
        const room = _fetchRoom(transfer, isBody, part.length);  // which may move the heap
        HEAPU8.set(part, room);
      };
      for (let part, left = 1 << 20; !(part = await parts.read()).done; keep(part.value, true)) {
        if ((left -= part.value.length) < 0) throw stop.abort();  // no answer is that long
      }
      keep(new TextEncoder().encode(answer.headers.get("Retry-After") || ""), false);
      status = answer.status;
    } catch (failed) {}
    clearInterval(watch);
    _fetchDone(transfer, status);
  })();
})
// clang-format on

inline nucleus::Response post(const nucleus::Request& request) {
  if (request.cancelled()) return {};
  const std::string url(request.url()), type(request.contentType());
  const std::string_view body = request.body();
  fetchBegin(new Transfer{request}, url.c_str(), type.c_str(), body.data(), body.size());
  return nucleus::Response::pending();
}

#endif
