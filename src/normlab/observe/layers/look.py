"""The look of every ``observe.probe_every`` steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.observe.layers.found import Found
from normlab.observe.layers.outputs import LogitsView
from normlab.observe.layers.registry import PROBES
from normlab.observe.layers.watch import evaluating, hooked, watch


@torch.no_grad()
def probe_activations(network: nn.Module, tokens: Tensor) -> dict[str, Any]:
    """Run ``tokens`` (B, T) through the network and return its statistics: of the logits as numbers, ``logits.NAME``,
    all others as lists over its blocks, in the order of depth."""
    found = Found(len(network.blocks))  # type: ignore[arg-type]
    with evaluating(network), hooked(watch(network, found)):
        view = LogitsView(network(tokens))
    for name, statistic in PROBES[LogitsView].items():
        if (value := statistic.function(view)) is not None:
            found.of_network(f"logits.{name}", value)
    return found.read()
