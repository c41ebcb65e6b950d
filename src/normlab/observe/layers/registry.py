"""The register of statistics: a function with ``@probe`` is a column of probes.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Probe(NamedTuple):
    """A statistic of one kind of view."""

    function: Callable[..., Tensor | None]  # the view -> a scalar; None where it has no meaning
    deep: bool  # too dear for every look


PROBES: defaultdict[type, dict[str, Probe]] = defaultdict(dict)  # kind of view -> name -> statistic


def probe(name: str, of: type, deep: bool = False) -> Callable[[Callable], Callable]:
    """Register a statistic of every view of the kind ``of``; what views there are says ``watch``."""

    def register(function: Callable) -> Callable:
        PROBES[of][name] = Probe(function, deep)
        return function

    return register
