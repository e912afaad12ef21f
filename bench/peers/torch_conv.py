#!/usr/bin/env python3
"""The peer's convolutions alone: torch.nn.functional.conv2d forward, and its data and weight gradient, channels_last, f32, for the lines that
`bnff bench conv` takes.

    bench/peers/torch_conv.py --problem LINE|FILE [-t T] [-r R]
    bench/peers/torch_conv.py --serve                  requests from stdin, as bnff bench serve: machine, conv ROUNDS LINE

The first layer's input (fewer than 4 channels) needs no gradient, here as there. Virtual environment and THP_MEM_ALLOC_ENABLE: as torch_step.py.
"""
import argparse
import json
import os
import re
import statistics
import time

import torch_env

FIELD = re.compile(r"(mb|ic|oc|ih|iw|kh|kw|sh|sw|ph|pw|dh|dw|g)(\d+)")


def parse(line):
    """A problem's fields, the second of a pair as the first where it is left out."""
    text = re.sub(r'n"[^"]*"', "", line)
    p = {"mb": 32, "sh": 1, "ph": 0, "dh": 0, "g": 1, **{key: int(value) for key, value in FIELD.findall(text)}}
    for first, second in (("ih", "iw"), ("kh", "kw"), ("sh", "sw"), ("ph", "pw"), ("dh", "dw")):
        p.setdefault(second, p[first])
    return p


def noise(*shape):
    """A channels_last tensor that repeats 64 Ki normal numbers: quickly made, and the speed does not depend on them."""
    import torch

    count = torch.Size(shape).numel()
    values = torch.randn(1 << 16).repeat(count // (1 << 16) + 1)[:count]
    n, c, h, w = shape
    return values.view(n, h, w, c).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


class Convolution:
    def __init__(self, line):
        import torch

        p = parse(line)
        self.line = line
        self.x = noise(p["mb"], p["ic"], p["ih"], p["iw"])
        self.w = noise(p["oc"], p["ic"] // p["g"], p["kh"], p["kw"]).requires_grad_()
        self.wanted = [self.w] if p["ic"] < 4 else [self.x.requires_grad_(), self.w]
        self.options = {"stride": (p["sh"], p["sw"]), "padding": (p["ph"], p["pw"]), "dilation": (p["dh"] + 1, p["dw"] + 1), "groups": p["g"]}
        self.dy = noise(*torch.nn.functional.conv2d(self.x, self.w, **self.options).shape)

    def measure(self, rounds):
        """Seconds of each round, forward and backward; one before them to warm up."""
        import torch

        forward, backward = [], []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            y = torch.nn.functional.conv2d(self.x, self.w, **self.options)
            middle = time.perf_counter()
            gradients = torch.autograd.grad(y, self.wanted, self.dy)
            end = time.perf_counter()
            del y, gradients
            forward.append(middle - begin)
            backward.append(end - middle)
        return {"forward_s": forward[1:], "backward_s": backward[1:]}


def lines_of(text):
    if not os.path.exists(text):
        return [text]
    with open(text, encoding="utf-8") as file:
        return [line for line in (line.partition("#")[0].strip() for line in file) if line]


def serve():
    held = []

    def conv(words):
        rounds, _, line = words.partition(" ")
        if not held or held[0].line != line:
            held[:] = [Convolution(line)]
        return held[0].measure(int(rounds))

    torch_env.serve({"conv": conv})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", help="a line or a file of lines")
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-r", "--rounds", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help="answer requests from stdin")
    parser.add_argument("--venv", help="virtual environment to use or make")
    args = parser.parse_args()
    if not args.serve and not args.problem:
        parser.error("either --problem or --serve is needed")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch is loaded
    torch_env.enter(args.venv)

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.serve:
        serve()
        return
    results = []
    for line in lines_of(args.problem):
        times = Convolution(line).measure(args.rounds)
        results.append({"problem": line, "forward_s": statistics.median(times["forward_s"]), "backward_s": statistics.median(times["backward_s"])})
    print(json.dumps({"machine": torch_env.machine(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
