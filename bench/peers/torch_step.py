#!/usr/bin/env python3
"""The peer: whole training steps of densenet121 and resnet50 (models.py) in PyTorch on the CPU, in the same JSON form as `bnff bench step --json`.

    bench/peers/torch_step.py -m densenet121 -b 32 [--size 224] [-t T] [-r R] [--compile]
    bench/peers/torch_step.py --serve [--compile]      requests from stdin, as bnff bench serve: machine, network MODEL BATCH SIZE, step, memory

Where the running Python has no torch it makes a virtual environment of its own (in the user's cache, or --venv). Nothing is handicapped:
channels_last, the fused optimizer, all threads asked for; THP_MEM_ALLOC_ENABLE=1 is set unless the caller has set it, since bnff asks for huge
pages too (bench/run.py tries both and takes the better).
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch_env


class Trainer:
    """A network, its images and its optimizer."""

    def __init__(self, name, batch, height, width, compiled):
        import torch

        import models

        torch.manual_seed(1)
        model = models.make(name).to(memory_format=torch.channels_last).train()
        self.images = torch.randn(batch, 3, height, width).to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 1000, (batch,))
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
        self.loss = torch.nn.CrossEntropyLoss()
        self.model = torch.compile(model) if compiled else model
        for _ in range(2):  # warm up; compiles
            self.step()

    def step(self):
        begin = time.perf_counter()
        loss = self.loss(self.model(self.images), self.labels)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        end = time.perf_counter()
        return {"step_s": end - begin, "forward_s": forward - begin, "backward_s": backward - forward, "update_s": end - backward}


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def sides(text):
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def serve(compiled):
    held = []

    def network(words):
        name, batch, size = words.split()
        held.clear()
        held.append(Trainer(name, int(batch), *sides(size), compiled))
        return {"model": name, "batch": int(batch)}

    torch_env.serve({"network": network, "step": lambda words: held[0].step(), "memory": lambda words: {"peak_rss_bytes": peak_memory()}})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="densenet121")
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("--size", default="224")
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    parser.add_argument("--serve", action="store_true", help="answer requests from stdin")
    parser.add_argument("--venv", help="virtual environment to use or make")
    args = parser.parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch is loaded
    torch_env.enter(args.venv)

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.serve:
        serve(args.compile)
        return
    height, width = sides(args.size)
    trainer = Trainer(args.model, args.batch_size, height, width, args.compile)
    samples = [trainer.step() for _ in range(args.rounds)]
    median = {part: statistics.median(s[part] for s in samples) for part in samples[0]}
    print(json.dumps({
        "machine": torch_env.machine(),
        "runs": [{"model": args.model, "batch": args.batch_size, "size": height if height == width else args.size, "height": height, "width": width,
                  "level": "torch.compile" if args.compile else "torch eager", "algorithm": "oneDNN", "dtype": "f32", "step_s_median": median["step_s"],
                  "step_s_min": min(s["step_s"] for s in samples), "images_per_s": args.batch_size / median["step_s"],
                  "forward_s": median["forward_s"], "backward_s": median["backward_s"], "update_s": median["update_s"], "peak_rss_bytes": peak_memory()}],
    }, indent=2))


if __name__ == "__main__":
    main()
