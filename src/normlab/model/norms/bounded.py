"""Element-wise bounded functions that stand in for a norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normlab.model.norms.precision import widened
from normlab.model.norms.registry import norm


class _Bounded(nn.Module):
    """What the types of this file share: scalars that are learned, or constants where ``affine`` is off."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, width: int, affine: bool, gain: float, bias: bool, **scalars: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), gain)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine and bias else None
        for name, value in scalars.items():
            if affine:
                self.register_parameter(name, nn.Parameter(torch.full((1,), value)))
            else:
                self.register_buffer(name, torch.full((1,), value), persistent=False)

    def scaled(self, wide: Tensor) -> Tensor:
        if self.weight is not None:
            wide = wide * self.weight.to(wide.dtype)
        return wide if self.bias is None else wide + self.bias.to(wide.dtype)


@norm("dyt")
class DyT(_Bounded):
    """``gain * tanh(alpha * x) + bias`` with a learned scalar alpha, Zhu et al. 2025 (arXiv 2503.10622).

    No statistic: the scale of the input does matter. As in jiachenzhu/DyT: gain starts at 1, bias at 0, alpha at 0.5.
    Their LLaMA recipe is another one: no bias, alpha for attention / FFN and final norm 0.8 / 0.2 at 7B, 0.6 / 0.15 at
    13B, 0.2 / 0.05 at 34B and 70B, and a learned scalar, sqrt(d) at first, on the embedding (`embed: s(sqrt(d))`).
    """

    alpha: Tensor

    def __init__(
        self, width: int, eps: float, affine: bool = True, gain: float = 1.0, alpha: float = 0.5, bias: bool = True
    ) -> None:
        super().__init__(width, affine, gain, bias, alpha=alpha)

    def tanh_argument(self, x: Tensor) -> Tensor:
        """``alpha * x``, which shows how far the tanh is saturated."""
        wide = widened(x)
        return self.alpha.to(wide.dtype) * wide

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(torch.tanh(self.tanh_argument(x))).to(x.dtype)


@norm("derf")
class Derf(_Bounded):
    """``gain * erf(alpha * x + shift) + bias`` with learned scalars alpha and shift: Derf (arXiv 2512.10938).

    Chen et al. 2025, as in zlab-princeton/Derf: gain starts at 1, bias and shift at 0, alpha at 0.5. Its GPT-2 recipe
    starts alpha at 1 and multiplies the embedding by a learned scalar, sqrt(d) at first (`embed: s(sqrt(d))`).
    """

    alpha: Tensor
    shift: Tensor

    def __init__(self, width: int, eps: float, affine: bool = True, gain: float = 1.0, alpha: float = 0.5) -> None:
        super().__init__(width, affine, gain, True, alpha=alpha, shift=0.0)

    def forward(self, x: Tensor) -> Tensor:
        wide = widened(x)
        return self.scaled(torch.erf(self.alpha.to(wide.dtype) * wide + self.shift.to(wide.dtype))).to(x.dtype)


@norm("bhyt_star")
class BHyTStar(_Bounded):
    """``gain * tanh(lambda * x / (kappa * sqrt(mean(x^2) + eps)))``: BHyT*, Byun et al. 2025 (arXiv 2601.09719).

    As in MLAI-Yonsei/BHyT: gain starts at 1, kappa is 10, eps 1e-6, lambda is a learned scalar (option ``lam``).
    Surprises there: lambda has a default of 2 and is swept per site from 1 to 5; with ``learnable_lam=False`` it is
    still a ``nn.Parameter`` and trains all the same. With lambda/kappa = 0.2 the output's RMS is about 0.2.
    BHyT without the star takes its second variance from the first norm's, across slots, and is left out.
    """

    lam: Tensor

    def __init__(
        self, width: int, eps: float, affine: bool = True, gain: float = 1.0, lam: float = 2.0, kappa: float = 10.0
    ) -> None:
        super().__init__(width, affine, gain, False, lam=lam)
        self.eps, self.kappa = eps, kappa

    def forward(self, x: Tensor) -> Tensor:
        wide = widened(x)
        slope = self.lam.to(wide.dtype) * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) / self.kappa
        return self.scaled(torch.tanh(slope * wide)).to(x.dtype)
