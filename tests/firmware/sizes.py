"""Says how much of a program for the device each room of nucleus.hpp takes, and the rest.

An instruction belongs where its line stands: to the room of nucleus.hpp, or, if it is of the
standard library's headers, to the room of the function that it was made part of. A constant
belongs to the room that defines it.
"""
import bisect
import collections
import pathlib
import re
import subprocess

TOOLS = "arm-none-eabi-"


def rooms_of(header):
    """(first line, name) of each room."""
    return [(number, re.match(r"// ==== \d+\. (\w+(, \w+)?)", line)[1])
            for number, line in enumerate(header.read_text().splitlines(), 1)
            if line.startswith("// ==== ")]


def output(tool, *arguments):
    return subprocess.run([TOOLS + tool, *arguments], check=True, capture_output=True,
                          text=True).stdout


class Places:
    """Where in the source an address comes from."""

    def __init__(self, program, header):
        self.rooms = rooms_of(header)
        self.rows = []  # (address, file, line)
        for text in output("objdump", "--dwarf=decodedline", program).splitlines():
            row = re.match(r"(\S+)\s+([1-9]\d*)\s+(0x[0-9a-f]+)", text)
            if row:
                self.rows.append((int(row[3], 16), row[1], int(row[2])))
        self.rows.sort(key=lambda row: row[0])
        self.addresses = [row[0] for row in self.rows]

    def owner(self, file, line):
        """A room, another part, or None: of the standard library's headers."""
        name = pathlib.PurePath(file).name
        if name == "nucleus.hpp":
            return [room for first, room in self.rooms if first <= line][-1]
        if name in ("main.cpp", "flash_storage.hpp", "mps2.cpp", "simulated_flash.hpp", "board.hpp"):
            return name
        return None

    def split(self, begin, size, owner):
        """Bytes by owner, of the function that `owner` has."""
        parts = collections.Counter()
        at = bisect.bisect_right(self.addresses, begin) - 1
        current, file, line = begin, *(self.rows[at][1:] if at >= 0 else ("", 0))
        while current < begin + size:
            at += 1
            until = min(self.addresses[at], begin + size) if at < len(self.rows) else begin + size
            parts[self.owner(file, line) or owner] += until - current
            current = until
            if at < len(self.rows):
                file, line = self.rows[at][1:]
        return parts


def sizes(program, header):
    """Bytes of flash by owner: rooms, the example's files, `libraries`, what has no name."""
    places = Places(program, header)
    parts = collections.Counter()
    seen = set()  # a function may have two names
    for text in output("nm", "-S", "-l", "--size-sort", "--defined-only", program).splitlines():
        symbol = re.match(r"([0-9a-f]+) ([0-9a-f]+) (\w) (\S+)(?:\t(.*):(\d+))?$", text)
        address, size, kind = int(symbol[1], 16), int(symbol[2], 16), symbol[3].lower()
        if (address >= 0x200000 and kind != "d") or (address & ~1) in seen:
            continue
        seen.add(address & ~1)
        owner = places.owner(symbol[5], int(symbol[6])) if symbol[5] else None
        if kind in "tw":
            address &= ~1
            parts.update(places.split(address, size, owner or "libraries"))
        elif kind in "rvd":
            parts[owner or "libraries"] += size
    text, data = output("size", program).splitlines()[1].split()[:2]
    parts["texts and gaps"] = int(text) + int(data) - sum(parts.values())
    return parts
