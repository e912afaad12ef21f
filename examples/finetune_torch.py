#!/usr/bin/env python3
"""Fine-tune a ResNet-50 on a folder of photographs, FOLDER/CLASS/*.jpg, twice: in PyTorch alone, and with the one line that bnff needs.
Prints the losses side by side, then time and memory of both. Needs torch, numpy and pillow beside bnff. Without --weights the network starts
from random numbers, and rounding makes losses drift apart within a few steps, as those of PyTorch's two memory formats do.

    python examples/finetune_torch.py FOLDER [--weights resnet50.pth] [--steps 20] [--batch 16] [--size 224]
"""
import argparse
import pathlib
import resource
import subprocess
import sys
import time


def train(args):
    import numpy as np
    import torch
    from PIL import Image

    from bnff.models import resnet50

    files = sorted(args.folder.glob("*/*.[jJ][pP]*[gG]"))
    classes = sorted({f.parent.name for f in files})

    def load(file):
        image = Image.open(file).convert("RGB").resize((args.size, args.size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1

    torch.manual_seed(0)
    model = resnet50(num_classes=1000)
    if args.weights:
        model.load_state_dict(torch.load(args.weights, weights_only=True))
    model.fc = torch.nn.Linear(model.fc.in_features, len(classes))
    if args.way == "bnff":
        import bnff
        model = bnff.compile(model)  # the one line
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    seconds = []
    for _ in range(args.steps):
        batch = [files[i] for i in torch.randint(len(files), (args.batch,))]
        images, labels = torch.stack([load(f) for f in batch]), torch.tensor([classes.index(f.parent.name) for f in batch])
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        print(loss.item(), flush=True)
    print(sorted(seconds)[len(seconds) // 2], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--weights", help="a state_dict with torchvision's names")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--size", type=int, default=224, help="side of the images")
parser.add_argument("--way", choices=["eager", "bnff"], help="train this way only, in this process")
args = parser.parse_args()
if not any(args.folder.glob("*/*.[jJ][pP]*[gG]")):
    parser.error(f"no photographs in {args.folder}/CLASS/*.jpg")
if args.way:
    sys.exit(train(args))
ways = [subprocess.run([sys.executable, *sys.argv, "--way", way], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines() for way in ("eager", "bnff")]
for step, (eager, ours) in enumerate(zip(*(lines[:-1] for lines in ways)), 1):
    print(f"step {step:3}: loss {float(eager):.4f} in PyTorch, {float(ours):.4f} with bnff")
for way, lines in zip(("PyTorch", "bnff"), ways):
    print("{:8} {:.3f} s a step (median), peak memory {:.0f} MiB".format(way, *map(float, lines[-1].split())))
