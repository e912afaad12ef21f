"""Recording what a module's forward computes, for arguments of given shapes.

The forward runs once on fake tensors (shapes and types without numbers) under a torch-function mode that sees every call of a torch
function. Python decides its branches itself, on real shapes and flags, so what is recorded is exactly what eager would do; whatever
needs numbers to go on fails here, and the module is then left to PyTorch. Nothing of the model's state changes.
"""
import random
import sys
import threading
import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Untraceable(Exception):
    """The forward does something that cannot be recorded; the text says what."""


class Value:
    """A tensor of the program: an input, an attribute of a module (parameter, buffer), or the result of a node."""
    __slots__ = ("index", "kind", "where", "shape", "stride", "dtype", "device", "node", "is_parameter", "strided", "depends", "learns", "form",
                 "outer", "__weakref__")

    def __init__(self, index, kind, where, tensor, node=None):
        self.index = index
        self.kind = kind    # "input", "attribute" or "node"
        self.where = where  # input: its number; attribute: (module, name)
        self.shape = tuple(tensor.shape)
        self.strided = tensor.layout == torch.strided
        self.stride = tuple(tensor.stride()) if self.strided else None
        self.dtype = tensor.dtype
        self.device = tensor.device.type
        self.node = node
        self.is_parameter = isinstance(tensor, torch.nn.Parameter)
        self.depends = kind == "input" and not self.is_parameter  # on the inputs of the model
        self.learns = tensor.requires_grad
        self.outer = kind != "node"  # lies in memory that others than the program see
        self.form = None    # (C, H, W) of a feature map under another shape

    @property
    def is_leaf(self):
        return self.kind != "node"


class Node:
    """One call of a torch function, or of a module or autograd function that runs as a whole."""
    __slots__ = ("index", "func", "args", "kwargs", "reads", "outs", "out_spec", "name", "scope", "grad", "mutates", "random", "effect", "after", "turn",
                 "lowered", "reason", "level", "bookkeeping")

    @property
    def aside(self):
        """It computes nothing from the inputs: counts of batches, random masks, weights made of parameters."""
        return self.bookkeeping or not any(v.depends for v in self.reads)

    def __init__(self, index, func, args, kwargs, reads, name, scope, grad):
        self.index, self.func, self.args, self.kwargs, self.reads = index, func, args, kwargs, reads
        self.name, self.scope, self.grad = name, scope, grad
        self.outs, self.out_spec = [], None
        self.mutates = []    # values whose storage it writes
        self.random = False  # draws from the random generator
        self.effect = False  # must run even if nothing reads its result
        self.after = []      # nodes that must have run before, besides the producers of what it reads
        self.turn = None     # the node that draws random numbers, or is a whole call, before this one does
        self.lowered = None  # how it is built in the engine; None: it runs in PyTorch
        self.reason = ""     # why it runs in PyTorch
        self.level = 0
        self.bookkeeping = False  # touches buffers alone: counts of batches


class Trace:
    """The recorded program."""

    def __init__(self):
        self.nodes = []
        self.values = []
        self.inputs = []
        self.outputs = None   # flat list: Value or a constant
        self.out_spec = None


# Functions that answer a question about shapes and types. Any other function without a tensor among its results is refused:
# what it answers may differ from call to call.
ASKS = {"__get__", "size", "dim", "stride", "numel", "nelement", "is_contiguous", "ndimension", "element_size", "is_floating_point",
        "is_complex", "get_device", "__len__", "storage_offset", "result_type", "is_same_size", "can_cast", "is_signed", "type", "has_names",
        "is_nonzero_static", "__hash__", "is_inference", "is_pinned", "is_shared", "broadcast_shapes", "__contains__", "promote_types"}
REFUSED = {"__set__", "register_hook", "requires_grad_", "backward", "retain_grad", "set_", "resize_", "share_memory_", "numpy", "item", "tolist",
           "register_post_accumulate_grad_hook", "data_ptr", "untyped_storage", "storage"}
RANDOM = ("dropout", "bernoulli", "rand", "normal", "uniform", "multinomial", "rrelu", "exponential", "poisson", "geometric", "cauchy", "gumbel",
          "attention", "fractional")

_active = threading.local()


def active():
    """Is this thread recording?"""
    return getattr(_active, "recorder", None) is not None


