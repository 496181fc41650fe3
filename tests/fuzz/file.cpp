// The cache file, as if a stranger had written it: loaded, tracked to, sent, shown, forgotten.
//
// The first line of an input is one letter for each option and fault, see world(); `b` and a number
// damage the byte there. The rest is the file, where `-` for checksum and size stands for what is
// right, so that what is behind the checksum is reached too:
//   nucleus-cache 1 test-app granted -
//   e - {"type":"event",...}
#include "fuzz.hpp"

namespace {

using fakes::Json;
using fuzz::demand;

/// CRC-32 (ISO-HDLC), bit by bit, in hexadecimal.
std::string checksum(const std::string& text) {
  std::uint32_t crc = ~0u;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  char hex[9];
  std::snprintf(hex, sizeof hex, "%08x", static_cast<unsigned>(~crc));
  return hex;
}

std::string sealed(std::string line) {
  const bool first = line.compare(0, 14, "nucleus-cache ") == 0;
  if (first && line.compare(line.size() - 2, 2, " -") == 0) {
    line.resize(line.size() - 2);
    return line + ' ' + checksum(line);
  }
  if (line.size() < 4 || line.compare(1, 3, " - ") != 0) return line;
  const std::string content = line.substr(4);
  return line[0] + (' ' + checksum(line[0] + content)) + ' ' + std::to_string(content.size()) +
         ' ' + content;
}

struct Input {
  std::string letters, content;
  std::size_t damageAt = SIZE_MAX;

  explicit Input(std::string_view text) {
    letters = fuzz::takeUntil(text, "\n");
    const std::size_t mark = letters.find('b');
    if (mark != std::string::npos) {
      damageAt = static_cast<std::size_t>(std::atoi(letters.c_str() + mark + 1));
    }
    while (!text.empty()) {
      const bool whole = text.find('\n') != std::string_view::npos;
      content += sealed(std::string(fuzz::takeUntil(text, "\n")));
      if (whole) content += '\n';
    }
  }
  bool has(char letter) const { return letters.find(letter) != std::string::npos; }
  /// What says so on its first line.
  bool ours() const {
    bool ours = false;
    for (const char* const choice : {"-", "granted", "refused"}) {
      const std::string first = sealed(std::string("nucleus-cache 1 test-app ") + choice + " -");
      ours = ours || content.compare(0, first.size(), first) == 0;
    }
    return ours;
  }
  bool faulty() const { return letters.find_first_of("ftonselugv") != std::string::npos; }
};

nucleus::Options optionsOf(fakes::World& world, const Input& input) {
  world.seed = std::hash<std::string>()(input.content);  // ids that no input can know
  nucleus::Options options = fuzz::smallOptions(world);
  options.rememberTrackingChoice = input.has('r');
  options.disableTracking = input.has('d');
  options.personalData =
      input.has('a') ? nucleus::PersonalData::allow : nucleus::PersonalData::redact;
  if (input.has('i')) options.deviceId = "device-of-the-host";
  if (input.has('k')) options.anonymizeKey = "0123456789abcdef";
  if (input.has('w')) options.endpoint = "wss://example.org";
  if (input.has('c')) options.cacheDelayMs = 0;
  if (input.has('m')) options.maxEventBytes = 512, options.maxQueueBytes = 1'024;
  return options;
}

void breakDisk(fakes::Disk& disk, const Input& input) {
  disk.full = input.has('f');
  disk.tears = input.has('t');
  disk.readOnly = input.has('o');
  disk.renameFails = input.has('n');
  disk.syncFails = input.has('s');
  disk.eraseFails = input.has('e');
  disk.locked = input.has('l');
  disk.unreadable = input.has('u');
  disk.foreign = input.has('g');
  disk.gone = input.has('v');
}

/// Whether the file holds this text as an event, and how it was kept: `e`, `f`, `E` or `F`.
std::string kindsOf(const std::string& file, std::string_view event) {
  std::string kinds;
  for (std::size_t at = 0; (at = file.find(event, at)) != std::string::npos; ++at) {
    std::size_t back = at;
    if (back == 0 || file[--back] != ' ') continue;
    while (back > 0 && file[back - 1] >= '0' && file[back - 1] <= '9') --back;
    if (back >= 11) kinds += file[back - 11];
  }
  return kinds;
}

class Life {
 public:
  explicit Life(const Input& input) : input_(input), options_(optionsOf(world_, input)) {
    options_.transport = [this](const nucleus::Request& request) { return send(request); };
    if (input.has('z')) world_.clock->wall = 1'000'000;
    world_.disk->file = input.content;
    world_.disk->exists = true;
    breakDisk(*world_.disk, input);
  }
  /// How many events of the file a start finds, and drops for want of room.
  std::pair<std::uint64_t, std::uint64_t> found(std::size_t damageAt) {
    if (damageAt < world_.disk->file.size()) world_.disk->file[damageAt] ^= 1;
    nucleus::Client client(options_);
    std::uint64_t found = 0;
    for (const Json& event : fuzz::exported(client).value("events", Json::array())) {
      found += isOfFile(event) ? 1 : 0;
    }
    return {found, client.stats().droppedQueueFull};
  }
  void live() {
    nucleus::Client client(options_);
    check(client);
    use(client);
    check(client);
    for (int i = 0; i < 12; ++i) turn(client);
    check(client);
    if (input_.has('p')) client.persist();
    const bool kept = client.shutdown(0);
    const nucleus::Stats stats = client.stats();
    if (kept && !input_.faulty() && stats.trackingEnabled) reopen(stats);
  }
  /// In the end nothing is left of anybody.
  void forget() {
    nucleus::Client client(options_);
    const bool gone = client.forget();
    check(client);
    if (input_.faulty() || !input_.ours()) return;  // what is not ours is not touched
    demand(gone, "what can be erased is erased");
    const std::string& left = world_.disk->file;
    demand(!world_.disk->exists || (input_.has('r') && left.find('{') == std::string::npos),
           "after forget() there is no file, or a refusal alone");
    const nucleus::Stats stats = client.stats();
    demand(stats.queuedEvents == 0, "after forget() nothing is queued");
  }

