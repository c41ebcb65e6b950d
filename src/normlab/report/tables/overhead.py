"""What the norms of a placement cost, beside the count of the HybridNorm paper's Table 11."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from normlab.config.schema import Config
from normlab.report.assemble import assemble
from normlab.report.cells import NOTHING, MadeColumn, factor_columns, nothing
from normlab.report.comparison import Comparison
from normlab.report.norm_cost import NormCost, NotCounted, norm_cost
from normlab.report.notes import notes_on_runs
from normlab.report.row import Row
from normlab.report.table import Cell, Column, Table, table
from normlab.results import read_config


@table("overhead")
def overhead(comparison: Comparison) -> Table:
    """Norm parameters and FLOPs with their shares, the paper's formulas, the speed of these runs by seed."""
    costs, reasons = _costs(comparison.rows)
    made: list[MadeColumn] = [
        *factor_columns(comparison),
        (Column("number", ("norm_parameters",), "Parameters of the norms"), _parameters),
        (Column("share %", ("norm_parameters_percent",), "Parameters of the norms"), _parameter_share),
        (Column("paper's %", ("paper_parameters_percent",), "Parameters of the norms"),
         lambda row: _by_formula(row, costs, lambda k, d, s: k / (12 * d))),
        (Column("per token", ("norm_flops_per_token",), "FLOPs of the norms, forward"),
         lambda row: _flops(row, costs)),
        (Column("share %", ("norm_flops_percent",), "FLOPs of the norms, forward"),
         lambda row: _flops_share(row, costs)),
        (Column("paper's %", ("paper_flops_percent",), "FLOPs of the norms, forward"),
         lambda row: _by_formula(row, costs, lambda k, d, s: k / (6 * d + s))),
        (Column("tokens/s", ("tokens_per_s",), everywhere=False), _speed),
    ]  # fmt: skip
    if any(row.is_baseline for row in comparison.rows):
        fields = ("speed", "speed_lo", "speed_hi", "speed_pairs")
        made.append((Column("Speed to the baseline's", fields), _relative_speed))
    sentence = "Counted, and the speed of these runs."
    return assemble("overhead", comparison, sentence, made, notes_on_runs(comparison, _own_notes(reasons)))


def _costs(rows: list[Row]) -> tuple[dict[int, NormCost], list[str]]:
    """The cost of each row that has a run, by ``id``, and which rows are not counted, and why."""
    costs, reasons = {}, []
    for row in rows:
        if row.ended.empty:
            continue
        config = Config.model_validate(read_config(Path(row.ended["run_dir"].iloc[0])))
        try:
            costs[id(row)] = norm_cost(config, int(_first(row, "corpus.vocab_size") or 0))
        except NotCounted as reason:
            reasons.append(f"{row.label} ({reason})")
    return costs, reasons


def _own_notes(reasons: list[str]) -> list[str]:
    found = [
        "Parameters: all that a placement adds (norms, scales), share of those outside of the embedding. As in the "
        "official HybridNorm code a norm of queries, keys or values has one gain per channel of a head, d_k of them, "
        "where the paper counts d.",
        "FLOPs: what the operations of all slots do to each element, in a token's forward pass (RMSNorm: square, sum, "
        "scale, gain = 4; LayerNorm 7; a learned or constant scale 1), as share of the matrix products' and the "
        "attention's, output head included: the run's flops_per_token / 3.",
        "paper's: HybridNorm (arXiv 2503.04598), Table 11, which counts each norm as d parameters and 4 d FLOPs per "
        "token against 12 d^2 parameters and 24 d^2 + 4 s d FLOPs per layer: k / (12 d) and k / (6 d + s) for k norms "
        "per layer, d channels, s tokens. It prints k = 2 (Pre-Norm) and k = 4 (HybridNorm); the other rows are its "
        "formula, not its numbers.",
        "Speed: tokens per second over the baseline's of the same seed, median and range over seeds. Runs of a sweep "
        "share the machine: normlab bench placements measures side by side.",
    ]
    return found + ([f"FLOPs not counted: {'; '.join(reasons)}."] if reasons else [])


def _first(row: Row, column: str) -> float | None:
    """A number that all runs of a row share; None where there is no run that has it."""
    values = list(row.runs[column].dropna()) if column in row.runs else []
    return float(values[0]) if values else None


def _percent(share: float | None) -> Cell:
    return nothing() if share is None else Cell(f"{100 * share:.3g}", (100 * share,))


def _parameters(row: Row) -> Cell:
    number = _first(row, "params.norm")
    return nothing() if number is None else Cell(f"{number:.0f}", (int(number),))


def _parameter_share(row: Row) -> Cell:
    number, everything = _first(row, "params.norm"), _first(row, "params.non_embedding")
    return _percent(number / everything if number is not None and everything else None)


def _by_formula(row: Row, costs: dict[int, NormCost], formula: Callable[[float, float, float], float]) -> Cell:
    cost, width, length = costs.get(id(row)), _first(row, "model.d_model"), _first(row, "train.seq_len")
    return _percent(formula(cost.norms_per_layer, width, length) if cost and width and length else None)


def _flops(row: Row, costs: dict[int, NormCost]) -> Cell:
    cost = costs.get(id(row))
    return nothing() if cost is None else Cell(str(cost.flops), (cost.flops,))


def _flops_share(row: Row, costs: dict[int, NormCost]) -> Cell:
    cost, trained = costs.get(id(row)), _first(row, "flops_per_token")
    return _percent(3 * cost.flops / trained if cost and trained else None)


def _speeds(row: Row) -> dict[int, float]:
    """Tokens per second by seed, of runs that came to their end."""
    runs = row.runs[row.runs["status"] == "done"]
    return {int(s): float(v) for s, v in zip(runs["seed"], runs["tokens_per_s"], strict=True) if v == v and v}


def _speed(row: Row) -> Cell:
    found = list(_speeds(row).values())
    return Cell(f"{median(found):.0f}", (median(found),)) if found else nothing()


def _relative_speed(row: Row) -> Cell:
    """``0.97 [0.95, 1.01]``"""
    if row.is_baseline:
        return Cell("baseline", (None,) * 4)
    ours, theirs = _speeds(row), _speeds(row.baseline) if row.baseline else {}
    ratios = [ours[seed] / theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not ratios:
        return Cell(NOTHING, (None, None, None, 0))
    middle, low, high = median(ratios), min(ratios), max(ratios)
    text = f"{middle:.2f} [{low:.2f}, {high:.2f}]" if len(ratios) > 1 else f"{middle:.2f} (n=1)"
    return Cell(text, (middle, low, high, len(ratios)))
