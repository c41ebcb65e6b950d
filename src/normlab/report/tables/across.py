"""A factor's values side by side, as the HybridNorm paper's Tables 5 and 7: a row per method, a head per value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from normlab.errors import UserError
from normlab.experiment.schema import Value
from normlab.report.assemble import caption, final_losses
from normlab.report.cells import (
    DIFFERENCE,
    baseline_name,
    difference_cell,
    factor_columns,
    loss_cell,
    loss_fields,
    mark_best,
    nothing,
    tuned_cell,
)
from normlab.report.comparison import Comparison
from normlab.report.grouping import in_groups
from normlab.report.labels import METRICS, factor_name, value_name
from normlab.report.notes import notes
from normlab.report.paper import agreement, higher_is_better, publications, published, published_text
from normlab.report.row import Row
from normlab.report.runs import as_text
from normlab.report.table import Cell, Column, Table, table


@dataclass
class _Line:
    """One line of the table: the rows of the comparison that differ in nothing but the factor across, by its value."""

    heading: str
    first: Row
    under: dict[str, Row]


@table("across")
def across(comparison: Comparison) -> Table:
    """Under each value of the experiment's ``across``: loss, difference to the baseline, published numbers."""
    experiment, factor = comparison.experiment, comparison.experiment.across
    if factor is None:
        raise UserError(
            f"experiment {experiment.name}: the table 'across' needs a factor whose values stand side by side; "
            f"write for example `across: {experiment.factors[0]}`"
        )
    if factor == experiment.tune:
        raise UserError(f"experiment {experiment.name}: across: {factor} is tuned: each row has one value of it")
    values: dict[str, Value] = {}
    for row in comparison.rows:
        values.setdefault(as_text(row.cell.get(factor)), row.cell.get(factor))
    lines = _lines(comparison, factor)
    made = factor_columns(comparison, without=[factor])
    columns, body = [column for column, _ in made], [[cell(line.first) for _, cell in made] for line in lines]
    for name, value in values.items():
        columns += _head(comparison, name, value_name(factor, value))
        under = [line.under.get(name) for line in lines]
        cells = [_cells(comparison, row) for row in under]
        mark_best(under, [row_cells[0] for row_cells in cells])
        for line_cells, more in zip(body, cells, strict=True):
            line_cells += more
    question = caption(comparison, final_losses(comparison))
    below = notes(comparison, _own_notes(comparison, factor))
    return Table("across", question, columns, body, below, [line.heading for line in lines])


def _lines(comparison: Comparison, factor: str) -> list[_Line]:
    lines: dict[tuple[tuple[str, str], ...], _Line] = {}
    for heading, row in in_groups(comparison.rows, comparison.experiment):
        lines.setdefault(row.without(factor), _Line(heading, row, {})).under[as_text(row.cell.get(factor))] = row
    return list(lines.values())


def _head(comparison: Comparison, name: str, title: str) -> list[Column]:
    """The columns under one value of the factor; in a CSV each has the value's name in front."""
    experiment = comparison.experiment
    columns = [Column(METRICS[experiment.metric], loss_fields(experiment.metric))]
    if experiment.baseline:
        columns.append(Column("Δ", DIFFERENCE))
    if tune := experiment.tune:
        columns.append(Column(factor_name(tune), (tune,), everywhere=False))
    papers = publications(comparison)
    if papers:
        columns.append(Column(" / ".join(f"[{i}]" for i, _ in papers), tuple(f"published_{i}" for i, _ in papers)))
    if directions := tuple(f"published_{i}_direction" for i, paper in papers if not higher_is_better(paper)):
        columns.append(Column("direction", directions, everywhere=False))
    return [
        replace(column, group=title, fields=tuple(f"{name}.{field}" for field in column.fields)) for column in columns
    ]


def _cells(comparison: Comparison, row: Row | None) -> list[Cell]:
    """The cells of ``_head``, the loss first; dashes where the grid has no such row."""
    experiment = comparison.experiment
    cells = [loss_cell(row) if row else nothing(len(loss_fields(experiment.metric)))]
    if experiment.baseline:
        cells.append(difference_cell(row, interval=False) if row else nothing(len(DIFFERENCE)))
    if experiment.tune:
        cells.append(tuned_cell(row) if row else nothing())
    papers = [paper for _, paper in publications(comparison)]
    if papers:
        theirs = [published_text(paper, row) for paper in papers] if row else []
        values = [published(paper, row) for paper in papers] if row else []
        cells.append(Cell(_joined(theirs), tuple(values)) if row else nothing(len(papers)))
    if judged := [paper for paper in papers if not higher_is_better(paper)]:
        said = [agreement(paper, row) if row else "" for paper in judged]
        cells.append(Cell(_joined([word or "–" for word in said]), tuple(word or None for word in said)))
    return cells


def _joined(texts: list[str]) -> str:
    """``2.74 / 20``; a word that holds for every publication, and a dash, once."""
    words = set(texts)
    return texts[0] if len(words) == 1 and not any(letter.isdigit() for letter in texts[0]) else " / ".join(texts)


def _own_notes(comparison: Comparison, factor: str) -> list[str]:
    if not comparison.experiment.baseline:
        return []
    name = factor_name(factor)
    same = "" if factor in comparison.experiment.baseline else f" of the same {name}"
    return [f"Under each {name}: Δ to {baseline_name(comparison)}{same}; its interval is in the CSV."]
