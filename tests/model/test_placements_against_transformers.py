"""Placements of released models that no preset can hold, against the class of `transformers` that they come from.

What the grammar leaves out is made neutral in theirs: a sigmoid gate stands wide open, every layer has RoPE, no expert
is built. Where their attention or FFN is another function, both networks call ours, so that what is compared is all
that stands around it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")

sys.path.insert(0, str(Path(__file__).parent))
import preset_comparison
import transformers
from placement_networks import LAYERS, TOKENS, VOCABULARY, network, stirred
from reference import EPS, HEADS, KV

from normlab.model.gpt import GPT

ATTENTION = {f"attn.branch.{name}.weight": f"self_attn.{name}_proj.weight" for name in "qkvo"}
FFN = {f"ffn.branch.{name}.weight": f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
PRE = {"attn.pre.0.weight": "input_layernorm.weight", "ffn.pre.0.weight": "post_attention_layernorm.weight"}
AROUND = {"attn.pre.0.weight": "input_layernorm.weight", "ffn.pre.0.weight": "pre_feedforward_layernorm.weight"}
AFFINE = {"weight": "scale", "shift": "bias"}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


class Port(NamedTuple):
    """Our names in a layer and theirs, the same outside the layers, and how theirs is made to hold nothing else."""

    cls: str
    config: dict[str, Any]
    layer: dict[str, str]
    ends: dict[str, str] = {}
    attention: bool = True  # is their attention ours?
    ffn: bool = True
    neutral: Callable[[nn.Module], None] = lambda layer: None  # sets their parameters that we do not have
    left_out: tuple[str, ...] = ()
    centered: tuple[str, ...] = ()  # their parameters to which 1 is added


def open_beam(layer: Any) -> None:
    layer.self_attn.gate_proj.weight.data.zero_()
    layer.self_attn.gate_bias.data.fill_(100.0)  # a sigmoid of exactly 1


def half_open_muse(layer: Any) -> None:
    """Their gate has no bias: all values are halved, which the norm behind the output projection undoes."""
    layer.self_attn.gate_proj.weight.data.zero_()
    layer.self_attn.o_proj.weight.data.mul_(2)


def scaling(sublayer: str, theirs: str) -> dict[str, str]:
    """ZAYA's four vectors of one addition."""
    names = {}
    for slot, stream in (("out", "hidden_states"), ("skip", "residual")):
        names |= {f"{sublayer}.{slot}.0.{ours}": f"{theirs}.{stream}_{kind}" for ours, kind in AFFINE.items()}
    return names


PORTS = {
    "beam": Port(
        "BeamForCausalLM",
        {
            "layer_types": ["sliding_attention"] * LAYERS, "mlp_layer_types": ["dense"] * LAYERS,
            "rope_parameters": {"sliding_attention": ROPE, "full_attention": None}, "head_dim": 8,
            "final_logit_softcapping": None, "num_experts": 8, "moe_intermediate_size": 8,
        },
        {
            **ATTENTION, **FFN, **AROUND,
            "attn.branch.q_norm.0.weight": "self_attn.q_norm.weight",
            "attn.branch.k_norm.0.weight": "self_attn.k_norm.weight",
            "attn.out.0.weight": "post_attention_layernorm.weight",
            "ffn.out.0.weight": "post_feedforward_layernorm.weight",
        },
        neutral=open_beam,
        left_out=("self_attn.gate_proj.weight", "self_attn.gate_bias"),
    ),
    "muse_spark": Port(
        "MuseSparkTextModel",
        {
            "layer_types": ["full_attention"] * LAYERS, "mlp_layer_types": ["dense"] * LAYERS, "head_dim": 8,
            "rope_parameters": ROPE, "layer_rope_theta": [10000.0] * LAYERS, "post_norm_eps": EPS,
        },
        {
            **ATTENTION, **FFN, **AROUND,
            "attn.add.weight": "post_attention_residual_gate.gate",
            "ffn.out.0.weight": "post_feedforward_layernorm.weight",
            "ffn.add.weight": "post_feedforward_residual_gate.gate",
        },
        neutral=half_open_muse,
        left_out=("self_attn.gate_proj.weight",),
        centered=("input_layernorm.weight", "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"),
    ),
    "zaya": Port(
        "ZayaForCausalLM",
        {"head_dim": 8, "num_experts": 2, "moe_intermediate_size": 8, "router_hidden_size": 8},
        {
            **PRE,
            **scaling("attn", "post_attention_residual_scale"),
            **scaling("ffn", "post_mlp_residual_scale"),
        },
        {f"embed_norm.0.{ours}": f"input_hidden_states_{theirs}" for ours, theirs in AFFINE.items()},
        attention=False,
        ffn=False,
    ),
    "minicpm": Port(
        "MiniCPM3ForCausalLM",
        {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8},
        {**FFN, **PRE},
        attention=False,
    ),
}  # fmt: skip


