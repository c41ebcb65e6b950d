"""A slot's chain of operations as a module."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from normlab.config.schema import NormConfig
from normlab.model.norms import build_norm
from normlab.placement.ops import Norm
from normlab.placement.ops import Scale as ScaleOp
from normlab.placement.resolve import ResolvedOp


class Slot(nn.Sequential):
    """The operations of one slot in their order. An empty slot is the identity.

    ``decay`` says of each operation whether its parameters decay; None leaves it to the optimizer's setting.
    """

    def __init__(self, ops: Iterable[ResolvedOp], width: int, norm: NormConfig, n_heads: int = 1) -> None:
        """``width``: channels of the last axis. ``n_heads`` > 1 where the input is (B, T, heads, width)."""
        super().__init__()
        for resolved in ops:
            match resolved.op:
                case Norm(affine=affine, scope=scope) as op:
                    whole = scope == "full" and n_heads > 1
                    module = build_norm(norm, width * n_heads if whole else width, affine, resolved.value)
                    module.decay = op.decay  # type: ignore[assignment]
                    self.append(AcrossHeads(module) if whole else module)
                case ScaleOp(kind=kind):
                    self.append(Scale(kind, resolved.value, width))


class AcrossHeads(nn.Module):
    """A norm over all heads together: (B, T, H, d_head) is normalised as (B, T, H * d_head)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(-2)).view_as(x)


class Scale(nn.Module):
    """``c``: a constant factor. ``s``: a learned scalar. ``v``: a learned vector over the channels."""

    weight: Tensor

    def __init__(self, kind: str, value: float, width: int) -> None:
        super().__init__()
        if kind == "c":
            # A tensor and not a number, which a compiler would burn into code of its own for every layer.
            self.register_buffer("weight", torch.tensor(value), persistent=False)
        else:
            self.weight = nn.Parameter(torch.full((width,) if kind == "v" else (1,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.to(x.dtype)
