"""Accuracy on downstream tasks, by what ``normlab eval`` left in the run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

from normlab.evaluations import is_share, task_file, title
from normlab.experiment.schema import PaperColumn
from normlab.report.assemble import assemble, setting_columns
from normlab.report.cells import baseline_name, nothing
from normlab.report.comparison import Comparison
from normlab.report.evaluations import (
    Found,
    Records,
    differing,
    find_records,
    first_record,
    mark,
    missing_note,
    spread_cell,
)
from normlab.report.notes import notes_on_runs
from normlab.report.paper import (
    Judge,
    direction_column,
    publications,
    published_column,
    same_direction,
    sources,
    summary,
)
from normlab.report.row import Row
from normlab.report.statistics import ALPHA, Estimate, holm, paired_difference, stars
from normlab.report.table import Cell, Column, Table, table

_DIFFERENCE = tuple(f"average_difference{end}" for end in ("", "_lo", "_hi", "_pairs", "_p", "_p_holm"))
Differences = Mapping[int, tuple[Estimate, float | None]]  # row, by its id -> difference to the baseline, p after Holm


@table("downstream")
def downstream(comparison: Comparison) -> Table:
    """A column per task of the experiment, their average, published averages; in percent, mean ± sd over seeds."""
    tasks, full = comparison.experiment.tasks, len(comparison.experiment.reported_seeds)
    found = find_records(comparison.rows, tasks, task_file)
    made = setting_columns(comparison)
    first = len(made)
    for task in tasks:
        fields = tuple(f"{task}_{part}" for part in ("mean", "sd", "n", "stderr"))
        made.append((Column(title(task), fields), partial(_cell, found[task], full)))
    differences = _differences(comparison, found) if len(tasks) > 1 else {}
    if averaged := len(tasks) > 1:
        made.append((Column("Average", ("average_mean", "average_sd", "average_n")), partial(_average, found, full)))
    if averaged and any(row.is_baseline for row in comparison.rows):
        header = f"Δ average to {baseline_name(comparison)} [95 % CI]"
        made.append((Column(header, _DIFFERENCE, everywhere=False), partial(_difference_cell, differences)))
    papers = [(index, paper) for index, paper in publications(comparison) if "accuracy" in paper.metric.lower()]
    for index, paper in papers:
        made.append(published_column(index, paper))
        if "average" in paper.metric.lower():
            made.append(direction_column(index, paper, _by_average(differences)))
    own = [*_notes(comparison, found), *_published_notes(comparison, papers, differences)]
    sentence = "Downstream tasks, % of the documents, mean ± sd over seeds."
    whole = assemble("downstream", comparison, sentence, made, notes_on_runs(comparison, own))
    for column in range(first, first + len(tasks) + averaged):
        mark([cells[column] for cells in whole.rows], highest=True, full=full)
    return whole


def _values(of_row: Records) -> dict[int, float]:
    """Percent, by seed."""
    scale = {seed: 100.0 if is_share(record["metric"]) else 1.0 for seed, record in of_row.items()}
    return {seed: scale[seed] * record["metrics"][record["metric"]]["value"] for seed, record in of_row.items()}


def _cell(of_rows: Mapping[int, Records], full: int, row: Row) -> Cell:
    of_row = of_rows[id(row)]
    errors = [record["metrics"][record["metric"]]["stderr"] for record in of_row.values()]
    known = [100 * error for error in errors if error is not None]
    return spread_cell(list(_values(of_row).values()), 1, full, (max(known) if known else None,))


def _averages(found: Found, row: Row) -> dict[int, float]:
    """Over the tasks, of each seed that has them all."""
    by_task = [_values(rows[id(row)]) for rows in found.values()]
    whole = set.intersection(*(set(values) for values in by_task))
    return {seed: fmean(values[seed] for values in by_task) for seed in sorted(whole)}


def _average(found: Found, full: int, row: Row) -> Cell:
    return spread_cell(list(_averages(found, row).values()), 1, full)


def _differences(comparison: Comparison, found: Found) -> Differences:
    """Of the average to the baseline's, paired by seed, in percentage points."""
    paired = {
        id(row): paired_difference(_averages(found, row), _averages(found, row.baseline))
        for row in comparison.rows
        if row.baseline is not None
    }
    known = {row: difference for row, difference in paired.items() if difference is not None}
    adjusted = holm([difference.p for difference in known.values()])
    return {row: (difference, p) for (row, difference), p in zip(known.items(), adjusted, strict=True)}