def _function_name(func):
    return getattr(func, "__name__", None) or type(func).__name__


def _is_tensor(x):
    return isinstance(x, torch.Tensor)


class Recorder(TorchFunctionMode):
    def __init__(self, module):
        super().__init__()
        self.module = module
        self.trace = Trace()
        self.fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self.by_id = {}      # id of a fake tensor -> (weak reference, Value)
        self.of_real = {}    # id of a real tensor -> (the tensor, its fake)
        self.storages = {}   # storage -> ids of the fakes that lie in it
        self.numbers = {}    # id of the fake of an input -> the number it holds, which the forward may ask for
        self.readers = {}    # Value -> nodes that read it
        self.overwritten = {}  # Value whose memory was written through another one -> by what: it may not be read any more
        self.scopes = []     # names of the modules being called
        self.paused = 0
        self.last_random = None
        self.attributes = {}
        for path, m in module.named_modules():
            for name, tensor in (*m._parameters.items(), *m._buffers.items(), *((k, v) for k, v in m.__dict__.items() if _is_tensor(v))):
                if tensor is not None:
                    self.attributes.setdefault(id(tensor), (m, name, f"{path}.{name}" if path else name))

    # -- values --

    def new_value(self, kind, where, tensor, node=None):
        value = Value(len(self.trace.values), kind, where, tensor, node)
        self.trace.values.append(value)
        return value

    def bind(self, fake, value):
        key = id(fake)
        if fake.layout == torch.strided:
            storage = fake.untyped_storage()._cdata
            self.storages.setdefault(storage, set()).add(key)
        else:
            storage = None

        def gone(_, key=key, storage=storage):
            self.by_id.pop(key, None)
            self.storages.get(storage, set()).discard(key)

        self.by_id[key] = (weakref.ref(fake, gone), value)

    def fake_of(self, tensor):
        """The fake of a real tensor that the forward reaches for: a parameter, a buffer, a tensor kept in a module."""
        known = self.of_real.get(id(tensor))
        if known:
            return known[1]
        found = self.attributes.get(id(tensor))
        if not found:
            raise Untraceable("it uses a tensor that is neither an argument nor an attribute of a module")
        fake = self.fakes.from_tensor(tensor)
        value = self.new_value("attribute", found[:2], tensor)
        self.of_real[id(tensor)] = (tensor, fake)
        self.bind(fake, value)
        return fake

    def value_of(self, fake):
        found = self.by_id.get(id(fake))
        if not found or found[0]() is not fake:
            raise Untraceable("a tensor comes out of a call that cannot be seen into (a scripted function, for instance)")
        if found[1] in self.overwritten:
            raise Untraceable(f"{self.overwritten[found[1]]} writes into a tensor that others share the memory of")
        return found[1]

    def to_fake(self, x):
        if isinstance(x, FakeTensor) or not _is_tensor(x):
            return x
        return self.fake_of(x)

    def add_input(self, tensor, known):
        fake = self.fakes.from_tensor(tensor)
        value = self.new_value("input", len(self.trace.inputs), tensor)
        self.trace.inputs.append(value)
        self.of_real[id(tensor)] = (tensor, fake)
        if known:
            self.numbers[id(fake)] = tensor.item()
        self.bind(fake, value)
        return fake

    # -- calls --

    def scope(self):
        return self.scopes[-1] if self.scopes else ""

    def record(self, func, name, args, kwargs, run):
        """Add a node for func(*args, **kwargs) (fakes) and return run()'s result, bound to its values."""
        if torch.is_autocast_enabled("cpu"):
            raise Untraceable("it enters autocast")
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [x for x in leaves if _is_tensor(x)]
        values = {id(x): self.value_of(x) for x in tensors}
        before = [(x, x._version) for x in tensors]
        shapes = [x.shape for x in tensors]
        result = run()
        if [x.shape for x in tensors] != shapes:
            raise Untraceable(f"it calls {name}, which changes the shape of a tensor")
        out_leaves, out_spec = pytree.tree_flatten(result)
        mutated = [x for x, version in before if x._version != version]
        out_tensors = [x for x in out_leaves if _is_tensor(x)]
        if not out_tensors and not mutated:
            if name in ASKS or (name.startswith("sym_") and not tensors):  # arithmetic with sizes
                return result
            raise Untraceable(f"it calls {name}, whose result depends on the numbers")
        if name in REFUSED or any(not _is_tensor(x) for x in out_leaves if x is not None):
            raise Untraceable(f"it calls {name}")
        ref_args, ref_kwargs = pytree.tree_unflatten([values[id(x)] if _is_tensor(x) else x for x in leaves], spec)
        node = Node(len(self.trace.nodes), func, ref_args, ref_kwargs, list(values.values()), name, self.scope(), torch.is_grad_enabled())
        self.trace.nodes.append(node)
        self.note_order(node, mutated)
        depends = any(v.depends for v in node.reads)
        outer = {id(x) for x, v in zip(mutated, node.mutates) if v.outer}
        for x in {id(x): x for x in mutated}.values():
            if not any(x is y for y in out_tensors):
                out_tensors.append(x)
                out_leaves.append(x)
        for x in out_leaves:
            if x is None:
                node.outs.append(None)
                continue
            value = self.new_value("node", None, x, node)
            value.depends = depends
            value.outer = id(x) in outer
            node.outs.append(value)
            self.bind(x, value)
        node.out_spec = out_spec
        node.bookkeeping = bool(node.mutates) and all(v.outer and not (v.depends and v.dtype.is_floating_point) for v in node.reads)
        return result

    def note_order(self, node, mutated):
        """What a node that writes into a tensor, or draws random numbers, must come after."""
        for x in mutated:
            value = self.value_of(x)
            node.mutates.append(value)
            node.effect |= value.outer
            node.after += self.readers.get(value, [])
            if x.layout == torch.strided:
                for other in [self.by_id[key][1] for key in self.storages.get(x.untyped_storage()._cdata, ()) if key != id(x)]:
                    if other.outer:
                        raise Untraceable(f"{node.name} writes into a tensor that others share the memory of")
                    self.overwritten[other] = node.name
                    node.after += self.readers.get(other, [])
        node.random = any(word in node.name for word in RANDOM)
        if node.random or node.name.startswith("module "):
            node.effect = True
            node.turn, self.last_random = self.last_random, node
        for value in node.reads:
            self.readers.setdefault(value, []).append(node)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled or (func is torch._assert and not _is_tensor(args[0])):
            return func(*args, **kwargs)
        if self.paused:
            args, kwargs = pytree.tree_map(self.to_fake, (args, kwargs))
            return func(*args, **kwargs)
        if func is torch.Tensor.item and id(args[0]) in self.numbers:
            return self.numbers[id(args[0])]
        args, kwargs = pytree.tree_map(self.to_fake, (args, kwargs))
        return self.record(func, _function_name(func), args, kwargs, lambda: func(*args, **kwargs))

    def record_whole(self, name, func, fake_run, args, kwargs):
        """A call that runs in PyTorch as it is: a module with hooks, an autograd function."""
        self.paused += 1
        try:
            args, kwargs = pytree.tree_map(self.to_fake, (args, kwargs))
            return self.record(func, name, args, kwargs, lambda: fake_run(*args, **kwargs))
        finally:
            self.paused -= 1


