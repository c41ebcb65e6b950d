"""Similarity and rank of tokens against all pairs, against an SVD in float64, and where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from normlab.observe.layers.stream import StreamView
from normlab.observe.layers.tokens import effective_rank, mean_norm, stable_rank, token_cosine


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_cosine_over_all_pairs():
    x = gaussian(3, 9, 16) + 0.5
    unit = F.normalize(x.double(), dim=-1)
    pairs = [(unit[b, i] @ unit[b, j]).item() for b in range(3) for i in range(9) for j in range(9) if i != j]
    assert token_cosine(StreamView(x)).item() == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


@pytest.mark.parametrize(
    ("tokens", "cosine"),
    [
        (torch.ones(1, 5, 4), 1),
        (torch.eye(4)[None], 0),
        (torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]]), -1),
        (torch.tensor([[[2.0, 0.0], [1.0, 1.0]]]), math.sqrt(0.5)),
        (torch.zeros(1, 3, 4), 0),
    ],
)
def test_cosine_that_is_known(tokens, cosine):
    assert token_cosine(StreamView(tokens)).item() == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_cosine_of_any_finite_size(scale):
    x = gaussian(1, 9, 16) + 0.5
    assert token_cosine(StreamView(scale * x)).item() == pytest.approx(token_cosine(StreamView(x)).item(), abs=1e-6)
    x[0, 3, 4] = math.inf
    assert math.isnan(token_cosine(StreamView(x)).item())


@pytest.mark.parametrize("shape", [(2, 7, 20), (2, 20, 7), (1, 12, 12)])
def test_ranks_by_an_svd(shape):
    x = gaussian(*shape)
    assert StreamView(x).squared_singular_values.shape == (shape[0], min(shape[1:]))  # of the smaller product
    effective, stable = [], []
    for matrix in x.double():
        singular = torch.linalg.svdvals(matrix)
        p = singular / singular.sum()
        effective.append(math.exp(-(p * p.log()).sum().item()))
        stable.append((singular.square().sum() / singular[0] ** 2).item())
    assert effective_rank(StreamView(x)).item() == pytest.approx(sum(effective) / len(effective), rel=1e-6)
    assert stable_rank(StreamView(x)).item() == pytest.approx(sum(stable) / len(stable), rel=1e-6)


def test_ranks_that_are_known():
    alike = StreamView(gaussian(1, 1, 32).expand(1, 24, 32))
    assert effective_rank(alike).item() == pytest.approx(1, abs=1e-4)
    assert stable_rank(alike).item() == pytest.approx(1, abs=1e-6)
    orthogonal = StreamView(3 * torch.linalg.qr(gaussian(16, 16)).Q[None])
    assert effective_rank(orthogonal).item() == pytest.approx(16, rel=1e-5)
    assert stable_rank(orthogonal).item() == pytest.approx(16, rel=1e-5)
    two = StreamView(torch.diag(torch.tensor([3.0, 1.0]))[None])
    assert effective_rank(two).item() == pytest.approx(4 / 3**0.75)  # p = 3/4, 1/4
    assert stable_rank(two).item() == pytest.approx(10 / 9)


def test_a_sequence_with_an_infinity_has_no_rank():
    x = gaussian(1, 4, 4)
    x[0, 1, 2] = math.inf
    assert math.isnan(effective_rank(StreamView(x)).item())
    assert math.isnan(stable_rank(StreamView(x)).item())


def test_each_of_several_streams_counts_alike():
    alike, orthogonal = torch.ones(1, 4, 4), 1000 * torch.eye(4)[None]
    view = StreamView(torch.stack((alike, orthogonal)))
    assert token_cosine(view).item() == pytest.approx(0.5)
    assert effective_rank(view).item() == pytest.approx(2.5, abs=1e-4)
    assert stable_rank(view).item() == pytest.approx(2.5)


def test_norm_of_the_mean_token():
    x = torch.tensor([[[3.0, 0.0], [-3.0, 8.0]]])
    assert mean_norm(StreamView(x)).item() == pytest.approx(4)
    assert mean_norm(StreamView(torch.stack((x, 0.75 * x)))).item() == pytest.approx(5)
