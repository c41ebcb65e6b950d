"""A GPT-style language model whose norms come from a placement."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.schema import Config
from normlab.model.attention import build_rotaries
from normlab.model.block import Block, Sublayer, WiredSublayer
from normlab.model.expert_linear import ExpertLinear
from normlab.model.init import initialise
from normlab.model.loss import Piece, in_pieces, piece_length, token_losses
from normlab.model.moe import MoE, Routing
from normlab.model.slots import Constant, Slot
from normlab.model.weights import Reparametrized, advance_, project_, reparametrize
from normlab.model.wiring import build_streams
from normlab.placement.resolve import resolve

Losses = tuple[Tensor, Tensor]


class GPT(nn.Module):
    """Embedding, blocks, final norm, head. Built and initialised from one configuration.

    ``vocab_size`` is the tokenizer's; the embedding has as many rows as ``model.pad_vocab_to`` rounds it up to.
    """

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        model, norm, wiring = config.model, config.norm, config.placement.wiring
        placement = resolve(config.placement, model.n_layers, model.d_model, model.d_head)
        self.max_len = config.train.seq_len
        self.vocabulary = rows = -(-vocab_size // model.pad_vocab_to) * model.pad_vocab_to
        rotaries = build_rotaries(model, self.max_len)

        self.embed = nn.Embedding(rows, model.d_model)
        self.pos = nn.Embedding(self.max_len, model.d_model) if model.position == "learned" else None
        self.embed_norm = Slot(placement.embed, model.d_model, norm)
        several = wiring.name != "plain"
        self.streams: Any = build_streams(wiring, model.d_model, norm) if several else None
        self.blocks = nn.ModuleList(
            Block(model, slots, norm, layer, rotaries(layer), wiring)
            for layer, slots in enumerate(placement.blocks, start=1)
        )
        self.final_norm = Slot(placement.final, model.d_model, norm)
        self.head = None if model.tie_embeddings else nn.Linear(model.d_model, rows, bias=model.head_bias)
        self.logits_scale = Slot(placement.logits, rows, norm)
        self.logit_softcap = model.logit_softcap
        initialise(self, config.recipe_init, model.n_layers, model.d_model, config.seed)
        self.weights = config.placement.weights
        if self.weights == "unit":
            project_(self)
        elif self.weights != "plain":
            reparametrize(self, self.weights)
        self._scheduled = [module for module in self.modules() if isinstance(module, Constant) and module.schedule]

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of ``tokens`` (B, T); the mean cross-entropy in nats where ``targets`` (B, T) are given."""
        x = self.enter(tokens)
        for block in self.blocks:
            x, _ = block(x)
        return self.leave(x) if targets is None else self.losses(self.hidden(x), targets)[0]

    def enter(self, tokens: Tensor) -> Tensor:
        """(B, T) -> the stream (B, T, d) that enters the first block; (streams, B, T, d) where there are several."""
        if tokens.size(1) > self.max_len:
            raise ValueError(f"{tokens.size(1)} tokens; this model was built for train.seq_len={self.max_len}")
        x = self.embed(tokens)
        if self.pos is not None:
            x = x + self.pos.weight[: tokens.size(1)]
        x = self.embed_norm(x)
        return x if self.streams is None else self.streams.enter(x)

    def leave(self, x: Tensor) -> Tensor:
        """The stream or streams that leave the last block -> logits (B, T, V)."""
        return self.logits(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        """The stream or streams that leave the last block -> what the head reads, (B, T, d)."""
        return self.final_norm(x if self.streams is None else self.streams.leave(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., V)."""
        logits = F.linear(hidden, self.embed.weight) if self.head is None else self.head(hidden)
        logits = self.logits_scale(logits)
        return logits if self.logit_softcap is None else self.logit_softcap * (logits / self.logit_softcap).tanh()

    def losses(self, hidden: Tensor, targets: Tensor, z_loss: float = 0.0, piece: Piece | None = None) -> Losses:
        """Means over tokens of what is minimised and of the cross-entropy, from (B, T, d) and targets (B, T).

        ``piece``: a compiled form of ``piece_losses``.
        """
        rows, row_targets = hidden.flatten(0, 1), targets.flatten()
        piece = piece or functools.partial(self.piece_losses, z_loss=z_loss)
        if length := self.piece_of(len(rows)):
            head = self.embed if self.head is None else self.head
            return in_pieces(piece, length, rows, row_targets, [*head.parameters(), *self.logits_scale.parameters()])
        minimised, loss = piece(rows, row_targets)
        return minimised / len(rows), loss / len(rows)

    def piece_of(self, tokens: int) -> int | None:
        """How many tokens' logits are held at once where those of ``tokens`` are too many; None: all of them."""
        if isinstance(self.head, Reparametrized):  # whose weight is made anew in each forward pass
            return None
        length = piece_length(tokens, self.vocabulary, self.embed.weight.device)
        return length if length < tokens else None

    def piece_losses(self, hidden: Tensor, targets: Tensor, z_loss: float = 0.0) -> Losses:
        """Sums over tokens, from (n, d) and (n,): see ``token_losses``."""
        return token_losses(self.logits(hidden), targets, z_loss)

    def set_step(self, t: int) -> None:
        """Move every schedule of the placement to ``t`` optimizer steps done."""
        for module in self._scheduled:
            module.set_step(t)

    def after_update(self) -> None:
        """What ``weights`` asks for after each optimizer step: of ``unit`` rows of length one, of ``spectral`` a power
        iteration."""
        if self.weights == "unit":
            project_(self)
        elif self.weights == "spectral":
            advance_(self)


class RouterLosses(NamedTuple):
    """Means over the layers of a sparse network, each a scalar; zeros for a dense one."""

    balance: Tensor
    z: Tensor


def router_losses(routings: list[Routing]) -> RouterLosses:
    """The load-balance and z-losses of a forward pass, not yet weighted."""
    return RouterLosses(torch.stack([r.balance for r in routings]).mean(), torch.stack([r.z for r in routings]).mean())


def count_parameters(network: nn.Module) -> dict[str, int]:
    """``total``, ``non_embedding`` (without token and position tables and an untied head), ``norm`` (what a placement
    adds: in slots, mixes and wirings; not the scales of reparametrised matrices), and ``active``: of the total, what
    one token meets, which for experts is the k of E that it goes to."""
    of = {name: parameter.numel() for name, parameter in network.named_parameters()}
    embedding = sum(n for name, n in of.items() if name.split(".")[0] in ("embed", "pos", "head"))
    sparse = [module for module in network.modules() if isinstance(module, MoE)]
    layers = [(layer, moe.top_k) for moe in sparse for layer in moe.children() if isinstance(layer, ExpertLinear)]
    stacks = [(p, top_k) for layer, top_k in layers for p in layer.parameters()]
    idle = sum(p.numel() // p.size(0) * (p.size(0) - top_k) for p, top_k in stacks)
    adding: list[nn.Module] = [module for module in network.modules() if isinstance(module, Slot)]
    adding += [module.add for module in network.modules() if isinstance(module, Sublayer | WiredSublayer)]
    adding += [module.streams for module in network.modules() if isinstance(module, GPT) and module.streams is not None]
    added = {p for module in adding for p in module.parameters()}
    return {
        "total": sum(of.values()),
        "non_embedding": sum(of.values()) - embedding,
        "active": sum(of.values()) - idle,
        "norm": sum(p.numel() for p in added),
    }
