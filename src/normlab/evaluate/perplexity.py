"""Held-out loss on fixed windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def mean_loss(network: nn.Module, windows: Tensor, batch_size: int, autocast: torch.autocast) -> float:
    """Mean cross-entropy in nats per token over ``windows`` (n, T + 1), all weighted equally.

    The sum runs in float64 on the device and is read once.
    """
    device = next(network.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in windows.split(batch_size):
        batch = batch.to(device)
        with autocast:
            loss = network(batch[:, :-1], batch[:, 1:])
        total += loss.double() * len(batch)
    return (total / len(windows)).item()
