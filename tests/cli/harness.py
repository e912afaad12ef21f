"""Running bnff in tests: one call runs a command and checks exit code, stdout and stderr; every call is a line of TAP.

    bnff = Harness()                      in a temporary folder, which is removed at the end
    bnff("name of the case", "doctor --json", code=0, out=JSON, err="")
    bnff.done()
"""
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

JSON = object()  # out=JSON: stdout must be exactly one JSON document
ANY = object()   # anything


class Harness:
    def __init__(self):
        if len(sys.argv) != 2:
            sys.exit("usage: test_NAME.py PATH/TO/bnff")
        self.program = os.path.abspath(sys.argv[1])
        self.count = self.failed = 0
        self.folder = tempfile.mkdtemp(prefix="bnff-cli-")
        os.chdir(self.folder)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("BNFF_", "OMP_", "NO_COLOR", "FORCE_COLOR"))}
        self.environment.update(LC_ALL="C", TERM="xterm", BNFF_THREADS="2")

    def words(self, command):
        return [self.program] + (shlex.split(command) if isinstance(command, str) else list(command))

    def __call__(self, name, command, code=0, out="", err="", stdin=b"", env=None, timeout=120, preexec=None):
        """Run; out and err are regular expressions that must be found ("" means: nothing at all is printed). Returns stdout as text, or the document."""
        environment = dict(self.environment, **(env or {}))
        try:
            done = subprocess.run(self.words(command), input=stdin, capture_output=True, env=environment, timeout=timeout, preexec_fn=preexec)
        except subprocess.TimeoutExpired:
            return self.report(name, [f"no end within {timeout} s: {command}"])
        stdout, stderr = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        faults = []
        if done.returncode != code:
            faults.append(f"exit code {done.returncode} instead of {code}")
        document = self.check_text("stdout", stdout, out, faults)
        self.check_text("stderr", stderr, err, faults)
        if faults:
            faults += [f"command: {command}", f"stdout: {stdout[-1500:]!r}", f"stderr: {stderr[-1500:]!r}"]
        self.report(name, faults)
        return document if out is JSON else stdout

    @staticmethod
    def check_text(what, text, wanted, faults):
        if wanted is ANY:
            return None
        if wanted is JSON:
            try:
                return json.loads(text)
            except ValueError as fault:
                faults.append(f"{what} is no JSON document: {fault}")
                return {}
        if wanted == "" and text:
            faults.append(f"{what} is not empty")
        for pattern in [wanted] if isinstance(wanted, str) else wanted:
            if pattern and not re.search(pattern, text, re.S | re.M):
                faults.append(f"{what} has no match for {pattern!r}")
        return None

    def report(self, name, faults):
        self.count += 1
        print(f"{'not ok' if faults else 'ok'} {self.count} - {name}")
        for fault in faults or []:
            print("\n".join("# " + line for line in str(fault).splitlines()))
        self.failed += bool(faults)
        sys.stdout.flush()
        return not faults

    def check(self, name, condition, text=""):
        return self.report(name, [] if condition else [text or "it does not hold"])

    def skip(self, name, why):
        self.count += 1
        print(f"ok {self.count} - {name} # SKIP {why}")

    def start(self, command, **more):
        """A process to send signals to."""
        return subprocess.Popen(self.words(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, **more)

    def done(self):
        os.chdir("/")
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"1..{self.count}")
        sys.exit(1 if self.failed else 0)


# -- Images and data sets ------------------------------------------------------------------------------------------------


def ppm(path, width, height, pixel):
    """A PPM whose pixel at (x, y) is the triple pixel(x, y)."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"P6\n%d %d\n255\n" % (width, height))
        file.write(bytes(v & 255 for y in range(height) for x in range(width) for v in pixel(x, y)))


def png(path, width, height, channels, pixel):
    """An 8-bit PNG: 1 gray, 3 RGB, 4 RGBA."""
    rows = b"".join(b"\0" + bytes(v & 255 for x in range(width) for v in pixel(x, y)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def photos(folder, classes=("blue", "green", "red"), each=16, size=24):
    """A folder of class folders that is easy to learn: each class has its colour, images have their own brightness and noise."""
    for label, name in enumerate(classes):
        for i in range(each):
            def pixel(x, y, label=label, i=i):
                noise = (x * 7 + y * 13 + i * 31) % 40
                return [(150 + 4 * i if c == label % 3 else 30 + 3 * i) + noise for c in (2, 1, 0)]
            ppm(f"{folder}/{name}/{i:02d}.ppm", size, size + i % 3, pixel)
