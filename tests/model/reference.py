"""The equations again, written from the papers and not from the package: no module, no grammar, one line a formula.

Weights come by name from the network under test; attention, RoPE, SwiGLU, RMSNorm and every placement are stated
here a second time, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-5


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / (x.pow(2).sum(-1, keepdim=True) / x.shape[-1] + EPS).sqrt()


class Weights:
    """``w("attn.branch.q")`` is that matrix of layer l (0-based)."""

    def __init__(self, state: dict[str, Tensor], layer: int) -> None:
        self.state, self.layer = state, layer

    def __call__(self, name: str) -> Tensor:
        return self.state[f"blocks.{self.layer}.{name}.weight"]

    def n(self, slot: str) -> Callable[[Tensor], Tensor]:
        """The norm in a slot of this layer, with its own gain."""
        return lambda x: rms(x, self(f"{slot}.0"))


def turn(x: Tensor, theta: float) -> Tensor:
    """RoPE by complex numbers on one head: (B, T, d), pairs (i, i + d/2)."""
    half = x.shape[-1] // 2
    angle = torch.outer(
        torch.arange(x.shape[1], dtype=torch.float64), theta ** (-torch.arange(half, dtype=torch.float64) / half)
    )
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), -1)


def mha(w: Weights, heads: int, kv_heads: int, norms: str = "", full: bool = False) -> Callable[[Tensor], Tensor]:
    """Attention head by head. ``norms``: which of q, k, v are normed, per head with one gain, before RoPE."""

    def forward(x: Tensor) -> Tensor:
        q, k, v = (x @ w(f"attn.branch.{name}").T for name in "qkv")
        d = q.shape[-1] // heads
        if full:
            q, k = (rms(t, w(f"attn.branch.{name}_norm.0.inner")) for t, name in ((q, "q"), (k, "k")))
        out = []
        for h in range(heads):
            g = h // (heads // kv_heads)
            qh, kh, vh = q[..., h * d : (h + 1) * d], k[..., g * d : (g + 1) * d], v[..., g * d : (g + 1) * d]
            if not full:
                qh, kh, vh = (
                    rms(t, w(f"attn.branch.{name}_norm.0")) if name in norms else t
                    for t, name in ((qh, "q"), (kh, "k"), (vh, "v"))
                )
            qh, kh = turn(qh, 10000.0), turn(kh, 10000.0)
            rows = []
            for i in range(x.shape[1]):  # row by row: causality by construction
                score = torch.einsum("bd,btd->bt", qh[:, i], kh[:, : i + 1]) / math.sqrt(d)
                rows.append(torch.einsum("bt,btd->bd", score.softmax(-1), vh[:, : i + 1]))
            out.append(torch.stack(rows, 1))
        return torch.cat(out, -1) @ w("attn.branch.o").T

    return forward


def ffn(w: Weights) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        gate = x @ w("ffn.branch.gate").T
        return (gate * torch.sigmoid(gate) * (x @ w("ffn.branch.up").T)) @ w("ffn.branch.down").T

    return forward


Step = Callable[[Tensor, Weights, int, int], Tensor]
HEADS, KV = 4, 2


def _none(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = x + mha(w, HEADS, KV)(x)
    return y + ffn(w)(y)


def _pre_with(norms: str) -> Step:
    def step(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
        y = x + mha(w, HEADS, KV, norms)(w.n("attn.pre")(x))
        return y + ffn(w)(w.n("ffn.pre")(y))

    return step


def _post(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = w.n("attn.post")(x + mha(w, HEADS, KV)(x))
    return w.n("ffn.post")(y + ffn(w)(y))


def _hybrid(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    """HybridNorm, arXiv 2503.04598, Eq. 6."""
    y = mha(w, HEADS, KV, "qkv")(x) + x
    norm = w.n("attn.post")
    return ffn(w)(norm(y)) + norm(y)


def _hybrid_star(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    """HybridNorm*, Eq. 7: the first block."""
    return _pre_with("qkv")(x, w, l, L) if l == 1 else _hybrid(x, w, l, L)


def _qkv_pre(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = x + mha(w, HEADS, KV, "qkv")(x)
    return y + ffn(w)(w.n("ffn.pre")(y))


def _sandwich(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = x + w.n("attn.out")(mha(w, HEADS, KV)(w.n("attn.pre")(x)))
    return y + w.n("ffn.out")(ffn(w)(w.n("ffn.pre")(y)))


def _olmo2(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = x + w.n("attn.out")(mha(w, HEADS, KV, full=True)(x))
    return y + w.n("ffn.out")(ffn(w)(y))


def _deepnorm(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    alpha = (2 * L) ** 0.25
    y = w.n("attn.post")(alpha * x + mha(w, HEADS, KV)(x))
    return w.n("ffn.post")(alpha * y + ffn(w)(y))


def _mix_ln(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    return (_post if l <= math.ceil(0.25 * L) else _pre_with(""))(x, w, l, L)


def _layernorm_scaling(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    y = x + mha(w, HEADS, KV)(w.n("attn.pre")(x) / math.sqrt(l))
    return y + ffn(w)(w.n("ffn.pre")(y) / math.sqrt(l))


def _parallel(x: Tensor, w: Weights, l: int, L: int) -> Tensor:
    u = w.n("attn.pre")(x)
    return x + mha(w, HEADS, KV)(u) + ffn(w)(u)


BLOCKS: dict[str, Step] = {
    "none": _none,
    "pre": _pre_with(""),
    "post": _post,
    "hybrid": _hybrid,
    "hybrid_star": _hybrid_star,
    "pre_qk": _pre_with("qk"),
    "pre_qkv": _pre_with("qkv"),
    "qkv_pre": _qkv_pre,
    "sandwich": _sandwich,
    "peri": _sandwich,
    "olmo2": _olmo2,
    "deepnorm": _deepnorm,
    "mix_ln": _mix_ln,
    "layernorm_scaling": _layernorm_scaling,
    "parallel": _parallel,
}
NO_FINAL_NORM = {"none", "post", "deepnorm"}
EMBEDDING_NORM = {"peri"}


def logits(placement: str, state: dict[str, Tensor], n_layers: int, tokens: Tensor) -> Tensor:
    """The whole network, tied head, from its weights alone."""
    x = state["embed.weight"][tokens]
    if placement in EMBEDDING_NORM:
        x = rms(x, state["embed_norm.0.weight"])
    for layer in range(n_layers):
        x = BLOCKS[placement](x, Weights(state, layer), layer + 1, n_layers)
    if placement not in NO_FINAL_NORM:
        x = rms(x, state["final_norm.0.weight"])
    return x @ state["embed.weight"].T
