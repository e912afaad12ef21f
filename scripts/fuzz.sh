#!/bin/sh
# Run every fuzz target for so many seconds: with clang's libFuzzer where it is installed, else with tests/fuzz/driver.c and a new seed.
# Findings are left as crash-* in the build folder. Inputs that libFuzzer found worth keeping collect in its corpus-NAME.
set -eu
cd "$(dirname "$0")/.."
seconds=$1

probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n ? 0 : 0; }' >"$probe/probe.c"
if command -v clang >/dev/null && clang -fsanitize=fuzzer,address "$probe/probe.c" -o "$probe/probe" 2>/dev/null; then
    folder=build-fuzz
    [ -e $folder/build.ninja ] || CC=clang meson setup $folder -Dfuzzer=true -Db_sanitize=address,undefined -Db_lundef=false \
        -Dbuildtype=debugoptimized -Ddefault_library=static -Dc_args=-fsanitize=fuzzer-no-link
else
    echo "fuzz: no clang with libFuzzer here; taking the driver, which mutates without looking at coverage"
    folder=build-asan
    [ -e $folder/build.ninja ] || meson setup $folder -Db_sanitize=address,undefined -Db_lundef=false \
        -Dbuildtype=debugoptimized -Ddefault_library=static
fi
ninja -C $folder

status=0
seed=$(date +%s)
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    corpus=$(pwd)/tests/fuzz/corpus/${name#fuzz_}
    [ -d "$corpus" ] || corpus=
    echo "fuzz: $name for $seconds s"
    (
        cd $folder
        export ASAN_OPTIONS=abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        if [ $folder = build-fuzz ]; then
            mkdir -p "corpus-$name"
            tests/fuzz/"$name" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=20 "corpus-$name" $corpus
        else
            tests/fuzz/"$name" -seconds="$seconds" -seed="$seed" $corpus
        fi
    ) || status=1
done
[ $status = 0 ] || echo "fuzz: findings are in $folder/crash-*" >&2
exit $status
