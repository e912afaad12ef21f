"""What the tests share: one step of a module, distances to float64, and a module that surely ran in the engine."""
import copy
import random
import warnings

import torch
from torch.utils import _pytree as pytree

import bnff


def tensors(result):
    return [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]


def no_dropout(model):
    """Every random layer off: what is compared is arithmetic."""
    for m in model.modules():
        if type(m).__name__ in ("Dropout", "StochasticDepth"):
            m.p = 0.0
    return model


def step(model, x, seed=1):
    """Forward, and backward of a fixed random combination of all results. The results."""
    results = tensors(model(x))
    g = torch.Generator().manual_seed(seed)
    sum((t * torch.randn(t.shape, generator=g).to(t.dtype)).sum() for t in results).backward()
    return results


def gradient(model):
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def distance(a, b):
    return ((a.double() - b).norm() / b.norm().clamp_min(1e-300)).item()


def twins(model):
    """The model compiled, the same in eager, the same in float64."""
    eager, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    return bnff.compile(model), eager, exact


def assert_close_models(a, b, rtol=1e-4, atol=1e-5):
    """Parameters, gradients and buffers of two float32 models that took the same step."""
    for (name, p), q in zip(a.named_parameters(), b.parameters()):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            scale = q.grad.abs().max().item()
            torch.testing.assert_close(p.grad, q.grad, rtol=rtol, atol=max(atol, 1e-4 * scale), msg=lambda m: f"gradient of {name}: {m}")
    for (name, p), q in zip(a.named_buffers(), b.buffers()):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")


def programs(model):
    return list(model.forward.programs.values())


def assert_ran(model, x, times=None):
    """The whole of model(x) ran in the engine."""
    e = bnff.explain(model, x)
    assert e.complete, str(e)
    assert e.regions[0].runs >= 1 if times is None else e.regions[0].runs == times, str(e)
    return e


class Small(torch.nn.Module):
    """Two convolutions with batch normalization, a residual, a linear layer: quick, smooth enough to compare closely."""

    def __init__(self, classes=5, channels=24):
        super().__init__()
        nn = torch.nn
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act = nn.SiLU(inplace=True)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        x = x + self.act(self.bn2(self.conv2(x)))
        return self.fc(torch.flatten(torch.nn.functional.adaptive_avg_pool2d(x, 1), 1))


def pair(seed=0, **k):
    """A compiled Small and the same in eager."""
    torch.manual_seed(seed)
    model = Small(**k)
    eager = copy.deepcopy(model)
    return bnff.compile(model), eager


def check(model, x, seed=1, regions=None):
    """Two training steps of the compiled model and of a copy in eager, with the same random numbers. The explanation."""
    eager = copy.deepcopy(model)
    bnff.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(2):
            results = []
            for m in (model, eager):
                torch.manual_seed(i)
                random.seed(i)
                m.zero_grad()
                results.append(step(m, x))
            for a, b in zip(*results):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert_close_models(model, eager)
    explanation = bnff.explain(model, x)
    if regions is not None:
        assert len(explanation.regions) == regions, str(explanation)
    return explanation


def body(c=16):
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.SiLU(),
                         nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.SiLU())


class With(torch.nn.Module):
    """A body, something in between, and a body after it."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = body(), torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, padding=1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.SiLU())
        self.between = between
        self.fc = torch.nn.Linear(16, 4)

    def forward(self, x):
        x = self.between(self.first(x))
        return self.fc(self.second(x).mean((2, 3)))


def x(n=4, size=10):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))
