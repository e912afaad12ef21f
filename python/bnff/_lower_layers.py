"""Convolutions, linear layers and batch normalization."""
import torch
import torch.nn.functional as F

from ._lower import Lowered, feature_map, need, param, rule, two

@rule(torch.conv2d, F.conv2d)
def conv2d(node, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    x = feature_map(input)
    param(weight, 4)
    if bias is not None:
        param(bias, 1)
    kernel, stride, dilation = weight.shape[2:], two(stride, "stride"), two(dilation, "dilation")
    uneven = (0, 0)  # one row, one column more below and on the right
    if padding == "valid":
        padding = 0
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        uneven, padding = tuple(t % 2 for t in total), [t // 2 for t in total]
    padding = two(padding, "padding")

    def emit(b):
        padded = b.pad(b.value(x), 0, uneven[0], 0, uneven[1]) if any(uneven) else b.value(x)
        return b.conv2d(node.scope, padded, weight, bias, kernel, stride, padding, dilation, groups)
    return Lowered(emit, [x], is_conv=True)


@rule(F.conv_transpose2d, torch.conv_transpose2d)
def conv_transpose2d(node, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    x = feature_map(input)
    param(weight, 4)
    if bias is not None:
        param(bias, 1)
    stride, padding, dilation = two(stride, "stride"), two(padding, "padding"), two(dilation, "dilation")
    output_padding = two(output_padding, "output padding")
    need(all(o < s for o, s in zip(output_padding, stride)), "its output padding is not below its stride")
    return Lowered(lambda b: b.conv_transpose2d(node.scope, b.value(x), weight, bias, stride, padding, output_padding, dilation, groups), [x],
                   is_conv=True)


@rule(F.linear, torch._C._nn.linear)
def linear(node, input, weight, bias=None):
    x = feature_map(input, (2,))
    param(weight, 2)
    if bias is not None:
        param(bias, 1)
    return Lowered(lambda b: b.linear(node.scope, b.value(x), weight, bias), [x])


# -- batch normalization --

@rule(F.batch_norm)
def batch_norm(node, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    x = feature_map(input, (4, 2))
    need(x.form is None or x.form[1:] == (1, 1), "it normalises a flattened feature map")
    for value in (running_mean, running_var, weight, bias):
        if value is not None:
            param(value, 1)
    need((running_mean is None) == (running_var is None), "it has only one of the running statistics")
    need(running_mean is None or (running_mean.is_leaf and running_var.is_leaf), "its running statistics are computed")
    need(isinstance(eps, float) and eps > 1e-38, "its eps is 0")
    need(isinstance(momentum, (int, float)) and 0 <= momentum <= 1, "its momentum is not between 0 and 1")
    batch_statistics = bool(training)
    if batch_statistics and running_mean is not None:
        node.effect = True
    return Lowered(lambda b: b.batchnorm(node.scope, b.value(x), weight, bias, running_mean, running_var, batch_statistics, float(momentum), eps), [x])


batch_norm.updates_buffers = True


@rule(torch.batch_norm)
def torch_batch_norm(node, input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled=True):
    return batch_norm(node, input, running_mean, running_var, weight, bias, training, momentum, eps)


torch_batch_norm.updates_buffers = True
