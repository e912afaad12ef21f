"""Objects of the C library with Python's lifetimes: contexts, graphs, plans, pools and runs. Needs no torch."""
import ctypes
import os
import threading
from ctypes import byref, c_bool, c_int, c_void_p

from . import _native as n


class Context:
    """Threads and instruction set. Contexts are shared: ask `context_for`."""

    def __init__(self, threads):
        self.handle = c_void_p()
        options = n.ContextOptions(size=ctypes.sizeof(n.ContextOptions), threads=threads)
        n.context_create(byref(options), byref(self.handle))
        self.threads = n.context_threads(self.handle)
        self.isa = n.context_isa(self.handle).decode()

    def __del__(self):
        if self.handle:
            n.context_destroy(byref(self.handle))


_contexts = {}
_contexts_lock = threading.Lock()


def context_for(threads):
    """The context of so many threads; 0: as many as the machine gives."""
    with _contexts_lock:
        if threads not in _contexts:
            _contexts[threads] = Context(threads)
        return _contexts[threads]


def _after_fork_in_child():
    """A child has none of its parent's worker threads, and may have been forked while one of them held a lock: it starts anew. What the
    parent made stays allocated, for it may be in the middle of a change."""
    global _contexts, _contexts_lock, generation
    _abandoned.append(_contexts)
    _contexts = {}
    _contexts_lock = threading.Lock()
    generation += 1


generation = 0  # of the process: everything made in another one is left alone
_abandoned = []
os.register_at_fork(after_in_child=_after_fork_in_child)


def _pair(a, b):
    """Two option fields where the C side reads a zero second one as 'like the first'."""
    return (c_int * 2)(a, b if b else -1)


class Graph:
    """A network under construction. Values are integers; errors are sticky and raised by `check`."""

    def __init__(self):
        self.handle = c_void_p()
        n.graph_create(byref(self.handle))
        self.names = 0

    def __del__(self):
        if self.handle:
            n.graph_destroy(byref(self.handle))

    def check(self):
        n.graph_status(self.handle)

    def name(self, stem):
        """A name that is free: parameters are known by their index, so any will do, but people read them."""
        self.names += 1
        return f"{stem or 'layer'}#{self.names}".replace(" ", "_").replace('"', "_").encode()

    def param_count(self):
        return n.graph_param_count(self.handle)

    def build(self, model, classes, channels):
        """A model of the zoo, into an empty graph."""
        options = n.ModelOptions(classes=classes, channels=channels)
        n.model_build(self.handle, model.encode(), byref(options))

    def params(self):
        """(name, shape, is it a running statistic?) of each parameter."""
        infos = []
        for i in range(self.param_count()):
            info = n.ParamInfo()
            n.graph_param(self.handle, i, byref(info))
            infos.append((info.name.decode(), tuple(info.shape[:info.rank]), info.is_buffer))
        return infos

    def input(self, channels, height, width):
        return n.input_sized(self.handle, self.name("input"), channels, height, width)

    def conv2d(self, stem, x, out_channels, kernel, stride, padding, dilation, groups, bias):
        options = n.ConvOptions(out_channels=out_channels, kernel=(c_int * 2)(*kernel), stride=(c_int * 2)(*stride), padding=_pair(*padding),
                                dilation=(c_int * 2)(*dilation), groups=groups, bias=bias)
        return n.conv2d(self.handle, self.name(stem), x, byref(options))

    def conv_transpose2d(self, stem, x, out_channels, kernel, stride, padding, output_padding, dilation, groups, bias):
        options = n.ConvTransposeOptions(out_channels=out_channels, kernel=(c_int * 2)(*kernel), stride=(c_int * 2)(*stride), padding=_pair(*padding),
                                         output_padding=_pair(*output_padding), dilation=(c_int * 2)(*dilation), groups=groups, bias=bias)
        return n.conv_transpose2d(self.handle, self.name(stem), x, byref(options))

    def batchnorm(self, stem, x, eps, momentum, affine):
        options = n.BatchnormOptions(eps=eps, momentum=momentum if momentum > 0 else -1, no_affine=not affine)
        return n.batchnorm(self.handle, self.name(stem), x, byref(options))

    def activate(self, x, kind, slope=0.0):
        return n.activate(self.handle, x, kind, slope)

    def _pool_options(self, kernel, stride, padding, dilation, ceil_mode, exclude_pad):
        return n.PoolOptions(kernel=(c_int * 2)(*kernel), stride=(c_int * 2)(*stride), padding=_pair(*padding), dilation=(c_int * 2)(*dilation),
                             ceil_mode=ceil_mode, exclude_pad=exclude_pad)

    def maxpool(self, x, kernel, stride, padding, dilation, ceil_mode):
        return n.maxpool(self.handle, x, byref(self._pool_options(kernel, stride, padding, dilation, ceil_mode, False)))

    def avgpool(self, x, kernel, stride, padding, ceil_mode, exclude_pad):
        return n.avgpool(self.handle, x, byref(self._pool_options(kernel, stride, padding, (1, 1), ceil_mode, exclude_pad)))

    def adaptive_avgpool(self, x, height, width):
        return n.adaptive_avgpool(self.handle, x, height, width)

    def adaptive_maxpool(self, x, height, width):
        return n.adaptive_maxpool(self.handle, x, height, width)

    def resize(self, x, bilinear, align_corners, size, scale):
        """To size (H, W), or by scale (of H, of W)."""
        options = n.ResizeOptions(mode=n.RESIZE_BILINEAR if bilinear else n.RESIZE_NEAREST, align_corners=align_corners)
        if scale:
            options.scale[:] = scale
        else:
            options.size[:] = size
        return n.resize(self.handle, x, byref(options))

    def channel_shuffle(self, x, groups):
        return n.channel_shuffle(self.handle, x, groups)

    def add(self, a, b):
        return n.add(self.handle, a, b)

    def mul(self, a, b):
        return n.mul(self.handle, a, b)

    def scale(self, stem, x, weight, bias, factor, offset):
        options = n.ScaleOptions(weight=weight, bias=bias, factor=factor, offset=offset)
        return n.scale(self.handle, self.name(stem), x, byref(options))

    def mul_gate(self, x, gate):
        return n.mul_gate(self.handle, x, gate)

    def concat(self, values):
        return n.concat(self.handle, (n.Value * len(values))(*values), len(values))

    def slice(self, x, first, channels):
        return n.slice(self.handle, x, first, channels)

    def linear(self, stem, x, out_features, bias):
        return n.linear(self.handle, self.name(stem), x, out_features, bias)

    def output(self, x):
        n.output(self.handle, x)


