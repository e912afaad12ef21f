#!/bin/sh
# Run tests with AVX-512 on a machine without it: in a PC that Bochs emulates, with Debian's kernel and the tests in its first RAM disk.
#     scripts/test_avx512.sh [build folder [test ...]]      default: build, and the tests of the kernels (some minutes)
# A test is a path below the build folder's tests/: "runtime/test_golden". The emulator runs some 50 million instructions a second.
# Exit code 77, which Meson takes for "skipped", where a tool is missing (packages bochs, bochs-term, bochsbios, vgabios, isolinux,
# syslinux-common, xorriso, busybox-static, cpio, bsdutils).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- kernels/test_dispatch kernels/test_elementwise kernels/test_activations kernels/test_moves kernels/test_sums \
    kernels/test_update kernels/test_windows kernels/test_winograd kernels/test_gemm runtime/test_golden runtime/test_statistics
for tool in bochs xorriso busybox cpio script apt-get dpkg; do
    command -v $tool >/dev/null || { echo "skipped: needs $tool"; exit 77; }
done
out=$(mktemp -d)
emulator=
trap '[ -z "$emulator" ] || kill $emulator 2>/dev/null; rm -rf "$out"' EXIT
cd "$out"

# The kernel of Debian's cloud images: small, and its serial port is built in.
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
apt-get -q download "$package" >/dev/null 2>&1 || { echo "skipped: $package can't be downloaded"; exit 77; }
dpkg -x linux-image-*.deb kernel

# What runs: the tests, the libraries they need where their loader looks, and the reference values where the tests look for them.
mkdir -p ram/bin ram/proc ram/dev ram/tmp ram/lib64 ram/lib ram/tests "ram$root/tests" cd/isolinux
cp "$(command -v busybox)" ram/bin/busybox
cp -r "$root/tests/golden" "ram$root/tests/"
names=
for test in "$@"; do
    name=$(echo "$test" | tr / _)
    cp "$build/tests/$test" "ram/tests/$name"
    strip "ram/tests/$name"
    ldd "$build/tests/$test" | grep -o "/[^ ]*" | while read -r library; do cp -Lu "$library" ram/lib/; done
    names="$names $name"
done
cp ram/lib/ld-linux-x86-64.so.2 ram/lib64/
cat >ram/init <<END
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
# Resolving a function at its first call would save registers by the size that Bochs reports wrongly, and crash.
export LD_BIND_NOW=1 LD_LIBRARY_PATH=/lib CMOCKA_MESSAGE_OUTPUT=tap
/bin/busybox grep -q avx512f /proc/cpuinfo || echo "not ok - the emulated processor has no AVX-512"
for test in $names; do
    echo "# \$test"
    /tests/\$test || echo "not ok - \$test ended with \$?"
done
echo "# finished"
/bin/busybox sleep 1 # until the serial port has sent it
/bin/busybox poweroff -f
END
chmod +x ram/init
(cd ram && find . | cpio -o -H newc 2>/dev/null | gzip -1) >cd/initrd.gz

# A compact disc that starts it. Bochs reports the size of compacted register states wrongly, so the kernel may not use them.
cp kernel/boot/vmlinuz-* cd/vmlinuz
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 cd/isolinux/
cat >cd/isolinux/isolinux.cfg <<'END'
DEFAULT tests
LABEL tests
 KERNEL /vmlinuz
 APPEND initrd=/initrd.gz console=ttyS0 quiet tsc=unstable nokaslr mitigations=off clearcpuid=321,323,515 noxsaves panic=1
END
xorriso -as mkisofs -quiet -o tests.iso -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table cd
cat >settings <<'END'
megs: 1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
ata0-master: type=cdrom, path=tests.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
display_library: term
speaker: enabled=0
log: bochs.log
clock: sync=none
END
yes c | head -100 >commands # to the debugger that Debian's Bochs starts in
TERM=xterm script -qfc 'bochs -q -f settings -rc commands' /dev/null >screen.txt 2>&1 </dev/null &
emulator=$!
for i in $(seq "${TIMEOUT:-1800}"); do
    sleep 1
    grep -q '^# finished' serial.txt 2>/dev/null && break
    kill -0 $emulator 2>/dev/null || break
done
tr -d '\r' <serial.txt | grep -E '^(#|ok|not ok)'
grep -q '^# finished' serial.txt && ! grep -q '^not ok' serial.txt
