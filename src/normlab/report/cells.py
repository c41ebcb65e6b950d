"""The cells that several tables print: factors, a loss, a difference to the baseline, the best of a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from normlab.report.comparison import Comparison
from normlab.report.labels import factor_name, init_name, row_label, value_name
from normlab.report.row import Row
from normlab.report.runs import as_setting, as_text
from normlab.report.statistics import Estimate, stars
from normlab.report.table import Cell, Column

NOTHING = "–"
MadeColumn = tuple[Column, Callable[[Row], Cell]]


def nothing(column_fields: int = 1) -> Cell:
    """What stands where there is no number."""
    return Cell(NOTHING, (None,) * column_fields)


def factor_columns(comparison: Comparison, without: Sequence[str | None] = ()) -> list[MadeColumn]:
    """A column per factor that varies, the placement first; not the tuned factor, and not those of ``without``."""
    experiment = comparison.experiment
    values = {factor: {as_text(v) for p in experiment.grid for v in p.get(factor, [])} for factor in experiment.factors}
    shown = [factor for factor in values if factor not in (experiment.tune, *without)]
    shown = [f for f in shown if f == "placement" or len(values[f]) > 1 or not all(f in p for p in experiment.grid)]
    shown.sort(key=lambda factor: factor != "placement")

    def cell_of(factor: str) -> Callable[[Row], Cell]:
        def cell(row: Row) -> Cell:
            value = row.cell.get(factor)
            if factor not in row.cell and len(row.sweep):  # a union of products: what this row ran with
                value = row.sweep[factor].iloc[0]
            return Cell(value_name(factor, value), (as_text(value),))

        return cell

    return [(Column(factor_name(factor), (factor,), left=True), cell_of(factor)) for factor in shown]


def init_cell(row: Row) -> Cell:
    """The init in force; where the factor asked for the recipe, which that was."""
    used = list(dict.fromkeys(row.runs["init"])) if len(row.runs) else []
    text = " / ".join(init_name(init) for init in used) or as_text(row.cell.get("init", NOTHING))
    if row.cell.get("init") == "recipe" and used:
        text = f"recipe: {text}"
    return Cell(text, (" / ".join(used) or None,))


def tuned_cell(row: Row) -> Cell:
    """The row's best value of the tuned factor."""
    if row.tuned is None or row.sweep.empty:
        return nothing()
    text = as_setting(row.tuned)
    return Cell(text, (text,))


SPREAD = ("mean", "sd", "n", "lo", "hi")


def spread_values(found: Estimate | None) -> tuple[float | int | None, ...]:
    """The numbers of ``SPREAD``."""
    return (found.mean, found.sd, found.n, found.lo, found.hi) if found else (None, None, 0, None, None)


def loss_fields(metric: str) -> tuple[str, ...]:
    return (*(f"{metric}_{part}" for part in SPREAD), "diverged", "diverged_step")


def loss_cell(row: Row) -> Cell:
    """``1.7077 ± 0.0136``, and ``diverged@41 (1/3)`` where runs were lost: the first such step, or first to last."""
    found, lost = row.estimate, row.lost
    steps = sorted(int(step) for step in lost["diverged_step"].dropna())
    diverged = ""
    if len(lost):
        at = "" if not steps else f"@{steps[0]}" + (f"–{steps[-1]}" if steps[-1] > steps[0] else "")
        diverged = f"diverged{at} ({len(lost)}/{len(row.ended)})"
    mean = "" if not found else f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")
    text = ", ".join(part for part in (mean, diverged) if part) or NOTHING
    return Cell(text, (*spread_values(found), len(lost), steps[0] if steps else None))


DIFFERENCE = ("difference", "difference_lo", "difference_hi", "pairs", "p", "p_holm", "distinguishable")


def difference_cell(row: Row, interval: bool = True) -> Cell:
    """``-0.1695 [-0.2043, -0.1347] ***``: ours minus the baseline's; ``n.d.`` in the place of the stars otherwise."""
    if row.is_baseline:
        return Cell("baseline", (None,) * len(DIFFERENCE))
    found = row.difference
    if found is None:
        return nothing(len(DIFFERENCE))
    if found.lo is None or found.hi is None:
        return Cell(f"{found.mean:+.4f} (n=1)", (found.mean, None, None, 1, None, None, None))
    text = f"{found.mean:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]" if interval else f"{found.mean:+.4f}"
    text += f" {stars(row.p_holm) or 'n.d.'}"
    values = (found.mean, found.lo, found.hi, found.n, found.p, row.p_holm, str(row.distinguishable).lower())
    return Cell(text, values)


def mean_cell(column: str, template: str) -> Callable[[Row], Cell]:
    """The mean over seeds: of a loss over the usable runs, of a spike count over all that ended."""

    def cell(row: Row) -> Cell:
        runs = row.usable if column.startswith("val_") else row.ended
        values = [float(value) for value in runs[column].dropna()] if column in runs else []
        return Cell(template.format(fmean(values)), (fmean(values),)) if values else nothing()

    return cell


def baseline_name(comparison: Comparison, without: Sequence[str] = ()) -> str:
    """The baseline's factors in one line: ``Pre-Norm``."""
    named = comparison.experiment.baseline.items()
    return row_label({f: v for f, v in named if f not in (comparison.experiment.tune, *without)})


def mark_best(rows: Sequence[Row | None], cells: Sequence[Cell]) -> None:
    """Best mean in bold, second underlined, of each row's cell. One that lost a run competes only where all did."""
    known = [(row, row.estimate, cell) for row, cell in zip(rows, cells, strict=True) if row]
    mark([(found.mean, not len(row.lost), cell) for row, found, cell in known if found])


def mark(values: Sequence[tuple[float, bool, Cell]], highest: bool = False) -> None:
    """The best value in bold, the second underlined; nothing where one alone competes.

    ``values``: each with whether it is over all seeds of its row, and its cell; one that is not competes only where
    none is.
    """
    competing = [item for item in values if item[1]] or values
    ranked = [(value, cell) for value, _, cell in sorted(competing, key=lambda item: item[0], reverse=highest)]
    if len(ranked) > 1:
        ranked[0][1].bold = True
        ranked[1][1].underline = True
