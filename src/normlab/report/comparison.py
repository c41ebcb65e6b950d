"""An experiment's runs, sorted into the rows that its tables and figures show.

A row is a cell of the grid without the tuned factor, at its own best value of that factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from normlab.errors import UserError
from normlab.experiment.schema import Experiment, Value
from normlab.experiment.tuning import best_value
from normlab.quantities import as_number
from normlab.report import fairness
from normlab.report.grid import Cell, all_seeds, of_one_setting, runs_of_cells
from normlab.report.labels import row_label
from normlab.report.row import Row
from normlab.report.runs import as_setting, as_text, load_metrics, load_probes
from normlab.report.statistics import degraded_above, holm, paired_difference
from normlab.results import FINISHED, LOST

NOT_TUNED = "not tuned"


@dataclass(frozen=True)
class Missing:
    """A run that the experiment asks for and that has not ended."""

    cell: str
    seed: int
    status: str  # running, interrupted, failed, corrupt; or: not started, not tuned (`cell` is a row: which is open)


@dataclass
class Comparison:
    """All rows of an experiment in the grid's order, and what is missing from it."""

    experiment: Experiment
    rows: list[Row]
    frame: pd.DataFrame  # every run that the experiment asks for; nothing else is used anywhere
    missing: list[Missing]
    n_cells: int  # runs that the experiment asks for
    n_outside: int  # runs in the folder that are not used
    n_beside: int  # those of them that fit the grid, but at another size or setting
    words: str = ""  # what follows `normlab sweep`, `eval` and `report`: the experiment as the user named it, scale=
    _metrics: dict[str, pd.DataFrame] = field(default_factory=dict)
    _probes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def n_done(self) -> int:
        return self.n_cells - len(self.missing)

    @property
    def shown(self) -> list[Row]:
        """Rows that have at least one ended run: what a figure can draw."""
        return [row for row in self.rows if len(row.ended)]

    def metrics(self, run_dir: str) -> pd.DataFrame:
        if run_dir not in self._metrics:
            self._metrics[run_dir] = load_metrics(run_dir)
        return self._metrics[run_dir]

    def probes(self, run_dir: str) -> list[dict[str, Any]]:
        if run_dir not in self._probes:
            self._probes[run_dir] = load_probes(run_dir)
        return self._probes[run_dir]


def compare(frame: pd.DataFrame, experiment: Experiment, words: str = "") -> Comparison:
    """Sort runs into rows, choose tuned values, refuse an unfair comparison, test against the baseline.

    Used are the runs that the experiment asks for: with ``tune_seeds`` those seeds at every value and the reported
    ones at the chosen value; in a shared folder the rest is other experiments'. ``words``: as in ``Comparison``.

    Raises UnfairComparison where runs differ in more than the factors, UserError where nothing is left.
    """
    words = words or _words(experiment)
    placed, n_beside = of_one_setting(runs_of_cells(_once(frame), experiment), experiment)
    rows = _rows(placed, experiment)
    used = frame.loc[sorted({label for row in rows for label in row.sweep.index})]
    if used.empty:
        raise UserError(
            f"none of the {len(frame)} runs found belongs to the grid of '{experiment.name}'; "
            f"make its cells with `normlab sweep {words}`"
        )
    fairness.check(used, experiment.factors)
    _attach_baselines(rows, experiment)
    asked = [
        (cell, runs, seed)
        for cell, runs in placed
        for seed in all_seeds(experiment)
        if seed in experiment.tune_seeds or not experiment.tune_seeds or _is_chosen(cell, rows, experiment)
    ]
    missing = [
        Missing(row_label(cell), seed, _state(runs, seed))
        for cell, runs, seed in asked
        if not (runs["status"].isin(FINISHED) & (runs["seed"] == seed)).any()
    ]
    if experiment.tune_seeds:
        untuned = [row_label(row.cell) for row in rows if not row.is_tuned]
        missing += [Missing(row, seed, NOT_TUNED) for row in untuned for seed in experiment.reported_seeds]
    n_cells = len(asked) + sum(run.status == NOT_TUNED for run in missing)
    n_outside = int(frame["treatment"].notna().sum()) - len(used)
    if experiment.runs:  # those are other experiments'
        n_outside = n_beside = 0
    return Comparison(experiment, rows, used, missing, n_cells, n_outside, n_beside, words)


def _words(experiment: Experiment) -> str:
    """The experiment by its name, with the scale that was asked for besides the file's own."""
    scales = [override for override in experiment.overrides if override.startswith("scale=")]
    return " ".join([experiment.name, *scales[1:][-1:]])


def _is_chosen(cell: Cell, rows: list[Row], experiment: Experiment) -> bool:
    """Whether the reported seeds run in this cell: it has its row's chosen value of the tuned factor."""
    rest = {factor: value for factor, value in cell.items() if factor != experiment.tune}
    return any(row.cell == rest and row.is_tuned and row.tuned == cell.get(experiment.tune or "") for row in rows)


