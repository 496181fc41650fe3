"""Compiles a program against the header, or against a copy that a patch has broken."""
import os
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]


def compiled(folder, to, patch=None):
    """The program of tests/FOLDER, made in the folder `to`."""
    header = TOP / "nucleus.hpp"
    source = TOP / "tests" / folder / "program.cpp"
    if patch is not None:
        copy = to / "tests" / folder
        copy.mkdir(parents=True)
        shutil.copy(header, to)
        shutil.copy(TOP / "tests/fakes.hpp", to / "tests")
        shutil.copy(source, copy)
        done = subprocess.run(["patch", "-s", "-p1", "-d", to], stdin=patch.open(), check=False)
        if done.returncode != 0: sys.exit(f"{patch.stem}: the patch does not apply")
        source = copy / "program.cpp"
    program = to / "program"
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-pthread", "-o", program]
    if subprocess.run([*command, source], check=False).returncode != 0: sys.exit("does not compile")
    return program


def find_planted(here, work, check, names):
    """Runs `check(program)`, which gives what is wrong, on the header, then on each broken one."""
    patches = sorted((here / "planted").glob("*.patch"))
    if names: patches = [patch for patch in patches if patch.stem in names]
    (work / "whole").mkdir()
    wrong = check(compiled(here.name, work / "whole"))
    if wrong: sys.exit(f"fails on the header as it is: {wrong[0]}")
    missed = 0
    for patch in patches:
        folder = work / patch.stem
        folder.mkdir()
        wrong = check(compiled(here.name, folder, patch))
        print(f"{patch.stem}: " + (f"found, {wrong[0]}" if wrong else "NOT FOUND"), flush=True)
        missed += not wrong
    print(f"{len(patches) - missed} planted faults found, {missed} missed")
    return missed == 0 and len(patches) > 0
