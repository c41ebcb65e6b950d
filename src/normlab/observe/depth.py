"""What a profile over depth says: how it grows, where it dies, and by which law.

A profile has one value per block, the first block's first: gradient norms, variances of the stream. None, nan and
infinity stand for what was not finite. A fit leaves them out, and zeros too, whose logarithm is none; every other value
keeps its layer, l = 1 .. L. Where too little is left the answer is None, never an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Profile = Sequence[float | None]

DEAD = 1e-3  # of the largest block's gradient norm; ours, after stuck runs whose dead blocks lie far below it
_FLAT = 1e-12  # sum of squares of logarithms about their mean: a part in a million, as float32 rounds


class Fit(NamedTuple):
    """A line by ordinary least squares; ``r2`` is None where two points, or a constant, leave nothing to explain."""

    slope: float
    r2: float | None


class GrowthFit(NamedTuple):
    """Two laws for the growth of a variance over depth: s_l^2 ~ l^p, and s_l^2 ~ exp(q l). Neither, where both r2 are
    low."""

    p: float
    q: float
    r2_power: float | None
    r2_exponential: float | None
    better: Literal["power", "exponential"] | None  # None: both fit alike, or it is flat


def log_log_slope(profile: Profile) -> Fit | None:
    """p of x_l ~ l^p: the OLS slope of ln x_l on ln l. None with fewer than two positive values."""
    return _line(_logarithms(profile), math.log)


def log_slope(profile: Profile) -> Fit | None:
    """q of x_l ~ exp(q l): the OLS slope of ln x_l on l, per layer. None with fewer than two positive values."""
    return _line(_logarithms(profile), float)


def last_over_first(profile: Profile) -> float | None:
    """x_L / x_1: below 1 where the profile falls with depth. None unless both, and the ratio, are finite."""
    ends = _ends(profile)
    ratio = ends[1] / ends[0] if ends and ends[0] else math.inf
    return ratio if math.isfinite(ratio) else None


def growth_exponent(profile: Profile) -> float | None:
    """lambda = ln(x_L / x_1) / L of activation or gradient norms; near 0 is good.

    OLMo 2 (arXiv 2501.00656), Fig. 5: (1 / n_layers) ln(||v'|| / ||v||), v of the first and v' of the last layer.
    """
    ends = _ends(profile)
    return (math.log(ends[1]) - math.log(ends[0])) / len(profile) if ends and min(ends) > 0 else None


def dead_share(profile: Profile) -> float | None:
    """Share of the finite values below 1e-3 of the largest: blocks whose gradient died.

    A network that is stuck at the unigram loss has no spike and no nan, but a share near (L - 1) / L. 1 where every
    gradient is zero; None where no value is finite.
    """
    values = [value for value in profile if value is not None and math.isfinite(value)]
    if not values:
        return None
    largest = max(values)
    return sum(value < DEAD * largest or value == 0 for value in values) / len(values)


def growth_fit(variances: Profile) -> GrowthFit | None:
    """Power law or exponential? ln s_l^2 = a + p ln l against ln s_l^2 = a + q l, on l >= 2.

    Pre-Norm's variance lies between Theta(L) and Theta(exp L) in training: The Curse of Depth, Sun et al. 2025 (arXiv
    2502.05795). The better law is AIC's, which of two laws with as many parameters takes the smaller residual sum of
    squares. ``variances`` are s_l^2, or squares of an RMS; the first layer, which is mostly the embedding, is left out.
    None with fewer than two values left; no law is better on fewer than three.
    """
    points = [(layer, value) for layer, value in _logarithms(variances) if layer >= 2]
    power, exponential = _line(points, math.log), _line(points, float)
    if power is None or exponential is None:
        return None
    better: Literal["power", "exponential"] | None = None
    if power.r2 is not None and exponential.r2 is not None and power.r2 != exponential.r2:
        better = "power" if power.r2 > exponential.r2 else "exponential"
    return GrowthFit(power.slope, exponential.slope, power.r2, exponential.r2, better)


def step_scalars(grad_norm: Profile) -> dict[str, float | None]:
    """What every step's line of metrics.jsonl says of its gradient norms by block: see the two functions."""
    fit = log_log_slope(grad_norm)
    return {"grad_slope": fit and fit.slope, "dead_gradients": dead_share(grad_norm)}


def summarize_depth(looks: Sequence[Mapping[str, Any]]) -> dict[str, float | str | None]:
    """The ``depth`` entry of summary.json, from the rows of probes.jsonl: at the last look that has a finite value,

    grad_slope, grad_slope_r2          of gradient norms by block, on the logarithm of the layer
    grad_log_slope, grad_log_slope_r2  their rate per layer
    grad_last_over_first               the last block's over the first's
    grad_growth_exponent               OLMo 2's lambda of them
    dead_gradients                     share of blocks below a thousandth of the largest
    variance_p, variance_r2_power      of the stream that leaves each block from the second on, s_l^2 ~ l^p
    variance_q, variance_r2_exponential, variance_law  s_l^2 ~ exp(q l), and which law fits better
    """
    gradients, variances = _latest(looks, "grad_norm"), _latest(looks, "stream.variance")
    power, rate, growth = log_log_slope(gradients), log_slope(gradients), growth_fit(variances)
    return {
        **step_scalars(gradients),
        "grad_slope_r2": power and power.r2,
        "grad_log_slope": rate and rate.slope,
        "grad_log_slope_r2": rate and rate.r2,
        "grad_last_over_first": last_over_first(gradients),
        "grad_growth_exponent": growth_exponent(gradients),
        "variance_p": growth and growth.p,
        "variance_q": growth and growth.q,
        "variance_r2_power": growth and growth.r2_power,
        "variance_r2_exponential": growth and growth.r2_exponential,
        "variance_law": growth and growth.better,
    }


def _latest(looks: Sequence[Mapping[str, Any]], name: str) -> Profile:
    """The last profile of this name with a finite value; an empty one if there is none."""
    profiles = (look[name] for look in reversed(looks) if name in look)
    return next((p for p in profiles if any(x is not None and math.isfinite(x) for x in p)), [])


def _ends(profile: Profile) -> tuple[float, float] | None:
    """First and last value of a profile of at least two layers, where both are finite."""
    if len(profile) < 2 or profile[0] is None or profile[-1] is None:
        return None
    return (profile[0], profile[-1]) if math.isfinite(profile[0]) and math.isfinite(profile[-1]) else None


def _logarithms(profile: Profile) -> list[tuple[int, float]]:
    """(l, ln x_l) of the positive finite values."""
    pairs = enumerate(profile, start=1)
    return [(layer, math.log(x)) for layer, x in pairs if x is not None and 0 < x < math.inf]


def _line(points: Sequence[tuple[int, float]], of_layer: Callable[[int], float]) -> Fit | None:
    """OLS of y on ``of_layer(l)``. In plain Python: a few dozen points do not repay an array."""
    if len(points) < 2:
        return None
    xs, ys = [of_layer(layer) for layer, _ in points], [y for _, y in points]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    x_square = sum((x - x_mean) ** 2 for x in xs)
    y_square = sum((y - y_mean) ** 2 for y in ys)
    product = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    explained = product**2 / x_square
    r2 = min(explained / y_square, 1.0) if len(points) > 2 and y_square > _FLAT else None
    return Fit(product / x_square, r2)