def _once(frame: pd.DataFrame) -> pd.DataFrame:
    """A run that lies in two folders (a copy) counts once; an ended one goes before one that was cut."""
    unfinished_last = frame.sort_values("status", key=lambda s: ~s.isin(FINISHED), kind="stable")
    again = unfinished_last.duplicated(["treatment", "placement", "seed"])
    # A damaged configuration says of no two runs that they are the same.
    return unfinished_last[~again | unfinished_last["treatment"].isna()].sort_index()


def _state(runs: pd.DataFrame, seed: int) -> str:
    states = list(runs.loc[runs["seed"] == seed, "status"])
    return str(states[0]) if states else "not started"


def _rows(placed: list[tuple[Cell, pd.DataFrame]], experiment: Experiment) -> list[Row]:
    groups: list[tuple[Cell, list[tuple[Value, pd.DataFrame]]]] = []
    for cell, runs in placed:
        key = {factor: value for factor, value in cell.items() if factor != experiment.tune}
        value = cell.get(experiment.tune) if experiment.tune else None
        known = next((values for other, values in groups if other == key), None)
        if known is None:
            groups.append((key, [(value, runs)]))
        else:
            known.append((value, runs))
    return [_row(key, values, experiment) for key, values in groups]


def _row(key: Cell, values: list[tuple[Value, pd.DataFrame]], experiment: Experiment) -> Row:
    chosen = _chosen(values, experiment)
    asked = [
        runs[runs["seed"].isin(all_seeds(experiment) if place == chosen else experiment.judging_seeds)]
        for place, (_, runs) in enumerate(values)
    ]
    value, runs = (None, asked[0].iloc[:0]) if chosen is None else (values[chosen][0], asked[chosen])
    ordered = sorted(range(len(values)), key=lambda i: as_number(values[i][0]) or 0.0)
    at_edge = len(values) > 2 and len(runs) > 0 and chosen in (ordered[0], ordered[-1])
    shown = runs[runs["seed"].isin(experiment.reported_seeds)].sort_values("seed")
    constant = frozenset(
        factor
        for factor in experiment.factors
        if factor != "placement" and all(len(product.get(factor, [])) == 1 for product in experiment.grid)
        if len({as_text(product[factor][0]) for product in experiment.grid}) == 1
    )
    return Row(
        key, shown, pd.concat(asked), experiment.metric, experiment.tune, value, chosen is not None, at_edge,
        constant=constant,
    )  # fmt: skip


def _chosen(values: list[tuple[Value, pd.DataFrame]], experiment: Experiment) -> int | None:
    """The place of the row's best value. None while it is open: as in the sweep, seeds set apart to choose do so when
    all their runs have ended, as a choice before could be another one then."""
    if not experiment.tune:
        return 0
    judges = experiment.judging_seeds
    ended = [runs[runs["seed"].isin(judges) & runs["status"].isin(FINISHED)] for _, runs in values]
    if experiment.tune_seeds and any(not {*judges} <= {*runs["seed"]} for runs in ended):
        return None
    return best_value({place: _results(runs, experiment.metric) for place, runs in enumerate(ended)})


def _results(ended: pd.DataFrame, metric: str) -> list[float | None]:
    """The final metric of each run; None for a lost one. As the sweep reads it, which has no more to go by."""
    lost = (ended["status"] != "done") | ended["outcome"].isin(LOST)
    values = ended[metric] if metric in ended else pd.Series(float("nan"), ended.index)
    return [None if gone or value != value else float(value) for gone, value in zip(lost, values, strict=True)]


def _attach_baselines(rows: list[Row], experiment: Experiment) -> None:
    wanted = {factor: value for factor, value in experiment.baseline.items() if factor != experiment.tune}
    if not wanted:
        return
    for row in rows:
        row.is_baseline = all(as_setting(row.cell.get(f)) == as_setting(v) for f, v in wanted.items())
    bases = [row for row in rows if row.is_baseline]
    for row in rows:
        if row.is_baseline:
            row.baseline = None
        else:
            same_rest = [base for base in bases if base.cell == {**row.cell, **wanted}]
            candidates = same_rest or (bases if len(bases) == 1 else [])
            row.baseline = candidates[0] if candidates else None
        reference = row if row.is_baseline else row.baseline
        if reference is not None:
            good = reference.usable[reference.usable["outcome"] == "ok"]["val_loss"]
            row.degraded_above = degraded_above([float(v) for v in good.dropna()])
        if row.baseline is not None:
            row.difference = paired_difference(row.by_seed, row.baseline.by_seed)
    for row, p in zip(rows, holm([row.difference.p if row.difference else None for row in rows]), strict=True):
        row.p_holm = p
