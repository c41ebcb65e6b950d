"""Published numbers beside ours, marked as theirs, and whether they point the same way."""

from __future__ import annotations

from collections.abc import Callable

from normlab.experiment.schema import PaperColumn, Value
from normlab.report.comparison import Comparison
from normlab.report.row import Row
from normlab.report.runs import as_text
from normlab.report.table import Cell, Column


def paper_columns(comparison: Comparison) -> list[tuple[Column, Callable[[Row], Cell]]]:
    """Two columns per publication: its number, and whether ours lies on the same side of the baseline."""
    made: list[tuple[Column, Callable[[Row], Cell]]] = []
    for index, paper in enumerate(comparison.experiment.paper, start=1):
        group = f"Published [{index}]"
        theirs = Column(paper.metric, (f"published_{index}",), group)
        agreement = Column("ours", (f"published_{index}_direction",), group)
        made += [(theirs, _value_cell(paper)), (agreement, _agreement_cell(paper))]
    return made


def published(paper: PaperColumn, row: Row) -> Value:
    """The publication's value for a row: by its label as printed, or by its factors' values (``hybrid``)."""
    plain = ", ".join(as_text(value) for value in row.cell.values())
    return paper.values.get(row.label, paper.values.get(plain))


def agreement(paper: PaperColumn, row: Row) -> str:
    """``agrees``, ``disagrees``, ``undecided`` (ours is not distinguishable) or nothing to compare."""
    theirs = published(paper, row)
    if isinstance(theirs, str):  # "diverges"
        return "" if row.ended.empty else "agrees" if len(row.lost) else "disagrees"
    reference = published(paper, row.baseline) if row.baseline else None
    if not _is_number(theirs) or not _is_number(reference) or row.difference is None:
        return ""
    if not row.distinguishable:
        return "undecided"
    better_there = (float(theirs) < float(reference)) != higher_is_better(paper)  # type: ignore[arg-type]
    return "agrees" if better_there == (row.difference.mean < 0) else "disagrees"


def higher_is_better(paper: PaperColumn) -> bool:
    return "accuracy" in paper.metric.lower() or "↑" in paper.metric


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value_cell(paper: PaperColumn) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = published(paper, row)
        return Cell("–" if value is None else as_text(value), (value,))

    return cell


def _agreement_cell(paper: PaperColumn) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        said = agreement(paper, row)
        return Cell(said or "–", (said or None,))

    return cell
