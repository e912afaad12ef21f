"""A trace made executable: regions in the engine, the rest in PyTorch, in the order of the levels."""
import collections

import torch
from torch.utils import _pytree as pytree

from . import _partition
from ._region import CannotBuild, Region
from ._trace import Value


class Program:
    """What one call signature of a module runs."""

    def __init__(self, trace, context, pool):
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
        self.counts = self._take_counts()
        self.drop_after = [[] for _ in self.levels]
        where = {id(level): i for i, level in enumerate(self.levels)}
        for v, level in last.items():
            if level is not None and v.kind == "node":
                self.drop_after[where[id(level)]].append(v)

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

    def __call__(self, tensors):
        """Run on the input tensors (flat); the flat outputs."""
        self.runs += 1
        env = {}

        def fetch(v):
            if v.kind == "node":
                return env[v]
            if v.kind == "input":
                return tensors[v.where]
            module, name = v.where
            return getattr(module, name)

        for i, (level, region) in enumerate(self.steps):
            if region:
                with torch.set_grad_enabled(level.grad):
                    env.update(zip(region.outputs, region(fetch)))
            else:
                if self.counts[i]:
                    with torch.no_grad():
                        torch._foreach_add_([fetch(v) for v in self.counts[i]], 1)
                for node in level.nodes:
                    self._run_node(node, fetch, env)
            for v in self.drop_after[i]:
                env.pop(v, None)
        return [fetch(v) if isinstance(v, Value) else v for v in self.trace.outputs]

    @staticmethod
    def _run_node(node, fetch, env):
        args, kwargs = pytree.tree_map(lambda x: fetch(x) if isinstance(x, Value) else x, (node.args, node.kwargs))
        with torch.set_grad_enabled(node.grad):
            result = node.func(*args, **kwargs)
        leaves = pytree.tree_leaves(result)
        for k, v in enumerate(node.outs):
            if v is not None:
                env[v] = leaves[k] if k < len(leaves) else fetch(node.mutates[k - len(leaves)])


def _is_learning(v):
    if v.kind != "attribute":
        return False
    return getattr(*v.where).requires_grad


def _upstream_learns(v):
    return v.kind == "node"
