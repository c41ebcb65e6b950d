"""A table from its columns: rows in their groups, the question above them, the notes below."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.report.cells import MadeColumn, factor_columns, init_cell
from normlab.report.comparison import Comparison
from normlab.report.grouping import in_groups
from normlab.report.row import Row
from normlab.report.table import Column, Table


def assemble(
    name: str,
    comparison: Comparison,
    sentence: str,
    made: Sequence[MadeColumn],
    notes: list[str],
    notes_beside: Sequence[str] = (),
) -> Table:
    """One line per row of ``table_rows``, in their order. ``sentence``: what the numbers are, after the question."""
    grouped = in_groups(comparison.rows, comparison.experiment)
    columns, body = [column for column, _ in made], [[cell(row) for _, cell in made] for _, row in grouped]
    headings = [heading for heading, _ in grouped]
    return Table(name, caption(comparison, sentence), columns, body, notes, headings, list(notes_beside))


def table_rows(comparison: Comparison) -> list[Row]:
    """The comparison's rows in the order of a table."""
    return [row for _, row in in_groups(comparison.rows, comparison.experiment)]


def setting_columns(comparison: Comparison) -> list[MadeColumn]:
    """What tells the rows apart, and the init in force."""
    return [*factor_columns(comparison, without=["init"]), (Column("Init", ("init",), left=True), init_cell)]


def caption(comparison: Comparison, sentence: str) -> str:
    return " ".join(f"{comparison.experiment.question} {sentence}".split())


def final_losses(comparison: Comparison) -> str:
    """The sentence of a table of losses."""
    unit = "bits per byte" if comparison.experiment.metric == "val_bpb" else "nats per token"
    return f"Final losses in {unit}, mean ± sd over seeds."
