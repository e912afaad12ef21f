"""bnff.compile: a module whose forward runs in the engine, as far as it can."""
import collections
import copy
import inspect
import threading
import types
import warnings
from collections import OrderedDict

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree
from torch.utils._device import DeviceContext

from . import _engine, _trace
from ._program import Program

_CACHE = 16  # programs kept per module, the least recently used is dropped
_PLAIN = frozenset((int, float, bool, str, type(None), torch.dtype, torch.memory_format))


def _fingerprint(module, out):
    """Everything of the module and those below that its forward may look at: their kinds, hooks, parameters, and plain attributes."""
    plain = _PLAIN
    for m in module.modules():
        attributes = m.__dict__
        out.append(id(m))
        out.append(type(m))
        for v in attributes.values():
            kind = type(v)
            if kind in plain or (kind is tuple and plain.issuperset(map(type, v))):
                out.append(v)
            elif kind is OrderedDict or kind is dict:  # hooks among them
                out.append(len(v))
        for name, p in attributes["_parameters"].items():
            out.append(name if p is None else (name, p.shape, p.dtype, p.requires_grad, p.device.type))
        for name, p in attributes["_buffers"].items():
            out.append(name if p is None else (name, p.shape, p.dtype, p.device.type))


class Declined:
    """What the cache holds where a module is left to PyTorch."""

    def __init__(self, reason, children=False):
        self.reason = reason
        self.children = children  # the modules inside may still be compiled, each by itself
        self.runs = 0


def _only_default_devices():
    """`with torch.device("cpu")` and set_default_device are function modes too, which change nothing here."""
    return all(type(mode) is DeviceContext and torch.device(mode.device).type == "cpu" for mode in _get_current_function_mode_stack())


def _untouchable():
    """Is some other machinery of PyTorch at work that must see every operator: a tracer, a function transform, a tensor mode?"""
    return (_trace.active() or torch.compiler.is_compiling() or torch.jit.is_tracing() or (torch._C._len_torch_function_stack() > 0 and not _only_default_devices())
            or torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active()
            or torch.autograd.forward_ad._current_level >= 0 or torch.nn.modules.module._has_any_global_hook())


