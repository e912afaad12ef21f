"""What moves or pools feature maps: joins and cuts of channels, shuffles, padding, pooling, resizing, other shapes."""
import math

import torch
import torch.nn.functional as F

from ._lower import Lowered, any_shape, chw, feature_map, is_number, need, rule, two

# -- channels --

@rule(torch.cat, torch.concat)
def cat(node, tensors, dim=0):
    need(isinstance(tensors, (tuple, list)) and tensors, "its operands are not a list")
    for x in tensors:
        feature_map(x, (4, 2))
        need(x.form is None or x.form[1:] == (1, 1), "it concatenates flattened feature maps")
        need(len(x.shape) == len(tensors[0].shape) and x.shape[2:] == tensors[0].shape[2:], "its operands have different shapes")
    need(dim in (1, 1 - len(tensors[0].shape)), "it concatenates along another dimension than the channels")
    xs = list(tensors)
    return Lowered(lambda b: b.graph.concat([b.value(x) for x in xs]), xs)


def _piece(node, x, first, channels):
    x = feature_map(x, (4, 2))
    need(x.form is None, "it cuts a flattened feature map")
    return lambda b: b.graph.slice(b.value(x), first, channels)


def _pieces(node, x, sizes):
    """Several results: emit makes them all."""
    x = feature_map(x, (4, 2))
    first, emits = 0, []
    for size in sizes:
        emits.append(_piece(node, x, first, size))
        first += size
    return Lowered(lambda b: [emit(b) for emit in emits], [x])


@rule(torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split)
def chunk(node, input, *_, dim=None, **__):
    x = feature_map(input, (4, 2))
    shapes = [v.shape for v in node.outs]
    need(all(s[:1] + s[2:] == x.shape[:1] + x.shape[2:] for s in shapes) and sum(s[1] for s in shapes) == x.shape[1], "it does not cut along the channels")
    return _pieces(node, x, [s[1] for s in shapes])


_MOST_PADDED = 1024
_MOST_CUT = 8  # rows or columns cut off with the means of a convolution


def _slices(x, index):
    """A slice for each dimension: (first, last, step)."""
    index = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [i for i in index if i is Ellipsis]:
        at = next(k for k, i in enumerate(index) if i is Ellipsis)
        index[at:at + 1] = [slice(None)] * (len(x.shape) - len(index) + 1)
    need(len(index) <= len(x.shape) and all(isinstance(i, slice) for i in index), "only a slice of channels, rows or columns is")
    index += [slice(None)] * (len(x.shape) - len(index))
    for i in index:
        need(all(type(v) in (int, type(None)) for v in (i.start, i.stop, i.step)), "only a slice of channels, rows or columns is")
    return [i.indices(size) for i, size in zip(index, x.shape)]


def _changes_shape_alone(x, index):
    """x[:, :, None, None], or x[:, :, 0, 0] where there is one row and one column."""
    index = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [i for i in index if i is Ellipsis]:
        at = next(k for k, i in enumerate(index) if i is Ellipsis)
        index[at:at + 1] = [slice(None)] * (len(x.shape) - sum(i is not None for i in index) + 1)
    sides = iter(x.shape)
    for i in index:
        side = None if i is None else next(sides)
        if i is not None and i != slice(None) and not (type(i) is int and side == 1):
            return False
    return True


@rule(torch.Tensor.__getitem__)
def getitem(node, input, index):
    if _changes_shape_alone(input, index):
        return _reshaped(node, input)
    x = feature_map(input, (4, 2))
    slices = _slices(x, index)
    need(slices[0] == (0, x.shape[0], 1), "it takes some of the images")
    first, last, step = slices[1]
    need(step == 1 and last > first, "its slice of channels has a step, or is empty")
    need(x.form is None, "it cuts a flattened feature map")
    if len(slices) == 2 or all(s == (0, size, 1) for s, size in zip(slices[2:], x.shape[2:])):
        return Lowered(_piece(node, x, first, last - first), [x])
    cuts, steps = [], []
    for (start, stop, step), size in zip(slices[2:], x.shape[2:]):
        need(step > 0 and stop > start, "its slice of rows or columns is empty")
        stop = size if step > 1 and (size - 1 - start) // step == (stop - 1 - start) // step else stop
        cuts += [start, size - stop]
        steps.append(step)
    need(max(cuts) <= _MOST_CUT, f"it cuts more than {_MOST_CUT} rows or columns off")

    def emit(b):
        y = _piece(node, x, first, last - first)(b) if last - first < x.shape[1] else b.value(x)
        if any(cuts):
            y = b.pad(y, *(-c for c in cuts))
        return b.graph.avgpool(y, (1, 1), steps, (0, 0), False, False) if max(steps) > 1 else y
    return Lowered(emit, [x])


