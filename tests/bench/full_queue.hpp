// A queue of many events, all of them in one request that waits for its answer.
#pragma once

#include "subject.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

class FullQueue {
 public:
  explicit FullQueue(std::size_t events) : client_(options()) {
    subject::signIn(client_);
    while (client_.stats().queuedEvents < events) subject::trackReference(client_);
    clock_->advance(2'000);
    client_.poll();
    ids_ = carriedIds(request_ ? request_->body() : "");
  }

  /// Whether one request carries all.
  bool isReady() const { return ids_.size() == client_.stats().queuedEvents; }
  bool isEmpty() const { return client_.stats().queuedEvents == 0; }
  void acknowledge(const nucleus::Response& answer) const { request_->reply(answer); }
  /// Names every event, oldest first or all mixed up.
  nucleus::Response answer(bool inOrder) const {
    std::vector<std::string> ids = ids_;
    if (!inOrder) shuffle(ids);
    std::string body;
    for (const std::string& id : ids) body += (body.empty() ? "" : ",") + id;
    return {200, "{\"reportedIds\":[" + body + "]}", {}};
  }

 private:
  nucleus::Options options() {
    nucleus::Options options = subject::polled("", clock_);
    options.offlineCache = false;
    options.maxQueueBytes = options.maxBatchBytes = 4 << 20;
    options.transport = [this](const nucleus::Request& request) {
      request_ = request;
      return nucleus::Response::pending();
    };
    return options;
  }
  static std::vector<std::string> carriedIds(std::string_view body) {
    constexpr std::string_view key = ",\"id\":";
    std::vector<std::string> ids;
    for (std::size_t at = body.find(key); at != std::string_view::npos; at = body.find(key, at)) {
      at += key.size();
      ids.emplace_back(body.substr(at, body.find(',', at) - at));
    }
    return ids;
  }
  /// The same each time, which std::shuffle does not promise.
  static void shuffle(std::vector<std::string>& ids) {
    std::mt19937 random(1);
    for (std::size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[random() % i]);
  }

  std::shared_ptr<subject::Clock> clock_ = std::make_shared<subject::Clock>();
  std::optional<nucleus::Request> request_;
  nucleus::Client client_;
  std::vector<std::string> ids_;
};
