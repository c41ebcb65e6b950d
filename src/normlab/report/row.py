"""One row of a comparison: its runs, what became of them, how it differs from the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from normlab.experiment.schema import Value
from normlab.report.grid import Cell
from normlab.report.labels import row_label
from normlab.report.runs import as_setting, as_text
from normlab.report.statistics import ALPHA, Estimate, estimate
from normlab.results import FINISHED, LOST

ABOVE_LN_V = 1.0  # nats above the loss of a uniform guess


@dataclass
class Row:
    """One row: its factors without the tuned one, the runs it reports, and every run of its sweep."""

    cell: Cell
    runs: pd.DataFrame  # at the chosen value, reported seeds only
    sweep: pd.DataFrame  # all that the experiment asks for: judging seeds at all values, the reported at the chosen one
    metric: str
    tune: str | None = None  # the tuned factor
    tuned: Value = None  # its chosen value
    is_tuned: bool = True  # False: the seeds that choose have not all ended; `runs` is empty then
    at_edge: bool = False  # the best value is the first or the last of those tried
    baseline: Row | None = None  # None: this row is one, or there is none
    is_baseline: bool = False
    difference: Estimate | None = None
    p_holm: float | None = None
    degraded_above: float | None = None
    constant: frozenset[str] = frozenset()  # factors with one value in the whole grid: a label leaves them out

    @property
    def label(self) -> str:
        return row_label({factor: value for factor, value in self.cell.items() if factor not in self.constant})

    def without(self, *factors: str) -> tuple[tuple[str, str], ...]:
        """The other factors with their values: equal for rows that differ in nothing but ``factors``."""
        return tuple((factor, as_setting(value)) for factor, value in self.cell.items() if factor not in factors)

    @property
    def placement(self) -> str:
        return str(self.runs["placement"].iloc[0]) if len(self.runs) else str(self.cell.get("placement", ""))

    @property
    def distinguishable(self) -> bool:
        """The difference to the baseline survives Holm's correction at 5 %."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @cached_property
    def ended(self) -> pd.DataFrame:
        return self.runs[self.runs["status"].isin(FINISHED)]

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The runs whose final loss may be averaged: finished and not lost."""
        return self.usable_of(self.runs)

    def usable_of(self, runs: pd.DataFrame) -> pd.DataFrame:
        return usable(runs, self.metric)

    @property
    def by_seed(self) -> dict[int, float]:
        return {int(s): float(v) for s, v in zip(self.usable["seed"], self.usable[self.metric], strict=True)}

    @property
    def estimate(self) -> Estimate | None:
        return estimate(list(self.by_seed.values()))

    @property
    def outcomes(self) -> dict[int, str]:
        """What became of each ended seed: ok, degraded, stagnated, exploded, nan, or plainly diverged."""
        found = {}
        for _, run in self.ended.iterrows():
            outcome = as_text(run.get("outcome"))
            if run["status"] == "diverged" and outcome not in LOST:
                outcome = "diverged"
            limit = self.degraded_above
            if outcome in ("ok", "null"):
                outcome = "degraded" if limit is not None and run["val_loss"] > limit else "ok"
            found[int(run["seed"])] = outcome
        return found

    @property
    def lost(self) -> pd.DataFrame:
        """The runs that ended without a final loss worth averaging."""
        return self.ended.drop(self.usable.index)


def usable(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Finished runs that have a value of the metric and are not lost: neither nan nor exploded, nor, where they are
    not ok, with a final validation loss more than ``ABOVE_LN_V`` above ln V.

    The last is a run that began far above ln V, as a network without norms does, and never came down to it: it has
    not exploded, and its loss of thousands of nats would be the mean of its row.
    """
    if metric not in runs:
        return runs.iloc[:0]
    good = (runs["status"] == "done") & ~runs["outcome"].isin(LOST) & runs[metric].notna()
    if "corpus.ln_vocab" in runs:
        good &= (runs["outcome"] == "ok") | ~(runs["val_loss"] > runs["corpus.ln_vocab"] + ABOVE_LN_V)
    return runs[good]
