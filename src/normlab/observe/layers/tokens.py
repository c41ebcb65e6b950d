"""Whether tokens still differ: their similarity and the rank they span, block by block.

Under a wiring each stream counts by itself: means over sequences are over streams too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.observe.layers.registry import probe
from normlab.observe.layers.stream import StreamView


@probe("token_cosine", of=StreamView)
def token_cosine(view: StreamView) -> Tensor:
    """Mean cosine of two different tokens of a sequence, mean over sequences: 1 where all tokens are alike.

    HybridNorm's Figure 7 (arXiv 2503.04598), which follows Noci et al. 2022 (arXiv 2206.03126). All T (T - 1) pairs
    at once, with unit vectors u: (||sum_i u_i||^2 - sum_i ||u_i||^2) / (T (T - 1)).
    """
    largest = view.vectors.abs().amax(-1, keepdim=True)  # out first, so that no square overflows
    unit = F.normalize(view.vectors / largest.clamp(min=1e-30), dim=-1)  # (B, T, d); a vector of zeros stays one
    length = unit.size(1)
    together, alone = unit.sum(1).square().sum(-1), unit.square().sum((1, 2))  # (B,)
    return ((together - alone) / (length * (length - 1))).mean()


@probe("effective_rank", of=StreamView, deep=True)
def effective_rank(view: StreamView) -> Tensor:
    """exp(-sum_i p_i ln p_i) with p the singular values of a sequence's (T, d) matrix over their sum: Roy and Vetterli
    2007. 1 where all tokens lie on a line, min(T, d) at most; mean over sequences, of each its first 1024 tokens."""
    singular = view.squared_singular_values.sqrt()
    share = singular / singular.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp().mean()


@probe("stable_rank", of=StreamView, deep=True)
def stable_rank(view: StreamView) -> Tensor:
    """||X||_F^2 / ||X||_2^2 of a sequence's (T, d) matrix, between 1 and its rank, which small singular values move
    little; mean over sequences, of each its first 1024 tokens."""
    squares = view.squared_singular_values
    return (squares.sum(-1) / squares.amax(-1)).mean()


@probe("mean_norm", of=StreamView, deep=True)
def mean_norm(view: StreamView) -> Tensor:
    """||v||, v the mean vector of all tokens of the batch, of several streams side by side: what the growth exponent of
    OLMo 2 (arXiv 2501.00656), section 3.2, compares between the last block and the first."""
    return torch.linalg.vector_norm(view.state.float().mean((-3, -2)))
