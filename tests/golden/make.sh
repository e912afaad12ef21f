#!/bin/sh
# Make the golden files again: a virtual environment with the versions they were made with, then make_golden.py.
set -eu
cd "$(dirname "$0")/../.."
venv=${GOLDEN_VENV:-.venv-golden}
if [ ! -e "$venv/bin/python" ]; then
    python3.11 -m venv "$venv"
    "$venv/bin/pip" install torch==2.13.0 numpy pillow safetensors
fi
exec "$venv/bin/python" tests/golden/make_golden.py
