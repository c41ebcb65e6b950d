"""Final loss against the learning rate: how wide is the range in which a method works?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from normlab.report.comparison import Comparison
from normlab.report.figure import NothingToDraw, figure, legend_right, title
from normlab.report.labels import METRICS, UNITS
from normlab.report.row import usable
from normlab.report.style import looks
from normlab.results import FINISHED
from normlab.style import GREY


@figure("lr_sensitivity")
def lr_sensitivity(comparison: Comparison) -> Figure:
    """After Wortsman et al. 2023. Line: mean over finished seeds; dots: seeds; crosses on top: diverged."""
    rows, metric = comparison.shown, comparison.experiment.metric
    tune_seeds = comparison.experiment.tune_seeds
    if not rows:
        raise NothingToDraw("no run that it would report has ended")
    swept = sorted({float(lr) for row in rows for lr in row.sweep["optim.lr"]})
    if comparison.experiment.tune != "optim.lr" or len(swept) < 2:
        raise NothingToDraw("the learning rate was not swept (an experiment does so with `tune: optim.lr`)")
    drawn = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = drawn.subplots()
    lost: list[tuple[float, str]] = []
    for row, look in zip(rows, looks(rows), strict=True):
        good = usable(row.sweep, metric)
        # Where seeds of their own chose the LR, they alone were run at every value.
        judges = good[good["seed"].isin(tune_seeds)] if tune_seeds else good
        means = judges.groupby("optim.lr")[metric].mean()
        axis.plot(means.index, means, color=look.colour, linestyle=look.stroke)
        axis.plot(good["optim.lr"], good[metric], "o", color=look.colour, markersize=3, alpha=0.6, markeredgewidth=0)
        chosen = row.estimate
        if chosen and row.tuned is not None:
            axis.plot(
                float(row.tuned),
                chosen.mean,
                "o",
                markersize=8,
                markerfacecolor="none",
                markeredgecolor=look.colour,
            )
        ended = row.sweep[row.sweep["status"].isin(FINISHED)]
        lost += [(float(lr), look.colour) for lr in ended.drop(good.index)["optim.lr"]]
    axis.set_xscale("log")
    axis.set_xticks(swept, [f"{lr:g}" for lr in swept])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("Peak learning rate")
    axis.set_ylabel(f"Final {METRICS[metric].lower().replace('val.', 'validation')} ({UNITS[metric]})")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    extra = [
        Line2D(
            [],
            [],
            color=GREY,
            marker="o",
            markersize=8,
            markerfacecolor="none",
            linestyle="",
            label="chosen: mean in the table",
        )
    ]
    if lost:
        _crosses(axis, lost)
        extra.append(Line2D([], [], color=GREY, marker="x", linestyle="", label="diverged"))
    legend_right(drawn, rows, looks(rows), extra)
    line = f"tuning seed {', '.join(map(str, tune_seeds))}" if tune_seeds else "mean over the seeds that finished"
    title(drawn, "Sensitivity to the learning rate", f"Line: {line}; dots: seeds.")
    return drawn


def _crosses(axis: Axes, lost: list[tuple[float, str]]) -> None:
    """One cross per lost run in a band above the data; those at the same LR side by side."""
    low, high = axis.get_ylim()
    band = high + 0.08 * (high - low)
    at_lr = pd.Series([colour for _, colour in lost], index=[lr for lr, _ in lost])
    for lr, colours in at_lr.groupby(level=0):
        offsets = 0.02 * (np.arange(len(colours)) - (len(colours) - 1) / 2)
        for offset, colour in zip(offsets, colours, strict=True):
            axis.plot(lr * 10**offset, band, "x", color=colour, markersize=5, markeredgewidth=1.4)
    axis.axhline(high, color=GREY, linewidth=0.6)
    axis.set_yticks([tick for tick in axis.get_yticks() if low <= tick <= high])
    axis.set_ylim(low, high + 0.16 * (high - low))
