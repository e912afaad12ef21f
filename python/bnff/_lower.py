"""Which torch functions the engine computes, and how each is said in its graph.

A rule takes a node's own arguments, under the names PyTorch gives them, and returns a `Lowered`; or it raises `Refuse` with the reason, and
the node runs in PyTorch. Rules see shapes and types only. Feature maps are N x C x H x W values, or N x F ones: then H = W = 1, except
that a flattened feature map remembers the C, H and W it came from, for the linear layer that follows.
"""
import torch
import torch.nn.functional as F

from . import _native as n


class Refuse(Exception):
    """This call cannot be computed by the engine; the text says why."""


class Lowered:
    """How a node is built: emit(builder) makes the engine value of its (first) result."""

    def __init__(self, emit, operands, batch, is_conv=False, form=None):
        self.emit, self.operands, self.batch, self.is_conv, self.form = emit, operands, batch, is_conv, form


RULES = {}


def rule(*functions):
    def register(function):
        for f in functions:
            RULES[f] = function
        return function
    return register


def consider(node):
    """Set node.lowered, or node.reason."""
    node.lowered, node.reason = None, ""
    function = RULES.get(node.func)
    if function is None:
        node.reason = f"{node.name} is not one of the engine's operators"
        return
    try:
        if any(v.outer for v in node.mutates) and function not in (batch_norm,):
            raise Refuse("it writes into an argument, a parameter or a buffer")
        lowered = function(node, *node.args, **node.kwargs)
        lowered.batch = lowered.operands[0].shape[0]
        if any(v.shape[0] != lowered.batch for v in lowered.operands):
            raise Refuse("its operands have different numbers of images")
        node.lowered = lowered
        for out in node.outs:
            if out is not None:
                out.form = lowered.form
    except Refuse as reason:
        node.reason = str(reason)
    except TypeError:
        node.reason = "it is called with arguments that are not known here"


# -- checks --

def _need(condition, reason):
    if not condition:
        raise Refuse(reason)


def _float(value):
    _need(hasattr(value, "shape"), "an operand is a number")
    _need(value.dtype == torch.float32, f"its type is {str(value.dtype).removeprefix('torch.')}, not float32")
    _need(value.device == "cpu" and value.strided, "it is not a dense tensor in this machine's memory")


def _map(value, ranks=(4,)):
    """A feature map that depends on the input."""
    _float(value)
    _need(value.depends, "it computes with parameters alone")
    _need(len(value.shape) in ranks, f"its operand has {len(value.shape)} dimensions")
    _need(all(value.shape), "its operand is empty")
    return value


def _param(value, rank):
    _float(value)
    _need(not value.depends or value.kind == "input", "its weight is computed from the input")  # a leaf may well be an argument
    _need(len(value.shape) == rank and all(value.shape), f"its weight has {len(value.shape)} dimensions")
    return value


def _two(x, what):
    if isinstance(x, int):
        return (x, x)
    if isinstance(x, (tuple, list)) and len(x) == 1 and isinstance(x[0], int):
        return (x[0], x[0])
    _need(isinstance(x, (tuple, list)) and len(x) == 2 and all(isinstance(i, int) for i in x), f"its {what} is not a pair of numbers")
    return tuple(x)


def chw(value):
    """C, H, W of a value as the engine has it."""
    if value.form:
        return value.form
    return tuple(value.shape[1:]) if len(value.shape) == 4 else (value.shape[1], 1, 1)


# -- convolutions and linear layers --

