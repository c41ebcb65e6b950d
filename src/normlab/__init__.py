"""Where should the norm sit in a Transformer language model, and which kind? Train, compare, tabulate.

import normlab
config = normlab.compose(["placement=hybrid", "scale=smoke"])
summary = normlab.train(config)
frame = normlab.load_runs("runs/scratch")
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.config.compose import compose
    from normlab.report import load_runs
    from normlab.train import build_model, train

__all__ = ["build_model", "compose", "load_runs", "train"]

# Imported when first asked for: `import normlab` and `normlab --help` shall not wait for torch or pandas.
_HOME = {"build_model": "normlab.train", "compose": "normlab.config.compose", "load_runs": "normlab.report"}

try:
    __version__ = version("normlab")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+checkout"


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("normlab.train")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'normlab' has no attribute '{name}'")


class _TrainFolder(ModuleType):
    """``normlab.train`` is a folder of modules and, called, its function ``train``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.train(*args, **kwargs)


class _Package(ModuleType):
    """Whenever anybody imports ``normlab.train``, Python sets it on the package: that is the moment."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "train" and isinstance(value, ModuleType):
            value.__class__ = _TrainFolder
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
