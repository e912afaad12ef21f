"""Every operator of the engine, in every setting that has a meaning of its own: between convolutions, in one region, as in eager."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bnff
from support import With, check, step, x


def shuffled(y, groups, how):
    n, c, h, w = y.shape
    if how == "transpose":
        return y.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
    if how == "permute":
        return y.reshape(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)
    if how == "flatten":
        return torch.flatten(y.unflatten(1, (groups, c // groups)).swapaxes(1, 2), 1, 2)
    return F.channel_shuffle(y, groups)


def drop_path(y, p, how):
    shape = (y.shape[0], 1, 1, 1)
    if how == "new_empty":
        return y * y.new_empty(shape).bernoulli_(1 - p).div_(1 - p)
    if how == "floor":
        return y.div(1 - p) * (torch.rand(shape, dtype=y.dtype, device=y.device) + 1 - p).floor_()
    if how == "like":
        return y * (torch.rand_like(y) > p).to(y.dtype) / (1 - p)
    if how == "batch":
        return y * torch.empty([1] * 4).bernoulli_(1 - p)
    return y * torch.empty(shape).bernoulli_(1 - p)


def gate(y, g):
    """y times one number a channel, N x C."""
    return y * torch.sigmoid(g)[:, :, None, None]


MEANS = {  # all the ways to say global average pooling that programs use, and other means and sums
    "list": lambda y: gate(y, y.mean([2, 3])), "axis": lambda y: gate(y, torch.mean(y, axis=(-1, -2))), "keepdims": lambda y: y * y.mean(axis=(2, 3), keepdims=True),
    "flatten": lambda y: gate(y, y.flatten(2).mean(-1)), "view": lambda y: gate(y, y.view(y.size(0), y.size(1), -1).mean(2)),
    "view_kept": lambda y: y * y.reshape(*y.shape[:2], -1).mean(-1, keepdim=True).unsqueeze(-1), "twice": lambda y: gate(y, y.mean(3).mean(2)),
    "rows_first": lambda y: gate(y, y.mean(-2).mean(-1)), "pool": lambda y: gate(y, F.avg_pool2d(y, y.shape[2:]).squeeze(-1).squeeze(-1)),
    "pool_view": lambda y: y * F.avg_pool2d(y, y.size()[2:]).view(y.size(0), -1)[..., None, None],
    "columns": lambda y: y * torch.sigmoid(y.mean(3, keepdim=True)) + y.mean(2, keepdim=True), "channels": lambda y: y + y.mean(1).unsqueeze(1),
    "sum": lambda y: gate(y, y.sum((2, 3)) / 50), "sum_flat": lambda y: gate(y, 0.02 * torch.sum(y.flatten(2), 2)), "sum_channels": lambda y: y * torch.sigmoid(y.sum(1, True)),
    "there_and_back": lambda y: y.flatten(2).relu().view(y.shape),
}
BETWEEN = {
    "pool_of_a_side": lambda y: gate(y, F.avg_pool2d(y, y.size(3))[:, :, 0, 0]),
    **{f"shuffle_{how}": lambda y, how=how: shuffled(y, 4, how) for how in ("transpose", "permute", "flatten", "function")},
    **{f"resize_{i}": lambda y, k=k: F.interpolate(y, **k) for i, k in enumerate((
        {"scale_factor": 2}, {"size": (7, 13)}, {"scale_factor": (1.7, 0.6)}, {"scale_factor": 1.3, "recompute_scale_factor": True},
        {"scale_factor": 2, "mode": "bilinear"}, {"size": (7, 13), "mode": "bilinear"}, {"size": 5, "mode": "bilinear", "align_corners": True},
        {"scale_factor": 1.7, "mode": "bilinear", "align_corners": True}, {"scale_factor": 0.6, "mode": "bilinear", "align_corners": False}))},
    "upsample": nn.Upsample(scale_factor=2), "upsampling_bilinear": nn.UpsamplingBilinear2d(scale_factor=2),
    **{f"pad_{i}": lambda y, p=p: F.silu(F.pad(y, p))[:, :16] for i, p in enumerate((
        (1, 1), (0, 1, 0, 1), (1, 0, 2, 1), (2, 2, 2, 2), (-1, 0, 0, -2), (-1, 2, 1, -1), (0, 0, 0, 0, 1, 2), (1, 0, 0, 1, 0, 3)))},
    "zero_pad": nn.ZeroPad2d((1, 2, 0, 1)), "pad_into_convolution": nn.ZeroPad2d(2),
    "option_a": lambda y: F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))[:, 2:18], "crop": lambda y: y[..., 1:, 2:-1], "every_third": lambda y: y[:, :, 1::3, ::2],
    "adaptive_max": lambda y: F.adaptive_max_pool2d(y, (3, 4)), "adaptive_max_1": lambda y: y * torch.sigmoid(F.adaptive_max_pool2d(y, 1)),
    "adaptive_avg": lambda y: F.adaptive_avg_pool2d(y, (None, 3)),
    "dropout": lambda y: F.dropout(y, 0.3, True), "dropout_in_place": lambda y: F.dropout(y * 2, 0.3, True, True),
    "dropout2d": lambda y: F.dropout2d(y, 0.3, True), "two_dropouts": lambda y: F.dropout2d(F.dropout(y, 0.5), 0.3) + F.dropout(y, 0.1),
    **{f"drop_path_{how}": lambda y, how=how: y + drop_path(y, 0.4, how) for how in ("new_empty", "floor", "batch", "row")},
    "spatial_gate": lambda y: y * torch.sigmoid(y.mean(1, keepdim=True)), "add_spread": lambda y: y + y.mean((2, 3), keepdim=True) - y.mean(1, True),
    "gate_expanded": lambda y: y * torch.sigmoid(F.adaptive_avg_pool2d(y, 1).view(y.size(0), y.size(1))).view(y.size(0), y.size(1), 1, 1).expand_as(y),
    "expanded_gate_first": lambda y: y.mean((2, 3), keepdim=True).expand(-1, -1, 10, 10) * y, "prelu": nn.PReLU(16),
    "outer_product": lambda y: y.mean(1, keepdim=True) * y.mean((2, 3), keepdim=True), "asserted": lambda y: (torch._assert(y.ndim == 4, "4D"), y)[1],
    "columns": lambda y: y * torch.ones(1, 1, 1, 10) + torch.full((1, 16, 10, 10), 0.5), "sum": lambda y: sum([y, F.silu(y)]),
    "scalars": lambda y: 1 - (2 * y - 3) / 4, "normalised": lambda y: (y - torch.full((1, 16, 1, 1), 0.5)) / torch.full((16, 1, 1), 2.0),
    "hard": lambda y: y * F.relu6(y + 3) / 6, "gelu": F.gelu, "elu": lambda y: F.elu(y, 0.5), "celu_alike": nn.ELU(0.7), "mish": F.mish,
    "leaky": nn.LeakyReLU(0.2), "tanh": torch.tanh, "hardtanh": lambda y: F.hardtanh(y, 0.0, 6.0), "expit": torch.special.expit,
}


class Between(With):
    def __init__(self, name):
        super().__init__(BETWEEN[name])


@pytest.mark.parametrize("name", BETWEEN)
def test_operator(name):
    e = check(Between(name), x(), regions=1)
    assert e.complete, str(e)


@pytest.mark.parametrize("name", MEANS)
def test_means(name):
    e = check(With(MEANS[name]), torch.randn(3, 3, 8, 6, generator=torch.Generator().manual_seed(0)), regions=1)
    assert e.complete, str(e)


@pytest.mark.parametrize("settings", [
    {"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "dilation": (2, 1), "bias": False}, {"kernel_size": 3, "stride": 2, "groups": 4}], ids=str)
def test_transposed_convolution(settings):
    torch.manual_seed(0)
    e = check(With(nn.ConvTranspose2d(16, 16, **settings)), x(), regions=1)
    assert e.complete and e.regions[0].convolutions == 4, str(e)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [3, (4, 5), 2])
def test_named_padding(padding, kernel):
    torch.manual_seed(0)
    assert check(With(nn.Conv2d(16, 16, kernel, padding=padding, dilation=1)), x(), regions=1).complete


class Learnt(nn.Module):
    def __init__(self, *shape, operation=torch.mul):
        super().__init__()
        self.number, self.operation = nn.Parameter(torch.full(shape, 0.7)), operation

    def forward(self, y):
        return self.operation(y, self.number)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (16, 1, 1), (1, 16, 1, 1)], ids=str)
@pytest.mark.parametrize("operation", [torch.mul, torch.add, torch.sub, torch.div], ids=lambda f: f.__name__)
def test_learnt_numbers(shape, operation):
    assert check(With(Learnt(*shape, operation=operation)), x(), regions=1).complete


def test_random_numbers_are_drawn_in_eagers_order():
    """Masks of the engine's layers and of PyTorch's, taking turns; afterwards the generator stands where eager's does."""
    def between(y):
        y = F.dropout(y, 0.2)
        y = F.softplus(y) * torch.rand(y.shape[0], 1, 1, 1)
        return y + F.dropout(F.dropout2d(y, 0.2), 0.3, inplace=True) * F.alpha_dropout(y, 0.1)
    model = With(between)
    eager = copy.deepcopy(model)
    bnff.compile(model)
    with pytest.warns(UserWarning, match="softplus"):
        for m in (model, eager):
            torch.manual_seed(3)
            m.results = step(m, x()), torch.rand(3)
    torch.testing.assert_close(model.results, eager.results, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.results[1], eager.results[1])


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_masks_in_both_memory_formats(form):
    """A mask is drawn in the order in which its elements lie in memory."""
    model = With(lambda y: F.dropout(y, 0.5)).to(memory_format=form)
    assert check(model, x().to(memory_format=form), regions=1).complete


def test_padding_in_front_of_a_convolution_costs_nothing():
    e = check(With(nn.Identity()), x(), regions=1)
    padded = check(With(nn.ZeroPad2d(1)), x(), regions=1)
    assert padded.regions[0].operators == e.regions[0].operators


def test_write_into_a_view_whose_base_is_not_read_again():
    class Net(With):
        def forward(self, x):
            y = torch.flatten(F.adaptive_avg_pool2d(self.second(self.first(x)), 1), 1)
            return self.fc(F.dropout(y, 0.3, inplace=True))
    assert check(Net(nn.Identity()), x(), regions=1).complete


def test_shuffle_that_is_read_half_way():
    """A tensor of five dimensions does not leave a region: the shuffle around it runs in PyTorch."""
    class Net(With):
        def forward(self, x):
            y = self.first(x)
            halves = y.view(4, 2, 8, 10, 10).transpose(1, 2)
            return self.fc(self.second(halves.reshape(4, 16, 10, 10)).mean((2, 3))), halves
    e = check(Net(nn.Identity()), x())
    assert e.regions and not e.complete