@rule(torch.conv2d, F.conv2d)
def conv2d(node, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    x = _map(input)
    _param(weight, 4)
    if bias is not None:
        _param(bias, 1)
    kernel, stride, dilation = weight.shape[2:], _two(stride, "stride"), _two(dilation, "dilation")
    if padding == "valid":
        padding = 0
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        _need(all(t % 2 == 0 for t in total), "its padding is not the same on both sides")
        padding = [t // 2 for t in total]
    padding = _two(padding, "padding")
    return Lowered(lambda b: b.conv2d(node.scope, b.value(x), weight, bias, kernel, stride, padding, dilation, groups), [x], 0, is_conv=True)


@rule(F.linear, torch._C._nn.linear)
def linear(node, input, weight, bias=None):
    x = _map(input, (2,))
    _param(weight, 2)
    if bias is not None:
        _param(bias, 1)
    return Lowered(lambda b: b.linear(node.scope, b.value(x), weight, bias), [x], 0)


# -- batch normalization --

@rule(F.batch_norm)
def batch_norm(node, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    x = _map(input, (4, 2))
    _need(x.form is None or x.form[1:] == (1, 1), "it normalises a flattened feature map")
    for value in (running_mean, running_var, weight, bias):
        if value is not None:
            _param(value, 1)
    _need((running_mean is None) == (running_var is None), "it has only one of the running statistics")
    _need(running_mean is None or (running_mean.is_leaf and running_var.is_leaf), "its running statistics are computed")
    _need(isinstance(eps, float) and eps > 1e-38, "its eps is 0")
    _need(isinstance(momentum, (int, float)) and 0 <= momentum <= 1, "its momentum is not between 0 and 1")
    batch_statistics = bool(training)
    if batch_statistics and running_mean is not None:
        node.effect = True
    return Lowered(lambda b: b.batchnorm(node.scope, b.value(x), weight, bias, running_mean, running_var, batch_statistics, float(momentum), eps), [x], 0)


@rule(torch.batch_norm)
def torch_batch_norm(node, input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled=True):
    return batch_norm(node, input, running_mean, running_var, weight, bias, training, momentum, eps)


# -- elementwise --

def _elementwise(node, x, kind, slope=0.0):
    x = _map(x, (4, 2))
    return Lowered(lambda b: b.graph.activate(b.value(x), kind, slope), [x], 0, form=x.form)


@rule(F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)
def relu(node, input, inplace=False):
    return _elementwise(node, input, n.RELU)


@rule(F.relu6)
def relu6(node, input, inplace=False):
    return _elementwise(node, input, n.RELU6)


@rule(F.hardtanh)
def hardtanh(node, input, min_val=-1.0, max_val=1.0, inplace=False):
    _need(min_val == 0 and max_val == 6, "only hardtanh from 0 to 6 is")
    return _elementwise(node, input, n.RELU6)


@rule(torch.clamp, torch.Tensor.clamp, torch.Tensor.clamp_)
def clamp(node, input, min=None, max=None):
    _need(type(min) in (int, float) and type(max) in (int, float) and min == 0 and max == 6, "only clamping from 0 to 6 is")
    return _elementwise(node, input, n.RELU6)


@rule(F.leaky_relu)
def leaky_relu(node, input, negative_slope=0.01, inplace=False):
    return _elementwise(node, input, n.LEAKY_RELU, float(negative_slope))


@rule(F.silu)
def silu(node, input, inplace=False):
    return _elementwise(node, input, n.SILU)


@rule(F.hardswish)
def hardswish(node, input, inplace=False):
    return _elementwise(node, input, n.HARDSWISH)


@rule(torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, F.sigmoid)
def sigmoid(node, input):
    return _elementwise(node, input, n.SIGMOID)


@rule(F.hardsigmoid)
def hardsigmoid(node, input, inplace=False):
    return _elementwise(node, input, n.HARDSIGMOID)


@rule(F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout)
def dropout(node, input, p=0.5, training=True, inplace=False):
    _need(not training or p == 0, "its mask is drawn by PyTorch, so that it is the same as without the engine")
    x = _map(input, (4, 2))
    node.random, node.effect = False, False
    return Lowered(lambda b: b.value(x), [x], 0, form=x.form)


@rule(torch.Tensor.contiguous, torch.Tensor.clone, torch.clone)
def same(node, input, memory_format=None):
    x = _map(input, (4, 2))
    return Lowered(lambda b: b.value(x), [x], 0, form=x.form)


@rule(torch.tanh, torch.tanh_, torch.Tensor.tanh, torch.Tensor.tanh_, F.tanh)
def tanh(node, input):
    return _elementwise(node, input, n.TANH)


@rule(F.gelu, torch._C._nn.gelu)
def gelu(node, input, approximate="none"):
    _need(approximate == "none", "it approximates gelu")
    return _elementwise(node, input, n.GELU)


@rule(F.elu)
def elu(node, input, alpha=1.0, inplace=False):
    return _elementwise(node, input, n.ELU, float(alpha))


@rule(F.mish)
def mish(node, input, inplace=False):
    return _elementwise(node, input, n.MISH)


# -- arithmetic --

def _is_number(x):
    return type(x) in (int, float)


def _scale(node, x, factor=1.0, offset=0.0):
    x = _map(x, (4, 2))
    _need(abs(factor) > 1e-30 and abs(factor) < 1e30 and abs(offset) < 1e30, "its number is zero or extreme")
    return Lowered(lambda b: b.scale(node.scope, b.value(x), None, None, factor, offset), [x], 0, form=x.form)


def _per_channel(node, x, weight=None, bias=None):
    """x times weight or plus bias, learnt numbers of each channel, or one for all."""
    x, p = _map(x, (4, 2)), weight if weight is not None else bias
    _float(p)
    c = x.shape[1]
    _need(x.form is None, "it scales a flattened feature map")
    _need(tuple(p.shape) in ((1, c) + (1,) * (len(x.shape) - 2), (c,) + (1,) * (len(x.shape) - 2)), "its parameter is not one number a channel")
    return Lowered(lambda b: b.scale(node.scope, b.value(x), weight, bias, 1.0, 0.0), [x], 0)


def _same_shape(a, b):
    _map(a, (4, 2)), _map(b, (4, 2))
    _need(a.shape == b.shape and a.form == b.form, "its operands have different shapes")


@rule(torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__, torch.Tensor.__iadd__, torch.Tensor.__radd__)
def add(node, input, other, alpha=1):
    _need(alpha == 1, "its second operand is scaled")
    if _is_number(input):
        input, other = other, input
    if _is_number(other):
        return _scale(node, input, offset=other)
    _need(hasattr(other, "depends") and hasattr(input, "depends"), "an operand is neither a tensor nor a number")
    if not input.depends:
        input, other = other, input
    if not other.depends:
        return _per_channel(node, input, bias=other)
    _same_shape(input, other)
    return Lowered(lambda b: b.graph.add(b.value(input), b.value(other)), [input, other], 0, form=input.form)


def _subtract(node, a, b_):
    if _is_number(b_):
        return _scale(node, a, offset=-b_)
    if _is_number(a):
        return _scale(node, b_, factor=-1.0, offset=a)
    _need(hasattr(a, "depends") and hasattr(b_, "depends"), "an operand is neither a tensor nor a number")
    _same_shape(a, b_)
    return Lowered(lambda b: b.graph.add(b.value(a), b.scale(node.scope, b.value(b_), None, None, -1.0, 0.0)), [a, b_], 0, form=a.form)


@rule(torch.sub, torch.Tensor.sub, torch.Tensor.sub_, torch.Tensor.__sub__, torch.Tensor.__isub__)
def sub(node, input, other, alpha=1):
    _need(alpha == 1, "its second operand is scaled")
    return _subtract(node, input, other)


@rule(torch.rsub, torch.Tensor.__rsub__)
def rsub(node, input, other, alpha=1):
    _need(alpha == 1, "its second operand is scaled")
    return _subtract(node, other, input)


@rule(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def neg(node, input):
    return _scale(node, input, factor=-1.0)


@rule(torch.div, torch.Tensor.div, torch.Tensor.div_, torch.true_divide, torch.Tensor.__truediv__, torch.Tensor.__itruediv__)
def div(node, input, other, rounding_mode=None):
    _need(rounding_mode is None and _is_number(other) and other != 0, "only division by a number is")
    return _scale(node, input, factor=1.0 / other)


@rule(torch.mul, torch.Tensor.mul, torch.Tensor.mul_, torch.Tensor.__mul__, torch.Tensor.__imul__, torch.Tensor.__rmul__, torch.multiply)
def mul(node, input, other):
    if _is_number(input):
        input, other = other, input
    if _is_number(other):
        return _scale(node, input, factor=other)
    _need(hasattr(other, "depends") and hasattr(input, "depends"), "an operand is neither a tensor nor a number")
    if not input.depends:
        input, other = other, input
    if not other.depends:
        return _per_channel(node, input, weight=other)
    x, gate = _map(input, (4, 2)), _map(other, (4, 2))
    if x.shape == gate.shape:
        _need(x.form == gate.form, "its operands have different shapes")
        return Lowered(lambda b: b.graph.mul(b.value(x), b.value(gate)), [x, gate], 0, form=x.form)
    _need(len(x.shape) == len(gate.shape) == 4, "its operands have different shapes")
    if x.shape[2:] == (1, 1):
        x, gate = gate, x
    _need(gate.shape == (*x.shape[:2], 1, 1), "only a product with one number a channel is")
    return Lowered(lambda b: b.graph.mul_gate(b.value(x), b.value(gate)), [x, gate], 0)


# -- channels --

@rule(torch.cat, torch.concat)
def cat(node, tensors, dim=0):
    _need(isinstance(tensors, (tuple, list)) and tensors, "its operands are not a list")
    for x in tensors:
        _map(x, (4, 2))
        _need(x.form is None or x.form[1:] == (1, 1), "it concatenates flattened feature maps")
        _need(len(x.shape) == len(tensors[0].shape) and x.shape[2:] == tensors[0].shape[2:], "its operands have different shapes")
    _need(dim in (1, 1 - len(tensors[0].shape)), "it concatenates along another dimension than the channels")
    xs = list(tensors)
    return Lowered(lambda b: b.graph.concat([b.value(x) for x in xs]), xs, 0)


def _piece(node, x, first, channels):
    x = _map(x, (4, 2))
    _need(x.form is None, "it cuts a flattened feature map")
    return lambda b: b.graph.slice(b.value(x), first, channels)


def _pieces(node, x, sizes):
    """Several results: emit makes them all."""
    x = _map(x, (4, 2))
    first, emits = 0, []
    for size in sizes:
        emits.append(_piece(node, x, first, size))
        first += size
    return Lowered(lambda b: [emit(b) for emit in emits], [x], 0)


@rule(torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split)
def chunk(node, input, *_, dim=None, **__):
    x = _map(input, (4, 2))
    shapes = [v.shape for v in node.outs]
    _need(all(s[:1] + s[2:] == x.shape[:1] + x.shape[2:] for s in shapes) and sum(s[1] for s in shapes) == x.shape[1], "it does not cut along the channels")
    return _pieces(node, x, [s[1] for s in shapes])


@rule(torch.Tensor.__getitem__)
def getitem(node, input, index):
    x = _map(input, (4, 2))
    index = index if isinstance(index, tuple) else (index,)
    _need(2 <= len(index) <= len(x.shape) and all(isinstance(i, slice) for i in index), "only a slice of the channels is")
    _need(all(i == slice(None) for k, i in enumerate(index) if k != 1), "only a slice of the channels is")
    first, last, stride = index[1].indices(x.shape[1])
    _need(stride == 1 and last > first, "its slice has a step, or is empty")
    return Lowered(_piece(node, x, first, last - first), [x], 0)


@rule(torch.narrow, torch.Tensor.narrow)
def narrow(node, input, dim, start, length):
    x = _map(input, (4, 2))
    _need(dim in (1, 1 - len(x.shape)) and isinstance(start, int) and start >= 0, "only a slice of the channels is")
    return Lowered(_piece(node, x, start, length), [x], 0)


# -- pooling --

@rule(F.max_pool2d, torch.max_pool2d)
def max_pool2d(node, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    x = _map(input)
    _need(not return_indices, "it returns indices")
    kernel = _two(kernel_size, "window")
    stride = _two(stride if stride else kernel, "stride")
    padding, dilation = _two(padding, "padding"), _two(dilation, "dilation")
    return Lowered(lambda b: b.graph.maxpool(b.value(x), kernel, stride, padding, dilation, bool(ceil_mode)), [x], 0)


@rule(F.avg_pool2d, torch._C._nn.avg_pool2d)
def avg_pool2d(node, input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    x = _map(input)
    _need(divisor_override is None, "it divides by a given number")
    kernel = _two(kernel_size, "window")
    stride, padding = _two(stride if stride else kernel, "stride"), _two(padding, "padding")
    return Lowered(lambda b: b.graph.avgpool(b.value(x), kernel, stride, padding, bool(ceil_mode), not count_include_pad), [x], 0)


@rule(F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d)
def adaptive_avg_pool2d(node, input, output_size):
    x = _map(input)
    sizes = [output_size] * 2 if isinstance(output_size, int) or output_size is None else list(output_size)
    height, width = (s if s is not None else side for s, side in zip(sizes, x.shape[2:]))
    return Lowered(lambda b: b.graph.adaptive_avgpool(b.value(x), height, width), [x], 0)


@rule(torch.mean, torch.Tensor.mean)
def mean(node, input, dim=None, keepdim=False, dtype=None):
    x = _map(input)
    _need(isinstance(dim, (tuple, list)) and sorted(d % 4 for d in dim) == [2, 3] and dtype is None, "only the mean over height and width is")
    return Lowered(lambda b: b.graph.adaptive_avgpool(b.value(x), 1, 1), [x], 0)


# -- shapes: no work in the engine --

def _reshaped(node, x):
    """x with its channels, height and width in one dimension, or a flat one back with H = W = 1."""
    x = _map(x, (4, 2))
    shape = node.outs[0].shape
    c, h, w = chw(x)
    _need(shape[:1] == x.shape[:1], "it moves images to another dimension")
    if len(shape) == 2 and shape[1] == c * h * w:
        return Lowered(lambda b: b.value(x), [x], 0, form=(c, h, w) if h * w > 1 else None)
    _need(len(shape) == 4 and shape[1:] == (c, h, w), "only flattening to images x features is")
    return Lowered(lambda b: b.value(x), [x], 0)


@rule(torch.flatten, torch.Tensor.flatten)
def flatten(node, input, start_dim=0, end_dim=-1):
    return _reshaped(node, input)


@rule(torch.Tensor.view, torch.Tensor.reshape, torch.reshape)
def view(node, input, *shape, **_):
    return _reshaped(node, input)


@rule(torch.squeeze, torch.Tensor.squeeze, torch.unsqueeze, torch.Tensor.unsqueeze)
def squeeze(node, input, dim=None):
    return _reshaped(node, input)
