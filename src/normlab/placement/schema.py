"""What a placement file may say. Every slot holds a chain of operations (see ``ops.py``) or nothing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Chain = str | None
Expression = str | float

MATRICES = ("embed", "pos", "q", "k", "v", "o", "gate", "up", "down", "head")


class Strict(BaseModel):
    """Unknown keys are errors; values do not change once they are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Sublayer(Strict):
    """The slots that attention and FFN have in common, around ``F`` and its residual addition."""

    pre: Chain = None
    out: Chain = None
    skip: Chain = None
    post: Chain = None
    read: Literal["x", "block"] = "x"
    from_: Literal["x", "block", "x+block"] = Field("x", alias="from")


class AttentionSlots(Sublayer):
    """Attention adds norms on queries, keys, values (per head, before RoPE) and on the heads' output."""

    q: Chain = None
    k: Chain = None
    v: Chain = None
    ctx: Chain = None


class FFNSlots(Sublayer):
    """The FFN adds a norm on its hidden activation, before the down projection."""

    hidden: Chain = None


class Block(Strict):
    """One Transformer block."""

    attn: AttentionSlots = AttentionSlots()
    ffn: FFNSlots = FFNSlots()


class BlockOverride(Strict):
    """Layers that differ: a sublayer given here replaces the whole sublayer of the block."""

    attn: AttentionSlots | None = None
    ffn: FFNSlots | None = None


class InitSpec(Strict):
    """A base initialisation and a factor for each matrix that differs from it."""

    base: str = "normal"
    std: Expression | None = None  # None: the base's own
    gain: dict[str, Expression] = {}


class Placement(Block):
    """A block, the layers that differ from it, and what belongs to the stack: embedding norm, final norm, init."""

    name: str = "unnamed"
    over: dict[str, BlockOverride] = {}
    embed: Chain = None
    final: Chain = "n"
    init: str | InitSpec = "normal"

    @field_validator("over", mode="before")
    @classmethod
    def _layers_are_words(cls, value: Any) -> Any:
        return {str(key): block for key, block in value.items()} if isinstance(value, dict) else value
