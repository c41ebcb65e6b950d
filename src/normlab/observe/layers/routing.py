"""How each layer's router spreads the tokens of the probe batch over its experts.

``load`` (E,) is the share of the batch's assignments that each expert gets; balanced is 1/E.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from normlab.observe.layers.registry import probe


class Routing(Protocol):
    """What a mixture of experts returns beside its output."""

    @property
    def balance(self) -> Tensor: ...
    @property
    def z(self) -> Tensor: ...
    @property
    def load(self) -> Tensor: ...


@probe("load_max", of=Routing)
def load_max(routing: Routing) -> Tensor:
    """The busiest expert's load over the mean load: 1 is balanced, E one expert for all. OLMo-core's load imbalance."""
    return routing.load.max() * routing.load.numel()


@probe("load_entropy_ratio", of=Routing)
def load_entropy_ratio(routing: Routing) -> Tensor:
    """Entropy of the load over its maximum ln E: 1 is balanced, 0 is one expert for all tokens."""
    maximum = math.log(routing.load.numel())
    return torch.special.entr(routing.load).sum() / maximum if maximum else torch.ones_like(routing.z)


@probe("dead_experts", of=Routing)
def dead_experts(routing: Routing) -> Tensor:
    """How many experts get no token of the batch. A batch of few tokens per expert leaves some out by chance."""
    return (routing.load == 0).sum()


@probe("balance_loss", of=Routing)
def balance_loss(routing: Routing) -> Tensor:
    """The layer's load-balance loss, unweighted: 1 where the load or the mean probability is uniform."""
    return routing.balance


@probe("router_z_loss", of=Routing)
def router_z_loss(routing: Routing) -> Tensor:
    """The layer's router z-loss, unweighted: mean over tokens of (log sum exp of the logits)^2."""
    return routing.z
