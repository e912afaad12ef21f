#!/usr/bin/env python3
"""Check the form of the sources: what every file must have and what none may. Exit status 1 if something is found."""
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MARKS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
LONGEST_LINE, LONGEST_FILE = 220, 900
# Which folder of src/ may include which others (docs/ARCHITECTURE.md).
MAY_INCLUDE = {
    "base": {"base", "kernels"},
    "kernels": {"base", "kernels"},
    "graph": {"base", "graph"},
    "passes": {"base", "graph", "passes"},
    "runtime": {"base", "graph", "kernels", "passes", "runtime"},
    "model": {"base", "model"},
    "io": {"base", "graph", "io", "model"},
    "data": {"base", "data"},
    "train": {"base", "data", "graph", "io", "kernels", "model", "passes", "runtime", "train"},
}
found = 0


def complain(path, line, text):
    global found
    found += 1
    print(f"{path}:{line}: {text}")


def check_text(path, text):
    lines = text.split("\n")
    if len(lines) > LONGEST_FILE:
        complain(path, LONGEST_FILE, f"{len(lines)} lines in a file, at most {LONGEST_FILE}")
    if not text.endswith("\n"):
        complain(path, len(lines), "no newline at the end")
    for number, line in enumerate(lines, 1):
        if MARKS.search(line):
            complain(path, number, "unfinished work is not left in the sources")
        if line != line.rstrip():
            complain(path, number, "blanks at the end of the line")
        if path.endswith((".c", ".h")) and len(line) > LONGEST_LINE:
            complain(path, number, f"{len(line)} characters, at most {LONGEST_LINE}")
        if path.endswith((".c", ".h")) and "\t" in line:
            complain(path, number, "a tab")


def check_includes(path, text):
    parts = path.split("/")
    allowed = MAY_INCLUDE.get(parts[1]) if parts[0] == "src" and len(parts) > 2 else None
    for match in re.finditer(r'^#include "([a-z]+)/', text, re.M):
        if allowed is not None and match.group(1) not in allowed:
            complain(path, text.count("\n", 0, match.start()) + 1, f"src/{parts[1]} may not include {match.group(1)}")


def check_library(path, text):
    """The library neither prints nor ends the program (src/cli does)."""
    if not path.startswith("src/") or path.startswith("src/cli/") or not path.endswith(".c"):
        return
    for match in re.finditer(r"\b(printf|puts|exit|abort|perror)\s*\(", text):
        complain(path, text.count("\n", 0, match.start()) + 1, f"the library does not call {match.group(1)}")


def main():
    os.chdir(ROOT)
    files = subprocess.run(["git", "ls-files"], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    for path in files:
        if not path.endswith((".c", ".h", ".def", ".py", ".sh", ".md", "meson.build", "Makefile")) or not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8") as file:
            text = file.read()
        check_text(path, text)
        check_includes(path, text)
        check_library(path, text)
    print(f"{found} complaints" if found else "clean")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
