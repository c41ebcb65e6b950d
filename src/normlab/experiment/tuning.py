"""Which value of the tuned factor is a method's own best. One rule, for the sweep that acts on it and the report.

With ``tune_seeds`` those seeds try every value and choose; the other seeds then run at the chosen value only and
are the ones reported, so that the choice does not flatter what it is reported on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from normlab.results import LOST

Value = TypeVar("Value", bound=Hashable)
Results = Sequence[float | None]  # final metric of each ended run, smaller is better; None: lost (nan, exploded)


def best_value(results: Mapping[Value, Results]) -> Value | None:
    """The value with the smallest share of lost runs, then the smallest mean; None where no run has ended."""
    tried = {value: ended for value, ended in results.items() if ended}
    return min(tried, key=lambda value: score(tried[value]), default=None)


def final_result(summary: Mapping[str, Any], metric: str) -> float | None:
    """The ``metric`` that a run's summary.json ends with; None for a run that was lost."""
    lost = summary.get("status") != "done" or summary.get("outcome") in LOST
    return None if lost else (summary.get("final") or {}).get(metric, summary.get(metric))


def score(ended: Results) -> tuple[float, float]:
    """The share of lost runs, then the mean of the others: what is compared; smaller is better."""
    finished = [result for result in ended if result is not None]
    return 1 - len(finished) / len(ended), fmean(finished) if finished else 0.0
