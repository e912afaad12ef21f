"""A U-Net (Ronneberger et al. 2015) and a network as a user would write it, with branches of its own."""
import torch
import torch.nn.functional as F
from torch import nn


def double(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Up(nn.Module):
    def __init__(self, i, o, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = double(i, o)
        else:
            self.up = nn.ConvTranspose2d(i, i // 2, 2, 2)
            self.conv = double(i, o)

    def forward(self, x, skip):
        x = self.up(x)
        dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        if dy or dx:
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class UNet(nn.Module):
    def __init__(self, num_classes=2, bilinear=False, width=16):
        super().__init__()
        w, f = width, 2 if bilinear else 1
        self.inc = double(3, w)
        self.down = nn.ModuleList([nn.Sequential(nn.MaxPool2d(2), double(w << k, (w << (k + 1)) // (f if k == 2 else 1))) for k in range(3)])
        self.up = nn.ModuleList([Up(w << (3 - k), (w << (2 - k)) // (f if k < 2 else 1), bilinear) for k in range(3)])
        self.outc = nn.Conv2d(w, num_classes, 1)

    def forward(self, x):
        skips = [self.inc(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return self.outc(x)


def UNetBilinear(**k):
    return UNet(bilinear=True, **k)


class Branches(nn.Module):
    """Two paths that meet by addition, one that meets by concatenation, a gate, an odd kernel, a branch on the shape, two results."""

    def __init__(self, num_classes=7):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 5, 2, 2), nn.BatchNorm2d(24), nn.LeakyReLU(0.1))
        self.left = nn.Sequential(nn.Conv2d(24, 24, (1, 7), padding=(0, 3), bias=False), nn.BatchNorm2d(24))
        self.right = nn.Sequential(nn.Conv2d(24, 24, 3, padding=2, dilation=2, groups=4, bias=False), nn.BatchNorm2d(24, affine=False))
        self.gate = nn.Conv2d(24, 24, 1)
        self.mix = nn.Conv2d(48, 33, 1, bias=False)
        self.norm = nn.BatchNorm2d(33, momentum=0.3, eps=1e-3)
        self.head = nn.Linear(33, num_classes)
        self.scale = 0.5

    def forward(self, x):
        x = self.stem(x)
        both = F.relu(self.left(x) + self.right(x))
        both = both * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(both, 1)))
        y = self.mix(torch.cat((x, both), 1))
        if y.shape[-1] > 4:
            y = F.max_pool2d(y, 2)
        y = F.silu(self.norm(y))
        return {"logits": self.head(y.mean((2, 3))), "map": y}
