#!/usr/bin/env python3
"""Golden vectors from PyTorch 2.13 (CPU) and Pillow: what bnff must agree with. Run by hand: make golden.

Each file is a small .safetensors beside this script. Tensors are named CASE/TENSOR; the metadata string "cases" is a JSON list of
objects, one a case, with its name and parameters. Inputs are float32; what is wanted is float64, computed in float64 from these inputs.
"""
import copy
import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)


class Golden:
    """The cases of one file."""

    def __init__(self, name):
        self.name, self.tensors, self.cases = name, {}, []

    def add(self, case, tensors, **parameters):
        self.cases.append({"name": case, **parameters})
        for key, value in tensors.items():
            self.tensors[f"{case}/{key}"] = value.detach().contiguous().clone()

    def save(self):
        path = os.path.join(HERE, self.name + ".safetensors")
        made_by = f"make_golden.py, torch {torch.__version__.split('+')[0]}, pillow {Image.__version__}"
        save_file(self.tensors, path, metadata={"cases": json.dumps(self.cases), "made_by": made_by})
        size = os.path.getsize(path)
        assert size < 300_000, (path, size)
        print(f"{self.name}: {len(self.cases)} cases, {size} bytes")


def normal(seed, *shape, mean=0.0, std=1.0):
    """float32 numbers from a normal distribution."""
    return torch.from_numpy((mean + std * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


def backward(y, dy, *leaves):
    """Gradients of sum(y * dy)."""
    return torch.autograd.grad(y, leaves, dy.double())


# -- Operators -----------------------------------------------------------------------------------------------------------


def make_bn():
    golden = Golden("bn")
    shape = (4, 5, 3, 2)
    cases = [
        ("default", shape, dict(eps=1e-5, momentum=0.1), dict(mean=0.5, std=2.0)),
        ("eps_momentum", shape, dict(eps=1e-3, momentum=0.01), dict(mean=-3.0, std=0.1)),
        ("momentum_one", shape, dict(eps=1e-5, momentum=1.0), dict()),
        ("momentum_zero", shape, dict(eps=1e-5, momentum=0.0), dict()),
        ("far_from_zero", (8, 3, 4, 4), dict(eps=1e-5, momentum=0.1), dict(mean=1e4, std=1.0)),
        ("no_affine", shape, dict(eps=1e-5, momentum=0.1, affine=False), dict(std=3.0)),
        ("two_values", (1, 3, 1, 2), dict(eps=1e-5, momentum=0.1), dict()),
        ("constant_channel", shape, dict(eps=1e-5, momentum=0.1), dict(std=0.0, mean=0.25)),
        ("many_channels", (2, 67, 2, 3), dict(eps=1e-5, momentum=0.1), dict()),
    ]
    for seed, (name, (n, c, h, w), options, data) in enumerate(cases):
        bn = nn.BatchNorm2d(c, **options).double()
        tensors = {}
        if bn.affine:
            tensors["weight"], tensors["bias"] = normal((seed, 1), c, mean=1.0, std=0.5), normal((seed, 2), c)
            with torch.no_grad():
                bn.weight.copy_(tensors["weight"]), bn.bias.copy_(tensors["bias"])
        steps = 3
        for step in range(steps + 1):  # the last one is in evaluation mode: running statistics
            bn.train(step < steps)
            x, dy = normal((seed, 3, step), n, c, h, w, **data), normal((seed, 4, step), n, c, h, w)
            leaf = x.double().requires_grad_()
            y = bn(leaf)
            gradients = backward(y, dy, leaf, *bn.parameters())
            tensors |= {f"x{step}": x, f"dy{step}": dy, f"y{step}": y, f"dx{step}": gradients[0]}
            if bn.affine:
                tensors |= {f"dweight{step}": gradients[1], f"dbias{step}": gradients[2]}
            tensors |= {f"running_mean{step}": bn.running_mean.clone(), f"running_var{step}": bn.running_var.clone()}
        golden.add(name, tensors, shape=[n, c, h, w], steps=steps, eps=options["eps"], momentum=options["momentum"], affine=bn.affine)
    golden.save()


def make_pool():
    golden = Golden("pool")

    def add(name, kind, x, function, **parameters):
        leaf = x.double().requires_grad_()
        y = function(leaf)
        dy = normal((7, len(golden.cases)), *y.shape)
        (dx,) = backward(y, dy, leaf)
        golden.add(name, {"x": x, "dy": dy, "y": y, "dx": dx}, kind=kind, **parameters)

    windows = [  # kernel, stride, padding, dilation, ceil mode, image
        ((2, 2), (2, 2), (0, 0), (1, 1), False, (4, 6)),
        ((2, 2), (2, 2), (0, 0), (1, 1), True, (5, 7)),
        ((3, 3), (2, 2), (1, 1), (1, 1), False, (7, 8)),
        ((3, 3), (2, 2), (1, 1), (1, 1), True, (8, 9)),
        ((3, 3), (2, 2), (0, 0), (1, 1), True, (6, 6)),
        ((3, 3), (1, 1), (1, 1), (1, 1), False, (5, 5)),
        ((2, 3), (3, 1), (1, 0), (1, 1), True, (7, 5)),
        ((3, 2), (1, 2), (0, 1), (2, 3), False, (9, 7)),
        ((2, 2), (3, 3), (1, 1), (1, 1), True, (5, 5)),  # a last window in the padding would be empty: it is dropped
        ((3, 3), (2, 2), (1, 1), (2, 2), True, (9, 9)),
        ((1, 1), (2, 2), (0, 0), (1, 1), False, (5, 4)),
        ((5, 5), (5, 5), (2, 2), (1, 1), True, (1, 1)),
    ]
    for i, (kernel, stride, padding, dilation, ceil, image) in enumerate(windows):
        common = dict(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil)
        x = normal((8, i), 2, 3, *image)
        tag = f"k{kernel[0]}{kernel[1]}_s{stride[0]}{stride[1]}_p{padding[0]}{padding[1]}_d{dilation[0]}{dilation[1]}_{'ceil' if ceil else 'floor'}_{image[0]}x{image[1]}"
        add(f"max_{tag}", "max", x, lambda t: F.max_pool2d(t, kernel, stride, padding, dilation, ceil), dilation=dilation, **common)
        if dilation == (1, 1):
            for count in (True, False):
                add(f"avg_{'include' if count else 'exclude'}_{tag}", "avg", x,
                    lambda t, c=count: F.avg_pool2d(t, kernel, stride, padding, ceil, c), exclude_pad=not count, **common)
    special = normal((9,), 1, 2, 5, 5)
    special[0, 0, 1, 1], special[0, 0, 3, 4], special[0, 1, 2, 2], special[0, 1, 0, 0] = math.nan, math.inf, -math.inf, math.nan
    ties = torch.tensor([0.0, 1.0], dtype=torch.float32).repeat(25)[:25].reshape(1, 1, 5, 5).repeat(1, 2, 1, 1)
    ties[0, 1] = 3.0
    lowest = torch.full((1, 2, 3, 3), -math.inf)
    for name, x in (("nan", special), ("ties", ties), ("all_minus_infinity", lowest)):
        common = dict(kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=False)
        add(f"max_{name}", "max", x, lambda t: F.max_pool2d(t, 3, 2, 1), dilation=(1, 1), **common)
    add("avg_nan", "avg", special, lambda t: F.avg_pool2d(t, 3, 2, 1), exclude_pad=False, kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=False)
    for size, image in (((1, 1), (5, 3)), ((2, 3), (5, 7)), ((3, 3), (2, 2)), ((7, 7), (10, 9)), ((4, 5), (4, 5))):
        add(f"adaptive_{size[0]}x{size[1]}_of_{image[0]}x{image[1]}", "adaptive", normal((10, *size, *image), 2, 3, *image),
            lambda t: F.adaptive_avg_pool2d(t, size), size=size)
    add("global_4x3", "global", normal((11,), 2, 17, 4, 3), lambda t: F.adaptive_avg_pool2d(t, 1))
    golden.save()


def make_activations():
    golden = Golden("activations")
    special = [math.nan, math.inf, -math.inf, 0.0, -0.0, 3.0, -3.0, 6.0, -6.0, 1e-38, -1e-38, 88.0, -88.0, 104.0, -104.0, 1e30, -1e30]
    points = torch.cat([torch.tensor(special, dtype=torch.float32), torch.linspace(-8, 8, 47), normal((12,), 32, std=3.0)])
    functions = {
        "relu": F.relu, "relu6": F.relu6, "leaky_relu": lambda t: F.leaky_relu(t, 0.125), "silu": F.silu,
        "hardswish": F.hardswish, "sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid,
        "tanh": torch.tanh, "gelu": F.gelu, "elu": lambda t: F.elu(t, 0.125), "mish": F.mish,
    }
    dy = normal((13,), *points.shape)
    for name, function in functions.items():
        leaf = points.double().requires_grad_()
        y = function(leaf)
        (dx,) = backward(y, dy, leaf)
        golden.add(name, {"x": points, "dy": dy, "y": y, "dx": dx}, slope=0.125 if name in ("leaky_relu", "elu") else 0.0)
    golden.save()


def make_moves():
    golden = Golden("moves")

    def add(name, kind, x, function, weights=(), **parameters):
        leaves = [t.double().requires_grad_() for t in (x, *weights)]
        y = function(*leaves)
        dy = normal((70, len(golden.cases)), *y.shape)
        gradients = backward(y, dy, *leaves)
        tensors = {"x": x, "dy": dy, "y": y, "dx": gradients[0]}
        for key, value, gradient in zip(("weight", "bias"), weights, gradients[1:]):
            tensors[key], tensors["d" + key] = value, gradient
        golden.add(name, tensors, kind=kind, **parameters)

    sizes = [((3, 4), None, (2.0, 2.0)), ((5, 7), (3, 10), None), ((1, 1), (4, 3), None), ((6, 5), None, (1.5, 0.7)), ((4, 5), (1, 1), None), ((7, 6), None, (0.4, 2.3))]
    for i, (image, size, scale) in enumerate(sizes):
        for mode, corners in (("nearest", None), ("bilinear", False), ("bilinear", True)):
            tag = f"{mode}{'_corners' if corners else ''}_{image[0]}x{image[1]}_{i}"
            add(tag, "resize", normal((71, i), 2, 3, *image), lambda t: F.interpolate(t, size=size, scale_factor=scale, mode=mode, align_corners=corners),
                mode=mode, align_corners=bool(corners), size=size or (0, 0), scale=scale or (0.0, 0.0))
    transposed = [  # C, OC, image, kernel, stride, padding, output padding, dilation, groups, bias
        (5, 4, (3, 4), (2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1, True),
        (3, 6, (4, 3), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1, False),
        (4, 5, (3, 3), (4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1, True),
        (4, 6, (3, 2), (3, 2), (1, 3), (2, 0), (0, 2), (2, 1), 2, True),
    ]
    for i, (c, oc, image, kernel, stride, padding, output_padding, dilation, groups, bias) in enumerate(transposed):
        weights = [normal((72, i), c, oc // groups, *kernel)] + ([normal((73, i), oc)] if bias else [])
        add(f"transposed_{i}", "transposed", normal((74, i), 2, c, *image),
            lambda t, w, b=None: F.conv_transpose2d(t, w, b, stride, padding, output_padding, groups, dilation), weights,
            out_channels=oc, kernel=kernel, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups, bias=bias)
    for size, image in (((1, 1), (5, 3)), ((2, 3), (5, 7)), ((7, 7), (10, 9))):
        add(f"adaptive_max_{size[0]}x{size[1]}", "adaptive_max", normal((75, *image), 2, 3, *image), lambda t: F.adaptive_max_pool2d(t, size))
    for c, groups in ((6, 3), (8, 2)):
        add(f"shuffle_{c}_{groups}", "shuffle", normal((76, c), 2, c, 2, 3), lambda t: F.channel_shuffle(t, groups), groups=groups)
    golden.save()


def make_conv():
    golden = Golden("conv")
    cases = [  # name, N, C, H, W, OC, kernel, stride, padding, dilation, groups, bias
        ("1x1", 2, 3, 4, 5, 7, (1, 1), (1, 1), (0, 0), (1, 1), 1, False),
        ("1x1_image_1x1", 2, 17, 1, 1, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1, True),
        ("1x1_stride2", 1, 4, 5, 6, 3, (1, 1), (2, 2), (0, 0), (1, 1), 1, False),
        ("3x3", 2, 3, 5, 5, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1, True),
        ("3x3_valid", 1, 3, 4, 3, 2, (3, 3), (1, 1), (0, 0), (1, 1), 1, False),
        ("3x3_stride2", 1, 5, 7, 6, 3, (3, 3), (2, 2), (1, 1), (1, 1), 1, False),
        ("3x3_stride3_padding2", 1, 2, 8, 7, 3, (3, 3), (3, 3), (2, 2), (1, 1), 1, True),
        ("3x3_dilation2", 1, 3, 7, 7, 2, (3, 3), (1, 1), (2, 2), (2, 2), 1, False),
        ("3x2_uneven", 2, 2, 6, 7, 3, (3, 2), (2, 1), (1, 0), (1, 3), 1, True),
        ("5x5_on_2x2", 1, 2, 2, 2, 3, (5, 5), (1, 1), (2, 2), (1, 1), 1, False),
        ("7x7_stem", 1, 3, 15, 14, 4, (7, 7), (2, 2), (3, 3), (1, 1), 1, False),
        ("groups2", 1, 6, 4, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2, True),
        ("groups_of_4", 1, 32, 3, 3, 32, (3, 3), (2, 2), (1, 1), (1, 1), 8, False),
        ("depthwise", 1, 17, 5, 4, 17, (3, 3), (1, 1), (1, 1), (1, 1), 17, True),
        ("depthwise_stride2_times2", 1, 5, 6, 5, 10, (3, 3), (2, 2), (1, 1), (1, 1), 5, False),
        ("33_to_35", 1, 33, 3, 3, 35, (1, 1), (1, 1), (0, 0), (1, 1), 1, False),
    ]
    for seed, (name, n, c, h, w, oc, kernel, stride, padding, dilation, groups, bias) in enumerate(cases):
        x, weight = normal((14, seed), n, c, h, w), normal((15, seed), oc, c // groups, *kernel, std=0.5)
        tensors = {"x": x, "weight": weight}
        leaves = [x.double().requires_grad_(), weight.double().requires_grad_()]
        if bias:
            tensors["bias"] = normal((16, seed), oc)
            leaves.append(tensors["bias"].double().requires_grad_())
        y = F.conv2d(*leaves, **({} if bias else {"bias": None}), stride=stride, padding=padding, dilation=dilation, groups=groups)
        tensors["dy"] = normal((17, seed), *y.shape)
        gradients = backward(y, tensors["dy"], *leaves)
        tensors |= {"y": y, "dx": gradients[0], "dweight": gradients[1]}
        if bias:
            tensors["dbias"] = gradients[2]
        golden.add(name, tensors, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    golden.save()


# -- Training --------------------------------------------------------------------------------------------------------------


def make_optimizers():
    golden = Golden("optimizers")
    cases = {
        "sgd": (torch.optim.SGD, dict(lr=0.1)),
        "sgd_decay": (torch.optim.SGD, dict(lr=0.1, weight_decay=0.01)),
        "sgd_momentum": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, weight_decay=1e-4)),
        "sgd_nesterov": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, weight_decay=1e-2, nesterov=True)),
        "adam": (torch.optim.Adam, dict(lr=0.01)),
        "adam_decay": (torch.optim.Adam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)),
        "adamw": (torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1)),
        "adamw_betas": (torch.optim.AdamW, dict(lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.05)),
    }
    for name, (kind, options) in cases.items():
        start = normal((18,), 3, 5)
        p = start.double().clone().requires_grad_()
        optimizer = kind([p], **options)
        tensors, rates = {"start": start}, []
        for step in range(5):
            gradient = normal((19, step), 3, 5, std=10.0 ** (1 - step))  # of all sizes: eps matters in the last ones
            rate = options["lr"] * (1.0 - 0.15 * step)  # the rate changes under way, as schedules do
            optimizer.param_groups[0]["lr"] = rate
            p.grad = gradient.double()
            optimizer.step()
            rates.append(rate)
            tensors |= {f"gradient{step}": gradient, f"after{step}": p.detach().clone()}
        betas = options.get("betas", (0.9, 0.999))
        golden.add(name, tensors, kind=kind.__name__.lower(), steps=5, lr=rates, momentum=options.get("momentum", 0.0),
                   nesterov=options.get("nesterov", False), beta1=betas[0], beta2=betas[1], eps=options.get("eps", 1e-8),
                   weight_decay=options.get("weight_decay", 0.0))
    golden.save()


def make_schedules():
    """torchvision's reference training: a main schedule by epoch, behind a warm-up by SequentialLR; one-cycle by step."""
    golden = Golden("schedules")
    cases = [
        ("constant", dict(kind="constant", epochs=4)),
        ("step", dict(kind="step", epochs=9, step_size=3, gamma=0.1)),
        ("step_half", dict(kind="step", epochs=7, step_size=2, gamma=0.5)),
        ("cosine", dict(kind="cosine", epochs=10)),
        ("cosine_floor", dict(kind="cosine", epochs=7, lr_min=0.01)),
        ("step_warmup", dict(kind="step", epochs=9, step_size=3, gamma=0.1, warmup_epochs=2, warmup_decay=0.01)),
        ("cosine_warmup", dict(kind="cosine", epochs=12, warmup_epochs=5, warmup_decay=0.01)),
        ("cosine_warmup_constant", dict(kind="cosine", epochs=6, warmup_epochs=2, warmup_decay=0.2, warmup_constant=True)),
        ("warmup_of_one", dict(kind="cosine", epochs=4, warmup_epochs=1, warmup_decay=0.1)),
        ("onecycle", dict(kind="onecycle", epochs=5)),
        ("onecycle_long", dict(kind="onecycle", epochs=12)),
    ]
    base, steps_per_epoch = 0.4, 4
    for name, options in cases:
        p = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([p], lr=base, momentum=0.9)
        epochs, warmup = options["epochs"], options.get("warmup_epochs", 0)
        by_step = options["kind"] == "onecycle"
        if by_step:
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, base, epochs=epochs, steps_per_epoch=steps_per_epoch)
        else:
            if options["kind"] == "step":
                scheduler = torch.optim.lr_scheduler.StepLR(optimizer, options["step_size"], options["gamma"])
            elif options["kind"] == "cosine":
                scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs - warmup, options.get("lr_min", 0.0))
            else:
                scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
            if warmup:
                decay = options["warmup_decay"]
                if options.get("warmup_constant"):
                    first = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=decay, total_iters=warmup)
                else:
                    first = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=decay, total_iters=warmup)
                scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, scheduler], milestones=[warmup])
        rates, momenta = [], []
        for epoch in range(epochs):
            for step in range(steps_per_epoch):
                rates.append(optimizer.param_groups[0]["lr"])
                momenta.append(optimizer.param_groups[0]["momentum"])
                optimizer.step()
                if by_step and epoch * steps_per_epoch + step + 1 < epochs * steps_per_epoch:
                    scheduler.step()
            if not by_step:
                scheduler.step()
        golden.add(name, {"lr": torch.tensor(rates, dtype=torch.float64), "momentum": torch.tensor(momenta, dtype=torch.float64)},
                   lr=base, steps_per_epoch=steps_per_epoch, **options)
    golden.save()


