"""The learning rate of each step: a linear warm-up, then one of four shapes down to ``min_lr_ratio`` of the peak."""

from __future__ import annotations

import math

from normlab.config.schema import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """The LR of 1-based ``step`` of ``steps``. Warm-up ends at the peak, step ``steps`` has the floor."""
    if step <= optim.warmup_steps:
        return optim.lr * step / optim.warmup_steps
    done = (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps)  # in (0, 1]
    match optim.schedule:
        case "cosine":  # Loshchilov and Hutter 2017 (arXiv 1608.03983), one period
            shape = 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            shape = 1 - done
        case "wsd":  # warm-up, stable, decay: Hu et al. 2024 (MiniCPM, arXiv 2404.06395), decaying linearly
            shape = min(1.0, (1 - done) / optim.decay_share)
        case "constant":
            return optim.lr
    return optim.lr * (optim.min_lr_ratio + (1 - optim.min_lr_ratio) * shape)
