// Room 8: what waits, in which order, and what goes first when there is no more room.
#include "check.hpp"
#include "fakes.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace nucleus;
using detail::CarriedIds;
using detail::IdRanges;
using detail::Queue;

namespace {

using Numbers = std::vector<std::uint64_t>;

/// A queue with memory of its own, filled by hand.
struct Waiting {
  std::vector<char> memory;
  IdRanges left;
  Queue queue;

  explicit Waiting(std::size_t maxBytes, std::size_t capacity = 1 << 16)
      : memory(capacity), queue(memory.data(), capacity, maxBytes, left) {}

  bool push(std::uint64_t id, const std::string& text, unsigned flags = 0, std::int64_t born = 0) {
    char* const space = queue.space(Queue::headerBytes + text.size());
    if (space == nullptr) return false;
    std::memcpy(space + Queue::headerBytes, text.data(), text.size());
    queue.push(id, born, text.size(), flags);
    return true;
  }
  /// One event of ten bytes a letter: i an init, e another; capital where it is in a request.
  /// They are numbered from 1.
  void pushAll(std::string_view letters) {
    std::uint64_t id = 0;
    for (const char c : letters) {
      const unsigned flags = c == 'i' || c == 'I' ? Queue::init : 0u;
      push(++id, std::string(10, c), flags | (c == 'I' || c == 'E' ? Queue::inRequest : 0u));
    }
  }
  std::size_t find(std::uint64_t id) {
    std::size_t at = queue.oldest();
    while (at != queue.end() && queue.at(at).id != id) at = queue.after(at);
    return at;
  }
  void remove(std::uint64_t id) { queue.remove(find(id)); }
  bool has(std::uint64_t id, unsigned flag) { return queue.at(find(id)).has(flag); }
  Numbers ids() const {
    Numbers ids;
    for (std::size_t at = queue.oldest(); at != queue.end(); at = queue.after(at)) {
      ids.push_back(queue.at(at).id);
    }
    return ids;
  }
  Numbers gone() {
    Numbers ids;
    for (const IdRanges::Range& range : queue.goneIds()) {
      for (std::uint64_t id = range.first; id <= range.last; ++id) ids.push_back(id);
    }
    return ids;
  }
};

}  // namespace

// ---- numbers ----

TEST_CASE("numbers that follow each other make one range") {
  IdRanges ranges;
  CHECK(ranges.empty());
  for (const std::uint64_t id : {5u, 6u, 7u, 9u, 10u, 3u}) CHECK(ranges.add(id, id));
  CHECK(ranges.end() - ranges.begin() == 3);
  for (const std::uint64_t id : {3u, 5u, 6u, 7u, 9u, 10u}) CHECK(ranges.contains(id));
  for (const std::uint64_t id : {0u, 2u, 4u, 8u, 11u}) CHECK_FALSE(ranges.contains(id));
  ranges.clear();
  CHECK(ranges.empty());
  CHECK_FALSE(ranges.contains(5));
}

TEST_CASE("ranges that are full take only what continues the newest") {
  IdRanges ranges;
  std::uint64_t id = 0;
  while (ranges.add(id, id)) id += 2;
  CHECK(ranges.full());
  CHECK_FALSE(ranges.contains(id));
  CHECK(ranges.add(id - 1, id - 1));
  CHECK(ranges.contains(id - 1));
  CHECK_FALSE(ranges.add(id + 1, id + 1));
}

TEST_CASE("a range at the end of all numbers, or the wrong way round, contains nothing else") {
  IdRanges ranges;
  CHECK(ranges.add(UINT64_MAX, UINT64_MAX));
  CHECK(ranges.add(9, 4));
  CHECK(ranges.add(20, 30));
  CHECK(ranges.contains(25));
  for (const std::uint64_t id : {0u, 4u, 6u, 9u}) CHECK_FALSE(ranges.contains(id));
}

TEST_CASE("carried ids are found whatever order they come and are named in") {
  std::mt19937 random(11);
  for (std::size_t count : {1u, 2u, 3u, 10u, 257u}) {
    Numbers memory(count), ids;
    CarriedIds carried(memory.data(), count);
    for (std::uint64_t id = 0; id < count; ++id) ids.push_back(7 + 3 * id);
    std::shuffle(ids.begin(), ids.end(), random);
    for (const std::uint64_t id : ids) carried.add(id);
    CHECK(carried.full());
    CHECK(carried.count() == count);
    for (const std::uint64_t stranger : {std::uint64_t{0}, std::uint64_t{6}, std::uint64_t{8},
                                         7 + 3 * std::uint64_t{count}, UINT64_MAX}) {
      CHECK_FALSE(carried.name(stranger));
      CHECK_FALSE(carried.isNamed(stranger));
    }
    std::shuffle(ids.begin(), ids.end(), random);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(carried.named() == i);
      CHECK_FALSE(carried.isNamed(ids[i]));
      CHECK(carried.name(ids[i]));
      CHECK(carried.name(ids[i]));  // again: no harm
      CHECK(carried.isNamed(ids[i]));
    }
    CHECK(carried.named() == count);
    carried.clear();
    CHECK(carried.count() + carried.named() == 0);
    CHECK_FALSE(carried.name(7));
  }
}

