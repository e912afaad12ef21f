"""bnff.explain: what of a module runs in the engine, what does not, and why."""
import json

from torch.utils import _pytree as pytree

from ._compile import Declined, Dispatcher


class RegionReport:
    """One region: `operators` and `batchnorms` in it, how many of those are `fused` into convolutions, `arena_bytes`, how often it ran and how
    many `seconds` that took, backward included."""

    def __init__(self, region):
        self.operators = len(region.nodes)
        self.convolutions = sum(n.lowered.is_conv for n in region.nodes)
        self.modules = list(dict.fromkeys(n.scope for n in region.nodes if n.scope))
        self.inputs = [v.shape for v in region.inputs]
        self.outputs = [v.shape for v in region.outputs]
        self.runs, self.seconds = region.runs, region.seconds
        plan = next(iter(region.plans.values()))
        self.batchnorms, self.fused = plan.info.batchnorms, plan.info.batchnorms_fused
        self.arena_bytes = plan.info.arena_bytes
        self._plan = plan

    @property
    def text(self):
        """The plan in full: every task, and of every batch normalization where it was fused or why not."""
        return self._plan.text()

    @property
    def json(self):
        return json.loads(self._plan.text(json=True))


class Explanation:
    """`regions`: what runs in the engine. `fallbacks`: (module, function, reason) of what PyTorch computes from the inputs between them.
    `reason`: why nothing runs in the engine, or "". `complete`: everything that depends on the inputs runs in it, as one region. `parts`: explanations of modules inside that are compiled by
    themselves."""

    def __init__(self, name, program, parts):
        self.name, self.parts = name, parts
        self.regions, self.fallbacks, self.reason = [], [], ""
        if isinstance(program, Declined):
            self.reason = program.reason
            self.runs = program.runs
            return
        self.regions = [RegionReport(r) for r in program.regions]
        self.runs = program.runs
        for level, region in program.steps:
            if not region:
                self.fallbacks += [(n.scope, n.name, n.reason) for n in level.nodes if not n.aside]

    @property
    def complete(self):
        return len(self.regions) == 1 and not self.fallbacks

    def __str__(self):
        lines = []
        if self.reason:
            lines.append(f"{self.name}: runs in PyTorch: {self.reason}")
        for i, r in enumerate(self.regions):
            lines.append(f"{self.name}, region {i + 1} of {len(self.regions)}: {r.operators} operators, {r.convolutions} convolutions, "
                         f"{r.fused} of {r.batchnorms} batch normalizations fused, {r.arena_bytes / 1048576:.1f} MiB, ran {r.runs} times in {r.seconds:.3f} s")
            lines.append(f"    from {', '.join(map(str, map(tuple, r.inputs)))} to {', '.join(map(str, map(tuple, r.outputs)))}")
        for scope, function, reason in self.fallbacks:
            lines.append(f"    in PyTorch: {scope or self.name}: {function}: {reason}")
        for part in self.parts:
            lines += str(part).splitlines()
        return "\n".join(lines)

    __repr__ = __str__


def explain(module, *args, **kwargs):
    """What bnff does with module(*args, **kwargs). Nothing is computed, and nothing of the module changes; a module that is not compiled is
    looked at as if it were."""
    compiled = isinstance(module.__dict__.get("forward"), Dispatcher)
    dispatcher = module.__dict__["forward"] if compiled else Dispatcher(module)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    program, _ = dispatcher.find(leaves, spec, args, kwargs)
    parts = []
    if isinstance(program, Declined):
        names = {id(m): path for path, m in module.named_modules()}
        for child in dispatcher.children:
            for known in child.__dict__["forward"].programs.values():
                parts.append(Explanation(names.get(id(child), type(child).__name__), known, []))
    if not compiled:
        for child in dispatcher.children:
            _uncompile(child)
    return Explanation(type(module).__name__, program, parts)


def engine_seconds(module):
    """Time spent in the engine so far by all that is compiled of module."""
    dispatchers = [m.__dict__["forward"] for m in module.modules() if isinstance(m.__dict__.get("forward"), Dispatcher)]
    return sum(r.seconds for d in dispatchers for p in d.programs.values() if not isinstance(p, Declined) for r in p.regions)


def _uncompile(module):
    if isinstance(module.__dict__.get("forward"), Dispatcher):
        del module.__dict__["forward"]