def make_loss():
    golden = Golden("loss")
    for i, (n, k, smoothing, soft, std) in enumerate([
            (4, 10, 0.0, False, 1.0), (3, 2, 0.1, False, 3.0), (1, 7, 0.0, False, 1.0), (5, 10, 0.1, True, 1.0), (4, 3, 0.0, True, 1.0),
            (6, 101, 0.2, False, 1.0), (4, 5, 0.0, False, 200.0), (2, 1, 0.0, False, 1.0)]):
        logits = normal((20, i), n, k, std=std)
        rng = np.random.default_rng((21, i))
        leaf = logits.double().requires_grad_()
        tensors = {"logits": logits}
        if soft:
            tensors["soft"] = torch.from_numpy(rng.dirichlet(np.ones(k), n).astype(np.float32))
            loss = F.cross_entropy(leaf, tensors["soft"].double(), label_smoothing=smoothing)
        else:
            tensors["labels"] = torch.from_numpy(rng.integers(0, k, n).astype(np.int32))
            loss = F.cross_entropy(leaf, tensors["labels"].long(), label_smoothing=smoothing)
        (gradient,) = torch.autograd.grad(loss, leaf)
        golden.add(f"case{i}", tensors | {"loss": loss.reshape(1), "gradient": gradient}, batch=n, classes=k, smoothing=smoothing)
    golden.save()


