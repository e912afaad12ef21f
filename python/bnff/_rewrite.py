"""Rewriting a trace before it is lowered, so that what PyTorch must do for the engine's sake can be done before a region begins.

- A random mask depends on the shape of what it falls on, not on its numbers: dropout becomes drawing the mask and a product, with the very
  numbers that eager would draw.
- The same of torch.empty_like(x) and its kin, with which paths are dropped at random.
- A parameter that is one number is spread over the channels; subtracting or dividing by tensors is adding and multiplying other ones.
- A gate that is repeated over rows and columns before it is multiplied with is not repeated.
- Zeros around a feature map become padding of the convolution that reads it.
"""
import functools

import torch
import torch.nn.functional as F

from ._lower import is_value
from ._lower_elementwise import ADD, DIVIDE, MULTIPLY, SUBTRACT
from ._trace import Node, Value

DROPOUT = (F.dropout, torch.dropout)
DROPOUT_2D = (F.dropout2d, torch.feature_dropout)
SHAPE_ONLY = (torch.Tensor.new_empty, torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full, torch.Tensor.new_tensor, torch.empty_like,
              torch.zeros_like, torch.ones_like, torch.full_like, torch.rand_like, torch.randn_like)


def rewrite(trace):
    """Replace the trace's nodes."""
    nodes, trace.nodes = trace.nodes, []
    draws = {}  # dropout -> the node that draws its mask
    for node in nodes:
        function = _RULES.get(node.func)
        draw = function(trace, node) if function else None
        if draw:
            draw.turn, node.turn = draws.get(node.turn, node.turn), None
            draws[node] = draw
        node.turn = draws.get(node.turn, node.turn)
        trace.nodes.append(node)
        for v in node.outs:
            if v is not None:
                v.depends = any(r.depends for r in node.reads)
    for node in trace.nodes:
        if node.turn:
            node.after.append(node.turn)


def _before(trace, node, func, args, reads, shape, stride=None):
    """A new node ahead of `node`, and its result."""
    new = Node(node.index, func, args, {}, reads, func.__name__, node.scope, node.grad)
    like = torch.empty_strided(shape, stride, device="meta") if stride else torch.empty(shape, device="meta")
    value = Value(len(trace.values), "node", None, like, new)
    value.device, value.depends, value.outer = "cpu", any(v.depends for v in reads), False
    value.learns = node.grad and any(v.learns for v in reads)
    trace.values.append(value)
    new.outs = [value]
    trace.nodes.append(new)
    return value


def _become(node, func, *args):
    node.func, node.args, node.kwargs = func, args, {}
    node.reads = [v for v in args if is_value(v)]


def _plain(v):
    return is_value(v) and v.dtype == torch.float32 and v.device == "cpu" and v.strided


# -- random masks --

def _draw_mask(shape, stride, p):
    return torch.empty_strided(shape, stride).bernoulli_(1 - p).div_(1 - p)


def _dropout(trace, node, input, p=0.5, training=True, inplace=False):
    if not training or not 0 < p < 1 or not _plain(input) or any(v.outer for v in node.mutates):
        return
    shape = input.shape
    if node.func in DROPOUT_2D:
        if len(shape) != 4:
            return
        shape = (*shape[:2], 1, 1)
        stride = torch.empty(shape, device="meta").stride()
    else:
        stride = torch.empty_like(torch.empty_strided(shape, input.stride, device="meta")).stride()
    mask = _before(trace, node, _draw_mask, (shape, stride, p), [], shape, stride)
    mask.node.random = mask.node.effect = True
    _become(node, torch.mul, input, mask)
    node.name, node.random, node.effect, node.mutates = "dropout", False, False, []
    return mask.node


# -- shapes without numbers --

def _on_blank(func, shape, stride, dtype, *args, **kwargs):
    return func(torch.empty_strided(shape, stride, dtype=dtype), *args, **kwargs)


