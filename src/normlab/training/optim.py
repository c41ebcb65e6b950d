"""AdamW with its parameter groups. What decays is decided by module type and slot, never by a name."""

from __future__ import annotations

import torch
from torch import nn

from normlab.config.schema import OptimConfig
from normlab.model.slots import Slot


def build_optimizer(model: nn.Module, optim: OptimConfig, graphed: bool = False) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in two groups: decayed, not decayed.

    ``graphed``: with what it reads on the device, the learning rate too, for a graph to read it there.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    said = _said_by_slots(model)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (decayed if said.get(parameter, _decays(module, parameter, optim)) else free).append(parameter)
    # A module that two slots share is met once; a parameter is never in two groups.
    groups = [
        {"params": list(dict.fromkeys(decayed)), "weight_decay": optim.weight_decay},
        {"params": list(dict.fromkeys(free)), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)
    for group in optimizer.param_groups if graphed else ():
        device = group["params"][0].device
        group |= {"lr": torch.tensor(optim.lr, device=device), "capturable": device.type == "cuda"}
    return optimizer


def _said_by_slots(model: nn.Module) -> dict[nn.Parameter, bool]:
    """What ``decay=yes|no`` in a slot says: of every parameter of the operation, the matrices inside a norm too."""
    operations = [module for slot in model.modules() if isinstance(slot, Slot) for module in slot.modules()]
    said = [(operation, getattr(operation, "decay", None)) for operation in operations]
    return {p: decay for operation, decay in said if decay is not None for p in operation.parameters()}


def _decays(module: nn.Module, parameter: nn.Parameter, optim: OptimConfig) -> bool:
    if isinstance(module, nn.Embedding):
        return optim.decay_embeddings
    if isinstance(module, nn.Linear) and parameter.ndim == 2:
        return True
    own = getattr(module, "decay", None)
    return optim.decay_gains if own is None else bool(own)