 private:
  nucleus::Response send(const nucleus::Request& request) {
    witness_.see(request, options_.maxBatchBytes);
    if (!request.expectsAnswer()) return nucleus::Response::pending();
    for (const std::string_view event : fuzz::elementsOf(request.body())) judge(event);
    ++requests_;
    const Json answer = {
        {"reportedIds", requests_ == 1 ? std::vector{witness_.current.front()} : witness_.current}};
    if (requests_ == 2) return {500, {}, {}};
    if (input_.has('w')) socket_ = answer.dump();
    if (input_.has('w')) return nucleus::Response::pending();
    return {200, answer.dump(), {}};
  }
  bool isOfFile(const Json& event) const {
    const std::string id = std::to_string(event.at("id").get<std::uint64_t>());
    return input_.content.find("\"id\":" + id) != std::string::npos;
  }
  /// One that was found in the file is sent as it stands there, and only if it may be.
  void judge(std::string_view event) {
    if (!isOfFile(Json::parse(event))) return;
    const std::string kinds = kindsOf(input_.content, event);
    demand(kinds.find_first_of(input_.has('a') ? "efEF" : "ef") != std::string::npos,
           "what is sent of a file is a record of it, kept under these rules");
  }
  void check(const nucleus::Client& client) {
    fuzz::check(client.stats(), options_);
    fuzz::exported(client);
    const std::size_t most = 2 * options_.maxQueueBytes + (64 << 10);
    demand(world_.disk->largest <= std::max(most, input_.content.size()), "the file is bounded");
  }
  void use(nucleus::Client& client) {
    client.track("MINE", {{"number", 1}, {"text", "a\nb"}});
    client.trackError("E", "it broke", "main()");
    client.setProps({{"plan", "pro"}});
    client.page("HOME");
  }
  void turn(nucleus::Client& client) {
    const std::int64_t due = client.stats().nextRequestInMs;
    world_.clock->advance(due > 0 ? due : 300);
    client.poll();
    if (!socket_.empty()) client.receive(std::exchange(socket_, {}));
    fuzz::check(client.stats(), options_);
  }
  void reopen(const nucleus::Stats& before) {
    nucleus::Client client(options_);
    const nucleus::Stats stats = client.stats();
    demand(stats.droppedDamaged == 0, "what was written can be read");
    const std::uint64_t lost = stats.droppedTooOld + stats.droppedQueueFull;
    demand(stats.queuedEvents + lost >= before.queuedEvents + 1, "what was kept is found again");
    check(client);
  }

  const Input& input_;
  fakes::World world_;
  fuzz::Witness witness_;
  nucleus::Options options_;
  std::string socket_;
  int requests_ = 0;
};

/// One damaged byte costs one record at most, where the first line is sound: it and the record that
/// says whose the file is would be two.
void damage(const Input& input) {
  const auto [whole, dropped] = Life(input).found(SIZE_MAX);
  const auto [damaged, more] = Life(input).found(input.damageAt);
  if (dropped + more > 0) return;  // another may then stay
  demand(damaged + 1 >= whole, "one damaged byte costs one record at most");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Input input(std::string_view(reinterpret_cast<const char*>(data), size));
  if (input.has('b') && input.ours() && !input.faulty()) damage(input);
  const fuzz::Memory memory;
  {
    Life life(input);
    life.live();
    memory.check((512 << 10) + 16 * size);
    life.forget();
  }
  return 0;
}
