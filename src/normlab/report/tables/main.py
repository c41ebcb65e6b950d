"""The main table: one row per method at its best LR, its difference to the baseline, how stable it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from normlab.report.comparison import Comparison
from normlab.report.labels import METRICS, factor_name, init_name, row_label, value_name
from normlab.report.notes import notes
from normlab.report.paper import paper_columns
from normlab.report.row import Row
from normlab.report.runs import as_text
from normlab.report.statistics import wilson
from normlab.report.table import Cell, Column, Table, table

NOTHING = "–"


@table("main")
def main(comparison: Comparison) -> Table:
    """Method, init, LR, ok, loss, difference to the baseline, spikes, gradient, stream, published numbers."""
    experiment, rows = comparison.experiment, comparison.rows
    made = [*_factor_columns(comparison), (Column("Init", ("init",), left=True), _init)]
    if experiment.tune:
        made.append((Column(factor_name(experiment.tune), (experiment.tune,)), _tuned))
    metric = experiment.metric
    made.append((Column("ok", ("n", "ok", "ok_rate_lo", "ok_rate_hi")), _ok))
    spread = tuple(f"{metric}_{part}" for part in ("mean", "sd", "n", "lo", "hi"))
    made.append((Column(METRICS[metric], (*spread, "diverged", "diverged_step")), _loss))
    if metric != "val_bpb":
        made.append((Column("bits/byte", ("val_bpb",), everywhere=False), _mean("val_bpb", "{:.4f}")))
    if any(row.is_baseline for row in rows):
        made.append((Column(f"Δ to {_baseline_name(comparison)} [95 % CI]", _DIFFERENCE), _difference))
    made += [
        (Column("per 1000", ("loss_spikes_per_1000",), "Loss spikes"),
         _mean("spikes.loss.events_per_1000", "{:.1f}")),
        (Column("score %", ("spike_score_percent",), "Loss spikes", everywhere=False),
         _mean("spikes.loss.score_olmo_core", "{:.2f}")),
        (Column("max ‖g‖", ("max_grad_norm",), everywhere=False),
         lambda row: _largest_gradient(comparison, row)),
        (Column("attn", ("last_block_rms_attn",), "Last block RMS", everywhere=False),
         lambda row: _last_block_rms(comparison, row, "attn")),
        (Column("FFN", ("last_block_rms_ffn",), "Last block RMS", everywhere=False),
         lambda row: _last_block_rms(comparison, row, "ffn")),
    ]  # fmt: skip
    made += paper_columns(comparison)
    columns = [column for column, _ in made]
    body = [[cell(row) for _, cell in made] for row in rows]
    _mark_best(rows, body, columns.index(next(c for c in columns if c.header == METRICS[metric])))
    return Table("main", _caption(comparison), columns, body, notes(comparison))


def _caption(comparison: Comparison) -> str:
    question = comparison.experiment.question.strip()
    unit = "bits per byte" if comparison.experiment.metric == "val_bpb" else "nats per token"
    return " ".join(f"{question} Final losses in {unit}, mean ± sd over seeds.".split())


def _factor_columns(comparison: Comparison) -> list[tuple[Column, Callable[[Row], Cell]]]:
    shown = [f for f in comparison.experiment.factors if f not in (comparison.experiment.tune, "init")]
    shown.sort(key=lambda factor: factor != "placement")

    def cell_of(factor: str) -> Callable[[Row], Cell]:
        def cell(row: Row) -> Cell:
            value = row.cell.get(factor)
            if factor not in row.cell and len(row.runs):  # a union of products: what this row ran with
                value = row.runs[factor].iloc[0]
            return Cell(value_name(factor, value), (as_text(value),))

        return cell

    return [(Column(factor_name(f), (f,), left=True), cell_of(f)) for f in shown]


def _init(row: Row) -> Cell:
    used = list(dict.fromkeys(row.runs["init"])) if len(row.runs) else []
    text = " / ".join(init_name(init) for init in used) or NOTHING
    if row.cell.get("init") == "recipe" and used:
        text = f"recipe: {text}"
    return Cell(text, (" / ".join(used) or None,))


def _tuned(row: Row) -> Cell:
    if row.tuned is None or row.sweep.empty:
        return Cell(NOTHING, (None,))
    text = as_text(_number(row.tuned))
    return Cell(text, (text,))


def _number(value: object) -> object:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value


def _ok(row: Row) -> Cell:
    n, ok = len(row.ended), sum(outcome == "ok" for outcome in row.outcomes.values())
    if n == 0:
        return Cell(NOTHING, (0, None, None, None))
    return Cell(f"{ok}/{n}", (n, ok, *wilson(ok, n)))


def _loss(row: Row) -> Cell:
    found, lost = row.estimate, row.lost
    steps = sorted(int(step) for step in lost["diverged_step"].dropna())
    diverged = ""
    if len(lost):
        at = "" if not steps else f"@{steps[0]}" + (f"–{steps[-1]}" if steps[-1] > steps[0] else "")
        diverged = f"diverged{at} ({len(lost)}/{len(row.ended)})"
    values = (found.mean, found.sd, found.n, found.lo, found.hi) if found else (None, None, 0, None, None)
    mean = "" if not found else f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")
    text = ", ".join(part for part in (mean, diverged) if part) or NOTHING
    return Cell(text, (*values, len(lost), steps[0] if steps else None))


_DIFFERENCE = ("difference", "difference_lo", "difference_hi", "pairs", "p", "p_holm", "distinguishable")


def _difference(row: Row) -> Cell:
    if row.is_baseline:
        return Cell("baseline", (None,) * len(_DIFFERENCE))
    found = row.difference
    if found is None:
        return Cell(NOTHING, (None,) * len(_DIFFERENCE))
    if found.lo is None or found.hi is None:
        return Cell(f"{found.mean:+.4f} (n=1)", (found.mean, None, None, 1, None, None, None))
    text = f"{found.mean:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]"
    text += "" if row.distinguishable else " n.d."
    values = (found.mean, found.lo, found.hi, found.n, found.p, row.p_holm, str(row.distinguishable).lower())
    return Cell(text, values)


def _mean(column: str, template: str) -> Callable[[Row], Cell]:
    """The mean over seeds: of a loss over the usable runs, of a spike count over all that ended."""

    def cell(row: Row) -> Cell:
        runs = row.usable if column.startswith("val_") else row.ended
        values = [float(v) for v in runs[column].dropna()] if column in runs else []
        return Cell(template.format(fmean(values)), (fmean(values),)) if values else Cell(NOTHING, (None,))

    return cell


def _largest_gradient(comparison: Comparison, row: Row) -> Cell:
    """The largest finite unclipped gradient norm of any step of any reported seed."""
    frames = [comparison.metrics(run_dir) for run_dir in row.ended["run_dir"]]
    peaks = [float(f["grad_norm"].max()) for f in frames if "grad_norm" in f and f["grad_norm"].notna().any()]
    return Cell(f"{max(peaks):.3g}", (max(peaks),)) if peaks else Cell(NOTHING, (None,))


def _last_block_rms(comparison: Comparison, row: Row, sublayer: str) -> Cell:
    """RMS of the stream after the last block's sublayer, at the last probed step, mean over usable seeds."""
    values = []
    for run_dir in row.usable["run_dir"]:
        profiles = [p[f"{sublayer}.rms_out"] for p in comparison.probes(run_dir) if p.get(f"{sublayer}.rms_out")]
        if profiles and profiles[-1][-1] is not None:
            values.append(float(profiles[-1][-1]))
    mean = float(np.mean(values)) if values else math.nan
    return Cell(f"{mean:.3g}", (mean,)) if math.isfinite(mean) else Cell(NOTHING, (None,))


def _baseline_name(comparison: Comparison) -> str:
    experiment = comparison.experiment
    return row_label({f: v for f, v in experiment.baseline.items() if f != experiment.tune})


def _mark_best(rows: list[Row], body: list[list[Cell]], column: int) -> None:
    """Best mean in bold, second underlined. A row that lost a run competes only where every row did."""
    candidates = [i for i, row in enumerate(rows) if row.estimate and row.lost.empty]
    candidates = candidates or [i for i, row in enumerate(rows) if row.estimate]
    ranked = sorted(candidates, key=lambda i: (rows[i].estimate.mean, i))  # type: ignore[union-attr]
    if len(ranked) > 1:
        body[ranked[0]][column].bold = True
        body[ranked[1]][column].underline = True