def _has_hooks(m):
    return bool(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks)


def _module_call(recorder, path, m):
    """What takes the place of m(...) while recording."""

    def call(*args, **kwargs):
        if getattr(_active, "recorder", None) is not recorder:
            return m._call_impl(*args, **kwargs)
        if recorder.paused:
            return m.forward(*args, **kwargs)  # inside a whole call: hooks see no fake tensors
        if _has_hooks(m):
            name = f"module {path} with hooks"
            return recorder.record_whole(name, m, m.forward, args, kwargs)
        recorder.scopes.append(path)
        try:
            return m.forward(*args, **kwargs)
        finally:
            recorder.scopes.pop()

    return call


class _Patches:
    """Module calls and autograd functions report to the recorder. Module calls are patched object by object through the slot that
    Module.compile uses; Function.apply is one for all, so it looks whether its thread is recording."""

    def __init__(self, recorder):
        self.recorder = recorder

    def __enter__(self):
        self.modules = []
        for path, m in self.recorder.module.named_modules():
            if m is self.recorder.module or m._compiled_call_impl is not None:
                continue
            m._compiled_call_impl = _module_call(self.recorder, path, m)
            self.modules.append(m)
        _watch_autograd_functions()

    def __exit__(self, *_):
        for m in self.modules:
            m.__dict__.pop("_compiled_call_impl", None)


