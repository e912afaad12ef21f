"""Install into a temporary prefix, build the example against it as users do, run it, and look at what the library exports.

    test_install.py SOURCE_FOLDER BUILD_FOLDER
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE, BUILD = map(os.path.abspath, sys.argv[1:3])
EXAMPLE = os.path.join(SOURCE, "examples", "train_small_cnn.c")
CMAKE = """cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(bnff 0.1 CONFIG REQUIRED)
add_executable(train_small_cnn %s)
target_link_libraries(train_small_cnn bnff::bnff)
"""


class Skip(Exception):
    """Something this machine does not have."""


def call(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def library_folder(prefix):
    for folder, _, files in os.walk(prefix):
        if "libbnff.so" in files:
            return folder
    raise AssertionError("no libbnff.so in the prefix")


def check_training(program, prefix):
    """The example runs and its loss falls."""
    text = call(program, env=dict(os.environ, LD_LIBRARY_PATH=library_folder(prefix)))
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", text)]
    assert len(losses) >= 5 and losses[0] > 1 and losses[-1] < losses[0] / 4, text


def install(prefix):
    """`meson install` puts everything there. With --destdir the whole configured prefix is below it, as in a package's build."""
    call("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", prefix)
    found = {name for _, _, files in os.walk(prefix) for name in files}
    for name in ("bnff", "libbnff.so", "libbnff.a", "bnff.h", "graph.h", "plan.h", "bnff.pc", "bnffConfig.cmake", "bnffConfigVersion.cmake"):
        assert name in found, f"{name} is not installed"


def pkg_config(prefix, work):
    """Build the example with pkg-config."""
    if not shutil.which("pkg-config"):
        raise Skip("no pkg-config")
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(library_folder(prefix), "pkgconfig"), PKG_CONFIG_SYSROOT_DIR=prefix)
    flags = call("pkg-config", "--cflags", "--libs", "bnff", env=env).split()
    program = os.path.join(work, "train_small_cnn")
    call("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", EXAMPLE, *flags, "-o", program)
    check_training(program, prefix)


def cmake(prefix, work):
    """Build the example with find_package(bnff CONFIG)."""
    if not shutil.which("cmake"):
        raise Skip("no cmake")
    source = os.path.join(work, "cmake")
    os.makedirs(source)
    with open(os.path.join(source, "CMakeLists.txt"), "w", encoding="utf-8") as file:
        file.write(CMAKE % EXAMPLE)
    config = os.path.join(library_folder(prefix), "cmake", "bnff")
    call("cmake", "-S", source, "-B", os.path.join(source, "b"), f"-Dbnff_DIR={config}")
    call("cmake", "--build", os.path.join(source, "b"))
    check_training(os.path.join(source, "b", "train_small_cnn"), prefix)


def exports(prefix):
    """libbnff.so exports functions named bnff_* and nothing else."""
    if not shutil.which("nm"):
        raise Skip("no nm")
    text = call("nm", "-D", "--defined-only", os.path.join(library_folder(prefix), "libbnff.so"))
    names = [line.split()[-1] for line in text.splitlines()]
    assert len(names) > 50, text
    strangers = [name for name in names if not name.startswith("bnff_")]
    assert not strangers, f"exported: {strangers}"


def headers(prefix, work):
    """Every installed header compiles alone, as C11 and as C++."""
    folder = next(os.path.join(path, "bnff") for path, folders, _ in os.walk(prefix) if path.endswith("include") and "bnff" in folders)
    compilers = [["cc", "-std=c11"]] + ([["g++", "-std=c++11"]] if shutil.which("g++") else [])
    for name in sorted(os.listdir(folder)):
        for compiler in compilers:
            file = os.path.join(work, "header.cc" if compiler[0] == "g++" else "header.c")
            with open(file, "w", encoding="utf-8") as out:
                out.write(f"#include <bnff/{name}>\nint main(void) {{ return 0; }}\n")
            call(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I", os.path.dirname(folder), file)


def front_door(work):
    """make hands -jN on to ninja, and nothing of its jobserver, of which ninja would complain."""
    if not shutil.which("make"):
        raise Skip("no make")
    os.makedirs(os.path.join(work, "bin"))
    for name in ("build.ninja", "bin/ninja"):
        with open(os.path.join(work, name), "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\necho "$*: MAKEFLAGS=$MAKEFLAGS"\n')
    os.chmod(os.path.join(work, "bin/ninja"), 0o755)
    env = dict(os.environ, PATH=os.path.join(work, "bin") + os.pathsep + os.environ["PATH"], MAKEFLAGS="")
    for flags, jobs in ([], ""), (["-j2"], "-j2 "), (["-j"], ""):
        said = call("make", "-C", SOURCE, "-s", "--no-print-directory", f"BUILD={work}", *flags, "build", env=env)
        assert said == f"{jobs}-C {work}: MAKEFLAGS=\n", f"make {' '.join(flags)}: {said}"


def main():
    failed = False
    with tempfile.TemporaryDirectory(prefix="bnff-install-") as root:
        prefix, work = os.path.join(root, "prefix"), os.path.join(root, "work")
        os.makedirs(work)
        cases = [("install", lambda: install(prefix)), ("exports", lambda: exports(prefix)), ("headers", lambda: headers(prefix, work)),
                 ("pkg-config", lambda: pkg_config(prefix, work)), ("cmake", lambda: cmake(prefix, work)),
                 ("make", lambda: front_door(work))]
        print(f"1..{len(cases)}", flush=True)
        for number, (name, case) in enumerate(cases, 1):
            try:
                case()
                print(f"ok {number} - {name}", flush=True)
            except Skip as reason:
                print(f"ok {number} - {name} # SKIP {reason}", flush=True)
            except AssertionError as problem:
                failed = True
                print("".join(f"# {line}\n" for line in str(problem).splitlines()) + f"not ok {number} - {name}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
