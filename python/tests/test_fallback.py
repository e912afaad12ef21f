"""What the engine cannot compute runs in PyTorch: said once, and never wrong."""
import copy
import random
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bnff
from bnff._compile import Declined
from support import Small, With, assert_close_models, body, check, pair, programs, step, x


BETWEEN = {
    "softplus": lambda y: F.softplus(y), "group_norm": lambda y: F.group_norm(y, 4), "pad_with_ones": lambda y: F.pad(y, (0, 1, 0, 1), value=1.0),
    "reflect": lambda y: F.pad(y, (1, 1, 1, 1), mode="reflect"), "clamp": lambda y: y.clamp(-1, 0.5), "where": lambda y: torch.where(y > 0, y, 0.1 * y),
    "alpha_dropout": lambda y: F.alpha_dropout(y, 0.3, True), "transpose": lambda y: y.transpose(2, 3),
    "roll": lambda y: torch.roll(y, 1, 2), "no_grad": lambda y: y + torch.no_grad()(lambda z: z.square())(y), "detach": lambda y: y + y.detach(),
    "einsum": lambda y: torch.einsum("nchw,nkhw->nchw", y, y), "view_write": lambda y: write_view(y), "float64": lambda y: y.double().square().float(),
    "grow": lambda y: y.mean((2, 3), keepdim=True) * torch.ones(1, 1, 10, 10), "bicubic": lambda y: F.interpolate(y, scale_factor=2, mode="bicubic"),
    "halves": lambda y: torch.cat(torch.chunk(y, 2, 0)[::-1]), "five": lambda y: y.view(4, 4, 4, 10, 10).sum(1).repeat(1, 4, 1, 1), "largest_channel": lambda y: y * torch.sigmoid(y.max(1, keepdim=True)[0]),
}


def write_view(y):
    z = y.clone()
    z[:, :4] += 1
    return z


@pytest.mark.parametrize("name", BETWEEN)
def test_operators(name):
    class Net(With):
        def __init__(self):
            super().__init__(BETWEEN[name])
    check(Net(), x())


def test_relu_in_place_on_what_is_read_again():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            y = self.a(x)
            z = F.silu(y, inplace=True)  # y is z now
            return self.b(z) + y
    assert check(Net(), x(), regions=1).complete


def test_write_into_the_argument_reaches_the_caller():
    class Net(Small):
        def forward(self, x):
            x.sub_(0.5)
            return super().forward(x)
    torch.manual_seed(0)
    model = Net()
    eager = copy.deepcopy(model)
    bnff.compile(model)
    a, b = x(), x()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(model(a), eager(b), rtol=1e-4, atol=1e-5)
    assert torch.equal(a, b)


