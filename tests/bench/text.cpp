// The loops: JSON of an event, escaping, redaction, and a poll() with nothing due, by Google
// Benchmark. Beside them RapidJSON and nlohmann/json, and what copying takes.
#include "inside.hpp"
#include "streams.hpp"
#include "subject.hpp"

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using nucleus::Value;
using streams::Tracked;

constexpr std::size_t roomBytes = 1 << 20;

// ---- 7. the JSON of an event ----

template <bool redacts>
class Nucleus {
 public:
  std::string_view operator()(const Tracked& event) { return output_.encoded(event, envelope_); }

 private:
  inside::Output output_{roomBytes};
  const nucleus::detail::Envelope envelope_ = inside::envelope(redacts);
};

class RapidJson {
 public:
  std::string_view operator()(const Tracked& event) {
    buffer_.Clear();
    writer_.Reset(buffer_);
    writer_.StartObject();
    text("type", "event");
    text("name", event.name);
    key("id"), writer_.Uint64(1'765'672'542'201'004);
    key("date"), writer_.Int64(1'790'000'000'000);
    payload(event);
    key("sessionId"), writer_.Uint64(31'172'521);
    text("userId", "user-123456789");
    text("anonId", "Zq7Rk2MvXc9T");
    text("deviceId", "k3TzQ8sVbN1xLw0");
    writer_.EndObject();
    return {buffer_.GetString(), buffer_.GetSize()};
  }

 private:
  void string(std::string_view text) {
    writer_.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
  }
  void key(std::string_view name) {
    writer_.Key(name.data(), static_cast<rapidjson::SizeType>(name.size()));
  }
  void text(std::string_view name, std::string_view value) { key(name), string(value); }
  void payload(const Tracked& event) {
    if (event.properties.empty()) return;
    key("payload");
    writer_.StartObject();
    for (const nucleus::Property& property : event.properties) {
      key(property.name);
      value(property.value);
    }
    writer_.EndObject();
  }
  void value(const Value& value) {
    if (value.kind() == Value::Kind::boolean) writer_.Bool(value.boolean());
    else if (value.kind() == Value::Kind::integer) writer_.Int64(value.integer());
    else if (value.kind() == Value::Kind::unsignedInteger) writer_.Uint64(value.unsignedInteger());
    else if (value.kind() == Value::Kind::number) writer_.Double(value.number());
    else string(value.text());
  }

  rapidjson::StringBuffer buffer_;
  rapidjson::Writer<rapidjson::StringBuffer> writer_{buffer_};
};

class Nlohmann {
 public:
  std::string_view operator()(const Tracked& event) {
    nlohmann::ordered_json json = {{"type", "event"},
                                   {"name", std::string(event.name)},
                                   {"id", 1'765'672'542'201'004},
                                   {"date", 1'790'000'000'000}};
    for (const nucleus::Property& property : event.properties) {
      json["payload"][std::string(property.name.view())] = valueOf(property.value);
    }
    json["sessionId"] = 31'172'521;
    json["userId"] = "user-123456789";
    json["anonId"] = "Zq7Rk2MvXc9T";
    json["deviceId"] = "k3TzQ8sVbN1xLw0";
    text_ = json.dump();
    return text_;
  }

 private:
  static nlohmann::ordered_json valueOf(const Value& value) {
    if (value.kind() == Value::Kind::boolean) return value.boolean();
    if (value.kind() == Value::Kind::integer) return value.integer();
    if (value.kind() == Value::Kind::unsignedInteger) return value.unsignedInteger();
    if (value.kind() == Value::Kind::number) return value.number();
    return std::string(value.text());
  }

  std::string text_;
};

template <class Writer>
void event(benchmark::State& state, bool mixed) {
  const std::vector<Tracked> events =
      mixed ? streams::mixed() : std::vector<Tracked>{streams::reference()};
  Writer writer;
  std::size_t next = 0, bytes = 0;
  for (auto _ : state) {
    const std::string_view json = writer(events[next++ % events.size()]);
    bytes += json.size();
    benchmark::DoNotOptimize(json.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}

/// The same bytes, when they are ready.
void eventCopied(benchmark::State& state, bool mixed) {
  std::vector<std::string> ready;
  Nucleus<true> writer;
  for (const Tracked& event :
       mixed ? streams::mixed() : std::vector<Tracked>{streams::reference()}) {
    ready.emplace_back(writer(event));
  }
  inside::Output output(roomBytes);
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(output.copied(ready[next++ % ready.size()]).data());
  }
}

// ---- 8. escaping ----

void escape(benchmark::State& state, const std::string& text) {
  inside::Output output(roomBytes);
  for (auto _ : state) benchmark::DoNotOptimize(output.escaped(text).data());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

/// With its check of UTF-8, as the text is not ours.
void escapeRapidJson(benchmark::State& state, const std::string& text) {
  using Writer = rapidjson::Writer<rapidjson::StringBuffer, rapidjson::UTF8<>, rapidjson::UTF8<>,
                                   rapidjson::CrtAllocator, rapidjson::kWriteValidateEncodingFlag>;
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  for (auto _ : state) {
    buffer.Clear();
    writer.Reset(buffer);
    writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
    benchmark::DoNotOptimize(buffer.GetString());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void copy(benchmark::State& state, const std::string& text) {
  inside::Output output(roomBytes);
  for (auto _ : state) benchmark::DoNotOptimize(output.copied(text).data());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

// ---- 18. redaction, 19. poll() ----

/// Escaping is part of it.
void redact(benchmark::State& state, const std::string& text) {
  inside::Output output(roomBytes);
  for (auto _ : state) benchmark::DoNotOptimize(output.redacted(text).data());
}

void poll(benchmark::State& state) {
  nucleus::Options options = subject::options("poll.cache");
  options.background = false;
  nucleus::Client client(options);
  client.flush(10'000);
  client.persist();
  for (auto _ : state) client.poll();
}

void registerEvents() {
  for (const bool mixed : {false, true}) {
    const std::string name = mixed ? "json-mixed-" : "json-reference-";
    const auto add = [&](const char* writer, auto run) {
      benchmark::RegisterBenchmark((name + writer).c_str(),
                                   [=](benchmark::State& state) { run(state, mixed); });
    };
    add("nucleus", event<Nucleus<true>>);
    add("unredacted", event<Nucleus<false>>);
    add("RapidJSON", event<RapidJson>);
    add("nlohmann", event<Nlohmann>);
    add("memcpy", eventCopied);
  }
}

void registerEscapes() {
  const std::pair<const char*, std::string_view> kinds[] = {
      {"ascii", streams::words}, {"utf8", streams::multilingual}, {"escapes", streams::escapes}};
  for (const auto& [kind, unit] : kinds) {
    for (const std::size_t kilobytes : {1u, 64u}) {
      const std::string text = streams::repeated(unit, kilobytes << 10);
      const std::string name = std::string("escape-") + kind + "-" + std::to_string(kilobytes);
      const auto add = [&](const char* writer, auto run) {
        benchmark::RegisterBenchmark((name + "-" + writer).c_str(),
                                     [=](benchmark::State& state) { run(state, text); });
      };
      add("nucleus", escape);
      add("RapidJSON", escapeRapidJson);
      add("memcpy", copy);
    }
  }
}

void registerRedaction() {
  const std::pair<const char*, std::string_view> kinds[] = {{"plain", "some words of a title "},
                                                            {"suspects", streams::suspects}};
  for (const auto& [kind, unit] : kinds) {
    for (const std::size_t bytes : {16u, 64u, 256u, 1'024u}) {
      const std::string text =
          (streams::repeated(unit, bytes) + std::string(unit)).substr(0, bytes);
      const std::string name = std::string(kind) + "-" + std::to_string(bytes);
      benchmark::RegisterBenchmark(("redacted-" + name).c_str(),
                                   [=](benchmark::State& state) { redact(state, text); });
      benchmark::RegisterBenchmark(("unredacted-" + name).c_str(),
                                   [=](benchmark::State& state) { escape(state, text); });
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  registerEvents();
  registerEscapes();
  registerRedaction();
  benchmark::RegisterBenchmark("poll", poll);
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
