"""Units that no longer work: zero, switched off, saturated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from normlab.observe.layers.registry import probe

ZERO = 1e-10  # an output of at most this size counts as zero: nanotron
LOW = -3.0  # ours: SiLU and GELU pass less than 5 % of what lies below
OFF = 0.999  # ours: of a smooth unit's tokens, more than this share lie below
TANH = 2.0  # ours: tanh(2) = 0.96


@dataclass(frozen=True)
class UnitsView:
    """What enters an FFN's activation function, that of the gate where there is one.

    Of a sparse FFN a unit is one of one expert's, and a row one assignment of a token to an expert.
    """

    before: Tensor  # (rows, d_ff)
    activation: Callable[[Tensor], Tensor]
    gated: bool
    expert: Tensor | None = None  # (rows,), of a sparse FFN
    experts: int = 1

    @cached_property
    def rectifies(self) -> bool:
        """Whether the activation is zero below zero: a ReLU's kind. Asked of the function, on the host."""
        return self.activation(torch.tensor(-1.0)).item() == 0.0

    @cached_property
    def off(self) -> Tensor:
        """(rows, d_ff): where a unit is zero, or of a smooth kind below -3."""
        return self.activation(self.before).abs() <= ZERO if self.rectifies else self.before < LOW

    @cached_property
    def off_share(self) -> Tensor:
        """(experts, d_ff): of each unit, the share of its rows in which it is off; nan of an expert without rows."""
        off = self.off.float()
        if self.expert is None:
            return off.mean(0, keepdim=True)
        sums = off.new_zeros(self.experts, off.size(1)).index_add_(0, self.expert, off)
        rows = off.new_zeros(self.experts).index_add_(0, self.expert, torch.ones_like(off[:, 0]))
        return sums / rows[:, None]


@dataclass(frozen=True)
class TanhView:
    """What enters a DyT's tanh, alpha * x, of any shape."""

    argument: Tensor


def _known(statistic: Tensor, of: Tensor) -> Tensor:
    """nan where an input is not finite: a comparison would count it as the one or the other."""
    return torch.where(of.isfinite().all(), statistic, math.nan)


@probe("zero_fraction", of=UnitsView)
def zero_fraction(view: UnitsView) -> Tensor | None:
    """Of a ReLU's kind: the share of activations that are zero (at most 1e-10), as nanotron measures it."""
    return _known(view.off.float().mean(), view.before) if view.rectifies else None


@probe("low_fraction", of=UnitsView)
def low_fraction(view: UnitsView) -> Tensor | None:
    """Of GELU and SiLU: the share of inputs below -3, where less than 5 % passes. The threshold is ours."""
    return None if view.rectifies else _known(view.off.float().mean(), view.before)


@probe("dead_units", of=UnitsView)
def dead_units(view: UnitsView) -> Tensor:
    """The share of units that do nothing: zero for every token of the batch; of GELU and SiLU, whose zero is soft, an
    input below -3 for more than 99.9 % of them (ours). Experts that got no token are left out."""
    dead = view.off_share >= 1.0 if view.rectifies else view.off_share > OFF
    return _known(dead.sum() / view.off_share.isfinite().sum(), view.before)


@probe("gate_saturation", of=UnitsView)
def gate_saturation(view: UnitsView) -> Tensor | None:
    """Of a SwiGLU's or GeGLU's gate: the share of inputs beyond -3 or 3, where the gate is shut or open to 5 % and
    learns little. The thresholds are ours."""
    if view.rectifies or not view.gated:
        return None
    return _known((view.before.abs() > -LOW).float().mean(), view.before)


@probe("dyt_saturation", of=TanhView)
def dyt_saturation(view: TanhView) -> Tensor:
    """The share of |alpha x| > 2, where DyT's tanh (arXiv 2503.10622) is flat. The threshold is ours.

    Mean over the block's DyTs; norms outside the blocks are not looked at.
    """
    return _known((view.argument.abs() > TANH).float().mean(), view.argument)
