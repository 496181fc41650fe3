"""Reads what the tests wrote, one JSON object a line, and checks it against what Python makes of
the same bytes: usage: roundtrip.py <file> <lines expected>."""

import json
import struct
import sys


def refuse(word):
    raise ValueError(word + " is not JSON")


def once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def digits(number):
    """The digits that count, without the zeros around them."""
    return "".join(c for c in number.split("e")[0] if c.isdigit()).strip("0")


def check(line):
    entry = json.loads(line.decode("utf-8"), parse_constant=refuse, object_pairs_hook=once)
    if "text" in entry:
        assert entry["text"] == bytes.fromhex(entry["bytes"]).decode("utf-8", "replace")
    elif "number" in entry:
        (expected,) = struct.unpack(">d", bytes.fromhex(entry["bits"]))
        written = line.decode().split('"number":')[1].rstrip("}\n")
        assert struct.pack(">d", float(written)) == struct.pack(">d", expected)
        assert float(entry["number"]) == expected
        assert len(digits(written)) <= len(digits(repr(expected))), repr(expected)
    else:
        assert type(entry["integer"]) is int and entry["integer"] == int(entry["decimal"])


def main(path, expected):
    count = wrong = 0
    with open(path, "rb") as file:
        for count, line in enumerate(file, 1):
            try:
                check(line)
            except Exception as error:  # whatever it is, the line is not as it should be
                wrong += 1
                if wrong <= 5:
                    print(f"line {count}: {error!r}: {line[:200]!r}")
    if count != int(expected):
        print(f"{count} lines instead of {expected}")
    return 1 if wrong or count != int(expected) else 0


sys.exit(main(*sys.argv[1:]))
