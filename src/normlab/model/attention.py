"""Causal multi-head attention with grouped queries, and the norms that a placement puts inside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.schema import ModelConfig, NormConfig
from normlab.model.slots import Slot
from normlab.placement.ops import Norm
from normlab.placement.resolve import ResolvedOp, ResolvedSublayer

# On a CPU the bfloat16 kernel's backward is slow on short sequences: forward and backward of 16 x 128 tokens, 4 heads
# of 32, took 17 ms against 6 ms in float32; at 512 tokens the two are equal, beyond that bfloat16 wins (torch 2.13).
_SHORT = 256


class Rotary(nn.Module):
    """Rotary position embedding, Su et al. 2021 (arXiv 2104.09864); channels i and i + d/2 turn, as in Llama."""

    cos: Tensor
    sin: Tensor

    def __init__(self, d_head: int, theta: float, max_len: int) -> None:
        super().__init__()
        frequency = theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angle = torch.outer(torch.arange(max_len, dtype=torch.float64), frequency).repeat(1, 2)  # (T, d_head)
        # Not part of the state: the tables follow from the configuration.
        self.register_buffer("cos", angle.cos().to(torch.get_default_dtype())[:, None], persistent=False)
        self.register_buffer("sin", angle.sin().to(torch.get_default_dtype())[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, d_head) -> the same, turned by its position."""
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.size(1)], self.sin[: x.size(1)]
        return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


class Attend(nn.Module):
    """softmax(Q K^T / sqrt(d_head)) V under a causal mask. Without parameters: the place to look at the logits."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, T, H, d_head), (B, T, H_kv, d_head) twice -> (B, T, H, d_head)."""
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        grouped = k.size(1) != q.size(1)
        if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.size(2) <= _SHORT:
            with torch.autocast("cpu", enabled=False):  # which would turn them back
                y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True, enable_gqa=grouped)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return y.transpose(1, 2).to(v.dtype)


class Attention(nn.Module):
    """F of the attention sublayer: project, split into heads, norm, turn, attend, norm, project.

    Norms on q, k, v act per head (one gain vector for all heads) and before RoPE unless the slot says otherwise,
    as in the official HybridNorm code.
    """

    def __init__(self, model: ModelConfig, slots: ResolvedSublayer, norm: NormConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.d_head = d_head = model.d_head
        heads, kv_heads = model.n_heads, model.kv_heads
        self.q = nn.Linear(model.d_model, heads * d_head, bias=model.bias)
        self.k = nn.Linear(model.d_model, kv_heads * d_head, bias=model.bias)
        self.v = nn.Linear(model.d_model, kv_heads * d_head, bias=model.bias)
        self.o = nn.Linear(heads * d_head, model.d_model, bias=model.bias)
        (q_before, q_after), (k_before, k_after) = (_around_rope(slots.chain(slot)) for slot in "qk")
        self.q_norm, self.q_norm_turned = Slot(q_before, d_head, norm, heads), Slot(q_after, d_head, norm, heads)
        self.k_norm, self.k_norm_turned = Slot(k_before, d_head, norm, kv_heads), Slot(k_after, d_head, norm, kv_heads)
        self.v_norm = Slot(slots.chain("v"), d_head, norm, kv_heads)
        self.ctx_norm = Slot(slots.chain("ctx"), d_head, norm, heads)
        self.attend = Attend()
        self.rotary = rotary or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        q, k, v = (project(x).unflatten(-1, (-1, self.d_head)) for project in (self.q, self.k, self.v))
        q = self.q_norm_turned(self.rotary(self.q_norm(q)))  # (B, T, H, d_head)
        k = self.k_norm_turned(self.rotary(self.k_norm(k)))  # (B, T, H_kv, d_head)
        context = self.ctx_norm(self.attend(q, k, self.v_norm(v)))
        return self.o(context.flatten(-2))


def _around_rope(chain: tuple[ResolvedOp, ...]) -> tuple[tuple[ResolvedOp, ...], tuple[ResolvedOp, ...]]:
    """The operations before RoPE, and those from the first that asks to come after it."""
    after = [i for i, op in enumerate(chain) if isinstance(op.op, Norm) and op.op.at == "post_rope"]
    cut = after[0] if after else len(chain)
    return chain[:cut], chain[cut:]