class OurAttention(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, hidden_states: Tensor, **more: Any) -> tuple[Tensor, None]:
        return self.branch(hidden_states), None


class OurFFN(nn.Module):
    """In the place of ZAYA's experts, which hand the router's state on from layer to layer."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, hidden_states: Tensor, router: None) -> tuple[Tensor, None]:
        return self.branch(hidden_states), router


def filled(port: Port, ours: GPT) -> nn.Module:
    """Theirs with our weights; every parameter of theirs has its counterpart or is neutral."""
    cls = getattr(transformers, port.cls)
    config = cls.config_class(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, rms_norm_eps=EPS,
        num_attention_heads=HEADS, num_key_value_heads=KV, attn_implementation="eager", tie_word_embeddings=True,
        pad_token_id=None, bos_token_id=None, eos_token_id=None, **port.config,
    )  # fmt: skip
    theirs = cls(config).eval()
    stack = getattr(theirs, "model", theirs)
    for layer, block in zip(stack.layers, ours.blocks, strict=True):
        if not port.attention:
            layer.self_attn = OurAttention(block.attn.branch)
        if not port.ffn:
            layer.mlp = OurFFN(block.ffn.branch)
    names = {"embed.weight": "embed_tokens.weight", "final_norm.0.weight": "norm.weight", **port.ends}
    for layer in range(LAYERS):
        names |= {f"blocks.{layer}.{mine}": f"layers.{layer}.{other}" for mine, other in port.layer.items()}
    source, target = dict(ours.named_parameters()), dict(stack.named_parameters())
    neutral = {f"layers.{layer}.{name}" for layer in range(LAYERS) for name in port.left_out}
    assert {name for name in target if ".branch." not in name} == {*names.values()} | neutral
    assert port.attention is False or {*source} == {*names}
    for mine, other in names.items():
        centered = other.partition(".")[2].partition(".")[2] in port.centered
        target[other].data.copy_(source[mine].data - (1.0 if centered else 0.0))
    for layer in stack.layers:
        port.neutral(layer)
    return theirs


def logits_of(port: Port, theirs: Any) -> Tensor:
    if port.cls.endswith("ForCausalLM"):
        return theirs(TOKENS).logits
    # The language model of Muse Spark has no head of its own.
    hidden = theirs(TOKENS).last_hidden_state
    return math.sqrt(256 / theirs.config.hidden_size) * hidden @ theirs.embed_tokens.weight.T


def difference(placement: str, *overrides: str) -> float:
    """Of the logits, and of the gradient of the embedding, which is reached through every addition; both over the
    largest entry."""
    port = PORTS[placement]
    with preset_comparison.default_float64(), preset_comparison.float32_is_float64():
        ours = stirred(network(placement, *overrides))
        theirs = filled(port, ours)
        logits = (ours(TOKENS), logits_of(port, theirs))
        direction = torch.randn(logits[0].shape, generator=torch.Generator().manual_seed(3))
        embeddings = (ours.embed.weight, getattr(theirs, "model", theirs).embed_tokens.weight)
        gradients = [
            torch.autograd.grad((out * direction).sum(), weight)[0]
            for out, weight in zip(logits, embeddings, strict=True)
        ]
    pairs = (logits, gradients)
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


@pytest.mark.parametrize("placement", PORTS)
def test_placement_is_its_port_s(placement, evidence):
    largest = difference(placement)
    assert largest < 1e-12
    port = PORTS[placement]
    how = "without its gate" if port.attention else "around our attention" if port.ffn else "around our branches"
    evidence("placement", placement, library=f"transformers {port.cls} {how}, {largest:.0e}")


@pytest.mark.parametrize(
    ("placement", "override"),
    [
        ("beam", "placement.attn.skip=c(sqrt(s/(s+1.00001)))"),
        ("beam", "placement.attn.q='n | c(1.00001)'"),
        ("muse_spark", "placement.attn.q='n(affine=no) | c(5.47301)'"),
        ("muse_spark", "placement.attn.ctx='n(affine=no, scope=full)'"),
        ("muse_spark", "placement.ffn.mix=gate(0.30001)"),
        ("muse_spark", "placement.ffn.out='v(1) | n(affine=no) | c(1.00001)'"),
        ("zaya", "placement.ffn.skip='aff | c(1.00001)'"),
        ("zaya", "placement.embed='aff | c(1.00001)'"),
        ("minicpm", "placement.ffn.out=c(1.40001/sqrt(L))"),
        ("minicpm", "placement.embed=c(12.0001)"),
        ("minicpm", "placement.logits=c(256.001/d)"),
    ],
)
def test_a_constant_that_differs_in_its_sixth_digit_shows(placement, override):
    assert difference(placement, override) > 1e-9


def test_muse_spark_s_scale_of_the_logits_is_that_of_its_width():
    config = transformers.MuseSparkTextConfig()
    assert config.output_multiplier == pytest.approx(math.sqrt(256 / config.hidden_size), rel=1e-12)
