"""Cutting a trace into regions that run in the engine and stretches that run in PyTorch.

Every node has a color: where it runs, under which gradient mode, with how many images. Levels are numbered so that level L holds nodes
of one color only, a node's level is at least those of the nodes it reads from, and only nodes of one color share a level. Executing
level after level respects every dependency, and the nodes of an engine level form one region: with two colors that is the smallest
number of changes between engine and PyTorch that the graph allows.
"""
from . import _lower_elementwise, _lower_layers, _lower_maps  # noqa: F401 (they register their rules)
from ._lower import consider, crosses, is_value
from ._rewrite import rewrite


class Level:
    """Nodes that run together; `engine` tells where."""

    def __init__(self, engine, grad, nodes):
        self.engine, self.grad, self.nodes = engine, grad, nodes


def _needed(trace):
    """Nodes whose result somebody reads, or that have an effect."""
    needed = set()
    stack = [v.node for v in trace.outputs if hasattr(v, "node") and v.node] + [n for n in trace.nodes if n.effect]
    while stack:
        node = stack.pop()
        if node in needed:
            continue
        needed.add(node)
        stack += [v.node for v in node.reads if v.node] + node.after
    return [n for n in trace.nodes if n in needed]


def _color(node):
    if node.lowered is None:
        return ("torch",)
    return ("engine", node.grad, node.lowered.batch)


def _level_nodes(nodes):
    colors = {("torch",): 0}  # first, for what needs no input can run before everything
    for node in nodes:
        colors.setdefault(_color(node), len(colors))
    count = len(colors)
    for node in nodes:
        lowest, color = 0, colors[_color(node)]
        for value in node.reads:
            if value.node:
                # A weight that is computed must be there before the region starts.
                operand = node.lowered is None or value in node.lowered.operands
                lowest = max(lowest, value.node.level + (0 if operand or value.node.lowered is None else 1))
        for other in node.after:
            lowest = max(lowest, other.level)
        node.level = lowest + (color - lowest) % count
    levels = {}
    for node in nodes:
        levels.setdefault(node.level, []).append(node)
    return [levels[k] for k in sorted(levels)]


def _worth_it(nodes):
    """A region pays only around convolutions: what else there is reads and writes each tensor once, as PyTorch does."""
    return any(n.lowered.is_conv for n in nodes)


def _reject(nodes, reason):
    for node in nodes:
        node.lowered, node.reason = None, reason


def _strangers(trace, nodes):
    """Nodes of the engine on both sides of a value that would enter or leave a region though its shape is none that crosses."""
    found = {v.node for v in trace.outputs if is_value(v) and v.node and not crosses(v)}
    for node in nodes:
        for v in node.reads:
            if v.node and not crosses(v) and (v.node.lowered or node.lowered and v in node.lowered.operands):
                if v.node.level != node.level or not (v.node.lowered and node.lowered):
                    found |= {v.node, node}
    return [n for n in found if n.lowered]


def partition(trace):
    """The levels of a trace, in order of execution."""
    rewrite(trace)
    nodes = _needed(trace)
    for node in nodes:
        consider(node)
    while True:
        levels = _level_nodes(nodes)
        strangers = _strangers(trace, nodes)
        poor = [n for group in levels if group[0].lowered is not None and not _worth_it(group) for n in group]
        if not strangers and not poor:
            return [Level(group[0].lowered is not None, group[0].grad, group) for group in levels]
        _reject(poor, "alone between operators that run in PyTorch")
        _reject(strangers, "it makes a tensor of other dimensions that PyTorch reads")
