"""Holds the header against the house style; prints one line a rule.

  style.py HEADER
"""
import re
import sys

ROOMS = ["Configuration", "Vocabulary", "Options", "Client", "Text", "Privacy", "Encode", "Queue",
         "Cache", "Delivery", "Engine", "Platform", "Client, defined", "Licence"]
PUBLIC = {"cstddef", "cstdint", "exception", "functional", "initializer_list", "memory", "string",
          "string_view", "type_traits"}
BANNER = re.compile(r"// ==== (\d+)\. (.+?) ==== \S.*\S ====$")


def blank(pattern, text):
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M)


def code_of(source):
    """The source with comments, text, preprocessor lines and initializers blanked, line by line."""
    literal = r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Fa-f])\'(?:\\.|[^\'\\\n])+\''
    code = blank(r"//[^\n]*|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*|" + literal, source)
    return blank(r"(?<=[\w>])\{[^{};]*\}|= \{[^{};]*\}", code)


def is_function(head):
    """Whether the text before an opening brace begins the body of a function."""
    head = re.sub(r"\b(template\s*<.*?>\s*)(?=class|struct|inline|[A-Za-z:])", "", head, flags=re.S)
    if re.match(r"\s*(inline\s+)?(namespace|class|struct|union|enum|extern)\b", head): return False
    return "(" in head and not re.search(r"(=|return|,|\()\s*$", head)


def functions(source):
    """Of each: name, first line, lines from signature to closing brace, deepest nesting."""
    code, found = code_of(source), []
    depth, head, outer, current = 0, 0, [], None
    for at, c in enumerate(code):
        if c == "{":
            text = code[head:at]
            if current is None and is_function(text):
                first = head + len(text) - len(text.lstrip())
                current = [name_of(text), code.count("\n", 0, first) + 1, depth, 0, []]
            elif current is not None:
                block = re.search(r"(^|\)|\]|\b(else|do|try|const|mutable))\s*$", text) is not None
                current[4].append(block)
                current[3] = max(current[3], sum(current[4]))
            depth, head = depth + 1, at + 1
        elif c == "}":
            depth, head = depth - 1, at + 1
            if current is not None and depth == current[2]:
                last = code.count("\n", 0, at) + 1
                found.append((current[0], current[1], last - current[1] + 1, current[3]))
                current = None
            elif current is not None:
                current[4].pop()
        elif c == ";" and (current is None or code[head:at].count("(") == code[head:at].count(")")):
            head = at + 1
        elif c == ":" and re.search(r"\b(public|private|protected)\s*$", code[head:at]):
            head = at + 1
    return found


def name_of(text):
    names = re.findall(r"([\w:~]+|operator\S+)\s*\(", text)
    return names[0] if names else "?"


def check(rule, wrong, note=""):
    if wrong:
        print(f"FAIL  style: {rule}")
        for each in wrong[:10]: print(f"      {each}")
    else:
        print(f"ok    style: {rule}{note}")


def main(path):
    raw = open(path, "rb").read()
    source = raw.decode("latin-1")
    lines = source.split("\n")
    numbered = list(enumerate(lines, 1))
    banners = [(i, BANNER.match(line)) for i, line in numbered
               if "====" in line and "grep" not in line]
    titles = [m and (int(m[1]), m[2]) for _, m in banners]

    check("ASCII, LF, no tab, no blank at an end of line",
          [f"line {i}" for i, line in numbered if re.search(r"[^\x20-\x7e]|\s$", line)])
    check("100 columns", [f"line {i}: {len(line)}" for i, line in numbered if len(line) > 100])
    check("rooms 1 to 14, in order",
          [] if titles == list(enumerate(ROOMS, 1)) else [f"found: {titles}"])
    starts = {m[1]: i for i, m in banners if m}
    room = lambda i: max((int(n) for n, start in starts.items() if start <= i), default=0)
    check("#if only in rooms 1 and 12, but for the guards and the vectors",
          [f"line {i}: {line}" for i, line in numbered if re.match(r"\s*#\s*(if|elif|else)", line)
           and room(i) not in (1, 12) and not enclosing(lines, i)])
    check("no TODO", [f"line {i}: {line.strip()}" for i, line in numbered
                      if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)])
    check("no warning is suppressed",
          [f"line {i}: {line.strip()}" for i, line in numbered
           if re.search(r"#\s*pragma|_Pragma|NOLINT", line)])
    public = source[:source.index("#endif  // NUCLEUS_HPP")]
    included = set(re.findall(r"^#include\s*[<\"](.*?)[>\"]", public, re.M))
    check("the public half includes the nine headers it may, and no other",
          sorted(f"<{name}>" for name in included ^ PUBLIC))
    tag = re.search(r'#define NUCLEUS_VERSION "(.*?)"', source)[1].replace(".", "_")
    check("the tag of the symbols is the version",
          [] if f" v{tag}_" in source else [f"there is no v{tag}_"])

    sizes = functions(source)
    by_lines = sorted(sizes, key=lambda f: f[2])
    share = lambda most: 100 * sum(f[2] < most for f in sizes) // len(sizes)
    name, at, longest, _ = by_lines[-1]
    deepest = max(sizes, key=lambda f: f[3])
    check("no function over 40 lines",
          [f"{f[0]}, line {f[1]}: {f[2]}" for f in by_lines if f[2] > 40],
          f": {len(sizes)} functions, the longest {longest} ({name}, line {at})")
    check("half of the functions under 8 lines, nine in ten under 20",
          [] if share(8) >= 50 and share(20) >= 90 else [f"{share(8)} %, {share(20)} %"],
          f": {share(8)} %, {share(20)} %")
    check("no nesting over 3",
          [f"{f[0]}, line {f[1]}: {f[3]}" for f in sizes if f[3] > 3],
          f": the deepest {deepest[3]} ({deepest[0]}, line {deepest[1]})")


def enclosing(lines, number):
    """A guard, or the vectors of room 5: it, or the #if that it belongs to, names one of those."""
    depth = 0
    for line in reversed(lines[:number]):
        if re.match(r"\s*#\s*endif", line): depth += 1
        if re.match(r"\s*#\s*if", line):
            if depth == 0: return bool(re.search("NUCLEUS_(HPP|BODY|VECTORS)", line))
            depth -= 1
    return False


main(sys.argv[1])