TEST_CASE("all carried ids can be named at once") {
  std::uint64_t memory[3];
  CarriedIds carried(memory, 3);
  for (const std::uint64_t id : {30u, 10u, 20u}) carried.add(id);
  carried.name(20);
  carried.nameAll();
  CHECK(carried.named() == 3);
  for (const std::uint64_t id : {10u, 20u, 30u}) CHECK(carried.isNamed(id));
  CHECK_FALSE(carried.isNamed(15));
}

// ---- order and space ----

TEST_CASE("events stand in the order they came, with their text") {
  Waiting waiting(1000);
  CHECK(waiting.queue.empty());
  CHECK(waiting.queue.oldest() == waiting.queue.end());
  REQUIRE(waiting.push(1, "init", Queue::init, -77));
  REQUIRE(waiting.push(2, ""));
  REQUIRE(waiting.push((std::uint64_t{1} << 52) - 1, "last", 0, 123'456'789'012));
  CHECK(waiting.ids() == Numbers{1, 2, (std::uint64_t{1} << 52) - 1});
  CHECK(waiting.queue.events() == 3);
  CHECK(waiting.queue.bytes() == 8);
  CHECK(waiting.queue.at(waiting.find(1)).bornMs == -77);
  CHECK(waiting.queue.at(waiting.find((std::uint64_t{1} << 52) - 1)).bornMs == 123'456'789'012);
  CHECK(waiting.queue.text(waiting.find(1)) == "init");
  CHECK(waiting.queue.text(waiting.find(2)).empty());
}

TEST_CASE("two events written behind each other are pushed behind each other") {
  Waiting waiting(1000);
  char* const space = waiting.queue.space(100);
  REQUIRE(space != nullptr);
  std::memcpy(space + Queue::headerBytes, "first", 5);
  std::memcpy(space + 2 * Queue::headerBytes + 5, "second", 6);
  waiting.queue.push(1, 0, 5, Queue::init);
  waiting.queue.push(2, 0, 6, 0);
  CHECK(waiting.queue.text(waiting.find(1)) == "first");
  CHECK(waiting.queue.text(waiting.find(2)) == "second");
}

TEST_CASE("space is found again where events have left, and the others keep their text") {
  const std::size_t record = Queue::headerBytes + 10;
  Waiting waiting(1000, 10 * record);
  waiting.pushAll("ieeeeeeeee");
  CHECK(waiting.queue.space(1) == nullptr);
  for (const std::uint64_t id : {2u, 3u, 6u, 9u}) waiting.remove(id);
  CHECK(waiting.queue.space(4 * record + 1) == nullptr);
  REQUIRE(waiting.queue.space(4 * record) != nullptr);
  CHECK(waiting.ids() == Numbers{1, 4, 5, 7, 8, 10});
  for (const std::uint64_t id : {4u, 5u, 7u, 8u, 10u}) {
    CHECK(waiting.queue.text(waiting.find(id)) == std::string(10, 'e'));
  }
  CHECK(waiting.queue.bytes() == 60);
  for (std::uint64_t id = 11; id <= 14; ++id) CHECK(waiting.push(id, std::string(10, 'n')));
  CHECK_FALSE(waiting.push(15, ""));
  CHECK(waiting.ids() == Numbers{1, 4, 5, 7, 8, 10, 11, 12, 13, 14});
}

TEST_CASE("events go round in their memory, past an init that stays") {
  const std::size_t record = Queue::headerBytes + 10;
  Waiting waiting(60, 8 * record);
  REQUIRE(waiting.push(1, "the init..", Queue::init));
  for (std::uint64_t id = 2; id <= 1'000; ++id) {
    std::uint64_t evicted = 0;
    REQUIRE(waiting.queue.makeRoom(10, evicted));
    REQUIRE(waiting.push(id, std::string(10, static_cast<char>('a' + id % 26))));
    REQUIRE(waiting.queue.unfiled() == waiting.queue.oldest());
    if (id < 6) continue;
    REQUIRE(waiting.ids() == Numbers{1, id - 4, id - 3, id - 2, id - 1, id});
    REQUIRE(waiting.queue.text(waiting.queue.oldest()) == "the init..");
    REQUIRE(waiting.queue.text(waiting.find(id))[0] == 'a' + static_cast<char>(id % 26));
  }
}

TEST_CASE("an empty queue offers all of its memory") {
  Waiting waiting(1000, 200);
  waiting.pushAll("ieeee");
  for (std::uint64_t id = 1; id <= 5; ++id) waiting.remove(id);
  CHECK(waiting.queue.empty());
  CHECK(waiting.queue.space(201) == nullptr);
  CHECK(waiting.queue.space(200) == waiting.memory.data());
}

TEST_CASE("clear leaves nothing, and the queue is as new") {
  Waiting waiting(1000);
  waiting.pushAll("ieee");
  waiting.queue.mark(waiting.find(2), Queue::inFile);
  waiting.remove(2);
  CHECK(waiting.queue.tellsGone());
  CHECK(waiting.queue.clear() == 3);
  CHECK(waiting.queue.empty());
  CHECK(waiting.queue.bytes() + waiting.queue.filedBytes() + waiting.queue.filedEvents() == 0);
  CHECK_FALSE(waiting.queue.tellsGone());
  CHECK(waiting.queue.maxBytes() == 1000);
  waiting.pushAll("ie");
  CHECK(waiting.ids() == Numbers{1, 2});
}

// ---- eviction ----

TEST_CASE("what goes first when the queue is full") {
  struct Row {
    const char* events;
    Numbers gone;  // in this order, until nothing else can go
  };
  const std::vector<Row> rows = {
      {"i", {}},                    // the newest session's init stays
      {"ie", {2}},                  // so it does when nothing else is left
      {"ieee", {2, 3, 4}},          // oldest first, but not the init
      {"eee", {1, 2, 3}},           // the init was acknowledged
      {"iei", {2, 1}},              // an older init goes once it is bare
      {"ieie", {2, 1, 4}},          //
      {"iiie", {1, 2, 4}},          // bare inits of older sessions go as oldest
      {"ieieie", {2, 1, 4, 3, 6}},  //
      {"iEie", {4}},                // an event in a request keeps its init
      {"iEeie", {3, 5}},            //
      {"Ieie", {2, 4}},             // what is in a request stays
      {"IEIE", {}},                 //
      {"EEEe", {4}},                //
      {"Eieie", {3, 2, 5}},         //
      {"IEEieEie", {5, 8}},         //
      {"iii", {1, 2}},              //
      {"iIi", {1}},                 //
      {"iEiEie", {6}},              //
  };
  for (const Row& row : rows) {
    CAPTURE(row.events);
    const std::size_t all = 10 * std::strlen(row.events);
    Waiting waiting(all);
    waiting.pushAll(row.events);
    Numbers before = waiting.ids(), gone;
    std::uint64_t evicted = 0;
    while (waiting.queue.makeRoom(10 * gone.size() + 1, evicted)) {
      const Numbers after = waiting.ids();
      REQUIRE(after.size() + 1 == before.size());
      std::set_difference(before.begin(), before.end(), after.begin(), after.end(),
                          std::back_inserter(gone));
      before = after;
    }
    CHECK(gone == row.gone);
    CHECK(evicted == gone.size());
    CHECK(waiting.queue.bytes() == all - 10 * gone.size());
  }
}

TEST_CASE("no more goes than there must") {
  Waiting waiting(100);
  waiting.pushAll("ieeeeeeeee");
  std::uint64_t evicted = 0;
  CHECK(waiting.queue.makeRoom(0, evicted));
  CHECK(evicted == 0);
  CHECK(waiting.queue.makeRoom(10, evicted));
  CHECK(evicted == 1);
  CHECK(waiting.queue.makeRoom(35, evicted));
  CHECK(evicted == 4);
  CHECK(waiting.ids() == Numbers{1, 6, 7, 8, 9, 10});
  CHECK_FALSE(waiting.queue.makeRoom(101, evicted));
  CHECK(evicted == 4);  // nothing goes for what does not fit all the same
  CHECK(waiting.ids() == Numbers{1, 6, 7, 8, 9, 10});
}

// ---- age ----

TEST_CASE("what is too old leaves, but no init that is still needed") {
  struct Row {
    const char* events;
    std::vector<std::int64_t> born;
    Numbers left;  // of those, when all born before 100 are too old
  };
  const std::vector<Row> rows = {
      {"ieee", {0, 10, 99, 100}, {1, 4}},
      {"ieee", {0, 10, 20, 30}, {}},
      {"ie", {100, 100}, {1, 2}},
      {"ie", {0, 100}, {1, 2}},
      {"ieie", {0, 1, 2, 100}, {3, 4}},
      {"iii", {0, 0, 0}, {}},
      {"iEe", {0, 0, 0}, {1, 2}},
      {"Iee", {0, 0, 200}, {1, 3}},
      {"I", {0}, {1}},
      {"iee", {0, 200, 0}, {1, 2}},  // a clock that the events do not follow
      {"iie", {200, 0, 0}, {1}},
      {"eie", {0, 0, 200}, {2, 3}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.events);
    Waiting waiting(1000);
    for (std::size_t i = 0; i < row.born.size(); ++i) {
      const char c = row.events[i];
      waiting.push(i + 1, "text", c == 'i' || c == 'I' ? Queue::init : 0u, row.born[i]);
      if (c == 'I' || c == 'E') waiting.queue.mark(waiting.find(i + 1), Queue::inRequest);
    }
    CHECK(waiting.queue.expire(100) == row.born.size() - row.left.size());
    CHECK(waiting.ids() == row.left);
    CHECK(waiting.queue.events() == row.left.size());
    CHECK(waiting.queue.bytes() == 4 * row.left.size());
    CHECK(waiting.queue.expire(100) == 0);
  }
}

// ---- the first of a session ----

TEST_CASE("when an init leaves, the next of its session is first, and needs no init") {
  Waiting waiting(1000);
  waiting.pushAll("ieeie");
  CHECK(waiting.has(1, Queue::first));
  CHECK_FALSE(waiting.has(2, Queue::first));
  waiting.remove(1);
  CHECK(waiting.has(2, Queue::first));
  CHECK(waiting.has(2, Queue::initSettled));
  CHECK_FALSE(waiting.has(3, Queue::first));
  waiting.remove(2);
  CHECK(waiting.has(3, Queue::first));
  CHECK(waiting.has(3, Queue::initSettled));
  waiting.remove(3);
  CHECK(waiting.has(4, Queue::first));
  CHECK_FALSE(waiting.has(4, Queue::initSettled));
  CHECK_FALSE(waiting.has(5, Queue::first));
}

TEST_CASE("what comes after all of its session has left is first, and needs no init") {
  Waiting waiting(1000);
  waiting.pushAll("ie");
  CHECK_FALSE(waiting.queue.newestSessionLeft());
  waiting.remove(1);
  CHECK_FALSE(waiting.queue.newestSessionLeft());
  waiting.remove(2);
  CHECK(waiting.queue.newestSessionLeft());
  waiting.push(3, "three");
  CHECK_FALSE(waiting.queue.newestSessionLeft());
  waiting.push(4, "four");
  CHECK(waiting.has(3, Queue::first));
  CHECK(waiting.has(3, Queue::initSettled));
  CHECK_FALSE(waiting.has(4, Queue::first));
}

TEST_CASE("a new session is first with its init, though all before has left") {
  Waiting waiting(1000);
  waiting.pushAll("ie");
  waiting.remove(1);
  waiting.remove(2);
  waiting.push(3, "init", Queue::init);
  waiting.push(4, "event");
  CHECK(waiting.has(3, Queue::first));
  CHECK_FALSE(waiting.has(3, Queue::initSettled));
  CHECK_FALSE(waiting.has(4, Queue::first));
}

TEST_CASE("loaded events that leave change nothing about the session that goes on") {
  Waiting waiting(1000);
  waiting.pushAll("ie");
  waiting.push(13, "loaded init", Queue::init | Queue::loaded | Queue::inFile);
  waiting.push(14, "loaded event", Queue::loaded | Queue::inFile);
  waiting.remove(13);
  waiting.remove(14);
  CHECK_FALSE(waiting.queue.newestSessionLeft());
  waiting.push(3, "three");
  CHECK_FALSE(waiting.has(3, Queue::first));
  std::uint64_t evicted = 0;
  waiting.remove(2);
  CHECK_FALSE(waiting.queue.makeRoom(996, evicted));  // its init is not taken for a bare one
  CHECK(waiting.ids() == Numbers{1, 3});
  CHECK(waiting.queue.makeRoom(990, evicted));
  CHECK(waiting.ids() == Numbers{1});
}

// ---- what is in the file ----

TEST_CASE("the queue knows what is in the file, on its way there, or in memory alone") {
  Waiting waiting(1000);
  waiting.pushAll("ieee");
  Queue& queue = waiting.queue;
  CHECK(queue.unfiled() == waiting.find(1));
  queue.mark(waiting.find(1), Queue::writing);
  queue.mark(waiting.find(2), Queue::writing);
  CHECK(queue.unfiled() == waiting.find(3));
  CHECK(queue.filedEvents() == 0);
  queue.written(true);
  CHECK(queue.filedEvents() == 2);
  CHECK(queue.filedBytes() == 20);
  CHECK(queue.unfiled() == waiting.find(3));
  queue.mark(waiting.find(3), Queue::writing);
  queue.written(false);
  CHECK(queue.filedEvents() == 2);
  CHECK(queue.unfiled() == waiting.find(3));
  queue.mark(waiting.find(2), Queue::writing);
  queue.mark(waiting.find(4), Queue::writing);
  queue.rewritten();  // the new file holds these two
  CHECK(queue.filedEvents() == 2);
  CHECK(queue.filedBytes() == 20);
  CHECK(queue.unfiled() == waiting.find(1));
  CHECK(waiting.has(2, Queue::inFile));
  CHECK(waiting.has(4, Queue::inFile));
  CHECK_FALSE(waiting.has(3, Queue::inFile));
  waiting.remove(4);
  CHECK(queue.filedEvents() == 1);
  CHECK(queue.filedBytes() == 10);
  queue.markAll(0, Queue::inFile);
  CHECK(queue.filedEvents() + queue.filedBytes() == 0);
  CHECK(queue.unfiled() == waiting.find(1));
  queue.markAll(Queue::inFile, 0);
  CHECK(queue.filedEvents() == 3);
  CHECK(queue.unfiled() == queue.end());
}

TEST_CASE("what stands at the front again arrives in the file, too") {
  const std::size_t record = Queue::headerBytes + 10;
  Waiting waiting(1000, 4 * record);
  waiting.pushAll("ieee");
  waiting.queue.markAll(Queue::writing, 0);
  CHECK(waiting.queue.unfiled() == waiting.queue.end());
  waiting.queue.written(true);
  for (std::uint64_t id = 1; id <= 3; ++id) waiting.remove(id);
  for (std::uint64_t id = 5; id <= 6; ++id) {
    REQUIRE(waiting.push(id, "at the end"));
    CHECK(waiting.queue.unfiled() == waiting.find(id));
    waiting.queue.mark(waiting.find(id), Queue::writing);
    waiting.queue.written(true);
    CHECK(waiting.has(id, Queue::inFile));
    CHECK(waiting.queue.filedEvents() == id - 3);
  }
  CHECK(waiting.ids() == Numbers{4, 5, 6});
}

TEST_CASE("only numbers that the file knows are told to it when they leave") {
  Waiting waiting(1000);
  waiting.pushAll("ieeeee");
  waiting.queue.mark(waiting.find(2), Queue::inFile);
  waiting.queue.mark(waiting.find(3), Queue::writing);
  waiting.queue.mark(waiting.find(5), Queue::inFile);
  for (const std::uint64_t id : {2u, 3u, 4u, 5u}) waiting.remove(id);
  CHECK(waiting.gone() == Numbers{2, 3, 5});
  CHECK(waiting.queue.tellsGone());
  CHECK_FALSE(waiting.queue.lostTrack());
}

TEST_CASE("more gaps than there is memory for are not forgotten") {
  Waiting waiting(10'000);
  for (std::uint64_t id = 1; id <= 200; ++id) waiting.push(id, "text", Queue::inFile);
  for (std::uint64_t id = 1; id <= 200; id += 2) waiting.remove(id);
  CHECK(waiting.queue.lostTrack());
  CHECK(waiting.queue.tellsGone());
  waiting.queue.goneIds().clear();
  CHECK(waiting.queue.tellsGone());
  waiting.queue.loseTrack(false);
  CHECK_FALSE(waiting.queue.tellsGone());
}

TEST_CASE("what a file brings that is older goes before what waited already") {
  Waiting waiting(1000, 300);
  waiting.pushAll("iee");
  waiting.push(11, "loaded init", Queue::init | Queue::loaded);
  waiting.push(12, "loaded event", Queue::loaded);
  waiting.queue.loadedFirst();
  CHECK(waiting.ids() == Numbers{11, 12, 1, 2, 3});
  CHECK(waiting.queue.events() == 5);
  CHECK(waiting.queue.bytes() == 53);
  CHECK(waiting.queue.text(waiting.find(12)) == "loaded event");
  CHECK(waiting.queue.text(waiting.find(3)) == "eeeeeeeeee");
  waiting.push(4, "four");
  CHECK(waiting.ids() == Numbers{11, 12, 1, 2, 3, 4});
}

// ---- anything, in any order ----

namespace {

/// The same as the queue, as a list and without any thought of speed.
class Model {
 public:
  struct Item {
    std::uint64_t id;
    std::int64_t born;
    std::string text;
    int session;
    bool init, loaded, inRequest, inFile, writing;
  };

  std::vector<Item> items;
  std::set<int> settled;  // sessions whose init has left
  std::set<std::uint64_t> gone;
  int session = 0, sessions = 0;  // the one that goes on, and how many there were

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Item& item : items) sum += item.text.size();
    return sum;
  }
  bool isFirst(std::size_t at) const { return at == firstOf(items[at].session); }
  bool needsNoInit(std::size_t at) const {
    return isFirst(at) && !items[at].init && settled.count(items[at].session) != 0;
  }
  bool sessionLeft() const { return session != 0 && firstOf(session) == items.size(); }
  void remove(std::size_t at) {
    const Item& item = items[at];
    if (item.inFile || item.writing) gone.insert(item.id);
    if (item.init) settled.insert(item.session);
    items.erase(items.begin() + static_cast<std::ptrdiff_t>(at));
  }
  /// items.size() where nothing can go.
  std::size_t victim() const {
    std::size_t at = 0;
    while (at < items.size() && !mayGo(at)) ++at;
    return at;
  }
  std::uint64_t expire(std::int64_t before) {
    std::uint64_t expired = 0;
    for (const bool inits : {false, true}) {
      for (std::size_t at = items.size(); at-- > 0;) {
        const Item& item = items[at];
        if (item.init != inits || item.inRequest || item.born >= before) continue;
        if (inits && isNeeded(at)) continue;
        remove(at);
        ++expired;
      }
    }
    return expired;
  }

 private:
  std::size_t firstOf(int wanted) const {
    std::size_t at = 0;
    while (at < items.size() && items[at].session != wanted) ++at;
    return at;
  }
  bool isNeeded(std::size_t init) const {
    return init + 1 < items.size() && items[init + 1].session == items[init].session;
  }
  bool mayGo(std::size_t at) const {
    if (items[at].inRequest) return false;
    return !items[at].init || (!isNeeded(at) && items[at].session != items.back().session);
  }
};

/// Does the same to a queue and to its model.
class Pair {
 public:
  static constexpr std::size_t maxBytes = 4096, maxText = 200;

  explicit Pair(std::uint32_t seed) : random_(seed) {}

  void step() {
    now_ += static_cast<std::int64_t>(below(50));
    const std::size_t what = below(100);
    if (what < 45) accept(model_.session == 0 || below(12) == 0);
    else if (what < 60) acknowledge();
    else if (what < 68) gather();
    else if (what < 76) written(below(4) != 0);
    else if (what < 78) rewrite();
    else if (what < 84) request();
    else if (what < 89) answered();
    else if (what < 94) expire();
    else if (what < 96) takeOver();
    else if (what < 99) told();
    else if (below(20) == 0) clear();
  }
  /// What is not as in the model; empty: nothing.
  std::string difference() {
    const auto& items = model_.items;
    std::size_t at = queue().oldest(), filed = 0, filedBytes = 0, unfiled = queue().end();
    for (std::size_t i = 0; i < items.size(); ++i, at = queue().after(at)) {
      if (at == queue().end()) return "fewer events";
      const std::string different = itemDifference(items[i], i, at);
      if (!different.empty()) return different;
      filed += items[i].inFile ? 1u : 0u;
      filedBytes += items[i].inFile ? items[i].text.size() : 0;
      if (unfiled == queue().end() && !items[i].inFile && !items[i].writing) unfiled = at;
    }
    if (at != queue().end() || queue().events() != items.size()) return "more events";
    if (queue().bytes() != model_.bytes()) return "bytes";
    if (queue().filedEvents() != filed || queue().filedBytes() != filedBytes) return "filed";
    if (queue().unfiled() != unfiled) return "unfiled";
    if (queue().newestSessionLeft() != model_.sessionLeft()) return "newest session left";
    const Numbers gone = waiting_.gone();
    const std::set<std::uint64_t> told(gone.begin(), gone.end());
    return queue().lostTrack() || told == model_.gone ? "" : "gone";
  }
  std::uint64_t evictedInAll() const { return evicted_; }

 private:
  Queue& queue() { return waiting_.queue; }
  std::size_t below(std::size_t limit) { return random_() % limit; }
  std::string text() {
    std::string text(below(maxText + 1), ' ');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }
  std::string itemDifference(const Model::Item& item, std::size_t i, std::size_t at) {
    const Queue::Record record = queue().at(at);
    if (record.id != item.id) return "order";
    if (record.bornMs != item.born) return "born";
    if (queue().text(at) != item.text) return "text";
    if (record.has(Queue::init) != item.init) return "init";
    if (record.has(Queue::loaded) != item.loaded) return "loaded";
    if (record.has(Queue::inRequest) != item.inRequest) return "in request";
    if (record.has(Queue::inFile) != item.inFile) return "in file";
    if (record.has(Queue::writing) != item.writing) return "writing";
    if (record.has(Queue::first) != model_.isFirst(i)) return "first";
    const bool settled = record.has(Queue::first) && record.has(Queue::initSettled);
    return settled == model_.needsNoInit(i) ? "" : "init settled";
  }
  /// Places in the queue, oldest first.
  std::vector<std::size_t> places() {
    std::vector<std::size_t> places;
    for (std::size_t at = queue().oldest(); at != queue().end(); at = queue().after(at)) {
      places.push_back(at);
    }
    return places;
  }
  /// Memory for one more, as the engine makes it.
  bool space() {
    const std::size_t wanted = 2 * (maxText + Queue::headerBytes);
    while (queue().space(wanted) == nullptr) {
      if (!makeRoom(maxBytes - queue().bytes() + 1)) return false;
    }
    return true;
  }
  bool makeRoom(std::size_t bytes) {
    std::uint64_t evicted = 0, expected = 0;
    const bool fits = queue().makeRoom(bytes, evicted);
    bool could = true;
    Model smaller = model_;
    for (; could && smaller.bytes() + bytes > maxBytes; expected += could ? 1 : 0) {
      const std::size_t victim = smaller.victim();
      could = victim != smaller.items.size();
      if (could) smaller.remove(victim);
    }
    REQUIRE(fits == could);
    REQUIRE(evicted == (could ? expected : 0));
    if (could) model_ = std::move(smaller);
    evicted_ += evicted;
    return fits;
  }
  void push(bool init, bool loaded, int session, unsigned flags) {
    const std::string bytes = text();
    if (!space() || !makeRoom(bytes.size())) return;
    if (init && !loaded) session = model_.session = ++model_.sessions;
    const bool inFile = (flags & Queue::inFile) != 0;
    const std::int64_t born = now_ - (loaded ? static_cast<std::int64_t>(below(9'000)) : 0);
    REQUIRE(waiting_.push(++id_, bytes, flags | (init ? Queue::init : 0u), born));
    model_.items.push_back({id_, born, bytes, session, init, loaded, false, inFile, false});
  }
  void accept(bool init) { push(init, false, model_.session, 0); }
  void acknowledge() {
    for (std::size_t count = below(6); count > 0 && !model_.items.empty(); --count) {
      const std::size_t i = below(below(4) == 0 ? model_.items.size() : 1 + below(3));
      if (i >= model_.items.size()) continue;
      queue().remove(places()[i]);
      model_.remove(i);
    }
  }
  void gather() {
    std::size_t count = below(8);
    for (std::size_t at = queue().unfiled(); at != queue().end() && count > 0;
         at = queue().unfiled(), --count) {
      queue().mark(at, Queue::writing);
      for (Model::Item& item : model_.items) {
        if (item.id == queue().at(at).id) item.writing = true;
      }
    }
  }
  void written(bool arrived) {
    queue().written(arrived);
    for (Model::Item& item : model_.items) {
      item.inFile = item.inFile || (item.writing && arrived);
      item.writing = false;
    }
  }
  /// A whole new file, in pieces, while events come and go.
  void rewrite() {
    queue().markAll(0, Queue::writing);
    for (Model::Item& item : model_.items) item.writing = false;
    for (std::size_t left = below(60); left > 0 && queue().unwritten() != queue().end(); --left) {
      const std::uint64_t id = queue().at(queue().unwritten()).id;
      std::size_t i = 0;
      while (i < model_.items.size() && model_.items[i].writing) ++i;
      REQUIRE(i < model_.items.size());
      REQUIRE(model_.items[i].id == id);
      queue().mark(queue().unwritten(), Queue::writing);
      model_.items[i].writing = true;
      if (below(10) == 0) acknowledge();
      if (below(10) == 0) accept(model_.session == 0 || below(12) == 0);
    }
    if (queue().unwritten() == queue().end() && below(4) != 0) rewritten();
    else written(false);
  }
  void rewritten() {
    queue().rewritten();
    for (Model::Item& item : model_.items) item.inFile = item.writing, item.writing = false;
  }
  void request() {
    const std::vector<std::size_t> all = places();
    for (std::size_t i = 0; i < lesserOf(all.size(), below(20)); ++i) {
      queue().mark(all[i], Queue::inRequest);
      model_.items[i].inRequest = true;
    }
  }
  void answered() {
    queue().markAll(0, Queue::inRequest);
    for (Model::Item& item : model_.items) item.inRequest = false;
  }
  void expire() {
    const std::int64_t before = now_ - static_cast<std::int64_t>(below(12'000));
    REQUIRE(queue().expire(before) == model_.expire(before));
  }
  /// A file brings older sessions, if there is room for them.
  void takeOver() {
    const std::size_t before = model_.items.size();
    for (std::size_t sessions = 1 + below(2); sessions > 0; --sessions) {
      if (queue().bytes() + 6 * maxText > maxBytes) break;
      const int session = ++model_.sessions;
      const bool settled = below(2) == 0;
      if (settled) model_.settled.insert(session);
      const unsigned flags = Queue::loaded | Queue::inFile;
      push(!settled, true, session, flags | (settled ? Queue::first | Queue::initSettled : 0u));
      for (std::size_t more = below(4); more > 0; --more) push(false, true, session, flags);
    }
    if (model_.items.size() < before || !queue().space(2 * (maxText + Queue::headerBytes))) return;
    queue().loadedFirst();
    std::stable_partition(model_.items.begin(), model_.items.end(),
                          [](const auto& item) { return item.loaded; });
  }
  void told() {
    queue().goneIds().clear();
    queue().loseTrack(false);
    model_.gone.clear();
  }
  void clear() {
    REQUIRE(queue().clear() == model_.items.size());
    model_ = Model();
  }
  static std::size_t lesserOf(std::size_t a, std::size_t b) { return a < b ? a : b; }

  std::mt19937 random_;
  Waiting waiting_{maxBytes, maxBytes + maxBytes / 4 + 2 * (maxText + Queue::headerBytes)};
  Model model_;
  std::int64_t now_ = 0;
  std::uint64_t id_ = 1000, evicted_ = 0;
};

}  // namespace

TEST_CASE("the queue does what a plain list would, whatever comes in whatever order") {
  for (std::uint32_t seed = 1; seed <= fakes::rounds(20, 2); ++seed) {
    CAPTURE(seed);
    Pair pair(seed);
    for (int i = 0; i < 2'500; ++i) {
      CAPTURE(i);
      pair.step();
      REQUIRE(pair.difference() == "");
    }
    CHECK(pair.evictedInAll() > 0);
  }
}

// ---- as a user sees it ----

namespace {

/// Limits so small that a few dozen events fill the queue.
Options smallQueue(fakes::World& world) {
  Options options = world.options();
  options.maxEventBytes = 1024;
  options.maxQueueBytes = 10'000;
  options.maxBatchBytes = 4'000;
  return options;
}

/// Every event came after an init of its session had come.
bool everySessionBegan(const std::vector<fakes::Json>& received) {
  std::set<std::uint64_t> began;
  for (const fakes::Json& event : received) {
    if (event.at("type") == "init") began.insert(event.at("sessionId").get<std::uint64_t>());
    if (began.count(event.at("sessionId").get<std::uint64_t>()) == 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a queue that is full for an hour counts every event, and keeps the newest") {
  fakes::World world;
  Options options = smallQueue(world);
  options.offlineCache = GENERATE(true, false);
  options.sessionTimeoutMs = 10 * 60'000;
  Client client(options);
  world.server->then = fakes::Server::always(0);
  std::int64_t newest = 0;
  for (int second = 0; second < 3600; ++second) {
    if (second % 300 == 0) client.startSession();
    REQUIRE(client.track("EVENT", {{"number", ++newest}}) == Outcome::ok);
    world.pass(client, 1000, 1000);
    const Stats stats = client.stats();
    REQUIRE(fakes::balanced(stats));
    REQUIRE(stats.queuedBytes <= options.maxQueueBytes);
  }
  CHECK(client.stats().acknowledgedEvents == 0);
  CHECK(client.stats().droppedQueueFull > 3000);
  world.server->bodies.clear();
  world.server->then = nullptr;
  world.pass(client, 20 * 60'000);
  const Stats stats = client.stats();
  CHECK(stats.queuedEvents == 0);
  CHECK(stats.acceptedEvents == stats.acknowledgedEvents + stats.droppedQueueFull);
  const std::vector<fakes::Json> received = world.server->received();
  REQUIRE(received.size() == stats.acknowledgedEvents);
  CHECK(received.back().at("payload").at("number") == newest);
  CHECK(everySessionBegan(received));
  std::int64_t expected = -1;  // no event between two others is missing
  for (const fakes::Json& event : received) {
    if (event.at("type") != "event") continue;
    const std::int64_t number = event.at("payload").at("number");
    CHECK((expected < 0 || number == expected));
    expected = number + 1;
  }
}

TEST_CASE("a full queue is reported once a minute at most, with the count and the option to turn") {
  fakes::World world;
  Client client(smallQueue(world));
  world.server->then = fakes::Server::always(0);
  std::uint64_t reported = 0;
  std::int64_t lastMs = -60'000;
  for (int step = 0; step < 4 * 600; ++step) {
    client.track("EVENT", {{"step", step}});
    const std::size_t before = world.diagnostics.size();
    world.pass(client, 250);
    for (std::size_t i = before; i < world.diagnostics.size(); ++i) {
      if (world.diagnostics[i].first != "queue-full") continue;
      CHECK(world.clock->steady - lastMs >= 60'000);
      CHECK(world.messages[i].find("maxQueueBytes") != std::string::npos);
      lastMs = world.clock->steady;
      reported += world.diagnostics[i].second;
    }
  }
  CHECK(reported > 0);
  world.pass(client, 60'001, 60'001);
  CHECK(world.told("queue-full") == client.stats().droppedQueueFull);
}

TEST_CASE("when all that is queued is in a request the new event is refused") {
  fakes::World world;
  Options options = world.options();
  options.maxEventBytes = 700;
  options.maxQueueBytes = 1400;
  options.maxBatchBytes = 10'000;
  options.sessionTimeoutMs = 86'400'000;
  Client client(options);
  const std::string filler(300, 'x');
  world.server->keeps = true;
  world.server->then = [](const Request&) { return Response::pending(); };
  while (client.stats().queuedBytes < 900) client.track("EVENT", {{"filler", filler}});
  world.pass(client, 3000);
  REQUIRE(world.server->requests.size() == 1);
  const std::uint64_t carried = client.stats().queuedEvents;
  const std::uint64_t accepted = client.stats().acceptedEvents;
  std::uint64_t refused = 0;
  for (int i = 0; i < 5; ++i) {
    refused += client.track("LATER", {{"filler", filler}}) == Outcome::queueFull ? 1u : 0u;
  }
  CHECK(refused > 0);
  CHECK(client.stats().acceptedEvents + refused == accepted + 5);
  CHECK(fakes::balanced(client.stats()));
  world.server->requests[0].reply(fakes::Server::acknowledge(world.server->requests[0]));
  CHECK(client.stats().acknowledgedEvents == carried);
  CHECK(client.track("AGAIN", {{"filler", filler}}) == Outcome::ok);
}

TEST_CASE("many sessions without an event make room for each other") {
  fakes::World world;
  Client client(smallQueue(world));
  world.server->then = fakes::Server::always(0);
  for (int i = 0; i < 200; ++i) REQUIRE(client.startSession() == Outcome::ok);
  REQUIRE(client.track("LAST") == Outcome::ok);
  CHECK(fakes::balanced(client.stats()));
  CHECK(client.stats().queuedBytes <= 10'000);
  world.server->then = nullptr;
  client.flush(1000);
  world.pass(client, 30'000);
  CHECK(client.stats().queuedEvents == 0);
  CHECK(everySessionBegan(world.server->received()));
  CHECK(world.server->received().back().at("name") == "LAST");
}

TEST_CASE("the steady clock may count from anywhere") {
  fakes::World world;
  world.clock->steady =
      GENERATE(std::int64_t{0}, std::int64_t{-1'000'000}, std::int64_t{1} << 39,
               std::int64_t{1} << 40, std::int64_t{1'790'000'000'000}, std::int64_t{1} << 52);
  CAPTURE(world.clock->steady);
  world.server->script = {fakes::Server::always(500)};
  Client client(world.options());
  client.track("EVENT");
  world.pass(client, 60'000);
  CHECK(client.stats().acknowledgedEvents == 2);
  CHECK(client.stats().droppedTooOld == 0);
}
