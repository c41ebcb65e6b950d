"""How large the residual stream is, and how it is distributed: around each sublayer, and where it leaves a block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from normlab.observe.layers.registry import probe

MASSIVE, TIMES_MEDIAN = 100.0, 1000.0  # Sun et al. 2024 (arXiv 2402.17762), section 2
_TOKENS = 1024  # of a sequence, for what costs their third power


@dataclass(frozen=True)
class SublayerView:
    """One residual sublayer during a forward pass; all (B, T, d), the stream (streams, B, T, d) under a wiring."""

    x: Tensor  # the stream that enters
    branch: Tensor  # what is added: out(F(pre(x)))
    sum: Tensor  # after the addition, before a post-norm
    out: Tensor  # the stream that leaves


@dataclass(frozen=True)
class StreamView:
    """The stream that leaves a block: (B, T, d), or (streams, B, T, d) under a wiring.

    Streams may differ in scale by far (one normed, one not), so each is looked at by itself, as a sequence more.
    """

    state: Tensor

    @cached_property
    def vectors(self) -> Tensor:
        """(B, T, d), under a wiring (streams * B, T, d); in float32."""
        return self.state.float().flatten(0, -3)

    @cached_property
    def magnitudes(self) -> Tensor:
        """|x| of every entry of a sequence, (B, T * d)."""
        return self.vectors.abs().flatten(1)

    @cached_property
    def largest(self) -> Tensor:
        """The three largest magnitudes of all sequences, (3,)."""
        return self.magnitudes.flatten().topk(3).values

    @cached_property
    def medians(self) -> Tensor:
        """The median magnitude of each sequence, of an even number the lower one: (B,)."""
        return self.magnitudes.median(-1).values

    @cached_property
    def variances(self) -> Tensor:
        """Of each token, over its channels, divided by d: (B, T)."""
        return (self.vectors - self.vectors.mean(-1, keepdim=True)).square().mean(-1)

    @cached_property
    def squared_singular_values(self) -> Tensor:
        """Of each sequence's matrix of its first 1024 tokens, (B, min(T, d)); nan where an entry is not finite.

        The eigenvalues of X X^T or X^T X, whichever is smaller, in float64: their error is 1e-16 of the largest.
        """
        x = self.vectors[:, :_TOKENS].double()
        gram = x @ x.mT if x.size(1) <= x.size(2) else x.mT @ x
        finite = gram.isfinite().all(-1).all(-1)[:, None]
        eigenvalues = torch.linalg.eigvalsh(torch.where(finite[..., None], gram, 0.0)).clamp(min=0)
        return torch.where(finite, eigenvalues, torch.nan)


def _rms(x: Tensor) -> Tensor:
    # summed in float64: a stream of 1e20 explodes, but it is finite, and so is its RMS
    return torch.linalg.vector_norm(x, dtype=torch.float64) / x.numel() ** 0.5


@probe("rms_in", of=SublayerView)
def rms_in(view: SublayerView) -> Tensor:
    """Root mean square of the residual stream before the sublayer, over batch, time, channels and streams."""
    return _rms(view.x)


@probe("rms_branch", of=SublayerView)
def rms_branch(view: SublayerView) -> Tensor:
    """Root mean square of what the sublayer adds, out(F(pre(x))).

    Where a mix or a wiring scales the branch as it is added (nGPT's lerp, Muse Spark's gate, hyper-connections), that
    scale is not in it.
    """
    return _rms(view.branch)


@probe("rms_sum", of=SublayerView)
def rms_sum(view: SublayerView) -> Tensor:
    """Root mean square after the addition and before a post-norm, behind which it would be 1 by construction.

    Under a wiring the norms of its streams are part of the addition: the state that leaves.
    """
    return _rms(view.sum)


@probe("rms_out", of=SublayerView)
def rms_out(view: SublayerView) -> Tensor:
    """Root mean square of the stream that leaves the sublayer."""
    return _rms(view.out)


@probe("branch_ratio", of=SublayerView)
def branch_ratio(view: SublayerView) -> Tensor:
    """RMS(branch) / RMS(x), of one stream ||F(x)|| / ||x||: how much the sublayer still changes the stream.

    x enters the sublayer, over all streams; where the skip is another tensor (a norm's output), that is not seen.
    Nor is a scale that a mix or a wiring gives the branch (nGPT's lerp, Muse Spark's gate, hyper-connections).
    """
    return _rms(view.branch) / _rms(view.x)


@probe("variance", of=StreamView)
def variance(view: StreamView) -> Tensor:
    """s^2: the variance over a token's channels, mean over tokens. Its growth with depth is what the
    Curse of Depth, Sun et al. 2025 (arXiv 2502.05795), and Peri-LN, Kim et al. 2025 (arXiv 2502.02732), bound."""
    return view.variances.mean()


@probe("max_abs", of=StreamView)
def max_abs(view: StreamView) -> Tensor:
    """The largest |x| of all."""
    return view.largest[0]


@probe("top2_abs", of=StreamView)
def top2_abs(view: StreamView) -> Tensor:
    """The second largest |x|; the three largest beside the median are what Sun et al. (arXiv 2402.17762) plot."""
    return view.largest[1]


@probe("top3_abs", of=StreamView)
def top3_abs(view: StreamView) -> Tensor:
    """The third largest |x|."""
    return view.largest[2]


@probe("median_abs", of=StreamView)
def median_abs(view: StreamView) -> Tensor:
    """The median |x| of a sequence, mean over sequences."""
    return view.medians.mean()


@probe("massive", of=StreamView)
def massive(view: StreamView) -> Tensor:
    """How many entries are massive: |x| > 100 and |x| >= 1000 times the median |x| of the sequence. Sun et al. 2024
    (arXiv 2402.17762)."""
    massive = (view.magnitudes > MASSIVE) & (view.magnitudes >= TIMES_MEDIAN * view.medians[:, None])
    return torch.where(view.magnitudes.isfinite().all(), massive.sum(), math.nan)


@probe("kurtosis_osp", of=StreamView)
def kurtosis_osp(view: StreamView) -> Tensor:
    """max(mean(x^4) / std(x)^4 - 3, 0) over a token's channels, mean over tokens: outlier features.

    Park et al. 2025 (Outlier-Safe Pre-Training, arXiv 2506.19697) by its code, whose fourth moment is not centred;
    the standard deviation is, here divided by d.
    """
    fourth = view.vectors.square().square().mean(-1)
    return (fourth / view.variances.square() - 3).relu().mean()


@probe("kurtosis", of=StreamView)
def kurtosis(view: StreamView) -> Tensor:
    """mean((x - m)^4) / mean((x - m)^2)^2 - 3 over all entries of a sequence, m their mean; mean over sequences. 0 of a
    Gaussian. nanotron and Lingua log it, of a whole tensor."""
    x = view.vectors.flatten(1)
    square = (x - x.mean(-1, keepdim=True)).square()
    return (square.square().mean(-1) / square.mean(-1).square() - 3).mean()
