"""How far blocks turn the stream: the angle between what enters and what leaves any number of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def angular_distances(states: Sequence[Tensor]) -> Tensor:
    """arccos(cos(x_l, x_{l+n})) / pi of a sequence's last token, mean over sequences: 0 is the same direction.

    Gromov et al. 2024 (arXiv 2403.17887) as in arcee-ai/PruneMe. x_0 enters the first block and x_l leaves block l; a
    matrix (L, L), row l from 0, column n from 1; nan where l + n > L.

    ``states``: L + 1 times (B, T, d), of several streams each as a sequence more. In float64: the arccos of a cosine
    near 1 loses half of its digits.
    """
    last = F.normalize(torch.stack([state[:, -1] for state in states]).double(), dim=-1)  # (L + 1, B, d)
    cosine = torch.einsum("lbd,mbd->lmb", last, last).clamp(-1, 1)
    between = cosine.arccos().mean(-1) / math.pi  # (L + 1, L + 1)
    blocks = len(states) - 1
    rows = [F.pad(between[l, l + 1 :], (0, l), value=math.nan) for l in range(blocks)]
    return torch.stack(rows)
