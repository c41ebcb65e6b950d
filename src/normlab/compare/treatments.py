"""Which settings tell the runs apart, and the runs that are seeds of the same setting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from normlab.compare.run import ComparedRun
from normlab.report.grid import differing_factors
from normlab.report.labels import factor_name, row_label, value_name
from normlab.report.runs import as_text
from normlab.report.statistics import Estimate, estimate
from normlab.report.style import looks
from normlab.style import GREY

_MOST_NAMED = 3  # factors beside the placement in a name; where these do not suffice it holds all


@dataclass
class Treatment:
    """Seeds of one setting. ``cell``: its value of each factor that differs; empty for a damaged run.

    ``label`` names as many of the factors as tell the treatments apart; ``unnamed`` are the others.
    """

    label: str
    placement: str
    cell: dict[str, Any]
    unnamed: tuple[str, ...] = ()
    runs: list[ComparedRun] = field(default_factory=list)
    colour: str = GREY
    dash: str = "solid"  # as plotly and SVG say it

    @property
    def rest(self) -> str:
        """What the label leaves out: ``Layers=16, Warm-up=0``."""
        return row_label({factor: self.cell[factor] for factor in self.unnamed}) if self.unnamed else ""

    @property
    def estimate(self) -> Estimate | None:
        """Final validation loss over the seeds that may be averaged."""
        return estimate([loss for run in self.runs if (loss := run.final_loss) is not None])

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sorts treatments: the lowest final loss first, those without one last."""
        found = self.estimate
        return (found is None, found.mean if found else 0.0, self.label)


def compared_factors(frame: pd.DataFrame) -> list[str]:
    """The settings in which the runs of a frame differ, the seed apart; and the experiment, where there are several."""
    whole = frame[frame["status"] != "corrupt"]
    if whole.empty:
        return []
    return [key for key in ("experiment",) if whole[key].nunique() > 1] + differing_factors(whole)


def group_runs(runs: Sequence[ComparedRun], factors: Sequence[str]) -> list[Treatment]:
    """The treatments of the runs, best first, each with its seeds in order and the look that the figures give it."""
    naming = _naming_factors([_cell(run, factors) for run in runs if run.status != "corrupt"], factors)
    groups: dict[tuple[str, ...], Treatment] = {}
    for run in sorted(runs, key=lambda run: (run.seed is None, run.seed, run.name)):
        key: tuple[str, ...] = (str(run.folder),)
        treatment = Treatment(run.name, run.placement, {})
        if run.status != "corrupt":
            cell = _cell(run, factors)
            # A placement under two names is one treatment by its hash, and two by what the user calls it.
            key = (str(run.row["treatment"]), run.placement, str(cell.get("experiment", "")))
            label = row_label({factor: cell[factor] for factor in naming} or {"placement": run.placement})
            unnamed = tuple(factor for factor in factors if factor not in naming)
            treatment = Treatment(label, run.placement, cell, unnamed)
        groups.setdefault(key, treatment).runs.append(run)
    treatments = sorted(groups.values(), key=lambda treatment: treatment.order)
    known = [treatment for treatment in treatments if treatment.placement]
    for treatment, look in zip(known, looks(known), strict=True):
        treatment.colour, treatment.dash = look.colour, dash(look.stroke)
    return treatments


def _cell(run: ComparedRun, factors: Sequence[str]) -> dict[str, Any]:
    return {factor: run.row.get("init_asked" if factor == "init" else factor) for factor in factors}


def _naming_factors(cells: Sequence[dict[str, Any]], factors: Sequence[str]) -> tuple[str, ...]:
    """The fewest factors that tell the cells apart, the placement among them; of equally few the first."""
    texts = [{factor: as_text(value) for factor, value in cell.items()} for cell in cells]
    needed = len({tuple(text.values()) for text in texts})
    always = tuple(factor for factor in factors if factor == "placement")
    others = [factor for factor in factors if factor not in always]
    for count in range(min(len(others), _MOST_NAMED) + 1):
        for chosen in itertools.combinations(others, count):
            if len({tuple(text[factor] for factor in always + chosen) for text in texts}) == needed:
                return always + chosen
    return tuple(factors)


def dash(stroke: Any) -> str:
    """matplotlib's stroke as plotly's: ``-`` is solid, (0, (4, 1.5)) is 8px,3px."""
    return "solid" if isinstance(stroke, str) else ",".join(f"{2 * length:g}px" for length in stroke[1])


def factor_text(factor: str, value: Any) -> str:
    """A factor's value as a filter offers it."""
    return value_name(factor, value)


def factor_title(factor: str) -> str:
    return "Experiment" if factor == "experiment" else factor_name(factor)
