"""Small networks: MobileNetV2 (Sandler et al. 2018), V3 (Howard et al. 2019), EfficientNet (Tan & Le 2019), MnasNet (Tan et al. 2018),
ShuffleNetV2 (Ma et al. 2018), SqueezeNet 1.1 (Iandola et al. 2016), RegNetY (Radosavovic et al. 2020)."""
import math
from functools import partial

import torch
from torch import nn


def divisible(v, divisor=8):
    new = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return new + divisor if new < 0.9 * v else new


def conv_bn(i, o, k=3, stride=1, groups=1, act=nn.ReLU, norm=nn.BatchNorm2d):
    layers = [nn.Conv2d(i, o, k, stride, (k - 1) // 2, groups=groups, bias=False), norm(o)]
    return nn.Sequential(*layers, *([act(inplace=True)] if act else []))


class SqueezeExcitation(nn.Module):
    def __init__(self, c, squeeze, act=nn.ReLU, scale=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(c, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, c, 1)
        self.activation = act()
        self.scale_activation = scale()

    def forward(self, x):
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class InvertedResidual(nn.Module):
    def __init__(self, i, o, stride, expand):
        super().__init__()
        hidden = int(round(i * expand))
        layers = [conv_bn(i, hidden, 1, act=nn.ReLU6)] if expand != 1 else []
        layers += [conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6), nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=1000, dropout=0.2):
        super().__init__()
        c, features = 32, [conv_bn(3, 32, 3, 2, act=nn.ReLU6)]
        for t, o, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for k in range(count):
                features.append(InvertedResidual(c, o, stride if k == 0 else 1, t))
                c = o
        features.append(conv_bn(c, 1280, 1, act=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class V3Block(nn.Module):
    def __init__(self, i, k, expanded, o, se, hs, stride, norm):
        super().__init__()
        act = nn.Hardswish if hs else nn.ReLU
        layers = [conv_bn(i, expanded, 1, act=act, norm=norm)] if expanded != i else []
        layers.append(conv_bn(expanded, expanded, k, stride, expanded, act, norm))
        if se:
            layers.append(SqueezeExcitation(expanded, divisible(expanded // 4), scale=nn.Hardsigmoid))
        layers.append(conv_bn(expanded, o, 1, act=None, norm=norm))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and i == o

    def forward(self, x):
        result = self.block(x)
        if self.use_res_connect:
            result += x
        return result


class MobileNetV3(nn.Module):
    def __init__(self, setting, last, num_classes=1000, dropout=0.2):
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        layers = [conv_bn(3, 16, 3, 2, act=nn.Hardswish, norm=norm)]
        layers += [V3Block(*row, norm) for row in setting]
        c = setting[-1][3]
        layers.append(conv_bn(c, 6 * c, 1, act=nn.Hardswish, norm=norm))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(6 * c, last), nn.Hardswish(inplace=True), nn.Dropout(dropout, inplace=True),
                                        nn.Linear(last, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class StochasticDepth(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        noise = torch.empty([x.shape[0], 1, 1, 1], dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        if self.p < 1:
            noise.div_(1 - self.p)
        return x * noise


class MBConv(nn.Module):
    def __init__(self, expand, k, stride, i, o, drop):
        super().__init__()
        expanded = divisible(i * expand)
        layers = [conv_bn(i, expanded, 1, act=nn.SiLU)] if expanded != i else []
        layers += [conv_bn(expanded, expanded, k, stride, expanded, nn.SiLU), SqueezeExcitation(expanded, max(1, i // 4), partial(nn.SiLU, inplace=True)),
                   conv_bn(expanded, o, 1, act=None)]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.use_res_connect = stride == 1 and i == o

    def forward(self, x):
        result = self.block(x)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += x
        return result


class EfficientNet(nn.Module):
    def __init__(self, num_classes=1000, dropout=0.2, stochastic_depth=0.2):
        super().__init__()
        setting = ((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
                   (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1))
        total, done = sum(row[5] for row in setting), 0
        layers = [conv_bn(3, 32, 3, 2, act=nn.SiLU)]
        for expand, k, stride, i, o, count in setting:
            stage = []
            for b in range(count):
                stage.append(MBConv(expand, k, stride if b == 0 else 1, i if b == 0 else o, o, stochastic_depth * done / total))
                done += 1
            layers.append(nn.Sequential(*stage))
        layers.append(conv_bn(320, 1280, 1, act=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(1280, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class MnasBlock(nn.Module):
    def __init__(self, i, o, k, stride, expand):
        super().__init__()
        mid, m = i * expand, 1 - 0.9997
        self.apply_residual = i == o and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(i, mid, 1, bias=False), nn.BatchNorm2d(mid, momentum=m), nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, k, stride, k // 2, groups=mid, bias=False), nn.BatchNorm2d(mid, momentum=m), nn.ReLU(inplace=True),
            nn.Conv2d(mid, o, 1, bias=False), nn.BatchNorm2d(o, momentum=m))

    def forward(self, x):
        return self.layers(x) + x if self.apply_residual else self.layers(x)


class MNASNet(nn.Module):
    def __init__(self, num_classes=1000, dropout=0.2):
        super().__init__()
        m = 1 - 0.9997
        layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, momentum=m), nn.ReLU(inplace=True),
                  nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.BatchNorm2d(32, momentum=m), nn.ReLU(inplace=True),
                  nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16, momentum=m)]
        c = 16
        for o, k, stride, expand, count in ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1)):
            layers.append(nn.Sequential(*[MnasBlock(c if b == 0 else o, o, k, stride if b == 0 else 1, expand) for b in range(count)]))
            c = o
        layers += [nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, momentum=m), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(1280, num_classes))

    def forward(self, x):
        return self.classifier(self.layers(x).mean([2, 3]))


def channel_shuffle(x, groups):
    n, c, h, w = x.size()
    x = x.view(n, groups, c // groups, h, w)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(n, c, h, w)


class ShuffleUnit(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.stride, branch = stride, o // 2
        depthwise = lambda c, s: nn.Conv2d(c, c, 3, s, 1, groups=c, bias=False)
        self.branch1 = nn.Sequential(depthwise(i, stride), nn.BatchNorm2d(i), nn.Conv2d(i, branch, 1, bias=False), nn.BatchNorm2d(branch),
                                     nn.ReLU(inplace=True)) if stride > 1 else nn.Sequential()
        self.branch2 = nn.Sequential(nn.Conv2d(i if stride > 1 else branch, branch, 1, bias=False), nn.BatchNorm2d(branch), nn.ReLU(inplace=True),
                                     depthwise(branch, stride), nn.BatchNorm2d(branch), nn.Conv2d(branch, branch, 1, bias=False),
                                     nn.BatchNorm2d(branch), nn.ReLU(inplace=True))

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv1 = conv_bn(3, 24, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = 24
        for name, count, o in (("stage2", 4, 116), ("stage3", 8, 232), ("stage4", 4, 464)):
            setattr(self, name, nn.Sequential(ShuffleUnit(c, o, 2), *[ShuffleUnit(o, o, 1) for _ in range(count - 1)]))
            c = o
        self.conv5 = conv_bn(c, 1024, 1)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean([2, 3]))


class Fire(nn.Module):
    def __init__(self, i, squeeze, e1, e3):
        super().__init__()
        self.squeeze = nn.Conv2d(i, squeeze, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, e1, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, e3, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, num_classes=1000, dropout=0.5):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True), pool(), Fire(64, 16, 64, 64), Fire(128, 16, 64, 64), pool(),
                                      Fire(128, 32, 128, 128), Fire(256, 32, 128, 128), pool(), Fire(256, 48, 192, 192), Fire(384, 48, 192, 192),
                                      Fire(384, 64, 256, 256), Fire(512, 64, 256, 256))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(512, num_classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x):
        return torch.flatten(self.classifier(self.features(x)), 1)


class RegNetBlock(nn.Module):
    def __init__(self, i, o, stride, group_width, se_ratio):
        super().__init__()
        self.proj = conv_bn(i, o, 1, stride, act=None) if i != o or stride != 1 else None
        self.f = nn.Sequential()
        self.f.add_module("a", conv_bn(i, o, 1))
        self.f.add_module("b", conv_bn(o, o, 3, stride, o // group_width))
        self.f.add_module("se", SqueezeExcitation(o, int(round(se_ratio * i))))
        self.f.add_module("c", conv_bn(o, o, 1, act=None))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = (self.proj(x) if self.proj is not None else x) + self.f(x)
        return self.activation(x)


class RegNet(nn.Module):
    def __init__(self, depths, widths, group_width, num_classes=1000):
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2)
        blocks, c = [], 32
        for k, (depth, width) in enumerate(zip(depths, widths)):
            stage = nn.Sequential()
            for b in range(depth):
                stage.add_module(f"block{k + 1}-{b}", RegNetBlock(c if b == 0 else width, width, 2 if b == 0 else 1, group_width, 0.25))
            blocks.append((f"block{k + 1}", stage))
            c = width
        self.trunk_output = nn.Sequential()
        for name, stage in blocks:
            self.trunk_output.add_module(name, stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x):
        x = self.avgpool(self.trunk_output(self.stem(x)))
        return self.fc(x.flatten(start_dim=1))


def mobilenet_v2(**k):
    return MobileNetV2(**k)


def mobilenet_v3_small(**k):
    return MobileNetV3(((16, 3, 16, 16, True, False, 2), (16, 3, 72, 24, False, False, 2), (24, 3, 88, 24, False, False, 1),
                        (24, 5, 96, 40, True, True, 2), (40, 5, 240, 40, True, True, 1), (40, 5, 240, 40, True, True, 1),
                        (40, 5, 120, 48, True, True, 1), (48, 5, 144, 48, True, True, 1), (48, 5, 288, 96, True, True, 2),
                        (96, 5, 576, 96, True, True, 1), (96, 5, 576, 96, True, True, 1)), 1024, **k)


def efficientnet_b0(**k):
    return EfficientNet(**k)


def mnasnet1_0(**k):
    return MNASNet(**k)


def shufflenet_v2_x1_0(**k):
    return ShuffleNetV2(**k)


def squeezenet1_1(**k):
    return SqueezeNet(**k)


def regnet_y_400mf(**k):
    return RegNet((1, 3, 6, 6), (48, 104, 208, 440), 8, **k)
