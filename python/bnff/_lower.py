"""Which torch functions the engine computes, and how each is said in its graph.

A rule takes a node's own arguments, under the names PyTorch gives them, and returns a `Lowered`; or it raises `Refuse` with the reason, and
the node runs in PyTorch. Rules see shapes and types only. They are in the modules _lower_layers, _lower_elementwise and _lower_maps; this
one has what they share.

Feature maps are N x C x H x W values, or N x F ones: then H = W = 1. A value may hold a feature map under another shape, and then its `form`
is the C, H and W that the engine knows: a flattened feature map, for the linear layer that follows, or N x g x C/g x H x W, between the
steps of a channel shuffle, or one of three dimensions, between the steps of a mean.
"""
import torch


class Refuse(Exception):
    """This call cannot be computed by the engine; the text says why."""


class Lowered:
    """How a node is built: emit(builder) makes the engine value of its (first) result. operands: the feature maps it reads."""

    def __init__(self, emit, operands, is_conv=False, form=None):
        self.emit, self.operands, self.is_conv, self.form = emit, operands, is_conv, form
        self.batch = operands[0].shape[0]


RULES = {}
_NUMPYS_NAMES = {"axis": "dim", "keepdims": "keepdim"}  # PyTorch takes both


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
        if any(v.outer for v in node.mutates) and not getattr(function, "updates_buffers", False):
            raise Refuse("it writes into an argument, a parameter or a buffer")
        lowered = function(node, *node.args, **{_NUMPYS_NAMES.get(k, k): v for k, v in node.kwargs.items()})
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

def need(condition, reason):
    if not condition:
        raise Refuse(reason)


def is_number(x):
    return type(x) in (int, float)


def is_value(x):
    return hasattr(x, "depends")


def dense(value):
    need(is_value(value), "an operand is a number")
    need(value.dtype == torch.float32, f"its type is {str(value.dtype).removeprefix('torch.')}, not float32")
    need(value.device == "cpu" and value.strided, "it is not a dense tensor in this machine's memory")
    return value


def feature_map(value, ranks=(4,)):
    """A feature map that depends on the input."""
    dense(value)
    need(value.depends, "it computes with parameters alone")
    need(len(value.shape) in ranks, f"its operand has {len(value.shape)} dimensions")
    need(all(value.shape), "its operand is empty")
    return value


def any_shape(value):
    """A feature map, under another shape or not."""
    feature_map(value, (4, 2, 3, 5))
    need(len(value.shape) in (4, 2) or value.form, f"its operand has {len(value.shape)} dimensions")
    return value


def param(value, rank):
    dense(value)
    need(not value.depends or value.kind == "input", "its weight is computed from the input")  # a leaf may well be an argument
    need(len(value.shape) == rank and all(value.shape), f"its weight has {len(value.shape)} dimensions")
    return value


def two(x, what):
    if isinstance(x, int):
        return (x, x)
    if isinstance(x, (tuple, list)) and len(x) == 1 and isinstance(x[0], int):
        return (x[0], x[0])
    need(isinstance(x, (tuple, list)) and len(x) == 2 and all(isinstance(i, int) for i in x), f"its {what} is not a pair of numbers")
    return tuple(x)


def chw(value):
    """C, H, W of a value as the engine has it."""
    if value.form:
        return value.form
    return tuple(value.shape[1:]) if len(value.shape) == 4 else (value.shape[1], 1, 1)


def need_spread(x, shape):
    """Can a feature map be repeated to that shape: one channel, one row, one column to all?"""
    if tuple(x.shape) != tuple(shape):
        need(len(shape) == 4 and x.shape[0] == shape[0] and all(side in (1, to) for side, to in zip(x.shape[1:], shape[1:])), "its operands have different shapes")


def spread(b, x, shape):
    """The engine's value of x repeated to that shape."""
    y = b.value(x)
    if len(shape) == 4 and x.shape[1] != shape[1]:
        y = b.repeat_channel(y, shape[1])
    return b.graph.resize(y, False, False, shape[2:], None) if len(shape) == 4 and x.shape[2:] != shape[2:] else y


def crosses(value):
    """May this value go from a region to PyTorch, or the other way? The engine's tensors have channels, rows and columns."""
    return len(value.shape) in (2, 4)