def _shape_only(trace, node, input, *args, **kwargs):
    if not (is_value(input) and input.device == "cpu" and input.strided) or len(node.reads) != 1 or node.mutates:
        return
    node.func, node.reads = functools.partial(_on_blank, node.func, input.shape, input.stride, input.dtype), []
    node.args, node.kwargs = args, kwargs


# -- arithmetic --

def _source_of_repeat(gate, x):
    """What gate was repeated from to the shape of x; None if it was not."""
    repeat = gate.node
    if repeat is None or repeat.func not in (torch.Tensor.expand, torch.Tensor.expand_as) or x.shape != gate.shape:
        return None
    source = repeat.args[0]
    return source if source.depends and len(source.shape) == len(x.shape) else None


def _multiply(trace, node, input, other):
    if not (is_value(input) and is_value(other) and input.depends and other.depends):
        _arithmetic(trace, node, input, other)
    elif not node.mutates:
        for x, gate in ((input, other), (other, input)):
            source = _source_of_repeat(gate, x)
            if source is not None:
                return _become(node, torch.mul, x, source)


def _spread_number(p, c, rank):
    return p.reshape((1,) * (rank - 1)).expand((c,) + (1,) * (rank - 2))


def _arithmetic(trace, node, input, other, alpha=1):
    if alpha != 1 or not _plain(input) or not _plain(other) or any(v.outer for v in node.mutates):
        return
    if node.func in (*SUBTRACT, *DIVIDE):
        if not input.depends or other.depends:
            return
        func, inverse = (torch.add, torch.neg) if node.func in SUBTRACT else (torch.mul, torch.reciprocal)
        other = _before(trace, node, inverse, (other,), [other], other.shape)
    elif node.func in ADD:
        func = torch.add
    else:
        func = torch.mul
    x, p = (input, other) if input.depends else (other, input)
    rank = len(x.shape)
    if not x.depends or p.depends or rank not in (2, 4) or len(p.shape) > rank:
        return
    if all(side == 1 for side in p.shape) and x.form is None:
        p = _before(trace, node, _spread_number, (p, x.shape[1], rank), [p], (x.shape[1],) + (1,) * (rank - 2))
    elif node.func in (*ADD, *MULTIPLY):
        return
    _become(node, func, x, p)
    node.mutates = []


# -- padding --

def _conv2d(trace, node, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Take the zeros around the input into the padding."""
    pad = input.node if is_value(input) else None
    if pad is None or pad.func is not F.pad or len(pad.outs) != 1 or pad.kwargs.get("value") or len(pad.args) > 3 or isinstance(padding, str):
        return
    x, sides, mode = (*pad.args, *[pad.kwargs.get(k) for k in ("pad", "mode")][len(pad.args) - 1:], "constant")[:3]
    if mode not in ("constant", None) or len(sides) != 4 or sides[0] != sides[1] or sides[2] != sides[3] or min(sides) < 0 or not _plain(x):
        return
    before = padding if isinstance(padding, (tuple, list)) else (padding,)
    padding = (before[0] + sides[2], before[-1] + sides[0])
    node.args, node.kwargs = (x, weight, bias, stride, padding, dilation, groups), {}
    node.reads = [v for v in node.args if is_value(v)]


def _guarded(function):
    """A call with arguments that the rule does not know stays as it is."""

    def call(trace, node):
        try:
            return function(trace, node, *node.args, **node.kwargs)
        except TypeError:
            return None

    return call


_RULES = {f: _guarded(_dropout) for f in (*DROPOUT, *DROPOUT_2D)}
_RULES.update({f: _guarded(_shape_only) for f in SHAPE_ONLY})
_RULES.update({f: _guarded(_arithmetic) for f in (*ADD, *SUBTRACT, *DIVIDE)})
_RULES.update({f: _guarded(_multiply) for f in MULTIPLY})
_RULES.update({f: _guarded(_conv2d) for f in (torch.conv2d, F.conv2d)})
