// Redaction: what is left of a text holds nothing personal, is valid, and stays as it is when it is
// redacted again.
#include "fuzz.hpp"

namespace {

using fuzz::demand;
using nucleus::detail::Buffer;
using nucleus::detail::Redaction;

/// As it is sent: a JSON string, read by another reader.
std::string sent(std::string_view text, Redaction redaction) {
  std::string memory(8 * text.size() + 64, '\0');
  Buffer out(memory.data(), memory.size());
  nucleus::detail::writeRedacted(out, text, redaction);
  demand(!out.full(), "a mark is not much longer than what it stands for");
  const fuzz::Json read = fuzz::Json::parse(out.view(), nullptr, false);
  demand(read.is_string(), "what is sent is a JSON string");
  return read;
}

/// As it is kept in memory, cut to a size.
std::string kept(std::string_view text, Redaction redaction, std::size_t most) {
  std::string memory(most, '\0');
  Buffer out(memory.data(), memory.size());
  nucleus::detail::addRedacted(out, text, redaction);
  demand(out.size() <= most, "what is kept fits");
  return std::string(out.view());
}

void judge(std::string_view text, Redaction redaction) {
  const std::string once = sent(text, redaction);
  demand(sent(once, redaction) == once, "redacting again changes nothing");
  if (redaction == Redaction::all) {
    demand(!nucleus::detail::isPersonal(once), "what is left is not personal");
    const bool stays = !nucleus::detail::isPersonal(text);
    demand(!stays || once == sent(text, Redaction::none), "what is not personal stays");
  }
  const std::string whole = kept(text, redaction, 8 * text.size() + 64);
  demand(sent(whole, Redaction::none) == once, "what is kept is what is sent");
  const std::string cut = kept(text, redaction, whole.size() / 2);
  demand(whole.compare(0, cut.size(), cut) == 0, "what is cut is the front of it");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string valid = sent(text, Redaction::none);
  demand(valid.size() <= 3 * size, "a bad byte is three at most");
  for (const Redaction redaction : {Redaction::allButIpv4, Redaction::all}) {
    sent(text, redaction);
    judge(valid, redaction);  // a bad byte counts otherwise before it is replaced
  }
  return 0;
}
