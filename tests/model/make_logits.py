#!/usr/bin/env python3
"""Print the table of test_logits.c: what PyTorch 2.13 and torchvision 0.28 compute, in float64, for every network of the zoo
with the parameters of bnff_state_init(seed 1) and the image of test_logits.c.

    pip install torch==2.13.0 torchvision==0.28.0 numpy && ./make_logits.py > logits.def
"""
import re

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import nn
from torchvision.models.densenet import DenseNet

CLASSES = 8


# -- src/base/random.h -----------------------------------------------------------------------------------------------------

def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random(key, counter):
    golden = np.uint64(0x9E3779B97F4A7C15)
    return mix(mix(np.uint64(key) + golden) + (counter + np.uint64(1)) * golden)


def random_key(key, stream):
    return random(np.uint64(key) ^ np.uint64(0x5851F42D4C957F2D), np.uint64(stream))


def uniform(key, n):
    return (random(key, np.arange(n, dtype=np.uint64)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


# -- src/model/init.c ------------------------------------------------------------------------------------------------------

def normal(key, n):
    u = uniform(key, n + n % 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[0::2])), 2 * np.pi * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()[:n]


# Of convolution and linear weights: the fan that a normal distribution is scaled by, its deviation, or "uniform"; are biases uniform?
RULES = {"densenet": ("in", "uniform", False, False), "vgg": ("out", 0.01, False, False), "mobilenet": ("out", 0.01, False, False),
         "resnet": ("out", "uniform", False, True), "efficientnet": ("out", "uniform", False, False), "mnasnet": ("out", "uniform", False, False),
         "regnet": ("out", 0.01, False, False), "shufflenet": ("uniform", "uniform", False, True), "squeezenet": ("in", "uniform", False, False),
         "googlenet": (0.01, 0.01, False, False)}


def initialise(model, family):
    """Fill a module as bnff_state_init does with seed 1; the index of a parameter counts buffers too."""
    conv, linear, conv_bias, linear_bias = RULES[family]
    index, weight, owner = 0, None, None
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            key, n, shape = random_key(1, index), value.numel(), value.shape
            index += 1
            if len(shape) in (2, 4):
                weight, owner, rule = shape, name[: -len("weight")], conv if len(shape) == 4 else linear
                fan = n // shape[0] if rule in ("in", "uniform") else shape[0] * int(np.prod(shape[2:]))
                scale = rule if isinstance(rule, float) else np.sqrt(2 / fan)
                values = (2 * uniform(key, n) - 1) / np.sqrt(fan) if rule == "uniform" else normal(key, n) * scale
                value.copy_(torch.from_numpy(values.astype(np.float32)).reshape(shape))
            elif owner and name == owner + "bias" and (linear_bias if len(weight) == 2 else conv_bias):
                value.copy_(torch.from_numpy(((2 * uniform(key, n) - 1) / np.sqrt(np.prod(weight[1:]))).astype(np.float32)))
            else:
                value.fill_(1.0 if name.endswith("running_var") or name.endswith("weight") else 0.0)


# -- The papers' CIFAR networks --------------------------------------------------------------------------------------------

class PlainLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)


class PlainTransition(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x):
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class PlainDenseNet(nn.Module):
    def __init__(self, depth, growth):
        super().__init__()
        channels, layers = 16, (depth - 4) // 3
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 16, 3, padding=1, bias=False))
        for block in range(1, 4):
            dense = nn.Sequential()
            for layer in range(1, layers + 1):
                dense.add_module(f"denselayer{layer}", PlainLayer(channels, growth))
                channels += growth
            self.features.add_module(f"denseblock{block}", dense)
            if block < 3:
                self.features.add_module(f"transition{block}", PlainTransition(channels))
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


def bottleneck_densenet(depth, growth):
    model = DenseNet(growth, ((depth - 4) // 6,) * 3, 2 * growth, num_classes=CLASSES)
    rest = [(name, module) for name, module in model.features.named_children() if name not in ("conv0", "norm0", "relu0", "pool0")]
    model.features = nn.Sequential()
    model.features.add_module("conv0", nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False))
    for name, module in rest:
        model.features.add_module(name, module)
    return model


class CifarBlock(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.stride, self.pad = stride, out - channels

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.pad)))


class CifarResNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        blocks = [[CifarBlock(max(16, 8 << layer) if i == 0 else 16 << layer, 16 << layer, 2 if layer and i == 0 else 1)
                   for i in range((depth - 2) // 6)] for layer in range(3)]
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(*b) for b in blocks)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


# -- The table -------------------------------------------------------------------------------------------------------------

def make(name):
    """Module, family of initialisation, image height and width."""
    if found := re.fullmatch(r"densenet-(bc-)?(\d+)-(\d+)", name):
        depth, growth = int(found[2]), int(found[3])
        return (bottleneck_densenet if found[1] else PlainDenseNet)(depth, growth), "densenet", 33, 30
    if name in ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"):
        return CifarResNet(int(name[6:])), "resnet", 33, 30
    family = next((f for f in RULES if f in name), "resnet")  # resnext is a resnet
    extra = {"aux_logits": False, "init_weights": False} if family == "googlenet" else {}
    return getattr(zoo, name)(num_classes=CLASSES, **extra), family, 75, 64


def main():
    names = ("densenet121 densenet161 densenet169 densenet201 densenet-bc-22-12 densenet-bc-100-12 densenet-40-12 resnet18 resnet34 resnet50 "
             "resnet101 resnet152 wide_resnet50_2 wide_resnet101_2 resnext50_32x4d resnext101_32x8d resnext101_64x4d resnet20 resnet56 resnet110 "
             "vgg11_bn vgg13_bn vgg16_bn vgg19_bn mobilenet_v2 mobilenet_v3_small efficientnet_b0 mnasnet1_0 regnet_y_400mf shufflenet_v2_x1_0 "
             "squeezenet1_1 googlenet").split()
    for name in names:
        model, family, height, width = make(name)
        initialise(model, family)
        image = (2 * uniform(99, height * width * 3) - 1).astype(np.float32).reshape(1, height, width, 3).transpose(0, 3, 1, 2)
        with torch.no_grad():
            logits = model.double().eval()(torch.from_numpy(image.copy()).double())[0].tolist()
        print(f'{{"{name}", {height}, {width}, {{{", ".join(f"{v:.9g}" for v in logits)}}}}},', flush=True)


if __name__ == "__main__":
    np.seterr(over="ignore")
    main()
