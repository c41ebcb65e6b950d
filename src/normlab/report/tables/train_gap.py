"""Training loss beside validation loss: the gap is what a norm that sees the future leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from normlab.report.assemble import assemble
from normlab.report.cells import NOTHING, SPREAD, MadeColumn, factor_columns, spread_values
from normlab.report.comparison import Comparison
from normlab.report.notes import is_causal, notes_on_runs
from normlab.report.row import Row, usable
from normlab.report.statistics import estimate
from normlab.report.table import Cell, Column, Table, table


@table("train_gap")
def train_gap(comparison: Comparison) -> Table:
    """Final train loss, validation loss and their difference by seed, each mean ± sd."""
    made: list[MadeColumn] = [
        *factor_columns(comparison),
        (Column("causal", ("causal",), left=True), _causal),
        (Column("Train loss", _fields("train_loss")), _spread(lambda row: _by_seed(row, "train_loss"))),
        (Column("Val. loss", _fields("val_loss")), _spread(lambda row: _by_seed(row, "val_loss"))),
        (Column("Gap, val. less train", _fields("gap")), _spread(_gap, "+")),
    ]
    sentence = "Final losses in nats per token, mean ± sd over seeds."
    return assemble("train_gap", comparison, sentence, made, notes_on_runs(comparison, [_NOTE]))


_NOTE = (
    "Train loss: mean over the last steps, in training mode, while the weights still move; val. loss: after the last "
    "step, in evaluation mode. A causal norm's gap is what the run overfits, less what it still learned in those "
    "steps; a gap beyond that is the norm's own: it saw in training what it does not see in evaluation."
)


def _fields(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{part}" for part in SPREAD)


def _by_seed(row: Row, column: str) -> dict[int, float]:
    runs = usable(row.runs, column)
    return (
        {int(seed): float(value) for seed, value in zip(runs["seed"], runs[column], strict=True)} if len(runs) else {}
    )


def _gap(row: Row) -> dict[int, float]:
    train, val = _by_seed(row, "train_loss"), _by_seed(row, "val_loss")
    return {seed: val[seed] - train[seed] for seed in train.keys() & val.keys()}


def _spread(values: Callable[[Row], Mapping[int, float]], sign: str = "") -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        found = estimate(list(values(row).values()))
        if found is None:
            return Cell(NOTHING, spread_values(None))
        text = f"{found.mean:{sign}.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")
        return Cell(text, spread_values(found))

    return cell


def _causal(row: Row) -> Cell:
    causal = "yes" if is_causal(row) else "NO"
    return Cell(causal, (causal,))
