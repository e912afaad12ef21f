"""What the PyTorch peers share: a virtual environment of their own, and answering requests."""
import importlib.util
import json
import os
import subprocess
import sys
import venv

TORCH = "2.13.0"


def default_venv():
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(cache if os.path.isabs(cache) else os.path.expanduser("~/.cache"), "bnff", f"torch-{TORCH}")


def enter(folder=None):
    """Go on inside a virtual environment that has torch, made where it is missing: this call returns only there."""
    if importlib.util.find_spec("torch"):
        return
    folder = os.path.abspath(folder or default_venv())
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import torch, numpy"], capture_output=True).returncode:
        index = os.environ.get("BNFF_TORCH_INDEX")  # such as PyTorch's index of CPU builds
        extra = ["--extra-index-url", index] if index else []
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", f"torch=={TORCH}", "numpy", *extra], stdout=sys.stderr)
    os.execv(python, [python, *sys.argv])


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown CPU"


def machine():
    import torch

    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(),
            "thp": os.environ.get("THP_MEM_ALLOC_ENABLE", "0")}


def serve(requests):
    """Answer each line of stdin with a line of JSON; requests: function of the rest of the line by its first word."""
    requests = {"machine": lambda words: machine(), **requests}
    for line in sys.stdin:
        name, _, words = line.strip().partition(" ")
        try:
            answer = requests[name](words)
        except Exception as fault:  # the driver says what was asked for and goes on
            answer = {"error": f"{type(fault).__name__}: {fault}"}
        print(json.dumps(answer), flush=True)