_watch_lock = threading.Lock()
_watching = False


def _watch_autograd_functions():
    """From the first trace on, Function.apply asks whether its thread is recording; it costs nothing measurable otherwise."""
    global _watching
    with _watch_lock:
        if _watching:
            return
        original = torch.autograd.Function.__dict__["apply"].__func__

        def apply(cls, *args, **kwargs):
            recorder = getattr(_active, "recorder", None)
            if recorder is None or recorder.paused:
                return original(cls, *args, **kwargs)
            if cls.__module__ == "torch.utils.checkpoint":  # (function, preserve_rng_state, *arguments): the engine plans memory itself
                return args[0](*args[2:], **kwargs)
            return recorder.record_whole(f"autograd function {cls.__name__}", cls.apply, lambda *a, **k: original(cls, *a, **k), args, kwargs)

        apply.__doc__ = original.__doc__
        torch.autograd.Function.apply = classmethod(apply)
        _watching = True


class _Untouched:
    """Puts back what a forward changes of modules and of Python's and NumPy's random generators; `changes` then says what it was."""

    def __init__(self, module):
        self.modules = [(m, dict(m.__dict__), {k: len(v) for k, v in m.__dict__.items() if isinstance(v, (list, dict, set))},
                         dict(m._parameters), dict(m._buffers)) for m in module.modules()]
        self.numpy = sys.modules.get("numpy")
        self.python_state = random.getstate()
        self.numpy_state = self.numpy.random.get_state() if self.numpy else None

    def restore(self, fakes):
        changes = "attributes of the module" if any([self._restore_module(fakes, *saved) for saved in self.modules]) else ""
        if random.getstate() != self.python_state:
            random.setstate(self.python_state)
            changes = "Python's random generator"
        if self.numpy:
            now, then = self.numpy.random.get_state(), self.numpy_state
            if now[2:] != then[2:] or (now[1] != then[1]).any():
                self.numpy.random.set_state(then)
                changes = "NumPy's random generator"
        return changes

    @staticmethod
    def _restore_module(fakes, m, attributes, lengths, parameters, buffers):
        now, changed = m.__dict__, False
        if len(now) != len(attributes) or any(k not in now or now[k] is not v for k, v in attributes.items()):
            changed = True
            now.clear()
            now.update(attributes)
        changed |= any(len(attributes[k]) != length for k, length in lengths.items())
        for table, saved in ((m._parameters, parameters), (m._buffers, buffers)):
            if len(table) != len(saved) or any(k not in table or table[k] is not v for k, v in saved.items()):
                twins = {k: fakes[id(v)][1] for k, v in saved.items() if id(v) in fakes}
                changed |= list(table) != list(saved) or any(table[k] is not v and table[k] is not twins.get(k, v) for k, v in saved.items())
                table.clear()
                table.update(saved)
        return changed


def record(module, forward, args, kwargs, known=()):
    """The Trace of forward(*args, **kwargs), a method of module. Raises Untraceable, or what forward raises. known: positions among the flat
    arguments of tensors of one number that the trace may depend on."""
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        raise Untraceable("it holds a scripted module")
    recorder = Recorder(module)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    untouched, grad = _Untouched(module), torch.is_grad_enabled()
    _active.recorder = recorder
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(grad), torch.autocast("cpu", enabled=False), _Patches(recorder):
            fakes = [recorder.add_input(x, i in known) if _is_tensor(x) else x for i, x in enumerate(leaves)]
            fake_args, fake_kwargs = pytree.tree_unflatten(fakes, spec)
            with recorder.fakes, recorder:
                result = forward(*fake_args, **fake_kwargs)
            outputs, out_spec = pytree.tree_flatten(result)
            for x in outputs:
                if not (_is_tensor(x) or x is None or isinstance(x, (int, float, bool, str))):
                    raise Untraceable(f"it returns an object of {type(x).__name__}")
            trace = recorder.trace
            trace.outputs = [recorder.value_of(recorder.to_fake(x)) if _is_tensor(x) else x for x in outputs]
            trace.out_spec = out_spec
    finally:
        _active.recorder = None
        changes = untouched.restore(recorder.of_real)
    if changes:
        raise Untraceable(f"its forward changes {changes}")
    return trace
