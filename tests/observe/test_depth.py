"""Profiles over depth against laws whose exponents are known, and against everything that is not a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.observe.depth import (
    dead_share,
    growth_exponent,
    growth_fit,
    last_over_first,
    log_log_slope,
    log_slope,
    step_scalars,
    summarize_depth,
)

LAYERS = np.arange(1, 25)


@pytest.mark.parametrize("p", [-0.5, 0.0, 1.0, 2.5])
def test_a_power_of_the_layer_has_its_exponent_as_log_log_slope(p):
    fit = log_log_slope((3.0 * LAYERS**p).tolist())
    assert fit.slope == pytest.approx(p, abs=1e-12)
    assert fit.r2 == (None if p == 0 else pytest.approx(1.0))


@pytest.mark.parametrize("q", [-0.3, 0.0, 0.05, 1.0])
def test_an_exponential_of_the_layer_has_its_rate_as_log_slope(q):
    fit = log_slope((0.01 * np.exp(q * LAYERS)).tolist())
    assert fit.slope == pytest.approx(q, abs=1e-12)
    assert fit.r2 == (None if q == 0 else pytest.approx(1.0))


def test_the_fits_are_those_of_least_squares():
    profile = np.random.default_rng(0).lognormal(size=24)
    for fit, x in ((log_log_slope(profile.tolist()), np.log(LAYERS)), (log_slope(profile.tolist()), LAYERS)):
        slope, intercept = np.polyfit(x, np.log(profile), 1)
        residual = np.log(profile) - intercept - slope * x
        assert fit.slope == pytest.approx(slope)
        assert fit.r2 == pytest.approx(1 - residual.var() / np.log(profile).var())


def test_a_layer_without_a_value_leaves_the_others_where_they_are():
    profile: list[float | None] = (LAYERS**1.5).tolist()
    profile[3], profile[7], profile[11], profile[23] = None, math.nan, math.inf, 0.0
    fit = log_log_slope(profile)
    assert fit.slope == pytest.approx(1.5) and fit.r2 == pytest.approx(1.0)


@pytest.mark.parametrize("profile", [[], [1.0], [None, None], [0.0, 0.0, 0.0], [math.nan, 2.0], [math.inf, -1.0, 3.0]])
def test_fewer_than_two_positive_values_have_no_slope(profile):
    assert log_log_slope(profile) is None and log_slope(profile) is None and growth_fit(profile) is None
    assert step_scalars(profile)["grad_slope"] is None


def test_two_layers_have_a_slope_and_nothing_that_could_be_explained():
    assert log_log_slope([1.0, 4.0]) == (pytest.approx(2.0), None)
    assert log_slope([1.0, math.e]) == (pytest.approx(1.0), None)


def test_the_last_block_over_the_first():
    assert last_over_first([2.0, None, 5.0]) == 2.5
    assert last_over_first([2.0, 0.0]) == 0.0
    for profile in ([], [2.0], [0.0, 1.0], [None, 1.0], [1.0, math.nan], [1.0, math.inf], [1e-200, 1e200]):
        assert last_over_first(profile) is None


def test_growth_exponent_is_olmo_2_s():
    norms = [0.5 * math.exp(0.1 * layer) for layer in range(24)]
    assert growth_exponent(norms) == pytest.approx(23 * 0.1 / 24)
    assert growth_exponent([3.0, 7.0, 3.0]) == 0.0
    for profile in ([1.0], [1.0, 0.0], [0.0, 1.0], [None, 1.0], [1.0, math.inf]):
        assert growth_exponent(profile) is None


def test_a_block_is_dead_below_a_thousandth_of_the_largest():
    assert dead_share([1.0, 1.0, 1.0]) == 0
    assert dead_share([0.99e-3, 1.01e-3, 1.0, 0.0]) == 0.5
    # A stuck run of 24 blocks: 23 below 5e-5, the last at 0.085.
    assert dead_share([4.9e-5] * 23 + [0.085]) == pytest.approx(23 / 24)


def test_dead_blocks_are_told_from_those_that_are_not_finite():
    assert dead_share([math.inf, 1.0, 1e-4, None]) == 0.5  # infinity does not make the others dead
    assert dead_share([0.0, 0.0]) == 1
    assert dead_share([None, math.nan, math.inf]) is None and dead_share([]) is None


def test_a_power_law_and_an_exponential_are_told_apart():
    power = growth_fit((2.0 * LAYERS**1.7).tolist())
    assert power.better == "power" and power.p == pytest.approx(1.7) and power.r2_power == pytest.approx(1.0)
    assert power.r2_exponential < 0.95
    exponential = growth_fit((2.0 * np.exp(0.2 * LAYERS)).tolist())
    assert exponential.better == "exponential" and exponential.q == pytest.approx(0.2)
    assert exponential.r2_exponential == pytest.approx(1.0) and exponential.r2_power < 0.95


def test_the_laws_are_told_apart_in_noise_too():
    noise = np.random.default_rng(1).lognormal(sigma=0.05, size=24)
    assert growth_fit((LAYERS * noise).tolist()).better == "power"
    assert growth_fit((np.exp(0.2 * LAYERS) * noise).tolist()).better == "exponential"


def test_growth_leaves_the_first_layer_out_whatever_it_holds():
    for first in (1e9, 0.0, None, math.nan):
        fit = growth_fit([first, *(LAYERS[1:] ** 2.0).tolist()])
        assert fit.p == pytest.approx(2.0) and fit.r2_power == pytest.approx(1.0)


def test_a_stream_that_does_not_grow_follows_no_law():
    for flat in ([1.0] * 24, [1.0 + 1e-8 * (layer % 2) for layer in range(24)]):
        fit = growth_fit(flat)
        assert fit.better is None and fit.p == pytest.approx(0, abs=1e-7) and fit.q == pytest.approx(0, abs=1e-7)
    two = growth_fit([1.0, 2.0, 4.0])  # layers 2 and 3: both laws pass through two points
    assert two.better is None and two.r2_power is None and two.q == pytest.approx(math.log(2))


def test_a_step_s_line_has_the_slope_and_the_dead_blocks():
    assert step_scalars((LAYERS**-1.0).tolist()) == {"grad_slope": pytest.approx(-1.0), "dead_gradients": 0.0}


def test_a_summary_is_that_of_the_last_look_with_a_value():
    gradients, variances = (LAYERS**-1.0).tolist(), np.exp(0.1 * LAYERS).tolist()
    looks = [
        {"step": 1, "grad_norm": [1.0] * 24, "stream.variance": [1.0] * 24},
        {"step": 10, "grad_norm": gradients, "stream.variance": variances},
        {"step": 20, "grad_norm": [None] * 24},
    ]
    summary = summarize_depth(looks)
    assert summary["grad_slope"] == pytest.approx(-1) and summary["grad_slope_r2"] == pytest.approx(1)
    assert summary["grad_log_slope"] == pytest.approx(np.polyfit(LAYERS, np.log(gradients), 1)[0])
    assert 0.5 < summary["grad_log_slope_r2"] < 1
    assert summary["grad_last_over_first"] == pytest.approx(1 / 24) and summary["dead_gradients"] == 0
    assert summary["grad_growth_exponent"] == pytest.approx(-math.log(24) / 24)
    assert summary["variance_law"] == "exponential" and summary["variance_q"] == pytest.approx(0.1)
    assert summary["variance_r2_exponential"] == pytest.approx(1) and summary["variance_r2_power"] < 0.98
    assert 0 < summary["variance_p"] < 3
    assert set(summarize_depth([]).values()) == {None} and summarize_depth([]).keys() == summary.keys()


@given(st.lists(st.none() | st.floats(), max_size=40))
def test_nothing_that_a_file_may_hold_is_an_error(profile):
    values = summarize_depth([{"grad_norm": profile, "stream.variance": profile}]).values()
    assert all(isinstance(value, float | str | None) for value in values)
    assert all(math.isfinite(value) for value in values if isinstance(value, float))
