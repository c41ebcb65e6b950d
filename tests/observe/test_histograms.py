"""Histograms that are binned on the device, against numpy's."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from normlab.observe.gradients import ParameterMap
from normlab.observe.histograms import BINS, HistogramProbe, binned, step_probe
from normlab.observe.updates import StepProbe


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False)


def test_binned_as_numpy() -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(31, 17, generator=generator), 3 * torch.randn(200, generator=generator)]
    low, high, *counts = binned(tensors).tolist()
    together = torch.cat([tensor.flatten() for tensor in tensors]).double().numpy()
    expected, edges = np.histogram(together, bins=BINS)
    assert (low, high) == (edges[0], edges[-1])
    assert np.abs(np.array(counts) - expected).sum() <= 2  # an element on an edge may fall to either side
    assert sum(counts) == together.size


def test_the_step_is_the_same_and_the_gradient_is_the_optimizers() -> None:
    results = []
    for histograms in (False, True):
        network = Network()
        optimizer = torch.optim.AdamW(network.parameters())
        probe = step_probe(ParameterMap(network, 0), histograms)
        network.head(network.embed(torch.ones(2, 8))).square().sum().backward()
        gradient = network.head.weight.grad.clone()
        probe.before()
        optimizer.step()
        probe.after(optimizer)
        results.append((network.head.weight.detach(), probe.read()))
        assert isinstance(probe, HistogramProbe) == histograms and isinstance(probe, StepProbe)
    assert torch.equal(results[0][0], results[1][0]) and str(results[0][1]) == str(results[1][1])
    found = probe.histograms()
    assert set(found) == {f"{what}.{kind}" for what in ("weights", "gradients") for kind in ("embed", "head")}
    counts, edges = found["gradients.head"]
    assert (len(counts), len(edges), sum(counts)) == (BINS, BINS + 1, 128)
    assert (edges[0], edges[-1]) == (gradient.min().item(), gradient.max().item())


def test_what_is_not_finite_is_left_out() -> None:
    network = Network()
    probe = HistogramProbe(ParameterMap(network, 0))
    with torch.no_grad():
        network.embed.weight[0, 0] = torch.nan
    probe.before()
    assert set(probe.histograms()) == {"weights.head"}
