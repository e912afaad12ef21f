#!/usr/bin/env python3
"""Print 'NAME FILE' for each library that belongs into the wheel: the name it is loaded by, and where it lies on this machine.

    bundle.py CC [ARGUMENT...]   the compiler, which knows where libraries are
"""
import os
import re
import subprocess
import sys

WANTED = ["jansson", "jpeg", "spng", "z"]


def main():
    for name in WANTED:
        found = subprocess.run([*sys.argv[1:], f"-print-file-name=lib{name}.so"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        if not os.path.isabs(found):
            continue  # linked statically, or somewhere else: then nothing is to be copied
        facts = subprocess.run(["readelf", "-d", found], stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout
        soname = re.search(r"\(SONAME\).*\[(.*)\]", facts)
        if soname:
            print(soname.group(1), os.path.realpath(found))


if __name__ == "__main__":
    main()
