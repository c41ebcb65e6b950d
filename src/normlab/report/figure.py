"""What every figure shares: its registry, its canvas, and saving the same bytes for the same runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from normlab.files import write_atomic
from normlab.report.comparison import Comparison
from normlab.report.registry import Registry
from normlab.report.row import Row
from normlab.report.style import Look
from normlab.style import RC


class NothingToDraw(Exception):
    """Why a figure makes no sense for these runs. The report says so and goes on."""


figure: Registry[Callable[[Comparison], Figure]] = Registry("figure", "normlab.report.figures")


def build_figure(comparison: Comparison, name: str) -> Figure:
    """Draw the figure ``name``. Raises UserError for an unknown name, NothingToDraw where data is missing."""
    draw = figure.get(name)
    with matplotlib.rc_context(RC):
        return draw(comparison)


def save_figure(drawn: Figure, stem: Path) -> list[Path]:
    """``stem.png`` and ``stem.pdf``, without the clock and version that would make equal figures differ."""
    saved = []
    no_clock = {
        "png": {"Software": None},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None, "ModDate": None},
    }
    with matplotlib.rc_context(RC):
        for kind, metadata in no_clock.items():
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.08)
            path = stem.with_name(f"{stem.name}.{kind}")
            write_atomic(path, buffer.getvalue())
            saved.append(path)
    return saved


def title(drawn: Figure, text: str, subtitle: str) -> None:
    """What the figure shows and, smaller, how to read it: above the canvas, which the panels fill."""
    height = drawn.get_size_inches()[1]
    drawn.text(0.005, 1 + 0.24 / height, text, ha="left", va="bottom", fontsize=10.5, fontweight="bold")
    drawn.text(0.005, 1 + 0.07 / height, subtitle, ha="left", va="bottom", fontsize=7.5, color="#555555")


def legend_right(
    drawn: Figure, rows: list[Row], looks: list[Look], extra: Sequence[Line2D] = (), markers: bool = False
) -> None:
    """One legend for all panels, outside of them."""
    handles = [
        Line2D([], [], color=look.colour, ls=look.stroke, marker=look.marker if markers else "", label=row.label)
        for row, look in zip(rows, looks, strict=True)
    ]
    drawn.legend(handles=[*handles, *extra], loc="outside right upper", handlelength=2.2)


def log_ticks(axis: Axes) -> None:
    """Plain numbers on a log axis that spans less than two decades, where 10^k alone would leave it bare."""
    low, high = axis.get_ylim()
    if low > 0 and high / low < 100:
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
