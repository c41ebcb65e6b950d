"""From a placement to the slots of each layer, all expressions evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from normlab.errors import UserError
from normlab.placement.expression import evaluate
from normlab.placement.ops import Norm, Op, Scale, Share, parse_chain
from normlab.placement.schema import AttentionSlots, Block, Placement, Sublayer

_SHARING = ("pre", "out", "skip", "post")
_SLOT_ORDER = ("pre", "q", "k", "v", "ctx", "hidden", "out", "skip", "post")


@dataclass(frozen=True)
class ResolvedOp:
    """One operation with its number: a norm's initial gain, or a scale's (initial) value."""

    op: Op
    value: float = 1.0


@dataclass(frozen=True)
class ResolvedSublayer:
    """The chains of one sublayer by slot name (identities left out), where it reads, where its skip starts."""

    slots: Mapping[str, tuple[ResolvedOp, ...]] = field(default_factory=dict)
    read: str = "x"
    skip_from: str = "x"

    def chain(self, slot: str) -> tuple[ResolvedOp, ...]:
        return self.slots.get(slot, ())


@dataclass(frozen=True)
class ResolvedBlock:
    attn: ResolvedSublayer
    ffn: ResolvedSublayer


@dataclass(frozen=True)
class ResolvedPlacement:
    blocks: tuple[ResolvedBlock, ...]
    embed: tuple[ResolvedOp, ...]
    final: tuple[ResolvedOp, ...]


def resolve(placement: Placement, n_layers: int, d_model: int) -> ResolvedPlacement:
    """Evaluate a placement for a network of ``n_layers`` and ``d_model``. Raises UserError where it makes no sense."""
    chosen = _override_per_layer(placement, n_layers)
    blocks = []
    for layer in range(1, n_layers + 1):
        attn, ffn = chosen[layer]
        resolved = ResolvedBlock(
            _resolve_sublayer(attn, "attn", _variables(n_layers, layer, 2 * layer - 1, d_model)),
            _resolve_sublayer(ffn, "ffn", _variables(n_layers, layer, 2 * layer, d_model)),
        )
        _check_shares(resolved, layer)
        blocks.append(resolved)
    # Before the first layer and after the last there is no `l`.
    stack = {"L": n_layers, "N": 2 * n_layers, "d": d_model}
    return ResolvedPlacement(
        tuple(blocks),
        embed=_resolve_chain(placement.embed, "placement.embed", stack),
        final=_resolve_chain(placement.final, "placement.final", stack),
    )


def layers_of(text: str, n_layers: int) -> list[int]:
    """The 1-based layers that a key of ``over`` names: ``1``, ``1..ceil(L/4)``, ``even``, ``odd``, ``1,2,L``."""
    where = f"placement.over['{text}']"
    layers: list[int] = []
    for part in re.split(r",(?![^(]*\))", text):
        part = part.strip()
        if part in ("even", "odd"):
            layers += [layer for layer in range(1, n_layers + 1) if layer % 2 == (part == "odd")]
            continue
        ends = [_layer_number(end, n_layers, where) for end in part.split("..")]
        if len(ends) > 2:
            raise UserError(f"{where}: write layers as 1, 1..ceil(L/4), even or odd")
        layers += range(ends[0], ends[-1] + 1)
    if not layers or not all(1 <= layer <= n_layers for layer in layers):
        raise UserError(f"{where}: names no layer between 1 and {n_layers}")
    return layers


def _layer_number(text: str, n_layers: int, where: str) -> int:
    try:
        number = evaluate(text, {"L": n_layers})
    except UserError as error:
        raise UserError(f"{where}: {error}; write layers as 1, 1..ceil(L/4), even or odd") from None
    if number != int(number):
        raise UserError(f"{where}: '{text}' is {number:g} at L={n_layers}, not a layer; use ceil(...) or floor(...)")
    return int(number)


def _override_per_layer(placement: Placement, n_layers: int) -> dict[int, tuple[Sublayer, Sublayer]]:
    base: tuple[Sublayer, Sublayer] = (placement.attn, placement.ffn)
    chosen = dict.fromkeys(range(1, n_layers + 1), base)
    claimed: dict[int, str] = {}
    for key, block in placement.over.items():
        for layer in layers_of(key, n_layers):
            if layer in claimed:
                raise UserError(f"placement.over: layer {layer} is named by '{claimed[layer]}' and by '{key}'")
            claimed[layer] = key
            attn, ffn = chosen[layer]
            chosen[layer] = (block.attn or attn, block.ffn or ffn)
    return chosen


def _variables(n_layers: int, layer: int, sublayer: int, d_model: int) -> dict[str, float]:
    return {"L": n_layers, "l": layer, "N": 2 * n_layers, "s": sublayer, "d": d_model}


def _resolve_sublayer(slots: Sublayer, name: str, variables: Mapping[str, float]) -> ResolvedSublayer:
    chains = {
        slot: _resolve_chain(getattr(slots, slot), f"placement.{name}.{slot}", variables)
        for slot in _SLOT_ORDER
        if getattr(slots, slot, None) is not None
    }
    return ResolvedSublayer(chains, slots.read, slots.from_)


def _resolve_chain(text: str | None, where: str, variables: Mapping[str, float]) -> tuple[ResolvedOp, ...]:
    resolved = []
    ops = parse_chain(text, where)
    for op in ops:
        _check_place(op, where.rpartition(".")[2], where)
        if isinstance(op, Share) and len(ops) > 1:
            raise UserError(
                f"{where}: a shared module stands alone in its slot; share it from a slot that holds the chain"
            )
        try:
            match op:
                case Norm(gain=expression) | Scale(value=expression):
                    resolved.append(ResolvedOp(op, evaluate(expression, variables)))
                case Share():
                    resolved.append(ResolvedOp(op))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return tuple(resolved)


def _check_place(op: Op, slot: str, where: str) -> None:
    """An option that has no meaning in a slot is a mistake, not something to pass over."""
    if isinstance(op, Norm) and op.at == "post_rope" and slot not in ("q", "k"):
        raise UserError(f"{where}: at=post_rope has a meaning only for q and k")
    if isinstance(op, Norm) and op.scope == "full" and slot not in ("q", "k", "v", "ctx"):
        raise UserError(f"{where}: scope=full has a meaning only inside attention: q, k, v, ctx")
    if isinstance(op, Share) and not {slot, op.slot} <= set(_SHARING):
        raise UserError(f"{where}: only {', '.join(_SHARING)} of a block can share a module, all of the same width")


def _check_shares(block: ResolvedBlock, layer: int) -> None:
    """A shared slot must be a chain of its own in the same block; sharing a share would be a riddle."""
    for name, sublayer in (("attn", block.attn), ("ffn", block.ffn)):
        for slot, chain in sublayer.slots.items():
            for resolved in chain:
                if not isinstance(resolved.op, Share):
                    continue
                target = getattr(block, resolved.op.sublayer).chain(resolved.op.slot)
                shared = f"{resolved.op.sublayer}.{resolved.op.slot}"
                if not target or any(isinstance(other.op, Share) for other in target):
                    raise UserError(f"placement.{name}.{slot}: '={shared}' has nothing to share in layer {layer}")


__all__ = [
    "AttentionSlots",
    "Block",
    "ResolvedBlock",
    "ResolvedOp",
    "ResolvedPlacement",
    "ResolvedSublayer",
    "layers_of",
    "resolve",
]
