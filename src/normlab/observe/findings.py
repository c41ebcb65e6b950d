"""Where and when something went wrong inside a network: pure functions of the rows that a run wrote.

Each says what it found of one kind, or None. The limits are ours where no source is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from normlab.observe.depth import DEAD, Profile, dead_share

Row = Mapping[str, Any]

BLOW_UP = 100.0  # times its own start; a healthy Pre-Norm of 24 layers grows about tenfold
GRADIENT_GROWTH = 10.0  # times its own start
LARGEST_LOGIT = 1e4  # runs above it diverged: Wortsman et al. 2023 (arXiv 2309.14322)
LEAST_ENTROPY = 0.01  # of a row's largest possible entropy; almost one-hot
_STREAM = ("attn.rms_sum", "attn.rms_out", "ffn.rms_sum", "ffn.rms_out")  # in the order of the forward pass


class Evidence(NamedTuple):
    """What a run wrote."""

    summary: Row
    metrics: Sequence[Row]
    probes: Sequence[Row]

    def looks(self, name: str) -> list[tuple[int, Profile]]:
        """(step, one value per layer) of every row of probes.jsonl that has this profile."""
        return [(row["step"], row[name]) for row in self.probes if row.get(name)]


@dataclass(frozen=True)
class Finding:
    """``quantity`` as probes.jsonl or metrics.jsonl calls it; ``step`` and ``layer`` count from 1."""

    text: str
    quantity: str
    step: int | None
    layer: int | None = None


def nonfinite_activation(evidence: Evidence) -> Finding | None:
    """The first layer, in the order of the forward pass, whose part of the residual stream was not finite."""
    for row in evidence.probes:
        profiles = {name: row[name] for name in _STREAM if row.get(name)}
        broken = [
            (layer, place, name)
            for place, (name, profile) in enumerate(profiles.items())
            for layer, value in enumerate(profile, start=1)
            if not is_finite(value)
        ]
        if broken:
            layer, _, name = min(broken)
            start = next((profile for _, profile in evidence.looks(name)), [])
            large = [at for at, growth in _growth(profiles[name], start).items() if growth > BLOW_UP]
            before = f"had grown {BLOW_UP:g}-fold from layer {min(large)} on and " if large else ""
            where = f"from {_layer(layer, profiles[name])} on at step {row['step']}"
            said = f"the residual stream {before}was not finite {where}"
            return Finding(said, name, row["step"], layer)
    return None


def activation_growth(evidence: Evidence) -> Finding | None:
    """The layer whose RMS of the residual stream grew most against its own start, if more than a hundredfold."""
    largest, found = BLOW_UP, None
    for name in _STREAM:
        looks = evidence.looks(name)
        for step, profile in looks[1:]:
            growth = _growth(profile, looks[0][1])
            layer = max(growth, key=growth.__getitem__, default=0)
            if layer and growth[layer] > largest:
                largest, found = growth[layer], (name, layer, profile, step)
    if found is None:
        return None
    name, layer, profile, latest = found
    looks = evidence.looks(name)
    since = next(step for step, each in looks[1:] if _growth(each, looks[0][1]).get(layer, 0.0) > BLOW_UP)
    said = f"the residual stream blew up in {_layer(layer, profile)}: its RMS grew {largest:.3g}-fold by step {latest}"
    return Finding(said, name, since, layer)


def attention_logits(evidence: Evidence) -> Finding | None:
    """The layer with the largest attention logit at the first look where one is above 1e4."""
    for step, profile in evidence.looks("attn.max_logit"):
        logits = _finite(profile)
        layer = max(logits, key=logits.__getitem__, default=0)
        if layer and logits[layer] > LARGEST_LOGIT:
            said = f"an attention logit of {_layer(layer, profile)} had reached {logits[layer]:.3g} at step {step}"
            return Finding(said, "attn.max_logit", step, layer)
    return None


def entropy_collapse(evidence: Evidence) -> Finding | None:
    """The layer of least attention entropy at the first look where one is below a hundredth of the possible."""
    for step, profile in evidence.looks("attn.entropy_ratio"):
        ratios = _finite(profile)
        layer = min(ratios, key=ratios.__getitem__, default=0)
        if layer and ratios[layer] < LEAST_ENTROPY:
            said = f"attention had collapsed onto single tokens in {_layer(layer, profile)} at step {step}"
            return Finding(said, "attn.entropy_ratio", step, layer)
    return None


def dead_gradients(evidence: Evidence) -> Finding | None:
    """The deepest layer whose gradient norm is below 1e-3 of the largest at the last look. Gradients come from
    behind: this is the layer that they did not get through."""
    looks = evidence.looks("grad_norm")
    dead = _dead_layers(looks[-1][1]) if looks else []
    if not dead:
        return None
    layers = len(looks[-1][1])
    shares = [(row["step"], row["dead_gradients"]) for row in evidence.metrics if row.get("dead_gradients") is not None]
    shares = shares or [(step, dead_share(profile) or 0.0) for step, profile in looks]
    since = _since(shares, lambda share: share >= len(dead) / layers / 2)
    if len(dead) == 1:
        where = f"layer {dead[0]} of {layers}"
    elif len(dead) == layers:
        where = "every layer"
    elif dead[-1] == len(dead):
        where = f"layers 1 to {dead[-1]} of {layers}"
    else:
        where = f"{len(dead)} of {layers} layers, the deepest of them layer {dead[-1]}"
    most = "half of them " if len(dead) > 1 else ""
    said = f"the gradient died in {where} (below {DEAD:g} of the largest), {most}from step {since} on"
    return Finding(said, "grad_norm", since, dead[-1])


def gradient_growth(evidence: Evidence) -> Finding | None:
    """The layer where the gradient overflowed, or the one whose norm grew most, if tenfold, up to the last finite step.

    Backward passes come from behind: where only some gradients are not finite, the deepest of those was the first.
    """
    looks = evidence.looks("grad_norm")
    if not looks:
        return None
    step, profile = looks[-1]
    broken = [layer for layer, value in enumerate(profile, start=1) if not is_finite(value)]
    if broken and len(broken) < len(profile):
        said = f"the gradient was not finite from {_layer(broken[-1], profile)} backwards at step {step}"
        return Finding(said, "grad_norm", step, broken[-1])
    whole = [(step, profile) for step, profile in looks if all(map(is_finite, profile))]
    if len(whole) < 2:
        return None
    (first, start), (last, end) = whole[0], whole[-1]
    growth = _growth(end, start)
    layer = max(growth, key=growth.__getitem__, default=0)
    if not layer or growth[layer] < GRADIENT_GROWTH:
        return None
    said = f"the gradient of {_layer(layer, end)} grew {growth[layer]:.3g}-fold from step {first} to step {last}"
    return Finding(said, "grad_norm", last, layer)


def is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _finite(profile: Profile) -> dict[int, float]:
    """The finite values by 1-based layer."""
    return {layer: value for layer, value in enumerate(profile, start=1) if is_finite(value)}


def _layer(layer: int, profile: Profile) -> str:
    return f"layer {layer} of {len(profile)}"


def _growth(profile: Profile, start: Profile) -> dict[int, float]:
    """How many times its start each layer's value is, by 1-based layer; without those that have no such number."""
    starts = _finite(start)
    return {layer: now / starts[layer] for layer, now in _finite(profile).items() if starts.get(layer)}


def _dead_layers(profile: Profile) -> list[int]:
    norms = _finite(profile)
    limit = DEAD * max(norms.values(), default=0.0)
    return [layer for layer, norm in norms.items() if norm < limit or norm == 0]


def _since(values: Sequence[tuple[int, float]], holds: Callable[[float], bool]) -> int:
    """The first step from which something holds to the end; the last one at least."""
    since = values[-1][0]
    for step, value in reversed(values):
        if not holds(value):
            break
        since = step
    return since
