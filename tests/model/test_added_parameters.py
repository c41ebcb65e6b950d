"""What a placement adds to a network's parameters, and how it is told from the matrices."""

from __future__ import annotations

import functools

import pytest
import torch

from normlab import compose
from normlab.config.schema import NormConfig
from normlab.gallery.catalog import entries
from normlab.model.gpt import GPT, count_parameters
from normlab.model.norms import build_norm
from normlab.observe.gradients import ParameterMap

SHAPE = ["model.n_layers=3", "model.d_model=16", "model.n_heads=2", "model.n_kv_heads=null", "model.d_ff=24",
         "model.pad_vocab_to=1", "train.seq_len=8"]  # fmt: skip


@functools.cache
def meta(placement: str, *overrides: str) -> GPT:
    with torch.device("meta"):
        return GPT(compose([*SHAPE, f"placement={placement}", *overrides]), 40)


@pytest.mark.parametrize("placement", [entry.name for entry in entries()])
def test_norm_is_all_that_the_placement_adds(placement):
    counts, bare = count_parameters(meta(placement)), count_parameters(meta("none"))
    assert counts["norm"] == counts["total"] - bare["total"] and bare["norm"] == 0


def kinds(placement: str) -> dict[str, str]:
    network = meta(placement)
    parameters = ParameterMap(network, 3)
    names = [name for name, _ in network.named_parameters()]
    return {name: parameters.kinds[kind] for name, kind in zip(names, parameters.kind, strict=True)}


@pytest.mark.parametrize(
    ("placement", "name", "kind"),
    [
        ("pre", "blocks.0.attn.branch.q.weight", "attn.q"),
        ("pre", "blocks.0.attn.pre.0.weight", "norm"),
        ("hybrid", "blocks.0.attn.branch.q_norm.0.weight", "norm"),
        ("pre", "final_norm.0.weight", "norm"),
        ("ngpt", "blocks.0.attn.add.weight", "residual"),
        ("ngpt", "logits_scale.0.weight", "norm"),
        ("residual", "blocks.0.ffn.add.post.0.weight", "norm"),
        ("residual", "streams.y_norm.0.weight", "norm"),
        ("siamese", "blocks.0.attn.add.y_norm.0.weight", "norm"),
        ("siamese", "streams.x_norm.0.weight", "norm"),
        ("hyper_connections", "blocks.0.attn.add.alpha", "residual"),
        ("hyper_connections", "blocks.0.attn.add.alpha_map.weight", "residual"),
        ("hyper_connections", "blocks.0.attn.add.norm.0.weight", "norm"),
        ("mhc", "streams.maps.weight", "residual"),
    ],
)
def test_a_slot_s_parameters_are_norms_and_a_mix_s_or_a_wiring_s_own_are_residual(placement, name, kind):
    assert kinds(placement)[name] == kind


@pytest.mark.parametrize("affine", [True, False])
def test_a_gain_without_a_norm_is_a_constant_and_no_parameter(affine):
    x = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slot = GPT(compose([*SHAPE, "placement=depth_scaled_sandwich", "norm=none"]), 40).blocks[0].attn.out
    assert not list(slot.parameters())
    torch.testing.assert_close(slot(x), x / 3**0.5, rtol=1e-7, atol=0)  # the constant is a float32
    assert build_norm(NormConfig(name="none"), 16, affine)(x) is x
