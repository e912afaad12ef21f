"""A trace made executable: regions in the engine, the rest in PyTorch, in the order of the levels."""
import collections

import torch
from torch.utils import _pytree as pytree

from . import _partition
from ._region import CannotBuild, Region
from ._trace import Value


class Program:
    """What one call signature of a module runs."""

    def __init__(self, trace, context, pool, places):
        self.trace = trace
        self.levels = _partition.partition(trace)
        self.steps = []  # (Level, Region or None)
        last = self._last_reads()
        for level in self.levels:
            region = None
            if level.engine:
                made = {v for node in level.nodes for v in node.outs if v is not None}
                outputs = [v for v in sorted(made, key=lambda v: v.index) if last.get(v, level) is not level]
                try:
                    region = Region(level.nodes, outputs, context, pool)
                    self._try_plans(region)
                except CannotBuild as reason:
                    region = None
                    for node in level.nodes:
                        node.lowered, node.reason = None, str(reason)
            self.steps.append((level, region))
        self.runs = 0
        self.regions = [region for _, region in self.steps if region]
        counts = self._take_counts()
        slots = self._slots(places)
        self.outputs = [(slots[v], None) if isinstance(v, Value) else (None, v) for v in trace.outputs]
        self.counts = [[slots[v] for v in values] for values in counts]
        self.calls = [None if region else [_NodeCall(node, slots) for node in level.nodes] for level, region in self.steps]
        self.drop_after = [[] for _ in self.levels]
        for region in self.regions:
            region.place(slots)
        where = {id(level): i for i, level in enumerate(self.levels)}
        for v, level in last.items():
            if level is not None and v.kind == "node":
                self.drop_after[where[id(level)]].append(slots[v])

    def _slots(self, places):
        """Value -> its position among all tensors of a call: parameters and buffers, inputs, tensors that modules keep in other
        attributes, and results of nodes."""
        values = self.trace.values
        slots, first = {}, len(places) + len(self.trace.inputs)
        self.others = []
        for v in values:
            if v.kind == "input":
                slots[v] = len(places) + v.where
            elif v.kind == "attribute":
                place = places.get((id(v.where[0]), v.where[1]))
                if place is None:
                    place = first + len(self.others)
                    self.others.append(v.where)
                slots[v] = place
        first += len(self.others)
        nodes = [v for v in values if v.kind == "node"]
        slots.update((v, first + i) for i, v in enumerate(nodes))
        self.made = len(nodes)
        return slots

    def _take_counts(self):
        """Per step: buffers that only count batches, one more at each call. They are raised together, and their nodes taken out."""
        reads = collections.Counter(v for level in self.levels for node in level.nodes for v in node.reads)
        reads.update(v for v in self.trace.outputs if isinstance(v, Value))
        counts = []
        for level, region in self.steps:
            counts.append([])
            if region:
                continue
            rest = []
            for node in level.nodes:
                mine = node.bookkeeping and node.func is torch.Tensor.add_ and node.args[1:] == (1,) and not node.kwargs and node.args[0].is_leaf
                if mine and reads[node.args[0]] == 1 and not any(reads[v] for v in node.outs):
                    counts[-1].append(node.args[0])
                else:
                    rest.append(node)
            level.nodes = rest
        return counts

    def _last_reads(self):
        """Per value: the last level that reads it; None: it is a result of the program."""
        last = {}
        for level in self.levels:
            for node in level.nodes:
                for v in node.outs:
                    if v is not None:
                        last.setdefault(v, level)
                for v in node.reads:
                    last[v] = level
        for v in self.trace.outputs:
            if isinstance(v, Value):
                last[v] = None
        return last

    @staticmethod
    def _try_plans(region):
        """Make the plan a first call will most likely want, so that what cannot be planned is known before anything has run."""
        learns = tuple(True for _ in region.learnable)
        grad = torch.is_grad_enabled()
        if grad:
            learns = tuple(region.params[i].is_leaf and _is_learning(region.params[i]) for i in region.learnable)
            maps = any(v.kind == "node" for v in region.inputs)
            grad = any(learns) or maps
            region.plan(learns, maps and any(_upstream_learns(v) for v in region.inputs), grad)
        else:
            region.plan(tuple(_is_learning(region.params[i]) for i in region.learnable), False, False)

    def __call__(self, attributes, tensors):
        """Run on the modules' parameters and buffers and on the input tensors (flat); the flat outputs."""
        self.runs += 1
        env = [*attributes, *tensors, *[getattr(*where) for where in self.others], *[None] * self.made]
        for i, (level, region) in enumerate(self.steps):
            if region:
                with torch.set_grad_enabled(level.grad):
                    region(env)
            else:
                if self.counts[i]:
                    with torch.no_grad():
                        torch._foreach_add_([env[slot] for slot in self.counts[i]], 1)
                for call in self.calls[i]:
                    call(env)
            for slot in self.drop_after[i]:
                env[slot] = None
        return [v if slot is None else env[slot] for slot, v in self.outputs]


class _NodeCall:
    """A node that runs in PyTorch."""

    def __init__(self, node, slots):
        self.func, self.grad, self.mutates = node.func, node.grad, [slots[v] for v in node.mutates]
        self.leaves, self.spec = pytree.tree_flatten((node.args, node.kwargs))
        self.reads = [(i, slots[v]) for i, v in enumerate(self.leaves) if isinstance(v, Value)]
        self.flat = not node.kwargs and len(self.leaves) == len(node.args) and all(x is y for x, y in zip(self.leaves, node.args))
        self.outs = [None if v is None else slots[v] for v in node.outs]
        for i, _ in self.reads:
            self.leaves[i] = None

    def __call__(self, env):
        leaves = list(self.leaves)
        for i, slot in self.reads:
            leaves[i] = env[slot]
        with torch.set_grad_enabled(self.grad):
            if self.flat:
                result = self.func(*leaves)
            else:
                args, kwargs = pytree.tree_unflatten(leaves, self.spec)
                result = self.func(*args, **kwargs)
        results = [result] if isinstance(result, torch.Tensor) else pytree.tree_leaves(result)
        for k, slot in enumerate(self.outs):
            if slot is not None:
                env[slot] = results[k] if k < len(results) else env[self.mutates[k - len(results)]]


def _is_learning(v):
    if v.kind != "attribute":
        return False
    return getattr(*v.where).requires_grad


def _upstream_learns(v):
    return v.kind == "node"
