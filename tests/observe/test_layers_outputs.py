"""Statistics of the logits against values by hand, and of a network whose logits are known."""

from __future__ import annotations

import math

import pytest
import torch

from normlab import build_model, compose
from normlab.observe.layers import probe_activations
from normlab.observe.layers.outputs import LogitsView, largest, log_z, log_z_square, mean, rms


def test_by_hand():
    view = LogitsView(torch.tensor([[[0.0, math.log(3)], [-2.0, -2.0]]]))
    first, second = math.log(4), math.log(2) - 2
    assert rms(view).item() == pytest.approx(math.sqrt((math.log(3) ** 2 + 8) / 4))
    assert largest(view).item() == pytest.approx(math.log(3))
    assert mean(view).item() == pytest.approx((math.log(3) - 4) / 4)
    assert log_z(view).item() == pytest.approx((first + second) / 2)
    assert log_z_square(view).item() == pytest.approx((first**2 + second**2) / 2)


def test_in_float64():
    logits = 10 * torch.randn(3, 50, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    view, z = LogitsView(logits.float()), logits.logsumexp(-1)
    assert rms(view).item() == pytest.approx(logits.square().mean().sqrt().item(), rel=1e-6)
    assert log_z(view).item() == pytest.approx(z.mean().item(), rel=1e-6)
    assert log_z_square(view).item() == pytest.approx(z.square().mean().item(), rel=1e-6)


def test_a_network_with_known_logits():
    """A head of zeros says log V of all; a bias alone says the same of every token."""
    model = build_model(compose(["model=nano", "model.vocab_size=64", "model.tie_embeddings=false"]))
    torch.nn.init.zeros_(model.head.weight)
    tokens = torch.zeros(2, 8, dtype=torch.long)
    found = probe_activations(model, tokens)
    rows = model.head.weight.size(0)
    assert found["logits.rms"] == found["logits.max"] == found["logits.mean"] == 0
    assert found["logits.log_z"] == pytest.approx(math.log(rows), rel=1e-6)
    assert found["logits.log_z_square"] == pytest.approx(math.log(rows) ** 2, rel=1e-6)
