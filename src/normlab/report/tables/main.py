"""The main table: one row per method at its best LR, its difference to the baseline, how stable it was."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np

from normlab.report.assemble import assemble, final_losses, setting_columns, table_rows
from normlab.report.cells import (
    DIFFERENCE,
    MadeColumn,
    baseline_name,
    difference_cell,
    loss_cell,
    loss_fields,
    mark_best,
    mean_cell,
    nothing,
    tuned_cell,
)
from normlab.report.comparison import Comparison
from normlab.report.labels import METRICS, factor_name
from normlab.report.notes import MEASURES, OK, notes
from normlab.report.paper import paper_columns
from normlab.report.row import Row
from normlab.report.statistics import wilson
from normlab.report.table import Cell, Column, Table, table


@table("main")
def main(comparison: Comparison) -> Table:
    """Method, init, LR, ok, loss, difference to the baseline, spikes, gradient, stream, published numbers."""
    experiment, rows = comparison.experiment, table_rows(comparison)
    made = setting_columns(comparison)
    if tune := experiment.tune:
        made.append((Column(factor_name(tune), (tune,)), tuned_cell))
    made.append((Column("ok", ("n", "ok", "ok_rate_lo", "ok_rate_hi")), _ok))
    loss_at = len(made)
    made.append((Column(METRICS[experiment.metric], loss_fields(experiment.metric)), loss_cell))
    if experiment.metric != "val_bpb":
        made.append((Column("bits/byte", ("val_bpb",), everywhere=False), mean_cell("val_bpb", "{:.4f}")))
    if any(row.is_baseline for row in rows):
        made.append((Column(f"Δ to {baseline_name(comparison)} [95 % CI]", DIFFERENCE), difference_cell))
    made += [(Column("ppl", ("ppl",), everywhere=False), _perplexity), *_measures(comparison)]
    made += paper_columns(comparison)
    found = assemble("main", comparison, final_losses(comparison), made, [*notes(comparison), OK], [MEASURES])
    mark_best(rows, [cells[loss_at] for cells in found.rows])
    return found


def _measures(comparison: Comparison) -> list[MadeColumn]:
    return [
        (Column("per 1000", ("loss_spikes_per_1000",), "Loss spikes", everywhere=False),
         mean_cell("spikes.loss.events_per_1000", "{:.1f}")),
        (Column("score %", ("spike_score_percent",), "Loss spikes", everywhere=False),
         mean_cell("spikes.loss.score_olmo_core", "{:.2f}")),
        (Column("max ‖g‖", ("max_grad_norm",), everywhere=False),
         lambda row: _largest_gradient(comparison, row)),
        (Column("attn", ("last_block_rms_attn",), "Last block RMS", everywhere=False),
         lambda row: _last_block_rms(comparison, row, "attn")),
        (Column("FFN", ("last_block_rms_ffn",), "Last block RMS", everywhere=False),
         lambda row: _last_block_rms(comparison, row, "ffn")),
    ]  # fmt: skip


def _ok(row: Row) -> Cell:
    n, ok = len(row.ended), sum(outcome == "ok" for outcome in row.outcomes.values())
    return Cell(f"{ok}/{n}", (n, ok, *wilson(ok, n))) if n else Cell("–", (0, None, None, None))


def _perplexity(row: Row) -> Cell:
    """exp of the mean validation loss."""
    losses = [float(loss) for loss in row.usable["val_loss"].dropna()]
    if not losses or fmean(losses) > 700:  # beyond: no float
        return nothing()
    return Cell(f"{math.exp(fmean(losses)):.4g}", (math.exp(fmean(losses)),))


def _largest_gradient(comparison: Comparison, row: Row) -> Cell:
    """The largest finite unclipped gradient norm of any step of any reported seed."""
    frames = [comparison.metrics(run_dir) for run_dir in row.ended["run_dir"]]
    peaks = [float(f["grad_norm"].max()) for f in frames if "grad_norm" in f and f["grad_norm"].notna().any()]
    return Cell(f"{max(peaks):.3g}", (max(peaks),)) if peaks else nothing()


def _last_block_rms(comparison: Comparison, row: Row, sublayer: str) -> Cell:
    """RMS of the stream after the last block's sublayer, at the last probed step, mean over usable seeds."""
    values = []
    for run_dir in row.usable["run_dir"]:
        profiles = [p[f"{sublayer}.rms_out"] for p in comparison.probes(run_dir) if p.get(f"{sublayer}.rms_out")]
        if profiles and profiles[-1][-1] is not None:
            values.append(float(profiles[-1][-1]))
    mean = float(np.mean(values)) if values else math.nan
    return Cell(f"{mean:.3g}", (mean,)) if math.isfinite(mean) else nothing()
