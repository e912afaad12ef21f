"""bnff.compile: a module whose forward runs in the engine, as far as it can."""
import collections
import copy
import inspect
import threading
import types
import warnings

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree
from torch.utils._device import DeviceContext

from . import _engine, _trace
from ._program import Program
from ._state import Lazy, State, difference, is_plain

_CACHE = 16   # programs kept per module, the least recently used is dropped
_RESTLESS = 8  # calls one after the other, each with the module in a new state, before it is left to PyTorch for a while


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
        self.state = None        # the modules as the last call found them
        self.facts = self.places = None
        self.numbers = collections.OrderedDict()  # facts of a state -> its number, which stands for it in keys
        self.number = self.states = 0
        self.restless = 0        # calls one after the other that found a new state
        self.rest, self.pause = 0, 2 * _RESTLESS  # calls for which PyTorch takes over then, this time and the next

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
        program, attributes = self.find(leaves, spec, args, kwargs)
        if isinstance(program, Declined):
            program.runs += 1
            return self.original(*args, **kwargs)
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        if torch.is_autocast_enabled("cpu"):
            self.warn("autocast", "bnff: this runs in float32 under autocast: there are no bfloat16 kernels yet")
            with torch.autocast("cpu", enabled=False):
                outputs = program(attributes, tensors)
        else:
            outputs = program(attributes, tensors)
        return pytree.tree_unflatten(outputs, program.trace.out_spec)

    def key(self, leaves, spec):
        """What the arguments are, and the modes; None: something among them cannot be compared."""
        key = [self.number, spec, torch.is_grad_enabled(), torch.get_num_threads()]
        for i, x in enumerate(leaves):
            if i in self.known:
                key.append(x.item())
            if type(x) in (torch.Tensor, torch.nn.Parameter):
                key.append((x.shape, x.stride() if x.layout == torch.strided else x.layout, x.dtype, x.device.type, x.requires_grad))
            elif is_plain(x):
                key.append((type(x), x))
            else:
                return None
        return tuple(key)

    def find(self, leaves, spec, args, kwargs):
        """The program for these arguments and the modules as they are (or Declined), and the modules' parameters and buffers."""
        with self.lock:
            if self.generation != _engine.generation:
                self._forget()
            if self.rest > 0:
                self.rest -= 1
                return self.resting, None
            try:
                attributes = self.look()
            except Lazy:
                return Declined("its parameters have no shapes before the first call"), None
            if attributes is None:
                self.rest, self.pause = self.pause, min(2 * self.pause, 1024)
                self.restless = _RESTLESS - 1  # after that, one more state may be new
                self.resting = self.decline(f"{self.change} changes at every call", children=True)
                return self.resting, None
            key = self.key(leaves, spec)
            if key is None:
                return self.decline("an argument is neither a plain tensor nor a number", children=True), None
            program = self.programs.get(key)
            if program is None:
                program = self.make(args, kwargs)
                self.programs[key] = program
                while len(self.programs) > _CACHE:
                    self.programs.popitem(last=False)
            self.programs.move_to_end(key)
            return program, attributes

    def look(self):
        """See in which state the modules are. Their parameters and buffers, or None: they change too often."""
        attributes = self.state.tensors() if self.state else None
        if attributes is None:
            self.state = state = State(self.module)
            attributes, state.found = state.found, None
            if state.facts not in self.numbers:
                return attributes if self.note(state) else None
            self.number, self.places, self.facts = self.numbers[state.facts], state.places, state.facts
            self.numbers.move_to_end(state.facts)
        self.restless, self.pause = 0, 2 * _RESTLESS
        return attributes

    def note(self, state):
        """A state that was not seen before. False: one of too many."""
        self.states += 1
        self.restless += 1
        self.change = difference(self.facts, state.facts) if self.facts else ""
        self.facts, self.places, self.number = state.facts, state.places, self.states
        if self.restless > _RESTLESS:
            return False
        self.numbers[state.facts] = self.number
        while len(self.numbers) > _CACHE:
            self.numbers.popitem(last=False)
        return True

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
        program = Program(trace, context, self.pools[context], self.places)
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
