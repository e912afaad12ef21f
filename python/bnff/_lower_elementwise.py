"""Activations, and arithmetic with numbers, with learnt numbers of each channel, with masks, and of two feature maps."""
import torch
import torch.nn.functional as F

from . import _native as n
from ._lower import Lowered, any_shape, dense, feature_map, is_number, is_value, need, need_spread, param, rule, spread


def _elementwise(x, kind, slope=0.0):
    x = any_shape(x)
    return Lowered(lambda b: b.graph.activate(b.value(x), kind, slope), [x], form=x.form)


# -- activations --

ACTIVATIONS = {
    n.RELU: (F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
    n.RELU6: (F.relu6,),
    n.SILU: (F.silu, torch._C._nn.silu),
    n.HARDSWISH: (F.hardswish, torch._C._nn.hardswish),
    n.SIGMOID: (torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, F.sigmoid, torch.special.expit),
    n.HARDSIGMOID: (F.hardsigmoid, torch._C._nn.hardsigmoid),
    n.TANH: (torch.tanh, torch.tanh_, torch.Tensor.tanh, torch.Tensor.tanh_, F.tanh),
    n.MISH: (F.mish, torch._C._nn.mish),
}
WITH_SLOPE = {  # one number more: the rule's name for it, and its default
    n.LEAKY_RELU: ((F.leaky_relu, torch._C._nn.leaky_relu), "negative_slope", 0.01),
    n.ELU: ((F.elu, torch._C._nn.elu), "alpha", 1.0),
}


def _activation(kind):
    return lambda node, input, inplace=False: _elementwise(input, kind)


def _with_slope(kind, name, default):
    def activation(node, input, *slope, inplace=False, **named):
        value = slope[0] if slope else named.get(name, default)
        need(set(named) <= {name} and is_number(value), "it is called with arguments that are not known here")
        return _elementwise(input, kind, float(value))
    return activation


for _kind, _functions in ACTIVATIONS.items():
    rule(*_functions)(_activation(_kind))
for _kind, (_functions, _name, _default) in WITH_SLOPE.items():
    rule(*_functions)(_with_slope(_kind, _name, _default))


@rule(F.hardtanh, torch._C._nn.hardtanh)
def hardtanh(node, input, min_val=-1.0, max_val=1.0, inplace=False):
    need(min_val == 0 and max_val == 6, "only hardtanh from 0 to 6 is")
    return _elementwise(input, n.RELU6)


@rule(torch.clamp, torch.Tensor.clamp, torch.Tensor.clamp_, torch.clip, torch.Tensor.clip)
def clamp(node, input, min=None, max=None):
    need(is_number(min) and is_number(max) and min == 0 and max == 6, "only clamping from 0 to 6 is")
    return _elementwise(input, n.RELU6)


@rule(F.gelu, torch._C._nn.gelu)
def gelu(node, input, approximate="none"):
    need(approximate == "none", "it approximates gelu")
    return _elementwise(input, n.GELU)


def _same(x):
    x = any_shape(x)
    return Lowered(lambda b: b.value(x), [x], form=x.form)


@rule(F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout, torch.feature_dropout)
def dropout(node, input, p=0.5, training=True, inplace=False):
    need(not training or p == 0, "its mask is drawn by PyTorch, so that it is the same as without the engine")
    node.random, node.effect = False, False
    return _same(input)


@rule(torch.Tensor.contiguous, torch.Tensor.clone, torch.clone)
def same(node, input, memory_format=None):
    return _same(input)


# -- arithmetic --

def _scale(node, x, factor=1.0, offset=0.0):
    x = any_shape(x)
    if factor == 1 and offset == 0:  # sum() of a list begins with 0
        return _same(x)
    need(abs(factor) > 1e-30 and abs(factor) < 1e30 and abs(offset) < 1e30, "its number is zero or extreme")
    return Lowered(lambda b: b.scale(node.scope, b.value(x), None, None, factor, offset), [x], form=x.form)


def _is_per_channel(x, p):
    c, rank = x.shape[1], len(x.shape)
    return tuple(p.shape) in ((1, c) + (1,) * (rank - 2), (c,) + (1,) * (rank - 2))


def _per_channel(node, x, weight=None, bias=None):
    """x times weight or plus bias, learnt numbers of each channel."""
    need(x.form is None, "it scales a flattened feature map")
    return Lowered(lambda b: b.scale(node.scope, b.value(x), weight, bias, 1.0, 0.0), [x])


def _mask_shape(x, mask):
    """What a mask, that learns nothing, is spread to beside x."""
    need(not mask.learns, "it learns a tensor that is not one number a channel")
    rank = len(x.shape)
    shape = (1,) * (rank - len(mask.shape)) + tuple(mask.shape)
    need(len(shape) == rank and all(m in (1, s) for m, s in zip(shape, x.shape)), "its operands have different shapes")
    return x.shape[:2] + (1, 1) if rank == 4 and shape[2:] == (1, 1) else x.shape


def _with_tensor(node, x, p, multiply):
    """x times or plus a tensor that does not depend on the input."""
    x, p = feature_map(x, (4, 2)), dense(p)
    if _is_per_channel(x, p):
        return _per_channel(node, x, weight=p) if multiply else _per_channel(node, x, bias=p)
    shape = _mask_shape(x, p)
    need(x.form is None or p.shape == x.shape, "its operands have different shapes")
    if len(shape) == 4 and shape != x.shape:
        need(multiply, "its operands have different shapes")
        return Lowered(lambda b: b.graph.mul_gate(b.value(x), b.mask(p, shape)), [x])
    operation = "mul" if multiply else "add"
    return Lowered(lambda b: getattr(b.graph, operation)(b.value(x), b.mask(p, shape, x.form)), [x], form=x.form)


def _first(test, a, b):
    """The two operands of a commutative operation, one that passes the test first if there is one."""
    return (a, b) if test(a) or not test(b) else (b, a)


def _operands(input, other):
    """Two tensors of a commutative operation, one that depends on the input first."""
    need(is_value(input) and is_value(other), "an operand is neither a tensor nor a number")
    return _first(lambda x: x.depends, input, other)


def _pair(a, b):
    """Two feature maps, and the shape that both are spread to."""
    for x in (a, b):
        feature_map(x, (4, 2))
    if a.shape == b.shape:
        need(a.form == b.form, "its operands have different shapes")
    else:
        need(len(a.shape) == len(b.shape) == 4, "its operands have different shapes")
    shape = torch.broadcast_shapes(a.shape, b.shape)
    for x in (a, b):
        need_spread(x, shape)
    return shape


ADD = (torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__, torch.Tensor.__iadd__, torch.Tensor.__radd__)


@rule(*ADD)
def add(node, input, other, alpha=1):
    need(alpha == 1, "its second operand is scaled")
    other, input = _first(is_number, other, input)
    if is_number(other):
        return _scale(node, input, offset=other)
    input, other = _operands(input, other)
    if not other.depends:
        return _with_tensor(node, input, other, multiply=False)
    shape = _pair(input, other)
    return Lowered(lambda b: b.graph.add(spread(b, input, shape), spread(b, other, shape)), [input, other], form=input.form)


def _subtract(node, a, b_):
    if is_number(b_):
        return _scale(node, a, offset=-b_)
    if is_number(a):
        return _scale(node, b_, factor=-1.0, offset=a)
    need(is_value(a) and is_value(b_), "an operand is neither a tensor nor a number")
    shape = _pair(a, b_)
    return Lowered(lambda b: b.graph.add(spread(b, a, shape), b.scale(node.scope, spread(b, b_, shape), None, None, -1.0, 0.0)), [a, b_], form=a.form)


SUBTRACT = (torch.sub, torch.Tensor.sub, torch.Tensor.sub_, torch.Tensor.__sub__, torch.Tensor.__isub__)


@rule(*SUBTRACT)
def sub(node, input, other, alpha=1):
    need(alpha == 1, "its second operand is scaled")
    return _subtract(node, input, other)


@rule(torch.rsub, torch.Tensor.__rsub__)
def rsub(node, input, other, alpha=1):
    need(alpha == 1, "its second operand is scaled")
    return _subtract(node, other, input)


@rule(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def neg(node, input):
    return _scale(node, input, factor=-1.0)


DIVIDE = (torch.div, torch.Tensor.div, torch.Tensor.div_, torch.true_divide, torch.Tensor.__truediv__, torch.Tensor.__itruediv__)


@rule(*DIVIDE)
def div(node, input, other, rounding_mode=None):
    need(rounding_mode is None and is_number(other) and other != 0, "only division by a number is")
    return _scale(node, input, factor=1.0 / other)


MULTIPLY = (torch.mul, torch.Tensor.mul, torch.Tensor.mul_, torch.Tensor.__mul__, torch.Tensor.__imul__, torch.Tensor.__rmul__, torch.multiply)


@rule(*MULTIPLY)
def mul(node, input, other):
    other, input = _first(is_number, other, input)
    if is_number(other):
        return _scale(node, input, factor=other)
    input, other = _operands(input, other)
    if not other.depends:
        return _with_tensor(node, input, other, multiply=True)
    shape = _pair(input, other)
    x, gate = (other, input) if input.shape != shape else (input, other)
    if x.shape == shape and gate.shape == (*shape[:2], 1, 1) != shape:
        return Lowered(lambda b: b.graph.mul_gate(b.value(x), b.value(gate)), [x, gate])
    return Lowered(lambda b: b.graph.mul(spread(b, x, shape), spread(b, gate, shape)), [x, gate], form=x.form)


@rule(F.prelu, torch.prelu)
def prelu(node, input, weight):
    """max(x, 0) - weight * max(-x, 0)"""
    x = feature_map(input, (4, 2))
    need(x.form is None and param(weight, 1).shape == x.shape[1:2], "its weight is not one number a channel")

    def emit(b):
        below = b.graph.activate(b.scale(node.scope, b.value(x), None, None, -1.0, 0.0), n.RELU)
        return b.graph.add(b.graph.activate(b.value(x), n.RELU), b.scale(node.scope, b.scale(node.scope, below, weight, None, 1.0, 0.0), None, None, -1.0, 0.0))
    return Lowered(emit, [x])


@rule(torch.Tensor.expand, torch.Tensor.expand_as)
def expand(node, input, *_, **__):
    x, shape = feature_map(input), node.outs[0].shape
    need_spread(x, shape)
    return Lowered(lambda b: spread(b, x, shape), [x])
