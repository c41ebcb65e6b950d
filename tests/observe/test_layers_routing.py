"""Statistics of the router against loads that are known, and in a probe of a whole network."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from normlab import build_model, compose
from normlab.observe.layers import PROBES, probe_activations
from normlab.observe.layers.routing import Routing, dead_experts, load_entropy_ratio, load_max

TOKENS = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
NAMES = {"load_max", "load_entropy_ratio", "dead_experts", "balance_loss", "router_z_loss"}


def routing(*load: float) -> SimpleNamespace:
    return SimpleNamespace(balance=torch.tensor(1.5), z=torch.tensor(2.5), load=torch.tensor(load))


@pytest.mark.parametrize(
    ("load", "largest", "entropy", "dead"),
    [
        ((0.25, 0.25, 0.25, 0.25), 1, 1, 0),
        ((0.0, 0.0, 1.0, 0.0), 4, 0, 3),
        ((0.5, 0.5, 0.0, 0.0), 2, 0.5, 2),
        ((0.7, 0.1, 0.1, 0.1), 2.8, -(0.7 * math.log(0.7) + 0.3 * math.log(0.1)) / math.log(4), 0),
        ((1.0,), 1, 1, 0),  # one expert cannot be out of balance
    ],
)
def test_of_a_known_load(load, largest, entropy, dead):
    assert load_max(routing(*load)).item() == pytest.approx(largest)
    assert load_entropy_ratio(routing(*load)).item() == pytest.approx(entropy, abs=1e-6)
    assert dead_experts(routing(*load)).item() == dead


def test_each_layer_of_a_sparse_network():
    model = build_model(compose(["model=moe_nano", "model.vocab_size=64"]))
    found = probe_activations(model, TOKENS)
    with torch.no_grad():
        x = model.enter(TOKENS)
        for layer, block in enumerate(model.blocks):
            x, seen = block(x)
            assert found["ffn.load_max"][layer] == pytest.approx(4 * seen.load.max().item())
            assert found["ffn.dead_experts"][layer] == (seen.load == 0).sum().item()
            assert found["ffn.balance_loss"][layer] == pytest.approx(seen.balance.item())
            assert found["ffn.router_z_loss"][layer] == pytest.approx(seen.z.item())
            assert 0 < found["ffn.load_entropy_ratio"][layer] <= 1
    assert set(PROBES[Routing]) == NAMES
    assert {len(found[f"ffn.{name}"]) for name in NAMES} == {2}


def test_a_dense_network_has_no_routing():
    model = build_model(compose(["model=nano", "model.vocab_size=64"]))
    assert not {f"ffn.{name}" for name in NAMES} & set(probe_activations(model, TOKENS))
