"""What stands below a table: how the runs were made, how to read it, and what one must not conclude."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from normlab.report.comparison import Comparison, Missing
from normlab.report.labels import factor_name
from normlab.report.row import Row
from normlab.report.runs import as_text
from normlab.report.statistics import wilson
from normlab.results import FINISHED

_MANY = 6  # items that a list in a note spells out


def notes(comparison: Comparison) -> list[str]:
    """Every note that applies, the most important first."""
    written = [
        *_incomplete(comparison),
        _sees_the_future(comparison),
        *_statistics(comparison),
        *_outcomes(comparison),
        *_tuning(comparison),
        *_how_made(comparison),
        _initialisation(comparison),
        _columns(),
        *_published(comparison),
    ]
    return [note for note in written if note]


def _said(frame: pd.DataFrame, column: str) -> str:
    """The value of a column that all runs share, or each of its values: ``400`` or ``400 / 800``."""
    values = list(dict.fromkeys(as_text(v) for v in frame[column])) if column in frame else []
    return " / ".join(values[:_MANY]) + (" / ..." if len(values) > _MANY else "")


def _listed(names: list[str]) -> str:
    return "; ".join(names[:_MANY]) + (f"; and {len(names) - _MANY} more" if len(names) > _MANY else "")


def _incomplete(comparison: Comparison) -> list[str]:
    found = []
    if comparison.missing:
        found.append(
            f"Incomplete: {comparison.n_done} of {comparison.n_cells} runs have ended; "
            f"missing: {_listed(_by_cell(comparison.missing))}."
        )
    if beside := comparison.n_beside:
        found.append(f"{beside} runs of another size or setting lie beside them and are left out.")
    if outside := comparison.n_outside - beside:
        found.append(f"Runs in the folder that lie outside the grid and are not used: {outside}.")
    return found


def _sees_the_future(comparison: Comparison) -> str:
    key = "norm.allow_noncausal"
    rows = [row.label for row in comparison.rows if key in row.runs and row.runs[key].any()]
    if not rows:
        return ""
    return (
        f"NOT CAUSAL, norm.allow_noncausal: in {_listed(rows)} a norm may mix positions or sequences, so that training "
        "sees the future; such a loss is no language model's and not comparable."
    )


def _by_cell(missing: list[Missing]) -> list[str]:
    cells: dict[str, list[str]] = {}
    for run in missing:
        state = "" if run.status == "not started" else f" {run.status}"
        cells.setdefault(run.cell, []).append(f"{run.seed}{state}")
    return [f"{cell} (seed {', '.join(seeds)})" for cell, seeds in cells.items()]


def _statistics(comparison: Comparison) -> list[str]:
    if len(comparison.experiment.reported_seeds) == 1:
        return ["One seed per row: no spread, no interval; no difference here can be told from seed noise."]
    differences = [(row, row.difference) for row in comparison.rows if row.difference is not None]
    tested = [(row, difference) for row, difference in differences if row.p_holm is not None]
    found = []
    if tested:
        pairs = " or ".join(str(n) for n in sorted({difference.n for _, difference in tested}))
        found.append(
            f"Δ: paired by seed, n = {pairs}, with its 95 % t interval. n.d.: not distinguishable from the "
            f"baseline at 5 % (paired t test; Holm over the {len(tested)} comparisons made here, which an "
            "interval that just excludes 0 may fail)."
        )
        alike = [row.label for row, _ in tested if not row.distinguishable]
        found.append(f"Not distinguishable from the baseline: {'; '.join(alike)}." if alike else "")
    full = len(comparison.experiment.reported_seeds)
    partial = [f"{row.label} ({difference.n} of {full})" for row, difference in differences if difference.n < full]
    found.append(f"Fewer pairs, where one side lost or lacks a seed: {'; '.join(partial)}." if partial else "")
    found.append("Bold: best mean, underlined: second; neither says that the difference is real.")
    return found


def _outcomes(comparison: Comparison) -> list[str]:
    troubled = []
    for row in comparison.rows:
        counts = Counter(row.outcomes.values())
        n, ok = sum(counts.values()), counts.pop("ok", 0)
        if counts:
            low, high = wilson(ok, n)
            kinds = ", ".join(f"{k} {kind}" for kind, k in sorted(counts.items()))
            troubled.append(f"{row.label}: {kinds} of {n} (ok rate 95 % [{low:.2f}, {high:.2f}])")
    found = [f"Not ok: {'; '.join(troubled)}." if troubled else ""]
    if any(len(row.lost) for row in comparison.rows):
        found.append("A mean is over finished runs only; diverged@step (k/n): how many of the ended runs did.")
    return found


def _tuning(comparison: Comparison) -> list[str]:
    experiment, rows = comparison.experiment, comparison.rows
    if not experiment.tune:
        if "optim.lr" in experiment.factors:
            return []
        lr = _said(comparison.frame, "optim.lr")
        return [f"LR {lr} in every row: a method whose best LR is elsewhere looks worse than it is."]
    name = factor_name(experiment.tune)
    texts = dict.fromkeys(as_text(value) for value in comparison.frame[experiment.tune].sort_values())
    if experiment.tune_seeds:
        seeds = ", ".join(map(str, experiment.tune_seeds))
        chosen = f"chosen on seed {seeds}, not reported"
    else:
        chosen = "chosen on the seeds that are reported, which flatters every row"
    edge = [row.label for row in rows if row.at_edge]
    lost = [f"{row.label} {k} of {n}" for row in rows for k, n in [_lost_in_sweep(row)] if k]
    return [
        f"{name}: each row at its best of {', '.join(texts)}, {chosen}; values without a lost run go first.",
        f"Best {name} at the edge of those tried, a better one may lie beyond: {'; '.join(edge)}." if edge else "",
        f"Lost over all values of {name}: {'; '.join(lost)} runs." if lost else "",
    ]


def _lost_in_sweep(row: Row) -> tuple[int, int]:
    ended = row.sweep[row.sweep["status"].isin(FINISHED)]
    return len(ended) - len(row.usable_of(ended)), len(ended)


def _how_made(comparison: Comparison) -> list[str]:
    runs = comparison.frame[comparison.frame["status"].isin(FINISHED)]
    if runs.empty:
        return []
    tokens = (runs["train.steps"] * runs["train.batch_size"] * runs["train.seq_len"]).map(_count)
    size = ""
    if "params.total" in runs and runs["params.total"].notna().any():
        low, high = (_count(runs["params.total"].agg(end)) for end in ("min", "max"))
        size = f" ({low if low == high else f'{low} to {high}'} parameters)"
    levels = {"ln_vocab": "ln V", "unigram_ce": "unigram cross-entropy", "bigram_ce": "bigram cross-entropy"}
    anchors = [
        f"{name} {runs[f'corpus.{column}'].iloc[0]:.3f}"
        for column, name in levels.items()
        if f"corpus.{column}" in runs and runs[f"corpus.{column}"].nunique() == 1
    ]
    factors = comparison.experiment.factors
    settings = [
        *(f"{group} {_said(runs, group)}" for group in ("placement", "norm") if group not in factors),
        f"{_said(runs, 'optim.schedule')} schedule",
        f"warm-up {_said(runs, 'optim.warmup_steps')} steps",
        f"weight decay {_said(runs, 'optim.weight_decay')}",
        f"clipping at {_said(runs, 'optim.grad_clip')}",
    ]
    seeds = ", ".join(map(str, comparison.experiment.reported_seeds))
    budget = (
        f"{_said(runs, 'train.steps')} steps of {_said(runs, 'train.batch_size')} × "
        f"{_said(runs, 'train.seq_len')} tokens = {_said(tokens.to_frame('tokens'), 'tokens')} tokens per run"
    )
    tokenizer = _said(runs, "corpus.tokenizer") or _said(runs, "data.tokenizer.kind")
    machine = [
        _said(runs, "env.hardware") or _said(runs, "device"),
        _said(runs, "precision"),
        {"true": "compiled", "false": "not compiled"}.get(_said(runs, "compiled"), ""),
        f"torch {_said(runs, 'env.packages.torch')}",
    ]
    return [
        f"Runs: seeds {seeds}; model {_said(runs, 'model')}{size}; {budget}; {', '.join(settings)}.",
        f"Data: {_said(runs, 'data')}, tokenizer {tokenizer}, vocabulary {_said(runs, 'corpus.vocab_size')}"
        + (f" ({', '.join(anchors)} nats)." if anchors else "."),
        f"Machine: {', '.join(filter(None, machine))}.",
    ]


def _count(number: float) -> str:
    """``1.235 M``"""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:g}"


def _initialisation(comparison: Comparison) -> str:
    asked = set(comparison.frame["init_asked"])
    rule = "each method's own recipe" if asked == {"recipe"} else _said(comparison.frame, "init_asked")
    inits = [(row, init) for row in comparison.rows for init in dict.fromkeys(row.runs["init"])]
    changed = dict.fromkeys(f"† {row.label}: {init}" for row, init in inits if "(" in init)
    return f"Init: {rule}." + (f" {'; '.join(changed)}." if changed else "")


def _columns() -> str:
    return (
        "ok: finished, not stagnated (validation loss above the unigram cross-entropy less 0.05 nats) nor "
        "degraded (above the median of the healthy baseline + max(0.1, 5 sd)). Loss spikes: events per 1000 "
        "steps (local median and MAD); score: share of steps above mean + 6 sd of the 128 before (OLMo). "
        "max ‖g‖: largest finite gradient norm before clipping, any step and seed. "
        "Last block RMS: residual stream after the last attention and FFN sublayer, at the end."
    )


def _published(comparison: Comparison) -> list[str]:
    papers = enumerate(comparison.experiment.paper, start=1)
    lines = [f"[{index}] published, not ours: {paper.source} ({paper.metric})." for index, paper in papers]
    if lines:
        lines.append("ours: does our difference have the published sign? undecided: it is not distinguishable.")
    return lines
