"""Final loss over size: does a lead hold, grow or shrink? (HybridNorm, Figure 6)"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from normlab.quantities import count
from normlab.report.comparison import Comparison
from normlab.report.figure import NothingToDraw, crosses_above, figure, legend_of, row_names, title
from normlab.report.labels import METRICS, UNITS
from normlab.report.power_law import PowerLaw, fit_power_law
from normlab.report.row import Row
from normlab.report.style import looks
from normlab.style import GREY

_SIZE = "params.non_embedding"


@figure("scaling")
def scaling(comparison: Comparison) -> Figure:
    """One line per method over its sizes, with the power law through all its runs."""
    methods = [rows for rows in _methods(comparison) if any(len(_points(row)) for row in rows)]
    sizes = sorted({size for rows in methods for row in rows for _, size, _ in _points(row)})
    if len(sizes) < 2:
        raise NothingToDraw("the runs are of one size (`model` is no factor with two values, or one has not ended)")
    drawn = Figure(figsize=(6.2, 3.5), layout="constrained")
    axis = drawn.subplots()
    handles, lost = [], []
    firsts = [rows[0] for rows in methods]
    names = row_names(firsts, without=[factor for factor in comparison.experiment.factors if _is_size(factor)])
    for rows, name, look in zip(methods, names, looks(firsts), strict=True):
        by_seed: dict[int, list[tuple[float, float]]] = {}
        for row in rows:
            for seed, size, loss in _points(row):
                by_seed.setdefault(seed, []).append((size, loss))
            lost += [(float(size), look.colour) for size in row.lost[_SIZE].dropna()]
        points = np.array([point for seed in by_seed.values() for point in seed])
        axis.plot(points[:, 0], points[:, 1], "o", color=look.colour, markersize=3.5, alpha=0.55, markeredgewidth=0)
        law = fit_power_law(by_seed)
        means = [(size, points[points[:, 0] == size, 1].mean()) for size in sorted(set(points[:, 0]))]
        if law:
            fine = np.geomspace(points[:, 0].min(), points[:, 0].max(), 60)
            axis.plot(fine, law(fine), color=look.colour, linestyle=look.stroke, linewidth=1.2)
        axis.plot(*zip(*means, strict=True), look.marker, color=look.colour, markersize=5.5, markeredgecolor="white")
        label = "\n".join([name, *_law_in_words(law)])
        handles.append(Line2D([], [], color=look.colour, ls=look.stroke, marker=look.marker, label=label))
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: count(size, gap="")))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.05)
    axis.set_xlabel("Parameters without embeddings")
    metric = comparison.experiment.metric
    axis.set_ylabel(f"Final {METRICS[metric].lower().replace('val.', 'validation')} ({UNITS[metric]})")
    if lost:
        crosses_above(axis, lost)
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", label="diverged"))
    legend_of(drawn, handles)
    title(
        drawn,
        "Loss over size",
        "Dots: seeds; markers: their mean; line: least squares in ln L. [ ]: 95 % t interval of b over seeds.",
    )
    return drawn


def _methods(comparison: Comparison) -> list[list[Row]]:
    """Rows that differ in nothing but the size."""
    found: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in comparison.shown:
        found.setdefault(row.without(*filter(_is_size, row.cell)), []).append(row)
    return list(found.values())


def _is_size(factor: str) -> bool:
    return factor == "model" or factor.startswith("model.")


def _points(row: Row) -> list[tuple[int, float, float]]:
    """(seed, size, loss) of each usable run."""
    if _SIZE not in row.usable:
        return []
    runs = row.usable[row.usable[_SIZE].notna()]
    return [(int(s), float(n), float(v)) for s, n, v in zip(runs["seed"], runs[_SIZE], runs[row.metric], strict=True)]


def _law_in_words(law: PowerLaw | None) -> list[str]:
    """Which form was fitted, and its exponent with the interval over seeds."""
    if law is None:
        return []
    floor = f"{law.c:.2f} + " if law.has_floor else ""
    interval = law.interval
    spread = f" [{interval.lo:.3f}, {interval.hi:.3f}]" if interval and interval.lo is not None else ""
    return [f"$L = {floor}{law.a:.3g}\\,N^{{-b}}$", f"$b$ = {law.b:.3f}{spread}"]
