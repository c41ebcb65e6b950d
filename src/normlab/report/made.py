"""How the runs of a table were made, as its notes say it: size, budget, data, machine, initialisation."""

from __future__ import annotations

import pandas as pd

from normlab.quantities import count
from normlab.report.comparison import Comparison
from normlab.report.labels import LONG_INIT
from normlab.report.runs import as_text
from normlab.results import FINISHED

_MANY = 6  # values that a note spells out


def said(frame: pd.DataFrame, column: str) -> str:
    """The value of a column that all runs share, or each of its values: ``400`` or ``400 / 800``."""
    values = list(dict.fromkeys(as_text(v) for v in frame[column])) if column in frame else []
    return " / ".join(values[:_MANY]) + (" / ..." if len(values) > _MANY else "")


def how_made(comparison: Comparison) -> list[str]:
    """Runs, data, machine; nothing while no run has ended."""
    runs = comparison.frame[comparison.frame["status"].isin(FINISHED)]
    if runs.empty or not comparison.shown:  # what the seeds ran that only choose, says nothing of a row
        return []
    tokens = (runs["train.steps"] * runs["train.batch_size"] * runs["train.seq_len"]).map(lambda n: count(n, 4))
    size = ""
    if "params.total" in runs and runs["params.total"].notna().any():
        low, high = (count(runs["params.total"].agg(end), 4) for end in ("min", "max"))
        size = f" ({low if low == high else f'{low} to {high}'} parameters)"
    levels = {"ln_vocab": "ln V", "unigram_ce": "unigram cross-entropy", "bigram_ce": "bigram cross-entropy"}
    anchors = [
        f"{name} {runs[f'corpus.{column}'].iloc[0]:.3f}"
        for column, name in levels.items()
        if f"corpus.{column}" in runs and runs[f"corpus.{column}"].nunique() == 1
    ]
    factors = comparison.experiment.factors
    settings = [
        *(f"{group} {said(runs, group)}" for group in ("placement", "norm") if group not in factors),
        f"{said(runs, 'optim.schedule')} schedule",
        f"warm-up {said(runs, 'optim.warmup_steps')} steps",
        f"weight decay {said(runs, 'optim.weight_decay')}",
        f"clipping at {said(runs, 'optim.grad_clip')}",
    ]
    seeds = ", ".join(map(str, comparison.experiment.reported_seeds))
    budget = (
        f"{said(runs, 'train.steps')} steps of {said(runs, 'train.batch_size')} × "
        f"{said(runs, 'train.seq_len')} tokens = {said(tokens.to_frame('tokens'), 'tokens')} tokens per run"
    )
    tokenizer = said(runs, "corpus.tokenizer") or said(runs, "data.tokenizer.kind")
    machine = [
        said(runs, "env.hardware") or said(runs, "device"),
        said(runs, "precision"),
        {"true": "compiled", "false": "not compiled"}.get(said(runs, "compiled"), ""),
        f"torch {said(runs, 'env.packages.torch')}",
    ]
    return [
        f"Runs: seeds {seeds}; model {said(runs, 'model')}{size}; {budget}; {', '.join(settings)}.",
        f"Data: {said(runs, 'data')}, tokenizer {tokenizer}, vocabulary {said(runs, 'corpus.vocab_size')}"
        + (f" ({', '.join(anchors)} nats)." if anchors else "."),
        f"Machine: {', '.join(filter(None, machine))}.",
    ]


def initialisation(comparison: Comparison) -> str:
    """Whose init the rows had, and in full those that a table marks with a dagger."""
    frame = comparison.frame
    # Asked for by name or not: experiments that share a folder share the runs in which that is the same.
    recipe = "init" not in comparison.experiment.factors and (frame["init"] == frame["placement.init"]).all()
    rule = "each method's own recipe" if recipe else said(frame, "init_asked")
    inits = [(row, init) for row in comparison.rows for init in dict.fromkeys(row.runs["init"])]
    changed = dict.fromkeys(f"† {row.label}: {init}" for row, init in inits if len(init) > LONG_INIT)
    return f"Init: {rule}." + (f" {'; '.join(changed)}." if changed else "")
