"""bnff: training convolutional networks on CPUs with restructured batch normalization."""
from . import _native

__version__ = _native.version().decode()
__all__ = ["compile", "restore", "explain", "Trainer", "Error", "__version__"]

Error = _native.Error
_HOMES = {"compile": "_compile", "restore": "_compile", "explain": "_explain", "Trainer": "_trainer"}


def __getattr__(name):
    """PyTorch and NumPy are imported by the functions that need them."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bnff' has no attribute '{name}'")
    from importlib import import_module
    return getattr(import_module(f".{home}", __name__), name)


def __dir__():
    return sorted({*globals(), *__all__})
