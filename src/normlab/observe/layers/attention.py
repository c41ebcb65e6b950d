"""What attention looks at: its logits and how they are spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from normlab.observe.layers.registry import probe

_QUERY_ROWS = 128  # enough for a mean, small enough never to hold all logits of a long sequence


@dataclass(frozen=True)
class AttentionView:
    """Logits and weights of a subset of query rows: (B, H, R, T), -inf and 0 where a row does not look.

    The logits are q k / sqrt(d_head) itself; where they are soft-capped, the weights are those behind the cap.
    ``rows`` (R,) are their positions, ``seen`` (R,) how many keys each sees.
    """

    logits: Tensor
    weights: Tensor
    rows: Tensor
    seen: Tensor


def attention_view(q: Tensor, k: Tensor, window: int | None = None, softcap: float | None = None) -> AttentionView:
    """Logits and weights of at most 128 query rows, evenly spread to the last; q (B, T, H, d), k (B, T, H_kv, d).

    q and k are what enters the product: behind their norms, scales and RoPE.
    """
    length, groups = q.size(1), q.size(2) // k.size(2)
    rows = torch.linspace(0, length - 1, min(length, _QUERY_ROWS), device=q.device).round().long()
    chosen = q[:, rows].float().transpose(1, 2)  # (B, H, R, d)
    keys = k.float().repeat_interleave(groups, dim=2).permute(0, 2, 3, 1)  # (B, H, d, T)
    back = rows[:, None] - torch.arange(length, device=q.device)  # (R, T): how far back a key lies
    hidden = back < 0 if window is None else (back < 0) | (back >= window)
    logits = chosen @ keys / math.sqrt(q.size(-1))
    capped = logits if softcap is None else softcap * (logits / softcap).tanh()
    weights = capped.masked_fill(hidden, -math.inf).softmax(-1)
    return AttentionView(logits.masked_fill(hidden, -math.inf), weights, rows, (~hidden).sum(-1))


@probe("max_logit", of=AttentionView)
def max_logit(view: AttentionView) -> Tensor:
    """Largest q k / sqrt(d_head) over batch, heads and rows, before a soft cap. Wortsman et al. 2023 (arXiv
    2309.14322): 1e4 diverged."""
    return view.logits.max()


@probe("entropy", of=AttentionView)
def entropy(view: AttentionView) -> Tensor:
    """Mean over batch, heads and rows of -sum_j a_j ln a_j, in nats. Zhai et al. 2023 (arXiv 2303.06296).

    This is the layer's entropy of HybridNorm's Figure 8 (arXiv 2503.04598), as far as can be told: its section E.3
    gives no formula and follows Jha and Reagen 2024 (arXiv 2410.09637), which is about the entropy of attention.
    """
    return _row_entropy(view.weights).mean()


@probe("entropy_ratio", of=AttentionView)
def entropy_ratio(view: AttentionView) -> Tensor:
    """Mean of each row's entropy over its maximum, ln of the keys that it sees, where these are more than one:
    1 is uniform, 0 is one-hot."""
    several = view.seen > 1
    return (_row_entropy(view.weights)[..., several] / view.seen[several].float().log()).mean()


def _row_entropy(weights: Tensor) -> Tensor:
    return torch.special.entr(weights).sum(-1)
