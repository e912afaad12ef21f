"""Threads, forks, signals, and the package beside other things in one process."""
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

import bnff
from bnff import _engine
from support import assert_close_models, pair, programs, step


def images(n=4, size=12, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_two_models_at_once():
    a, b = pair(), pair(seed=1)
    for model in (0, 1):  # compiled, then eager
        u, v = a[model](images(seed=1)), b[model](images(6, seed=2))
        (u.square().sum() + v.square().sum()).backward()
    assert_close_models(*a)
    assert_close_models(*b)


def test_two_models_in_a_row():
    """A generator before a discriminator: one graph over two compiled modules."""
    (a, b), (c, d) = pair(classes=3 * 16), pair(seed=1)
    for first, second in ((a, c), (b, d)):
        second(first(images()).reshape(4, 3, 4, 4)).square().sum().backward()
    assert_close_models(a, b)
    assert_close_models(c, d)


def test_threads_of_the_caller():
    """Several Python threads train and infer one model's copies, and one model together."""
    ours, eager = pair()
    ours.eval(), eager.eval()
    inputs = [images(3, seed=i) for i in range(4)]
    expected = [eager(x) for x in inputs]
    failures = []

    def work(i):
        try:
            for _ in range(10):
                y = ours(inputs[i])
                torch.testing.assert_close(y, expected[i], rtol=1e-4, atol=1e-5)
                y.sum().backward()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures


def test_number_of_threads():
    ours, eager = pair()
    before = torch.get_num_threads()
    try:
        for threads in (1, 3, 2):
            torch.set_num_threads(threads)
            step(ours, images()), step(eager, images())
            assert programs(ours)[-1].regions[0].context.threads == threads
    finally:
        torch.set_num_threads(before)
    assert_close_models(ours, eager)


def test_interpreter_runs_during_a_step():
    """The engine holds no lock of Python's: another thread counts on while a step runs."""
    ours, _ = pair(channels=64)
    x = images(16, 64)
    step(ours, x)
    region = programs(ours)[0].regions[0]
    ticks, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0.0001)

    t = threading.Thread(target=count)
    t.start()
    try:
        for _ in range(5):
            step(ours, x)
    finally:
        stop.set()
        t.join()
    assert ticks[0] > 10 and region.runs == 6


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return images(1, seed=i)[0], i % 5


def test_workers_of_a_data_loader():
    ours, eager = pair()
    step(ours, images()), step(eager, images())
    for _ in range(2):
        for x, y in torch.utils.data.DataLoader(Images(), batch_size=4, num_workers=2):
            for m in (ours, eager):
                torch.nn.functional.cross_entropy(m(x), y).backward()
    assert_close_models(ours, eager)


def in_child(work):
    """True if work() returns true in a forked child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    deadline = time.time() + 60
    while time.time() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


def test_fork():
    """A child made after a forward computes on its own threads; so does its parent after it."""
    torch.set_num_threads(2)
    ours, _ = pair()
    ours.eval()
    waiting = ours(images())
    expected = waiting.detach().clone()

    def child():
        torch.set_num_threads(2)  # torch's own threads do not survive a fork: the numbers come from the engine alone
        with torch.no_grad():
            return torch.equal(ours(images()), expected) and ours.forward.generation == _engine.generation

    assert in_child(child)
    waiting.sum().backward()
    assert torch.equal(ours(images()), expected)
    assert in_child(child)


def test_interrupt():
    """Ctrl-C ends a training at the end of the call it falls into."""
    code = """
import sys, torch, bnff
sys.path.insert(0, sys.argv[1])
from support import Small
model = bnff.compile(Small())
x = torch.randn(8, 3, 32, 32)
try:
    while True:
        model(x).sum().backward()
        print("step", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    p = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(os.path.abspath(__file__))], stdout=subprocess.PIPE, text=True)
    while p.stdout.readline() != "step\n":
        assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert p.communicate(timeout=60)[0].endswith("interrupted\n") and p.returncode == 0


def test_one_openmp():
    """No second OpenMP runtime comes with the library."""
    bnff.compile(torch.nn.Conv2d(3, 3, 1))
    with open("/proc/self/maps", encoding="utf-8") as maps:
        files = {line.split()[-1] for line in maps if ".so" in line}
    assert len({f for f in files if "gomp" in f or "libomp" in f or "iomp" in f}) <= 1
