"""Histograms of weights and gradients, for ``wandb.histograms=true``: binned on the device, read when asked for."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from normlab.observe.gradients import ParameterMap
from normlab.observe.shards import local
from normlab.observe.updates import StepProbe

BINS = 64  # wandb's own default; it takes at most 512

Histogram = tuple[list[int], list[float]]  # counts (BINS,), edges (BINS + 1,)


class HistogramProbe(StepProbe):
    """A StepProbe that also bins every weight, and every gradient as the optimizer sees it, by kind of matrix.

    Where the rows of a parameter are shared by several processes, those of this one.
    """

    @torch.no_grad()
    def before(self) -> None:
        """Nothing waits for the device."""
        self._binned: dict[str, Tensor] = {}
        gradients = [p.grad for p in self.map.parameters if p.grad is not None]
        kinds = [self.map.kinds[kind] for kind in self.map.kind]
        with_gradient = [kind for kind, p in zip(kinds, self.map.parameters, strict=True) if p.grad is not None]
        for name, tensors, of in (("weights", self._weights(), kinds), ("gradients", local(gradients), with_gradient)):
            together: dict[str, list[Tensor]] = defaultdict(list)
            for kind, tensor in zip(of, tensors, strict=True):
                together[kind].append(tensor)
            self._binned |= {f"{name}.{kind}": binned(group) for kind, group in together.items()}
        super().before()

    def histograms(self) -> dict[str, Histogram]:
        """By ``weights.KIND`` and ``gradients.KIND``; without those that hold a value that is not finite."""
        rows = torch.stack(list(self._binned.values())).tolist()
        found: dict[str, Histogram] = {}
        for name, (low, high, *counts) in zip(self._binned, rows, strict=True):
            width = (high - low) / BINS
            if 0 <= width < float("inf"):
                edges = [low + width * edge for edge in range(BINS + 1)]
                found[name] = ([int(count) for count in counts], edges)
        return found


def step_probe(parameters: ParameterMap, histograms: bool) -> StepProbe:
    return HistogramProbe(parameters) if histograms else StepProbe(parameters)


def binned(tensors: list[Tensor]) -> Tensor:
    """(2 + BINS,) in float64: smallest and largest element of all tensors, and how many lie in each of as many equal
    parts of the range between them."""
    flat = [tensor.flatten().double() for tensor in tensors if tensor.numel()]
    device = tensors[0].device
    if not flat:
        return torch.full((2 + BINS,), torch.nan, dtype=torch.float64, device=device)
    low = torch.stack([values.amin() for values in flat]).amin()
    high = torch.stack([values.amax() for values in flat]).amax()
    counts = torch.zeros(BINS, dtype=torch.int64, device=device)
    for values in flat:
        place = torch.nan_to_num((values - low) / (high - low) * BINS).long().clamp(0, BINS - 1)
        counts.scatter_add_(0, place, torch.ones_like(place))
    return torch.cat([low[None], high[None], counts.double()])
