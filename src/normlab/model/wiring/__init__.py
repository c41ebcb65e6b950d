"""Wirings: how sublayers read and write a residual state of several streams, one tensor (streams, B, T, d).

A wiring has two parts. For the stack: ``enter(x)`` -> state, ``leave(state)`` -> (B, T, d). For each sublayer:
``read(state)`` -> (u, *kept), where u (B, T, d) is what the sublayer reads, and ``forward(state, branch, *kept)`` ->
the next state, where branch is the sublayer's result.
"""

from __future__ import annotations

from torch import nn

from normlab.config.schema import NormConfig
from normlab.model.wiring.hyper import HyperConnection, HyperStreams
from normlab.model.wiring.manifold import ManifoldConnection, ManifoldStreams
from normlab.model.wiring.twin import ResiDual, ResiDualStreams, Siamese, SiameseStreams
from normlab.placement.resolve import ResolvedSublayer
from normlab.placement.schema import WiringSpec


def build_wiring(spec: WiringSpec, slots: ResolvedSublayer, sublayer: int, d_model: int, norm: NormConfig) -> nn.Module:
    """The connection of the 1-based ``sublayer`` (attention of layer l: 2l - 1) to the streams."""
    match spec.name:
        case "residual":
            return ResiDual(slots.chain("post"), d_model, norm)
        case "siamese":
            return Siamese(slots.chain("post"), sublayer, d_model, norm, spec.hybrid)
        case "hc":
            return HyperConnection(spec.streams, spec.dynamic, sublayer, d_model, norm)
        case "mhc":
            return ManifoldConnection(spec.streams, d_model, norm.eps)
    raise ValueError(f"wiring '{spec.name}' has one stream")


def build_streams(spec: WiringSpec, d_model: int, norm: NormConfig) -> nn.Module:
    """How the embedding becomes streams before the first sublayer, and the streams one vector after the last."""
    match spec.name:
        case "residual":
            return ResiDualStreams(d_model, norm)
        case "siamese":
            return SiameseStreams(d_model, norm, spec.hybrid)
        case "hc":
            return HyperStreams(spec.streams)
        case "mhc":
            return ManifoldStreams(spec.streams, d_model, norm.eps)
    raise ValueError(f"wiring '{spec.name}' has one stream")
