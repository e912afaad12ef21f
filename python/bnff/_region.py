"""A region: nodes of a trace as one graph of the engine, run by one autograd function."""
import ctypes
import time
from ctypes import c_void_p

import torch

from . import _engine
from . import _native as n
from ._lower import chw


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

    def mean_channel(self, x):
        """The mean of the channels of x, as one channel."""
        self._param(torch.full((1, self._channels(x), 1, 1), 1 / self._channels(x)))
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
        self.constants = {i: p for i, p in enumerate(self.params) if isinstance(p, torch.Tensor)}

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
            for i, v in enumerate(self.outputs):
                _, h, w, c = plan.output_shape(i)
                if tuple(v.shape) not in ((self.batch, c, h, w), (self.batch, c * h * w)):
                    raise CannotBuild(f"the engine's result is {c} x {h} x {w}, PyTorch's {tuple(v.shape)}")
            self.plans[key] = plan
            while len(self.plans) > 4:
                del self.plans[next(iter(self.plans))]
        return plan

    def __call__(self, fetch):
        """Run on the tensors that fetch(Value) gives; the outputs in order."""
        maps = [fetch(v) if shape is None else fetch(v).detach().expand(shape) for v, shape in zip(self.inputs, self.spread)]
        weights = [fetch(self.params[i]) for i in self.learnable]
        statistics = [fetch(v) for _, v in self.statistics]
        grad = torch.is_grad_enabled() and any(t.requires_grad for t in (*maps, *weights))
        plan = self.plan(tuple([t.requires_grad for t in weights]), any(t.requires_grad for t in maps), grad)
        self.runs += 1
        call = _Call(self, plan, statistics)
        if not grad:
            outputs, run = call.forward(maps, [t.detach() for t in weights], self.trains)
            run.release()
            return outputs
        return _Function.apply(call, *maps, *weights)


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
        region = self.region
        params = [None] * len(region.params)
        for i, t in region.constants.items():
            params[i] = t
        for i, t in zip(region.learnable, weights):
            params[i] = t if t.is_contiguous() else t.contiguous()
        buffers = []
        for (i, _), t in zip(region.statistics, self.statistics):
            params[i] = t if t.is_contiguous() and (update or not region.trains) else t.clone(memory_format=torch.contiguous_format)
            buffers.append(params[i])
        outputs = [torch.empty_strided(v.shape, v.stride, dtype=torch.float32) for v in region.outputs]
        sizes = [self.plan.output_shape(i)[1:3] for i in range(len(outputs))]
        run = region.pool.acquire(self.plan)
        pointers = (c_void_p * len(params))(*[t.data_ptr() for t in params])
        maps_array = self._tensors(maps, region.input_sizes)
        arguments = n.ForwardArgs(size=ctypes.sizeof(n.ForwardArgs), inputs=maps_array, outputs=self._tensors(outputs, sizes), params=pointers)
        run.keep = (arguments, maps_array, pointers, params)
        start = time.perf_counter()
        n.forward(run.handle, ctypes.byref(arguments))
        region.seconds += time.perf_counter() - start
        if update and region.trains:
            for t, buffer in zip(self.statistics, buffers):
                if t is buffer:
                    torch.autograd.graph.increment_version(t)
                else:
                    t.copy_(buffer)
        return outputs, run

    def backward(self, run, maps, weights, gradients):
        """Gradients of feature maps and learnable parameters; None where nobody asked."""
        region, plan = self.region, self.plan
        map_gradients = [torch.empty_like(t) if t.requires_grad else None for t in maps]
        weight_gradients = [torch.empty(t.shape, dtype=t.dtype) if t.requires_grad else None for t in weights]
        pointers = (c_void_p * len(region.params))()
        for i, g in zip(region.learnable, weight_gradients):
            pointers[i] = g.data_ptr() if g is not None else None
        sizes = [plan.output_shape(i)[1:3] for i in range(len(gradients))]
        incoming = self._tensors(gradients, sizes)
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
