"""A GPT-style language model whose norms come from a placement."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from normlab.config.schema import Config
from normlab.model.attention import Rotary
from normlab.model.block import Block
from normlab.model.init import initialise
from normlab.model.slots import Slot
from normlab.placement.resolve import resolve


class GPT(nn.Module):
    """Embedding, blocks, final norm, head. Built and initialised from one configuration.

    ``vocab_size`` is the tokenizer's; the embedding has as many rows as ``model.pad_vocab_to`` rounds it up to.
    """

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        model, norm = config.model, config.norm
        placement = resolve(config.placement, model.n_layers, model.d_model)
        self.max_len = config.train.seq_len
        rows = -(-vocab_size // model.pad_vocab_to) * model.pad_vocab_to
        rotary = Rotary(model.d_head, model.rope_theta, self.max_len) if model.position == "rope" else None

        self.embed = nn.Embedding(rows, model.d_model)
        self.pos = nn.Embedding(self.max_len, model.d_model) if model.position == "learned" else None
        self.embed_norm = Slot(placement.embed, model.d_model, norm)
        self.blocks = nn.ModuleList(Block(model, slots, norm, rotary) for slots in placement.blocks)
        self.final_norm = Slot(placement.final, model.d_model, norm)
        self.head = None if model.tie_embeddings else nn.Linear(model.d_model, rows, bias=False)
        initialise(self, config.recipe_init, model.n_layers, model.d_model, config.seed)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of ``tokens`` (B, T); the mean cross-entropy in nats where ``targets`` (B, T) are given."""
        x = self.enter(tokens)
        for block in self.blocks:
            x = block(x)
        logits = self.leave(x)
        return logits if targets is None else cross_entropy(logits, targets)

    def enter(self, tokens: Tensor) -> Tensor:
        """(B, T) -> the stream (B, T, d) that enters the first block."""
        if tokens.size(1) > self.max_len:
            raise ValueError(f"{tokens.size(1)} tokens; this model was built for train.seq_len={self.max_len}")
        x = self.embed(tokens)
        if self.pos is not None:
            x = x + self.pos.weight[: tokens.size(1)]
        return self.embed_norm(x)

    def leave(self, x: Tensor) -> Tensor:
        """The stream (B, T, d) that leaves the last block -> logits (B, T, V)."""
        x = self.final_norm(x)
        return F.linear(x, self.embed.weight if self.head is None else self.head.weight)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all tokens, in nats, in float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def count_parameters(network: nn.Module) -> dict[str, int]:
    """``total``, ``non_embedding`` (without token and position tables and an untied head) and ``norm`` (in slots)."""
    of = {name: parameter.numel() for name, parameter in network.named_parameters()}
    embedding = sum(n for name, n in of.items() if name.split(".")[0] in ("embed", "pos", "head"))
    in_slots = {p for module in network.modules() if isinstance(module, Slot) for p in module.parameters()}
    return {
        "total": sum(of.values()),
        "non_embedding": sum(of.values()) - embedding,
        "norm": sum(p.numel() for p in in_slots),
    }
