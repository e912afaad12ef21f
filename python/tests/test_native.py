"""The structures that Python mirrors are those of the headers."""
import pathlib
import re

import pytest

from bnff import _native

INCLUDE = pathlib.Path(__file__).parents[2] / "include" / "bnff"
MIRRORS = {"bnff_conv_options": "ConvOptions", "bnff_batchnorm_options": "BatchnormOptions", "bnff_pool_options": "PoolOptions", "bnff_scale_options": "ScaleOptions",
           "bnff_param_info": "ParamInfo", "bnff_context_options": "ContextOptions", "bnff_plan_options": "PlanOptions", "bnff_plan_info": "PlanInfo",
           "bnff_tensor": "Tensor", "bnff_forward_args": "ForwardArgs", "bnff_backward_args": "BackwardArgs", "bnff_allocator": "Allocator",
           "bnff_error": "ErrorStruct", "bnff_model_options": "ModelOptions", "bnff_optimizer_options": "OptimizerOptions"}


def fields(name):
    """Names of a structure's fields, in order."""
    text = "".join(p.read_text() for p in sorted(INCLUDE.glob("*.h")))
    body = re.search(r"typedef struct %s \{(.*?)\n\} %s;" % (name, name), text, re.S).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    names = []
    for declaration in body.split(";"):
        function = re.search(r"\(\*\s?(\w+)\)", declaration)
        if function:
            names.append(function.group(1))
        else:
            names += [re.search(r"(\w+)(\[\d+\])?\s*$", part).group(1) for part in declaration.split(",") if part.strip()]
    return names


@pytest.mark.parametrize("name", MIRRORS)
def test_structure(name):
    assert [f[0] for f in getattr(_native, MIRRORS[name])._fields_] == fields(name)


def test_version():
    import bnff
    assert re.fullmatch(r"\d+\.\d+\.\d+", bnff.__version__)


def test_names_are_listed():
    import bnff
    assert set(bnff.__all__) <= set(dir(bnff))


def test_error_carries_message_and_hint():
    from bnff import _engine
    context, graph = _engine.context_for(1), _engine.Graph()
    graph.output(graph.conv2d("c", graph.input(3, 3, 3), 8, (5, 5), (1, 1), (0, 0), (1, 1), 1, False))
    with pytest.raises(_native.Error, match="smaller") as caught:
        _engine.Plan(context, graph, 1, train=True)
    assert caught.value.status == _native.E_SHAPE and caught.value.hint


def test_imports_without_torch():
    import subprocess
    import sys
    code = "import sys; sys.modules['torch'] = None; import bnff; print(bnff.__version__)"
    subprocess.run([sys.executable, "-c", code], check=True)
