#!/usr/bin/env python3
"""Fine-tune a DenseNet-121 on photographs, FOLDER/CLASS/*.jpg, without bnff and with it: losses, times and memory side by side.

    python examples/finetune_torch.py FOLDER [densenet121.pth]
"""
import concurrent.futures
import itertools
import multiprocessing
import pathlib
import resource
import statistics
import sys
import time

import numpy
import torch
from PIL import Image

import bnff
from bnff.models import densenet121  # or torchvision's


class Photographs(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.files = sorted(pathlib.Path(folder).glob("*/*.jpg"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        image = numpy.array(Image.open(self.files[i]).convert("RGB").resize((224, 224)))
        return torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1, self.classes.index(self.files[i].parent.name)


def train(with_bnff, folder, weights=None, steps=20):
    torch.manual_seed(0)
    photographs = Photographs(folder)
    model = densenet121()
    if weights:
        model.load_state_dict(torch.load(weights, weights_only=True))
    model.classifier = torch.nn.Linear(1024, len(photographs.classes))
    if with_bnff:
        model = bnff.compile(model)  # the one line
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0001, momentum=0.9)
    losses, seconds = [], []
    for images, labels in itertools.islice(torch.utils.data.DataLoader(photographs, batch_size=16, shuffle=True), steps):
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return losses, statistics.median(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    ways = []
    for with_bnff in (False, True):  # each in a process of its own, for its peak memory
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            ways.append(process.submit(train, with_bnff, *sys.argv[1:]).result())
    for step, losses in enumerate(zip(*(losses for losses, _, _ in ways)), 1):
        print("step {:2}: loss {:.4f} in PyTorch, {:.4f} with bnff".format(step, *losses))
    for name, (_, seconds, memory) in zip(("PyTorch", "bnff"), ways):
        print(f"{name:8}{seconds:.2f} s a step, peak memory {memory:.0f} MiB")
