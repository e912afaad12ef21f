#!/usr/bin/env python3
"""Build, run the tests with meson, and add up the single cases of all of them.

    run_tests.py quick   the quick suite, under a minute
    run_tests.py test    quick and unit suites, then both again under the sanitizers
    run_tests.py long    everything, the long suite and ThreadSanitizer included

The last line is 'N passed, N failed, N skipped'; the exit status is 0 only if something passed and nothing failed.
"""
import json
import os
import re
import subprocess
import sys
import time

ASAN = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dbuildtype=debugoptimized", "-Ddefault_library=static"]
TSAN = ["-Db_sanitize=thread", "-Db_lundef=false", "-Dbuildtype=debugoptimized", "-Ddefault_library=static"]
# folder, meson's setup options, suites
PLANS = {
    "quick": [("build", [], ["quick"])],
    "test": [("build", [], ["quick", "unit"]), ("build-asan", ASAN, ["quick", "unit"])],
    "long": [("build", [], ["quick", "unit", "long"]), ("build-asan", ASAN, ["quick", "unit", "long"]), ("build-tsan", TSAN, ["tsan"])],
}
CASE = re.compile(r"^(not )?ok\b[^#\n]*(#\s*(skip|todo)\b)?", re.I | re.M)
PLAN = re.compile(r"^1\.\.(\d+)(\s*#\s*skip)?", re.I | re.M)


def build(folder, options):
    """Configure where needed and compile. True if it worked."""
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        if subprocess.call(["meson", "setup", folder, *options]) != 0:
            return False
    return subprocess.call(["ninja", "-C", folder]) == 0


def count(test):
    """(passed, failed, skipped) of one entry of meson's log."""
    passed = failed = skipped = 0
    output = test.get("stdout") or ""
    for bad, _, directive in CASE.findall(output):
        if directive.lower() == "skip":
            skipped += 1
        elif bad:
            failed += 1
        else:
            passed += 1
    result = test["result"]
    if passed + failed + skipped == 0:  # not TAP, or it died before its first case
        plan = PLAN.search(output)
        if result == "SKIP" or (result == "OK" and plan and plan.group(2)):
            return 0, 0, 1
        return (1, 0, 0) if result in ("OK", "EXPECTEDFAIL") else (0, 1, 0)
    if result not in ("OK", "SKIP", "EXPECTEDFAIL") and not failed:
        failed = 1  # crashed, timed out, or fewer cases than planned
    return passed, failed, skipped


def run(folder, suites):
    """Run meson's tests of a build; the sums over its cases."""
    log = os.path.join(folder, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.remove(log)
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs"]
    for suite in suites:
        command += ["--suite", suite]
    status = subprocess.call(command, stdin=subprocess.DEVNULL)
    tests = []
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as lines:
            tests = [json.loads(line) for line in lines if line.strip()]
    sums = [sum(column) for column in zip((0, 0, 0), *map(count, tests))]
    if status != 0 and not sums[1]:
        sums[1] = 1
    return sums


def main():
    plan = PLANS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if not plan:
        sys.exit(__doc__)
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    total = [0, 0, 0]
    for folder, options, suites in plan:
        start = time.monotonic()
        sums = run(folder, suites) if build(folder, options) else [0, 1, 0]
        total = [a + b for a, b in zip(total, sums)]
        print("%s (%s): %d passed, %d failed, %d skipped in %.0f s"
              % (folder, ", ".join(suites), *sums, time.monotonic() - start), flush=True)
    line = "%d passed, %d failed, %d skipped" % tuple(total)
    print(line, flush=True)
    sys.exit(0 if total[0] and not total[1] else 1)


if __name__ == "__main__":
    main()
