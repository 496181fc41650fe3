"""Counts that do not depend on how busy the machine is. Each is {name: value}."""
import re

from rig import need_header, need_program, numbers, output

CALLS = re.compile(r"^(?:\d+ +)?([a-z0-9_]+)\(")
WRITES = re.compile(r"\bp?write(v|64)?(\(| resumed)")

SECTIONS = {  # the rest is data
    "code": r"\.(text|init|fini|plt.*)$",
    "constants": r"\.rodata.*$",
    "unwinding": r"\.(eh_frame.*|gcc_except_table.*)$",
    "linking": r"\.(dyn.*|rela.*|gnu.*|note.*|interp|hash)$",
}


def need_all():
    need_program("valgrind", "valgrind")
    need_header("valgrind/callgrind.h", "valgrind")
    need_program("strace", "strace")
    need_program("size", "binutils")
    need_header("nlohmann/json.hpp", "nlohmann-json3-dev")


# ---- instructions ----


def callgrind(program, folder):
    """{name: instructions}, and {name: what the program says they are to be divided by}."""
    times = numbers(output(["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no",
                            f"--callgrind-out-file={folder}/counts", program], folder))
    counted = {}
    for file in folder.glob("counts.*"):
        text = file.read_text(errors="replace")
        trigger = re.search(r"^desc: Trigger: Client Request: (\S+)", text, re.M)
        if trigger: counted[trigger.group(1)] = int(re.search(r"^totals: (\d+)", text, re.M)[1])
    return counted, times


def growth(counted, times, small, large):
    """1 is linear."""
    return counted[large] / counted[small] * times[small] / times[large]


def instructions(rig):
    counted, times = callgrind(rig.build("instructions.cpp"), rig.folder())
    found = {}
    for what in ("track", "deliver"):
        for stream in ("reference", "mixed"):
            name = f"{what}-{stream}"
            found[f"instructions-{name}"] = counted[name] / times[name]
    for order in ("in-order", "random"):
        name = f"ack-{order}-4000"
        found[f"instructions-ack-{order}"] = counted[name] / times[name]
        found[f"growth-ack-{order}"] = growth(counted, times, f"ack-{order}-2000", name)
    texts = [name[:-5] for name in counted if re.fullmatch(r"redact-\d+-8192", name)]
    found["growth-redaction"] = max(growth(counted, times, f"{text}-8192", f"{text}-32768")
                                    for text in texts)
    return found


# ---- memory ----


def allocations(rig):
    return numbers(output([rig.build("allocations.cpp")], rig.folder()))


# ---- the file ----


def traced(program, what, folder, ignored=()):
    """What the program prints, and its system calls between the marks: how many of which name, and
    the bytes that were written."""
    log = folder / "trace"
    said = numbers(output(["strace", "-f", "-o", log, program, what], folder))
    text = log.read_text(errors="replace")
    begin, end = text.index('"measuring begins"'), text.index('"measuring ends"')
    calls, written = {}, 0
    for line in text[begin:end].splitlines()[1:]:
        match = CALLS.match(line)
        if match and match[1] not in ("access", *ignored):
            calls[match[1]] = calls.get(match[1], 0) + 1
        if WRITES.search(line) and not line.endswith("unfinished ...>"):
            written += int(line.rsplit("= ", 1)[1].split()[0])
    return said, calls, written


def per_event(said, calls, written):
    events = said["events"]
    return sum(calls.values()) / events, (written - said["json"]) / events


def storage(rig):
    program = rig.build("stored.cpp")
    found = {}
    for stream in ("reference", "mixed"):
        calls, over = per_event(*traced(program, stream, rig.folder()))
        found[f"calls-{stream}"] = calls
        found[f"written-over-json-{stream}"] = over
    day = numbers(output([program, "day"], rig.folder()))
    return {**found, **{f"day-{name}": value for name, value in day.items()}}


# ---- size ----


def sections(program):
    """{group: bytes}, without those that are not in memory."""
    found = dict.fromkeys([*SECTIONS, "data"], 0)
    for line in output(["size", "-A", "-d", program]).splitlines():
        match = re.match(r"(\.\S+) +(\d+) +(\d+)", line)
        if not match or match[3] == "0": continue
        groups = [group for group, names in SECTIONS.items() if re.match(names, match[1])]
        found[groups[0] if groups else "data"] += int(match[2])
    return found


def size(rig, level):
    flags = (f"-{level}", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-s")
    program = rig.build("every_call.cpp", f"every_call-{level}", flags)
    empty = rig.build("every_call.cpp", f"empty-{level}", (*flags, "-DEMPTY"))
    before, after = sections(empty), sections(program)
    found = {f"size-{level}": program.stat().st_size - empty.stat().st_size}
    return {**found, **{f"size-{level}-{group}": after[group] - before[group] for group in after}}
