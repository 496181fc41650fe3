// What is measured of the header's inside. All that the benches know of it is here.
#pragma once

#include "../../nucleus.hpp"
#include "streams.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace inside {

/// Into a buffer that is used again and again.
class Output {
 public:
  explicit Output(std::size_t bytes) : memory_(bytes), buffer_(memory_.data(), bytes) {}

  std::string_view copied(std::string_view text) {
    buffer_.clear();
    buffer_.add(text);
    return buffer_.view();
  }
  std::string_view escaped(std::string_view text) {
    buffer_.clear();
    nucleus::detail::writeString(buffer_, text);
    return buffer_.view();
  }
  std::string_view redacted(std::string_view text) {
    buffer_.clear();
    nucleus::detail::writeRedacted(buffer_, text, nucleus::detail::Redaction::all);
    return buffer_.view();
  }
  /// The whole event, as it is sent.
  std::string_view encoded(const streams::Tracked& tracked,
                           const nucleus::detail::Envelope& envelope) {
    nucleus::detail::Event event;
    event.name = tracked.name;
    event.properties = tracked.properties;
    buffer_.clear();
    nucleus::detail::encode(buffer_, event, envelope);
    return buffer_.view();
  }

 private:
  std::vector<char> memory_;
  nucleus::detail::Buffer buffer_;
};

/// What the client adds to each event.
inline nucleus::detail::Envelope envelope(bool redacts) {
  nucleus::detail::Envelope envelope;
  envelope.id = 1'765'672'542'201'004;
  envelope.dateMs = 1'790'000'000'000;
  envelope.tail = R"(,"sessionId":31172521,"userId":"user-123456789","anonId":"Zq7Rk2MvXc9T")"
                  R"(,"deviceId":"k3TzQ8sVbN1xLw0")";
  if (redacts) envelope.redaction = nucleus::detail::Redaction::all;
  return envelope;
}

/// How much of the text is left; redaction alone, without escaping.
inline std::size_t redactedBytes(std::string_view text) {
  std::size_t bytes = 0;
  nucleus::detail::Pieces pieces(text, nucleus::detail::Redaction::all);
  for (std::string_view piece; pieces.next(piece);) bytes += piece.size();
  return bytes;
}

}  // namespace inside
