"""The position-wise feed-forward network, with the norm that a placement puts before its down projection."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.schema import ModelConfig, NormConfig
from normlab.model.slots import Slot
from normlab.placement.resolve import ResolvedSublayer


class FFN(nn.Module):
    """``swiglu``: W_down(SiLU(W_gate x) * W_up x), Shazeer 2020 (arXiv 2002.05202). ``gelu``: W_down GELU(W_up x)."""

    def __init__(self, model: ModelConfig, slots: ResolvedSublayer, norm: NormConfig) -> None:
        super().__init__()
        self.up = nn.Linear(model.d_model, model.d_ff, bias=model.bias)
        self.gate = nn.Linear(model.d_model, model.d_ff, bias=model.bias) if model.ffn == "swiglu" else None
        self.hidden_norm = Slot(slots.chain("hidden"), model.d_ff, norm)
        self.down = nn.Linear(model.d_ff, model.d_model, bias=model.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        up = self.up(x)
        hidden = F.gelu(up) if self.gate is None else F.silu(self.gate(x)) * up  # (B, T, d_ff)
        return self.down(self.hidden_norm(hidden))