class ByNumbers(nn.Module):
    """Control flow that depends on the data: its parts still run in the engine."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.tail = body(), nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        y = self.body(x)
        if y.mean() > 0:
            y = self.tail(y)
        return self.fc(y.mean((2, 3)))


def test_control_flow_by_numbers():
    e = check(ByNumbers(), x())
    assert not e.regions and e.reason and len(e.parts) == 2 and all(p.complete for p in e.parts), str(e)


def test_random_numbers_of_python():
    class Net(Small):
        def forward(self, x):
            return super().forward(x) * random.random()
    torch.manual_seed(0)
    check(Net(), x())


def test_state_changed_by_forward():
    class Net(Small):
        calls = 0

        def forward(self, x):
            self.calls = self.calls + 1
            self.last = x.mean()
            return super().forward(x)
    torch.manual_seed(0)
    model = Net()
    check(model, x())
    assert model.calls == 2 and type(model.last) is torch.Tensor


def test_autograd_function_keeps_its_backward():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, g):
            return 2 * g
    e = check(With(Double.apply), x())
    assert len(e.regions) == 2 and any("Double" in f[1] for f in e.fallbacks), str(e)


def test_checkpointing_needs_nothing():
    from torch.utils.checkpoint import checkpoint

    class Net(With):
        def forward(self, x):
            y = checkpoint(self.first, x, use_reentrant=self.reentrant)
            return self.fc(self.second(y).mean((2, 3)))
    for reentrant in (False, True):
        model = Net(nn.Identity())
        model.reentrant = reentrant
        eager = copy.deepcopy(model)
        bnff.compile(model)
        a, b = x().requires_grad_(), x().requires_grad_()
        step(model, a), step(eager, b)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
        assert bnff.explain(model, x().requires_grad_()).regions


def test_weight_norm_and_parametrization():
    model = With(nn.Identity())
    torch.nn.utils.parametrizations.weight_norm(model.second[0])
    torch.nn.utils.parametrizations.spectral_norm(model.first[3])  # it writes into its buffers by out=
    assert check(model, x(), regions=1).complete


def test_shared_weights():
    class Net(With):
        def forward(self, x):
            y = self.first(x)
            return self.fc(self.second(self.second(y)).mean((2, 3)))
    assert check(Net(nn.Identity()), x(), regions=1).complete


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    torch.manual_seed(0)
    model = Small().to(dtype)
    eager = copy.deepcopy(model)
    bnff.compile(model)
    with pytest.warns(UserWarning, match="not float32"):
        a = step(model, x().to(dtype))
    b = step(eager, x().to(dtype))
    assert torch.equal(a[0], b[0]) and a[0].dtype == dtype


def test_autocast_runs_in_float32_and_says_so_once():
    ours, eager = pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.warns(UserWarning, match="float32 under autocast"):
            a = step(ours, x())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours(x())
    b = step(eager, x())
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_autocast_inside_a_forward():
    """What runs under it is compiled by itself."""
    class Net(With):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.second(self.first(x))
            return self.fc(y.float().mean((2, 3)))
    torch.manual_seed(0)
    model = Net(nn.Identity())
    eager = copy.deepcopy(model)
    bnff.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = step(model, x()), step(eager, x())
    torch.testing.assert_close(a, b, rtol=0.1, atol=0.1)  # eager computes in bfloat16, of 8 bits
    assert len(bnff.explain(model, x()).parts) == 2


def test_one_warning():
    model = With(nn.Softplus())
    bnff.compile(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (2, 3, 4):
            step(model, x(n))
    assert len(caught) == 1 and "softplus" in str(caught[0].message)


def test_wrong_input_fails_as_in_eager():
    ours, eager = pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for bad in (torch.randn(2, 4, 8, 8), torch.randn(3), None):
            with pytest.raises(Exception) as a:
                eager(bad)
            with pytest.raises(type(a.value)):
                ours(bad)


def test_batchnorm_of_one_value():
    ours, eager = pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for m in (ours, eager):
            with pytest.raises(ValueError, match="more than 1 value"):
                m(torch.randn(1, 3, 1, 1))


def test_transforms_see_the_original():
    ours, eager = pair()
    params = {k: v.detach() for k, v in ours.named_parameters()}
    buffers = {k: v.detach() for k, v in ours.named_buffers()}
    ours.eval(), eager.eval()
    f = lambda m: lambda p, z: torch.func.functional_call(m, (p, buffers), (z,)).square().sum()
    a, b = torch.func.grad(f(ours))(params, x()), torch.func.grad(f(eager))(params, x())
    for k in a:
        torch.testing.assert_close(a[k], b[k], rtol=1e-4, atol=1e-5)


def test_functional_call_uses_the_given_parameters():
    ours, eager = pair()
    other = {k: v.detach() * 1.5 for k, v in ours.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(ours, other, (x(),)), torch.func.functional_call(eager, other, (x(),)), rtol=1e-4, atol=1e-5)


def test_lone_layers_are_not_worth_it():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    bnff.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(torch.randn(3, 8))
    assert isinstance(programs(model)[0], Declined)


def test_explain_changes_nothing():
    ours, eager = pair()
    before = copy.deepcopy(ours.state_dict())
    text = str(bnff.explain(ours, x()))
    assert "batch normalizations fused" in text and bnff.explain(ours, x()).regions[0].json
    for k, v in ours.state_dict().items():
        assert torch.equal(v, before[k])
    fresh = Small()
    assert bnff.explain(fresh, x()).complete and "forward" not in fresh.__dict__


def test_compile_refuses_what_is_no_module():
    with pytest.raises(TypeError):
        bnff.compile(lambda y: y)
