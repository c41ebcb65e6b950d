"""How a run ended, in one word, and the step from which it was lost.

The most common failure of a small deep run is silent: no NaN, no spike, the loss just stays at the entropy of
the unigram distribution. So an outcome is a class of its own and not a by-product of spike detection. Whether
a healthy run is *degraded* against others needs those others; the report says that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from normlab.observe.spike_scores import Series

Outcome = Literal["ok", "stagnated", "exploded", "nan"]

# Ours, in nats. No published definition has numbers for these classes; KEEL (arXiv 2601.19895) names them:
# stagnation of the loss, and instability that never returns to the level before it.
STAGNATION_MARGIN = 0.05  # not below unigram CE - 0.05: token frequencies were learned and no more
EXPLOSION_MARGIN = 0.5  # above the initial loss ...
EXPLOSION_STEPS = 50  # ... for this many steps in a row: not the overshoot of a start, which recovers
NOISE_MARGIN = 0.05  # a final loss this little above the initial one stood still and did not explode
EMA_DECAY = 0.95  # about the last 20 steps
PLATEAU = 0.1  # nats; within this of its last value the moving average of a stagnated run has stood still


def moving_average(losses: list[float]) -> list[float]:
    """Exponential moving average after every step, corrected for its start at zero (as in Adam)."""
    averages = []
    average = weight = 0.0
    for loss in losses:
        average = EMA_DECAY * average + (1 - EMA_DECAY) * loss
        weight = EMA_DECAY * weight + (1 - EMA_DECAY)
        averages.append(average / weight)
    return averages


def _stay_above(losses: list[float], level: float) -> int | None:
    """The first step of the first ``EXPLOSION_STEPS`` steps in a row above the level; None: there are none."""
    stay = 0
    for step, loss in enumerate(losses, start=1):
        stay = stay + 1 if loss > level else 0
        if stay == EXPLOSION_STEPS:
            return step - EXPLOSION_STEPS + 1
    return None


def _last_stretch(averages: list[float], holds: Callable[[float], bool]) -> int:
    """The step from which on something holds of the average to the end."""
    outside = [step for step, average in enumerate(averages, start=1) if not holds(average)]
    return outside[-1] + 1 if outside else 1


def classify(
    losses: Series, val_losses: Series, init_loss: float, unigram_ce: float, nonfinite_step: int | None
) -> Outcome:
    """The class of a run that has ended (a cut run has none yet); the first that holds of

    nan: a non-finite training loss, validation loss or gradient norm (``nonfinite_step``);
    exploded: the final moving average more than 0.05 nats above the initial loss, or the loss 0.5 nats above it for 50
    steps in a row;
    stagnated: the final validation loss not below the unigram cross-entropy of the same tokens - 0.05;
    ok.

    All losses in nats per token: ``losses`` of every step, ``val_losses`` of every validation in order,
    ``init_loss`` before training.
    """
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    validated = [loss for loss in val_losses if loss is not None and math.isfinite(loss)]
    if nonfinite_step is not None or len(finite) < len(losses) or len(validated) < len(val_losses):
        return "nan"
    if _stay_above(finite, init_loss + EXPLOSION_MARGIN) is not None:
        return "exploded"
    if finite and moving_average(finite)[-1] > init_loss + NOISE_MARGIN:
        return "exploded"
    if validated and validated[-1] >= unigram_ce - STAGNATION_MARGIN:
        return "stagnated"
    return "ok"


def first_bad_step(
    outcome: Outcome | None, losses: Series, init_loss: float | None, nonfinite_step: int | None
) -> int | None:
    """The 1-based step at which a run was lost; None for one that is ok or has not ended.

    nan: the first step with a non-finite value; exploded: the first of 50 steps in a row 0.5 nats above the loss before
    training, else the step from which the moving average stays above it; stagnated: the step from which the moving
    average stays within 0.1 nats of its last value, which is where the loss came to stand still.
    """
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if outcome == "nan":
        return nonfinite_step if nonfinite_step is not None else len(finite) + 1
    if outcome not in ("exploded", "stagnated") or init_loss is None or not finite:
        return None
    averages = moving_average(finite)
    if outcome == "exploded":
        lasting = _stay_above(finite, init_loss + EXPLOSION_MARGIN)
        return lasting or _last_stretch(averages, lambda average: average > init_loss + NOISE_MARGIN)
    return _last_stretch(averages, lambda average: abs(average - averages[-1]) <= PLATEAU)
