"""The table: what is measured, beside whom, and the goal.

A figure is (row, what, name, unit, goal, peers, others). `peers` are measured in the same run:
(who, name). `others` were measured on another day, on 2 processor cores at 2.6 GHz with g++ 12 -O2:
(who, value). Units: ns and bytes are printed as what reads well; of GB/s more is better.
"""

ANOTHER_DAY_TRACK = [("quill, a log line without JSON", 25), ("aptabase", 627), ("Countly", 1376),
                     ("GameAnalytics", 1562), ("sentry, at best", 3917), ("1DS", 7180)]

BUILDERS = [("RapidJSON", "RapidJSON"), ("nlohmann/json", "nlohmann"), ("memcpy of it", "memcpy")]


def percentiles(row, what, name, goals, peer=None, others=()):
    for i, (part, goal) in enumerate(zip(("p50", "p99", "p99.9"), goals)):
        peers = [(peer[0], f"{peer[1]}-{part}")] if peer else []
        yield (row, f"{what}, {part}", f"{name}-{part}", "ns", goal, peers,
               others if i == 0 else ())


def builders(stream, goal, others):
    """The peers know no redaction, so that the library is shown with and without."""
    what = "JSON of the reference event" if stream == "reference" else "JSON, mixed stream"
    yield (7, f"{what}, redacted", f"json-{stream}-nucleus", "ns", goal, (), ())
    yield (7, f"{what}, not redacted", f"json-{stream}-unredacted", "ns", goal,
           [(who, f"json-{stream}-{name}") for who, name in BUILDERS], others)


def escapes():
    simdjson = {"ascii": [("simdjson, unvalidated", 18)], "utf8": [("simdjson, validated", 9)],
                "escapes": [("simdjson", 1.1)]}
    words = {"ascii": "ASCII", "utf8": "multilingual UTF-8, checked",
             "escapes": "text full of escapes"}
    for kind, goal in (("ascii", 15), ("utf8", 12), ("escapes", 1.5)):
        for size in (1, 64):
            name = f"escape-{kind}-{size}"
            peers = [("RapidJSON, checked", f"{name}-RapidJSON"), ("memcpy", f"{name}-memcpy")]
            yield (8, f"escaping {size} KB of {words[kind]}", f"{name}-nucleus", "GB/s", goal,
                   peers, simdjson[kind])


def redactions():
    kinds = (("plain", "nothing to redact", 10), ("suspects", "@ / : . and digits", None))
    for kind, words, goal in kinds:
        for size in (16, 64, 256, 1024):
            yield (18, f"redaction alone, {size} bytes with {words}", f"redaction-{kind}-{size}",
                   "ns", goal, (), ())


def sizes(level, goal, others):
    name = f"size-{level}"
    yield (12, f"added to a stripped program, -{level}", name, "bytes", goal, (), others)
    for group in ("code", "constants", "unwinding", "linking", "data"):
        yield (12, f"  of which {group}", f"{name}-{group}", "bytes", None, (), ())


