"""One example of every class, and the order in which they are asked."""

from __future__ import annotations

import math

import pytest

from normlab.observe.outcome import classify, first_bad_step, moving_average

INIT, UNIGRAM = 8.3, 6.0
HEALTHY = [INIT - 0.01 * step for step in range(400)]


def test_ok() -> None:
    assert classify(HEALTHY, [INIT, 5.0, 4.3], INIT, UNIGRAM, None) == "ok"


@pytest.mark.parametrize(("final", "outcome"), [(5.94, "ok"), (5.96, "stagnated"), (6.2, "stagnated")])
def test_stagnation_is_judged_by_the_final_validation(final: float, outcome: str) -> None:
    assert classify([*HEALTHY[:200], *[6.0] * 200], [INIT, 5.0, final], INIT, UNIGRAM, None) == outcome


def test_an_overshoot_that_recovers_is_no_explosion() -> None:
    overshoot = [INIT, 30.0, *[INIT + 1] * 48, *HEALTHY]
    assert classify(overshoot, [4.3], INIT, UNIGRAM, None) == "ok"


def test_fifty_steps_far_above_the_start_are_one_even_if_it_comes_back() -> None:
    assert classify([INIT, *[INIT + 0.6] * 50, *HEALTHY], [4.3], INIT, UNIGRAM, None) == "exploded"
    assert classify([INIT, *[INIT + 0.4] * 50, *HEALTHY], [4.3], INIT, UNIGRAM, None) == "ok"


def test_ending_above_the_start_is_an_explosion() -> None:
    assert classify([*HEALTHY, *[INIT + 0.3] * 100], [9.0], INIT, UNIGRAM, None) == "exploded"


def test_a_run_of_a_few_steps_has_not_exploded() -> None:
    assert classify([INIT + 0.02, INIT - 0.01, INIT + 0.03], [INIT], INIT, UNIGRAM, None) == "stagnated"


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_nan_comes_first(bad: float | None) -> None:
    assert classify([*HEALTHY, bad], [9.0], INIT, UNIGRAM, None) == "nan"
    assert classify(HEALTHY, [4.3, bad], INIT, UNIGRAM, None) == "nan"
    assert classify(HEALTHY, [4.3], INIT, UNIGRAM, 37) == "nan"  # the gradient norm


def test_moving_average_is_unbiased_from_the_first_step() -> None:
    assert moving_average([3.0]) == pytest.approx([3.0])
    assert moving_average([3.0] * 500) == pytest.approx([3.0] * 500)
    assert moving_average([9.0] * 500 + [3.0] * 100)[-1] == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("outcome", ["ok", None])
def test_a_healthy_or_unfinished_run_has_no_bad_step(outcome) -> None:
    assert first_bad_step(outcome, HEALTHY, INIT, None) is None


def test_the_first_bad_step_of_a_nan_is_the_first_non_finite_one() -> None:
    assert first_bad_step("nan", [8.0, 7.0, 7.5], INIT, 3) == 3  # of the gradient norm, the loss being finite
    assert first_bad_step("nan", [8.0, 7.0, None], INIT, None) == 3


def test_the_first_bad_step_of_an_explosion_is_where_the_loss_left_its_start() -> None:
    far = [*HEALTHY[:30], *[INIT + 2] * 60, *HEALTHY]
    assert classify(far, [4.3], INIT, UNIGRAM, None) == "exploded"
    assert first_bad_step("exploded", far, INIT, None) == 31
    # Too little above for fifty steps in a row to say so: the moving average does, a few steps after the change.
    near = [*HEALTHY[:100], *[INIT + 0.3] * 200]
    assert classify(near, [9.0], INIT, UNIGRAM, None) == "exploded"
    assert 101 < (first_bad_step("exploded", near, INIT, None) or 0) < 150


def test_the_first_bad_step_of_a_stagnation_is_where_the_loss_came_to_stand_still() -> None:
    stuck = [*[INIT - 0.1 * step for step in range(24)], *[UNIGRAM] * 300]
    assert classify(stuck, [6.0], INIT, UNIGRAM, None) == "stagnated"
    assert 24 < (first_bad_step("stagnated", stuck, INIT, None) or 0) < 110
    # It had learned, and lost it.
    collapsed = [*HEALTHY, *[UNIGRAM] * 300]
    assert 401 < (first_bad_step("stagnated", collapsed, INIT, None) or 0) < 490
    assert first_bad_step("stagnated", [UNIGRAM] * 50, INIT, None) == 1
