"""AdamW with its parameter groups. What decays is decided by module type and slot, never by a name."""

from __future__ import annotations

import torch
from torch import nn

from normlab.config.schema import OptimConfig


def build_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in two groups: decayed, not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (decayed if _decays(module, parameter, optim) else free).append(parameter)
    # A module that two slots share is met once; a parameter is never in two groups.
    groups = [
        {"params": list(dict.fromkeys(decayed)), "weight_decay": optim.weight_decay},
        {"params": list(dict.fromkeys(free)), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True
    )


def _decays(module: nn.Module, parameter: nn.Parameter, optim: OptimConfig) -> bool:
    if isinstance(module, nn.Embedding):
        return optim.decay_embeddings
    if isinstance(module, nn.Linear) and parameter.ndim == 2:
        return True
    of_slot = getattr(module, "decay", None)  # n(decay=yes|no)
    return optim.decay_gains if of_slot is None else bool(of_slot)
