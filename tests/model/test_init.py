"""The paper's inits, and that tensors which two placements share start bit-identical."""

from __future__ import annotations

import math

import pytest
import torch

from normlab import build_model, compose
from normlab.errors import UserError

SHAPE = ["model.n_layers=8", "model.d_model=256", "model.n_heads=4", "model.n_kv_heads=2", "model.d_ff=512",
         "model.vocab_size=512"]  # fmt: skip


def std(init: str, name: str, *more: str) -> float:
    model = build_model(compose([*SHAPE, f"init={init}", *more]))
    return dict(model.named_parameters())[name].std().item()


BASE = 1 / math.sqrt(2.5 * 256)
CUT = 0.98657  # standard deviation of a normal cut at three of its own


@pytest.mark.parametrize(
    ("init", "o_of_layer_3"),
    [("normal", 1.0), ("depth_scaled", 1 / math.sqrt(2 * 3)), ("megatron", 1 / math.sqrt(2 * 8))],
)
def test_the_paper_s_three(init, o_of_layer_3):
    assert std(init, "blocks.2.attn.branch.q.weight") == pytest.approx(BASE * CUT, rel=0.01)
    assert std(init, "embed.weight") == pytest.approx(BASE * CUT, rel=0.01)
    for output in ("attn.branch.o", "ffn.branch.down"):
        assert std(init, f"blocks.2.{output}.weight") == pytest.approx(BASE * CUT * o_of_layer_3, rel=0.01)


def test_normal_is_cut_at_three():
    model = build_model(compose([*SHAPE, "init=normal"]))
    assert model.embed.weight.abs().max() <= 3 * BASE
    assert model.embed.weight.abs().max() > 2.9 * BASE


def test_gpt2():
    assert std("gpt2", "blocks.2.ffn.branch.up.weight") == pytest.approx(0.02, rel=0.01)
    assert std("gpt2", "blocks.2.ffn.branch.down.weight") == pytest.approx(0.02 / 4, rel=0.01)


def test_deepnorm_brings_its_own():
    glorot = math.sqrt(2 / (256 + 512))
    beta = (8 * 8) ** -0.25
    assert std("recipe", "blocks.0.ffn.branch.up.weight", "placement=deepnorm") == pytest.approx(
        glorot * beta, rel=0.02
    )
    assert std("recipe", "blocks.0.attn.branch.q.weight", "placement=deepnorm") == pytest.approx(
        math.sqrt(2 / 512), rel=0.02
    )


def test_shared_tensors_start_equal_in_every_placement():
    pre, hybrid = (
        dict(build_model(compose([*SHAPE, f"placement={p}", "init=normal"])).named_parameters())
        for p in ("pre", "hybrid_star")
    )
    shared = [name for name in pre if pre[name].ndim == 2]
    assert len(shared) == 8 * 7 + 1
    assert all(torch.equal(pre[name], hybrid[name]) for name in shared)


def test_seeds_differ():
    a, b = (build_model(compose([*SHAPE, f"seed={seed}"])).embed.weight for seed in (0, 1))
    assert (a - b).abs().mean() > 0.5 * BASE


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("init=megatrom", "did you mean 'megatron'"),
        ("init={base:normal,gain:{oo:2}}", "unknown matrix 'oo'"),
        ("init={base:normal,gain:{o:-1}}", "not negative"),
    ],
)
def test_a_bad_init_is_one_line(override, message):
    with pytest.raises(UserError, match=message):
        compose([override])
