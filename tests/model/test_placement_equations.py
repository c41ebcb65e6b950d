"""Every shipped placement computes its paper's equation: float64, random gains, five layers, grouped queries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from normlab import build_model, compose
from normlab.config.paths import shipped

sys.path.insert(0, str(Path(__file__).parent))
import reference

SHIPPED = sorted(path.stem for path in shipped("configs").glob("placement/*.yaml"))
LAYERS = 5  # ceil(5/4) = 2, so that Mix-LN's rounding is seen


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(placement: str, *overrides: str):
    model = build_model(
        compose([
            f"placement={placement}", f"model.n_layers={LAYERS}", "model.d_model=32", "model.n_heads=4",
            "model.n_kv_heads=2", "model.d_ff=48", "model.vocab_size=50", "model.pad_vocab_to=1", *overrides,
        ])
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # gains that differ, so that a swapped or missing norm shows
        if parameter.ndim == 1:
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


TOKENS = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(2))


def test_every_shipped_placement_has_an_equation():
    assert sorted(reference.BLOCKS) == SHIPPED


@pytest.mark.parametrize("placement", SHIPPED)
def test_network_equals_equation(placement):
    model = network(placement)
    expected = reference.logits(placement, model.state_dict(), LAYERS, TOKENS)
    torch.testing.assert_close(model(TOKENS), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("placement", SHIPPED)
def test_every_parameter_is_used(placement):
    """A norm that is built and not applied has no gradient."""
    model = network(placement)
    model(TOKENS, TOKENS.roll(-1, 1)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("placement", SHIPPED)
@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm", "layernorm_nobias"])
def test_the_future_changes_nothing(placement, norm):
    model = network(placement, f"norm={norm}").train()
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 50
    torch.testing.assert_close(model(TOKENS)[:, :-1], model(changed)[:, :-1], rtol=0, atol=0)


def test_hybrid_has_the_official_shapes():
    """One gain of d_head for all heads on q, k, v; one of d after attention; none in the FFN; a final norm."""
    shapes = {n: tuple(p.shape) for n, p in network("hybrid").named_parameters() if p.ndim == 1}
    per_layer = {"attn.branch.q_norm.0": 8, "attn.branch.k_norm.0": 8, "attn.branch.v_norm.0": 8, "attn.post.0": 32}
    expected = {f"blocks.{l}.{k}.weight": (v,) for l in range(LAYERS) for k, v in per_layer.items()}
    assert shapes == {**expected, "final_norm.0.weight": (32,)}


def test_norm_stands_before_rope():
    """A gain that differs within a pair does not commute with the rotation: the other order must not pass."""
    model = network("hybrid")
    turned = network("hybrid", "placement.attn.q=n(at=post_rope)", "placement.attn.k=n(at=post_rope)")
    state = {
        name.replace("q_norm.", "q_norm_turned.").replace("k_norm.", "k_norm_turned."): value
        for name, value in model.state_dict().items()
    }
    turned.load_state_dict(state)
    assert (model(TOKENS) - turned(TOKENS)).abs().max() > 1e-3


def test_normed_skip_is_post_norm_shifted_by_one():
    """x = n(x); x = x + F(x), sublayer by sublayer, with no final norm, is post-norm with a norm on the embedding."""
    post = network("post", "placement.embed=n")
    state = post.state_dict()
    gains = [state["embed_norm.0.weight"]]
    x = state["embed.weight"][TOKENS]
    for layer in range(LAYERS):
        w = reference.Weights(state, layer)
        for name, branch in (("attn", reference.mha(w, 4, 2)), ("ffn", reference.ffn(w))):
            x = reference.rms(x, gains[-1])
            x = x + branch(x)
            gains.append(state[f"blocks.{layer}.{name}.post.0.weight"])
    x = reference.rms(x, gains[-1])
    torch.testing.assert_close(post(TOKENS), x @ state["embed.weight"].T, rtol=1e-10, atol=1e-10)


def test_constant_of_one_changes_nothing():
    plain, scaled = network("pre"), network("pre", "placement.attn.out=c(1)", "placement.ffn.skip=v(1)")
    scaled.load_state_dict({**scaled.state_dict(), **plain.state_dict()})
    for name, parameter in scaled.named_parameters():
        if "skip" in name:
            parameter.data.fill_(1.0)
    torch.testing.assert_close(plain(TOKENS), scaled(TOKENS), rtol=1e-12, atol=1e-12)


def test_norm_none_removes_every_norm():
    """types x placements is a product: pre with norm=none is the placement without norms."""
    bare, none = network("pre", "norm=none"), network("none")
    none.load_state_dict(bare.state_dict())
    torch.testing.assert_close(bare(TOKENS), none(TOKENS), rtol=0, atol=0)