class Dispatcher:
    """Takes the place of module.forward."""

    def __init__(self, module, level=None, known=()):
        self.module = module
        self.level = level
        self.known = known  # positions of arguments, tensors of one number, that are treated as the numbers they hold
        self.lock = threading.RLock()
        self.warned = set()
        self._forget()

    def _forget(self):
        self.programs = collections.OrderedDict()
        self.pools = {}
        self.generation = _engine.generation
        self.children = []

    @property
    def __signature__(self):
        return inspect.signature(self.original)  # trainers look at it to find out which arguments a model takes

    @property
    def original(self):
        return types.MethodType(type(self.module).forward, self.module)

    # -- copies: a copied module has a dispatcher of its own --

    def __deepcopy__(self, memo):
        return Dispatcher(copy.deepcopy(self.module, memo), self.level)

    def __reduce__(self):
        return _restore, (self.module, self.level)

    # -- calls --

    def __call__(self, *args, **kwargs):
        if _untouchable():
            return self.original(*args, **kwargs)
        leaves, spec = pytree.tree_flatten((args, kwargs))
        program = self.program_for(leaves, spec, args, kwargs)
        if isinstance(program, Declined):
            program.runs += 1
            return self.original(*args, **kwargs)
        if torch.is_autocast_enabled("cpu"):
            self.warn("autocast", "bnff: this runs in float32 under autocast: there are no bfloat16 kernels yet")
            with torch.autocast("cpu", enabled=False):
                outputs = program([x for x in leaves if isinstance(x, torch.Tensor)])
        else:
            outputs = program([x for x in leaves if isinstance(x, torch.Tensor)])
        return pytree.tree_unflatten(outputs, program.trace.out_spec)

    def key(self, leaves, spec):
        key = [spec, torch.is_grad_enabled(), torch.get_num_threads()]
        for i, x in enumerate(leaves):
            if i in self.known:
                key.append(x.item())
            if type(x) in (torch.Tensor, torch.nn.Parameter):
                key.append((x.shape, x.stride() if x.layout == torch.strided else x.layout, x.dtype, x.device.type, x.requires_grad))
            elif type(x) in _PLAIN:
                key.append((type(x), x))
            else:
                return None
        _fingerprint(self.module, key)
        return tuple(key)

    def program_for(self, leaves, spec, args, kwargs):
        with self.lock:
            if self.generation != _engine.generation:
                self._forget()
            key = self.key(leaves, spec)
            if key is None:
                return self.decline("an argument is neither a plain tensor nor a number", children=True)
            program = self.programs.get(key)
            if program is None:
                program = self.make(args, kwargs)
                self.programs[key] = program
                while len(self.programs) > _CACHE:
                    self.programs.popitem(last=False)
            self.programs.move_to_end(key)
            return program

    def make(self, args, kwargs):
        context = _engine.context_for(torch.get_num_threads())
        if context not in self.pools:
            self.pools = {context: _engine.Pool(context)}
        try:
            trace = _trace.record(self.module, self.original, args, kwargs, self.known)
        except _trace.Untraceable as reason:
            return self.decline(str(reason), children=True)
        except Exception as error:  # the forward itself may be wrong: eager says so; or it needs numbers to go on
            return self.decline(f"its forward cannot be recorded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})", children=True)
        program = Program(trace, context, self.pools[context])
        if not program.regions:
            reasons = collections.Counter(n.reason for n in trace.nodes if n.reason)
            return self.decline(reasons.most_common(1)[0][0] if reasons else "it has nothing that the engine computes")
        self.report(program)
        return program

    def decline(self, reason, children=False):
        name = type(self.module).__name__
        if children:
            self.compile_children()
        self.warn(reason, f"bnff: {name} runs in PyTorch{', its parts by themselves' if self.children else ''}: {reason}")
        return Declined(reason, children)

    def compile_children(self):
        if self.children:
            return
        for m in _callable_children(self.module):
            if isinstance(m.__dict__.get("forward"), Dispatcher) or not _has_work(m):
                continue
            m.forward = Dispatcher(m, self.level)
            self.children.append(m)

    def report(self, program):
        """One warning for what runs in PyTorch though it stands among the engine's operators."""
        reasons = collections.OrderedDict()
        for level, region in program.steps:
            if not region:
                for node in level.nodes:
                    if node.reason and not node.aside:
                        reasons.setdefault(node.reason, node.scope or type(self.module).__name__)
        if reasons:
            text = "; ".join(f"{where}: {why}" for why, where in list(reasons.items())[:3])
            self.warn("parts", f"bnff: parts of {type(self.module).__name__} run in PyTorch ({text}); bnff.explain(model, x) lists them")

    def warn(self, topic, text):
        if topic not in self.warned:
            self.warned.add(topic)
            warnings.warn(text, stacklevel=4)


def _callable_children(module):
    for m in module.children():
        if type(m).forward is torch.nn.Module.forward:  # a list of modules: what it holds is called, not itself
            yield from _callable_children(m)
        else:
            yield m


def _has_work(m):
    """More than a lone layer, with a convolution in it."""
    return next(m.children(), None) is not None and any(isinstance(x, torch.nn.Conv2d) for x in m.modules())


def _restore(module, level):
    return Dispatcher(module, level)


def compile(module):
    """Let the engine run module's forward and backward. Returns the same object: parameters, state_dict, hooks, optimizers stay as they
    are. What the engine cannot compute runs in PyTorch, with one warning; `explain` says what and why."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"bnff.compile takes a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(module.__dict__.get("forward"), Dispatcher):
        if "forward" in module.__dict__:
            raise TypeError("bnff.compile: the module's forward has been replaced by something else")
        module.forward = Dispatcher(module)
    return module


def restore(module):
    """Undo `compile`: the module's forward is its class's again."""
    for m in module.modules():
        if isinstance(m.__dict__.get("forward"), Dispatcher):
            del m.__dict__["forward"]
    return module
