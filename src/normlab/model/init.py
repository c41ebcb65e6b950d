"""Fill a network's parameters from an init rule, each tensor from a seed of its own.

Seeding by (seed, parameter name) makes the tensors that two placements share start bit-identical: adding a norm
does not shift a random stream. Everything is drawn on the CPU, so a GPU run starts from the same numbers.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from normlab.placement.init import InitRule, init_rule, std_and_gain
from normlab.placement.schema import InitSpec


@torch.no_grad()
def initialise(network: nn.Module, init: str | InitSpec, n_layers: int, d_model: int, seed: int) -> None:
    """Set every matrix; norm gains and scales keep the value that their slot gave them; biases stay zero."""
    rule = init_rule(init)
    for name, parameter in network.named_parameters():
        *path, matrix, kind = name.split(".")
        if kind == "bias":
            parameter.zero_()
        elif parameter.ndim == 2:
            # blocks.<index>.attn.branch.<matrix>.weight
            layer = int(path[path.index("blocks") + 1]) + 1 if "blocks" in path else None
            std = _std(rule, matrix, parameter, layer, n_layers, d_model)
            parameter.copy_(_draw(parameter, rule.cutoff, f"{seed}/{name}") * std)


def _std(rule: InitRule, matrix: str, parameter: Tensor, layer: int | None, n_layers: int, d_model: int) -> float:
    std, gain = std_and_gain(rule, matrix, layer, n_layers, d_model)
    if std is None:
        std = d_model**-0.5 if matrix in ("embed", "pos") else math.sqrt(2 / sum(parameter.shape))
    return std * gain


def _draw(like: Tensor, cutoff: float | None, key: str) -> Tensor:
    """Standard normal numbers in the shape of ``like``, cut at ``cutoff``."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1
    generator = torch.Generator().manual_seed(seed)
    if cutoff is None:
        return torch.randn(like.shape, generator=generator)
    draw = torch.empty(like.shape, dtype=torch.float32)
    return nn.init.trunc_normal_(draw, 0.0, 1.0, -cutoff, cutoff, generator=generator)
