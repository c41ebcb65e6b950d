"""Where a method works at all: how many runs of each setting end well, and what becomes of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from normlab.experiment.schema import Value
from normlab.report.comparison import Comparison
from normlab.report.figure import NothingToDraw, figure, title, wrapped
from normlab.report.grid import cells
from normlab.report.labels import METRICS, UNITS, factor_name, value_name
from normlab.report.row import Row
from normlab.report.runs import as_setting, as_text
from normlab.report.statistics import estimate
from normlab.report.style import looks
from normlab.style import GREY

# One hue from dark to light: to an eye without colour, and in print, lighter is still better.
_COLOURS = LinearSegmentedColormap.from_list("outcomes", ["#4a1c0c", "#b5532a", "#f0b27a", "#fdf1e3"])
_DARK = 0.45  # share of ok runs below which the letters are white
_CELL = (1.05, 0.5)  # inches
_LETTER = 0.07  # inches of a letter of a label
_LEARNED = ("ok", "degraded")  # outcomes whose final loss says something


@dataclass
class Square:
    """The ended runs of one setting."""

    outcomes: Counter[str]
    mean: float | None  # of the metric, over the runs that are ok or degraded

    @property
    def n(self) -> int:
        return self.outcomes.total()

    @property
    def ok(self) -> float:
        """Share of the runs."""
        return self.outcomes["ok"] / self.n

    @property
    def text(self) -> str:
        """``2.413``, ``nan 2/3`` with the mean of the rest, ``stagnated 3/3``."""
        lost = [f"{kind} {count}/{self.n}" for kind, count in sorted(self.outcomes.items()) if kind != "ok"]
        return "\n".join([*([f"{self.mean:.3f}"] if self.mean is not None else []), *lost])


@dataclass
class Panel:
    """One placement, or all of them where a single factor varies besides: squares by side and top (None: no runs)."""

    name: str
    colour: str
    squares: dict[tuple[str, str], Square | None]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(top for _, top in self.squares))


@figure("outcomes")
def outcomes(comparison: Comparison) -> Figure:
    """A map per placement over the two factors that vary besides; one factor: over it and the placement."""
    across, down = _axes(comparison)
    panels = _panels(comparison, across, down)
    if not any(square for panel in panels for square in panel.squares.values()):
        raise NothingToDraw("no run that it would report has ended")
    sides = list(dict.fromkeys(side for panel in panels for side, _ in panel.squares))
    widths = [len(panel.columns) for panel in panels]
    longest = max(len(top) for panel in panels for top in panel.columns)
    size = (
        max(_CELL[0], _LETTER * longest) * sum(widths) + _LETTER * max(map(len, sides)) + 0.2 * len(panels) + 1.1,
        _CELL[1] * len(sides) + 0.95,
    )
    drawn = Figure(figsize=size, layout="constrained")
    axes = drawn.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw(axis, panel, sides)
        axis.set_yticks([y + 0.5 for y in range(len(sides))], sides if index == 0 else [""] * len(sides))
        axis.set_xlabel(factor_name(across))
    if down:
        axes[0].set_ylabel(", ".join(factor_name(factor) for factor in down))
    bar = drawn.colorbar(ScalarMappable(Normalize(0, 1), _COLOURS), ax=list(axes), aspect=12, pad=0.02)
    bar.set_ticks([0, 0.5, 1], labels=["none", "half", "all"])
    bar.set_label("Runs that end ok")
    metric = comparison.experiment.metric
    loss = f"{METRICS[metric].lower().replace('val.', 'validation')} ({UNITS[metric]})"
    title(drawn, "What becomes of the runs", f"Number: mean final {loss} of the runs that are ok or degraded.")
    return drawn


def _axes(comparison: Comparison) -> tuple[str, list[str]]:
    """The factor across, which is the LR where it varies, and those down the side (none: the placements)."""
    values: dict[str, set[str]] = {}
    for product in comparison.experiment.grid:
        for factor, given in product.items():
            values.setdefault(factor, set()).update(as_text(value) for value in given)
    varying = [factor for factor, given in values.items() if len(given) > 1 and factor != "placement"]
    if not varying:
        raise NothingToDraw("nothing but the placement varies")
    across = "optim.lr" if "optim.lr" in varying else varying[-1]
    return across, [factor for factor in varying if factor != across]


def _panels(comparison: Comparison, across: str, down: list[str]) -> list[Panel]:
    settings = [part for row in comparison.rows for part in _parts(row, comparison)]
    placements = list(dict.fromkeys(row.placement for row, _ in settings))
    colours = {row.placement: look.colour for row, look in zip(comparison.rows, looks(comparison.rows), strict=True)}
    panels: list[Panel] = []
    for placement in placements:
        name = value_name("placement", placement)
        if down or not panels:
            panels.append(Panel(name, colours[placement], {}))
        panel = panels[-1]
        for row, cell in settings:
            if row.placement != placement:
                continue
            side = ", ".join(value_name(f, cell.get(f)) for f in down if f in cell) if down else name
            top = value_name(across, as_setting(cell.get(across)))
            panel.squares[side, top] = _square(row) if len(row.ended) else None
    if not down:
        panels[0].name = ""  # the placements stand at the side
    return panels


def _parts(row: Row, comparison: Comparison) -> list[tuple[Row, dict[str, Value]]]:
    """A row as it is; one whose value was tuned, once for every value tried, with all runs of it."""
    tune = comparison.experiment.tune
    if not tune:
        return [(row, row.cell)]
    tried = [cell for cell in cells(comparison.experiment) if {f: v for f, v in cell.items() if f != tune} == row.cell]
    if tune not in row.sweep:
        return [(row, cell) for cell in tried]
    of_value = row.sweep[tune].map(as_setting)
    return [(replace(row, runs=row.sweep[of_value == as_setting(cell[tune])]), cell) for cell in tried]


def _square(row: Row) -> Square:
    kinds = row.outcomes
    fine = estimate([loss for seed, loss in row.by_seed.items() if kinds.get(seed) in _LEARNED])
    return Square(Counter(kinds.values()), fine.mean if fine else None)


def _draw(axis: Axes, panel: Panel, sides: Sequence[str]) -> None:
    for (side, top), square in panel.squares.items():
        x, y = panel.columns.index(top), sides.index(side)
        colour = _COLOURS(square.ok) if square else "#f2f2f2"
        axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        axis.text(
            x + 0.5, y + 0.5, square.text if square else "no run yet", ha="center", va="center", fontsize=7.5,
            color="white" if square and square.ok < _DARK else "#222222" if square else GREY, linespacing=1.15,
        )  # fmt: skip
    axis.set_xlim(0, len(panel.columns))
    axis.set_ylim(len(sides), 0)  # the first on top
    axis.set_xticks([x + 0.5 for x in range(len(panel.columns))], panel.columns)
    axis.set_title(wrapped(panel.name), color=panel.colour)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
