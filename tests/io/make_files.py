#!/usr/bin/env python3
"""Make tests/io/files with torch 2.13 and safetensors 0.8: small weight files as those libraries write them; and smaller ones
for the fuzz targets to start from.

    python3 -m venv V && V/bin/pip install torch==2.13.0 numpy safetensors && V/bin/python tests/io/make_files.py
"""
import argparse
import collections
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

folder = pathlib.Path(__file__).parent / "files"
corpus = pathlib.Path(__file__).parent.parent / "fuzz" / "corpus"


def ramp(*shape):
    """Element i is i / 4 - 1: exact in every dtype used here."""
    n = int(np.prod(shape))
    return (torch.arange(n, dtype=torch.float32) / 4 - 1).reshape(shape)


def tensors():
    return {
        "plain": ramp(2, 3),
        "transposed": ramp(3, 4).t(),
        "channels_last": ramp(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "row": ramp(3, 4)[1],
        "column": ramp(3, 4)[:, 2],
        "expanded": ramp(3).expand(2, 3),
        "parameter": torch.nn.Parameter(ramp(3)),
        "f64": ramp(5).double(),
        "f16": ramp(5).half(),
        "bf16": ramp(5).bfloat16(),
        "i64": torch.tensor([1, -2, 3]),
        "i32": torch.tensor([1, -2, 3], dtype=torch.int32),
        "u8": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }


def checkpoint():
    """What a training script saves: a wrapped state dict among things that must be passed over."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.BatchNorm2d(2))
    with torch.no_grad():
        net[0].weight.copy_(ramp(2, 1, 3, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        net[0].weight.copy_(ramp(2, 1, 3, 3))
    state = collections.OrderedDict(("module._orig_mod." + k, v) for k, v in net.state_dict().items())
    return {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("data"), sizes=[224, 256]),
        "optimizer": optimizer.state_dict(),
        "model": state,
        "history": np.arange(3.0),
        "best": np.float64(93.5),
        "names": {"a", "b"},
        "big": 1 << 80,
        "ema": {"n_averaged": torch.tensor(3)},
    }


def main():
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    for legacy in (False, True):
        kind = "legacy" if legacy else "zip"
        options = {"_use_new_zipfile_serialization": not legacy}
        torch.save(tensors(), folder / f"{kind}.pth", **options)
        torch.save(checkpoint(), folder / f"checkpoint_{kind}.pth", **options)
        torch.save(checkpoint(), folder / f"checkpoint_{kind}_p4.pth", pickle_protocol=4, **options)
    torch.save(torch.nn.Linear(2, 1), folder / "module.pth")
    torch.save({"x": torch.ones(2, dtype=torch.int16), "y": torch.ones(2)}, folder / "int16.pth")
    torch.save([torch.ones(2)], folder / "list.pth")
    torch.jit.script(torch.nn.Linear(2, 1)).save(folder / "script.pth")
    contiguous = {k: v.detach().clone().contiguous() for k, v in tensors().items()}
    save_file(contiguous, folder / "reference.safetensors", metadata={"format": "pt", "note": "größe \"x\"\n"})
    make_corpus()


def make_corpus():
    small = {"a.weight": ramp(2, 2).t(), "a.bias": ramp(2).half(), "n": torch.tensor(1)}
    for name in ("pth", "safetensors"):
        (corpus / name).mkdir(parents=True, exist_ok=True)
    torch.serialization.set_crc32_options(False)  # a checksum would refuse every mutation before it is parsed
    torch.save(small, corpus / "pth" / "zip")
    torch.save(small, corpus / "pth" / "legacy", _use_new_zipfile_serialization=False)
    torch.save({"model": small, "x": np.ones(1), "a": argparse.Namespace(b=1)}, corpus / "pth" / "legacy_p4", pickle_protocol=4,
               _use_new_zipfile_serialization=False)
    save_file({k: v.contiguous() for k, v in small.items()}, corpus / "safetensors" / "small", metadata={"format": "pt"})
    save_file({"e": torch.zeros(0, 3), "s": torch.tensor(True)}, corpus / "safetensors" / "empty")


if __name__ == "__main__":
    main()
