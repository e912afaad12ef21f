"""What the tests share: one step of a module, distances to float64, and a module that surely ran in the engine."""
import copy

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
