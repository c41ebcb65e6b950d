"""Tables and figures by name. A new one is a file with a decorated function, and no edit elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from normlab.errors import UserError, nearest

F = TypeVar("F", bound=Callable)


class Registry(Generic[F]):
    """The functions that the modules of a package registered under a name."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._known: dict[str, F] = {}

    def __call__(self, name: str) -> Callable[[F], F]:
        def register(function: F) -> F:
            self._known[name] = function
            return function

        return register

    def get(self, name: str) -> F:
        """Raises UserError with the nearest valid name."""
        if name not in self.names():
            raise UserError(f"unknown {self.kind} '{name}'; {nearest(name, self.names())}")
        return self._known[name]

    def names(self) -> list[str]:
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._known)