def _difference_cell(differences: Differences, row: Row) -> Cell:
    if row.is_baseline:
        return Cell("baseline", (None,) * len(_DIFFERENCE))
    if id(row) not in differences:
        return nothing(len(_DIFFERENCE))
    found, p = differences[id(row)]
    interval = "(n=1)" if found.lo is None else f"[{found.lo:+.1f}, {found.hi:+.1f}] {stars(p) or 'n.d.'}"
    return Cell(f"{found.mean:+.1f} {interval}", (found.mean, found.lo, found.hi, found.n, found.p, p))


def _by_average(differences: Differences) -> Judge:
    """Our average beside a published one, where both sides were evaluated on all tasks."""

    def judge(paper: PaperColumn, row: Row) -> str:
        found, p = differences.get(id(row), (None, None))
        higher = found.mean > 0 if found else None
        return same_direction(paper, row, higher, p is not None and p < ALPHA)

    return judge


def _published_notes(
    comparison: Comparison, papers: Sequence[tuple[int, PaperColumn]], differences: Differences
) -> list[str]:
    judge = _by_average(differences)
    said = [summary(comparison, index, paper, judge) for index, paper in papers if "average" in paper.metric.lower()]
    how = (
        "Published direction: whether our average, over the tasks of this table, differs from the baseline's to the "
        "published side; paired by seed, p after Holm over the rows; undecided: ours is not distinguishable."
    )
    return [*sources(comparison, "accuracy"), how if any(said) else "", *said]


def _notes(comparison: Comparison, found: Found) -> list[str]:
    ever = {task: first_record(rows) for task, rows in found.items()}
    shown = {task: record for task, record in ever.items() if record}
    notes = [*missing_note(comparison, found, "tasks"), *differing(found, ("shots", "version", "metric"))]
    if not shown:
        return notes
    metrics: dict[str, list[str]] = {}
    for task, record in shown.items():
        metrics.setdefault(record["metric"], []).append(title(task))
    chance = [f"{title(task)} {100 * r['chance']:.1f}" for task, r in shown.items() if r["chance"] is not None]
    errors = {task: _largest_error(rows) for task, rows in found.items()}
    errors_said = [f"{title(task)} {error:.1f}" for task, error in errors.items() if error is not None]
    cut = [f"{title(task)} {r['truncated']:,}" for task, r in shown.items() if r["truncated"]]
    versions = sorted({str(record["lm_eval"]) for record in shown.values()})
    shots = sorted({str(record["shots"]) for record in shown.values()})
    return [
        *notes,
        f"Chance, %: {', '.join(chance)}." if chance else "",
        f"Standard error of one run over a task's documents: {', '.join(errors_said)}." if errors_said else "",
        f"lm-evaluation-harness {' / '.join(versions)}, {' / '.join(shots)} shots. "
        + "; ".join(f"{metric}: {', '.join(names)}" for metric, names in metrics.items())
        + ". The metric is the one that OLMo's in-loop evaluation reports; acc_norm: log-likelihood per character.",
        "basic_arithmetic: questions of this package, not OLMo's." if "basic_arithmetic" in shown else "",
        "Bold: best mean of a column, underlined: second; neither says that the difference is real.",
        f"Requests of a run that were cut to its context: {', '.join(cut)}." if cut else "",
    ]


def _largest_error(rows: Mapping[int, Records]) -> float | None:
    errors = [r["metrics"][r["metric"]]["stderr"] for of_row in rows.values() for r in of_row.values()]
    return max((100 * error for error in errors if error is not None), default=None)
