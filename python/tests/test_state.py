"""What a forward may look at is looked at in every call, quickly where nothing has changed."""
import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bnff
from bnff import _state
from support import Small, assert_close_models, assert_ran, body, programs, step, x


class Flexible(Small):
    """A forward that depends on attributes of all kinds, of its own and of a part."""

    def __init__(self):
        super().__init__()
        self.factor, self.sizes, self.settings, self.names, self.function, self.shift = 1.0, [1, 2], {"scale": 1.0}, {"a"}, F.silu, torch.zeros(24, 1, 1)
        self.part = nn.Module()
        self.part.pair, self.part.nested = (1, 2), {"depth": (1, [2])}

    def forward(self, x):
        y = self.function(self.bn1(self.conv1(x))) * self.factor * self.sizes[-1] * self.settings["scale"] * len(self.names) * self.part.pair[0]
        y = self.bn2(self.conv2(y + self.shift)) if self.training else self.conv2(y)
        return self.fc(y.mean((2, 3)))


def change_hooks(m):
    m.bn2._forward_hooks[7] = lambda module, args, out: out * 2  # not by way of register_forward_hook


def tie(m):
    m.bn2.weight = m.bn1.weight


def assign(m, **attributes):
    for name, v in attributes.items():
        setattr(m, name, v)


CHANGES = {
    "number": lambda m: assign(m, factor=2.0), "list": lambda m: m.sizes.append(3), "item": lambda m: m.sizes.__setitem__(1, 5), "dict": lambda m: m.settings.update(scale=3.0),
    "set": lambda m: m.names.add("b"), "function": lambda m: assign(m, function=F.relu), "tuple": lambda m: assign(m.part, pair=(2, 2)), "training": lambda m: m.eval(),
    "part_training": lambda m: m.bn1.eval(), "momentum": lambda m: assign(m.bn1, momentum=0.5), "eps": lambda m: assign(m.bn1, eps=0.1), "stride": lambda m: assign(m.conv2, stride=(2, 2)),
    "dictionary": lambda m: m.bn1.__dict__.update(eps=0.1), "frozen": lambda m: m.conv2.weight.requires_grad_(False), "module": lambda m: assign(m, bn2=nn.Identity()),
    "class": lambda m: assign(m.act, __class__=nn.Identity), "hooks": change_hooks, "tied": tie, "no_bias": lambda m: assign(m.conv2, bias=None),
    "smaller": lambda m: assign(m.fc.weight, data=m.fc.weight.data[:3].clone()) or assign(m.fc.bias, data=m.fc.bias.data[:3].clone()),
    "tensor": lambda m: assign(m, shift=torch.ones(24, 1, 1)), "tensor_of_other_shape": lambda m: assign(m, shift=torch.ones(1, 1)), "forward": lambda m: assign(m.act, forward=lambda y: y),
    "buffer": lambda m: assign(m.bn2, running_mean=None, running_var=None), "double": lambda m: m.double(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_seen(name):
    torch.manual_seed(0)
    ours = Flexible()
    eager = bnff.restore(copy.deepcopy(bnff.compile(ours)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(4):
            if i == 2:
                CHANGES[name](ours), CHANGES[name](eager)
            images = x(4, 10 + i % 2).to(ours.fc.weight.dtype)
            ours.zero_grad(), eager.zero_grad()
            a, b = step(ours, images)[0].detach(), step(eager, images)[0].detach()
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert_close_models(ours, eager)


def test_what_does_not_matter_is_not_looked_at_again(monkeypatch):
    """Steps that change numbers only are found unchanged, without the slow look."""
    ours = bnff.compile(Small())
    optimizer = torch.optim.SGD(ours.parameters(), 0.01)
    looks = []
    make = _state.State.__init__
    monkeypatch.setattr(_state.State, "__init__", lambda self, module: (looks.append(module), make(self, module))[1])
    for i in range(6):
        optimizer.zero_grad()
        step(ours, x(4, 10 + i % 2))
        optimizer.step()
        if i == 3:
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))
            ours.register_state_dict_pre_hook(lambda *_: None)
    assert looks == [ours]
    assert len(programs(ours)) == 2


def test_back_to_a_state_is_no_new_program():
    ours = bnff.compile(Small())
    for _ in range(3):
        step(ours.train(), x())
        with torch.no_grad():
            ours.eval()(x())
    assert len(programs(ours)) == 2 and [p.runs for p in programs(ours)] == [3, 3]


class Counting(nn.Module):
    """Something changes at every call, as far as one can see from outside."""

    def __init__(self):
        super().__init__()
        self.body, self.fc, self.calls = body(), nn.Linear(16, 3), 0

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def test_changes_at_every_call_are_given_up():
    """They are not recorded for ever: the parts run in the engine, and the module again when it has come to rest."""
    torch.manual_seed(0)
    ours = Counting()
    eager = copy.deepcopy(ours)
    bnff.compile(ours)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(30):
            ours.calls += 1
            step(ours, x()), step(eager, x())
        states = ours.forward.states
        assert states <= 12
        assert_close_models(ours, eager)
        for i in range(40):
            step(ours, x())
    assert ours.forward.states == states + 1
    assert [str(w.message) for w in caught if "calls changes at every call" in str(w.message)]
    before = programs(ours)[-1].runs
    step(ours, x())
    assert programs(ours)[-1].runs == before + 1


def test_lazy_layers_are_made_by_the_first_call():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.SiLU(), nn.Flatten(), nn.LazyLinear(3))
    bnff.compile(ours)
    ours(x())
    eager = bnff.restore(copy.deepcopy(ours))
    ours.zero_grad()
    for a, b in zip(step(ours, x()), step(eager, x())):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert_close_models(ours, eager)
    assert_ran(ours, x())
