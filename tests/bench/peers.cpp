// The same measurements of what somebody might use instead, as far as Debian packages it:
// peers WHAT. Prints lines `name value`, nanoseconds where the name says nothing else.
//   spdlog    asynchronous, to a file: a line of log with the same content, and no delivery
//   SQLite    a table of events as JSON that is ready: a queue that outlives the program
#include "measure.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using measure::Calls;
using measure::demand;
using measure::print;

// ---- spdlog ----

constexpr std::size_t rounds = 200, perRound = 1'000;

class Log {
 public:
  Log() {
    spdlog::init_thread_pool(8'192, 1);
    logger_ = spdlog::basic_logger_mt<spdlog::async_factory>("bench", "spdlog.log", true);
  }
  ~Log() { spdlog::shutdown(); }
  void write() {
    logger_->info("PLAYED_TRACK trackName={} duration={} premium={}", "My Awesome Song", 120, true);
  }
  void arrive() {
    logger_->flush();
    while (spdlog::thread_pool()->queue_size() > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  std::shared_ptr<spdlog::logger> logger_;
};

template <class Write>
void play(Log& log, const Write& write) {
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < perRound; ++i) write();
    log.arrive();
  }
}

void warm() {
  Log log;
  Calls calls(rounds * perRound);
  play(log, [&] { calls.time([&] { log.write(); }); });
  calls.print("spdlog-warm");
}

void cold() {
  constexpr std::size_t times = 300;
  Log log;
  Calls calls(times);
  for (std::size_t i = 0; i < times; ++i) {
    measure::evictCaches();
    calls.time([&] { log.write(); });
  }
  calls.print("spdlog-cold");
}

void processor() {
  const double begin = measure::processorNs();
  {
    Log log;
    play(log, [&] { log.write(); });
  }
  print("spdlog-processor", (measure::processorNs() - begin) / (rounds * perRound));
}

// ---- SQLite ----

const std::string& json() {
  static const std::string text =
      R"({"type":"event","name":"PLAYED_TRACK","id":1765672542201004,"date":1790000000000,)"
      R"("payload":{"trackName":"My Awesome Song","duration":120,"premium":true},)"
      R"("sessionId":31172521,"userId":"user-123456789","anonId":"Zq7Rk2MvXc9T",)"
      R"("deviceId":"k3TzQ8sVbN1xLw0"})";
  return text;
}

class Table {
 public:
  explicit Table(const std::string& file) {
    demand(sqlite3_open(file.c_str(), &database_) == SQLITE_OK, "SQLite cannot open");
    run("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event TEXT)");
    prepare("INSERT INTO events (event) VALUES (?)", insert_);
    prepare("SELECT event FROM events ORDER BY id", select_);
  }
  ~Table() {
    sqlite3_finalize(insert_);
    sqlite3_finalize(select_);
    sqlite3_close(database_);
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  void run(const char* text) {
    demand(sqlite3_exec(database_, text, nullptr, nullptr, nullptr) == SQLITE_OK, text);
  }
  void insert() {
    sqlite3_bind_text(insert_, 1, json().data(), static_cast<int>(json().size()), SQLITE_STATIC);
    demand(sqlite3_step(insert_) == SQLITE_DONE, "SQLite cannot insert");
    sqlite3_reset(insert_);
  }
  std::vector<std::string> all() {
    std::vector<std::string> events;
    while (sqlite3_step(select_) == SQLITE_ROW) {
      const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(select_, 0));
      events.emplace_back(text, static_cast<std::size_t>(sqlite3_column_bytes(select_, 0)));
    }
    sqlite3_reset(select_);
    return events;
  }

 private:
  void prepare(const char* text, sqlite3_stmt*& statement) {
    demand(sqlite3_prepare_v2(database_, text, -1, &statement, nullptr) == SQLITE_OK, text);
  }

  sqlite3* database_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* select_ = nullptr;
};

/// A transaction for each event, as SQLite has it by default: durable when the call returns.
void direct() {
  constexpr std::size_t times = 500;
  Table table("direct.db");
  Calls calls(times);
  for (std::size_t i = 0; i < times; ++i) calls.time([&] { table.insert(); });
  calls.print("sqlite-direct");
}

/// Write-ahead log, a transaction for 100 events, and each 2,000 events those are deleted again.
void batched() {
  constexpr std::size_t all = 10'000;
  Table table("batched.db");
  table.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
  static_cast<void>(::access("measuring begins", F_OK));
  for (std::size_t i = 0; i < all; i += 100) {
    table.run("BEGIN");
    for (std::size_t n = 0; n < 100; ++n) table.insert();
    table.run("COMMIT");
    if ((i + 100) % 2'000 == 0) table.run("DELETE FROM events");
  }
  static_cast<void>(::access("measuring ends", F_OK));
  std::printf("events %zu\njson %zu\n", all, all * json().size());
}

void load() {
  constexpr std::size_t events = 100'000;
  {
    Table table("load.db");
    table.run("BEGIN");
    for (std::size_t i = 0; i < events; ++i) table.insert();
    table.run("COMMIT");
  }
  measure::Samples took;
  for (int run = 0; run < 7; ++run) {
    const double begin = measure::nowNs();
    Table table("load.db");
    demand(table.all().size() == events, "events are missing");
    took.add(measure::nowNs() - begin);
  }
  print("sqlite-load", took.median());
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view what = count > 1 ? arguments[1] : "";
  if (what == "warm") warm();
  else if (what == "cold") cold();
  else if (what == "processor") processor();
  else if (what == "direct") direct();
  else if (what == "batched") batched();
  else if (what == "load") load();
  else return std::fputs("peers: what?\n", stderr), 2;
}