def _text(call, *arguments):
    text = c_void_p()
    call(*arguments, byref(text))
    try:
        return ctypes.string_at(text).decode("utf-8", "replace")
    finally:
        n.free(text)


class Plan:
    """A graph made executable for one batch size. The graph's inputs have sizes of their own; otherwise size is theirs, (H, W)."""

    def __init__(self, context, graph, batch, train, frozen_params=None, frozen_stats=None, input_gradients=False, level=None, size=(0, 0)):
        self.context = context
        self.handle = c_void_p()
        count = graph.param_count()
        options = n.PlanOptions(size=ctypes.sizeof(n.PlanOptions), batch=batch, height=size[0], width=size[1], mode=n.TRAIN if train else n.EVALUATE,
                                level=level.encode() if level else None, input_gradients=input_gradients)
        if frozen_params:
            options.frozen_params = (c_bool * count)(*frozen_params)
        if frozen_stats:
            options.frozen_stats = (c_bool * count)(*frozen_stats)
        n.plan_create(context.handle, graph.handle, byref(options), byref(self.handle))
        self.info = n.PlanInfo(size=ctypes.sizeof(n.PlanInfo))
        n.plan_describe(self.handle, byref(self.info))

    def __del__(self):
        if self.handle:
            n.plan_destroy(byref(self.handle))

    def output_shape(self, index):
        """(N, H, W, C)"""
        shape = (c_int * 4)()
        return tuple(shape) if n.plan_output_shape(self.handle, index, shape) else None

    def text(self, json=False):
        return _text(n.plan_print, self.handle, json)


class Pool:
    """Memory that the runs of a model's plans take turns with. Safe to use from several threads."""

    def __init__(self, context):
        self.context = context
        self.lock = threading.RLock()  # a run may be collected, and so given back, while this thread takes another
        self.handle = c_void_p()
        n.pool_create(context.handle, byref(self.handle))

    def __del__(self):
        if self.handle:
            n.pool_destroy(byref(self.handle))

    def acquire(self, plan):
        return Run(self, plan)


class Run:
    """The memory of one forward and its backward; given back when released or collected."""

    def __init__(self, pool, plan):
        self.handle = c_void_p()
        self.pool = pool
        self.plan = plan
        self.generation = generation
        self.keep = None  # what the C side points into until the backward
        with pool.lock:
            n.run_acquire(pool.handle, plan.handle, byref(self.handle))

    def release(self):
        if self.handle and self.generation == generation:
            with self.pool.lock:
                n.run_release(byref(self.handle))
        self.handle = None
        self.keep = None

    __del__ = release
