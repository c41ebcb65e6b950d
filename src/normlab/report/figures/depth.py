"""Profiles over depth: gradients per block (as in Fig. 2 of the HybridNorm paper) and the residual stream."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from normlab.report.comparison import Comparison
from normlab.report.figure import NothingToDraw, figure, legend_right, log_ticks, row_names, title
from normlab.report.row import Row
from normlab.report.style import looks
from normlab.style import GREY

_LATER = 100  # the paper's second panel


@figure("gradient_depth")
def gradient_depth(comparison: Comparison) -> Figure:
    """Gradient norm of each block at the first step and at the probed step nearest to 100."""
    rows = comparison.shown
    steps = sorted({p["step"] for row in rows for p in _probes(comparison, row) if p.get("grad_norm")})
    if not steps:
        raise NothingToDraw("no run has probes of the gradient")
    panels = list(dict.fromkeys([steps[0], min(steps, key=lambda step: (abs(step - _LATER), step))]))
    drawn = Figure(figsize=(3.4 * len(panels) + 1.6, 3.1), layout="constrained")
    axes = np.atleast_1d(drawn.subplots(1, len(panels), sharex=True))
    fewest = [len(row.ended) for row in rows]
    for axis, step in zip(axes, panels, strict=True):
        for index, (row, look) in enumerate(zip(rows, looks(rows), strict=True)):
            profiles = [p["grad_norm"] for p in _probes(comparison, row) if p["step"] == step and p.get("grad_norm")]
            fewest[index] = min(fewest[index], len(profiles))
            if profiles:
                blocks = 1 + np.arange(len(profiles[0]))
                _line_and_band(axis, blocks, profiles, look.colour, look.stroke, look.marker)
        axis.set_yscale("log")
        axis.set_title(f"Step {step}")
        axis.set_xlabel("Block")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        log_ticks(axis)
    axes[0].set_ylabel("Gradient norm of the block")
    legend_right(drawn, rows, looks(rows), markers=True, names=_names(rows, fewest))
    title(drawn, "Gradient norm over depth", "Unclipped. Line: mean over seeds; band: smallest to largest seed.")
    return drawn


@figure("residual_depth")
def residual_depth(comparison: Comparison) -> Figure:
    """RMS of the residual stream after each of the 2L sublayers, at the end and (faint) before training."""
    rows = comparison.shown
    drawn = Figure(figsize=(6.4, 3.3), layout="constrained")
    axis = drawn.subplots()
    counts = []
    for row, look in zip(rows, looks(rows), strict=True):
        start, end = _stream(comparison, row, first=True), _stream(comparison, row, first=False)
        counts.append(len(end))
        if start:
            x, mean = _sublayers(start), np.nanmean(_stacked(start), axis=0)
            axis.plot(x, mean, color=look.colour, linestyle=look.stroke, alpha=0.3, linewidth=1)
        if end:
            _line_and_band(axis, _sublayers(end), end, look.colour, look.stroke, look.marker)
    if not axis.lines:
        raise NothingToDraw("no run has probes of the residual stream")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Block (half: after attention, whole: after the FFN)")
    axis.set_ylabel("RMS of the residual stream")
    log_ticks(axis)
    faint = Line2D([], [], color=GREY, alpha=0.5, linewidth=1, label="before training")
    legend_right(drawn, rows, looks(rows), [faint], markers=True, names=_names(rows, counts))
    title(
        drawn,
        "Residual stream over depth",
        "After training, mean over seeds; band: smallest to largest seed.",
    )
    return drawn


def _names(rows: list[Row], drawn: list[int]) -> list[str]:
    """The legend's, saying where a mean is over fewer seeds than have ended: the others were lost before that step."""
    return [
        name if n == len(row.ended) else f"{name} ({n} of {len(row.ended)} seeds)"
        for name, row, n in zip(row_names(rows), rows, drawn, strict=True)
    ]


def _probes(comparison: Comparison, row: Row) -> list[dict]:
    return [probe for run_dir in row.ended["run_dir"] for probe in comparison.probes(run_dir)]


def _stream(comparison: Comparison, row: Row, first: bool) -> list[list[float]]:
    """Per seed, the 2L values after attention and FFN in turn: at step 0, or at the last probed step."""
    found = []
    for run_dir in (row.ended if first else row.usable)["run_dir"]:
        probes = [p for p in comparison.probes(run_dir) if p.get("attn.rms_out") and p.get("ffn.rms_out")]
        probes = [p for p in probes if (p["step"] == 0) == first]
        if probes:
            pairs = zip(probes[-1]["attn.rms_out"], probes[-1]["ffn.rms_out"], strict=True)
            found.append([value for pair in pairs for value in pair])
    return found


def _sublayers(profiles: list[list[float]]) -> np.ndarray:
    return 0.5 * (1 + np.arange(len(profiles[0])))


def _stacked(profiles: list[list[float]]) -> np.ndarray:
    """(seeds, points); what is missing (null) or zero has no place on a log axis."""
    values = np.array(profiles, dtype=float)
    values[~(values > 0)] = np.nan
    return values


def _line_and_band(
    axis: Axes, x: np.ndarray, profiles: list[list[float]], colour: str, stroke: object, marker: str
) -> None:
    values = _stacked(profiles)
    seen = ~np.isnan(values).all(axis=0)  # a point without any value in any seed is a gap
    x, values = x[seen], values[:, seen]
    axis.plot(x, np.nanmean(values, axis=0), color=colour, linestyle=stroke, marker=marker, markersize=3)
    axis.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.15, linewidth=0)
