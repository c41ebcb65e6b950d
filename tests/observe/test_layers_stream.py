"""Statistics of the residual stream against values by hand, and against distributions whose moments are known."""

from __future__ import annotations

import math

import pytest
import torch

from normlab.observe.layers.stream import (
    StreamView,
    SublayerView,
    branch_ratio,
    kurtosis,
    kurtosis_osp,
    massive,
    max_abs,
    median_abs,
    rms_branch,
    rms_in,
    rms_out,
    rms_sum,
    top2_abs,
    top3_abs,
    variance,
)  # fmt: skip


def stream(*tokens: tuple[float, ...]) -> StreamView:
    """One sequence."""
    return StreamView(torch.tensor([tokens]))


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sizes_around_a_sublayer():
    x, branch = torch.tensor([[[3.0, -4.0]]]), torch.tensor([[[0.3, 0.4]]])
    view = SublayerView(x, branch, x + branch, 2 * x)
    assert rms_in(view).item() == pytest.approx(math.sqrt(12.5))
    assert rms_branch(view).item() == pytest.approx(math.sqrt(0.125))
    assert rms_sum(view).item() == pytest.approx(math.sqrt((3.3**2 + 3.6**2) / 2))
    assert rms_out(view).item() == pytest.approx(math.sqrt(50))
    assert branch_ratio(view).item() == pytest.approx(0.1)  # ||branch|| / ||x|| = 0.5 / 5


def test_a_large_stream_has_a_size_as_long_as_it_is_finite():
    x = torch.tensor([[[3e25, -4e25]]])
    assert rms_in(SublayerView(x, x, x, x)).item() == pytest.approx(math.sqrt(12.5) * 1e25)
    assert rms_in(SublayerView(x / 0, x, x, x)).item() == math.inf


def test_the_branch_ratio_of_several_streams_is_to_all_of_them():
    x, branch = torch.full((2, 1, 1, 4), 2.0), torch.ones(1, 1, 4)
    x[1] = 0
    view = SublayerView(x, branch, x + branch, x)
    assert branch_ratio(view).item() == pytest.approx(1 / math.sqrt(2))


def test_variance_is_over_the_channels_of_a_token():
    view = stream((1.0, 3.0), (10.0, 10.0))  # variances 1 and 0, though the tokens differ by far
    assert variance(view).item() == pytest.approx(0.5)


def test_the_largest_and_the_median():
    view = stream((1.0, -7.0, 2.0), (5.0, -3.0, 6.0))
    assert [probe(view).item() for probe in (max_abs, top2_abs, top3_abs)] == [7, 6, 5]
    assert median_abs(view).item() == 3  # of 1 2 3 5 6 7, the lower one


@pytest.mark.parametrize(
    ("x", "median", "count"),
    [
        (2000.0, 1.0, 2),  # beyond 100, and a thousand medians
        (1000.0, 1.0, 2),
        (999.0, 1.0, 0),
        (100.0, 0.001, 0),  # not beyond 100
        (101.0, 0.001, 2),
    ],
)
def test_massive_activations(x, median, count):
    state = torch.full((1, 4, 8), median)
    state[0, 0, 3], state[0, 2, 5] = x, -x
    assert massive(StreamView(state)).item() == count


def test_a_sequence_is_massive_by_its_own_median():
    state = torch.full((2, 4, 8), 1.0)
    state[1] *= 1000
    assert massive(StreamView(state)).item() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nobody_counts_in_a_stream_that_is_not_finite(bad):
    state = torch.full((2, 4, 8), 1.0)
    state[1, 2, 3] = bad
    assert massive(StreamView(state)).isnan()


def test_kurtosis_of_known_distributions():
    normal = gaussian(1, 2000, 100)
    assert kurtosis(StreamView(normal)).item() == pytest.approx(0, abs=0.03)
    assert kurtosis(StreamView(5 + 3 * normal)).item() == pytest.approx(0, abs=0.03)  # centred
    assert kurtosis(StreamView(normal.sign())).item() == pytest.approx(-2, abs=1e-3)
    uniform = torch.rand(1, 2000, 100, generator=torch.Generator().manual_seed(0))
    assert kurtosis(StreamView(uniform)).item() == pytest.approx(-1.2, abs=0.01)


def test_kurtosis_of_outlier_safe_pre_training():
    outlier = stream((0.0, 0.0, 0.0, 4.0))  # mean 1, variance 3, mean fourth power 64
    assert kurtosis_osp(outlier).item() == pytest.approx(64 / 9 - 3)
    even = stream((1.0, -1.0, 1.0, -1.0))  # 1 - 3 < 0
    assert kurtosis_osp(even).item() == 0
    both = stream((0.0, 0.0, 0.0, 4.0), (1.0, -1.0, 1.0, -1.0))
    assert kurtosis_osp(both).item() == pytest.approx((64 / 9 - 3) / 2)
    shifted = stream((1.0, 3.0))  # the fourth moment is not centred: 41 / 1 - 3
    assert kurtosis_osp(shifted).item() == pytest.approx(38)


def test_each_of_several_streams_is_looked_at_by_itself():
    x = gaussian(2, 64, 100)
    both = StreamView(torch.stack((x, 1000 * x)))
    assert kurtosis(both).item() == pytest.approx(kurtosis(StreamView(x)).item(), abs=1e-4)
    assert median_abs(both).item() == pytest.approx(1001 / 2 * median_abs(StreamView(x)).item(), rel=1e-5)
    assert variance(both).item() == pytest.approx((1 + 1e6) / 2 * variance(StreamView(x)).item(), rel=1e-5)
    assert massive(both).item() == massive(StreamView(1000 * x)).item()
