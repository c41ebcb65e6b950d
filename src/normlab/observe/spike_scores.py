"""The spike scores of OLMo 2 and of OLMo-core, each under its own name, so that our runs stand beside published ones.

A series has one value per step, the first for step 1; None stands for a non-finite value, which is the outcome's
business and not a score's. Both compare a value with a rolling mean and standard deviation. These contain the trend of
a falling loss and the previous spike, so that both miss early spikes and spikes that follow another one:
``normlab.observe.spikes`` has the events to read on short runs, docs/detectors.md how much each one misses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Series = Sequence[float | None]
Flags = NDArray[np.bool_]

OLMO2_WINDOW, OLMO2_SD = 1000, 7.0
OLMO_CORE_WINDOW, OLMO_CORE_SD = 128, 6.0
OLMO_CORE_ROLLING = 10_000  # steps of the running score
_NO_SPREAD = 1e-10  # a standard deviation below it is none


def flags_olmo2(series: Series) -> Flags:
    """Which values are at least 7 sd from the rolling mean of the last 1000 values, themselves included: (steps,).

    OLMo 2 report (arXiv 2501.00656). Two-sided. Before step 1000 there is no such mean: a shorter series has no flag,
    which is no evidence of calm.
    """
    flags, at, values = _prepared(series)
    for window, mean, sd in _rolling(values, OLMO2_WINDOW):
        last = window + OLMO2_WINDOW - 1
        flags[at[last]] = (np.abs(values[last] - mean) >= OLMO2_SD * sd) & (sd >= _NO_SPREAD)
    return flags


def flags_olmo_core(series: Series) -> Flags:
    """Which values are above mean + 6 sd of the previous 128 values, the current one excluded: (steps,).

    OLMo-core's ``StabilityMonitorCallback``: one-sided, population sd, only full windows, no spike where sd < 1e-10.
    """
    flags, at, values = _prepared(series)
    for window, mean, sd in _rolling(values[:-1], OLMO_CORE_WINDOW):
        following = window + OLMO_CORE_WINDOW
        flags[at[following]] = (values[following] > mean + OLMO_CORE_SD * sd) & (sd >= _NO_SPREAD)
    return flags


def score(flags: Flags) -> float:
    """Percent of the steps that are flagged; 0 without a step."""
    return 100.0 * float(flags.mean()) if len(flags) else 0.0


def olmo_core_scores(losses: Series, grad_norms: Series) -> dict[str, float | None]:
    """``total`` and ``rolling``: percent of all steps, and of the last 10,000, at which the loss *or* the gradient norm
    spikes, as ``StabilityMonitorCallback`` counts. The second is None in a run of fewer steps."""
    either = flags_olmo_core(losses) | flags_olmo_core(grad_norms)
    full = len(either) >= OLMO_CORE_ROLLING
    return {"total": score(either), "rolling": score(either[-OLMO_CORE_ROLLING:]) if full else None}


def _prepared(series: Series) -> tuple[Flags, NDArray[np.intp], NDArray[np.float64]]:
    """No flag yet, and the finite values with their places."""
    values = np.array([math.nan if value is None else value for value in series], dtype=np.float64)
    at = np.flatnonzero(np.isfinite(values))
    return np.zeros(len(values), dtype=bool), at, values[at]


def _rolling(values: NDArray[np.float64], window: int) -> Iterator[tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]]:
    """Mean and population sd of every full window, in chunks of modest size: (window numbers, mean, sd)."""
    if len(values) < window:
        return
    # Not by cumulative sums: after one value of 1e10 their differences have no digits left.
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    for begin in range(0, len(windows), 1024):
        chunk = windows[begin : begin + 1024]
        yield np.arange(begin, begin + len(chunk)), chunk.mean(axis=1), chunk.std(axis=1)