# -- Whole networks: three steps of SGD with momentum ----------------------------------------------------------------------


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class Transition(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x):
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNetBC(nn.Module):
    """densenet-bc-L-k of the paper for CIFAR, with torchvision's names."""

    def __init__(self, depth, growth, classes):
        super().__init__()
        layers, channels = (depth - 4) // 6, 2 * growth
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, channels, 3, padding=1, bias=False))
        for block in range(1, 4):
            dense = nn.Sequential()
            for layer in range(1, layers + 1):
                dense.add_module(f"denselayer{layer}", DenseLayer(channels, growth))
                channels += growth
            self.features.add_module(f"denseblock{block}", dense)
            if block < 3:
                self.features.add_module(f"transition{block}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(F.relu(self.features(x)), 1).flatten(1))


class Block(nn.Module):
    """torchvision's BasicBlock or Bottleneck."""

    def __init__(self, channels, width, stride, bottleneck):
        super().__init__()
        out = width * 4 if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        widths = (channels, width, width, out) if bottleneck else (channels, width, out)
        self.count = len(kernels)
        for i, (kernel, step) in enumerate(zip(kernels, strides)):
            setattr(self, f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    """torchvision's ResNet with few and narrow blocks; the big stem (7x7, max pooling) goes with bottlenecks."""

    def __init__(self, bottleneck, classes):
        super().__init__()
        self.bottleneck, width = bottleneck, 4 if bottleneck else 6
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False) if bottleneck else nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        out = width * 4 if bottleneck else width
        self.layer1 = nn.Sequential(Block(self.conv1.out_channels, width, 1, bottleneck), Block(out, width, 1, bottleneck))
        self.layer2 = nn.Sequential(Block(out, width * 2, 2, bottleneck))
        self.fc = nn.Linear(out * 2, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.bottleneck else x
        return self.fc(F.adaptive_avg_pool2d(self.layer2(self.layer1(x)), 1).flatten(1))


STEPS, RATE, MOMENTUM, DECAY = 3, 0.1, 0.9, 1e-3


def train(model, images, labels, layout=torch.contiguous_format, order=None):
    """Losses of STEPS steps; the model is left as they left it."""
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    dtype, losses = next(model.parameters()).dtype, []
    for x, y in zip(images, labels):
        if order is not None:
            x, y = x[order], y[order]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x.to(dtype).contiguous(memory_format=layout)), y.long())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach().double()))
    return losses


