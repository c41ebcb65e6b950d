"""The one equation: every residual sublayer of every placement.

y = post( skip(x_from) + out( F( pre(x_read) ) ) )
"""

from __future__ import annotations

from torch import Tensor, nn

from normlab.config.schema import ModelConfig, NormConfig
from normlab.model.attention import Attention, Rotary
from normlab.model.ffn import FFN
from normlab.model.slots import Slot
from normlab.placement.ops import Share
from normlab.placement.resolve import ResolvedBlock, ResolvedSublayer


class Residual(nn.Module):
    """The residual addition, a module of its own: the one place to see the skip, the branch and their sum."""

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        return skip + branch


class Sublayer(nn.Module):
    """One residual sublayer around ``F``, attention or FFN."""

    def __init__(self, branch: nn.Module, slots: ResolvedSublayer, d_model: int, norm: NormConfig) -> None:
        super().__init__()
        self.read, self.skip_from = slots.read, slots.skip_from
        self.pre = Slot(slots.chain("pre"), d_model, norm)
        self.branch = branch
        self.out = Slot(slots.chain("out"), d_model, norm)
        self.skip = Slot(slots.chain("skip"), d_model, norm)
        self.add = Residual()
        self.post = Slot(slots.chain("post"), d_model, norm)

    def forward(self, x: Tensor, block: Tensor) -> Tensor:
        """``x``: the stream here; ``block``: the stream at the entry of the block; both (B, T, d_model)."""
        read = block if self.read == "block" else x
        start = {"x": x, "block": block}.get(self.skip_from)
        if start is None:  # x+block
            start = x + block
        return self.post(self.add(self.skip(start), self.out(self.branch(self.pre(read)))))


class Block(nn.Module):
    """Attention, then FFN. Where a slot says ``=attn.pre``, the two slots are one module."""

    def __init__(self, model: ModelConfig, slots: ResolvedBlock, norm: NormConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.attn = Sublayer(Attention(model, slots.attn, norm, rotary), slots.attn, model.d_model, norm)
        self.ffn = Sublayer(FFN(model, slots.ffn, norm), slots.ffn, model.d_model, norm)
        for name, sublayer in (("attn", slots.attn), ("ffn", slots.ffn)):
            for slot, chain in sublayer.slots.items():
                if chain and isinstance(chain[0].op, Share):
                    source = getattr(getattr(self, chain[0].op.sublayer), chain[0].op.slot)
                    setattr(getattr(self, name), slot, source)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        y = self.attn(x, x)
        return self.ffn(y, x)
