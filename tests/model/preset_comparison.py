"""The same weights in a preset and in its class of `transformers`: both built small, one filled from the other."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import transformers
from preset_names import D_FF, HEADS, LENGTH, VOCAB, D, Name, Released, View
from preset_released import RELEASED
from torch import Tensor, nn

from normlab import build_model, compose
from normlab.config.schema import Config


@functools.cache
def released_config(preset: str) -> Config:
    """The preset at its released size."""
    return compose([f"preset={preset}", f"train.seq_len={RELEASED[preset].length}"])


def small(preset: str, *overrides: str) -> Config:
    """A preset with every one of its features and few parameters."""
    model = released_config(preset).model
    groups = HEADS if model.kv_heads == model.n_heads else min(2, model.kv_heads)
    return compose([
        f"preset={preset}", f"model.d_model={D}", f"model.n_heads={HEADS}", f"model.n_kv_heads={groups}",
        f"model.d_ff={D_FF}", "model.n_layers=3", f"model.vocab_size={VOCAB}", f"train.seq_len={LENGTH}",
        *RELEASED[preset].ours, *overrides,
    ])  # fmt: skip


def their_config(preset: str, **more: Any) -> Any:
    """The library's configuration of the release; eager attention, and no padding token, whose row has no gradient."""
    released = RELEASED[preset]
    name = released.config_cls or released.cls.replace("ForCausalLM", "Config").replace("LMHeadModel", "Config")
    defaults = {
        "attn_implementation": "eager", "experts_implementation": "eager",
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    return getattr(transformers, name)(**{**defaults, **released.config, **more})


def their_network(config: Any, preset: str) -> nn.Module:
    return getattr(transformers, RELEASED[preset].cls)(config)


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference over the largest entry; of gradients, the largest of that over parameters."""

    logits: float
    gradients: float


@functools.cache
def compare(preset: str, *overrides: str) -> Difference:
    """Fill ours from theirs, with random gains, and compare logits and the gradient of every parameter in float64."""
    config, released = small(preset, *overrides), RELEASED[preset]
    model = config.model
    of_ours = {**model.model_dump(), "d_head": model.d_head, "kv_heads": model.kv_heads, "length": LENGTH}
    sizes = {theirs: of_ours[ours] for ours, theirs in released.sizes.items()}
    tokens = torch.randint(0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with default_float64():
        mine = build_model(config)
        with float32_is_float64():
            other = their_network(their_config(preset, **{**sizes, **released.tiny}), preset).eval()
            generator = torch.Generator().manual_seed(0)
            for parameter in other.parameters():
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            logits = other(tokens).logits

    source = dict(other.named_parameters())
    pairs = {name: _theirs(name, released, source) for name, _ in mine.named_parameters()}
    assert {name for name, _ in pairs.values()} == set(source), "a parameter of theirs has no counterpart"
    for name, parameter in mine.named_parameters():
        there, view = pairs[name]
        assert parameter.shape == view(source[there]).shape, name
        parameter.data.copy_(view(source[there].data))

    ours = mine(tokens)
    ours.square().mean().backward()
    logits.square().mean().backward()
    theirs = {name: view(_gradient(source[there])) for name, (there, view) in pairs.items()}
    # A gradient that is zero on paper, such as that of a bias of keys without RoPE, is rounding on both sides.
    floor = 1e-3 * max(gradient.abs().max().item() for gradient in theirs.values())
    gradients = [_relative(_gradient(p), theirs[name], floor) for name, p in mine.named_parameters()]
    return Difference(_relative(ours, logits), max(gradients))


@contextlib.contextmanager
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def float32_is_float64() -> Iterator[None]:
    """Their norms, RoPE and softmax compute in float32 whatever the weights are: here in float64, so that a constant
    that differs in its eighth digit shows."""
    double = torch.float64
    with (
        patch.object(torch, "float32", double),
        patch.object(torch, "float", double),
        patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


def _theirs(name: str, released: Released, source: dict[str, Tensor]) -> tuple[str, View]:
    """Their parameter, and the view of it, that is ours of that name."""
    module, _, kind = name.rpartition(".")
    prefix = ""
    if module in released.stack:
        found: Name = released.stack[module]
    else:
        _, layer, inner = module.split(".", 2)
        found, prefix = released.layer[inner], f"{released.layers}.{layer}."
    there, view = (found, lambda x: x) if isinstance(found, str) else found
    full = f"{prefix}{there}"
    return (full if full in source else f"{full}.{kind}"), view


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _relative(ours: Tensor, theirs: Tensor, floor: float = 0.0) -> float:
    return (ours - theirs).abs().max().item() / max(theirs.abs().max().item(), floor)