def smallest_margin(model, images, labels):
    """Smallest |input| of a ReLU in a float64 training: where it is tiny, rounding turns a mask and no two float32 programs agree."""
    margins, relu = [], F.relu
    F.relu = lambda x: (margins.append(float(x.detach().abs().min())), relu(x))[1]
    try:
        train(copy.deepcopy(model).double(), images, labels)
    finally:
        F.relu = relu
    return min(margins)


def make_network(file, build, image, batch, classes):
    def setting(seed):
        torch.manual_seed(seed)
        model = build(classes)
        images = [normal((22, seed, step), batch, 3, image, image) for step in range(STEPS)]
        labels = [torch.from_numpy(np.random.default_rng((23, seed, step)).integers(0, classes, batch).astype(np.int32)) for step in range(STEPS)]
        return model, images, labels

    seed = max(range(40), key=lambda s: smallest_margin(*setting(s)))
    model, images, labels = setting(seed)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    exact = copy.deepcopy(model).double()
    losses = train(exact, images, labels)
    want = exact.state_dict()
    keys = [k for k in want if not k.endswith("num_batches_tracked")]
    # Eager float32, in both layouts and in several orders of the batch (which the exact result does not depend on).
    exact.eval()
    evaluation = exact(images[0].double())
    distance, loss_distance, evaluation_distance = dict.fromkeys(keys, 0.0), 0.0, 0.0
    for run in range(8):
        single = copy.deepcopy(model)
        order = None if run < 2 else torch.from_numpy(np.random.default_rng((24, run)).permutation(batch))
        # With oneDNN, channels_last convolutions of 6 channels damage the heap in torch 2.13.0: its own convolutions are taken there.
        with torch.backends.mkldnn.flags(enabled=run % 2 == 0):
            got = train(single, images, labels, torch.channels_last if run % 2 else torch.contiguous_format, order)
        loss_distance = max(loss_distance, *(abs(a - b) for a, b in zip(got, losses)))
        for k in keys:
            distance[k] = max(distance[k], float((single.state_dict()[k].double() - want[k]).norm()))
        evaluation_distance = max(evaluation_distance, float((single.eval()(images[0]).double() - evaluation).norm()))
    tensors = {f"image{i}": x for i, x in enumerate(images)} | {f"labels{i}": y for i, y in enumerate(labels)}
    tensors |= {f"start/{k}": start[k] for k in keys} | {f"want/{k}": want[k] for k in keys}
    tensors["evaluation"] = evaluation
    golden = Golden(file)
    golden.add(file, tensors, steps=STEPS, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, batch=batch, image=image, classes=classes,
               losses=losses, loss_distance=loss_distance, evaluation_distance=evaluation_distance, distance=distance)
    golden.save()
    print(f"  seed {seed}, losses {losses}, largest float32 distance {max(distance.values()):.3g}")


