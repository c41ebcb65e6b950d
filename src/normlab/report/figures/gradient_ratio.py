"""Gradient norms over those of the baseline, step by step: what a norm type does to the gradient, and when."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from normlab.report.comparison import Comparison
from normlab.report.figure import NothingToDraw, figure, legend_right, row_names, title, wrapped
from normlab.report.labels import value_name
from normlab.report.row import Row
from normlab.report.statistics import estimate
from normlab.report.style import Look, looks
from normlab.style import GREY

_WIDEST = 1.05  # an axis of ratios spans at least 1/1.05 to 1.05: nothing else is to be read into noise


@figure("gradient_ratio")
def gradient_ratio(comparison: Comparison) -> Figure:
    """Geometric mean over blocks of a block's gradient norm over the baseline's, paired by seed; a panel per model."""
    rows = [row for row in comparison.shown if row.baseline is not None and _ratios(comparison, row)]
    if not rows:
        raise NothingToDraw("no run and its baseline of the same seed both have probes of the gradient")
    models = list(dict.fromkeys(row.cell.get("model") for row in rows))
    firsts: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        firsts.setdefault(row.without("model"), row)
    styles = dict(zip(firsts, looks(list(firsts.values())), strict=True))
    drawn = Figure(figsize=(3.1 * len(models) + 1.7, 3.1), layout="constrained")
    axes = drawn.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axis, model in zip(axes, models, strict=True):
        axis.axhline(1, color=GREY, linewidth=0.9, linestyle=(0, (5, 3)))
        for row in rows:
            if row.cell.get("model") == model:
                _draw(axis, _ratios(comparison, row), _pairs(row), styles[row.without("model")])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,g}"))
        axis.set_xlabel("Step")
        if model is not None:
            axis.set_title(wrapped(value_name("model", model)))
    _ratio_axis(axes[0])
    base = rows[0].baseline
    assert base is not None
    varied = [factor for factor, value in rows[0].cell.items() if base.cell.get(factor) != value]
    name = ", ".join(value_name(factor, base.cell.get(factor)) for factor in varied)
    axes[0].set_ylabel(f"Gradient norm over that of {name}")
    named = row_names(list(firsts.values()), without=["model"])
    legend_right(drawn, list(firsts.values()), list(styles.values()), names=named, markers=True)
    title(drawn, "Gradient norm against the baseline", _how_to_read(rows))
    return drawn


def _how_to_read(rows: list[Row]) -> str:
    text = "Mean over blocks and seeds, 95 % t interval; dots: seeds."
    other_lr = any(row.baseline and row.baseline.tuned != row.tuned for row in rows)
    return text + (" Each row at its best LR." if other_lr else "")


def _ratios(comparison: Comparison, row: Row) -> dict[int, list[float]]:
    """By probed step, the ratio of each seed that both sides have, with a finite norm in every block."""
    if row.baseline is None:
        return {}
    theirs = _gradients(comparison, row.baseline)
    found: dict[int, list[float]] = {}
    for (seed, step), ours in sorted(_gradients(comparison, row).items()):
        other = theirs.get((seed, step))
        if other is not None and len(other) == len(ours) and (ours > 0).all() and (other > 0).all():
            found.setdefault(step, []).append(float(np.exp(np.log(ours / other).mean())))
    return dict(sorted(found.items()))


def _pairs(row: Row) -> int:
    """Seeds that have ended on both sides."""
    assert row.baseline is not None
    return len({*row.ended["seed"]} & {*row.baseline.ended["seed"]})


def _gradients(comparison: Comparison, row: Row) -> dict[tuple[int, int], np.ndarray]:
    """The blocks' gradient norms by seed and step; NaN where one is missing."""
    return {
        (int(run["seed"]), int(probe["step"])): np.array(probe["grad_norm"], dtype=float)
        for _, run in row.ended.iterrows()
        for probe in comparison.probes(run["run_dir"])
        if probe.get("grad_norm")
    }


def _draw(axis: Axes, ratios: dict[int, list[float]], n_pairs: int, look: Look) -> None:
    """Dots for what there is; the line only over steps at which no pair is missing."""
    steps, means, lows, highs = [], [], [], []
    for step, by_seed in ratios.items():
        axis.plot([step] * len(by_seed), by_seed, "o", color=look.colour, markersize=2.5, alpha=0.45, markeredgewidth=0)
        if len(by_seed) < n_pairs:
            continue
        found = estimate([math.log(ratio) for ratio in by_seed])  # a ratio and its inverse are equally far from 1
        assert found is not None
        steps.append(step)
        means.append(math.exp(found.mean))
        lows.append(math.nan if found.lo is None else math.exp(found.lo))
        highs.append(math.nan if found.hi is None else math.exp(found.hi))
    axis.plot(steps, means, color=look.colour, linestyle=look.stroke, marker=look.marker, markersize=4)
    axis.fill_between(steps, lows, highs, color=look.colour, alpha=0.13, linewidth=0)


def _ratio_axis(axis: Axes) -> None:
    """A log axis around 1, with plain numbers."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 1 / _WIDEST), max(high, _WIDEST))
    low, high = axis.get_ylim()
    narrow = high / low < 4
    axis.yaxis.set_major_locator(
        LogLocator(subs=(0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0) if narrow else (1.0, 2.0, 5.0))
    )
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
