// The server's answers, over HTTP and WebSocket, read by the real client.
//
// An input is a row of answers between lines that say `~`. The first line of each:
//   WAY STATUS RETRY-AFTER      h at once, p later by reply(), l after the time-out, t twice
// and what follows is the body, where #0 to #9 are ids of the request. An input that begins with
// `w` is in WebSocket mode, and all of it are messages.
#include "fuzz.hpp"

#include <set>

namespace {

using fakes::Json;
using fuzz::demand;
using nucleus::Response;

struct Answer {
  char way = 'h';
  Response response;

  explicit Answer(std::string_view text) {
    std::string_view head = fuzz::takeUntil(text, "\n");
    if (!head.empty()) way = head[0];
    fuzz::takeUntil(head, " ");
    response.status = std::atoi(std::string(fuzz::takeUntil(head, " ")).c_str()) % 1000;
    response.retryAfter = head;
    response.body = text;
  }
};

std::string named(const std::string& text, const std::vector<std::uint64_t>& ids) {
  std::string body;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool mark =
        text[i] == '#' && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9';
    if (!mark) {
      body += text[i];
      continue;
    }
    const auto at = static_cast<std::size_t>(text[++i] - '0');
    body += std::to_string(at < ids.size() ? ids[at] : 4'711);
  }
  return body;
}

/// A number too large for the other reader, which then refuses all of it.
bool mayBeBeyondDouble(std::string_view text) {
  std::size_t digits = 0;
  for (const char c : text) {
    if (digits > 300 || (digits > 0 && (c == 'e' || c == 'E'))) return true;
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
  }
  return false;
}

/// What another reader of JSON makes of an answer. Where the two may differ, it does not say.
struct Reading {
  bool sure = true;
  std::set<std::uint64_t> ids;

  explicit Reading(std::string text) {
    for (char& c : text) c = c == '\0' ? '\1' : c;  // which this reader takes for the end
    const Json answer = Json::parse(text, nullptr, false);
    if (answer.is_discarded()) {
      sure = !mayBeBeyondDouble(text);
      return;
    }
    sure = text.find('\\') == std::string::npos && count(text, "reportedIds") <= 1 &&
           text.find("confirmation") == std::string::npos && count(text, "[") < 60 &&
           count(text, "{") < 60;
    if (!answer.is_object() || !answer.contains("reportedIds")) return;
    const Json& named = answer["reportedIds"];
    if (!named.is_array()) return;  // this reader would go through anything
    for (const Json& each : named) read(each);
  }

 private:
  static std::size_t count(const std::string& text, const char* part) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
    return count;
  }
  void read(const Json& each) {
    if (each.is_number_unsigned()) ids.insert(each.get<std::uint64_t>());
    if (!each.is_string()) return;
    const auto& text = each.get_ref<const std::string&>();
    const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || text.empty() || text.size() > 19) return void(sure = sure && !digits);
    ids.insert(std::stoull(text));
  }
};

class Conversation {
 public:
  explicit Conversation(bool webSocket) : options_(fuzz::smallOptions(world_)) {
    if (webSocket) options_.endpoint = "wss://example.org";
    webSocket_ = webSocket;
    options_.transport = [this](const nucleus::Request& request) { return send(request); };
    options_.onCustomData = [](std::string_view json) {
      demand(json.size() <= 64 << 10, "customData is within 64 KB");
      demand(Json::accept(json) || mayBeBeyondDouble(json), "customData is JSON");
    };
    options_.onUpdate = [](std::string_view latest) {
      demand(latest.size() <= 64 && latest.find_first_of("\"<>\\ ") == std::string_view::npos,
             "an update is a version");
    };
    client_ = std::make_unique<nucleus::Client>(options_);
  }
  void answer(std::string_view text) {
    answer_ = std::make_unique<Answer>(text);
    requests_.clear();
    client_->track("EVENT", {{"number", ++tracked_}});
    for (int i = 0; i < 40 && requests_.empty(); ++i) turn();
    if (requests_.empty()) return;  // a session's end, or a barrier of many days
    before_ = beforeAnswer_;
    if (webSocket_ || answer_->way != 'h') deliver();
    judge();
  }
  void end() {
    const Json shown = fuzz::exported(*client_);
    demand(fuzz::isIdentifier(shown.at("anonId")), "an anonId is an identifier");
    demand(client_->forget(), "what was adopted can be forgotten");
    fuzz::check(client_->stats(), options_);
  }