# -- Pillow ------------------------------------------------------------------------------------------------------------------


def make_resize():
    golden = Golden("resize")
    rng = np.random.default_rng(25)

    def picture(height, width, channels):
        """Edges, a ramp and noise: what antialiasing and clipping show on."""
        y, x = np.mgrid[0:height, 0:width]
        planes = [np.where((x // 3 + y // 2) % 2, 255, 0), (x * 255) // max(width - 1, 1), rng.integers(0, 256, (height, width))]
        return np.stack(planes, -1).astype(np.uint8) if channels == 3 else ((planes[0] + planes[2]) // 2).astype(np.uint8)[..., None]

    cases = [  # height, width, to height, to width, box
        (16, 16, 8, 8, None), (9, 13, 21, 17, None), (23, 17, 5, 7, None), (20, 30, 20, 30, None), (1, 1, 4, 4, None), (7, 1, 3, 5, None),
        (2, 40, 9, 3, None), (24, 20, 8, 8, (2, 3, 18, 19)), (24, 20, 12, 12, (0.5, 1.25, 17.75, 20.5)), (10, 10, 15, 15, (3, 3, 6, 6)), (40, 33, 1, 1, None),
        (16, 16, 16, 8, None), (16, 16, 8, 16, None),
    ]
    for height, width, to_height, to_width, box in cases:
        for channels in (1, 3):
            source = picture(height, width, channels)
            image = Image.fromarray(source if channels == 3 else source[..., 0], "RGB" if channels == 3 else "L")
            for name, filter_ in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
                out = np.asarray(image.resize((to_width, to_height), filter_, box=box)).reshape(to_height, to_width, channels)
                x0, y0, x1, y1 = box or (0, 0, width, height)
                tag = "" if box is None else "_box" + "_".join(str(v) for v in box)
                golden.add(f"{name}_{channels}_{width}x{height}_to_{to_width}x{to_height}{tag}",
                           {"source": torch.from_numpy(source.copy()), "want": torch.from_numpy(out.copy())},
                           interpolation=name, box=[x0, y0, x1 - x0, y1 - y0])
    golden.save()


def main():
    if not torch.__version__.startswith("2.13."):
        sys.exit(f"the golden files are made with torch 2.13, this is {torch.__version__}")
    make_bn()
    make_pool()
    make_activations()
    make_moves()
    make_conv()
    make_optimizers()
    make_schedules()
    make_loss()
    make_network("densenet_bc_16_4", lambda classes: DenseNetBC(16, 4, classes), image=12, batch=6, classes=5)
    make_network("resnet_basic", lambda classes: ResNet(False, classes), image=10, batch=6, classes=5)
    make_network("resnet_bottleneck", lambda classes: ResNet(True, classes), image=32, batch=3, classes=5)
    make_resize()


if __name__ == "__main__":
    main()
