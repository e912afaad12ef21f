#!/bin/sh
# Build the kernels for aarch64 (NEON and plain) with a cross compiler and run their tests under an emulator.
#     scripts/test_aarch64.sh [folder for what is built]
# Exit code 77, which Meson takes for "skipped", where gcc-aarch64-linux-gnu or qemu-user-static is not installed.
set -eu
cc=${CC_AARCH64:-aarch64-linux-gnu-gcc}
root=$(cd "$(dirname "$0")/.." && pwd)
qemu=
for name in qemu-aarch64-static qemu-aarch64; do
    command -v "$name" >/dev/null && qemu=$name && break
done
if ! command -v "$cc" >/dev/null || [ -z "$qemu" ]; then
    echo "skipped: needs $cc and qemu-aarch64 (packages gcc-aarch64-linux-gnu, qemu-user-static)"
    exit 77
fi
out=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$out"' EXIT
mkdir -p "$out"

flags="-std=gnu11 -Wall -Wextra -Wshadow -Werror -I$root/include -I$root/src"
kernel_flags="-O3 -ffp-contract=off -fno-math-errno -fno-trapping-math -fopenmp-simd -Wno-psabi"
objects=
compile() { # output, flags and source
    object=$out/$1.o
    shift
    "$cc" $flags "$@" -c -o "$object"
    objects="$objects $object"
}
for file in $(sed -n "s/^kernel_files = files(\(.*\))$/\1/p" "$root/src/kernels/meson.build" | sed "s/\.c'//g; s/[',]/ /g"); do
    compile "neon_$file" $kernel_flags -DBF_ISA=neon -DBF_VECTOR=4 -DBF_NEON "$root/src/kernels/$file.c"
    compile "plain_$file" $kernel_flags -DBF_ISA=plain -DBF_VECTOR=4 "$root/src/kernels/$file.c"
done
compile dispatch -O2 "$root/src/kernels/dispatch.c"
for file in error memory target text threads; do # what dispatch.c and support.c need of src/base
    compile "base_$file" -O2 -DBNFF_VERSION=\"cross\" "$root/src/base/$file.c"
done
test_flags="-O1 -I$root/tests/kernels/cross -I$root/tests"
compile support $test_flags -DCROSS_CMOCKA_MAIN -DBNFF_TESTS_DIR="\"$root/tests\"" "$root/tests/support.c"

failed=0
for test in dispatch gemm elementwise activations sums windows moves update winograd; do
    "$cc" $flags $test_flags "$root/tests/kernels/test_$test.c" $objects -static -pthread -lm -o "$out/test_$test"
    echo "# $test"
    "$qemu" "$out/test_$test" || failed=1
done
exit $failed
