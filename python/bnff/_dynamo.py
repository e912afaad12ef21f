"""torch.compile(model, backend="bnff"): the graphs that Dynamo makes, through the same lowering as bnff.compile."""
from ._compile import Dispatcher


def backend(graph_module, example_inputs, **_):
    """A callable on the graph's inputs that runs in the engine as far as it can. It is differentiable, so no graph of the backward is asked for."""
    _finish(graph_module)
    return Dispatcher(graph_module, known=_numbers(graph_module))


def _numbers(graph_module):
    """Positions of inputs that the graph asks for the number in: with dynamic=True every float of the model, an eps or a momentum, is one."""
    inputs = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    return frozenset(i for i, node in enumerate(inputs) if any(user.op == "call_method" and user.target == "item" for user in node.users))


def _finish(graph_module):
    """Graphs come with a forward that compiles itself, and so changes the module, when it is first called."""
    try:
        from torch.fx._lazy_graph_module import _LazyGraphModule
    except ImportError:
        return
    _LazyGraphModule.force_recompile(graph_module)
