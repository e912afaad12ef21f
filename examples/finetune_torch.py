#!/usr/bin/env python3
"""Fine-tune a ResNet-50 on a folder of photographs, FOLDER/CLASS/*.jpg, with bnff or (--eager) without, and say what it took.

    python examples/finetune_torch.py FOLDER [--weights resnet50.pth] [--eager]
"""
import argparse
import pathlib
import resource
import time

import numpy as np
import torch
from PIL import Image

from bnff.models import resnet50

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--weights", help="a state_dict with torchvision's names")
parser.add_argument("--eager", action="store_true")
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()

torch.manual_seed(0)
files = sorted(args.folder.glob("*/*.jp*g"))
classes = sorted({f.parent.name for f in files})


def load(file):
    image = Image.open(file).convert("RGB").resize((224, 224))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


model = resnet50(num_classes=1000)
if args.weights:
    model.load_state_dict(torch.load(args.weights, weights_only=True))
model.fc = torch.nn.Linear(model.fc.in_features, len(classes))
if not args.eager:
    import bnff
    model = bnff.compile(model)  # the one line
optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
start = time.time()
for step in range(args.steps):
    batch = [files[i] for i in torch.randint(len(files), (16,))]
    labels = torch.tensor([classes.index(f.parent.name) for f in batch])
    loss = torch.nn.functional.cross_entropy(model(torch.stack([load(f) for f in batch])), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(f"{(time.time() - start) / args.steps:.2f} s a step, peak memory {peak} MiB, {'eager' if args.eager else 'bnff'}")
