"""torch.compile(model, backend="bnff")."""
import copy
import warnings

import pytest
import torch

import bnff  # noqa: F401
from bnff._compile import Dispatcher
from bnff._dynamo import backend
from support import Small, assert_close_models, step

pytestmark = pytest.mark.filterwarnings("ignore")


def compiled(model):
    """The model through Dynamo, and the dispatchers that were made of its graphs."""
    made = []

    def remember(graph_module, example_inputs, **k):
        made.append(backend(graph_module, example_inputs, **k))
        return made[-1]

    torch._dynamo.reset()
    return torch.compile(model, backend=remember), made


def ran(made):
    return sum(r.runs for d in made for p in d.programs.values() if hasattr(p, "regions") for r in p.regions)


def test_found_by_name():
    if "bnff" not in torch._dynamo.list_backends(exclude_tags=()):
        pytest.skip("the package is not installed: there is no entry point")
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Small()
    eager = copy.deepcopy(model)
    x = torch.randn(4, 3, 12, 12)
    a, b = torch.compile(model, backend="bnff")(x), eager(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_training_steps_and_dynamic_batch():
    torch.manual_seed(0)
    model = Small()
    eager = copy.deepcopy(model)
    fast, made = compiled(model)
    for n in (4, 4, 6, 3, 5):
        x = torch.randn(n, 3, 12, 12, generator=torch.Generator().manual_seed(n))
        model.zero_grad(), eager.zero_grad()
        torch.testing.assert_close(step(fast, x), step(eager, x), rtol=1e-4, atol=1e-5)
        assert_close_models(model, eager)
    assert ran(made) == 5
    assert len(made) <= 2  # the second batch size makes the dimension dynamic; no further graph after that
    assert model.bn1.num_batches_tracked == 5


def test_dynamic_from_the_start():
    """Every size is an input of the graph then, and so are the numbers of the layers, as tensors."""
    class Resized(Small):
        def forward(self, x):
            h, w = x.shape[2:]
            x = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 2), size=(h - 1, w), mode="bilinear")
            return super().forward(torch.nn.functional.pad(x, (0, 0, 0, h - x.shape[2])))
    torch.manual_seed(0)
    model = Resized()
    eager = copy.deepcopy(model)
    made = []
    torch._dynamo.reset()
    run = torch.compile(model, backend=lambda *a, **k: made.append(backend(*a, **k)) or made[-1], dynamic=True)
    for batch, height, width in ((4, 12, 12), (3, 12, 14), (5, 10, 13)):
        x = torch.randn(batch, 3, height, width)
        step(run, x), step(eager, x)
    assert_close_models(model, eager)
    assert len(made) <= 2 and ran(made) == 3


def test_graph_break():
    class Broken(Small):
        def forward(self, x):
            x = self.act(self.bn1(self.conv1(x)))
            torch._dynamo.graph_break()
            x = x + self.act(self.bn2(self.conv2(x)))
            return self.fc(x.mean((2, 3)))
    torch.manual_seed(0)
    model = Broken()
    eager = copy.deepcopy(model)
    fast, made = compiled(model)
    x = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(step(fast, x), step(eager, x), rtol=1e-4, atol=1e-5)
    assert_close_models(model, eager)
    assert len(made) == 2 and ran(made) == 2


def test_evaluation():
    torch.manual_seed(0)
    model = Small().eval()
    eager = copy.deepcopy(model)
    fast, made = compiled(model)
    with torch.no_grad():
        x = torch.randn(4, 3, 12, 12)
        torch.testing.assert_close(fast(x), eager(x), rtol=1e-4, atol=1e-5)
    assert ran(made) == 1


def test_outer_compile_of_a_compiled_module():
    """inductor or eager around a module that bnff.compile has: the original forward is what is compiled."""
    torch.manual_seed(0)
    model = Small()
    eager = copy.deepcopy(model)
    bnff.compile(model)
    torch._dynamo.reset()
    x = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(step(torch.compile(model, backend="eager"), x), step(eager, x), rtol=1e-4, atol=1e-5)
    assert isinstance(model.forward, Dispatcher)
