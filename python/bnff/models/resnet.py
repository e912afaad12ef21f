"""ResNet (He et al. 2015), wide (Zagoruyko & Komodakis 2016) and with groups (ResNeXt, Xie et al. 2016); VGG with BN (Simonyan & Zisserman 2014)."""
import torch
from torch import nn


def conv(i, o, k, stride=1, groups=1):
    return nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False)


class Basic(nn.Module):
    expansion = 1

    def __init__(self, i, planes, stride, downsample, groups, base):
        super().__init__()
        self.conv1 = conv(i, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, planes, stride, downsample, groups, base):
        super().__init__()
        width = int(planes * (base / 64.0)) * groups
        self.conv1 = conv(i, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, planes * 4, 1)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, block, layers, num_classes=1000, groups=1, width_per_group=64):
        super().__init__()
        self.inplanes = 64
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i, count in enumerate(layers):
            setattr(self, f"layer{i + 1}", self._layer(block, 64 << i, count, 2 if i else 1, groups, width_per_group))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def _layer(self, block, planes, count, stride, groups, base):
        out, blocks = planes * block.expansion, []
        for i in range(count):
            down = None
            if i == 0 and (stride != 1 or self.inplanes != out):
                down = nn.Sequential(conv(self.inplanes, out, 1, stride), nn.BatchNorm2d(out))
            blocks.append(block(self.inplanes, planes, stride if i == 0 else 1, down, groups, base))
            self.inplanes = out
        return nn.Sequential(*blocks)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(**k):
    return ResNet(Basic, [2, 2, 2, 2], **k)


def resnet50(**k):
    return ResNet(Bottleneck, [3, 4, 6, 3], **k)


def wide_resnet50_2(**k):
    return ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=128, **k)


def resnext50_32x4d(**k):
    return ResNet(Bottleneck, [3, 4, 6, 3], groups=32, width_per_group=4, **k)


class VGG(nn.Module):
    def __init__(self, plan, num_classes=1000, dropout=0.5):
        super().__init__()
        layers, i = [], 3
        for o in plan:
            if o == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
                i = o
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(True),
                                        nn.Dropout(dropout), nn.Linear(4096, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def vgg11_bn(**k):
    return VGG([64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"], **k)
