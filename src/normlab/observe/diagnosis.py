"""Why a run failed, in one sentence, from the numbers that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from normlab.observe.findings import (
    Evidence,
    Finding,
    Row,
    activation_growth,
    attention_logits,
    dead_gradients,
    entropy_collapse,
    gradient_growth,
    is_finite,
    nonfinite_activation,
)

OFTEN_CLIPPED = 0.5  # of the steps; above, Google's tuning playbook says to lower the learning rate
OVERSHOOT = 0.5  # nats above the loss before training, within the first 100 steps; ours

Look = Callable[[Evidence], Finding | None]
_LOST: tuple[Look, ...] = (
    nonfinite_activation, activation_growth, attention_logits, gradient_growth, entropy_collapse, dead_gradients,
)  # fmt: skip
_STUCK: tuple[Look, ...] = (
    dead_gradients, nonfinite_activation, activation_growth, attention_logits, entropy_collapse,
)  # fmt: skip
# What is looked at, in the order in which it is believed. ``degraded`` is the report's word, which knows the reference.
LOOKS: dict[str, tuple[Look, ...]] = {"nan": _LOST, "exploded": _LOST, "stagnated": _STUCK, "degraded": _STUCK}


def diagnose(summary: Row, metrics: Sequence[Row], probes: Sequence[Row]) -> dict[str, Any] | None:
    """The ``diagnosis`` of summary.json: text, quantity, step, layer. None for a run that is ok or has not ended.

    ``summary`` is that of the run, outcome included; ``metrics`` and ``probes`` are the rows of its two files.
    """
    outcome = summary.get("outcome")
    if outcome in (None, "ok"):
        return None
    evidence = Evidence(summary, metrics, probes)
    happened = _what_happened(evidence)
    found = (look(evidence) for look in LOOKS[outcome])
    reason = next((each for each in found if each is not None), None)
    why = reason.text if reason else "no look inside the layers shows a reason"
    text = "; ".join([f"{happened.text}: {why}", *_symptoms(summary)]) + "."
    reason = reason or happened
    return asdict(Finding(text[0].upper() + text[1:], reason.quantity, reason.step, reason.layer))


def _what_happened(evidence: Evidence) -> Finding:
    summary = evidence.summary
    step = summary.get("first_bad_step")
    if summary["outcome"] == "nan":
        row = next((row for row in evidence.metrics if row["step"] == step and "loss" in row), {})
        broken = [name for name in ("loss", "grad_norm") if name in row and not is_finite(row[name])]
        quantity = broken[0] if broken else "val_loss"
        said = {"loss": "training loss", "grad_norm": "gradient norm", "val_loss": "validation loss"}[quantity]
        place, layer = _place(summary.get("nonfinite"))
        return Finding(f"the {said} was not finite at step {step}{place}", quantity, step, layer)
    if summary["outcome"] == "exploded":
        return Finding(
            f"the loss stayed above its start ({summary['init_loss']:.2f} nats) from step {step}", "loss", step
        )
    final = summary["final"]["val_loss"]
    if summary["outcome"] == "stagnated":
        return Finding(f"the loss stood still from step {step}, at {final:.2f} nats{_level(summary)}", "loss", step)
    return Finding(f"the final validation loss, {final:.2f} nats, is far above the reference's", "val_loss", step)


def _place(nonfinite: Row | None) -> tuple[str, int | None]:
    """Where a pass over the failing batch met the first tensor that is not finite, and its layer, if it is in one."""
    if not nonfinite:
        return "", None
    name, layer = nonfinite["module"], nonfinite["layer"]
    where = name if layer is None else f"{name} (layer {layer})"
    what = {"parameter": "", "output": "the output of ", "gradient": "the gradient of "}[nonfinite["what"]]
    return f", {'infinite' if nonfinite['kind'] == 'inf' else 'nan'} first in {what}{where}", layer


def _level(summary: Row) -> str:
    unigram = summary.get("data", {}).get("unigram_ce")
    return "" if unigram is None else f", and token frequencies alone give {unigram:.2f}"


def _symptoms(summary: Row) -> list[str]:
    """What went with it, and is no reason by itself."""
    overshoot, clipped = summary.get("startup_overshoot") or 0.0, summary.get("clip_rate") or 0.0
    said = []
    if overshoot > OVERSHOOT:
        said.append(f"the loss rose {overshoot:.3g} nats above its start within the first 100 steps")
    if clipped > OFTEN_CLIPPED:
        said.append(f"the gradient was clipped in {100 * clipped:.0f} % of the steps")
    return said
