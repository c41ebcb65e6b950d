"""How large a learning rate each method bears: it grows from nothing until the run breaks (KEEL, arXiv 2601.19895)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from normlab.errors import UserError
from normlab.experiment.schema import PaperColumn
from normlab.report.assemble import assemble
from normlab.report.cells import NOTHING, baseline_name, factor_columns, nothing
from normlab.report.comparison import Comparison
from normlab.report.divergence import MARGIN, NOISE, SMOOTH, recovery_window
from normlab.report.lr_limits import Limits, direction, limits, log_ratio
from normlab.report.notes import notes_on_runs
from normlab.report.paper import Judge, direction_column, publications, published_column, same_direction, sources
from normlab.report.row import Row
from normlab.report.table import Cell, Column, Table, table


@table("max_lr")
def max_lr(comparison: Comparison) -> Table:
    """Largest LR borne (geometric mean and range over seeds), which sign showed first, ratio to the baseline.

    Raises UserError where no run's LR grows to its end.
    """
    rows = comparison.rows
    of_row = {id(row): limits(comparison, row) for row in rows}
    if not any(of_row.values()):
        raise UserError(
            "table max_lr: no run that ended has a growing LR; give the experiment optim.warmup_steps = train.steps"
        )

    def of_limits(cell: Callable[[Limits], Cell], fields: int) -> Callable[[Row], Cell]:
        def made(row: Row) -> Cell:
            found = of_row[id(row)]
            return cell(found) if found else nothing(fields)

        return made

    made = [
        *factor_columns(comparison),
        (Column("Largest LR", ("max_lr", "max_lr_is_bound", "n")), of_limits(_mean, 3)),
        (Column("Range", ("max_lr_low", "max_lr_high")), of_limits(_range, 2)),
        (Column("Broke", ("broke", "ended")), of_limits(_broke, 2)),
        (Column("First sign", ("signs",), left=True), of_limits(_signs, 1)),
    ]
    if any(row.is_baseline for row in rows):
        header = f"× {baseline_name(comparison)} [95 % CI]"
        made.append((Column(header, ("ratio", "ratio_lo", "ratio_hi")), lambda row: _ratio_cell(of_row, row)))
    for index, paper in publications(comparison):
        made += [published_column(index, paper), direction_column(index, paper, _by_limits(of_row), everywhere=True)]
    return assemble("max_lr", comparison, "", made, notes_on_runs(comparison, _notes(comparison)))


def _mean(found: Limits) -> Cell:
    bound = {0: "", len(found.by_seed): "> "}.get(found.whole, "≥ ")
    return Cell(f"{bound}{found.mean:.3g}", (found.mean, str(bool(found.whole)).lower(), len(found.by_seed)))


def _range(found: Limits) -> Cell:
    lrs = sorted(borne.lr for borne in found.by_seed.values())
    text = f"{lrs[0]:.3g}" + (f"–{lrs[-1]:.3g}" if lrs[-1] > lrs[0] else "")
    return Cell(text if len(lrs) > 1 else NOTHING, (lrs[0], lrs[-1]))


def _broke(found: Limits) -> Cell:
    n = len(found.by_seed)
    return Cell(f"{n - found.whole}/{n}", (n - found.whole, n))


def _signs(found: Limits) -> Cell:
    counts = Counter(borne.sign for borne in found.by_seed.values() if borne.sign)
    several = len(found.by_seed) > 1
    text = ", ".join(
        f"{sign} {count}/{len(found.by_seed)}" if several else sign for sign, count in counts.most_common()
    )
    return Cell(text or NOTHING, (text or None,))


def _ratio_cell(of_row: dict[int, Limits | None], row: Row) -> Cell:
    """``0.21 [0.10, 0.44]``; a bound, without interval, where runs of one side did not break."""
    if row.is_baseline:
        return Cell("baseline", (None,) * 3)
    ours, theirs = of_row[id(row)], of_row.get(id(row.baseline))
    found = log_ratio(ours, theirs)
    if found is None or ours is None or theirs is None or (ours.whole and theirs.whole):
        return nothing(3)
    if ours.whole or theirs.whole:
        return Cell(f"{'≥' if ours.whole else '≤'} {math.exp(found.mean):.2g}", (math.exp(found.mean), None, None))
    mean = math.exp(found.mean)
    if found.lo is None or found.hi is None:
        return Cell(f"{mean:.2g} (n=1)", (mean, None, None))
    low, high = math.exp(found.lo), math.exp(found.hi)
    return Cell(f"{mean:.2g} [{low:.2g}, {high:.2g}]", (mean, low, high))


def _by_limits(of_row: dict[int, Limits | None]) -> Judge:
    """Our largest LR beside the published one."""

    def judge(paper: PaperColumn, row: Row) -> str:
        ours = direction(of_row[id(row)], of_row.get(id(row.baseline)))
        return same_direction(paper, row, None if ours is None else ours > 0, bool(ours))

    return judge


def _notes(comparison: Comparison) -> list[str]:
    windows = sorted({recovery_window(int(steps)) for steps in comparison.frame["train.steps"].dropna()})
    written = [
        "Largest LR: of the step before the run broke, geometric mean over seeds, as in KEEL (arXiv 2601.19895), Table "
        "1. > X: no run broke up to X; ≥: some did not, and count what they saw. The pace of the ramp moves the "
        "value: rows compare, numbers of other ramps do not.",
        "A run broke (KEEL's signs, our numbers) at the first of: nan: a loss or gradient that is not finite; no "
        f"return: the median loss of {max(windows[0], SMOOTH)} steps stays max({MARGIN:g} nats, {NOISE} standard "
        f"errors) above its best for {' or '.join(map(str, windows))} steps (200, of a short run a tenth); stagnation: "
        "the run ends not below the unigram cross-entropy less 0.05 nats, from where it first came to that level. "
        "KEEL's third sign, slower than a healthy run, needs such a run on the same ramp and is not looked for.",
        "×: ratio to the baseline, paired by seed, with its t interval in the logarithm.",
    ]
    written += sources(comparison)
    if publications(comparison):
        written.append(
            "Direction: whether ours bears more or less than the baseline as published; undecided: our interval "
            "includes 1, or runs that did not break hide the order; equal there: no published difference."
        )
    return written
