"""The command line program, which comes in the package."""
import os
import sys


def main():
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "bnff")
    try:
        os.execv(program, ["bnff", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"bnff: {program}: {error.strerror}; reinstall the package")
