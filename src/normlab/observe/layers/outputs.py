"""The logits of the whole network: their scale, and the log Z that the z-loss holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from normlab.observe.layers.registry import probe


@dataclass(frozen=True)
class LogitsView:
    """(B, T, V) as the loss sees them: behind scale and soft cap, with the rows that pad the vocabulary."""

    logits: Tensor

    @cached_property
    def log_z(self) -> Tensor:
        """(B, T): log sum_v exp(logit_v)."""
        return self.logits.float().logsumexp(-1)


@probe("rms", of=LogitsView)
def rms(view: LogitsView) -> Tensor:
    """Root mean square of the logits."""
    # a norm, because squares of all logits are a second tensor as large as they are
    return torch.linalg.vector_norm(view.logits.float()) / view.logits.numel() ** 0.5


@probe("max", of=LogitsView)
def largest(view: LogitsView) -> Tensor:
    """The largest logit."""
    return view.logits.max()


@probe("mean", of=LogitsView)
def mean(view: LogitsView) -> Tensor:
    """The mean logit: strongly negative where the outputs diverge. Wortsman et al. 2023 (arXiv 2309.14322)."""
    return view.logits.float().mean()


@probe("log_z", of=LogitsView)
def log_z(view: LogitsView) -> Tensor:
    """log Z, the logarithm of the softmax's denominator, mean over tokens, in nats."""
    return view.log_z.mean()


@probe("log_z_square", of=LogitsView)
def log_z_square(view: LogitsView) -> Tensor:
    """(log Z)^2, mean over tokens: what the z-loss of PaLM (arXiv 2204.02311), section 5, weighs with 1e-4."""
    return view.log_z.square().mean()
