"""A region: nodes of a trace as one graph of the engine, run by one autograd function."""
import ctypes
import time
from ctypes import c_void_p
from operator import attrgetter, itemgetter

import torch

from . import _engine
from . import _native as n
from ._lower import chw


_REQUIRES_GRAD, _IS_CONTIGUOUS, _DATA_PTR = attrgetter("requires_grad"), torch.Tensor.is_contiguous, torch.Tensor.data_ptr
try:
    torch.autograd.graph.increment_version([])
    _MANY_AT_ONCE = True
except TypeError:  # before PyTorch 2.5: one tensor at a time
    _MANY_AT_ONCE = False


class CannotBuild(Exception):
    """The region cannot be made a plan; the text says why."""


class _Builder:
    """What rules build with: the graph, and the tensors behind its inputs and parameters."""

    def __init__(self):
        self.graph = _engine.Graph()
        self.engine = {}     # Value -> engine value
        self.inputs = []     # (Value, shape it is spread to or None), in the order of the graph's inputs
        self.sizes = []      # per input: C, H, W
        self.params = []     # per parameter of the graph: a Value, or a tensor of constants where PyTorch has none
        self.buffers = []    # per parameter: is it a running statistic?
        self.frozen_stats = []  # per parameter: the running mean of a BN that normalises with it

    def _input(self, key, v, shape, sizes):
        if key not in self.engine:
            self.inputs.append((v, shape))
            self.sizes.append(sizes)
            self.engine[key] = self.graph.input(*sizes)
        return self.engine[key]

    def value(self, v):
        return self._input(v, v, None, chw(v))

    def mask(self, v, shape, form=None):
        """A tensor that does not depend on the input, spread to N x C x H x W or N x F (with the form of what it meets)."""
        return self._input((v, shape), v, shape, form or (shape[1:] if len(shape) == 4 else (shape[1], 1, 1)))

    def _param(self, v, buffer=False, frozen=False):
        self.params.append(v)
        self.buffers.append(buffer)
        self.frozen_stats.append(frozen)

    def _params(self, *given):
        for v in given:
            if v is not None:
                self._param(v)

    def _channels(self, x):
        return n.value_channels(self.graph.handle, x)

    def conv2d(self, scope, x, weight, bias, kernel, stride, padding, dilation, groups):
        self._params(weight, bias)
        return self.graph.conv2d(scope, x, weight.shape[0], kernel, stride, padding, dilation, groups, bias is not None)

    def conv_transpose2d(self, scope, x, weight, bias, stride, padding, output_padding, dilation, groups):
        self._params(weight, bias)
        return self.graph.conv_transpose2d(scope, x, weight.shape[1] * groups, weight.shape[2:], stride, padding, output_padding, dilation, groups,
                                           bias is not None)

    def pad(self, x, top, bottom, left, right):
        """Zeros around x; a negative number cuts rows or columns off. It is a depthwise convolution whose kernel has a single 1: with p zeros
        on both sides of H rows and K rows in the kernel, the 1 in row p - top, there are H + 2p - K + 1 = H + top + bottom rows."""
        p, q = max(top, bottom, 0), max(left, right, 0)
        kernel, c = (2 * p - top - bottom + 1, 2 * q - left - right + 1), self._channels(x)
        weight = torch.zeros(c, 1, *kernel)
        weight[:, :, p - top, q - left] = 1
        self._param(weight)
        return self.graph.conv2d("pad", x, c, kernel, (1, 1), (p, q), (1, 1), c, False)

    def zeros(self, x):
        """Zeros in the shape of x."""
        self._param(torch.zeros(self._channels(x)))
        return self.graph.scale("zeros", x, True, False, 1.0, 0.0)

    def repeat_channel(self, x, channels):
        """The only channel of x so many times."""
        self._param(torch.ones(channels, 1, 1, 1))
        return self.graph.conv2d("repeat", x, channels, (1, 1), (1, 1), (0, 0), (1, 1), 1, False)

    def mean_channel(self, x, factor=1):
        """The mean of the channels of x, times factor, as one channel."""
        self._param(torch.full((1, self._channels(x), 1, 1), factor / self._channels(x)))
        return self.graph.conv2d("mean", x, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1, False)

    def linear(self, scope, x, weight, bias):
        self._params(weight, bias)
        return self.graph.linear(scope, x, weight.shape[0], bias is not None)

    def scale(self, scope, x, weight, bias, factor, offset):
        self._params(weight, bias)
        return self.graph.scale(scope, x, weight is not None, bias is not None, factor, offset)

    def batchnorm(self, scope, x, weight, bias, mean, var, batch_statistics, momentum, eps):
        channels = self._channels(x)
        affine = weight is not None or bias is not None
        if affine:
            self._param(weight if weight is not None else torch.ones(channels))
            self._param(bias if bias is not None else torch.zeros(channels))
        self._param(mean if mean is not None else torch.zeros(channels), buffer=True, frozen=not batch_statistics)
        self._param(var if var is not None else torch.ones(channels), buffer=True)
        return self.graph.batchnorm(scope, x, eps, momentum, affine)


