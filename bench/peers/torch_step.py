#!/usr/bin/env python3
"""The peer: whole training steps of densenet121 and resnet50 (models.py) in PyTorch on the CPU, in the same JSON form as `bnff bench step --json`.

    bench/peers/torch_step.py -m densenet121 -b 32 [--size 224] [-t T] [-r R] [--compile]

Makes a virtual environment of its own (.venv-torch beside this file's repository, or --venv) with PyTorch's CPU build where the running
Python has no torch. Nothing is handicapped: channels_last, the fused optimizer, all threads asked for; THP_MEM_ALLOC_ENABLE=1 is set unless
the caller has set it, since bnff asks for huge pages too (run with =0 as well, and report the better).
"""
import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import venv

TORCH = "2.13.*"


def enter_environment(folder):
    """Run this script again inside a virtual environment that has torch; made where it is missing."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        venv.create(folder, with_pip=True)
    ready = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    if not ready:
        index = os.environ.get("BNFF_TORCH_INDEX")  # such as PyTorch's index of CPU builds
        extra = ["--extra-index-url", index] if index else []
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", f"torch=={TORCH}", "numpy", *extra], stdout=sys.stderr)
    os.execv(python, [python, *sys.argv])


def time_steps(model, images, labels, repetitions):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    samples = []
    for step in range(repetitions + 2):  # two to warm up
        begin = time.perf_counter()
        loss = loss_of(model(images), labels)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end = time.perf_counter()
        if step >= 2:
            samples.append((end - begin, forward - begin, backward - forward, end - backward))
    return [list(column) for column in zip(*samples)]


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="densenet121")
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    parser.add_argument("--venv", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".venv-torch"))
    args = parser.parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch is loaded
    if importlib.util.find_spec("torch") is None:
        enter_environment(os.path.abspath(args.venv))

    import torch

    import models

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = models.make(args.model).to(memory_format=torch.channels_last).train()
    images = torch.randn(args.batch_size, 3, args.size, args.size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (args.batch_size,))
    if args.compile:
        model = torch.compile(model)
    step, forward, backward, update = time_steps(model, images, labels, args.rounds)
    median = statistics.median(step)
    print(json.dumps({
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__,
                    "capability": torch.backends.cpu.get_cpu_capability(), "thp": os.environ["THP_MEM_ALLOC_ENABLE"]},
        "runs": [{"model": args.model, "batch": args.batch_size, "size": args.size, "level": "torch.compile" if args.compile else "torch eager",
                  "algorithm": "oneDNN", "dtype": "f32", "step_s_median": median, "step_s_min": min(step), "images_per_s": args.batch_size / median,
                  "forward_s": statistics.median(forward), "backward_s": statistics.median(backward), "update_s": statistics.median(update),
                  "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}],
    }, indent=2))


if __name__ == "__main__":
    main()
