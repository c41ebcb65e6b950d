"""Long series made short without losing what matters: an extreme that lasted one step is still there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

CURVE_POINTS = 800  # of a curve: about what a wide screen can show
PROBED_STEPS = 60  # of a heatmap; the extremes of each quantity come on top
_SMOOTHING = 40  # the moving average spans a fortieth of the run, as in the report's figures


def thin(series: pd.Series, limit: int = CURVE_POINTS) -> pd.Series:
    """At most ``limit`` points (at least 4) of a series: its ends, and of equal stretches the smallest and largest."""
    if len(series) <= limit:
        return series
    values = series.to_numpy()
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), (limit - 2) // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return series.iloc[sorted(kept)]


def thin_rows(rows: Sequence[dict[str, Any]], limit: int = PROBED_STEPS) -> list[dict[str, Any]]:
    """``limit`` rows of probes.jsonl, evenly spread, and those in which a quantity has its extremes over the run."""
    if len(rows) <= limit:
        return list(rows)
    kept = set(np.linspace(0, len(rows) - 1, limit).round().astype(int).tolist())
    for quantity in {name for row in rows for name in row}:
        heights = {at: height for at, row in enumerate(rows) if (height := _height(row.get(quantity)))}
        if heights:
            kept |= {min(heights, key=lambda at: heights[at][0]), max(heights, key=lambda at: heights[at][1])}
    return [rows[at] for at in sorted(kept)]


def moving_average(series: pd.Series, log: bool = False) -> pd.Series:
    """Exponential, over a fortieth of the series; with ``log`` of the logarithms, for what varies by factors."""
    span = max(3, len(series) // _SMOOTHING)
    if not log:
        return series.ewm(span=span).mean()
    return np.exp(np.log(series[series > 0]).ewm(span=span).mean())


def stride(longest: int, limit: int = CURVE_POINTS) -> int:
    """Every how many steps averages are kept: the same for all runs, so that seeds can be averaged in their turn."""
    return max(1, -(-longest // limit))


def _height(value: Any) -> tuple[float, float] | None:
    """The smallest and the largest number inside any of the shapes that a row may hold."""
    numbers = list(_numbers(value))
    return (min(numbers), max(numbers)) if numbers else None


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
    elif isinstance(value, (int, float)) and math.isfinite(value):
        yield float(value)
