"""Everything of a module that its forward may look at: as `facts`, which are compared and hashed, and a quick test that nothing of it has
changed since the last call.

A recorded forward holds for one state of its modules: their kinds, hooks, plain attributes, and what their parameters and buffers are
(not their numbers). Reading that in Python takes some 2 % of a small step, so a State keeps what it saw, and looks again by loops that
run in C: the same objects in the same places, and the same shapes.
"""
import enum
import types
from collections import OrderedDict
from itertools import chain, compress
from operator import attrgetter, is_, itemgetter

import torch
from torch.nn.parameter import is_lazy

_PLAIN = frozenset((int, float, complex, bool, str, bytes, type(None), type(Ellipsis), torch.dtype, torch.memory_format, torch.layout, torch.device,
                    type, types.FunctionType, types.BuiltinFunctionType))
_FUNCTIONS = (types.FunctionType, types.MethodType)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OWN = frozenset(torch.nn.Module().__dict__)
_IDLE = frozenset(name for name, v in torch.nn.Module().__dict__.items() if isinstance(v, (dict, set)) and name not in (*_HOOKS, "_parameters", "_buffers", "_modules"))
_HOMES = ("_parameters", "_buffers")
_CONTAINERS = (list, set, dict, OrderedDict)
_TENSOR_FACTS = tuple(map(attrgetter, ("shape", "dtype", "device", "requires_grad")))


class Lazy(Exception):
    """A parameter has no shape yet: the first call of the original forward gives it one."""


def is_plain(v):
    """Can v be compared, and does it never change?"""
    kind = type(v)
    return kind in _PLAIN or (issubclass(kind, tuple) and all(map(is_plain, v))) or issubclass(kind, enum.Enum)


def _content(v):
    """What a container holds; None if something in it is not plain."""
    items = tuple(v.items() if isinstance(v, dict) else v)
    return items if is_plain(items) else None


def _tensor_facts(t):
    if is_lazy(t):
        raise Lazy
    return (t.shape, t.dtype, t.device, t.requires_grad, t.layout)


def _attribute_facts(name, v):
    kind = type(v)
    if name in _IDLE:
        return None  # no forward depends on it
    if kind in _CONTAINERS:
        return (name, kind, len(v), None if name in _OWN else _content(v))
    if is_plain(v):
        return (name, v)
    if kind is types.MethodType:
        return (name, v.__func__, id(v.__self__))
    return (name, *_tensor_facts(v)) if isinstance(v, torch.Tensor) else (name, kind)


def _odd_facts(modules):
    """Of attributes that are neither plain nor containers nor modules, and so are not held between calls."""
    return [_attribute_facts(name, v) for m in modules for name, v in m.__dict__.items()]


class State:
    """The state of a module at one call. `facts`: all of it. `found`: its parameters and buffers. `places`: (module's id, name) -> position
    in `found`."""

    def __init__(self, module):
        self.modules = list(module.modules())
        self.kinds = list(map(type, self.modules))
        self.tables, self.odd, self.takers, self.rows = [], [], [], []
        takers = {}  # names of attributes -> what takes those that matter out of a module's
        self.empty, self.filled, self.lists, self.dicts = [], [], [], []
        facts = [fact for m, kind in zip(self.modules, self.kinds) for fact in (id(m), kind)]
        for m in self.modules:
            attributes = m.__dict__
            facts += [_attribute_facts(name, v) for name, v in attributes.items() if name != "forward" or type(v) in _FUNCTIONS]
            names = tuple(attributes)
            held = True
            for name, v in attributes.items():
                if name in _IDLE:
                    continue
                if type(v) not in _CONTAINERS:
                    held &= name == "forward" or is_plain(v) or isinstance(v, (torch.nn.Module, types.MethodType))
                elif not v:
                    self.empty.append(v)
                elif name not in _OWN and _content(v) is not None:
                    (self.dicts if isinstance(v, dict) else self.lists).append(v)
                elif name not in _HOMES:
                    self.filled.append(v)
            if held:
                if names not in takers:
                    takers[names] = itemgetter(*[name for name in names if name not in _IDLE])
                self.takers.append(takers[names])
                self.rows.append(attributes)
            else:
                self.odd.append(m)
            if attributes["_modules"]:
                self.tables.append(attributes["_modules"])
        self.tables += self.dicts
        self.sizes = list(map(len, self.tables))
        self.widths = list(map(len, self.rows))
        self.values = list(self._values())
        self.lengths = list(map(len, self.filled))
        self.keys = list(chain.from_iterable(self.dicts))
        self.items = list(chain.from_iterable(self.lists))
        self.list_sizes = list(map(len, self.lists))
        self.odd_facts = _odd_facts(self.odd)
        self._look_at_tensors()
        first = {}
        facts += self.names
        facts += [t if t is None else (first.setdefault(id(t), len(first)), *_tensor_facts(t)) for t in self.found]
        self.facts = tuple(facts)

    def _look_at_tensors(self):
        self.homes = [home for m in self.modules for home in (m._parameters, m._buffers) if home]
        self.names = list(chain.from_iterable(map(dict.keys, self.homes)))
        self.found = list(chain.from_iterable(map(dict.values, self.homes)))
        owners = [id(m) for m in self.modules for home in (m._parameters, m._buffers) for _ in home]
        self.places = {place: i for i, place in enumerate(zip(owners, self.names))}
        self.ids = list(map(id, self.found))
        self.present = [t is not None for t in self.found]
        here = [t for t in self.found if t is not None]
        if any(map(is_lazy, here)):
            raise Lazy
        self.tensor_facts = [list(map(fact, here)) for fact in _TENSOR_FACTS]

    def _values(self):
        """What is compared object by object: attributes, parts, contents of dictionaries."""
        return chain(chain.from_iterable(take(attributes) for take, attributes in zip(self.takers, self.rows)), chain.from_iterable(map(dict.values, self.tables)))

    def tensors(self):
        """The parameters and buffers, if all else is as it was; otherwise None."""
        try:
            if (list(map(type, self.modules)) != self.kinds or list(map(len, self.rows)) != self.widths
                    or list(map(len, self.tables)) != self.sizes or not all(map(is_, self._values(), self.values))
                    or any(self.empty) or list(map(len, self.filled)) != self.lengths
                    or list(map(len, self.lists)) != self.list_sizes or not all(map(is_, chain.from_iterable(self.lists), self.items))
                    or list(chain.from_iterable(self.dicts)) != self.keys
                    or (self.odd and _odd_facts(self.odd) != self.odd_facts)
                    or list(chain.from_iterable(map(dict.keys, self.homes))) != self.names):
                return None
        except KeyError:  # an attribute is gone
            return None
        found = list(chain.from_iterable(map(dict.values, self.homes)))
        if list(map(id, found)) != self.ids:
            return None
        here = list(compress(found, self.present))
        return found if all(list(map(fact, here)) == seen for fact, seen in zip(_TENSOR_FACTS, self.tensor_facts)) else None


def difference(a, b):
    """What two `facts` differ in first, in words."""
    for x, y in zip(a, b):
        if x != y:
            return f"attribute {x[0]}" if isinstance(x, tuple) and x and isinstance(x[0], str) else "a parameter"
    return "the tree of modules"
