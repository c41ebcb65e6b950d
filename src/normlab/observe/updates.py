"""What one optimizer step does to the weights, and whether Adam's second moments follow the gradient.

Per block the matrices count: a gain is of another size than they, and a placement with more norms has more gains.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from normlab.observe.gradients import ParameterMap, dots, norms
from normlab.observe.shards import local

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Row = dict[str, float | list[float] | dict[str, float]]

_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
_NEAR = 10.0  # times Adam's eps; the factor is ours


class _Moments(NamedTuple):
    """A parameter's place in Adam's state."""

    place: int  # of the parameter among all
    second: Tensor  # v, as it is after the step
    correction: Tensor  # 1 - beta2^t: v over it is without the bias of its start at zero
    eps: float


class StepProbe:
    """Measures one optimizer step: ``before`` it, ``after`` it while the gradients are still there, then ``read``.

    Nothing in the first two waits for the device. From ``before`` to the end of ``after`` the probe holds one copy of
    the weights, 4 bytes per parameter in float32; everything else is computed in its place.
    """

    def __init__(self, parameters: ParameterMap) -> None:
        self.map = parameters

    @torch.no_grad()
    def before(self) -> None:
        """Copy the weights."""
        self._copy = [weight.clone() for weight in self._weights()]

    @torch.no_grad()
    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """Compare with the copy. ``optimizer`` has made its step; of its state, only Adam's second moments are read."""
        weights, step = self._weights(), self._copy
        before, end = self._norms(step), self._norms(weights)
        torch._foreach_sub_(step, weights)  # W - W', which is -dW
        moved = self._norms(step)
        # W = (1 + c) W' + e with e perpendicular to W', so tan(angle) = ||e|| / ((1 + c) ||W'||). An arc cosine would
        # lose every angle below 3e-4, whose cosine is 1 in float32.
        c = dots(step, weights, self.map.group) / end.square()
        torch._foreach_addcmul_(step, weights, list((-c).unbind()))
        angle = torch.atan2(self._norms(step), (1 + c) * end)
        rates = [group["lr"] for group in optimizer.param_groups]
        self._lr = [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]  # the next step writes there
        self._groups = [group["params"] for group in optimizer.param_groups]
        self._moments = self._moments_of(optimizer)
        self._found = torch.cat([before, moved, angle, *(self._follow() if self._moments else [])])
        del self._copy

    def _weights(self) -> list[Tensor]:
        return local(p.detach() for p in self.map.parameters)

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        return norms(tensors, self.map.group)

    def _moments_of(self, optimizer: torch.optim.Optimizer) -> list[_Moments]:
        """Of every parameter that Adam just moved; none for an optimizer without second moments."""
        index = {p: i for i, p in enumerate(self.map.parameters)}
        found: list[_Moments] = []
        for group in optimizer.param_groups:
            states = [(index[p], optimizer.state.get(p, {})) for p in group["params"] if p.grad is not None]
            states = [(i, state) for i, state in states if {"exp_avg_sq", "step"} <= state.keys()]
            if states:
                # In double: 1 - 0.999 of float32 is 1e-5 off.
                steps = torch.stack([state["step"] for _, state in states]).double()
                corrections = (1 - group["betas"][1] ** steps).float().unbind()
                seconds = local(state["exp_avg_sq"] for _, state in states)
                parts = zip(states, seconds, corrections, strict=True)
                found += [_Moments(i, second, correction, group["eps"]) for (i, _), second, correction in parts]
        return found

    def _follow(self) -> list[Tensor]:
        """Norms of g / max(sqrt(v), eps), of g, and of what is 1 where sqrt(v) <= eps and 0 elsewhere; each (n,)."""
        gradients = local(cast(Tensor, self.map.parameters[each.place].grad) for each in self._moments)
        ratio = self._denominators()
        torch._foreach_reciprocal_(ratio)
        torch._foreach_mul_(ratio, gradients)
        relative = self._norms(ratio)
        dead = self._denominators()
        torch._foreach_sub_(dead, [each.eps for each in self._moments])
        torch._foreach_sign_(dead)
        torch._foreach_sub_(dead, 1)  # its sum of squares is a count
        return [relative, self._norms(gradients), self._norms(dead)]

    def _denominators(self) -> list[Tensor]:
        """max(sqrt(v), eps), v without its bias, in the place of the copy."""
        scratch = [self._copy[each.place] for each in self._moments]
        torch._foreach_copy_(scratch, [each.second for each in self._moments])
        torch._foreach_div_(scratch, [each.correction for each in self._moments])
        torch._foreach_sqrt_(scratch)
        torch._foreach_clamp_min_(scratch, [each.eps for each in self._moments])
        return scratch

    def read(self) -> Row:
        """The step's row, in one transfer. dW holds all that happened between before and after, weight decay too; W is
        the weight before. nan where a quotient has no value; a matrix that is not finite spoils its own block and kind.

        By block, (L,):
            update_ratio   ||dW|| / ||W||; around 1e-3 is the rule of thumb (CS231n)
            update_angle   the median over the block's matrices of the angle between W and W + dW, in radians: what a
                           step does to a matrix whose size does not matter, Kosson et al. 2024 (arXiv 2410.23922)
            update_rms_lr  RMS(dW) / lr: at most about 1 for Adam, towards 0 where eps rules
            weight_rms     RMS(W)
        By kind of matrix, and of all that is in norms and in mixes of streams, a dict:
            weight_rms_group      RMS(W)
        Where the optimizer keeps Adam's v (here without its bias), with g as Adam saw it, which is after clipping:
            adam_rms_group        sqrt(mean(g^2 / max(v, eps^2))): above 1 where v lags behind the gradient. RMS_t of
                                  StableAdamW, Wortsman et al. 2023 (arXiv 2304.13013)
            grad_over_eps_group   RMS(g) / eps: towards 1 the updates vanish, Wortsman et al. 2023 (arXiv 2309.14322)
            dead_moments_group    share of elements with sqrt(v) <= eps
        Over all matrices:
            update_log10   10, 50 and 90 % quantiles of log10(||dW|| / ||W||)
            grad_near_eps  share of the matrices with RMS(g) < 10 eps; where there is v
        """
        tally, n = _Tally(self.map), len(self.map.parameters)
        found = np.array(self._found.tolist())
        weight, moved, angle = found[: 3 * n].reshape(3, n)
        of = {p: float(rate) for rate, group in zip(self._lr, self._groups, strict=True) for p in group}
        lr = np.array([of.get(p, np.nan) for p in self.map.parameters])
        with np.errstate(all="ignore"):
            row: Row = {
                "update_ratio": np.sqrt(tally.by_block(moved**2) / tally.by_block(weight**2)).tolist(),
                "update_angle": tally.medians(angle, weight != 0),
                "update_rms_lr": np.sqrt(tally.by_block((moved / lr) ** 2) / tally.by_block(tally.sizes)).tolist(),
                "update_log10": _quantiles(np.log10(moved / weight)[tally.is_matrix]),
                "weight_rms": np.sqrt(tally.by_block(weight**2) / tally.by_block(tally.sizes)).tolist(),
                "weight_rms_group": tally.rms_by_kind(weight**2, np.arange(n)),
            }
            return row | (self._read_adam(tally, found[3 * n :]) if self._moments else {})

    def _read_adam(self, tally: _Tally, found: Array) -> Row:
        relative, gradient, dead = found.reshape(3, -1)
        index = np.array([each.place for each in self._moments])
        over_eps = gradient / np.array([each.eps for each in self._moments])
        sizes, matrices = tally.sizes[index], tally.is_matrix[index]
        near = over_eps / np.sqrt(sizes) < _NEAR
        return {
            "adam_rms_group": tally.rms_by_kind(relative**2, index),
            "grad_over_eps_group": tally.rms_by_kind(over_eps**2, index),
            "dead_moments_group": tally.means_by_kind(dead**2, index),
            "grad_near_eps": float(near[matrices].mean()) if matrices.any() else float("nan"),
        }


