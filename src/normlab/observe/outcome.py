"""How a run ended, in one word.

The most common failure of a small deep run is silent: no NaN, no spike, the loss just stays at the entropy of
the unigram distribution. So an outcome is a class of its own and not a by-product of spike detection. Whether
a healthy run is *degraded* against others needs those others; the report says that.
"""

from __future__ import annotations

import math
from typing import Literal

from normlab.observe.spikes import Series

Outcome = Literal["ok", "stagnated", "exploded", "nan"]

# Ours, in nats. No published definition has numbers for these classes; KEEL (arXiv 2601.19895) names them:
# stagnation of the loss, and instability that never returns to the level before it.
STAGNATION_MARGIN = 0.05  # not below unigram CE - 0.05: token frequencies were learned and no more
EXPLOSION_MARGIN = 0.5  # above the initial loss ...
EXPLOSION_STEPS = 50  # ... for this many steps in a row: not the overshoot of a start, which recovers
NOISE_MARGIN = 0.05  # a final loss this little above the initial one stood still and did not explode
EMA_DECAY = 0.95  # about the last 20 steps


def final_ema(losses: list[float]) -> float:
    """Exponential moving average at the last step, corrected for its start at zero (as in Adam)."""
    average = weight = 0.0
    for loss in losses:
        average = EMA_DECAY * average + (1 - EMA_DECAY) * loss
        weight = EMA_DECAY * weight + (1 - EMA_DECAY)
    return average / weight


def _longest_stay_above(losses: list[float], level: float) -> int:
    longest = stay = 0
    for loss in losses:
        stay = stay + 1 if loss > level else 0
        longest = max(longest, stay)
    return longest


def classify(
    losses: Series, val_losses: Series, init_loss: float, unigram_ce: float, nonfinite_step: int | None
) -> Outcome:
    """The class of a run that has ended (a cut run has none yet); the first that holds of

    nan: a non-finite training loss, validation loss or gradient norm (``nonfinite_step``);
    exploded: the final moving average above the initial loss, or 0.5 nats above it for 50 steps in a row;
    stagnated: the final validation loss not below the validation text's unigram cross-entropy - 0.05;
    ok.

    All losses in nats per token: ``losses`` of every step, ``val_losses`` of every validation in order,
    ``init_loss`` before training.
    """
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    validated = [loss for loss in val_losses if loss is not None and math.isfinite(loss)]
    if nonfinite_step is not None or len(finite) < len(losses) or len(validated) < len(val_losses):
        return "nan"
    if _longest_stay_above(finite, init_loss + EXPLOSION_MARGIN) >= EXPLOSION_STEPS:
        return "exploded"
    if finite and final_ema(finite) > init_loss + NOISE_MARGIN:
        return "exploded"
    if validated and validated[-1] >= unigram_ce - STAGNATION_MARGIN:
        return "stagnated"
    return "ok"
