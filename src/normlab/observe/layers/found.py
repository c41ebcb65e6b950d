"""What a look finds: values by name, on the device until they are read."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class Found:
    """Statistics of layers and of the whole network, for one row of probes.jsonl."""

    def __init__(self, n_layers: int) -> None:
        self._n_layers = n_layers
        self._by_layer: defaultdict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self._whole: dict[str, Tensor] = {}

    def of_layer(self, name: str, layer: int, value: Tensor) -> None:
        """A scalar of the 0-based ``layer``; of several under one name, the mean counts."""
        self._by_layer[name][layer].append(value)

    def of_network(self, name: str, value: Tensor) -> None:
        """A scalar, a vector over layers or a matrix over pairs of layers."""
        self._whole[name] = value

    def read(self) -> dict[str, Any]:
        """Numbers, lists of a value per layer and lists of lists, in one transfer; nan where a layer has no value."""
        tensors = {name: self._list(layers) for name, layers in self._by_layer.items()} | self._whole
        if not tensors:
            return {}
        device = next(iter(tensors.values())).device
        flat = torch.cat([tensor.flatten().float().to(device) for tensor in tensors.values()]).tolist()
        row, start = {}, 0
        for name, tensor in tensors.items():
            row[name] = _shaped(flat[start : start + tensor.numel()], tensor.shape)
            start += tensor.numel()
        return row

    def _list(self, layers: dict[int, list[Tensor]]) -> Tensor:
        known = next(iter(layers.values()))[0]
        absent = [torch.full_like(known, math.nan, dtype=torch.float32)]
        return torch.stack([torch.stack(layers.get(layer, absent)).float().mean() for layer in range(self._n_layers)])


def _shaped(flat: list[float], shape: torch.Size) -> Any:
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    return [flat[start : start + shape[1]] for start in range(0, len(flat), shape[1])]
