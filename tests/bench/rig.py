"""What the benches share: a folder to build in, what they need to be there, the machine."""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
HEADER = pathlib.Path(os.environ.get("NUCLEUS_FOLDER", TOP)) / "nucleus.hpp"
COMPILER = os.environ.get("CXX", "g++")


def fail(message):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


def output(command, cwd=None):
    """What it prints. Ends all where it fails."""
    done = subprocess.run([str(each) for each in command], cwd=cwd, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def errors(command):
    """What it prints as errors, line by line."""
    return subprocess.run([str(each) for each in command], text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE).stderr.splitlines()


def need_program(program, package):
    if shutil.which(program) is None:
        fail(f"needs {program}, on Debian in the package {package}")


def need_header(header, package):
    command = [COMPILER, "-std=c++17", "-x", "c++", "-fsyntax-only", "-"]
    done = subprocess.run(command, input=f"#include <{header}>\n", text=True,
                          stderr=subprocess.DEVNULL)
    if done.returncode != 0: fail(f"needs <{header}>, on Debian in the package {package}")


def version_of(package):
    """As Debian has it; where there is no dpkg, nothing is known."""
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    if shutil.which(command[0]) is None: return "?"
    return subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout or "?"


def compiler_name():
    return output([COMPILER, "--version"]).splitlines()[0]


def machine():
    facts = pathlib.Path("/proc/cpuinfo")
    text = facts.read_text() if facts.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.M)
    return f"{name.group(1) if name else os.uname().machine}, {os.cpu_count()} cores"


def at_once(jobs, lanes=2):
    """Calls each of {name: function}; its results by name."""
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        running = {name: pool.submit(job) for name, job in jobs.items()}
        return {name: each.result() for name, each in running.items()}


def numbers(text):
    """Of lines `name value`."""
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


def rounded(value):
    """As many digits as can be read."""
    if value is None: return ""
    if isinstance(value, str): return value
    if value == int(value) or abs(value) >= 1000: return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.4f}".rstrip("0")


def table(head, rows, left=1):
    """The first columns, `left` of them, and the last one to the left, the others to the right."""
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        cells = [cell.ljust(width) if i < left or i + 1 == len(row) else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


class Rig:
    """One state of header and benches, copied to a folder that is removed in the end."""

    def __enter__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="nucleus-bench-"))
        self.bench = self.root / "tests" / "bench"
        shutil.copytree(HERE, self.bench, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE.parent / "fakes.hpp", self.root / "tests")
        shutil.copy(HEADER, self.root)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    def folder(self):
        """An empty one."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.root))

    def build(self, source, name=None, flags=("-O2",), libraries=()):
        program = self.root / (name or pathlib.Path(source).stem)
        output([COMPILER, "-std=c++17", *flags, "-pthread", self.bench / source, "-o", program,
                *libraries])
        return program
