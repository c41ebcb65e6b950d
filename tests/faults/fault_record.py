"""What a fault is: a function of a ``Lab`` that does it and returns what was ``Observed``; ``@fault`` says beforehand
what that has to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fault_lab import Lab


class Skipped(Exception):
    """What this machine lacks for a fault."""


@dataclass(frozen=True)
class Observed:
    """What became of a fault, in words; of a ``Fault`` the words are regular expressions that have to match whole."""

    first: str  # the cells of the sweep that met it
    line: str  # what that sweep said of it
    then: str  # the cells of the next sweep
    table: str = "equal"  # byte for byte, with every run's rows


@dataclass(frozen=True)
class Fault:
    theme: str
    name: str
    expected: str  # for a reader
    must: Observed
    inject: Callable[[Lab], Observed]  # raises Skipped where it cannot be done

    def mistakes(self, observed: Observed) -> list[str]:
        """In what the observed outcome is not the expected one; empty where all is well."""
        return [
            f"{part.name}: expected {getattr(self.must, part.name)!r}, observed {getattr(observed, part.name)!r}"
            for part in fields(Observed)
            if not re.fullmatch(getattr(self.must, part.name), getattr(observed, part.name), re.DOTALL)
        ]


FAULTS: list[Fault] = []


def fault(theme: str, name: str, expected: str, first: str, line: str, then: str) -> Callable:
    """Register the function below as a fault."""

    def register(inject: Callable[[Lab], Observed]) -> Callable[[Lab], Observed]:
        FAULTS.append(Fault(theme, name, expected, Observed(first, line, then), inject))
        return inject

    return register
