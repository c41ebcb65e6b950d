"""Where should the norm sit in a Transformer language model, and which kind? Train, compare, tabulate.

import normlab
config = normlab.compose(["placement=hybrid", "scale=smoke"])
model = normlab.build_model(config)
summary = normlab.train(config)
frame = normlab.load_runs("runs/scratch")
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.config.compose import compose
    from normlab.report import load_runs
    from normlab.training import build_model, train

__all__ = ["build_model", "compose", "load_runs", "train"]

# Imported when first asked for: `import normlab` and `normlab --help` shall not wait for torch or pandas.
_HOME = {
    "build_model": "normlab.training",
    "compose": "normlab.config.compose",
    "load_runs": "normlab.report",
    "train": "normlab.training",
}

try:
    __version__ = version("normlab")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+checkout"


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'normlab' has no attribute '{name}'")
