from typing import Any, Sequence, TypeVar

import numpy as np
import torch

from ._explain import Explanation as Explanation

_Module = TypeVar("_Module", bound=torch.nn.Module)

__version__: str

class Error(RuntimeError):
    status: int
    hint: str

def compile(module: _Module) -> _Module: ...
def restore(module: _Module) -> _Module: ...
def explain(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Explanation: ...