def _strides4(tensor, h, w):
    """Strides of n, h, w, c, for a tensor N x C x H x W, or N x F with F = C*H*W in that order."""
    s = tensor.stride()
    if tensor.dim() == 4:
        return (s[0], s[2], s[3], s[1])
    return (s[0], w * s[1], s[1], h * w * s[1])


def _taker(places):
    """A function that takes the elements at these places out of a list."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[i] for i in places]


def _note_writes(tensors):
    """Autograd learns that they were written to."""
    if _MANY_AT_ONCE:
        torch.autograd.graph.increment_version(tensors)
    else:
        for t in tensors:
            torch.autograd.graph.increment_version(t)


def _write_back(statistics, buffers):
    for t, buffer in zip(statistics, buffers):
        if t is buffer:
            torch.autograd.graph.increment_version(t)
        else:
            t.copy_(buffer)


class Region:
    def __init__(self, nodes, outputs, context, pool):
        self.nodes, self.outputs, self.context, self.pool = nodes, outputs, context, pool
        self.plans = {}
        self.runs = 0
        self.seconds = 0.0  # spent in the engine, forward and backward
        builder = _Builder()
        for node in nodes:
            made = node.lowered.emit(builder)
            for v, value in zip(node.outs, made if isinstance(made, list) else [made]):
                builder.engine[v] = value
        for v in outputs:
            builder.graph.output(builder.engine[v])
        try:
            builder.graph.check()
        except n.Error as error:
            raise CannotBuild(str(error)) from None
        self.graph, self.params, self.buffers = builder.graph, builder.params, builder.buffers
        self.inputs, self.spread = [v for v, _ in builder.inputs], [shape for _, shape in builder.inputs]
        self.frozen_stats = builder.frozen_stats
        if self.graph.param_count() != len(self.params):
            raise CannotBuild("its parameters were counted wrongly")
        self.trains = any(buffer and not frozen for buffer, frozen in zip(self.buffers, self._frozen_pairs()))
        self.batch = nodes[0].lowered.batch
        self.input_sizes = [sizes[1:] for sizes in builder.sizes]
        # Tensors that autograd sees: feature maps, then parameters that learn; the buffers go by pointer.
        self.learnable = [i for i, (p, buffer) in enumerate(zip(self.params, self.buffers)) if not buffer and not isinstance(p, torch.Tensor)]
        self.statistics = [(i, p) for i, (p, buffer) in enumerate(zip(self.params, self.buffers)) if buffer and not isinstance(p, torch.Tensor)]
        self.sources = self._sources()
        constants = [i for i, p in enumerate(self.params) if isinstance(p, torch.Tensor)]
        self.constants = [self.params[i] for i in constants]
        order = {i: place for place, i in enumerate([*self.learnable, *[i for i, _ in self.statistics], *constants])}
        self.in_order = _taker([order[i] for i in range(len(self.params))])  # of parameters of the graph: learnable, statistics, constants
        self.nowhere = [None] * (len(self.params) - len(self.learnable))
        self.spreads = any(shape is not None for shape in self.spread)

    def _sources(self):
        """Per output: positions among the tensors that autograd sees of those it depends on."""
        place = {v: {i} for i, v in enumerate(self.inputs)}
        for i, p in enumerate(self.learnable):
            place.setdefault(self.params[p], set()).add(len(self.inputs) + i)
        for node in self.nodes:
            found = set().union(*(place.get(v, ()) for v in node.reads))
            for v in node.outs:
                if v is not None:
                    place[v] = found
        return [place[v] for v in self.outputs]

    def _frozen_pairs(self):
        """Per parameter: does it belong to a BN that normalises with its running statistics? (var follows mean)"""
        frozen, last = [], False
        for i, buffer in enumerate(self.buffers):
            last = self.frozen_stats[i] or (last and buffer and i > 0 and self.frozen_stats[i - 1])
            frozen.append(last)
        return frozen

    def plan(self, learns, input_gradients, grad):
        """The plan for these flags of self.learnable; grad: a backward may follow."""
        key = (learns, input_gradients, grad)
        plan = self.plans.get(key)
        if plan is None:
            frozen = [True] * len(self.params)
            for i, learn in zip(self.learnable, learns):
                frozen[i] = not (learn and grad)
            train = grad or self.trains
            try:
                plan = _engine.Plan(self.context, self.graph, self.batch, train, frozen, self.frozen_stats if train else None,
                                    input_gradients and grad)
            except n.Error as error:
                raise CannotBuild(str(error)) from None
            plan.output_sizes = []
            for i, v in enumerate(self.outputs):
                _, h, w, c = plan.output_shape(i)
                plan.output_sizes.append((h, w))
                if tuple(v.shape) not in ((self.batch, c, h, w), (self.batch, c * h * w)):
                    raise CannotBuild(f"the engine's result is {c} x {h} x {w}, PyTorch's {tuple(v.shape)}")
            self.plans[key] = plan
            while len(self.plans) > 4:
                del self.plans[next(iter(self.plans))]
        return plan

    def place(self, slots):
        """Learn where the tensors of a call are."""
        self.take_maps = _taker([slots[v] for v in self.inputs])
        self.take_weights = _taker([slots[self.params[i]] for i in self.learnable])
        self.take_statistics = _taker([slots[v] for _, v in self.statistics])
        self.put = [slots[v] for v in self.outputs]

    def __call__(self, env):
        """Run on the tensors in env, and put the outputs there."""
        maps, weights, statistics = self.take_maps(env), self.take_weights(env), self.take_statistics(env)
        if self.spreads:
            maps = [t if shape is None else t.detach().expand(shape) for t, shape in zip(maps, self.spread)]
        learns = tuple(map(_REQUIRES_GRAD, weights))
        asks = any(map(_REQUIRES_GRAD, maps))
        grad = torch.is_grad_enabled() and (asks or any(learns))
        plan = self.plan(learns, asks, grad)
        self.runs += 1
        call = _Call(self, plan, statistics)
        if grad:
            outputs = _Function.apply(call, *maps, *weights)
        else:
            outputs, run = call.forward(maps, [t.detach() for t in weights], self.trains)
            run.release()
        for slot, t in zip(self.put, outputs):
            env[slot] = t


class _Call:
    """One forward of a region, and its backward."""

    def __init__(self, region, plan, statistics):
        self.region, self.plan, self.statistics = region, plan, statistics
        self.run = None

    def _tensors(self, tensors, value_sizes):
        array = (n.Tensor * len(tensors))()
        for slot, tensor, (h, w) in zip(array, tensors, value_sizes):
            if tensor is not None:
                slot.data = tensor.data_ptr()
                slot.stride[:] = _strides4(tensor, h, w)
        return array

    def forward(self, maps, weights, update):
        """Outputs and the run. update: running statistics take part; False leaves them alone (a repeated forward)."""
        region, plan = self.region, self.plan
        if not all(map(_IS_CONTIGUOUS, weights)):
            weights = [t.contiguous() for t in weights]
        buffers = self.statistics
        if not (update or not region.trains) or not all(map(_IS_CONTIGUOUS, buffers)):
            buffers = [t if t.is_contiguous() and (update or not region.trains) else t.clone(memory_format=torch.contiguous_format) for t in buffers]
        params = region.in_order([*weights, *buffers, *region.constants])
        outputs = [torch.empty_strided(v.shape, v.stride, dtype=torch.float32) for v in region.outputs]
        run = region.pool.acquire(plan)
        pointers = (c_void_p * len(params))(*map(_DATA_PTR, params))
        maps_array = self._tensors(maps, region.input_sizes)
        arguments = n.ForwardArgs(size=ctypes.sizeof(n.ForwardArgs), inputs=maps_array, outputs=self._tensors(outputs, plan.output_sizes), params=pointers)
        run.keep = (arguments, maps_array, pointers, params)
        start = time.perf_counter()
        n.forward(run.handle, ctypes.byref(arguments))
        region.seconds += time.perf_counter() - start
        if update and region.trains:
            if buffers is self.statistics:
                _note_writes(buffers)
            else:
                _write_back(self.statistics, buffers)
        return outputs, run

    def backward(self, run, maps, weights, gradients):
        """Gradients of feature maps and learnable parameters; None where nobody asked."""
        region, plan = self.region, self.plan
        map_gradients = [torch.empty_like(t) if t.requires_grad else None for t in maps]
        if all(map(_REQUIRES_GRAD, weights)) and all(map(_IS_CONTIGUOUS, weights)):
            weight_gradients = list(map(torch.empty_like, weights))
            addresses = list(map(_DATA_PTR, weight_gradients))
        else:
            weight_gradients = [torch.empty_like(t, memory_format=torch.contiguous_format) if t.requires_grad else None for t in weights]
            addresses = [None if g is None else g.data_ptr() for g in weight_gradients]
        pointers = (c_void_p * len(region.params))(*region.in_order(addresses + region.nowhere))
        incoming = self._tensors(gradients, plan.output_sizes)
        outgoing = self._tensors(map_gradients, region.input_sizes) if any(g is not None for g in map_gradients) else None
        arguments = n.BackwardArgs(size=ctypes.sizeof(n.BackwardArgs), output_gradients=incoming, param_gradients=pointers, input_gradients=outgoing)
        start = time.perf_counter()
        n.backward(run.handle, ctypes.byref(arguments))
        region.seconds += time.perf_counter() - start
        run.release()
        return (*map_gradients, *weight_gradients)


class _Function(torch.autograd.Function):
    """Two calls of the engine. Everything that belongs to the call is on ctx: several forwards may wait for their backward."""

    @staticmethod
    def forward(ctx, call, *tensors):
        ctx.set_materialize_grads(False)
        ctx.call = call
        count = len(call.region.inputs)
        # Saved for PyTorch's check that nobody changed them before the backward, and for a second backward (retain_graph).
        ctx.save_for_backward(*tensors)
        outputs, ctx.run = call.forward(tensors[:count], tensors[count:], True)
        asked = ctx.needs_input_grad[1:]
        ctx.mark_non_differentiable(*[y for y, sources in zip(outputs, call.region.sources) if not any(asked[i] for i in sources)])
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        call, tensors = ctx.call, ctx.saved_tensors
        count = len(call.region.inputs)
        maps, weights = tensors[:count], tensors[count:]
        run, ctx.run = ctx.run, None
        if run is None or run.generation != _engine.generation:  # a second backward of a graph that was retained: what the first one consumed is computed again
            _, run = call.forward(maps, weights, False)
        gradients = [g if g is None or g.dtype == torch.float32 else g.float() for g in gradients]
        with torch.no_grad():
            return (None, *call.backward(run, maps, weights, gradients))
