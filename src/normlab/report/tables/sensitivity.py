"""How much each method's loss hangs on its learning rate (Wortsman et al. 2023), and how wide its good range is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from normlab.errors import UserError
from normlab.report.assemble import assemble, final_losses, table_rows
from normlab.report.cells import factor_columns, mark, nothing
from normlab.report.comparison import Comparison
from normlab.report.labels import METRICS
from normlab.report.lr_score import NEAR, LRCurve, is_swept, loss_cap, lr_curve
from normlab.report.notes import notes_on_runs
from normlab.report.row import Row
from normlab.report.runs import as_text
from normlab.report.statistics import Estimate
from normlab.report.table import Cell, Column, Table, table

_SCORE = "LR sensitivity [95 % CI]"
_PARTS = ("mean", "lo", "hi", "n")
_Curves = Sequence[tuple[Row, LRCurve | None]]


@table("sensitivity")
def sensitivity(comparison: Comparison) -> Table:
    """Best LR and loss, LR sensitivity with the own and with the common best loss, range of good LRs, lost runs.

    Raises UserError where the experiment sweeps no learning rate.
    """
    rows = table_rows(comparison)
    if not is_swept(comparison, rows):
        raise UserError("table sensitivity: the experiment sweeps no LR; give it `tune: optim.lr` and several values")
    cap = loss_cap(comparison)
    found = [lr_curve(comparison, row, cap) if cap is not None else None for row in rows]
    common = min((float(curve.means.min()) for curve in found if curve), default=None)
    metric = comparison.experiment.metric
    measured: list[tuple[Column, Callable[[LRCurve], Cell]]] = [
        (Column("Best LR", ("best_lr",)), lambda curve: Cell(as_text(curve.best_lr), (curve.best_lr,))),
        (Column(METRICS[metric], tuple(f"{metric}_{part}" for part in ("mean", "sd", "n"))), _best),
        (Column("own l*", tuple(f"sensitivity_{part}" for part in _PARTS), _SCORE), lambda c: _score(c.score())),
        (
            Column("common l*", tuple(f"sensitivity_common_{part}" for part in _PARTS), _SCORE),
            lambda curve: _score(curve.score(common)),
        ),
        (Column(f"LRs within {NEAR:g} nats (octaves)", ("near_low", "near_high", "near_octaves")), _near),
        (Column("lost", ("lost", "ended")), lambda c: Cell(f"{c.lost}/{c.ended}", (c.lost, c.ended))),
    ]
    curves = list(zip(rows, found, strict=True))
    made = [*factor_columns(comparison), *((column, _of_curves(curves, column, cell)) for column, cell in measured)]
    own = notes_on_runs(comparison, _notes(comparison, curves, cap))
    whole = assemble("sensitivity", comparison, final_losses(comparison), made, own)
    n_judges = len(comparison.experiment.judging_seeds)
    for place in [index for index, column in enumerate(whole.columns) if column.group == _SCORE]:
        scores = [(line[place].values[0], line[place]) for line in whole.rows]
        mark([(float(v), cell.values[-1] == n_judges, cell) for v, cell in scores if isinstance(v, int | float)])
    return whole


def _of_curves(curves: _Curves, column: Column, cell: Callable[[LRCurve], Cell]) -> Callable[[Row], Cell]:
    by_row = {id(row): curve for row, curve in curves}

    def made(row: Row) -> Cell:
        curve = by_row[id(row)]
        return cell(curve) if curve else nothing(len(column.fields))

    return made


def _best(curve: LRCurve) -> Cell:
    found = curve.best
    assert found is not None  # a curve has a seed
    text = f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")
    return Cell(text, (found.mean, found.sd, found.n))


def _score(found: Estimate | None) -> Cell:
    if found is None:
        return nothing(len(_PARTS))
    text = f"{found.mean:.3f}" + (f" [{found.lo:.3f}, {found.hi:.3f}]" if found.lo is not None else "")
    return Cell(text, (found.mean, found.lo, found.hi, found.n))


def _near(curve: LRCurve) -> Cell:
    low, high = curve.near
    words = as_text(low) if low == high else f"{as_text(low)}–{as_text(high)}"
    return Cell(f"{words} ({curve.octaves:.1f})", (low, high, curve.octaves))


def _notes(comparison: Comparison, curves: _Curves, cap: float | None) -> list[str]:
    if cap is None:
        return ["No score: the runs do not share one vocabulary, so that there is no common ln V to cap the losses at."]
    known = [(row, curve) for row, curve in curves if curve]
    partial = [row.label for row, curve in curves if curve is None]
    edge = [row.label for row, curve in known if curve.at_edge]
    tried = list(dict.fromkeys(", ".join(as_text(lr) for lr in curve.means.index) for _, curve in known))
    n_seeds = sorted({len(curve.losses) for _, curve in known})
    return [
        "LR sensitivity (Wortsman et al. 2023, arXiv 2309.14322, section 3.1): the mean over the LRs tried, with equal "
        f"weights, of min(l, l_0) - l*. l_0 = ln V = {cap:.3f} for every row; a lost run counts l_0, one that "
        "stagnated its own loss. own l*: the row's mean loss at its best LR (how flat it is); common l*: that of the "
        f"best row (how flat and how good). It depends on the LRs tried: {'; '.join(tried)}.",
        f"Intervals: 95 % t over the scores of single seeds (n = {' or '.join(map(str, n_seeds))}), each at the LR "
        "that is best on the mean; at so few seeds a bootstrap covers far less than it says.",
        f"LRs within {NEAR:g} nats: the unbroken range of LRs tried around the best whose mean loss is that near it.",
        f"Best LR at the edge of those tried: {'; '.join(edge)}." if edge else "",
        f"No seed has an ended run of every LR: {'; '.join(partial)}." if partial else "",
        "lost: runs that ended nan, diverged or exploded, over all LRs and seeds. Bold: lowest score, underlined: "
        "second; neither says that the difference is real.",
    ]
