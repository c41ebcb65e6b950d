"""Norm types: what ``n`` in a placement stands for. A new one is a class with ``@norm("name")``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.schema import NormConfig
from normlab.errors import UserError, nearest


class NormType(Protocol):
    """How a norm is built: normalised width, epsilon, whether it has parameters, initial gain."""

    def __call__(self, width: int, eps: float, affine: bool, gain: float) -> nn.Module: ...


NORMS: dict[str, NormType] = {}


def norm(name: str) -> Callable[[NormType], NormType]:
    """Register a norm type under the name that ``norm=NAME`` finds."""

    def register(cls: NormType) -> NormType:
        if name in NORMS:
            raise ValueError(f"norm '{name}' is registered twice")
        NORMS[name] = cls
        return cls

    return register


def build_norm(config: NormConfig, width: int, affine: bool = True, gain: float = 1.0) -> nn.Module:
    """The norm of a run over the last ``width`` channels. Raises UserError for an unknown type."""
    if config.name not in NORMS:
        raise UserError(f"unknown norm '{config.name}'; {nearest(config.name, NORMS)}")
    return NORMS[config.name](width, config.eps, affine, gain)


@norm("rmsnorm")
class RMSNorm(nn.Module):
    """``gain * x / sqrt(mean(x^2) + eps)``, Zhang and Sennrich 2019 (arXiv 1910.07467).

    As in Llama, OLMo and the official HybridNorm code: statistics in float32 at least, then back to the input's
    type, then times the gain.
    """

    def __init__(self, width: int, eps: float, affine: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((width,), gain)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        y = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
        return y if self.weight is None else y * self.weight.to(y.dtype)


@norm("layernorm")
class LayerNorm(nn.Module):
    """``gain * (x - mean) / sqrt(var + eps) + bias``, Ba et al. 2016 (arXiv 1607.06450)."""

    has_bias = True

    def __init__(self, width: int, eps: float, affine: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.full((width,), gain)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine and self.has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return F.layer_norm(wide, (self.width,), self.weight, self.bias, self.eps).to(x.dtype)


@norm("layernorm_nobias")
class LayerNormNoBias(LayerNorm):
    """LayerNorm whose shift is always zero (Cohere Command, MPT)."""

    has_bias = False


@norm("none")
class NoNorm(nn.Module):
    """The identity: a placement without its norms."""

    def __init__(self, width: int, eps: float, affine: bool = True, gain: float = 1.0) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