class _Tally:
    """Sums of per-parameter quantities on the host, in float64."""

    def __init__(self, parameters: ParameterMap) -> None:
        self.n_layers, self.kinds = parameters.n_layers, parameters.kinds
        self.block, self.kind = np.array(parameters.block), np.array(parameters.kind)
        self.is_matrix = np.array(parameters.is_matrix)
        self.sizes = np.array([p.numel() for p in parameters.parameters], dtype=np.float64)
        # A bias, and the scale of a reparametrised matrix, are of the matrix's kind; it is not they that are asked for.
        self._of_kind = self.is_matrix | np.array([self.kinds[k] in ("norm", "residual") for k in parameters.kind])

    def by_block(self, values: Array) -> Array:
        """Sums (L,) over the matrices of each block, of (P,)."""
        weights = values[self.is_matrix]
        sums: Array = np.bincount(self.block[self.is_matrix], weights, self.n_layers + 1).astype(np.float64)
        return sums[: self.n_layers]

    def medians(self, values: Array, where: NDArray[np.bool_]) -> list[float]:
        """(L,) over the matrices of each block for which ``where`` holds."""
        blocks = [values[self.is_matrix & where & (self.block == block)] for block in range(self.n_layers)]
        return [float(np.median(block)) if len(block) else math.nan for block in blocks]

    def means_by_kind(self, sums: Array, index: Index) -> dict[str, float]:
        """Of sums (n,) over the elements of the parameters ``index``, the mean of an element, for each kind there."""
        chosen = self._of_kind[index]
        kinds = self.kind[index][chosen]
        total = np.bincount(kinds, sums[chosen], len(self.kinds))
        size = np.bincount(kinds, self.sizes[index][chosen], len(self.kinds))
        return {kind: float(total[k] / size[k]) for k, kind in enumerate(self.kinds) if size[k]}

    def rms_by_kind(self, squares: Array, index: Index) -> dict[str, float]:
        """The same of sums of squares, and the root of it."""
        return {kind: math.sqrt(mean) for kind, mean in self.means_by_kind(squares, index).items()}


def _quantiles(values: Array) -> dict[str, float]:
    finite = values[np.isfinite(values)]  # a matrix that did not move has no logarithm
    return {name: float(np.quantile(finite, q)) if len(finite) else math.nan for name, q in _QUANTILES.items()}
