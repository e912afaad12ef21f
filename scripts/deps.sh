#!/bin/sh
# Install what building and testing bnff needs and this machine lacks (Debian and Ubuntu, as root or through sudo).
# Arguments: commands to have besides, each in the package of its name.
# Prints nothing, and takes no time, when everything is there.
#     deps.sh [python]   python: also what the tests of the Python package need
set -u

missing=
need() { missing="$missing $1"; }

command -v cc >/dev/null && command -v make >/dev/null || need build-essential
command -v meson >/dev/null || need meson
command -v ninja >/dev/null || need ninja-build
command -v python3 >/dev/null || need python3
if command -v pkg-config >/dev/null; then
    if ! pkg-config --exists libjpeg jansson zlib cmocka || ! { pkg-config --exists spng || pkg-config --exists libspng; }; then
        pkg-config --exists libjpeg || need libjpeg-dev
        pkg-config --exists spng || pkg-config --exists libspng || need libspng-dev
        pkg-config --exists jansson || need libjansson-dev
        pkg-config --exists zlib || need zlib1g-dev
        pkg-config --exists cmocka || need libcmocka-dev
    fi
else
    need 'pkg-config libjpeg-dev libspng-dev libjansson-dev zlib1g-dev libcmocka-dev'
fi
[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || need dataset-fashion-mnist
for package; do command -v "$package" >/dev/null || need "$package"; done
if [ "${1:-}" = python ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
    command -v readelf >/dev/null || need binutils
fi
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || {
    echo "deps: this machine lacks (names of Debian's packages):$missing" >&2
    echo "deps: it has no apt-get; please install them with its own package manager" >&2
    exit 1
}
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "deps: run as root: apt-get install$missing" >&2; exit 1; }
    as_root=sudo
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null
}

echo "deps: installing with apt-get:$missing"
apt update || echo "deps: apt-get update failed; going on with the package lists there are" >&2
# The data set is wanted, not needed: where it cannot be had, the rest must not fail with it.
wanted=
case $missing in *dataset-fashion-mnist*)
    wanted=dataset-fashion-mnist
    missing=${missing% dataset-fashion-mnist}
    ;;
esac
if [ -n "$missing" ] && ! apt install --no-install-recommends $missing; then
    cat "$log" >&2
    echo "deps: apt-get could not install$missing" >&2
    exit 1
fi
if [ -n "$wanted" ] && ! apt install --no-install-recommends $wanted; then
    tail -n 3 "$log" >&2
    echo "deps: no $wanted (on Ubuntu it is in 'universe'): 'make demo' needs it, its tests are skipped without" >&2
fi
exit 0
