"""The one equation: every residual sublayer of every placement.

y = post( mix( skip(x_from), out( F( pre(x_read) ) ) ) )
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

from torch import Tensor, nn

from normlab.config.architecture import ModelConfig
from normlab.config.schema import NormConfig
from normlab.model.attention import Attention, Rotary
from normlab.model.ffn import FFN
from normlab.model.moe import MoE, Routing
from normlab.model.residual import build_mix
from normlab.model.slots import Slot, Tied
from normlab.model.wiring import build_wiring
from normlab.placement.ops import Share
from normlab.placement.resolve import ResolvedBlock, ResolvedSublayer
from normlab.placement.schema import WiringSpec

TiedBySlot = defaultdict[str, Tied]


class Sublayer(nn.Module):
    """One residual sublayer of one stream around ``F``, attention or FFN."""

    def __init__(
        self, branch: nn.Module, slots: ResolvedSublayer, d_model: int, norm: NormConfig, n_heads: int, tied: TiedBySlot
    ) -> None:
        super().__init__()
        self.read, self.skip_from = slots.read, slots.skip_from
        self.pre = Slot(slots.chain("pre"), d_model, norm, tied=tied["pre"])
        self.branch = branch
        self.out = Slot(slots.chain("out"), d_model, norm, n_heads, tied["out"])
        self.skip = Slot(slots.chain("skip"), d_model, norm, tied=tied["skip"])
        self.add = build_mix(slots.mix, d_model)
        self.post = Slot(slots.chain("post"), d_model, norm, tied=tied["post"])

    def forward(self, x: Tensor, block: Tensor) -> tuple[Tensor, Routing | None]:
        """``x``: the stream here; ``block``: the stream at the entry of the block; both (B, T, d_model)."""
        read = block if self.read == "block" else x
        start = {"x": x, "block": block}.get(self.skip_from)
        if start is None:  # x+block
            start = x + block
        branch, routing = run_branch(self.branch, self.pre(read))
        return self.post(self.add(self.skip(start), self.out(branch))), routing


class WiredSublayer(nn.Module):
    """One sublayer between several streams: what it reads, and where its result goes, is the wiring's."""

    def __init__(
        self, branch: nn.Module, slots: ResolvedSublayer, d_model: int, norm: NormConfig, n_heads: int,
        tied: TiedBySlot, wiring: nn.Module,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pre = Slot(slots.chain("pre"), d_model, norm, tied=tied["pre"])
        self.branch = branch
        self.out = Slot(slots.chain("out"), d_model, norm, n_heads, tied["out"])
        self.add: Any = wiring

    def forward(self, state: Tensor, block: Tensor) -> tuple[Tensor, Routing | None]:
        """(streams, B, T, d_model) -> the same; ``block`` has no meaning here."""
        stream, *kept = self.add.read(state)
        branch, routing = run_branch(self.branch, self.pre(stream))
        return self.add(state, self.out(branch), *kept), routing


def run_branch(branch: nn.Module, x: Tensor) -> tuple[Tensor, Routing | None]:
    """``F(x)``, and how its router spread the tokens where it has one."""
    result = branch(x)
    return result if isinstance(branch, MoE) else (result, None)


class Block(nn.Module):
    """Attention, then FFN. Where a slot says ``=attn.pre``, the two slots are one module."""

    attn: nn.Module
    ffn: nn.Module

    def __init__(
        self, model: ModelConfig, slots: ResolvedBlock, norm: NormConfig, layer: int, rotary: Rotary | None,
        wiring: WiringSpec,
    ) -> None:  # fmt: skip
        """``layer`` counts from 1."""
        super().__init__()
        tied: TiedBySlot = defaultdict(dict)
        feed = MoE if model.n_experts else FFN
        branches = {"attn": Attention(model, slots.attn, norm, layer, rotary), "ffn": feed(model, slots.ffn, norm)}
        for number, (name, branch) in enumerate(branches.items()):
            chains: ResolvedSublayer = getattr(slots, name)
            parts = (branch, chains, model.d_model, norm, model.n_heads, tied)
            if wiring.name == "plain":
                self.add_module(name, Sublayer(*parts))
            else:
                s = 2 * layer - 1 + number
                connection = build_wiring(wiring, chains, s, model.d_model, norm)
                self.add_module(name, WiredSublayer(*parts, connection))
        for name in branches:
            for slot, chain in getattr(slots, name).slots.items():
                if chain and isinstance(chain[0].op, Share):
                    source = getattr(getattr(self, chain[0].op.sublayer), chain[0].op.slot)
                    setattr(getattr(self, name), slot, source)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """(B, T, d_model), or (streams, B, T, d_model) where there are several -> the same, and the FFN's routing."""
        y, _ = self.attn(x, x)
        return cast(tuple[Tensor, Routing | None], self.ffn(y, x))
