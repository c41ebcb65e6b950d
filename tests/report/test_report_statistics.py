"""Statistics against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from normlab.report.statistics import degraded_above, estimate, holm, paired_difference, wilson


def test_t_interval_of_one_two_three() -> None:
    found = estimate([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302653; sd = 1; half width = 4.302653 / sqrt(3) = 2.484138
    assert found is not None and found.lo is not None and found.hi is not None
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    assert found.lo == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.hi == pytest.approx(2 + 2.484138, abs=1e-6)


def test_one_value_has_no_interval_and_none_no_estimate() -> None:
    found = estimate([2.5])
    assert found is not None and (found.n, found.mean) == (1, 2.5)
    assert (found.sd, found.lo, found.hi, found.p) == (None, None, None, None)
    assert estimate([]) is None


def test_paired_difference_by_hand() -> None:
    found = paired_difference({0: 2.0, 1: 2.1, 2: 2.2}, {0: 2.1, 1: 2.3, 2: 2.5})
    # differences -0.1, -0.2, -0.3: mean -0.2, sd 0.1, t = -0.2 / (0.1 / sqrt 3) = -3.4641 on 2 df.
    # For 2 df the t distribution is closed: p = 1 - t / sqrt(t^2 + 2) = 1 - 3.4641 / sqrt(14) = 0.074180
    assert found is not None and found.sd == pytest.approx(0.1)
    assert found.mean == pytest.approx(-0.2)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-9)
    assert found.hi == pytest.approx(-0.2 + 0.2484138, abs=1e-6)


def test_a_seed_without_its_partner_is_no_pair() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 7: 99.0}, {0: 0.5, 1: 1.0, 8: -99.0})
    assert found is not None and (found.n, found.mean) == (2, 0.75)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_equal_differences_have_no_spread() -> None:
    same = paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    shifted = paired_difference({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0})
    assert same is not None and same.p == 1.0
    assert shifted is not None and shifted.p == 0.0


def test_holm_by_hand() -> None:
    # sorted .01 .03 .04 -> 3*.01 = .03, 2*.03 = .06, 1*.04 = .04 lifted to .06
    assert holm([0.04, 0.01, None, 0.03]) == [
        pytest.approx(0.06),
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
    ]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 3, 0, 0.5615), (3, 3, 0.4385, 1), (0, 10, 0, 0.2775), (0, 0, 0, 1)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_degraded_threshold() -> None:
    assert degraded_above([2.0, 2.1, 2.2]) == pytest.approx(2.1 + 0.5)  # 5 sd = 0.5
    assert degraded_above([2.0, 2.001]) == pytest.approx(2.0005 + 0.1)  # the floor of 0.1
    assert degraded_above([2.0]) == pytest.approx(2.1)
    assert degraded_above([]) is None