@rule(torch.narrow, torch.Tensor.narrow)
def narrow(node, input, dim, start, length):
    x = feature_map(input, (4, 2))
    need(dim in (1, 1 - len(x.shape)) and isinstance(start, int) and start >= 0, "only a slice of the channels is")
    return Lowered(_piece(node, x, start, length), [x])


@rule(F.channel_shuffle, torch.channel_shuffle, torch.native_channel_shuffle)
def channel_shuffle(node, input, groups):
    x = feature_map(input)
    return Lowered(lambda b: b.graph.channel_shuffle(b.value(x), groups), [x])


def _swap_groups(x, dims):
    """N x g x k x H x W to N x k x g x H x W."""
    feature_map(x, (5,))
    need(x.form is not None and dims == [0, 2, 1, 3, 4], "only exchanging two halves of the channels, as in a shuffle, is")
    groups = x.shape[1]
    return Lowered(lambda b: b.graph.channel_shuffle(b.value(x), groups), [x], form=x.form)


@rule(torch.transpose, torch.Tensor.transpose, torch.swapaxes, torch.Tensor.swapaxes)
def transpose(node, input, dim0, dim1):
    dims = list(range(len(input.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _swap_groups(input, dims)


@rule(torch.permute, torch.Tensor.permute)
def permute(node, input, *dims, **named):
    dims = named.get("dims", dims)
    dims = dims[0] if len(dims) == 1 else dims
    return _swap_groups(input, [d % len(input.shape) for d in dims])


# -- padding and resizing --

@rule(F.pad, torch._C._nn.pad)
def pad(node, input, pad, mode="constant", value=None):
    x = feature_map(input)
    need(mode == "constant" and not value, "only padding with zeros is")
    need(len(pad) in (2, 4, 6) and all(isinstance(p, int) for p in pad), "only padding channels, rows and columns is")
    left, right, top, bottom, front, back = (*pad, 0, 0, 0, 0)[:6]
    c = x.shape[1]
    need(min(front, back) >= 0 and max(front, back) <= c, "it pads more channels than there are, or less than none")
    need(min(left, right, top, bottom) >= -_MOST_CUT and max(left, right, top, bottom) <= _MOST_PADDED, "its padding is wide")
    need(max(abs(top - bottom), abs(left - right)) <= _MOST_CUT, "its padding is not the same on both sides")

    def emit(b):
        y = b.pad(b.value(x), top, bottom, left, right) if any((left, right, top, bottom)) else b.value(x)
        zeros = [b.zeros(b.graph.slice(y, 0, count)) if count else None for count in (front, back)]
        parts = [v for v in (zeros[0], y, zeros[1]) if v is not None]
        return b.graph.concat(parts) if len(parts) > 1 else y
    return Lowered(emit, [x])


@rule(F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear)
def interpolate(node, input, size=None, scale_factor=None, mode=None, align_corners=None, recompute_scale_factor=None, antialias=False):
    x = feature_map(input)
    mode = mode or {F.upsample_bilinear: "bilinear"}.get(node.func, "nearest")
    need(mode in ("nearest", "bilinear") and not antialias, f"its mode is {mode}{' with antialiasing' if antialias else ''}")
    align_corners = node.func is F.upsample_bilinear or bool(align_corners)
    out = node.outs[0].shape[2:]
    scale = None
    if size is None and not recompute_scale_factor:
        scale = [scale_factor] * 2 if is_number(scale_factor) else scale_factor
        need(len(scale) == 2 and all(is_number(s) for s in scale), "its scale is not two numbers")
        scale = [float(s) for s in scale]
        need(all(math.floor(side * s) == o for side, s, o in zip(x.shape[2:], scale, out)), "its scale is not a plain number")
    return Lowered(lambda b: b.graph.resize(b.value(x), mode == "bilinear", align_corners, None if scale else out, scale), [x])


# -- pooling --

@rule(F.max_pool2d, torch.max_pool2d)
def max_pool2d(node, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    x = feature_map(input)
    need(not return_indices, "it returns indices")
    kernel = two(kernel_size, "window")
    stride = two(stride if stride else kernel, "stride")
    padding, dilation = two(padding, "padding"), two(dilation, "dilation")
    return Lowered(lambda b: b.graph.maxpool(b.value(x), kernel, stride, padding, dilation, bool(ceil_mode)), [x])


@rule(F.avg_pool2d, torch._C._nn.avg_pool2d)
def avg_pool2d(node, input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    x = feature_map(input)
    need(divisor_override is None, "it divides by a given number")
    kernel = two(kernel_size, "window")
    stride, padding = two(stride if stride else kernel, "stride"), two(padding, "padding")
    if kernel == x.shape[2:] and padding == (0, 0):
        return _mean(node, x, (1, 1))
    return Lowered(lambda b: b.graph.avgpool(b.value(x), kernel, stride, padding, bool(ceil_mode), not count_include_pad), [x])


@rule(F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d)
def adaptive_avg_pool2d(node, input, output_size):
    x = feature_map(input)
    sizes = [output_size] * 2 if isinstance(output_size, int) or output_size is None else list(output_size)
    height, width = (s if s is not None else side for s, side in zip(sizes, x.shape[2:]))
    return Lowered(lambda b: b.graph.adaptive_avgpool(b.value(x), height, width), [x])


@rule(F.adaptive_max_pool2d, torch._C._nn.adaptive_max_pool2d)
def adaptive_max_pool2d(node, input, output_size, return_indices=False):
    x = feature_map(input)
    need(not return_indices and len(node.outs) == 1, "it returns indices")
    height, width = node.outs[0].shape[2:]
    return Lowered(lambda b: b.graph.adaptive_maxpool(b.value(x), height, width), [x])


def _mean(node, x, size, factor=1):
    """Means over windows that leave size (H, W), times factor; node's result may have lost the dimensions that are 1."""
    def emit(b):
        y = b.graph.adaptive_avgpool(b.value(x), *size)
        return y if factor == 1 else b.scale(node.scope, y, None, None, factor, 0.0)
    return Lowered(emit, [x], form=(chw(x)[0], *size) if len(node.outs[0].shape) == 3 else None)


_ONLY_MEANS = "only a mean or a sum over rows, columns or channels is"


@rule(torch.mean, torch.Tensor.mean, torch.sum, torch.Tensor.sum)
def mean(node, input, dim=None, keepdim=False, dtype=None):
    x = any_shape(input)
    c, h, w = chw(x)
    need(dtype is None and dim is not None, _ONLY_MEANS)
    dims = sorted(d % len(x.shape) for d in (dim if isinstance(dim, (tuple, list)) else [dim]))
    if x.shape[1:] == (c, h * w) and dims == [2]:
        dims = [2, 3]
    else:
        need(len(x.shape) == 4, _ONLY_MEANS)
    total = node.func in (torch.sum, torch.Tensor.sum)
    if dims == [1]:
        channel = lambda b: b.mean_channel(b.value(x), c if total else 1)
        return Lowered(channel, [x], form=None if keepdim else (1, h, w))
    need(dims in ([2], [3], [2, 3]), _ONLY_MEANS)
    size = (1 if 2 in dims else h, 1 if 3 in dims else w)
    return _mean(node, x, size, h * w // (size[0] * size[1]) if total else 1)


# -- shapes: no work in the engine --

def _reshaped(node, x):
    """x with its channels, height and width in one dimension, or height and width in one, or channels in two; or back."""
    x = any_shape(x)
    shape = node.outs[0].shape
    c, h, w = chw(x)
    need(shape[:1] == x.shape[:1], "it moves images to another dimension")
    if shape[1:] == (c, h, w):
        form = None
    elif len(shape) == 2:
        form = (c, h, w) if h * w > 1 else None
    else:
        need(shape[1:] == (c, h * w) or len(shape) == 5 and shape[3:] == (h, w), "only flattening is, and cutting channels in two")
        form = (c, h, w)
    return Lowered(lambda b: b.value(x), [x], form=form)


@rule(torch.flatten, torch.Tensor.flatten, torch.unflatten, torch.Tensor.unflatten, torch.Tensor.view, torch.Tensor.reshape, torch.reshape,
      torch.squeeze, torch.Tensor.squeeze, torch.unsqueeze, torch.Tensor.unsqueeze)
def reshape(node, input, *_, **__):
    return _reshaped(node, input)