FIGURES = [
    *percentiles(1, "track(), reference event", "warm-reference", (75, 120, 500),
                 ("spdlog async, a log line", "spdlog-warm"), ANOTHER_DAY_TRACK),
    *percentiles(1, "track(), mixed stream", "warm-mixed", (None, None, None)),
    *percentiles(2, "the same with cold caches", "cold-reference", (1100,),
                 ("spdlog async, a log line", "spdlog-cold"), [("quill", 885), ("aptabase", 3235)]),
    *percentiles(2, "mixed stream, cold caches", "cold-mixed", (None,)),
    (3, "instructions of track(), reference event", "instructions-track-reference", "", 1000, (),
     [("quill", 311), ("spdlog", 3776), ("GameAnalytics", 5226), ("aptabase", 9937),
      ("sentry", 46993)]),
    (3, "mixed stream", "instructions-track-mixed", "", None, (), ()),
    (3, "from track() to the answer, with the file", "instructions-deliver-reference", "", None,
     (), ()),
    (4, "allocations of track()", "allocations-track-reference", "", 0, (),
     [("aptabase", 6), ("Countly", 30), ("sentry", 104)]),
    (4, "mixed stream", "allocations-track-mixed", "", 0, (), ()),
    (4, "allocations of the worker for an answer", "allocations-answer-mixed", "", 0, (), ()),
    (5, "processor time of an event, delivered, with the file", "processor-reference", "ns", 300,
     [("spdlog async, to a file alone", "spdlog-processor")], [("quill", 1750)]),
    (5, "mixed stream", "processor-mixed", "ns", None, (), ()),
    (6, "memory of a queued event beyond its JSON", "queue-over-json", "bytes", 16, (),
     [("Countly, with JSON", 290), ("aptabase, with JSON", 825), ("sentry, with JSON", 6400)]),
    (6, "the same, with what is set aside for a full queue", "reserve-over-json", "bytes", 16,
     (), ()),
    *builders("reference", 32, [("simdjson builder", 63), ("yyjson", 140)]),
    *builders("mixed", None, ()),
    *escapes(),
    *percentiles(9, "track() that writes, cacheDelayMs = 0", "direct", (420,),
                 ("SQLite, a transaction each", "sqlite-direct"),
                 [("SQLite as Countly uses it", 868000)]),
    (10, "written for an event beyond its JSON, 100 a second", "written-over-json-reference",
     "bytes", 16, [("SQLite WAL, 100 a transaction", "sqlite-written")],
     [("Countly, with JSON", 17207)]),
    (10, "system calls for an event, without a worker", "calls-reference", "", 0.05,
     [("SQLite WAL, 100 a transaction", "sqlite-calls")], [("Countly", 65)]),
    (10, "with the worker, which also sleeps", "worker-calls", "", 0.05, (), ()),
    (11, "loading a cache of 100,000 events", "load", "ns", 13e6,
     [("SQLite, unchecked", "sqlite-load")], ()),
    *sizes("Os", 40 << 10, [("aptabase, no cache, no HTTP", 25 << 10), ("Countly", 128 << 10),
                            ("sentry", 133 << 10)]),
    *sizes("O2", 64 << 10, [("aptabase, no cache, no HTTP", 50 << 10), ("Countly", 193 << 10),
                            ("sentry", 165 << 10)]),
    (13, "compiling a file that only includes it", "compile-only", "ns", 0.45e9,
     [("its standard headers alone", "compile-standard"), ("nlohmann/json", "compile-nlohmann")],
     [("httplib", 5.1e9), ("aptabase", 0.22e9)]),
    (13, "one that uses it", "compile-uses", "ns", 0.9e9, (), ()),
    (13, "the same, -O2", "compile-uses-O2", "ns", None, (), ()),
    (13, "split mode, declarations", "compile-split", "ns", 0.22e9, (), ()),
    (14, "memory of its own after start, over an empty program", "start-dirty", "bytes",
     192 << 10, (), [("quill", 512 << 10), ("sentry", 1384 << 10)]),
    (14, "all memory, with pages of code", "start-resident", "bytes", None, (), ()),
    (14, "threads", "start-threads", "", 1, (), [("sentry", 6)]),
    (15, "shutdown, 100 events, a server that refuses", "refused", "ns", 5e6, (),
     [("Countly", 0.8e6), ("sentry", 7.5e6)]),
    (15, "  of 100 events survive", "refused-survivors", "more", 100, (), [("aptabase", 0)]),
    (15, "shutdown of 250 ms, a transport that hangs", "hanging", "ns", 270e6, (),
     [("sentry", 2.3e9), ("aptabase and Countly", 29.5e9)]),
    (15, "  of 100 events survive", "hanging-survivors", "more", 100, (), ()),
    (16, "an answer for 4,000 events, in order", "ack-in-order", "ns", 1e6, (), ()),
    (16, "in random order", "ack-random", "ns", 1e6, (), ()),
    (16, "growth, 4,000 over twice 2,000; 1 is linear", "growth-ack-random", "", 1.05, (), ()),
    (17, "rewrites of the file in a day, an event a second", "day-rewrites", "", 100, (), ()),
    *redactions(),
    (18, "growth, 32 KB over 4 times 8 KB; 1 is linear", "growth-redaction", "", 1.05, (), ()),
    (19, "poll() with nothing due", "poll", "ns", 50, (), ()),
    *percentiles(20, "track(), two threads at once", "contention", (None, 1000, None)),
]
