"""Long series are shortened, and what lasted one step survives it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from normlab.compare.thinning import moving_average, stride, thin, thin_rows


def _series(n: int) -> pd.Series:
    return pd.Series(np.random.default_rng(0).normal(size=n), index=range(1, n + 1))


@pytest.mark.parametrize("n", [5001, 10_000, 123_457])
def test_every_extreme_of_one_step_is_kept(n: int) -> None:
    series = _series(n)
    planted = {n // 7: 50.0, n // 3: 60.0, n - 2: 70.0, n // 2: -80.0}
    for step, value in planted.items():
        series[step] = value
    short = thin(series, 800)
    assert len(short) <= 800
    assert {step: short[step] for step in planted} == planted
    assert short.index[0] == 1 and short.index[-1] == n and short.index.is_monotonic_increasing
    assert (series[short.index] == short).all(), "values stay at their steps"


def test_each_stretch_keeps_its_smallest_and_largest() -> None:
    series = _series(9998)
    short = thin(series, 102)
    for stretch in np.array_split(np.arange(9998), 50):
        part = series.iloc[stretch]
        assert {part.idxmin(), part.idxmax()} <= set(short.index)


def test_what_is_short_is_left_alone() -> None:
    series = _series(800)
    assert thin(series, 800) is series
    assert len(thin(series.iloc[:0])) == 0


def test_rows_of_probes_keep_the_extremes_of_each_shape() -> None:
    rows: list[dict] = [{"step": i, "layers": [1.0, 2.0], "group": {"a": 1.0}, "one": 0.5} for i in range(500)]
    rows[37]["layers"] = [None, 90.0]
    rows[41]["group"] = {"a": -4.0}
    rows[333]["one"] = float("nan")
    rows[334]["one"] = 7.0
    rows[402]["matrix"] = [[0.1, None], [9.9, 0.2]]
    kept = thin_rows(rows, 20)
    steps = [row["step"] for row in kept]
    assert {0, 499, 37, 41, 334, 402} <= set(steps) and steps == sorted(steps) and len(steps) <= 20 + 8
    assert thin_rows(rows[:20], 20) == rows[:20]


def test_the_average_of_logarithms_is_not_lifted_by_one_burst() -> None:
    series = pd.Series([1.0] * 100, index=range(1, 101))
    series[50] = 1e6
    assert moving_average(series).max() > 1e5
    assert moving_average(series, log=True).max() < 1e5
    assert moving_average(pd.Series([0.0, 1.0, 4.0]), log=True).iloc[-1] > 1, "a zero has no logarithm and is left out"


def test_all_runs_share_the_steps_at_which_averages_are_kept() -> None:
    assert stride(800, 800) == 1 and stride(801, 800) == 2 and stride(0, 800) == 1