 private:
  Response send(const nucleus::Request& request) {
    witness_.see(request, options_.maxBatchBytes);
    if (!request.expectsAnswer()) return Response::pending();
    beforeAnswer_ = client_->stats();
    if (!requests_.empty()) return {};  // one answer at a time
    requests_.push_back(request);
    asked_ = witness_.current;
    if (webSocket_ || answer_->way != 'h') return Response::pending();
    return response();
  }
  Response response() {
    Response given = answer_->response;
    given.body = text_ = named(given.body, asked_);
    return given;
  }
  void turn() {
    const std::int64_t due = client_->stats().nextRequestInMs;
    world_.clock->advance(due > 0 ? due : 250);
    client_->poll();
    fuzz::check(client_->stats(), options_);
  }
  void deliver() {
    const Response given = response();
    if (webSocket_) return client_->receive(given.body);
    if (answer_->way == 'l') {
      world_.clock->advance(options_.answerTimeoutMs);
      client_->poll();
      before_ = client_->stats();
    }
    const nucleus::Request request = requests_.front();
    request.reply(given);
    client_->poll();
    if (answer_->way == 't') request.reply(given), client_->poll();
  }
  void judge() {
    const nucleus::Stats stats = client_->stats();
    fuzz::check(stats, options_);
    const std::uint64_t left = stats.acknowledgedEvents - before_.acknowledgedEvents;
    const bool good =
        webSocket_ || (answer_->response.status >= 200 && answer_->response.status < 300);
    if (!good) demand(left == 0, "an answer that is no success acknowledges nothing");
    if (good) judgeNamed(left);
    if (!webSocket_ && !good) judgeBarrier(stats);
  }
  void judgeNamed(std::uint64_t left) {
    const Reading reading(text_);
    if (!reading.sure) return;
    std::uint64_t asked = 0, ever = 0;
    for (const std::uint64_t id : asked_) asked += reading.ids.count(id);
    for (const std::uint64_t id : reading.ids) ever += witness_.sent(id) ? 1 : 0;
    demand(left <= ever, "what leaves was named, in an answer that is whole");
    if (answer_->way != 'l') demand(left >= asked, "what is named leaves");
    if (!webSocket_) demand(left <= asked, "an answer acknowledges its own request alone");
  }
  void judgeBarrier(const nucleus::Stats& stats) {
    const std::string& after = answer_->response.retryAfter;
    const int status = answer_->response.status;
    const bool plain = !after.empty() && after.size() <= 5 &&
                       after.find_first_not_of("0123456789") == std::string::npos;
    if ((status != 429 && status != 503) || !plain || answer_->way != 'h') return;
    const std::int64_t ms = std::min<std::int64_t>(std::stoll(after) * 1'000, 86'400'000);
    demand(stats.nextRequestInMs < 0 || stats.nextRequestInMs >= ms, "nothing before Retry-After");
  }

  fakes::World world_;
  nucleus::Options options_;
  fuzz::Witness witness_;
  std::unique_ptr<Answer> answer_;
  std::vector<nucleus::Request> requests_;
  std::vector<std::uint64_t> asked_;
  std::string text_;
  nucleus::Stats before_, beforeAnswer_;
  int tracked_ = 0;
  bool webSocket_ = false;
  std::unique_ptr<nucleus::Client> client_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const fuzz::Memory memory;
  Conversation conversation(!text.empty() && text[0] == 'w');
  for (int i = 0; i < 12 && !text.empty(); ++i) {
    conversation.answer(fuzz::takeUntil(text, "\n~\n"));
    memory.check((512 << 10) + 16 * size);
  }
  conversation.end();
  return 0;
}
