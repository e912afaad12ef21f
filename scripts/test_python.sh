#!/usr/bin/env bash
# Make a virtual environment, install PyTorch and the package into it, and run the package's tests (make test-python).
# The last line is "N passed, N failed, N skipped". PYTHON names another interpreter, VENV another place, TORCH another PyTorch.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
venv=${VENV:-.venv-python}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
give_up() { tail -n 20 "$log" >&2; echo "test-python: $1" >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

if [ ! -x "$venv/bin/python" ]; then
    for python in ${PYTHON:-python3.11 python3}; do
        command -v "$python" >/dev/null && "$python" -m venv "$venv" >"$log" 2>&1 && break
        rm -rf "$venv"
    done
    [ -x "$venv/bin/python" ] || give_up "no Python that makes a virtual environment (Debian: python3-venv)"
fi
"$venv/bin/python" -m pip install -q "torch==${TORCH:-2.13.0}" numpy pytest >"$log" 2>&1 || give_up "pip could not install PyTorch, NumPy and pytest"
"$venv/bin/python" -m pip install -q --force-reinstall --no-deps . >"$log" 2>&1 || give_up "pip could not build and install the package"
report=$(mktemp)
PYTHONPATH= "$venv/bin/python" -m pytest -q -p no:cacheprovider python/tests --junit-xml="$report" "$@"
status=$?
"$venv/bin/python" - "$report" <<'END'
import sys
import xml.etree.ElementTree as tree
suite = next(tree.parse(sys.argv[1]).getroot().iter("testsuite")).attrib
total, failed, skipped = int(suite["tests"]), int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
END
rm -f "$report"
exit "$status"
